package state

import (
	"reflect"
	"sync"
	"time"

	"github.com/stackforge/magnum/structs"
)

// normal makes a row that somebody has filled what it would be if its bytes
// were decoded: empty slices and maps that the bytes leave out are nil, times
// are in UTC and without a monotonic clock, equal strings of different rows are
// one. So the leader may keep the row that it has decided, where all others keep
// what they have decoded. Tests with the race detector hold the two against each
// other, for each entry that is prepared.
func normal(row structs.Row) {
	v := reflect.ValueOf(row).Elem()
	if fix := fixOf(v.Type()); fix != nil {
		fix(v)
	}
	intern(row)
}

// fixes holds the fix of each row type.
var fixes sync.Map

// fix makes an addressable value normal; nil if every value of its type is. It
// writes to nothing that is normal already: rows share what they point to.
type fix func(v reflect.Value)

func fixOf(t reflect.Type) fix {
	f, ok := fixes.Load(t)
	if !ok {
		f, _ = fixes.LoadOrStore(t, newFix(t))
	}
	return f.(fix)
}

func newFix(t reflect.Type) fix {
	if t == reflect.TypeFor[time.Time]() {
		return fixTime
	}
	switch t.Kind() {
	case reflect.Pointer:
		if elem := newFix(t.Elem()); elem != nil {
			return func(v reflect.Value) {
				if !v.IsNil() {
					elem(v.Elem())
				}
			}
		}
	case reflect.Slice:
		if elem := newFix(t.Elem()); elem != nil {
			return func(v reflect.Value) {
				for i := range v.Len() {
					elem(v.Index(i))
				}
			}
		}
	case reflect.Struct:
		return structFix(t)
	}
	return nil
}

func fixTime(v reflect.Value) {
	t := v.Addr().Interface().(*time.Time)
	utc := t.Round(0).UTC()
	if utc.IsZero() {
		utc = time.Time{}
	}
	if *t != utc {
		*t = utc
	}
}

func structFix(t reflect.Type) fix {
	type fixed struct {
		field
		drop bool // it is left out if it is empty, and can be empty without being nil
		fix  fix
	}
	var fields []fixed
	for _, f := range fieldsOf(t) {
		of := t.FieldByIndex(f.index).Type
		fd := fixed{field: f, drop: f.omit && (of.Kind() == reflect.Slice || of.Kind() == reflect.Map), fix: newFix(of)}
		if fd.drop || fd.fix != nil {
			fields = append(fields, fd)
		}
	}
	if fields == nil {
		return nil
	}
	return func(v reflect.Value) {
		for i := range fields {
			f := &fields[i]
			fv := f.of(v)
			switch {
			case f.drop && fv.Len() == 0:
				if !fv.IsNil() {
					fv.SetZero()
				}
			case f.fix != nil:
				f.fix(fv)
			}
		}
	}
}
