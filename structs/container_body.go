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
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name *string `json:"name,omitempty"` // default: a generated, readable one
	//api:doc UUID of the bay, or its name in a request; may be left out if only one bay fits.
	BayUUID string `json:"bay_uuid,omitempty"`
	//api:doc Another word for bay_uuid.
	Bay string `json:"bay,omitempty"` // uuid or name; alias of bay_uuid
	//api:doc Another word for image_id.
	Image   string   `json:"image,omitempty"`   // alias of image_id, the spec's Image
	Command *Command `json:"command,omitempty"` // the spec's Command and CommandText
	ContainerSpec
	Secrets // never shown
}

// MarshalJSON leaves out what asks for nothing: null, "" and false.
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

// ContainerBody is a container as the API shows it. Lists show the fields up
// to Status and Links, unless the path ends in /detail. The fields of the spec that
// stand here, too, have this place in the body, and those of ContainerSpec are not
// in it.
//
//api:doc A container: what was asked for, where it is, and what its host last reported.
type ContainerBody struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters; not unique. A readable one is generated if none is given.
	Name string `json:"name"`
	//api:doc UUID of its bay.
	BayUUID string `json:"bay_uuid"`
	//api:doc Image that it is made of.
	ImageID string   `json:"image_id"`
	Command *Command `json:"command"`
	//api:doc What is the case.
	Status ContainerStatus `json:"status"`
	//api:doc Where the object is: self, and bookmark without the version.
	Links []Link `json:"links"`
	//api:doc What happened, and what to do.
	StatusReason *string `json:"status_reason"`
	//api:doc When it was created.
	CreatedAt Time `json:"created_at"`
	//api:doc When a user last changed it; null means never.
	UpdatedAt Time `json:"updated_at"`
	//api:doc Name of its host; null while it waits for one.
	Host *string `json:"host"` // name of its host, null while it waits for one
	//api:doc IP addresses.
	Addresses []string `json:"addresses"` // in the project's network
	Ports     []Port   `json:"ports"`     // as published, or as asked for while it doesn't run
	//api:doc Of the last run; null if there was none.
	ExitCode   *int `json:"exit_code"`
	StartedAt  Time `json:"started_at"`
	FinishedAt Time `json:"finished_at"`
	//api:doc Starts by the restart policy.
	RestartCount int `json:"restart_count"`
	//api:doc Raised each time it is placed anew.
	Epoch uint64 `json:"epoch"`
	ContainerSpec
	//api:doc starting, healthy or unhealthy; null without a health check.
	Health *string `json:"health"` // starting, healthy or unhealthy; null without a healthcheck
	//api:doc null means the image's own, if it has one.
	Healthcheck *Healthcheck `json:"healthcheck"`
	//api:doc Whether at most one copy may ever run, also while a host is cut off: true, false or lease.
	Exclusive Exclusive `json:"exclusive"` // true, false or lease
}
