package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"
)

// The deadlines of calls.
const (
	callTimeout  = 30 * time.Second // of a call; admission webhooks may take 30 s
	probeTimeout = 3 * time.Second  // of /readyz
)

// Get reads the object that has the type, namespace and name of o.
func (c *Client) Get(ctx context.Context, o Object) (Object, error) {
	return c.do(ctx, http.MethodGet, o, nil)
}

// Create makes an object, and returns it as the cluster has it.
func (c *Client) Create(ctx context.Context, o Object) (Object, error) {
	return c.do(ctx, http.MethodPost, o, o)
}

// Update replaces an object. Its UID and resource version are preconditions.
func (c *Client) Update(ctx context.Context, o Object) (Object, error) {
	return c.do(ctx, http.MethodPut, o, o)
}

// CreateSub makes a subresource of o, and has its answer in the same type as sub.
func (c *Client) CreateSub(ctx context.Context, o Object, name string, sub Object) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.request(http.MethodPost, o, true).SubResource(name).Body(sub).Do(ctx).Into(sub)
}

// Preconditions says which object a delete means, and how it is deleted.
type Preconditions struct {
	UID             types.UID
	ResourceVersion string // "" means any
	Grace           *int64 // seconds; nil means the object's own
}

// Delete deletes the object that has the type, namespace and name of o, with all that
// depends on it, if the preconditions hold. It returns the object if the cluster ends it
// first and then deletes it, else nil.
func (c *Client) Delete(ctx context.Context, o Object, p Preconditions) (Object, error) {
	policy := metav1.DeletePropagationBackground
	options := &metav1.DeleteOptions{
		GracePeriodSeconds: p.Grace,
		PropagationPolicy:  &policy,
		Preconditions:      &metav1.Preconditions{UID: &p.UID},
	}
	if p.ResourceVersion != "" {
		options.Preconditions.ResourceVersion = &p.ResourceVersion
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	res := c.request(http.MethodDelete, o, true).Body(options).Do(ctx)
	answer, err := res.Get()
	if err != nil {
		return nil, err
	}
	if left, ok := answer.(Object); ok && left.GetUID() == p.UID && left.GetDeletionTimestamp() != nil {
		return slim(left), nil
	}
	return nil, nil
}

// request begins a call. A named one is on the object itself, the others on its collection.
// It isn't repeated, as client-go does by itself: that the API doesn't answer has to be known
// at once, and the callers try again.
func (c *Client) request(verb string, o Object, named bool) *rest.Request {
	res, _ := resourceOf(o)
	r := c.clients[res.group].Verb(verb).MaxRetries(0).Resource(res.name).NamespaceIfScoped(o.GetNamespace(), !res.global)
	if named {
		r = r.Name(o.GetName())
	}
	return r
}

func (c *Client) do(ctx context.Context, verb string, o, body Object) (Object, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, out := resourceOf(o)
	r := c.request(verb, o, verb != http.MethodPost)
	if body != nil {
		r = r.Body(body)
	}
	if err := r.Do(ctx).Into(out); err != nil {
		return nil, err
	}
	return slim(out), nil
}

// Ready returns nil if the API says that it is ready: it answers, and so do its stores.
func (c *Client) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	body, err := c.clients[""].Get().MaxRetries(0).AbsPath("/readyz").Do(ctx).Raw()
	if err == nil {
		return nil
	}
	var status apierrors.APIStatus
	if len(body) > 0 && errors.As(err, &status) && status.Status().Code >= 500 {
		return fmt.Errorf("its /readyz answers %d: %s", status.Status().Code, failedChecks(string(body)))
	}
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) {
		return nil // it answers; only its health isn't for us
	}
	return err
}

// Version returns the version of the API server.
func (c *Client) Version(ctx context.Context) (version.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var v version.Info
	body, err := c.clients[""].Get().MaxRetries(0).AbsPath("/version").SetHeader("Accept", "application/json").Do(ctx).Raw()
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(body, &v); err != nil {
		return v, fmt.Errorf("the version of the API server: %w", err)
	}
	return v, nil
}

// List reads the objects of the type of o in its namespace ("" means all) that fulfill the
// selectors, as the type of list that the type has.
func (c *Client) List(ctx context.Context, o Object, options metav1.ListOptions) ([]Object, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	list := listOf(o)
	res, _ := resourceOf(o)
	err := c.collection(o).NamespaceIfScoped(o.GetNamespace(), !res.global && o.GetNamespace() != "").
		VersionedParams(&options, c.params).Do(ctx).Into(list)
	if err != nil {
		return nil, err
	}
	var objects []Object
	err = meta.EachListItem(list, func(item runtime.Object) error {
		objects = append(objects, item.(Object))
		return nil
	})
	return objects, err
}

// collection begins a call on all objects of the type of o.
func (c *Client) collection(o Object) *rest.Request {
	res, _ := resourceOf(o)
	return c.clients[res.group].Get().MaxRetries(0).Resource(res.name)
}
