package structs

import (
	"reflect"
	"strings"
	"testing"
)

func TestParsePS(t *testing.T) {
	for text, want := range map[string][2]string{ // as it is written, and as the engine is asked
		"":                            {"-ef", "-ef"},
		"-ef":                         {"-ef", "-ef"},
		"-e -f":                       {"-ef", "-ef"},
		"-f":                          {"-ef", "-ef"},
		"-A":                          {"-e", "-e"},
		"-e":                          {"-e", "-e"},
		"aux":                         {"aux", "aux"},
		"-o pid,comm":                 {"-o pid,comm", "-o pid,comm"},
		"-opid,comm":                  {"-o pid,comm", "-o pid,comm"},
		"-eo user,pid":                {"-o user,pid", "-o pid,user"},
		"-e  -o args,rss  -o %cpu":    {"-o args,rss,%cpu", "-o pid,rss,%cpu,args"},
		"-o pid,rss,args":             {"-o pid,rss,args", "-o pid,rss,args"},
		strings.Repeat(" ", 3) + "-f": {"-ef", "-ef"},
	} {
		ps, err := ParsePS(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if ps.String() != want[0] || ps.Ask() != want[1] {
			t.Errorf("%q is %q and asks %q, want %q", text, ps, ps.Ask(), want)
		}
		if again, err := ParsePS(ps.String()); err != nil || !reflect.DeepEqual(again, ps) {
			t.Errorf("%q read again is %+v, %v", ps, again, err)
		}
	}
}

// attacksOnPS are arguments that would show environments, or processes of other
// containers.
var attacksOnPS = []string{
	"-orss=PID -e e -oargs", "-o rss=PID", "-o pid=PID", "-o pid=,args", "-o args=", "-opid,args=PID", "-o pid -o rss=PID",
	"e", "-e e", "aux e", "auxe", "axe", "axeww", "eww", "-eww", "-ef e", "efo pid", "-o pid e", "e -o pid", "aux -o pid", "aux f",
	"-aux", "ax", "xe", "ae",
	"-o pid,environ", "-o environ", "-o pid,env", "-o", "-o ", "-eo", "-o ,", "-o pid,", "-o pid,,args", "-o pid,PID", "-o PID",
	"-o pid,pid", "-o pid -o pid",
	"-o args,cmd", "-o comm,args", "-o lstart,pid", "-o start,pid", "-o pid,label", "-o pid:99", "-o args:1,pid", "-o pid|args",
	"-ef -o pid", "-efo pid",
	"--format pid", "--format=pid", "--format rss=PID", "-O rss", "-Orss=PID", "O rss", "o pid", "-y", "-ly", "-l", "-L", "-T", "-M",
	"-Z", "-H", "-F", "-j", "-w",
	"-C sh", "-Csh", "--ppid 1", "--pid 1", "-p 1", "-p1", "p 1", "1", "-1", "-q 1", "q1", "--quick-pid 1", "-g 1", "-s 1", "-t ?",
	"-u root", "-U root", "-G root", "-N", "--deselect",
	"--cols 9", "--rows 1", "--headers", "--no-headers", "h", "-n x", "--sort pid", "k pid", "-V", "V", "--help", "--info", "-d", "-a",
	"-", "--", " ", "-e -", "-o\tpid", "-o pid\n-e e", "-o\npid", "-ef\x00", "-ef\n", "\n", "-o pid\u00a0e", "-o pid\u2003e", "-e\x0be",
	"-o pid\x0c=x", "-о pid", "\xff", "-o \xff",
	"`id`", "$(id)", "-o pid;id",
}

func TestParsePSRefuses(t *testing.T) {
	for _, text := range attacksOnPS {
		ps, err := ParsePS(text)
		if CodeOf(err) != CodeInvalid || !strings.Contains(err.Error(), "ps_args") {
			t.Errorf("%q is %+v, asks %q, and says %v", text, ps, ps.Ask(), err)
		}
	}
}

// FuzzParsePS checks that accepted arguments ask only for listed columns, pid first.
func FuzzParsePS(f *testing.F) {
	for _, text := range attacksOnPS {
		f.Add(text)
	}
	f.Add("-eo user,pid")
	listed := make(map[string]bool)
	for _, c := range PSColumns {
		listed[c] = true
	}
	f.Fuzz(func(t *testing.T, text string) {
		ps, err := ParsePS(text)
		if err != nil {
			return
		}
		switch ask := ps.Ask(); ask {
		case "-ef", "-e", "aux":
		default:
			columns, ok := strings.CutPrefix(ask, "-o pid")
			if !ok {
				t.Fatalf("%q asks %q", text, ask)
			}
			for _, c := range strings.Split(columns, ",")[1:] {
				if !listed[c] || c == "pid" {
					t.Fatalf("%q asks %q", text, ask)
				}
			}
		}
	})
}

func TestArrangePS(t *testing.T) {
	ps, err := ParsePS("-o args,rss")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ps.Arrange(TopBody{Titles: []string{"PID", "RSS", "COMMAND"}, Processes: [][]string{{"7", "100", "sh -c x"}, {"8", "0"}}})
	if err != nil || !reflect.DeepEqual(got, TopBody{Titles: []string{"COMMAND", "RSS"}, Processes: [][]string{{"sh -c x", "100"}, {"",
		"0"}}}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ps.Arrange(TopBody{Titles: []string{"PID", "COMMAND"}}); CodeOf(err) != CodeUnavailable {
		t.Errorf("an answer of other columns: %v", err)
	}
}
