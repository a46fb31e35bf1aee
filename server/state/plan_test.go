package state

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/stackforge/magnum/server/state/msgpack"
	"github.com/stackforge/magnum/structs"
)

// generic returns the row's bytes as go-msgpack writes them.
func generic(t testing.TB, row any) []byte {
	t.Helper()
	var b []byte
	if err := codec.NewEncoderBytes(&b, handle).Encode(row); err != nil {
		t.Fatal(err)
	}
	return b
}

func planned(row any) []byte {
	return msgpack.Append(nil, reflect.ValueOf(row).Elem())
}

// A log or a snapshot may have been written by go-msgpack, which also decodes it.
func TestPlanWritesTheBytesOfGoMsgpack(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, table := range Tables() {
		for range 1000 {
			row := randomRow(rng, table)
			if got, want := planned(row), generic(t, row); !bytes.Equal(got, want) {
				t.Fatalf("%s: %+v\nis  %q\nnot %q", table, row, got, want)
			}
		}
		if row := NewRow(table); !bytes.Equal(planned(row), generic(t, row)) {
			t.Errorf("%s: the zero row is %q, not %q", table, planned(row), generic(t, row))
		}
	}
}

// At these lengths the head of a value changes.
func TestPlanWritesTheBytesOfGoMsgpackAtLengthBounds(t *testing.T) {
	type bounds struct {
		Int    int64
		Uint   uint64
		Text   string
		List   []string
		Map    map[string]string
		Time   time.Time
		Nested *structs.Command
	}
	check := func(v bounds) {
		t.Helper()
		if got, want := planned(&v), generic(t, &v); !bytes.Equal(got, want) {
			t.Fatalf("%.200v\nis  %.200q\nnot %.200q", v, got, want)
		}
	}
	for bit := range 64 {
		for d := range int64(3) {
			n := int64(1)<<bit + d - 1
			check(bounds{Int: n, Uint: uint64(n), Time: time.Unix(n%(1<<40), 0)})
			check(bounds{Int: -n, Uint: -uint64(n), Time: time.Unix(-n%(1<<40), n&1)})
		}
	}
	check(bounds{Int: math.MinInt64, Uint: math.MaxUint64, Time: time.Unix(1, 999999999)})
	for _, n := range []int{0, 1, 15, 16, 17, 31, 32, 33, 255, 256, 65535, 65536} {
		v := bounds{Text: strings.Repeat("x", n), List: make([]string, n), Map: map[string]string{},
			Nested: &structs.Command{Args: make([]string, n)}}
		for i := range n {
			v.Map[strings.Repeat("k", i%7)+string(rune(i))] = "v"
		}
		check(v)
	}
}

func TestPlanRefusesUnknownTypes(t *testing.T) {
	type zeroer struct{ structs.Time }
	for _, v := range []any{struct{ F float64 }{}, struct{ F []byte }{}, struct{ F map[string]int }{}, struct{ F any }{}, zeroer{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T has a plan", v)
				}
			}()
			msgpack.Append(nil, reflect.New(reflect.TypeOf(v)).Elem())
		}()
	}
}

// decodeGeneric decodes the row as go-msgpack does.
func decodeGeneric(table structs.Table, b []byte) (structs.Row, error) {
	row := NewRow(table)
	dec := codec.NewDecoderBytes(b, handle)
	err := dec.Decode(row)
	if err == nil && dec.NumBytesRead() != len(b) {
		err = errors.New("bytes follow")
	}
	return row, err
}

// The two decoders of a row are one: they accept the same bytes and decode them to the same
// row.
func TestPlanReadsWhatGoMsgpackReads(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	var fast msgpack.Decoder
	for _, table := range Tables() {
		read := func(b []byte) bool {
			row := NewRow(table)
			if !fast.Decode(b, reflect.ValueOf(row).Elem()) {
				return false
			}
			if want, err := decodeGeneric(table, b); err != nil || !reflect.DeepEqual(row, want) {
				t.Fatalf("%s: %q is read as\n%+v\nnot (%v)\n%+v", table, b, row, err, want)
			}
			return true
		}
		for range 100 {
			b := planned(randomRow(rng, table))
			// Rows that were decoded have no empty maps and slices any more.
			row, err := decodeGeneric(table, b)
			if err != nil {
				t.Fatal(err)
			}
			if b = planned(row); !read(b) {
				t.Fatalf("%s: %q, which Append has written, isn't read", table, b)
			}
			for range 20 {
				damaged := bytes.Clone(b)
				switch at := rng.IntN(len(b)); rng.IntN(4) {
				case 0:
					damaged[at] = byte(rng.Uint32())
				case 1:
					damaged[at] ^= 1 << rng.IntN(8)
				case 2:
					damaged = damaged[:at]
				case 3:
					damaged = append(damaged[:at], b[rng.IntN(len(b)):]...)
				}
				read(damaged)
			}
		}
	}
}

