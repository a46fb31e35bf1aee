// Package console lets users look into the pods of a Kubernetes cluster and work inside them:
// logs, commands, attachments, copies and connections to ports, all through the cluster's
// API. It implements backend.Consoles and backend.Forwards.
//
// Package kubernetes is the only caller. The package never changes an object. An engine's ID
// names a container as NAMESPACE/POD/UID/CONTAINER. A pod of the same name and another UID is
// another pod.
package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/stackforge/magnum/agent/backend"
)

// Consoles works through the API of one cluster.
type Consoles struct {
	base *url.URL // of the API server
	http *http.Client
	log  hclog.Logger
}

// New returns the consoles of a cluster. It doesn't connect. The logger may be nil.
func New(conf *rest.Config, log hclog.Logger) (*Consoles, error) {
	conf = rest.CopyConfig(conf)
	conf.Timeout = 0                                       // a session goes on for as long as its user wants
	conf.TLSClientConfig.NextProtos = []string{"http/1.1"} // WebSockets need it
	client, err := rest.HTTPClientFor(conf)
	if err != nil {
		return nil, fmt.Errorf("the client of the cluster's API: %w", err)
	}
	secure := len(conf.TLSClientConfig.CAFile) > 0 || len(conf.TLSClientConfig.CAData) > 0 || conf.TLSClientConfig.Insecure
	base, _, err := rest.DefaultServerURL(conf.Host, "/api", schema.GroupVersion{Version: "v1"}, secure)
	if err != nil {
		return nil, fmt.Errorf("the address of the cluster's API: %w", err)
	}
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Consoles{base: base, http: client, log: log}, nil
}

// target is a container of a pod.
type target struct {
	namespace, pod, uid, container string
}

// parseID reads an engine's ID. ErrNotFound: what isn't one names no container.
func parseID(engineID string) (target, error) {
	parts := strings.Split(engineID, "/")
	const fields = 4
	if len(parts) != fields {
		return target{}, notFound()
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." {
			return target{}, notFound()
		}
	}
	return target{namespace: parts[0], pod: parts[1], uid: parts[2], container: parts[3]}, nil
}

func notFound() error {
	return &backend.Failure{Reason: backend.ErrNotFound, Msg: "the cluster no longer has this pod; its status says more"}
}

// url returns the URL of the pod's subresource; of the pod with "".
func (cs *Consoles) url(t target, subresource string, query url.Values) string {
	u := cs.base.JoinPath("api", "v1", "namespaces", t.namespace, "pods", t.pod, subresource)
	u.RawQuery = query.Encode()
	return u.String()
}

// callLimit bounds a call that answers at once.
const callLimit = 20 * time.Second

// maxStatus bounds an answer that is read as a whole, in bytes.
const maxStatus = 8 << 20

// open sends a GET request and returns the body of its answer. A refusal is an
// *apierrors.StatusError.
func (cs *Consoles) open(ctx context.Context, address string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, */*")
	resp, err := cs.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, refusal(resp)
}

// refusal returns the error of an answer that is none of success.
func refusal(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return err
	}
	refused := &apierrors.StatusError{}
	if json.Unmarshal(body, &refused.ErrStatus) == nil && refused.ErrStatus.Kind == "Status" {
		return refused
	}
	refused.ErrStatus = metav1.Status{Status: metav1.StatusFailure, Code: int32(resp.StatusCode),
		Message: strings.TrimSpace(resp.Status + ": " + string(bytes.TrimSpace(body[:min(len(body), 1024)])))}
	return refused
}

// look returns the pod of a target. ErrNotFound if it is another one by now.
func (cs *Consoles) look(ctx context.Context, t target) (*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	body, err := cs.open(ctx, cs.url(t, "", nil))
	if err != nil {
		return nil, failure(err)
	}
	defer body.Close()
	pod := new(corev1.Pod)
	if err := json.NewDecoder(io.LimitReader(body, maxStatus)).Decode(pod); err != nil {
		return nil, failure(err)
	}
	if string(pod.UID) != t.uid {
		return nil, notFound()
	}
	return pod, nil
}

// failure converts an error of a call to the API. The cluster's words are kept.
func failure(err error) error {
	var known *backend.Failure
	var refused *apierrors.StatusError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case !errors.As(err, &refused):
		return &backend.Failure{Reason: backend.ErrAway, Msg: "the cluster's API does not answer: " + err.Error(), Err: err}
	}
	f := &backend.Failure{Msg: "the cluster answers: " + refused.ErrStatus.Message, Err: err}
	switch text := refused.ErrStatus.Message; {
	case strings.Contains(text, "previous terminated container"):
		f.Reason = backend.ErrNotFound
		f.Msg = "the cluster keeps no container from before the last restart; leave out previous to read the present one's log"
	case strings.Contains(text, "waiting to start"), strings.Contains(text, "container not found"),
		strings.Contains(text, "does not have a host assigned"), strings.Contains(text, "is not running"):
		f.Reason = backend.ErrNotRunning
	case refused.ErrStatus.Code == http.StatusNotFound:
		f.Reason = backend.ErrNotFound
	case refused.ErrStatus.Code == http.StatusBadRequest, refused.ErrStatus.Code == http.StatusForbidden,
		refused.ErrStatus.Code == http.StatusUnprocessableEntity:
		f.Reason = backend.ErrInvalid
	case refused.ErrStatus.Code == http.StatusServiceUnavailable, refused.ErrStatus.Code == http.StatusGatewayTimeout,
		refused.ErrStatus.Code == http.StatusTooManyRequests:
		f.Reason = backend.ErrAway
	}
	return f
}
