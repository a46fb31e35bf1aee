package service

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/manifest/kubernetes"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// fetchTime bounds the time in which Config.Fetch fetches a manifest.
const fetchTime = 10 * time.Second

// maxReads is how often a manifest is read for a bay that is another one each time.
const maxReads = 3

// source is where a manifest comes from. Exactly one of its fields is set.
type source struct{ text, url string }

// fetcher returns a function that returns the text, and fetches it at most once.
func (s *Service) fetcher(ctx context.Context, from source) func() (string, error) {
	if from.url == "" {
		return func() (string, error) { return from.text, nil }
	}
	return sync.OnceValues(func() (string, error) { return s.config.Fetch(ctx, from.url) })
}

// reader makes a request from a manifest for a bay of the backend. With conductor.Unread it
// doesn't read the manifest.
type reader[P structs.Row] func(backend structs.Backend, text string) (conductor.Request[P], error)

// createRead creates an object from a manifest, which is read for the backend of the bay that
// the caller means. The bay is looked up in this server's state, and the conductor confirms
// its backend. A manifest that is sent is refused at once if this server knows the bay.
func createRead[P structs.Row](
	ctx context.Context, s *Service, c *Call, once conductor.Once, id string, minted bool, from source, bay string, read reader[P],
) (P, error) {
	backend := func() structs.Backend {
		b, err := conductor.PodBayFor(s.Snapshot(), c.Caller, bay)
		if err != nil {
			return conductor.Unread
		}
		return b.Backend()
	}
	var none P
	if from.url != "" {
		c.Preparation = fetchTime
	} else {
		once = conductor.Once{} // the request has it; what is made of a text is the same each time
		if err := refuseEarly(s, c, structs.IsID(bay), backend(), from.text, read); err != nil {
			return none, err
		}
	}
	text := s.fetcher(ctx, from)
	return createWith(ctx, s, c, once, id, minted, func() (P, error) { return decideRead(ctx, s, text, backend, read) })
}

// patchRead changes an object by a manifest, which is read for the backend of the object's
// bay. kind and ident name the object.
func patchRead[P structs.Row](ctx context.Context, s *Service, c *Call, kind, ident string, from source, read reader[P]) (P, error) {
	backend := func() structs.Backend {
		snap := s.Snapshot()
		row, err := conductor.Lookup(snap, c.Caller, kind, ident)
		if err != nil {
			return conductor.Unread
		}
		b := snap.Bay(bayOf(row))
		if b == nil {
			return structs.BackendDocker
		}
		return b.Backend()
	}
	if from.url != "" {
		c.Preparation = fetchTime
	} else if err := refuseEarly(s, c, structs.IsID(ident), backend(), from.text, read); err != nil {
		var none P
		return none, err
	}
	text := s.fetcher(ctx, from)
	return onLeader(ctx, s, c, false, func(bool) (P, error) { return decideRead(ctx, s, text, backend, read) })
}

// refuseEarly reads a manifest before the call is forwarded, and returns the error. It
// returns nil if the leader may know another bay by the identifier.
func refuseEarly[P structs.Row](s *Service, c *Call, certain bool, backend structs.Backend, text string, read reader[P]) error {
	if backend == conductor.Unread || !certain && !c.Forwarded && !s.config.Single && !s.config.Cluster.IsLeader() {
		return nil
	}
	_, err := read(backend, text)
	return err
}

// decideRead has a request decided that is made from a manifest, on the server that leads.
func decideRead[P structs.Row](
	ctx context.Context, s *Service, fetch func() (string, error), backend func() structs.Backend, read reader[P],
) (made P, err error) {
	text, err := fetch()
	if err != nil {
		return made, err
	}
	for range maxReads {
		var r conductor.Request[P]
		if r, err = read(backend(), text); err != nil {
			return made, err
		}
		if made, err = conductor.Do(ctx, s.config.Conductor, r); !errors.Is(err, conductor.ErrBackend) {
			return made, err
		}
	}
	return made, err
}

// bayOf returns the ID of the bay of an object that was made from a manifest.
func bayOf(row structs.Row) string {
	switch r := row.(type) {
	case *structs.Pod:
		return r.BayID
	case *structs.RC:
		return r.BayID
	case *structs.Service:
		return r.BayID
	}
	return ""
}

// remembered returns a function that reads a text at most once for each backend.
func remembered[T any](read func(structs.Backend, string) (T, error)) func(structs.Backend, string) (T, error) {
	type result struct {
		text string
		is   T
		err  error
	}
	results := make(map[structs.Backend]result)
	return func(backend structs.Backend, text string) (T, error) {
		r, ok := results[backend]
		if !ok || r.text != text {
			r.text = text
			if backend != conductor.Unread {
				r.is, r.err = read(backend, text)
			}
			results[backend] = r
		}
		return r.is, r.err
	}
}

func parsePod(backend structs.Backend, text string) (*manifest.Pod, error) {
	if backend == structs.BackendKubernetes {
		return kubernetes.ParsePod(text)
	}
	return manifest.ParsePod(text)
}

func parseService(backend structs.Backend, text string) (*manifest.Service, error) {
	if backend == structs.BackendKubernetes {
		return kubernetes.ParseService(text)
	}
	return manifest.ParseService(text)
}

func parseRC(backend structs.Backend, text string) (*manifest.RC, error) {
	if backend == structs.BackendKubernetes {
		return kubernetes.ParseRC(text)
	}
	return manifest.ParseRC(text)
}

// refusal returns the error of a workload whose cluster has refused it, in the cluster's
// words. what names the workload.
func refusal(code structs.Code, kind, what, reason string) error {
	switch code {
	case structs.CodeInvalid, structs.CodeForbidden, structs.CodeQuota, structs.CodeConflict, structs.CodeTooLarge:
	default:
		code = structs.CodeInternal
	}
	if reason == "" {
		reason = what + ": its cluster gave no reason"
	}
	return structs.Errorf(code, "%s", reason).About(kind)
}

// objectOf returns the object of a service or replication controller, nil on a Docker bay.
func objectOf(snap *state.Snapshot, besideID string) *structs.Object {
	o, _ := snap.Get(structs.TableObjects, besideID).(*structs.Object)
	return o
}

// refused returns the error of an object whose cluster has refused the generation, nil if it
// has not.
func refused(o *structs.Object, generation uint64) error {
	if o == nil || !o.Observed.Failed || o.Observed.Generation != generation {
		return nil // a failure of a later generation belongs to somebody else's request
	}
	return refusal(o.Observed.Code, o.Kind, o.Kind+" "+o.Name, o.Observed.Reason)
}
