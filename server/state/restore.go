package state

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/stackforge/magnum/server/state/charges"
	"github.com/stackforge/magnum/structs"
)

// restorer builds a state from the frames of a snapshot.
type restorer struct {
	w           *writer // to state; nil to check only
	state       Snapshot
	codec       *rowCodec
	usage       map[string]*Usage
	charged     *charges.Batch
	lists, rows uint64            // numbers in the header
	schema      int               // of the rows
	seen        func(structs.Row) // called for each row; nil for none
	rewrite     *rewrite          // nil to read the state unchanged

	// specs contains the separate specs whose workload has not been read yet, by its
	// BesideID; nil values if nothing is kept.
	specs map[string]*structs.StoredSpec

	readLists, readRows uint64
	readHash            uint64 // of the rows in the stream
}

// readSnapshot reads a stream into new tables.
func readSnapshot(r io.Reader) (*Snapshot, error) { return new(restorer).build(r) }

// build reads a stream into new tables.
func (rs *restorer) build(r io.Reader) (*Snapshot, error) {
	rs.usage, rs.charged = make(map[string]*Usage), charges.NewBatch(new(charges.Ledger))
	rs.w = newWriter(nil, &rs.state)
	if err := rs.read(r); err != nil {
		return nil, err
	}
	if rs.rewrite != nil {
		if err := rs.rewrite.finish(rs); err != nil {
			return nil, err
		}
	}
	for hostID, u := range rs.usage {
		rs.w.usage(hostID, u)
	}
	rs.w.buildRooms()
	rs.state.charged.Apply(rs.w.epoch, rs.charged)
	if lists, rows := countRows(&rs.state); lists != rs.readLists || rows != rs.readRows {
		return nil, errors.New("it contains a row or a list twice")
	}
	return &rs.state, nil
}

// ErrSchema is in the chain of an error about a snapshot or an entry that only another
// version of magnum can read.
var ErrSchema = errors.New("not of this version")

// Verify reads a whole snapshot stream and returns its index, or the error
// that Restore would return. It keeps nothing of what it reads.
func Verify(r io.Reader) (index uint64, err error) {
	rs := new(restorer)
	if err := rs.read(r); err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	return rs.state.index, nil
}

// read reads the stream frame by frame.
func (rs *restorer) read(r io.Reader) error {
	rs.codec = rowCodecs.Get().(*rowCodec)
	defer rowCodecs.Put(rs.codec)
	fr := &frameReader{r: bufio.NewReaderSize(r, frameSize)}
	kind, payload, err := fr.next()
	if err == nil {
		err = rs.header(kind, payload)
	}
	for err == nil && kind != frameTrailer {
		if kind, payload, err = fr.next(); err == nil {
			err = rs.frame(kind, payload)
		}
	}
	if err != nil {
		return err
	}
	if _, err := fr.r.ReadByte(); err == nil {
		return errors.New("bytes follow its end")
	} else if err != io.EOF {
		return err
	}
	return nil
}

func (rs *restorer) header(kind byte, payload []byte) error {
	rest, found := bytes.CutPrefix(payload, []byte(magic))
	if kind != frameHeader || !found || len(rest) < 2 {
		return errNoSnapshot
	}
	if rs.schema = int(binary.BigEndian.Uint16(rest)); rs.schema < structs.LeastSchema || rs.schema > structs.SchemaVersion {
		return fmt.Errorf("%w: it is of schema %d; this binary reads up to %d: run the version of magnum that wrote it, or a newer one",
			ErrSchema, rs.schema, structs.SchemaVersion)
	}
	r := reader{rest: rest[2:]}
	rs.state.index, rs.state.lastSeq = r.uvarint("index"), r.uvarint("last seq")
	rs.lists, rs.rows = r.uvarint("number of lists"), r.uvarint("number of rows")
	if rs.schema >= structs.SchemaLastTime {
		if seconds := r.uvarint("last time"); seconds > 0 {
			rs.state.lastTime = time.Unix(int64(seconds), 0).UTC()
		}
	}
	return r.done()
}

// done returns the reader's error, or an error if bytes are left.
func (r *reader) done() error {
	if r.err == nil && len(r.rest) > 0 {
		return fmt.Errorf("%d bytes too many in a frame", len(r.rest))
	}
	return r.err
}

func (rs *restorer) frame(kind byte, payload []byte) error {
	r := reader{rest: payload}
	switch kind {
	case frameLists:
		for len(r.rest) > 0 {
			if err := rs.list(&r); err != nil {
				return err
			}
		}
	case frameRows:
		for len(r.rest) > 0 {
			if err := rs.row(&r); err != nil {
				return err
			}
		}
	case frameTrailer:
		if len(payload) != 8 {
			return errors.New("its end is malformed")
		}
		if rs.lists != rs.readLists || rs.rows != rs.readRows {
			return fmt.Errorf("it contains %d rows and %d lists instead of %d and %d", rs.readRows, rs.readLists, rs.rows, rs.lists)
		}
		if want := binary.BigEndian.Uint64(payload); want != rs.readHash {
			return fmt.Errorf("its state's hash is %016x, that of its rows is %016x", want, rs.readHash)
		}
		if len(rs.specs) > 0 {
			return fmt.Errorf("it contains the specs of %d workloads that it doesn't contain", len(rs.specs))
		}
	default:
		return fmt.Errorf("unknown frame kind %#x", kind)
	}
	return r.err
}

