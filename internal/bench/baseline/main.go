// Command baseline is the least that a server has to do, for comparison with magnum. Its
// handlers decode the same bodies and write the same bytes as magnum, and one of them
// commits the same bytes to the same log. They decide nothing and keep no state.
//
// internal/bench starts it as a process of its own, like the magnum server.
package main

import (
	"encoding/json"
	"flag"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/structs"
)

// applyTimeout bounds the wait until the log accepts an entry.
const applyTimeout = 5 * time.Second

func main() {
	listen := flag.String("listen", "", "host:port")
	dir := flag.String("dir", "", "directory with the bytes to write, in created, entry, one and list, and for the log")
	pod := flag.String("pod", "", "be a pod instead: serve HTTP and UDP at this host:port")
	asked := flag.String("ask", "", "be a client of UDP instead: print how many questions the pod at host:port answers per second")
	duration := flag.Duration("duration", time.Second, "duration of -ask")
	flag.Parse()
	var err error
	switch {
	case *pod != "":
		err = servePod(*pod)
	case *asked != "":
		err = ask(*asked, *duration)
	default:
		err = run(*listen, *dir)
	}
	if err != nil {
		log.Fatal("baseline: ", err)
	}
}

func run(listen, dir string) error {
	bytes := make(map[string][]byte)
	for _, name := range []string{"created", "entry", "one", "list"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		bytes[name] = b
	}
	r, err := open(filepath.Join(dir, "raft"))
	if err != nil {
		return err
	}
	http.HandleFunc("POST /bare", func(w http.ResponseWriter, q *http.Request) {
		if decode(w, q) {
			answer(w, http.StatusCreated, bytes["created"])
		}
	})
	http.HandleFunc("POST /applied", func(w http.ResponseWriter, q *http.Request) {
		if !decode(w, q) {
			return
		}
		if err := r.Apply(bytes["entry"], applyTimeout).Error(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		answer(w, http.StatusCreated, bytes["created"])
	})
	for _, name := range []string{"one", "list"} {
		http.HandleFunc("GET /"+name, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, bytes[name]) })
	}
	return http.ListenAndServe(listen, nil)
}

func decode(w http.ResponseWriter, q *http.Request) bool {
	var body structs.ContainerRequest
	if err := json.NewDecoder(q.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client has gone
}

// open starts a Raft of one server with the settings and the store of magnum's log, and
// waits until it leads.
func open(dir string) (*raft.Raft, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	store, err := raftboltdb.New(raftlog.StoreOptions(filepath.Join(dir, "raft.db")))
	if err != nil {
		return nil, err
	}
	logs, err := raft.NewLogCache(512, store)
	if err != nil {
		return nil, err
	}
	c := raft.DefaultConfig()
	c.LocalID, c.Logger = "baseline", hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 350*time.Millisecond, 350*time.Millisecond, 250*time.Millisecond
	c.NoLegacyTelemetry = true
	addr, transport := raft.NewInmemTransport("baseline")
	r, err := raft.NewRaft(c, emptyFSM{}, logs, store, raft.NewInmemSnapshotStore(), transport)
	if err != nil {
		return nil, err
	}
	alone := raft.Configuration{Servers: []raft.Server{{ID: c.LocalID, Address: addr}}}
	if err := r.BootstrapCluster(alone).Error(); err != nil {
		return nil, err
	}
	<-r.LeaderCh()
	return r, nil
}

// emptyFSM is a state machine without state, and its empty snapshot.
type emptyFSM struct{}

// Apply does nothing.
func (emptyFSM) Apply(*raft.Log) any { return nil }

// Snapshot returns an empty snapshot.
func (emptyFSM) Snapshot() (raft.FSMSnapshot, error) { return emptyFSM{}, nil }

// Restore closes the snapshot.
func (emptyFSM) Restore(r io.ReadCloser) error { return r.Close() }

// Persist writes nothing.
func (emptyFSM) Persist(sink raft.SnapshotSink) error { return sink.Close() }

// Release does nothing.
func (emptyFSM) Release() {}
