package xds

import (
	"cmp"
	"slices"
	"strings"
)

// longestReason bounds what is kept of a refusal's text, in bytes.
const longestReason = 2000

// refusedNames are those resources of a response that Envoy's message names; where it names none, all of them. Removed
// ones are never among them. A name counts only as a whole, and not inside a longer one that is named.
func refusedNames(versions map[string]string, message string) []string {
	var sent, named []string
	for name, version := range versions {
		if version != "" {
			sent = append(sent, name)
		}
	}
	slices.SortFunc(sent, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	for _, name := range sent {
		found := false
		if message, found = cutName(message, name); found {
			named = append(named, name)
		}
	}
	if named == nil {
		return sent
	}
	return named
}

// cutName blanks every whole occurrence of a name.
func cutName(message, name string) (rest string, found bool) {
	if name == "" {
		return message, false
	}
	for from := 0; ; {
		i := strings.Index(message[from:], name)
		if i < 0 {
			return message, found
		}
		i += from
		end := i + len(name)
		from = end
		if startsName(message[:i]) && endsName(message[end:]) {
			message, found = message[:i]+strings.Repeat(" ", len(name))+message[end:], true
		}
	}
}

func startsName(before string) bool {
	return before == "" || !isNameByte(before[len(before)-1]) && !strings.HasSuffix(before, ".") && !strings.HasSuffix(before, "/")
}

// endsName takes punctuation as the end of a name, unless the name goes on behind it.
func endsName(after string) bool {
	if after == "" {
		return true
	}
	if isNameByte(after[0]) {
		return false
	}
	joins := strings.IndexByte("./:", after[0]) >= 0
	return !joins || len(after) == 1 || !isNameByte(after[1])
}

func isNameByte(b byte) bool {
	return b == '_' || b == '-' || '0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}

// readableReason is what a person wants to read of Envoy's message: without the lines that only point to a debugging
// page or repeat another, on one line.
func readableReason(message string) string {
	var lines []string
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.Contains(line, "goo.gle/debug") && !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	reason := strings.Join(lines, " ")
	if reason == "" {
		reason = cmp.Or(strings.TrimSpace(message), "no reason given")
	}
	return strings.ToValidUTF8(reason[:min(len(reason), longestReason)], "")
}
