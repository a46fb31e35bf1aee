package rest

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// arg is a query argument that a route takes.
type arg struct {
	name  string
	kind  argKind
	doc   string
	many  bool // may be given several times
	wants bool // mandatory
}

// argDeadline is the name of the time that a drain has.
const argDeadline = "deadline"

type argKind string

// The kinds of query arguments.
const (
	argText     argKind = "text"
	argInt      argKind = "int"      // 0 or more
	argIndex    argKind = "index"    // 0 or more, up to the largest of 64 bits without a sign
	argBool     argKind = "bool"     // true, True, 1, or nothing at all; false, False, 0
	argDuration argKind = "duration" // "30s", or seconds
)

// query holds the arguments of a request, checked for form.
type query struct{ values url.Values }

// readQuery reads the query; nil if there is none. Errors are CodeInvalid.
func readQuery(raw string) (url.Values, error) {
	if raw == "" {
		return nil, nil
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "The query %q can't be read: %v", short(raw), err)
	}
	return values, nil
}

// checkQuery checks the arguments. Errors are CodeInvalid: an argument that the
// route doesn't take, a value that can't be read, one given twice.
func checkQuery(values url.Values, args []arg) (query, error) {
	for name, given := range values {
		a := findArg(args, name)
		if a == nil {
			return query{}, structs.Errorf(structs.CodeInvalid, "Unknown argument: %q", short(name))
		}
		if len(given) > 1 && !a.many {
			return query{}, structs.Errorf(structs.CodeInvalid, "The argument %q is given %d times.", name, len(given))
		}
		for _, value := range given {
			if err := a.check(value); err != nil {
				return query{}, err
			}
		}
	}
	return query{values}, checkWanted(values, args)
}

func checkWanted(values url.Values, args []arg) error {
	for _, a := range args {
		if a.wants && !values.Has(a.name) {
			return structs.Errorf(structs.CodeInvalid, "Missing argument: %q", a.name)
		}
	}
	return nil
}

func findArg(args []arg, name string) *arg {
	for i := range args {
		if args[i].name == name {
			return &args[i]
		}
	}
	return nil
}

func (a *arg) check(value string) error {
	switch a.kind {
	case argInt:
		if n, err := strconv.ParseInt(value, 10, 64); err != nil {
			return invalid(a.name, value, "It is not a whole number.")
		} else if n < 0 && a.name != "limit" { // limit has a message of its own
			return invalid(a.name, value, "It must not be negative.")
		}
	case argIndex:
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			return invalid(a.name, value, "It is not a whole number from 0 to %d.", uint64(math.MaxUint64))
		}
	case argBool:
		if _, ok := readBool(value); !ok {
			return invalid(a.name, value, "It is neither true nor false.")
		}
	case argDuration:
		if _, err := readDuration(a.name, value); err != nil {
			return err
		}
	default:
		return structs.CheckText(a.name, value, structs.MaxCommand)
	}
	return nil
}

func readBool(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "", "true", "1", "yes", "on":
		return true, true
	case "false", "0", "no", "off":
		return false, true
	}
	return false, false
}

// longest bounds a duration: a wait holds a connection, a drain's deadline
// nothing.
func longest(name string) time.Duration {
	if name == argDeadline {
		return structs.MaxDrain
	}
	return structs.MaxWait
}

func readDuration(name, s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if seconds, bad := strconv.ParseFloat(s, 64); bad == nil && seconds >= -1e9 && seconds <= 1e9 {
		d, err = time.Duration(seconds*float64(time.Second)), nil
	}
	switch {
	case err != nil:
		return 0, invalid(name, s, "It is not a duration, such as 30s or 2m.")
	case d < 0:
		return 0, invalid(name, s, "It must not be negative.")
	case d > longest(name):
		return 0, invalid(name, s, "It must not be longer than %v.", longest(name))
	}
	return d, nil
}

func (q query) has(name string) bool    { return q.values.Has(name) }
func (q query) text(name string) string { return q.values.Get(name) }

// int returns a number, otherwise if it isn't given.
func (q query) int(name string, otherwise int64) int64 {
	if !q.has(name) {
		return otherwise
	}
	n, _ := strconv.ParseInt(q.text(name), 10, 64) // checked by parseQuery
	return n
}

// index returns a number without a sign, 0 if it isn't given.
func (q query) index(name string) uint64 {
	n, _ := strconv.ParseUint(q.text(name), 10, 64) // checked by parseQuery
	return n
}

// bool returns a truth value, otherwise if it isn't given.
func (q query) bool(name string, otherwise bool) bool {
	if !q.has(name) {
		return otherwise
	}
	v, _ := readBool(q.text(name)) // checked by parseQuery
	return v
}

// duration returns a duration, otherwise if it isn't given.
func (q query) duration(name string, otherwise time.Duration) time.Duration {
	if !q.has(name) {
		return otherwise
	}
	d, _ := readDuration(name, q.text(name)) // checked by parseQuery
	return d
}
