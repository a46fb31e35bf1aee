package images

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	engineregistry "github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/pkg/jsonmessage"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/agent/docker/registry"
	"github.com/stackforge/magnum/structs"
)

// The pace of a fetch and of its progress messages.
const (
	Attempts      = 3                // of a registry that is away
	progressPause = 2 * time.Second  // between two sentences: each is a write to the cluster
	pullPause     = time.Second      // before the second attempt; doubled before the third
	pullPatience  = 10 * time.Second // no new attempt after one that heard nothing for this long, because a user waits
	pullSilence   = 5 * time.Minute  // a registry that is silent for this long is away
)

var errSilent = fmt.Errorf("nothing has come for %s", pullSilence)

// pullKey identifies a shared fetch. Credentials belong to it, because a registry may
// refuse one user what another may have.
type pullKey struct {
	ref    string
	creds  structs.Registry // zero means none
	pinned string           // the name with a digest that the engine is to fetch instead of ref; "" means ref
}

// auth returns the credentials in the engine's form, "" for none. They are secret.
func (k pullKey) auth() (string, error) {
	if k.creds.Username == "" && k.creds.Password == "" {
		return "", nil
	}
	server := k.creds.Server
	if host, _, ok := strings.Cut(k.ref, "/"); server == "" && ok && strings.ContainsAny(host, ".:") {
		server = host
	}
	return engineregistry.EncodeAuthConfig(engineregistry.AuthConfig{
		Username: k.creds.Username, Password: k.creds.Password, ServerAddress: server})
}

// pull is one fetch of an image, shared by all who wait for it. It ends when nobody
// waits any more.
type pull struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err is final
	err    error

	waiters int // guarded by Images.mu

	mu       sync.Mutex
	sentence string
	listen   map[int]func(string)
	nextID   int
}

// PullImage fetches an image. It returns when the image exists, or after a few quick attempts
// if the registry is away. ErrNoImage, ErrInvalid.
func (im *Images) PullImage(ctx context.Context, ref string, creds *structs.Registry, progress func(string)) error {
	var there *registry.Image
	if im.Guarded() { // the engine would say that it has what it has of others
		var err error
		if there, err = im.askFor(ctx, ref, creds); err != nil {
			return err
		}
	}
	return im.pullShared(ctx, ref, creds, there, progress)
}

// pullShared fetches an image, or joins the fetch in progress with the same credentials.
// there is what the registry has just said of the image; nil if it wasn't asked.
func (im *Images) pullShared(
	ctx context.Context, ref string, creds *structs.Registry, there *registry.Image, progress func(string),
) error {
	if err := im.checkRegistry(ctx, ref, creds); err != nil {
		return err
	}
	key := pullKey{ref: ref}
	if creds != nil {
		key.creds = *creds
	}
	var err error
	if key.pinned, err = im.pin(ctx, ref, creds, there); err != nil {
		return err
	}
	im.mu.Lock()
	p := im.pulls[key]
	if p == nil {
		pullCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p = &pull{cancel: cancel, done: make(chan struct{}), listen: make(map[int]func(string))}
		im.pulls[key] = p
		go func() {
			p.err = im.bring(pullCtx, key, p.say)
			if p.err == nil {
				im.noteFetch(pullCtx, key.ref)
			}
			cancel()
			im.forget(key, p)
			close(p.done)
		}()
	}
	p.waiters++
	im.mu.Unlock()
	leave := p.join(progress)
	defer leave()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
	}
	im.mu.Lock()
	p.waiters--
	last := p.waiters == 0
	if last && im.pulls[key] == p {
		delete(im.pulls, key) // later callers begin a new one
	}
	im.mu.Unlock()
	if last {
		p.cancel()
		<-p.done
	}
	return ctx.Err()
}

// bring fetches an image that counts as brought for a project.
func (im *Images) bring(ctx context.Context, key pullKey, say func(string)) error {
	end, err := im.ledger.begin(ctx)
	if err != nil {
		return err
	}
	defer func() { im.settled(end(context.WithoutCancel(ctx))) }()
	return im.fetch(ctx, key, say)
}

// pin returns the name by which the engine has to fetch an image from a registry that the
// operator hasn't named: with the digest that this agent has seen there. The engine looks
// the registry's name up again, and follows where it is sent. What it finds elsewhere has
// another digest, and is refused. "" if the registry is one that the operator has named.
func (im *Images) pin(ctx context.Context, ref string, creds *structs.Registry, there *registry.Image) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || im.asker().Listed(reference.Domain(named)) {
		return "", nil // of a wrong reference the engine says why
	}
	if there == nil {
		if there, err = im.askFor(ctx, ref, creds); err != nil {
			return "", err
		}
	}
	return reference.TrimNamed(named).String() + "@" + there.Digest, nil
}

