package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// defaultWait is the default of -wait.
const defaultWait = 10 * time.Minute

// waitFlags says how long a command waits for its result.
type waitFlags struct {
	limit  time.Duration
	detach bool
}

// flags adds -wait and -detach under the given names.
func (w *waitFlags) flags(f *flagSet, waitNames, detachNames string) {
	w.limit = defaultWait
	f.add(funcValue{set: func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return errors.New("is not a duration such as 90s or 5m")
		}
		w.limit = d
		if d == 0 {
			w.detach = true
		}
		return nil
	}}, waitNames, "DURATION", "wait for the result at most this time; the work goes on without you afterwards").
		defaultText(defaultWait.String()).common()
	if detachNames != "" {
		f.switchOn(&w.detach, detachNames, "don't wait for the result").common()
	}
}

// writeOptions returns the options of a write that waits.
func (w *waitFlags) writeOptions() api.WriteOptions {
	if w.detach {
		return api.WriteOptions{Wait: -1}
	}
	return api.WriteOptions{Wait: min(w.limit, structs.MaxWait)}
}

// progress shows progress on standard error: on a terminal in one line that changes,
// elsewhere in a line for each change.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	width int // columns of the terminal
	last  string
	shown bool // the terminal's line has text to clear
}

func newProgress(e *env) *progress {
	p := &progress{w: e.stderr, width: 80}
	if fd, ok := terminalOf(e.stderr); ok {
		p.tty = true
		if w, _, err := term.GetSize(fd); err == nil && w > 0 {
			p.width = w
		}
	}
	return p
}

// show shows a text if it differs from the last one.
func (p *progress) show(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := strings.ReplaceAll(printable(fmt.Sprintf(format, args...)), "\n", " ")
	if text == p.last {
		return
	}
	p.last = text
	if !p.tty {
		fmt.Fprintln(p.w, text)
		return
	}
	if runes := []rune(text); len(runes) >= p.width {
		text = string(runes[:max(p.width-4, 0)]) + "..."
	}
	fmt.Fprintf(p.w, "\r%s\x1b[K", text)
	p.shown = true
}

// clear clears the terminal's line.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
	p.last = ""
}

// pollWait is the wait of a blocking read.
const pollWait = 30 * time.Second

// watch reads an object by blocking reads, and calls done with each version. It returns
// when done returns true or an error, or when ctx ends. It retries while no server
// responds, and shows that on p, which may be nil. CodeNotFound: the object was deleted.
func watch[T any](
	ctx context.Context,
	read func(context.Context, api.QueryOptions) (*T, api.Meta, error),
	done func(*T, api.Meta) (bool, error),
	p *progress,
) error {
	var index uint64
	failures := 0
	for {
		o := api.QueryOptions{}
		if index > 0 {
			o.Index, o.Wait = index, pollWait
		}
		begin := time.Now()
		body, meta, err := read(ctx, o)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && (structs.CodeOf(err) == structs.CodeUnavailable || structs.CodeOf(err) == structs.CodeNoLeader):
			failures++
			if p != nil {
				p.show("the server does not answer; trying again")
			}
			index = 0
			if err := backoff(ctx, failures); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		failures = 0
		if end, err := done(body, meta); end || err != nil {
			return err
		}
		if meta.Index <= index && time.Since(begin) < time.Second {
			// The server doesn't support blocking reads: don't poll it in a tight loop.
			if err := backoff(ctx, 1); err != nil {
				return err
			}
		}
		index = meta.Index
	}
}

// backoff waits for a random time that grows with attempt, at most 2 s.
func backoff(ctx context.Context, attempt int) error {
	t := time.NewTimer(rand.N(min(100*time.Millisecond<<min(attempt, 5), 2*time.Second)) + 10*time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// errWaitTimeout is the cause of the end of a wait that timed out.
var errWaitTimeout = errors.New("the wait timed out")

// withLimit returns a context that ends after the wait with errWaitTimeout.
func (w *waitFlags) withLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, w.limit, errWaitTimeout)
}

// forEach calls do for each object, at most eight at a time. It prints the failures in
// the order of the arguments, in the form of the 2015 client, and returns an error if
// any failed.
func (e *env) forEach(ctx context.Context, verb, kind string, idents []string, do func(ctx context.Context, ident string) error) error {
	if len(idents) == 0 {
		return usagef("%s is missing", strings.ToUpper(kind))
	}
	failures := make([]error, len(idents))
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for i, ident := range idents {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			failures[i] = do(ctx, ident)
		})
	}
	wg.Wait()
	failed := false
	var next string
	for i, err := range failures {
		if err == nil {
			continue
		}
		failed = true
		if errors.Is(err, context.Canceled) {
			return err
		}
		fmt.Fprintf(e.stderr, "%s for %s %s failed: %s\n", verb, kind, printable(idents[i]), describe(err))
		if next == "" {
			next = nextStep(err)
		}
	}
	if next != "" {
		fmt.Fprintln(e.stderr, next)
	}
	if failed {
		return &exitError{exitFailure}
	}
	return nil
}
