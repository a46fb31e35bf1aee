package rest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// hostListArgs are the query arguments that say whose hosts a list asks.
var hostListArgs = slices.Concat([]wire.Arg{
	filterArgBay, filterArgHost,
	{Name: "all_projects", Kind: wire.ArgBool, Doc: "All hosts, and volumes of all projects; for operators."},
}, consistency)

// hostFilter reads them.
func hostFilter(q *request) service.HostFilter {
	return service.HostFilter{Bay: q.query.Text("bay"), Host: q.query.Text("host"), AllProjects: q.query.Bool("all_projects", false)}
}

// The query arguments of images.
var (
	imageListArgs   = slices.Concat(hostListArgs, []wire.Arg{{Name: "name", Kind: wire.ArgText, Doc: "Only images of this name; without a tag it means :latest."}})
	imageTargetArgs = []wire.Arg{
		{Name: "bay", Kind: wire.ArgText, Doc: "On the ready hosts of this bay: uuid or name. May be left out if you can use only one."},
		{Name: "host", Kind: wire.ArgText, Doc: "On this host instead: uuid or name; for operators."},
	}
	imagePruneArgs = slices.Concat(imageTargetArgs, []wire.Arg{{Name: "all", Kind: wire.ArgBool, Doc: "On all ready hosts."}})
)

func imageRoutes() []*route {
	return []*route{
		{method: http.MethodGet, path: "/images", action: identity.ImageList, handle: listImages, args: imageListArgs, summary: "List the images on hosts", gives: ok(structs.ImagesBody{})},
		{method: http.MethodPost, path: "/images", action: identity.ImagePull, handle: pullImage, summary: "Pull an image to hosts; JSON lines of its progress for who accepts them", takes: structs.ImagePullRequest{},
			gives: []wire.Answer{{Status: http.StatusOK, Body: structs.HostResultsBody{}}, {Status: http.StatusOK, Body: structs.HostResult{}, Media: mediaLines}}},
		{method: http.MethodPut, path: "/images/load", action: identity.ImageLoad, handle: loadImages, args: imageTargetArgs, summary: "Load a tar archive of images on hosts",
			takesMedia: mediaTar, streams: true, gives: ok(structs.HostResultsBody{})},
		{method: http.MethodPut, path: "/images/prune", action: identity.ImagePrune, handle: pruneImages, args: imagePruneArgs, summary: "Remove the images that no container uses", gives: ok(structs.HostResultsBody{})},
	}
}

// listImages answers with the images on the hosts that the caller can use.
func listImages(q *request) error {
	snap, body, err := q.service.Images.List(q.ctx(), &q.call, hostFilter(q), q.query.Text("name"))
	return q.jsonOf(snap, body, err)
}

var pullShape = wire.NewShape("image", structs.ImagePullRequest{}, nil)

// pullImage pulls an image to hosts, and answers when all have ended, or with a
// line for each step of each.
func pullImage(q *request) error {
	var body structs.ImagePullRequest
	if _, err := q.decode(pullShape, &body); err != nil {
		return err
	}
	snap, pull, err := q.service.Images.Pull(q.ctx(), &q.call, &body)
	if err != nil {
		return err
	}
	if strings.Contains(q.r.Header.Get("Accept"), mediaLines) {
		q.w.index = snap.Index()
		return pullLines(q, pull)
	}
	all, err := pull.Run(q.ctx(), func(structs.HostResult) {})
	return q.jsonOf(snap, structs.HostResultsBody{Results: all}, err)
}

// pullLines streams how far the hosts are, and in the last line of each what
// became of it.
func pullLines(q *request, pull *service.Pull) error {
	flush := http.NewResponseController(q.w).Flush
	q.w.Header().Set("Content-Type", mediaLines)
	q.w.Header().Set("Cache-Control", "no-store")
	q.w.WriteHeader(http.StatusOK)
	if err := flush(); err != nil {
		return err
	}
	var mu sync.Mutex
	// A reader who has left ends the request's context, and so the pulls. What became
	// of all is in the lines.
	_, _ = pull.Run(q.ctx(), func(r structs.HostResult) {
		line, err := json.Marshal(r)
		if err != nil {
			panic(err) // strings and numbers always encode
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = q.w.Write(append(line, '\n'))
		_ = flush()
	})
	return nil
}

// loadImages loads the images of the request's body on hosts.
func loadImages(q *request) error {
	snap, all, err := q.service.Images.Load(q.ctx(), &q.call, service.LoadImages{
		Bay: q.query.Text("bay"), Host: q.query.Text("host"), Archive: q.r.Body, Size: q.r.ContentLength,
	})
	return q.unread(q.jsonOf(snap, structs.HostResultsBody{Results: all}, err))
}

// pruneImages removes the images that no container uses.
func pruneImages(q *request) error {
	snap, all, err := q.service.Images.Prune(q.ctx(), &q.call, service.PruneImages{
		Bay: q.query.Text("bay"), Host: q.query.Text("host"), All: q.query.Bool("all", false),
	})
	return q.jsonOf(snap, structs.HostResultsBody{Results: all}, err)
}
