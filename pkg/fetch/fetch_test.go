package fetch

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestClient_GoesOnlyWherePoliciesMayLead(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer elsewhere.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/good", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/large":
			_, _ = w.Write([]byte("large"))
		default:
			_, _ = w.Write([]byte("good"))
		}
	}))
	defer s.Close()
	client := NewClient()
	for _, c := range []struct {
		url  string
		good bool
	}{
		{s.URL + "/good", true}, {s.URL + "/here", true}, {s.URL + "/away", false}, {s.URL + "/round", false}, {s.URL + "/large", false},
		{"http://192.0.2.1/", false}, {"http://169.254.169.254/latest", false}, {"https://169.254.169.254/latest", false},
		{"https://[fe80::1]/", false}, {"http://0.0.0.0:1/", false}, {"https://100.100.100.200/", false}, {"file:///etc/passwd", false}, {"ftp://127.0.0.1/", false},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err == nil {
			_, err = Body(resp, 4)
		}
		if (err == nil) != c.good {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}

func TestCheckAddress(t *testing.T) {
	for _, c := range []struct {
		address string
		plain   bool
		good    bool
	}{
		{"127.0.0.1", true, true}, {"::1", true, true}, {"10.0.0.1", true, false}, {"10.0.0.1", false, true}, {"8.8.8.8", false, true},
		{"169.254.1.1", false, false}, {"fe80::1", false, false}, {"fd00:ec2::254", false, false}, {"0.0.0.0", false, false}, {"224.0.0.1", false, false},
		{"::ffff:169.254.169.254", false, false},
	} {
		if err := checkAddress(netip.MustParseAddr(c.address).Unmap(), c.plain); (err == nil) != c.good {
			t.Errorf("%s plain=%v: %v", c.address, c.plain, err)
		}
	}
}
