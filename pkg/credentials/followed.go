package credentials

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/sluice-gateway/sluice/pkg/feature"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// placed is an entry and the number of its part.
type placed[E any] struct {
	part  int
	entry E
}

// followed is a table of the store in the parts that agents are given. A change costs as much as the parts it is in.
type followed[E any] struct {
	log     *slog.Logger
	pack    func([]E) ([]byte, error)
	entries func(store.Record) ([]placed[E], error)
	read    chan struct{} // closed once the table has been read

	mu    sync.Mutex
	where map[string][]int // by record: the parts that it is in; every record is there
	in    []map[string][]E // by part and record
	ready [][]byte         // replaced, never changed
}

func newFollowed[E any](log *slog.Logger, parts int, pack func([]E) ([]byte, error), entries func(store.Record) ([]placed[E], error)) *followed[E] {
	return &followed[E]{log: log, pack: pack, entries: entries, read: make(chan struct{}), in: make([]map[string][]E, parts)}
}

// take takes in what has changed.
func (f *followed[E]) take(batch store.RecordBatch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	touched := map[int]bool{}
	if batch.Reset || f.ready == nil {
		f.where = map[string][]int{}
		for i := range f.in {
			f.in[i], touched[i] = map[string][]E{}, true
		}
	}
	for _, c := range batch.Changes {
		f.change(c, touched)
	}
	f.repack(touched)
	select {
	case <-f.read:
	default:
		close(f.read)
	}
}

func (f *followed[E]) change(c store.RecordChange, touched map[int]bool) {
	for _, i := range f.where[c.Key] {
		delete(f.in[i], c.Key)
		touched[i] = true
	}
	delete(f.where, c.Key)
	if c.Deleted {
		return
	}
	f.where[c.Key] = nil
	all, err := f.entries(c.Record)
	if err != nil {
		f.log.Error("what is stored cannot be read; agents are not told of it", "error", err)
	}
	for _, p := range all {
		f.in[p.part][c.Key] = append(f.in[p.part][c.Key], p.entry)
		f.where[c.Key] = append(f.where[c.Key], p.part)
		touched[p.part] = true
	}
}

// repack makes parts ready to be sent.
func (f *followed[E]) repack(touched map[int]bool) {
	ready := slices.Clone(f.ready)
	if ready == nil {
		ready = make([][]byte, len(f.in))
	}
	for i := range touched {
		var all []E
		for _, some := range f.in[i] {
			all = append(all, some...)
		}
		body, err := f.pack(all)
		if err == nil {
			body, err = feature.Wrap(body)
		}
		if err != nil {
			f.log.Error("what agents are to be told of could not be packed; they keep what they have", "error", err)
			continue
		}
		ready[i] = body
	}
	f.ready = ready
}

// parts are all of them, nil before the table has been read.
func (f *followed[E]) parts() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

// has tells whether there is a record.
func (f *followed[E]) has(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.where[key]
	return ok
}
