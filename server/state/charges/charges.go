// Package charges counts what each project uses of its quota. What a row is charged for
// follows from what its user wants of it, never from where it runs: a move or the loss of a
// host changes no charge. A row is charged until it is deleted.
//
// Package state keeps a Ledger up to date with the rows, and the conductor's scratch view a
// Batch over it. Package charges knows no limits.
package charges

import (
	"encoding/binary"
	"iter"
	"reflect"
	"sync"

	"github.com/stackforge/magnum/server/state/btree"
	"github.com/stackforge/magnum/server/state/msgpack"
	"github.com/stackforge/magnum/structs"
)

// Charges reports whether rows of the table are charged.
func Charges(table structs.Table) bool {
	switch table {
	case structs.TableContainers, structs.TablePods, structs.TableManifests, structs.TableRCs, structs.TableServices,
		structs.TableBays, structs.TableBayModels, structs.TableNodes:
		return true
	}
	return false
}

// Of returns what a row is charged for, without its volumes.
func Of(row structs.Row) (a structs.Amounts) {
	switch r := row.(type) {
	case *structs.Container:
		a[structs.ResourceContainers] = 1
		a[structs.ResourceMemory], a[structs.ResourceCPU] = int64(r.Spec.Memory), int64(r.Spec.MilliCPU)
		a[structs.ResourceSpecBytes] = sizeOf(reflect.ValueOf(&r.Spec).Elem())
	case *structs.Pod:
		a[structs.ResourceSpecBytes] = sizeOf(reflect.ValueOf(&r.Spec).Elem())
		if r.Found() {
			break // its replication controller is charged for it
		}
		a[structs.ResourcePods] = 1
		a[structs.ResourceMemory], a[structs.ResourceCPU] = requests(&r.Spec)
	case *structs.Manifest:
		a[structs.ResourceSpecBytes] = int64(len(r.Text))
		if r.RC == nil {
			break
		}
		template := &r.RC.Template
		a[structs.ResourceSpecBytes] += sizeOf(reflect.ValueOf(template).Elem())
		if n := int64(r.RC.Replicas); template.Cluster { // elsewhere each pod is charged itself
			memory, cpu := requests(template)
			a[structs.ResourcePods], a[structs.ResourceMemory], a[structs.ResourceCPU] = n, n*memory, n*cpu
		}
	case *structs.RC:
		a[structs.ResourceRCs] = 1
	case *structs.Service:
		a[structs.ResourceServices] = 1
	case *structs.Bay:
		a[structs.ResourceBays], a[structs.ResourceHosts] = 1, int64(r.NodeCount)
		a[structs.ResourceSpecBytes] = int64(len(r.Name) + len(r.DiscoveryURL))
		for key, value := range r.Labels {
			a[structs.ResourceSpecBytes] += int64(len(key) + len(value))
		}
	case *structs.BayModel:
		bare := *r
		bare.Meta = structs.Meta{} // its size changes with the indexes
		a[structs.ResourceSpecBytes] = sizeOf(reflect.ValueOf(&bare).Elem())
	case *structs.Node:
		bare := *r
		bare.Meta = structs.Meta{}
		a[structs.ResourceSpecBytes] = sizeOf(reflect.ValueOf(&bare).Elem())
	}
	// So the sum over all rows of a project can't overflow.
	a[structs.ResourceMemory] = min(a[structs.ResourceMemory], structs.MaxMemory)
	a[structs.ResourceCPU] = min(a[structs.ResourceCPU], structs.MaxMilliCPU)
	return a
}

