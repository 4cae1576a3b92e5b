package consulkv

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// FuzzValue reads any bytes as a stored value: it is refused by a clear error, or is what its writer packed.
func FuzzValue(f *testing.F) {
	for _, plain := range []string{"", "{}", `{"generation":"G","revision":3,"oldest":1,"id":"X","state":{}}`, strings.Repeat("a", 1000)} {
		for _, w := range must(pack(headKey, []byte(plain))) {
			f.Add(w.value)
		}
	}
	f.Add(seal(headKey, flagGzip, []byte("not gzip")))
	f.Add(seal(headKey, flagChunked, make([]byte, 64)))
	f.Add(append([]byte(magic), 2, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 16<<10 { // what packs a thousandfold only costs time
			t.Skip()
		}
		read(t, value)
		// the same as a body whose checksum is right, so that what comes after is reached
		for flags := range byte(flagGzip|flagChunked) + 1 {
			read(t, seal(headKey, flags, value))
		}
	})
}

func read(t *testing.T, value []byte) {
	flags, body, err := unseal(headKey, value)
	if refused(t, err) {
		return
	}
	if flags&flagChunked != 0 {
		_, err := chunkKeys(headKey, body)
		refused(t, err)
		return
	}
	plain, err := open(headKey, flags, body)
	if refused(t, err) {
		return
	}
	h, err := decodeHead(plain)
	if !refused(t, err) && (h.Oldest > h.Revision || h.Generation == "") {
		t.Errorf("accepted %+v", h)
	}
	_, err = decode[record](headKey, plain)
	refused(t, err)
	_, err = decode[[]member](headKey, plain)
	refused(t, err)
}

func refused(t *testing.T, err error) bool {
	if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, ErrNewerFormat) {
		t.Errorf("refused without a reason: %v", err)
	}
	return err != nil
}

func must(w []write, err error) []write {
	if err != nil {
		panic(err)
	}
	return w
}

func TestPack_ComesBack(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		plain := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 2000).Draw(r, "part"), rapid.IntRange(0, 400).Draw(r, "times"))
		if rapid.Bool().Draw(r, "noise") {
			for i := range plain {
				plain[i] ^= byte(i*i*31 + i>>3)
			}
		}
		writes := must(pack("objects/x", plain))
		values := map[string][]byte{}
		for _, w := range writes {
			values[w.key] = w.value
			if len(w.value) > 512<<10*3/4 {
				r.Fatalf("a value of %d bytes", len(w.value))
			}
		}
		flags, body, err := unseal("objects/x", values["objects/x"])
		if err != nil {
			r.Fatal(err)
		}
		if flags&flagChunked != 0 {
			keys, err := chunkKeys("objects/x", body)
			if err != nil {
				r.Fatal(err)
			}
			body = nil
			for _, key := range keys {
				_, chunk, err := unseal(key, values[key])
				if err != nil {
					r.Fatal(err)
				}
				body = append(body, chunk...)
			}
		}
		back, err := open("objects/x", flags, body)
		if err != nil || !bytes.Equal(back, plain) {
			r.Fatalf("%d bytes came back as %d: %v", len(plain), len(back), err)
		}
	})
}

func TestNextIndex(t *testing.T) {
	for _, c := range []struct {
		name            string
		since, answered uint64
		want            uint64
	}{
		{"forwards", 5, 9, 9}, {"the same", 5, 5, 5}, {"backwards", 9, 5, 0}, {"zero at the start", 0, 0, 1}, {"zero later", 5, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := nextIndex(c.since, c.answered); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestHead_Refused(t *testing.T) {
	for _, text := range []string{"", "null", "{}", `{"generation":"a/b"}`, `{"generation":"G","revision":1}`, `{"generation":"G","revision":1,"oldest":2}`,
		`{"generation":"G","revision":9,"oldest":5,"state":{"revision":1}}`, `{"generation":"G","revision":5,"oldest":5,"state":{"revision":6}}`,
		`{"generation":"G","revision":18446744073709551615,"oldest":1}`} {
		if _, err := decodeHead([]byte(text)); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", text, err)
		}
	}
	good, err := json.Marshal(head{Generation: "G", Revision: 3, Oldest: 2, State: stateRef{Revision: 1, Digest: "d"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodeHead(good); err != nil {
		t.Error(err)
	}
}
