package cors

import (
	"regexp"
	"strings"
	"testing"
)

func TestOrigin_WildcardsStopAtTheirDomain(t *testing.T) {
	e := regexp.MustCompile("^(?:" + Origin("https://*.food.example").expression() + ")$")
	for origin, want := range map[string]bool{
		"https://app.food.example":            true,
		"https://a.b.food.example":            true,
		"https://food.example":                false,
		"https://evilfood.example":            false,
		"https://.food.example":               false,
		"https://app.food.example:8443":       false,
		"https://app.food.example.evil.test":  false,
		"https://evil.test/.food.example":     false,
		"https://evil.test#.food.example":     false,
		"https://evil.test%00.food.example":   false,
		"http://app.food.example":             false,
		"https://app.foodxexample":            false,
		"https://user@app.food.example":       false,
		"https://app.food.example\nx":         false,
		"https://xn--bcher-kva.food.example":  true,
		"https://evil.test\\.food.example":    false,
		"https://a_b.food.example":            true,
		"https://evil.test:1.food.example":    false,
		"https://evil.test?x=.food.example":   false,
		"https://app.food.example, https://x": false,
	} {
		if got := e.MatchString(origin); got != want {
			t.Errorf("%s: %v, want %v", origin, got, want)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	for _, s := range []string{"*", "null", "https://a.example", "https://*.a.example:1", "http://[::1]:3000", "https://", "https://*", "a://b\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		o := Origin(s)
		if err, _ := o.check(); err != nil {
			return
		}
		if strings.ContainsAny(s, " \r\n/?#") && strings.Count(s, "/") != 2 {
			t.Errorf("%q is taken", s)
		}
		e := o.expression()
		if e == "" {
			return
		}
		re, err := regexp.Compile("^(?:" + e + ")$")
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if below := strings.Replace(s, "*.", "below.", 1); !re.MatchString(below) || re.MatchString(strings.Replace(s, "*.", "", 1)) {
			t.Errorf("%q: %s", s, e)
		}
	})
}
