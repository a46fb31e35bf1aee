package limits

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	shards   = 16
	maxKeys  = 4096                  // of a shard
	sweepMin = 50 * time.Millisecond // between two sweeps of a shard
)

// table has a rate for each key. A key is kept only while its rate is not fully available
// again, which is at most four times the time that a burst needs. The number of keys is
// bounded: further ones share one rate in each shard.
type table[K comparable] struct {
	rate     int
	interval int64 // nanoseconds between two requests at the rate
	burst    int64 // nanoseconds that a burst takes at the rate
	now      func() time.Time
	started  time.Time
	seed     maphash.Seed
	shards   [shards]shard[K]
}

// shard is a part of a table with its own lock.
type shard[K comparable] struct {
	mu sync.Mutex
	// due is, by key, when its rate will be fully available again: nanoseconds since the
	// table's start.
	due   map[K]int64
	rest  int64 // due of all keys for which there was no room
	swept int64 // when keys were last removed
	_     [64]byte
}

// newTable returns a table for so many requests a second, and twice as many at once; nil,
// which refuses nothing, if rate is negative.
func newTable[K comparable](rate int, now func() time.Time) *table[K] {
	if rate < 0 {
		return nil
	}
	t := &table[K]{rate: rate, interval: int64(time.Second) / int64(rate), now: now, started: now(), seed: maphash.MakeSeed()}
	t.burst = 2 * int64(rate) * t.interval
	for i := range t.shards {
		t.shards[i].due = make(map[K]int64)
	}
	return t
}

// take counts a request if the key's rate allows it. If not, it returns when it will.
func (t *table[K]) take(k K) (wait time.Duration, ok bool) {
	if t == nil {
		return 0, true
	}
	return t.do(k, true, t.burst)
}

// look is take without counting.
func (t *table[K]) look(k K) (wait time.Duration, ok bool) {
	if t == nil {
		return 0, true
	}
	return t.do(k, false, t.burst)
}

// charge counts a request that can't be refused any more. A key goes into debt by at most
// one burst.
func (t *table[K]) charge(k K) {
	if t != nil {
		t.do(k, true, 2*t.burst)
	}
}

// do counts a request unless the key's debt would exceed limit.
func (t *table[K]) do(k K, count bool, limit int64) (time.Duration, bool) {
	now := int64(t.now().Sub(t.started))
	s := &t.shards[maphash.Comparable(t.seed, k)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	due, known := s.due[k]
	if !known && len(s.due) >= maxKeys {
		if count {
			s.sweep(now)
		}
		if len(s.due) >= maxKeys {
			due = s.rest
		}
	}
	due = max(due, now) + t.interval
	if wait := due - now - limit; wait > 0 {
		return time.Duration(wait), false
	}
	switch {
	case !count:
	case !known && len(s.due) >= maxKeys:
		s.rest = due
	default:
		s.due[k] = due
	}
	return 0, true
}

// sweep removes the keys whose rate is fully available. Their absence means the same.
func (s *shard[K]) sweep(now int64) {
	if now-s.swept < int64(sweepMin) {
		return
	}
	s.swept = now
	for k, due := range s.due {
		if due <= now {
			delete(s.due, k)
		}
	}
}

// keys returns the number of keys, for tests.
func (t *table[K]) keys() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += len(s.due)
		s.mu.Unlock()
	}
	return n
}
