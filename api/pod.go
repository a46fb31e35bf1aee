package api

import (
	"context"
	"io"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// Pods accesses the pods of the caller's project.
type Pods struct{ c *Client }

// Pods returns the client of pods.
func (c *Client) Pods() Pods { return Pods{c} }

func (t Pods) process(ident, container string) process {
	return process{c: t.c, noun: "pods", kind: structs.KindPod, ident: ident, container: container}
}

// List returns the pods that the options ask for. Without Detail only the fields up to
// Links are set. Manifest is nil in either case.
func (t Pods) List(ctx context.Context, o QueryOptions) ([]structs.PodBody, Meta, error) {
	return list[structs.PodBody](ctx, t.c, "pods", o)
}

// Get returns the pod of a uuid or name. CodeNotFound, CodeConflict: pods of several
// bays have the name.
func (t Pods) Get(ctx context.Context, ident string, o QueryOptions) (*structs.PodBody, Meta, error) {
	return get[structs.PodBody](ctx, t.c, "pods", ident, o)
}

// Create creates a pod and starts it. The wait ends once all of its containers have been
// started. CodeInvalid: the manifest is refused, CodeQuota, CodeConflict: the bay has a
// pod of this name, or the Idempotency-Key was used with another request.
func (t Pods) Create(ctx context.Context, req *structs.PodRequest, o WriteOptions) (*structs.PodBody, Meta, error) {
	return create[structs.PodBody](ctx, t.c, "pods", nil, req, o)
}

// Update changes /manifest or /manifest_url of the pod of a uuid or name. Of a manifest,
// images, labels, annotations and activeDeadlineSeconds may change. CodeInvalid,
// CodeNotFound, CodeConflict.
func (t Pods) Update(ctx context.Context, ident string, ops []structs.PatchOp, o WriteOptions) (*structs.PodBody, Meta, error) {
	return update[structs.PodBody](ctx, t.c, "pods", ident, ops, o)
}

// Delete deletes the pod of a uuid or name; its containers have the grace period of the
// manifest to end in, and none if Force is set. Stop has no effect. CodeNotFound.
func (t Pods) Delete(ctx context.Context, ident string, o DeleteOptions) (Meta, error) {
	q := url.Values{}
	if o.Force {
		q.Set("force", "true")
	}
	return remove(ctx, t.c, "pods", ident, q, o.WriteOptions)
}

// Logs is Containers.Logs for a container of a pod; "" means the pod's first one. With
// Follow the stream continues over restarts.
func (t Pods) Logs(ctx context.Context, ident, container string, o structs.LogsRequest) (io.ReadCloser, error) {
	return t.process(ident, container).logs(ctx, o)
}

// Execute is Containers.Execute for a container of a pod; "" means the pod's first one.
func (t Pods) Execute(ctx context.Context, ident, container string, req structs.ExecRequest) (*structs.OutputBody, Meta, error) {
	return t.process(ident, container).execute(ctx, req)
}

// ExecuteInteractive is Containers.ExecuteInteractive for a container of a pod; "" means
// the pod's first one.
func (t Pods) ExecuteInteractive(ctx context.Context, ident, container string, req structs.ExecRequest, s Streams) (int, error) {
	return t.process(ident, container).executeInteractive(ctx, req, s)
}

// Attach is Containers.Attach for a container of a pod; "" means the pod's first one.
func (t Pods) Attach(ctx context.Context, ident, container string, o AttachOptions) (*int, error) {
	return t.process(ident, container).attach(ctx, o)
}

// Stats is Containers.Stats for a container of a pod; "" means the pod's first one.
func (t Pods) Stats(ctx context.Context, ident, container string) (*structs.StatsBody, Meta, error) {
	return t.process(ident, container).stats(ctx)
}

// FollowStats is Containers.FollowStats for a container of a pod; "" means the pod's first
// one. It returns nil when the container ends, also if it is going to be restarted.
func (t Pods) FollowStats(ctx context.Context, ident, container string, each func(structs.StatsBody) error) error {
	return t.process(ident, container).followStats(ctx, each)
}

// Top is Containers.Top for a container of a pod; "" means the pod's first one.
func (t Pods) Top(ctx context.Context, ident, container, psArgs string) (*structs.TopBody, Meta, error) {
	return t.process(ident, container).top(ctx, psArgs)
}

// ReadArchive is Containers.ReadArchive for a container of a pod; "" means the pod's first
// one.
func (t Pods) ReadArchive(ctx context.Context, ident, container, path string) (io.ReadCloser, error) {
	return t.process(ident, container).readArchive(ctx, path)
}

// WriteArchive is Containers.WriteArchive for a container of a pod; "" means the pod's first
// one.
func (t Pods) WriteArchive(ctx context.Context, ident, container, path string, archive io.Reader) (Meta, error) {
	return t.process(ident, container).writeArchive(ctx, path, archive)
}

// Actions returns the recorded actions on a pod, newest first. CodeNotFound.
func (t Pods) Actions(ctx context.Context, ident string) ([]structs.ActionBody, Meta, error) {
	return actions(ctx, t.c, "pods", structs.KindPod, ident)
}
