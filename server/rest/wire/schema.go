package wire

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// ListOf stands for the answer of a list in the document.
type ListOf struct {
	Noun string
	Item any
}

// use says where a schema is used: a type may have other forms in requests than in
// answers.
type use int

const (
	ofAnswer  use = iota // all fields are present, except those that are omitted when empty
	ofRequest            // every field may be absent or null, and unknown fields are refused
	ofAgent              // between agents and servers, whose versions may differ: fields may be absent, null or unknown
)

// schemas collects the schemas of all types.
type schemas struct {
	components map[string]any
}

// body returns the schema of an answer.
func (s *schemas) body(v any, u use) any {
	if l, ok := v.(ListOf); ok {
		return map[string]any{
			"type":     "object",
			"required": []string{l.Noun},
			"properties": map[string]any{
				l.Noun: map[string]any{"type": "array", "items": s.ref(reflect.TypeOf(l.Item), u)},
				"next": map[string]any{"type": "string", "description": "URL of the next page; absent on the last."},
			},
		}
	}
	return s.of(reflect.TypeOf(v), u)
}

// ref returns a reference to the schema of a struct type.
func (s *schemas) ref(t reflect.Type, u use) any {
	name := strings.ToUpper(t.Name()[:1]) + t.Name()[1:]
	switch {
	case u == ofRequest && !strings.HasSuffix(name, "Request"):
		name += "Input"
	case u == ofAgent:
		name = "Agent" + name
	}
	if _, ok := s.components[name]; !ok {
		s.components[name] = nil // ends the recursion of types that contain themselves
		s.components[name] = s.object(t, u)
	}
	return map[string]any{"$ref": "#/components/schemas/" + name}
}

// special holds the schemas of types whose JSON differs from their Go type.
var special = map[reflect.Type]map[string]any{
	reflect.TypeFor[structs.Time]():      {"type": []string{"string", "null"}, "format": "date-time"},
	reflect.TypeFor[time.Time]():         {"type": "string", "format": "date-time"},
	reflect.TypeFor[structs.Exclusive](): {"type": []string{"boolean", "string"}},
	reflect.TypeFor[structs.Command]():   commandSchema,
	reflect.TypeFor[structs.Words](): {
		"type": []string{"string", "array", "null"}, "items": commandSchema["items"], "description": commandSchema["description"],
	},
	reflect.TypeFor[structs.RestartPolicy](): {"type": "string"},
	reflect.TypeFor[structs.Text]():          {"type": []string{"string", "null"}},
	reflect.TypeFor[structs.Bytes]():         {"type": []string{"integer", "null"}},
	reflect.TypeFor[structs.MilliCPU]():      {"type": []string{"number", "null"}},
	reflect.TypeFor[time.Duration]():         {"type": "integer", "description": "Nanoseconds."},
}

var commandSchema = map[string]any{
	"type": []string{"string", "array"}, "items": map[string]any{"type": "string"},
	"description": "A string that is split as a shell does, without expansions, or a list of words.",
}

// lenient and lenientKinds hold the schemas of types and kinds that have additional
// forms in requests; see lenient.go.
var (
	lenient = map[reflect.Type]map[string]any{
		reflect.TypeFor[structs.Bytes](): {
			"type": []string{"integer", "string"}, "description": "Bytes, or a string with a unit of powers of 1024, such as 512m.",
		},
		reflect.TypeFor[structs.MilliCPU](): {
			"type": []string{"number", "string"}, "description": "A number, or one in a string.",
		},
	}
	lenientKinds = map[reflect.Kind]map[string]any{
		reflect.Int:   {"type": []string{"integer", "string"}, "description": "A whole number, or one in a string."},
		reflect.Int64: {"type": []string{"integer", "string"}, "description": "A whole number, or one in a string."},
		reflect.Bool:  {"type": []string{"boolean", "string"}, "description": "true or false, or one of them in a string."},
	}
)

// of returns the schema of a type.
func (s *schemas) of(t reflect.Type, u use) any {
	if u == ofRequest {
		if known, ok := lenient[t]; ok {
			return known
		}
	}
	if known, ok := special[t]; ok {
		return known
	}
	if known, ok := lenientKinds[t.Kind()]; ok && u == ofRequest {
		return known
	}
	switch t.Kind() {
	case reflect.Pointer:
		return nullable(s.of(t.Elem(), u))
	case reflect.Struct:
		return s.ref(t, u)
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem(), u)}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem(), u)}
	case reflect.String:
		schema := map[string]any{"type": "string"}
		if values := enums[t]; values != nil {
			schema["enum"] = values
		}
		return schema
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Uint, reflect.Uint64:
		return map[string]any{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Interface:
		return map[string]any{}
	}
	panic(fmt.Sprintf("openapi: no schema for %v", t)) // a new type in a body: any test would fail
}

