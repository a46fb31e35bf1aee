package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// The layout of bbolt's pages, as far as this check needs it. The check comes before
// bbolt opens the file, because bbolt follows any offset that it finds.
const (
	pageHead    = 16 // id, flags, count, overflow
	elementSize = 16
	branchFlag  = 1
	leafFlag    = 2
	bucketFlag  = 1 // of a leaf's element

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaSummed  = 56 // bytes before the checksum
	metaSize    = metaSummed + 8

	maxDepth = 64 // enough for a tree with two keys per page and more pages than a file can have
)

// boltMeta is a meta page, which names the current root.
type boltMeta struct {
	pageSize   uint32
	root, txid uint64
	pages      uint64 // number of pages; all pages in use come before this one
}

func parseMeta(b []byte) (m boltMeta, ok bool) {
	b = b[pageHead:]
	sum := fnv.New64a()
	sum.Write(b[:metaSummed])
	n := binary.NativeEndian
	if n.Uint32(b) != metaMagic || n.Uint32(b[4:]) != metaVersion || n.Uint64(b[metaSummed:]) != sum.Sum64() {
		return m, false
	}
	return boltMeta{pageSize: n.Uint32(b[8:]), root: n.Uint64(b[16:]), pages: n.Uint64(b[40:]), txid: n.Uint64(b[48:])}, true
}

// readMeta reads both meta pages and returns the newer one. Both must be intact and
// belong to consecutive transactions: otherwise bbolt would fall back to the state
// before the last transaction, and a vote would be forgotten.
func readMeta(f io.ReaderAt, size int64) (boltMeta, error) {
	var metas [2]boltMeta
	at := int64(0)
	for i := range metas {
		var b [pageHead + metaSize]byte
		if _, err := f.ReadAt(b[:], at); err == io.EOF {
			return boltMeta{}, fmt.Errorf("it is cut off after %d bytes", size)
		} else if err != nil {
			return boltMeta{}, err
		}
		var ok bool
		if metas[i], ok = parseMeta(b[:]); !ok {
			return boltMeta{}, fmt.Errorf("meta page %d does not have its checksum", i)
		}
		at = int64(metas[0].pageSize)
	}
	older, newer := metas[0], metas[1]
	if older.txid > newer.txid {
		older, newer = newer, older
	}
	switch page := newer.pageSize; {
	case page < 1024 || page > 1<<24 || page&(page-1) != 0 || older.pageSize != page:
		return newer, fmt.Errorf("its meta page gives a page size of %d bytes", page)
	case newer.txid != older.txid+1:
		return newer, fmt.Errorf("its meta pages are of transactions %d and %d", older.txid, newer.txid)
	case newer.pages < 4 || newer.pages > uint64(size)/uint64(page):
		return newer, fmt.Errorf("it is cut off after %d bytes: it has %d pages of %d", size, newer.pages, page)
	}
	return newer, nil
}

// pageWalk visits all reachable pages.
type pageWalk struct {
	boltMeta
	data     []byte
	seen     []uint64 // one bit per page
	used     int64    // pages in use
	progress func(n int64)
}

// walkPages checks that all that bbolt may read lies within the file, that no page is
// used twice, and that keys are in order. bbolt checks that, too, but panics at the
// first fault while a goroutine of its own goes on reading: the file must not be
// closed then. It returns how many bytes of the file are in use.
func walkPages(f *os.File, m boltMeta, progress func(int64)) (used int64, err error) {
	data, err := unix.Mmap(int(f.Fd()), 0, int(m.pages)*int(m.pageSize), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnchecked, err)
	}
	defer unix.Munmap(data)
	w := &pageWalk{boltMeta: m, data: data, seen: make([]uint64, m.pages/64+1), used: 2, progress: progress}
	if err := w.page(m.root, 0, nil, nil); err != nil {
		return 0, err
	}
	return w.used * int64(m.pageSize), nil
}

