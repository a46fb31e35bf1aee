package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/agent/kubernetes/mirror"
	"github.com/stackforge/magnum/structs"
)

// maxCalls bounds the concurrent calls that follow from assignments.
const maxCalls = 16

// Follow implements backend.Cluster. An answer that came before is not taken over, since it
// may be from a time when another agent was active: a full one is asked for.
func (c *Client) Follow(ctx context.Context, owner backend.Owner, to backend.Observer) error {
	conf := mirror.Config{ClusterID: owner.ClusterID, HostID: owner.HostID, Address: c.conf.address(),
		PodSecurity: c.conf.PodSecurity, PodRanges: c.conf.PodRanges, Manifests: manifests}
	f := &follower{
		publish: c.publish, conf: conf,
		cluster: c.conf.Cluster, log: c.log, to: to, kick: make(chan struct{}, 1), slots: make(chan struct{}, maxCalls),
		mirror: mirror.New(conf),
	}
	c.mu.Lock()
	if c.follower != nil {
		c.mu.Unlock()
		return errors.New("kubernetes: Follow runs already")
	}
	missed := c.missed
	c.follower, c.missed = f, false
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.follower = nil
		c.mu.Unlock()
	}()
	if missed {
		to.NeedFull()
	}
	f.run(ctx, mirror.Selector(owner.ClusterID))
	return nil
}

// follower runs one Follow.
type follower struct {
	publish func(*structs.KubernetesCluster) // see Client.publish
	conf    mirror.Config
	cluster *cluster.Client
	log     hclog.Logger
	to      backend.Observer
	kick    chan struct{} // of size 1: something has changed
	slots   chan struct{} // one for each call in progress
	calls   sync.WaitGroup

	mu     sync.Mutex
	mirror *mirror.Mirror
}

// change tells the mirror something.
func (f *follower) change(tell func(*mirror.Mirror)) {
	f.mu.Lock()
	tell(f.mirror)
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// run does what the mirror says until ctx ends.
func (f *follower) run(ctx context.Context, selector string) {
	var watches sync.WaitGroup
	watches.Go(func() { f.cluster.Follow(ctx, selector, f) })
	defer watches.Wait()
	defer f.calls.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.kick:
		case <-timer.C:
		}
		f.mu.Lock()
		now := time.Now()
		out := f.mirror.Next(now)
		f.mu.Unlock()
		f.tell(&out)
		for _, call := range out.Calls {
			f.calls.Go(func() { f.do(ctx, call) })
		}
		if !out.Wake.IsZero() {
			timer.Reset(max(out.Wake.Sub(now), time.Millisecond))
		}
	}
}

// tell hands on what is to be reported.
func (f *follower) tell(out *mirror.Outcome) {
	if out.Cluster != nil {
		f.publish(out.Cluster)
		f.to.SetCluster(*out.Cluster)
	}
	for _, r := range out.Reports {
		ref := r.Ref()
		f.to.Observe(r.ContainerReport, func() { f.change(func(m *mirror.Mirror) { m.Taken(ref, r.Serial) }) })
	}
	for _, ref := range out.Forget {
		f.to.Forget(ref)
	}
	if out.NeedFull {
		f.to.NeedFull()
	}
}

// do makes a call.
func (f *follower) do(ctx context.Context, call *mirror.Call) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return
	}
	o, err := f.make(ctx, call)
	if ctx.Err() != nil {
		return
	}
	key := mirror.KeyOf(call.Object)
	if err != nil {
		f.log.Debug("call failed", "verb", call.Verb, "kind", key.Kind, "namespace", key.Namespace, "name", key.Name, "error", err)
	} else {
		f.log.Debug("called", "verb", call.Verb, "kind", key.Kind, "namespace", key.Namespace, "name", key.Name)
	}
	var refused *cluster.RefusedWrite
	switch {
	case errors.As(err, &refused):
		err = refused
	case cluster.Unanswered(err):
		f.cluster.Suspect()
		// As it is reported: the whole text differs with each try.
		err = fmt.Errorf("the cluster's API has not answered: %s", cluster.Brief(err))
	}
	f.change(func(m *mirror.Mirror) { m.Done(call, o, err, time.Now()) })
}

func (f *follower) make(ctx context.Context, call *mirror.Call) (mirror.Object, error) {
	var o cluster.Object
	var err error
	switch call.Verb {
	case mirror.Create:
		o, err = f.cluster.Create(ctx, call.Object)
	case mirror.Update:
		o, err = f.cluster.Update(ctx, call.Object)
	case mirror.Delete:
		o, err = f.cluster.Delete(ctx, call.Object, cluster.Preconditions{UID: call.UID, ResourceVersion: call.Version, Grace: call.Grace})
	case mirror.Get:
		o, err = f.cluster.Get(ctx, call.Object)
	case mirror.Events:
		o, err = f.warning(ctx, call)
	default:
		err = fmt.Errorf("kubernetes: no call %q", call.Verb)
	}
	if o == nil {
		return nil, err // not an interface of a nil pointer
	}
	return o, err
}

// warning returns the newest warning about an object; nil if there is none.
func (f *follower) warning(ctx context.Context, call *mirror.Call) (cluster.Object, error) {
	in := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: call.Object.GetNamespace()}}
	list, err := f.cluster.List(ctx, in, metav1.ListOptions{FieldSelector: "type=Warning,involvedObject.uid=" + string(call.UID)})
	if err != nil {
		return nil, err
	}
	var newest *corev1.Event
	for _, o := range list {
		if e := o.(*corev1.Event); newest == nil || lastSeen(e).After(lastSeen(newest)) {
			newest = e
		}
	}
	if newest == nil {
		return nil, nil
	}
	return newest, nil
}

// lastSeen returns when an event happened for the last time.
func lastSeen(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	case !e.EventTime.IsZero():
		return e.EventTime.Time
	}
	return e.CreationTimestamp.Time
}

// Replace implements cluster.Sink.
func (f *follower) Replace(kind cluster.Object, objects []cluster.Object, version string) {
	all := make([]mirror.Object, 0, len(objects))
	for _, o := range objects {
		all = append(all, o)
	}
	f.change(func(m *mirror.Mirror) { m.Replace(mirror.KindOf(kind), all, version) })
}

// See implements cluster.Sink.
func (f *follower) See(o cluster.Object) { f.change(func(m *mirror.Mirror) { m.See(o) }) }

// Unsee implements cluster.Sink.
func (f *follower) Unsee(o cluster.Object) { f.change(func(m *mirror.Mirror) { m.Unsee(o) }) }

// Away implements cluster.Sink.
func (f *follower) Away(err error) {
	f.log.Warn("API of the cluster does not answer", "error", err)
	f.change(func(m *mirror.Mirror) { m.Away(err.Error(), time.Now()) })
}

// Back implements cluster.Sink.
func (f *follower) Back() {
	f.log.Debug("API of the cluster answers")
	f.change(func(m *mirror.Mirror) { m.Back() })
}

// Trouble implements cluster.Sink.
func (f *follower) Trouble(kind cluster.Object, err error) {
	f.log.Warn("watch refused", "error", err)
	f.change(func(m *mirror.Mirror) { m.Trouble(mirror.KindOf(kind), err.Error(), time.Now()) })
}
