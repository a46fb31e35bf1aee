package web

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// Limits of the log of failed authentication.
const (
	failurePause = 10 * time.Second // between two lines for one address
	maxFailures  = 1024             // addresses that are remembered
)

// failures logs failed authentication: one line for an address in failurePause, with the
// number of those in between.
type failures struct {
	log hclog.Logger
	now func() time.Time

	mu    sync.Mutex // guards what follows
	by    map[string]*failure
	lost  int       // failures of addresses that weren't remembered
	total time.Time // when lost was last logged
}

type failure struct {
	logged     time.Time
	suppressed int
}

func newFailures(log hclog.Logger) *failures {
	return &failures{log: log, now: time.Now, by: make(map[string]*failure)}
}

// note logs that a request was not authenticated. Requests without a token are left out:
// clients begin with them. The line has nothing of the token.
func (f *failures) note(q *Request, err error) {
	if structs.CodeOf(err) != structs.CodeUnauthenticated || q.token() == "" || q.Call.Forwarded {
		return
	}
	addr := clientAddress(q)
	if suppressed, ok := f.due(addr); ok {
		f.log.Info("authentication failed", "client", addr, "request_id", q.W.RequestID, "method", q.R.Method,
			"route", q.route.FullPath(), "reason", err, "suppressed", suppressed)
	}
}

// due reports whether a failure of the address is logged now, and how many were not since
// the last one that was.
func (f *failures) due(addr string) (suppressed int, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if seen := f.by[addr]; seen != nil {
		if now.Sub(seen.logged) < failurePause {
			seen.suppressed++
			return 0, false
		}
		suppressed = seen.suppressed
		seen.logged, seen.suppressed = now, 0
		return suppressed, true
	}
	if len(f.by) >= maxFailures {
		for other, seen := range f.by {
			if now.Sub(seen.logged) >= failurePause {
				delete(f.by, other)
				f.lost += seen.suppressed
			}
		}
	}
	if len(f.by) >= maxFailures {
		// An attack from many addresses gets one line in failurePause, too.
		if f.lost++; now.Sub(f.total) < failurePause {
			return 0, false
		}
		suppressed, f.lost, f.total = f.lost-1, 0, now
		return suppressed, true
	}
	f.by[addr] = &failure{logged: now}
	return 0, true
}
