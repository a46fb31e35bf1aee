package history

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Noun is a kind of object that clients write and read.
type Noun struct {
	path    string // below /v1
	field   string // that holds what the object says
	create  func(id, says string) string
	actions bool // whether it takes actions
}

// Nodes are rows of 2015: nothing but what clients write.
var Nodes = Noun{path: "nodes", field: "type", create: func(id, says string) string {
	return fmt.Sprintf(`{"uuid":%q,"type":%q}`, id, says)
}}

// WaitingContainers are containers of a bay that never find a host, so that
// only clients change them.
func WaitingContainers(bay string) Noun {
	return Noun{path: "containers", field: "name", actions: true, create: func(id, says string) string {
		return fmt.Sprintf(`{"uuid":%q,"name":%q,"bay_uuid":%q,"image":"never-run","constraints":{"no":"such-host"}}`, id, says, bay)
	}}
}

// kinds are what clients do, each as often as it is listed.
func (n Noun) kinds() []Kind {
	kinds := []Kind{Create, Create, Patch, Patch, Patch, Delete, Read, Read, Read, Default, Stale}
	if n.actions {
		kinds = append(kinds, Start, Start, Stop, Pause, Unpause)
	}
	return kinds
}

// request writes an operation as a server takes it.
func (n Noun) request(root string, o Op) (*http.Request, error) {
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

// says returns what an object that was answered says. It is false if the answer
// is not that object.
func (n Noun) says(raw []byte, id string) (string, bool) {
	var body map[string]any
	if json.Unmarshal(raw, &body) != nil || body["uuid"] != id {
		return "", false
	}
	says, ok := body[n.field].(string)
	return says, ok && says != ""
}

// verdict reads an answer's status and text.
func (n Noun) verdict(o Op, status int, unknown bool, raw []byte) Verdict {
	switch status {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent:
		return Done
	case http.StatusConflict:
		// Who is told that somebody has deleted the object since has done what it
		// asked for.
		if o.Kind == Create && strings.Contains(string(raw), "has been deleted since") || strings.Contains(string(raw), "was deleted meanwhile") {
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
