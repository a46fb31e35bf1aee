package transport

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipeline is an append pipeline to one follower that closes itself at the first answer
// that is no success.
//
// The library stops reading answers there, but notifies its sender only between two
// requests. A sender within a request then waits for a reader that has ended: it keeps
// sending the heartbeats of a lost leadership, and the server can't shut down. Closing
// the pipeline wakes the sender.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	done    chan struct{} // closed by Close
	close   sync.Once
}

// newPipeline returns a pipeline around p. Closing it closes p.
func newPipeline(p raft.AppendPipeline) *pipeline {
	l := &pipeline{AppendPipeline: p, answers: make(chan raft.AppendFuture), done: make(chan struct{})}
	go l.run()
	return l
}

// run passes answers on until one is no success, or until the pipeline is closed.
func (p *pipeline) run() {
	for {
		select {
		case answered := <-p.AppendPipeline.Consumer():
			select {
			case p.answers <- answered:
			case <-p.done:
				return
			}
			// An answer that could not be read has only zero values.
			if resp := answered.Response(); !resp.Success || resp.Term > answered.Request().Term {
				_ = p.Close()
				return
			}
		case <-p.done:
			return
		}
	}
}

// Consumer returns the answers in the order of the requests.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close closes the pipeline and wakes a caller of AppendEntries. It may be called more
// than once.
func (p *pipeline) Close() error {
	var err error
	p.close.Do(func() {
		close(p.done)
		err = p.AppendPipeline.Close()
	})
	return err
}
