package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// The OpenAPI document is made from the route table and the types of the
// bodies, so that it can't say anything else than what is served.

// newDocument returns the document as JSON.
func newDocument(routes []*route, version string) []byte {
	schemas := &schemas{components: make(map[string]any)}
	failure := map[string]any{
		"description": "A refusal or failure.",
		"content":     content("application/json", schemas.ref(reflect.TypeFor[structs.ErrorBody](), ofAnswer)),
	}
	schemas.ref(reflect.TypeFor[structs.Fault](), ofAnswer) // what ErrorBody.error_message holds
	paths := make(map[string]map[string]any)
	for _, rt := range routes {
		path := documentPath(rt.fullPath())
		if paths[path] == nil {
			paths[path] = make(map[string]any)
		}
		paths[path][strings.ToLower(rt.method)] = rt.operation(schemas, failure)
	}
	doc := map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title":       "Magnum",
			"version":     orText(version, "unknown"),
			"description": "The REST API of magnum. Every path is served also without /v1, and every list also with a slash at its end.",
		},
		"paths": paths,
		"components": map[string]any{
			"schemas": schemas.components,
			"securitySchemes": map[string]any{
				"token": map[string]any{"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
				"host":  map[string]any{"type": "http", "scheme": "bearer", "description": "The secret of a registered host."},
			},
		},
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(fmt.Sprintf("openapi: %v", err)) // maps of strings always encode
	}
	return b
}

// documentPath writes :id as {id}.
func documentPath(path string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if name, ok := strings.CutPrefix(s, ":"); ok {
			segments[i] = "{" + name + "}"
		}
	}
	return strings.Join(segments, "/")
}

func content(media string, schema any) map[string]any {
	return map[string]any{media: map[string]any{"schema": schema}}
}

// operation describes one route.
func (rt *route) operation(s *schemas, failure any) map[string]any {
	agents := strings.HasPrefix(rt.path, "/agent/")
	answers, requests := ofAnswer, ofRequest
	if agents {
		answers, requests = ofAgent, ofAgent
	}
	responses := map[string]any{"default": failure}
	for _, a := range rt.gives {
		r, _ := responses[strconv.Itoa(a.status)].(map[string]any)
		if r == nil {
			r = map[string]any{"description": http.StatusText(a.status)}
		}
		switch {
		case a.media != "" && a.body != nil: // documents of a stream
			r["content"] = merged(r["content"], content(a.media, s.body(a.body, answers)))
		case a.media != "":
			r["content"] = merged(r["content"], content(a.media, map[string]any{"type": "string"}))
		case a.body != nil:
			r["content"] = merged(r["content"], content("application/json", s.body(a.body, answers)))
		case a.status == http.StatusOK:
			r["content"] = content("application/json", map[string]any{"type": "null"})
		}
		responses[strconv.Itoa(a.status)] = r
	}
	op := map[string]any{
		"summary": rt.summary, "operationId": string(rt.action) + " " + rt.path, "responses": responses,
		"parameters": rt.parameters(),
	}
	if rt.takes != nil {
		op["requestBody"] = map[string]any{"required": true, "content": content("application/json", s.of(reflect.TypeOf(rt.takes), requests))}
	}
	if rt.takesMedia != "" {
		op["requestBody"] = map[string]any{"required": true, "content": content(rt.takesMedia, map[string]any{"type": "string", "format": "binary"})}
	}
	switch rt.action {
	case identity.Public, identity.AgentRegister:
	case identity.AgentCall:
		op["security"] = []any{map[string]any{"host": []any{}}}
	default:
		op["security"] = []any{map[string]any{"token": []any{}}}
	}
	return op
}

func merged(a any, b map[string]any) map[string]any {
	if m, ok := a.(map[string]any); ok {
		for k, v := range m {
			b[k] = v
		}
	}
	return b
}

