package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/limits"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Images and volumes are not part of the servers' state. Requests about them go to
// many hosts at once, and the failure of one host doesn't affect the answers of the
// others.

// maxAsked is how many hosts one request asks at the same time.
const maxAsked = 128

// HostFilter selects the Docker hosts of a list. The zero value selects the hosts of
// all bays that the caller can use.
type HostFilter struct {
	Bay         string // UUID or name; "" means any
	Host        string // UUID or name; "" means any
	AllProjects bool   // select all hosts; for operators
}

// listedHosts returns the state from which a list of images or volumes is answered,
// and the hosts to ask. Errors are CodeInvalid, CodeForbidden, CodeConflict, and
// those of Await.
func (s *Service) listedHosts(ctx context.Context, c *Call, f HostFilter) (*state.Snapshot, []*structs.Host, error) {
	if err := s.Await(ctx, c); err != nil {
		return nil, nil, err
	}
	snap := s.Snapshot()
	hosts, err := f.hosts(snap, c.Caller)
	return snap, hosts, err
}

// hosts returns the hosts that the filter selects. Errors are CodeInvalid,
// CodeForbidden, CodeConflict.
func (f HostFilter) hosts(snap *state.Snapshot, caller structs.Caller) ([]*structs.Host, error) {
	var in func(*structs.Host) bool
	switch bay, err := namedBay(snap, caller, f.Bay); {
	case err != nil:
		return nil, err
	case bay != nil:
		in = func(h *structs.Host) bool { return h.BayID == bay.ID }
	case f.AllProjects:
		if err := identity.Check(caller, identity.AllProjects); err != nil {
			return nil, err
		}
		in = func(*structs.Host) bool { return true }
	case f.Host != "" && identity.May(caller, identity.ImageHosts):
		in = func(*structs.Host) bool { return true }
	default:
		in = func(h *structs.Host) bool {
			b := snap.Bay(h.BayID)
			return b != nil && (b.Shared || b.ProjectID == caller.ProjectID)
		}
	}
	hosts := dockerHosts(snap, in)
	if f.Host == "" {
		return hosts, nil
	}
	return pickHost(hosts, f.Host)
}

// namedBay returns the bay that a caller names; nil if ident is "".
func namedBay(snap *state.Snapshot, caller structs.Caller, ident string) (*structs.Bay, error) {
	if ident == "" {
		return nil, nil
	}
	row, err := conductor.Lookup(snap, caller, structs.KindBay, ident)
	if structs.CodeOf(err) == structs.CodeNotFound {
		return nil, errUnknownName(structs.KindBay, ident)
	} else if err != nil {
		return nil, err
	}
	return row.(*structs.Bay), nil
}

// errUnknownName returns the error of a request that names an object which doesn't
// exist. CodeInvalid.
func errUnknownName(kind, ident string) error {
	return structs.Errorf(structs.CodeInvalid, "%s %s could not be found.", structs.Title(kind),
		structs.Shorten(ident)).About(kind).With(structs.HintUnknown)
}

// dockerHosts returns the hosts with a Docker engine for which in is true, by name.
func dockerHosts(snap *state.Snapshot, in func(*structs.Host) bool) []*structs.Host {
	var hosts []*structs.Host
	for row := range snap.List(structs.TableHosts, "", 0) {
		if h := row.(*structs.Host); h.Fingerprint.Backend == structs.BackendDocker && in(h) {
			hosts = append(hosts, h)
		}
	}
	slices.SortStableFunc(hosts, func(a, b *structs.Host) int { return strings.Compare(a.Name, b.Name) })
	return hosts
}

// pickHost returns the one host that has ident as its UUID or name.
func pickHost(hosts []*structs.Host, ident string) ([]*structs.Host, error) {
	var found []*structs.Host
	for _, h := range hosts {
		if h.ID == ident || h.Name == ident {
			found = append(found, h)
		}
	}
	switch len(found) {
	case 0:
		return nil, errUnknownName(structs.KindHost, ident)
	case 1:
		return found, nil
	}
	return nil, structs.Ambiguous(structs.KindHost)
}

