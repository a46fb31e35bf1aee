package btree

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// check panics if the tree violates an invariant.
func (t *Tree[V]) check(tb testing.TB) {
	tb.Helper()
	n, depth := 0, -1
	var walk func(c child[V], level int, low, high string)
	walk = func(c child[V], level int, low, high string) {
		switch {
		case c.leaf != nil:
			if depth >= 0 && depth != level {
				tb.Fatalf("leaves at levels %d and %d", depth, level)
			}
			depth = level
			l := c.leaf
			n += l.n
			if l.n == 0 || l.n > fanout || !slices.IsSorted(l.keys.text[:l.n]) || l.keys.text[0] < low ||
				high != "" && l.keys.text[l.n-1] >= high {
				tb.Fatalf("leaf %q is not within %q and %q", l.keys.text[:l.n], low, high)
			}
			for i := range l.n {
				if l.keys.heads[i] != headOf(l.keys.text[i]) {
					tb.Fatalf("key %q has the head %x", l.keys.text[i], l.keys.heads[i])
				}
			}
			for i := l.n; i < fanout; i++ {
				if l.keys.text[i] != "" || l.values[i] != nil {
					tb.Fatalf("a leaf of %d holds %q at %d", l.n, l.keys.text[i], i)
				}
			}
		case c.inner != nil:
			in := c.inner
			if in.n == 0 || in.n > fanout {
				tb.Fatalf("an inner node of %d", in.n)
			}
			for i := range in.n {
				from, to := low, high
				if i > 0 {
					if from = in.keys.text[i]; in.keys.heads[i] != headOf(from) {
						tb.Fatalf("key %q has the head %x", from, in.keys.heads[i])
					}
				}
				if i+1 < in.n {
					to = in.keys.text[i+1]
				}
				walk(in.children[i], level+1, from, to)
			}
		default:
			if t.size != 0 {
				tb.Fatal("a child is neither leaf nor inner node")
			}
		}
	}
	walk(t.root, 0, "", "")
	if n != t.size {
		tb.Fatalf("the tree of size %d holds %d", t.size, n)
	}
}

// all returns the tree's values from the key on.
func (t *Tree[V]) all(start string) (values []*V) {
	for it := t.Seek([]byte(start)); ; {
		v := it.Next()
		if v == nil {
			return values
		}
		values = append(values, v)
	}
}

// TestTreeIsAMap compares the tree with a map during random writes. The tree of an earlier
// write must not change through later writes.
func TestTreeIsAMap(t *testing.T) {
	for seed := range uint64(40) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		span := []int{8, 100, 3000}[seed%3]
		var now Tree[string]
		model := make(map[string]*string)
		type old struct {
			tree  Tree[string]
			model map[string]*string
		}
		var olds []old
		same := func(got Tree[string], want map[string]*string) {
			t.Helper()
			got.check(t)
			keys := slices.Sorted(maps.Keys(want))
			from := ""
			if len(keys) > 0 && rnd.IntN(2) == 0 {
				if from = keys[rnd.IntN(len(keys))]; rnd.IntN(2) == 0 {
					from += "x" // between two keys
				}
			}
			i, _ := slices.BinarySearch(keys, from)
			var values []*string
			for _, key := range keys[i:] {
				values = append(values, want[key])
			}
			if all := got.all(from); !slices.Equal(all, values) {
				t.Fatalf("seed %d: from %q on there are %d values, want %d", seed, from, len(all), len(values))
			}
			for key, value := range want {
				if got.Get([]byte(key)) != value {
					t.Fatalf("seed %d: %q isn't found", seed, key)
				}
			}
			if got.Get([]byte("none")) != nil {
				t.Fatalf("seed %d: a missing key is found", seed)
			}
		}
		for write := range 60 {
			epoch := NewEpoch()
			grow := rnd.IntN(4) > write/20 // first grow, then shrink
			for range rnd.IntN(200) {
				key := fmt.Sprint("k", rnd.IntN(span))
				if _, there := model[key]; !grow && rnd.IntN(4) > 0 || there && rnd.IntN(3) == 0 {
					if now.Remove(epoch, []byte(key)) != there {
						t.Fatalf("seed %d: remove of %q", seed, key)
					}
					delete(model, key)
					continue
				}
				model[key] = &key
				now.Set(epoch, []byte(key), &key)
			}
			if write%7 == 0 {
				olds = append(olds, old{now, maps.Clone(model)})
			}
			if write%5 == 0 {
				same(now, model)
			}
		}
		for _, o := range olds {
			same(o.tree, o.model)
		}
		epoch := NewEpoch()
		for key := range model {
			now.Remove(epoch, []byte(key))
		}
		same(now, nil)
	}
}

