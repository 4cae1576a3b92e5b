package source_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/pkg/source"
)

func TestWatchSeesHowPeopleSave(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"a.yaml": "a", "deep/b.yaml": "b"})
	ctx, cancel := context.WithCancel(context.Background())
	changes := source.Watch(ctx, dir, func(err error) { t.Errorf("fell back to polling: %v", err) })
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"write in place", func() error { return os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("aa"), 0o644) }},
		{"rename over it", func() error {
			if err := os.WriteFile(filepath.Join(dir, ".a.yaml.swp"), []byte("aaa"), 0o644); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, ".a.yaml.swp"), filepath.Join(dir, "a.yaml"))
		}},
		{"again after the rename", func() error { return os.WriteFile(filepath.Join(dir, "a.yaml"), []byte("aaaa"), 0o644) }},
		{"in a folder below", func() error { return os.WriteFile(filepath.Join(dir, "deep/b.yaml"), []byte("bb"), 0o644) }},
		{"a new folder", func() error { return os.MkdirAll(filepath.Join(dir, "new/deeper"), 0o755) }},
		{"in the new folder", func() error { return os.WriteFile(filepath.Join(dir, "new/deeper/c.yaml"), []byte("c"), 0o644) }},
		{"remove", func() error { return os.Remove(filepath.Join(dir, "a.yaml")) }},
		{"swap a link", func() error { return os.Symlink("deep", filepath.Join(dir, "..data")) }},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-changes:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: not seen", step.name)
		}
	}
	cancel()
	for range changes {
	}
}

func TestWatchPollsWhereItMust(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(context.Background())
	fell := false
	changes := source.Watch(ctx, filepath.Join(t.TempDir(), "none"), func(error) { fell = true })
	select {
	case <-changes:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing is sent")
	}
	cancel()
	for range changes {
	}
	if !fell {
		t.Error("the reason is not told")
	}
}
