// Package identity keeps who the host is that a Kubernetes cluster is for magnum's servers:
// its UUID and secret, in a Secret of the agents' own namespace, which all agents of the
// cluster share. The Secret is shipped empty, and the first agent fills it. The agents also
// keep there what else they have to know of each other.
//
// Package kubernetes is the only caller. The package touches nothing but the one Secret.
package identity

import (
	"context"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/structs"
)

// Name is the name of the Secret.
const Name = "magnum-agent"

// The keys of the Secret's data.
const (
	keyHost   = "host_id"  // the host's UUID
	keySecret = "secret"   // the host secret
	keyNote   = "followed" // see Remember
)

// minSecret is the least length of a host secret that servers take.
const minSecret = 32

// Secrets are the calls about the Secret. Get answers NotFound as the API does, Update
// Conflict unless the resourceVersion is that of the Secret. Create makes the namespace, too,
// if there is none, and answers AlreadyExists; it is Forbidden to agents in a cluster.
type Secrets interface {
	Get(ctx context.Context) (*corev1.Secret, error)
	Create(ctx context.Context, secret *corev1.Secret) (*corev1.Secret, error)
	Update(ctx context.Context, secret *corev1.Secret) (*corev1.Secret, error)
}

// Identity is the identity of a host.
type Identity struct {
	HostID string // UUID
	Secret string
}

// Take returns the identity in the Secret. If the Secret has none, Take makes one; agents
// that do so at the same time agree on one of them. CodeInvalid if the Secret has something
// else in its place.
func Take(ctx context.Context, secrets Secrets) (Identity, error) {
	for {
		id, again, err := try(ctx, secrets)
		if !again || ctx.Err() != nil {
			return id, err
		}
	}
}

// try is one attempt of Take. again: another agent was faster.
func try(ctx context.Context, secrets Secrets) (id Identity, again bool, err error) {
	secret, err := secrets.Get(ctx)
	if apierrors.IsNotFound(err) {
		id, made := mint(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: Name}, Type: corev1.SecretTypeOpaque})
		if _, err := secrets.Create(ctx, made); err != nil {
			return Identity{}, apierrors.IsAlreadyExists(err), fmt.Errorf("making the secret %s for the host's identity: %w", Name, err)
		}
		return id, false, nil
	}
	if err != nil {
		return Identity{}, false, fmt.Errorf("reading the host's identity from the secret %s: %w", Name, err)
	}
	if id, err := read(secret); id != (Identity{}) || err != nil {
		return id, false, err
	}
	id, filled := mint(secret)
	if _, err := secrets.Update(ctx, filled); err != nil {
		again = apierrors.IsConflict(err) || apierrors.IsNotFound(err)
		return Identity{}, again, fmt.Errorf("filling the secret %s with the host's identity: %w", Name, err)
	}
	return id, false, nil
}

// Recall returns the text that Remember has kept; "" if there is none.
func Recall(ctx context.Context, secrets Secrets) (string, error) {
	secret, err := secrets.Get(ctx)
	if err != nil {
		return "", fmt.Errorf("reading the secret %s: %w", Name, err)
	}
	return string(secret.Data[keyNote]), nil
}

// Remember keeps a text beside the identity. Only the active agent calls it.
func Remember(ctx context.Context, secrets Secrets, text string) error {
	for {
		secret, err := secrets.Get(ctx)
		if err != nil {
			return fmt.Errorf("reading the secret %s: %w", Name, err)
		}
		data := maps.Clone(secret.Data)
		if data == nil {
			data = make(map[string][]byte)
		}
		data[keyNote] = []byte(text)
		secret.Data = data
		if _, err = secrets.Update(ctx, secret); err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) || ctx.Err() != nil {
			return fmt.Errorf("writing the secret %s: %w", Name, err)
		}
	}
}

// read returns the identity in a Secret; zero if the Secret has none.
func read(secret *corev1.Secret) (Identity, error) {
	id := Identity{
		HostID: strings.TrimSpace(string(secret.Data[keyHost])),
		Secret: strings.TrimSpace(string(secret.Data[keySecret])),
	}
	if id == (Identity{}) {
		return id, nil
	}
	// Half an identity isn't filled up: a host that has registered would become another one.
	if !structs.IsID(id.HostID) || len(id.Secret) < minSecret {
		return Identity{}, structs.Errorf(structs.CodeInvalid,
			"the secret %s is damaged: its %s has to be a UUID and its %s at least %d characters long. Restore it from a backup, or, to "+
				"join as a new host by a join token, remove both keys", Name, keyHost, keySecret, minSecret)
	}
	return id, nil
}

// mint returns a new identity, and a copy of the Secret that has it.
func mint(secret *corev1.Secret) (Identity, *corev1.Secret) {
	id := Identity{HostID: structs.NewID(), Secret: structs.NewSecret()}
	filled := secret.DeepCopy()
	data := maps.Clone(secret.Data)
	if data == nil {
		data = make(map[string][]byte)
	}
	data[keyHost], data[keySecret] = []byte(id.HostID), []byte(id.Secret)
	filled.Data = data
	return id, filled
}
