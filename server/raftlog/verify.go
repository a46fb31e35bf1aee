package raftlog

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/stackforge/magnum/server/state"
)

// LogCheck describes a check of a raft.db.
type LogCheck struct {
	Path          string // of the file
	SnapshotIndex uint64 // index of the newest snapshot; 0 if there is none
	SnapshotTerm  uint64 // term of the entry at that index
}

// LogFacts is the result of a check of a whole raft.db.
type LogFacts struct {
	First, Last uint64            // indexes of the first and last entry; 0 if there are none
	LastTerm    uint64            // the highest term of the entries and the snapshot
	Foreign     bool              // the entries belong to another history than the snapshot
	Values      map[string][]byte // of the stable store
	Size        int64             // bytes of its pages; bytes after them were never written
	Used        int64             // bytes of the pages in use
}

// number returns a number of the stable store; ok is false if there is none.
func (f LogFacts) number(key string) (n uint64, ok bool) {
	if b := f.Values[key]; len(b) == 8 {
		return binary.BigEndian.Uint64(b), true
	}
	return 0, false
}

// ErrUnchecked is the error of a check that could not run: nothing is known to be wrong
// with the file.
var ErrUnchecked = errors.New("it could not be checked")

// readAhead is how many bytes of the file are read at a time.
const readAhead = 1 << 20

// CheckLog reads a whole raft.db and changes nothing. It checks the pages, runs bbolt's
// own check, and checks of each entry that it has its seal, follows the entry before
// it, and can be decoded by this version. progress is called with bytes or pages as the
// check proceeds; it may be nil.
//
// An error means that the file is damaged, except for ErrUnchecked and state.ErrSchema.
// bbolt may panic or fault on a damaged file in spite of the earlier checks, so a
// server runs this in another process (see ChildCheck).
func CheckLog(ctx context.Context, c LogCheck, progress func(n int64)) (facts LogFacts, err error) {
	if progress == nil {
		progress = func(int64) {}
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	f, err := os.Open(c.Path)
	if err != nil {
		return facts, fmt.Errorf("%w: %w", ErrUnchecked, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return facts, fmt.Errorf("%w: %w", ErrUnchecked, err)
	}
	meta, err := readMeta(f, info.Size())
	if err != nil {
		return facts, err
	}
	if err := readThrough(ctx, f, int64(meta.pages)*int64(meta.pageSize), progress); err != nil {
		return facts, err
	}
	facts.Size = int64(meta.pages) * int64(meta.pageSize)
	if facts.Used, err = walkPages(f, meta, progress); err != nil {
		return facts, err
	}
	options := boltOptions()
	options.ReadOnly, options.InitialMmapSize = true, 0
	db, err := bbolt.Open(c.Path, 0, options)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return facts, fmt.Errorf("%w: it is in use by another process", ErrUnchecked)
	}
	if err != nil {
		return facts, err
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		var wrong error // the first error; the channel must be drained
		for err := range tx.Check() {
			wrong = cmp.Or(wrong, err)
		}
		if wrong != nil {
			return wrong
		}
		if err := facts.entries(ctx, tx.Bucket(logsBucket), c, progress); err != nil {
			return err
		}
		return facts.values(tx.Bucket(confBucket))
	})
	return facts, err
}

// readThrough reads the file from beginning to end. Sequential reading is faster than
// following the trees, and it shows that every byte can be read.
func readThrough(ctx context.Context, f io.ReaderAt, size int64, progress func(int64)) error {
	b := make([]byte, min(readAhead, size))
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrUnchecked, ctx.Err())
		}
		n, err := f.ReadAt(b[:min(int64(len(b)), size-at)], at)
		if n == 0 && err != nil {
			return err
		}
		at += int64(n)
		progress(int64(n))
	}
	return nil
}

// entries checks the entries.
func (f *LogFacts) entries(ctx context.Context, b *bbolt.Bucket, c LogCheck, progress func(int64)) error {
	f.LastTerm = c.SnapshotTerm
	if b == nil {
		return errors.New("it has no bucket for entries")
	}
	var term uint64 // of the previous entry
	return b.ForEach(func(key, value []byte) error {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrUnchecked, ctx.Err())
		}
		if len(key) != 8 || value == nil {
			return fmt.Errorf("%x is not the index of an entry", key)
		}
		index := binary.BigEndian.Uint64(key)
		var e raft.Log
		err := decodeLog(value, &e)
		if err == nil {
			err = unsealEntry(&e)
		}
		switch {
		case err != nil:
			return fmt.Errorf("entry %d: %w", index, err)
		case e.Index != index:
			return fmt.Errorf("in the place of entry %d is entry %d", index, e.Index)
		case f.Last != 0 && index != f.Last+1 && index > c.SnapshotIndex+1:
			return fmt.Errorf("entry %d follows on entry %d", index, f.Last)
		case e.Term < term:
			return fmt.Errorf("entry %d is of term %d, and the one before it of term %d", index, e.Term, term)
		case index == c.SnapshotIndex && e.Term != c.SnapshotTerm:
			f.Foreign = true // a kill came between installing the leader's snapshot and deleting these entries
		case index > c.SnapshotIndex && e.Term < c.SnapshotTerm && !f.Foreign:
			return fmt.Errorf("entry %d is of term %d, and the snapshot before it of term %d", index, e.Term, c.SnapshotTerm)
		}
		if f.First == 0 {
			f.First = index
		}
		term, f.Last = e.Term, index
		f.LastTerm = max(f.LastTerm, e.Term)
		if index > c.SnapshotIndex && e.Type == raft.LogCommand {
			if err := state.CheckEntry(e.Data); err != nil {
				return fmt.Errorf("entry %d: %w", index, err)
			}
		}
		progress(int64(len(value)))
		return nil
	})
}

// values checks the values of the stable store.
func (f *LogFacts) values(b *bbolt.Bucket) error {
	f.Values = make(map[string][]byte)
	if b == nil {
		return errors.New("it has no bucket for term and vote")
	}
	most := 0
	err := b.ForEach(func(key, sealed []byte) error {
		value, count, err := unsealValue(key, sealed)
		if err != nil {
			return err
		}
		f.Values[string(key)] = append([]byte(nil), value...)
		most = max(most, count)
		return nil
	})
	if err == nil && most > len(f.Values) {
		err = fmt.Errorf("%d of the %d values of term and vote are gone", most-len(f.Values), most)
	}
	return err
}
