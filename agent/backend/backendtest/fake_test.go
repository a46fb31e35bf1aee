package backendtest

import (
	"testing"

	"github.com/stackforge/magnum/agent/backend"
)

func TestFake(t *testing.T) { Suite(t, NewFake()) }

// TestEachInterfaceByItself tests engines that offer one of the optional interfaces,
// or none.
func TestEachInterfaceByItself(t *testing.T) {
	fake := NewFake()
	t.Run("none", func(t *testing.T) { Suite(t, struct{ backend.Backend }{fake}) })
	t.Run("consoles", func(t *testing.T) {
		Consoles(t, struct {
			backend.Backend
			backend.Consoles
		}{fake, fake})
	})
	t.Run("images", func(t *testing.T) {
		Images(t, struct {
			backend.Backend
			backend.Images
		}{fake, fake})
	})
	t.Run("volumes", func(t *testing.T) {
		Volumes(t, struct {
			backend.Backend
			backend.Volumes
		}{fake, fake})
	})
}
