package transport

import (
	"sync"

	"github.com/hashicorp/raft"
)

// pipeline is a pipeline of entries to one follower that ends with the first answer
// that is no success.
//
// The library stops reading answers at such an answer, but tells its sender only
// between two requests. A sender that is within one then waits for a reader that is
// gone: it keeps up the heartbeats of a leadership that is over, and the server never
// ends. Closing the pipeline wakes it.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	done    chan struct{} // closed by Close
	close   sync.Once
}

// newPipeline returns a pipeline over p, which it closes when it is closed.
func newPipeline(p raft.AppendPipeline) *pipeline {
	l := &pipeline{AppendPipeline: p, answers: make(chan raft.AppendFuture), done: make(chan struct{})}
	go l.run()
	return l
}

// run hands on the answers until one is no success, or the pipeline is closed.
func (p *pipeline) run() {
	for {
		select {
		case answered := <-p.AppendPipeline.Consumer():
			select {
			case p.answers <- answered:
			case <-p.done:
				return
			}
			// An answer that could not be read is all zero.
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

// Close ends the pipeline and wakes who waits in AppendEntries. It may be called
// more than once.
func (p *pipeline) Close() error {
	var err error
	p.close.Do(func() {
		close(p.done)
		err = p.AppendPipeline.Close()
	})
	return err
}
