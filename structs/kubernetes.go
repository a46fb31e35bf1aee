package structs

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// This file has what servers and the agent of a Kubernetes cluster tell each other beside
// what the agents of Docker hosts do. All agents of a cluster are instances of one host. In
// the cluster each project has a namespace. Pods, services and replication controllers
// are objects there, made from the manifests that users have sent.

// KubernetesCluster describes the cluster that a host is.
//
//api:doc The Kubernetes cluster that a host is.
type KubernetesCluster struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	//api:doc URL of the cluster's API.
	APIAddress string `json:"api_address"`
	//api:doc Nodes of the cluster, at most 100, ready ones first.
	Nodes []KubernetesNode `json:"nodes"` // at most MaxKubernetesNodes, ready ones first, by name
	//api:doc Number of nodes that are ready.
	Ready int `json:"ready"` // those too that are not in Nodes
	// AwaySince is when the API stopped to answer, or to let the agent see what it needs; zero
	// while it does. Everything else that was reported of the cluster is then as of that time.
	//api:doc Since when the cluster's API does not answer; absent while it answers.
	AwaySince time.Time `json:"away_since,omitzero"`
	//api:doc Why the cluster's API does not answer, or what it refuses.
	Away string `json:"away,omitempty"` // "" while it answers
	//api:doc Whether the cluster's API answers, but refuses what the agent has to see.
	Refuses bool `json:"refuses,omitempty"`
	// PublicAddress and CA are for users' own clients, such as kubectl. Both follow from how
	// the agent was started.
	//api:doc URL of the cluster's API as users reach it; absent if the agent was not told.
	PublicAddress string `json:"public_address,omitempty"`
	//api:doc Certificates of the CA of the cluster's API, as PEM; absent if clients know the CA anyway.
	CA string `json:"ca,omitempty"` // at most MaxKubernetesCA bytes
}

// MaxKubernetesCA bounds the CA certificates of a cluster, in bytes of PEM: they are kept in
// the host's row.
const MaxKubernetesCA = 16 << 10

// MaxKubernetesNodes bounds the nodes that are listed.
const MaxKubernetesNodes = 100

// KubernetesNode is a node of a cluster.
//
//api:doc A node of a Kubernetes cluster.
type KubernetesNode struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	//api:doc Name of the node.
	Name string `json:"name"`
	//api:doc Whether it is ready.
	Ready bool `json:"ready"`
	//api:doc IP addresses that others reach it by.
	Addresses []string `json:"addresses"`
}

// ObjectAssignment is what an assignment of an Object has beside that of a container.
type ObjectAssignment struct {
	Kind     string `json:"kind"`     // KindService or KindRC
	OwnerID  string `json:"owner_id"` // UUID of the service or replication controller
	Manifest string `json:"manifest"` // as it was sent; Assignment.Name is the object's name, whatever this says
}

// PodReport is what the agent of a cluster observes of a pod beside what all agents do.
// Observed.Addresses then has the pod's address, Observed.EngineID the UID that the cluster
// gave it.
type PodReport struct {
	Phase      PodPhase    `json:"phase,omitempty"` // the cluster's word; "" while there is no pod
	Conditions []Condition `json:"conditions,omitempty"`
	Node       string      `json:"node,omitempty"`         // name of the node that it runs on; "" while it has none
	NodeIP     string      `json:"node_address,omitempty"` // of that node
	// Code is the kind of the cluster's refusal if Observed.Failed is set: CodeInvalid, CodeForbidden, also for a quota, CodeConflict
	// for an object there that isn't ours. "" means CodeInternal. Observed.Reason has the cluster's words.
	Code Code `json:"code,omitempty"`
	// Found describes a pod that a replication controller of the cluster has made, and that
	// the agent has no assignment for: the servers make a row of it. Its ID is the UID.
	Found *FoundPod `json:"found,omitempty"`
}

// Condition is a condition of a pod, as the cluster has it.
type Condition struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Type    string `json:"type"`
	Status  string `json:"status"` // True, False or Unknown
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
}

