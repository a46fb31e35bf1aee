package service

import (
	"context"
	"time"
	"unicode/utf8"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Transport is what the service needs of the protocol by which a call came.
type Transport interface {
	// Forward forwards the call to the leader. It returns the decision as JSON, and
	// the leader's index after it. retryAfterUnknown says that an earlier try may have
	// been carried out. sinceIndex is an index that this server had reached when the
	// call came. Errors are the leader's refusals, and CodeNoLeader if that server
	// doesn't lead or can't be reached. conductor.ErrUnknown is in the chain if the
	// call may have been carried out nevertheless.
	Forward(ctx context.Context, leader string, retryAfterUnknown bool, sinceIndex uint64) (decided []byte, index uint64, err error)
	// Authenticate authenticates the caller again, on a newer state than before.
	Authenticate() error
	// MarkStale notes that the answer may lack writes that other servers have
	// acknowledged.
	MarkStale()
	// MarkWaiting notes that the call waits on purpose from now on.
	MarkWaiting()
}

// Call is one request of a caller. It is used by one goroutine at a time.
type Call struct {
	Transport Transport
	Caller    structs.Caller // the zero Caller, who may do nothing, for requests that need no authentication
	RequestID string
	Freshness Freshness

	// Forwarded says that another server has forwarded the call. It is decided here
	// or refused: the other server repeats it if need be.
	Forwarded         bool
	Seed              string // IDs and secrets are derived from it; "" until TakeSeed makes one
	RetryAfterUnknown bool   // an earlier try may have been carried out
	SinceIndex        uint64 // index that the first server had reached when the call came; 0 means unknown
	// Preparation is how long the leader may need before it can decide the call.
	Preparation time.Duration

	caughtUp bool // the leader was asked for its index
	stale    bool // this server could not reach the leader's index
}

// Freshness says how new the state that a call reads has to be. The zero value asks
// for all writes that any server acknowledged before the call.
type Freshness struct {
	Stale      bool   // read any state, at once
	Consistent bool   // take a read index of the leader, so that no clock matters
	Blocking   bool   // the read waits for a change, and needs no more than Seen now
	Seen       uint64 // index of the newest state that the caller has seen
	SeenErr    error  // why Seen could not be parsed; nil if it could
}

// TakeSeed returns the seed from which IDs and secrets of the call are derived, and
// makes one if there is none. With one seed, a call that is forwarded twice creates
// the same object twice.
func (c *Call) TakeSeed() string {
	if c.Seed == "" {
		c.Seed = structs.NewSecret()
	}
	return c.Seed
}

// newID makes the UUID of the object that the call creates.
func (s *Service) newID(c *Call) string {
	if s.config.Single {
		return structs.NewID() // no other server has to derive the same
	}
	return structs.DeriveID(c.TakeSeed())
}

// newSecret makes the secret of the object that the call creates.
func (s *Service) newSecret(c *Call) string {
	if s.config.Single {
		return structs.NewSecret()
	}
	return structs.DeriveSecret(c.TakeSeed())
}

// Once identifies a create, so that a retry makes no second object. key is the
// caller's idempotency key, "" if there is none. content returns the whole request as
// text. A call without a key gets one if there are several servers: they repeat a
// create if leadership is lost, and must not bring back an object that somebody has
// deleted in between. A server without others loses leadership only if its disk fails,
// and does without a key, which costs a second row. Errors are CodeInvalid.
func (s *Service) Once(c *Call, key string, content func() string) (conductor.Once, error) {
	minted := false
	if key == "" && (s.config.Single || !c.Forwarded && s.config.Cluster.Alone()) {
		return conductor.Once{}, nil
	}
	if key == "" {
		key, minted = "request/"+structs.DeriveID(c.TakeSeed()), true
	}
	if n := utf8.RuneCountInString(key); n > structs.MaxIdempotency {
		return conductor.Once{}, structs.Errorf(structs.CodeInvalid, "Idempotency-Key: %d characters are more than %d.", n,
			structs.MaxIdempotency)
	}
	if err := structs.CheckLine("Idempotency-Key", key, 4*structs.MaxIdempotency); err != nil {
		return conductor.Once{}, err
	}
	return conductor.Once{Key: key, Minted: minted, BodyHash: structs.HashSecret(content())}, nil
}