// chosenHosts returns the hosts on which images are changed: the ready hosts of a
// bay that the caller can use, or, for operators, one host. If the caller can use
// only one bay, bay may be "". Errors: CodeInvalid, CodeForbidden, CodeConflict,
// CodeUnavailable if no host is ready.
func chosenHosts(snap *state.Snapshot, caller structs.Caller, bay, host string) ([]*structs.Host, *structs.Bay, error) {
	if host == "" {
		b, err := conductor.BayFor(snap, caller, bay)
		if err != nil {
			return nil, nil, err
		}
		hosts, err := readyHosts(dockerHosts(snap, func(h *structs.Host) bool { return h.BayID == b.ID }), "bay "+b.Name)
		return hosts, b, err
	}
	if bay != "" {
		return nil, nil, structs.Errorf(structs.CodeInvalid, "bay %q and host %q are both given: name one of them", structs.Shorten(bay),
			structs.Shorten(host))
	}
	if err := identity.Check(caller, identity.ImageHosts); err != nil {
		return nil, nil, err
	}
	hosts, err := pickHost(dockerHosts(snap, func(*structs.Host) bool { return true }), host)
	if err != nil {
		return nil, nil, err
	}
	hosts, err = readyHosts(hosts, "host "+hosts[0].Name)
	return hosts, nil, err
}

// readyHosts returns the hosts that are ready, or CodeUnavailable if there are none.
// what names the hosts in the error.
func readyHosts(hosts []*structs.Host, what string) ([]*structs.Host, error) {
	ready := slices.DeleteFunc(slices.Clone(hosts), func(h *structs.Host) bool { return h.State != structs.HostReady })
	switch {
	case len(ready) > 0:
		return ready, nil
	case len(hosts) == 0:
		return nil, structs.Errorf(structs.CodeUnavailable, "%s has no host yet: try again when it has", what)
	}
	return nil, structs.Errorf(structs.CodeUnavailable, "%s can't be asked: host %s is %s%s", what, hosts[0].Name, hosts[0].State,
		inBrackets(hosts[0].StateReason))
}

// eachHost calls do for each host, for up to maxAsked at a time, and returns the
// results in the order of hosts.
func eachHost[T any](hosts []*structs.Host, do func(*structs.Host) T) []T {
	out := make([]T, len(hosts))
	slots := make(chan struct{}, maxAsked)
	var wg sync.WaitGroup
	for i, h := range hosts {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			out[i] = do(h)
		})
	}
	wg.Wait()
	return out
}

// hostAnswer is the answer of one host.
type hostAnswer[T any] struct {
	host  *structs.Host
	value T
	err   error
}

// askHosts asks many hosts for a document at the same time, with one deadline and one
// limit on the total size of the answers.
func askHosts[T any](ctx context.Context, s *Service, hosts []*structs.Host, offer structs.SessionOffer) []hostAnswer[T] {
	patience, cancel := context.WithTimeout(ctx, s.config.HostPatience)
	defer cancel()
	var room atomic.Int64
	room.Store(structs.MaxListing)
	return eachHost(hosts, func(h *structs.Host) hostAnswer[T] {
		t := hostAnswer[T]{host: h}
		t.err = s.askHost(patience, h, offer, &room, &t.value)
		if patience.Err() != nil && ctx.Err() == nil && structs.CodeOf(t.err) == structs.CodeUnavailable {
			t.err = structs.Errorf(structs.CodeUnavailable, "the host did not answer within %v", s.config.HostPatience)
		}
		return t
	})
}