func TestPlanReadsTheBytesOfGoMsgpackAtLengthBounds(t *testing.T) {
	type bounds struct {
		Int  int64
		Uint uint64
		Text string
		List []string
		Map  map[string]string
		Time time.Time
	}
	var fast msgpack.Decoder
	check := func(v bounds) {
		t.Helper()
		var got bounds
		v.List, v.Map = append(v.List, "x"), map[string]string{"k": "v"}
		if v.Time.IsZero() {
			v.Time = time.Unix(1, 0).UTC()
		}
		if !fast.Decode(generic(t, &v), reflect.ValueOf(&got).Elem()) {
			t.Fatalf("%.200v isn't read", v)
		}
		if !reflect.DeepEqual(got, v) {
			t.Fatalf("%.200v\nis read as\n%.200v", v, got)
		}
	}
	for bit := range 64 {
		for d := range int64(3) {
			n := int64(1)<<bit + d - 1
			check(bounds{Int: n, Uint: uint64(n), Time: time.Unix(n%(1<<40), 0).UTC()})
			check(bounds{Int: -n, Uint: -uint64(n), Time: time.Unix(-n%(1<<40), n&1).UTC()})
		}
	}
	check(bounds{Int: math.MinInt64, Uint: math.MaxUint64, Time: time.Unix(1, 999999999).UTC()})
	for _, n := range []int{1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255, 256, 1023, 65535, 65536} {
		check(bounds{Text: strings.Repeat("x", n), List: make([]string, min(n, 1023))})
	}
}

// Equal strings and maps of rows are shared: no row changes because another is decoded.
func TestDecodedRowsAreIndependent(t *testing.T) {
	c := rowCodecs.New().(*rowCodec)
	rng := rand.New(rand.NewPCG(7, 8))
	var rows []structs.Row
	var encoded [][]byte
	for range 2000 {
		row := randomRow(rng, structs.TableContainers).(*structs.Container)
		row.Spec.Labels = map[string]string{"n": strconv.Itoa(rng.IntN(300)), "app": "web"}
		b := bytes.Clone(c.encode(row, false))
		back, err := c.decode(structs.TableContainers, b)
		if err != nil {
			t.Fatal(err)
		}
		again := bytes.Clone(b)
		clear(b) // the row must not refer to the entry's bytes
		rows, encoded = append(rows, back), append(encoded, again)
	}
	for i, row := range rows {
		if !bytes.Equal(c.encode(row, false), encoded[i]) {
			t.Fatalf("row %d has changed", i)
		}
	}
}

func BenchmarkDecodeRow(b *testing.B) {
	encoded := planned(typicalContainer(1))
	b.Run("planned", func(b *testing.B) {
		c := rowCodecs.New().(*rowCodec)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.decode(structs.TableContainers, encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("library", func(b *testing.B) {
		dec := codec.NewDecoderBytes(nil, handle)
		b.ReportAllocs()
		for b.Loop() {
			row := NewRow(structs.TableContainers)
			dec.ResetBytes(encoded)
			if err := dec.Decode(row); err != nil {
				b.Fatal(err)
			}
			intern(row)
		}
	})
}

func BenchmarkEncodeRow(b *testing.B) {
	row := typicalContainer(1)
	var buf []byte
	b.Run("planned", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = appendRow(buf[:0], row, false)
		}
	})
	b.Run("library", func(b *testing.B) {
		enc := codec.NewEncoderBytes(nil, handle)
		b.ReportAllocs()
		for b.Loop() {
			buf = buf[:0]
			enc.ResetBytes(&buf)
			if err := enc.Encode(row); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRowHash(b *testing.B) {
	row := typicalContainer(1)
	b.ReportAllocs()
	for b.Loop() {
		rowHash(row, nil, false)
	}
}
