package keystone

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/singleflight"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// Bounds of the calls to Keystone at a time. Tokens that were valid before have a share
// of their own, so that unknown tokens don't keep users out that are at work.
const (
	freshCalls = 16
	knownCalls = 32
	maxWaiting = 1024 // tokens that wait for their call
)

// Results of validations, for Observer.
const (
	ResultValid       = "valid"
	ResultInvalid     = "invalid"     // garbage, expired or revoked
	ResultUnusable    = "unusable"    // valid, but without a project, or with access rules
	ResultUnavailable = "unavailable" // Keystone is away, too slow, or refuses the service user
)

// Stats are counts for metrics.
type Stats struct {
	Hits    uint64 // requests answered from the cache
	Misses  uint64 // requests that waited for Keystone, or were refused because it is away
	Entries int    // valid tokens in the cache
	Bytes   int    // of them
}

// Authenticator authenticates tokens of Keystone. It is safe for concurrent use.
type Authenticator struct {
	config  Config
	log     hclog.Logger
	observe func(result string, took time.Duration) // nil observes nothing
	client  *client
	cache   *cache
	calls   singleflight.Group // validations on their way, by key
	fresh   chan struct{}      // slots of calls for tokens that weren't valid before
	known   chan struct{}      // slots of calls for the others
	waiting atomic.Int64
	breaker breaker
	hits    atomic.Uint64
	misses  atomic.Uint64
	now     func() time.Time // time.Now, but in tests

	sweepEvery time.Duration // shorter in tests
}

// New returns an Authenticator. observe is called after each validation with its result;
// nil observes nothing. It connects to nothing. Errors are CodeInvalid.
func New(c Config, log hclog.Logger, observe func(result string, took time.Duration)) (*Authenticator, error) {
	c = c.WithDefaults()
	if err := c.Check(); err != nil {
		return nil, err
	}
	calls, err := newClient(c)
	if err != nil {
		return nil, err
	}
	return &Authenticator{
		config: c, log: log, observe: observe, client: calls, cache: newCache(),
		now: time.Now, sweepEvery: sweepEvery, fresh: make(chan struct{}, freshCalls), known: make(chan struct{}, knownCalls),
	}, nil
}

// URI returns the URL of Keystone that clients are told.
func (a *Authenticator) URI() string { return a.config.AuthURL }

// Stats returns counts.
func (a *Authenticator) Stats() Stats {
	s := Stats{Hits: a.hits.Load(), Misses: a.misses.Load()}
	s.Entries, s.Bytes = a.cache.size()
	return s
}

// Authenticate returns the caller of a token. With a valid token of a service, which needs
// a role for it, the user's token may have expired. CodeUnauthenticated, CodeForbidden,
// CodeUnavailable.
func (a *Authenticator) Authenticate(ctx context.Context, c identity.Credentials) (structs.Caller, error) {
	var service *structs.ServiceCaller
	if c.ServiceToken != "" {
		var err error
		if service, err = a.Service(ctx, c.ServiceToken); err != nil {
			return structs.Caller{}, err
		}
	}
	e, err := a.validate(ctx, c.Token, service != nil)
	if err != nil {
		return structs.Caller{}, err
	}
	caller := e.caller
	caller.Service = service
	return caller, nil
}

// Knows reports whether the cache has an answer for the token, valid or not.
func (a *Authenticator) Knows(token string) bool {
	now := a.now()
	e, refused := a.cache.find(keyOf(token, false), now)
	return refused || e != nil && now.Before(e.until)
}

// Service returns the service that an X-Service-Token is of. CodeUnauthenticated if it is
// not valid or has none of the roles of services; CodeUnavailable.
func (a *Authenticator) Service(ctx context.Context, token string) (*structs.ServiceCaller, error) {
	e, err := a.validate(ctx, token, false)
	switch structs.CodeOf(err) {
	case "":
	case structs.CodeUnauthenticated, structs.CodeForbidden:
		return nil, structs.Errorf(structs.CodeUnauthenticated, "The X-Service-Token is not valid")
	default:
		return nil, err
	}
	for _, r := range e.service.Roles {
		if slices.ContainsFunc(a.config.ServiceRoles, func(s string) bool { return strings.EqualFold(s, string(r)) }) {
			return e.service, nil
		}
	}
	return nil, structs.Errorf(structs.CodeUnauthenticated, "The X-Service-Token has none of the roles of services (%s)",
		strings.Join(a.config.ServiceRoles, ", "))
}

