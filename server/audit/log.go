package audit

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/structs"
)

// Defaults of Config.
const (
	DefaultMaxBytes = 100 << 20
	DefaultMaxFiles = 10
	DefaultKeepFor  = 24 * time.Hour
)

// Config configures a Log.
type Config struct {
	Path     string        // of the file; it is created with mode 0600
	MaxBytes int64         // size at which the file is rotated; 0 means DefaultMaxBytes
	MaxFiles int           // rotated files that stay; 0 means DefaultMaxFiles
	KeepFor  time.Duration // age until which rotated files stay beyond MaxFiles; 0 means DefaultKeepFor, below 0 none
	// AllowOnError carries actions out although their lines can't be written.
	AllowOnError bool

	ServerID string // of this server, which each line names
	Server   string // its name
	Logger   hclog.Logger

	now   func() time.Time      // nil means time.Now
	fault func(op string) error // for tests: called before each of the operations open, allocate, write and rename; nil breaks nothing
}

// Check checks the configuration without I/O. Errors are CodeInvalid and name the flags.
func (c Config) Check() error {
	switch {
	case c.MaxBytes != 0 && c.MaxBytes < 64<<10:
		return structs.Errorf(structs.CodeInvalid, "-audit-log-max-bytes %d is less than %d", c.MaxBytes, 64<<10)
	case c.MaxFiles < 0:
		return structs.Errorf(structs.CodeInvalid, "-audit-log-max-files %d is less than 1", c.MaxFiles)
	case c.Path == "" && (c.MaxBytes != 0 || c.MaxFiles != 0 || c.KeepFor != 0 || c.AllowOnError):
		return structs.Errorf(structs.CodeInvalid, "settings of the audit log need -audit-log FILE")
	}
	return nil
}

// maxKept limits the lines that wait in memory if AllowOnError is set, in bytes.
const maxKept = 1 << 20

// A Log is an open audit log. Its methods may be called from several goroutines.
type Log struct {
	config   Config
	observer observer

	mu       sync.Mutex // guards all below
	file     *file
	retryAt  time.Time // when the next rotation may be tried after one that failed
	reserved int       // actions that are under way, with room for a line each
	kept     [][]byte  // lines that could not be written, the oldest first
	keptSize int       // their bytes
	missing  int       // lines that were dropped since the last one that was written
	failed   error     // why a line or its room could not be written; nil if the last one could
	refusals [floods]limiter
}

// Open opens the log, or creates it. Errors are CodeInvalid for a path that can't be an
// audit log, and CodeConflict if another server has it.
func Open(c Config) (*Log, error) {
	c.MaxBytes, c.MaxFiles = cmp.Or(c.MaxBytes, DefaultMaxBytes), cmp.Or(c.MaxFiles, DefaultMaxFiles)
	c.KeepFor = cmp.Or(c.KeepFor, DefaultKeepFor)
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.fault == nil {
		c.fault = func(string) error { return nil }
	}
	l := &Log{config: c, observer: observer{c.ServerID, c.Server}}
	f, err := l.open(os.O_CREATE)
	if err != nil {
		return nil, err
	}
	l.file = f
	l.prune()
	return l, nil
}

// Begin reserves the room for the line of an action that is about to be carried out. End
// must follow if it returns nil. Errors are CodeNoSpace.
func (l *Log) Begin() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.makeRoom()
	l.note(err)
	if err != nil && !l.config.AllowOnError {
		return structs.Errorf(structs.CodeNoSpace,
			"Nothing was changed, because this server can't write its audit log: the operator has to make room for it (%w)", err)
	}
	l.reserved++
	return nil
}

// End writes the line of an action for which Begin has reserved the room.
func (l *Log) End(e *Event) {
	l.write(e, true)
}

// Refused writes the line of an action that was refused before Begin. Nothing was done, so
// the line is dropped and counted if it can't be written.
func (l *Log) Refused(e *Event) {
	l.write(e, false)
}

// Failing returns why actions are refused, nil if they aren't. It tries again, because a
// load balancer sends no writes to a server that is failing.
func (l *Log) Failing() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.config.AllowOnError {
		return nil
	}
	if l.failed != nil {
		l.note(l.makeRoom())
	}
	return l.failed
}