// TestTreeInOrder: keys in ascending order fill the leaves, and removals at the front, as
// from a queue, leave no nodes behind.
func TestTreeInOrder(t *testing.T) {
	var now Tree[int]
	key := func(i int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(i)) }
	const n = 10_000
	for i := range n {
		now.Set(NewEpoch(), key(i), &i)
	}
	now.check(t)
	leaves := func() (leaves int) {
		var walk func(c child[int])
		walk = func(c child[int]) {
			if c.leaf != nil {
				leaves++
				return
			}
			for i := range c.inner.n {
				walk(c.inner.children[i])
			}
		}
		walk(now.root)
		return leaves
	}
	if got := leaves(); got > n/fanout+1 {
		t.Errorf("%d values are in %d leaves", n, got)
	}
	for i := range n - 20 {
		now.Remove(NewEpoch(), key(i))
	}
	now.check(t)
	if got := leaves(); got > 4 {
		t.Errorf("the last 20 values are in %d leaves", got)
	}
}

// FuzzTree writes as the bytes say. Two bytes are a key, whose lowest bit says whether it
// is set or removed. Every eighth operation begins a new write.
func FuzzTree(f *testing.F) {
	f.Add([]byte("some bytes that become keys"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var now, before Tree[string]
		model, was := make(map[string]*string), map[string]*string{}
		epoch := NewEpoch()
		for i := 0; i+1 < len(b); i += 2 {
			if i%16 == 0 {
				epoch, before, was = NewEpoch(), now, maps.Clone(model)
			}
			key := string(b[i : i+2])
			if b[i+1]&1 == 0 {
				model[key] = &key
				now.Set(epoch, []byte(key), &key)
			} else {
				now.Remove(epoch, []byte(key))
				delete(model, key)
			}
		}
		for tr, want := range map[*Tree[string]]map[string]*string{&now: model, &before: was} {
			tr.check(t)
			var values []*string
			for _, key := range slices.Sorted(maps.Keys(want)) {
				values = append(values, want[key])
			}
			if !slices.Equal(tr.all(""), values) {
				t.Fatal("the tree differs from the map")
			}
		}
	})
}

// Keys are in the order of their bytes, whatever their first four are.
func TestKeysWithEqualHeads(t *testing.T) {
	var tree Tree[string]
	var want []string
	for _, head := range []string{"", "a", "a\x00", "ab\x00\xff", "abcd", "abce", "\xff\xff\xff\xff"} {
		for _, rest := range []string{"", "\x00", "\x00\x00", "a", "\xff"} {
			want = append(want, head+rest)
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(want)) {
		tree.Set(1, []byte(want[i]), &want[i])
	}
	tree.check(t)
	var got []string
	for _, v := range tree.all("") {
		got = append(got, *v)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the keys are in the order %q, not %q", got, want)
	}
	for i := range want {
		if tree.Get([]byte(want[i])) != &want[i] {
			t.Errorf("key %q isn't found", want[i])
		}
	}
}

func BenchmarkTreeGet(b *testing.B) {
	var t Tree[int]
	key := make([]byte, 17)
	key[0] = 'u' // as packed UUIDs
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 100_000 {
		binary.BigEndian.PutUint64(key[1:], rnd.Uint64())
		t.Set(1, key, &i)
	}
	b.ReportAllocs()
	for b.Loop() {
		binary.BigEndian.PutUint64(key[1:], rnd.Uint64())
		t.Get(key)
	}
}

func BenchmarkTreeSet(b *testing.B) {
	var t Tree[int]
	key := make([]byte, 17)
	rnd := rand.New(rand.NewPCG(1, 2))
	set := func(epoch uint64, i int) {
		binary.BigEndian.PutUint64(key, rnd.Uint64())
		t.Set(epoch, key, &i)
	}
	for i := range 100_000 {
		set(1, i)
	}
	b.ReportAllocs()
	var epoch uint64
	for i := 0; b.Loop(); i++ {
		if i%20 == 0 {
			epoch = NewEpoch()
		}
		set(epoch, i)
	}
}
