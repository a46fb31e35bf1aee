package engine

import (
	"errors"
	"io"
	"sync"
)

// Noted is one end of a copy. It keeps that end's error, to tell it from the engine's
// errors.
type Noted struct {
	R io.Reader
	W io.Writer

	mu  sync.Mutex
	err error
}

func (n *Noted) Read(p []byte) (int, error) {
	c, err := n.R.Read(p)
	n.note(err)
	return c, err
}

func (n *Noted) Write(p []byte) (int, error) {
	c, err := n.W.Write(p)
	n.note(err)
	return c, err
}

func (n *Noted) note(err error) {
	if err != nil && !errors.Is(err, io.EOF) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.err = err
	}
}

// Failed returns the error of this end, nil if there was none.
func (n *Noted) Failed() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}