// buffers are for lines. A line that becomes longer leaves its buffer for a larger one.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// write encodes and writes one line. done says that the action was carried out, and has
// its room reserved.
func (l *Log) write(e *Event, done bool) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	id := structs.NewID()
	e.Time = l.config.now()
	text := e.encode(*buffer, l.observer, id, 0)

	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if done {
		l.reserved--
	}
	flood := e.flood()
	if flood >= 0 && (!l.file.takes(flood, len(text), l.config.MaxBytes) || !l.refusals[flood].allow(e.Time)) {
		l.missing++
		return
	}
	if done {
		err = l.flush()
	} else {
		err = l.makeRoom() // not the room of actions that are under way
	}
	if err == nil {
		missing := l.missing
		if missing > 0 {
			text = e.encode(text, l.observer, id, missing)
		}
		if err = l.file.write(text, l.config.fault); err == nil {
			l.missing -= missing
			if flood >= 0 {
				l.file.flooded[flood] += int64(len(text))
			}
		}
	}
	l.note(err)
	switch {
	case err == nil:
	case done && (!l.config.AllowOnError || l.keptSize+len(text) <= maxKept):
		l.kept = append(l.kept, bytes.Clone(text))
		l.keptSize += len(text)
		l.config.Logger.Error("line of the audit log waits in memory", "request_id", e.RequestID, "action", e.Action, "error", err)
	default:
		l.missing++
	}
}

// flush writes the lines that wait.
func (l *Log) flush() error {
	for len(l.kept) > 0 {
		if err := l.file.write(l.kept[0], l.config.fault); err != nil {
			return err
		}
		l.keptSize -= len(l.kept[0])
		l.kept = l.kept[1:]
	}
	l.kept = nil
	return nil
}

// makeRoom makes room for one more line, in a new file if the present one is full.
func (l *Log) makeRoom() error {
	if err := l.flush(); err != nil {
		return err
	}
	if now := l.config.now(); l.file.size >= l.config.MaxBytes && !now.Before(l.retryAt) {
		if err := l.rotate(now); err != nil {
			l.retryAt = now.Add(time.Second)
			l.config.Logger.Error("audit log can't be rotated, so the file goes on", "file", l.config.Path, "error", err)
		}
	}
	return l.file.reserve(int64(l.reserved+1)*MaxLine, l.config.fault)
}

// note notes whether the log can be written, and logs a change.
func (l *Log) note(err error) {
	if (err == nil) == (l.failed == nil) {
		return
	}
	l.failed = err
	switch {
	case err == nil:
		l.config.Logger.Info("audit log can be written again", "file", l.config.Path, "missing", l.missing)
	case l.config.AllowOnError:
		l.config.Logger.Error("audit log can't be written; writes go on without it", "file", l.config.Path, "error", err)
	default:
		l.config.Logger.Error("audit log can't be written, so writes are refused", "file", l.config.Path, "error", err)
	}
}

// Reopen opens the file by its name again, after another program has moved it. The old
// file goes on if that fails.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file.named(l.config.Path) {
		return nil
	}
	f, err := l.open(os.O_CREATE)
	if err == nil {
		err = l.replace(f)
	}
	if err != nil {
		return fmt.Errorf("the audit log goes on in the old file: %w", err)
	}
	l.prune()
	return nil
}

// replace goes on with another file, if it has room for the actions that are under way.
func (l *Log) replace(f *file) error {
	if err := f.reserve(int64(l.reserved+1)*MaxLine, l.config.fault); err != nil {
		f.close()
		return err
	}
	l.file.close()
	l.file = f
	return nil
}

// Close closes the file. Lines that could not be written are lost.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.flush(); err != nil {
		l.config.Logger.Error("lines of the audit log are lost", "lines", len(l.kept), "error", err)
	}
	l.file.close()
}

// The kinds of lines of which one caller can cause any number, although nothing is done: they
// must neither fill the disk nor have the lines of others rotated away. Each has limits of its
// own.
const (
	floodUnknown = iota // of callers without a valid credential
	floodKnown          // reads that the policy refuses, and requests that are refused for their rate
	floods
)

// flood returns which of these kinds the line is of, -1 if it is of none.
func (e *Event) flood() int {
	switch {
	case e.Outcome != Failure:
		return -1
	case e.Caller.UserID == "":
		return floodUnknown
	case e.Code == structs.CodeRateLimited, e.Code == structs.CodeForbidden && e.Reads:
		return floodKnown
	}
	return -1
}

// The limits of lines of each of these kinds.
const (
	refusalBurst = 1000
	refusalEvery = time.Second / 2
	refusalShare = 10 // a file has such lines up to this part of its largest size
)

// limiter limits how often something is allowed: refusalBurst times at once, and once each
// refusalEvery after that.
type limiter struct {
	used int
	last time.Time // since when used is counted down
}

func (r *limiter) allow(now time.Time) bool {
	if r.used == 0 || now.Before(r.last) {
		r.last = now
	}
	n := int(now.Sub(r.last) / refusalEvery)
	r.last = r.last.Add(time.Duration(n) * refusalEvery)
	r.used = max(0, r.used-n)
	if r.used >= refusalBurst {
		return false
	}
	r.used++
	return true
}
