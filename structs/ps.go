package structs

import (
	"slices"
	"strings"
)

// PSColumns are the columns that ps may be asked for. ps runs on the host and as
// root. Each of these shows one word of numbers or of a name, or, as psText says,
// a command line: never an environment.
var PSColumns = []string{
	"pid", "ppid", "pgid", "sid", "uid", "user", "gid", "group", "%cpu", "pcpu", "%mem", "pmem", "vsz", "rss", "tty", "stat", "state",
	"stime", "etime", "etimes", "time", "ni", "pri", "nlwp", "psr", "comm", "args", "cmd", "command",
}

// psText are those of PSColumns that may have blanks in them, so that they can
// only be the last in a line of ps.
var psText = []string{"comm", "args", "cmd", "command"}

// PS is what ps is asked to show of a container's processes. The zero value is
// not valid.
type PS struct {
	Preset  string   // "-ef", "-e" or "aux", of which ps knows the columns; "" if Columns are given
	Columns []string // of PSColumns, each at most once and at most one of psText, in the user's order
}

// ParsePS reads the arguments that a user has for ps: nothing, which means -ef,
// -e, -A, -f or several of them, aux, or -o with columns. Nothing that is not in
// this grammar reaches a ps: it can print the environments of processes, and it
// can title any column PID, by which the engine tells whose process a line is of.
// Errors are CodeInvalid.
func ParsePS(text string) (PS, error) {
	if text == "" {
		return PS{Preset: "-ef"}, nil
	}
	if text == "aux" {
		return PS{Preset: text}, nil
	}
	var ps PS
	words, full := strings.Split(text, " "), false
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	for i := 0; i < len(words); i++ {
		flags, dashed := strings.CutPrefix(words[i], "-")
		if flags == "" || !dashed {
			return PS{}, refusePS(text)
		}
		flags, columns, listed := strings.Cut(flags, "o")
		if strings.Trim(flags, "eAf") != "" {
			return PS{}, refusePS(text)
		}
		full = full || strings.Contains(flags, "f")
		if !listed {
			continue
		}
		if columns == "" {
			if i++; i == len(words) {
				return PS{}, refusePS(text)
			}
			columns = words[i]
		}
		ps.Columns = append(ps.Columns, strings.Split(columns, ",")...)
	}
	switch {
	case len(words) == 0, full && ps.Columns != nil:
		return PS{}, refusePS(text)
	case full:
		ps.Preset = "-ef"
	case ps.Columns == nil:
		ps.Preset = "-e"
	}
	return ps, ps.check(text)
}

func (p PS) check(text string) error {
	texts := 0
	for i, column := range p.Columns {
		if !slices.Contains(PSColumns, column) {
			return refusePS(text)
		}
		if slices.Contains(p.Columns[:i], column) {
			return Errorf(CodeInvalid, "Invalid input for field/attribute ps_args. Value: '%.64s'. The column %s is given twice.", text, column)
		}
		if slices.Contains(psText, column) {
			texts++
		}
	}
	if texts > 1 {
		return Errorf(CodeInvalid, "Invalid input for field/attribute ps_args. Value: '%.64s'. Only one of the columns %s fits into a list.", text, strings.Join(psText, ", "))
	}
	return nil
}

func refusePS(text string) error {
	return Errorf(CodeInvalid, "Invalid input for field/attribute ps_args. Value: '%.64s'. It is -ef, -e, aux, or -o with some of the columns %s.", strings.ToValidUTF8(text, "?"), strings.Join(PSColumns, ","))
}

// String writes the arguments so that ParsePS reads the same.
func (p PS) String() string {
	if p.Preset != "" {
		return p.Preset
	}
	return "-o " + strings.Join(p.Columns, ",")
}

// Ask returns the arguments for the engine. Columns begin with pid, so that
// nothing that a process says of itself can stand in its place, and end with the
// one that may have blanks.
func (p PS) Ask() string {
	if p.Preset != "" {
		return p.Preset
	}
	return "-o " + strings.Join(p.asked(), ",")
}

func (p PS) asked() []string {
	asked, last := []string{"pid"}, ""
	for _, column := range p.Columns {
		switch {
		case column == "pid":
		case slices.Contains(psText, column):
			last = column
		default:
			asked = append(asked, column)
		}
	}
	if last != "" {
		asked = append(asked, last)
	}
	return asked
}

// Arrange returns what the engine answered to Ask with the columns that the user
// wants, in the user's order. CodeUnavailable if the answer has other columns.
func (p PS) Arrange(answer TopBody) (TopBody, error) {
	if p.Preset != "" {
		return answer, nil
	}
	asked := p.asked()
	if len(answer.Titles) != len(asked) {
		return TopBody{}, Errorf(CodeUnavailable, "ps of the host has answered with columns %.128q, asked for %s", answer.Titles, strings.Join(asked, ","))
	}
	arranged := func(line []string) []string {
		out := make([]string, len(p.Columns))
		for i, column := range p.Columns {
			if at := slices.Index(asked, column); at < len(line) { // ps may leave the last columns out
				out[i] = line[at]
			}
		}
		return out
	}
	body := TopBody{Titles: arranged(answer.Titles)}
	for _, line := range answer.Processes {
		body.Processes = append(body.Processes, arranged(line))
	}
	return body, nil
}
