package backend

import (
	"context"
	"io"

	"github.com/stackforge/magnum/structs"
)

// Cluster is a backend that is a whole Kubernetes cluster. It isn't a Runtime: the cluster
// keeps workloads by itself, and the agent keeps its objects. Any number of agents may run
// for one cluster. They are instances of one host, and one at a time is active. Package
// agent is the only caller, agent/kubernetes implements it.
type Cluster interface {
	// Fingerprint describes the cluster: its Engine.ID is the UID of the namespace
	// kube-system, and Cluster is set.
	Fingerprint(ctx context.Context) (structs.Fingerprint, error)

	// Identity returns the UUID and the secret of the host, which all agents of the cluster
	// share. The first one makes them.
	Identity(ctx context.Context) (hostID, secret string, err error)

	// Recall returns the text that Remember has kept last, by whichever agent; "" if there is
	// none, or an operator has removed it. Remember keeps a short text in the cluster. Only
	// the active agent calls them.
	Recall(ctx context.Context) (string, error)
	Remember(ctx context.Context, text string) error

	// Lead waits until this agent is the active one, and calls f. The context of f ends once
	// another agent is seen to be active. While the API doesn't answer, f goes on, and nothing
	// is written. Lead returns f's error; nil if ctx has ended, or if the agent is no longer the
	// active one: it may then call Lead again.
	Lead(ctx context.Context, f func(ctx context.Context) error) error

	// Follow keeps the cluster's objects as the answers given to Take say, and reports what
	// it sees of them, until ctx ends. Only the active agent calls it.
	Follow(ctx context.Context, owner Owner, to Observer) error

	// Take takes over an answer of the servers that the agent follows. It doesn't wait for
	// the cluster. Objects that a full and confirmed answer doesn't list are removed, and the
	// namespaces of bays other than the answer's.
	Take(w *structs.Work)

	// Locate returns the ID that Consoles and Forwards take for a container of a pod; the
	// first container if the reference has no part. "" if the cluster has no such pod.
	Locate(ref structs.Ref) string

	// Consoles work through the cluster's API. Stats and Top may answer ErrInvalid.
	Consoles
	Forwards
	Credentials

	// Close releases resources. No call may be in progress.
	Close() error
}

// Credentials lets users' own clients into the cluster.
type Credentials interface {
	// Credential returns a new token for the namespace of a project, in which it may do what
	// projects may. The namespace is made if there is none. CodeConflict if the cluster lacks
	// what the token needs, or has something of another in its place; CodeUnavailable.
	Credential(ctx context.Context, projectID string) (structs.BayCredentialBody, error)
}

// Forwards connects to ports of pods.
type Forwards interface {
	// Forward connects to a TCP port of the pod that has the container. ErrNotFound,
	// ErrNotRunning. An error that says that nothing listens on the port may come with the
	// first Read.
	Forward(ctx context.Context, engineID string, port int) (Conn, error)
}

// Conn is a connection to a port of a pod.
type Conn interface {
	io.ReadWriteCloser
	CloseWrite() error // ends what the pod reads
}

// Observer receives what a Cluster sees. Its methods don't block.
type Observer interface {
	// Observe reports a workload. taken is called when a server has taken exactly this
	// report; it may be nil.
	Observe(r structs.ContainerReport, taken func())

	// Forget stops reporting a workload, named by kind and ID.
	Forget(ref structs.Ref)

	// SetCluster reports how the cluster is.
	SetCluster(c structs.KubernetesCluster)

	// NeedFull has the servers asked for a full answer soon: the cluster has an object of
	// ours that no assignment names.
	NeedFull()
}
