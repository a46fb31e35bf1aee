package wire

import (
	"cmp"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Arg is a query argument that a route takes.
type Arg struct {
	Name  string
	Kind  ArgKind
	Doc   string
	Many  bool          // may be given several times
	Wants bool          // mandatory
	Array bool          // ArgText: a body may hold a JSON array; the value is then the array's JSON
	Most  time.Duration // ArgDuration: the largest accepted value; 0 means structs.MaxWait
}

// ArgKind is the form of an argument's value.
type ArgKind string

// The kinds of query arguments.
const (
	ArgText     ArgKind = "text"
	ArgInt      ArgKind = "int"      // 0 or more
	ArgIndex    ArgKind = "index"    // an unsigned 64-bit number
	ArgBool     ArgKind = "bool"     // true, True, 1 or an empty value; false, False, 0
	ArgDuration ArgKind = "duration" // "30s", or seconds
)

// Query holds the arguments of a request. CheckQuery has checked their form.
type Query struct{ Values url.Values }

// ReadQuery parses the query; nil if it is empty. Errors are CodeInvalid.
func ReadQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "The query %q can't be read: %v", structs.Shorten(raw), err)
	}
	return values, nil
}

// CheckQuery checks the arguments. It returns CodeInvalid for an argument that is
// unknown, missing, repeated, or has an invalid value.
func CheckQuery(values url.Values, args []Arg) (Query, error) {
	for name, given := range values {
		a := findArg(args, name)
		if a == nil {
			return Query{}, structs.Errorf(structs.CodeInvalid, "Unknown argument: %q", structs.Shorten(name))
		}
		if len(given) > 1 && !a.Many {
			return Query{}, structs.Errorf(structs.CodeInvalid, "The argument %q is given %d times.", name, len(given))
		}
		for _, value := range given {
			if err := a.check(value); err != nil {
				return Query{}, err
			}
		}
	}
	return Query{values}, checkWanted(values, args)
}

func checkWanted(values url.Values, args []Arg) error {
	for _, a := range args {
		if a.Wants && !values.Has(a.Name) {
			return structs.Errorf(structs.CodeInvalid, "Missing argument: %q", a.Name)
		}
	}
	return nil
}

func findArg(args []Arg, name string) *Arg {
	for i := range args {
		if args[i].Name == name {
			return &args[i]
		}
	}
	return nil
}

func (a *Arg) check(value string) error {
	switch a.Kind {
	case ArgInt:
		if n, err := strconv.ParseInt(value, 10, 64); err != nil {
			return structs.Invalid(a.Name, value, "It is not a whole number.")
		} else if n < 0 && a.Name != "limit" { // limit has a message of its own
			return structs.Invalid(a.Name, value, "It must not be negative.")
		}
	case ArgIndex:
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			return structs.Invalid(a.Name, value, "It is not a whole number from 0 to %d.", uint64(math.MaxUint64))
		}
	case ArgBool:
		if _, ok := ReadBool(value); !ok {
			return structs.Invalid(a.Name, value, "It is neither true nor false.")
		}
	case ArgDuration:
		if _, err := readDuration(a.Name, value, cmp.Or(a.Most, structs.MaxWait)); err != nil {
			return err
		}
	default:
		return structs.CheckText(a.Name, value, structs.MaxCommand)
	}
	return nil
}

// ReadBool parses a boolean of a query or body; "" is true.
func ReadBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "", "true", "1", "yes", "on":
		return true, true
	case "false", "0", "no", "off":
		return false, true
	}
	return false, false
}

func readDuration(name, s string, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if seconds, bad := strconv.ParseFloat(s, 64); bad == nil && seconds >= -1e9 && seconds <= 1e9 {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	switch {
	case err != nil:
		return 0, structs.Invalid(name, s, "It is not a duration, such as 30s or 2m.")
	case d < 0:
		return 0, structs.Invalid(name, s, "It must not be negative.")
	case d > most:
		return 0, structs.Invalid(name, s, "It must not be longer than %v.", most)
	}
	return d, nil
}

// Has reports whether the argument is given.
func (q Query) Has(name string) bool { return q.Values.Has(name) }

// Text returns the argument, "" if it isn't given.
func (q Query) Text(name string) string { return q.Values.Get(name) }

// Int returns a number; otherwise is returned if the argument isn't given.
func (q Query) Int(name string, otherwise int64) int64 {
	if !q.Has(name) {
		return otherwise
	}
	n, _ := strconv.ParseInt(q.Text(name), 10, 64) // checked by CheckQuery
	return n
}

// Index returns an unsigned number, 0 if the argument isn't given.
func (q Query) Index(name string) uint64 {
	n, _ := strconv.ParseUint(q.Text(name), 10, 64) // checked by CheckQuery
	return n
}

// Bool returns a boolean; otherwise is returned if the argument isn't given.
func (q Query) Bool(name string, otherwise bool) bool {
	if !q.Has(name) {
		return otherwise
	}
	v, _ := ReadBool(q.Text(name)) // checked by CheckQuery
	return v
}

// Duration returns a duration; otherwise is returned if the argument isn't given.
func (q Query) Duration(name string, otherwise time.Duration) time.Duration {
	if !q.Has(name) {
		return otherwise
	}
	d, _ := readDuration(name, q.Text(name), math.MaxInt64) // checked by CheckQuery
	return d
}
