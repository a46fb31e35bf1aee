package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// The engine's own follower loses its place when a log is rotated: it skips lines,
// repeats lines, or ends while the container runs (20.10, also docker logs -f). So the
// agent reads the log's files itself where it can. It reads each file to its end, and
// then finds the next one in a list of the files. An open file is recognized under
// every name.

// LogFiles is the number of files of a container's log: the newest, and those with the
// suffixes .1 and .2.
const LogFiles = 3

// errNoLogFiles says that the log can't be read from files: the engine is on another
// machine, or the agent has no permission.
var errNoLogFiles = errors.New("no log files")

// errRotated is the error of a follower that was too slow.
var errRotated = &backend.Failure{Reason: backend.ErrTooSlow,
	Msg: "some of the output is missing here: the log was rotated faster than it was read. " +
		"Read the log again with since, or give the container a larger log_max_size"}

// The streams of a log.
const (
	streamStdout = "stdout"
	streamStderr = "stderr"
)

// record is one entry of a log. A line of more than 16 KiB has several entries, of
// which the last ends with a newline.
type record struct {
	Log    []byte
	Stream string
	Time   time.Time
}

// parseRecord reads one line of a log's file. Lines in the engine's usual form are parsed
// without package json, which is slower.
func parseRecord(line []byte) (r record, ok bool) {
	rest, found := bytes.CutPrefix(line, []byte(`{"log":"`))
	if found {
		if text, rest, found := cutText(rest); found {
			for _, stream := range []string{streamStdout, streamStderr} {
				stamp, found := bytes.CutPrefix(rest, []byte(`,"stream":"`+stream+`","time":"`))
				if !found {
					continue
				}
				at, err := time.Parse(time.RFC3339Nano, string(bytes.TrimSuffix(stamp, []byte(`"}`))))
				if err == nil {
					return record{text, stream, at}, true
				}
			}
		}
	}
	var slow struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if json.Unmarshal(line, &slow) != nil {
		return r, false
	}
	return record{[]byte(slow.Log), slow.Stream, slow.Time}, true
}

// cutText reads a JSON string up to and including its closing quote. It knows only \n
// at the end; ok is false for other escapes.
func cutText(s []byte) (text, rest []byte, ok bool) {
	end := bytes.IndexByte(s, '"')
	if end < 0 {
		return nil, nil, false
	}
	text = s[:end]
	if body, found := bytes.CutSuffix(text, []byte(`\n`)); found && bytes.IndexByte(body, '\\') < 0 {
		return append(body[:len(body):len(body)], '\n'), s[end+1:], utf8.Valid(body)
	}
	return text, s[end+1:], bytes.IndexByte(text, '\\') < 0 && utf8.Valid(text)
}

// logFile is one open file of a log.
type logFile struct {
	file *os.File
	id   fileID
	buf  []byte // bytes that were read and not yet returned as lines
	off  int    // of the first unread byte in buf
	pos  int64  // the number of bytes that were read from the file
}

func (f *logFile) close() { f.file.Close() }

// fileID identifies a file under whatever name.
type fileID struct{ dev, ino uint64 }

func idOf(info fs.FileInfo) (id fileID, ok bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return id, false
	}
	return fileID{uint64(s.Dev), s.Ino}, true
}

// line returns the next whole line without its newline. It is valid until the next
// call. nil at the end of the file, where more may be written later.
func (f *logFile) line() ([]byte, error) {
	for {
		if i := bytes.IndexByte(f.buf[f.off:], '\n'); i >= 0 {
			line := f.buf[f.off : f.off+i]
			f.off += i + 1
			return line, nil
		}
		f.buf = append(f.buf[:0], f.buf[f.off:]...)
		f.off = 0
		const piece = 64 << 10
		if len(f.buf) > maxLogLine {
			return nil, fmt.Errorf("a line of the log has more than %d bytes", maxLogLine)
		}
		have := len(f.buf)
		f.buf = append(f.buf, make([]byte, piece)...)
		n, err := f.file.Read(f.buf[have:])
		f.buf, f.pos = f.buf[:have+n], f.pos+int64(n)
		switch {
		case n > 0:
		case errors.Is(err, io.EOF):
			return nil, nil
		case err != nil:
			return nil, err
		}
	}
}

// maxLogLine bounds the lines of a log's file, in bytes. A record of 16 KiB in which every
// byte is escaped is much shorter.
const maxLogLine = 1 << 20

// logTail reads the files of one log in order.
type logTail struct {
	path  string      // of the newest file
	opens func(n int) // called before a file is opened, for tests that rotate at that moment; may be nil
	most  int         // the most files of the log
	files []*logFile  // from the file being read to the newest known
}

// openLog opens the existing files of a log. errNoLogFiles.
func openLog(path string, most int) (*logTail, error) {
	t := &logTail{path: path, most: most}
	files, err := t.list()
	if err != nil {
		return nil, err
	}
	t.files = files
	return t, nil
}

func (t *logTail) close() {
	for _, f := range t.files {
		f.close()
	}
}

