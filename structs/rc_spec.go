package structs

// RCSpec is what a bay needs of a replication controller's manifest. Package manifest
// derives it, with Kubernetes' defaults filled in; only a PATCH of the manifest changes
// it. Rows hold it.
type RCSpec struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Replicas    int               `json:"replicas"` // 0..MaxReplicas
	Selector    map[string]string `json:"selector"` // labels of the pods that count; Labels has them all
	Labels      map[string]string `json:"labels"`   // of a new pod
	Annotations map[string]string `json:"annotations,omitempty"`
	// Template is the spec of a new pod. Its restart policy is Always. Its Hostname is ""
	// if the manifest gives none: each pod then has its own name.
	Template PodSpec `json:"template"`
}

// MaxReplicas is the largest number of replicas of one replication controller.
const MaxReplicas = 1000
