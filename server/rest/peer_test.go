package rest

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// TestRowsSurviveForwarding checks that the forwarding server decodes the same row that the
// leader has decided.
func TestRowsSurviveForwarding(t *testing.T) {
	for _, table := range state.Tables() {
		for seed := range uint64(20) {
			row := state.NewRow(table)
			fillRandom(rand.New(rand.NewPCG(seed, 1)), reflect.ValueOf(row).Elem())
			asKept(reflect.ValueOf(row).Elem())
			var spec *structs.PrivateSpec
			switch r := row.(type) {
			case *structs.Container:
				spec = &r.Spec
			case *structs.StoredSpec:
				spec = &r.Spec
				if r.Pod != nil {
					r.Pod.Exclusive = structs.ExclusiveLease
				}
			case *structs.Pod:
				r.Secrets, r.Spec.Exclusive = structs.Secrets{}, structs.ExclusiveLease
			case *structs.RC:
				r.Secrets, r.Exclusive = structs.Secrets{}, structs.ExclusiveLease
			case *structs.Manifest:
				if r.RC != nil {
					r.RC.Template.Exclusive = structs.ExclusiveLease
				}
			}
			if spec != nil {
				spec.Secrets = structs.Secrets{}     // they aren't sent between servers
				spec.MilliCPU %= structs.MaxMilliCPU // more has no exact number of cores
				spec.Exclusive = structs.ExclusiveLease
				spec.RestartPolicy = structs.RestartPolicy{Name: structs.RestartOnFailure, MaxRetries: int(seed)} // others have no number
				if spec.Healthcheck != nil {
					spec.Healthcheck.Test = structs.Command{Args: []string{"test", "-e", "/up"}} // its text and its words say the same
				}
			}
			b, err := json.Marshal(row)
			if err != nil {
				t.Fatalf("%s: %v", table, err)
			}
			got := state.NewRow(table)
			if err := json.Unmarshal(b, got); err != nil {
				t.Fatalf("%s: %v", table, err)
			}
			again, err := json.Marshal(got)
			if err != nil || string(again) != string(b) || !reflect.DeepEqual(got, row) {
				t.Fatalf("%s, seed %d: it came as\n%+v, not\n%+v", table, seed, got, row)
			}
		}
	}
}

// asKept converts texts to UTF-8 and times to UTC, as in the state, and replaces empty
// lists and maps by nil.
func asKept(v reflect.Value) {
	if at, ok := v.Interface().(time.Time); ok {
		v.Set(reflect.ValueOf(at.UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				asKept(v.Field(i))
			}
		}
	case reflect.Pointer:
		if !v.IsNil() {
			asKept(v.Elem())
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
		for i := range v.Len() {
			asKept(v.Index(i))
		}
	case reflect.Map:
		if v.Len() == 0 {
			v.SetZero()
		}
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			asKept(value)
			v.SetMapIndex(key, reflect.Value{})
			v.SetMapIndex(reflect.ValueOf(strings.ToValidUTF8(key.String(), "?")), value)
		}
	case reflect.String:
		v.SetString(strings.ToValidUTF8(v.String(), "?"))
	}
}
