package authenticate

import (
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sluice-gateway/sluice/pkg/feature"
)

func hashed(t testing.TB, password string) string {
	t.Helper()
	h, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(h)
}

func TestBasic_NameAndPasswordMustBelongTogether(t *testing.T) {
	users, err := parsePasswords([]byte("# who may\n\nalice:" + hashed(t, "wonder:land") + "\nbob:" + hashed(t, "builder") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	encode := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		name, header string
		status       int
		reason       string
	}{
		{"right", encode("alice:wonder:land"), 0, ""},
		{"right again", encode("alice:wonder:land"), 0, ""},
		{"in small letters", "basic " + encode("bob:builder")[6:], 0, ""},
		{"wrong", encode("alice:builder"), 401, "password"},
		{"wrong, after it was right", encode("alice:wonder:lands"), 401, "password"},
		{"another's", encode("bob:wonder:land"), 401, "password"},
		{"unknown", encode("carol:builder"), 401, "password"},
		{"empty password", encode("alice:"), 401, "password"},
		{"name in capitals", encode("Alice:wonder:land"), 401, "password"},
		{"no name", encode(":builder"), 401, "missing"},
		{"no colon", encode("alice"), 401, "missing"},
		{"none", "", 401, "missing"},
		{"a token", "Bearer abc", 401, "missing"},
		{"not base64", "Basic !!!", 401, "missing"},
		{"two", encode("alice:wonder:land") + ", " + encode("alice:wonder:land"), 401, "missing"},
		{"too long", encode(strings.Repeat("a", 2000)), 401, "missing"},
		{"a password beyond what bcrypt reads", encode("bob:" + strings.Repeat("b", 100)), 401, "password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &feature.Request{Headers: map[string]string{}, Now: time.Now(), Data: func(string) any { return users }}
			if c.header != "" {
				r.Headers["authorization"] = c.header
			}
			id := &feature.Identity{}
			d := (&Spec{AnyOf: []Way{{Basic: &Basic{}}}}).Check(t.Context(), r, id)
			if d.Status != c.status || d.Reason != c.reason || (id.User != "") != d.Allowed() {
				t.Errorf("%d %q for %q, want %d %q", d.Status, d.Reason, id.User, c.status, c.reason)
			}
			if d.Allowed() && !slices.Contains(d.RemoveHeaders, "authorization") {
				t.Error("the service would see the password")
			}
			if d.Status == 401 && !strings.HasPrefix(d.Challenge, "Basic ") {
				t.Errorf("challenge %q", d.Challenge)
			}
		})
	}
}

func TestBasic_WhoWaitsTooLongIsNotLetIn(t *testing.T) {
	users, err := parsePasswords([]byte("bob:" + hashed(t, "builder")))
	if err != nil {
		t.Fatal(err)
	}
	for range mostComparing {
		users.slots <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &feature.Request{
		Headers: map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("bob:builder"))},
		Data:    func(string) any { return users },
	}
	if d := (&Basic{}).check(ctx, r, &feature.Identity{}); d.Status != 503 {
		t.Errorf("%+v", d)
	}
}

func TestParsePasswords_SaysWhichLineIsWrongAndNothingOfIt(t *testing.T) {
	good := hashed(t, "x")
	for _, c := range []struct{ name, body, want string }{
		{"empty", "# nobody\n", "no users"},
		{"plain", "alice:" + good + "\nbob:hunter2\n", "line 2: not a bcrypt hash"},
		{"sha", "bob:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "line 1: not a bcrypt hash"},
		{"no name", ":" + good, "line 1: not a user's name"},
		{"twice", "bob:" + good + "\nbob:" + good, "line 2: the second one"},
		{"too costly", "bob:$2y$20$" + good[7:], "takes too long"},
		{"too many", strings.Repeat("x", 1) + ":" + good + "\n" + many(good), "use an identity provider"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := parsePasswords([]byte(c.body))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func many(hash string) string {
	var b strings.Builder
	for n := range maxUsers {
		b.WriteString("u" + strings.Repeat("u", n%7) + string(rune('a'+n%26)) + strings.Repeat("v", n/26) + ":" + hash + "\n")
	}
	return b.String()
}

// FuzzParsePasswords: whatever the file holds, what is taken is bounded and hashed.
func FuzzParsePasswords(f *testing.F) {
	f.Add([]byte("bob:" + hashed(f, "x") + "\n#\n\n"))
	f.Add([]byte("bob:x"))
	f.Fuzz(func(t *testing.T, body []byte) {
		users, err := parsePasswords(body)
		if err != nil {
			return
		}
		for name, hash := range users.hashes {
			if cost, err := bcrypt.Cost(hash); err != nil || cost > maxBcryptCost || name == "" {
				t.Errorf("%q has %q", name, hash)
			}
		}
	})
}

// FuzzCredentials: nothing panics, and no name is empty.
func FuzzCredentials(f *testing.F) {
	f.Add("Basic YTpi")
	f.Add("basic  YTpi")
	f.Fuzz(func(t *testing.T, header string) {
		if user, _, ok := credentials(header); ok && user == "" {
			t.Error("no name")
		}
	})
}