// page checks a page and what is below it. Its keys are at least least, and below
// below; nil is no bound.
func (w *pageWalk) page(id uint64, depth int, least, below []byte) error {
	if id < 2 || id >= w.pages || depth > maxDepth {
		return fmt.Errorf("page %d is out of bounds", id)
	}
	b := w.data[id*uint64(w.pageSize):]
	run := 1 + uint64(binary.NativeEndian.Uint32(b[12:]))
	if binary.NativeEndian.Uint64(b) != id || run > w.pages-id {
		return fmt.Errorf("page %d is not a page, or out of bounds", id)
	}
	for i := id; i < id+run; i++ {
		if w.seen[i/64]&(1<<(i%64)) != 0 {
			return fmt.Errorf("page %d is used twice", i)
		}
		w.seen[i/64] |= 1 << (i % 64)
	}
	w.used += int64(run)
	w.progress(int64(run))
	return w.content(id, b[:run*uint64(w.pageSize)], depth, least, below)
}

// content checks the content of a page, or of an inline bucket, which is stored in a
// value.
func (w *pageWalk) content(id uint64, b []byte, depth int, least, below []byte) error {
	flags, count := binary.NativeEndian.Uint16(b[8:]), int(binary.NativeEndian.Uint16(b[10:]))
	if flags != branchFlag && flags != leafFlag {
		return fmt.Errorf("page %d is neither branch nor leaf", id)
	}
	if pageHead+count*elementSize > len(b) || flags == branchFlag && count == 0 {
		return outOfBounds(id)
	}
	for i := range count {
		key, value, ok := element(b, flags, i)
		if !ok {
			return outOfBounds(id)
		}
		order := bytes.Compare(key, least)
		if least != nil && (order < 0 || order == 0 && i > 0) || below != nil && bytes.Compare(key, below) >= 0 {
			return fmt.Errorf("the keys of page %d are not in order", id)
		}
		least = key
		var err error
		if flags == leafFlag {
			err = w.value(id, b[pageHead+i*elementSize:], value, depth)
		} else {
			until := below
			if i+1 < count {
				if until, _, ok = element(b, flags, i+1); !ok {
					return outOfBounds(id)
				}
			}
			err = w.page(binary.NativeEndian.Uint64(b[pageHead+i*elementSize+8:]), depth+1, key, until)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func outOfBounds(id uint64) error {
	return fmt.Errorf("an element of page %d is out of bounds", id)
}

// element returns the key of an element, and its value if it is a leaf's; ok is false
// if they don't lie in the page.
func element(b []byte, flags uint16, i int) (key, value []byte, ok bool) {
	at, n := uint64(pageHead+i*elementSize), binary.NativeEndian
	var sizes [2]uint64 // of key and value
	e := b[at:]
	if flags == branchFlag {
		at, sizes[0] = at+uint64(n.Uint32(e)), uint64(n.Uint32(e[4:]))
	} else {
		at, sizes[0], sizes[1] = at+uint64(n.Uint32(e[4:])), uint64(n.Uint32(e[8:])), uint64(n.Uint32(e[12:]))
	}
	split, end := at+sizes[0], at+sizes[0]+sizes[1]
	if end > uint64(len(b)) {
		return nil, nil, false
	}
	return b[at:split], b[split:end], true
}

// value checks the value of a leaf's element e, which may be a bucket.
func (w *pageWalk) value(id uint64, e, value []byte, depth int) error {
	n := binary.NativeEndian
	if n.Uint32(e) == 0 {
		return nil
	}
	if n.Uint32(e) != bucketFlag || depth > maxDepth || len(value) < 16 {
		return fmt.Errorf("page %d holds an element that is neither value nor bucket", id)
	}
	switch root, inline := n.Uint64(value), value[16:]; {
	case root != 0:
		return w.page(root, depth+1, nil, nil)
	case len(inline) < pageHead:
		return outOfBounds(id)
	default:
		return w.content(id, inline, maxDepth, nil, nil) // an inline bucket contains no bucket
	}
}
