package rest_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// sized returns a request for a container with that many bytes in environment and labels.
func sized(bay string, environment, labels int) string {
	env, lab := map[string]string{}, map[string]string{}
	for i := 0; environment > 0; i++ {
		n := min(environment, 4000)
		env[fmt.Sprintf("E%03d", i)] = strings.Repeat("e", n)
		environment -= n
	}
	for i := 0; labels > 0; i++ {
		n := min(labels, 4000)
		lab[fmt.Sprintf("l%03d", i)] = strings.Repeat("l", n)
		labels -= n
	}
	b, _ := json.Marshal(map[string]any{"image": "busybox", "bay": bay, "environment": env, "labels": lab})
	return string(b)
}

// TestSpecSizeIsLimitedOnEveryRoute checks that a spec which is too large in total is
// refused with 400, that the error says what to make smaller, and that nothing changes.
func TestSpecSizeIsLimitedOnEveryRoute(t *testing.T) {
	f := newFixture(t)
	hash := func() uint64 { return f.s.Store.Hash() }
	limit := fmt.Sprint(structs.MaxSpec)
	was := hash()
	f.do("POST", "/v1/containers", sized(f.bay, 150<<10, 240<<10)).is(400).code("container.invalid").mentions(limit, "labels with ")
	f.do("POST", "/v1/containers?run=true", sized(f.bay, 240<<10, 150<<10)).is(400).mentions(limit, "environment with ")
	zun := strings.Replace(sized(f.bay, 240<<10, 150<<10), `"bay":"`+f.bay+`",`, "", 1)
	f.zun("POST", "/v1/containers?run=true", zun).is(400).mentions(limit, "environment with ")
	if hash() != was {
		t.Error("a refusal has changed something")
	}
	c := f.do("POST", "/v1/containers?run=true&wait=1m", sized(f.bay, 200<<10, 178<<10)).is(201).uuid()
	was = hash()
	command := strings.Repeat("c", 20<<10)
	f.do("PATCH", "/v1/containers/"+c, `[{"op":"replace","path":"/command","value":["`+command+`"]}]`).is(400).mentions(limit,
		"environment with ")
	if hash() != was {
		t.Error("a refusal has changed something")
	}
	f.do("PATCH", "/v1/containers/"+c, `[{"op":"replace","path":"/name","value":"renamed"}]`).is(200)
	f.do("PATCH", "/v1/containers/"+c, `[{"op":"replace","path":"/command","value":["sh"]}]`).is(200)
}

// TestContainerWithSpecRowIsShownWhole checks that a container is shown and assigned with
// its whole spec, also if the spec has its own row.
func TestContainerWithSpecRowIsShownWhole(t *testing.T) {
	var lastSpec atomic.Pointer[structs.ContainerSpec]
	f := newFixture(t, servertest.Behave(func(a structs.Assignment) *structs.Observed {
		if a.Spec != nil {
			lastSpec.Store(a.Spec)
		}
		return servertest.Obey(a)
	}))
	body := sized(f.bay, 100<<10, 100<<10)
	var asked struct{ Environment, Labels map[string]string }
	if err := json.Unmarshal([]byte(body), &asked); err != nil {
		t.Fatal(err)
	}
	check := func(what string, raw []byte) {
		t.Helper()
		var shown struct{ Environment, Labels map[string]string }
		if err := json.Unmarshal(raw, &shown); err != nil || !reflect.DeepEqual(shown, asked) {
			t.Errorf("%s: %d variables and %d labels, %v", what, len(shown.Environment), len(shown.Labels), err)
		}
	}
	made := f.do("POST", "/v1/containers?run=true&wait=1m", body).is(201)
	check("the create's answer", made.body)
	id := made.uuid()
	assigned := func(what string) {
		t.Helper()
		spec := lastSpec.Load()
		if spec == nil || !reflect.DeepEqual(spec.Environment, asked.Environment) || !reflect.DeepEqual(spec.Labels, asked.Labels) {
			t.Errorf("%s: the host is assigned another spec", what)
		}
	}
	assigned("created")
	check("show", f.do("GET", "/v1/containers/"+id, "").is(200).body)
	list := f.do("GET", "/v1/containers/detail", "").is(200).items("containers")
	first, _ := json.Marshal(list[0])
	check("list", first)
	if got := f.do("GET", "/v1/containers?label=l000", "").is(200).items("containers"); len(got) != 1 {
		t.Errorf("%d containers have a label that stands in a large spec", len(got))
	}
	lastSpec.Store(nil)
	f.do("PUT", "/v1/containers/"+id+"/rebuild?image=other&wait=1m", "").is(200)
	check("show after a rebuild", f.do("GET", "/v1/containers/"+id, "").is(200).body)
	assigned("rebuilt")
	f.do("DELETE", "/v1/containers/"+id+"?force=true&wait=1m", "").is(204)
	if f.s.Store.Snapshot().HasSpecs() {
		t.Error("a spec is left")
	}
}
