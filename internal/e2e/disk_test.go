//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// loneServer is a server without hosts, whose containers wait for ever.
type loneServer struct {
	*cluster
	data string
}

// newLoneServer starts a server on a data directory, with one bay.
func newLoneServer(t *testing.T, data string) *loneServer {
	t.Helper()
	c := &cluster{TB: t, dir: t.TempDir(), addr: "127.0.0.1:" + freePort(t), engine: nil}
	_, port, _ := net.SplitHostPort(c.addr)
	c.server = c.process("server", "server", "-data-dir", data, "-http-port", port, "-raft-port", freePort(t), "-gossip-port", "-1")
	c.server.start()
	t.Cleanup(func() {
		if c.server.alive() {
			c.server.kill()
		}
		if t.Failed() {
			t.Logf("end of the server's log:\n%s", tail(c.server.log, 40))
		}
	})
	client, err := api.New(api.Config{Address: c.addr, RetryFor: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	c.client = client
	c.eventually("the server has its cluster", time.Minute, func() error { // from here on it writes only what it is asked to
		resp, err := http.Get("http://" + c.addr + "/v1/status/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
	name := "bay"
	if c.bay, _, err = client.Bays().Create(c.ctx(), &structs.BayRequest{Name: &name}, api.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return &loneServer{c, data}
}

// fill creates n containers and returns their UUIDs.
func (a *loneServer) fill(n int) []string {
	a.Helper()
	var ids []string
	batch := rand.Uint32()
	for i := range n {
		body, _, err := a.client.Containers().Create(a.ctx(), a.request(fmt.Sprintf("c-%08x-%d", batch, i), "true"), api.CreateOptions{})
		if err != nil {
			a.Fatal(err)
		}
		ids = append(ids, body.UUID)
	}
	return ids
}

// smallDisk mounts a file system of 160 MiB on a directory, until the test
// ends.
func smallDisk(t testing.TB, dir string) {
	t.Helper()
	diskOf(t, dir, "160m")
}

// diskOf mounts a file system of a size, such as "160m", on a directory, until
// the test ends.
func diskOf(t testing.TB, dir, size string) {
	t.Helper()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size="+size, "magnum-test", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		// Lazily, because a process of the test may still be ending.
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}

// fillDisk writes 145 MiB to a smallDisk, or what fits. empty frees it again.
func fillDisk(t testing.TB, dir string) (empty func()) {
	t.Helper()
	filler := filepath.Join(dir, "filler")
	err := os.WriteFile(filler, make([]byte, 145<<20), 0o600)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			t.Error(err)
		}
	}
}

// TestDiskFull: nothing acknowledged is lost (I1) when the disk fills up while
// the server writes, and after a restart on the full disk.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	smallDisk(t, mount)
	a := newLoneServer(t, filepath.Join(mount, "data"))
	ids := a.fill(20)
	empty := fillDisk(t, mount)
	late := 0
	full := func() error {
		late++
		body, _, err := a.client.Containers().Create(a.ctx(), a.request(fmt.Sprint("late-", late), "true"), api.CreateOptions{})
		if err == nil {
			ids = append(ids, body.UUID) // there was still room
		}
		if api.StatusOf(err) != 507 {
			return fmt.Errorf("a write on a full disk gives %v", err)
		}
		return nil
	}
	a.eventually("writes are refused with 507", patience, full)
	a.expectListed(ids)
	a.server.kill()
	a.server.start()
	a.awaitServer()
	a.expectListed(ids)
	a.eventually("writes are refused with 507 after the restart", patience, full)
	empty()
	a.eventually("writes succeed again", patience, func() error {
		body, _, err := a.client.Containers().Create(a.ctx(), a.request("there-is-room", "true"), api.CreateOptions{})
		if err == nil {
			ids = append(ids, body.UUID)
		}
		return err
	})
	a.expectListed(ids)
}

// TestDiskFullOnOneOfThree: the leader whose disk is full hands over
// leadership, and the cluster goes on writing, also after a restart of that
// server. Once all disks are full, writes are refused with 507. Nothing
// acknowledged is lost.
func TestDiskFullOnOneOfThree(t *testing.T) {
	t.Parallel()
	dirs := make(map[string]string)
	c := newThreeServersOf(t, 0, func(p *process) {
		dir := p.args[slices.Index(p.args, "-data-dir")+1]
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		smallDisk(t, dir)
		dirs[p.name] = dir
	})
	l := c.load()
	first := c.awaitLeader()
	empty := []func(){fillDisk(t, dirs[first.name])}
	c.awaitAnother(first)
	c.writeThroughEach("one disk is full")
	first.kill()
	first.start()
	c.awaitAll()
	c.writeThroughEach("the server with the full disk has started again")

	for _, n := range c.except(first) {
		empty = append(empty, fillDisk(t, dirs[n.name]))
	}
	tries := 0 // there may still be room for one
	c.eventually("writes are refused with 507", patience, func() error {
		for _, n := range c.servers {
			tries++
			ctx, cancel := context.WithTimeout(c.ctx(), 5*time.Second)
			_, _, err := n.client.Containers().Create(ctx, c.waiting(fmt.Sprint("on-full-disks-", tries)), api.CreateOptions{})
			cancel()
			if api.StatusOf(err) != 507 {
				return fmt.Errorf("a write through %s, with all disks full, gives %v", n.name, err)
			}
		}
		return nil
	})
	for _, n := range c.servers {
		if _, _, err := n.client.Containers().List(c.ctx(), api.QueryOptions{Consistent: true, Limit: 1}); err != nil {
			t.Errorf("a read through %s, with all disks full: %v", n.name, err)
		}
	}
	for _, f := range empty {
		f()
	}
	before := l.count()
	c.eventually("writes succeed again", patience, func() error {
		if n := l.count(); n < before+30 {
			return fmt.Errorf("%d succeeded", n-before)
		}
		return nil
	})
	l.check()
	c.writeThroughEach("there is room again")
}

// fillUp takes all that is left of a disk. empty frees it again.
func fillUp(t testing.TB, dir string) (empty func()) {
	t.Helper()
	f, err := os.CreateTemp(dir, "filler-")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4 << 10} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}

// TestLongLeaderDiskFillsUpTwice: at once no byte is left on the leader's disk,
// and after it has removed its ballast, none again. The others go on, also
// through an election that needs its vote. Its process stays up, and catches up
// once there is room.
func TestLongLeaderDiskFillsUpTwice(t *testing.T) {
	t.Parallel()
	dirs := make(map[string]string)
	c := newThreeServersOf(t, 0, func(p *process) {
		dir := p.args[slices.Index(p.args, "-data-dir")+1]
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		diskOf(t, dir, "400m") // enough for a ballast
		dirs[p.name] = dir
	})
	l := c.load()
	first := c.awaitLeader()
	ballast := filepath.Join(dirs[first.name], "server", "ballast")
	if info, err := os.Stat(ballast); err != nil || info.Size() == 0 {
		t.Fatalf("the leader has no ballast: %v", err)
	}
	goesOn := func(when string) {
		t.Helper()
		before := l.count()
		c.eventually("writes succeed "+when, patience, func() error {
			if n := l.count(); n < before+30 {
				return fmt.Errorf("%d succeeded", n-before)
			}
			return nil
		})
		if !first.alive() {
			t.Fatalf("%s: the server whose disk is full has ended:\n%s", when, tail(first.log, 5))
		}
	}
	empty := []func(){fillUp(t, dirs[first.name])}
	goesOn("while the disk of one server is full")
	for _, n := range c.except(first) {
		n.kill()
		n.start()
		goesOn("after another server was killed")
		empty = append(empty, fillUp(t, dirs[first.name])) // also the room that the ballast made
	}
	for _, f := range empty {
		f()
	}
	goesOn("once there is room again")
	l.check()
	c.writeThroughEach("there is room again")
}

// breakDisk makes system calls of a running process fail with EIO, as on a
// failing disk, until heal is called or the test ends.
func breakDisk(t testing.TB, p *process, calls string) (heal func()) {
	t.Helper()
	output := filepath.Join(t.TempDir(), "strace")
	log, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace="+calls, "-e", "inject="+calls+":error=EIO", "-p",
		strconv.Itoa(p.cmd.Process.Pid))
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("strace (`make test` installs it): %v", err)
	}
	heal = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM) // strace detaches from the process
		cmd.Wait()
	})
	t.Cleanup(heal)
	for deadline := time.Now().Add(patience); !strings.Contains(tail(output, 9), "attached"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("strace can't attach to %s: %s", p.name, tail(output, 3))
		}
	}
	return heal
}