// validate returns Keystone's answer for a token, from the cache if it is there.
func (a *Authenticator) validate(ctx context.Context, token string, expired bool) (*entry, error) {
	if err := checkText(token); err != nil {
		return nil, err
	}
	k, now := keyOf(token, expired), a.now()
	e, refused := a.cache.find(k, now)
	switch {
	case refused:
		a.hits.Add(1)
		return nil, errNotValid
	case e != nil && now.Before(e.until):
		a.hits.Add(1)
		if now.After(e.early) {
			// In the background, so that users of a slow Keystone don't wait. While it is away
			// the breaker makes this cheap.
			a.calls.DoChan(string(k[:]), func() (any, error) { return a.ask(k, token, expired, true) })
		}
		return e, e.refusal
	}
	a.misses.Add(1)
	// The call isn't bound to this request: others wait for it, too.
	call := a.calls.DoChan(string(k[:]), func() (any, error) { return a.ask(k, token, expired, e != nil) })
	select {
	case done := <-call:
		if done.Err != nil {
			return nil, done.Err
		}
		e := done.Val.(*entry)
		return e, e.refusal
	case <-ctx.Done():
		return nil, structs.Errorf(structs.CodeUnavailable, "The request ended while Keystone was asked: %w", ctx.Err())
	}
}

// ask asks Keystone for a token and keeps the answer. known says that the token was valid
// before. CodeUnauthenticated, CodeUnavailable.
func (a *Authenticator) ask(k key, token string, expired, known bool) (*entry, error) {
	began := a.now()
	if e, refused := a.cache.find(k, began); refused || e != nil && began.Before(e.early) {
		// The call that was on its way when this one was asked for has ended.
		if refused {
			return nil, errNotValid
		}
		return e, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), a.config.Timeout)
	defer cancel()
	if wait, ok := a.breaker.allow(began); !ok {
		return nil, away(wait)
	}
	slots := a.fresh
	if known {
		slots = a.known
	}
	if err := a.enter(ctx, slots); err != nil {
		a.breaker.skip()
		return nil, err
	}
	defer func() { <-slots }()
	asked := a.now()
	said, err := a.client.validate(ctx, token, expired)
	now := a.now()
	a.noteHealth(now, err)
	switch {
	case errors.Is(err, errInvalid):
		a.cache.refuse(k, now.Add(refusalTTL))
		a.observed(ResultInvalid, now.Sub(asked))
		return nil, errNotValid
	case err != nil:
		a.observed(ResultUnavailable, now.Sub(asked))
		return nil, away(time.Second)
	}
	e := a.entryOf(said, token, expired, asked)
	if !expired && !now.Before(said.Token.ExpiresAt) {
		a.cache.refuse(k, now.Add(refusalTTL)) // by this server's clock
		a.observed(ResultInvalid, now.Sub(asked))
		return nil, errNotValid
	}
	a.cache.keep(k, e)
	if e.refusal != nil {
		a.observed(ResultUnusable, now.Sub(asked))
	} else {
		a.observed(ResultValid, now.Sub(asked))
	}
	return e, nil
}

// entryOf makes an entry of an answer. The time of an answer counts from when Keystone was
// asked: a revocation after that may not be in it.
func (a *Authenticator) entryOf(said *answer, token string, expired bool, asked time.Time) *entry {
	e := &entry{asked: asked, until: asked.Add(a.config.CacheTTL), early: asked.Add(a.config.CacheTTL * 2 / 3)}
	e.caller, e.refusal = said.caller(&a.config)
	if !expired && said.Token.ExpiresAt.Before(e.until) {
		e.until = said.Token.ExpiresAt
		e.early = e.until // there is nothing to learn before
	}
	c := &e.caller
	e.service = &structs.ServiceCaller{UserID: c.UserID, UserName: c.UserName, ProjectID: c.ProjectID, Roles: c.Roles}
	e.session = &session{of: a, token: token, expired: expired, roles: c.Roles}
	if !expired {
		e.session.ends = said.Token.ExpiresAt
	}
	c.Credential = e.session
	e.size = 1024 + len(token) + len(c.UserName) + len(c.ProjectName)
	for _, r := range c.Roles {
		e.size += 16 + len(r)
	}
	return e
}

// enter waits for a slot. CodeUnavailable.
func (a *Authenticator) enter(ctx context.Context, slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	if a.waiting.Add(1) > maxWaiting {
		a.waiting.Add(-1)
		return away(time.Second)
	}
	defer a.waiting.Add(-1)
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return away(time.Second)
	}
}

// away is the error of a token that Keystone can't be asked for now.
func away(wait time.Duration) error {
	return &structs.Error{
		Code: structs.CodeUnavailable, RetryAfter: max(wait, time.Second),
		Msg: "Keystone can't be asked for the token now: try again in a moment",
	}
}

// noteHealth notes whether Keystone could be asked. It logs changes only, because each
// request would cause a line otherwise.
func (a *Authenticator) noteHealth(now time.Time, err error) {
	failed := err != nil && !errors.Is(err, errInvalid)
	changed := a.breaker.report(now, failed)
	switch {
	case !changed:
	case errors.Is(err, errDenied):
		a.log.Error("keystone refuses the service user, so that no token can be validated", "error", err)
	case failed:
		a.log.Warn("keystone is away: cached tokens are good until their time is over", "error", err)
	default:
		a.log.Info("keystone is back")
	}
}

func (a *Authenticator) observed(result string, took time.Duration) {
	if a.observe != nil {
		a.observe(result, took)
	}
}
