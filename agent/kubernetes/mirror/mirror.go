// Package mirror decides what an agent does in a Kubernetes cluster: from the assignments of
// the servers, the objects that the cluster has, and the time, it derives the calls to make
// and what to report. It makes no calls and has no clock, goroutines or client: package
// kubernetes tells it what happens and does what it says.
package mirror

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/stackforge/magnum/structs"
)

// Object is an object of the cluster.
type Object interface {
	runtime.Object
	metav1.Object
}

// Config says for whom objects are kept, and how.
type Config struct {
	ClusterID string // UUID of magnum's cluster, which all objects carry
	HostID    string // UUID of the host that the Kubernetes cluster is
	Address   string // URL of the cluster's API
	// PodSecurity is the level that namespaces enforce; "" means baseline.
	PodSecurity string
	// PodRanges are the ranges of all pods of the cluster; none means those of the nodes.
	PodRanges []netip.Prefix
	// Manifests translates what users have sent.
	Manifests Manifests
}

// Manifests translates a manifest into the object to create, with another name. An error
// says what is wrong with the manifest.
type Manifests struct {
	Pod     func(text, name string) (*corev1.Pod, error)
	Service func(text, name string) (*corev1.Service, error)
	RC      func(text, name string) (*corev1.ReplicationController, error)
}

// Mirror keeps the objects of one host. Its methods may not be called concurrently. Nothing
// is done before the first Take, and before all kinds were listed.
type Mirror struct {
	conf   Config
	work   map[name]*workload
	wanted map[Key]name // what has the right to an object's name
	spaces map[string]*space
	dirty  map[name]struct{}
	timed  timers

	seen
	dead map[types.UID]time.Time // objects that are gone: an answer that is late doesn't bring them back

	api      outage
	cluster  *structs.KubernetesCluster // as it was reported
	later    []*Call                    // for the next Next
	bay      *string                    // the host's; nil while unknown
	sure     bool                       // bay is of a full, confirmed answer
	takes    uint64                     // answers taken
	needFull bool
	fullDue  time.Time // when a full answer is asked for again, if there is anything that none has named
	serial   uint64
	out      Outcome
	now      time.Time // of the present Next
}

// seen is what the cluster has.
type seen struct {
	objects  map[Key]Object
	mine     map[name]Key                       // where the object of a workload is
	owned    map[string]map[Key]bool            // the pods of a replication controller, by its UUID
	slices   map[Key]map[Key]*endpoint          // the endpoint slices of a service
	services map[string]map[Key]*corev1.Service // by namespace
	nodes    map[string]*corev1.Node
	unlisted map[Kind]bool // kinds that were not listed since the API is back
}

// name names a workload.
type name struct {
	kind structs.WorkloadKind
	id   string
}

// Kind is a kind of objects in the cluster.
type Kind string

// The kinds.
const (
	Pods       Kind = "pod"
	Services   Kind = "service"
	RCs        Kind = "rc"
	Namespaces Kind = "namespace"
	Nodes      Kind = "node"
	Slices     Kind = "endpoint slice"
	Policies   Kind = "network policy"
)

// kinds are all kinds that are watched.
var kinds = []Kind{Pods, Services, RCs, Namespaces, Nodes, Slices, Policies}

// Key names an object in the cluster.
type Key struct {
	Kind            Kind
	Namespace, Name string
}

// KindOf returns the kind of an object; "" if it is none that is mirrored.
func KindOf(o Object) Kind {
	switch o.(type) {
	case *corev1.Pod:
		return Pods
	case *corev1.Service:
		return Services
	case *corev1.ReplicationController:
		return RCs
	case *corev1.Namespace:
		return Namespaces
	case *corev1.Node:
		return Nodes
	case *discoveryv1.EndpointSlice:
		return Slices
	case *networkingv1.NetworkPolicy:
		return Policies
	}
	return ""
}

// KeyOf returns the name of an object.
func KeyOf(o Object) Key { return Key{KindOf(o), o.GetNamespace(), o.GetName()} }

// Verb is what a Call does.
type Verb string

// The verbs.
const (
	Create Verb = "create"
	Update Verb = "update" // with the UID and resource version of the object
	Delete Verb = "delete" // with UID, and with Version if it is set
	Get    Verb = "get"
	Events Verb = "events" // the newest warning about the object
)

