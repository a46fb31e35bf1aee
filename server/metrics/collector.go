package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// collector is a prometheus.Collector of the values that are read at each scrape.
type collector struct {
	Config

	mu      sync.Mutex // guards what follows
	counted uint64     // index of the state from which counts was made
	counts  *counts    // nil before the first scrape
}

// counts are the numbers of objects in the state by kind and status.
type counts struct {
	rows       map[structs.Table]int
	hosts      map[structs.HostState]int
	bays       map[structs.BayStatus]int
	containers map[structs.ContainerStatus]int
	pods       map[structs.PodPhase]int
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	raftTerm     = gauge("magnum_raft_term", "Current term.")
	raftLeader   = gauge("magnum_raft_leader", "1 if this server leads, else 0.")
	raftLast     = gauge("magnum_raft_last_index", "Index of the last entry in this server's log.")
	raftCommit   = gauge("magnum_raft_commit_index", "Index of the last entry that is known to be committed.")
	raftApplied  = gauge("magnum_raft_applied_index", "Index of the last entry applied to the state.")
	raftSnapshot = gauge("magnum_raft_snapshot_index", "Index of the newest snapshot.")
	raftPeers    = gauge("magnum_raft_peers", "Voters other than this server.")
	raftContact  = gauge("magnum_raft_last_contact_seconds",
		"Time since the last contact from the leader; 0 on the leader, absent before the first.")

	queueLength = gauge("magnum_conductor_queue_length", "Requests that wait to be decided.")
	stateIndex  = gauge("magnum_state_index", "Index of the last entry that changed the state.")
	stateRows   = gauge("magnum_state_rows", "Rows in a table of the state.", "table")
	hosts       = gauge("magnum_hosts", "Hosts by state.", "state")
	bays        = gauge("magnum_bays", "Bays by status.", "status")
	containers  = gauge("magnum_containers", "Containers by status.", "status")
	pods        = gauge("magnum_pods", "Pods by status.", "status")
	readsParked = gauge("magnum_blocking_reads", "Reads that wait for a change.")
	pollsParked = gauge("magnum_agent_polls", "Agents' polls that wait for work.")
	sessions    = gauge("magnum_sessions", "Open sessions (logs, execute, attach, ...).")
	dropped     = gauge("magnum_events_dropped_total", "Events dropped to make room for newer ones.")
	connections = gauge("magnum_http_connections", "Open connections of the REST API, by the kind of credential shown.", "holder")
	turnedAway  = gauge("magnum_http_connections_refused_total",
		"Connections refused, or closed without a credential, because there were too many.", "how")
	tokenCache = gauge("magnum_keystone_cache_requests_total", "Requests with a token of Keystone, by whether the cache had it.", "cache")
	tokens     = gauge("magnum_keystone_cache_tokens", "Valid tokens of Keystone in the cache.")
	tokenBytes = gauge("magnum_keystone_cache_bytes", "Bytes of the valid tokens of Keystone in the cache.")
	inFlight   = gauge("magnum_bytes_in_flight", "Counted bytes of bodies and answers in memory.")
	limited    = prometheus.NewDesc("magnum_limited_total", "Requests refused or cut off because a limit was exceeded.",
		[]string{"limit"}, nil)
	diskFree = gauge("magnum_disk_free_bytes", "Free bytes on the file system of the data directory.")
)

// Describe sends the descriptions of all metrics of the collector.
func (f *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		raftTerm, raftLeader, raftLast, raftCommit, raftApplied, raftSnapshot, raftPeers, raftContact,
		queueLength, stateIndex, stateRows, hosts, bays, containers, pods, readsParked, pollsParked, sessions, dropped,
		connections, turnedAway, inFlight, limited, diskFree, tokenCache, tokens, tokenBytes,
	} {
		out <- d
	}
}

