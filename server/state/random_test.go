package state

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/stackforge/magnum/internal/fill"
	"github.com/stackforge/magnum/structs"
)

// fillRow sets every field below v to random values, including nil, empty and zero ones.
func fillRow(rng *rand.Rand, v reflect.Value) {
	text := func() string {
		if rng.IntN(3) == 0 {
			return ""
		}
		return fmt.Sprintf("é%x\x00\xff", rng.Uint64()>>rng.IntN(64))
	}
	f := &fill.Filler{Rand: rng, Text: text, Key: text, Keys: 100, Time: func() time.Time {
		switch rng.IntN(4) {
		case 0:
			return time.Time{}
		case 1:
			return time.Unix(rng.Int64N(1<<33), rng.Int64N(1e9)).UTC()
		case 2:
			return time.Unix(-rng.Int64N(1<<33), 0).UTC()
		}
		return time.Unix(rng.Int64N(1<<33), 0).UTC()
	}}
	f.Fill(v)
}

func randomRow(rng *rand.Rand, table structs.Table) structs.Row {
	row := NewRow(table)
	fillRow(rng, reflect.ValueOf(row).Elem())
	return row
}

// The package relies on this: the bytes in a log entry, those that Apply hashes and those
// in a snapshot are equal.
func TestRowBytesAreStable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	c := rowCodecs.New().(*rowCodec)
	for _, table := range Tables() {
		for range 300 {
			row := randomRow(rng, table)
			first := string(c.encode(row, false))
			back, err := c.decode(table, []byte(first))
			if err != nil {
				t.Fatalf("%s: %v", table, err)
			}
			b := c.encode(back, false)
			if string(b) != first {
				t.Fatalf("%s: bytes differ once they are decoded and encoded again:\n%q\n%q", table, first, b)
			}
			twice, err := c.decode(table, b)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, twice) {
				t.Fatalf("%s: rows differ:\n%+v\n%+v", table, back, twice)
			}
			if !sameButEmpty(reflect.ValueOf(row), reflect.ValueOf(back)) {
				t.Fatalf("%s: a field is lost:\n%+v\n%+v", table, row, back)
			}
		}
	}
}

// sameButEmpty is DeepEqual that treats nil and empty slices or maps as equal, and ignores
// the fields that are kept beside the row.
func sameButEmpty(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		return sameButEmpty(a.Elem(), b.Elem())
	case reflect.Struct:
		for i := range a.NumField() {
			f := a.Type().Field(i)
			if f.Tag.Get("codec") == "-" || !f.IsExported() && a.Type() != reflect.TypeFor[time.Time]() {
				continue
			}
			if a.Type() == reflect.TypeFor[time.Time]() {
				return a.Interface().(time.Time).Equal(b.Interface().(time.Time))
			}
			if !sameButEmpty(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice, reflect.Map:
		if a.Len() == 0 && b.Len() == 0 {
			return true
		}
		if a.Kind() == reflect.Slice && a.Len() == b.Len() {
			for i := range a.Len() {
				if !sameButEmpty(a.Index(i), b.Index(i)) {
					return false
				}
			}
			return true
		}
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func TestEmptyAndNilAreTheSame(t *testing.T) {
	c := rowCodecs.New().(*rowCodec)
	bytesOf := func(spec structs.ContainerSpec) string {
		return string(c.encode(&structs.Container{Meta: structs.Meta{ID: "c"}, Spec: structs.PrivateSpec{ContainerSpec: spec}}, false))
	}
	if bytesOf(structs.ContainerSpec{}) != bytesOf(structs.ContainerSpec{Command: []string{}, Labels: map[string]string{}}) {
		t.Error("a nil and an empty slice or map have different bytes")
	}
	zero := 0
	if bytesOf(structs.ContainerSpec{}) == bytesOf(structs.ContainerSpec{StopTimeout: &zero}) {
		t.Error("a pointer to 0 has the bytes of no pointer")
	}
}

// typicalContainer returns the container of a user with a web server.
func typicalContainer(n uint64) *structs.Container {
	at := time.Unix(1764000000+int64(n), 0).UTC()
	exit := 0
	return &structs.Container{
		Meta: structs.Meta{ID: testID(n), Seq: n, ProjectID: fmt.Sprintf("%032x", n%10), UserID: fmt.Sprintf("%032x", n%10+100),
			CreatedAt: at},
		Name: fmt.Sprintf("web-%d", n),
		Spec: structs.PrivateSpec{ContainerSpec: structs.ContainerSpec{
			Image: "registry.example.org/team/web:1.2.3", Command: []string{"serve", "-listen", ":80"},
			Environment: map[string]string{"MODE": "production", "DATABASE": "postgres://db/web"},
			Labels:      map[string]string{"app": "web"}, Memory: 256 << 20, MilliCPU: 250,
			Ports:         []structs.Port{{ContainerPort: 80, Protocol: "tcp"}},
			RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways},
		}},
		Placement: structs.Placement{BayID: testID(1 << 40), Desired: structs.DesiredRunning, Generation: 1, HostID: testID(1<<41 + n%100),
			Epoch: 1},
		Observed: structs.Observed{Status: structs.ContainerRunning, Generation: 1, ExitCode: &exit, StartedAt: at,
			Addresses: []string{"172.18.0.7"},
			Ports:     []structs.Port{{ContainerPort: 80, HostPort: 32768, Protocol: "tcp"}}},
	}
}

func testID(n uint64) string {
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", n&0xffffffffffff)
}
