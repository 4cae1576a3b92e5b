package docs

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestCommandsOfPagesDoWhatTheySay runs the commands of every page's console blocks, in order, in a folder that holds
// the page's YAML blocks that name a file, and compares what they print: … stands for anything.
//
// Ports are moved to free ones and back. What goes on running (make run, sluice serve, sluice dev, envoy) is started
// beside the page and awaited. A page that asks with curl but starts nothing itself gets what make run gives: the
// example's backends, and sluice dev on its folder.
func TestCommandsOfPagesDoWhatTheySay(t *testing.T) {
	tools := buildTools(t)
	for page, text := range pages(t) {
		if strings.HasPrefix(page, "pkg/") || !strings.Contains(text, "```console\n") {
			continue
		}
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(text, "$ consul ") {
				tools.addConsul(t)
			}
			newSandbox(t, tools).follow(page, text)
		})
	}
}

// follow does what a page says.
func (s *sandbox) follow(page, text string) {
	s.t.Helper()
	for _, b := range blocks(text) {
		if file := b.value("file"); file != "" {
			s.write(file, b.text)
		}
	}
	if anyCommand(text, func(line string) bool { return strings.Contains(line, "curl ") }) && !anyCommand(text, isService) {
		s.startBackends()
		s.start("sluice dev .")
	}
	for _, b := range blocks(text) {
		if b.language != "console" {
			continue
		}
		for _, c := range commands(b.text) {
			if !s.perform(c) {
				s.t.Fatalf("%s:%d: went no further", page, b.line)
			}
		}
	}
}

// anyCommand tells whether a page has a command that is so.
func anyCommand(text string, is func(line string) bool) bool {
	for _, b := range blocks(text) {
		if b.language != "console" {
			continue
		}
		for _, c := range commands(b.text) {
			if is(c.line) {
				return true
			}
		}
	}
	return false
}

// isService tells whether a command goes on running.
func isService(line string) bool {
	for _, start := range []string{"make run", "sluice serve", "sluice dev ", "sluice agent ", "envoy -c ", "consul agent ", "go run ./examples/food-delivery"} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	return false
}

// perform runs one command and compares what it prints. What only asks is asked again until it answers as the page
// says, since changes arrive when they do. It tells whether the page can go on.
func (s *sandbox) perform(c command) bool {
	s.t.Helper()
	switch {
	case c.line == "make run":
		s.startExample()
		return true
	case strings.HasPrefix(c.line, "go run ./examples/food-delivery"):
		s.startBackends()
		return true
	case isService(c.line):
		s.start(c.line)
		return true
	case c.line == "echo $?":
		return s.compare(c, fmt.Sprintln(s.status))
	case strings.HasPrefix(c.line, "export "):
		s.exports = append(s.exports, s.here(strings.TrimPrefix(c.line, "export ")))
		return true
	}
	want := pattern(c.want)
	deadline := time.Now().Add(patience)
	for {
		out := s.run(c.line)
		switch {
		case want.MatchString(fold(out)) || c.want == "" && s.status == 0:
			return true
		case !asks(c.line) || time.Now().After(deadline):
			return s.compare(c, out)
		}
		time.Sleep(50 * time.Millisecond) // between questions
	}
}

// asks tells whether a command changes nothing, so that it may be repeated.
func asks(line string) bool {
	for _, start := range []string{"curl", "for ", "tail ", "sluice envoys", "sluice why", "sluice history", "sluice explain", "sluice catalog"} {
		if strings.HasPrefix(line, start) && !strings.Contains(line, "-d ") {
			return true
		}
	}
	return false
}

func (s *sandbox) compare(c command, out string) bool {
	s.t.Helper()
	if !pattern(c.want).MatchString(fold(out)) {
		s.t.Errorf("$ %s\nexit code %d, and printed:\n%s\nbut the page says:\n%s", c.line, s.status, out, c.want)
		return false
	}
	return true
}

// pattern is what a page shows as an expression: … in a line stands for anything in it, a line of … for any lines.
func pattern(want string) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for line := range strings.Lines(fold(want)) {
		line = strings.TrimRight(line, "\n")
		if line == "…" {
			b.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", `[^\n]*?`) + `\n`)
	}
	return regexp.MustCompile(b.String() + `\z`)
}

var (
	spaces  = regexp.MustCompile(`[ \t]+`)
	endings = regexp.MustCompile(`[ \t\r]+\n`)
)

// fold makes runs of spaces one, since columns move with what stands in them, and takes empty lines away.
func fold(text string) string {
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	text = endings.ReplaceAllString(text, "\n")
	text = spaces.ReplaceAllString(text, " ")
	return strings.TrimLeft(regexp.MustCompile(`\n{2,}`).ReplaceAllString(text, "\n"), "\n")
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		name, want, out string
		matches         bool
	}{
		{"the same", "a\nb\n", "a\nb\n", true},
		{"something in a line", "a … c\n", "a b c\n", true},
		{"something in a line, but the line ends", "a … c\n", "a b\nc c\n", false},
		{"any lines", "a\n…\nd\n", "a\nb\nc\nd\n", true},
		{"no lines", "a\n…\nd\n", "a\nd\n", true},
		{"another end", "a\n…\nd\n", "a\nb\n", false},
		{"more than the page says", "a\n", "a\nb\n", false},
		{"columns that moved", "A  B\n", "A      B  \n", true},
		{"nothing", "", "a\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := pattern(c.want).MatchString(fold(c.out)); got != c.matches {
				t.Errorf("pattern(%q) on %q: %v", c.want, c.out, got)
			}
		})
	}
}
