package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
)

// model is what a store should hold, in the plainest form: every state it ever had.
type model struct {
	opener  Opener
	place   string
	options store.Options
	store   store.Store
	states  []map[policy.Ref]policy.Object // by revision, from the empty one
}

const modelKeep = 5

func testModel(t *testing.T, o Opener) {
	rapid.Check(t, func(r *rapid.T) {
		m := &model{opener: o, place: t.TempDir(), options: store.Options{Keep: modelKeep}, states: []map[policy.Ref]policy.Object{{}}}
		m.open(r)
		defer func() { m.store.Close() }()
		r.Repeat(map[string]func(*rapid.T){
			"":        m.check,
			"commit":  m.commit,
			"at":      m.at,
			"history": m.history,
			"reopen":  m.reopen,
			"move":    m.move,
		})
	})
}

func (m *model) open(r *rapid.T) {
	var err error
	if m.store, err = m.opener.Open(m.place, m.options); err != nil {
		r.Fatal(err)
	}
}

func (m *model) head() uint64 { return uint64(len(m.states) - 1) }

// oldest is the oldest state that must still be there: once revision 1 has been dropped, that of the oldest kept.
func (m *model) oldest() uint64 {
	if m.head() <= modelKeep {
		return 0
	}
	return m.head() - modelKeep + 1
}

func (m *model) commit(r *rapid.T) {
	base := m.head()
	if rapid.IntRange(0, 9).Draw(r, "stale") == 0 {
		base += rapid.Uint64Range(1, 3).Draw(r, "off")
	}
	change, next := store.Change{Base: base}, maps.Clone(m.states[m.head()])
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 0, 4, rapid.ID).Draw(r, "names") {
		object := Object(name, rapid.IntRange(0, 2).Draw(r, "version"))
		if rapid.Bool().Draw(r, "delete") {
			change.Delete = append(change.Delete, object.Ref)
			delete(next, object.Ref)
		} else {
			change.Set = append(change.Set, object)
			next[object.Ref] = object
		}
	}
	m.expect(r, change, next)
}

func (m *model) expect(r *rapid.T, change store.Change, next map[policy.Ref]policy.Object) {
	rev, err := m.store.Commit(r.Context(), change)
	if conflict, ok := errors.AsType[*store.ConflictError](err); ok != (change.Base != m.head()) || ok && conflict.Head != m.head() {
		r.Fatalf("commit on %d at %d: %v", change.Base, m.head(), err)
	} else if ok {
		return
	}
	if err != nil {
		r.Fatal(err)
	}
	if !cmp.Equal(next, m.states[m.head()]) {
		m.states = append(m.states, next)
	}
	if rev.Number != m.head() {
		r.Fatalf("the commit is revision %d, want %d", rev.Number, m.head())
	}
}

func (m *model) check(r *rapid.T) {
	rev, objects, err := m.store.Head(r.Context())
	m.same(r, m.head(), rev, objects, err)
}

func (m *model) at(r *rapid.T) {
	n := rapid.Uint64Range(0, m.head()+1).Draw(r, "revision")
	rev, objects, err := m.store.At(r.Context(), n)
	if n < m.oldest() || n > m.head() {
		if !errors.Is(err, store.ErrNoRevision) {
			r.Fatalf("revision %d of %d to %d: %v", n, m.oldest(), m.head(), err)
		}
		return
	}
	m.same(r, n, rev, objects, err)
}

func (m *model) same(r *rapid.T, n uint64, rev store.Revision, objects []policy.Object, err error) {
	if err != nil || rev.Number != n {
		r.Fatalf("revision %d, want %d: %v", rev.Number, n, err)
	}
	want := slices.SortedFunc(maps.Values(m.states[n]), func(a, b policy.Object) int { return a.Compare(b.Ref) })
	if d := cmp.Diff(want, objects); d != "" && len(want)+len(objects) > 0 {
		r.Fatalf("objects at %d (-want +got):\n%s", n, d)
	}
}

func (m *model) history(r *rapid.T) {
	history, err := m.store.History(r.Context(), 0)
	if err != nil || len(history) != int(min(m.head(), modelKeep)) {
		r.Fatalf("%d revisions at %d: %v", len(history), m.head(), err)
	}
	for i, rev := range history {
		if rev.Number != m.head()-uint64(i) {
			r.Fatalf("history[%d] is revision %d", i, rev.Number)
		}
	}
}

func (m *model) reopen(r *rapid.T) {
	if !m.opener.Durable {
		r.Skip("it does not outlive its closing")
	}
	if err := m.store.Close(); err != nil {
		r.Fatal(err)
	}
	m.open(r)
}

// move takes the site to another store by its archive, and goes on there.
func (m *model) move(r *rapid.T) {
	a, err := m.store.Archive(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	if err := m.store.Close(); err != nil {
		r.Fatal(err)
	}
	m.place = fmt.Sprint(m.place, "+")
	m.open(r)
	if err := m.store.Restore(r.Context(), a, false); err != nil {
		r.Fatal(err)
	}
}