// name returns the name of the nth file of a log; 0 is the newest.
func (t *logTail) name(n int) string {
	if n == 0 {
		return t.path
	}
	return fmt.Sprintf("%s.%d", t.path, n)
}

// list opens all files of the log at one moment, the oldest first. It begins again if
// the log is rotated meanwhile.
func (t *logTail) list() ([]*logFile, error) {
	for try := range 1000 {
		files, err := t.listOnce()
		if err != nil || files != nil {
			return files, err
		}
		if try > 10 {
			time.Sleep(time.Millisecond) // the engine is in the middle of a rotation
		}
	}
	return nil, errRotated
}

// listOnce makes one attempt of list; nil if the log was rotated meanwhile.
func (t *logTail) listOnce() (files []*logFile, err error) {
	leave := func() {
		for _, f := range files {
			f.close()
		}
		files = nil
	}
	found := make([]fileID, t.most) // by name; zero for none
	for n := t.most - 1; n >= 0; n-- {
		if t.opens != nil {
			t.opens(n)
		}
		f, err := os.Open(t.name(n))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // not rotated so often yet, or in the middle of a rotation
		case err != nil:
			leave()
			return nil, errNoLogFiles
		}
		info, err := f.Stat()
		id, ok := fileIDOf(info, err)
		if !ok {
			f.Close()
			leave()
			return nil, errNoLogFiles
		}
		found[n] = id
		files = append(files, &logFile{file: f, id: id})
	}
	// If a name has changed its file, a file was opened under two names, or missed.
	for n, was := range found {
		info, err := os.Stat(t.name(n))
		if id, _ := fileIDOf(info, err); id != was {
			leave()
			return nil, nil
		}
	}
	if len(files) == 0 { // and no file appeared meanwhile
		return nil, errNoLogFiles
	}
	return files, nil
}

func fileIDOf(info fs.FileInfo, err error) (fileID, bool) {
	if err != nil {
		return fileID{}, false
	}
	return idOf(info)
}

// next returns the next record, nil at the present end of the log. errRotated if the next
// record is gone.
func (t *logTail) next() (*record, error) {
	for {
		f := t.files[0]
		line, err := f.line()
		if err != nil {
			return nil, err
		}
		if line != nil {
			if r, ok := parseRecord(line); ok {
				return &r, nil
			}
			continue // left by a machine that crashed
		}
		if len(t.files) == 1 {
			// A renamed file is no longer written to. It is read once more, because
			// something may have been written just before it was renamed.
			rotated, err := t.rotated()
			if err != nil || !rotated {
				return nil, err
			}
			if line, err = f.line(); err != nil {
				return nil, err
			}
			if line != nil {
				if r, ok := parseRecord(line); ok {
					return &r, nil
				}
				continue
			}
			if err := t.follow(); err != nil {
				return nil, err
			}
			continue
		}
		f.close()
		t.files = t.files[1:]
	}
}

// rotated reports whether the newest file is a new one.
func (t *logTail) rotated() (bool, error) {
	info, err := os.Stat(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // in the middle of a rotation, or the container is gone, which its end shows
	}
	id, ok := fileIDOf(info, err)
	return ok && id != t.files[0].id, err
}

// follow opens the files after the one that was the newest.
func (t *logTail) follow() error {
	files, err := t.list()
	if errors.Is(err, errNoLogFiles) {
		return errRotated // all files are gone
	} else if err != nil {
		return err
	}
	for i, f := range files {
		if f.id != t.files[0].id {
			continue
		}
		for _, old := range files[:i+1] {
			old.close()
		}
		t.files[0].close()
		if t.files = files[i+1:]; len(t.files) == 0 {
			t.files = []*logFile{f}
			return errRotated // it has its old name again, which no rotation does
		}
		return nil
	}
	for _, f := range files {
		f.close()
	}
	return errRotated
}

// logPlace is a position in a log.
type logPlace struct {
	id  fileID
	off int64
}

// end returns the present end of the log.
func (t *logTail) end() (logPlace, error) {
	f := t.files[len(t.files)-1]
	info, err := f.file.Stat()
	if err != nil {
		return logPlace{}, err
	}
	return logPlace{f.id, info.Size()}, nil
}

// past reports whether the log was read up to a place.
func (t *logTail) past(p logPlace) bool {
	f := t.files[0]
	if f.id != p.id {
		for _, later := range t.files[1:] {
			if later.id == p.id {
				return false
			}
		}
		return true
	}
	return f.pos-int64(len(f.buf)-f.off) >= p.off
}

// logWriter writes the records that a user has requested.
type logWriter struct {
	req            structs.LogsRequest
	since          time.Time
	stdout, stderr io.Writer
	skip           int                // the number of lines that are still to be skipped
	streams        map[string]*stream // by name
	out            []byte             // pending output, of one stream
	of             string             // the stream of out
}

// stream is the state of the lines of one stream.
type stream struct {
	within bool // a line has begun and not ended
	hidden bool // that line isn't requested
}

func (w *logWriter) stream(name string) *stream {
	s := w.streams[name]
	if s == nil {
		s = new(stream)
		w.streams[name] = s
	}
	return s
}

