package agent

import (
	"context"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// TestUnreadInputDoesNotHideThatTheUserLeft opens sessions that don't read their input,
// one after another on a host with room for one, and leaves each while input is in
// flight.
func TestUnreadInputDoesNotHideThatTheUserLeft(t *testing.T) {
	s, fake := newFakeServer(t), backendtest.NewFake()
	defer fake.Outside.HoldArchives()()
	a := command(want("a", 1, structs.DesiredRunning), "sleep 600")
	a.Spec.Stdin = true
	s.assign(a)
	r := runAgent(t, t.TempDir(), fake, func(c *Config) { c.MaxSessions = 1 }, s)
	t.Cleanup(r.stop)
	s.is("a", structs.ContainerRunning)
	for _, o := range []structs.SessionOffer{
		exec(structs.NewID(), true, "sleep", "600"),
		kind(structs.SessionAttach, func(o *structs.SessionOffer) { o.Exec = &structs.ExecRequest{Stdin: true} }),
		kind(structs.SessionArchivePut, func(o *structs.SessionOffer) { o.Path = "/tmp" }),
	} {
		t.Run(string(o.Kind), func(t *testing.T) {
			conn := s.offer(o)
			flood(t, conn)
			_ = conn.CloseNow()
			for deadline := time.Now().Add(patience); ; {
				if got := listen(t, s.offer(logs(structs.NewID(), false))); got.last.Done {
					return
				} else if time.Now().After(deadline) {
					t.Fatalf("the session still holds its slot: %+v", got.last)
				}
			}
		})
	}
}

// flood sends input until the agent stops reading it, which a probe shows.
func flood(t *testing.T, conn *websocket.Conn) {
	t.Helper()
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		chunk := make([]byte, 1+16<<10) // channel 0
		for conn.Write(context.Background(), websocket.MessageBinary, chunk) == nil {
		}
	}()
	t.Cleanup(func() {
		_ = conn.CloseNow()
		<-sending
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, m, err := conn.Read(ctx)
		if err != nil {
			t.Fatalf("no probe has come: %v", err)
		}
		if len(m) == 1 && m[0] == structs.ChannelStdout {
			return
		}
	}
}
