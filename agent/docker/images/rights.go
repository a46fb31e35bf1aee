package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/registry"
	"github.com/stackforge/magnum/structs"
)

// rightKept is how long a project may use an image without its registry being asked again.
const rightKept = 10 * time.Minute

// maxRights bounds the rights that are remembered; beyond it all are forgotten.
const maxRights = 10_000

// rights remembers which project may use which image. It is lost with the process, and then
// the registries are asked again.
type rights struct {
	mu    sync.Mutex
	until map[right]time.Time
}

type right struct{ project, image string }

func (r *rights) has(project, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.until[right{project, id}])
}

func (r *rights) note(project, id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil || len(r.until) >= maxRights {
		r.until = make(map[right]time.Time)
	}
	r.until[right{project, id}] = time.Now().Add(rightKept)
}

func (r *rights) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = nil
}

// SetTenancy says how far projects have to be kept apart.
func (im *Images) SetTenancy(now structs.Tenancy) {
	im.mu.Lock()
	defer im.mu.Unlock()
	im.tenancy = now
}

func (im *Images) tenancyNow() structs.Tenancy {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.tenancy
}

// Guarded reports whether projects need rights to images: other projects use the engine.
func (im *Images) Guarded() bool { now := im.tenancyNow(); return now.Separate && now.Shared }

// asker asks registries by the rules that hold now. A registry.Client with its Rules is one.
type asker interface {
	Check(ctx context.Context, host string) error
	Listed(host string) bool
	Resolve(ctx context.Context, ref string, creds *structs.Registry) (*registry.Image, error)
}

// ruled is a registry.Client as an asker.
type ruled struct {
	*registry.Client
	registry.Rules
}

func (im *Images) client() asker {
	rules := im.rules
	rules.Open = !im.tenancyNow().Separate
	return ruled{&registry.Client{Rules: rules, Insecure: im.insecure}, rules}
}

// insecure reports whether the engine's operator lets it use the registry without TLS.
func (im *Images) insecure(ctx context.Context, host string) bool {
	insecure := false
	if err := im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		now, err := im.engine.Client.Info(ctx)
		if err == nil && now.RegistryConfig != nil {
			index := now.RegistryConfig.IndexConfigs[host]
			insecure = index != nil && !index.Secure
		}
		return err
	}); err != nil {
		im.engine.Log.Warn("the engine's registries are not known", "error", err)
	}
	return insecure
}

// Need is an image that a project needs for a container.
type Need struct {
	Project string
	Image   string            // a reference, as users write it
	Policy  string            // as in structs.ContainerSpec
	Creds   *structs.Registry // the project's own; nil for none
}

// Resolve returns the ID of an image that the project may use by this name, and fetches it
// as the pull policy says. Presence is no right: unless the image is the operator's, its
// registry has given this very image to the project's credentials within rightKept. A
// container must be created from the ID: names may move. Refusals don't tell whether the
// engine has the image. ErrNoImage, ErrInvalid.
func (im *Images) Resolve(ctx context.Context, n Need, progress func(string)) (id string, err error) {
	id, err = im.idOf(ctx, n.Image)
	if err != nil {
		return "", err
	}
	if id != "" && n.Policy != structs.PullAlways {
		if may, err := im.may(ctx, n, id); may || err != nil {
			return id, err
		}
	}
	there, err := im.askFor(ctx, n.Image, n.Creds)
	switch {
	case n.Policy == structs.PullNever && (err != nil || !there.Is(id)):
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", errNever(n.Image)
	case err != nil:
		return "", err
	case id != "" && n.Policy != structs.PullAlways && there.Is(id):
		return id, im.grant(n, id)
	}
	if err := im.pullShared(ctx, n.Image, n.Creds, there, progress); err != nil {
		return "", err
	}
	if id, err = im.idOf(ctx, n.Image); err != nil {
		return "", err
	}
	if !there.Is(id) { // the tag has moved since; or a mirror of the engine lags
		if there, err = im.askFor(ctx, n.Image, n.Creds); err != nil {
			return "", err
		}
	}
	if id == "" || !there.Is(id) {
		return "", &backend.Failure{Reason: backend.ErrNoImage, Msg: fmt.Sprintf(
			"image %s can't be used: what the engine has under this name is not what its registry gives this project; try again", n.Image)}
	}
	return id, im.grant(n, id)
}

// may reports whether the project may use the image without its registry being asked.
func (im *Images) may(ctx context.Context, n Need, id string) (bool, error) {
	if im.rights.has(n.Project, id) {
		return true, nil
	}
	return im.ledger.everybodys(ctx, id)
}