// begins reports whether a record begins a line, and notes whether it ends one.
func (s *stream) begins(r *record) bool {
	begins := !s.within
	s.within = !bytes.HasSuffix(r.Log, []byte("\n"))
	return begins
}

// stampLayout is RFC 3339 with all nine fractional digits, as the engine writes times
// before lines.
const stampLayout = "2006-01-02T15:04:05.000000000Z07:00"

// write writes one record.
func (w *logWriter) write(r *record) error {
	s := w.stream(r.Stream)
	begins := s.begins(r)
	if begins {
		s.hidden = r.Time.Before(w.since)
		if w.skip > 0 && !s.hidden {
			w.skip--
			s.hidden = true
		}
	}
	wanted := w.req.Stdout
	if r.Stream == streamStderr {
		wanted = w.req.Stderr
	}
	if s.hidden || !wanted {
		return nil
	}
	if r.Stream != w.of || len(w.out) >= maxPending {
		if err := w.flush(); err != nil {
			return err
		}
	}
	w.of = r.Stream
	if begins && w.req.Timestamps {
		w.out = append(r.Time.UTC().AppendFormat(w.out, stampLayout), ' ')
	}
	w.out = append(w.out, r.Log...)
	return nil
}

// maxPending is the number of pending bytes that are written at once.
const maxPending = 32 << 10

func (w *logWriter) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	to := w.stdout
	if w.of == streamStderr {
		to = w.stderr
	}
	_, err := to.Write(w.out)
	w.out = w.out[:0]
	return err
}

// countLogLines counts the lines of a log from since up to a place.
func countLogLines(path string, most int, since time.Time, to logPlace) (n int, err error) {
	t, err := openLog(path, most)
	if err != nil {
		return 0, err
	}
	defer t.close()
	w := &logWriter{streams: make(map[string]*stream)}
	for !t.past(to) {
		r, err := t.next()
		if err != nil || r == nil {
			return n, err
		}
		if w.stream(r.Stream).begins(r) && !r.Time.Before(since) {
			n++
		}
	}
	return n, nil
}

// sinceOf parses a request's since: RFC 3339, or a duration before now.
func sinceOf(since string) (time.Time, error) {
	if since == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(since); err == nil {
		return time.Now().Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339Nano, since)
	if err != nil {
		return at, &backend.Failure{Reason: backend.ErrInvalid, Msg: fmt.Sprintf("since %q is neither a time nor a duration", since)}
	}
	return at, nil
}

// readLog writes a log's lines from its files, of which there are at most most. It ends
// at the present end of the log or, with Follow, at the end after over is closed.
// errNoLogFiles before anything is written.
func readLog(ctx context.Context, path string, most int, req structs.LogsRequest, over <-chan struct{}, stdout, stderr io.Writer) error {
	since, err := sinceOf(req.Since)
	if err != nil {
		return err
	}
	t, err := openLog(path, most)
	if err != nil {
		return err
	}
	defer t.close()
	news := &logWatch{}
	if req.Follow {
		news = watchLog(path)
		defer news.close()
	}
	present, err := t.end()
	if err != nil {
		return err
	}
	w := &logWriter{req: req, since: since, stdout: stdout, stderr: stderr, streams: make(map[string]*stream)}
	if req.Tail >= 0 {
		n, err := countLogLines(path, most, since, present)
		if err != nil {
			return err
		}
		w.skip = max(0, n-req.Tail)
	}
	for last := false; ; {
		if !req.Follow && t.past(present) {
			return w.flush()
		}
		r, err := t.next()
		if err != nil {
			return errors.Join(w.flush(), err)
		}
		if r != nil {
			if err := w.write(r); err != nil {
				return err
			}
			continue
		}
		if err := w.flush(); err != nil {
			return err
		}
		if !req.Follow || last {
			return nil
		}
		select {
		case <-over:
			last = true // output from before that is in the files by now
		case <-news.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// logWatch reports changes of the files of a log.
type logWatch struct {
	more chan struct{} // capacity 1
	stop func()
	done chan struct{}
}

// logPause is the time between two looks at a log without inotify: the kernel limits the
// number of its users.
const logPause = 20 * time.Millisecond

// watchLog watches the directory of a log.
func watchLog(path string) *logWatch {
	w := &logWatch{more: make(chan struct{}, 1), done: make(chan struct{})}
	notify := func() {
		select {
		case w.more <- struct{}{}:
		default:
		}
	}
	if file, err := inotify(filepath.Dir(path)); err == nil {
		w.stop = func() { file.Close() }
		go func() {
			defer close(w.done)
			for buf := make([]byte, 4096); ; notify() {
				if _, err := file.Read(buf); err != nil {
					return
				}
			}
		}()
		return w
	}
	stopped := make(chan struct{})
	w.stop = func() { close(stopped) }
	go func() {
		defer close(w.done)
		tick := time.NewTicker(logPause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				notify()
			case <-stopped:
				return
			}
		}
	}()
	return w
}

// inotify returns a file to read a directory's changes from.
func inotify(dir string) (*os.File, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE_SELF); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func (w *logWatch) close() {
	w.stop()
	<-w.done
}
