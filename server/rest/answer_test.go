package rest

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/rest/zun"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// texts are strings that JSON writes in various ways.
var texts = []string{"", "web-1", "ü", "\"\\/\b\n\x00\x7f", "<&>", "ü<&>", "\xff", "\u2028"}

// fillRandom sets all fields below v to random values, among them empty ones.
func fillRandom(rng *rand.Rand, v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf([]time.Time{{}, time.Unix(rng.Int64N(1<<33), rng.Int64N(1e9))}[rng.IntN(2)]))
		return
	}
	zero := rng.IntN(3) == 0
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fillRandom(rng, v.Field(i))
			}
		}
	case reflect.Pointer:
		if !zero {
			v.Set(reflect.New(v.Type().Elem()))
			fillRandom(rng, v.Elem())
		}
	case reflect.Slice:
		if !zero {
			v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
			for i := range v.Len() {
				fillRandom(rng, v.Index(i))
			}
		}
	case reflect.Map:
		if !zero {
			v.Set(reflect.MakeMap(v.Type()))
			for range rng.IntN(20) {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				key.SetString(fmt.Sprint(texts[rng.IntN(len(texts))], rng.IntN(100)))
				fillRandom(rng, value)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.String:
		v.SetString(texts[rng.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(!zero)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(rng.Uint64() >> rng.IntN(64)))
	case reflect.Uint64:
		v.SetUint(rng.Uint64() >> rng.IntN(64))
	case reflect.Float64:
		v.SetFloat([]float64{0, 0.5, -3, 1.0 / 3, 1e-7, 1e21, 123456.789, math.Copysign(0, -1)}[rng.IntN(8)])
	}
}

// TestAnswersAreNotEscapedForHTML: the clients print what they get. Every body of
// every route, of either spelling of the API, is written as encoding/json writes it
// without that escape, also where a type has a MarshalJSON of its own.
func TestAnswersAreNotEscapedForHTML(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	seen := make(map[reflect.Type]bool)
	bodies := []any{containerBrief{}, zun.ContainerBody{}}
	for _, rt := range New(Config{Store: state.New()}).routes {
		for _, a := range rt.Gives {
			if a.Body != nil {
				bodies = append(bodies, a.Body)
			}
		}
	}
	plain := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&")
	for _, body := range bodies {
		typ := reflect.TypeOf(body)
		if seen[typ] {
			continue
		}
		seen[typ] = true
		for range 500 {
			v := reflect.New(typ)
			fillRandom(rng, v.Elem())
			e := wire.NewEncoder()
			err := e.Value(v.Interface())
			want, wantErr := json.Marshal(v.Interface())
			if (err == nil) != (wantErr == nil) { // random text is none of a restart policy's words
				t.Fatalf("%T: %v, not %v", v, err, wantErr)
			}
			if got := e.Buf.String(); err == nil && got != plain.Replace(string(want)) {
				t.Fatalf("%v:\n%s\nnot\n%s", typ, got, want)
			}
			e.Free()
		}
	}
	if !seen[reflect.TypeFor[structs.ContainerBody]()] {
		t.Error("no route answers with a container")
	}
}

func TestWhatIsNoJSONIsAnError(t *testing.T) {
	e := wire.NewEncoder()
	defer e.Free()
	if err := e.Value(struct{ F float64 }{math.NaN()}); err == nil {
		t.Error("NaN became JSON")
	}
}

func BenchmarkEncodeContainer(b *testing.B) {
	now := structs.Time{Time: time.Unix(1764000000, 0)}
	body := structs.ContainerBody{
		UUID: structs.NewID(), Name: "web-1", BayUUID: structs.NewID(), ImageID: "nginx:1.27", Command: &structs.Command{Args: []string{"nginx", "-g", "daemon off;"}},
		Status: structs.ContainerCreating, Links: web.View{Base: "http://127.0.0.1:9511"}.Links("containers", structs.NewID()), CreatedAt: now,
		Addresses: []string{}, Ports: []structs.Port{},
		ContainerSpec: structs.ContainerSpec{
			Environment: map[string]string{"MODE": "production", "REGION": "eu-1"}, Labels: map[string]string{"app": "web"},
			Volumes: []structs.Mount{}, Constraints: map[string]string{}, RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways},
		},
	}
	b.ReportAllocs()
	e := wire.NewEncoder()
	for b.Loop() {
		e.Buf.Reset()
		if err := e.Value(&body); err != nil {
			b.Fatal(err)
		}
	}
}
