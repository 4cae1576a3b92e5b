package access_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/access"
)

func TestWhatRolesAllow(t *testing.T) {
	needs := []access.Role{"", access.Open, access.Read, access.Apply, access.Secrets, "admin"}
	for _, c := range []struct {
		roles access.Roles
		want  string // for each of needs
	}{
		{nil, ".O...."},
		{access.Roles{access.Read}, ".OR..."},
		{access.Roles{access.Apply}, ".ORA.."},
		{access.Roles{access.Secrets}, ".OR.S."},
		{access.Roles{access.Apply, access.Secrets}, ".ORAS."},
		{access.Roles{"admin", "", access.Open}, ".O...."},
	} {
		got := ""
		for i, need := range needs {
			if c.roles.May(need) {
				got += ".ORASa"[i : i+1]
			} else {
				got += "."
			}
		}
		if got != c.want {
			t.Errorf("%v: %s, want %s", c.roles, got, c.want)
		}
	}
}

func TestTokens(t *testing.T) {
	token, digest := access.NewToken()
	other, _ := access.NewToken()
	if got, err := access.ParseToken(token); err != nil || got != digest || token == other || len(token) != 52 {
		t.Errorf("%q: %v", token, err)
	}
	last := token[:len(token)-1] + map[bool]string{true: "A", false: "B"}[token[len(token)-1] != 'A']
	for name, text := range map[string]string{
		"nothing": "", "the prefix": "slt_", "cut short": token[:len(token)-1], "longer": token + "A", "another last letter": last,
		"two letters changed about": "slt_" + swap(token[4:]), "another prefix": "slk_" + token[4:], "no prefix": token[4:],
		"a line end": token[:len(token)-1] + "\n", "blanks": " " + token[1:], "in capitals": strings.ToUpper(token),
		"base64 of another kind": "slt_" + strings.Repeat("/", 48),
	} {
		if _, err := access.ParseToken(text); !errors.Is(err, access.ErrToken) || len(text) > 10 && strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// swap changes the first two neighbours about that differ.
func swap(s string) string {
	b := []byte(s)
	for i := range len(b) - 1 {
		if b[i] != b[i+1] {
			b[i], b[i+1] = b[i+1], b[i]
			return string(b)
		}
	}
	return s
}

func FuzzParseToken(f *testing.F) {
	token, _ := access.NewToken()
	for _, seed := range []string{token, token[:20], "slt_", "", "slt_" + strings.Repeat("A", 48)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := access.ParseToken(text); err == nil && (len(text) != 52 || !strings.HasPrefix(text, "slt_")) {
			t.Errorf("%q is taken for a token", text)
		}
	})
}

const digest = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func TestTokenFilesThatMakeNoSense(t *testing.T) {
	one := `{"name":"ci","roles":["apply"],"sha256":"` + digest + `","created":"2026-01-02T03:04:05Z"}`
	if list, err := access.ParseTokens([]byte(`{"tokens":[` + one + `]}`)); err != nil || len(list) != 1 || list[0].Name != "ci" {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"nothing", ``, "EOF"},
		{"no object", `[]`, "cannot unmarshal"},
		{"something after it", `{"tokens":[]} {}`, "something follows"},
		{"an unknown field", `{"tokens":[{"name":"ci","role":"apply"}]}`, "unknown field"},
		{"no role", strings.Replace(one, `"apply"`, ``, 1), "there is no role"},
		{"an unknown role", strings.Replace(one, `apply`, `admin`, 1), `there is no role "admin"`},
		{"everybody's role", strings.Replace(one, `apply`, `open`, 1), `there is no role "open"`},
		{"a role twice", strings.Replace(one, `"apply"`, `"apply","apply"`, 1), "there twice"},
		{"a bad name", strings.Replace(one, `"ci"`, `"c i"`, 1), "is no name"},
		{"no digest", strings.Replace(one, `sha256`, `by`, 1), "has no sha256"},
		{"a short digest", strings.Replace(one, digest, "00", 1), "hexadecimal digits"},
		{"a digest in capitals", strings.Replace(one, digest, strings.ToUpper(digest), 1), "small letters"},
		{"a digest of zeros", strings.Replace(one, digest, strings.Repeat("0", 64), 1), "has no sha256"},
		{"a name twice", one + "," + strings.Replace(one, "0011", "1111", 1), "the token ci is there twice"},
		{"a digest twice", one + "," + strings.Replace(one, `"ci"`, `"cd"`, 1), "another one has its sha256"},
		{"too many", one + strings.Repeat(","+one, 1000), "1000 is the most"},
		{"too large", strings.Repeat(" ", 2<<20), "larger than 1 MiB"},
		{"no time", strings.Replace(one, `2026-01-02T03:04:05Z`, `yesterday`, 1), "parsing time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := c.text
			if strings.HasPrefix(text, `{"name"`) {
				text = `{"tokens":[` + text + `]}`
			}
			if _, err := access.ParseTokens([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// FuzzParseTokens: what is read is written the same again.
func FuzzParseTokens(f *testing.F) {
	f.Add(`{"tokens":[{"name":"ci","roles":["apply"],"sha256":"` + digest + `","created":"2026-01-02T03:04:05Z","expires":"2027-01-02T03:04:05Z"}]}`)
	f.Add(`{"tokens":null}`)
	f.Add(`{}`)
	f.Fuzz(func(t *testing.T, text string) {
		list, err := access.ParseTokens([]byte(text))
		if err != nil {
			return
		}
		again, err := json.Marshal(map[string]any{"tokens": list})
		if err != nil {
			t.Fatal(err)
		}
		if second, err := access.ParseTokens(again); err != nil || cmp.Diff(list, second) != "" {
			t.Errorf("%s: %v", again, err)
		}
	})
}

func add(t testing.TB, path, name string, expires time.Time, roles ...access.Role) string {
	t.Helper()
	token, digest := access.NewToken()
	err := access.EditTokens(path, func(list []access.Token) ([]access.Token, error) {
		return append(list, access.Token{Name: name, Roles: roles, SHA256: digest, Created: time.Now(), Expires: expires}), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestEditing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	token := add(t, path, "first", time.Time{}, access.Read)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { add(t, path, fmt.Sprintf("t%d", i), time.Time{}, access.Read) })
	}
	all.Wait()
	list, err := access.ReadTokens(path)
	if err != nil || len(list) != 9 {
		t.Errorf("%d tokens, %v", len(list), err)
	}
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), token) {
		t.Errorf("the file holds a token: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	twice := access.EditTokens(path, func(list []access.Token) ([]access.Token, error) { return append(list, list[0]), nil })
	if twice == nil || !strings.Contains(twice.Error(), "there twice") {
		t.Errorf("got %v", twice)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	if _, err := access.ReadTokens(path); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("got %v", err)
	}
	left, err := filepath.Glob(filepath.Dir(path) + "/.tokens-*")
	if err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func openTokens(t testing.TB, path string) *access.Tokens {
	t.Helper()
	list, err := access.OpenTokens(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestATokenFileMustBeThere(t *testing.T) {
	_, err := access.OpenTokens(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler))
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "sluice tokens create") {
		t.Errorf("got %v", err)
	}
}
