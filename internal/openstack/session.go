package openstack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/stackforge/magnum/structs"
)

// timeout limits one request to Keystone.
const timeout = time.Minute

// early is how long before its end a token is replaced. It covers a difference between the
// clocks, and an upload, which can't be repeated.
const early = 30 * time.Second

// Session is a login at Keystone. It logs in at the first use, and again when the token ends.
// It implements api.Credentials.
type Session struct {
	settings  *Settings
	transport http.RoundTripper
	now       func() time.Time

	lock  chan struct{} // is held while login is used; a login may take long, and waiting ends with its context
	login *login        // nil before the first one
}

// login is the result of a login.
type login struct {
	token   string
	expires time.Time
	catalog []tokens.CatalogEntry
}

// NewSession returns a session that has not logged in. wrap, which may be nil, wraps the
// transport of requests to Keystone.
func NewSession(s *Settings, wrap func(http.RoundTripper) http.RoundTripper) *Session {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	if s.tls != nil {
		transport.TLSClientConfig = s.tls.Clone()
	}
	session := &Session{settings: s, transport: transport, now: time.Now, lock: make(chan struct{}, 1)}
	if wrap != nil {
		session.transport = wrap(transport)
	}
	return session
}

// Token returns a token that is valid as far as is known: the last one, unless that ends
// soon or is refused, which a server says. CodeUnauthenticated: Keystone refuses the login,
// CodeUnavailable: it can't be reached, CodeInvalid: it does not understand the request.
func (s *Session) Token(ctx context.Context, refused string) (string, error) {
	l, err := s.current(ctx, refused)
	if err != nil {
		return "", err
	}
	return l.token, nil
}

// Address returns the URL of magnum's endpoint in the catalogue. CodeNotFound: there is none,
// CodeInvalid: the choice needs a region; and the codes of Token.
func (s *Session) Address(ctx context.Context) (string, error) {
	l, err := s.current(ctx, "")
	if err != nil {
		return "", err
	}
	return s.settings.endpoint(l.catalog)
}

// current returns the login, after another one if there is none, if its token ends soon, or
// if it is refused.
func (s *Session) current(ctx context.Context, refused string) (*login, error) {
	select {
	case s.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-s.lock }()
	switch {
	case s.login == nil:
	case refused == "" && s.now().Before(s.login.expires.Add(-early)):
		return s.login, nil
	case refused != "" && refused != s.login.token: // replaced meanwhile
		return s.login, nil
	}
	if _, given := s.settings.GivenToken(); given && s.login != nil {
		return s.login, nil // there is no other
	}
	l, err := s.settings.logIn(ctx, s.transport)
	if err != nil {
		return nil, err
	}
	if !l.expires.After(s.now().Add(early)) {
		// Keystone's tokens last shorter than that, or the clocks differ: replaced when refused.
		l.expires = s.now().Add(365 * 24 * time.Hour)
	}
	s.login = l
	return l, nil
}

// identity returns a client of Keystone's API without a token.
func (s *Settings) identity(transport http.RoundTripper) (*gophercloud.ServiceClient, error) {
	provider, err := openstack.NewClient(s.auth.IdentityEndpoint)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "%s: %v", s.named("auth_url"), err)
	}
	provider.HTTPClient = http.Client{Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &gophercloud.ServiceClient{ProviderClient: provider, Type: "identity",
		Endpoint: gophercloud.NormalizeURL(s.auth.IdentityEndpoint)}, nil
}

// logIn gets a token. A given token without another scope is only validated.
func (s *Settings) logIn(ctx context.Context, transport http.RoundTripper) (*login, error) {
	client, err := s.identity(transport)
	if err != nil {
		return nil, err
	}
	auth := s.auth
	l := new(login)
	var result interface {
		ExtractToken() (*tokens.Token, error)
		ExtractServiceCatalog() (*tokens.ServiceCatalog, error)
	}
	if _, given := s.GivenToken(); given {
		client.SetToken(auth.TokenID)
		got := tokens.Get(ctx, client, auth.TokenID)
		err, result = got.Err, got
	} else {
		made := tokens.Create(ctx, client, &auth)
		err, result = made.Err, made
	}
	if err != nil {
		return nil, s.refused(ctx, err)
	}
	token, err := result.ExtractToken()
	if err != nil || token.ID == "" && auth.TokenID == "" {
		return nil, structs.Errorf(structs.CodeInternal, "%s does not answer as Keystone v3 does: check %s", s.at(), s.named("auth_url"))
	}
	l.token, l.expires = orDefault(token.ID, auth.TokenID), token.ExpiresAt
	if catalog, err := result.ExtractServiceCatalog(); err == nil {
		l.catalog = catalog.Entries
	}
	return l, nil
}

