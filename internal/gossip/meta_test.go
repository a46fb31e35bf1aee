package gossip

import (
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/stackforge/magnum/structs"
)

func fullNode(name string) Node {
	return Node{
		Name: name, Role: RoleServer, ClusterID: structs.NewID(), HTTPAddr: "https://[2001:db8:1234:5678:9abc:def0:1234:5678]:65535",
		RaftAddr: "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535", Expect: 5, Fresh: true, Schema: 1,
		Version: "1.2.3-rc.1+0123456789abcdef",
	}
}

func TestMetaRoundTrip(t *testing.T) {
	for _, n := range []Node{fullNode("rack-7"), {Role: RoleAgent}, {Role: RoleAgent, Name: `<&"\`, Version: "dev"}} {
		b, err := encodeMeta(n)
		if err != nil {
			t.Fatalf("%+v: %v", n, err)
		}
		got, err := decodeMeta(b)
		if err != nil || !reflect.DeepEqual(got, n) {
			t.Errorf("%+v came back as %+v, error %v", n, got, err)
		}
	}
}

func TestLongMetaCutsOnlyNameAndVersion(t *testing.T) {
	for _, letter := range []string{"x", "é", "\u4e16", "\U0001f600", `"`, "\x01", "\xff"} {
		n := fullNode(strings.Repeat(letter, structs.MaxName))
		n.Version = strings.Repeat("v", 200)
		b, err := encodeMeta(n)
		if err != nil || len(b) > memberlist.MetaMaxSize {
			t.Fatalf("a name of %q: %d bytes, error %v", letter, len(b), err)
		}
		got, err := decodeMeta(b)
		if err != nil {
			t.Fatalf("a name of %q: %v", letter, err)
		}
		if !utf8.ValidString(got.Name) || letter != "\xff" && !strings.HasPrefix(n.Name, got.Name) || got.Name == "" {
			t.Errorf("a name of %q came back as %q", letter, got.Name)
		}
		got.Name, n.Name, n.Version = "", "", n.Version[:maxVersion]
		if !reflect.DeepEqual(got, n) {
			t.Errorf("more than the name was cut: %+v, want %+v", got, n)
		}
	}
}

func TestInvalidMetaIsRefused(t *testing.T) {
	for name, b := range map[string]string{
		"nothing":         "",
		"not JSON":        "x",
		"no role":         `{}`,
		"unknown role":    `{"r":"x"}`,
		"cluster id":      `{"r":"s","c":"x"}`,
		"http address":    `{"r":"s","h":"javascript:1"}`,
		"raft address":    `{"r":"s","a":"nowhere"}`,
		"raft port":       `{"r":"s","a":"h:0"}`,
		"negative expect": `{"r":"s","e":-1}`,
		"huge expect":     `{"r":"s","e":1000}`,
		"negative schema": `{"r":"s","s":-1}`,
		"wrong type":      `{"r":"s","s":"1"}`,
		"too long":        `{"r":"s","x":"` + strings.Repeat("x", memberlist.MetaMaxSize) + `"}`,
	} {
		if _, err := decodeMeta([]byte(b)); structs.CodeOf(err) != structs.CodeInvalid {
			t.Errorf("%s: error %v, want invalid", name, err)
		}
	}
	if _, err := decodeMeta([]byte(`{"r":"a","new":{"key":1}}`)); err != nil {
		t.Errorf("a key added by a newer version is refused: %v", err)
	}
}

func TestInstanceNameRoundTrip(t *testing.T) {
	want := instance{id: structs.NewID(), start: 1_700_000_000_000}
	if got, ok := parseInstance(want.String()); !ok || got != want {
		t.Errorf("%v came back as %v, %v", want, got, ok)
	}
	for _, bad := range []string{
		"", want.id, want.id + ".", want.id + ".!", "x.1", want.id + ".01", want.id + ".1.2", strings.ToUpper(want.String()),
	} {
		if got, ok := parseInstance(bad); ok {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	full, err := encodeMeta(fullNode("rack-7"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(`{"r":"a"}`))
	f.Add([]byte(`{"R":"s","h":"http://[::1%25x]:1","a":"[::]:1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := decodeMeta(b)
		if err != nil {
			if structs.CodeOf(err) != structs.CodeInvalid {
				t.Fatalf("error %v, want invalid", err)
			}
			return
		}
		again, err := encodeMeta(n)
		if err != nil {
			return // escaping may have made it too long
		}
		got, err := decodeMeta(again)
		if err != nil {
			t.Fatalf("%q was read, but not %q: %v", b, again, err)
		}
		if got.Name = n.Name; got != n { // encoding may cut a long name
			t.Fatalf("%+v came back as %+v", n, got)
		}
	})
}