// parameters describes what a route takes in its path, query and headers.
func (rt *route) parameters() []any {
	out := []any{}
	for _, segment := range strings.Split(rt.path, "/") {
		if name, ok := strings.CutPrefix(segment, ":"); ok {
			out = append(out, map[string]any{"name": name, "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
		}
	}
	for _, a := range rt.args {
		schema := map[string]any{"type": "string"}
		switch a.kind {
		case argInt, argIndex:
			schema = map[string]any{"type": "integer", "minimum": 0}
		case argBool:
			schema = map[string]any{"type": "boolean"}
		case argDuration:
			schema["description"] = "A duration such as 30s, or seconds."
		}
		if a.many {
			schema = map[string]any{"type": "array", "items": schema}
		}
		out = append(out, map[string]any{"name": a.name, "in": "query", "required": a.wants, "description": a.doc, "schema": schema})
	}
	if rt.method == http.MethodPost && !strings.HasPrefix(rt.path, "/agent/") {
		out = append(out, map[string]any{
			"name": "Idempotency-Key", "in": "header", "required": false, "schema": map[string]any{"type": "string", "maxLength": structs.MaxIdempotency},
			"description": "A retry with the same key and body makes no second object.",
		})
	}
	return out
}

// use says what a schema is of: the same type is written otherwise than read.
type use int

const (
	ofAnswer  use = iota // all fields are there but those that are left out when empty
	ofRequest            // every field may be absent or null, and no other is taken
	ofAgent              // between agents and servers, which may be of different versions: anything may be absent, null or unknown
)

// schemas gathers the schemas of all types.
type schemas struct {
	components map[string]any
}

// body returns the schema of an answer.
func (s *schemas) body(v any, u use) any {
	if l, ok := v.(listOf); ok {
		return map[string]any{
			"type":     "object",
			"required": []string{l.noun},
			"properties": map[string]any{
				l.noun: map[string]any{"type": "array", "items": s.ref(reflect.TypeOf(l.item), u)},
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
		s.components[name] = nil // keeps its place while it is being made
		s.components[name] = s.object(t, u)
	}
	return map[string]any{"$ref": "#/components/schemas/" + name}
}

// lenient are the types whose JSON isn't what their Go type says.
var lenient = map[reflect.Type]map[string]any{
	reflect.TypeFor[structs.Time](): {"type": []string{"string", "null"}, "format": "date-time"},
	reflect.TypeFor[time.Time]():    {"type": "string", "format": "date-time"},
	reflect.TypeFor[structs.Int]():  {"type": []string{"integer", "string"}, "description": "A whole number, or one in a string."},
	reflect.TypeFor[structs.Float](): {
		"type": []string{"number", "string"}, "description": "A number, or one in a string.",
	},
	reflect.TypeFor[structs.Bool]():      {"type": []string{"boolean", "string"}, "description": "true or false, or one of them in a string."},
	reflect.TypeFor[structs.Exclusive](): {"type": []string{"boolean", "string"}, "description": "Whether at most one copy may ever run: true, false or lease."},
	reflect.TypeFor[structs.Bytes](): {
		"type": []string{"integer", "string"}, "description": "Bytes, or a string with a unit of powers of 1024, such as 512m.",
	},
	reflect.TypeFor[structs.Command](): {
		"type": []string{"string", "array"}, "items": map[string]any{"type": "string"}, "description": "A string that is split as a shell does, without expansions, or a list of words.",
	},
	reflect.TypeFor[time.Duration](): {"type": "integer", "description": "Nanoseconds."},
}

// of returns the schema of a type.
func (s *schemas) of(t reflect.Type, u use) any {
	if known, ok := lenient[t]; ok {
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
	panic(fmt.Sprintf("openapi: no schema for %v", t)) // a new type in a body: any test shows it
}

// enums are the values of types that have only some.
var enums = map[reflect.Type][]any{
	reflect.TypeFor[structs.BayStatus]():         {structs.BayCreating, structs.BayCreated, structs.BayCreateFailed, structs.BayUpdating, structs.BayUpdated, structs.BayDeleting},
	reflect.TypeFor[structs.ContainerStatus]():   {structs.ContainerCreating, structs.ContainerStopped, structs.ContainerRunning, structs.ContainerPaused, structs.ContainerError, structs.ContainerUnknown, structs.ContainerDeleting, structs.ContainerGone},
	reflect.TypeFor[structs.HostState]():         {structs.HostReady, structs.HostSuspect, structs.HostLost},
	reflect.TypeFor[structs.PlacementStrategy](): {structs.PlacementSpread, structs.PlacementBinpack},
	reflect.TypeFor[structs.Backend]():           {structs.BackendDocker, structs.BackendKubernetes},
	reflect.TypeFor[structs.Desired]():           {structs.DesiredCreated, structs.DesiredRunning, structs.DesiredStopped, structs.DesiredPaused, structs.DesiredAbsent},
	reflect.TypeFor[structs.SessionKind](): {structs.SessionLogs, structs.SessionExec, structs.SessionAttach, structs.SessionStats, structs.SessionTop, structs.SessionArchiveGet, structs.SessionArchivePut,
		structs.SessionImageList, structs.SessionImagePull, structs.SessionImageLoad, structs.SessionImagePrune, structs.SessionVolumeList, structs.SessionVolumeDelete},
}

// nullable lets a schema take null as well.
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

// object returns the schema of a struct.
func (s *schemas) object(t reflect.Type, u use) map[string]any {
	properties := make(map[string]any)
	required := []string{}
	for _, f := range reflect.VisibleFields(t) {
		name, ok := jsonName(f)
		if !ok {
			continue
		}
		schema := s.of(f.Type, u)
		if u != ofAnswer {
			schema = nullable(schema)
		} else if tag := f.Tag.Get("json"); !strings.Contains(tag, ",omitempty") && !strings.Contains(tag, ",omitzero") {
			required = append(required, name)
		}
		if doc := descriptions[name]; doc != "" {
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
	if doc := descriptions[t.Name()]; doc != "" {
		out["description"] = doc
	}
	return out
}

func described(schema any, doc string) any {
	m, ok := schema.(map[string]any)
	if !ok || m["description"] != nil {
		return schema
	}
	out := map[string]any{"description": doc}
	for k, v := range m {
		out[k] = v
	}
	return out
}
