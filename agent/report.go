package agent

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/structs"
)

// reporter collects what the reconciler observes and sends it in batches. The first change
// is sent at once; changes during a report go with the next one. One goroutine sends; any
// number may call observe.
type reporter struct {
	send func(context.Context, structs.StatusReport) error // tries until a server answers; errStale if the registration has ended
	log  hclog.Logger
	wake chan struct{}
	// filled is called when the host has no room for another project's network any
	// more; may be nil. It must not block.
	filled func()

	mu           sync.Mutex
	registration uint64
	seq          uint64
	latest       map[structs.Ref]*observation // by workload, without epoch
	queue        []structs.Ref                // workloads to report, in the order of their first change
	full         bool                         // the host has no room for another project's network
	fullUnsent   bool                         // full has changed since it was last sent
	copies       structs.Copies               // on the engine
	copiesUnsent bool                         // copies has changed since it was last sent
	// problems are what the host doesn't serve of the bay's services. problemsUnsent says
	// that they have changed since they were last sent.
	problems       []structs.ServiceProblem
	problemsUnsent bool
	cluster        *structs.KubernetesCluster // how the host's cluster is; nil if the host is none, or it isn't known yet
	clusterUnsent  bool                       // cluster has changed since it was last sent
	cleaned        *structs.CleanReport       // of the last cleaning; nil once a server has taken it
}

// observation is the last observation of a workload.
type observation struct {
	report structs.ContainerReport
	queued bool
	taken  func() // called when a server has taken exactly this observation; may be nil
}

// The bounds of a report, in bytes. Servers refuse a body of more than structs.MaxBody.
const (
	maxPartText  = 1 << 10             // of a text about one part of a workload
	maxPartTexts = structs.MaxBody / 2 // of the texts about all parts of a workload, as JSON
	maxReport    = structs.MaxBody / 2 // of the workloads of a report, as JSON, unless it has only one
	escapedByte  = len(`\u003c`)       // the most that a byte of a text has as JSON
)

// wire returns the report in the form that servers take. They refuse a report as a whole if
// one of its texts is too long, or the report itself, and texts have what engines, registries
// and processes say. The more parts a workload has, the shorter are their texts.
func (r *report) wire() structs.ContainerReport {
	out := structs.ReportOf(r.Ref)
	out.Observed, out.Refused = r.Observed, r.Refused
	out.Reason = clip(out.Reason, structs.MaxText)
	for _, p := range r.parts {
		part := structs.PartReport{Part: p.name, Observed: p.Observed, State: p.state, Last: p.last, Ready: p.ready, Started: p.started,
			ImageID: p.imageID}
		boundPart(&part, len(r.parts))
		out.Parts = append(out.Parts, part)
	}
	return out
}

// clip shortens a text to at most most bytes, and drops what isn't text.
func clip(text string, most int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
	if len(text) <= most {
		return text
	}
	const rest = "..."
	return strings.ToValidUTF8(text[:most-len(rest)], "") + rest
}

func newReporter(log hclog.Logger, send func(context.Context, structs.StatusReport) error) *reporter {
	return &reporter{send: send, log: log, wake: make(chan struct{}, 1), latest: make(map[structs.Ref]*observation)}
}

// register begins a new registration: everything is reported again, because the servers may
// have lost it. Seq begins at 1 again. It needs no journal, because each start of an agent
// registers.
func (r *reporter) register(registration uint64) {
	r.mu.Lock()
	r.registration, r.seq, r.fullUnsent = registration, 0, r.full
	r.copiesUnsent, r.problemsUnsent = r.copies.Count > 0, len(r.problems) > 0
	r.clusterUnsent = r.cluster != nil
	r.mu.Unlock()
	r.repeat()
}

// repeat reports everything again. Servers that send a full answer may have taken the host
// for lost meanwhile, and then no longer trust earlier reports.
func (r *reporter) repeat() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, o := range r.latest {
		r.queueLocked(id, o)
	}
	r.wakeUp()
}

// observe reports a workload. An unchanged observation is reported again only if taken is
// not nil.
func (r *reporter) observe(report report, taken func()) { r.put(report.wire(), taken) }

// put is observe for a report in the form that servers take.
func (r *reporter) put(report structs.ContainerReport, taken func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := keyOf(report.Ref())
	o := r.latest[key]
	if o != nil && taken == nil && reflect.DeepEqual(o.report, report) {
		return
	}
	if o == nil {
		o = new(observation)
		r.latest[key] = o
	}
	o.report, o.taken = report, taken
	r.queueLocked(key, o)
	r.wakeUp()
}

// setNetworksFull reports whether the host has no room for another project's network.
func (r *reporter) setNetworksFull(full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full == full {
		return
	}
	r.full, r.fullUnsent = full, true
	r.wakeUp()
	if full && r.filled != nil {
		r.filled()
	}
}

// networksFull returns the last value of setNetworksFull.
func (r *reporter) networksFull() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full
}

// setCopies reports which containers are copies.
func (r *reporter) setCopies(now structs.Copies) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copies, r.copiesUnsent = now, true
	r.wakeUp()
}

