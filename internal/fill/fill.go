// Package fill fills values at random, for tests that compare two ways of encoding a
// value. No program imports it.
package fill

import (
	"math"
	"math/rand/v2"
	"reflect"
	"time"
)

// Filler says how to fill values. All fields but Other are required.
type Filler struct {
	Rand *rand.Rand
	Text func() string
	Time func() time.Time
	Key  func() string // the key of a map
	Keys int           // the limit of a map's size, exclusive; at least 1

	// Other fills a value of any other kind. If it is nil, Fill panics.
	Other func(reflect.Value)
}

// floats are numbers that JSON writes in different forms.
var floats = []float64{0, 0.5, -3, 1.0 / 3, 1e-7, 1e21, 123456.789, math.Copysign(0, -1)}

// Fill sets every exported field below v to a random value. Random values include nil,
// empty and zero ones. v must be settable.
func (f *Filler) Fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(f.Time()))
		return
	}
	zero := f.Rand.IntN(3) == 0
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				f.Fill(v.Field(i))
			}
		}
	case reflect.Pointer:
		if !zero {
			v.Set(reflect.New(v.Type().Elem()))
			f.Fill(v.Elem())
		}
	case reflect.Slice:
		if !zero {
			v.Set(reflect.MakeSlice(v.Type(), f.Rand.IntN(4), 4))
			for i := range v.Len() {
				f.Fill(v.Index(i))
			}
		}
	case reflect.Map:
		if !zero {
			v.Set(reflect.MakeMap(v.Type()))
			for range f.Rand.IntN(f.Keys) {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				key.SetString(f.Key())
				f.Fill(value)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.String:
		v.SetString(f.Text())
	case reflect.Bool:
		v.SetBool(!zero)
	case reflect.Int, reflect.Int64:
		if !zero {
			v.SetInt(int64(f.Rand.Uint64() >> f.Rand.IntN(64)))
		}
	case reflect.Uint64:
		if !zero {
			v.SetUint(f.Rand.Uint64() >> f.Rand.IntN(64))
		}
	case reflect.Float64:
		v.SetFloat(floats[f.Rand.IntN(len(floats))])
	default:
		if f.Other == nil {
			panic("no random value for " + v.Type().String())
		}
		f.Other(v)
	}
}
