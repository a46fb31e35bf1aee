package service

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// How long hosts may take for a pull and for a removal.
const (
	pullPatience  = time.Hour
	prunePatience = 10 * time.Minute
)

// Images carries out requests about images, by asking the hosts.
type Images struct{ s *Service }

// Images returns the operations on images.
func (s *Service) Images() Images { return Images{s} }

// List returns the images on hosts, with the state from which the hosts were chosen.
// An empty name matches any image, and a name without a tag means :latest. Errors are
// CodeInvalid, CodeForbidden, CodeConflict, and those of Await.
func (n Images) List(ctx context.Context, c *Call, f HostFilter, name string) (*state.Snapshot, structs.ImagesBody, error) {
	snap, hosts, err := n.s.listedHosts(ctx, c, f)
	if err != nil {
		return snap, structs.ImagesBody{}, err
	}
	offer := structs.SessionOffer{Kind: structs.SessionImageList}
	if !c.Caller.Is(structs.RoleAdmin) {
		offer.ProjectID = c.Caller.ProjectID // what others have there is not for them
	}
	answers := askHosts[[]structs.Image](ctx, n.s, hosts, offer)
	body := structs.ImagesBody{Images: []structs.ImageBody{}, Errors: hostErrors(n.s, c, answers)}
	for _, t := range answers {
		if t.err != nil {
			continue
		}
		slices.SortFunc(t.value, func(a, b structs.Image) int {
			return cmp.Or(slices.Compare(a.Names, b.Names), strings.Compare(a.ID, b.ID))
		})
		for _, img := range t.value {
			if name != "" && !slices.Contains(img.Names, name) && !slices.Contains(img.Names, name+":latest") {
				continue
			}
			img.Names = notNil(img.Names)
			body.Images = append(body.Images, structs.ImageBody{Image: img, OnHost: onHost(t.host)})
		}
	}
	return snap, body, nil
}

// Pull is a pull of an image on some hosts.
type Pull struct {
	s     *Service
	call  *Call
	hosts []*structs.Host
	offer structs.SessionOffer
}

// Pull chooses the hosts of a pull. Run begins it. Errors are CodeInvalid,
// CodeForbidden, CodeConflict, CodeUnavailable, and those of Await.
func (n Images) Pull(ctx context.Context, c *Call, body *structs.ImagePullRequest) (*state.Snapshot, *Pull, error) {
	if body.Bay != "" && body.BayUUID != "" && body.Bay != body.BayUUID {
		return nil, nil, structs.Errorf(structs.CodeInvalid, "bay %q and bay_uuid %q are two spellings of one field: give one of them",
			structs.Shorten(body.Bay), structs.Shorten(body.BayUUID))
	}
	if err := body.Check(); err != nil {
		return nil, nil, err
	}
	if err := n.s.Await(ctx, c); err != nil {
		return nil, nil, err
	}
	snap := n.s.Snapshot()
	hosts, _, err := chosenHosts(snap, c.Caller, cmp.Or(body.Bay, body.BayUUID), body.Host)
	if err != nil {
		return snap, nil, err
	}
	return snap, &Pull{n.s, c, hosts, structs.SessionOffer{Kind: structs.SessionImagePull, Image: body.Image, Registry: body.Registry}}, nil
}

// Run pulls the image and returns the result of each host, or, if all hosts failed,
// an error that names each. It calls report with each host's progress and result, from
// several goroutines at once.
func (p *Pull) Run(ctx context.Context, report func(structs.HostResult)) ([]structs.HostResult, error) {
	ctx, cancel := context.WithTimeout(ctx, pullPatience)
	defer cancel()
	return resultsOrError(eachHost(p.hosts, func(h *structs.Host) structs.HostResult {
		err := p.runOn(ctx, h, func(sentence string) {
			report(structs.HostResult{Host: h.Name, HostUUID: h.ID, Result: structs.ResultProgress, Message: &sentence, Images: []string{}})
		})
		result := p.s.result(p.call, h, structs.ImageChange{Images: []string{p.offer.Image}}, err)
		report(result)
		return result
	}))
}

// runOn has one host pull the image, and calls progress with each line of its output.
func (p *Pull) runOn(ctx context.Context, h *structs.Host, progress func(string)) error {
	session, err := p.s.config.Dispatch.Open(ctx, h.ID, p.offer)
	if err != nil {
		return err
	}
	defer session.Close()
	return readSession(ctx, session, func(payload []byte) error {
		progress(strings.ToValidUTF8(string(payload), "?"))
		return nil
	})
}

// PruneImages is the request to remove unused images.
type PruneImages struct {
	Bay, Host string // UUID or name of one of them
	All       bool   // on all ready hosts
}

// Prune removes the images that no container uses. It returns the result of each host,
// or, if all hosts failed, an error that names each. Errors are CodeInvalid,
// CodeForbidden, CodeConflict, CodeUnavailable, and those of Await.
func (n Images) Prune(ctx context.Context, c *Call, r PruneImages) (*state.Snapshot, []structs.HostResult, error) {
	if err := n.s.Await(ctx, c); err != nil {
		return nil, nil, err
	}
	snap := n.s.Snapshot()
	var hosts []*structs.Host
	var err error
	switch {
	case r.All && (r.Bay != "" || r.Host != ""):
		return snap, nil, structs.Errorf(structs.CodeInvalid, "all and a bay or host are both given: give one of them")
	case r.All:
		hosts, err = readyHosts(dockerHosts(snap, func(*structs.Host) bool { return true }), "the cluster")
	case r.Bay == "" && r.Host == "":
		return snap, nil, structs.Errorf(structs.CodeInvalid, "bay, host and all are missing: give bay, host, or all=true")
	default:
		hosts, _, err = chosenHosts(snap, c.Caller, r.Bay, r.Host)
	}
	if err != nil {
		return snap, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, prunePatience)
	defer cancel()
	var room atomic.Int64
	room.Store(structs.MaxListing)
	all, err := resultsOrError(eachHost(hosts, func(h *structs.Host) structs.HostResult {
		var change structs.ImageChange
		err := n.s.askHost(ctx, h, structs.SessionOffer{Kind: structs.SessionImagePrune}, &room, &change)
		return n.s.result(c, h, change, err)
	}))
	return snap, all, err
}
