// Package metrics counts what a server does and shows it in Prometheus's format.
// Its registry is its own; there is nothing global. The packages that it
// observes don't know it: package server hands them its methods as the hooks
// that they declare, and hands it functions that read their figures when
// somebody scrapes.
//
// It decides nothing, and a server without it is the same server.
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

// Config says where figures are read at each scrape. A nil function leaves its
// figures out.
type Config struct {
	Version  string       // of the build
	Store    *state.Store // required
	Raft     func() Raft
	Queue    func() int // requests that wait to be decided
	Reads    func() int // blocking reads that are parked
	Polls    func() int // agents' polls that are parked
	Sessions func() int // sessions that are open
	// Connections returns how many connections of the REST API are open, by whose
	// they are, and how many were refused, or closed to make room; nil shows none.
	Connections func() (open map[string]int, refused, closed uint64)
	Disk        func() (free int64, err error) // bytes that are free where the data directory is
}

// Raft is what is shown of the replicated log.
type Raft struct {
	Term          uint64
	Leader        bool // this server leads
	LastIndex     uint64
	CommitIndex   uint64
	AppliedIndex  uint64
	SnapshotIndex uint64
	Peers         int           // other voters
	LastContact   time.Duration // since the leader was heard of; 0 on the leader, below 0 if it never was
}

// Metrics are the metrics of one server. Its methods may be called from
// everywhere and cost about 100 ns.
type Metrics struct {
	registry *prometheus.Registry
	commit   prometheus.Histogram
	decide   prometheus.Histogram
	batch    prometheus.Histogram
	refused  *prometheus.CounterVec
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	forwards *prometheus.CounterVec
	largest  atomic.Int64 // bytes of the largest entry that was committed
}

// Buckets, in seconds, of what a commit takes and of what a request does.
var (
	commitBuckets  = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
	requestBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// New returns the metrics of a server.
func New(c Config) *Metrics {
	if c.Connections == nil {
		c.Connections = func() (map[string]int, uint64, uint64) { return map[string]int{"unproven": 0}, 0, 0 }
	}
	m := &Metrics{registry: prometheus.NewRegistry()}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
	}
	m.commit = histogram("magnum_raft_commit_seconds", "Time from proposing an entry until it is applied on the leader.", commitBuckets)
	m.decide = histogram("magnum_conductor_decide_seconds", "Time that deciding a batch takes.", commitBuckets)
	m.batch = histogram("magnum_conductor_batch_requests", "Requests decided together, in one log entry.", prometheus.ExponentialBuckets(1, 2, 10))
	m.refused = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "magnum_conductor_refused_total", Help: "Requests that the conductor refused."}, []string{"code"})
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "magnum_api_requests_total", Help: "Requests that were answered."}, []string{"route", "method", "code"})
	m.latency = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "magnum_api_request_seconds", Help: "Time until a request was answered, without those that were parked or streamed.", Buckets: requestBuckets,
	}, []string{"route", "method"})
	m.forwards = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "magnum_forwarded_requests_total", Help: "Requests handed on to the leader."}, []string{"outcome"})
	largest := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "magnum_raft_largest_entry_bytes", Help: "Size of the largest log entry that this server has committed as the leader.",
	}, func() float64 { return float64(m.largest.Load()) })
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "magnum_build_info", Help: "1; its labels say what runs.",
		ConstLabels: prometheus.Labels{"version": c.Version, "go_version": runtime.Version()},
	})
	info.Set(1)
	m.registry.MustRegister(
		m.commit, m.decide, m.batch, m.refused, m.requests, m.latency, m.forwards, largest, info,
		&figures{Config: c},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// scrapesInFlight bounds scrapes at a time: each walks over the state.
const scrapesInFlight = 2

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesInFlight, EnableOpenMetrics: true})
}

// Decided notes that a batch of requests was decided.
func (m *Metrics) Decided(requests int, took time.Duration) {
	m.batch.Observe(float64(requests))
	m.decide.Observe(took.Seconds())
}

// Committed notes that an entry of so many bytes was proposed and applied. One
// goroutine calls it, the conductor's loop.
func (m *Metrics) Committed(took time.Duration, size int) {
	m.commit.Observe(took.Seconds())
	if int64(size) > m.largest.Load() {
		m.largest.Store(int64(size))
	}
}

// Refused notes that a request was refused.
func (m *Metrics) Refused(code structs.Code) { m.refused.WithLabelValues(string(code)).Inc() }

// Forwarded notes that a request was handed on to the leader, and whether an
// answer came back.
func (m *Metrics) Forwarded(answered bool) {
	outcome := "answered"
	if !answered {
		outcome = "failed"
	}
	m.forwards.WithLabelValues(outcome).Inc()
}

// Route returns what notes the requests of one route. route is its pattern,
// never the path of a request: labels have to be few. took is below 0 for a
// request that waited on purpose.
func (m *Metrics) Route(method, route string) func(status int, took time.Duration) {
	o := &observed{metrics: m, method: method, route: route}
	o.latency = sync.OnceValue(func() prometheus.Observer { return m.latency.WithLabelValues(route, method) })
	o.counters.Store(&map[int]prometheus.Counter{})
	return o.note
}

// observed is one route. It keeps its counters at hand: finding them by their
// labels costs more than counting.
type observed struct {
	metrics       *Metrics
	method, route string
	latency       func() prometheus.Observer // made at the first use: most routes have none

	mu       sync.Mutex // held to replace counters
	counters atomic.Pointer[map[int]prometheus.Counter]
}

func (o *observed) note(status int, took time.Duration) {
	counter := (*o.counters.Load())[status]
	if counter == nil {
		counter = o.add(status)
	}
	counter.Inc()
	if took >= 0 {
		o.latency().Observe(took.Seconds())
	}
}

func (o *observed) add(status int) prometheus.Counter {
	o.mu.Lock()
	defer o.mu.Unlock()
	counter := o.metrics.requests.WithLabelValues(o.route, o.method, strconv.Itoa(status))
	counters := maps.Clone(*o.counters.Load())
	counters[status] = counter
	o.counters.Store(&counters)
	return counter
}
