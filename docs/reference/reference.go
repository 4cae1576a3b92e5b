// Package reference writes the reference pages from the program itself: kinds and blocks from the types that policies
// are decoded into, commands from their own help, codes from the list of codes. Nothing in them is written by hand.
//
//go:generate go run ./generate
package reference

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/policy"
)

// Pages are the reference pages and the JSON Schema by file name, all made anew. binary is the sluice program that the
// commands are asked of.
func Pages(ctx context.Context, features feature.Set, binary string) (map[string]string, error) {
	tool := command{ctx: ctx, binary: binary}
	commands, err := tool.page()
	if err != nil {
		return nil, err
	}
	schema, err := tool.output("schema")
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"kinds.md": kinds(features), "features.md": index(features), "problems.md": problems(),
		"commands.md": commands, "sluice.schema.json": schema,
	}, nil
}

// Write puts the pages into a folder.
func Write(dir string, pages map[string]string) error {
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generated stands at the head of each page.
const generated = "<!-- Written by `make generate`. Do not edit. -->\n"

// problems explains every code.
func problems() string {
	var b strings.Builder
	b.WriteString("# Problems\n\n" + generated + `
What is wrong with policies is shown with file, line, column, the lines around it, a way out where there is one, and a
code in square brackets. Codes are stable. All that is wrong is shown in one run.

| code | what it means |
|---|---|
`)
	codes := policy.Codes()
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		fmt.Fprintf(&b, "| <a id=\"%s\"></a>`%s` | %s |\n", code, code, cell(codes[code]))
	}
	return b.String()
}

// index lists the features.
func index(features feature.Set) string {
	var b strings.Builder
	b.WriteString("# Features\n\n" + generated + `
Each feature is a block of that name in a policy. Fields stand in [kinds](kinds.md); the page of the feature has
examples, how it fails, and what it shows in logs and metrics.

| block | what it does | stands on |
|---|---|---|
`)
	for _, name := range names(features) {
		f, _ := features.Get(name)
		fmt.Fprintf(&b, "| [%s](../../pkg/feature/%s/README.md) | %s | %s |\n",
			name, strings.ToLower(name), cell(f.Info().Summary), places(f))
	}
	return b.String()
}

func names(features feature.Set) []string {
	var out []string
	for _, f := range features.All() {
		out = append(out, f.Info().Name)
	}
	slices.Sort(out)
	return out
}

// places says where a feature's block may stand, and whether it holds unwritten.
func places(f feature.Feature) string {
	var out []string
	on := f.Info().On
	if on&feature.Rule != 0 {
		out = append(out, "Gateway, Policy, Route, rule")
	} else if on&feature.Gateway != 0 {
		out = append(out, "Gateway, Policy")
	}
	if on&feature.Service != 0 {
		out = append(out, "Service")
	}
	text := strings.Join(out, ", ")
	if _, ok := f.(feature.Defaulter); ok {
		text += "; holds by default"
	}
	return text
}

// cell is a text that may stand in a table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;", "*", "\\*").Replace(s)
}
