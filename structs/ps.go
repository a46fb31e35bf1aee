package structs

import (
	"fmt"
	"slices"
	"strings"
)

// PSColumns are the columns that a user may ask ps for. ps runs as root on the host.
// Each column shows a single word, or a command line if it is in psText. None shows an
// environment.
var PSColumns = []string{
	"pid", "ppid", "pgid", "sid", "uid", "user", "gid", "group", "%cpu", "pcpu", "%mem", "pmem", "vsz", "rss", "tty", "stat", "state",
	"stime", "etime", "etimes", "time", "ni", "pri", "nlwp", "psr", "comm", "args", "cmd", "command",
}

// psText are the columns of PSColumns whose values may contain blanks. Only the last
// column of ps can be one of them.
var psText = []string{"comm", "args", "cmd", "command"}

// PS is a request to show a container's processes with ps. The zero value is invalid.
type PS struct {
	Preset  string   // "-ef", "-e" or "aux", which imply the columns; "" if Columns is set
	Columns []string // from PSColumns, each at most once and at most one of psText, in the user's order
}

// ParsePS parses a user's arguments for ps: nothing (which means -ef), -e, -A, -f or
// several of these, aux, or -o with columns. Arguments outside this grammar never
// reach ps. ps can print the environments of processes, and it can give any column the
// title PID, by which the engine assigns lines to containers. Errors are CodeInvalid.
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
			return invalidPS(text, "The column %s is given twice.", column)
		}
		if slices.Contains(psText, column) {
			texts++
		}
	}
	if texts > 1 {
		return invalidPS(text, "Only one of the columns %s fits into a list.", strings.Join(psText, ", "))
	}
	return nil
}

func refusePS(text string) error {
	return invalidPS(strings.ToValidUTF8(text, "?"), "It is -ef, -e, aux, or -o with some of the columns %s.", strings.Join(PSColumns, ","))
}

func invalidPS(text, format string, args ...any) error {
	return Errorf(CodeInvalid, "Invalid input for field/attribute ps_args. Value: '%.64s'. %s", text, fmt.Sprintf(format, args...))
}

// String returns arguments that ParsePS parses into an equal PS.
func (p PS) String() string {
	if p.Preset != "" {
		return p.Preset
	}
	return "-o " + strings.Join(p.Columns, ",")
}

// Ask returns the arguments for the engine. The first column is pid, so that a process
// can't forge it with its name or command line. The last one is the column that may
// contain blanks.
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

// Arrange returns the engine's answer to Ask with the user's columns in the user's
// order. It returns CodeUnavailable if the answer has other columns.
func (p PS) Arrange(answer TopBody) (TopBody, error) {
	if p.Preset != "" {
		return answer, nil
	}
	asked := p.asked()
	if len(answer.Titles) != len(asked) {
		return TopBody{}, Errorf(CodeUnavailable, "the host's ps answered with the columns %.128q, but was asked for %s",
			answer.Titles, strings.Join(asked, ","))
	}
	arranged := func(line []string) []string {
		out := make([]string, len(p.Columns))
		for i, column := range p.Columns {
			if at := slices.Index(asked, column); at < len(line) { // ps may omit the last columns
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
