package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/sluice-gateway/sluice/pkg/policy"
	"github.com/sluice-gateway/sluice/pkg/store"
	"github.com/sluice-gateway/sluice/pkg/store/storetest"
)

// mutate damages a file as the orders say, 4 bytes each: three for the place, one for the bits to flip; none to flip
// cuts the file there.
func mutate(whole, orders []byte) []byte {
	b := bytes.Clone(whole)
	for ; len(orders) >= 4 && len(b) > 0; orders = orders[4:] {
		place := int(binary.BigEndian.Uint32(orders)>>8) % len(b)
		if orders[3] == 0 {
			b = b[:place]
		} else {
			b[place] ^= orders[3]
		}
	}
	return b
}

// truth is what the undamaged store holds, by revision.
type truth struct {
	content []byte
	states  [][]policy.Object
	records []store.Record
}

func newTruth(t testing.TB) truth {
	path, content := sample(t)
	tr := truth{content: content}
	s := mustOpen(t, path)
	for n := range uint64(9) {
		_, objects, err := s.At(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		tr.states = append(tr.states, objects)
	}
	var err error
	if tr.records, err = s.Records(t.Context(), store.TableKeys); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return tr
}

// expect opens the damaged file: either it is refused and left as it is, or it holds the true head and records; each older state
// is true or refused, and writing on does not break it.
func (tr truth) expect(t *testing.T, path string, damaged []byte) (opened bool) {
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, store.Options{Keep: 4})
	if !bytes.Equal(damaged, mustRead(t, path)) {
		t.Fatal("the file was changed by opening it")
	}
	if err != nil {
		if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, ErrNotAStore) && !errors.Is(err, ErrNewerFormat) {
			t.Fatalf("refused without saying why: %v", err)
		}
		return false
	}
	defer s.Close()
	rev, objects, err := s.Head(t.Context())
	if d := cmp.Diff(tr.states[8], objects); err != nil || rev.Number != 8 || d != "" {
		t.Fatalf("head %d, %v (-want +got):\n%s", rev.Number, err, d)
	}
	if records, err := s.Records(t.Context(), store.TableKeys); err != nil || !cmp.Equal(tr.records, records) {
		t.Fatalf("records (-want +got), %v:\n%s", err, cmp.Diff(tr.records, records))
	}
	for n, want := range tr.states {
		if _, got, err := s.At(t.Context(), uint64(n)); err == nil && !cmp.Equal(want, got) {
			t.Fatalf("objects at %d (-want +got):\n%s", n, cmp.Diff(want, got))
		}
	}
	tr.writeOn(t, s)
	return true
}

func (tr truth) writeOn(t *testing.T, s *Store) {
	s.db.NoSync = true // no power is cut here
	_, err := s.Commit(t.Context(), store.Change{Base: 8, Set: []policy.Object{storetest.Object("counter", 9)}})
	want := 9
	if err != nil {
		want = 8
	}
	if head, _, err := s.Head(t.Context()); err != nil || head.Number != uint64(want) {
		t.Fatalf("head %d, want %d, %v", head.Number, want, err)
	}
}

func TestDamaged(t *testing.T) {
	tr, path := newTruth(t), filepath.Join(t.TempDir(), "sluice.db")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random, opened := rand.New(rand.NewPCG(seed, 0)), 0
	files := 100
	if os.Getenv("SLUICE_SOAK") != "" {
		files = 1000
	}
	for range files {
		orders := binary.BigEndian.AppendUint32(nil, random.Uint32())
		switch random.IntN(4) {
		case 0: // cut as well
			orders = binary.BigEndian.AppendUint32(orders, random.Uint32()&^0xff)
		case 1, 2: // the head of a page, where its structure is
			page := random.IntN(len(tr.content) / 4096)
			orders = binary.BigEndian.AppendUint32(orders, uint32(page*4096+random.IntN(96))<<8|1<<random.IntN(8))
		}
		if tr.expect(t, path, mutate(tr.content, orders)) {
			opened++
		}
	}
	t.Logf("of %d damaged files %d were opened, the damage being where nothing of the head is", files, opened)
}

// TestHeadOfDamagedHistory saves the head of a store whose history can no longer be read.
func TestHeadOfDamagedHistory(t *testing.T) {
	path, _ := sample(t)
	old, err := digestKey(storetest.Object("counter", 0).Digest())
	if err != nil {
		t.Fatal(err)
	}
	editFile(t, path, func(tx *bbolt.Tx) error {
		objects := tx.Bucket([]byte(bucketObjects))
		return objects.Put(old, flip(objects.Get(old), 20))
	})
	s, to := mustOpen(t, path), store.NewMemory(store.Options{})
	var text bytes.Buffer
	if err := store.Export(t.Context(), s, &text, store.ExportOptions{}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("export with the history: %v", err)
	}
	text.Reset()
	if err := store.Export(t.Context(), s, &text, store.ExportOptions{HeadOnly: true}); err != nil {
		t.Fatal(err)
	}
	if head, err := store.Import(t.Context(), to, &text, store.ImportOptions{}); err != nil || head.Number != 8 {
		t.Errorf("head %d, %v", head.Number, err)
	}
	s.Close()
	if err := Check(path); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("check: %v", err)
	}
}

func FuzzDamaged(f *testing.F) {
	tr, path := newTruth(f), filepath.Join(f.TempDir(), "sluice.db")
	f.Add([]byte{})
	f.Add([]byte{0, 0, 24, 1})                          // a meta page
	f.Add([]byte{0, 0x20, 8, 1})                        // the flags of a page
	f.Add([]byte{0, 0x20, 10, 0xff, 0, 0x20, 11, 0xff}) // the count of a page
	f.Add([]byte{0, 0x30, 12, 4})                       // the overflow of a page
	f.Add([]byte{0, 0x40, 0x18, 3, 0, 0x50, 0x18, 3})   // the places and children a page lists
	f.Add([]byte{0, 0x60, 0, 0})                        // cut
	f.Fuzz(func(t *testing.T, orders []byte) { tr.expect(t, path, mutate(tr.content, orders)) })
}
