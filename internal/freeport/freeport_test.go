package freeport

import (
	"fmt"
	"net"
	"testing"
)

func TestTake(t *testing.T) {
	seen := make(map[int]bool)
	for range 20 {
		port := Take(t)
		if seen[port] || port < first || port >= first+count {
			t.Errorf("port %d, after %v", port, seen)
		}
		seen[port] = true
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		if free(port) {
			t.Errorf("port %d is free although somebody listens", port)
		}
		l.Close()
		if !free(port) {
			t.Errorf("port %d isn't free any more", port)
		}
	}
}
