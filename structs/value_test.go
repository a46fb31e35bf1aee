package structs

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSplitCommand(t *testing.T) {
	for in, want := range map[string][]string{
		"":                      nil,
		"  ":                    nil,
		"sleep 100":             {"sleep", "100"},
		" a\tb\nc ":             {"a", "b", "c"},
		`sh -c 'echo "a b"'`:    {"sh", "-c", `echo "a b"`},
		`sh -c "echo 'a b'"`:    {"sh", "-c", "echo 'a b'"},
		`a\ b c`:                {"a b", "c"},
		`''`:                    {""},
		`a"b"'c'`:               {"abc"},
		`"a\"b\\c\d"`:           {`a"b\c\d`},
		"a\\\nb":                {"ab"},
		`echo $HOME | x; y & z`: {"echo", "$HOME", "|", "x;", "y", "&", "z"},
		`echo ü "中 文"`:          {"echo", "ü", "中 文"},
	} {
		got, err := SplitCommand(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{`'a`, `"a`, `a\`, `a "b\"`} {
		if got, err := SplitCommand(bad); err == nil {
			t.Errorf("%q was split into %q", bad, got)
		}
	}
}

// FuzzSplitCommand checks the split against its inverse: quoted words split into
// themselves.
func FuzzSplitCommand(f *testing.F) {
	for _, s := range []string{"", "a b", `'a b' "c\"d" e\ f`, `'`, `\`, "a\\\nb", "\x00", "ü 中"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		words, err := SplitCommand(s)
		if err != nil {
			return
		}
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
		}
		again, err := SplitCommand(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, words) {
			t.Errorf("%q gives %q; quoted, that gives %q (%v)", s, words, again, err)
		}
	})
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]Bytes{
		"0": 0, "1": 1, "512m": 512 << 20, "512M": 512 << 20, "512mb": 512 << 20, "512MiB": 512 << 20, "1.5g": 3 << 29,
		"64k": 64 << 10, "10b": 10, " 2 g ": 2 << 30, "1t": 1 << 40, "1e3": 1000,
	} {
		if got, err := ParseBytes(in); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "m", "-1", "-1m", "1x", "1mm", "m1", "nan", "inf", "infg", "1e300", "99999999t", "0x10"} {
		if got, err := ParseBytes(bad); err == nil {
			t.Errorf("%q was taken as %d", bad, got)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"512m", "1.5g", "", "-1", "nan", "1e300t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ParseBytes(s); err == nil && (n < 0 || n > 1<<60) {
			t.Errorf("%q gives %d", s, n)
		}
	})
}

func TestJSONOfValues(t *testing.T) {
	type body struct {
		S Bytes
		P MilliCPU
		X Text
		R RestartPolicy
		C Command
		T Time
	}
	for in, want := range map[string]string{
		`{"S":1024}`:                   `"S":1024`,
		`{"S":null}`:                   `"S":null`,
		`{"S":0}`:                      `"S":null`,
		`{"P":0.25}`:                   `"P":0.25`,
		`{"P":1.2345}`:                 `"P":1.235`,
		`{"P":1e300}`:                  `"P":4611686018427388`,
		`{"P":-1}`:                     `"P":-1`,
		`{"P":null}`:                   `"P":null`,
		`{"X":"a<b"}`:                  `"X":"a\u003cb"`,
		`{"X":""}`:                     `"X":null`,
		`{"X":null}`:                   `"X":null`,
		`{"R":"on-failure:3"}`:         `"R":"on-failure:3"`,
		`{"R":"on-failure:x"}`:         `"R":"on-failure:x"`,
		`{"R":"on-failure:0"}`:         `"R":"on-failure:0"`,
		`{"R":""}`:                     `"R":""`,
		`{"C":"echo 'a b'"}`:           `"C":"echo 'a b'"`,
		`{"C":["echo","a"]}`:           `"C":["echo","a"]`,
		`{"C":[]}`:                     `"C":[]`,
		`{"C":null}`:                   `"C":[]`,
		`{"T":"2015-04-20T19:06:08Z"}`: `"T":"2015-04-20T19:06:08+00:00"`,
		`{"T":null}`:                   `"T":null`,
	} {
		var b body
		if err := json.Unmarshal([]byte(in), &b); err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		out, err := json.Marshal(b)
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s gives %s, %v; want %s", in, out, err, want)
		}
	}
	for _, bad := range []string{
		`{"S":"x"}`, `{"S":"1k"}`, `{"S":1.5}`, `{"S":[]}`, `{"P":"1"}`, `{"P":0.0001}`, `{"P":[]}`, `{"X":1}`, `{"R":3}`,
		`{"C":{}}`, `{"C":[1]}`, `{"C":"'"}`, `{"T":"yesterday"}`, `{"T":5}`,
	} {
		var b body
		if err := json.Unmarshal([]byte(bad), &b); err == nil {
			t.Errorf("%s was taken: %+v", bad, b)
		}
	}
}

func TestTimeIsInUTCAndWholeSeconds(t *testing.T) {
	when := time.Date(2026, 1, 2, 3, 4, 5, 678, time.FixedZone("x", 3600))
	if out, _ := json.Marshal(Time{when}); string(out) != `"2026-01-02T02:04:05+00:00"` {
		t.Errorf("got %s", out)
	}
}

func TestIDs(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		id := NewID()
		if !IsID(id) || id[14] != '4' || seen[id] {
			t.Fatalf("%q is no new version 4 UUID", id)
		}
		seen[id] = true
	}
	for _, bad := range []string{"", "x", strings.ToUpper(NewID()), strings.ReplaceAll(NewID(), "-", "x"), NewID() + "0", "{" +
		NewID()[1:]} {
		if IsID(bad) {
			t.Errorf("%q passes for a canonical UUID", bad)
		}
	}
}

// FuzzScalar compares scalar with encoding/json.
func FuzzScalar(f *testing.F) {
	for _, s := range []string{`"512m"`, `""`, `"a\"b"`, `"\u00fc"`, `"ü"`, "\"\xff\"", `"`, `1.5`, `true`, "\"a\nb\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || b[0] != '"' {
			return
		}
		var want string
		wantErr := json.Unmarshal(b, &want)
		got, err := scalar(b)
		if (err == nil) != (wantErr == nil) || got != want {
			t.Errorf("%q: %q, %v; not %q, %v", b, got, err, want, wantErr)
		}
	})
}