// tag gives an image that was fetched by its digest the name that was asked for.
func (im *Images) tag(ctx context.Context, key pullKey) error {
	named, err := reference.ParseNormalizedNamed(key.ref)
	if _, digested := named.(reference.Digested); err != nil || digested || key.pinned == "" {
		return err
	}
	return im.engine.Change(ctx, func(ctx context.Context) error {
		return im.engine.Client.ImageTag(ctx, key.pinned, reference.TagNameOnly(named).String())
	})
}

// checkRegistry refuses a registry from which projects may not pull.
func (im *Images) checkRegistry(ctx context.Context, ref string, creds *structs.Registry) error {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil // the engine says why
	}
	if err := im.asker().Check(ctx, reference.Domain(named)); err != nil && ctx.Err() == nil {
		im.engine.Log.Info("registry refused", "image", ref, "error", err)
		return asked(ref, creds, err)
	}
	return ctx.Err()
}

// Pulling returns the number of fetches in progress.
func (im *Images) Pulling() int {
	im.mu.Lock()
	defer im.mu.Unlock()
	return len(im.pulls)
}

func (im *Images) forget(key pullKey, p *pull) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.pulls[key] == p {
		delete(im.pulls, key)
	}
}

// join adds a listener, which gets the last sentence first.
func (p *pull) join(progress func(string)) (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := p.nextID
	p.nextID++
	p.listen[id] = progress
	if p.sentence != "" {
		progress(p.sentence)
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.listen, id)
	}
}

// say sends a sentence to all listeners.
func (p *pull) say(sentence string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sentence = sentence
	for _, progress := range p.listen {
		progress(sentence)
	}
}

// fetch fetches the image. It tries a few times after failures that may pass soon.
func (im *Images) fetch(ctx context.Context, key pullKey, say func(string)) error {
	ref := key.ref
	auth, err := key.auth()
	if err != nil {
		return err
	}
	say("pulling " + ref)
	answered := false // some attempt has seen a layer
	for attempt := 1; ; attempt++ {
		var got layers
		began := time.Now()
		err := im.fetchOnce(ctx, key, auth, &got, say)
		if err == nil {
			return im.tag(ctx, key)
		}
		if ctx.Err() != nil {
			return err
		}
		if final := pullFailure(key, err); final != nil {
			im.engine.Log.Info("image can't be pulled", "image", ref, "error", err)
			return final
		}
		im.engine.Log.Warn("image pull failed", "image", ref, "attempt", attempt, "error", err)
		answered = answered || !got.none()
		if !tryAgain(attempt, answered, time.Since(began)) {
			return &backend.Failure{Reason: backend.ErrNoImage, Err: err, Msg: fmt.Sprintf(
				"image %s can't be pulled: %s", ref, silentText)}
		}
		pause := pullPause << (attempt - 1)
		pause += rand.N(pause / 2)
		say(fmt.Sprintf("pulling %s: attempt %d failed; trying again in %s", ref, attempt, pause.Round(time.Second)))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryAgain reports whether an attempt that failed after a time is followed by another one.
// answered says that the registry has answered some attempt. If it has, the time is no
// silence: on a busy machine an attempt takes long, too.
func tryAgain(attempt int, answered bool, took time.Duration) bool {
	return attempt < Attempts && (answered || took <= pullPatience)
}

// fetchOnce makes one attempt, and notes the layers' progress.
func (im *Images) fetchOnce(ctx context.Context, key pullKey, auth string, got *layers, say func(string)) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(pullSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	defer func() {
		if err != nil && context.Cause(ctx) == errSilent {
			err = errSilent
		}
	}()
	if err := im.engine.Negotiate(ctx); err != nil {
		return err
	}
	body, err := im.engine.Client.ImagePull(ctx, cmp.Or(key.pinned, key.ref), image.PullOptions{RegistryAuth: auth})
	if err != nil {
		return err
	}
	defer body.Close()
	ended := make(chan struct{})
	var saying sync.WaitGroup
	saying.Go(func() { sayProgress(key.ref, got, say, ended) })
	defer saying.Wait()
	defer close(ended)
	for dec := json.NewDecoder(body); ; {
		var m jsonmessage.JSONMessage
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		silence.Reset(pullSilence)
		if m.Error != nil {
			return m.Error
		}
		got.note(m)
	}
}

// sayProgress sends the progress of a fetch every progressPause, if it has changed,
// until the fetch has ended. The engine sends nothing while a registry is silent.
func sayProgress(ref string, got *layers, say func(string), ended <-chan struct{}) {
	tick := time.NewTicker(progressPause)
	defer tick.Stop()
	for said := ""; ; {
		select {
		case <-ended:
			return
		case <-tick.C:
		}
		if now := got.summary(); now != said {
			said = now
			say("pulling " + ref + now)
		}
	}
}

// hasImage reports whether the engine has the image.
func (im *Images) hasImage(ctx context.Context, ref string) bool {
	return im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		_, err := im.engine.Client.ImageInspect(ctx, ref)
		return err
	}) == nil
}

