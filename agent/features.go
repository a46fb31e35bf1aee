package agent

import (
	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// features are the optional interfaces of a backend; nil if the backend lacks one.
type features struct {
	consoles backend.Consoles
	images   backend.Images
	volumes  backend.Volumes
	networks backend.Networks
	pods     backend.Pods
}

// featuresOf returns the optional interfaces of a backend.
func featuresOf(b backend.Backend) features {
	var f features
	f.consoles, _ = b.(backend.Consoles)
	f.images, _ = b.(backend.Images)
	f.volumes, _ = b.(backend.Volumes)
	f.networks, _ = b.(backend.Networks)
	f.pods, _ = b.(backend.Pods)
	return f
}

// The refusals of sessions whose interface the backend lacks.
var (
	errNoConsoles = structs.Errorf(structs.CodeInvalid,
		"the backend of this host does not let users look into containers: no logs, execute, attach, stats, top or copies; use the "+
			"engine's own tools")
	errNoImages = structs.Errorf(structs.CodeInvalid,
		"the backend of this host keeps no images that magnum can list, pull, load or prune; choose a host with another backend")
	errNoVolumes = structs.Errorf(structs.CodeInvalid,
		"the backend of this host keeps no volumes that magnum can list or delete; choose a host with another backend")
	errNoCredentials = structs.Errorf(structs.CodeInvalid,
		"the backend of this host lets no other clients into its engine; use magnum's own commands, or a bay of coe kubernetes")
)
