package transport

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// Addressed is a transport around Raft's in which each call names the server that it is
// for, in addition to its address, and in which this server gives no vote that it must
// not give.
//
// An address alone names whoever listens there. A server that has lost its disk comes
// back at its old address, under a new ID. It must not vote or acknowledge entries in
// the name of the lost server.
//
// The ID is part of a call's target, and so of the key under which the library pools
// connections. The votes and the leader's address, which the library stores and sends,
// never contain it.
type Addressed struct {
	raft.Transport
	mayVote func() bool // called for each vote
	calls   chan raft.RPC
	done    chan struct{} // closed by Close
	ended   chan struct{} // closed when run has ended
	close   sync.Once
}

// NewAddressed returns a transport around t. mayVote may be called immediately. Close
// ends the transport.
func NewAddressed(t raft.Transport, mayVote func() bool) *Addressed {
	a := &Addressed{Transport: t, mayVote: mayVote, calls: make(chan raft.RPC), done: make(chan struct{}), ended: make(chan struct{})}
	go a.run()
	return a
}

// Close ends this transport. It doesn't close the transport below.
func (a *Addressed) Close() error {
	a.close.Do(func() { close(a.done) })
	<-a.ended
	return nil
}

// run receives the calls of other servers.
func (a *Addressed) run() {
	defer close(a.ended)
	for {
		select {
		case call := <-a.Transport.Consumer():
			if refusal := a.refuse(call); refusal != nil {
				call.Respond(refusal, nil)
				continue
			}
			select {
			case a.calls <- call:
			case <-a.done:
				return
			}
		case <-a.done:
			return
		}
	}
}

// refuse returns a refusal if the call asks for a vote that this server may not give,
// nil otherwise. A refusal raises no term: the candidate may be legitimate and win by
// other votes.
func (a *Addressed) refuse(call raft.RPC) any {
	switch asked := call.Command.(type) {
	case *raft.RequestVoteRequest:
		if !a.mayVote() {
			return &raft.RequestVoteResponse{RPCHeader: headerOf(asked.RPCHeader), Term: asked.Term}
		}
	case *raft.RequestPreVoteRequest:
		if !a.mayVote() {
			return &raft.RequestPreVoteResponse{RPCHeader: headerOf(asked.RPCHeader), Term: asked.Term}
		}
	}
	return nil
}

// headerOf returns the header of an answer.
func headerOf(asked raft.RPCHeader) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: asked.ProtocolVersion}
}

// Consumer returns the calls of other servers.
func (a *Addressed) Consumer() <-chan raft.RPC { return a.calls }

// TargetOf returns the target of a call to a server at an address.
func TargetOf(id raft.ServerID, address raft.ServerAddress) raft.ServerAddress {
	return raft.ServerAddress(id) + "@" + address
}

// splitTarget is the inverse of TargetOf.
func splitTarget(target raft.ServerAddress) (id, address string, err error) {
	id, address, ok := strings.Cut(string(target), "@")
	if !ok || id == "" || address == "" {
		return "", "", fmt.Errorf("raft: %q names no server at an address", target)
	}
	return id, address, nil
}

// The calls of raft.Transport, with the server's ID in the target.

// AppendEntriesPipeline opens a pipeline of entries.
func (a *Addressed) AppendEntriesPipeline(id raft.ServerID, at raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := a.Transport.AppendEntriesPipeline(id, TargetOf(id, at))
	if err != nil {
		return nil, err
	}
	return newPipeline(p), nil
}

// AppendEntries sends entries, or a heartbeat.
func (a *Addressed) AppendEntries(id raft.ServerID, at raft.ServerAddress, args *raft.AppendEntriesRequest,
	resp *raft.AppendEntriesResponse) error {
	return a.Transport.AppendEntries(id, TargetOf(id, at), args, resp)
}

// RequestVote asks for a vote.
func (a *Addressed) RequestVote(id raft.ServerID, at raft.ServerAddress, args *raft.RequestVoteRequest,
	resp *raft.RequestVoteResponse) error {
	return a.Transport.RequestVote(id, TargetOf(id, at), args, resp)
}

// RequestPreVote asks whether a vote would be granted. All existing transports have it.
func (a *Addressed) RequestPreVote(id raft.ServerID, at raft.ServerAddress, args *raft.RequestPreVoteRequest,
	resp *raft.RequestPreVoteResponse) error {
	return a.Transport.(raft.WithPreVote).RequestPreVote(id, TargetOf(id, at), args, resp)
}

// InstallSnapshot sends a snapshot.
func (a *Addressed) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, args *raft.InstallSnapshotRequest,
	resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return a.Transport.InstallSnapshot(id, TargetOf(id, at), args, resp, data)
}

// TimeoutNow transfers leadership.
func (a *Addressed) TimeoutNow(id raft.ServerID, at raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return a.Transport.TimeoutNow(id, TargetOf(id, at), args, resp)
}
