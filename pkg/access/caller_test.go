package access_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-gateway/sluice/pkg/access"
	"github.com/sluice-gateway/sluice/pkg/certs"
)

// where is where a request comes in.
type where func(*http.Request)

func tcp(ip string) where {
	return func(r *http.Request) {
		local := &net.TCPAddr{IP: net.ParseIP(ip), Port: 18080}
		*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
	}
}

func unix(r *http.Request) {
	*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "s", Net: "unix"}))
}

func bearer(token string) where {
	return func(r *http.Request) { r.Header.Add("Authorization", "Bearer "+token) }
}

func request(changes ...where) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	for _, change := range changes {
		change(r)
	}
	return r
}

func reason(err error) access.Reason {
	var refused *access.RefusedError
	if errors.As(err, &refused) {
		return refused.Reason
	}
	return ""
}

func TestWhoCallsFromWhere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	ci := add(t, path, "ci", time.Now().Add(time.Hour), access.Apply)
	old := add(t, path, "old", time.Now().Add(-time.Second), access.Apply)
	stranger, _ := access.NewToken()
	list := openTokens(t, path)
	all := access.Roles{access.Read, access.Apply, access.Secrets}
	none, tokens, socket := access.Config{}, access.Config{Tokens: list}, access.Config{Tokens: list, Socket: true}
	overTLS := func(r *http.Request) { r.TLS = &tls.ConnectionState{} }
	for _, c := range []struct {
		name   string
		door   access.Config
		from   []where
		want   access.Caller
		reason access.Reason
	}{
		{"loopback", none, []where{tcp("127.0.0.1")}, access.Caller{Name: "loopback", Roles: all}, ""},
		{"loopback, IPv6", none, []where{tcp("::1")}, access.Caller{Name: "loopback", Roles: all}, ""},
		{"loopback with a token that nobody asked for", none, []where{tcp("127.0.0.1"), bearer(stranger)}, access.Caller{Name: "loopback", Roles: all}, ""},
		{"another address", none, []where{tcp("10.0.0.1")}, access.Caller{}, access.Unknown},
		{"no address", none, nil, access.Caller{}, access.Unknown},
		{"loopback with TLS", none, []where{tcp("127.0.0.1"), overTLS}, access.Caller{}, access.Unknown},
		{"a socket", none, []where{unix}, access.Caller{Name: "unix socket", Roles: all}, ""},
		{"a socket, where there are tokens", tokens, []where{unix}, access.Caller{Name: "unix socket", Roles: all}, ""},
		{"a socket that asks for tokens", socket, []where{unix}, access.Caller{}, access.Unknown},
		{"a socket that asks for tokens, with one", socket, []where{unix, bearer(ci)}, access.Caller{Name: "token ci", Roles: access.Roles{access.Apply}, Proven: true}, ""},
		{"a socket, with a token", tokens, []where{unix, bearer(ci)}, access.Caller{Name: "token ci", Roles: access.Roles{access.Apply}, Proven: true}, ""},
		{"a socket, with a wrong token", tokens, []where{unix, bearer(stranger)}, access.Caller{}, access.Unknown},
		{"loopback, where there are tokens", tokens, []where{tcp("127.0.0.1")}, access.Caller{}, access.Unknown},
		{"a token", tokens, []where{tcp("10.0.0.1"), bearer(ci)}, access.Caller{Name: "token ci", Roles: access.Roles{access.Apply}, Proven: true}, ""},
		{"a token that expired", tokens, []where{tcp("10.0.0.1"), bearer(old)}, access.Caller{}, access.Unknown},
		{"a token of somewhere else", tokens, []where{tcp("10.0.0.1"), bearer(stranger)}, access.Caller{}, access.Unknown},
		{"half a token", tokens, []where{tcp("10.0.0.1"), bearer(ci[:30])}, access.Caller{}, access.Unknown},
		{"two tokens", tokens, []where{tcp("10.0.0.1"), bearer(stranger), bearer(ci)}, access.Caller{}, access.Unknown},
		{"an empty header", tokens, []where{tcp("10.0.0.1"), func(r *http.Request) { r.Header["Authorization"] = []string{""} }}, access.Caller{}, access.Unknown},
		{"a password", tokens, []where{tcp("10.0.0.1"), func(r *http.Request) { r.SetBasicAuth("ci", ci) }}, access.Caller{}, access.Unknown},
		{"a token after two blanks", tokens, []where{tcp("10.0.0.1"), bearer(" " + ci)}, access.Caller{}, access.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := access.New(c.door).Caller(request(c.from...))
			if d := cmp.Diff(c.want, got); d != "" || reason(err) != c.reason {
				t.Errorf("%s%v", d, err)
			}
		})
	}
}

func TestTheTokenFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	first := add(t, path, "first", time.Time{}, access.Read)
	door := access.New(access.Config{Tokens: openTokens(t, path)})
	expect := func(when, token string, want access.Reason) {
		t.Helper()
		if _, err := door.Caller(request(tcp("10.0.0.1"), bearer(token))); reason(err) != want {
			t.Errorf("%s: %v", when, err)
		}
	}
	expect("at first", first, "")
	second := add(t, path, "second", time.Time{}, access.Read)
	expect("added", second, "")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(string(whole[:len(whole)/2]))
	expect("half a file", first, access.Unreadable)
	write(string(whole))
	expect("mended", first, "")
	if err := access.EditTokens(path, func(list []access.Token) ([]access.Token, error) { return list[1:], nil }); err != nil {
		t.Fatal(err)
	}
	expect("deleted", first, access.Unknown)
	expect("the other one", second, "")
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	expect("everybody may write the file", second, access.Unreadable)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("the file is gone", second, access.Unreadable)
	add(t, path, "third", time.Time{}, access.Read)
	expect("a new file without it", second, access.Unknown)
}

func TestFailuresAreBoundedByAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	good := add(t, path, "good", time.Time{}, access.Read)
	bad, _ := access.NewToken()
	door := access.New(access.Config{Tokens: openTokens(t, path)})
	from := func(address, token string) access.Reason {
		r := request(tcp("10.0.0.1"), bearer(token))
		r.RemoteAddr = address
		_, err := door.Caller(r)
		return reason(err)
	}
	seen := map[access.Reason]int{}
	for i := range 100 {
		seen[from("10.0.0.2:"+strconv.Itoa(1000+i), bad)]++
	}
	if seen[access.Unknown] < 20 || seen[access.TooOften] < 50 {
		t.Errorf("%v", seen)
	}
	if got := from("10.0.0.3:1", bad); got != access.Unknown {
		t.Errorf("another address: %s", got)
	}
	if got := from("10.0.0.2:1", good); got != "" {
		t.Errorf("a good token from there: %s", got)
	}
}

// TestWhoCallsByCertificate has real handshakes. What TLS itself refuses never comes to the door.
func TestWhoCallsByCertificate(t *testing.T) {
	dir := t.TempDir()
	authority, ca, err := certs.NewAuthority("ours", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	issue := func(a *certs.Authority, r certs.Request) certs.Pair {
		r.Lifetime = 30 * time.Minute
		pair, err := a.Issue(r)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	server := issue(authority, certs.Request{Hosts: []string{"127.0.0.1"}})
	anna := issue(authority, certs.Request{Client: &certs.Client{Role: access.Apply, Name: "anna"}})
	node := issue(authority, certs.Request{Node: &certs.Node{Gateway: "edge", Node: "e1"}})
	revoked := issue(authority, certs.Request{Client: &certs.Client{Role: access.Apply, Name: "left"}})
	list, err := authority.Revoke(nil, revoked.Certificate.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	files := certs.Files{
		Certificate: write("server.pem", server.CertificatePEM), Key: write("server.key", server.KeyPEM),
		CA: write("ca.pem", ca.CertificatePEM), CRL: write("crl.pem", list),
	}
	credentials, err := certs.Open("admin", files, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	tokenFile := filepath.Join(dir, "tokens.json")
	ci := add(t, tokenFile, "ci", time.Time{}, access.Read)
	door := access.New(access.Config{Certificates: credentials, Tokens: openTokens(t, tokenFile)})
	config, err := credentials.ServerConfig(tls.VerifyClientCertIfGiven)
	if err != nil {
		t.Fatal(err)
	}
	var got access.Caller
	var refused error
	api := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, refused = door.Caller(r) }))
	api.TLS, api.Config.ErrorLog = config, slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	api.StartTLS()
	defer api.Close()
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	for _, c := range []struct {
		name   string
		pair   *certs.Pair
		token  string
		want   access.Caller
		reason access.Reason
		tls    bool // it does not come so far
	}{
		{"nothing", nil, "", access.Caller{}, access.Unknown, false},
		{"a client", &anna, "", access.Caller{Name: "certificate anna", Roles: access.Roles{access.Apply}, Proven: true}, "", false},
		{"a node", &node, "", access.Caller{Name: "certificate spiffe://sluice/gateway/edge/node/e1"}, access.TooSmall, false},
		{"the server's own", &server, "", access.Caller{}, "", true},
		{"revoked", &revoked, "", access.Caller{}, "", true},
		{"a token", nil, ci, access.Caller{Name: "token ci", Roles: access.Roles{access.Read}, Proven: true}, "", false},
		{"a token decides", &anna, ci, access.Caller{Name: "token ci", Roles: access.Roles{access.Read}, Proven: true}, "", false},
		{"a wrong token with a good certificate", &anna, ci[:20], access.Caller{}, access.Unknown, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, refused = access.Caller{}, nil
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
			if c.pair != nil {
				own, err := tls.X509KeyPair(c.pair.CertificatePEM, c.pair.KeyPEM)
				if err != nil {
					t.Fatal(err)
				}
				transport.TLSClientConfig.Certificates = []tls.Certificate{own}
			}
			r, err := http.NewRequest("GET", api.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.token != "" {
				bearer(c.token)(r)
			}
			resp, err := (&http.Client{Transport: transport}).Do(r)
			if err == nil {
				resp.Body.Close()
			}
			if (err != nil) != c.tls {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" || reason(refused) != c.reason {
				t.Errorf("%s%v", d, refused)
			}
		})
	}
}

func TestThePeerOfASocket(t *testing.T) {
	lis, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	var got access.Caller
	api := &http.Server{ConnContext: access.WithPeer, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, _ = access.New(access.Config{}).Caller(r)
	})}
	ended := make(chan error)
	go func() { ended <- api.Serve(lis) }()
	conn, err := net.Dial("unix", lis.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}}
	resp, err := client.Get("http://x/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	api.Close()
	<-ended
	if want := "uid " + strconv.Itoa(os.Geteuid()); got.Name != want {
		t.Errorf("%+v, want %s", got, want)
	}
}
