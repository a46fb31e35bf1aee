package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestEventStreamAndItsErrors(t *testing.T) {
	asked := ""
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RequestURI()
		if r.FormValue("index") == "1" {
			answer(w, 410, "", `{"errors":[{"code":"gone","detail":"too old"}]}`)
			return
		}
		io.WriteString(w, `{"event":"created","name":"a","resume":5}`+"\n"+`{"event":"tick","resume":6}`+"\n")
		if r.FormValue("uuid") == "bad" {
			io.WriteString(w, "nonsense\n")
		}
	})
	var last structs.EventBody
	n := 0
	each := func(e structs.EventBody, raw json.RawMessage) error {
		last, n = e, n+1
		if !json.Valid(raw) {
			t.Errorf("%q is no JSON", raw)
		}
		return nil
	}
	err := c.Events(t.Context(), EventOptions{Index: 4, Type: "container", UUID: "u", AllProjects: true}, each)
	if structs.CodeOf(err) != structs.CodeUnavailable || n != 2 || last.Resume != 6 ||
		asked != "/v1/events?all_projects=true&index=4&type=container&uuid=u" {
		t.Errorf("%v, %d events, the last %+v, asked %s", err, n, last, asked)
	}
	if err := c.Events(t.Context(), EventOptions{UUID: "bad"}, each); structs.CodeOf(err) != structs.CodeInternal {
		t.Errorf("nonsense: %v", err)
	}
	if err := c.Events(t.Context(), EventOptions{Index: 1}, each); structs.CodeOf(err) != structs.CodeGone {
		t.Errorf("too old: %v", err)
	}
	enough := errors.New("enough")
	if err := c.Events(t.Context(), EventOptions{}, func(structs.EventBody, json.RawMessage) error { return enough }); err != enough {
		t.Errorf("got %v, want the caller's own error", err)
	}
}
