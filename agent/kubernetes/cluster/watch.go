package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// How often the API is asked whether it is ready.
const (
	AwayPause  = 500 * time.Millisecond // while it is away
	watchPause = 5 * time.Second        // while it answers: a connection that hangs reports nothing
	listPause  = time.Second            // after a list or watch that the API has refused
	shortPause = 200 * time.Millisecond // after one that has ended soon
	toldPause  = 10 * time.Second       // at least between two reasons why the API is away: each is reported
)

// Sink takes what watches see. Its methods are called by several goroutines, and don't
// block. Objects must not be changed.
type Sink interface {
	// Replace says that the objects of the type of kind are these, as of a resource version.
	Replace(kind Object, objects []Object, version string)
	See(o Object)   // an object has appeared or changed
	Unsee(o Object) // an object is gone
	// Away says that the API doesn't answer, and why. It may be repeated if the reason changes.
	Away(err error)
	// Back says that the API answers: at first, and after Away.
	Back()
	// Trouble says that the API answers, but refuses to list or watch the type of kind.
	Trouble(kind Object, err error)
}

// Follow watches pods, services, replication controllers, namespaces, endpoints and network
// policies that have the labels of the selector, and all nodes, until ctx ends. When the API doesn't answer, it
// waits until the API is ready, and begins all watches again.
func (c *Client) Follow(ctx context.Context, selector string, to Sink) {
	for c.wait(ctx, to) {
		to.Back()
		c.session(ctx, selector, to)
	}
}

// wait waits until the API is ready. It returns false if ctx has ended.
func (c *Client) wait(ctx context.Context, to Sink) bool {
	told, toldAt := "", time.Time{}
	for ctx.Err() == nil {
		begun := time.Now()
		err := c.Ready(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		if text := Brief(err); told == "" || text != told && begun.Sub(toldAt) > toldPause {
			told, toldAt = text, begun
			to.Away(errors.New(text))
		}
		c.Close() // a connection that hangs would be used again
		pause(ctx, AwayPause-time.Since(begun))
	}
	return false
}

// session watches until the API doesn't answer, or ctx ends.
func (c *Client) session(ctx context.Context, selector string, to Sink) {
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel()
	for kind, selector := range map[Object]string{
		&corev1.Namespace{}:             selector,
		&corev1.Pod{}:                   selector,
		&corev1.Service{}:               selector,
		&corev1.ReplicationController{}: selector,
		&discoveryv1.EndpointSlice{}:    selector,
		&networkingv1.NetworkPolicy{}:   selector,
		&corev1.Node{}:                  "",
	} {
		parts.Go(func() { c.follow(ctx, kind, selector, to, cancel) })
	}
	timer := time.NewTicker(watchPause)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.suspect:
		}
		if c.Ready(ctx) != nil {
			return
		}
	}
}

// Suspect has a Follow in progress ask the API whether it is ready.
func (c *Client) Suspect() {
	select {
	case c.suspect <- struct{}{}:
	default:
	}
}

// follow lists and watches one type until ctx ends. It calls lost if the API doesn't answer.
func (c *Client) follow(ctx context.Context, kind Object, selector string, to Sink, lost func()) {
	lw := &source{c: c, kind: kind, selector: selector, failed: func(err error) {
		if ctx.Err() == nil && Unanswered(err) {
			lost()
		}
	}}
	r := cache.NewReflectorWithOptions(lw, kind, &store{kind: kind, to: to}, cache.ReflectorOptions{Name: "magnum"})
	for ctx.Err() == nil {
		begun := time.Now()
		err := r.ListAndWatchWithContext(ctx)
		switch {
		case ctx.Err() != nil:
		case apierrors.IsTooManyRequests(err):
			pause(ctx, listPause)
		case err != nil && !tooOld(err):
			to.Trouble(kind, refused(kind, err))
			pause(ctx, listPause)
		case time.Since(begun) < listPause:
			pause(ctx, shortPause) // a watch that ends at once would be begun without end
		}
	}
}

// refused says what the API refuses. A right that is missing is named by the API.
func refused(kind Object, err error) error {
	res, _ := resourceOf(kind)
	if status := apierrors.APIStatus(nil); apierrors.IsForbidden(err) && errors.As(err, &status) {
		return fmt.Errorf("the agent's account lacks a right that the YAML that magnum ships gives: %s", status.Status().Message)
	}
	return fmt.Errorf("the cluster refuses to list %s: %w", res.name, err)
}

// pause waits; false if ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// source lists and watches the objects of one type for a reflector.
type source struct {
	c        *Client
	kind     Object
	selector string
	failed   func(error) // told of each error
}

var _ cache.ListerWatcherWithContext = (*source)(nil)

// List implements cache.ListerWatcher.
func (s *source) List(o metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), o)
}

// Watch implements cache.ListerWatcher.
func (s *source) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), o)
}

// ListWithContext implements cache.ListerWatcherWithContext.
func (s *source) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if o.ResourceVersion == "0" {
		o.ResourceVersion = "" // the newest state: an API server's cache may be behind what this agent has written
	}
	o.LabelSelector = s.selector
	list := listOf(s.kind)
	err := s.c.collection(s.kind).VersionedParams(&o, s.c.params).Do(ctx).Into(list)
	if err != nil {
		s.failed(err)
	}
	return list, err
}

// WatchWithContext implements cache.ListerWatcherWithContext.
func (s *source) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.Watch, o.LabelSelector = true, s.selector
	w, err := s.c.collection(s.kind).VersionedParams(&o, s.c.params).Watch(ctx)
	if err != nil {
		s.failed(err)
	}
	return w, err
}

// store hands what a reflector sees to a Sink.
type store struct {
	kind Object
	to   Sink
}

// Add implements cache.ReflectorStore.
func (s *store) Add(o any) error { return s.Update(o) }

// Update implements cache.ReflectorStore.
func (s *store) Update(o any) error {
	s.to.See(slim(o.(Object)))
	return nil
}

// Delete implements cache.ReflectorStore.
func (s *store) Delete(o any) error {
	s.to.Unsee(slim(o.(Object)))
	return nil
}

// Replace implements cache.ReflectorStore.
func (s *store) Replace(list []any, version string) error {
	objects := make([]Object, 0, len(list))
	for _, o := range list {
		objects = append(objects, slim(o.(Object)))
	}
	s.to.Replace(s.kind, objects, version)
	return nil
}

// Resync implements cache.ReflectorStore.
func (s *store) Resync() error { return nil }

// slim drops what nobody reads and may be large.
func slim(o Object) Object {
	o.SetManagedFields(nil)
	if n, ok := o.(*corev1.Node); ok {
		n.Status.Images, n.Annotations = nil, nil
	}
	return o
}
