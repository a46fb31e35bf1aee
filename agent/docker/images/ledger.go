package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"

	"github.com/docker/docker/api/types/image"

	"github.com/stackforge/magnum/agent/docker/engine"
	"github.com/stackforge/magnum/internal/atomicfile"
)

// ledger remembers which images of an engine magnum has brought there for projects. All
// others are the operator's, and everybody may use them. It is kept in a file, because an
// image that it forgot would be everybody's.
//
// Nobody can tell which image a pull brings until it is over. So the images that exist
// before are noted first, and what is new after it counts as brought, also after a crash.
type ledger struct {
	list func(context.Context) ([]image.Summary, error) // the engine's images

	mu     sync.Mutex
	file   string // "" keeps nothing
	now    ledgerFile
	active int // pulls and loads in progress
}

// ledgerFile is what a ledger keeps.
type ledgerFile struct {
	// Brought has, by the ID of each image that magnum has brought, the projects that were
	// allowed to use it at some time.
	Brought map[string][]string `json:"brought"`
	// Names has the projects that have pulled an image under a name.
	Names map[string][]string `json:"names,omitempty"`
	// Before has the IDs of the operator's images when the oldest pull in progress began; nil
	// if none is in progress.
	Before []string `json:"before,omitempty"`
	// Pending says that pulls are, or were, in progress.
	Pending bool `json:"pending,omitempty"`
}

// open reads the file, which need not exist, and keeps the ledger there.
func (l *ledger) open(file string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("images of projects: %w", err)
	default:
		var now ledgerFile
		if err := json.Unmarshal(b, &now); err != nil {
			return fmt.Errorf("images of projects: %s is damaged (%w): remove the images that projects have brought, then the file", file,
				err)
		}
		l.now = now
	}
	l.file = file
	return nil
}

// write keeps the ledger. The caller holds mu.
func (l *ledger) write() error {
	if l.file == "" {
		return nil
	}
	b, err := json.Marshal(l.now)
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(l.file, b); err != nil {
		return fmt.Errorf("images of projects: %w", err)
	}
	return nil
}

// begin notes that something is about to bring images. The caller calls end when that is
// over, however it went.
func (l *ledger) begin(ctx context.Context) (end func(context.Context) error, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == 0 {
		if err := l.settle(ctx); err != nil {
			return nil, err
		}
		all, err := l.list(ctx)
		if err != nil {
			return nil, err
		}
		here := make(map[string]bool)
		l.now.Before = []string{}
		for _, img := range all {
			here[img.ID] = true
			if _, brought := l.now.Brought[img.ID]; !brought {
				l.now.Before = append(l.now.Before, img.ID)
			}
		}
		for id := range l.now.Brought {
			if !here[id] {
				delete(l.now.Brought, id)
			}
		}
		l.now.Pending = true
		if err := l.write(); err != nil {
			return nil, err
		}
	}
	l.active++
	return func(ctx context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.active--; l.active > 0 {
			return nil
		}
		return l.settle(ctx)
	}, nil
}

// settle takes down what was brought since Before, if anything was. The caller holds mu, and
// nothing is in progress.
func (l *ledger) settle(ctx context.Context) error {
	if !l.now.Pending {
		return nil
	}
	all, err := l.list(ctx)
	if err != nil {
		return err
	}
	for _, img := range all {
		if _, known := l.now.Brought[img.ID]; !known && !slices.Contains(l.now.Before, img.ID) {
			l.bring(img.ID)
		}
	}
	l.now.Before, l.now.Pending = nil, false
	return l.write()
}

func (l *ledger) bring(id string) {
	if l.now.Brought == nil {
		l.now.Brought = make(map[string][]string)
	}
	l.now.Brought[id] = []string{}
}

// everybodys reports whether everybody may use the image: the operator has put it into the
// engine. While something is in progress, what came meanwhile isn't.
func (l *ledger) everybodys(ctx context.Context, id string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == 0 {
		if err := l.settle(ctx); err != nil {
			return false, err
		}
	}
	if _, brought := l.now.Brought[id]; brought {
		return false, nil
	}
	return !l.now.Pending || slices.Contains(l.now.Before, id), nil
}

// grant notes that the project may use the image, and by which name it did. It matters only
// for what the project is shown.
func (l *ledger) grant(project, id, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	of, brought := l.now.Brought[id]
	if !brought || slices.Contains(of, project) && slices.Contains(l.now.Names[name], project) {
		return nil
	}
	if !slices.Contains(of, project) {
		l.now.Brought[id] = append(slices.Clone(of), project)
	}
	if !slices.Contains(l.now.Names[name], project) {
		if l.now.Names == nil {
			l.now.Names = make(map[string][]string)
		}
		l.now.Names[name] = append(slices.Clone(l.now.Names[name]), project)
	}
	return l.write()
}

// shown reports whether the project has been allowed to use the image.
func (l *ledger) shown(project, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.now.Brought[id], project)
}

// hides reports whether the name is one under which only other projects have pulled.
func (l *ledger) hides(project, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	of, pulled := l.now.Names[name]
	return pulled && !slices.Contains(of, project)
}

// brought returns the IDs of the images that magnum has brought.
func (l *ledger) brought(ctx context.Context) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.active == 0 {
		if err := l.settle(ctx); err != nil {
			return nil, err
		}
	}
	ids := make([]string, 0, len(l.now.Brought))
	for id := range l.now.Brought {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// forget notes that the images are gone, and with them all that projects were allowed. Those
// in kept are still there, and are nobody's.
func (l *ledger) forget(kept []string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now.Brought, l.now.Names = nil, nil
	for _, id := range kept {
		l.bring(id)
	}
	return l.write()
}

// listAll returns the engine's images.
func listAll(e *engine.Engine) func(context.Context) ([]image.Summary, error) {
	return func(ctx context.Context) (list []image.Summary, err error) {
		err = e.Read(ctx, engine.ReadTimeout, func(ctx context.Context) (err error) {
			list, err = e.Client.ImageList(ctx, image.ListOptions{})
			return err
		})
		return list, err
	}
}