// grant notes that the registry lets the project have the image.
func (im *Images) grant(n Need, id string) error {
	im.rights.note(n.Project, id)
	return im.ledger.grant(n.Project, id, familiar(n.Image))
}

// askFor asks the registry of an image what the credentials get. Its errors are failures with
// a text for users, which tells nothing of addresses and ports.
func (im *Images) askFor(ctx context.Context, ref string, creds *structs.Registry) (*registry.Image, error) {
	there, err := im.asker().Resolve(ctx, ref, creds)
	switch {
	case err == nil, ctx.Err() != nil:
		return there, err
	}
	im.engine.Log.Info("registry asked for an image", "image", ref, "error", err)
	return nil, asked(ref, creds, err)
}

// asked returns the failure for an error of package registry.
func asked(ref string, creds *structs.Registry, err error) error {
	why := silentText
	switch {
	case errors.Is(err, registry.ErrNotAllowed):
		why = "its registry is not one from which this host's operator lets projects pull; use another one, or ask the operator"
	case errors.Is(err, registry.ErrRefused) && creds == nil:
		why = "its registry asks for credentials; create the container again with registry.username and registry.password " +
			"(-registry-username)"
	case errors.Is(err, registry.ErrRefused):
		why = fmt.Sprintf("its registry refuses user %s; check registry.username and registry.password", creds.Username)
	case errors.Is(err, registry.ErrNone):
		why = "its registry doesn't have it, or doesn't show it to these credentials; check its name and tag"
	}
	return &backend.Failure{Reason: backend.ErrNoImage, Err: err, Msg: fmt.Sprintf("image %s can't be pulled: %s", ref, why)}
}

// silentText says that a registry can't be reached. What exactly happened is for operators
// only: it would tell users which ports of the operator's network are open.
const silentText = "its registry doesn't answer; check the name, or that the registry can be reached"

// errNever is the failure of an image that isn't there and must not be pulled.
func errNever(ref string) error {
	return &backend.Failure{Reason: backend.ErrNoImage, Msg: fmt.Sprintf(
		"image %s is not on the host and image_pull_policy is never; load it there, or use ifnotpresent", ref)}
}

// idOf returns the ID of the image that the engine has under the name; "" if it has none. An
// image's ID, or the beginning of one, is no name.
func (im *Images) idOf(ctx context.Context, ref string) (id string, err error) {
	err = im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		raw, err := im.engine.Client.ImageInspect(ctx, ref)
		switch {
		case errdefs.IsNotFound(err), errdefs.IsInvalidArgument(err):
			return nil
		case err == nil && isNamed(raw, ref):
			id = raw.ID
		}
		return err
	})
	return id, err
}

// isNamed reports whether the name is one of the image.
func isNamed(raw image.InspectResponse, ref string) bool {
	name := familiar(ref)
	return slices.ContainsFunc(slices.Concat(raw.RepoTags, raw.RepoDigests), func(own string) bool { return familiar(own) == name })
}

// familiar returns a reference as the engine lists it, with its tag or digest.
func familiar(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	if digested, ok := named.(reference.Digested); ok {
		if bare, err := reference.WithDigest(reference.TrimNamed(named), digested.Digest()); err == nil {
			return reference.FamiliarString(bare)
		}
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}

// ImagesOf lists the images that the project may use, by the names that are no secrets of
// others.
func (im *Images) ImagesOf(ctx context.Context, project string) ([]structs.Image, error) {
	all, err := im.ListImages(ctx)
	if err != nil || !im.Guarded() {
		return all, err
	}
	shown := []structs.Image{}
	for _, img := range all {
		may, err := im.ledger.everybodys(ctx, img.ID)
		if err != nil {
			return nil, err
		}
		if !may && !im.ledger.shown(project, img.ID) {
			continue
		}
		img.Names = slices.DeleteFunc(img.Names, func(name string) bool { return im.ledger.hides(project, name) })
		shown = append(shown, img)
	}
	return shown, nil
}

// Remember keeps in the file which images magnum has brought.
func (im *Images) Remember(file string) error { return im.ledger.open(file) }

// Clean removes the images that magnum has brought. One that a container of somebody else
// uses stays, and is nobody's.
func (im *Images) Clean(ctx context.Context) error {
	im.rights.forget()
	ids, err := im.ledger.brought(ctx)
	if err != nil {
		return err
	}
	var kept []string
	for _, id := range ids {
		switch err := im.RemoveImage(ctx, id); {
		case errors.Is(err, backend.ErrInUse):
			im.engine.Log.Warn("image of a project not removed", "image", id, "error", err)
			kept = append(kept, id)
		case err != nil:
			return err
		}
	}
	return im.ledger.forget(kept)
}
