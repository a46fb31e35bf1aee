package scratch

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// maxSize is the largest number of bytes for the changes of a batch, so that the entry is
// within structs.MaxEntry.
const maxSize = structs.MaxEntry - state.EntryHead

// sizeOf returns the size of a write in the entry, in bytes.
func (t *Tx) sizeOf(key rowKey, p pending) int {
	c, needed := t.change(key, p)
	if !needed {
		return 0
	}
	size := state.ChangeSize(&c)
	if p.recreated && c.Version != 0 { // the entry deletes the previous object first
		size += state.ChangeSize(&structs.Change{Table: key.table, ID: key.id, Version: c.Version})
	}
	return size
}

// Size returns how many bytes the batch's changes take in the entry.
func (t *Tx) Size() int { return t.size }

// SizeOf returns how many bytes a write of the row would take in the entry.
func (t *Tx) SizeOf(r structs.Row) int {
	return t.sizeOf(rowKey{r.Table(), r.Base().ID}, pending{row: r})
}

// Skipped returns the number of rows that are larger than an entry of their own and were
// skipped, and the name of the first.
func (t *Tx) Skipped() (n int, first string) {
	if n = len(t.skipped); n > 0 {
		first = t.skipped[0].String()
	}
	return n, first
}

// Do has f make the writes of one request. If f returns an error, or if the writes are not
// allowed, they are undone. fits is false, and nothing is written, if the entry has no room
// for the request beside those that it has already. f's error has precedence.
func (t *Tx) Do(f func() error) (fits bool, err error) {
	t.Begin()
	if err = f(); err == nil {
		err = t.refusal
	}
	if err == nil && t.Writes() > structs.MaxChanges {
		err = structs.Errorf(structs.CodeInternal, "the request makes %d changes, more than %d", t.Writes(), structs.MaxChanges)
	}
	if err == nil && (t.size > maxSize || t.needsOwnEntry && t.Writes() == 0) {
		if t.sizeMark > 0 {
			t.Rollback()
			return false, nil
		}
		err = tooLarge(t.size + state.EntryHead)
	}
	if err != nil {
		t.Rollback()
	}
	return true, err
}

// Item calls f, which makes one of the changes of a request with many changes, and reports
// whether the entry has room for it, in bytes and in number. If not, the writes of f are undone, and the request
// repeats it in the next entry. A change that doesn't even fit in an entry of its own is
// skipped, so that it doesn't block the others.
func (t *Tx) Item(f func()) bool { return t.ItemKeeping(0, f) }

// ItemKeeping is Item that keeps kept bytes of the entry free for later writes.
func (t *Tx) ItemKeeping(kept int, f func()) bool {
	writes, seq := len(t.undo), t.seq
	f()
	if len(t.undo) == writes || t.size <= maxSize-kept && len(t.undo) <= structs.MaxChanges {
		return true
	}
	key := t.undo[len(t.undo)-1].key
	t.rollbackTo(writes, seq)
	if writes > 0 {
		return false
	}
	if t.sizeMark > 0 { // the entry contains other requests
		t.needsOwnEntry = true
		return false
	}
	t.skipped = append(t.skipped, key)
	return true
}

// split reports whether the spec of a workload is a separate row, and how many bytes the
// workload's row takes in the entry. It writes or removes the spec's row accordingly.
// before is the workload as the batch saw it, nil for a new one.
func (t *Tx) split(w, before structs.Specced, p pending) (apart bool, size int) {
	key := rowKey{w.Table(), w.Base().ID}
	stored := t.storedSpec(w)
	if stored != nil && before != nil && sameSpec(before, w) {
		p.apart = true
		return true, t.sizeOf(key, p)
	}
	size = t.sizeOf(key, p)
	if size > structs.MaxInlineSpec { // otherwise the spec is certainly below the limit
		now := w.StoredSpec()
		spec, largest, of := state.SpecSize(now)
		same := before != nil && sameSpec(before, w)
		if !same && spec > structs.MaxSpec {
			t.refusal = structs.Errorf(structs.CodeInvalid,
				"the %s's spec takes %d bytes, more than %d: make it smaller; most of it is %s with %d bytes",
				w.Ref().Kind, spec, structs.MaxSpec, specField(w, largest), of).About(string(w.Ref().Kind))
		}
		if t.specRows && spec > structs.MaxInlineSpec {
			// An unchanged spec that is not a separate row comes from a cluster of an
			// earlier schema: the state store moves it, see state.joinSpecs.
			if !same {
				t.Put(now)
			}
			p.apart = true
			return true, t.sizeOf(key, p)
		}
	}
	if stored != nil {
		t.Remove(stored)
	}
	return false, size
}

// specField returns the name in requests of a spec's field.
func specField(w structs.Specced, name string) string {
	if w.Ref().Kind == structs.WorkloadPod { // as in a manifest
		return "spec." + strings.ToLower(name[:1]) + name[1:]
	}
	return structs.SpecField(name)
}

// storedSpec returns the row of a workload's spec as the batch sees it, nil if the spec is
// part of the workload's row.
func (t *Tx) storedSpec(w structs.Specced) *structs.StoredSpec {
	if !t.Base.HasSpecs() && len(t.writtenIDs[structs.TableSpecs]) == 0 {
		return nil // the usual case; a lookup in the base costs more
	}
	return Row[structs.StoredSpec](t, w.Ref().BesideID())
}

// sameSpec reports whether the specs are equal. It is cheap if one is a copy of the other,
// because they share what is large.
func sameSpec(a, b structs.Specced) bool { return reflect.DeepEqual(a.StoredSpec(), b.StoredSpec()) }

// tooLarge returns the error for a request that doesn't fit in an entry.
func tooLarge(size int) error {
	return structs.Errorf(structs.CodeTooLarge,
		"the request takes %d bytes in the servers' log, more than the %d of one entry: split it into smaller requests", size,
		structs.MaxEntry)
}

// String is the row's name in logs.
func (k rowKey) String() string { return fmt.Sprintf("%s/%s", k.table, k.id) }

// Room reports whether the request may make another change, by the number of its changes.
// It keeps a few back for the changes that belong to it: a pod is removed with its manifest,
// spec and actions. Whether the entry has room for the bytes shows when the change is made:
// see Item.
func (t *Tx) Room() bool { return t.Writes() <= structs.MaxChanges-4 }
