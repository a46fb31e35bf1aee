package backend

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/stackforge/magnum/structs"
)

// PodPart is what a container of a pod has beside its spec. The agent fills it in;
// CreateRequest has it if its Ref is a part of a pod.
type PodPart struct {
	// Attempt counts the containers that were made for the part in this epoch, from 1.
	// Each restart is a new container, with a file system and a log of its own.
	Attempt uint64
	// Infra is the engine's ID of the pod's infra container, whose network and IPC the
	// container joins; "" for the infra container itself.
	Infra string

	// Of the infra container. Its spec's Hostname and Ports are those of the pod; the
	// other containers have none. If its spec has no image, the backend makes one.
	HostAliases []structs.HostAlias

	// Of the other containers.
	SharePID  bool // with the infra container
	Mounts    []structs.PodMount
	Security  structs.PodSecurity
	StdinOnce bool

	// Of all containers. The infra container mounts all of the pod's volumes, so that they
	// are kept while another container is made again; Mounts name those of the others.
	Volumes []structs.PodVolume
	FSGroup *int64 // group that the volumes are given to; nil for none
}

// Attempt returns the attempt that the request creates; 0 if it isn't of a pod.
func (r *CreateRequest) Attempt() uint64 {
	if r.Pod == nil {
		return 0
	}
	return r.Pod.Attempt
}

// EngineName returns the engine's name of the requested container.
func (r *CreateRequest) EngineName() string { return AttemptName(r.Ref, r.Attempt()) }

// SpecHash returns the hash of the request's spec and of what the container of a pod has
// beside it. Left out is what a running container may differ in: limits, and what it is told
// of services, which a container gets with its next epoch.
func (r *CreateRequest) SpecHash() string {
	if r.Pod == nil {
		return Hash(r.Spec)
	}
	part := *r.Pod
	part.Attempt = 0
	sum := sha256.New()
	fmt.Fprint(sum, Hash(r.Spec))
	for i, v := 0, reflect.ValueOf(part); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			continue // so a new field doesn't change the hashes of older containers
		}
		b, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			panic(fmt.Sprintf("backend: encode %s: %v", v.Type().Field(i).Name, err)) // strings and numbers always encode
		}
		fmt.Fprintf(sum, ",%q:%s", v.Type().Field(i).Name, b)
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// Pods is what a backend provides beside Runtime if it runs pods.
type Pods interface {
	// DropVolumes removes the volumes that belong to the placement of a pod, claims
	// excepted. No container of the placement exists any more. It does nothing if there
	// are none. ErrInUse: a container that isn't magnum's mounts one.
	DropVolumes(ctx context.Context, owner Owner, pod structs.Ref) error
}
