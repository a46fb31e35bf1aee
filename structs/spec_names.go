package structs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// This file is for servers and agents of earlier builds, which name the fields of a
// ContainerSpec as Go does, and have the credentials in it.

// HeaderUnderstands is the header with which an agent's poll says what it understands
// beyond that, as words that are separated by commas.
const HeaderUnderstands = "X-Magnum-Understands"

// UnderstandsSpec is the word of an agent that reads specs whose fields have the names
// of the REST API, with the credentials beside the spec.
const UnderstandsSpec = "spec-names"

// specNames has the names of the fields in JSON by their names in Go.
var specNames = sync.OnceValue(func() map[string]string {
	names := make(map[string]string)
	for field := range reflect.TypeFor[ContainerSpec]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); field.IsExported() && name != "-" {
			names[field.Name] = name
		}
	}
	return names
})

// oldPolicy is a RestartPolicy as earlier builds have it.
type oldPolicy struct {
	Name       string
	MaxRetries int
}

// ForEarlierAgents returns the answer as JSON for an agent that doesn't understand
// UnderstandsSpec.
func (w *Work) ForEarlierAgents() (json.RawMessage, error) {
	type plain Work
	out := struct {
		*plain
		Assignments []json.RawMessage `json:"assignments"`
	}{plain: (*plain)(w), Assignments: []json.RawMessage{}}
	for i := range w.Assignments {
		raw, err := json.Marshal(&w.Assignments[i])
		if err != nil {
			return nil, err
		}
		if raw, err = w.Assignments[i].forEarlierAgents(raw); err != nil {
			return nil, err
		}
		out.Assignments = append(out.Assignments, raw)
	}
	return json.Marshal(out)
}

// forEarlierAgents changes the JSON of the assignment.
func (a *Assignment) forEarlierAgents(raw json.RawMessage) (json.RawMessage, error) {
	if a.Spec == nil {
		return raw, nil
	}
	var assignment map[string]json.RawMessage
	if err := json.Unmarshal(raw, &assignment); err != nil {
		return nil, err
	}
	spec, err := a.Spec.earlier(a.Registry)
	if err != nil {
		return nil, err
	}
	assignment["spec"] = spec
	delete(assignment, "registry")
	return json.Marshal(assignment)
}

// earlier returns the spec's JSON in the earlier form.
func (s *ContainerSpec) earlier(creds *Registry) (json.RawMessage, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	var spec map[string]json.RawMessage
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, err
	}
	old := make(map[string]any, len(spec)+2)
	for field, name := range specNames() {
		if value, ok := spec[name]; ok {
			old[field] = value
		}
	}
	old["RestartPolicy"] = oldPolicy{s.RestartPolicy.Name, s.RestartPolicy.MaxRetries}
	if creds != nil {
		old["Registry"] = creds
	}
	return json.Marshal(old)
}

// fromEarlierServers returns an assignment's JSON in today's form, whichever it has.
func fromEarlierServers(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte(`"Image":`)) { // each spec has it in the earlier form
		return raw
	}
	var assignment map[string]json.RawMessage
	if json.Unmarshal(raw, &assignment) != nil {
		return raw
	}
	spec, creds := fromEarlier(assignment["spec"])
	if assignment["spec"] = spec; creds != nil {
		assignment["registry"] = creds
	}
	b, err := json.Marshal(assignment)
	if err != nil {
		return raw
	}
	return b
}

// fromEarlier returns a spec's JSON in today's form, whichever it has, and the
// credentials that were in it; nil for none.
func fromEarlier(raw json.RawMessage) (spec, creds json.RawMessage) {
	var old map[string]json.RawMessage
	if json.Unmarshal(raw, &old) != nil || old["Image"] == nil {
		return raw, nil
	}
	now := make(map[string]json.RawMessage, len(old))
	for field, value := range old {
		name, known := specNames()[field]
		var policy oldPolicy
		switch {
		case string(value) == "null":
		case field == "Registry":
			creds = value
		case field == "RestartPolicy" && json.Unmarshal(value, &policy) == nil:
			now[name], _ = json.Marshal(RestartPolicy{Name: policy.Name, MaxRetries: policy.MaxRetries})
		case known:
			now[name] = value
		default:
			now[field] = value
		}
	}
	b, err := json.Marshal(now)
	if err != nil {
		return raw, nil
	}
	return b, creds
}

// MarshalJSON writes the row for another server, which may be of an earlier build: its
// spec in the earlier form, but without the credentials, which no answer shows.
func (c *Container) MarshalJSON() ([]byte, error) {
	type plain Container
	spec, err := c.Spec.earlier(nil)
	if err != nil {
		return nil, err
	}
	return json.Marshal(struct {
		*plain
		Spec json.RawMessage
	}{(*plain)(c), spec})
}

// UnmarshalJSON reads a row of another server, also of a later build.
func (c *Container) UnmarshalJSON(b []byte) error {
	type plain Container
	row := struct {
		*plain
		Spec json.RawMessage
	}{plain: (*plain)(c)}
	if err := json.Unmarshal(b, &row); err != nil {
		return err
	}
	spec, _ := fromEarlier(row.Spec)
	c.Spec = ContainerSpec{}
	return json.Unmarshal(spec, &c.Spec)
}
