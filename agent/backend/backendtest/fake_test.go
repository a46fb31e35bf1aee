package backendtest

import (
	"testing"

	"github.com/stackforge/magnum/agent/backend"
)

func TestFake(t *testing.T) { Suite(t, NewFake()) }

// TestEachInterfaceByItself tests each optional interface beside a backend that only
// runs workloads, and that backend.
func TestEachInterfaceByItself(t *testing.T) {
	fake := NewFake()
	t.Run("none", func(t *testing.T) { Suite(t, struct{ backend.Backend }{fake}) })
	t.Run("consoles", func(t *testing.T) {
		Consoles(t, struct{ backend.Backend }{fake}, fake.Consoles)
	})
	t.Run("images", func(t *testing.T) {
		Images(t, struct{ backend.Backend }{fake}, fake.Images)
	})
	t.Run("pods", func(t *testing.T) {
		Pods(t, struct{ backend.Backend }{fake}, fake.Pods, fake.Consoles)
	})
	t.Run("volumes", func(t *testing.T) {
		Volumes(t, struct{ backend.Backend }{fake}, fake.Volumes)
	})
}
