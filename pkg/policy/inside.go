package policy

import "strings"

// Inside is the place of one character of a scalar's text, line and column counting from 1 within the text; the scalar's
// own place where YAML writes it in a way that cannot be followed.
func (a At) Inside(line, column int) At {
	if a.doc == nil || a.Node == nil || a.Node.Kind != Scalar {
		return a
	}
	s := scanner{lines: a.doc.lines(), row: a.Node.Line - 1, column: a.Node.Column - 1}
	head := before(a.Node.Value, line, column)
	if !s.open() || !s.follow(head) {
		return a
	}
	if len(head) < len([]rune(a.Node.Value)) && !s.skipBreaks() {
		return a
	}
	node := *a.Node
	node.Line, node.Column = s.row+1, s.column+1
	a.Node = &node
	return a
}

// before is the text up to a line and column.
func before(text string, line, column int) []rune {
	for i, l := range strings.SplitAfter(text, "\n") {
		if i == line-1 {
			head := strings.Join(strings.SplitAfter(text, "\n")[:i], "")
			runes := []rune(l)
			return append([]rune(head), runes[:max(0, min(column-1, len(runes)))]...)
		}
	}
	return []rune(text)
}

// scanner goes through a scalar as it is written.
type scanner struct {
	lines       []string
	row, column int
	quote       rune // ' or ", 0 for none
	indent      int  // of a block's lines, once known; what is beyond it is text
}

// open goes to the first character of the text.
func (s *scanner) open() bool {
	if s.row < 0 || s.row >= len(s.lines) || s.column < 0 || s.column >= len(s.line()) {
		return false
	}
	switch c := s.line()[s.column]; c {
	case '\'', '"':
		s.quote = c
		s.column++
	case '|', '>':
		if !s.nextLine() {
			return false
		}
		s.indent = s.column
	}
	return true
}

func (s *scanner) line() []rune { return []rune(s.lines[s.row]) }

// nextLine goes to the next line's first character that is no space.
func (s *scanner) nextLine() bool {
	s.row++
	if s.row >= len(s.lines) {
		return false
	}
	line := s.lines[s.row]
	s.column = len(line) - len(strings.TrimLeft(line, " \t"))
	if s.indent > 0 {
		s.column = min(s.column, s.indent)
	}
	return true
}

// follow goes past a text, and tells whether it stands there.
func (s *scanner) follow(text []rune) bool {
	for _, c := range text {
		if !s.past(c) {
			return false
		}
	}
	return true
}

// skipBreaks goes to the next character, on a later line if need be.
func (s *scanner) skipBreaks() bool {
	for strings.TrimSpace(string(s.line()[min(s.column, len(s.line())):])) == "" {
		if !s.nextLine() {
			return false
		}
	}
	return true
}

func (s *scanner) past(c rune) bool {
	line := s.line()
	if rest := string(line[min(s.column, len(line)):]); strings.TrimSpace(rest) == "" && (c == ' ' || c == '\n') {
		return s.nextLine() // a line break, or what it was folded to
	}
	if s.column >= len(line) {
		return false
	}
	escaped := s.quote == '\'' && line[s.column] == '\'' || s.quote == '"' && line[s.column] == '\\'
	if escaped {
		s.column++
	}
	if s.column >= len(line) || line[s.column] != c {
		return false
	}
	s.column++
	return true
}
