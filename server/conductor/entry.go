package conductor

import (
	"fmt"
	"reflect"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// maxSize is how many bytes the changes of a batch may take, so that their entry
// is within structs.MaxEntry.
const maxSize = structs.MaxEntry - state.EntryHead

// sizeOf returns how many bytes a write takes in the entry.
func (t *tx) sizeOf(key rowKey, p pending) int {
	c, needed := t.change(key, p)
	if !needed {
		return 0
	}
	size := state.ChangeSize(&c)
	if p.anew && c.Version != 0 { // deleted first
		size += state.ChangeSize(&structs.Change{Table: key.table, ID: key.id, Version: c.Version})
	}
	return size
}

// item has f make one of the changes of a request that makes many of them, and
// reports whether the entry has room for it. If it hasn't, nothing of f is left, and
// the request goes on with it in the next entry. What doesn't fit in an entry of its
// own never will: it is skipped, so that it holds up nothing else.
func (t *tx) item(f func()) bool { return t.itemBut(0, f) }

// itemBut is item that keeps some bytes of the entry back, for what the request
// writes after it.
func (t *tx) itemBut(kept int, f func()) bool {
	writes, seq := len(t.undo), t.seq
	f()
	if len(t.undo) == writes || t.size <= maxSize-kept {
		return true
	}
	key := t.undo[len(t.undo)-1].key
	t.rollbackTo(writes, seq)
	if writes > 0 {
		return false
	}
	if t.sizeMark > 0 { // there are other requests in the entry
		t.alone = true
		return false
	}
	t.skipped = append(t.skipped, key)
	return true
}

// split says whether the spec of a container stands in a row of its own, and how
// many bytes the container's row takes in the entry. It writes or removes the
// spec's row as it has to be; before is the container as the batch saw it, nil for a
// new one.
func (t *tx) split(c, before *structs.Container, p pending) (apart bool, size int) {
	key := rowKey{structs.TableContainers, c.ID}
	stored := t.storedSpec(c.ID)
	if stored != nil && before != nil && sameSpec(&before.Spec, &c.Spec) {
		p.apart = true
		return true, t.sizeOf(key, p)
	}
	size = t.sizeOf(key, p)
	if size > structs.MaxInlineSpec { // else the spec is below it for sure
		spec, largest, of := state.SpecSize(&c.Spec)
		same := before != nil && sameSpec(&before.Spec, &c.Spec)
		if !same && spec > structs.MaxSpec {
			t.refusal = structs.Errorf(structs.CodeInvalid, "the container's spec takes %d bytes, more than %d: make it smaller; most of it is %s with %d bytes",
				spec, structs.MaxSpec, structs.SpecField(largest), of).About(structs.KindContainer)
		}
		if t.specRows && spec > structs.MaxInlineSpec {
			// The same one without a row of its own is that of a cluster of an
			// earlier schema: the state store moves it, see state.joinSpecs.
			if !same {
				t.put(&structs.StoredSpec{Meta: structs.Meta{ID: c.ID, Seq: c.Seq, ProjectID: c.ProjectID}, Spec: c.Spec})
			}
			p.apart = true
			return true, t.sizeOf(key, p)
		}
	}
	if stored != nil {
		t.remove(stored)
	}
	return false, size
}

// storedSpec returns the row of a container's spec as the batch sees it, nil if the
// spec stands in the container's row.
func (t *tx) storedSpec(id string) *structs.StoredSpec {
	if !t.base.HasSpecs() && len(t.own[structs.TableSpecs]) == 0 {
		return nil // as nearly always; a look into the base costs more
	}
	return row[structs.StoredSpec](t, id)
}

// sameSpec reports whether the specs are equal. It is cheap for those of which one
// is a copy of the other: they share what is large.
func sameSpec(a, b *structs.PrivateSpec) bool { return reflect.DeepEqual(a, b) }

// tooLarge refuses a request that doesn't fit in an entry.
func tooLarge(size int) error {
	return structs.Errorf(structs.CodeTooLarge, "what is asked for takes %d bytes in the servers' log, more than the %d of one entry: ask for less at once", size, structs.MaxEntry)
}

// String is how logs name a row.
func (k rowKey) String() string { return fmt.Sprintf("%s/%s", k.table, k.id) }