// setProblems reports what the host doesn't serve of the bay's services.
func (r *reporter) setProblems(now []datapath.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems, r.problemsUnsent = []structs.ServiceProblem{}, true
	for _, p := range now[:min(len(now), structs.MaxServiceProblems)] {
		reason := clip(p.Reason, maxPartText)
		r.problems = append(r.problems, structs.ServiceProblem{ServiceID: p.ServiceID, HostID: p.HostID, Reason: reason})
	}
	r.wakeUp()
}

// setCluster reports how the host's Kubernetes cluster is.
func (r *reporter) setCluster(now structs.KubernetesCluster) {
	now.Away = clip(now.Away, structs.MaxText)
	now.Nodes = slices.Clone(now.Nodes[:min(len(now.Nodes), structs.MaxKubernetesNodes)])
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cluster != nil && reflect.DeepEqual(*r.cluster, now) {
		return
	}
	r.cluster, r.clusterUnsent = &now, true
	r.wakeUp()
}

// setCleaned reports how the host was cleaned.
func (r *reporter) setCleaned(now structs.CleanReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleaned = &now
	r.wakeUp()
}

// forget stops reporting a workload.
func (r *reporter) forget(whole structs.Ref) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.latest, whole)
}

func (r *reporter) queueLocked(id structs.Ref, o *observation) {
	if !o.queued {
		o.queued = true
		r.queue = append(r.queue, id)
	}
}

func (r *reporter) wakeUp() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// next takes the next report off the queue. taken has, by workload, the functions to call
// when a server has taken the report.
func (r *reporter) next() (report structs.StatusReport, taken map[structs.Ref]func(), ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, size := 0, 0
	for _, id := range r.queue {
		if len(report.Containers) == structs.MaxReport {
			break
		}
		o := r.latest[id]
		if o == nil || !o.queued {
			n++
			continue
		}
		c := o.report
		if size += encodedSize(&c); size > maxReport && len(report.Containers) > 0 {
			break
		}
		n++
		o.queued = false
		report.Containers = append(report.Containers, c)
		if o.taken != nil {
			if taken == nil {
				taken = make(map[structs.Ref]func())
			}
			taken[id] = o.taken
			o.taken = nil
		}
	}
	r.queue = append(r.queue[:0], r.queue[n:]...)
	if len(report.Containers) == 0 && !r.fullUnsent && !r.copiesUnsent && !r.problemsUnsent && !r.clusterUnsent &&
		r.cleaned == nil {
		return report, nil, false
	}
	if r.fullUnsent {
		full := r.full
		report.NetworksFull, r.fullUnsent = &full, false
	}
	if r.copiesUnsent {
		copies := r.copies
		report.Copies, r.copiesUnsent = &copies, false
		report.Containers = append([]structs.ContainerReport{}, report.Containers...) // not null
	}
	if r.problemsUnsent {
		problems := r.problems
		report.Problems, r.problemsUnsent = &problems, false
		report.Containers = append([]structs.ContainerReport{}, report.Containers...) // not null
	}
	if r.clusterUnsent {
		report.Cluster, r.clusterUnsent = r.cluster, false                            // it is replaced, never changed
		report.Containers = append([]structs.ContainerReport{}, report.Containers...) // not null
	}
	if report.Cleaned, r.cleaned = r.cleaned, nil; report.Cleaned != nil {
		report.Containers = append([]structs.ContainerReport{}, report.Containers...) // not null
	}
	r.seq++
	report.Registration, report.Seq = r.registration, r.seq
	return report, taken, true
}

// encodedSize returns the number of bytes of a report of a workload as JSON.
func encodedSize(c *structs.ContainerReport) int {
	b, err := json.Marshal(c)
	if err != nil {
		return 0 // sending it says why
	}
	return len(b)
}

// restore queues the content of a report of an ended registration again, unless something
// newer is known.
func (r *reporter) restore(report structs.StatusReport, taken map[structs.Ref]func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.copiesUnsent = r.copiesUnsent || report.Copies != nil
	r.problemsUnsent = r.problemsUnsent || report.Problems != nil
	r.clusterUnsent = r.clusterUnsent || report.Cluster != nil
	if r.cleaned == nil {
		r.cleaned = report.Cleaned
	}
	for _, c := range report.Containers {
		key := keyOf(c.Ref())
		o := r.latest[key]
		if o == nil {
			continue
		}
		if o.taken == nil && reflect.DeepEqual(o.report, c) {
			o.taken = taken[key]
		}
		r.queueLocked(key, o)
	}
	r.wakeUp()
}

// run sends reports until ctx ends.
func (r *reporter) run(ctx context.Context) error {
	for {
		report, taken, ok := r.next()
		if !ok {
			select {
			case <-r.wake:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		if err := r.send(ctx, report); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			r.log.Debug("report of an ended registration", "registration", report.Registration, "error", err)
			r.restore(report, taken)
			continue
		}
		for _, f := range taken {
			f()
		}
	}
}
