package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// ask sends a request to each of the servers in turn, and fails the test on any answer
// but the wanted one. A busy machine has an election now and then: a request that meets
// one is sent again with its idempotency key, so it is carried out once.
func (c *threeServers) ask(turn int, method, path string, header http.Header, body, answer any) {
	c.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	key := structs.NewID()
	var said []byte
	for deadline := time.Now().Add(patience); ; turn++ {
		req, err := http.NewRequest(method, c.members[turn%len(c.members)].running().URL()+path, bytes.NewReader(b))
		if err != nil {
			c.t.Fatal(err)
		}
		if header != nil {
			req.Header = header.Clone()
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			c.t.Errorf("%s %s: %v", method, path, err)
			return
		}
		said, err = io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil && res.StatusCode == http.StatusServiceUnavailable && time.Now().Before(deadline) {
			c.leader()
			continue
		}
		if err != nil || res.StatusCode >= 300 {
			c.t.Errorf("%s %s: status %d, %v: %.300s", method, path, res.StatusCode, err, said)
			return
		}
		break
	}
	if answer != nil {
		if err := json.Unmarshal(said, answer); err != nil {
			c.t.Errorf("%s %s: %v", method, path, err)
		}
	}
}

// largestEntry returns the size in bytes of the largest entry that any server has
// committed, by the servers' metrics.
func (c *threeServers) largestEntry() (largest int) {
	c.t.Helper()
	for _, m := range c.members {
		res, err := http.Get(m.running().URL() + "/metrics")
		if err != nil {
			c.t.Fatal(err)
		}
		said, err := io.ReadAll(res.Body)
		res.Body.Close()
		found := regexp.MustCompile(`(?m)^magnum_raft_largest_entry_bytes (\S+)$`).FindSubmatch(said)
		if err != nil || found == nil {
			c.t.Fatalf("the metrics of a server: %v: %.200s", err, said)
		}
		n, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			c.t.Fatal(err)
		}
		largest = max(largest, int(n))
	}
	return largest
}

// largestRequest returns a request for a container with nearly the largest allowed
// spec.
func largestRequest(bay string) map[string]any {
	env := map[string]string{}
	for i := range 62 {
		env[fmt.Sprint("V", i)] = strings.Repeat("v", 4<<10)
	}
	labels := map[string]string{}
	for i := range 30 {
		labels[fmt.Sprint("l", i)] = strings.Repeat("l", 4000)
	}
	return map[string]any{"image_id": "busybox", "bay_uuid": bay, "environment": env, "labels": labels, "restart_policy": "always"}
}

// TestWaitingLargestSpecsArePlacedInSmallEntries: a project has as much waiting as its
// quota allows, and a host registers. Everything is placed, reported, moved off and
// deleted in small entries, while other clients write.
func TestWaitingLargestSpecsArePlacedInSmallEntries(t *testing.T) {
	if testing.Short() {
		t.Skip("it writes 100 MB to each of three servers")
	}
	t.Parallel()
	c := newThreeServers(t, oneLeader)
	// A busy machine may have an election, but not in each round.
	for round := 1; ; round++ {
		elections := c.placeWaiting(t, map[string]string{"round": fmt.Sprint(round)})
		if elections == 0 {
			return
		}
		if round == 3 {
			t.Fatalf("there were %d elections, and some in each of %d rounds", elections, round)
		}
	}
}

