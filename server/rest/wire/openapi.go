package wire

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// The OpenAPI document is generated from the route table and the types of the bodies,
// so that it always describes what is served.

// Operation describes one route in the document.
type Operation struct {
	Method     string
	Path       string // with :parameters
	ID         string // unique in the document
	Summary    string
	Args       []Arg  // of the query
	Takes      any    // a value of the JSON body's type; nil if the route takes no JSON
	TakesMedia string // media type of another body; "" if the route takes none
	Gives      []Answer
	Security   string // SecurityToken, SecurityHost, or "" for public routes
	Agents     bool   // between agents and servers, whose versions may differ
}

// Answer is a successful answer of a route.
type Answer struct {
	Status int
	Body   any    // a value of the body's type; nil for none
	Media  string // "" means application/json
}

// The credentials that an operation may require.
const (
	SecurityToken = "token"
	SecurityHost  = "host"
)

// NewDocument returns the document as JSON. version is that of the server's
// build.
func NewDocument(title, version, description string, operations []Operation) []byte {
	schemas := &schemas{components: make(map[string]any)}
	failure := map[string]any{
		"description": "A refusal or failure.",
		"content":     content("application/json", schemas.ref(reflect.TypeFor[structs.ErrorBody](), ofAnswer)),
	}
	schemas.ref(reflect.TypeFor[structs.Fault](), ofAnswer) // what ErrorBody.error_message holds
	paths := make(map[string]map[string]any)
	for _, o := range operations {
		path := documentPath(o.Path)
		if paths[path] == nil {
			paths[path] = make(map[string]any)
		}
		paths[path][strings.ToLower(o.Method)] = o.document(schemas, failure)
	}
	doc := map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": title, "version": version, "description": description},
		"paths":   paths,
		"components": map[string]any{
			"schemas": schemas.components,
			"securitySchemes": map[string]any{
				SecurityToken: map[string]any{"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
				SecurityHost:  map[string]any{"type": "http", "scheme": "bearer", "description": "The secret of a registered host."},
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

// document returns the operation's entry in the document.
func (o *Operation) document(s *schemas, failure any) map[string]any {
	answers, requests := ofAnswer, ofRequest
	if o.Agents {
		answers, requests = ofAgent, ofAgent
	}
	responses := map[string]any{"default": failure}
	for _, a := range o.Gives {
		r, _ := responses[strconv.Itoa(a.Status)].(map[string]any)
		if r == nil {
			r = map[string]any{"description": http.StatusText(a.Status)}
		}
		switch {
		case a.Media != "" && a.Body != nil: // a stream of documents
			r["content"] = merged(r["content"], content(a.Media, s.body(a.Body, answers)))
		case a.Media != "":
			r["content"] = merged(r["content"], content(a.Media, map[string]any{"type": "string"}))
		case a.Body != nil:
			r["content"] = merged(r["content"], content("application/json", s.body(a.Body, answers)))
		case a.Status == http.StatusOK:
			r["content"] = content("application/json", map[string]any{"type": "null"})
		}
		responses[strconv.Itoa(a.Status)] = r
	}
	op := map[string]any{
		"summary": o.Summary, "operationId": o.ID, "responses": responses,
		"parameters": o.parameters(),
	}
	if o.Takes != nil {
		op["requestBody"] = map[string]any{
			"required": true, "content": content("application/json", s.of(reflect.TypeOf(o.Takes), requests)),
		}
	}
	if o.TakesMedia != "" {
		op["requestBody"] = map[string]any{
			"required": true, "content": content(o.TakesMedia, map[string]any{"type": "string", "format": "binary"}),
		}
	}
	if o.Security != "" {
		op["security"] = []any{map[string]any{o.Security: []any{}}}
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

// parameters describes the route's arguments in its path, query and headers.
func (o *Operation) parameters() []any {
	out := []any{}
	for _, segment := range strings.Split(o.Path, "/") {
		if name, ok := strings.CutPrefix(segment, ":"); ok {
			out = append(out, map[string]any{"name": name, "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
		}
	}
	for _, a := range o.Args {
		schema := map[string]any{"type": "string"}
		switch a.Kind {
		case ArgInt, ArgIndex:
			schema = map[string]any{"type": "integer", "minimum": 0}
		case ArgBool:
			schema = map[string]any{"type": "boolean"}
		case ArgDuration:
			schema["description"] = "A duration such as 30s, or seconds."
		}
		if a.Many {
			schema = map[string]any{"type": "array", "items": schema}
		}
		out = append(out, map[string]any{"name": a.Name, "in": "query", "required": a.Wants, "description": a.Doc, "schema": schema})
	}
	if o.Method == http.MethodPost && !o.Agents {
		out = append(out, map[string]any{
			"name": "Idempotency-Key", "in": "header", "required": false,
			"schema":      map[string]any{"type": "string", "maxLength": structs.MaxIdempotency},
			"description": "A retry with the same key and body creates no second object.",
		})
	}
	return out
}
