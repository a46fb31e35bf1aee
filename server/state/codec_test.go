package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func validEntry(t testing.TB) []byte {
	t.Helper()
	b, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: 3, Prev: 200, Changes: []structs.Change{
		assign(typicalContainer(1), 0), put(node(2), 7), drop(node(3), 9),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed corrects the checksum of a changed entry.
func sealed(b []byte) []byte {
	binary.BigEndian.PutUint32(b[2:], entrySum(b))
	return b
}

func TestEntryRoundTrip(t *testing.T) {
	b := validEntry(t)
	e, err := DecodeEntry(b)
	if err != nil {
		t.Fatal(err)
	}
	if e.Term != 3 || e.Prev != 200 || len(e.Changes) != 3 || !e.Changes[0].Assign || e.Changes[1].Version != 7 || e.Changes[2].Row != nil {
		t.Errorf("%+v", e)
	}
	again, err := EncodeEntry(e)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, again) {
		t.Error("decoded and encoded again, the bytes differ")
	}
}

func TestEncodeEntryRefusals(t *testing.T) {
	noID := put(node(1), 0)
	noID.ID = ""
	for name, e := range map[string]*structs.Entry{
		"schema":            {Schema: 99},
		"without the row's": {Schema: structs.SchemaVersion, Changes: []structs.Change{noID}},
		"unknown table":     {Schema: structs.SchemaVersion, Changes: []structs.Change{{Table: "nothing", ID: "x"}}},
	} {
		if _, err := EncodeEntry(e); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecodeEntryRefusals(t *testing.T) {
	entry := func(payload ...byte) []byte {
		return sealed(append([]byte{0, byte(structs.SchemaVersion), 0, 0, 0, 0}, payload...))
	}
	good := validEntry(t)
	schema := bytes.Clone(good)
	schema[1]++
	unknownField := append([]byte{1, 1, 1, codeOf(structs.TableNodes), flagRow, 1, 'x', 0, 8}, "\x82\xa2ID\xa1x\xa1Z\x01"...)
	unknownField[8] = byte(len(unknownField) - 9)
	otherID := append([]byte{1, 1, 1, codeOf(structs.TableNodes), flagRow, 1, 'y', 0, 6}, "\x81\xa2ID\xa1x"...)
	trailingRow := append([]byte{1, 1, 1, codeOf(structs.TableNodes), flagRow, 1, 'x', 0, 7}, "\x81\xa2ID\xa1x\x00"...)
	for name, b := range map[string][]byte{
		"entry of 0 bytes":           nil,
		"newer one":                  schema,
		"checksum":                   append(bytes.Clone(good), 0),
		"follow the last change":     sealed(append(bytes.Clone(good), 0)),
		"cut off":                    sealed(bytes.Clone(good[:len(good)-1])),
		"can't contain":              entry(1, 1, 100),
		"term is cut off":            entry(),
		"unknown table number 99":    entry(1, 1, 1, 99, 0, 1, 'x', 0),
		"without the row's ID":       entry(1, 1, 1, codeOf(structs.TableNodes), 0, 0, 0),
		"its row has none":           entry(1, 1, 1, codeOf(structs.TableNodes), flagApart, 1, 'x', 0),
		"unknown flags":              entry(1, 1, 1, codeOf(structs.TableNodes), 0x80, 1, 'x', 0),
		"row is cut off":             entry(1, 1, 1, codeOf(structs.TableNodes), flagRow, 1, 'x', 0, 9),
		"no matching struct field":   entry(unknownField...),
		`change of row "y" contains`: entry(otherID...),
		"bytes follow the row":       entry(trailingRow...),
		"decode":                     entry(1, 1, 1, codeOf(structs.TableNodes), flagRow, 1, 'x', 0, 1, 0xc1),
		"length of ID is cut off":    entry(1, 1, 1, codeOf(structs.TableNodes), 0),
	} {
		e, err := DecodeEntry(b)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %+v", name, err, e)
		}
	}
}

func TestEveryFlippedBitOfAnEntryIsDetected(t *testing.T) {
	good := validEntry(t)
	for i := range good {
		for bit := range 8 {
			b := bytes.Clone(good)
			b[i] ^= 1 << bit
			if _, err := DecodeEntry(b); err == nil {
				t.Fatalf("byte %d, bit %d: not found", i, bit)
			}
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(validEntry(f))
	f.Add([]byte{0, 1, 0, 0, 0, 0})
	h := newHistory(1)
	for range 20 {
		_, b := h.entry(f)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		DecodeEntry(b)
		if len(b) < entryHead {
			return
		}
		b = bytes.Clone(b)
		binary.BigEndian.PutUint16(b, uint16(structs.SchemaVersion))
		e, err := DecodeEntry(sealed(b)) // past the checksum, to the parser
		if err != nil {
			return
		}
		once, err := EncodeEntry(e)
		if err != nil {
			t.Fatalf("an entry that was decoded can't be encoded: %v", err)
		}
		again, err := DecodeEntry(once)
		if err != nil {
			t.Fatalf("an entry that was encoded can't be decoded: %v", err)
		}
		if twice, err := EncodeEntry(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("bytes differ once they are decoded and encoded again (%v):\n%q\n%q", err, once, twice)
		}
	})
}

func someSnapshot(t testing.TB, entries int) (*Store, []byte) {
	h := newHistory(5)
	for range entries {
		h.entry(t)
	}
	return h.store, persisted(t, h.store)
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	_, good := someSnapshot(t, 8)
	s := New()
	mustApply(t, s, 1, put(node(1), 0))
	before := s.Snapshot()
	refused := func(what string, at int, b []byte) {
		t.Helper()
		err := s.Restore(bytes.NewReader(b))
		if err == nil || !strings.HasPrefix(err.Error(), "snapshot: ") || len(err.Error()) < 20 {
			t.Fatalf("%s at %d of %d: %v", what, at, len(good), err)
		}
		if _, verr := Verify(bytes.NewReader(b)); verr == nil || verr.Error() != err.Error() {
			t.Fatalf("%s at %d: Restore says %v, Verify says %v", what, at, err, verr)
		}
		if s.Snapshot() != before {
			t.Fatalf("%s at %d has changed the store", what, at)
		}
	}
	step := max(1, len(good)/400)
	for at := 0; at < len(good); at += step {
		refused("cut", at, good[:at])
		b := bytes.Clone(good)
		b[at] ^= 1 << (at % 8)
		refused("flip", at, b)
	}
	refused("added", len(good), append(bytes.Clone(good), 0))
	refused("not a snapshot", 0, []byte("hello, this is no snapshot at all"))
	if index, err := Verify(bytes.NewReader(good)); err != nil || index == 0 {
		t.Errorf("a whole snapshot: %d, %v", index, err)
	}
}

// These streams have correct checksums but wrong content.
func TestForgedSnapshotIsRefused(t *testing.T) {
	header := func(schema uint16, lists, rows uint64) []byte {
		b := binary.BigEndian.AppendUint16([]byte(magic), schema)
		for _, v := range []uint64{4, 2, lists, rows} {
			b = binary.AppendUvarint(b, v)
		}
		return b
	}
	c := rowCodecs.New().(*rowCodec)
	encoded := bytes.Clone(c.encode(node(1), false))
	n := node(1)
	n.CreateIndex, n.ModifyIndex = 4, 4
	hash := rowHash(n, encoded, false)
	row := append([]byte{codeOf(structs.TableNodes), 4, 4, 0, byte(len(encoded))}, encoded...)
	trailer := func(hash uint64) []byte { return binary.BigEndian.AppendUint64(nil, hash) }
	type frame struct {
		kind    byte
		payload []byte
	}
	for name, frames := range map[string][]frame{
		"not a snapshot":          {{frameRows, row}},
		"schema 9":                {{frameHeader, header(9, 0, 0)}},
		"too many in a frame":     {{frameHeader, append(header(1, 0, 0), 1)}},
		"last seq is cut off":     {{frameHeader, append([]byte(magic), 0, 1, 4)}},
		"instead of":              {{frameHeader, header(1, 0, 2)}, {frameRows, row}, {frameTrailer, trailer(hash)}},
		"hash":                    {{frameHeader, header(1, 0, 1)}, {frameRows, row}, {frameTrailer, trailer(hash + 1)}},
		"twice":                   {{frameHeader, header(1, 0, 2)}, {frameRows, row}, {frameRows, row}, {frameTrailer, trailer(2 * hash)}},
		"end is malformed":        {{frameHeader, header(1, 0, 0)}, {frameTrailer, nil}},
		"unknown frame":           {{frameHeader, header(1, 0, 0)}, {'X', nil}},
		"unknown table number 0":  {{frameHeader, header(1, 0, 1)}, {frameRows, append([]byte{0}, row[1:]...)}},
		"unknown table number 77": {{frameHeader, header(1, 1, 0)}, {frameLists, []byte{77, 0, 1}}},
		"list index is cut off":   {{frameHeader, header(1, 1, 0)}, {frameLists, []byte{1, 0}}},
		"row is cut off":          {{frameHeader, header(1, 0, 1)}, {frameRows, row[:len(row)-1]}},
		"nodes: decode":           {{frameHeader, header(1, 0, 1)}, {frameRows, []byte{4, 4, 4, 0, 1, 0xc1}}},
		"without the row's ID":    {{frameHeader, header(1, 0, 1)}, {frameRows, []byte{4, 4, 4, 0, 1, 0x80}}},
		"cut off before its end":  {{frameHeader, header(1, 0, 0)}},
	} {
		var out bytes.Buffer
		fw := newFrameWriter(&out)
		for _, f := range frames {
			fw.payload = append(fw.payload, f.payload...)
			if err := fw.end(f.kind); err != nil {
				t.Fatal(err)
			}
		}
		if err := fw.w.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := New().Restore(&out); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// failing reads or writes up to a number of bytes, then fails.
type failing struct {
	io.Reader
	left int
}

var errDisk = errors.New("disk")

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errDisk
	}
	return len(b), nil
}

func (f *failing) Read(b []byte) (int, error) {
	n, err := f.Reader.Read(b[:min(len(b), f.left)])
	if f.left -= n; f.left == 0 {
		return n, errDisk
	}
	return n, err
}

func TestFailingDiskIsReported(t *testing.T) {
	s, good := someSnapshot(t, 100)
	for at := 1; at < len(good); at += len(good)/20 + 1 {
		if err := s.Persist(&failing{left: at}); !errors.Is(err, errDisk) {
			t.Errorf("writing fails at %d: %v", at, err)
		}
		if err := New().Restore(&failing{Reader: bytes.NewReader(good), left: at}); !errors.Is(err, errDisk) {
			t.Errorf("reading fails at %d: %v", at, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	// Small seeds: the fuzzer spends much of its time on minimizing its findings.
	s := New()
	f.Add(persisted(f, s))
	mustApply(f, s, 1, put(node(1), 0), put(node(2), 0))
	f.Add(persisted(f, s))
	mustApply(f, s, 2, put(typicalContainer(3), 0), drop(node(1), 1))
	f.Add(persisted(f, s))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, resealed(b)} {
			s := New()
			if s.Restore(bytes.NewReader(b)) != nil {
				if s.Index() != 0 || s.Hash() != 0 {
					t.Fatal("a refused snapshot has changed the store")
				}
				continue
			}
			again := restored(t, persisted(t, s))
			sameState(t, "restored again", again, s)
		}
	})
}

// resealed corrects the checksums of a stream as far as it has frames, so that the fuzzer
// gets past them.
func resealed(b []byte) []byte {
	var out bytes.Buffer
	fw := newFrameWriter(&out)
	for len(b) >= 5 {
		size := int(binary.BigEndian.Uint32(b[1:]))
		if size > len(b)-5 {
			break
		}
		fw.payload = append(fw.payload, b[5:5+size]...)
		if fw.end(b[0]) != nil {
			break
		}
		b = b[5+size:]
		b = b[min(4, len(b)):]
	}
	fw.w.Flush()
	return out.Bytes()
}
