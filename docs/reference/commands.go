package reference

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// command asks the program what it says of itself.
type command struct {
	ctx    context.Context
	binary string
}

// output is what the program prints, with nothing of the caller's environment.
func (c command) output(args ...string) (string, error) {
	cmd := exec.CommandContext(c.ctx, c.binary, args...)
	cmd.Env = []string{"HOME=/nonexistent", "USER=you", "HOSTNAME=host"}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", c.binary, strings.Join(args, " "), err)
	}
	return string(out), nil
}

// page is the help of every command.
func (c command) page() (string, error) {
	var b strings.Builder
	b.WriteString("# Commands\n\n" + generated)
	if err := c.add(&b); err != nil {
		return "", err
	}
	return b.String(), nil
}

// add writes one command's help and that of those below it.
func (c command) add(b *strings.Builder, path ...string) error {
	help, err := c.output(append(path, "--help")...)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n## %s\n\n```text\n%s```\n", strings.Join(append([]string{"sluice"}, path...), " "), help)
	for _, name := range below(help) {
		if err := c.add(b, append(path[:len(path):len(path)], name)...); err != nil {
			return err
		}
	}
	return nil
}

// below are the commands that a help text lists under headings of their own, between usage and flags. Those that cobra
// brings are left out: every program has them.
func below(help string) (names []string) {
	_, rest, found := strings.Cut(help, "\nUsage:\n")
	if !found {
		return nil
	}
	rest, _, _ = strings.Cut(rest, "\nFlags:\n")
	listing := false
	for line := range strings.Lines(rest) {
		name, _, hasText := strings.Cut(strings.TrimSpace(line), "  ")
		switch {
		case strings.HasSuffix(strings.TrimSpace(line), ":") && line[0] != ' ':
			heading := strings.TrimSpace(line)
			listing = heading != "Examples:" && heading != "Aliases:"
		case listing && hasText && strings.HasPrefix(line, "  ") && name != "completion" && name != "help":
			names = append(names, name)
		}
	}
	return names
}
