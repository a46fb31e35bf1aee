package command

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/term"

	"github.com/stackforge/magnum/structs"
)

// terminal is the user's terminal while a process in a container uses it. It is in raw
// mode, so that every key goes to the process, and reports changes of its size.
type terminal struct {
	width, height uint // in columns and lines, when it was opened; 0 if unknown
	sizes         chan structs.Resize
	fd            int
	saved         *term.State // state to restore; nil if the terminal is not raw
	done          chan struct{}
	once          sync.Once
	watching      sync.WaitGroup
}

// openTerminal prepares the terminal. With input, standard input must be a terminal and
// is set to raw mode. The size is that of standard output, else of standard input; it is
// unknown if neither is a terminal.
func openTerminal(e *env, input bool) (*terminal, error) {
	t := &terminal{sizes: make(chan structs.Resize, 1), done: make(chan struct{})}
	out, isTerminal := terminalOf(e.stdout)
	if input {
		in, ok := terminalOf(e.stdin)
		if !ok {
			return nil, usagef("standard input is not a terminal: leave out -t to pipe into the command")
		}
		if !isTerminal {
			out, isTerminal = in, true
		}
		saved, err := term.MakeRaw(in)
		if err != nil {
			return nil, fmt.Errorf("setting the terminal to raw mode: %w", err)
		}
		t.fd, t.saved = in, saved
	}
	if !isTerminal {
		return t, nil
	}
	t.width, t.height = terminalSize(out)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	t.watching.Go(func() {
		defer signal.Stop(changed)
		for {
			select {
			case <-changed:
				w, h := terminalSize(out)
				if w == 0 || h == 0 {
					continue
				}
				// Replace a size that was not received yet.
				select {
				case <-t.sizes:
				default:
				}
				t.sizes <- structs.Resize{Width: w, Height: h}
			case <-t.done:
				return
			}
		}
	})
	return t, nil
}

// terminalSize returns columns and lines, 0 if unknown.
func terminalSize(fd int) (width, height uint) {
	w, h, err := term.GetSize(fd)
	if err != nil || w <= 0 || h <= 0 {
		return 0, 0
	}
	return uint(w), uint(h)
}

// restore restores the state of the terminal. It may be called more than once.
func (t *terminal) restore() {
	t.once.Do(func() {
		close(t.done)
		t.watching.Wait()
		if t.saved != nil {
			_ = term.Restore(t.fd, t.saved) // nothing can be done about an error
		}
	})
}
