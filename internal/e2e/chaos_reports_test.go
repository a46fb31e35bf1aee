//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// lastReport is the last report of a host that the servers have accepted.
type lastReport struct{ registration, seq uint64 }

var registeredLine = regexp.MustCompile(`registered: .*registration=(\d+)`)

// registration returns the number of the agent's last registration.
func (a *hostAgent) registration() (uint64, error) {
	log, err := os.ReadFile(a.log)
	if err != nil {
		return 0, err
	}
	all := registeredLine.FindAllSubmatch(log, -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("the log of %s has no registration", a.name)
	}
	return strconv.ParseUint(string(all[len(all)-1][1]), 10, 64)
}

// lateReports sends outdated reports in each agent's name through each server,
// and checks that they change nothing: I9. The number of the last accepted
// report never goes back. Nothing else may be under way.
func (l *runningContainers) lateReports() {
	l.Helper()
	const late = "a report that comes late"
	for _, a := range l.agents {
		list, _, err := l.client.Containers().List(l.ctx(), api.QueryOptions{Consistent: true, Detail: true})
		if err != nil {
			l.Fatal(err)
		}
		var lies []structs.ContainerReport
		for _, b := range list {
			if deref(b.Host) == a.name {
				lies = append(lies, structs.ContainerReport{ContainerID: b.UUID, Epoch: uint64(b.Epoch),
					Observed: structs.Observed{Status: structs.ContainerError, Reason: late}})
			}
		}
		for _, b := range l.listPods() {
			if deref(b.Host) == a.name {
				lies = append(lies, structs.ContainerReport{Kind: structs.WorkloadPod, ID: b.UUID, Epoch: b.Epoch,
					Observed: structs.Observed{Status: structs.ContainerError, Reason: late}})
			}
		}
		for _, n := range l.servers {
			agent, err := api.NewAgent(api.AgentConfig{Servers: []string{n.addr}})
			if err != nil {
				l.Fatal(err)
			}
			secret, err := os.ReadFile(filepath.Join(a.dir, "agent", "agent.secret"))
			if err != nil {
				l.Fatal(err)
			}
			var registration uint64
			var now *structs.StatusReported
			l.eventually("a report of "+a.name+" is answered by "+n.name, patience, func() (err error) {
				if registration, err = a.registration(); err != nil {
					return err
				}
				agent.Use(a.hostID(), strings.TrimSpace(string(secret)), registration)
				now, err = agent.Report(l.ctx(), structs.StatusReport{Registration: registration})
				return err
			})
			was := l.taken[a.name]
			if registration < was.registration || registration == was.registration && now.Seq < was.seq {
				l.Errorf("I9: report %d of registration %d of %s was taken, and now report %d of %d is the last", was.seq,
					was.registration, a.name, now.Seq, registration)
			}
			l.taken[a.name] = lastReport{registration, now.Seq}
			again, err := agent.Report(l.ctx(), structs.StatusReport{Registration: registration, Seq: now.Seq, Containers: lies})
			if err != nil || again.Seq < now.Seq {
				l.Errorf("I9: report %d of %s, which was overtaken, is answered %+v, %v", now.Seq, a.name, again, err)
			}
			_, err = agent.Report(l.ctx(), structs.StatusReport{Registration: registration - 1, Seq: 1 << 40, Containers: lies})
			if structs.CodeOf(err) != structs.CodeConflict {
				l.Errorf("I9: a report of a registration of %s that is over is answered %v", a.name, err)
			}
		}
		list, _, err = l.client.Containers().List(l.ctx(), api.QueryOptions{Consistent: true, Detail: true})
		if err != nil {
			l.Fatal(err)
		}
		for _, b := range list {
			if b.Status == structs.ContainerError || deref(b.StatusReason) == late {
				l.Errorf("I9: %s is %s (%s) by a report that was overtaken", b.Name, b.Status, deref(b.StatusReason))
			}
		}
		for _, b := range l.listPods() {
			if !podIsReady(&b) || deref(b.StatusReason) == late {
				l.Errorf("I9: pod %s is %s (%s) by a report that was overtaken", b.Name, b.Status, deref(b.StatusReason))
			}
		}
	}
}

// secretOf adds secrets to a container's request. No log may have them.
func (l *runningContainers) secretOf(r *structs.ContainerRequest) *structs.ContainerRequest {
	r.Environment = map[string]string{"PASSWORD": l.secrets["an environment variable"]}
	r.Registry = &structs.Registry{Username: "somebody", Password: l.secrets["a registry's password"], Server: "registry.example:5000"}
	return r
}

var peerSecret = regexp.MustCompile(`PeerSecret[^0-9a-f]{1,3}([0-9a-f]{64})`)

// checkLogsForSecrets checks that no process has logged a secret: I12.
func (l *runningContainers) checkLogsForSecrets() {
	l.Helper()
	// No API shows the servers' common secret, but Raft's log or a snapshot has it.
	var files []string
	for _, depth := range []string{"*", "*/*", "*/*/*"} {
		found, err := filepath.Glob(filepath.Join(l.servers[0].dir, "server", "raft", depth))
		if err != nil {
			l.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // a directory, or removed by now
		}
		if m := peerSecret.FindSubmatch(b); m != nil {
			l.secrets["the servers' secret"] = string(m[1])
		}
	}
	if l.secrets["the servers' secret"] == "" {
		l.Errorf("I12: the servers' secret is not found in %d files, so the logs can't be searched for it", len(files))
	}
	for _, a := range l.agents {
		b, err := os.ReadFile(filepath.Join(a.dir, "agent", "agent.secret"))
		if err != nil {
			l.Fatal(err)
		}
		l.secrets["the secret of "+a.name] = strings.TrimSpace(string(b))
	}
	l.secrets["the join token"] = testJoinToken
	logs, err := filepath.Glob(filepath.Join(l.dir, "*.log"))
	if err != nil {
		l.Fatal(err)
	}
	if want := len(l.servers) + len(l.agents); len(logs) < want {
		l.Errorf("there are %d logs of %d processes", len(logs), want)
	}
	for _, path := range logs {
		log, err := os.ReadFile(path)
		if err != nil {
			l.Fatal(err)
		}
		for _, leak := range leaks(log, l.secrets) {
			l.Errorf("I12: %s has %s", filepath.Base(path), leak)
		}
	}
}

// leaks returns the lines of a log that contain a secret, each with the name of
// the secret.
func leaks(log []byte, secrets map[string]string) (found []string) {
	for what, secret := range secrets {
		if secret == "" {
			found = append(found, what+", which is not known")
			continue
		}
		if at := bytes.Index(log, []byte(secret)); at >= 0 {
			line := log[bytes.LastIndexByte(log[:at], '\n')+1:]
			line, _, _ = bytes.Cut(line, []byte("\n"))
			found = append(found, fmt.Sprintf("%s: %s", what, line))
		}
	}
	return found
}

// TestLeaksAreFound: each secret that a log contains is found.
func TestLeaksAreFound(t *testing.T) {
	t.Parallel()
	log := []byte("first line\nsecond line with abc in it\nlast line")
	if found := leaks(log, map[string]string{"a token": "abc", "another": "abd"}); len(found) != 1 ||
		found[0] != "a token: second line with abc in it" {
		t.Errorf("found %q", found)
	}
	if found := leaks(log, map[string]string{"a token": ""}); len(found) != 1 {
		t.Errorf("found %q", found)
	}
}
