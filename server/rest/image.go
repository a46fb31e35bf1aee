package rest

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// How long hosts take for what may take long.
const (
	pullPatience  = time.Hour
	prunePatience = 10 * time.Minute
)

// The query arguments of images.
var (
	imageListArgs   = slices.Concat(hostListArgs, []wire.Arg{{Name: "name", Kind: wire.ArgText, Doc: "Only images of this name; without a tag it means :latest."}})
	imageTargetArgs = []wire.Arg{
		{Name: "bay", Kind: wire.ArgText, Doc: "On the ready hosts of this bay: uuid or name. May be left out if you can use only one."},
		{Name: "host", Kind: wire.ArgText, Doc: "On this host instead: uuid or name; for operators."},
	}
	imagePruneArgs = slices.Concat(imageTargetArgs, []wire.Arg{{Name: "all", Kind: wire.ArgBool, Doc: "On all ready hosts."}})
)

// listImages answers with the images on the hosts that the caller can use.
func listImages(q *request) error {
	_, hosts, err := q.listedHosts()
	if err != nil {
		return err
	}
	answers := askHosts[[]structs.Image](q, hosts, structs.SessionOffer{Kind: structs.SessionImageList})
	body := structs.ImagesBody{Images: []structs.ImageBody{}, Errors: hostErrors(q, answers)}
	name := q.query.Text("name")
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
			img.Names = wire.List(img.Names)
			body.Images = append(body.Images, structs.ImageBody{Image: img, OnHost: onHost(t.host)})
		}
	}
	return q.json(http.StatusOK, body)
}

var pullShape = wire.NewShape("image", structs.ImagePullRequest{}, nil)

// pullImage pulls an image to hosts, and answers when all have ended, or with a
// line for each step of each.
func pullImage(q *request) error {
	var body structs.ImagePullRequest
	if _, err := q.decode(pullShape, &body); err != nil {
		return err
	}
	if body.Bay != "" && body.BayUUID != "" && body.Bay != body.BayUUID {
		return structs.Errorf(structs.CodeInvalid, "bay %q and bay_uuid %q are two spellings of one field: give one of them", wire.Short(body.Bay), wire.Short(body.BayUUID))
	}
	if err := body.Check(); err != nil {
		return err
	}
	if err := q.await(); err != nil {
		return err
	}
	hosts, _, err := q.chosenHosts(q.view(q.Store.Snapshot()), cmp.Or(body.Bay, body.BayUUID), body.Host)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), pullPatience)
	defer cancel()
	offer := structs.SessionOffer{Kind: structs.SessionImagePull, Image: body.Image, Registry: body.Registry}
	pull := func(h *structs.Host, say func(string)) structs.HostResult {
		err := q.pullOn(ctx, h, offer, say)
		return q.result(h, structs.ImageChange{Images: []string{body.Image}}, err)
	}
	if strings.Contains(q.r.Header.Get("Accept"), mediaLines) {
		return q.pullLines(hosts, pull)
	}
	return q.results(eachHost(hosts, func(h *structs.Host) structs.HostResult { return pull(h, func(string) {}) }))
}

// pullOn has one host pull an image.
func (q *request) pullOn(ctx context.Context, h *structs.Host, offer structs.SessionOffer, say func(string)) error {
	session, err := q.Dispatch.Open(ctx, h.ID, offer)
	if err != nil {
		return err
	}
	defer session.Close()
	return hear(ctx, session, func(payload []byte) error {
		say(strings.ToValidUTF8(string(payload), "?"))
		return nil
	})
}

// pullLines streams how far the hosts are, and in the last line of each what
// became of it.
func (q *request) pullLines(hosts []*structs.Host, pull func(*structs.Host, func(string)) structs.HostResult) error {
	flush := http.NewResponseController(q.w).Flush
	q.w.Header().Set("Content-Type", mediaLines)
	q.w.Header().Set("Cache-Control", "no-store")
	q.w.WriteHeader(http.StatusOK)
	if err := flush(); err != nil {
		return err
	}
	var mu sync.Mutex
	// A reader who has left ends the request's context, and so the pulls.
	write := func(r structs.HostResult) {
		line, err := json.Marshal(r)
		if err != nil {
			panic(err) // strings and numbers always encode
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = q.w.Write(append(line, '\n'))
		_ = flush()
	}
	eachHost(hosts, func(h *structs.Host) struct{} {
		write(pull(h, func(sentence string) {
			write(structs.HostResult{Host: h.Name, HostUUID: h.ID, Result: structs.ResultProgress, Message: &sentence, Images: []string{}})
		}))
		return struct{}{}
	})
	return nil
}

// pruneImages removes the images that no container uses.
func pruneImages(q *request) error {
	if err := q.await(); err != nil {
		return err
	}
	v := q.view(q.Store.Snapshot())
	bay, host, all := q.query.Text("bay"), q.query.Text("host"), q.query.Bool("all", false)
	var hosts []*structs.Host
	var err error
	switch {
	case all && (bay != "" || host != ""):
		return structs.Errorf(structs.CodeInvalid, "all is given beside a bay or host: name one of them")
	case all:
		hosts, err = readyHosts(dockerHosts(v.snap, func(*structs.Host) bool { return true }), "the cluster")
	case bay == "" && host == "":
		return structs.Errorf(structs.CodeInvalid, "it is not said where images are to be removed: give bay, host, or all=true")
	default:
		hosts, _, err = q.chosenHosts(v, bay, host)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(q.r.Context(), prunePatience)
	defer cancel()
	var room atomic.Int64
	room.Store(structs.MaxListing)
	return q.results(eachHost(hosts, func(h *structs.Host) structs.HostResult {
		var change structs.ImageChange
		err := q.converse(ctx, h, structs.SessionOffer{Kind: structs.SessionImagePrune}, &room, &change)
		return q.result(h, change, err)
	}))
}
