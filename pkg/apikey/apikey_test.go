package apikey_test

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/apikey"
)

func TestParse_TakesWhatGenerateMakes(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		text, hash := apikey.Generate()
		if len(text) != 62 || !strings.HasPrefix(text, "slk_") || seen[text] {
			t.Fatalf("%q", text)
		}
		seen[text] = true
		got, err := apikey.Parse(text)
		if err != nil || got != hash || got != sha256.Sum256([]byte(text)) {
			t.Fatalf("%q: %v", text, err)
		}
	}
}

func TestParse_NoticesEveryTypo(t *testing.T) {
	text, _ := apikey.Generate()
	for i := range len(text) - 1 { // the last character holds bits that mean nothing: it makes another hash
		for _, c := range "ab2_A- " {
			wrong := text[:i] + string(c) + text[i+1:]
			if _, err := apikey.Parse(wrong); wrong != text && err == nil {
				t.Errorf("%q was taken for %q", wrong, text)
			}
		}
	}
	for _, wrong := range []string{"", "slk_", text + "a", text[1:], strings.ToUpper(text), text[:61], strings.Repeat("slk_", 300_000)} {
		if _, err := apikey.Parse(wrong); err == nil {
			t.Errorf("%.80q was taken", wrong)
		}
	}
}

func FuzzParse(f *testing.F) {
	text, _ := apikey.Generate()
	f.Add(text)
	f.Add("slk_")
	f.Add(strings.Repeat("a", 62))
	f.Fuzz(func(t *testing.T, text string) {
		hash, err := apikey.Parse(text)
		if err == nil && (hash != sha256.Sum256([]byte(text)) || !strings.HasPrefix(text, apikey.Prefix)) {
			t.Errorf("%q became %s", text, hash)
		}
	})
}

func TestCheck_SaysWhatIsWrong(t *testing.T) {
	now := time.Now()
	past := now.Add(-time.Second)
	text, _ := apikey.Generate()
	for _, c := range []struct {
		name string
		key  apikey.Key
		want string
	}{
		{"nobody's", apikey.Key{}, "needs an owner"},
		{"a name that cannot be printed", apikey.Key{Owner: "a\nb"}, "owner: has characters that cannot be printed"},
		{"a key in a name", apikey.Key{Owner: "acme", Name: text}, "looks like an API key"},
		{"a scope of two words", apikey.Key{Owner: "acme", Scopes: []string{"a b"}}, `scopes: "a b" is not a word`},
		{"an empty permission", apikey.Key{Owner: "acme", Permissions: []string{""}}, `permissions: "" is not a word`},
		{"over already", apikey.Key{Owner: "acme", Expires: &past}, "in the past"},
		{"fine", apikey.Key{Owner: "acme", Name: "nightly import", Scopes: []string{"read"}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.key.Check(now)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestRotate_TheNewAndTheOneBeforeHold(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	k := apikey.Key{ID: "a", Owner: "acme"}
	first := k.Issue(now)
	second := k.Rotate(now, time.Hour)
	third := k.Rotate(now.Add(time.Minute), time.Hour)
	holds := func(text string, at time.Time) bool {
		hash, err := apikey.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range k.Entries() {
			if e.Hash == hash && !e.Ended(at) {
				return true
			}
		}
		return false
	}
	for _, c := range []struct {
		name string
		text string
		at   time.Duration
		want bool
	}{
		{"the first has been replaced twice", first, 2 * time.Minute, false},
		{"the second in its grace", second, 2 * time.Minute, true},
		{"the second after its grace", second, 61 * time.Minute, false},
		{"the third", third, 61 * time.Minute, true},
	} {
		if got := holds(c.text, now.Add(c.at)); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
	if got := k.State(now.Add(2 * time.Minute)); got != "rotating" {
		t.Error(got)
	}
	fourth := k.Rotate(now.Add(3*time.Minute), 0)
	if holds(third, now.Add(3*time.Minute)) || !holds(fourth, now.Add(3*time.Minute)) {
		t.Error("without a grace the one before must end at once")
	}
	if k.Disabled = true; len(k.Entries()) != 0 {
		t.Error("agents are told of a disabled key")
	}
}

func TestPack_TheSameEntriesAreTheSameBytes(t *testing.T) {
	var entries []apikey.Entry
	for range 50 {
		_, hash := apikey.Generate()
		entries = append(entries, apikey.Entry{Hash: hash, ID: apikey.NewID(), Owner: "acme", Scopes: []string{"read"}, Until: 5})
	}
	body, err := apikey.Pack(entries)
	if err != nil {
		t.Fatal(err)
	}
	table, err := apikey.Unpack(body)
	if err != nil {
		t.Fatal(err)
	}
	var back []apikey.Entry
	for _, e := range table {
		back = append(back, *e)
	}
	again, err := apikey.Pack(back)
	if err != nil || string(again) != string(body) {
		t.Error("another order makes other bytes")
	}
	for _, e := range entries {
		if diff := cmp.Diff(&e, table[e.Hash]); diff != "" {
			t.Error(diff)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{"hash":"00","id":"a","owner":"b"}]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		table, err := apikey.Unpack(body)
		if err != nil {
			return
		}
		for hash, e := range table {
			if e.Hash != hash || e.ID == "" || e.Owner == "" {
				t.Errorf("%s: %+v", hash, e)
			}
		}
	})
}

func TestKey_IsKeptWithoutItsText(t *testing.T) {
	k := apikey.Key{ID: "a", Owner: "acme"}
	text := k.Issue(time.Now())
	body, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), text[4:20]) {
		t.Error("the text is kept")
	}
}
