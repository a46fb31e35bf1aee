package command

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	for _, tt := range []struct {
		name string
		t    table
		want string
	}{
		{"empty", table{head: []string{"uuid", "name"}}, "" +
			"+------+------+\n| uuid | name |\n+------+------+\n+------+------+\n"},
		{"rows", table{head: []string{"uuid", "name"}, rows: [][]string{{"1", "longer"}, {"22222", ""}}}, "" +
			"+-------+--------+\n| uuid  | name   |\n+-------+--------+\n| 1     | longer |\n| 22222 |        |\n+-------+--------+\n"},
		{"lines", table{head: []string{"p", "v"}, rows: [][]string{{"a", "x\nyy"}}}, "" +
			"+---+----+\n| p | v  |\n+---+----+\n| a | x  |\n|   | yy |\n+---+----+\n"},
		{"width", table{head: []string{"n"}, rows: [][]string{{"ü"}, {"日本"}, {"e\u0301"}}}, "" +
			"+------+\n| n    |\n+------+\n| ü    |\n| 日本 |\n| e\u0301    |\n+------+\n"},
	} {
		var b strings.Builder
		if err := tt.t.writeTo(&b); err != nil || b.String() != tt.want {
			t.Errorf("%s: %v, got\n%swant\n%s", tt.name, err, b.String(), tt.want)
		}
	}
}

func TestCellText(t *testing.T) {
	for in, want := range map[string]string{
		`null`: "None", ``: "None", `"a"`: "a", `""`: "", `3`: "3", `1.50`: "1.50", `true`: "true",
		`{ "a": "<b>" }`: `{"a":"<b>"}`, `["x", 12345678901234567890]`: `["x",12345678901234567890]`,
		`"a\u001b[31m"`: `a\x1b[31m`, `"a\tb"`: "a    b", `["\u001b"]`: `["\u001b"]`,
	} {
		if got := cellText([]byte(in)); got != want {
			t.Errorf("cellText(%s) = %q, want %q", in, got, want)
		}
	}
}

func TestListCells(t *testing.T) {
	for _, tt := range []struct{ key, in, want string }{
		{"command", `["sh","-c","echo 'a  b'; x","","\u001b"]`, `sh -c 'echo '\''a  b'\''; x' '' '\x1b'`},
		{"command", `"ls -l"`, "ls -l"}, {"command", `null`, "None"},
		{"ports", `[{"container_port":80,"host_port":8080,"protocol":"tcp"},{"container_port":53,"host_port":0,"protocol":"udp"}]`,
			"8080->80/tcp, 53/udp"},
		{"ports", `[]`, ""}, {"ports", `null`, "None"}, {"ports", `["x"]`, `["x"]`},
		{"addresses", `["10.0.0.2","fd00::2"]`, "10.0.0.2, fd00::2"}, {"addresses", `[]`, ""},
		{"labels", `{"zone":"a","disk":"ssd"}`, "disk=ssd, zone=a"}, {"labels", `{}`, ""},
		{"other", `{"a":["b"]}`, `{"a":["b"]}`},
	} {
		o := object{{key: tt.key, raw: []byte(tt.in)}}
		if got := o.cell(tt.key); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.key, tt.in, got, tt.want)
		}
	}
}

func TestParseObjectKeepsOrder(t *testing.T) {
	o, err := parseObject([]byte(`{"z":1,"a":{"y":2},"m":null}`))
	if err != nil || len(o) != 3 || o[0].key != "z" || o[1].key != "a" || o[2].key != "m" || o.text("a") != `{"y":2}` ||
		o.text("no") != "None" {
		t.Errorf("got %v, %v", o, err)
	}
	for _, bad := range []string{``, `[]`, `{`, `{"a":}`, `3`} {
		if _, err := parseObject([]byte(bad)); err == nil {
			t.Errorf("parseObject(%q) gives no error", bad)
		}
	}
}

func FuzzParseObject(f *testing.F) {
	f.Add(`{"a":1,"b":[null,{"c":"\u001b"}]}`)
	f.Add(`{`)
	f.Add(`{"command":["\u001b","a'b"],"ports":[{"protocol":"\u001b"}],"labels":{"a":"\u001b"},"addresses":["\u001b"]}`)
	f.Fuzz(func(t *testing.T, s string) {
		o, err := parseObject([]byte(s))
		if err != nil {
			return
		}
		for _, field := range o {
			if text := cellText(field.raw) + o.cell(field.key); strings.ContainsFunc(text, unprintable) {
				t.Fatalf("the cell of %s has control characters: %q", field.raw, text)
			}
		}
		if _, err := o.fields(); err != nil {
			t.Fatalf("%q is an object, but no data: %v", s, err)
		}
	})
}
