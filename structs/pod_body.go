package structs

// PodRequest is the body of POST /v1/pods. Absent and null mean the same.
//
//api:doc A pod to create from a manifest. Absent and null mean the same.
type PodRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc UUID or name of the bay. It can be left out if only one bay fits.
	BayUUID string `json:"bay_uuid,omitempty"`
	//api:doc Alias of bay_uuid.
	Bay string `json:"bay,omitempty"`
	//api:doc Manifest of a Pod of Kubernetes v1, as YAML or JSON.
	Manifest string `json:"manifest,omitempty"`
	//api:doc Where to fetch the manifest instead, by http or https.
	ManifestURL string `json:"manifest_url,omitempty"`
	//api:doc Whether at most one copy may ever run, even while a host is cut off: true, false or lease.
	Exclusive Exclusive `json:"exclusive,omitzero"`
	//api:doc Image of the container that holds the pod's network; null means the host's own.
	InfraImage string `json:"infra_image,omitempty"`
	Secrets           // never shown
}

// Check checks the request against its limits; what the manifest says is checked when it is
// read. Errors are CodeInvalid.
func (r *PodRequest) Check() error {
	switch {
	case r.Manifest == "" && r.ManifestURL == "":
		return Invalid("manifest", "None", "Mandatory field missing: give a manifest, or a manifest_url.")
	case r.Manifest != "" && r.ManifestURL != "":
		return Errorf(CodeInvalid, "manifest and manifest_url are both given: give one of them")
	case len(r.Manifest) > MaxManifest:
		return Errorf(CodeInvalid, "manifest: %d bytes are more than %d", len(r.Manifest), MaxManifest)
	case r.Bay != "" && r.BayUUID != "" && r.Bay != r.BayUUID:
		return Errorf(CodeInvalid, "bay %q and bay_uuid %q are two spellings of one field: give one of them", Shorten(r.Bay),
			Shorten(r.BayUUID))
	}
	for field, value := range map[string]string{"bay_uuid": r.BayUUID, "bay": r.Bay, "manifest_url": r.ManifestURL} {
		if err := CheckLine(field, value, MaxText); err != nil {
			return err
		}
	}
	if r.InfraImage != "" {
		if err := CheckImage(r.InfraImage); err != nil {
			return Errorf(CodeInvalid, "infra_image: %w", err)
		}
	}
	return r.Secrets.check()
}

// PodBody is a pod as the API shows it. Lists show a summary: the fields up to Links,
// unless the path ends in /detail.
//
//api:doc A pod: its manifest, its host, and what the host last reported.
type PodBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc Name, from the manifest's metadata; unique in the bay.
	Name string `json:"name"`
	//api:doc Always null. The client of 2015 expects the field.
	Desc *string `json:"desc"`
	//api:doc UUID of the pod's bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Images of the containers, in the order of the manifest.
	Images []string `json:"images"`
	//api:doc Labels, from the manifest's metadata.
	Labels map[string]string `json:"labels"`
	//api:doc Pending, Running, Succeeded, Failed, Unknown or Deleting.
	Status PodPhase `json:"status"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc What happened and what to do.
	StatusReason *string `json:"status_reason"`
	//api:doc Where the manifest was fetched; null if it was sent.
	ManifestURL *string `json:"manifest_url"`
	//api:doc The manifest as it was sent or fetched. Lists don't have it.
	Manifest *string `json:"manifest"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt Time `json:"updated_at"`
	//api:doc Name of the pod's host, in a Kubernetes bay of its node; null while it waits for one.
	Host *string `json:"host"`
	//api:doc IP address in the project's network.
	Address *string `json:"address"`
	//api:doc Whether all of its containers are ready.
	Ready bool `json:"ready"`
	//api:doc Conditions, as in Kubernetes: PodScheduled, Initialized, ContainersReady and Ready. A Kubernetes bay may have more.
	Conditions     []PodCondition     `json:"conditions"`
	InitContainers []PodContainerBody `json:"init_containers"`
	Containers     []PodContainerBody `json:"containers"`
	Annotations    map[string]string  `json:"annotations"`
	//api:doc Always, OnFailure or Never.
	RestartPolicy string `json:"restart_policy"`
	//api:doc Start of the pod on its host.
	StartedAt Time `json:"started_at"`
	//api:doc Number of the placement. Each new placement raises it.
	Epoch uint64 `json:"epoch"`
	//api:doc Whether at most one copy may ever run, even while a host is cut off: true, false or lease.
	Exclusive Exclusive `json:"exclusive"`
	//api:doc Image of the container that holds the pod's network; null means the host's own.
	InfraImage *string `json:"infra_image"`
	//api:doc UUID of the replication controller that the pod counts for; null for none.
	RCUUID *string `json:"rc_uuid"`
}

// PodCondition is one of a pod's conditions.
type PodCondition struct {
	Type string `json:"type"`
	//api:doc True or False; also Unknown in a Kubernetes bay.
	Status string `json:"status"`
	//api:doc Why the condition is not met, in one word.
	Reason *string `json:"reason"`
	//api:doc Why the condition is not met.
	Message *string `json:"message"`
}

// PodContainerBody is a container of a pod as the API shows it.
type PodContainerBody struct {
	Name  string `json:"name"`
	Image string `json:"image"`
	//api:doc State of the container. It is waiting before the host has reported it.
	State PartStateBody `json:"state"`
	//api:doc State of the attempt before; null if there was none.
	LastState *PartStateBody `json:"last_state"`
	//api:doc Whether it runs, and its readiness probe succeeds if it has one.
	Ready bool `json:"ready"`
	//api:doc Number of restarts on the present host.
	RestartCount int    `json:"restart_count"`
	Ports        []Port `json:"ports"`
	//api:doc Whether it has a terminal.
	TTY bool `json:"tty"`
	//api:doc Whether it takes input by an attach.
	Stdin bool `json:"stdin"`
}

// DefaultContainerAnnotation is the annotation of a pod that names the container which
// sessions are about if they name none. Without it that is the first one.
const DefaultContainerAnnotation = "kubectl.kubernetes.io/default-container"

// PartStateBody is the state of one attempt of a container of a pod.
type PartStateBody struct {
	//api:doc waiting, running or terminated.
	State string `json:"state"`
	//api:doc Why, in one word, such as CrashLoopBackOff, ImagePullBackOff, OOMKilled or Completed.
	Reason *string `json:"reason"`
	//api:doc What happened and what to do.
	Message    *string `json:"message"`
	ExitCode   *int    `json:"exit_code"`
	StartedAt  Time    `json:"started_at"`
	FinishedAt Time    `json:"finished_at"`
}
