package transport

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// plainLayer is a stream layer over TCP for targets with IDs.
type plainLayer struct{ net.Listener }

func (plainLayer) Dial(target raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	_, address, err := splitTarget(target)
	if err != nil {
		return nil, err
	}
	return net.DialTimeout("tcp", address, timeout)
}

func newPlainTransport(t *testing.T) *raft.NetworkTransport {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	transport := raft.NewNetworkTransport(plainLayer{l}, 3, time.Minute, io.Discard)
	t.Cleanup(func() { _ = transport.Close() })
	return transport
}

// TestPipelineClosesAtRefusal: the sender of entries ends with the first answer that is
// no success, although nobody reads the answers to later requests.
func TestPipelineClosesAtRefusal(t *testing.T) {
	for name, refusal := range map[string]raft.AppendEntriesResponse{
		"NewerTerm": {Term: 8, Success: true},
		"Refused":   {Term: 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			follower, leader := newPlainTransport(t), NewAddressed(newPlainTransport(t), func() bool { return true })
			defer leader.Close()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			defer func() { cancel(); <-ended }()
			go func() {
				defer close(ended)
				for n := 0; ; n++ {
					select {
					case call := <-follower.Consumer():
						answer := raft.AppendEntriesResponse{Term: 7, Success: true}
						if n >= 2 {
							answer = refusal
						}
						call.Respond(&answer, nil)
					case <-ctx.Done():
						return
					}
				}
			}()
			p, err := leader.AppendEntriesPipeline("f", follower.LocalAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			// This reader ends at the first refusal, as the library's pipelineDecode
			// does.
			read := make(chan error, 1)
			go func() {
				for n := range 3 {
					answer := (<-p.Consumer()).Response()
					if good := answer.Success && answer.Term == 7; good != (n < 2) {
						read <- fmt.Errorf("answer %d is %+v", n, answer)
						return
					}
				}
				read <- nil
			}()
			sent := make(chan int, 1)
			go func() {
				n := 0
				for ; n < 1000; n++ {
					if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 7}, new(raft.AppendEntriesResponse)); err != nil {
						break
					}
				}
				sent <- n
			}()
			if err := <-read; err != nil {
				t.Fatal(err)
			}
			select {
			case n := <-sent:
				if n < 2 || n == 1000 {
					t.Errorf("%d requests were sent", n)
				}
			case <-time.After(time.Minute):
				t.Error("the sender waits for answers that nobody reads")
			}
		})
	}
}
