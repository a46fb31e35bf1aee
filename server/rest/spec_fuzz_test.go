package rest

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// FuzzSpecReachesTheAgent checks that the agent decodes the same spec that the API has
// accepted.
func FuzzSpecReachesTheAgent(f *testing.F) {
	for _, body := range []string{
		`{"image":"a","healthcheck":{"test":[]}}`, `{"image":"a","healthcheck":{"test":"x","interval":1}}`,
		`{"image":"a","healthcheck":{"interval":1}}`,
		`{"image":"a","healthcheck":{"test":""}}`, `{"image":"a","command":"","entrypoint":[],"environment":{"a":"\ud800"}}`,
		`{"image":"a","command":[],"exclusive":"lease"}`,
		`{"image":"a","memory":"512m","cpu":0.5,"stop_timeout":"0","log_max_size":"1m","registry":{"username":"u","password":"p"},` +
			`"restart_policy":"on-failure:3"}`,
		`{"image":"a","ports":[{"container_port":80}],"volumes":[{"name":"v","target":"/x"},{"type":"tmpfs","target":"/y","size":5}],` +
			`"labels":{"a":""}}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		var r structs.ContainerRequest
		if containerShape.Decode([]byte(body), &r) != nil {
			return
		}
		spec, err := r.Spec()
		if err != nil {
			return
		}
		c := &structs.Container{Meta: structs.Meta{ID: structs.NewID()}, Spec: structs.PrivateSpec{ContainerSpec: spec, Secrets: r.Secrets},
			Placement: structs.Placement{Epoch: 1, Generation: 1}}
		if h := spec.Healthcheck; h != nil && len(h.Test.Args) == 0 {
			// Rows that were read from the log don't distinguish an empty list from
			// none.
			c.Spec.Healthcheck = &structs.Healthcheck{Interval: h.Interval, Timeout: h.Timeout, Retries: h.Retries,
				StartPeriod: h.StartPeriod}
		}
		sent, err := json.Marshal(structs.Work{Assignments: []structs.Assignment{structs.AssignmentOf(c, "h")}})
		if err != nil {
			t.Fatal(err)
		}
		var w structs.Work
		if err := json.Unmarshal(sent, &w); err != nil || len(w.Assignments) != 1 || w.Assignments[0].Unreadable != "" {
			t.Fatalf("%s\nthe agent is sent %s\nand reads %+v, %v", body, sent, w, err)
		}
		// Secrets are sent beside the spec.
		if got := w.Assignments[0].Secrets; !reflect.DeepEqual(got, r.Secrets) {
			t.Fatalf("%s\nhas credentials %+v\nwhich arrive as %+v", body, r.Registry, got.Registry)
		}
		if got := *w.Assignments[0].Spec; !reflect.DeepEqual(got, spec) {
			t.Fatalf("%s\nmeans %+v\nand arrives as %+v", body, spec, got)
		}
	})
}
