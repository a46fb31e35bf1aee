package rest_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// takeUUID returns the paths of the OpenAPI document to which an object with a uuid is posted.
func takeUUID(t *testing.T, c *caller) (paths []string) {
	t.Helper()
	type schema struct {
		Ref        string `json:"$ref"`
		Properties map[string]any
	}
	var doc struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct{ Schema schema }
			}
		}
		Components struct{ Schemas map[string]schema }
	}
	raw := c.raw("GET", "/v1/openapi.json", "").is(200)
	if err := json.Unmarshal(raw.body, &doc); err != nil {
		t.Fatal(err)
	}
	for path, operations := range doc.Paths {
		for _, content := range operations["post"].RequestBody.Content {
			of := content.Schema
			if of.Ref != "" {
				of = doc.Components.Schemas[of.Ref[strings.LastIndex(of.Ref, "/")+1:]]
			}
			if _, ok := of.Properties["uuid"]; ok {
				paths = append(paths, path)
			}
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// TestUUIDOfAnotherProject has every kind of object that takes a UUID created with that of
// another project's object. The answer is the same as for a UUID that no object can have.
// In the caller's own project, and for operators, it is a conflict.
func TestUUIDOfAnotherProject(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	s.StartAgent(t, "host-1")
	alice, mallory, admin := newCaller(t, s).as("alice"), newCaller(t, s).as("mallory"), newCaller(t, s).as("admin")
	home := admin.do("POST", "/v1/bays?wait=10s", `{"name":"home","shared":true}`).is(201).uuid()
	with := func(manifest string) string {
		return `,"bay":"` + home + `","manifest":` + strings.TrimSpace(toJSON(t, manifest))
	}
	fields := map[string]string{
		"/v1/bays": "", "/v1/nodes": "", "/v1/baymodels": `,"coe":"docker"`, "/v1/containers": `,"image":"busybox","bay":"` + home + `"`,
		"/v1/pods": with(podManifest("web", "busybox")), "/v1/rcs": with(rcManifest("web", 0, "busybox")),
		"/v1/services": with(serviceManifest("web", "ports: [{port: 80}]")),
	}
	paths := takeUUID(t, alice)
	for _, path := range paths {
		more, ok := fields[path]
		if !ok {
			t.Errorf("%s takes a UUID, and isn't tried here", path)
			continue
		}
		id, free := structs.NewID(), structs.NewID()
		post := func(c *caller, id string) *reply { return c.do("POST", path, `{"uuid":"`+id+`"`+more+`}`) }
		post(alice, id).is(201)
		post(alice, id).is(409).mentions("already exists")
		post(admin, id).is(409)
		answer := func(id string) string {
			r := post(mallory, id).is(400)
			text := string(r.body)
			for _, own := range []string{id, r.header.Get("X-Openstack-Request-Id")} {
				text = strings.ReplaceAll(text, own, "")
			}
			return text
		}
		if taken, unusable := answer(id), answer(structs.NoID); taken != unusable {
			t.Errorf("POST %s with the UUID of another project's object: %s\nwith one that can't be used: %s", path, taken, unusable)
		}
		if list := mallory.do("GET", path, "").is(200); strings.Contains(string(list.body), id) {
			t.Errorf("POST %s with another project's UUID made %s", path, list.body)
		}
		post(mallory, free).is(201)
	}
	if len(paths) != len(fields) {
		t.Errorf("of %d kinds of objects only these take a UUID: %q", len(fields), paths)
	}
}
