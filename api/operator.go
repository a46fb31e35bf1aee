package api

import (
	"context"
	"net/http"

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