// tryWrite creates a container without a retry, and adds it to ids if that was
// acknowledged.
func (a *loneServer) tryWrite(ids *[]string) error {
	a.Helper()
	client, err := api.New(api.Config{Address: a.addr, RetryFor: time.Millisecond})
	if err != nil {
		a.Fatal(err)
	}
	body, _, err := client.Containers().Create(a.ctx(), a.request(fmt.Sprintf("try-%08x", rand.Uint32()), "true"), api.CreateOptions{})
	if err == nil {
		*ids = append(*ids, body.UUID)
	}
	return err
}

// TestSyncFails: nothing acknowledged is lost (I1) on a disk whose fsync fails.
// The write in progress is answered 503 with an unknown outcome. The server
// ends with a message that names the file, and starts again with all that it
// has acknowledged.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	a := newLoneServer(t, filepath.Join(t.TempDir(), "data"))
	ids := a.fill(10)
	heal := breakDisk(t, a.server, "fsync,fdatasync")
	acknowledged := len(ids)
	err := a.tryWrite(&ids)
	var answer *api.Error
	if !errors.As(err, &answer) || answer.Status != 503 || !answer.Unknown {
		t.Errorf("a write that can't be synced gives %v (unknown: %v)", err, answer != nil && answer.Unknown)
	}
	select {
	case <-a.server.done:
	case <-time.After(patience):
		t.Fatal("the server does not end")
	}
	heal()
	text := tail(a.server.log, 3)
	if code := a.server.cmd.ProcessState.ExitCode(); code != 1 ||
		!strings.Contains(text, filepath.Join(a.data, "server", "raft", "raft.db")+" can't be written") ||
		!strings.Contains(text, "input/output error") {
		t.Errorf("exit code %d and\n%s", code, text)
	}
	if len(ids) != acknowledged {
		t.Error("a write that was not synced was acknowledged")
	}
	a.server.start()
	a.awaitServer()
	a.expectListed(ids)
	if b, err := os.ReadFile(a.server.log); err != nil || !strings.Contains(string(b), "a sync failed before this start") {
		t.Errorf("the next start does not warn (%v)", err)
	}
	if err := a.tryWrite(&ids); err != nil {
		t.Errorf("a write on the healed disk: %v", err)
	}
	a.expectListed(ids)
}

