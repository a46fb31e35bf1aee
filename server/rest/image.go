package rest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// hostListArgs are the query arguments that select the hosts of a list.
var hostListArgs = slices.Concat([]wire.Arg{
	web.FilterArgBay, web.FilterArgHost,
	{Name: "all_projects", Kind: wire.ArgBool, Doc: "All hosts, and volumes of all projects; for operators."},
}, web.Consistency)

// hostFilter returns the filter that hostListArgs describe.
func hostFilter(q *web.Request) service.HostFilter {
	return service.HostFilter{Bay: q.Query.Text("bay"), Host: q.Query.Text("host"), AllProjects: q.Query.Bool("all_projects", false)}
}

// The query arguments of images.
var (
	imageListArgs = slices.Concat(hostListArgs,
		[]wire.Arg{{Name: "name", Kind: wire.ArgText, Doc: "Only images of this name; without a tag it means :latest."}})
	imageTargetArgs = []wire.Arg{
		{Name: "bay", Kind: wire.ArgText, Doc: "On the ready hosts of this bay: uuid or name. May be left out if you can use only one."},
		{Name: "host", Kind: wire.ArgText, Doc: "On this host instead: uuid or name; for operators."},
	}
	imagePruneArgs = slices.Concat(imageTargetArgs, []wire.Arg{{Name: "all", Kind: wire.ArgBool, Doc: "On all ready hosts."}})
)

func imageRoutes() []*web.Route {
	return []*web.Route{
		{Method: http.MethodGet, Path: "/images", Action: identity.ImageList, Handle: listImages, Args: imageListArgs,
			Summary: "List the images on hosts", Gives: web.OK(structs.ImagesBody{})},
		{Method: http.MethodPost, Path: "/images", Action: identity.ImagePull, Handle: pullImage,
			Summary: "Pull an image to hosts; answers with JSON lines of the progress if the client accepts those",
			Takes:   structs.ImagePullRequest{},
			Gives: []wire.Answer{{Status: http.StatusOK, Body: structs.HostResultsBody{}},
				{Status: http.StatusOK, Body: structs.HostResult{}, Media: mediaLines}}},
		{Method: http.MethodPut, Path: "/images/load", Action: identity.ImageLoad, Handle: loadImages, Args: imageTargetArgs,
			Summary:    "Load a tar archive of images on hosts",
			TakesMedia: mediaTar, Streams: true, Gives: web.OK(structs.HostResultsBody{})},
		{Method: http.MethodPut, Path: "/images/prune", Action: identity.ImagePrune, Handle: pruneImages, Args: imagePruneArgs,
			Summary: "Remove the images that no container uses", Gives: web.OK(structs.HostResultsBody{})},
	}
}

// listImages answers with the images on the hosts that the caller can use.
func listImages(q *web.Request) error {
	snap, body, err := q.Service.Images().List(q.Context(), &q.Call, hostFilter(q), q.Query.Text("name"))
	return q.JSONOf(snap, body, err)
}

var pullShape = wire.NewShape("image", structs.ImagePullRequest{}, nil)

// pullImage pulls an image to hosts. It answers when all hosts have ended, or with a line
// for each step of each host.
func pullImage(q *web.Request) error {
	var body structs.ImagePullRequest
	if _, err := q.Decode(pullShape, &body); err != nil {
		return err
	}
	web.AuditTarget(q, body.Image, "")
	snap, pull, err := q.Service.Images().Pull(q.Context(), &q.Call, &body)
	if err != nil {
		return err
	}
	if strings.Contains(q.R.Header.Get("Accept"), mediaLines) {
		q.W.Index = snap.Index()
		return pullLines(q, pull)
	}
	all, err := pull.Run(q.Context(), func(structs.HostResult) {})
	return q.JSONOf(snap, structs.HostResultsBody{Results: all}, err)
}

// pullLines streams the progress of each host. The last line of a host has its result.
func pullLines(q *web.Request, pull *service.Pull) error {
	flush := http.NewResponseController(q.W).Flush
	q.W.Header().Set("Content-Type", mediaLines)
	q.W.Header().Set("Cache-Control", "no-store")
	q.W.WriteHeader(http.StatusOK)
	if err := flush(); err != nil {
		return err
	}
	var mu sync.Mutex
	// A client that leaves ends the request's context, and so the pulls. The results are
	// in the lines, so that Run's are not needed.
	_, _ = pull.Run(q.Context(), func(r structs.HostResult) {
		line, err := json.Marshal(r)
		if err != nil {
			panic(err) // strings and numbers always encode
		}
		mu.Lock()
		defer mu.Unlock()
		_, _ = q.W.Write(append(line, '\n'))
		_ = flush()
	})
	return nil
}

// loadImages loads the images of the request's body on hosts.
func loadImages(q *web.Request) error {
	snap, all, err := q.Service.Images().Load(q.Context(), &q.Call, service.LoadImages{
		Bay: q.Query.Text("bay"), Host: q.Query.Text("host"), Archive: q.R.Body, Size: q.R.ContentLength,
	})
	web.AuditTarget(q, loadedImages(all), "")
	return q.CloseOnError(q.JSONOf(snap, structs.HostResultsBody{Results: all}, err))
}

// loadedImages returns the names of the images that hosts have loaded, each once.
func loadedImages(results []structs.HostResult) string {
	var names []string
	for i := range results {
		names = append(names, results[i].Images...)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}

// pruneImages removes the images that no container uses.
func pruneImages(q *web.Request) error {
	snap, all, err := q.Service.Images().Prune(q.Context(), &q.Call, service.PruneImages{
		Bay: q.Query.Text("bay"), Host: q.Query.Text("host"), All: q.Query.Bool("all", false),
	})
	return q.JSONOf(snap, structs.HostResultsBody{Results: all}, err)
}
