package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// Versions is the body of GET /. Fields that the server doesn't send are empty.
type Versions struct {
	Name     string           `json:"name"`
	Version  string           `json:"version"` // of the server's binary
	Versions []VersionElement `json:"versions"`
}

// VersionElement is one version of the API.
type VersionElement struct {
	ID         string `json:"id"`
	Status     string `json:"status"`
	MinVersion string `json:"min_version"`
	MaxVersion string `json:"max_version"`
}

// Versions returns the API versions of the server. It needs no token.
func (c *Client) Versions(ctx context.Context) (*Versions, Meta, error) {
	body := new(Versions)
	meta, err := c.do(ctx, call{method: http.MethodGet, path: "/"}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Leader is the leader of the cluster.
type Leader struct {
	Name    string `json:"name"`
	Address string `json:"address"` // of its REST API, host:port
}

// Leader returns the leader. It needs no token and doesn't wait for an election.
// CodeNoLeader: there is no leader now, CodeNotFound: the server's version has no
// such request.
func (c *Client) Leader(ctx context.Context) (*Leader, Meta, error) {
	var body struct {
		Leader Leader `json:"leader"`
	}
	meta, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/status/leader"}, &body)
	if err != nil {
		return nil, meta, err
	}
	return &body.Leader, meta, nil
}

// OperatorState summarizes the server's replicated state.
type OperatorState struct {
	structs.OperatorState
	Leader string `json:"leader"` // empty if the server doesn't send it
}

// OperatorState returns the server's index and state hash. Servers with equal
// indexes have equal hashes. CodeForbidden.
func (c *Client) OperatorState(ctx context.Context) (*OperatorState, Meta, error) {
	body := new(OperatorState)
	meta, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/operator/state"}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Operator operates the cluster's servers; for operators.
type Operator struct{ c *Client }

// Operator returns the client of the operators' requests.
func (c *Client) Operator() Operator { return Operator{c} }

// Members lists the gossip members of a role, as the server sees them; "" means
// both roles. Meta.Items has them as sent. CodeForbidden, CodeNotFound: the
// server's version has no such request.
func (t Operator) Members(ctx context.Context, role string) ([]structs.MemberBody, Meta, error) {
	q := url.Values{}
	if role != "" {
		q.Set("role", role)
	}
	r := call{method: http.MethodGet, path: "/v1/operator/members", query: q}
	return operatorList[structs.MemberBody](ctx, t.c, r, "members")
}

// Peers lists the servers of the Raft configuration with the last index of each.
// Meta.Items has them as sent. CodeForbidden.
func (t Operator) Peers(ctx context.Context, o QueryOptions) ([]structs.RaftPeerBody, Meta, error) {
	r := call{method: http.MethodGet, path: "/v1/operator/raft/peers", query: o.values(), stale: o.Stale}
	return operatorList[structs.RaftPeerBody](ctx, t.c, r, "peers")
}

// RemovePeer permanently removes the server of a uuid or name from the cluster.
// Without force it refuses if no reachable majority would remain. CodeForbidden,
// CodeNotFound, CodeConflict: the server is the leader, or needed for a majority.
func (t Operator) RemovePeer(ctx context.Context, ident string, force bool) (Meta, error) {
	path, err := objectPath("operator/raft/peers", ident)
	if err != nil {
		return Meta{}, err
	}
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	return t.c.do(ctx, call{method: http.MethodDelete, path: path, query: q}, nil)
}

// TransferLeader transfers leadership to the server of a uuid or name, with "" to
// the most up-to-date one, and returns the new leader. CodeForbidden, CodeNotFound,
// CodeConflict: the server is the leader already, or no voter, CodeUnavailable.
func (t Operator) TransferLeader(ctx context.Context, ident string) (*Leader, Meta, error) {
	q := url.Values{}
	if ident != "" {
		q.Set("to", ident)
	}
	var body struct {
		Leader Leader `json:"leader"`
	}
	meta, err := t.c.do(ctx, call{method: http.MethodPut, path: "/v1/operator/raft/transfer-leader", query: q}, &body)
	if err != nil {
		return nil, meta, err
	}
	return &body.Leader, meta, nil
}

// operatorList reads a list that has no pages.
func operatorList[T any](ctx context.Context, c *Client, r call, noun string) ([]T, Meta, error) {
	var body map[string][]json.RawMessage
	meta, err := c.do(ctx, r, &body)
	if err != nil {
		return nil, meta, err
	}
	all := make([]T, len(body[noun]))
	for i, raw := range body[noun] {
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			return nil, meta, structs.Errorf(structs.CodeInternal, "an object in the response to GET %s can't be decoded: %w", r.path, err)
		}
	}
	meta.Items = body[noun]
	return all, meta, nil
}