// TestLogCantBeWrittenForAWhile: neither entries nor terms can be written. No
// write is acknowledged meanwhile, and the same process goes on afterwards.
func TestLogCantBeWrittenForAWhile(t *testing.T) {
	t.Parallel()
	a := newLoneServer(t, filepath.Join(t.TempDir(), "data"))
	ids := a.fill(10)
	heal := breakDisk(t, a.server, "pwrite64")
	acknowledged := len(ids)
	for range 2 {
		if err := a.tryWrite(&ids); api.StatusOf(err) != 503 {
			t.Errorf("a write that can't reach the disk gives %v", err)
		}
	}
	if len(ids) != acknowledged || !a.server.alive() {
		t.Errorf("%d writes were acknowledged; the server runs: %v", len(ids)-acknowledged, a.server.alive())
	}
	heal()
	a.eventually("writes succeed again", patience, func() error { return a.tryWrite(&ids) })
	a.expectListed(ids)
	a.server.kill()
	a.server.start()
	a.awaitServer()
	a.expectListed(ids)
}

// TestLongDamagedFiles truncates files of the server, snapshots among them,
// flips bits at many places, and removes files, alone and together. The server
// either has all that it acknowledged, or ends with a message that names the
// file. It never starts with less, and never ends by a signal or a panic.
func TestLongDamagedFiles(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	a := newLoneServer(t, data)
	var ids []string
	// A restore writes a snapshot, and the log goes on after it.
	for range 2 {
		ids = append(ids, a.fill(10)...)
		a.restoreOwn()
	}
	ids = append(ids, a.fill(10)...)
	a.server.kill()
	pristine := filepath.Join(a.dir, "pristine")
	if err := os.CopyFS(pristine, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	var files []string
	filepath.WalkDir(pristine, func(path string, d fs.DirEntry, _ error) error {
		rel, _ := filepath.Rel(pristine, path)
		switch {
		case d.Name() == "ballast": // has no content, and is made again
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		case d.Type().IsRegular():
			files = append(files, rel)
		}
		return nil
	})
	for _, name := range []string{"raft.db", "stored", "meta.json", "meta.crc32c", "state.bin", "member.json", "join-token"} {
		if !slices.ContainsFunc(files, func(f string) bool { return filepath.Base(f) == name }) {
			t.Errorf("%s is not among the files: %v", name, files)
		}
	}
	refused, whole := 0, 0
	// try starts the server on a damaged copy. A refusal must name one of names.
	try := func(what string, damage func(dir string) error, names ...string) (started bool) {
		t.Helper()
		dir := filepath.Join(a.dir, "damaged", "data")
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(pristine)), damage(dir)); err != nil {
			t.Fatal(err)
		}
		a.server.args[2] = dir
		os.Remove(a.server.log)
		// A new client, which has seen no index: another copy may have had one more entry.
		client, err := api.New(api.Config{Address: a.addr, RetryFor: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		a.client = client
		a.server.start()
		started, code := a.startsOrEnds()
		if started {
			whole++
			a.expectListed(ids)
			if t.Failed() {
				t.Fatalf("%s: the server started with fewer than %d containers", what, len(ids))
			}
			a.server.kill()
			return true
		}
		refused++
		text := tail(a.server.log, 3)
		named := slices.ContainsFunc(names, func(name string) bool { return strings.Contains(text, filepath.Join(dir, name)) })
		if code <= 0 || code == 2 && strings.Contains(text, "goroutine") || !named {
			t.Fatalf("%s: exit code %d and\n%s", what, code, text)
		}
		return false
	}
	remove := func(names ...string) func(dir string) error {
		return func(dir string) (err error) {
			for _, name := range names {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
			}
			return err
		}
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Join(pristine, file))
		if err != nil {
			t.Fatal(err)
		}
		names := []string{file}
		if strings.Contains(file, "raft/") { // a file of the log; the message may name its directory
			names = append(names, filepath.Dir(file))
		}
		try(file+" is gone", remove(file), names...)
		used := int64(len(bytes.TrimRight(content, "\x00"))) // preallocated room is zeros
		if used == 0 {
			continue
		}
		for _, at := range []int64{0, rand.Int64N(used), used - 1} {
			try(fmt.Sprintf("%s cut at %d of %d", file, at, used), func(dir string) error {
				return os.Truncate(filepath.Join(dir, file), at)
			}, names...)
		}
		for range 4 {
			at := rand.Int64N(used)
			try(fmt.Sprintf("%s flipped at %d of %d", file, at, used), func(dir string) error {
				return flip(filepath.Join(dir, file), at)
			}, names...)
		}
	}
	t.Logf("%d starts were refused, %d had everything; the damaged files were %v", refused, whole, files)

	for _, gone := range [][]string{
		{"raft/raft.db"}, {"raft/snapshots"}, {"raft/raft.db", "raft/stored"},
		{"raft/raft.db", "raft/snapshots"}, {"raft/raft.db", "raft/snapshots", "raft/stored"}, {"raft"},
		{"member.json"}, {"member.json", "raft/raft.db"}, {"member.json", "raft/raft.db", "raft/stored"},
		{"member.json", "raft/raft.db", "raft/snapshots"},
	} {
		var paths []string
		for _, g := range gone {
			paths = append(paths, filepath.Join("server", g))
		}
		if try(fmt.Sprintf("%v are gone", gone), remove(paths...), paths...) {
			t.Errorf("%v are gone, but the server started", gone)
		}
	}
	// A server without any file bootstraps a cluster of its own.
	before := a.clusterID(pristine)
	dir := filepath.Join(a.dir, "damaged", "data")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	a.server.start()
	if started, code := a.startsOrEnds(); !started {
		t.Fatalf("on an empty directory the server ends with %d", code)
	}
	if now := a.clusterID(dir); now == before {
		t.Errorf("a server without files made the same cluster %s again, so its agents would follow it", now)
	}
}

