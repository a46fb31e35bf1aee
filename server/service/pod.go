package service

import (
	"cmp"
	"context"
	"time"

	"github.com/stackforge/magnum/manifest"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// Pods carries out requests about pods.
type Pods struct{ s *Service }

// Pods returns the operations on pods.
func (s *Service) Pods() Pods { return Pods{s} }

// fetchTime bounds the time in which Config.Fetch fetches a manifest.
const fetchTime = 10 * time.Second

// Create creates a pod from a manifest. It does not wait for the host. Errors are
// CodeInvalid, CodeConflict, and those of onLeader.
func (n Pods) Create(ctx context.Context, c *Call, body *structs.PodRequest, once conductor.Once) (*structs.Pod, error) {
	if _, err := checkUUIDAndName(body.UUID, nil); err != nil {
		return nil, err
	}
	if err := body.Check(); err != nil {
		return nil, err
	}
	request := conductor.CreatePod{Caller: c.Caller, Once: once, UUID: body.UUID, Bay: cmp.Or(body.BayUUID, body.Bay)}
	minted := request.UUID == ""
	if minted {
		request.UUID = n.s.newID(c)
	}
	read := func(text, url string) (err error) {
		if request.Pod, request.Prefix, err = readPod(text); err != nil {
			return err
		}
		request.Pod.Spec.Exclusive, request.Pod.Spec.InfraImage = body.Exclusive, body.InfraImage
		request.Pod.Secrets, request.Pod.ManifestURL, request.Manifest = body.Secrets, url, text
		return request.Pod.Spec.CheckCredentials(body.Registry)
	}
	if body.ManifestURL == "" {
		if err := read(body.Manifest, ""); err != nil {
			return nil, err
		}
		return create(ctx, n.s, c, request.UUID, minted, request)
	}
	c.Preparation = fetchTime
	return createLater(ctx, n.s, c, once, request.UUID, minted, func() (conductor.Request[*structs.Pod], error) {
		text, err := n.s.config.Fetch(ctx, body.ManifestURL)
		if err == nil {
			err = read(text, body.ManifestURL)
		}
		return request, err
	})
}

// readPod reads a pod's manifest. prefix is what a generated name begins with. Errors are
// CodeInvalid.
func readPod(text string) (p structs.Pod, prefix string, err error) {
	read, err := manifest.ParsePod(text)
	if err != nil {
		return p, "", err
	}
	return structs.Pod{Name: read.Name, Labels: read.Labels, Annotations: read.Annotations, Spec: read.Spec}, read.GenerateName, nil
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
	if r.URL != "" {
		c.Preparation = fetchTime
	} else if _, _, err := readPod(r.Manifest); err != nil { // refused here, before it is forwarded
		return nil, err
	}
	return onLeader(ctx, n.s, c, false, func(bool) (*structs.Pod, error) {
		text := r.Manifest
		if r.URL != "" {
			var err error
			if text, err = n.s.config.Fetch(ctx, r.URL); err != nil {
				return nil, err
			}
		}
		read, _, err := readPod(text)
		if err != nil {
			return nil, err
		}
		return conductor.Do(ctx, n.s.config.Conductor, conductor.PatchPod{Caller: c.Caller, Ident: r.Ident, Manifest: text,
			Apply: func(p *structs.Pod) error { return changePod(p, &read, r.URL) }})
	})
}

// changePod sets in a pod what another manifest says. Errors are CodeInvalid.
func changePod(p, read *structs.Pod, url string) error {
	if read.Name != "" && read.Name != p.Name {
		return structs.Errorf(structs.CodeInvalid,
			"metadata.name: %q is not the pod's name, %q, which can't be changed: create another pod", structs.Shorten(read.Name),
			p.Name).About(structs.KindPod)
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
	Ident       string // UUID or name
	Force       bool   // kill it at once; forget a pod on a lost host
	AllProjects bool   // the pod may belong to another project; for operators
}

// Delete deletes a pod. It does not wait for the host. Errors are CodeForbidden,
// CodeNotFound, CodeConflict, and those of onLeader.
func (n Pods) Delete(ctx context.Context, c *Call, r DeletePod) (Removed[*structs.Pod], error) {
	if r.AllProjects {
		if err := identity.Check(c.Caller, identity.AllProjects); err != nil {
			return Removed[*structs.Pod]{}, err
		}
	}
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
