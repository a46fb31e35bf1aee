package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Resource is a kind of object that clients write and read.
type Resource struct {
	path    string                        // below /v1
	field   string                        // the field that holds the object's value
	create  func(id, value string) string // returns the body of a create
	actions bool                          // it has the actions of containers
}

// Nodes are the nodes of the 2015 API: only clients change them.
var Nodes = Resource{path: "nodes", field: "type", create: func(id, value string) string {
	return fmt.Sprintf(`{"uuid":%q,"type":%q}`, id, value)
}}

// WaitingContainers are containers of a bay that never get a host, so that only clients
// change them.
func WaitingContainers(bay string) Resource {
	return Resource{path: "containers", field: "name", actions: true, create: func(id, value string) string {
		return fmt.Sprintf(`{"uuid":%q,"name":%q,"bay_uuid":%q,"image":"never-run","constraints":{"no":"such-host"}}`, id, value, bay)
	}}
}

// kinds returns the kinds of operations of clients. How often a kind is listed is its
// weight.
func (n Resource) kinds() []Kind {
	kinds := []Kind{Create, Create, Patch, Patch, Patch, Delete, Read, Read, Read, Default, Stale}
	if n.actions {
		kinds = append(kinds, Start, Start, Stop, Pause, Unpause)
	}
	return kinds
}

// request returns the HTTP request of an operation.
func (n Resource) request(root string, o Op) (*http.Request, error) {
	method, path, body := http.MethodGet, root+"/v1/"+n.path+"/"+o.ID, ""
	switch o.Kind {
	case Create:
		method, path, body = http.MethodPost, root+"/v1/"+n.path, n.create(o.ID, o.Value)
	case Patch:
		method, body = http.MethodPatch, fmt.Sprintf(`[{"op":"replace","path":"/%s","value":%q}]`, n.field, o.Value)
	case Delete:
		method = http.MethodDelete
	case Read:
		path += "?consistent=true"
	case Stale:
		path += "?stale=true"
	case Start, Stop, Pause, Unpause:
		method, path = http.MethodPut, path+"/"+string(o.Kind)+"?wait=0s"
	}
	r, err := http.NewRequest(method, path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	if o.Key != "" {
		r.Header.Set("Idempotency-Key", o.Key)
	}
	return r, nil
}

// value returns the value of the object in an answer. ok is false if the answer has not
// that object.
func (n Resource) value(raw []byte, id string) (value string, ok bool) {
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil || body["uuid"] != id {
		return "", false
	}
	value, ok = body[n.field].(string)
	return value, ok && value != ""
}

// verdict returns the verdict of an answer by its status and text.
func (n Resource) verdict(o Op, status int, unknown bool, raw []byte) Verdict {
	switch status {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return Done
	case http.StatusConflict:
		// The operation was carried out, and another client has deleted the object since.
		if o.Kind == Create && strings.Contains(string(raw), "has been deleted since") ||
			strings.Contains(string(raw), "was deleted meanwhile") {
			return Done
		}
		if o.Kind != Delete && o.Kind != Patch && !o.Kind.reads() {
			return Conflict
		}
	case http.StatusNotFound:
		if o.Kind != Create {
			return Missing
		}
	case http.StatusInsufficientStorage:
		return Refused
	case http.StatusServiceUnavailable:
		if unknown {
			return Unknown
		}
		return Refused
	}
	return Wrong
}
