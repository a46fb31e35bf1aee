package state

import (
	"bytes"
	"math"
	"math/rand/v2"
	"reflect"
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
