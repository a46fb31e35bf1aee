// Package kubernetes is the backend for a Kubernetes cluster. It puts together its
// sub-packages: cluster calls the API, mirror decides what to call and what to report,
// election says which agent is the active one, identity keeps who the host is, and console has
// what users see and do inside pods. Package agent is the only caller.
package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/kubernetes/cluster"
	"github.com/stackforge/magnum/agent/kubernetes/mirror"
	"github.com/stackforge/magnum/manifest/kubernetes"
	"github.com/stackforge/magnum/structs"
)

// Identifier keeps the identity of the host and what else all agents of a cluster share. See
// backend.Cluster.
type Identifier interface {
	Identity(ctx context.Context) (hostID, secret string, err error)
	Recall(ctx context.Context) (string, error)
	Remember(ctx context.Context, text string) error
}

// Leader lets one agent of a cluster at a time be active. See backend.Cluster.
type Leader interface {
	Lead(ctx context.Context, f func(ctx context.Context) error) error
}

// Config is what a Client is made of.
type Config struct {
	// Cluster calls the API. Its Config.Allowed should ask the Leader, so that an agent that
	// is no longer the active one writes nothing.
	Cluster *cluster.Client
	// PodSecurity is the level of the pod security standards that namespaces of projects
	// enforce: baseline or restricted. "" means baseline.
	PodSecurity string
	// PodRanges are the ranges of all pods of the cluster, from which network policies tell pods
	// of other projects from the world. None means those that the nodes name.
	PodRanges []netip.Prefix
	// Address is the URL of the cluster's API that is shown. "" means the one that the agent
	// uses.
	Address string
	// PublicAddress is the URL of the cluster's API as users reach it with their own clients.
	// "" means that the agent doesn't know one.
	PublicAddress string
	AgentVersion  string
	Logger        hclog.Logger // nil means that nothing is logged

	Identifier Identifier
	Leader     Leader
	// Active fails unless the agent is the active one now. nil means that it always is.
	Active   func() error
	Consoles backend.Consoles
	Forwards backend.Forwards
}

var manifests = mirror.Manifests{Pod: kubernetes.Pod, Service: kubernetes.Service, RC: kubernetes.RC}

// Client is a backend.Cluster.
type Client struct {
	Identifier
	Leader
	backend.Consoles
	backend.Forwards

	conf Config
	ca   string // certificates of the API's CA, as PEM; "" if there are none
	log  hclog.Logger

	mu       sync.Mutex
	follower *follower // nil unless Follow runs
	missed   bool      // Take was called while Follow did not run
}

var _ backend.Cluster = (*Client)(nil)

// New returns a Client. It doesn't connect.
func New(conf Config) (*Client, error) {
	switch conf.PodSecurity {
	case "":
		conf.PodSecurity = "baseline"
	case "baseline", "restricted":
	default:
		return nil, structs.Errorf(structs.CodeInvalid, "pod security level %q is not baseline or restricted", conf.PodSecurity)
	}
	if conf.Cluster == nil {
		return nil, errors.New("kubernetes: there is no client of the cluster")
	}
	if conf.Logger == nil {
		conf.Logger = hclog.NewNullLogger()
	}
	ca, err := conf.Cluster.CA()
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "the CA of the cluster's API: %w", err)
	}
	if len(ca) > structs.MaxKubernetesCA {
		return nil, structs.Errorf(structs.CodeInvalid, "the CA of the cluster's API has %d bytes of certificates, more than %d: "+
			"leave those out of the kubeconfig that the API's certificate doesn't need", len(ca), structs.MaxKubernetesCA)
	}
	return &Client{
		Identifier: conf.Identifier, Leader: conf.Leader, Consoles: conf.Consoles, Forwards: conf.Forwards,
		conf: conf, ca: ca, log: conf.Logger.Named("kubernetes"),
	}, nil
}