// placeWaiting is a round of TestWaitingLargestSpecsArePlacedInSmallEntries, with a
// host of the given labels. It returns the number of elections.
func (c *threeServers) placeWaiting(t *testing.T, labels map[string]string) (elections uint64) {
	t.Helper()
	const many = 250
	var bay struct {
		UUID string `json:"uuid"`
	}
	c.ask(0, http.MethodPost, "/v1/bays", nil, map[string]any{"name": "waiting", "node_count": 1, "labels": labels}, &bay)
	request := largestRequest(bay.UUID)
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for n := client; n < many; n += 4 {
				c.ask(n, http.MethodPost, "/v1/containers?run=true", nil, request, nil)
			}
		})
	}
	clients.Wait()
	if t.Failed() {
		t.FailNow()
	}

	l := c.load()
	l.awaitProgress(20)
	l.TakeGap()
	leader := c.leader()
	term := leader.running().raft.Term()
	host, secret := structs.NewID(), structs.NewSecret()
	var registered structs.HostRegistered
	began := time.Now()
	c.ask(1, http.MethodPost, "/v1/agent/hosts", nil, structs.HostRegister{
		HostID: host, Name: "late", JoinToken: "join-token-of-the-tests", Secret: secret,
		Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker, Cores: 64, Memory: 1 << 40, Labels: labels},
	}, &registered)
	state := func() []*structs.Container {
		var all []*structs.Container
		for row := range c.leader().running().store.Snapshot().InBay(bay.UUID) {
			all = append(all, row.(*structs.Container))
		}
		return all
	}
	c.eventually("all containers are placed", func() bool {
		placed := 0
		for _, row := range state() {
			if row.HostID == host {
				placed++
			}
		}
		return placed == many
	})
	placed := time.Since(began)
	agent := http.Header{"Authorization": {"Bearer " + secret}, "X-Magnum-Registration": {fmt.Sprint(registered.Registration)}}
	seq := uint64(0)
	report := func(status structs.ContainerStatus) {
		t.Helper()
		all := state()
		for len(all) > 0 {
			n := min(len(all), structs.MaxReport)
			seq++
			r := structs.StatusReport{Registration: registered.Registration, Seq: seq}
			for _, row := range all[:n] {
				r.Containers = append(r.Containers, structs.ContainerReport{ContainerID: row.ID, Epoch: row.Epoch,
					Observed: structs.Observed{Status: status, Generation: row.Generation}})
			}
			c.ask(int(seq), http.MethodPost, "/v1/agent/hosts/"+host+"/status", agent, r, nil)
			all = all[n:]
		}
	}
	report(structs.ContainerRunning)
	for _, row := range state() {
		if row.Status() != structs.ContainerRunning || len(row.Spec.Environment) != 62 {
			t.Fatalf("a container is %s, with %d variables", row.Status(), len(row.Spec.Environment))
		}
	}
	c.ask(2, http.MethodDelete, "/v1/bays/"+bay.UUID+"?wait=0s", nil, nil, nil)
	c.eventually("all containers are to go", func() bool {
		for _, row := range state() {
			if row.Desired != structs.DesiredAbsent {
				return false
			}
		}
		return true
	})
	report(structs.ContainerGone)
	c.eventually("the bay is gone", func() bool { return c.leader().running().store.Snapshot().Bay(bay.UUID) == nil })
	l.awaitProgress(20)
	gap := l.TakeGap()
	elections = c.leader().running().raft.Term() - term
	l.end() // checks that the states are equal and hold everything acknowledged
	largest := c.largestEntry()
	t.Logf("%d containers placed in %v; all over in %v: %d elections, largest entry %d bytes, longest time without a write %v",
		many, placed.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), elections, largest, gap.Round(time.Millisecond))
	if largest > structs.MaxEntry || largest < 300<<10 {
		t.Errorf("the largest entry has %d bytes", largest)
	}
	return elections
}

// TestLeaderLoopsSurviveUnwritableEntry: a leader's step whose entry can't be written
// is retried. It doesn't end the leadership, which would fail the writes of all users.
func TestLeaderLoopsSurviveUnwritableEntry(t *testing.T) {
	var broken atomic.Bool
	gained := lines{of: "leadership gained"}
	logger := hclog.New(&hclog.LoggerOptions{Output: &gained})
	r := startWith(t, Config{DataDir: t.TempDir(), JoinToken: "join-token-of-the-tests", Logger: logger}, func(s *Server) {
		s.store.BreakEncoder = func(row structs.Row, b []byte) {
			if c, ok := row.(*structs.Container); ok && c.HostID != "" && broken.Load() {
				b[0] = 0xc1 // not a valid msgpack value
			}
		}
	})
	var made struct {
		UUID string `json:"uuid"`
	}
	var answer bytes.Buffer
	r.call(t, http.MethodPost, "/v1/containers", `{"image_id":"busybox"}`, http.StatusCreated, &answer)
	if err := json.Unmarshal(answer.Bytes(), &made); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	host, err := json.Marshal(structs.HostRegister{
		HostID: structs.NewID(), Name: "h", JoinToken: "join-token-of-the-tests", Secret: structs.NewSecret(),
		Fingerprint: structs.Fingerprint{Backend: structs.BackendDocker, Cores: 4, Memory: 1 << 32},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.call(t, http.MethodPost, "/v1/agent/hosts", string(host), http.StatusOK, io.Discard)
	for range 20 {
		r.call(t, http.MethodPost, "/v1/nodes", `{"type":"virt"}`, http.StatusCreated, io.Discard)
	}
	if c := r.store.Snapshot().Container(made.UUID); c.HostID != "" {
		t.Fatal("the container was placed: nothing was broken")
	}
	broken.Store(false)
	placed := func() bool { return r.store.Snapshot().Container(made.UUID).HostID != "" }
	for deadline := time.Now().Add(time.Minute); !placed(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the container is not placed")
		}
	}
	if n := gained.count.Load(); n != 1 {
		t.Errorf("leadership was gained %d times", n)
	}
}

// lines counts the lines of a log that contain a text.
type lines struct {
	of    string
	count atomic.Int64
}

// Write appends a line.
func (l *lines) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(l.of)) {
		l.count.Add(1)
	}
	return len(line), nil
}