// Collect reads and sends all values.
func (f *collector) Collect(out chan<- prometheus.Metric) {
	set := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	if f.Raft != nil {
		r := f.Raft()
		leads := 0.0
		if r.Leader {
			leads = 1
		}
		set(raftTerm, float64(r.Term))
		set(raftLeader, leads)
		set(raftLast, float64(r.LastIndex))
		set(raftCommit, float64(r.CommitIndex))
		set(raftApplied, float64(r.AppliedIndex))
		set(raftSnapshot, float64(r.SnapshotIndex))
		set(raftPeers, float64(r.Peers))
		if r.LastContact >= 0 {
			set(raftContact, r.LastContact.Seconds())
		}
	}
	reads := map[*prometheus.Desc]func() int{queueLength: f.Queue, readsParked: f.Reads, pollsParked: f.Polls, sessions: f.Sessions}
	for d, read := range reads {
		if read != nil {
			set(d, float64(read()))
		}
	}
	open, refused, closed := f.Connections()
	for holder, n := range open {
		set(connections, float64(n), holder)
	}
	out <- prometheus.MustNewConstMetric(turnedAway, prometheus.CounterValue, float64(refused), "refused")
	out <- prometheus.MustNewConstMetric(turnedAway, prometheus.CounterValue, float64(closed), "closed")
	if f.Keystone != nil {
		k := f.Keystone()
		out <- prometheus.MustNewConstMetric(tokenCache, prometheus.CounterValue, float64(k.Hits), "hit")
		out <- prometheus.MustNewConstMetric(tokenCache, prometheus.CounterValue, float64(k.Misses), "miss")
		set(tokens, float64(k.Entries))
		set(tokenBytes, float64(k.Bytes))
	}
	bytes, byLimit := f.Limits()
	set(inFlight, float64(bytes))
	for limit, n := range byLimit {
		out <- prometheus.MustNewConstMetric(limited, prometheus.CounterValue, float64(n), limit)
	}
	if f.Disk != nil {
		if free, err := f.Disk(); err == nil { // after an error the metric is absent
			set(diskFree, float64(free))
		}
	}
	out <- prometheus.MustNewConstMetric(dropped, prometheus.CounterValue, float64(f.Store.EventsDropped()))
	snap := f.Store.Snapshot()
	set(stateIndex, float64(snap.Index()))
	c := f.count(snap)
	for table, n := range c.rows {
		set(stateRows, float64(n), string(table))
	}
	for s, n := range c.hosts {
		set(hosts, float64(n), string(s))
	}
	for s, n := range c.bays {
		set(bays, float64(n), string(s))
	}
	for s, n := range c.containers {
		set(containers, float64(n), string(s))
	}
	for s, n := range c.pods {
		set(pods, float64(n), string(s))
	}
}

// count counts the objects in the state, unless it is unchanged since the last scrape.
func (f *collector) count(snap *state.Snapshot) *counts {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts != nil && f.counted == snap.Index() {
		return f.counts
	}
	// Series for alerts are present with the value 0.
	c := &counts{
		rows:  map[structs.Table]int{},
		hosts: map[structs.HostState]int{structs.HostReady: 0, structs.HostLost: 0},
		bays:  map[structs.BayStatus]int{structs.BayCreating: 0, structs.BayCreated: 0, structs.BayCreateFailed: 0},
		containers: map[structs.ContainerStatus]int{
			structs.ContainerCreating: 0, structs.ContainerRunning: 0, structs.ContainerStopped: 0, structs.ContainerPaused: 0,
			structs.ContainerError: 0, structs.ContainerUnknown: 0, structs.ContainerDeleting: 0,
		},
		pods: map[structs.PodPhase]int{structs.PodPending: 0, structs.PodRunning: 0, structs.PodFailed: 0, structs.PodUnknown: 0},
	}
	for _, table := range state.Tables() {
		c.rows[table] = 0
		for row := range snap.List(table, state.AllProjects, 0) {
			c.rows[table]++
			switch r := row.(type) {
			case *structs.Host:
				c.hosts[r.State]++
			case *structs.Bay:
				c.bays[r.Status]++
			case *structs.Container:
				c.containers[r.Status()]++
			case *structs.Pod:
				c.pods[r.Status()]++
			}
		}
	}
	f.counts, f.counted = c, snap.Index()
	return c
}
