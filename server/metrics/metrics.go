// Package metrics counts the operations of a server and serves them in Prometheus's
// format. It has a registry of its own and no global state. The observed packages don't
// import it: package server passes them its methods as the hooks that they declare, and
// passes it functions that read their values at each scrape.
//
// It decides nothing: a server behaves the same without it.
package metrics

import (
	"maps"
	"net/http"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Config has the functions that read values at each scrape. The metrics of a nil function
// are absent.
type Config struct {
	Version  string       // of the build
	Store    *state.Store // required
	Raft     func() Raft
	Queue    func() int // requests that wait to be decided
	Reads    func() int // waiting blocking reads
	Polls    func() int // agents' polls that wait for work
	Sessions func() int // open sessions
	// Connections returns the open connections of the REST API by kind of holder, and how
	// many connections were refused or closed to make room; nil shows zeros.
	Connections func() (open map[string]int, refused, closed uint64)
	// Limits returns the bytes in flight and how many requests were refused by each limit; nil
	// shows zeros.
	Limits   func() (inFlight int64, refused map[string]uint64)
	Disk     func() (free int64, err error) // free bytes on the file system of the data directory
	Keystone func() Keystone
}

// Keystone has the counts of the cache of Keystone's tokens.
type Keystone struct {
	Hits    uint64 // requests answered from the cache
	Misses  uint64 // requests that waited for Keystone, or were refused because it is away
	Entries int    // valid tokens in the cache
	Bytes   int    // of them
}

// Raft has the values of the Raft log.
type Raft struct {
	Term          uint64
	Leader        bool // this server leads
	LastIndex     uint64
	CommitIndex   uint64
	AppliedIndex  uint64
	SnapshotIndex uint64
	Peers         int           // other voters
	LastContact   time.Duration // time since the last contact from the leader; 0 on the leader, negative before the first
}

// Metrics are the metrics of one server. The methods are safe for concurrent use, except
// that only one goroutine may call Committed.
type Metrics struct {
	registry *prometheus.Registry
	commit   prometheus.Histogram
	decide   prometheus.Histogram
	batch    prometheus.Histogram
	refused  *prometheus.CounterVec
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	forwards *prometheus.CounterVec
	validate *prometheus.HistogramVec
	largest  atomic.Int64 // bytes of the largest committed entry
}

// Buckets of the durations of commits and of requests, in seconds.
var (
	commitBuckets  = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
	requestBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// New returns the metrics of a server.
func New(c Config) *Metrics {
	if c.Connections == nil {
		c.Connections = func() (map[string]int, uint64, uint64) { return map[string]int{"unproven": 0}, 0, 0 }
	}
	if c.Limits == nil {
		c.Limits = func() (int64, map[string]uint64) { return 0, map[string]uint64{"bytes": 0} }
	}
	m := &Metrics{registry: prometheus.NewRegistry()}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m.commit = histogram("magnum_raft_commit_seconds", "Time from proposing an entry until it is applied on the leader.", commitBuckets)
	m.decide = histogram("magnum_conductor_decide_seconds", "Time to decide a batch.", commitBuckets)
	m.batch = histogram("magnum_conductor_batch_requests", "Requests decided together, in one log entry.",
		prometheus.ExponentialBuckets(1, 2, 10))
	m.refused = counter("magnum_conductor_refused_total", "Requests that the conductor refused.", "code")
	m.requests = counter("magnum_api_requests_total", "Answered requests.", "route", "method", "code")
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "magnum_api_request_seconds", Help: "Time until a request was answered; blocking and streaming requests are left out.",
		Buckets: requestBuckets,
	}, []string{"route", "method"})
	m.forwards = counter("magnum_forwarded_requests_total", "Requests forwarded to the leader.", "outcome")
	m.validate = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "magnum_keystone_validation_seconds", Help: "Time until Keystone answered about a token, by the result.",
		Buckets: requestBuckets,
	}, []string{"result"})
	largest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "magnum_raft_largest_entry_bytes", Help: "Size of the largest log entry that this server has committed as the leader.",
	}, func() float64 { return float64(m.largest.Load()) })
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "magnum_build_info", Help: "1, with the versions of the build as labels.",
		ConstLabels: prometheus.Labels{"version": c.Version, "go_version": runtime.Version()},
	})
	info.Set(1)
	m.registry.MustRegister(
		m.commit, m.decide, m.batch, m.refused, m.requests, m.latency, m.forwards, m.validate, largest, info,
		&collector{Config: c},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// scrapesInFlight bounds the concurrent scrapes, each of which may read all rows.
const scrapesInFlight = 2

// Handler serves scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesInFlight, EnableOpenMetrics: true})
}

// Decided counts a batch of requests that was decided.
func (m *Metrics) Decided(requests int, took time.Duration) {
	m.batch.Observe(float64(requests))
	m.decide.Observe(took.Seconds())
}

// Committed counts an entry that was proposed and applied; size is in bytes. Only the
// conductor's loop may call it.
func (m *Metrics) Committed(took time.Duration, size int) {
	m.commit.Observe(took.Seconds())
	if int64(size) > m.largest.Load() {
		m.largest.Store(int64(size))
	}
}

// Refused counts a request that the conductor refused.
func (m *Metrics) Refused(code structs.Code) { m.refused.WithLabelValues(string(code)).Inc() }

// Forwarded counts a request that was forwarded to the leader, by whether the leader has
// answered.
func (m *Metrics) Forwarded(answered bool) {
	outcome := "answered"
	if !answered {
		outcome = "failed"
	}
	m.forwards.WithLabelValues(outcome).Inc()
}

// Validated counts a validation of a token by Keystone.
func (m *Metrics) Validated(result string, took time.Duration) {
	m.validate.WithLabelValues(result).Observe(took.Seconds())
}

// Route returns a function that counts the requests of one route. route is the route's
// pattern, never the path of a request: the number of label values must stay small. took
// is negative for a blocking or streaming request, whose duration is not counted.
func (m *Metrics) Route(method, route string) func(status int, took time.Duration) {
	o := &routeMetrics{metrics: m, method: method, route: route}
	o.latency = sync.OnceValue(func() prometheus.Observer { return m.latency.WithLabelValues(route, method) })
	o.counters.Store(&map[int]prometheus.Counter{})
	return o.observe
}

// routeMetrics has the metrics of one route. It caches the counters, because finding one
// by its labels costs more than incrementing it.
type routeMetrics struct {
	metrics       *Metrics
	method, route string
	latency       func() prometheus.Observer // made at the first use: most routes have none

	mu       sync.Mutex // held to replace counters
	counters atomic.Pointer[map[int]prometheus.Counter]
}

func (o *routeMetrics) observe(status int, took time.Duration) {
	counter := (*o.counters.Load())[status]
	if counter == nil {
		counter = o.add(status)
	}
	counter.Inc()
	if took >= 0 {
		o.latency().Observe(took.Seconds())
	}
}

// add returns the counter of a status that is not cached yet.
func (o *routeMetrics) add(status int) prometheus.Counter {
	o.mu.Lock()
	defer o.mu.Unlock()
	counter := o.metrics.requests.WithLabelValues(o.route, o.method, strconv.Itoa(status))
	counters := maps.Clone(*o.counters.Load())
	counters[status] = counter
	o.counters.Store(&counters)
	return counter
}
