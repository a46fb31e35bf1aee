package keystone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/stackforge/magnum/structs"
)

// maxAnswer bounds the answers of Keystone in bytes. The largest is a login's, which has
// the catalogue.
const maxAnswer = 4 << 20

// The errors of client.validate.
var (
	errInvalid = errors.New("the token is not valid")
	errAway    = errors.New("the identity service can't be reached")
	errDenied  = errors.New("the identity service does not let the service user validate tokens")
)

// client calls Keystone as the service user.
type client struct {
	config   Config
	provider *gophercloud.ProviderClient
	identity *gophercloud.ServiceClient

	turn   chan struct{} // held during the first login
	logged bool          // the first login has succeeded; guarded by turn
}

// newClient returns a client. It reads the CA's file, and connects to nothing.
func newClient(c Config) (*client, error) {
	provider, err := openstack.NewClient(c.AuthURL)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "-keystone-auth-url: %w", err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, structs.Errorf(structs.CodeInvalid, "-keystone-cacert: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, structs.Errorf(structs.CodeInvalid, "-keystone-cacert: %s has no certificate in PEM", c.CACert)
		}
	}
	provider.HTTPClient = http.Client{
		Transport: bounded{&http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: min(c.Timeout, 5*time.Second)}).DialContext,
			TLSClientConfig:     conf,
			TLSHandshakeTimeout: c.Timeout,
			MaxIdleConnsPerHost: freshCalls + knownCalls,
			IdleConnTimeout:     time.Minute,
			ForceAttemptHTTP2:   true,
		}},
		// The service user's token goes to nobody but Keystone.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	provider.UserAgent.Prepend("magnum")
	identity := &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: provider.IdentityBase + "v3/", Type: "identity"}
	return &client{config: c, provider: provider, identity: identity, turn: make(chan struct{}, 1)}, nil
}

// bounded bounds the bodies of answers.
type bounded struct{ next http.RoundTripper }

// RoundTrip does the request.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// login logs in, unless that was done before. From then on gophercloud logs in again when
// Keystone refuses the service user's token: once for all calls that need it.
func (c *client) login(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errAway, ctx.Err())
	}
	if c.logged {
		return nil
	}
	err := openstack.AuthenticateV3(ctx, c.provider, &tokens.AuthOptions{
		IdentityEndpoint: c.config.AuthURL, Username: c.config.Username, Password: c.config.Password, DomainID: c.config.UserDomainID,
		AllowReauth: true, Scope: tokens.Scope{ProjectName: c.config.ProjectName, DomainID: c.config.ProjectDomainID},
	}, gophercloud.EndpointOpts{})
	if err != nil {
		return loginError(err)
	}
	c.logged = true
	return nil
}

// loginError returns the error of a login. Keystone says 401 for a wrong password, an
// unknown user and a missing role alike.
func loginError(err error) error {
	switch status := statusOf(err); status {
	case 0:
		return fmt.Errorf("%w: %w", errAway, err)
	case http.StatusUnauthorized:
		return fmt.Errorf("%w: it refuses its login (status 401): check user, password, project and domains", errDenied)
	default:
		return fmt.Errorf("%w: its login was answered with status %d", errAway, status)
	}
}

// validate asks Keystone for a token. Expired ones are valid too if expired is set. The
// error matches errInvalid, errAway or errDenied. It never has the body of an answer,
// because Keystone repeats tokens there.
func (c *client) validate(ctx context.Context, token string, expired bool) (*answer, error) {
	if err := c.login(ctx); err != nil {
		return nil, err
	}
	query := "?nocatalog=1"
	if expired {
		query += "&allow_expired=1"
	}
	var body json.RawMessage
	resp, err := c.identity.Get(ctx, c.identity.ServiceURL("auth", "tokens")+query, &body, &gophercloud.RequestOpts{
		OkCodes: []int{http.StatusOK},
		// Without the second header Keystone hides tokens with access rules.
		MoreHeaders: map[string]string{"X-Subject-Token": token, "OpenStack-Identity-Access-Rules": "1.0"},
	})
	if err == nil {
		resp.Body.Close()
		said, err := parseAnswer(body)
		if err != nil {
			return nil, fmt.Errorf("%w: its answer can't be read", errAway)
		}
		return said, nil
	}
	var relogin *gophercloud.ErrUnableToReauthenticate
	if errors.As(err, &relogin) {
		return nil, loginError(relogin.ErrReauth)
	}
	switch status := statusOf(err); {
	case status == 0:
		return nil, fmt.Errorf("%w: %w", errAway, err)
	case status == http.StatusNotFound, status == http.StatusBadRequest:
		return nil, errInvalid
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return nil, fmt.Errorf("%w: it answers with status %d: give %q the role service or admin in project %q", errDenied, status,
			c.config.Username, c.config.ProjectName)
	default:
		return nil, fmt.Errorf("%w: it answers with status %d", errAway, status)
	}
}

// statusOf returns the status of the answer that an error of gophercloud is about, 0 if
// there was no answer.
func statusOf(err error) int {
	var again *gophercloud.ErrErrorAfterReauthentication
	if errors.As(err, &again) {
		err = again.ErrOriginal
	}
	var unexpected gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &unexpected) {
		return unexpected.Actual
	}
	return 0
}

// endpoints returns how many services of type container the catalogue has, and the URLs of their
// public endpoints in the configuration's region.
func (c *client) endpoints() (services int, urls []string) {
	result, ok := c.provider.GetAuthResult().(tokens.CreateResult)
	if !ok {
		return 0, nil
	}
	catalog, err := result.ExtractServiceCatalog()
	if err != nil {
		return 0, nil
	}
	for _, service := range catalog.Entries {
		if service.Type != "container" {
			continue
		}
		services++
		for _, e := range service.Endpoints {
			if e.Interface == "public" && (c.config.Region == "" || strings.EqualFold(e.RegionID, c.config.Region)) {
				urls = append(urls, e.URL)
			}
		}
	}
	return services, urls
}