// requests returns what a pod requests, also one in a cluster.
func requests(s *structs.PodSpec) (memory, milliCPU int64) {
	for i := range s.Containers {
		memory, milliCPU = memory+s.Containers[i].Requests.Memory, milliCPU+s.Containers[i].Requests.MilliCPU
	}
	for i := range s.InitContainers {
		r := &s.InitContainers[i].Requests
		memory, milliCPU = max(memory, r.Memory), max(milliCPU, r.MilliCPU)
	}
	return memory, milliCPU
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// sizeOf returns the encoded size of a struct, without its empty fields.
func sizeOf(v reflect.Value) int64 {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	size, _, _, used := msgpack.Size(v, *buf)
	if cap(used) <= maxKept {
		*buf = used
	}
	return int64(size)
}

// maxKept is the size in bytes of the largest buffer that is used again.
const maxKept = 64 << 10

// volumesOf calls f with each named volume of a row.
func volumesOf(row structs.Row, f func(name string)) {
	switch r := row.(type) {
	case *structs.Container:
		for i := range r.Spec.Volumes {
			if name := r.Spec.Volumes[i].Name; name != "" {
				f(name)
			}
		}
	case *structs.Pod:
		for i := range r.Spec.Volumes {
			if name := r.Spec.Volumes[i].Claim; name != "" {
				f(name)
			}
		}
	}
}

// same reports whether two rows are certainly charged alike, which is the case for most
// reports of agents: they share the spec.
func same(was, now structs.Row) bool {
	switch was := was.(type) {
	case *structs.Container:
		now, ok := now.(*structs.Container)
		return ok && was.ProjectID == now.ProjectID && msgpack.Identical(&was.Spec, &now.Spec)
	case *structs.Pod:
		now, ok := now.(*structs.Pod)
		return ok && was.ProjectID == now.ProjectID && was.Found() == now.Found() && msgpack.Identical(&was.Spec, &now.Spec)
	case *structs.RC, *structs.Service:
		return now != nil && was.Base().ProjectID == now.Base().ProjectID
	}
	return false
}

// Ledger is what all projects use. A copy is a snapshot. The zero value is empty.
type Ledger struct {
	projects btree.Tree[Use] // by project; none for one that uses nothing
	volumes  btree.Tree[int] // by project and name: in how many mounts the volume is
}

// Use is what a project uses.
type Use struct {
	Project string
	structs.Amounts
}

var nothing structs.Amounts // never modified

// Of returns what a project uses. It must not be modified.
func (l *Ledger) Of(projectID string) *structs.Amounts {
	if u := l.projects.Get([]byte(projectID)); u != nil {
		return &u.Amounts
	}
	return &nothing
}

// After returns the projects that use anything, from the first one after the project on, in
// ascending order of their IDs. "" stands for the beginning.
func (l *Ledger) After(projectID string) iter.Seq[*Use] {
	return func(yield func(*Use) bool) {
		it := l.projects.Seek([]byte(projectID))
		for u := it.Next(); u != nil; u = it.Next() {
			if u.Project > projectID && !yield(u) {
				return
			}
		}
	}
}

// volumeKey returns the key of a project's volume in Ledger and Batch.
func volumeKey(projectID, name string) string {
	b := binary.AppendUvarint(make([]byte, 0, len(projectID)+len(name)+2), uint64(len(projectID)))
	return string(append(append(b, projectID...), name...))
}

// Batch is a Ledger with changes that are not in it yet.
type Batch struct {
	base     *Ledger
	projects map[string]*structs.Amounts
	volumes  map[string]int
	last     string // the project that was used last, and what it uses
	lastUse  *structs.Amounts
}

// NewBatch returns a Batch without changes.
func NewBatch(base *Ledger) *Batch { return &Batch{base: base} }

// Of returns what a project uses after the changes. It must not be modified.
func (b *Batch) Of(projectID string) *structs.Amounts {
	if a := b.projects[projectID]; a != nil {
		return a
	}
	return b.base.Of(projectID)
}

// use returns what a project uses, to be modified.
func (b *Batch) use(projectID string) *structs.Amounts {
	if b.lastUse != nil && b.last == projectID {
		return b.lastUse
	}
	a := b.projects[projectID]
	if a == nil {
		own := *b.base.Of(projectID)
		if a = &own; b.projects == nil {
			b.projects = make(map[string]*structs.Amounts)
		}
		b.projects[projectID] = a
	}
	b.last, b.lastUse = projectID, a
	return a
}

// Replace replaces the charges of a row by those of another one. was is nil for a new row,
// now for a deleted one.
func (b *Batch) Replace(was, now structs.Row) {
	if was == now || was != nil && now != nil && same(was, now) {
		return
	}
	if was != nil {
		b.add(was, -1)
	}
	if now != nil {
		b.add(now, 1)
	}
}

func (b *Batch) add(row structs.Row, sign int64) {
	charge, use := Of(row), b.use(row.Base().ProjectID)
	for r := range charge {
		use[r] += sign * charge[r]
	}
	volumesOf(row, func(name string) {
		key := volumeKey(row.Base().ProjectID, name)
		before := b.mounts(key)
		if b.volumes == nil {
			b.volumes = make(map[string]int)
		}
		b.volumes[key] = before + int(sign)
		if before == 0 || before+int(sign) == 0 {
			use[structs.ResourceVolumes] += sign
		}
	})
}

// Takes returns what a new row would be charged for, with the volumes that nothing else has.
func (b *Batch) Takes(row structs.Row) structs.Amounts {
	charge := Of(row)
	seen := make(map[string]bool)
	volumesOf(row, func(name string) {
		if key := volumeKey(row.Base().ProjectID, name); !seen[key] && b.mounts(key) == 0 {
			seen[key] = true
			charge[structs.ResourceVolumes]++
		}
	})
	return charge
}

// mounts returns in how many mounts a volume is.
func (b *Batch) mounts(key string) int {
	if n, ok := b.volumes[key]; ok {
		return n
	}
	if n := b.base.volumes.Get([]byte(key)); n != nil {
		return *n
	}
	return 0
}

// Apply writes the changes of a batch over l into l, which may be a copy of the batch's base.
// It reports whether a project uses less of anything.
func (l *Ledger) Apply(epoch uint64, b *Batch) (shrunk bool) {
	for project, a := range b.projects {
		was := b.base.Of(project)
		if *a == *was {
			continue
		}
		for r := range a {
			shrunk = shrunk || a[r] < was[r]
		}
		if *a == nothing {
			l.projects.Remove(epoch, []byte(project))
		} else {
			l.projects.Set(epoch, []byte(project), &Use{project, *a})
		}
	}
	for key, n := range b.volumes {
		if n == 0 {
			l.volumes.Remove(epoch, []byte(key))
		} else {
			l.volumes.Set(epoch, []byte(key), &n)
		}
	}
	return shrunk
}
