package fill

import (
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// TestFillReachesEveryField: each field is set in some round, and zero in another.
func TestFillReachesEveryField(t *testing.T) {
	type inner struct{ Text string }
	type all struct {
		Text    string
		Flag    bool
		Int     int
		Long    int64
		Count   uint64
		Share   float64
		At      time.Time
		Pointer *inner
		List    []inner
		Map     map[string]inner
		hidden  int
	}
	rng := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "a"}
	f := &Filler{
		Rand: rng, Keys: 3, Key: func() string { return "k" },
		Text: func() string { return texts[rng.IntN(2)] },
		Time: func() time.Time { return time.Unix(rng.Int64N(2), 0).Add(-time.Duration(rng.Int64N(2))) },
	}
	set, zero := make(map[string]bool), make(map[string]bool)
	for range 200 {
		var v all
		f.Fill(reflect.ValueOf(&v).Elem())
		if v.hidden != 0 {
			t.Fatal("a field that is not exported is set")
		}
		for i := range reflect.TypeFor[all]().NumField() {
			name := reflect.TypeFor[all]().Field(i).Name
			set[name] = set[name] || !reflect.ValueOf(v).Field(i).IsZero()
			zero[name] = zero[name] || reflect.ValueOf(v).Field(i).IsZero()
		}
	}
	for i := range reflect.TypeFor[all]().NumField() {
		name := reflect.TypeFor[all]().Field(i).Name
		if name != "hidden" && (!set[name] || !zero[name] && name != "At") {
			t.Errorf("%s: set %v, zero %v", name, set[name], zero[name])
		}
	}
}

func TestFillPanicsAtUnknownKinds(t *testing.T) {
	var v struct{ Any any }
	f := &Filler{Rand: rand.New(rand.NewPCG(1, 2))}
	calls := 0
	f.Other = func(reflect.Value) { calls++ }
	f.Fill(reflect.ValueOf(&v).Elem())
	if calls != 1 {
		t.Errorf("called %d times", calls)
	}
	f.Other = nil
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	f.Fill(reflect.ValueOf(&v).Elem())
}
