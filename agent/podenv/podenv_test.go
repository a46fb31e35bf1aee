package podenv

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// web is a pod with an init container and two containers, the second without limits.
func web() *Pod {
	return &Pod{
		Name: "web-1", ProjectID: "0a1b", ID: "11111111-2222-3333-4444-555555555555",
		Labels:      map[string]string{"app": "web", "example.com/tier": "it's"},
		Annotations: map[string]string{"note": "two\nlines", "nul": "a\x00b", "long": strings.Repeat("x", structs.MaxEnvironment)},
		HostName:    "host-a", HostIPs: []string{"192.0.2.7", "2001:db8::7"}, IPs: []string{"10.0.0.5", "fd00::5"},
		Spec: &structs.PodSpec{
			InitContainers: []structs.PodContainer{{Name: "init", Limits: structs.Resources{Memory: 1 << 30}}},
			Containers: []structs.PodContainer{
				{
					Name: "main", Limits: structs.Resources{Memory: 100<<20 + 1, MilliCPU: 1001},
					Requests: structs.Resources{Memory: 5, MilliCPU: 250},
				},
				{Name: "side"},
			},
		},
		Capacity: structs.Resources{Memory: 8 << 30, MilliCPU: 3500},
	}
}

// TestServiceVariables: references may name them, the container's own win, and they aren't
// part of the result, which is hashed.
func TestServiceVariables(t *testing.T) {
	p := web()
	p.Services = map[string]string{"DB_SERVICE_HOST": "10.127.0.1", "DB_SERVICE_PORT": "5432"}
	got, err := p.Process(&structs.PodContainer{Name: "main", Args: []string{"$(DB_SERVICE_PORT)", "$(DB_SERVICE_HOST)"},
		Env: []structs.EnvVar{{Name: "URL", Value: "$(DB_SERVICE_HOST):$(DB_SERVICE_PORT)"}, {Name: "DB_SERVICE_PORT", Value: "1"},
			{Name: "NOW", Value: "$(DB_SERVICE_PORT)"}}})
	want := map[string]string{"URL": "10.127.0.1:5432", "DB_SERVICE_PORT": "1", "NOW": "1"}
	if err != nil || !maps.Equal(got.Env, want) || strings.Join(got.Args, " ") != "1 10.127.0.1" {
		t.Errorf("%+v, %v; want %v", got, err, want)
	}
}

func TestFields(t *testing.T) {
	for path, want := range map[string]string{
		"metadata.name":                           "web-1",
		"metadata.namespace":                      "0a1b",
		"metadata.uid":                            "11111111-2222-3333-4444-555555555555",
		"metadata.labels['app']":                  "web",
		"metadata.labels['example.com/tier']":     "it's",
		"metadata.labels['none']":                 "",
		"metadata.annotations['note']":            "two\nlines",
		"spec.nodeName":                           "host-a",
		"spec.serviceAccountName":                 "default",
		"status.hostIP":                           "192.0.2.7",
		"status.hostIPs":                          "192.0.2.7,2001:db8::7",
		"status.podIP":                            "10.0.0.5",
		"status.podIPs":                           "10.0.0.5,fd00::5",
		"metadata.labels":                         "refused",
		"metadata.annotations":                    "refused",
		"metadata.labels[app]":                    "refused",
		"metadata.labels['app'":                   "refused",
		"status.phase":                            "refused",
		"":                                        "",
		"spec.containers[0].image":                "refused",
		"metadata.labels['app'].metadata.name":    "refused",
		"prefix.metadata.name":                    "refused",
		"metadata.annotations['note']['further']": "",
	} {
		got, err := web().Process(&structs.PodContainer{Name: "main", Env: []structs.EnvVar{{Name: "X", Field: path}}})
		if want == "refused" {
			text := `container "main": variable "X": field "` + path
			if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), text) {
				t.Errorf("%s is %q, %v; want it refused", path, got.Env["X"], err)
			}
		} else if err != nil || got.Env["X"] != want {
			t.Errorf("%s is %q, %v; want %q", path, got.Env["X"], err, want)
		}
	}
}

func TestFieldsThatAreNotKnownYet(t *testing.T) {
	for _, path := range []string{"status.podIP", "status.podIPs", "status.hostIP", "status.hostIPs", "metadata.labels['x']"} {
		if got, err := (&Pod{}).field(path); err != nil || got != "" {
			t.Errorf("%s is %q, %v", path, got, err)
		}
	}
}

func TestResources(t *testing.T) {
	for _, c := range []struct {
		container, resource string
		divisor             int64
		want                string // "" means refused
	}{
		{"main", "limits.memory", 0, "104857601"},
		{"main", "limits.memory", 1, "104857601"},
		{"main", "limits.memory", 1 << 20, "101"}, // rounded up
		{"main", "limits.memory", 1 << 40, "1"},
		{"main", "limits.cpu", 0, "2"},
		{"main", "limits.cpu", 1000, "2"},
		{"main", "limits.cpu", 1, "1001"},
		{"main", "limits.cpu", 100, "11"},
		{"main", "requests.memory", 0, "5"},
		{"main", "requests.cpu", 0, "1"},
		{"main", "requests.cpu", 1, "250"},
		{"side", "limits.memory", 1 << 30, "8"}, // the host's
		{"side", "limits.cpu", 0, "4"},
		{"side", "limits.cpu", 1, "3500"},
		{"side", "requests.memory", 0, "0"},
		{"side", "requests.cpu", 0, "0"},
		{"init", "limits.memory", 1 << 20, "1024"},
		{"none", "limits.cpu", 0, ""},
		{"main", "limits.ephemeral-storage", 0, ""},
		{"main", "", 0, ""},
	} {
		v := structs.EnvVar{Name: "X", Resource: &structs.ResourceRef{Container: c.container, Resource: c.resource, Divisor: c.divisor}}
		got, err := web().Process(&structs.PodContainer{Name: "main", Env: []structs.EnvVar{v}})
		if c.want == "" {
			if structs.CodeOf(err) != structs.CodeInvalid {
				t.Errorf("%s of %s is %q, %v; want it refused", c.resource, c.container, got.Env["X"], err)
			}
		} else if err != nil || got.Env["X"] != c.want {
			t.Errorf("%s of %s by %d is %q, %v; want %s", c.resource, c.container, c.divisor, got.Env["X"], err, c.want)
		}
	}
}

