package raftlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
)

// The layout of a bbolt file, as far as checkBoltFile needs it. All numbers are
// little endian: magnum runs on such machines only, and bbolt writes its
// structs as they are in memory.
const (
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	boltPageHead = 16 // id, flags (2 bytes), count (2), overflow (4)
	boltMetaSize = 64 // magic, version, page size, flags (4 each); root, sequence, freelist, high water, transaction, checksum (8 each)

	boltElement    = 16 // bytes of an element's entry in a page
	boltBucketHead = 16 // root, sequence

	boltBranch = 0x01
	boltLeaf   = 0x02

	boltBucket = 0x01 // flag of a leaf's element whose value is a bucket
)

// boltFile walks the pages of a bbolt file.
type boltFile struct {
	file     *os.File
	pageSize uint64
	pages    uint64 // behind the last one in use
	seen     map[uint64]bool
}

// checkBoltFile checks the structure of a bbolt file before bbolt maps it into
// memory: bbolt trusts what it maps, so that a file that was cut or damaged
// ends the process with a signal, or with a panic in a goroutine of its own.
// No file, or an empty one, is right: it is yet to be written.
func checkBoltFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	if stat.Size() == 0 {
		return nil
	}
	b := &boltFile{file: f, seen: make(map[uint64]bool)}
	if err := b.check(uint64(stat.Size())); err != nil {
		return fmt.Errorf("%s is damaged: %w: %s", path, err, restoreHint)
	}
	return nil
}

func (b *boltFile) check(size uint64) error {
	root, err := b.meta(size)
	if err != nil {
		return err
	}
	if need := b.pages * b.pageSize; size < need {
		return fmt.Errorf("it has %d bytes, and %d are in use: it was cut off", size, need)
	}
	return b.walk(root)
}

// meta reads the newer of the two meta pages that is valid, as bbolt does: the
// other one is that of the transaction before.
func (b *boltFile) meta(size uint64) (root uint64, err error) {
	var newest uint64
	// The second meta page is where the first one says. If that one is damaged,
	// the size of a page is this machine's.
	pageSizes := []uint64{0, uint64(os.Getpagesize())}
	for i := 0; i < len(pageSizes); i++ {
		at := pageSizes[i]
		m := make([]byte, boltPageHead+boltMetaSize)
		if at+uint64(len(m)) > size {
			continue
		}
		if _, err := b.file.ReadAt(m, int64(at)); err != nil {
			return 0, err
		}
		m = m[boltPageHead:]
		pageSize := uint64(binary.LittleEndian.Uint32(m[8:]))
		sum := fnv.New64a()
		sum.Write(m[:56])
		if binary.LittleEndian.Uint32(m) != boltMagic || binary.LittleEndian.Uint32(m[4:]) != boltVersion ||
			binary.LittleEndian.Uint64(m[56:]) != sum.Sum64() || pageSize < 512 || pageSize > 1<<20 {
			continue
		}
		if i == 0 {
			pageSizes[1] = pageSize
		}
		if txid := binary.LittleEndian.Uint64(m[48:]); b.pageSize == 0 || txid > newest {
			newest, b.pageSize = txid, pageSize
			root, b.pages = binary.LittleEndian.Uint64(m[16:]), binary.LittleEndian.Uint64(m[40:])
		}
	}
	if b.pageSize == 0 {
		return 0, errors.New("neither of its meta pages is valid")
	}
	if b.pages > 1<<50/b.pageSize {
		return 0, fmt.Errorf("it claims %d pages", b.pages)
	}
	return root, nil
}

// walk checks the page and all that are reached from it.
func (b *boltFile) walk(id uint64) error {
	page, err := b.page(id)
	if err != nil {
		return err
	}
	return b.elements(id, page)
}

// elements checks that the elements of a page lie within it, and walks to the
// pages that they point to. A leaf's element is flags, position, sizes of key
// and value; a branch's is position, size of key, page. Positions count from
// the element itself.
func (b *boltFile) elements(id uint64, page []byte) error {
	leaf := binary.LittleEndian.Uint16(page[8:]) == boltLeaf
	count := int(binary.LittleEndian.Uint16(page[10:]))
	if boltPageHead+boltElement*count > len(page) {
		return fmt.Errorf("page %d has no room for %d elements", id, count)
	}
	if !leaf && count == 0 {
		return fmt.Errorf("page %d leads nowhere", id)
	}
	var last []byte
	for i := range count {
		e := page[boltPageHead+boltElement*i:]
		word := func(n int) uint64 { return uint64(binary.LittleEndian.Uint32(e[4*n:])) }
		start, size, value := word(0), word(1), uint64(0)
		if leaf {
			start, size, value = word(1), word(2), word(3)
		}
		if start+size+value > uint64(len(e)) {
			return fmt.Errorf("page %d: element %d lies outside", id, i)
		}
		key := e[start : start+size]
		if i > 0 && bytes.Compare(key, last) <= 0 {
			return fmt.Errorf("page %d: element %d is out of order", id, i)
		}
		last = key
		var err error
		switch {
		case !leaf:
			err = b.walk(binary.LittleEndian.Uint64(e[8:]))
		case word(0)&boltBucket != 0:
			err = b.bucket(id, e[start+size:start+size+value])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket walks to the root of a bucket, which stands in the value itself if the
// bucket is small.
func (b *boltFile) bucket(id uint64, value []byte) error {
	if len(value) < boltBucketHead {
		return fmt.Errorf("page %d: a bucket is cut off", id)
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return b.walk(root)
	}
	inline := value[boltBucketHead:]
	if len(inline) < boltPageHead || binary.LittleEndian.Uint16(inline[8:]) != boltLeaf {
		return fmt.Errorf("page %d: a bucket in it is damaged", id)
	}
	return b.elements(id, inline)
}

// page reads a page with all that overflows it.
func (b *boltFile) page(id uint64) ([]byte, error) {
	if id < 2 || id >= b.pages {
		return nil, fmt.Errorf("page %d is not one of 2..%d", id, b.pages)
	}
	head := make([]byte, boltPageHead)
	if _, err := b.file.ReadAt(head, int64(id*b.pageSize)); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	flags, overflow := binary.LittleEndian.Uint16(head[8:]), uint64(binary.LittleEndian.Uint32(head[12:]))
	if self := binary.LittleEndian.Uint64(head); self != id {
		return nil, fmt.Errorf("page %d calls itself %d", id, self)
	}
	if flags != boltBranch && flags != boltLeaf {
		return nil, fmt.Errorf("page %d is of kind %#x", id, flags)
	}
	if id+overflow >= b.pages {
		return nil, fmt.Errorf("page %d reaches to %d of %d", id, id+overflow, b.pages)
	}
	for p := id; p <= id+overflow; p++ {
		if b.seen[p] {
			return nil, fmt.Errorf("page %d is used twice", p)
		}
		b.seen[p] = true
	}
	page := make([]byte, (1+overflow)*b.pageSize)
	if _, err := b.file.ReadAt(page, int64(id*b.pageSize)); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	return page, nil
}
