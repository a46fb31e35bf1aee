//go:build engine

package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/dockertest"
	"github.com/stackforge/magnum/structs"
)

// partReport returns the last report of a part. The caller holds s.mu.
func (s *fakeServer) partReport(a structs.Assignment, name string) (part structs.PartReport) {
	for _, p := range s.reported[a.ID].Parts {
		if p.Part == name {
			part = p
		}
	}
	return part
}

// TestPodOnDocker: a pod from its creation to its deletion, with what can happen to it in
// between.
func TestPodOnDocker(t *testing.T) {
	s, dir := newFakeServer(t), t.TempDir()
	d := dockerHost(t, s, dir)
	r := runAgent(t, dir, d, nil, s)
	a := wantPod(structs.NewID(), func(p *structs.PodSpec) {
		p.GracePeriod, p.Hostname = 1, "shop"
		p.Volumes = []structs.PodVolume{{Name: "data"}}
		mount := []structs.PodMount{{Volume: "data", Path: "/data"}}
		p.InitContainers = []structs.PodContainer{script("prepare", "echo prepared >> /data/log")}
		p.Containers = []structs.PodContainer{
			script("web", "httpd -p 8080 -h /data; while :; do sleep 1; done"),
			script("side", "trap exit TERM; echo began; sleep 1000 & wait")}
		for _, list := range [][]structs.PodContainer{p.InitContainers, p.Containers} {
			for i := range list {
				list[i].Image, list[i].Mounts = dockertest.Image, mount
			}
		}
		p.Containers[0].Env = []structs.EnvVar{{Name: "IP", Field: "status.podIP"}}
		p.Containers[0].Readiness = &structs.Probe{Handler: structs.Handler{HTTP: &structs.HTTPGet{Port: 8080, Path: "/log"}}, Period: 1,
			Timeout: 1, Success: 1, Failure: 3}
	})
	a.ProjectID = structs.NewID()
	s.assign(a)
	up := func(when string, attempt int) {
		t.Helper()
		s.eventually(when, func() bool {
			web, side := s.partReport(a, "web"), s.partReport(a, "side")
			return s.reported[a.ID].Status == structs.ContainerRunning && web.Ready && side.Ready && web.RestartCount == attempt-1
		})
	}
	up("it runs", 1)
	if n := len(podVolumes(t, a.ID)); n != 1 {
		t.Errorf("the pod has %d volumes", n)
	}
	s.mu.Lock()
	address := strings.Join(s.reported[a.ID].Addresses, " ")
	s.mu.Unlock()
	said := func(part, command string, want string) {
		t.Helper()
		offer := structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionExec,
			Exec: &structs.ExecRequest{Command: []string{"sh", "-c", command}}}
		offer.About(of(a, part))
		if got := listen(t, s.offer(offer)); strings.TrimSpace(got.stdout) != want {
			t.Errorf("%s in %s says %+v, want %q", command, part, got, want)
		}
	}
	said("web", `echo "$IP $(hostname) $(cat /data/log)"`, address+" shop prepared")
	said("side", `wget -qO- http://127.0.0.1:8080/log`, "prepared")
	conn := s.offer(forwardOffer(a, 8080))
	say(t, conn, structs.ChannelStdin, "GET /log HTTP/1.0\r\n\r\n")
	say(t, conn, structs.ChannelControl, `{"eof":true}`)
	if got := listen(t, conn); !strings.HasPrefix(got.stdout, "HTTP/1.1 200 OK") || !strings.HasSuffix(got.stdout, "prepared\n") ||
		!got.last.Done {
		t.Errorf("a connection from outside: %+v", got)
	}
	if got := listen(t, s.offer(forwardOffer(a, 8081))); !strings.Contains(got.last.Error, "connection refused") {
		t.Errorf("a connection to a closed port: %+v", got)
	}

	name := func(part string, attempt uint64) string { return backend.AttemptName(of(a, part), attempt) }
	if err := d.Kill(t.Context(), name("web", 1)); err != nil {
		t.Fatal(err)
	}
	up("a killed container runs again", 2)
	before := time.Now()
	r.stop()
	r = runAgent(t, dir, d, nil, s)
	s.eventually("reported again", func() bool { return len(s.registers) == 2 && s.reports[len(s.reports)-1].Registration == 2 })
	up("after a restart of the agent", 2)
	s.mu.Lock()
	if started := s.partReport(a, "web").State.StartedAt; started.After(before) {
		t.Error("a restart of the agent has started a container")
	}
	s.mu.Unlock()
	if err := d.Kill(t.Context(), name(structs.PodInfra, 1)); err != nil {
		t.Fatal(err)
	}
	up("in another infra container", 3)
	said("web", `cat /data/log | tr '\n' ' '`, "prepared prepared")
	offer := structs.SessionOffer{SID: structs.NewID(), Kind: structs.SessionLogs, Logs: &structs.LogsRequest{Stdout: true, Tail: -1,
		Previous: true}}
	offer.About(of(a, "side"))
	if got := listen(t, s.offer(offer)); got.stdout != "began\n" {
		t.Errorf("the log before is %+v", got)
	}

	a = next(a, structs.DesiredAbsent)
	s.assign(a)
	s.eventually("gone", func() bool { return len(s.want) == 0 })
	r.stop()
	if _, err := d.Inspect(t.Context(), name(structs.PodInfra, 2)); err == nil {
		t.Error("the infra container is there")
	}
	if left := podVolumes(t, a.ID); len(left) != 0 {
		t.Errorf("volumes %v are left", left)
	}
}

// podVolumes returns the volumes of the real engine that belong to a pod.
func podVolumes(t *testing.T, id string) (names []string) {
	t.Helper()
	cli, err := dockertest.Open("")
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	label := filters.Arg("label", backend.LabelWorkload+"="+id)
	all, err := cli.VolumeList(t.Context(), volume.ListOptions{Filters: filters.NewArgs(label)})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all.Volumes {
		names = append(names, v.Name)
	}
	return names
}
