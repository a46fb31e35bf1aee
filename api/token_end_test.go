package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/structs"
)

// TestSessionsSayThatTheTokenEnded: the error of a stream or session that a server cuts off says
// so if its token is refused afterwards, and only then.
func TestSessionsSayThatTheTokenEnded(t *testing.T) {
	var status atomic.Int32 // of the question why
	c := newTestClient(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v1":
			w.WriteHeader(int(status.Load()))
			if status.Load() == http.StatusUnauthorized {
				fmt.Fprint(w, `{"errors":[{"code":"unauthenticated","detail":"The token is not valid"}]}`)
			}
		case strings.HasSuffix(r.URL.Path, "/ws"):
			conn, err := websocket.Accept(w, r, nil)
			if err != nil {
				t.Errorf("accepting a session: %v", err)
				return
			}
			conn.CloseNow()
		default:
			_, _ = io.WriteString(w, "text")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	for _, tt := range []struct {
		status int32
		ended  bool
	}{{http.StatusUnauthorized, true}, {http.StatusOK, false}, {http.StatusServiceUnavailable, false}, {http.StatusNotFound, false}} {
		status.Store(tt.status)
		for what, do := range map[string]func(ctx context.Context) error{
			"logs": func(ctx context.Context) error {
				logs, err := c.Containers().Logs(ctx, "c1", structs.LogsRequest{Follow: true, Tail: -1})
				if err != nil {
					return err
				}
				defer logs.Close()
				_, err = io.Copy(io.Discard, logs)
				return err
			},
			"events": func(ctx context.Context) error {
				return c.Events(ctx, EventOptions{}, nil)
			},
			"execute": func(ctx context.Context) error {
				_, err := c.Containers().ExecuteInteractive(ctx, "c1", structs.ExecRequest{Command: []string{"sh"}}, Streams{})
				return err
			},
			"attach": func(ctx context.Context) error {
				_, err := c.Containers().Attach(ctx, "c1", AttachOptions{})
				return err
			},
		} {
			err := do(t.Context())
			if err == nil || errors.Is(err, ErrTokenEnded) != tt.ended {
				t.Errorf("%s, then status %d: %v", what, tt.status, err)
			}
			if tt.ended && !strings.Contains(err.Error(), "its token has expired or was revoked") {
				t.Errorf("%s doesn't say why it ended: %v", what, err)
			}
		}
	}
}
