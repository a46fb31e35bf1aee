package structs

// RCRequest is the body of POST /v1/rcs. Absent and null mean the same.
//
//api:doc A replication controller to create from a manifest. Absent and null mean the same.
type RCRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc UUID or name of the bay. It can be left out if only one bay fits.
	BayUUID string `json:"bay_uuid,omitempty"`
	//api:doc Alias of bay_uuid.
	Bay string `json:"bay,omitempty"`
	//api:doc Manifest of a ReplicationController of Kubernetes v1, as YAML or JSON.
	Manifest string `json:"manifest,omitempty"`
	//api:doc Where to fetch the manifest instead, by http or https.
	ManifestURL string `json:"manifest_url,omitempty"`
	//api:doc Whether at most one copy of each pod may ever run, even while a host is cut off: true, false or lease.
	Exclusive Exclusive `json:"exclusive,omitzero"`
	//api:doc Image of the container that holds a pod's network; null means the host's own.
	InfraImage string `json:"infra_image,omitempty"`
	Secrets           // never shown
}

// Check checks the request against its limits; what the manifest says is checked when it is
// read. Errors are CodeInvalid.
func (r *RCRequest) Check() error { return (*PodRequest)(r).Check() }

// RCBody is a replication controller as the API shows it. Lists show a summary: the fields
// up to Links, unless the path ends in /detail.
//
//api:doc A replication controller: its manifest, and how many of its pods there are.
type RCBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc Name, from the manifest's metadata; unique in the bay.
	Name string `json:"name"`
	//api:doc Images of the template's containers, in the order of the manifest.
	Images []string `json:"images"`
	//api:doc UUID of the bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Labels, from the manifest's metadata.
	Labels map[string]string `json:"labels"`
	//api:doc Wanted pods.
	Replicas int `json:"replicas"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc Pods that there are, without those that have ended or are being deleted.
	Current int `json:"current"`
	//api:doc Pods of them that are ready.
	Ready int `json:"ready"`
	//api:doc Pods of them that were made from the present template, or adopted since.
	Updated int `json:"updated"`
	//api:doc What is not as wanted, and why; null if all is.
	StatusReason *string `json:"status_reason"`
	//api:doc Whether it is being deleted, after its pods.
	Deleting bool `json:"deleting"`
	//api:doc Labels by which pods belong to it.
	Selector map[string]string `json:"selector"`
	//api:doc Where the manifest was fetched; null if it was sent.
	ManifestURL *string `json:"manifest_url"`
	//api:doc The manifest as it was sent or fetched. Lists don't have it.
	Manifest *string `json:"manifest"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt Time `json:"updated_at"`
	//api:doc Number of the last change by a user; the creation is the first.
	Generation uint64 `json:"generation"`
	//api:doc Newest generation for which the pods were counted.
	ObservedGeneration uint64 `json:"observed_generation"`
	//api:doc Whether at most one copy of each pod may ever run, even while a host is cut off: true, false or lease.
	Exclusive Exclusive `json:"exclusive"`
	//api:doc Image of the container that holds a pod's network; null means the host's own.
	InfraImage *string `json:"infra_image"`
}
