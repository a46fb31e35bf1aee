package rest_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// TestLeavingUserWithUnreadInputIsNoticed checks that, in both kinds of terminals, an agent
// learns whether its user has left while input is unread. Such an agent asks by sending
// output of no bytes.
func TestLeavingUserWithUnreadInputIsNoticed(t *testing.T) {
	s := newScript()
	f := newFixture(t, servertest.Serve(s.serve))
	f.running("c")
	ended := make(chan struct{}, 1)
	s.play = func(ctx context.Context, _ structs.SessionOffer, conn *websocket.Conn) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for servertest.Send(ctx, conn, stdout, "") == nil {
			<-tick.C
		}
		ended <- struct{}{}
	}
	open := func(t *testing.T, url string) *websocket.Conn {
		t.Helper()
		conn, _, err := websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: httpClient})
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for name, dial := range map[string]func(t *testing.T) *websocket.Conn{
		"channels": func(t *testing.T) *websocket.Conn {
			return open(t, strings.Replace(f.s.URL, "http", "ws", 1)+"/v1/containers/c/execute/ws?command=sh&stdin=true")
		},
		"bytes": func(t *testing.T) *websocket.Conn {
			var prepared struct {
				URL string `json:"proxy_url"`
			}
			r := f.zun("POST", "/v1/containers/c/execute?command=sh&run=False&interactive=True", "").is(200)
			if err := json.Unmarshal(r.body, &prepared); err != nil || prepared.URL == "" {
				t.Fatalf("%s: %v", r.body, err)
			}
			return open(t, prepared.URL)
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t)
			// The input is larger than all buffers on the way, so that this blocks.
			const much = 64 << 20
			sending, stalled := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(sending)
				chunk := make([]byte, 64<<10) // channel 0
				for sent := 0; sent < much && conn.Write(context.Background(), websocket.MessageBinary, chunk) == nil; sent += len(chunk) {
				}
			}()
			go func() {
				// This reads all output: an agent whose user is there sees no end.
				for n := 0; ; n++ {
					if n == 20 {
						close(stalled)
					}
					if _, _, err := conn.Read(t.Context()); err != nil {
						return
					}
				}
			}()
			if name == "channels" {
				<-stalled
			}
			select {
			case <-ended:
				t.Fatal("a session whose user is there has ended")
			case <-sending:
				t.Fatal("the server takes input without end")
			default:
			}
			conn.CloseNow()
			<-sending
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Fatal("the agent still serves a user who has left")
			}
		})
	}
}
