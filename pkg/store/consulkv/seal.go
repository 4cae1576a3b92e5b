package consulkv

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"github.com/sluice-gateway/sluice/pkg/store"
)

// Every value: magic, format, flags, checksum, body. The checksum covers the key, so that a value which stands in the
// wrong place is found out.
const (
	magic         = "slkv"
	formatVersion = 1

	flagGzip    = 1 // the value is compressed
	flagChunked = 2 // the body is the SHA-256 of the chunks, one after another

	checksumSize = 8
	headerSize   = len(magic) + 2 + checksumSize
)

const (
	// maxLoose is up to where compressing costs more than it saves.
	maxLoose = 4 << 10
	// maxBody is how large a body is written whole. Consul takes values, and transactions in Base64, of 512 KiB.
	maxBody = 128 << 10
	// maxChunk is the size of a chunk.
	maxChunk = 256 << 10
	// maxPlain bounds what a value may hold, before and after.
	maxPlain = 128 << 20
)

// write is a value on its way to a key below the prefix.
type write struct {
	key   string
	value []byte
}

// pack is the value for a key, after the chunks that it needs.
func pack(key string, plain []byte) ([]write, error) {
	if len(plain) > maxPlain {
		return nil, fmt.Errorf("%s has %d bytes: at most %d can be kept", key, len(plain), maxPlain)
	}
	body, flags := plain, byte(0)
	if len(plain) > maxLoose {
		if small := compress(plain); len(small) < len(plain) {
			body, flags = small, flagGzip
		}
	}
	if len(body) <= maxBody {
		return []write{{key, seal(key, flags, body)}}, nil
	}
	var writes []write
	var list []byte
	for chunk := range chunks(body) {
		sum := sha256.Sum256(chunk)
		list = append(list, sum[:]...)
		writes = append(writes, write{chunkKey(key, sum[:]), seal(chunkKey(key, sum[:]), 0, chunk)})
	}
	return append(writes, write{key, seal(key, flags|flagChunked, list)}), nil
}

func chunks(body []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(body) > 0 {
			n := min(len(body), maxChunk)
			if !yield(body[:n]) {
				return
			}
			body = body[n:]
		}
	}
}

func chunkKey(key string, sum []byte) string { return key + "/" + hex.EncodeToString(sum) }

func compress(plain []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(plain) // a buffer takes all
	_ = w.Close()
	return b.Bytes()
}

func seal(key string, flags byte, body []byte) []byte {
	out := make([]byte, 0, headerSize+len(body))
	out = append(out, magic...)
	out = append(out, formatVersion, flags)
	out = append(out, checksum(key, flags, body)...)
	return append(out, body...)
}

func checksum(key string, flags byte, body []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s %d ", len(key), key, flags)
	h.Write(body)
	return h.Sum(nil)[:checksumSize]
}

// unseal is a value's flags and body.
func unseal(key string, value []byte) (flags byte, body []byte, err error) {
	if len(value) < headerSize || string(value[:len(magic)]) != magic {
		return 0, nil, damaged("%s holds something that sluice did not write", key)
	}
	version, flags := value[len(magic)], value[len(magic)+1]
	if version > formatVersion {
		return 0, nil, fmt.Errorf("%w: %s has format %d, this version reads up to %d", ErrNewerFormat, key, version, formatVersion)
	}
	body = value[headerSize:]
	if version == 0 || flags > flagGzip|flagChunked || !bytes.Equal(value[len(magic)+2:headerSize], checksum(key, flags, body)) {
		return 0, nil, damaged("the checksum of %s is wrong", key)
	}
	return flags, body, nil
}

// chunkKeys are those that a chunked body lists.
func chunkKeys(key string, body []byte) ([]string, error) {
	if len(body) == 0 || len(body)%sha256.Size != 0 || len(body)/sha256.Size > maxPlain/maxChunk+1 {
		return nil, damaged("the list of chunks of %s has %d bytes", key, len(body))
	}
	var keys []string
	for ; len(body) > 0; body = body[sha256.Size:] {
		keys = append(keys, chunkKey(key, body[:sha256.Size]))
	}
	return keys, nil
}

// open is what a whole body holds.
func open(key string, flags byte, body []byte) ([]byte, error) {
	if flags&flagGzip == 0 {
		return body, nil
	}
	r, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, damaged("%s cannot be unpacked: %v", key, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxPlain+1))
	if err != nil {
		return nil, damaged("%s cannot be unpacked: %v", key, err)
	}
	if len(plain) > maxPlain {
		return nil, damaged("%s unpacks to more than %d bytes", key, maxPlain)
	}
	return plain, nil
}

// damaged says what is wrong in Consul, and what can be done about it.
func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s; nothing was changed there: put back the last snapshot of Consul, or import the last export with --replace, "+
		"or delete the keys below the prefix, start anew and apply the policies again", store.ErrDamaged, fmt.Sprintf(format, args...))
}
