package structs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// This file is for servers and agents of earlier builds, which name the fields of a
// ContainerSpec as Go does, and have the secrets in it.

// HeaderUnderstands is the header with which an agent's poll says what it understands
// beyond that, as words that are separated by commas.
const HeaderUnderstands = "X-Magnum-Understands"

// UnderstandsSpec is the word of an agent that reads specs whose fields have the names
// and values of the REST API, with the secrets beside the spec.
const UnderstandsSpec = "spec"

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

// earlierValue returns what earlier builds have as the value of a spec's field.
func earlierValue(v reflect.Value) any {
	switch value := v.Interface().(type) {
	case RestartPolicy:
		return oldPolicy{value.Name, value.MaxRetries}
	case Text:
		return string(value)
	case Bytes, MilliCPU:
		return v.Int()
	default:
		return value
	}
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
	spec := a.Spec.earlier()
	secrets := reflect.ValueOf(a.Secrets)
	for i := range secrets.NumField() {
		field := secrets.Type().Field(i)
		if !secrets.Field(i).IsZero() {
			spec[field.Name] = secrets.Field(i).Interface()
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		delete(assignment, name)
	}
	var err error
	if assignment["spec"], err = json.Marshal(spec); err != nil {
		return nil, err
	}
	return json.Marshal(assignment)
}

// earlier returns the spec in the earlier form, without what is zero.
func (s *ContainerSpec) earlier() map[string]any {
	old := map[string]any{"Image": s.Image}
	spec := reflect.ValueOf(s).Elem()
	for field := range specNames() {
		if v := spec.FieldByName(field); !v.IsZero() {
			old[field] = earlierValue(v)
		}
	}
	old["RestartPolicy"] = earlierValue(spec.FieldByName("RestartPolicy"))
	return old
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
		var cpu int64
		switch {
		case string(value) == "null":
		case field == "Registry":
			creds = value
		case field == "RestartPolicy" && json.Unmarshal(value, &policy) == nil:
			now[name], _ = json.Marshal(RestartPolicy{Name: policy.Name, MaxRetries: policy.MaxRetries})
		case field == "MilliCPU" && json.Unmarshal(value, &cpu) == nil:
			now[name], _ = json.Marshal(MilliCPU(cpu))
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
// spec in the earlier form, but without the secrets, which no answer shows.
func (c *Container) MarshalJSON() ([]byte, error) {
	type plain Container
	return json.Marshal(struct {
		*plain
		Spec map[string]any
	}{(*plain)(c), c.Spec.earlier()})
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
	c.Spec = PrivateSpec{}
	return json.Unmarshal(spec, &c.Spec.ContainerSpec)
}