// Call is a call of the cluster's API. Its outcome is told by Done.
type Call struct {
	Verb    Verb
	Object  Object    // to send, or one of the type, namespace and name that is meant
	UID     types.UID // of Delete and Events
	Version string    // of Delete: the resource version that was decided on; "" means any
	Grace   *int64    // of Delete: seconds; nil means the object's own

	of    name // the workload; none if it is a namespace's
	space string
}

// Report is what was seen of a workload. Serial tells the reports of a workload apart.
type Report struct {
	structs.ContainerReport
	Serial uint64
}

// Outcome is what is to be done.
type Outcome struct {
	Calls    []*Call
	Reports  []Report
	Forget   []structs.Ref
	NeedFull bool                       // a full answer is needed
	Cluster  *structs.KubernetesCluster // how the cluster is now; nil if that is as before
	Wake     time.Time                  // when Next is to be called at the latest; zero means never
}

// workload is a pod, service or replication controller that is assigned, or that the cluster
// has.
type workload struct {
	name
	a        structs.Assignment
	assigned bool // else only the cluster has it
	found    bool // a pod that a replication controller has made
	orphan   bool // it is removed, because a full answer doesn't name it
	key      Key  // of its object; its Name is "" if it is unknown

	manifest Object // nil if it can't be read, or there is none
	invalid  string // why
	hash     string // of what manifest was made from

	done    uint64    // newest generation that was carried out
	existed bool      // the cluster has had its object in this epoch
	adopted bool      // a bare pod that a replication controller of the cluster counts
	gone    bool      // it was reported as gone, and isn't made again in this epoch
	why     string    // why it has vanished, or waits
	made    time.Time // when it was last made
	remade  int       // how often in a row it was made again
	due     time.Time // when it is tried, or made, again
	call    *Call     // in progress
	refused *refusal
	trouble string // why the last call failed, if that may pass by itself
	tries   int    // calls in a row that failed so
	forced  types.UID

	event   string // a warning about a pod that doesn't get on
	eventAt time.Time
	sighted uint64 // takes when an object was seen that nothing names

	last   *structs.ContainerReport
	serial uint64
	taken  bool
}

// New returns a Mirror that has seen nothing.
func New(conf Config) *Mirror {
	conf.PodSecurity = cmp.Or(conf.PodSecurity, "baseline")
	m := &Mirror{
		conf: conf, work: map[name]*workload{}, wanted: map[Key]name{}, spaces: map[string]*space{}, dirty: map[name]struct{}{},
		timed: timers{map[name]struct{}{}},
		seen: seen{objects: map[Key]Object{}, mine: map[name]Key{}, owned: map[string]map[Key]bool{},
			slices: map[Key]map[Key]*endpoint{}, nodes: map[string]*corev1.Node{},
			services: map[string]map[Key]*corev1.Service{}},
		dead: map[types.UID]time.Time{},
	}
	m.Back()
	return m
}

// Away says that the API doesn't answer: calls wait. The first of several in a row says
// since when.
func (m *Mirror) Away(reason string, now time.Time) {
	clear(m.api.troubled)
	m.api.begin(cmp.Or(reason, "it does not answer"), now)
	m.all()
}

// Trouble says that the API refuses to list a kind, and why: calls wait until it was listed.
func (m *Mirror) Trouble(kind Kind, reason string, now time.Time) {
	m.api.troubled[kind], m.unlisted[kind] = reason, true
	m.api.begin(m.api.refuses(), now)
	m.all()
}

// outage says whether the API can be worked with.
type outage struct {
	troubled  map[Kind]string // why the API refuses to list a kind
	away      string          // why the API doesn't answer, or what it refuses; "" while it does neither
	awaySince time.Time
}

// refuses says what the API refuses to list; "" for nothing.
func (o *outage) refuses() string {
	return strings.Join(slices.Sorted(maps.Values(o.troubled)), "; ")
}

// begin notes why calls wait. The first of several in a row says since when.
func (o *outage) begin(reason string, now time.Time) {
	if o.away == "" {
		o.awaySince = now.UTC()
	}
	o.away = reason
}

// absence describes an API that is away, or refuses to be listed.
func (o *outage) absence() *structs.KubernetesCluster {
	return &structs.KubernetesCluster{AwaySince: o.awaySince, Away: o.away, Refuses: len(o.troubled) > 0}
}

// Back says that the API answers. Calls wait until all kinds were listed again.
func (m *Mirror) Back() {
	m.api.away, m.unlisted, m.api.troubled = "", map[Kind]bool{}, map[Kind]string{}
	for _, kind := range kinds {
		m.unlisted[kind] = true
	}
	m.all()
}