// enums holds the values of types with a fixed set of values.
var enums = map[reflect.Type][]any{
	reflect.TypeFor[structs.BayStatus](): {
		structs.BayCreating, structs.BayCreated, structs.BayCreateFailed, structs.BayUpdating, structs.BayUpdated, structs.BayDeleting,
	},
	reflect.TypeFor[structs.ContainerStatus](): {
		structs.ContainerCreating, structs.ContainerStopped, structs.ContainerRunning, structs.ContainerPaused, structs.ContainerError,
		structs.ContainerUnknown, structs.ContainerDeleting, structs.ContainerGone,
	},
	reflect.TypeFor[structs.HostState]():         {structs.HostReady, structs.HostSuspect, structs.HostLost},
	reflect.TypeFor[structs.PlacementStrategy](): {structs.PlacementSpread, structs.PlacementBinpack},
	reflect.TypeFor[structs.Backend]():           {structs.BackendDocker, structs.BackendKubernetes},
	reflect.TypeFor[structs.Desired](): {
		structs.DesiredCreated, structs.DesiredRunning, structs.DesiredStopped, structs.DesiredPaused, structs.DesiredAbsent,
	},
	reflect.TypeFor[structs.SessionKind](): {
		structs.SessionLogs, structs.SessionExec, structs.SessionAttach, structs.SessionStats, structs.SessionTop,
		structs.SessionArchiveGet, structs.SessionArchivePut, structs.SessionImageList, structs.SessionImagePull, structs.SessionImageLoad,
		structs.SessionImagePrune, structs.SessionVolumeList, structs.SessionVolumeDelete,
		structs.SessionCredential,
	},
}

// nullable returns a schema that also allows null.
func nullable(schema any) any {
	m, ok := schema.(map[string]any)
	if !ok || m["$ref"] != nil {
		return map[string]any{"anyOf": []any{schema, map[string]any{"type": "null"}}}
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	switch t := out["type"].(type) {
	case string:
		out["type"] = []string{t, "null"}
	case []string:
		if !slices.Contains(t, "null") {
			out["type"] = append(slices.Clone(t), "null")
		}
	}
	if values, ok := out["enum"].([]any); ok {
		out["enum"] = append(slices.Clone(values), nil)
	}
	return out
}

// neverNull returns a schema that doesn't allow null.
func neverNull(schema any) any {
	out := maps.Clone(schema.(map[string]any))
	out["type"] = out["type"].([]string)[0]
	return out
}

// object returns the schema of a struct.
func (s *schemas) object(t reflect.Type, u use) map[string]any {
	properties := make(map[string]any)
	required := []string{}
	for _, f := range bodyFields(t) {
		if f.Tag.Get("api") == "-" && u != ofAgent {
			continue
		}
		name, _ := jsonName(f)
		schema := s.of(f.Type, u)
		if f.Tag.Get("api") == "set" && u == ofAnswer {
			schema = neverNull(schema)
		}
		if u != ofAnswer {
			schema = nullable(schema)
		} else if tag := f.Tag.Get("json"); !strings.Contains(tag, ",omitempty") && !strings.Contains(tag, ",omitzero") {
			required = append(required, name)
		}
		of := t // the type that declares the field: t, or a type that it embeds
		if n := len(f.Index) - 1; n > 0 {
			of = t.FieldByIndex(f.Index[:n]).Type
		}
		if doc := docOf(of, name); doc != "" {
			schema = described(schema, doc)
		}
		properties[name] = schema
	}
	out := map[string]any{"type": "object", "properties": properties}
	switch u {
	case ofRequest:
		out["additionalProperties"] = false
	case ofAnswer:
		out["required"] = required
	}
	if doc := docOf(t, ""); doc != "" {
		out["description"] = doc
	}
	return out
}

// described returns the schema with doc before its own description.
func described(schema any, doc string) any {
	m, ok := schema.(map[string]any)
	if !ok {
		return schema
	}
	out := maps.Clone(m)
	out["description"] = doc
	if own, ok := m["description"].(string); ok {
		out["description"] = doc + " " + own
	}
	return out
}
