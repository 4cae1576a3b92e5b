// Package memo remembers outputs by their input between runs of the control loop: what one run did not ask for is
// forgotten, so that a table is never larger than what is in use.
package memo

// Table maps an input, or its digest, to an output. Not safe for concurrent use. The zero value is ready.
type Table[K comparable, V any] struct {
	kept, next map[K]V
}

// Get is the output remembered under the key, else what make returns, which is then remembered. An error is
// returned and nothing remembered.
func (t *Table[K, V]) Get(key K, make func() (V, error)) (V, error) {
	if v, ok := t.Peek(key); ok {
		return v, nil
	}
	v, err := make()
	if err == nil {
		t.Put(key, v)
	}
	return v, err
}

// Peek is the output remembered under the key, which stays for another run.
func (t *Table[K, V]) Peek(key K) (V, bool) {
	if v, ok := t.next[key]; ok {
		return v, true
	}
	v, ok := t.kept[key]
	if ok {
		t.Put(key, v)
	}
	return v, ok
}

// Put remembers an output for this run and the next.
func (t *Table[K, V]) Put(key K, v V) {
	if t.next == nil {
		t.next = map[K]V{}
	}
	t.next[key] = v
}

// EndRun forgets what was not asked for since the last EndRun.
func (t *Table[K, V]) EndRun() {
	t.kept, t.next = t.next, make(map[K]V, len(t.next))
}
