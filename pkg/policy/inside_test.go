package policy

import (
	"strings"
	"testing"
)

func TestInside_IsTheCharacterAsItIsWritten(t *testing.T) {
	for _, c := range []struct{ name, text string }{
		{"plain", "a: one two @ three\n"},
		{"in a flow mapping", "a: {b: 1, c: one two @ three}\n"},
		{"single quotes", "a: 'one ''two'' @ three'\n"},
		{"double quotes", `a: "one \"two\" @ three"` + "\n"},
		{"a literal block", "a: |\n  one\n\n  two\n    @ three\n"},
		{"a folded block", "a: >-\n  one\n  two\n  @ three\n"},
		{"plain over lines", "a: one\n  two\n   @ three\n"},
		{"quoted over lines", "a: 'one\n  two\n\n   @ three'\n"},
		{"other letters before", "a: 'ä€ 😀 @ three'\n"},
		{"at the start", "a: '@ three'\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			objects, _ := Split("f.yaml", "apiVersion: sluice/v1\nkind: Route\nmetadata: {name: a}\nspec:\n  "+strings.ReplaceAll(strings.TrimSuffix(c.text, "\n"), "\n", "\n  ")+"\n", "test", &Problems{})
			p := &Problems{}
			d := Parse(objects[0], p)
			if p.Failed() {
				t.Fatal(p.Render())
			}
			at := d.Spec().Field("a")
			if f := at.Field("c"); f.Node != at.Node {
				at = f
			}
			line, column := 1, 1
			for _, r := range at.Node.Value {
				if r == '@' {
					break
				}
				if column++; r == '\n' {
					line, column = line+1, 1
				}
			}
			got := at.Inside(line, column)
			if row := []rune(strings.Split(objects[0].Text, "\n")[got.Node.Line-1]); row[got.Node.Column-1] != '@' {
				t.Errorf("%d:%d of %q", got.Node.Line, got.Node.Column, objects[0].Text)
			}
		})
	}
}
