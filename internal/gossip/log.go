package gossip

import (
	"net"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// once remembers what was logged, so that a peer that knocks each second
// fills no disk. Bounded.
type once struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

const (
	onceFor = time.Hour // a thing that is still so is said again
	onceMax = 1024      // things; beyond, all are forgotten
)

// first reports whether the thing wasn't seen within the last hour.
func (o *once) first(thing string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if at, ok := o.seen[thing]; ok && now.Sub(at) < onceFor {
		return false
	}
	if o.seen == nil || len(o.seen) >= onceMax {
		o.seen = map[string]time.Time{}
	}
	o.seen[thing] = now
	return true
}

// again forgets a thing.
func (o *once) again(thing string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.seen, thing)
}

// logWriter takes memberlist's lines ("[ERR] memberlist: text from=addr") to
// hclog. A line of the same kind about the same peer is written once.
type logWriter struct {
	logger hclog.Logger
	once   *once
}

var (
	logLine = regexp.MustCompile(`^(?:\[(\w+)\] )?(?:memberlist: )?(.*)$`)
	logFrom = regexp.MustCompile(`^(.*?):? from=(\S+)$`)
	logKind = regexp.MustCompile(`^[^0-9"'(\[]*`)
)

// Lines that need another level than memberlist gives them, by their beginning.
var logLevels = []struct {
	begins string
	level  hclog.Level
}{
	// A person has set two different cluster names or keys.
	{"discarding packet with unacceptable label", hclog.Error},
	{"discarding stream with unacceptable label", hclog.Error},
	{"Decrypt packet failed", hclog.Error},
	{"failed to receive: remote state is encrypted", hclog.Error},
	{"failed to receive: encryption is configured", hclog.Error},
	{"failed to receive: no installed keys", hclog.Error},
	{"failed to receive: No installed keys", hclog.Error},
	// Refusals are logged where they are decided, with the reason.
	{"ignoring alive message", hclog.Debug},
	{"Failed push/pull merge", hclog.Debug},
	// Ordinary after a restart: the old instance is asked for, or contradicted.
	{"Got ping for unexpected node", hclog.Debug},
	{"Refuting", hclog.Debug},
	// The members of a cluster are told by Gossip itself.
	{"Suspect ", hclog.Debug},
	{"Marking ", hclog.Debug},
}

// Write takes one line. It never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	parts := logLine.FindStringSubmatch(strings.TrimSpace(string(line)))
	if parts == nil {
		return len(line), nil
	}
	level, text, from := hclog.Warn, parts[2], ""
	switch parts[1] { // an error of the network heals or is retried: no person acts on it
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
	// The port of a connection is another one each time, and what follows a
	// digit or a quote may be of the peer's making.
	peer := from
	if host, _, err := net.SplitHostPort(from); err == nil {
		peer = host
	}
	if w.once.first(logKind.FindString(text) + "|" + peer) {
		w.logger.Log(level, text, "addr", from)
	}
	return len(line), nil
}