// restoreOwn restores the state that the server has.
func (a *loneServer) restoreOwn() {
	a.Helper()
	saved, err := a.client.Operator().SaveSnapshot(a.ctx(), api.QueryOptions{Consistent: true})
	if err != nil {
		a.Fatal(err)
	}
	defer saved.Close()
	if _, _, err := a.client.Operator().RestoreSnapshot(a.ctx(), saved, false); err != nil {
		a.Fatal(err)
	}
}

// clusterID waits until a data directory has a cluster ID, and returns it.
func (a *loneServer) clusterID(dir string) (id string) {
	a.Helper()
	a.eventually("the server has a cluster", patience, func() error {
		if id = clusterIDOf(dir); id == "" {
			return errors.New("there is no cluster ID yet")
		}
		return nil
	})
	return id
}

// startsOrEnds waits until the server answers consistent reads or has ended.
func (a *loneServer) startsOrEnds() (started bool, code int) {
	a.Helper()
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if !a.server.alive() {
			return false, a.server.cmd.ProcessState.ExitCode()
		}
		if _, _, last = a.client.Containers().List(a.ctx(), api.QueryOptions{Consistent: true, Limit: 1}); last == nil {
			return true, 0
		}
	}
	a.Fatalf("the server neither serves nor ends: %v", last)
	return false, 0
}

func flip(path string, at int64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[at] ^= 1 << rand.IntN(8)
	return os.WriteFile(path, b, 0o600)
}
