package rest

import (
	"cmp"
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// minVersion and maxVersion are what newer OpenStack clients look for before
// they speak to a server: the microversions of part of their API.
const (
	minVersion = "1.1"
	maxVersion = "1.40"
)

// versionsBody answers GET /.
type versionsBody struct {
	Name           string        `json:"name"`
	Description    string        `json:"description"`
	Version        string        `json:"version"` // of the server's build
	Versions       []versionBody `json:"versions"`
	DefaultVersion versionBody   `json:"default_version"`
}

// versionBody is one version of the API.
type versionBody struct {
	ID         string         `json:"id"`
	Status     string         `json:"status"`
	MinVersion string         `json:"min_version"`
	MaxVersion string         `json:"max_version"`
	Links      []structs.Link `json:"links"`
}

// v1Body answers GET /v1/.
type v1Body struct {
	ID         string         `json:"id"`
	MediaTypes []mediaType    `json:"media_types"`
	Links      []typedLink    `json:"links"`
	Bays       []structs.Link `json:"bays"`
	BayModels  []structs.Link `json:"baymodels"`
	Containers []structs.Link `json:"containers"`
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

// root answers at the top of the API.
type root struct {
	version  string // of the build
	document *document
}

func (ro root) routes() []*route {
	return []*route{
		{method: http.MethodGet, path: "/", action: identity.Public, handle: ro.versions, summary: "Versions of the API", gives: ok(versionsBody{})},
		{method: http.MethodGet, path: "/v1", action: identity.APIVersion, handle: getV1, summary: "Resources of version 1", gives: ok(v1Body{})},
		{method: http.MethodGet, path: "/openapi.json", action: identity.APIDocument, handle: ro.document.get, summary: "This document", gives: ok(map[string]any{})},
	}
}

func (ro root) versions(q *request) error {
	v1 := versionBody{
		ID: "v1", Status: "CURRENT", MinVersion: minVersion, MaxVersion: maxVersion,
		Links: []structs.Link{{Href: q.baseURL() + "/v1/", Rel: "self"}},
	}
	return q.json(http.StatusOK, versionsBody{
		Name:        "OpenStack Magnum API",
		Description: "Magnum is a multi-tenant container service: bays, pods, services and containers on Docker and Kubernetes hosts.",
		Version:     ro.version, Versions: []versionBody{v1}, DefaultVersion: v1,
	})
}

func getV1(q *request) error {
	base := q.baseURL()
	links := func(noun string) []structs.Link {
		return []structs.Link{{Href: base + "/v1/" + noun + "/", Rel: "self"}, {Href: base + "/" + noun + "/", Rel: "bookmark"}}
	}
	return q.json(http.StatusOK, v1Body{
		ID:         "v1",
		MediaTypes: []mediaType{{Base: "application/json", Type: "application/vnd.openstack.magnum.v1+json"}},
		Links: []typedLink{
			{Href: base + "/v1/", Rel: "self"},
			{Href: base + "/v1/openapi.json", Rel: "describedby", Type: "application/json"},
		},
		Bays: links("bays"), BayModels: links("baymodels"), Containers: links("containers"), Hosts: links("hosts"),
	})
}

// document is the OpenAPI document.
type document struct{ text []byte }

// describe writes the document of the routes.
func (d *document) describe(version string, routes []*route) {
	var operations []wire.Operation
	for _, rt := range routes {
		operations = append(operations, rt.operation())
	}
	d.text = wire.NewDocument("Magnum", cmp.Or(version, "unknown"),
		"The REST API of magnum. Every path is served also without /v1, and every list also with a slash at its end.", operations)
}

func (d *document) get(q *request) error {
	e := wire.NewEncoder()
	defer e.Free()
	e.Buf.Write(d.text)
	sendJSON(q.w, http.StatusOK, e)
	return nil
}
