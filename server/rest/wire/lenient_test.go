package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

type lenientForm struct {
	I int                   `json:"i"`
	L int64                 `json:"l"`
	B bool                  `json:"b"`
	S structs.Bytes         `json:"s"`
	P *structs.MilliCPU     `json:"p"`
	W structs.Words         `json:"w"`
	C *structs.Command      `json:"c"`
	X structs.Text          `json:"x"`
	R structs.RestartPolicy `json:"r"`
}

// TestDecodeLenientForms reads each type in all of its forms.
func TestDecodeLenientForms(t *testing.T) {
	shape := NewShape("form", lenientForm{}, nil)
	half := structs.MilliCPU(500)
	for body, want := range map[string]lenientForm{
		`{"i":"2"}`:             {I: 2},
		`{"i":2}`:               {I: 2},
		`{"i":" 2 "}`:           {I: 2},
		`{"l":"1099511627776"}`: {L: 1 << 40},
		`{"b":"True"}`:          {B: true},
		`{"b":"false"}`:         {},
		`{"b":true}`:            {B: true},
		`{"s":"512m"}`:          {S: 512 << 20},
		`{"s":"1.5g"}`:          {S: 3 << 29},
		`{"s":1024}`:            {S: 1024},
		`{"s":"1024"}`:          {S: 1024},
		`{"p":0.5}`:             {P: &half},
		`{"p":" 0.5 "}`:         {P: &half},
		`{"p":null}`:            {},
		`{"w":"echo 'a b'"}`:    {W: structs.Words{"echo", "a b"}},
		`{"w":["echo","a b"]}`:  {W: structs.Words{"echo", "a b"}},
		`{"c":"echo 'a b'"}`:    {C: &structs.Command{Args: []string{"echo", "a b"}, Text: "echo 'a b'"}},
		`{"c":["echo"]}`:        {C: &structs.Command{Args: []string{"echo"}}},
		`{"x":"\u00fc"}`:        {X: "ü"},
		`{"x":null}`:            {},
		`{"r":"on-failure:3"}`:  {R: structs.RestartPolicy{Name: "on-failure", MaxRetries: 3}},
		`{"r":"sometimes:x"}`:   {R: structs.RestartPolicy{Name: "sometimes:x"}},
	} {
		var got lenientForm
		if err := shape.Decode([]byte(body), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", body, got, err, want)
		}
	}
	for body, says := range map[string]string{
		`{"i":"two"}`: `Value: 'two'. "two" is not a whole number.`, `{"i":2.5}`: "2.5 is not a whole number",
		`{"i":[]}`: "[] is not a single value", `{"i":true}`: "true is not a whole number",
		`{"i":""}`: "is not a whole number", `{"i":99999999999999999999}`: "is not a whole number", `{"i":{}}`: "{} is not a single value",
		`{"b":"maybe"}`: `"maybe" is not true or false`, `{"b":2}`: "2 is not true or false", `{"b":""}`: `"" is not true or false`,
		`{"b":[]}`:  "is not a single value",
		`{"p":"x"}`: `"x" is not a number`, `{"p":"NaN"}`: "is not a number", `{"p":[1]}`: "is not a single value",
		`{"p":0.0001}`: "cpu 0.0001 is less than 0.001 of a core",
		`{"s":"x"}`:    "is not a size", `{"s":-1}`: "is not a size", `{"s":[]}`: "is not a single value",
		`{"w":{}}`: "is neither a string nor a list of strings", `{"w":[1]}`: "is not a list of strings", `{"w":"'"}`: "unclosed quote",
		`{"c":{}}`: "is neither a string nor a list of strings", `{"x":1}`: "Wrong type. Expected a string, got a number.",
		`{"r":3}`: "Wrong type. Expected a string, got a number.",
	} {
		var f lenientForm
		refused(t, body, shape.Decode([]byte(body), &f), says)
	}
}

// TestShapeOfEmbeddedStructs checks that of two fields with one name the outer one is
// used, as in encoding/json.
func TestReadCommandIsItsUnmarshaler(t *testing.T) {
	for _, raw := range []string{
		`[]`, `["a"]`, `[ "a" , "b\u0063\n" , "" , "ü" ]`, `["a",null]`, `["a",1]`, `["\ud800"]`, `[["a"]]`,
		`"a 'b c'"`, `"a 'b"`, `5`, `true`, `{}`,
	} {
		var got, want structs.Command
		err := readCommand(json.RawMessage(raw), reflect.ValueOf(&got).Elem())
		wantErr := want.UnmarshalJSON([]byte(raw))
		if !reflect.DeepEqual(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("%s is read as %+v (%v), not %+v (%v)", raw, got, err, want, wantErr)
		}
	}
}

// BenchmarkDecode reads the body of a typical create.
func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"name":"web-1","image_id":"nginx:1.27","command":["nginx","-g","daemon off;"],` +
		`"environment":{"MODE":"production","REGION":"eu-1"},"labels":{"app":"web","tier":"front"},` +
		`"memory":268435456,"cpu":0.5,"restart_policy":"always"}`)
	shape := NewShape("container", structs.ContainerRequest{}, structs.ContainerBody{})
	b.ReportAllocs()
	for b.Loop() {
		var r structs.ContainerRequest
		if err := shape.Decode(body, &r); err != nil {
			b.Fatal(err)
		}
	}
}

func TestShapeOfEmbeddedStructs(t *testing.T) {
	type deep struct {
		A string `json:"a"`
		B string `json:"b"`
		H string `json:"h" api:"-"`
	}
	type outer struct {
		deep
		A int `json:"a"`
	}
	shape := NewShape("outer", outer{}, nil)
	var got outer
	if err := shape.Decode([]byte(`{"a":1,"b":"x"}`), &got); err != nil || got.A != 1 || got.B != "x" || got.deep.A != "" {
		t.Errorf("%+v, %v", got, err)
	}
	refused(t, "h", shape.Decode([]byte(`{"h":"x"}`), &got), "Unknown attribute")
}

// TestRefusalsHideSecrets refuses passwords that are not strings, without showing them.
func TestRefusalsHideSecrets(t *testing.T) {
	shape := NewShape("form", structs.ContainerRequest{}, nil)
	for _, body := range []string{
		`{"registry":{"password":471147}}`, `{"registry":{"password":["471147"]}}`, `{"registry":"471147"}`,
		`{"registry":["471147"]}`, `{"registry":{"username":{"a":471147}}}`,
	} {
		var r structs.ContainerRequest
		err := shape.Decode([]byte(body), &r)
		refused(t, body, err, "field/attribute registry")
		if err != nil && strings.Contains(err.Error(), "471147") {
			t.Errorf("%s: %v", body, err)
		}
	}
}
