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

	"github.com/stackforge/magnum/internal/fill"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/rest/zun"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// texts are strings that JSON encodes in different ways.
var texts = []string{"", "web-1", "ü", "\"\\/\b\n\x00\x7f", "<&>", "ü<&>", "\xff", "\u2028"}

// fillRandom sets all fields below v to random values, among them empty ones.
func fillRandom(rng *rand.Rand, v reflect.Value) {
	text := func() string { return texts[rng.IntN(len(texts))] }
	f := &fill.Filler{
		Rand: rng, Text: text, Key: func() string { return fmt.Sprint(text(), rng.IntN(100)) }, Keys: 20,
		Time:  func() time.Time { return []time.Time{{}, time.Unix(rng.Int64N(1<<33), rng.Int64N(1e9))}[rng.IntN(2)] },
		Other: func(reflect.Value) {}, // left unchanged
	}
	f.Fill(v)
}

// TestAnswersAreNotEscapedForHTML checks that every body of every route, also of the
// dialect, is encoded without HTML escapes, also for types with their own MarshalJSON.
// Clients print bodies unchanged.
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
			if (err == nil) != (wantErr == nil) { // random text is not a valid restart policy
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

func TestUnencodableValueIsAnError(t *testing.T) {
	e := wire.NewEncoder()
	defer e.Free()
	if err := e.Value(struct{ F float64 }{math.NaN()}); err == nil {
		t.Error("NaN became JSON")
	}
}

func BenchmarkEncodeContainer(b *testing.B) {
	now := structs.Time{Time: time.Unix(1764000000, 0)}
	body := structs.ContainerBody{
		UUID: structs.NewID(), Name: "web-1", BayUUID: structs.NewID(), ImageID: "nginx:1.27",
		Command: &structs.Command{Args: []string{"nginx", "-g", "daemon off;"}},
		Status:  structs.ContainerCreating, Links: web.View{Base: "http://127.0.0.1:9511"}.Links("containers", structs.NewID()),
		CreatedAt: now,
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
