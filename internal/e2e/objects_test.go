//go:build e2e

package e2e

import (
	"context"
	"testing"

	"github.com/stackforge/magnum/agent/backend/backendtest/manifests"
	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// TestObjectsOnDocker is the counterpart of TestKubernetesObjects.
func TestObjectsOnDocker(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	manifests.Objects(t, &manifests.Bay{Backend: structs.BackendDocker, Image: image, Project: &objectClient{c.client, c.bay.Name}})
}

// objectClient implements manifests.Project.
type objectClient struct {
	client *api.Client
	bay    string
}

func (o *objectClient) Create(ctx context.Context, kind, manifest string) (err error) {
	if kind == structs.KindRC {
		_, _, err = o.client.RCs().Create(ctx, &structs.RCRequest{Bay: o.bay, Manifest: manifest}, api.WriteOptions{})
	} else {
		_, _, err = o.client.Services().Create(ctx, &structs.ServiceRequest{Bay: o.bay, Manifest: manifest}, api.WriteOptions{})
	}
	return err
}

func (o *objectClient) Replace(ctx context.Context, kind, name, manifest string) (err error) {
	patch := []structs.PatchOp{{Op: "replace", Path: "/manifest", Value: manifest}}
	if kind == structs.KindRC {
		_, _, err = o.client.RCs().Update(ctx, name, patch, api.WriteOptions{})
	} else {
		_, _, err = o.client.Services().Update(ctx, name, patch, api.WriteOptions{})
	}
	return err
}

func (o *objectClient) Delete(ctx context.Context, kind, name string) (err error) {
	if kind == structs.KindRC {
		_, err = o.client.RCs().Delete(ctx, name, api.DeleteOptions{})
	} else {
		_, err = o.client.Services().Delete(ctx, name, api.WriteOptions{})
	}
	return err
}

func (o *objectClient) Service(ctx context.Context, name string) (*structs.ServiceBody, error) {
	s, _, err := o.client.Services().Get(ctx, name, api.QueryOptions{Consistent: true})
	return s, err
}

func (o *objectClient) RC(ctx context.Context, name string) (*structs.RCBody, error) {
	rc, _, err := o.client.RCs().Get(ctx, name, api.QueryOptions{Consistent: true})
	return rc, err
}

func (o *objectClient) Pods(ctx context.Context) ([]structs.PodBody, error) {
	pods, _, err := o.client.Pods().List(ctx, api.QueryOptions{Consistent: true, Detail: true})
	return pods, err
}
