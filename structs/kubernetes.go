package structs

import "time"

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
	// AwaySince is when the API stopped to answer; zero while it answers. Everything else
	// that was reported of the cluster is then as of that time.
	//api:doc Since when the cluster's API does not answer; absent while it answers.
	AwaySince time.Time `json:"away_since,omitzero"`
	//api:doc Why the cluster's API does not answer.
	Away string `json:"away,omitempty"` // "" while it answers
}

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

// AwayText says since when the API of a cluster does not answer, and why; "" while it
// answers. It completes a sentence.
func AwayText(c *KubernetesCluster) string {
	if c == nil || c.AwaySince.IsZero() {
		return ""
	}
	text := "has not answered since " + c.AwaySince.UTC().Format(time.RFC3339)
	if c.Away != "" {
		text += ": " + c.Away
	}
	return text
}
