package images

import (
	"fmt"
	"strings"
	"sync"

	"github.com/docker/docker/pkg/jsonmessage"
)

// layer is the progress of one layer of an image.
type layer struct {
	current, total int64 // bytes
	broken         bool  // the connection broke, and the engine tries again
	done           bool
}

// layers is the progress of an image, from the engine's messages about each of its layers.
type layers struct {
	mu   sync.Mutex
	byID map[string]*layer
}

// note takes over one message of the engine.
func (s *layers) note(m jsonmessage.JSONMessage) {
	broken := strings.HasPrefix(m.Status, "Retrying in ")
	switch m.Status {
	case "Pulling fs layer", "Waiting", "Downloading", "Verifying Checksum", "Download complete", "Extracting", "Pull " +
		"complete", "Already exists":
	default:
		if !broken {
			return // "Pulling from library/x" has the tag as its ID
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.byID[m.ID]
	if l == nil {
		l = new(layer)
		if s.byID == nil {
			s.byID = make(map[string]*layer)
		}
		s.byID[m.ID] = l
	}
	l.broken = broken
	if m.Status == "Downloading" && m.Progress != nil {
		l.current, l.total = m.Progress.Current, m.Progress.Total
	}
	if m.Status == "Download complete" {
		l.current = l.total
	}
	l.done = m.Status == "Pull complete" || m.Status == "Already exists"
}

// none reports whether no layer is known yet.
func (s *layers) none() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byID) == 0
}

// summary describes the progress, "" while no layer is known.
func (s *layers) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var done, broken int
	var current, total int64
	for _, l := range s.byID {
		if l.done {
			done++
		}
		if l.broken {
			broken++
		}
		current += l.current
		total += l.total
	}
	if len(s.byID) == 0 {
		return ""
	}
	text := fmt.Sprintf(": %d of %d layers, %.1f of %.1f MB", done, len(s.byID), float64(current)/1e6, float64(total)/1e6)
	if broken > 0 {
		text += "; the connection to the registry broke, trying again"
	}
	return text
}
