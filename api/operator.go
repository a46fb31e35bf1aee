package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// Versions is what GET / says of a server. Fields that a server doesn't know
// are empty.
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

// Versions asks the server which API it speaks. It needs no token.
func (c *Client) Versions(ctx context.Context) (*Versions, Meta, error) {
	body := new(Versions)
	meta, err := c.do(ctx, call{method: http.MethodGet, path: "/"}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Leader is the server that leads.
type Leader struct {
	Name    string `json:"name"`
	Address string `json:"address"` // of its REST API, host:port
}

// Leader asks who leads. It needs no token and doesn't wait for an election:
// CodeNoLeader while nobody does, CodeNotFound from a server that is older.
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

// OperatorState is the server's replicated state in short. Leader is empty if
// the server does not tell it.
type OperatorState struct {
	structs.OperatorState
	Leader string `json:"leader"`
}

// OperatorState asks the server for its index and state hash: equal indexes
// have equal hashes on every server. CodeForbidden.
func (c *Client) OperatorState(ctx context.Context) (*OperatorState, Meta, error) {
	body := new(OperatorState)
	meta, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/operator/state"}, body)
	if err != nil {
		return nil, meta, err
	}
	return body, meta, nil
}

// Operator operates the servers; for operators.
type Operator struct{ c *Client }

// Operator returns what operators do with the servers.
func (c *Client) Operator() Operator { return Operator{c} }

// Members lists the servers, or the agents, that the server's gossip knows;
// with "" both. Meta.Items has them as they were sent. CodeForbidden,
// CodeNotFound from a server that is older.
func (t Operator) Members(ctx context.Context, role string) ([]structs.MemberBody, Meta, error) {
	q := url.Values{}
	if role != "" {
		q.Set("role", role)
	}
	return operatorList[structs.MemberBody](ctx, t.c, call{method: http.MethodGet, path: "/v1/operator/members", query: q}, "members")
}

// Peers lists the servers of the log's configuration and how far each is.
// Meta.Items has them as they were sent. CodeForbidden.
func (t Operator) Peers(ctx context.Context, o QueryOptions) ([]structs.RaftPeerBody, Meta, error) {
	return operatorList[structs.RaftPeerBody](ctx, t.c, call{method: http.MethodGet, path: "/v1/operator/raft/peers", query: o.values(), stale: o.Stale}, "peers")
}

// RemovePeer takes the server of a uuid or name out of the cluster for good.
// Without force, not one whose loss leaves no majority that answers.
// CodeForbidden, CodeNotFound, CodeConflict: it leads, or is needed.
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

// TransferLeader has the server of a uuid or name lead, with "" the one that is
// most up to date, and returns who leads then. CodeForbidden, CodeNotFound,
// CodeConflict: it leads already or does not vote, CodeUnavailable.
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

// operatorList reads a list that isn't paged.
func operatorList[T any](ctx context.Context, c *Client, r call, noun string) ([]T, Meta, error) {
	var body map[string][]json.RawMessage
	meta, err := c.do(ctx, r, &body)
	if err != nil {
		return nil, meta, err
	}
	all := make([]T, len(body[noun]))
	for i, raw := range body[noun] {
		if err := json.Unmarshal(raw, &all[i]); err != nil {
			return nil, meta, structs.Errorf(structs.CodeInternal, "an object in the answer to GET %s is not magnum's: %w", r.path, err)
		}
	}
	meta.Items = body[noun]
	return all, meta, nil
}