func TestProcessExpandsInOrder(t *testing.T) {
	got, err := web().Process(&structs.PodContainer{
		Name: "main",
		Env: []structs.EnvVar{
			{Name: "EARLY", Value: "$(LATER)"},
			{Name: "LATER", Value: "1"},
			{Name: "NAME", Field: "metadata.name"},
			{Name: "URL", Value: "http://$(NAME):$(PORT)/$$(NAME)"},
			{Name: "PORT", Value: "80"},
			{Name: "EMPTY"},
			{Name: "TWICE", Value: "first"},
			{Name: "SEES", Value: "$(TWICE)"},
			{Name: "TWICE", Value: "second after $(TWICE)"},
			{Name: "SELF", Value: "$(SELF)"},
		},
		Command: []string{"/bin/$(NAME)", "$(EARLY)", "", "$$(PORT)"},
		Args:    []string{"$(PORT)", "$(NONE)", "$(EMPTY)"},
	})
	want := map[string]string{
		"EARLY": "$(LATER)", "LATER": "1", "NAME": "web-1", "URL": "http://web-1:$(PORT)/$(NAME)", "PORT": "80", "EMPTY": "",
		"TWICE": "second after first", "SEES": "first", "SELF": "$(SELF)",
	}
	if err != nil || !maps.Equal(got.Env, want) {
		t.Errorf("Env is %q, %v; want %q", got.Env, err, want)
	}
	if got, want := fmt.Sprintf("%q", got.Command), `["/bin/web-1" "$(LATER)" "" "$(PORT)"]`; got != want {
		t.Errorf("Command is %s, want %s", got, want)
	}
	if got, want := fmt.Sprintf("%q", got.Args), `["80" "$(NONE)" ""]`; got != want {
		t.Errorf("Args is %s, want %s", got, want)
	}
}

func TestProcessKeepsWhatTheImageSays(t *testing.T) {
	got, err := web().Process(&structs.PodContainer{Name: "main"})
	if err != nil || got.Command != nil || got.Args != nil || len(got.Env) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestProcessRefusals(t *testing.T) {
	// Each variable has the one before twice: the 30th would have a gigabyte.
	double := []structs.EnvVar{{Name: "V0", Value: "x"}}
	for i := range 30 {
		double = append(double, structs.EnvVar{Name: fmt.Sprintf("V%d", i+1), Value: fmt.Sprintf("$(V%d)$(V%d)", i, i)})
	}
	third := strings.Repeat("x", structs.MaxEnvironment/3+1)
	longest := strings.Repeat("x", structs.MaxVariable-len("A="))
	word := strings.Repeat("x", structs.MaxCommand/2)
	for _, c := range []struct {
		name      string
		container structs.PodContainer
		want      string
	}{
		{"values that double", structs.PodContainer{Env: double}, `variable "V17": it expands`},
		{"values that are too long together", structs.PodContainer{
			Env: []structs.EnvVar{{Name: "A", Value: third}, {Name: "B", Value: third}, {Name: "C", Value: third}},
		}, `variable "C": it expands`},
		{"a value that is too long", structs.PodContainer{Env: []structs.EnvVar{{Name: "AB", Value: longest}}},
			`variable "AB": it has 131072 bytes with its name`},
		{"a value that is too long once it is expanded", structs.PodContainer{
			Env: []structs.EnvVar{{Name: "A", Value: longest[:len(longest)/2]}, {Name: "BCD", Value: "$(A)$(A)"}},
		}, `variable "BCD": it has 131072 bytes with its name`},
		{"a field that is too long", structs.PodContainer{Env: []structs.EnvVar{{Name: "A", Field: "metadata.annotations['long']"}}},
			`variable "A": the environment has more than`},
		{"a NUL byte", structs.PodContainer{Env: []structs.EnvVar{{Name: "A", Field: "metadata.annotations['nul']"}}},
			`variable "A": the value contains a NUL byte`},
		{"a long command", structs.PodContainer{Command: []string{word, word, "x"}}, "command[2]: it expands"},
		{"long arguments", structs.PodContainer{
			Env: []structs.EnvVar{{Name: "A", Value: word}}, Command: []string{word}, Args: []string{"y", "$(A)"},
		}, "args[1]: it expands"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.container.Name = "main"
			_, err := web().Process(&c.container)
			if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), `container "main": `+c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// What a later variable of the same name replaces no longer counts.
func TestProcessCountsReplacedValuesOnce(t *testing.T) {
	longest := strings.Repeat("x", structs.MaxVariable-len("A="))
	env := []structs.EnvVar{{Name: "A", Value: longest}, {Name: "A", Value: longest}, {Name: "A", Value: longest}}
	if _, err := web().Process(&structs.PodContainer{Env: env}); err != nil {
		t.Error(err)
	}
}
