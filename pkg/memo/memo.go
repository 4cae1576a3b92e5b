// Package memo remembers outputs by the digest of their input between runs of the control loop: what one run did not
// ask for is forgotten, so that a table is never larger than what is in use.
package memo

// Table maps a digest to an output. Not safe for concurrent use. The zero value is ready.
type Table[V any] struct {
	kept, next map[string]V
}

// Get is the output remembered under the digest, else what make returns, which is then remembered. An error is
// returned and nothing remembered.
func (t *Table[V]) Get(digest string, make func() (V, error)) (V, error) {
	if v, ok := t.Peek(digest); ok {
		return v, nil
	}
	v, err := make()
	if err == nil {
		t.Put(digest, v)
	}
	return v, err
}

// Peek is the output remembered under the digest, which stays for another run.
func (t *Table[V]) Peek(digest string) (V, bool) {
	if v, ok := t.next[digest]; ok {
		return v, true
	}
	v, ok := t.kept[digest]
	if ok {
		t.Put(digest, v)
	}
	return v, ok
}

// Put remembers an output for this run and the next.
func (t *Table[V]) Put(digest string, v V) {
	if t.next == nil {
		t.next = map[string]V{}
	}
	t.next[digest] = v
}

// EndRun forgets what was not asked for since the last EndRun.
func (t *Table[V]) EndRun() {
	t.kept, t.next = t.next, make(map[string]V, len(t.next))
}