// at names Keystone.
func (s *Settings) at() string { return "Keystone at " + printableURL(s.auth.IdentityEndpoint) }

// refused turns an error of gophercloud into one for users.
func (s *Settings) refused(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var answer gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &answer) {
		return structs.Errorf(structs.CodeUnavailable, "no answer from %s: %s. Check %s.", s.at(), reason(err), s.named("auth_url"))
	}
	switch answer.Actual {
	case http.StatusUnauthorized:
		return structs.Errorf(structs.CodeUnauthenticated, "%s refuses %s: %s", s.at(), s.who(), s.suspects())
	case http.StatusNotFound:
		if s.auth.TokenID != "" && strings.Contains(string(answer.Body), `"error"`) {
			return structs.Errorf(structs.CodeUnauthenticated, "%s does not know the token: %s", s.at(), s.suspects())
		}
		return structs.Errorf(structs.CodeInvalid, "there is no Keystone v3 at %s: check %s",
			printableURL(s.auth.IdentityEndpoint), s.named("auth_url"))
	case http.StatusBadRequest:
		return structs.Errorf(structs.CodeInvalid, "%s does not understand the login of %s: check the settings (%s)",
			s.at(), s.who(), s.from)
	}
	code := structs.CodeInternal
	if answer.Actual >= 500 || answer.Actual == http.StatusTooManyRequests {
		code = structs.CodeUnavailable
	}
	return structs.Errorf(code, "%s answered with status %d", s.at(), answer.Actual)
}

// suspects names the settings of which one is wrong if Keystone refuses a login. It does not
// say which.
func (s *Settings) suspects() string {
	a := s.auth
	switch {
	case a.TokenID != "":
		return "it has expired or was revoked, or is of another Keystone; get another one for " + s.named("token")
	case a.ApplicationCredentialID != "" || a.ApplicationCredentialName != "":
		return fmt.Sprintf("check %s and its ID; the credential may have expired, or was deleted", s.named("application_credential_secret"))
	}
	return fmt.Sprintf("check %s, the user's name and domain, and that it has a role in the project", s.named("password"))
}

// reason returns why there was no answer, without the URL, which may have a password.
func reason(err error) string {
	var op *net.OpError
	var dns *net.DNSError
	var verification *tls.CertificateVerificationError
	switch {
	case errors.As(err, &dns):
		return "there is no host " + dns.Name
	case errors.As(err, &verification):
		return "its certificate is not valid (" + verification.Err.Error() + "); OS_CACERT names a file with the certificate of its CA"
	case errors.As(err, &op) && op.Op == "dial":
		return "the connection failed (" + op.Err.Error() + ")"
	case errors.Is(err, context.DeadlineExceeded) || isTimeout(err):
		return fmt.Sprintf("none within %v", timeout)
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// endpoint returns the URL of magnum in a catalogue.
func (s *Settings) endpoint(catalog []tokens.CatalogEntry) (string, error) {
	var found []tokens.Endpoint
	var regions, faces []string // that exist, for errors
	for _, service := range catalog {
		if service.Type != ServiceType {
			continue
		}
		for _, e := range service.Endpoints {
			region := orDefault(e.RegionID, e.Region)
			if !slices.Contains(regions, region) {
				regions = append(regions, region)
			}
			if s.region != "" && s.region != region {
				continue
			}
			if !slices.Contains(faces, e.Interface) {
				faces = append(faces, e.Interface)
			}
			if e.Interface == s.face {
				found = append(found, e)
			}
		}
	}
	none := func(code structs.Code, format string, args ...any) error {
		return structs.Errorf(code, "the catalogue of %s has %s; MAGNUM_ADDR or -addr give magnum's address without the catalogue",
			s.at(), fmt.Sprintf(format, args...))
	}
	const kind = "endpoint of type " + ServiceType
	allRegions := strings.Join(regions, ", ")
	switch {
	case len(regions) == 0:
		return "", none(structs.CodeNotFound, "no %s: an administrator registers magnum with \"magnum keystone-setup\"", kind)
	case len(faces) == 0:
		return "", none(structs.CodeNotFound, "no %s in region %s, but in %s: choose with OS_REGION_NAME", kind, s.region, allRegions)
	case len(found) == 0:
		return "", none(structs.CodeNotFound, "no %s %s, but %s: choose with OS_INTERFACE", s.face, kind, strings.Join(faces, ", "))
	case s.region == "" && len(regions) > 1:
		return "", none(structs.CodeInvalid, "an %s in each of the regions %s: choose with OS_REGION_NAME", kind, allRegions)
	}
	return found[0].URL, nil
}

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

func orNone(text string) string { return orDefault(text, "none") }
