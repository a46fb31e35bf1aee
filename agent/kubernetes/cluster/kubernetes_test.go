//go:build kubernetes

package cluster

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/structs"
)

// aged is a transport that can end the watches of services, as an API server does from time to
// time, and have the next one begin at the oldest version there is.
type aged struct {
	http.RoundTripper

	mu      sync.Mutex
	ends    []func()      // end the watches
	held    chan struct{} // closed once watches may begin again; nil if they may
	old     bool
	answers []string // of the watches that began at the oldest version
}

func (a *aged) RoundTrip(r *http.Request) (*http.Response, error) {
	query := r.URL.Query()
	if !strings.HasSuffix(r.URL.Path, "/services") || query.Get("watch") == "" {
		return a.RoundTripper.RoundTrip(r)
	}
	a.mu.Lock()
	held := a.held
	a.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	a.mu.Lock()
	old := a.old && query.Get("sendInitialEvents") == ""
	if old {
		a.old = false
	}
	a.mu.Unlock()
	if old {
		r = r.Clone(r.Context())
		query.Set("resourceVersion", "1")
		r.URL.RawQuery = query.Encode()
		r.Header.Set("Accept", "application/json") // to be read here
	}
	resp, err := a.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, first := io.Reader(resp.Body), ""
	if old {
		lines := bufio.NewReader(resp.Body)
		first, _ = lines.ReadString('\n')
		body = io.MultiReader(strings.NewReader(first), lines)
	}
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, body)
		in.CloseWithError(err)
	}()
	a.mu.Lock()
	defer a.mu.Unlock()
	if old {
		a.answers = append(a.answers, first)
	}
	a.ends = append(a.ends, func() { in.Close() })
	resp.Body = &piped{out, resp.Body}
	return resp, nil
}

// piped is the body of a watch.
type piped struct {
	*io.PipeReader
	from io.Closer
}

func (p *piped) Close() error {
	_ = p.PipeReader.Close()
	return p.from.Close()
}

// cutAll ends the watches, and lets none begin until release is called.
func (a *aged) cutAll() (release func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := make(chan struct{})
	a.held = held
	for _, end := range a.ends {
		end()
	}
	a.ends = nil
	return func() {
		a.mu.Lock()
		a.held, a.old = nil, true
		a.mu.Unlock()
		close(held)
	}
}

// services is a sink that has what the watch of services shows.
type services struct {
	mu    sync.Mutex
	names []string
	lists int
}

func (s *services) Replace(kind Object, objects []Object, _ string) {
	if _, ok := kind.(*corev1.Service); !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lists++
	s.names = nil
	for _, o := range objects {
		s.names = append(s.names, o.GetName())
	}
}

func (s *services) See(o Object) {
	if _, ok := o.(*corev1.Service); !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.names, o.GetName()) {
		s.names = append(s.names, o.GetName())
	}
}

func (s *services) Unsee(o Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = slices.DeleteFunc(s.names, func(name string) bool { return name == o.GetName() })
}

func (s *services) Away(error)            {}
func (s *services) Back()                 {}
func (s *services) Trouble(Object, error) {}

// until waits until the services are as wanted, and returns how often they were listed.
func (s *services) until(t *testing.T, want ...string) (lists int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s.mu.Lock()
		slices.Sort(s.names)
		names, lists := slices.Clone(s.names), s.lists
		s.mu.Unlock()
		if slices.Equal(names, want) {
			return lists
		}
		if time.Now().After(deadline) {
			t.Fatalf("the services are %v, want %v", names, want)
		}
	}
}

// TestWatchTooOldOfARealAPI: while a watch is cut, objects come and go. The real API refuses to
// go on where it ended, and nothing of that is missed.
func TestWatchTooOldOfARealAPI(t *testing.T) {
	k := kubetest.Open(t)
	// Its cache of a new cluster reaches back to the beginning, that of a new process doesn't.
	k.Signal(t, "kube-apiserver", syscall.SIGKILL)
	k.Up(t)
	namespace, label := k.Namespace(t), structs.NewID()
	path := "/api/v1/namespaces/" + namespace + "/services"
	create := func(name string) {
		t.Helper()
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"magnum.cluster": label}},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		if err := k.Do(t.Context(), http.MethodPost, path, s, nil); err != nil {
			t.Fatal(err)
		}
	}
	create("kept")
	create("dropped")

	conf, err := Load(k.Dir + "/admin.conf")
	if err != nil {
		t.Fatal(err)
	}
	way := &aged{}
	conf.WrapTransport = func(rt http.RoundTripper) http.RoundTripper { way.RoundTripper = rt; return way }
	c, err := New(Config{Rest: conf})
	if err != nil {
		t.Fatal(err)
	}
	s := &services{}
	var done sync.WaitGroup
	ctx := t.Context()
	done.Go(func() { c.Follow(ctx, "magnum.cluster="+label, s) })
	t.Cleanup(func() { done.Wait(); c.Close() })
	s.until(t, "dropped", "kept")
	create("watched")
	before := s.until(t, "dropped", "kept", "watched")

	release := way.cutAll()
	create("new")
	if err := k.Do(t.Context(), http.MethodDelete, path+"/dropped", nil, nil); err != nil {
		t.Fatal(err)
	}
	release()
	if lists := s.until(t, "kept", "new", "watched"); lists == before {
		t.Error("the services were not listed again")
	}
	create("later")
	s.until(t, "kept", "later", "new", "watched")
	way.mu.Lock()
	defer way.mu.Unlock()
	if len(way.answers) != 1 || !strings.Contains(way.answers[0], "too old resource version") {
		t.Errorf("the API answers the old watch with %q", way.answers)
	}
}
