package rest_test

import (
	"fmt"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
)

func TestVersionDocuments(t *testing.T) {
	s := servertest.New(t)
	c := newCaller(t, s)
	got := c.do("GET", "/", "").is(200).object()
	v1 := got["versions"].([]any)[0].(map[string]any)
	if got["name"] != "OpenStack Magnum API" || got["version"] != "0.0.0-test" || v1["id"] != "v1" || v1["min_version"] != "1.1" ||
		v1["max_version"] != "1.40" ||
		fmt.Sprint(v1["links"]) != "[map[href:"+s.URL+"/v1/ rel:self]]" || fmt.Sprint(got["default_version"]) != fmt.Sprint(v1) {
		t.Errorf("versions %v", got)
	}
	for _, path := range []string{"/v1", "/v1/"} {
		got := c.do("GET", path, "").is(200).object()
		if _, ok := got["nodes"]; ok {
			t.Errorf("%s: the nodes of 2015 have no entry", path)
		}
		if got["id"] != "v1" || fmt.Sprint(got["media_types"]) != "[map[base:application/json "+
			"type:application/vnd.openstack.magnum.v1+json]]" ||
			fmt.Sprint(got["bays"]) != "[map[href:"+s.URL+"/v1/bays/ rel:self] map[href:"+s.URL+"/bays/ rel:bookmark]]" {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// TestDocumentIsComplete checks that the document has every route, a schema for
// every body, and no reference that leads nowhere.
func TestDocumentIsComplete(t *testing.T) {
	s := servertest.New(t)
	c := newCaller(t, s)
	r := c.do("GET", "/v1/openapi.json", "").is(200)
	doc := readSpec(t, r.body)
	ids := make(map[any]bool)
	for _, rt := range s.REST.Routes() {
		op := doc.operation(rt.Method, rt.Path)
		if op == nil {
			t.Errorf("%s %s is not in the document", rt.Method, rt.Path)
			continue
		}
		if op["summary"] == "" || ids[op["operationId"]] {
			t.Errorf("%s %s: summary %q, operationId %q", rt.Method, rt.Path, op["summary"], op["operationId"])
		}
		ids[op["operationId"]] = true
		bare := rt.Path == "/v1/operator/bootstrap" || rt.Path == "/v1/bays/:id/credential" // there is nothing to say
		if (rt.Method == "POST" || rt.Method == "PATCH") && !bare && op["requestBody"] == nil {
			t.Errorf("%s %s has no schema of its body", rt.Method, rt.Path)
		}
		if op["responses"].(map[string]any)["default"] == nil {
			t.Errorf("%s %s has no schema of its errors", rt.Method, rt.Path)
		}
	}
	for _, name := range []string{"BayRequest", "BayBody", "BayModelRequest", "BayModelBody", "NodeRequest", "NodeBody", "HostBody",
		"ContainerRequest", "ContainerBody", "PatchOpInput", "OutputBody", "ErrorBody", "Fault", "AgentHostRegister", "AgentHostRegistered",
		"AgentWork", "AgentStatusReport", "AgentStatusReported", "OperatorState", "TokenRequest", "TokenBody", "TokenSecretBody"} {
		if doc.components[name] == nil {
			t.Errorf("no schema %s", name)
		}
	}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok && doc.components[ref[len("#/components/schemas/"):]] == nil {
				t.Errorf("%s refers to %s, which is not there", at, ref)
			}
			for k, x := range v {
				walk(at+"."+k, x)
			}
		case []any:
			for i, x := range v {
				walk(fmt.Sprintf("%s[%d]", at, i), x)
			}
		}
	}
	walk("components", map[string]any(doc.components))
	for path, ops := range doc.paths {
		for method, op := range ops {
			walk(path+" "+method, map[string]any(op))
		}
	}
}

// document returns the OpenAPI document that the caller gets.
func (c *caller) document() *spec {
	c.t.Helper()
	return readSpec(c.t, c.raw("GET", "/v1/openapi.json", "").is(200).body)
}
