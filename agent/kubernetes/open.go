package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/hashicorp/go-hclog"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/agent/kubernetes/console"
	"github.com/stackforge/magnum/agent/kubernetes/election"
	"github.com/stackforge/magnum/agent/kubernetes/identity"
	"github.com/stackforge/magnum/structs"
)

// Options say which cluster an agent is of, and how it works there.
type Options struct {
	Kubeconfig string // file; "" means the service account of the pod that the agent runs in
	// Namespace has the agents' Lease and Secret. "" means the one of the agent's pod, or
	// outside a cluster DefaultNamespace.
	Namespace   string
	PodSecurity string         // see Config
	PodRanges   []netip.Prefix // see Config
	// Address is the URL of the cluster's API as users reach it. "" means the one that the
	// agent uses; inside the cluster users reach none.
	Address string

	Version string       // the agent's
	Logger  hclog.Logger // nil means that nothing is logged
}

// DefaultNamespace is the namespace of agents that run outside their cluster.
const DefaultNamespace = "magnum"

// leaseName is the name of the Lease that the active agent holds.
const leaseName = "magnum-agent"

// podNamespace is the file with the namespace of the pod that a process runs in.
const podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// Open returns the Client of a cluster. It reads files, and doesn't connect. CodeInvalid.
func Open(o Options) (*Client, error) {
	conf, err := cluster.Load(o.Kubeconfig)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-kubeconfig: %w", err)
	}
	return open(o, conf)
}

func open(o Options, conf *rest.Config) (*Client, error) {
	own := &own{namespace: o.Namespace, makes: true}
	if o.Kubeconfig == "" {
		text, err := os.ReadFile(podNamespace)
		if err != nil && o.Namespace == "" {
			return nil, structs.Errorf(structs.CodeInvalid, "the namespace of the agent's pod is unknown, name one with "+
				"-kubernetes-namespace: %w", err)
		}
		own.namespace, own.makes = cmp.Or(o.Namespace, strings.TrimSpace(string(text))), false
	}
	own.namespace = cmp.Or(own.namespace, DefaultNamespace)
	agent := "magnum-agent/" + o.Version
	var err error
	// The agents' own objects are written to become the active one, so without its guard.
	if own.api, err = cluster.New(cluster.Config{Rest: conf, UserAgent: agent}); err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // for people: the ID tells processes apart
	leader, err := election.New(election.Config{
		Leases: leases{own}, Namespace: own.namespace, Name: leaseName, Holder: host + "_" + structs.NewID(), Logger: o.Logger,
	})
	if err != nil {
		return nil, err
	}
	guarded, err := cluster.New(cluster.Config{Rest: conf, Allowed: leader.Allowed, UserAgent: agent})
	if err != nil {
		return nil, err
	}
	consoles, err := console.New(conf, o.Logger)
	if err != nil {
		return nil, err
	}
	return New(Config{
		Cluster: guarded, PodSecurity: o.PodSecurity, Address: o.Address, PublicAddress: o.public(conf), AgentVersion: o.Version,
		Logger:     o.Logger,
		PodRanges:  o.PodRanges,
		Identifier: identifier{own}, Leader: leader, Active: leader.Allowed, Consoles: consoles, Forwards: consoles,
	})
}

// public returns the URL of the cluster's API for users' own clients; "" if it is unknown: the
// address that pods use is good for pods only.
func (o *Options) public(conf *rest.Config) string {
	if o.Address == "" && o.Kubeconfig != "" {
		return conf.Host
	}
	return o.Address
}

// own are the objects of the agents themselves, in their namespace.
type own struct {
	api       *cluster.Client
	namespace string
	makes     bool // the agent makes what is missing: outside a cluster nobody has shipped it
}

// make makes an object, and its namespace if that is missing. what names it in an error.
func (s *own) make(ctx context.Context, o cluster.Object, what string) (cluster.Object, error) {
	o.SetNamespace(s.namespace)
	made, err := s.api.Create(ctx, o)
	if s.makes && apierrors.IsNotFound(err) {
		space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.namespace}}
		if _, err := s.api.Create(ctx, space); err != nil && !apierrors.IsAlreadyExists(err) {
			return nil, fmt.Errorf("making the namespace %s of the agents: %w", s.namespace, err)
		}
		made, err = s.api.Create(ctx, o)
	}
	if apierrors.IsForbidden(err) {
		return nil, fmt.Errorf("namespace %s has no %s, and the agent may not make it; apply the YAML that magnum ships: %w", s.namespace,
			what, err)
	}
	return made, err
}

// leases are the calls about the Lease.
type leases struct{ *own }

func (l leases) Get(ctx context.Context) (*coordinationv1.Lease, error) {
	o := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: leaseName}}
	return as[*coordinationv1.Lease](l.api.Get(ctx, o))
}

func (l leases) Create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return as[*coordinationv1.Lease](l.make(ctx, lease.DeepCopy(), "Lease "+leaseName))
}

func (l leases) Update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return as[*coordinationv1.Lease](l.api.Update(ctx, lease))
}

// identifier knows the host's identity, and what the agents share beside it.
type identifier struct{ *own }

// Identity implements backend.Cluster.
func (i identifier) Identity(ctx context.Context) (hostID, secret string, err error) {
	id, err := identity.Take(ctx, secrets(i))
	return id.HostID, id.Secret, err
}

// Recall implements backend.Cluster.
func (i identifier) Recall(ctx context.Context) (string, error) {
	return identity.Recall(ctx, secrets(i))
}

// Remember implements backend.Cluster.
func (i identifier) Remember(ctx context.Context, text string) error {
	return identity.Remember(ctx, secrets(i), text)
}

// secrets are the calls about the Secret.
type secrets struct{ *own }

func (s secrets) Get(ctx context.Context) (*corev1.Secret, error) {
	return as[*corev1.Secret](s.api.Get(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: identity.Name}}))
}

func (s secrets) Create(ctx context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	return as[*corev1.Secret](s.make(ctx, secret.DeepCopy(), "Secret "+identity.Name))
}

func (s secrets) Update(ctx context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	return as[*corev1.Secret](s.api.Update(ctx, secret))
}

// as returns an object as its own type.
func as[T cluster.Object](o cluster.Object, err error) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	typed, ok := o.(T)
	if !ok {
		return none, errors.New("kubernetes: the cluster answers with another type than that of the request")
	}
	return typed, nil
}
