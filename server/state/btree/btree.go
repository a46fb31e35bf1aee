// Package btree implements the ordered maps of the state store. It knows nothing about the
// meaning of keys and values. Package state uses it.
package btree

import (
	"encoding/binary"
	"sync/atomic"
)

// Tree is an ordered map from byte keys to values: a B+ tree with copy-on-write nodes, so
// that a copy of the tree (two words) is a snapshot. The zero value is empty. A node copied
// by a write may be modified in place by the same write; its epoch says which write owns
// it. (The idea is that of Rodeh, "B-trees, Shadowing, and Clones", 2008; deletion here
// joins small neighbours instead of keeping every node half full.)
//
// A row is in about five trees, so the trees determine the cost of an entry: 28 bytes and
// the key in a leaf. Nodes are small, because each written row copies the nodes above it.
type Tree[V any] struct {
	root child[V]
	size int
}

// fanout is the largest number of keys of a node.
const fanout = 15

// keys are the keys of a node in ascending order. The key's text is elsewhere in memory, and
// most keys of a node differ in their first bytes: the heads, which are in the node itself,
// spare a search most of the ways there.
type keys struct {
	heads [fanout]uint32 // headOf the text
	text  [fanout]string
}

// headOf returns the first four bytes of the key, big endian. Keys are in the order of their
// heads, and those with equal heads in the order of their texts.
func headOf[K string | []byte](key K) uint32 {
	if len(key) >= 4 {
		return uint32(key[0])<<24 | uint32(key[1])<<16 | uint32(key[2])<<8 | uint32(key[3]) // one load, of a string too
	}
	var b [4]byte
	copy(b[:], key)
	return binary.BigEndian.Uint32(b[:])
}

// below reports whether the i-th key is below the key, which has the head.
func (k *keys) below(i int, head uint32, key []byte) bool {
	if h := k.heads[i]; h != head {
		return h < head
	}
	return k.text[i] < string(key)
}

// upTo reports whether the i-th key is not above the key, which has the head.
func (k *keys) upTo(i int, head uint32, key []byte) bool {
	if h := k.heads[i]; h != head {
		return h < head
	}
	return k.text[i] <= string(key)
}

func (k *keys) set(i int, key string) { k.heads[i], k.text[i] = headOf(key), key }

// copy copies the keys lo to hi of from, which may be k, to the place at. It returns their
// number.
func (k *keys) copy(at int, from *keys, lo, hi int) int {
	copy(k.heads[at:], from.heads[lo:hi])
	return copy(k.text[at:], from.text[lo:hi])
}

// leaf contains values in the order of their keys.
type leaf[V any] struct {
	epoch  uint64
	n      int
	keys   keys
	values [fanout]*V
}

// inner contains nodes. Each key is at most the least key of its child. The first key is
// never read.
type inner[V any] struct {
	epoch    uint64
	n        int
	keys     keys
	children [fanout]child[V]
}

// child is a leaf or an inner node, or neither in an empty tree.
type child[V any] struct {
	leaf  *leaf[V]
	inner *inner[V]
}

var epochs atomic.Uint64

// NewEpoch returns the epoch of a write, which is unique among all trees.
func NewEpoch() uint64 { return epochs.Add(1) }