func (rs *restorer) list(r *reader) error {
	code, project, index := r.byte("table"), r.bytes("project"), r.uvarint("list index")
	if r.err != nil {
		return r.err
	}
	table, known := tableOf(code)
	if !known {
		return fmt.Errorf("unknown table number %d", code)
	}
	rs.readLists++
	if rs.rewrite != nil {
		index = rs.rewrite.index
	}
	rs.state.tables[code] = max(rs.state.tables[code], index)
	if rs.w != nil {
		rs.w.list(&listRecord{table: table, projectID: string(project), index: index})
	}
	return nil
}

func (rs *restorer) row(r *reader) error {
	code := r.byte("table")
	create, modify, assign := r.uvarint("create index"), r.uvarint("modify index"), r.uvarint("assign index")
	b := r.bytes("row")
	if r.err != nil {
		return r.err
	}
	table, known := tableOf(code)
	if !known {
		return fmt.Errorf("unknown table number %d", code)
	}
	row, err := rs.codec.decode(table, b)
	if err != nil {
		return fmt.Errorf("%s: %w", table, err)
	}
	m := row.Base()
	m.CreateIndex, m.ModifyIndex = create, modify
	rs.state.lastTime = later(rs.state.lastTime, m) // a snapshot of an earlier schema has no last time
	apart := false
	switch row := row.(type) {
	case *structs.StoredSpec:
		if rs.specs == nil {
			rs.specs = make(map[string]*structs.StoredSpec)
		}
		rs.specs[row.ID] = nil
		if rs.w != nil {
			rs.specs[row.ID] = row
		}
	case structs.Specced:
		var spec *structs.StoredSpec
		id := row.Ref().BesideID()
		if spec, apart = rs.specs[id]; apart {
			delete(rs.specs, id)
		}
		if spec != nil {
			row.SetSpec(spec)
		}
	}
	if w, ok := row.(structs.Workload); ok {
		p := w.Place()
		p.AssignIndex = assign
		for _, hostID := range p.Hosts() {
			if rs.w == nil {
				break
			}
			u := rs.usage[hostID]
			if u == nil {
				u = new(Usage)
				rs.usage[hostID] = u
			}
			u.Add(w.Reserved())
		}
	}
	if err := checkChange(&structs.Change{Table: table, ID: m.ID, Row: row}); err != nil {
		return err
	}
	rec := &record{row: row, hash: rowHash(row, b, apart)}
	rs.readRows++
	if rs.seen != nil {
		rs.seen(row)
	}
	rs.readHash += rec.hash
	if rs.rewrite != nil {
		rs.rewrite.row(row)
		rec.hash = rowHash(row, nil, apart)
	}
	rs.state.hash += rec.hash
	if rs.w != nil {
		rs.w.put(table, nil, rec)
		(&step{table: table, row: row}).charge(rs.charged)
	}
	return nil
}

// frameReader reads frames from a stream.
type frameReader struct {
	r       *bufio.Reader
	sum     uint32
	payload bytes.Buffer
}

// next returns the next frame; the payload is valid until the next call.
func (fr *frameReader) next() (kind byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(fr.r, head[:]); err != nil {
		return 0, nil, cutOff(err)
	}
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxPayload {
		return 0, nil, fmt.Errorf("it is damaged: a frame of %d bytes", size)
	}
	// Copied in pieces: a damaged length must not allocate more than there is.
	fr.payload.Reset()
	if _, err := io.CopyN(&fr.payload, fr.r, int64(size)); err != nil {
		return 0, nil, cutOff(err)
	}
	fr.sum = crc32.Update(fr.sum, castagnoli, head[:])
	fr.sum = crc32.Update(fr.sum, castagnoli, fr.payload.Bytes())
	var tail [4]byte
	if _, err := io.ReadFull(fr.r, tail[:]); err != nil {
		return 0, nil, cutOff(err)
	}
	if want := binary.BigEndian.Uint32(tail[:]); want != fr.sum {
		return 0, nil, fmt.Errorf("it is damaged: a checksum is %08x, that of its content is %08x", want, fr.sum)
	}
	fr.sum = crc32.Update(fr.sum, castagnoli, tail[:])
	return head[0], fr.payload.Bytes(), nil
}

// cutOff returns a clear error for a stream that ends too early.
func cutOff(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("it is cut off before its end")
	}
	return err
}
