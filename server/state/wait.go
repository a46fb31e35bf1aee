package state

import (
	"container/heap"
	"sync"
)

// waiter waits for an index.
type waiter struct {
	index uint64
	done  chan struct{} // closed once the index is reached
	at    int           // place in the heap, -1 once it is removed
}

// waiters wakes the waiters whose index is reached, and no others: a follower that is far
// behind may have thousands of readers.
type waiters struct {
	mu   sync.Mutex
	heap waiterHeap
}

func (ws *waiters) add(index uint64) *waiter {
	w := &waiter{index: index, done: make(chan struct{})}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	heap.Push(&ws.heap, w)
	return w
}

func (ws *waiters) remove(w *waiter) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w.at >= 0 {
		heap.Remove(&ws.heap, w.at)
	}
}

func (ws *waiters) reached(index uint64) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for len(ws.heap) > 0 && ws.heap[0].index <= index {
		close(heap.Pop(&ws.heap).(*waiter).done)
	}
}

// waiterHeap is ordered by index; see container/heap.
type waiterHeap []*waiter

func (h waiterHeap) Len() int           { return len(h) }
func (h waiterHeap) Less(i, j int) bool { return h[i].index < h[j].index }

func (h waiterHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push appends a *waiter.
func (h *waiterHeap) Push(x any) {
	w := x.(*waiter)
	w.at = len(*h)
	*h = append(*h, w)
}

// Pop removes the last waiter.
func (h *waiterHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	w.at = -1
	return w
}
