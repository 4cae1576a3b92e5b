package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// The form of a bbolt file, version 2. Numbers are in the byte order of the machine.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf's element

	pageHeaderSize   = 16
	elementSize      = 16
	bucketHeaderSize = 16
	metaSize         = 64
	maxDepth         = 64
)

// meta is the part of a meta page that is needed here.
type meta struct {
	pageSize       uint64
	root, freelist uint64
	pages          uint64 // the high-water mark: every page in use is below it
	tx             uint64
}

// verify reads the file's structure and refuses what would lead bbolt outside the file or round in circles. It reads
// plainly, so a file that is too short or cannot be read gives an error, not a fault.
func verify(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	m, err := readMeta(file, info.Size())
	if err != nil {
		return err
	}
	if need := m.pages * m.pageSize; need > uint64(info.Size()) {
		return damaged("the file is cut short: it has %d of at least %d bytes", info.Size(), need)
	}
	w := &walker{file: file, meta: m, seen: make([]bool, m.pages)}
	if err := w.freelist(); err != nil {
		return damaged("%v", err)
	}
	if err := w.tree(m.root, nil, nil, 0); err != nil {
		return damaged("%v", err)
	}
	return nil
}

// readMeta returns the newer of the two meta pages. One that is not whole is damage: a commit writes it in one disk
// sector, so no crash explains it, and bbolt would go back to the state before the last commit without a word.
func readMeta(file io.ReaderAt, size int64) (meta, error) {
	first, err := parseMeta(file, 0)
	if errors.Is(err, io.EOF) {
		return meta{}, damaged("the file is cut short: it has only %d bytes", size)
	}
	if err != nil {
		return meta{}, err
	}
	second, err := parseMeta(file, int64(first.pageSize))
	if errors.Is(err, io.EOF) {
		return meta{}, damaged("the file is cut short: it has only %d bytes", size)
	}
	if err != nil {
		return meta{}, err
	}
	if second.tx > first.tx {
		return second, nil
	}
	return first, nil
}

func parseMeta(file io.ReaderAt, offset int64) (meta, error) {
	buf := make([]byte, pageHeaderSize+metaSize)
	if _, err := file.ReadAt(buf, offset); err != nil {
		return meta{}, err
	}
	b, order := buf[pageHeaderSize:], binary.NativeEndian
	if magic := order.Uint32(b); magic != boltMagic {
		if offset == 0 {
			return meta{}, fmt.Errorf("%w: it does not begin as one, or its first bytes are damaged", ErrNotAStore)
		}
		return meta{}, damaged("its second meta page is overwritten")
	}
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	if sum.Sum64() != order.Uint64(b[56:]) {
		return meta{}, damaged("the checksum of the meta page at byte %d is wrong", offset)
	}
	if v := order.Uint32(b[4:]); v != boltVersion {
		return meta{}, fmt.Errorf("%w: its bbolt version is %d", ErrNewerFormat, v)
	}
	m := meta{pageSize: uint64(order.Uint32(b[8:])), root: order.Uint64(b[16:]), freelist: order.Uint64(b[32:]),
		pages: order.Uint64(b[40:]), tx: order.Uint64(b[48:])}
	if m.pageSize < 512 || m.pageSize > 1<<24 || m.pageSize&(m.pageSize-1) != 0 || m.pages > 1<<40/m.pageSize {
		return meta{}, damaged("the meta page at byte %d has impossible sizes", offset)
	}
	return m, nil
}

// walker follows every page from the root, each once.
type walker struct {
	file io.ReaderAt
	meta meta
	seen []bool // by page: in use or free
}

type page struct {
	id    uint64
	flags uint16
	count int
	data  []byte // all of it, the header and the pages it overflows into included
}

// read reads a page and marks what it covers as seen.
func (w *walker) read(id uint64) (page, error) {
	if id < 2 || id >= w.meta.pages {
		return page{}, fmt.Errorf("page %d is named but does not exist", id)
	}
	header := make([]byte, pageHeaderSize)
	if _, err := w.file.ReadAt(header, int64(id*w.meta.pageSize)); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	p := parsePage(header)
	last := id + uint64(binary.NativeEndian.Uint32(header[12:]))
	if p.id != id || last >= w.meta.pages {
		return page{}, fmt.Errorf("page %d: its header is wrong", id)
	}
	for i := id; i <= last; i++ {
		if w.seen[i] {
			return page{}, fmt.Errorf("page %d is used twice", i)
		}
		w.seen[i] = true
	}
	p.data = make([]byte, (last-id+1)*w.meta.pageSize)
	if _, err := w.file.ReadAt(p.data, int64(id*w.meta.pageSize)); err != nil {
		return page{}, fmt.Errorf("page %d: %w", id, err)
	}
	return p, nil
}

