// Package kubetest connects tests to the real Kubernetes that
// scripts/peers/kubernetes-up starts. Tests with the build tag kubernetes call it;
// production code never does. It speaks plain HTTP, and so shows what the API server
// itself says, whatever client the code under test uses.
package kubetest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Image is the busybox image that both nodes have. The nodes reach no registry: pods
// with it need an image pull policy other than Always.
const Image = "magnum-test/busybox:latest"

// patience bounds waits for what must happen but has no promised speed: the machine may
// be busy.
const patience = 2 * time.Minute

// Cluster is a running Kubernetes, as its administrator sees it.
type Cluster struct {
	Dir   string // the state directory: admin.conf, bin, pids, log
	URL   string // of the API server
	token string
	http  *http.Client
}

// Open connects to the cluster whose state directory MAGNUM_KUBERNETES names. The test
// fails without one.
func Open(t testing.TB) *Cluster {
	t.Helper()
	c, err := load(os.Getenv("MAGNUM_KUBERNETES"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.raw(t.Context(), http.MethodGet, "/readyz", nil); err != nil {
		t.Fatalf("no Kubernetes answers at %s, start it again with scripts/peers/kubernetes-up %s: %v", c.URL, c.Dir, err)
	}
	return c
}

// Connect returns the cluster with a state directory. It asks nothing of the cluster.
func Connect(dir string) (*Cluster, error) { return load(dir) }

// RunPod creates a pod, and watches until it runs.
func (c *Cluster) RunPod(ctx context.Context, namespace string, pod *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pods, made := "/api/v1/namespaces/"+namespace+"/pods", &corev1.Pod{}
	if err := c.Do(ctx, http.MethodPost, pods, pod, made); err != nil {
		return err
	}
	for version := made.ResourceVersion; ; {
		runs, err := c.watch(ctx, pods+"?fieldSelector=metadata.name%3D"+made.Name+"&watch=1&resourceVersion="+version,
			func(object json.RawMessage, gone bool) (bool, error) {
				seen := &corev1.Pod{}
				if err := json.Unmarshal(object, seen); err != nil {
					return false, err
				}
				version = seen.ResourceVersion
				if gone || seen.Status.Phase == corev1.PodFailed {
					return false, fmt.Errorf("pod %s of %s does not run: %s", made.Name, namespace, object)
				}
				return seen.Status.Phase == corev1.PodRunning, nil
			})
		if runs || err != nil {
			return err
		}
	}
}

// load reads the cluster's admin.conf, which is JSON.
func load(dir string) (*Cluster, error) {
	const help = "run `make test-kubernetes`, or `scripts/peers/kubernetes-up DIR` and set MAGNUM_KUBERNETES=DIR (an absolute path)"
	if dir == "" {
		return nil, errors.New("MAGNUM_KUBERNETES does not name the directory of the Kubernetes to test with: " + help)
	}
	content, err := os.ReadFile(filepath.Join(dir, "admin.conf"))
	if err != nil {
		return nil, fmt.Errorf("MAGNUM_KUBERNETES=%s is not the directory of a Kubernetes: %w: %s", dir, err, help)
	}
	var conf struct {
		Clusters []struct {
			Cluster struct {
				Server string `json:"server"`
				CA     []byte `json:"certificate-authority-data"`
			} `json:"cluster"`
		} `json:"clusters"`
		Users []struct {
			User struct {
				Token string `json:"token"`
			} `json:"user"`
		} `json:"users"`
	}
	if err := json.Unmarshal(content, &conf); err != nil {
		return nil, fmt.Errorf("%s/admin.conf: %w", dir, err)
	}
	if len(conf.Clusters) != 1 || len(conf.Users) != 1 {
		return nil, fmt.Errorf("%s/admin.conf: %d clusters and %d users, want one of each", dir, len(conf.Clusters), len(conf.Users))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(conf.Clusters[0].Cluster.CA) {
		return nil, fmt.Errorf("%s/admin.conf: no certificate in certificate-authority-data", dir)
	}
	// WebSockets need HTTP/1.1, which a transport with a TLS configuration of its own speaks.
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	return &Cluster{
		Dir:   dir,
		URL:   conf.Clusters[0].Cluster.Server,
		token: conf.Users[0].User.Token,
		http:  &http.Client{Transport: transport},
	}, nil
}

// Do sends a request with a JSON body and decodes the answer. Without in there is no
// body, without out the answer is dropped. A refusal is an *apierrors.StatusError.
func (c *Cluster) Do(ctx context.Context, method, path string, in, out any) error {
	body, err := c.raw(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(body, out)
}

func (c *Cluster) raw(ctx context.Context, method, path string, in any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := c.open(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	return io.ReadAll(answer)
}

// open sends a request and returns the body of the answer, unless that is a refusal.
func (c *Cluster) open(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	refusal := &apierrors.StatusError{}
	if json.Unmarshal(text, &refusal.ErrStatus) != nil || refusal.ErrStatus.Kind != "Status" {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return nil, refusal
}

// Namespace makes a namespace in which pods can be created, and deletes it with all in
// it when the test ends.
func (c *Cluster) Namespace(t testing.TB) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "kubetest-"}}
	if err := c.Do(t.Context(), http.MethodPost, "/api/v1/namespaces", ns, ns); err != nil {
		t.Fatalf("create a namespace: %v", err)
	}
	t.Cleanup(func() {
		// The test's context has ended.
		if err := c.Do(context.Background(), http.MethodDelete, "/api/v1/namespaces/"+ns.Name, nil, nil); err != nil {
			t.Errorf("delete namespace %s: %v", ns.Name, err)
		}
	})
	// Pods are refused until then.
	Await(t, c, "/api/v1/namespaces/"+ns.Name+"/serviceaccounts", "default", "exists", func(a *corev1.ServiceAccount) bool {
		return a != nil
	})
	return ns.Name
}

// Await waits until an object of a collection, such as /api/v1/nodes, fulfills the
// condition, and returns the object. The condition gets nil while there is none. The
// test fails when that takes longer than anything should.
func Await[T any](t testing.TB, c *Cluster, collection, name, condition string, fulfilled func(*T) bool) *T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var last *T
	// see decodes an object, unless it is gone.
	see := func(object json.RawMessage, gone bool) (bool, error) {
		last = nil
		if !gone {
			last = new(T)
			if err := json.Unmarshal(object, last); err != nil {
				return false, err
			}
		}
		return fulfilled(last), nil
	}
	for {
		done, err := c.follow(ctx, collection, name, see)
		if done {
			return last
		}
		if err != nil {
			shown, _ := json.Marshal(last)
			t.Fatalf("%s of %s is not so: %s: %v: %s", name, collection, condition, err, shown)
		}
	}
}

// follow shows an object and then its changes until see is content. It ends without an
// error when the watch has to begin again.
func (c *Cluster) follow(ctx context.Context, collection, name string, see func(json.RawMessage, bool) (bool, error)) (bool, error) {
	var list struct {
		metav1.ListMeta `json:"metadata"`
		Items           []json.RawMessage `json:"items"`
	}
	selected := collection + "?fieldSelector=metadata.name%3D" + name
	if err := c.Do(ctx, http.MethodGet, selected, nil, &list); err != nil {
		return false, err
	}
	var first json.RawMessage
	if len(list.Items) > 0 {
		first = list.Items[0]
	}
	if done, err := see(first, first == nil); done || err != nil {
		return done, err
	}
	return c.watch(ctx, selected+"&watch=1&resourceVersion="+list.ResourceVersion, see)
}

// watch shows the changes of a watch until see is content. It ends without an error when the
// watch has to begin again.
func (c *Cluster) watch(ctx context.Context, path string, see func(json.RawMessage, bool) (bool, error)) (bool, error) {
	stream, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return false, err
	}
	defer stream.Close()
	for events := json.NewDecoder(stream); ; {
		var event struct {
			Type   string          `json:"type"`
			Object json.RawMessage `json:"object"`
		}
		if err := events.Decode(&event); err != nil || event.Type == "ERROR" {
			return false, ctx.Err() // else the API server has ended it
		}
		if done, err := see(event.Object, event.Type == "DELETED"); done || err != nil {
			return done, err
		}
	}
}

// Logs returns what a container of a pod has written.
func (c *Cluster) Logs(t testing.TB, namespace, pod, container string) string {
	t.Helper()
	text, err := c.raw(t.Context(), http.MethodGet, podPath(namespace, pod)+"/log?container="+container, nil)
	if err != nil {
		t.Fatalf("logs of %s: %v", pod, err)
	}
	return string(text)
}

func podPath(namespace, pod string) string {
	return strings.Join([]string{"/api/v1/namespaces", namespace, "pods", pod}, "/")
}
