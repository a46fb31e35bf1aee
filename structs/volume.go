package structs

// KindVolume names volumes in URLs, error codes and messages. They are no rows of the state.
const KindVolume = "volume"

// Volume is a named volume of a project on a host, as its agent sees it.
type Volume struct {
	//api:doc Name of the volume in its project.
	Name string `json:"name"` // as the project knows it
	//api:doc Project that owns the volume.
	ProjectID string `json:"project_id"` // whose it is
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"`
	//api:doc Names of the containers that mount the volume, running or not.
	UsedBy []string `json:"used_by"` // names of the containers that mount it, whether they run or not
}

// VolumeBody is a volume on a host as the API shows it. Volumes of one name on
// several hosts are several volumes.
//
//api:doc A named volume of a project on a host.
type VolumeBody struct {
	Volume
	OnHost
}

// VolumesBody answers GET /v1/volumes. Hosts that could not be asked don't
// spoil it: they are in Errors.
type VolumesBody struct {
	Volumes []VolumeBody `json:"volumes"` // by host, then name
	Errors  []HostError  `json:"errors"`
}
