package backendtest

import (
	"errors"
	"slices"
	"testing"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

func TestFake(t *testing.T) { Suite(t, NewFake()) }

// TestEachInterfaceByItself tests each optional interface beside a backend that only
// runs workloads, and that backend.
func TestEachInterfaceByItself(t *testing.T) {
	fake := NewFake()
	t.Run("none", func(t *testing.T) { Suite(t, struct{ backend.Backend }{fake}) })
	t.Run("consoles", func(t *testing.T) {
		Consoles(t, struct{ backend.Backend }{fake}, fake.Consoles)
	})
	t.Run("images", func(t *testing.T) {
		Images(t, struct{ backend.Backend }{fake}, fake.Images)
	})
	t.Run("pods", func(t *testing.T) {
		Pods(t, struct{ backend.Backend }{fake}, fake.Pods, fake.Consoles)
	})
	t.Run("volumes", func(t *testing.T) {
		Volumes(t, struct{ backend.Backend }{fake}, fake.Volumes)
	})
}

// podOf creates and starts a part of a pod on a fake.
func podOf(t *testing.T, fake *Fake, ref structs.Ref, part backend.PodPart, spec *structs.ContainerSpec) *backend.Container {
	t.Helper()
	req := backend.CreateRequest{Owner: backend.Owner{ClusterID: "c", HostID: "h"}, Ref: ref, ProjectID: "p", Spec: spec, Pod: &part}
	c, err := fake.Create(t.Context(), req, func(string) {})
	if err == nil {
		err = fake.Start(t.Context(), c.EngineID)
	}
	if err == nil {
		c, err = fake.Inspect(t.Context(), c.EngineID)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestFakePodsAfterARestart: as on Docker, see TestPodsAfterARestartOfTheEngine there.
func TestFakePodsAfterARestart(t *testing.T) {
	fake := NewFake()
	pod := structs.Ref{Kind: structs.WorkloadPod, ID: "id", Epoch: 1, Part: structs.PodInfra}
	always := Sleeper()
	always.RestartPolicy.Name = structs.RestartAlways // the agent's, not the engine's
	in := podOf(t, fake, pod, backend.PodPart{Attempt: 1}, &structs.ContainerSpec{})
	pod.Part = "web"
	web := podOf(t, fake, pod, backend.PodPart{Attempt: 1, Infra: in.EngineID}, always)
	fake.Outside.Down()
	fake.Outside.Up()
	for _, c := range []*backend.Container{in, web} {
		if now, err := fake.Inspect(t.Context(), c.EngineID); err != nil || now.Live() {
			t.Errorf("it is %+v, %v", now, err)
		}
	}
	if err := fake.Start(t.Context(), web.EngineID); !errors.Is(err, backend.ErrNoInfra) {
		t.Errorf("a start without the infra container gives %v", err)
	}
	if err := fake.Start(t.Context(), in.EngineID); err != nil {
		t.Fatal(err)
	}
	podOf(t, fake, pod, backend.PodPart{Attempt: 2, Infra: in.EngineID}, always)
}

// TestFakeScripts: what tests of package agent set for the attempts of a part.
func TestFakeScripts(t *testing.T) {
	fake := NewFake()
	pod := structs.Ref{Kind: structs.WorkloadPod, ID: "id", Epoch: 1, Part: structs.PodInfra}
	fake.Outside.SetAddress("127.0.0.1")
	in := podOf(t, fake, pod, backend.PodPart{Attempt: 1}, &structs.ContainerSpec{})
	if !slices.Equal(in.Addresses, []string{"127.0.0.1"}) {
		t.Errorf("its addresses are %v", in.Addresses)
	}
	pod.Part = "web"
	fake.Outside.Script(pod, 3, Runs, 0)
	for attempt, want := range map[uint64]int{1: 3, 2: Runs, 3: 0, 4: Runs} {
		c := podOf(t, fake, pod, backend.PodPart{Attempt: attempt, Infra: in.EngineID}, Sleeper())
		if c.Live() != (want == Runs) || !c.Live() && c.ExitCode != want {
			t.Errorf("attempt %d is %+v", attempt, c)
		}
	}
	attempts := fake.Seen.Attempts(pod)
	if len(attempts) != 4 || attempts[3].Attempt != 4 || fake.Seen.Creates(pod) != 4 || fake.Seen.PodOf(pod).Attempt != 4 ||
		fake.Seen.Containers()[pod].Attempt != 4 {
		t.Errorf("seen are %+v", attempts)
	}
	fake.Outside.OutOfMemory(pod)
	if last := fake.Seen.Attempts(pod)[3]; last.Live() || !last.OOMKilled || last.ExitCode != 137 {
		t.Errorf("out of memory, it is %+v", last)
	}
	fake.Outside.AnswerExec(pod, 7, "no\n")
	var out []byte
	code, err := fake.Exec(t.Context(), attempts[1].EngineID, structs.ExecRequest{Command: []string{"sleep", "600"}},
		backend.ExecStreams{Stdout: writer(func(p []byte) { out = append(out, p...) }), Stderr: writer(func([]byte) {})})
	if code != 7 || err != nil || string(out) != "no\n" {
		t.Errorf("a command ends with %d, %v, %q", code, err, out)
	}
	fake.Outside.SetUser(Image, "1000")
	podOf(t, fake, pod, backend.PodPart{Attempt: 5, Infra: in.EngineID, Security: structs.PodSecurity{RunAsNonRoot: true}}, Sleeper())
}