// Fingerprint implements backend.Cluster. It fails while the agent isn't the active one: one
// that has been frozen would register, and supersede the one that is.
func (c *Client) Fingerprint(ctx context.Context) (structs.Fingerprint, error) {
	f, err := c.fingerprint(ctx)
	if err == nil && c.conf.Active != nil {
		err = c.conf.Active()
	}
	return f, err
}

func (c *Client) fingerprint(ctx context.Context) (structs.Fingerprint, error) {
	f := structs.Fingerprint{Backend: structs.BackendKubernetes, AgentVersion: c.conf.AgentVersion, OS: "linux",
		Kinds: []structs.WorkloadKind{structs.WorkloadObject, structs.WorkloadPod}}
	version, err := c.conf.Cluster.Version(ctx)
	if err != nil {
		return f, c.failed(err)
	}
	system, err := c.conf.Cluster.Get(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: metav1.NamespaceSystem}})
	if err != nil {
		return f, c.failed(err)
	}
	list, err := c.conf.Cluster.List(ctx, &corev1.Node{}, metav1.ListOptions{})
	if err != nil {
		return f, c.failed(err)
	}
	f.EngineVersion, f.Engine.ID = version.GitVersion, string(system.GetUID())
	nodes, milli := map[string]*corev1.Node{}, int64(0)
	for _, o := range list {
		n := o.(*corev1.Node)
		nodes[n.Name] = n
		milli += n.Status.Allocatable.Cpu().MilliValue()
		f.Memory += n.Status.Allocatable.Memory().Value()
		f.Disk += n.Status.Allocatable.StorageEphemeral().Value()
		f.Kernel = n.Status.NodeInfo.KernelVersion
	}
	f.Cores = int(milli / 1000)
	f.Cluster = new(mirror.Describe(c.conf.address(), nodes))
	c.publish(f.Cluster)
	for _, n := range f.Cluster.Nodes {
		if len(f.Addresses) < maxAddresses {
			f.Addresses = append(f.Addresses, n.Addresses...)
		}
	}
	return f, nil
}

// publish adds what users' own clients need.
func (c *Client) publish(to *structs.KubernetesCluster) {
	to.PublicAddress, to.CA = c.conf.PublicAddress, c.ca
}

// address returns the URL of the cluster's API for users.
func (c *Config) address() string { return cmp.Or(c.Address, c.Cluster.Address()) }

// maxAddresses bounds the addresses of the host: those of all nodes are in Cluster.
const maxAddresses = 8

// failed explains an error of the API.
func (c *Client) failed(err error) error {
	code := structs.CodeInternal
	if cluster.Unanswered(err) {
		code = structs.CodeUnavailable
	}
	msg := fmt.Sprintf("the API of the Kubernetes cluster at %s: %v", c.conf.Cluster.Address(), err)
	return &structs.Error{Code: code, Msg: msg, Err: err}
}

// Take implements backend.Cluster.
func (c *Client) Take(w *structs.Work) {
	c.mu.Lock()
	f := c.follower
	c.missed = c.missed || f == nil
	c.mu.Unlock()
	if f != nil {
		f.change(func(m *mirror.Mirror) { m.Take(w) })
	}
}

// Locate implements backend.Cluster.
func (c *Client) Locate(ref structs.Ref) (engineID string) {
	c.mu.Lock()
	f := c.follower
	c.mu.Unlock()
	if f == nil {
		return ""
	}
	f.mu.Lock()
	pod := f.mirror.Locate(ref.Kind, ref.ID)
	f.mu.Unlock()
	if pod == nil {
		return ""
	}
	container := ref.Part
	if container == "" && len(pod.Spec.Containers) > 0 {
		container = pod.Spec.Containers[0].Name
	}
	return strings.Join([]string{pod.Namespace, pod.Name, string(pod.UID), container}, "/")
}

// Close implements backend.Cluster.
func (c *Client) Close() error {
	c.conf.Cluster.Close()
	return nil
}
