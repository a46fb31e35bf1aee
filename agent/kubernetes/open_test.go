//go:build kubernetes

package kubernetes

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/agent/kubernetes/election"
	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/structs"
)

// TestOpen: two agents of a cluster share their identity and what they remember, in a
// namespace that the first one makes; one at a time is active, and only that one writes.
func TestOpen(t *testing.T) {
	t.Parallel()
	k := kubetest.Open(t)
	namespace := "kubetest-" + structs.NewID()[:8]
	t.Cleanup(func() {
		// The test's context has ended.
		if err := k.Do(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+namespace, nil, nil); err != nil {
			t.Errorf("delete namespace %s: %v", namespace, err)
		}
	})
	var agents [2]*Client
	for i := range agents {
		c, err := Open(Options{Kubeconfig: k.Dir + "/admin.conf", Namespace: namespace, Version: "test"})
		if err != nil {
			t.Fatal(err)
		}
		agents[i] = c
	}
	a, b := agents[0], agents[1]
	hostID, secret, err := a.Identity(t.Context())
	if err != nil || !structs.IsID(hostID) {
		t.Fatalf("host %q: %v", hostID, err)
	}
	if other, same, err := b.Identity(t.Context()); other != hostID || same != secret || err != nil {
		t.Errorf("the agents have other identities: %v", err)
	}
	if err := a.Remember(t.Context(), "a note"); err != nil {
		t.Error(err)
	}
	if text, err := b.Recall(t.Context()); text != "a note" || err != nil {
		t.Errorf("the other agent recalls %q, %v", text, err)
	}

	// write makes an object that the API refuses, if the agent lets it through.
	write := func(c *Client) error {
		_, err := c.conf.Cluster.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}})
		return err
	}
	if err := write(a); !errors.Is(err, election.ErrNotActive) {
		t.Errorf("an agent that isn't active writes: %v", err)
	}
	began, end, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- a.Lead(t.Context(), func(context.Context) error {
			close(began)
			<-end
			return nil
		})
	}()
	<-began
	if err := write(a); err == nil || errors.Is(err, election.ErrNotActive) {
		t.Errorf("the active agent doesn't write: %v", err)
	}
	f, err := a.Fingerprint(t.Context())
	if err != nil || f.Engine.ID == "" || f.Cluster == nil || f.Cluster.Ready != 2 || !strings.HasPrefix(f.Cluster.APIAddress, "https://") {
		t.Errorf("fingerprint %+v, %v", f, err)
	}
	next := make(chan error, 1)
	go func() {
		next <- b.Lead(t.Context(), func(context.Context) error {
			if err := write(a); !errors.Is(err, election.ErrNotActive) {
				t.Errorf("the agent before writes: %v", err)
			}
			return nil
		})
	}()
	close(end)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := <-next; err != nil {
		t.Error(err)
	}
	if _, err := a.Fingerprint(t.Context()); !errors.Is(err, election.ErrNotActive) {
		t.Errorf("an agent that isn't active has a fingerprint to register with: %v", err)
	}
}
