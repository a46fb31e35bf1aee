package structs

// KindImage names images in URLs, error codes and messages. They are no rows of the state.
const KindImage = "image"

// Image is an image on a host, as its agent sees it.
type Image struct {
	ID string `json:"id"` // sha256:...
	//api:doc name:tag, or name@digest for an image without a tag. Empty if another image has taken the names.
	Names []string `json:"names"` // name:tag, or name@digest if it has no tag; none of one that lost its name to another
	Size  int64    `json:"size"`  // bytes, with the layers that it shares with others
	//api:doc Whether a container on the host, running or not, uses the image.
	InUse bool `json:"in_use"` // a container of the host is made of it, whether it runs or not
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"` // when it was built
	//api:doc When the image was pulled or last tagged on the host; null if that was before the agent started.
	PulledAt Time `json:"pulled_at"` // when it came to the host or was last tagged there, as far as is known since the agent's start; else null
	//api:doc When magnum last created a container from the image; null if unknown.
	UsedAt Time `json:"used_at"` // when a container of magnum was last made of it; null if none is known
}

// ImageChange is what a load or a prune has done to a host's images.
type ImageChange struct {
	Images []string `json:"images"` // names, or an ID where there is no name
	Size   int64    `json:"size"`   // bytes of the images that are gone; layers that others share with them are still there
}

// ImageBody is an image on a host as the API shows it.
//
//api:doc An image on a host.
type ImageBody struct {
	Image
	OnHost
}

// OnHost says where something is.
type OnHost struct {
	//api:doc Name of the host.
	Host string `json:"host"` // its name
	//api:doc UUID of the host.
	HostUUID string `json:"host_uuid"`
	//api:doc UUID of the host's bay; null if no bay has claimed the host.
	BayUUID *string `json:"bay_uuid"` // null for a host that no bay has claimed
}

// ImagesBody answers GET /v1/images. Hosts that could not be asked don't spoil
// it: they are in Errors.
type ImagesBody struct {
	//api:doc Images by host, then name.
	Images []ImageBody `json:"images"` // by host, then name
	Errors []HostError `json:"errors"`
}

// HostError says why a host is missing in a list.
//
//api:doc Why a host is missing from a list.
type HostError struct {
	//api:doc Name of the host.
	Host string `json:"host"`
	//api:doc UUID of the host.
	HostUUID string `json:"host_uuid"`
	Code     Code   `json:"code"`
	Message  string `json:"message"`
}

// ImagePullRequest is the body of POST /v1/images. Bay and BayUUID are two
// spellings of one field.
//
//api:doc An image to pull onto the hosts of a bay.
type ImagePullRequest struct {
	//api:doc Image, as [registry/]name[:tag].
	Image string `json:"image"`
	//api:doc UUID or name of the bay. It can be left out if only one bay fits.
	BayUUID string `json:"bay_uuid"` // UUID or name; "" means the only one that the project can use
	//api:doc Alias of bay_uuid.
	Bay string `json:"bay"`
	//api:doc UUID or name of one host, instead of a bay. Operators only.
	Host string `json:"host"` // UUID or name, instead of a bay; operators only
	//api:doc Credentials for pulling the image. They are never shown.
	Registry *Registry `json:"registry"`
}

// Check holds the request against its limits. Errors are CodeInvalid.
func (r *ImagePullRequest) Check() error {
	if err := CheckImage(r.Image); err != nil {
		return err
	}
	return r.Registry.check()
}

// The results of a HostResult.
const (
	ResultProgress = "progress" // it is under way; only in streams
	ResultSuccess  = "success"
	ResultError    = "error"
)

// HostResult is what became of a pull, load or prune on one host, or in a
// stream how far it is.
//
//api:doc Result or progress of a request on one host.
type HostResult struct {
	//api:doc Name of the host.
	Host string `json:"host"`
	//api:doc UUID of the host.
	HostUUID string `json:"host_uuid"`
	//api:doc success or error; progress in a stream.
	Result  string  `json:"result"`  // one of the Result constants
	Code    Code    `json:"code"`    // of an error, else ""
	Message *string `json:"message"` // what went wrong, or how far it is
	//api:doc Names of the images that were pulled, loaded or removed.
	Images []string `json:"images"` // names of those that were pulled, loaded or removed
	Size   int64    `json:"size"`   // bytes of the images that a prune has removed
}

// HostResultsBody answers what is done on several hosts. An answer without an
// error means that at least one could do it.
type HostResultsBody struct {
	Results []HostResult `json:"results"` // by host
}
