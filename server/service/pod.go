package service

import (
	"cmp"
	"context"
	"time"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// Pods carries out requests about pods.
type Pods struct{ s *Service }

// Pods returns the operations on pods.
func (s *Service) Pods() Pods { return Pods{s} }

// Create creates a pod from a manifest. It does not wait for the host. Errors are
// CodeInvalid, CodeConflict, and those of onLeader.
func (n Pods) Create(ctx context.Context, c *Call, body *structs.PodRequest, once conductor.Once) (*structs.Pod, error) {
	if _, err := checkUUIDAndName(body.UUID, nil); err != nil {
		return nil, err
	}
	if err := body.Check(); err != nil {
		return nil, err
	}
	bay := cmp.Or(body.BayUUID, body.Bay)
	id := body.UUID
	minted := id == ""
	if minted {
		id = n.s.newID(c)
	}
	parse := remembered(parsePod)
	read := func(backend structs.Backend, text string) (conductor.Request[*structs.Pod], error) {
		r := conductor.CreatePod{Caller: c.Caller, Once: once, UUID: id, Bay: bay, Backend: backend, Manifest: text}
		is, err := parse(backend, text)
		if err != nil {
			return nil, err
		}
		if is != nil {
			r.Pod, r.Prefix = podOf(is), is.GenerateName
		}
		r.Pod.Spec.Exclusive, r.Pod.Spec.InfraImage = body.Exclusive, body.InfraImage
		r.Pod.Secrets, r.Pod.ManifestURL = body.Secrets, body.ManifestURL
		if backend == structs.BackendDocker {
			err = r.Pod.Spec.CheckCredentials(body.Registry)
		}
		return r, cmp.Or(err, n.s.config.HostPorts.Pod(c.Caller, "spec", &r.Pod.Spec))
	}
	return createRead(ctx, n.s, c, once, id, minted, source{body.Manifest, body.ManifestURL}, bay, read)
}

// podOf returns the row of what a manifest says of a pod.
func podOf(is *manifest.Pod) structs.Pod {
	return structs.Pod{Name: is.Name, Labels: is.Labels, Annotations: is.Annotations, Spec: is.Spec}
}

// PatchPod is a change of a pod's manifest. Exactly one of Manifest and URL is set.
type PatchPod struct {
	Ident    string // UUID or name
	Manifest string
	URL      string // where to fetch it
}

// Patch replaces a pod's manifest. It does not wait for the host. Errors are CodeInvalid,
// CodeNotFound, CodeConflict, and those of onLeader.
func (n Pods) Patch(ctx context.Context, c *Call, r PatchPod) (*structs.Pod, error) {
	body := structs.PodRequest{Manifest: r.Manifest, ManifestURL: r.URL}
	if err := body.Check(); err != nil {
		return nil, err
	}
	parse := remembered(parsePod)
	return patchRead(ctx, n.s, c, structs.KindPod, r.Ident, source{r.Manifest, r.URL},
		func(backend structs.Backend, text string) (conductor.Request[*structs.Pod], error) {
			is, err := parse(backend, text)
			if err != nil {
				return nil, err
			}
			if is != nil {
				if err := n.s.config.HostPorts.Pod(c.Caller, "spec", &is.Spec); err != nil {
					return nil, err
				}
			}
			change := conductor.PatchPod{Caller: c.Caller, Ident: r.Ident, Manifest: text, Backend: backend}
			change.Apply = func(p *structs.Pod) error {
				read := podOf(is)
				return changePod(p, &read, r.URL)
			}
			return change, nil
		})
}

// changePod sets in a pod what another manifest says. Errors are CodeInvalid.
func changePod(p, read *structs.Pod, url string) error {
	if read.Name != "" && read.Name != p.Name {
		return structs.Errorf(structs.CodeInvalid,
			"metadata.name: %q is not the pod's name, %q, which can't be changed: create another pod", structs.Shorten(read.Name),
			p.Name).About(structs.KindPod)
	}
	if p.Spec.Cluster { // what can change is the cluster's decision
		p.Labels, p.Annotations, p.Spec, p.ManifestURL = read.Labels, read.Annotations, read.Spec, url
		return nil
	}
	spec := read.Spec // the request's other fields stay
	spec.Exclusive, spec.InfraImage, spec.Hostname = p.Spec.Exclusive, p.Spec.InfraImage, cmp.Or(spec.Hostname, p.Name)
	if err := manifest.Change(&p.Spec, &spec); err != nil {
		return err
	}
	if p.Spec.CheckCredentials(p.Secrets.Registry) == nil { // else it is no fault of the change
		if err := spec.CheckCredentials(p.Secrets.Registry); err != nil {
			return structs.Errorf(structs.CodeInvalid, "%w: create the pod again with it", err).About(structs.KindPod)
		}
	}
	p.Labels, p.Annotations, p.Spec, p.ManifestURL = read.Labels, read.Annotations, spec, url
	return nil
}

// DeletePod is the request to delete a pod.
type DeletePod struct {
	Ident string // UUID or name
	Force bool   // kill it at once; forget a pod on a lost host
}

// Delete deletes a pod. It does not wait for the host. Errors are CodeNotFound,
// CodeConflict, and those of onLeader.
func (n Pods) Delete(ctx context.Context, c *Call, r DeletePod) (Removed[*structs.Pod], error) {
	return remove(ctx, n.s, c, conductor.DeletePod{Caller: c.Caller, Ident: r.Ident, Force: r.Force})
}

// AwaitDone waits until the pod's host has carried out the generation of wanted, or has
// failed to. If started is true it also waits until the pod has left phase Pending. It
// returns the pod as it is then, nil if it was deleted. done is false if atMost has passed
// before. The error says why the host failed.
func (n Pods) AwaitDone(
	ctx context.Context, c *Call, wanted *structs.Pod, atMost time.Duration, started bool,
) (now *structs.Pod, done bool, err error) {
	carriedOut := func(row structs.Row) bool {
		now, ok := row.(*structs.Pod)
		switch {
		case !ok:
			return true
		case now.Observed.Generation < wanted.Generation || now.Observed.Status == "":
			return false
		}
		return !started || now.Observed.Failed || now.Observed.Status == structs.ContainerError || now.Status() != structs.PodPending
	}
	row := n.s.AwaitRow(ctx, c, wanted, atMost, carriedOut)
	now, _ = row.(*structs.Pod)
	if now == nil {
		return nil, true, nil
	}
	done = carriedOut(row)
	// A failure of a later generation belongs to somebody else's request.
	failed := now.Observed.Failed || started && now.Observed.Status == structs.ContainerError
	if done && now.Spec.Cluster && now.Observed.Failed && now.Observed.Generation == wanted.Generation {
		return now, true, refusal(now.Observed.Code, structs.KindPod, "Pod "+now.Name, now.Observed.Reason)
	}
	if done && failed && now.Observed.Generation == wanted.Generation {
		return now, true, structs.Errorf(structs.CodeInternal, "Pod %s: %s", now.Name,
			cmp.Or(structs.StatusReasonOf(now), "its host gave no reason")).About(structs.KindPod)
	}
	return now, done, nil
}

// ErrPodDeleted returns the error of a wait for a pod that was deleted meanwhile.
// CodeConflict.
func ErrPodDeleted(p *structs.Pod) error {
	return structs.Errorf(structs.CodeConflict, "Pod %s was deleted meanwhile.", p.Name).About(structs.KindPod)
}
