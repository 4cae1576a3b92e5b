package policy

import (
	"fmt"
	"net/netip"
	"net/url"
)

// CheckURL tells what is wrong with a URL that Sluice itself is to fetch; nil when nothing is: https, or http to
// loopback. What its name resolves to is checked when it is fetched.
func CheckURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Opaque != "" || len(raw) > 2048 {
		return fmt.Errorf("%q is not a URL", shorten(raw))
	}
	address, notAddress := netip.ParseAddr(u.Hostname())
	loopback := u.Hostname() == "localhost" || notAddress == nil && address.IsLoopback()
	switch {
	case u.User != nil:
		return fmt.Errorf("%q holds a password: secrets do not stand in policies", u.Redacted())
	case u.Fragment != "":
		return fmt.Errorf("%q has a fragment", shorten(raw))
	case u.Scheme == "https" || u.Scheme == "http" && loopback:
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("%q: http is allowed to loopback only", shorten(raw))
	}
	return fmt.Errorf("%q is neither https nor http", shorten(raw))
}
