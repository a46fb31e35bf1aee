package rest

import (
	"cmp"
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/rest/zun"
	"github.com/stackforge/magnum/structs"
)

// minVersion is the oldest microversion. Newer OpenStack clients look for it before they
// use a server.
const minVersion = "1.1"

// versionsBody answers GET /.
type versionsBody struct {
	//api:doc Name of the API.
	Name           string        `json:"name"`
	Description    string        `json:"description"`
	Version        string        `json:"version"` // of the server's build
	Versions       []versionBody `json:"versions"`
	DefaultVersion versionBody   `json:"default_version"`
}

// versionBody is one version of the API.
type versionBody struct {
	ID string `json:"id"`
	//api:doc Status of the version.
	Status     string `json:"status"`
	MinVersion string `json:"min_version"`
	MaxVersion string `json:"max_version"`
	//api:doc URLs of the version.
	Links []structs.Link `json:"links"`
}

// v1Body answers GET /v1/.
type v1Body struct {
	ID         string      `json:"id"`
	MediaTypes []mediaType `json:"media_types"`
	//api:doc URLs of the version.
	Links      []typedLink    `json:"links"`
	Bays       []structs.Link `json:"bays"`
	BayModels  []structs.Link `json:"baymodels"`
	Containers []structs.Link `json:"containers"`
	Pods       []structs.Link `json:"pods"`
	RCs        []structs.Link `json:"rcs"`
	Services   []structs.Link `json:"services"`
	Hosts      []structs.Link `json:"hosts"`
}

type mediaType struct {
	Base string `json:"base"`
	Type string `json:"type"`
}

type typedLink struct {
	Href string `json:"href"`
	Rel  string `json:"rel"`
	Type string `json:"type,omitempty"`
}

// root serves the top of the API.
type root struct {
	version  string // of the build
	document *document
}

func (ro root) routes() []*web.Route {
	return []*web.Route{
		{Method: http.MethodGet, Path: "/", Action: identity.Public, Handle: ro.versions, Summary: "Versions of the API",
			Gives: web.OK(versionsBody{})},
		{Method: http.MethodGet, Path: "/v1", Action: identity.APIVersion, Handle: getV1, Summary: "Resources of version 1",
			Gives: web.OK(v1Body{})},
		{Method: http.MethodGet, Path: "/openapi.json", Action: identity.APIDocument, Handle: ro.document.get,
			Summary: "This document", Gives: web.OK(map[string]any{})},
	}
}

func (ro root) versions(q *web.Request) error {
	v1 := versionBody{
		ID: "v1", Status: "CURRENT", MinVersion: minVersion, MaxVersion: zun.MaxVersion,
		Links: []structs.Link{{Href: q.BaseURL() + "/v1/", Rel: "self"}},
	}
	return q.JSON(http.StatusOK, versionsBody{
		Name:        "OpenStack Magnum API",
		Description: "Magnum is a multi-tenant container service: bays, pods, services and containers on Docker and Kubernetes hosts.",
		Version:     ro.version, Versions: []versionBody{v1}, DefaultVersion: v1,
	})
}

func getV1(q *web.Request) error {
	base := q.BaseURL()
	links := func(noun string) []structs.Link {
		return []structs.Link{{Href: base + "/v1/" + noun + "/", Rel: "self"}, {Href: base + "/" + noun + "/", Rel: "bookmark"}}
	}
	return q.JSON(http.StatusOK, v1Body{
		ID:         "v1",
		MediaTypes: []mediaType{{Base: "application/json", Type: "application/vnd.openstack.magnum.v1+json"}},
		Links: []typedLink{
			{Href: base + "/v1/", Rel: "self"},
			{Href: base + "/v1/openapi.json", Rel: "describedby", Type: "application/json"},
		},
		Bays: links("bays"), BayModels: links("baymodels"), Containers: links("containers"), Pods: links("pods"),
		RCs: links("rcs"), Services: links("services"), Hosts: links("hosts"),
	})
}

// document is the OpenAPI document.
type document struct{ text []byte }

// describe makes the document of the routes.
func (d *document) describe(version string, routes []*web.Route) {
	var operations []wire.Operation
	for _, rt := range routes {
		operations = append(operations, rt.Operation())
	}
	d.text = wire.NewDocument("Magnum", cmp.Or(version, "unknown"),
		"The REST API of magnum. Every path is served also without /v1, and every list also with a slash at its end.", operations)
}

func (d *document) get(q *web.Request) error {
	e := wire.NewEncoder()
	defer e.Free()
	e.Buf.Write(d.text)
	web.SendJSON(q.W, http.StatusOK, e)
	return nil
}
