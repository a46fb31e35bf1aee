package rest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// TestWorkForEarlierAgents polls as an agent of this build, and as an agent that only
// knows the earlier form of specs.
func TestWorkForEarlierAgents(t *testing.T) {
	f := newFixture(t)
	id := f.container("c", `,"restart_policy":"on-failure:3","registry":{"username":"bob","password":"s3cret"}`)
	poll := func(understands ...string) (raw string, a structs.Assignment) {
		t.Helper()
		r, err := http.NewRequest("GET", f.s.URL+"/v1/agent/hosts/"+f.agent.HostID+"/work?index=0", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+f.agent.Secret)
		r.Header.Set("X-Magnum-Registration", "1")
		for _, u := range understands {
			r.Header.Add(structs.HeaderUnderstands, u)
		}
		resp, err := httpClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var buf bytes.Buffer
		_, err = buf.ReadFrom(resp.Body)
		var work structs.Work
		if err != nil || resp.StatusCode != 200 || json.Unmarshal(buf.Bytes(), &work) != nil || len(work.Assignments) != 1 {
			t.Fatalf("%d: %s, %v", resp.StatusCode, &buf, err)
		}
		return buf.String(), work.Assignments[0]
	}
	earlier, a := poll()
	now, b := poll("something", "else, "+structs.UnderstandsSpec)
	if !reflect.DeepEqual(a, b) || a.ContainerID != id || a.Spec.RestartPolicy.MaxRetries != 3 || a.Registry == nil ||
		a.Registry.Password != "s3cret" {
		t.Errorf("they read as\n%+v\n%+v", a, b)
	}
	for _, has := range []string{`"Image":"busybox:latest"`, `"RestartPolicy":{"Name":"on-failure","MaxRetries":3}`,
		`"Registry":{"username":"bob"`} {
		if !strings.Contains(earlier, has) || strings.Contains(now, has) {
			t.Errorf("%s is not in\n%s\nor is in\n%s", has, earlier, now)
		}
	}
	for _, has := range []string{`"image_id":"busybox:latest"`, `"restart_policy":"on-failure:3"`, `"registry":{"username":"bob"`} {
		if strings.Contains(earlier, has) || !strings.Contains(now, has) {
			t.Errorf("%s is in\n%s\nor is not in\n%s", has, earlier, now)
		}
	}
}
