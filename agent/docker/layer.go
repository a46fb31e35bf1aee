package docker

import (
	"fmt"

	"github.com/docker/docker/pkg/jsonmessage"
)

// layer is how far one layer of an image is fetched.
type layer struct {
	current, total int64 // bytes
	done           bool
}

// note reads one message of the engine.
func note(layers map[string]*layer, m jsonmessage.JSONMessage) {
	switch m.Status {
	case "Pulling fs layer", "Waiting", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull complete", "Already exists":
	default:
		return // "Pulling from library/x" has the tag as its ID
	}
	l := layers[m.ID]
	if l == nil {
		l = new(layer)
		layers[m.ID] = l
	}
	if m.Status == "Downloading" && m.Progress != nil {
		l.current, l.total = m.Progress.Current, m.Progress.Total
	}
	if m.Status == "Download complete" {
		l.current = l.total
	}
	l.done = m.Status == "Pull complete" || m.Status == "Already exists"
}

// summary says how far the layers are.
func summary(layers map[string]*layer) string {
	var done int
	var current, total int64
	for _, l := range layers {
		if l.done {
			done++
		}
		current += l.current
		total += l.total
	}
	if len(layers) == 0 {
		return ""
	}
	return fmt.Sprintf(": %d of %d layers, %.1f of %.1f MB", done, len(layers), float64(current)/1e6, float64(total)/1e6)
}
