package identity

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/stackforge/magnum/structs"
)

var resource = schema.GroupResource{Resource: "secrets"}

// store has one Secret, as an API server does.
type store struct {
	mu     sync.Mutex
	secret *corev1.Secret
	rev    int
	writes int
	meet   func()           // called after each Get, before its answer is used; nil for none
	fail   map[string]error // by method
}

func (s *store) Get(context.Context) (*corev1.Secret, error) {
	s.mu.Lock()
	now, err := s.secret.DeepCopy(), s.fail["get"]
	s.mu.Unlock()
	if s.meet != nil {
		s.meet()
	}
	switch {
	case err != nil:
		return nil, err
	case now == nil:
		return nil, apierrors.NewNotFound(resource, Name)
	}
	return now, nil
}

func (s *store) Create(_ context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secret != nil {
		return nil, apierrors.NewAlreadyExists(resource, Name)
	}
	return s.put(secret, "create")
}

func (s *store) Update(_ context.Context, secret *corev1.Secret) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.secret == nil {
		return nil, apierrors.NewNotFound(resource, Name)
	}
	if s.secret.ResourceVersion != secret.ResourceVersion {
		return nil, apierrors.NewConflict(resource, Name, errors.New("the object has been modified"))
	}
	return s.put(secret, "update")
}

func (s *store) put(secret *corev1.Secret, method string) (*corev1.Secret, error) {
	if err := s.fail[method]; err != nil {
		return nil, err
	}
	s.rev++
	s.writes++
	s.secret = secret.DeepCopy()
	s.secret.ResourceVersion = strconv.Itoa(s.rev)
	return s.secret.DeepCopy(), nil
}

func empty() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: Name, ResourceVersion: "0", Labels: map[string]string{"app": "magnum"}},
		Data: map[string][]byte{"other": []byte("kept")}}
}

func TestTakeFillsOnceAndReads(t *testing.T) {
	for name, secret := range map[string]*corev1.Secret{"shipped empty": empty(), "missing": nil} {
		t.Run(name, func(t *testing.T) {
			s := &store{secret: secret}
			first, err := Take(t.Context(), s)
			if err != nil || !structs.IsID(first.HostID) || len(first.Secret) < minSecret {
				t.Fatalf("%+v, %v", first, err)
			}
			again, err := Take(t.Context(), s)
			if err != nil || again != first || s.writes != 1 {
				t.Errorf("the second time: %+v, %v, %d writes", again, err, s.writes)
			}
			if secret != nil && (string(s.secret.Data["other"]) != "kept" || s.secret.Labels["app"] != "magnum") {
				t.Errorf("the secret is now %+v", s.secret)
			}
		})
	}
}

func TestWhatIsRememberedIsRecalled(t *testing.T) {
	s := &store{secret: empty()}
	id, err := Take(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := Recall(t.Context(), s); err != nil || text != "" {
		t.Errorf("at first %q is recalled, %v", text, err)
	}
	meddled := false
	s.meet = func() { // somebody else writes between the read and the write
		if !meddled {
			meddled = true
			s.mu.Lock()
			defer s.mu.Unlock()
			s.rev++
			s.secret.ResourceVersion = strconv.Itoa(s.rev)
			s.secret.Data["other"] = []byte("changed")
		}
	}
	if err := Remember(t.Context(), s, "a note"); err != nil {
		t.Fatal(err)
	}
	text, err := Recall(t.Context(), s)
	if err != nil || text != "a note" || string(s.secret.Data["other"]) != "changed" {
		t.Errorf("%q is recalled, %v, beside %q", text, err, s.secret.Data["other"])
	}
	if again, err := Take(t.Context(), s); err != nil || again != id {
		t.Errorf("the identity is now %+v, %v", again, err)
	}
}

// TestAgentsThatStartAtOnceAgree: all have read the Secret before the first one writes it.
func TestAgentsThatStartAtOnceAgree(t *testing.T) {
	for name, secret := range map[string]*corev1.Secret{"shipped empty": empty(), "missing": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const agents = 5
				s := &store{secret: secret}
				var read sync.WaitGroup
				read.Add(agents)
				first := make(chan struct{}, agents)
				for range agents {
					first <- struct{}{}
				}
				s.meet = func() {
					select {
					case <-first:
						read.Done()
						read.Wait()
					default: // a second look
					}
				}
				taken := make([]Identity, agents)
				var all sync.WaitGroup
				for i := range agents {
					all.Go(func() {
						var err error
						if taken[i], err = Take(t.Context(), s); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				for _, id := range taken {
					if id != taken[0] || id == (Identity{}) {
						t.Fatalf("they take %+v", taken)
					}
				}
			})
		})
	}
}

func TestADamagedSecretIsRefused(t *testing.T) {
	for name, data := range map[string]map[string][]byte{
		"no UUID":      {keyHost: []byte("nonsense"), keySecret: []byte(structs.NewSecret())},
		"no secret":    {keyHost: []byte(structs.NewID())},
		"short secret": {keyHost: []byte(structs.NewID()), keySecret: []byte("short")},
		"no host":      {keySecret: []byte(structs.NewSecret())},
	} {
		s := &store{secret: empty()}
		s.secret.Data = data
		_, err := Take(t.Context(), s)
		if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), Name) || s.writes != 0 {
			t.Errorf("%s: %v after %d writes", name, err, s.writes)
		}
		if secret := string(data[keySecret]); len(secret) > 0 && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error tells the secret", name)
		}
	}
}

func TestRefusalsAreReturned(t *testing.T) {
	forbidden := apierrors.NewForbidden(resource, Name, errors.New("by a test"))
	for method, secret := range map[string]*corev1.Secret{"get": empty(), "create": nil, "update": empty()} {
		s := &store{secret: secret, fail: map[string]error{method: forbidden}}
		if _, err := Take(t.Context(), s); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), Name) {
			t.Errorf("%s: %v", method, err)
		}
	}
}
