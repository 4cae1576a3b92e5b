package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// block is one fenced block of a page.
type block struct {
	language string
	words    []string // what follows the language: fragment, file=NAME, in=KIND
	text     string
	line     int // of its first line in the page, from 1
}

// is tells whether a word stands after the language.
func (b block) is(word string) bool { return slices.Contains(b.words, word) }

// value is what stands after name= behind the language.
func (b block) value(name string) string {
	for _, w := range b.words {
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			return v
		}
	}
	return ""
}

// blocks are the fenced blocks of a page, in order.
func blocks(text string) (out []block) {
	var open *block
	number := 0
	for line := range strings.Lines(text) {
		number++
		words, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case fence && open != nil:
			out = append(out, *open)
			open = nil
		case fence:
			fields := append(strings.Fields(words), "")
			open = &block{language: fields[0], words: fields[1:], line: number + 1}
		case open != nil:
			open.text += line
		}
	}
	return out
}

// pages are the hand-written pages by their path from the repository's root: README, docs, and those of the features.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, pattern := range []string{"../*.md", "*.md", "tasks/*.md", "../pkg/feature/*/README.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out[filepath.Join("docs", file)] = string(text)
		}
	}
	delete(out, "docs/soak.md") // written by the soak run
	return out
}

// command is one command of a console block, and what the page says it prints.
type command struct {
	line string
	want string
}

// commands reads a console block: lines after $ are commands, lines after > go on with them, the rest is output.
func commands(text string) (out []command) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "$ "); ok {
			out = append(out, command{line: strings.TrimSpace(rest)})
			continue
		}
		if len(out) == 0 {
			continue
		}
		last := &out[len(out)-1]
		if rest, ok := strings.CutPrefix(line, "> "); ok && last.want == "" {
			last.line += "\n" + strings.TrimRight(rest, "\n")
			continue
		}
		last.want += line
	}
	return out
}
