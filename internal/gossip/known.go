package gossip

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/structs"
)

const (
	maxKnown     = 64       // servers whose address is kept
	maxKnownFile = 64 << 10 // bytes that are read of the file

	// keepPause is the least time between two writes of the file.
	keepPause = time.Second
)

// know notes where a server is. The lock must be held.
func (g *Gossip) know(id, addr string) {
	if _, ok := g.known[id]; ok || len(g.known) < maxKnown {
		g.known[id] = addr
	}
	for key, known := range g.known { // of a server that has another id now
		if key != id && known == addr {
			delete(g.known, key)
		}
	}
}

// knownAddrs returns the addresses of servers, without this process's own.
func (g *Gossip) knownAddrs() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var addrs []string
	for id, addr := range g.known {
		if id != g.self.id && !sameAddr(addr, g.addr) {
			addrs = append(addrs, addr)
		}
	}
	slices.Sort(addrs)
	return addrs
}

// readKnown reads the file. A line is an address and the ID of who was there.
// What can't be read is left out: the file only saves a -join.
func (g *Gossip) readKnown() {
	if g.KnownFile == "" {
		return
	}
	f, err := os.Open(g.KnownFile)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var content []byte
	if err == nil {
		defer f.Close()
		content, err = io.ReadAll(io.LimitReader(f, maxKnownFile))
	}
	if err != nil {
		g.log.Warn("known servers can't be read", "path", g.KnownFile, "error", err)
		return
	}
	g.known = parseKnown(string(content))
	g.kept = g.formatKnown()
}

func parseKnown(content string) map[string]string {
	known := map[string]string{}
	for line := range strings.Lines(content) {
		addr, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		host, _, err := net.SplitHostPort(addr)
		if err != nil || net.ParseIP(host) == nil || !isHostPort(addr) || len(known) == maxKnown {
			continue
		}
		if !structs.IsID(id) {
			id = addr
		}
		known[id] = addr
	}
	return known
}

// formatKnown writes what parseKnown reads, sorted.
func (g *Gossip) formatKnown() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var lines []string
	for id, addr := range g.known {
		lines = append(lines, addr+" "+id+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// keepKnown writes the file whenever servers come, move or are forgotten.
func (g *Gossip) keepKnown(ctx context.Context) {
	if g.KnownFile == "" {
		return
	}
	written := g.kept
	for {
		changed := g.Changed()
		if content := g.formatKnown(); content != written {
			if err := atomicfile.ReplaceSoon(g.KnownFile, []byte(content)); err == nil {
				written = content
			} else if g.said.first("known") {
				g.log.Warn("known servers can't be kept", "path", g.KnownFile, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		timer := time.NewTimer(keepPause)
		select {
		case <-ctx.Done(): // and once more for what has changed since
		case <-timer.C:
		}
		timer.Stop()
	}
}
