// Package registry asks registries whether a user may pull an image, and which image a name
// means there. It speaks the pull part of the distribution specification, and fetches
// manifests and configurations only: the engine fetches layers.
//
// agent/docker/images calls it. It keeps no state, and knows no engine and no projects.
package registry

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/stackforge/magnum/structs"
)

// Limits of what a registry may answer, and how long it may take.
const (
	maxManifest = 4 << 20 // bytes
	maxConfig   = 8 << 20 // bytes
	maxToken    = 1 << 20 // bytes
	maxOthers   = 16      // platforms of a list that are looked at beside this machine's
	patience    = 30 * time.Second
)

// Errors of Resolve.
var (
	ErrRefused    = errors.New("the registry refuses these credentials")
	ErrNone       = errors.New("the registry has no such image")
	ErrSilent     = errors.New("the registry doesn't answer as one")
	ErrNotAllowed = errors.New("the registry is not one that may be used")
)

// Client asks registries. The zero value asks any that is public. All methods are safe for
// concurrent use.
type Client struct {
	Rules Rules
	// Insecure says that a registry, host or host:port, may have no valid certificate or no
	// TLS at all. nil means none but those on loopback.
	Insecure func(ctx context.Context, host string) bool
}

// Image is an image in a registry, as far as its user may know it.
type Image struct {
	Digest string   // of its manifest, or of its list of manifests
	IDs    []string // the IDs that an engine may give it: digests of its configurations and manifests
}

// Is reports whether an engine's image is this one.
func (i *Image) Is(id string) bool { return slices.Contains(i.IDs, id) }

// Resolve asks the registry of a valid image reference what it means. The user has shown
// that the registry gives them manifest and configuration, whose digests were checked.
// Otherwise the error is ErrRefused, ErrNone, ErrSilent with the cause, ErrNotAllowed, or
// ctx's.
func (c *Client) Resolve(ctx context.Context, ref string, creds *structs.Registry) (*Image, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	host := reference.Domain(named)
	if err := c.Rules.Check(ctx, host); err != nil {
		return nil, err
	}
	s := &session{creds: creds, path: reference.Path(named)}
	s.client = &http.Client{Transport: c.transport(ctx, host), CheckRedirect: limitRedirects}
	defer s.client.CloseIdleConnections()
	for _, base := range c.bases(ctx, host) {
		s.base, s.auth = base, ""
		img, err := s.resolve(ctx, versionOf(named))
		if !errors.Is(err, ErrSilent) || ctx.Err() != nil {
			return img, err
		}
		s.silent = err
	}
	return nil, s.silent
}

// versionOf returns the digest or tag of a reference.
func versionOf(named reference.Named) string {
	switch r := reference.TagNameOnly(named).(type) {
	case reference.Digested:
		return r.Digest().String()
	case reference.Tagged:
		return r.Tag()
	}
	return "latest"
}

// hub is where the engine finds the images of docker.io.
const hub = "registry-1.docker.io"

// bases returns the URLs at which a registry may be, in the order of preference.
func (c *Client) bases(ctx context.Context, host string) []string {
	if host == "docker.io" {
		host = hub
	}
	if c.insecure(ctx, host) {
		return []string{"https://" + host, "http://" + host}
	}
	return []string{"https://" + host}
}

func (c *Client) insecure(ctx context.Context, host string) bool {
	return isLoopback(host) || c.Insecure != nil && c.Insecure(ctx, host)
}

func (c *Client) transport(ctx context.Context, host string) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = c.Rules.dialer(host).DialContext
	if c.insecure(ctx, host) {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // as the engine's operator has allowed
	} else {
		t.TLSClientConfig = certsOf(host)
	}
	return t
}

func limitRedirects(_ *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return errors.New("too many redirects")
	}
	return nil
}

// session is the conversation with one registry about one image.
type session struct {
	client *http.Client
	creds  *structs.Registry // nil for none
	base   string            // URL without a path
	path   string            // name of the repository
	auth   string            // value of the Authorization header; "" for none
	silent error             // of the base that was tried before
}

// The media types of manifests and lists of them.
var accepted = []string{
	"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
	"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.distribution.manifest.list.v2+json",
}

// manifest is what a manifest or a list of manifests has.
type manifest struct {
	Config    *descriptor `json:"config"`
	Manifests []struct {
		descriptor
		Platform struct {
			OS           string `json:"os"`
			Architecture string `json:"architecture"`
		} `json:"platform"`
	} `json:"manifests"`
}

type descriptor struct {
	Digest string `json:"digest"`
}

// resolve returns the image of a tag or digest.
func (s *session) resolve(ctx context.Context, version string) (*Image, error) {
	top, digest, err := s.manifest(ctx, version)
	if err != nil {
		return nil, err
	}
	img := &Image{Digest: digest, IDs: []string{digest}}
	if top.Config != nil {
		return img, s.config(ctx, img, top.Config.Digest)
	}
	var first, others []string
	for _, m := range top.Manifests {
		switch {
		case m.Platform.OS == runtime.GOOS && m.Platform.Architecture == runtime.GOARCH:
			first = append(first, m.Digest)
		case len(others) < maxOthers && m.Platform.OS == runtime.GOOS:
			others = append(others, m.Digest)
		}
	}
	if len(first) == 0 {
		first = others
	}
	for _, digest := range first {
		if !digestFormat.MatchString(digest) {
			return nil, fmt.Errorf("%w: its list of manifests is damaged", ErrSilent)
		}
		one, digest, err := s.manifest(ctx, digest)
		if err != nil {
			return nil, err
		}
		img.IDs = append(img.IDs, digest)
		if one.Config == nil {
			continue
		}
		if err := s.config(ctx, img, one.Config.Digest); err != nil {
			return nil, err
		}
	}
	return img, nil
}

