// Package fetch fetches manifests by URL for users. Users choose the URL, so the package
// keeps them from reaching through the server what only the server can reach: it speaks
// http and https to public addresses only, and bounds time, size and redirects.
//
// The address is checked when a connection is made, after names are resolved: a name
// that resolves differently the second time changes nothing. The package keeps nothing,
// and knows nothing of what the text means.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/stackforge/magnum/structs"
)

const (
	maxTime      = 10 * time.Second // for all of it
	maxRedirects = 5
	maxHeader    = 64 << 10 // bytes of an answer's header
)

// Manifest fetches a text. The addresses of its host, and of those that it redirects to,
// must be public or in one of the allowed networks. Errors are CodeInvalid, begin with
// manifest_url and name the host, unless ctx has ended.
func Manifest(ctx context.Context, address string, allow ...netip.Prefix) (string, error) {
	f := fetcher{allow: allow}
	return f.manifest(ctx, address)
}

// fetcher fetches one text.
type fetcher struct {
	allow    []netip.Prefix
	resolver *net.Resolver                                                        // nil means the system's
	dial     func(ctx context.Context, network, address string) (net.Conn, error) // of tests; nil means one that checks addresses
}

func (f *fetcher) manifest(parent context.Context, address string) (string, error) {
	if err := structs.CheckLine("manifest_url", address, structs.MaxText); err != nil {
		return "", err
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", refuse("is not a URL: write it as https://HOST/PATH")
	}
	if err := checkURL(u); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(parent, maxTime)
	defer cancel()
	text, err := f.get(ctx, u)
	var refusal *structs.Error
	var dns *net.DNSError
	switch {
	case err == nil:
		return text, nil
	case parent.Err() != nil:
		return "", parent.Err()
	case errors.As(err, &refusal):
		return "", refusal
	case ctx.Err() != nil:
		return "", refuse("%s has not answered within %s: try again, or send the text as manifest", u.Host, maxTime)
	case errors.As(err, &dns):
		return "", refuse("host %s is not found: check its name, or send the text as manifest", u.Hostname())
	}
	return "", refuse("%s can't be read: %v: try again, or send the text as manifest", u.Host, cause(err))
}

// refuse returns a CodeInvalid about the URL. The URL itself may hold a secret.
func refuse(format string, args ...any) *structs.Error {
	return structs.Errorf(structs.CodeInvalid, "manifest_url: %s", fmt.Sprintf(format, args...))
}

// cause returns an error without the URL that net/http puts before it.
func cause(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// checkURL checks what can be seen of a URL.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("the scheme %.32q is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return refuse("names no host: write it as https://HOST/PATH")
	case u.User != nil:
		return refuse("names a user of %s: fetch the text yourself and send it as manifest", u.Host)
	}
	return nil
}

// get fetches a text, which may take several requests.
func (f *fetcher) get(ctx context.Context, u *url.URL) (string, error) {
	dial := f.dial
	if dial == nil {
		dial = (&net.Dialer{Control: f.control, Resolver: f.resolver}).DialContext
	}
	client := http.Client{
		Transport: &http.Transport{
			Proxy:                  nil, // a proxy would dial for the user
			DialContext:            dial,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return refuse("%s redirects more than %d times: give the URL of the file itself", u.Host, maxRedirects)
			}
			req.Header.Del("Referer") // it holds the URL before
			return checkURL(req.URL)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", refuse("is not a URL: write it as https://HOST/PATH")
	}
	req.Header.Set("User-Agent", "magnum")
	req.Header.Set("Accept", "application/yaml, application/json, text/plain, */*;q=0.5")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	host := resp.Request.URL.Host // after redirects
	if resp.StatusCode != http.StatusOK {
		return "", refuse("%s answered %d %s: check the path, or send the text as manifest",
			host, resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return "", refuse("%s answered with a web page: give the URL of the file itself", host)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, structs.MaxManifest+1))
	switch {
	case err != nil:
		return "", err
	case len(body) > structs.MaxManifest:
		return "", refuse("the text of %s has more than %d bytes", host, structs.MaxManifest)
	case !utf8.Valid(body) || strings.IndexByte(string(body), 0) >= 0:
		return "", refuse("%s answered with something that isn't UTF-8 text: give the URL of a manifest", host)
	}
	return string(body), nil
}

// control checks an address that is about to be connected to.
func (f *fetcher) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	addr := to.Addr().Unmap().WithZone("")
	for _, prefix := range f.allow {
		if prefix.Contains(addr) {
			return nil
		}
	}
	if !isPublic(addr) {
		// The address stays untold: it may come from a resolver that users don't have.
		return refuse("the host isn't at a public address, and no other is fetched from: send the text as manifest")
	}
	return nil
}

// special are networks whose addresses netip takes for global ones, although they lead
// to other networks, to machines nearby, or nowhere.
var special = func() []netip.Prefix {
	var all []netip.Prefix
	for _, s := range []string{
		"0.0.0.0/8",        // this network
		"100.64.0.0/10",    // carrier-grade NAT; metadata of Alibaba's cloud
		"168.63.129.16/32", // metadata of Azure
		"192.0.0.0/24",     // protocols of the IETF; metadata of Oracle's cloud
		"192.0.2.0/24",     // documentation
		"192.88.99.0/24",   // relays of 6to4
		"198.18.0.0/15",    // benchmarks
		"198.51.100.0/24",  // documentation
		"203.0.113.0/24",   // documentation
		"240.0.0.0/4",      // reserved, broadcast
		"2001::/23",        // protocols of the IETF; Teredo, with an IPv4 address
		"2001:db8::/32",    // documentation
		"2002::/16",        // 6to4, with an IPv4 address
		"3fff::/20",        // documentation
	} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}()

// global6 is what is assigned of IPv6. Outside are loopback, link-local and unique local
// addresses, and the forms of IPv4 addresses: mapped, compatible, and those of NAT64.
var global6 = netip.MustParsePrefix("2000::/3")

// isPublic reports whether an address is one host's of the public Internet.
func isPublic(addr netip.Addr) bool {
	if !addr.IsGlobalUnicast() || addr.IsPrivate() || addr.Is6() && !global6.Contains(addr) {
		return false
	}
	for _, prefix := range special {
		if prefix.Contains(addr) {
			return false
		}
	}
	return true
}
