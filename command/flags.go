package command

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/posener/complete"
)

// errHelp is the error of a command line that asks for help.
var errHelp = errors.New("help requested")

// flagSet is the set of a command's flags. It uses package flag and adds flags after
// arguments, several names for a flag, and help that shows these names together.
type flagSet struct {
	set     *flag.FlagSet
	options []*option
	literal int             // flags end at this argument, counted from 1; 0 never
	given   map[string]bool // flags on the command line, by their first names
}

// option is a flag with all its names.
type option struct {
	names       []string // the first is the main one
	placeholder string   // of its value, "" for a switch
	usage       string
	def         string // default for the help; "" for none
	value       flag.Value
	predict     complete.Predictor
	shared      bool // help lists it under "Common flags"
}

func newFlagSet(name string) *flagSet {
	f := &flagSet{set: flag.NewFlagSet(name, flag.ContinueOnError), given: map[string]bool{}}
	f.set.SetOutput(io.Discard)
	f.set.Usage = func() {}
	return f
}

// add adds a flag with its names ("format", or "publish p ports").
func (f *flagSet) add(v flag.Value, names, placeholder, usage string) *option {
	o := &option{names: strings.Fields(names), placeholder: placeholder, usage: usage, value: v}
	switch words := strings.Split(placeholder, "|"); {
	case placeholder == "":
	case placeholder == "FILE":
		o.predict = completeFiles
	case placeholder == "DIR":
		o.predict = complete.PredictDirs("*")
	case len(words) > 1 && strings.ToLower(placeholder) == placeholder:
		o.predict = complete.PredictSet(words...)
	default:
		o.predict = complete.PredictAnything
	}
	for _, n := range o.names {
		f.set.Var(v, n, usage)
	}
	f.options = append(f.options, o)
	return o
}

// suggest completes the flag's value with words. It doesn't restrict the value.
func (o *option) suggest(words ...string) *option {
	o.predict = complete.PredictSet(words...)
	return o
}

// defaultText sets the default that the help shows.
func (o *option) defaultText(text string) *option {
	o.def = text
	return o
}

// common lists the flag under "Common flags" in the help.
func (o *option) common() *option {
	o.shared = true
	return o
}

// funcValue is a flag.Value that calls a function.
type funcValue struct {
	set    func(string) error
	toggle bool // the value can be omitted: =true or =false
}

func (v funcValue) String() string     { return "" }
func (v funcValue) Set(s string) error { return v.set(s) }
func (v funcValue) IsBoolFlag() bool   { return v.toggle }

// text adds a flag for any text.
func (f *flagSet) text(p *string, names, placeholder, usage string) *option {
	return f.add(funcValue{set: func(s string) error { *p = s; return nil }}, names, placeholder, usage)
}

// repeatable adds a flag that can be repeated.
func (f *flagSet) repeatable(names, placeholder, usage string, set func(string) error) *option {
	return f.add(funcValue{set: set}, names, placeholder, usage+" (may be repeated)")
}

// switchOn adds a boolean flag.
func (f *flagSet) switchOn(p *bool, names, usage string) *option {
	return f.toggle(names, usage, func(b bool) { *p = b })
}

// toggle adds a boolean flag that calls set.
func (f *flagSet) toggle(names, usage string, set func(bool)) *option {
	return f.add(funcValue{toggle: true, set: func(s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("must be true or false")
		}
		set(b)
		return nil
	}}, names, "", usage)
}

// number adds a flag for a whole number of least or more.
func (f *flagSet) number(names, placeholder, usage string, least int, set func(int)) *option {
	return f.add(funcValue{set: func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("is not a whole number")
		}
		if n < least {
			return fmt.Errorf("is below %d", least)
		}
		set(n)
		return nil
	}}, names, placeholder, usage)
}

// parse parses flags and arguments in any order and returns the arguments. "--" and
// the argument number f.literal end the flags.
func (f *flagSet) parse(args []string) ([]string, error) {
	var rest []string
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return append(rest, args...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			if len(rest) == f.literal {
				return append(rest, args...), nil
			}
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		o := f.lookup(name)
		if name == "help" || name == "h" && (o == nil || !hasValue && len(args) == 0) {
			return nil, errHelp
		}
		if o == nil {
			return nil, f.unknown(arg, name)
		}
		if !hasValue {
			if b, ok := o.value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
				value = "true"
			} else if len(args) == 0 {
				return nil, usagef("flag -%s needs a value: %s", name, o.placeholder)
			} else {
				value, args = args[0], args[1:]
			}
		}
		if err := f.set.Set(name, value); err != nil {
			return nil, usagef("flag -%s: %q %v", name, value, err)
		}
		f.given[o.names[0]] = true
	}
	return rest, nil
}

// lookup returns the flag of a name, nil if it doesn't exist.
func (f *flagSet) lookup(name string) *option {
	for _, o := range f.options {
		for _, n := range o.names {
			if n == name {
				return o
			}
		}
	}
	return nil
}

// unknown returns the error for an unknown flag, with the nearest name.
func (f *flagSet) unknown(arg, name string) error {
	var names []string
	for _, o := range f.options {
		names = append(names, o.names...)
	}
	if near := nearest(strings.ReplaceAll(name, "_", "-"), names); near != "" {
		return usagef("there is no flag %s; did you mean -%s?", arg, near)
	}
	return usagef("there is no flag %s; write arguments that begin with - after \"--\"", arg)
}

// exactly returns an error unless there is one argument for each name.
func exactly(args []string, names ...string) error {
	if len(args) < len(names) {
		return usagef("%s is missing", strings.Join(names[len(args):], " and "))
	}
	if len(args) > len(names) {
		return usagef("%q is one argument too many", args[len(names)])
	}
	return nil
}

// nearest returns the word with the least edit distance to s, "" if none is close.
func nearest(s string, words []string) string {
	most := max(2, len(s)/3)
	if len(s) <= 3 {
		most = 1
	}
	best, bestDistance := "", most+1
	for _, w := range words {
		if d := editDistance(s, w); d < bestDistance && d < max(len(s), len(w)) {
			best, bestDistance = w, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or replace to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// value adds a flag that calls set. If the flag is repeated, its last value counts.
func (f *flagSet) value(names, placeholder, usage string, set func(string) error) *option {
	return f.add(funcValue{set: set}, names, placeholder, usage)
}