// manifest returns a manifest and its digest.
func (s *session) manifest(ctx context.Context, version string) (*manifest, string, error) {
	body, digest, err := s.get(ctx, "/manifests/"+version, maxManifest)
	if err != nil {
		return nil, "", err
	}
	m := new(manifest)
	if json.Unmarshal(body, m) != nil || strings.HasPrefix(version, "sha256:") && version != digest {
		return nil, "", fmt.Errorf("%w: its manifest is damaged", ErrSilent)
	}
	return m, digest, nil
}

// config adds the digest of a configuration, which the registry has to have: a manifest
// alone may name anything.
func (s *session) config(ctx context.Context, img *Image, digest string) error {
	if !digestFormat.MatchString(digest) {
		return fmt.Errorf("%w: its manifest is damaged", ErrSilent)
	}
	_, got, err := s.get(ctx, "/blobs/"+digest, maxConfig)
	if err != nil {
		return err
	}
	if got != digest {
		return fmt.Errorf("%w: a configuration is not what its manifest says", ErrSilent)
	}
	img.IDs = append(img.IDs, digest)
	return nil
}

var digestFormat = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// get returns the body of a GET below the repository, and its digest.
func (s *session) get(ctx context.Context, path string, most int64) (body []byte, digest string, err error) {
	for try := 0; ; try++ {
		resp, err := s.ask(ctx, s.base+"/v2/"+s.path+path, s.auth)
		if err != nil {
			return nil, "", err
		}
		body, err := read(resp, most)
		switch {
		case err != nil:
			return nil, "", err
		case resp.StatusCode == http.StatusOK:
			sum := sha256.Sum256(body)
			return body, "sha256:" + hex.EncodeToString(sum[:]), nil
		case resp.StatusCode == http.StatusUnauthorized && try == 0:
			if err := s.authorize(ctx, resp.Header.Values("Www-Authenticate")); err != nil {
				return nil, "", err
			}
		case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
			return nil, "", ErrRefused
		case resp.StatusCode == http.StatusNotFound:
			return nil, "", ErrNone
		default:
			return nil, "", fmt.Errorf("%w: it answers %s", ErrSilent, resp.Status)
		}
	}
}

// ask makes one call.
func (s *session) ask(ctx context.Context, address, auth string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	req.Header["Accept"] = accepted
	if auth != "" {
		req.Header.Set("Authorization", auth)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	return resp, nil
}

func read(resp *http.Response, most int64) ([]byte, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSilent, err)
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("%w: it sends more than %d bytes", ErrSilent, most)
	}
	return body, nil
}

// authorize does what a registry's challenge asks for.
func (s *session) authorize(ctx context.Context, challenges []string) error {
	for _, text := range challenges {
		scheme, params := parseChallenge(text)
		switch {
		case scheme == "basic" && s.creds != nil:
			s.auth = basic(s.creds)
			return nil
		case scheme == "bearer" && params["realm"] != "":
			token, err := s.token(ctx, params)
			if err == nil {
				s.auth = "Bearer " + token
			}
			return err
		}
	}
	return ErrRefused
}

// token fetches a token for pulling from the repository.
func (s *session) token(ctx context.Context, params map[string]string) (string, error) {
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Scheme != "https" && (realm.Scheme != "http" || !strings.HasPrefix(s.base, "http:")) {
		return "", fmt.Errorf("%w: its realm is no URL with TLS", ErrSilent)
	}
	query := realm.Query()
	if service := params["service"]; service != "" {
		query.Set("service", service)
	}
	query.Set("scope", "repository:"+s.path+":pull")
	realm.RawQuery = query.Encode()
	auth := ""
	if s.creds != nil {
		auth = basic(s.creds)
	}
	resp, err := s.ask(ctx, realm.String(), auth)
	if err != nil {
		return "", err
	}
	body, err := read(resp, maxToken)
	if err != nil {
		return "", err
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return "", ErrRefused
	case resp.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil || answer.Token+answer.AccessToken == "":
		return "", fmt.Errorf("%w: it gives no token, but %s", ErrSilent, resp.Status)
	case answer.Token == "":
		return answer.AccessToken, nil
	}
	return answer.Token, nil
}

func basic(creds *structs.Registry) string {
	req := http.Request{Header: make(http.Header)}
	req.SetBasicAuth(creds.Username, creds.Password)
	return req.Header.Get("Authorization")
}

// challengeParam is a parameter of a challenge: key=value or key="value".
var challengeParam = regexp.MustCompile(`([a-zA-Z_]+)=(?:"([^"]*)"|([^", ]+))`)

// parseChallenge reads a WWW-Authenticate header with one challenge.
func parseChallenge(text string) (scheme string, params map[string]string) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	params = make(map[string]string)
	for _, m := range challengeParam.FindAllStringSubmatch(rest, -1) {
		params[strings.ToLower(m[1])] = m[2] + m[3]
	}
	return strings.ToLower(scheme), params
}
