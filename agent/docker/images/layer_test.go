package images

import (
	"testing"

	"github.com/docker/docker/pkg/jsonmessage"
)

// TestSummary reads the engine's messages about a fetch whose connection breaks.
func TestSummary(t *testing.T) {
	var s layers
	progress := func(n, of int64) *jsonmessage.JSONProgress { return &jsonmessage.JSONProgress{Current: n, Total: of} }
	for _, step := range []struct {
		m    jsonmessage.JSONMessage
		want string
	}{
		{jsonmessage.JSONMessage{Status: "Pulling from it", ID: "1"}, ""},
		{jsonmessage.JSONMessage{Status: "Pulling fs layer", ID: "a"}, ": 0 of 1 layers, 0.0 of 0.0 MB"},
		{jsonmessage.JSONMessage{Status: "Already exists", ID: "b"}, ": 1 of 2 layers, 0.0 of 0.0 MB"},
		{jsonmessage.JSONMessage{Status: "Downloading", ID: "a", Progress: progress(1e6, 4e6)}, ": 1 of 2 layers, 1.0 of 4.0 MB"},
		{jsonmessage.JSONMessage{Status: "Retrying in 5 seconds", ID: "a"},
			": 1 of 2 layers, 1.0 of 4.0 MB; the connection to the registry broke, trying again"},
		{jsonmessage.JSONMessage{Status: "Downloading", ID: "a", Progress: progress(2e6, 4e6)}, ": 1 of 2 layers, 2.0 of 4.0 MB"},
		{jsonmessage.JSONMessage{Status: "Download complete", ID: "a"}, ": 1 of 2 layers, 4.0 of 4.0 MB"},
		{jsonmessage.JSONMessage{Status: "Extracting", ID: "a", Progress: progress(1e6, 4e6)}, ": 1 of 2 layers, 4.0 of 4.0 MB"},
		{jsonmessage.JSONMessage{Status: "Pull complete", ID: "a"}, ": 2 of 2 layers, 4.0 of 4.0 MB"},
		{jsonmessage.JSONMessage{Status: "Digest: sha256:1"}, ": 2 of 2 layers, 4.0 of 4.0 MB"},
	} {
		s.note(step.m)
		if got := s.summary(); got != step.want {
			t.Errorf("after %q of %q: %q, want %q", step.m.Status, step.m.ID, got, step.want)
		}
	}
}
