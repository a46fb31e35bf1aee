package gossip

import (
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// once limits log lines to one an hour for each key, so that a peer that connects every
// second does not fill the disk. It is bounded.
type once struct {
	mu   sync.Mutex
	seen map[string]time.Time // when a key was last logged
}

const (
	onceFor = time.Hour // a key may be logged again after that
	onceMax = 1024      // keys; beyond that all are forgotten
)

// first reports whether the key was not logged within onceFor, and records it.
func (o *once) first(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if at, ok := o.seen[key]; ok && now.Sub(at) < onceFor {
		return false
	}
	if o.seen == nil || len(o.seen) >= onceMax {
		o.seen = map[string]time.Time{}
	}
	o.seen[key] = now
	return true
}

// reset forgets a key, so that it may be logged again at once.
func (o *once) reset(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.seen, key)
}

// logWriter passes memberlist's lines ("[ERR] memberlist: text from=addr") on to hclog.
// Lines of one kind about one peer are limited by once.
type logWriter struct {
	logger hclog.Logger
	once   *once
}

var (
	logLine = regexp.MustCompile(`^(?:\[(\w+)\] )?(?:memberlist: )?(.*)$`)
	logFrom = regexp.MustCompile(`^(.*?):? from=(\S+)$`)
	logKind = regexp.MustCompile(`^[^0-9"'(\[]*`)
)

// logLevels overrides memberlist's level of the lines that begin with a text.
var logLevels = []struct {
	begins string
	level  hclog.Level
}{
	// Two processes are configured with different cluster names or keys.
	{"discarding packet with unacceptable label", hclog.Error},
	{"discarding stream with unacceptable label", hclog.Error},
	{"Decrypt packet failed", hclog.Error},
	{"failed to receive: remote state is encrypted", hclog.Error},
	{"failed to receive: encryption is configured", hclog.Error},
	{"failed to receive: no installed keys", hclog.Error},
	{"failed to receive: No installed keys", hclog.Error},
	// delegate.refuse logs refusals with their reason.
	{"ignoring alive message", hclog.Debug},
	{"Failed push/pull merge", hclog.Debug},
	// Normal after a restart: others still probe the old instance.
	{"Got ping for unexpected node", hclog.Debug},
	{"Refuting", hclog.Debug},
	// The delegate logs when members come and go.
	{"Suspect ", hclog.Debug},
	{"Marking ", hclog.Debug},
}

// Write logs one line. It never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	parts := logLine.FindStringSubmatch(strings.TrimSpace(string(line)))
	if parts == nil {
		return len(line), nil
	}
	level, text, from := hclog.Warn, parts[2], ""
	switch parts[1] { // "ERR" becomes Warn: network errors heal or are retried, nobody has to act
	case "DEBUG":
		level = hclog.Debug
	case "INFO":
		level = hclog.Info
	}
	if m := logFrom.FindStringSubmatch(text); m != nil {
		text, from = m[1], m[2]
	}
	for _, l := range logLevels {
		if strings.HasPrefix(text, l.begins) {
			level = l.level
		}
	}
	if level == hclog.Debug {
		if w.logger.IsDebug() {
			w.logger.Debug(text, "addr", from)
		}
		return len(line), nil
	}
	// The port differs for each connection, and the peer may control the text after a
	// digit or a quote: neither is part of the key.
	peer := from
	if host, _, err := net.SplitHostPort(from); err == nil {
		peer = host
	}
	if w.once.first(logKind.FindString(text) + "|" + peer) {
		w.logger.Log(level, text, "addr", from)
	}
	return len(line), nil
}
