package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/structs"
)

// line is one line of the journal. Exactly one field is set.
type line struct {
	Record *record   `json:"record,omitempty"`
	Seen   *position `json:"seen,omitempty"`
	Kept   *kept     `json:"kept,omitempty"`
}

// journal is a file of lines with checksums. The last line about a thing counts. The
// file survives kill -9 at any instant: a line is one write, and a torn line is
// ignored. It is not fsynced, because a power failure ends the containers too.
type journal struct {
	path string

	mu      sync.Mutex
	file    *os.File
	lines   int // in the file
	records map[structs.Ref]record
	kept    map[structs.Ref]kept // in quarantine
	seen    position
}

// compactAt is the number of lines above twice the records' that starts a compaction.
const compactAt = 10_000

// openJournal reads the journal and rewrites it without outdated lines. damaged is the
// number of lines that were damaged; their content is lost.
func openJournal(path string) (j *journal, damaged int, err error) {
	j = &journal{path: path, records: make(map[structs.Ref]record), kept: make(map[structs.Ref]kept)}
	f, err := os.Open(path)
	switch {
	case err == nil:
		damaged, err = j.read(f)
		err = errors.Join(err, f.Close())
	case errors.Is(err, os.ErrNotExist):
		err = nil
	}
	if err == nil {
		err = j.compact()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("journal %s: %w", path, err)
	}
	return j, damaged, nil
}

// maxLine is the longest line in bytes. Reasons are single sentences.
const maxLine = 64 << 10

// read applies all intact lines.
func (j *journal) read(r io.Reader) (damaged int, err error) {
	in := bufio.NewReaderSize(r, maxLine)
	for {
		text, err := in.ReadSlice('\n')
		switch {
		case err == nil:
			if l, ok := decodeLine(text[:len(text)-1]); ok {
				j.apply(l)
			} else {
				damaged++
			}
		case errors.Is(err, bufio.ErrBufferFull):
			damaged++ // as is the rest, up to the next newline
		case errors.Is(err, io.EOF):
			if len(text) > 0 {
				damaged++
			}
			return damaged, nil
		default:
			return damaged, err
		}
	}
}

// encodeLine returns the line with its checksum and newline.
func encodeLine(l line) []byte {
	body, err := json.Marshal(l)
	if err != nil {
		panic(fmt.Sprintf("agent: a journal line that is no JSON: %v", err)) // the fields are strings, numbers and times only
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(body), body)
}

// decodeLine reads a line without its newline; ok is false if it is damaged.
func decodeLine(text []byte) (l line, ok bool) {
	sum, body, found := bytes.Cut(text, []byte(" "))
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if !found || err != nil || len(sum) != 8 || uint32(want) != crc32.ChecksumIEEE(body) {
		return l, false
	}
	if json.Unmarshal(body, &l) != nil {
		return l, false
	}
	set := 0
	for _, is := range []bool{l.Record != nil, l.Seen != nil, l.Kept != nil} {
		if is {
			set++
		}
	}
	if l.Record != nil {
		completeKind(&l.Record.Ref)
	}
	if l.Kept != nil {
		completeKind(&l.Kept.Ref)
	}
	return l, set == 1
}

// completeKind sets the kind of a reference by a build that knew only containers.
func completeKind(ref *structs.Ref) { ref.Kind = cmp.Or(ref.Kind, structs.WorkloadContainer) }

// apply takes over a line into memory.
func (j *journal) apply(l line) {
	switch {
	case l.Seen != nil:
		j.seen = *l.Seen
	case l.Kept != nil && l.Kept.Over:
		delete(j.kept, l.Kept.Ref)
	case l.Kept != nil:
		j.kept[l.Kept.Ref] = *l.Kept
	case l.Record.Forgotten:
		delete(j.records, l.Record.Ref)
	default:
		j.records[l.Record.Ref] = *l.Record
	}
}

// append writes a line and applies it. If append returns an error, nothing has changed.
func (j *journal) append(l line) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return os.ErrClosed
	}
	if j.lines > compactAt+2*len(j.records) {
		if err := j.compactLocked(); err != nil {
			return fmt.Errorf("journal %s: %w", j.path, err)
		}
	}
	if _, err := j.file.Write(encodeLine(l)); err != nil {
		// The newline keeps a line that was cut short from swallowing the next one.
		_, _ = j.file.WriteString("\n")
		return fmt.Errorf("journal %s: %w", j.path, err)
	}
	j.lines++
	j.apply(l)
	return nil
}

// compact rewrites the file with one line for each thing.
func (j *journal) compact() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.compactLocked()
}

func (j *journal) compactLocked() error {
	buf := encodeLine(line{Seen: &j.seen})
	for _, r := range j.records {
		buf = append(buf, encodeLine(line{Record: &r})...)
	}
	for _, k := range j.kept {
		buf = append(buf, encodeLine(line{Kept: &k})...)
	}
	if err := atomicfile.ReplaceNoSync(j.path, buf); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	if j.file != nil {
		_ = j.file.Close() // the new file has its content
	}
	j.file, j.lines = f, len(j.records)+len(j.kept)+1
	return nil
}

// record returns the record of a placement; ok is false if there is none.
func (j *journal) record(ref structs.Ref) (r record, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r, ok = j.records[ref]
	if !ok {
		r = record{Ref: ref}
	}
	return r, ok
}

// needsLease reports whether a container runs only under a lease. The record says so,
// or the label if the record of the creation is lost.
func (j *journal) needsLease(e backend.Entry) bool {
	rec, _ := j.record(e.Ref)
	return rec.Lease || !rec.Created && e.Lease
}

// refs returns all placements that have a record.
func (j *journal) refs() []structs.Ref {
	j.mu.Lock()
	defer j.mu.Unlock()
	refs := make([]structs.Ref, 0, len(j.records))
	for ref := range j.records {
		refs = append(refs, ref)
	}
	return refs
}

// put writes a record.
func (j *journal) put(r record) error { return j.append(line{Record: &r}) }

// forget drops a record. Its proof stays while copies of its container exist.
func (j *journal) forget(ref structs.Ref) error {
	r, ok := j.record(ref)
	if !ok {
		return nil
	}
	if r.Copied {
		if r.bare() {
			return nil
		}
		return j.put(r.proof())
	}
	return j.put(record{Ref: ref, Forgotten: true})
}

// quarantined returns the quarantine entry of a placement, or of the workload that it is a
// part of; ok is false if there is none.
func (j *journal) quarantined(ref structs.Ref) (k kept, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	k, ok = j.kept[ref.Whole()]
	return k, ok
}

// allKept returns all that is in quarantine.
func (j *journal) allKept() []kept {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Values(j.kept))
}

// keep writes a quarantine entry, or its end.
func (j *journal) keep(k kept) error {
	if was, ok := j.quarantined(k.Ref); ok == !k.Over && (k.Over || was == k) {
		return nil
	}
	return j.append(line{Kept: &k})
}

// position returns how far the agent has followed its cluster.
func (j *journal) position() position {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seen
}

// advance writes how far the agent has followed its cluster.
func (j *journal) advance(s position) error {
	if j.position() == s {
		return nil
	}
	return j.append(line{Seen: &s})
}

// reset forgets everything.
func (j *journal) reset() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records, j.kept, j.seen = make(map[structs.Ref]record), make(map[structs.Ref]kept), position{}
	return j.compactLocked()
}

// close closes the journal. append fails from now on.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	f := j.file
	j.file = nil
	if f == nil {
		return nil
	}
	return f.Close()
}
