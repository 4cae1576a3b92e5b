// Package pkg holds only the rules that all packages below it keep.
package pkg

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sluice-gateway/sluice/"

// allowed says which packages of ours a package may import; what is below a folder follows the folder's row. Data flows
// one way, and this table is the map of it.
var allowed = map[string][]string{
	"memo":        {},
	"auditlog":    {"throttle"},
	"throttle":    {},
	"access":      {"certs", "throttle"},
	"certs":       {},
	"policy":      {},
	"model":       {},
	"catalog":     {"catalog"},
	"store":       {"policy", "store"},
	"source":      {"policy", "feature", "compile"},
	"apikey":      {},
	"credentials": {"apikey", "revocation", "store", "feature", "model"},
	"revocation":  {},
	"feature":     {"feature", "fetch", "model", "policy", "apikey", "revocation"},
	"fetch":       {},
	"acme":        {"store"},
	"vault":       {"policy", "store"},
	"keys":        {"model", "fetch"},
	"agent":       {"feature", "agent", "fetch"},
	"compile":     {"policy", "feature", "model", "memo"},
	"translate":   {"feature", "model", "memo"},
	"snapshot":    {"feature", "model"},
	"proof":       {"snapshot", "envoy"},
	"xds":         {"snapshot", "certs"},
	"lastgood":    {"snapshot", "xds"},
	"secrets":     {"acme", "feature", "model"},
	"explain":     {"model", "policy"},
	"schema":      {"policy", "feature", "compile"},
	"control":     {"catalog", "memo", "policy", "store", "feature", "compile", "model", "translate", "snapshot", "proof", "xds", "secrets"},
	"diff":        {"policy", "feature"},
	"admin":       {"apikey", "credentials", "revocation", "access", "auditlog", "certs", "catalog", "policy", "store", "feature", "model", "control", "diff", "explain", "xds", "proof", "secrets", "vault"},
	"featuretest": {"policy", "feature", "compile", "model", "translate", "snapshot", "proof", "envoy", "featuretest"},
}

func TestImports_EachPackageKeepsToItsRow(t *testing.T) {
	eachFile(t, func(file string, f *ast.File) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		folder := filepath.ToSlash(filepath.Dir(file))
		row, _, _ := strings.Cut(folder, "/")
		may, known := allowed[row]
		if !known {
			t.Errorf("%s: package %s has no row in the table", file, folder)
		}
		for _, i := range f.Imports {
			imported, ours := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), module)
			if !ours {
				continue
			}
			top, _, _ := strings.Cut(strings.TrimPrefix(imported, "pkg/"), "/")
			feature := row == "feature" && strings.Count(imported, "/") > 1 && folder != "feature/all"
			if !slices.Contains(may, top) || feature {
				t.Errorf("%s imports %s, which its row does not name", file, imported)
			}
		}
	})
}

func TestDocs_EachPackageIntroducesItselfOnce(t *testing.T) {
	comments := map[string]int{}
	eachFile(t, func(file string, f *ast.File) {
		folder := path.Dir(filepath.ToSlash(file))
		if strings.HasSuffix(f.Name.Name, "_test") || folder == "." {
			return
		}
		comments[folder] += 0
		if f.Doc != nil && strings.HasPrefix(f.Doc.Text(), "Package ") {
			comments[folder]++
		}
	})
	for folder, n := range comments {
		if n != 1 {
			t.Errorf("package %s has %d package comments", folder, n)
		}
	}
}

// TestArchitecture_ShowsEveryPackage holds ARCHITECTURE.md to the table above.
func TestArchitecture_ShowsEveryPackage(t *testing.T) {
	text, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range allowed {
		if shown := strings.Contains(string(text), "`"+name) || strings.Contains(string(text), "`pkg/"+name); !shown {
			t.Errorf("ARCHITECTURE.md says nothing of pkg/%s", name)
		}
		if info, err := os.Stat(name); err != nil || !info.IsDir() {
			t.Errorf("the table has a row for %s, which is no package (%v)", name, err)
		}
	}
}

func TestNames_NoJunkDrawers(t *testing.T) {
	for _, name := range []string{"util", "utils", "common", "helpers", "helper", "misc", "types", "base"} {
		found, err := filepath.Glob(name + "*")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			t.Errorf("%s: a package is named for what it holds", f)
		}
	}
}

func eachFile(t *testing.T, visit func(file string, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".go" || file == "layout_test.go" {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		visit(file, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
