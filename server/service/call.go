package service

import (
	"context"
	"unicode/utf8"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Transport is what a call asks of the protocol by which it has come.
type Transport interface {
	// Forward hands the call on to the leader, and returns the JSON of what was
	// decided there and the leader's index after it. unsure says that an earlier try
	// may have been carried out, and known is the index of a state that this server
	// had when the call came. Errors are the leader's refusals; CodeNoLeader if it
	// doesn't lead or can't be reached, with conductor.ErrUnknown in the chain if the
	// call may have been carried out all the same.
	Forward(ctx context.Context, leader string, unsure bool, known uint64) (decided []byte, index uint64, err error)
	// Authenticate looks again at who calls, on a newer state than before.
	Authenticate() error
	// Stale is called when the answer may lack what other servers have acknowledged.
	Stale()
	// Waits is called when the call waits on purpose from now on.
	Waits()
}

// Call is one caller's request on its way. It is used by one goroutine at a time.
type Call struct {
	Transport Transport
	Caller    structs.Caller // the zero Caller, who may do nothing, where nobody is asked for
	RequestID string
	Freshness Freshness

	// Of a call that another server has forwarded: it is decided here, or refused.
	// That server tries again itself.
	Forwarded bool
	Seed      string // what its ids and secrets are derived from; "" makes one
	Unsure    bool   // an earlier try may have been carried out
	Known     uint64 // index of a state that the first server had when the call came; 0 knows nothing

	caughtUp bool // the leader was asked how far this server has to be
	stale    bool // and this server could not come so far
}

// Freshness says how new the state has to be that a call reads. The zero value
// has all that any server acknowledged before the call.
type Freshness struct {
	Stale      bool   // any state will do, at once
	Consistent bool   // not older than this moment, whatever the clocks say
	Blocking   bool   // it waits for what comes, and needs no more than Seen now
	Seen       uint64 // index of the newest state that the caller has seen
	SeenErr    error  // why Seen can't be read; nil if it can
}

// TakeSeed returns what the ids and secrets of a call are derived from, so that a leader
// to which it is forwarded twice makes the same twice.
func (c *Call) TakeSeed() string {
	if c.Seed == "" {
		c.Seed = structs.NewSecret()
	}
	return c.Seed
}

// newID mints the UUID of the object that the call makes.
func (s *Service) newID(c *Call) string {
	if s.config.Single {
		return structs.NewID() // there is no other server that has to come to the same
	}
	return structs.DeriveID(c.TakeSeed())
}

// newSecret mints the secret of the object that the call makes.
func (s *Service) newSecret(c *Call) string {
	if s.config.Single {
		return structs.NewSecret()
	}
	return structs.DeriveSecret(c.TakeSeed())
}

// Once identifies a create, so that a retry of it makes no second object. key is
// what the caller has sent for that, "" if nothing; said is all that the request
// says, as text. A call without a key gets one where there are several servers:
// they try again if leadership is lost, and what somebody has deleted in between
// must not come back. A server that is alone loses it to its disk only, and each
// create would write a second row. CodeInvalid.
func (s *Service) Once(c *Call, key string, said func() string) (conductor.Once, error) {
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
	return conductor.Once{Key: key, Minted: minted, BodyHash: structs.HashSecret(said())}, nil
}
