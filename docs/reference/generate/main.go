// Command generate writes the reference pages and the JSON Schema into docs/reference.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sluice-gateway/sluice/docs/reference"
	"github.com/sluice-gateway/sluice/pkg/feature/all"
)

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// run builds the program that is described, from the folder above this one, and asks it.
func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "sluice-reference")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "sluice")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/sluice-gateway/sluice/cmd/sluice")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building sluice: %w", err)
	}
	pages, err := reference.Pages(ctx, all.Features(), binary)
	if err != nil {
		return err
	}
	return reference.Write(".", pages)
}
