package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"github.com/sluice-gateway/sluice/pkg/policy"
)

// format is how a command prints what it found.
type format string

const (
	table    format = "table"
	jsonForm format = "json"
	yamlForm format = "yaml"
)

// Set implements pflag.Value.
func (f *format) Set(s string) error {
	switch format(s) {
	case table, jsonForm, yamlForm:
		*f = format(s)
		return nil
	}
	return fmt.Errorf("%q is not one of table, json, yaml", s)
}

// String implements pflag.Value.
func (f *format) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *format) Type() string { return "table|json|yaml" }

func addOutput(cmd *cobra.Command, f *format) {
	*f = table
	cmd.Flags().VarP(f, "output", "o", "how to print the result (SLUICE_OUTPUT)")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// print writes a value as JSON or YAML, or by the function given as people read it.
func (a *app) print(f format, value any, people func(w io.Writer)) error {
	switch f {
	case jsonForm:
		return writeJSON(a.stdout, value)
	case yamlForm:
		return writeYAML(a.stdout, value)
	}
	people(a.stdout)
	return nil
}

func writeJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(value)
}

// writeYAML has the keys that the JSON form has.
func writeYAML(w io.Writer, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var tree any
	if err := yaml.Load(body, &tree); err != nil {
		return err
	}
	out, err := yaml.Dump(tree, yaml.WithIndent(2))
	if err != nil {
		return err
	}
	_, err = w.Write(out)
	return err
}

// columns prints rows under headings; nothing when there are none.
func columns(w io.Writer, headings []string, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(headings, "\t"))
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	t.Flush()
}

// colour is an ANSI code.
type colour string

const (
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
	bold   colour = "1"
)

// paint colours a text on a terminal, unless NO_COLOR or a dumb terminal is asked for.
func (a *app) paint(terminal bool, c colour, text string) string {
	if !terminal || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// problems shows what is wrong on stderr, coloured on a terminal.
func (a *app) problems(list []policy.Problem, dropped int) {
	text := policy.Render(list, dropped)
	for _, word := range []struct {
		text   string
		colour colour
	}{{"error:", red}, {"warning:", yellow}, {"help:", green}} {
		text = strings.ReplaceAll(text, " "+word.text+" ", " "+a.paint(a.errTerminal, word.colour, word.text)+" ")
	}
	fmt.Fprint(a.stderr, text)
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
