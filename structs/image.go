package structs

// KindImage names images in URLs, error codes and messages. Images are not rows of
// the state.
const KindImage = "image"

// Image is an image on a host, as the host's agent reports it.
type Image struct {
	ID string `json:"id"` // sha256:...
	//api:doc name:tag, or name@digest for an image without a tag. Empty if another image has taken the names.
	Names []string `json:"names"`
	Size  int64    `json:"size"` // bytes, including layers that other images share
	//api:doc Whether a container on the host, running or not, uses the image.
	InUse bool `json:"in_use"`
	//api:doc Time of creation.
	CreatedAt Time `json:"created_at"` // when the image was built
	//api:doc When the image was pulled or last tagged on the host; null if that was before the agent started.
	PulledAt Time `json:"pulled_at"`
	//api:doc When magnum last created a container from the image; null if unknown.
	UsedAt Time `json:"used_at"`
}

// ImageChange is the result of a load or a prune of a host's images.
type ImageChange struct {
	Images []string `json:"images"` // names; the ID of an image without a name
	Size   int64    `json:"size"`   // bytes of the removed images, including layers that other images still share
}

// ImageBody is an image on a host as the API shows it.
//
//api:doc An image on a host.
type ImageBody struct {
	Image
	OnHost
}

// OnHost says on which host an object is.
type OnHost struct {
	//api:doc Name of the host.
	Host string `json:"host"`
	//api:doc UUID of the host.
	HostUUID string `json:"host_uuid"`
	//api:doc UUID of the host's bay; null if no bay has claimed the host.
	BayUUID *string `json:"bay_uuid"`
}

// ImagesBody answers GET /v1/images. Hosts that could not be asked are in Errors.
type ImagesBody struct {
	//api:doc Images by host, then name.
	Images []ImageBody `json:"images"`
	Errors []HostError `json:"errors"`
}

// HostError says why a host is missing from a list.
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
	BayUUID string `json:"bay_uuid"` // "" means the only bay that the project can use
	//api:doc Alias of bay_uuid.
	Bay string `json:"bay"`
	//api:doc UUID or name of one host, instead of a bay. Operators only.
	Host string `json:"host"`
	//api:doc Credentials for pulling the image. They are never shown.
	Registry *Registry `json:"registry"`
}

// Check checks the request against its limits. Errors are CodeInvalid.
func (r *ImagePullRequest) Check() error {
	if err := CheckImage(r.Image); err != nil {
		return err
	}
	return r.Registry.check()
}

// The results of a HostResult.
const (
	ResultProgress = "progress" // not finished; only in streams
	ResultSuccess  = "success"
	ResultError    = "error"
)

// HostResult is the result of a pull, load or prune on one host, or in a stream its
// progress.
//
//api:doc Result or progress of a request on one host.
type HostResult struct {
	//api:doc Name of the host.
	Host string `json:"host"`
	//api:doc UUID of the host.
	HostUUID string `json:"host_uuid"`
	//api:doc success or error; progress in a stream.
	Result  string  `json:"result"`  // one of the Result constants
	Code    Code    `json:"code"`    // of an error; else ""
	Message *string `json:"message"` // what went wrong, or the progress
	//api:doc Names of the images that were pulled, loaded or removed.
	Images []string `json:"images"`
	Size   int64    `json:"size"` // bytes of the images that a prune has removed
}

// HostResultsBody answers a request that is carried out on several hosts. It is sent
// with a success status if at least one host succeeded.
type HostResultsBody struct {
	Results []HostResult `json:"results"` // by host
}
