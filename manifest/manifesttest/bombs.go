// Package manifesttest has what the tests of packages that read manifests share.
package manifesttest

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Bombs checks that texts which are meant to take time or memory are refused as manifests
// of a Pod in a second, and that they take little memory. parse must call a parser of
// such manifests. It may take those of the texts that are named in taken.
func Bombs(t *testing.T, parse func(text string) error, taken ...string) {
	t.Helper()
	for name, text := range bombs() {
		t.Run(name, func(t *testing.T) {
			err := Cheap(t, text, parse)
			if err == nil && slices.Contains(taken, name) {
				return
			}
			if structs.CodeOf(err) != structs.CodeInvalid {
				t.Fatalf("not refused: %v", err)
			}
			if n := len(err.Error()); n > 1000 {
				t.Errorf("the message has %d bytes", n)
			}
		})
	}
}

// Cheap checks that parse takes less than a second for a text, and little memory. It returns
// parse's error.
func Cheap(t *testing.T, text string, parse func(text string) error) error {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := cpuTime(t)
	err := parse(text)
	took := cpuTime(t) - start
	runtime.ReadMemStats(&after)
	if took > time.Second && !raceDetector {
		t.Errorf("took %s", took)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 128*structs.MaxManifest {
		t.Errorf("allocated %d KiB", n>>10)
	}
	return err
}

// cpuTime returns the processor time that the process has used, which doesn't depend on
// what else the machine does.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// bombs are texts that are meant to take time or memory.
func bombs() map[string]string {
	fill := func(s string) string { return strings.Repeat(s, structs.MaxManifest/len(s)) }
	head := "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n"
	amount := func(n string) string {
		return `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"web","image":"busybox",` +
			`"resources":{"limits":{"cpu":` + n + `}}}]}}`
	}
	laughs := head + "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		name, before := string(rune('b'+i)), string(rune('a'+i))
		if i == 0 {
			before = "a0"
		}
		laughs += name + ": &" + name + " [" + strings.Repeat("*"+before+",", 10) + "]\n"
	}
	return map[string]string{
		"10 MB":               strings.Repeat("a: 1\n", 2<<20),
		"10 MB of JSON":       `{"a":"` + strings.Repeat("a", 10<<20) + `"}`,
		"aliases":             laughs,
		"alias of itself":     head + "spec: &a [*a]\n",
		"lists":               fill("["),
		"objects":             fill("{a: "),
		"sequences":           fill("- "),
		"indents":             indents(),
		"keys":                fill("? "),
		"empty lists":         head + "spec: [" + fill("[],")[:structs.MaxManifest-100] + "]",
		"numbers":             head + "spec: [" + fill("1,")[:structs.MaxManifest-100] + "]",
		"documents":           fill("---\na\n"),
		"nulls":               fill("---\n"),
		"anchors":             head + fill("a: &a 1\n")[:structs.MaxManifest-100],
		"comments":            fill("#\n"),
		"flow comments":       "[" + fill("#\n"),
		"quotes":              fill(`"`),
		"tags":                fill("!!str "),
		"question marks":      fill("?\n"),
		"colons":              fill(":\n"),
		"text of many lines":  "a: |\n" + fill(" a\n")[:structs.MaxManifest-100],
		"folded":              "a: " + fill("\n\n b")[:structs.MaxManifest-100],
		"base 60":             head + "spec: " + fill("1:")[:structs.MaxManifest-100],
		"binary":              head + "spec: !!binary " + fill("aaaa")[:structs.MaxManifest-100],
		"JSON lists":          fill("[") + fill("]"),
		"JSON objects":        `{"a":` + fill(`{"a":`)[:structs.MaxManifest/2],
		"JSON values":         `{"a":[` + fill("1,")[:structs.MaxManifest-100] + "1]}",
		"closed JSON lists":   `{"a":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}",
		"JSON names":          `{"spec":{` + fill(`"a":1,`)[:structs.MaxManifest-100] + `"a":1}}`,
		"exponent":            amount(`"1e1000000000"`),
		"negative exponent":   amount(`"1e-1000000000"`),
		"fraction, exponent":  amount(`"0.0000000000000000000000001e1000000000"`),
		"number, exponent":    amount(`1e-1000000000`),
		"long number":         amount("0." + strings.Repeat("0", 400_000) + "1e400000"),
		"long amount":         amount(`"` + strings.Repeat("9", 500_000) + `"`),
		"large amount":        amount(`"` + strings.Repeat("9", 40) + `E"`),
		"long key":            head + "spec: {" + fill("a")[:structs.MaxManifest-200] + ": 1}",
		"noise":               noise(),
		"many unknown fields": head + "spec: {" + unknown() + "}",
	}
}

// indents nests lists by indentation, as far as the text goes.
func indents() string {
	var s strings.Builder
	for i := 0; s.Len() < structs.MaxManifest-2000; i++ {
		s.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return s.String()
}

// noise is made of the characters that mean something in YAML.
func noise() string {
	const marks = "[]{}:,-?&*!|>'\"%#\n a\t"
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, structs.MaxManifest)
	for i := range b {
		b[i] = marks[r.IntN(len(marks))]
	}
	return string(b)
}

func unknown() string {
	var s strings.Builder
	for i := 0; i < 30_000; i++ {
		s.WriteString("a" + strings.Repeat("b", i%9) + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676%26)) +
			string(rune('a'+i/17576)) + ": 1,")
	}
	return s.String()
}