// The condition of a pod that says whether it is ready, and its status if it is.
const (
	ConditionReady = "Ready"
	ConditionTrue  = "True"
)

// MaxConditions bounds the conditions of a pod that are kept.
const MaxConditions = 16

// FoundPod describes a pod that a replication controller of a cluster has made.
type FoundPod struct {
	RCID        string            `json:"rc_uuid"` // of the replication controller, as the servers have it
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Spec        *PodSpec          `json:"spec"`    // Cluster is set
	Updated     bool              `json:"updated"` // made from the present template
}

// ObjectReport is what the agent of a cluster observes of an Object. The one of its kind is
// set once the cluster has the object.
type ObjectReport struct {
	Service *ServiceReport `json:"service,omitempty"`
	RC      *RCReport      `json:"rc,omitempty"`
	Code    Code           `json:"code,omitempty"` // as PodReport.Code
}

// ServiceReport is a service as the cluster has it.
type ServiceReport struct {
	Address   string        `json:"address,omitempty"` // the cluster IP; "" if it is headless
	Ports     []ServicePort `json:"ports"`             // in the manifest's order, node ports filled in
	Endpoints []Endpoint    `json:"endpoints"`         // at most MaxEndpoints
	Matched   int           `json:"matched"`           // pods of the selector, those too that are not endpoints
}

// RCReport is a replication controller as the cluster has it.
type RCReport struct {
	RCObserved // Generation is the newest one of the assignment that the counts are of
}

// AwayText says since when the API of a cluster does not answer, or refuses what the agent
// needs, and why; "" while it answers. It completes a sentence.
func AwayText(c *KubernetesCluster) string {
	if c == nil || c.AwaySince.IsZero() {
		return ""
	}
	text := "has not answered since "
	if c.Refuses {
		text = "answers, and refuses what magnum needs since "
	}
	text += c.AwaySince.UTC().Format(time.RFC3339)
	if c.Away != "" {
		text += ": " + c.Away
	}
	return text
}

// KubernetesNamespace returns the name of a project's namespace in the clusters of bays: at
// most 63 characters. It is "magnum-PROJECT" if that is a DNS label, else it has a hash.
func KubernetesNamespace(projectID string) string {
	const prefix, most = "magnum-", 63
	if len(prefix)+len(projectID) <= most && isLabelEnd(projectID) {
		return prefix + projectID
	}
	h := sha256.Sum256([]byte(projectID + "\x00"))
	return prefix + hex.EncodeToString(h[:16])
}

// isLabelEnd reports whether a text may end a DNS label.
func isLabelEnd(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case c == '-' && i < len(s)-1:
		default:
			return false
		}
	}
	return s != ""
}

// BayConfigBody is what a user's own client of a Kubernetes bay needs beside a credential.
//
//api:doc How clients of Kubernetes reach the cluster of a bay, and the namespace of the caller's project in it.
type BayConfigBody struct {
	//api:doc UUID of the bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Name of the bay.
	Bay string `json:"bay"`
	//api:doc URL of the cluster's API as users reach it.
	APIAddress string `json:"api_address"`
	//api:doc Certificates of the CA of the cluster's API, as PEM; null if clients know the CA anyway.
	CA *string `json:"ca"`
	//api:doc Namespace of the caller's project in the cluster.
	Namespace string `json:"namespace"`
}

// BayCredentialBody is a token for a project's namespace in the cluster of a bay. The agent
// answers with it, too.
//
//api:doc A token of the cluster for the namespace of the caller's project. It is shown only once and stored nowhere.
type BayCredentialBody struct {
	Token string `json:"token"`
	//api:doc When the cluster stops to accept the token.
	ExpiresAt Time `json:"expires_at"`
}

// String hides the token.
func (BayCredentialBody) String() string { return "(credential)" }

// GoString hides the token.
func (BayCredentialBody) GoString() string { return "structs.BayCredentialBody{}" }

// CredentialTTL is how long a credential for a bay's cluster is good: who leaves a project has
// access no longer than that.
const CredentialTTL = 10 * time.Minute
