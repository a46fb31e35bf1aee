package docker

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/infra"
	"github.com/stackforge/magnum/structs"
)

func TestCheckNonRoot(t *testing.T) {
	for user, want := range map[string]string{
		"": "will run as root", "root": "will run as root", "0": "will run as root", "0:5": "will run as root",
		"root:root": "will run as root", "00": "will run as root",
		"web": "non-numeric user \"web\"", "web:5": "non-numeric user", "-1": "non-numeric user",
		"1": "", "1000:0": "",
	} {
		err := checkNonRoot(user, "an-image")
		if want == "" {
			if err != nil {
				t.Errorf("user %q is refused: %v", user, err)
			}
			continue
		}
		if !errors.Is(err, backend.ErrConfig) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "an-image") {
			t.Errorf("user %q gives %v, want %q", user, err, want)
		}
	}
}

func TestSecureWithoutAnImage(t *testing.T) {
	user, group := int64(1000), int64(7)
	for _, c := range []struct {
		s    structs.PodSecurity
		want string
	}{
		{structs.PodSecurity{}, ""},
		{structs.PodSecurity{RunAsUser: &user}, "1000"},
		{structs.PodSecurity{RunAsUser: &user, RunAsGroup: &group, RunAsNonRoot: true}, "1000:7"},
	} {
		conf, host := new(container.Config), new(container.HostConfig)
		if err := new(runtime).secure(t.Context(), &c.s, conf, host); err != nil || conf.User != c.want {
			t.Errorf("the user of %+v is %q, %v; want %q", c.s, conf.User, err, c.want)
		}
		if host.ReadonlyRootfs || host.CapDrop != nil || host.SecurityOpt != nil {
			t.Errorf("%+v restricts %+v", c.s, host)
		}
	}
}

// TestLimitCPU: what a quota says is read as what was asked for.
func TestLimitCPU(t *testing.T) {
	for asked, want := range map[int64]int64{0: 0, 1: 1, 9: 9, 10: 10, 250: 250, 1500: 1500, 64_000: 64_000} {
		host := &container.HostConfig{Resources: container.Resources{NanoCPUs: asked * 1e6}}
		limitCPU(&host.Resources)
		if host.NanoCPUs != 0 || limitsOf(host).MilliCPU != want {
			t.Errorf("%d thousandths are %+v, read as %d", asked, host.Resources, limitsOf(host).MilliCPU)
		}
	}
}

// TestInfraImageIsKnownByItsLayer: neither label nor name make an image the backend's own.
func TestInfraImageIsKnownByItsLayer(t *testing.T) {
	own, _ := infra.New("arm64")
	var labelled image.InspectResponse
	text := `{"RepoTags":["` + infra.Name + `"],"Config":{"Entrypoint":["/infra"],"Labels":{"` + infra.Label + `":"1"}}}`
	if err := json.Unmarshal([]byte(text), &labelled); err != nil {
		t.Fatal(err)
	}
	if isInfra(labelled) || isInfra(image.InspectResponse{}) {
		t.Error("an image with the label is taken for the backend's own")
	}
	labelled.RootFS.Layers = []string{own.Layer}
	if !isInfra(labelled) {
		t.Error("the backend's own image isn't known")
	}
	labelled.Config.Labels = nil
	if isInfra(labelled) {
		t.Error("an image without the label is hidden")
	}
}

// TestInfraImageIsKnownByItsConfiguration: an image with the label and the layer that would
// start something else, or elsewhere, is neither used nor hidden.
func TestInfraImageIsKnownByItsConfiguration(t *testing.T) {
	own, _ := infra.New("amd64")
	for conf, want := range map[string]bool{
		`"Entrypoint":["/infra"]`:                                        true,
		`"Entrypoint":["/infra"],"Cmd":null,"Env":[],"Volumes":{}`:       true,
		`"Cmd":["/infra"]`:                                               false,
		`"Entrypoint":["/volumes/evil"]`:                                 false,
		`"Entrypoint":["/infra"],"Cmd":["x"]`:                            false,
		`"Entrypoint":["/infra"],"Env":["LD_PRELOAD=/volumes/evil.so"]`:  false,
		`"Entrypoint":["/infra"],"User":"1000"`:                          false,
		`"Entrypoint":["/infra"],"Volumes":{"/volumes":{}}`:              false,
		`"Entrypoint":["/infra","more"],"StopSignal":"SIGTERM","Cmd":[]`: false,
	} {
		var raw image.InspectResponse
		if err := json.Unmarshal([]byte(`{"Config":{"Labels":{"`+infra.Label+`":"1"},`+conf+`}}`), &raw); err != nil {
			t.Fatal(err)
		}
		raw.RootFS.Layers = []string{own.Layer}
		if isInfra(raw) != want {
			t.Errorf("with %s isInfra is %t", conf, !want)
		}
	}
}

// TestInfraContainerStartsTheProgram: what an infra container starts doesn't come from the
// configuration of the image.
func TestInfraContainerStartsTheProgram(t *testing.T) {
	rt := &runtime{infra: infraImage{id: "sha256:made"}}
	conf := &container.Config{User: "7", Cmd: []string{"x"}}
	if err := rt.configureInfra(t.Context(), new(backend.PodPart), conf, new(container.HostConfig)); err != nil {
		t.Fatal(err)
	}
	if conf.Image != "sha256:made" || !slices.Equal(conf.Entrypoint, infra.Entrypoint()) || conf.Cmd != nil || conf.User != "0:0" {
		t.Errorf("it is configured as %+v", conf)
	}
}
