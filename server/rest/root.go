package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/state"
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

func getVersions(q *request) error {
	v1 := versionBody{
		ID: "v1", Status: "CURRENT", MinVersion: minVersion, MaxVersion: maxVersion,
		Links: []structs.Link{{Href: q.baseURL() + "/v1/", Rel: "self"}},
	}
	return q.json(http.StatusOK, versionsBody{
		Name:        "OpenStack Magnum API",
		Description: "Magnum is a multi-tenant container service: bays, pods, services and containers on Docker and Kubernetes hosts.",
		Version:     q.Version, Versions: []versionBody{v1}, DefaultVersion: v1,
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

// operatorState answers GET /v1/operator/state.
type operatorState struct {
	structs.OperatorState
	Leader string `json:"leader"` // address of the leader, "" while there is none
}

func getOperatorState(q *request) error {
	if err := q.await(); err != nil {
		return err
	}
	snap := q.Store.Snapshot() // index and hash of one instant
	q.w.index = snap.Index()
	body := operatorState{OperatorState: structs.OperatorState{
		Index: snap.Index(), Hash: state.FormatHash(snap.Hash()), Schema: snap.Cluster().SchemaInUse(), Understood: structs.SchemaVersion,
	}}
	_, body.Leader = q.Cluster.Leader()
	return q.json(http.StatusOK, body)
}

func getDocument(q *request) error {
	e := wire.NewEncoder()
	defer e.Free()
	e.Buf.Write(q.document)
	sendJSON(q.w, http.StatusOK, e)
	return nil
}