func parsePage(b []byte) page {
	order := binary.NativeEndian
	return page{id: order.Uint64(b), flags: order.Uint16(b[8:]), count: int(order.Uint16(b[10:])), data: b}
}

// freelist marks the free pages, so that none of them can be in the tree.
func (w *walker) freelist() error {
	p, err := w.read(w.meta.freelist)
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	ids, count := p.data[pageHeaderSize:], uint64(p.count)
	if p.count == 0xFFFF { // then the number stands in the first place
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if p.flags != flagFreelist || count > uint64(len(ids)/8) {
		return fmt.Errorf("free list: page %d is none", p.id)
	}
	for i := range count {
		id := binary.NativeEndian.Uint64(ids[i*8:])
		if id < 2 || id >= w.meta.pages || w.seen[id] {
			return fmt.Errorf("free list: page %d cannot be free", id)
		}
		w.seen[id] = true
	}
	return nil
}

// tree checks a page and all below it. Its keys are from low, and below high unless that is nil.
func (w *walker) tree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d: the tree is too deep", id)
	}
	p, err := w.read(id)
	if err != nil {
		return err
	}
	if p.count == 0 && depth > 0 {
		return fmt.Errorf("page %d is empty", id)
	}
	elements, err := p.elements(low, high)
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	for i, e := range elements {
		switch {
		case p.flags == flagBranch:
			end := high
			if i+1 < len(elements) {
				end = elements[i+1].key
			}
			err = w.tree(e.child, e.key, end, depth+1)
		case e.isBucket:
			err = w.bucket(e.value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket checks a bucket, which lies in its own pages or, when it is small, in the value itself. The store's buckets
// hold no others, so a bucket in a bucket is only met in a damaged file; seen bounds it all the same.
func (w *walker) bucket(value []byte) error {
	if len(value) < bucketHeaderSize {
		return errors.New("a bucket has no header")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return w.tree(root, nil, nil, 0)
	}
	if len(value) < bucketHeaderSize+pageHeaderSize {
		return errors.New("a small bucket has no page")
	}
	p := parsePage(value[bucketHeaderSize:])
	elements, err := p.elements(nil, nil)
	if err != nil {
		return fmt.Errorf("a small bucket: %w", err)
	}
	for _, e := range elements {
		if p.flags != flagLeaf || e.isBucket {
			return errors.New("a small bucket holds more than values")
		}
	}
	return nil
}

type element struct {
	key, value []byte
	child      uint64
	isBucket   bool
}

// elements reads what the page lists, all of it within the page and in the order of its keys.
func (p page) elements(low, high []byte) ([]element, error) {
	if p.flags != flagBranch && p.flags != flagLeaf || p.flags == flagBranch && p.count == 0 {
		return nil, fmt.Errorf("its kind %#x is wrong", p.flags)
	}
	if pageHeaderSize+p.count*elementSize > len(p.data) {
		return nil, errors.New("it lists more than it can hold")
	}
	elements := make([]element, p.count)
	for i := range elements {
		e, err := p.element(pageHeaderSize + i*elementSize)
		if err != nil {
			return nil, fmt.Errorf("its place %d: %w", i, err)
		}
		below := i == 0 && bytes.Compare(e.key, low) < 0 || i > 0 && bytes.Compare(e.key, elements[i-1].key) <= 0
		if below || high != nil && bytes.Compare(e.key, high) >= 0 {
			return nil, fmt.Errorf("its place %d: the key is out of order", i)
		}
		elements[i] = e
	}
	return elements, nil
}

func (p page) element(offset int) (element, error) {
	b, order := p.data[offset:], binary.NativeEndian
	var e element
	var start, keySize, valueSize uint64
	if p.flags == flagBranch {
		start, keySize, e.child = uint64(order.Uint32(b)), uint64(order.Uint32(b[4:])), order.Uint64(b[8:])
	} else {
		e.isBucket = order.Uint32(b) == flagBucket
		start, keySize, valueSize = uint64(order.Uint32(b[4:])), uint64(order.Uint32(b[8:])), uint64(order.Uint32(b[12:]))
		if flags := order.Uint32(b); flags > flagBucket {
			return e, fmt.Errorf("its flags %#x are wrong", flags)
		}
	}
	if start < elementSize || start+keySize+valueSize > uint64(len(b)) {
		return e, errors.New("its bytes lie outside the page")
	}
	e.key, e.value = b[start:start+keySize], b[start+keySize:start+keySize+valueSize]
	return e, nil
}
