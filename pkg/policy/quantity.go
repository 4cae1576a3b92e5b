package policy

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// Duration is a time span as policies write it: 30s, 250ms, 1h30m.
type Duration time.Duration

// D is the standard library's form.
func (d Duration) D() time.Duration { return time.Duration(d) }

// UnmarshalText reads a duration with its unit; negative ones are refused.
func (d *Duration) UnmarshalText(b []byte) error {
	s := string(b)
	v, err := time.ParseDuration(s)
	switch {
	case err != nil && s != "" && isNumber(s):
		return fmt.Errorf("%q has no unit; write %ss or %sms", s, s, s)
	case err != nil:
		return fmt.Errorf("%q is not a duration; write for example 30s, 250ms or 1h30m", shorten(s))
	case v < 0:
		return fmt.Errorf("%q is negative", shorten(s))
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes the duration in its shortest form.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String is the shortest form: 1m30s, 2s, 250ms.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// JSONSchema describes the text form.
func (Duration) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`, Examples: []any{"30s", "250ms"}}
}

// Size is a number of bytes as policies write it: 64KiB, 10MiB, 512B.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}

// UnmarshalText reads a size with its unit.
func (s *Size) UnmarshalText(b []byte) error {
	text := string(b)
	for _, u := range sizeUnits {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*s = Size(n * u.bytes)
		return nil
	}
	if isNumber(text) {
		return fmt.Errorf("%q has no unit; write %sKiB, %sMiB or %sB", text, text, text, text)
	}
	return fmt.Errorf("%q is not a size; write for example 64KiB or 10MiB", shorten(text))
}

// MarshalText writes the size with the largest unit that divides it.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String is the size with the largest binary unit that divides it.
func (s Size) String() string {
	for _, u := range []int{2, 1, 0} {
		if unit := sizeUnits[u]; s != 0 && int64(s)%unit.bytes == 0 {
			return strconv.FormatInt(int64(s)/unit.bytes, 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// JSONSchema describes the text form.
func (Size) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]+ ?(B|KiB|MiB|GiB|KB|MB|GB)$`, Examples: []any{"64KiB", "10MiB"}}
}

// Percent is a share of a hundred as policies write it: 50%, 0.5%.
type Percent float64

// UnmarshalText reads a percentage between 0% and 100%.
func (p *Percent) UnmarshalText(b []byte) error {
	text := string(b)
	digits, ok := strings.CutSuffix(text, "%")
	f, err := strconv.ParseFloat(digits, 64)
	switch {
	case err != nil || math.IsNaN(f):
		return fmt.Errorf("%q is not a percentage; write for example 50%%", shorten(text))
	case !ok:
		return fmt.Errorf("%q has no unit; write %s%%", text, text)
	case f < 0 || f > 100:
		return fmt.Errorf("%q is not between 0%% and 100%%", text)
	}
	*p = Percent(f)
	return nil
}

// MarshalText writes the percentage with its sign.
func (p Percent) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String is the percentage with its sign.
func (p Percent) String() string { return strconv.FormatFloat(float64(p), 'f', -1, 64) + "%" }

// JSONSchema describes the text form.
func (Percent) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]+(\.[0-9]+)?%$`, Examples: []any{"50%"}}
}

func isNumber(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}
