package structs

import (
	"encoding/json"
	"maps"
)

// ContainerRequest is the body of POST /v1/containers. Absent and null mean
// the same.
//
//api:doc A container to create. Absent and null mean the same.
type ContainerRequest struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid,omitempty"`
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name *string `json:"name,omitempty"`
	//api:doc UUID or name of the bay. It can be left out if only one bay fits.
	BayUUID string `json:"bay_uuid,omitempty"`
	//api:doc Alias of bay_uuid.
	Bay string `json:"bay,omitempty"`
	//api:doc Alias of image_id.
	Image   string   `json:"image,omitempty"`   // the spec's Image
	Command *Command `json:"command,omitempty"` // the spec's Command and CommandText
	ContainerSpec
	Secrets // never shown
}

// MarshalJSON leaves out members that are null, "" or false.
func (r ContainerRequest) MarshalJSON() ([]byte, error) {
	type plain ContainerRequest
	b, err := json.Marshal(plain(r))
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(b, &members); err != nil {
		return nil, err
	}
	maps.DeleteFunc(members, func(_ string, value json.RawMessage) bool {
		switch string(value) {
		case `null`, `""`, `false`:
			return true
		}
		return false
	})
	return marshalPlain(members)
}

// ContainerBody is a container as the API shows it. Lists show a summary: the fields
// up to Status and Links, unless the path ends in /detail. A field that is declared
// both here and in ContainerSpec appears once, in the place that it has here.
//
//api:doc A container: its spec, its host, and what the host last reported.
type ContainerBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique.
	Name string `json:"name"`
	//api:doc UUID of the container's bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Image of the container.
	ImageID string   `json:"image_id"`
	Command *Command `json:"command"`
	//api:doc Current status.
	Status ContainerStatus `json:"status"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc What happened and what to do.
	StatusReason *string `json:"status_reason"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Time of the last change by a user; null if there was none.
	UpdatedAt Time `json:"updated_at"`
	//api:doc Name of the container's host; null while it waits for one.
	Host *string `json:"host"`
	//api:doc IP addresses in the project's network.
	Addresses []string `json:"addresses"`
	Ports     []Port   `json:"ports"` // as published; as requested while the container doesn't run
	//api:doc Exit code of the last run; null if no run has ended.
	ExitCode   *int `json:"exit_code"`
	StartedAt  Time `json:"started_at"`
	FinishedAt Time `json:"finished_at"`
	//api:doc Number of starts by the restart policy.
	RestartCount int `json:"restart_count"`
	//api:doc Number of the placement. Each new placement raises it.
	Epoch uint64 `json:"epoch"`
	ContainerSpec
	//api:doc starting, healthy or unhealthy; null without a health check.
	Health *string `json:"health"`
	//api:doc Health check; null means the image's own, if it has one.
	Healthcheck *Healthcheck `json:"healthcheck"`
	//api:doc Whether at most one copy may ever run, even while a host is cut off: true, false or lease.
	Exclusive Exclusive `json:"exclusive"`
}
