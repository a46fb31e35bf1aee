package rest_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
)

// spec is the part of the OpenAPI document, and of JSON Schema, that is needed to check
// every response.
type spec struct {
	paths      map[string]map[string]map[string]any
	components map[string]any
}

// specs are the documents that have been read, by their text: decoding one takes longer than
// the request whose answer it describes.
var specs sync.Map

func readSpec(t testing.TB, document []byte) *spec {
	t.Helper()
	if known, ok := specs.Load(string(document)); ok {
		return known.(*spec)
	}
	var doc struct {
		OpenAPI    string                               `json:"openapi"`
		Paths      map[string]map[string]map[string]any `json:"paths"`
		Components struct {
			Schemas map[string]any `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		t.Fatalf("the document is not JSON: %v", err)
	}
	if doc.OpenAPI != "3.1.0" || len(doc.Paths) == 0 {
		t.Fatalf("openapi %q with %d paths", doc.OpenAPI, len(doc.Paths))
	}
	read := &spec{paths: doc.Paths, components: doc.Components.Schemas}
	specs.Store(string(document), read)
	return read
}

// operation returns the document's operation for a request, nil if there is none.
func (s *spec) operation(method, path string) map[string]any {
	path, _, _ = strings.Cut(path, "?")
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if path != "/" && path != "/v1" && !strings.HasPrefix(path, "/v1/") {
		path = "/v1" + path
	}
	if op := s.paths[path][strings.ToLower(method)]; op != nil {
		return op
	}
	want := strings.Split(path, "/")
	for template, ops := range s.paths {
		segments := strings.Split(template, "/")
		if ops[strings.ToLower(method)] == nil || len(segments) != len(want) {
			continue
		}
		fits := true
		for i := range segments {
			fits = fits && (segments[i] == want[i] || strings.HasPrefix(segments[i], "{"))
		}
		if fits {
			return ops[strings.ToLower(method)]
		}
	}
	return nil
}

// checkAnswer says how an answer differs from the document.
func (s *spec) checkAnswer(method, path string, status int, media string, body []byte) error {
	if method == "HEAD" {
		return nil
	}
	var response map[string]any
	if op := s.operation(method, path); op != nil {
		responses := op["responses"].(map[string]any)
		response, _ = responses[fmt.Sprint(status)].(map[string]any)
		if response == nil && status >= 400 {
			response = responses["default"].(map[string]any)
		}
	} else if status >= 400 { // no such route
		response = s.paths["/v1"]["get"]["responses"].(map[string]any)["default"].(map[string]any)
	}
	if response == nil {
		return fmt.Errorf("the document knows no status %d here", status)
	}
	contents, _ := response["content"].(map[string]any)
	if contents == nil {
		if len(body) > 0 {
			return fmt.Errorf("the document knows no body for status %d", status)
		}
		return nil
	}
	media, _, _ = strings.Cut(media, ";")
	content, _ := contents[media].(map[string]any)
	if content == nil {
		return fmt.Errorf("the document knows no %q for status %d", media, status)
	}
	if media != "application/json" {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return fmt.Errorf("the body is not JSON: %v", err)
	}
	return s.check("body", value, content["schema"])
}

// check checks a value against a schema. If the schema lists properties, no others are
// allowed, because every field must be documented.
func (s *spec) check(at string, value, schema any) error {
	m, ok := schema.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: the schema is %T", at, schema)
	}
	if ref, ok := m["$ref"].(string); ok {
		target := s.components[strings.TrimPrefix(ref, "#/components/schemas/")]
		if target == nil {
			return fmt.Errorf("%s: %s is not in the document", at, ref)
		}
		return s.check(at, value, target)
	}
	if any, ok := m["anyOf"].([]any); ok {
		var errs []string
		for _, one := range any {
			err := s.check(at, value, one)
			if err == nil {
				return nil
			}
			errs = append(errs, err.Error())
		}
		return fmt.Errorf("%s: none of %v", at, errs)
	}
	if err := checkType(at, value, m["type"]); err != nil {
		return err
	}
	if values, ok := m["enum"].([]any); ok && !slices.Contains(values, value) {
		return fmt.Errorf("%s: %v is none of %v", at, value, values)
	}
	if n, ok := value.(float64); ok {
		if least, ok := m["minimum"].(float64); ok && n < least {
			return fmt.Errorf("%s: %v is less than %v", at, n, least)
		}
	}
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			if err := s.check(fmt.Sprintf("%s[%d]", at, i), item, m["items"]); err != nil {
				return err
			}
		}
	case map[string]any:
		return s.checkObject(at, v, m)
	}
	return nil
}

func (s *spec) checkObject(at string, value, schema map[string]any) error {
	properties, listed := schema["properties"].(map[string]any)
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, ok := value[name.(string)]; !ok {
			return fmt.Errorf("%s: %v is missing", at, name)
		}
	}
	for name, v := range value {
		switch {
		case properties[name] != nil:
			if err := s.check(at+"."+name, v, properties[name]); err != nil {
				return err
			}
		case schema["additionalProperties"] != nil && schema["additionalProperties"] != false:
			if err := s.check(at+"."+name, v, schema["additionalProperties"]); err != nil {
				return err
			}
		case listed:
			return fmt.Errorf("%s: %s is not in the document", at, name)
		}
	}
	return nil
}

func checkType(at string, value, want any) error {
	var types []string
	switch w := want.(type) {
	case nil:
		return nil
	case string:
		types = []string{w}
	case []any:
		for _, t := range w {
			types = append(types, t.(string))
		}
	}
	got := ""
	switch v := value.(type) {
	case nil:
		got = "null"
	case bool:
		got = "boolean"
	case string:
		got = "string"
	case []any:
		got = "array"
	case map[string]any:
		got = "object"
	case float64:
		got = "number"
		if v == math.Trunc(v) && slices.Contains(types, "integer") {
			got = "integer"
		}
	}
	if !slices.Contains(types, got) {
		return fmt.Errorf("%s: %v is of type %s, not %v", at, value, got, types)
	}
	return nil
}

func TestValidatorFindsWhatIsWrong(t *testing.T) {
	s := &spec{components: map[string]any{"Thing": map[string]any{
		"type": "object", "required": []any{"a"},
		"properties": map[string]any{
			"a": map[string]any{"type": "integer", "minimum": 1.0},
			"b": map[string]any{"type": []any{"string", "null"}, "enum": []any{"x", nil}},
			"c": map[string]any{"type": "array", "items": map[string]any{"type": "boolean"}},
			"d": map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}},
		},
	}}}
	ref := map[string]any{"$ref": "#/components/schemas/Thing"}
	for text, good := range map[string]bool{
		`{"a":1}`: true, `{"a":1,"b":"x","c":[true],"d":{"k":"v"}}`: true, `{"a":1,"b":null}`: true,
		`{}`: false, `{"a":0}`: false, `{"a":1.5}`: false, `{"a":"1"}`: false, `{"a":1,"b":"y"}`: false,
		`{"a":1,"c":[1]}`: false, `{"a":1,"c":{}}`: false, `{"a":1,"d":{"k":1}}`: false, `{"a":1,"z":1}`: false, `[]`: false, `null`: false,
	} {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		if err := s.check("body", v, ref); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}
