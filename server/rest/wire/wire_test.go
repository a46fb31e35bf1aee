package wire

import (
	"encoding/json"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

type inner struct {
	A int `json:"a"`
}

type form struct {
	Name   *string           `json:"name"`
	Count  *int              `json:"count"`
	On     bool              `json:"on"`
	Plain  bool              `json:"plain"`
	Words  []string          `json:"words"`
	Labels map[string]string `json:"labels"`
	In     *inner            `json:"in"`
	List   []inner           `json:"list"`
}

type shownForm struct {
	UUID   string            `json:"uuid"`
	Name   string            `json:"name"`
	Count  int               `json:"count"`
	Labels map[string]string `json:"labels"`
	Fixed  string            `json:"fixed"`
}

var formShape = NewShape("form", form{}, shownForm{})

// refused checks that err is a refusal of the user's input that says so.
func refused(t *testing.T, what string, err error, says string) {
	t.Helper()
	if structs.CodeOf(err) != structs.CodeInvalid || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, and not a refusal that says %q", what, err, says)
	}
}

func TestShapeDecode(t *testing.T) {
	var got form
	if err := formShape.Decode([]byte(` {"name":"x","count":"3","on":"True","plain":"no","words":["a","\u0062"],"labels":{"k":"v"},
		"in":{"a":1},"list":[{"a":"2"}],"uuid":null} `), &got); err != nil {
		t.Fatal(err)
	}
	name, count := "x", 3
	want := form{Name: &name, Count: &count, On: true, Words: []string{"a", "b"}, Labels: map[string]string{"k": "v"}, In: &inner{1},
		List: []inner{{2}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
	for body, says := range map[string]string{
		``:                        "not valid JSON",
		`{"name":`:                "not valid JSON (after",
		`[]`:                      "is a list: it has to be an object with the fields of a form",
		`{"other":1}`:             "Unknown attribute for argument form: other",
		`{"uuid":"x"}`:            "Value: 'x'. Cannot set read only field.",
		`{"name":1}`:              "field/attribute name. Value: '1'. Wrong type. Expected a string, got a number.",
		`{"name":"a","name":"b"}`: "The attribute name is given twice.",
		`{"words":"a"}`:           "Expected a list, got a string.",
		`{"words":[null]}`:        "field/attribute words[0].",
		`{"labels":{"k":1}}`:      "field/attribute labels.k.",
		`{"in":{"b":1}}`:          "Unknown attribute for argument in: in.b",
		`{"list":[{"a":"x"}]}`:    "field/attribute list[0].a.",
		`{"plain":""}`:            "is not true or false",
	} {
		var f form
		refused(t, body, formShape.Decode([]byte(body), &f), says)
	}
}

func TestDecodeLenientLeavesWhatIsNewer(t *testing.T) {
	var got inner
	if err := DecodeLenient([]byte(`{"a":1,"of a newer version":{}}`), &got); err != nil || got.A != 1 {
		t.Errorf("%+v %v", got, err)
	}
	refused(t, "no JSON", DecodeLenient([]byte(`{`), &got), "The request's body can't be read")
}

var formPatch = NewPatchRules(formShape, shownForm{}, []string{"fixed"}, []string{"count"}, []string{"name", "labels"})

func TestPatch(t *testing.T) {
	p, err := formPatch.Parse([]byte(`[{"op":"replace","path":"/name","value":"y"},{"op":"add","path":"/labels/b","value":"2"},
		{"op":"remove","path":"/labels/a"}]`))
	if err != nil || p.CheckMutable() != nil || !p.Touches("name") || p.Touches("count") {
		t.Fatalf("%+v %v", p, err)
	}
	shared := map[string]string{"a": "1"}
	name := "x"
	target := form{Name: &name, Labels: shared}
	if err := p.Apply(&target); err != nil {
		t.Fatal(err)
	}
	if *target.Name != "y" || !reflect.DeepEqual(target.Labels, map[string]string{"b": "2"}) {
		t.Errorf("%+v", target)
	}
	if len(shared) != 1 || shared["a"] != "1" || name != "x" {
		t.Errorf("the object's own fields were written: %v %s", shared, name)
	}
	var one form
	if err := p.Only("name").Apply(&one); err != nil || *one.Name != "y" || one.Labels != nil {
		t.Errorf("%+v %v", one, err)
	}
	if got := p.Changed(shownForm{Name: "y", Labels: shared}); !reflect.DeepEqual(got, []string{"labels"}) {
		t.Errorf("changed: %v", got) // what is below a field always counts
	}
	for body, says := range map[string]string{
		`{}`:                                "a PATCH is a list of operations",
		`[1]`:                               "An operation of the PATCH is a number",
		`[{}]`:                              "field/attribute op.",
		`[{"op":"test","path":"/name"}]`:    "Value should be one of: 'add', 'remove', 'replace'",
		`[{"op":"remove"}]`:                 "field/attribute path.",
		`[{"op":"remove","path":"name"}]`:   "Value should match the pattern",
		`[{"op":"remove","path":"/uuid"}]`:  "'/uuid' is an internal attribute and can not be updated",
		`[{"op":"remove","path":"/fixed"}]`: "'/fixed' is an internal attribute and can not be updated",
		`[{"op":"remove","path":"/count"}]`: "'/count' is a mandatory attribute and can not be removed",
		`[{"op":"add","path":"/name","value":""}]`:     "needs value: /name has none",
		`[{"op":"add","path":"/other","value":1}]`:     "Adding a new attribute (/other) to the root",
		`[{"op":"replace","path":"/other","value":1}]`: "Reason: there is no such attribute",
	} {
		_, err := formPatch.Parse([]byte(body))
		refused(t, body, err, says)
	}
	p, err = formPatch.Parse([]byte(`[{"op":"replace","path":"/count","value":1}]`))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "count", p.CheckMutable(), "cannot change form property(ies) count.")
}

var formArgs = []Arg{
	{Name: "big", Kind: ArgIndex}, {Name: "n", Kind: ArgInt}, {Name: "on", Kind: ArgBool}, {Name: "wait", Kind: ArgDuration},
	{Name: "long", Kind: ArgDuration, Most: 24 * time.Hour},
	{Name: "env", Kind: ArgText, Many: true}, {Name: "command", Kind: ArgText, Array: true},
}

func TestQuery(t *testing.T) {
	values, err := ReadQuery("big=18446744073709551615&n=3&on&wait=30&env=a&env=b&long=20h")
	if err != nil {
		t.Fatal(err)
	}
	q, err := CheckQuery(values, formArgs)
	if err != nil {
		t.Fatal(err)
	}
	if q.Index("big") != math.MaxUint64 || q.Int("n", 0) != 3 || q.Int("m", 7) != 7 || !q.Bool("on", false) || !q.Bool("off", true) ||
		q.Duration("wait", 0) != 30*time.Second || q.Duration("long", 0) != 20*time.Hour || q.Has("command") || len(q.Values["env"]) != 2 {
		t.Errorf("%+v", q)
	}
	for raw, says := range map[string]string{
		"x=1": `Unknown argument: "x"`, "n=1&n=2": `The argument "n" is given 2 times.`, "n=-1": "must not be negative",
		"n=x": "not a whole number", "big=18446744073709551616": "not a whole number from 0 to 18446744073709551615",
		"on=maybe": "neither true nor false", "wait=20h": "must not be longer than", "wait=x": "not a duration",
		"long=25h": "must not be longer than 24h",
	} {
		values, err := ReadQuery(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = CheckQuery(values, formArgs)
		refused(t, raw, err, says)
	}
	_, err = ReadQuery("%zz")
	refused(t, "%zz", err, "can't be read")
	_, err = CheckQuery(url.Values{}, []Arg{{Name: "name", Wants: true}})
	refused(t, "none", err, `Missing argument: "name"`)
}

func TestArgumentsInABody(t *testing.T) {
	given := url.Values{"on": {"true"}}
	if err := ReadArguments([]byte(`{"n":3,"env":["a","b"],"command":["ls","-l"],"wait":null}`), formArgs, given); err != nil {
		t.Fatal(err)
	}
	if want := (url.Values{"on": {"true"}, "n": {"3"}, "env": {"a", "b"}, "command": {`["ls","-l"]`}}); !reflect.DeepEqual(given, want) {
		t.Errorf("%v, not %v", given, want)
	}
	for body, says := range map[string]string{
		`[]`: "has to be an object with the arguments", `{"x":1}`: "Unknown argument", `{"on":true}`: "given in the query and in the body",
		`{"n":true}`: "Expected int", `{"env":[1]}`: "Expected a string", `{"n":[1]}`: "Expected a single value", `{`: "not valid JSON",
	} {
		refused(t, body, ReadArguments([]byte(body), formArgs, url.Values{"on": {"true"}}), says)
	}
}

func TestAppendTextIsJSON(t *testing.T) {
	for _, s := range []string{"", "web-1", "ü", "\"\\\b\n\x00\x7f", "<&>", "\xff", "\u2028"} {
		got := AppendText([]byte("x"), s)
		var back string
		if err := json.Unmarshal(got[1:], &back); err != nil || back != strings.ToValidUTF8(s, "\uFFFD") || got[0] != 'x' {
			t.Errorf("%q becomes %s: %v", s, got, err)
		}
	}
	if got := string(AppendText(nil, "<&>")); got != `"<&>"` {
		t.Errorf("%s is escaped for HTML", got)
	}
}

func TestEncoderIsUsedAgain(t *testing.T) {
	for range 3 {
		e := NewEncoder()
		e.Buf.WriteString("[")
		if err := e.Value(inner{1}); err != nil {
			t.Fatal(err)
		}
		e.Buf.WriteString("]")
		if got := e.Buf.String(); got != `[{"a":1}]` {
			t.Errorf("%s", got)
		}
		e.Free()
	}
}

func TestDocumentDescribesItsOperations(t *testing.T) {
	doc := NewDocument("T", "1", "D", []Operation{{
		Method: "POST", Path: "/v1/forms/:id", ID: "x", Args: formArgs, Takes: form{}, Security: SecurityToken,
		Gives: []Answer{{Status: 201, Body: shownForm{}}, {Status: 200, Body: ListOf{Noun: "forms", Item: shownForm{}}}},
	}})
	var d struct {
		Paths      map[string]map[string]map[string]any
		Components struct{ Schemas map[string]map[string]any }
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		t.Fatal(err)
	}
	op := d.Paths["/v1/forms/{id}"]["post"]
	if op == nil || len(op["parameters"].([]any)) != 1+len(formArgs)+1 || op["security"] == nil || op["requestBody"] == nil {
		t.Errorf("%s", doc)
	}
	if in, out := d.Components.Schemas["FormInput"], d.Components.Schemas["ShownForm"]; in["additionalProperties"] != false ||
		len(out["required"].([]any)) != 5 {
		t.Errorf("%v %v", in, out)
	}
}