// askHost asks one host for a document and reads it into out. room is how many bytes
// all hosts that are asked with it may still send.
func (s *Service) askHost(ctx context.Context, h *structs.Host, offer structs.SessionOffer, room *atomic.Int64, out any) error {
	if h.State != structs.HostReady {
		return structs.Errorf(structs.CodeUnavailable, "the host is %s%s", h.State, inBrackets(h.StateReason))
	}
	session, err := s.config.Dispatch.Open(ctx, h.ID, offer)
	if err != nil {
		return err
	}
	defer session.Close()
	var text []byte
	err = readSession(ctx, session, func(payload []byte) error {
		if room.Add(-int64(len(payload))) < 0 {
			return structs.Errorf(structs.CodeTooLarge, "the answers of all hosts have more than %d bytes: ask one bay or host at a time",
				structs.MaxListing)
		}
		if err := limits.FromContext(ctx).Grow(len(payload)); err != nil {
			return err
		}
		text = append(text, payload...)
		return nil
	})
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(text, out); err != nil {
		return structs.Errorf(structs.CodeUnavailable, "the host's agent sent an answer that can't be read: %w", err)
	}
	return nil
}

// readSession reads a session about a host to its end, and calls each with every
// piece of output.
func readSession(ctx context.Context, session *dispatch.Session, each func(payload []byte) error) error {
	for {
		channel, payload, err := session.Read(ctx)
		if err != nil {
			return err
		}
		switch channel {
		case structs.ChannelStdout:
			if err := each(payload); err != nil {
				return err
			}
		case structs.ChannelControl:
			m, err := Control(payload)
			var known *structs.Error
			if errors.As(err, &known) {
				known.Kind = "" // the session isn't about a container
			}
			if err != nil || m.Done {
				return err
			}
		}
	}
}

func onHost(h *structs.Host) structs.OnHost {
	return structs.OnHost{Host: h.Name, HostUUID: h.ID, BayUUID: orNull(h.BayID)}
}

// hostErrors returns the errors of the hosts that could not answer.
func hostErrors[T any](s *Service, c *Call, answers []hostAnswer[T]) []structs.HostError {
	errs := []structs.HostError{}
	for _, t := range answers {
		if t.err != nil {
			known := s.userError(c, t.err)
			errs = append(errs, structs.HostError{Host: t.host.Name, HostUUID: t.host.ID, Code: known.Code, Message: known.Msg})
		}
	}
	return errs
}

// userError returns the error that a user may see. It logs an error that is no
// structs.Error, and returns ErrUnexpected for it.
func (s *Service) userError(c *Call, err error) *structs.Error {
	var known *structs.Error
	if errors.As(err, &known) {
		return known
	}
	s.config.Logger.Error("request failed on a host", "request_id", c.RequestID, "error", err)
	return ErrUnexpected
}

// result returns the outcome of a request on one host.
func (s *Service) result(c *Call, h *structs.Host, change structs.ImageChange, err error) structs.HostResult {
	r := structs.HostResult{Host: h.Name, HostUUID: h.ID, Result: structs.ResultSuccess, Images: notNil(change.Images), Size: change.Size}
	if err != nil {
		known := s.userError(c, err)
		r.Result, r.Code, r.Message = structs.ResultError, known.Code, orNull(known.Msg)
	}
	return r
}

// resultsOrError returns the results of all hosts, or, if all of them failed, an error
// that names each host.
func resultsOrError(all []structs.HostResult) ([]structs.HostResult, error) {
	var failed []string
	for _, r := range all {
		if r.Result == structs.ResultError {
			failed = append(failed, fmt.Sprintf("host %s: %s", r.Host, *r.Message))
		}
	}
	if len(all) == 0 || len(failed) < len(all) {
		return notNil(all), nil
	}
	const most = 10
	if len(failed) > most {
		failed = append(failed[:most], fmt.Sprintf("and %d more", len(failed)-most))
	}
	return nil, structs.Errorf(all[0].Code, "%s", strings.Join(failed, "; "))
}

// ErrUnexpected is the error that a caller sees for a failure that isn't a
// structs.Error. The log has the cause, under the request's ID.
var ErrUnexpected = &structs.Error{Code: structs.CodeInternal,
	Msg: "An unexpected error occurred. The server's log has its cause under the request id"}

// orNull returns nil, which encodes as null, for "".
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
