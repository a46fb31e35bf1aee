package kubernetes

import (
	"context"
	"time"

	"github.com/stackforge/magnum/agent/kubernetes/access"
	"github.com/stackforge/magnum/structs"
)

// How long a user waits for the namespace of a project, and how often it is looked for.
const (
	roomPatience = 8 * time.Second // less than a server waits for the agent
	roomPause    = 20 * time.Millisecond
)

// Credential implements backend.Credentials. CodeUnavailable also if the namespace isn't there
// within roomPatience.
func (c *Client) Credential(ctx context.Context, projectID string) (structs.BayCredentialBody, error) {
	c.mu.Lock()
	f := c.follower
	c.mu.Unlock()
	if f == nil {
		return structs.BayCredentialBody{}, structs.Errorf(structs.CodeUnavailable,
			"the agent is not the active one of its cluster; try again")
	}
	namespace := structs.KubernetesNamespace(projectID)
	if err := f.room(ctx, projectID); err != nil {
		return structs.BayCredentialBody{}, err
	}
	made, err := access.Credential(ctx, c.conf.Cluster, namespace, f.conf.LabelsOf(projectID))
	if structs.CodeOf(err) == structs.CodeUnavailable {
		c.conf.Cluster.Suspect()
	}
	return made, err
}

// room waits until the namespace of a project can be used.
func (f *follower) room(ctx context.Context, projectID string) error {
	end := time.Now().Add(roomPatience)
	tick := time.NewTicker(roomPause)
	defer tick.Stop()
	for {
		f.mu.Lock()
		ok, waits, refused := f.mirror.Room(projectID, end)
		f.mu.Unlock()
		switch {
		case ok:
			return nil
		case refused != nil:
			return refused
		case time.Now().After(end):
			return structs.Errorf(structs.CodeUnavailable, "%s; try again later", waits)
		}
		select {
		case f.kick <- struct{}{}:
		default:
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
