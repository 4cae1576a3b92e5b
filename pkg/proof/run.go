package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/proto"
)

// run has Envoy validate a bootstrap and gives its reason for refusing it, "" if it takes it.
func (p *Prover) run(ctx context.Context, b *bootstrapv3.Bootstrap) (refusal string, err error) {
	dir, err := os.MkdirTemp(p.Dir, "sluice-proof-")
	if err != nil {
		return "", fmt.Errorf("proof: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	body, err := proto.Marshal(b)
	if err != nil {
		return "", fmt.Errorf("proof: %w", err)
	}
	file := filepath.Join(dir, "bootstrap.pb") // the ending tells Envoy the format
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return "", fmt.Errorf("proof: %w", err)
	}
	return p.validate(ctx, file)
}

func (p *Prover) validate(ctx context.Context, file string) (string, error) {
	timeout := p.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Binary, "--mode", "validate", "--config-path", file,
		"--disable-hot-restart", "--concurrency", "1", "--log-level", "critical", "--log-format", "%v")
	var out bytes.Buffer
	cmd.Stderr = &out
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if err == nil {
		return "", nil
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("proof: envoy did not answer within %v: %w", timeout, ctx.Err())
	}
	text := out.String()
	if before, refusal, ok := strings.Cut(text, "error initializing configuration '"+file+"': "); ok && !strings.Contains(before, "Caught ") {
		return reason(refusal), nil
	}
	return "", fmt.Errorf("proof: %s: %w: %s", p.Binary, err, clip(oneLine(text)))
}

// reason is a refusal without the resource that Envoy prints in the midst of it: that can be long, and hold secrets.
// Seen are "reason", "reason: DUMP" and "DUMP\n: reason", where DUMP starts with goo.gle/debug.
func reason(refusal string) string {
	head, dump, dumped := strings.Cut(refusal, "goo.gle/debug")
	parts := []string{strings.TrimRight(oneLine(head), ": ")}
	if i := strings.LastIndex(dump, "\n: "); dumped && i >= 0 {
		parts = append(parts, oneLine(dump[i+len("\n: "):]))
	}
	text := strings.TrimPrefix(strings.Join(parts, ": "), ": ")
	if text == "" {
		text = "refused without a reason"
	}
	return clip(text)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// clip keeps a line readable.
func clip(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