// Listed reports whether the API answers, and everything that it has was listed since it
// does.
func (m *Mirror) Listed() bool { return m.api.away == "" && len(m.unlisted) == 0 }

// Taken says that a server has taken a report.
func (m *Mirror) Taken(ref structs.Ref, serial uint64) {
	w := m.work[name{ref.Kind, ref.ID}]
	if w != nil && w.serial == serial && w.last != nil && w.last.Status == structs.ContainerGone {
		w.taken = true
		m.touch(w.name)
	}
}

// Locate returns the pod that a workload is, or nil.
func (m *Mirror) Locate(kind structs.WorkloadKind, id string) *corev1.Pod {
	pod, _ := m.objects[m.mine[name{kind, id}]].(*corev1.Pod)
	return pod
}

// touch has Next look at a workload.
func (m *Mirror) touch(n name) {
	if n != (name{}) {
		m.dirty[n] = struct{}{}
	}
}

// all has Next look at everything.
func (m *Mirror) all() {
	for n := range m.work {
		m.touch(n)
	}
	for _, s := range m.spaces {
		s.dirty = true
	}
}

// touchSpace has Next look at everything in a namespace.
func (m *Mirror) touchSpace(namespace string) {
	if s := m.spaces[namespace]; s != nil {
		s.dirty = true
	}
	for _, w := range m.work {
		if w.key.Namespace == namespace {
			m.touch(w.name)
		}
	}
}

// Next returns what is to be done now.
func (m *Mirror) Next(now time.Time) Outcome {
	m.now, m.out = now, Outcome{Calls: m.later}
	m.later = nil
	for n := range m.timed.names {
		if w := m.work[n]; w == nil {
			delete(m.timed.names, n)
		} else if !w.due.IsZero() && !now.Before(w.due) || !w.eventAt.IsZero() && !now.Before(w.eventAt) {
			m.touch(n)
		}
	}
	if m.takes > 0 {
		m.keepSpaces()
		for len(m.dirty) > 0 { // a step may touch others
			names := slices.SortedFunc(maps.Keys(m.dirty), func(a, b name) int {
				return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.id, b.id))
			})
			m.dirty = map[name]struct{}{} // one that was large once takes long to clear
			for _, n := range names {
				if w := m.work[n]; w != nil {
					w.step(m)
					m.timed.note(w)
				}
			}
		}
	}
	m.describeCluster()
	for uid, at := range m.dead {
		if at.IsZero() {
			m.dead[uid] = now
		} else if now.Sub(at) > lateAnswer {
			delete(m.dead, uid)
		}
	}
	if !m.fullDue.IsZero() && !now.Before(m.fullDue) {
		m.fullDue = time.Time{}
		for _, w := range m.work {
			m.needFull = m.needFull || !w.assigned && !w.found && !w.orphan
		}
	}
	m.wake(m.fullDue)
	m.out.NeedFull, m.needFull = m.needFull, false
	for n := range m.timed.names {
		if w := m.work[n]; w != nil {
			m.wake(w.due)
			m.wake(w.eventAt)
		}
	}
	for _, s := range m.spaces {
		m.wake(s.due)
	}
	return m.out
}

// timers are the workloads that Next has to look at again at a time.
type timers struct{ names map[name]struct{} }

// note notes whether a workload is one of them.
func (t *timers) note(w *workload) {
	if !w.due.IsZero() || !w.eventAt.IsZero() {
		t.names[w.name] = struct{}{}
		return
	}
	if _, was := t.names[w.name]; !was {
		return
	}
	if delete(t.names, w.name); len(t.names) == 0 {
		t.names = map[name]struct{}{} // as dirty
	}
}

// lateAnswer is longer than any call takes.
const lateAnswer = 2 * time.Minute

// wake has Next called at a time, unless it is over.
func (m *Mirror) wake(at time.Time) {
	if at.After(m.now) && (m.out.Wake.IsZero() || at.Before(m.out.Wake)) {
		m.out.Wake = at
	}
}

// newer reports whether an object's version isn't older than another's.
func newer(o, than Object) bool {
	a, errA := strconv.ParseUint(o.GetResourceVersion(), 10, 64)
	b, errB := strconv.ParseUint(than.GetResourceVersion(), 10, 64)
	return errA != nil || errB != nil || a >= b
}