// pullFailure returns the failure of a fetch that would fail again, nil if another
// attempt may succeed.
func pullFailure(key pullKey, err error) error {
	ref := key.ref
	text := strings.ToLower(err.Error())
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case errors.Is(err, backend.ErrAway), engine.IsAway(err, ""):
		return engine.Failure(err)
	case key.pinned != "" && !has("no matching manifest"):
		return nil // what the engine has met need not be the registry: a name may lead elsewhere the second time
	case has("invalid reference format", "must be lowercase", "invalid repository name", "invalid tag format"):
		return &backend.Failure{Reason: backend.ErrInvalid, Err: err,
			Msg: fmt.Sprintf("image %q is not an image reference; write it as name:tag", ref)}
	case has("toomanyrequests", "too many requests", "connection refused", "no such host", "timeout"):
		return nil
	case key.creds.Username == "" && has("no basic auth credentials", "authentication required"):
		return &backend.Failure{Reason: backend.ErrNoImage, Err: err, Msg: fmt.Sprintf(
			"image %s can't be pulled: its registry asks for credentials; create the container again with registry.username and "+
				"registry.password (-registry-username)", ref)}
	case has("no basic auth credentials", "authentication required", "incorrect username or password"):
		return &backend.Failure{Reason: backend.ErrNoImage, Err: err, Msg: fmt.Sprintf(
			"image %s can't be pulled: its registry refuses user %s; check registry.username and "+
				"registry.password", ref, key.creds.Username)}
	case has("no matching manifest"):
		return &backend.Failure{Reason: backend.ErrNoImage, Err: err, Msg: fmt.Sprintf(
			"image %s can't be pulled: its registry has it for other platforms only, not for this host's", ref)}
	case errdefs.IsNotFound(err), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err),
		has("manifest unknown", "not found", "pull access denied", "unauthorized", "no basic auth credentials", "authentication required",
			"denied"):
		// Not the engine's text, which quotes whatever answers at that address.
		return &backend.Failure{Reason: backend.ErrNoImage, Err: err, Msg: fmt.Sprintf(
			"image %s can't be pulled: its registry doesn't have it, or doesn't show it to these credentials; check its name and tag, "+
				"push it to its registry, or check the credentials in registry", ref)}
	}
	return nil
}

// shorten shortens a registry's message so that it fits into a status.
func shorten(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// FetchMissing fetches an image that the engine doesn't have.
func (im *Images) FetchMissing(ctx context.Context, spec *structs.ContainerSpec, creds *structs.Registry, progress func(string)) error {
	if spec.PullPolicy == structs.PullNever {
		return errNever(spec.Image)
	}
	err := im.pullShared(ctx, spec.Image, creds, nil, progress)
	if err != nil && im.hasImage(ctx, spec.Image) {
		return nil // somebody has loaded it meanwhile
	}
	return err
}

// FetchImage fetches the image, unless it exists and the pull policy allows to use it. On an
// engine that projects share, the project has to have the right to it.
func (im *Images) FetchImage(ctx context.Context, project string, spec *structs.ContainerSpec, creds *structs.Registry,
	progress func(string)) error {
	if im.Guarded() {
		_, err := im.Resolve(ctx, Need{project, spec.Image, spec.PullPolicy, creds}, progress)
		return err
	}
	if spec.PullPolicy == structs.PullAlways {
		return im.PullImage(ctx, spec.Image, creds, progress)
	}
	missing := false
	err := im.engine.Read(ctx, engine.ReadTimeout, func(ctx context.Context) error {
		_, err := im.engine.Client.ImageInspect(ctx, spec.Image)
		if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
			missing = true
			return nil
		}
		return err
	})
	if err != nil || !missing {
		return err
	}
	return im.FetchMissing(ctx, spec, creds, progress)
}
