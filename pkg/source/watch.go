package source

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How long a folder must be quiet before it is read, and how long at most it is waited for. It is the trailing edge:
// editors empty a file before they fill it, and half a file must never go live.
const (
	quiet    = 40 * time.Millisecond
	mostWait = 500 * time.Millisecond
	// poll is how often a folder is read that the system does not watch for us.
	poll = time.Second
)

// Watch sends when a folder or anything below it may have changed, until ctx ends; then the channel is closed. Where
// the system cannot watch, as on some network file systems or beyond its limits, it sends once a second: fallback is
// then told why.
func Watch(ctx context.Context, dir string, fallback func(error)) <-chan struct{} {
	out := make(chan struct{}, 1)
	w, err := fsnotify.NewWatcher()
	if err == nil {
		if err = addFolders(w, dir); err != nil {
			w.Close()
		}
	}
	if err != nil {
		fallback(err)
		go polling(ctx, out)
		return out
	}
	go watching(ctx, w, dir, out, fallback)
	return out
}

// addFolders watches a folder and those below it. Folders, not files: editors save by renaming over the file.
func addFolders(w *fsnotify.Watcher, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path != dir: // gone since it was listed
			return nil
		case err != nil:
			return err
		case !d.IsDir():
			return nil
		case path != dir && IsHidden(path):
			return fs.SkipDir
		}
		if err := w.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

func watching(ctx context.Context, w *fsnotify.Watcher, dir string, out chan<- struct{}, fallback func(error)) {
	defer w.Close()
	for {
		select {
		case <-ctx.Done():
			close(out)
			return
		case e := <-w.Events:
			err := settle(ctx, w, dir, e)
			tell(out)
			if err != nil {
				fallback(err)
				polling(ctx, out)
				return
			}
		case err := <-w.Errors:
			tell(out) // events were lost: whatever they were, reading finds out
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				fallback(err)
				polling(ctx, out)
				return
			}
		}
	}
}

// settle waits until nothing more happens, and watches the folders that are new.
func settle(ctx context.Context, w *fsnotify.Watcher, dir string, first fsnotify.Event) error {
	still, most := time.NewTimer(quiet), time.NewTimer(mostWait)
	defer still.Stop()
	defer most.Stop()
	created := first.Has(fsnotify.Create)
	for waiting := true; waiting; {
		select {
		case e := <-w.Events:
			created = created || e.Has(fsnotify.Create)
			still.Reset(quiet)
		case <-still.C:
			waiting = false
		case <-most.C:
			waiting = false
		case <-ctx.Done():
			return nil
		}
	}
	if _, err := os.Stat(dir); err != nil {
		return err // the folder itself is gone, and its watch with it
	}
	if created {
		return addFolders(w, dir)
	}
	return nil
}

func polling(ctx context.Context, out chan<- struct{}) {
	defer close(out)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			tell(out)
		}
	}
}

func tell(out chan<- struct{}) {
	select {
	case out <- struct{}{}:
	default:
	}
}
