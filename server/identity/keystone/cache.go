package keystone

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/stackforge/magnum/structs"
)

// Limits of the cache. Tokens that are not valid have one of their own, so that a flood
// of garbage displaces no valid token.
const (
	maxEntries  = 16384
	maxBytes    = 16 << 20
	maxRefusals = 4096
)

// refusalTTL is how long it is remembered that a token is not valid.
const refusalTTL = time.Second

// key is the SHA-256 of a token, and of whether it may have expired.
type key [sha256.Size]byte

func keyOf(token string, expired bool) key {
	k := key(sha256.Sum256([]byte(token)))
	if expired {
		k[0] ^= 1 // an answer that allows expired tokens is another answer
	}
	return k
}

// entry is an answer of Keystone. It doesn't change, except for refreshing.
type entry struct {
	caller  structs.Caller
	service *structs.ServiceCaller // the caller as a service
	refusal error                  // CodeForbidden for a valid token that can't be used; nil for others
	asked   time.Time              // when Keystone was asked
	until   time.Time              // the answer is used until then
	early   time.Time              // from then on the answer is replaced, if it is used
	session *session
	size    int // bytes
}

// cache holds answers of Keystone.
type cache struct {
	mu       sync.Mutex // guards what follows
	valid    *simplelru.LRU[key, *entry]
	bytes    int                            // of valid
	refusals *simplelru.LRU[key, time.Time] // until when the token is refused
}

func newCache() *cache {
	c := &cache{}
	// The sizes are positive, which is all that NewLRU checks.
	c.valid, _ = simplelru.NewLRU(maxEntries, func(_ key, e *entry) { c.bytes -= e.size })
	c.refusals, _ = simplelru.NewLRU[key, time.Time](maxRefusals, nil)
	return c
}

// find returns the answer for a token, which may be too old to be used, and whether the
// token is known not to be valid.
func (c *cache) find(k key, now time.Time) (e *entry, refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, _ = c.valid.Get(k)
	if e == nil {
		var until time.Time
		if until, refused = c.refusals.Get(k); refused {
			refused = now.Before(until)
		}
	}
	return e, refused
}

// keep keeps a new answer. An older one that was still on its way is dropped.
func (c *cache) keep(k key, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.valid.Remove(k)
	c.refusals.Remove(k)
	c.bytes += e.size
	c.valid.Add(k, e)
	for c.bytes > maxBytes {
		c.valid.RemoveOldest()
	}
}

// refuse notes that a token is not valid.
func (c *cache) refuse(k key, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.valid.Remove(k)
	c.refusals.Add(k, until)
}

// sweep drops the answers that nobody may use since the given time.
func (c *cache) sweep(before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.valid.Keys() {
		if e, ok := c.valid.Peek(k); ok && e.until.Before(before) {
			c.valid.Remove(k)
		}
	}
}

// size returns the number and the bytes of the answers.
func (c *cache) size() (entries, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.valid.Len(), c.bytes
}
