package structs

import "strings"

// KindVolume names volumes in URLs, error codes and messages. Volumes are not rows of
// the state.
const KindVolume = "volume"

// Volume is a named volume of a project on a host, as the host's agent reports it.
type Volume struct {
	//api:doc Name of the volume in its project.
	Name string `json:"name"`
	//api:doc Project that owns the volume.
	ProjectID string `json:"project_id"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Names of the containers that mount the volume, running or not; of a pod pod/NAME.
	UsedBy []string `json:"used_by"`
}

// PodUser begins the name of a pod in Volume.UsedBy.
const PodUser = KindPod + "/"

// Users returns a text that names the users of the volume, "container a, b" or "pod/a".
func (v *Volume) Users() string {
	users := strings.Join(v.UsedBy, ", ")
	if strings.HasPrefix(users, PodUser) {
		return users
	}
	return "container " + users
}

// VolumeBody is a volume on a host as the API shows it. Volumes with the same name on
// different hosts are different volumes.
//
//api:doc A named volume of a project on a host.
type VolumeBody struct {
	Volume
	OnHost
}

// VolumesBody answers GET /v1/volumes. Hosts that could not be asked are in Errors.
type VolumesBody struct {
	Volumes []VolumeBody `json:"volumes"` // by host, then name
	Errors  []HostError  `json:"errors"`
}