// at returns the child that contains the key if the tree does.
func (in *inner[V]) at(key []byte) int {
	lo, hi, head := 1, in.n, headOf(key)
	for lo < hi {
		if mid := (lo + hi) / 2; in.keys.upTo(mid, head, key) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// at returns the place of the least key that is not below key, and whether it equals key.
func (l *leaf[V]) at(key []byte) (i int, found bool) {
	lo, hi, head := 0, l.n, headOf(key)
	for lo < hi {
		if mid := (lo + hi) / 2; l.keys.below(mid, head, key) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < l.n && l.keys.heads[lo] == head && l.keys.text[lo] == string(key)
}

// Len returns the number of keys.
func (t *Tree[V]) Len() int { return t.size }

// Get returns the value of the key, nil if there is none.
func (t *Tree[V]) Get(key []byte) *V {
	c := t.root
	for c.inner != nil {
		c = c.inner.children[c.inner.at(key)]
	}
	if c.leaf != nil {
		if i, found := c.leaf.at(key); found {
			return c.leaf.values[i]
		}
	}
	return nil
}

// Set sets the value of the key, in the write of the epoch. It copies the key.
func (t *Tree[V]) Set(epoch uint64, key []byte, value *V) {
	if t.root == (child[V]{}) {
		t.root.leaf = &leaf[V]{epoch: epoch}
	}
	added, right, bound := t.root.set(epoch, key, value, true)
	if added {
		t.size++
	}
	if right != (child[V]{}) {
		root := &inner[V]{epoch: epoch, n: 2}
		root.children[0], root.children[1] = t.root, right
		root.keys.set(1, bound)
		t.root = child[V]{inner: root}
	}
}

// set sets the key below c. If c was full, it is split: right is the new node after c, and
// its keys start at bound. last says that no node follows c.
func (c *child[V]) set(epoch uint64, key []byte, value *V, last bool) (added bool, right child[V], bound string) {
	c.own(epoch)
	if c.inner == nil {
		return c.leaf.set(epoch, key, value, last)
	}
	in := c.inner
	i := in.at(key)
	added, below, low := in.children[i].set(epoch, key, value, last && i == in.n-1)
	if below == (child[V]{}) {
		return added, right, ""
	}
	if in.n == fanout {
		r := &inner[V]{epoch: epoch}
		at := half(i+1, last)
		r.n = r.keys.copy(0, &in.keys, at, in.n)
		copy(r.children[:], in.children[at:in.n])
		in.cut(at)
		right, bound = child[V]{inner: r}, r.keys.text[0]
		switch {
		case r.n == 0: // the new child begins the next node
			r.n, r.children[0] = 1, below
			r.keys.set(0, low)
			return added, right, low
		case i+1 > at:
			in, i = r, i-at
		}
	}
	in.keys.copy(i+2, &in.keys, i+1, in.n)
	copy(in.children[i+2:in.n+1], in.children[i+1:in.n])
	in.children[i+1] = below
	in.keys.set(i+1, low)
	in.n++
	return added, right, bound
}

func (l *leaf[V]) set(epoch uint64, key []byte, value *V, last bool) (added bool, right child[V], bound string) {
	i, found := l.at(key)
	if found {
		l.values[i] = value
		return false, right, ""
	}
	if l.n == fanout {
		r := &leaf[V]{epoch: epoch}
		at := half(i, last)
		r.n = r.keys.copy(0, &l.keys, at, l.n)
		copy(r.values[:], l.values[at:l.n])
		l.cut(at)
		right.leaf = r
		if i >= at {
			l, i = r, i-at
		}
	}
	l.keys.copy(i+1, &l.keys, i, l.n)
	copy(l.values[i+1:l.n+1], l.values[i:l.n])
	l.values[i] = value
	l.keys.set(i, string(key))
	l.n++
	if right.leaf != nil {
		bound = right.leaf.keys.text[0]
	}
	return true, right, bound
}

// half returns where to split a full node for an addition at i. The last node stays full if
// the addition is at its end, so that keys in ascending order fill all nodes.
func half(i int, last bool) int {
	if last && i == fanout {
		return fanout
	}
	return fanout/2 + 1
}

// cut removes everything from n on.
func (l *leaf[V]) cut(n int) {
	clear(l.keys.text[n:l.n])
	clear(l.values[n:l.n])
	l.n = n
}

func (in *inner[V]) cut(n int) {
	clear(in.keys.text[n:in.n])
	clear(in.children[n:in.n])
	in.n = n
}

// own copies the node unless the write of the epoch owns it already.
func (c *child[V]) own(epoch uint64) {
	switch {
	case c.leaf != nil && c.leaf.epoch != epoch:
		l := *c.leaf
		l.epoch = epoch
		c.leaf = &l
	case c.inner != nil && c.inner.epoch != epoch:
		in := *c.inner
		in.epoch = epoch
		c.inner = &in
	}
}

// Remove removes the key, in the write of the epoch, and reports whether it existed.
func (t *Tree[V]) Remove(epoch uint64, key []byte) bool {
	if t.Get(key) == nil {
		return false
	}
	t.root.remove(epoch, key)
	t.size--
	for t.root.inner != nil && t.root.inner.n == 1 {
		t.root = t.root.inner.children[0]
	}
	if t.size == 0 {
		t.root = child[V]{}
	}
	return true
}

// remove removes an existing key below c.
func (c *child[V]) remove(epoch uint64, key []byte) {
	c.own(epoch)
	if l := c.leaf; l != nil {
		i, _ := l.at(key)
		l.keys.copy(i, &l.keys, i+1, l.n)
		copy(l.values[i:], l.values[i+1:l.n])
		l.cut(l.n - 1)
		return
	}
	in := c.inner
	i := in.at(key)
	in.children[i].remove(epoch, key)
	switch n := in.children[i].len(); {
	case n == 0:
		in.drop(i)
	case n > fanout/4:
	case i > 0 && in.children[i-1].len()+n <= fanout:
		in.join(epoch, i-1)
	case i+1 < in.n && in.children[i+1].len()+n <= fanout:
		in.join(epoch, i)
	}
}

func (c *child[V]) len() int {
	if c.leaf != nil {
		return c.leaf.n
	}
	return c.inner.n
}

// drop removes the i-th child.
func (in *inner[V]) drop(i int) {
	in.keys.copy(i, &in.keys, i+1, in.n)
	copy(in.children[i:], in.children[i+1:in.n])
	in.cut(in.n - 1)
}

// join moves the content of the child after the i-th into the i-th.
func (in *inner[V]) join(epoch uint64, i int) {
	in.children[i].own(epoch)
	switch from := in.children[i+1]; {
	case from.leaf != nil:
		to := in.children[i].leaf
		to.keys.copy(to.n, &from.leaf.keys, 0, from.leaf.n)
		copy(to.values[to.n:], from.leaf.values[:from.leaf.n])
		to.n += from.leaf.n
	default:
		to := in.children[i].inner
		to.keys.copy(to.n, &from.inner.keys, 0, from.inner.n)
		copy(to.children[to.n:], from.inner.children[:from.inner.n])
		to.keys.copy(to.n, &in.keys, i+1, i+2) // a first key is never read, so it may have been too high
		to.n += from.inner.n
	}
	in.drop(i + 1)
}

// Iterator iterates over a tree in the order of its keys.
type Iterator[V any] struct {
	leaf  *leaf[V]
	i     int // next value of leaf
	depth int
	path  [maxDepth]visit[V]
}

// visit is where an iterator continues in an inner node.
type visit[V any] struct {
	node *inner[V]
	next int
}

// maxDepth is more than enough: inner nodes have two or more children, and most have ten.
const maxDepth = 24

// Seek returns an iterator over the values whose keys are not below start.
func (t *Tree[V]) Seek(start []byte) Iterator[V] {
	var it Iterator[V]
	c := t.root
	for c.inner != nil {
		i := c.inner.at(start)
		it.path[it.depth] = visit[V]{c.inner, i + 1}
		it.depth++
		c = c.inner.children[i]
	}
	if c.leaf != nil {
		it.leaf = c.leaf
		it.i, _ = c.leaf.at(start)
	}
	return it
}

// Next returns the next value, nil at the end.
func (it *Iterator[V]) Next() *V {
	for it.leaf != nil {
		if it.i < it.leaf.n {
			it.i++
			return it.leaf.values[it.i-1]
		}
		it.leaf, it.i = it.nextLeaf(), 0
	}
	return nil
}

func (it *Iterator[V]) nextLeaf() *leaf[V] {
	for it.depth > 0 {
		at := &it.path[it.depth-1]
		if at.next == at.node.n {
			it.depth--
			continue
		}
		c := at.node.children[at.next]
		at.next++
		for c.inner != nil {
			it.path[it.depth] = visit[V]{c.inner, 1}
			it.depth++
			c = c.inner.children[0]
		}
		return c.leaf
	}
	return nil
}
