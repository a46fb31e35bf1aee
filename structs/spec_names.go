package structs

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// This file converts specs for servers and agents of earlier builds. Their JSON has the
// Go names of a ContainerSpec's fields, and the secrets inside the spec.

// HeaderUnderstands is the header in which an agent's poll lists the newer forms that
// the agent understands, separated by commas.
const HeaderUnderstands = "X-Magnum-Understands"

// UnderstandsSpec stands for specs with the names and values of the REST API, and
// secrets beside the spec.
const UnderstandsSpec = "spec"

// specNames maps the Go names of a ContainerSpec's fields to their JSON names.
var specNames = sync.OnceValue(func() map[string]string {
	names := make(map[string]string)
	for field := range reflect.TypeFor[ContainerSpec]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); field.IsExported() && name != "-" {
			names[field.Name] = name
		}
	}
	return names
})

// oldPolicy is a RestartPolicy in the JSON of earlier builds.
type oldPolicy struct {
	Name       string
	MaxRetries int
}

// earlierValue returns the value of a spec's field in the JSON of earlier builds.
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

// ForEarlierAgents returns the answer as JSON for an agent that doesn't list
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
		if raw, err = w.Assignments[i].toEarlierForm(raw); err != nil {
			return nil, err
		}
		out.Assignments = append(out.Assignments, raw)
	}
	return json.Marshal(out)
}

// toEarlierForm converts the assignment's JSON to that of earlier builds.
func (a *Assignment) toEarlierForm(raw json.RawMessage) (json.RawMessage, error) {
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

// earlier returns the spec in the earlier form, without zero fields.
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

// fromEarlierServers converts an assignment's JSON from the earlier form to the
// current one. JSON in the current form is returned unchanged.
func fromEarlierServers(raw json.RawMessage) json.RawMessage {
	if !bytes.Contains(raw, []byte(`"Image":`)) { // every spec in the earlier form has it
		return raw
	}
	var assignment map[string]json.RawMessage
	if json.Unmarshal(raw, &assignment) != nil {
		return raw
	}
	spec, creds := specFromEarlier(assignment["spec"])
	if assignment["spec"] = spec; creds != nil {
		assignment["registry"] = creds
	}
	b, err := json.Marshal(assignment)
	if err != nil {
		return raw
	}
	return b
}

// specFromEarlier converts a spec's JSON from the earlier form to the current one, and
// returns the credentials that were in it; nil if there were none. JSON in the current
// form is returned unchanged.
func specFromEarlier(raw json.RawMessage) (spec, creds json.RawMessage) {
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

// MarshalJSON writes the row for another server, which may be of an earlier build: the
// spec has the earlier form. It leaves out the secrets, which no answer shows.
func (c *Container) MarshalJSON() ([]byte, error) {
	type plain Container
	return json.Marshal(struct {
		*plain
		Spec map[string]any
	}{(*plain)(c), c.Spec.earlier()})
}

// UnmarshalJSON reads a row of another server, which may be of a later build.
func (c *Container) UnmarshalJSON(b []byte) error {
	type plain Container
	row := struct {
		*plain
		Spec json.RawMessage
	}{plain: (*plain)(c)}
	if err := json.Unmarshal(b, &row); err != nil {
		return err
	}
	spec, _ := specFromEarlier(row.Spec)
	c.Spec = PrivateSpec{}
	return json.Unmarshal(spec, &c.Spec.ContainerSpec)
}
