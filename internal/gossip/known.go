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
	maxKnown     = 64       // servers with a known address
	maxKnownFile = 64 << 10 // bytes read from the file at most

	// writePause is the minimum time between two writes of the file.
	writePause = time.Second
)

// know records the address of a server. mu must be held.
func (g *Gossip) know(id, addr string) {
	if _, ok := g.known[id]; ok || len(g.known) < maxKnown {
		g.known[id] = addr
	}
	for key, known := range g.known { // the address may have belonged to another server
		if key != id && known == addr {
			delete(g.known, key)
		}
	}
}

// knownAddrs returns the addresses of known servers except this process's own, sorted.
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

// readKnown reads the file of known servers. Each line has an address and the server's
// ID. Invalid lines are skipped, because the file only replaces -join.
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
	g.knownRead = g.formatKnown()
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

// formatKnown returns the content of the file of known servers, sorted; parseKnown reads it.
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

// writeKnown writes the file of known servers after each change, until ctx ends.
func (g *Gossip) writeKnown(ctx context.Context) {
	if g.KnownFile == "" {
		return
	}
	written := g.knownRead
	for {
		changed := g.Changed()
		if content := g.formatKnown(); content != written {
			if err := atomicfile.ReplaceNoSync(g.KnownFile, []byte(content)); err == nil {
				written = content
			} else if g.said.first("known") {
				g.log.Warn("known servers can't be written", "path", g.KnownFile, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		timer := time.NewTimer(writePause)
		select {
		case <-ctx.Done(): // the next turn writes the last change
		case <-timer.C:
		}
		timer.Stop()
	}
}
