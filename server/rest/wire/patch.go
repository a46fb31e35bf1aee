package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// PatchRules say what a PATCH may change of objects of one kind.
type PatchRules struct {
	*Shape                     // of the request struct that the PATCH is applied to
	shown     map[string][]int // the object's fields, as the API shows them
	internal  []string         // fields that can never be changed
	mandatory []string         // fields that can't be removed
	mutable   []string         // fields that can be changed; nil means all of the shape
}

// NewPatchRules returns the rules for a kind of object whose POST has the shape s and
// whose answers have the type of shown.
func NewPatchRules(s *Shape, shown any, internal, mandatory, mutable []string) *PatchRules {
	return &PatchRules{
		Shape: s, shown: jsonFields(reflect.TypeOf(shown)),
		internal:  append([]string{"uuid", "id", "links", "created_at", "updated_at"}, internal...),
		mandatory: mandatory, mutable: mutable,
	}
}

// patchOp is one operation of a PATCH.
type patchOp struct {
	Op    string          `json:"op"`
	Path  string          `json:"path"`
	Value json.RawMessage `json:"value"`

	field string   // first segment of Path
	below []string // the other segments
}

// Patch is a parsed PATCH body that its PatchRules allow.
type Patch struct {
	rules *PatchRules
	ops   []patchOp
}

// Parse reads a PATCH body. It makes every check that doesn't depend on the object.
// Errors are CodeInvalid.
func (r *PatchRules) Parse(body []byte) (*Patch, error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	var items []json.RawMessage
	if trimmed := bytes.TrimSpace(body); trimmed[0] != '[' || json.Unmarshal(trimmed, &items) != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "The request's body is %s: a PATCH is a list of operations, "+
			"such as [{\"op\":\"replace\",\"path\":\"/name\",\"value\":\"new\"}].", kindOf(trimmed))
	}
	p := &Patch{rules: r}
	form := shapeOf("patch", reflect.TypeFor[patchOp]())
	for _, item := range items {
		if item[0] != '{' {
			return nil, structs.Errorf(structs.CodeInvalid,
				"An operation of the PATCH is %s: it has to be an object with op, path and value.", kindOf(item))
		}
		var op patchOp
		if err := form.object("", item, reflect.ValueOf(&op).Elem()); err != nil {
			return nil, err
		}
		if err := r.check(&op); err != nil {
			return nil, err
		}
		p.ops = append(p.ops, op)
	}
	return p, nil
}

// check refuses an operation that is invalid for every object.
func (r *PatchRules) check(op *patchOp) error {
	switch op.Op {
	case "add", "replace", "remove":
	case "":
		return structs.Invalid("op", "None", "Mandatory field missing.")
	default:
		return structs.Invalid("op", op.Op, "Value should be one of: 'add', 'remove', 'replace'")
	}
	if op.Path == "" {
		return structs.Invalid("path", "None", "Mandatory field missing.")
	}
	if !isPatchPath(op.Path) {
		return structs.Invalid("path", op.Path, "Value should match the pattern ^(/[\\w-]+)+$")
	}
	segments := strings.Split(op.Path[1:], "/")
	op.field, op.below = segments[0], segments[1:]
	if slices.Contains(r.internal, op.field) {
		return structs.Errorf(structs.CodeInvalid, "'%s' is an internal attribute and can not be updated", op.Path).About(r.name)
	}
	if op.Op == "remove" && len(op.below) == 0 && slices.Contains(r.mandatory, op.field) {
		return structs.Errorf(structs.CodeInvalid, "'%s' is a mandatory attribute and can not be removed", op.Path).About(r.name)
	}
	if op.Op != "remove" && isEmpty(op.Value) {
		return structs.Errorf(structs.CodeInvalid, "'add' and 'replace' operations needs value: %s has none", op.Path).About(r.name)
	}
	if r.shown[op.field] == nil {
		if op.Op == "add" && len(op.below) == 0 {
			err := structs.Errorf(structs.CodeInvalid, "Adding a new attribute (%s) to the root of the resource is not allowed", op.Path)
			return err.About(r.name)
		}
		return op.doesNotApply("there is no such attribute")
	}
	return nil
}

func (op *patchOp) doesNotApply(why string) error {
	return structs.Errorf(structs.CodeInvalid, "Couldn't apply patch '%s %s'. Reason: %s", op.Op, structs.Shorten(op.Path), why)
}

// isPatchPath reports whether path consists of /segments of letters, digits,
// underscores and hyphens.
func isPatchPath(path string) bool {
	if path == "" || len(path) > structs.MaxText {
		return false
	}
	for i := range len(path) {
		switch c := path[i]; {
		case c == '/':
			if i == len(path)-1 || i > 0 && path[i-1] == '/' {
				return false
			}
		case i == 0:
			return false
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// isEmpty reports whether the API of 2015 treated the value as absent.
func isEmpty(raw json.RawMessage) bool {
	switch string(bytes.TrimSpace(raw)) {
	case "", "null", "false", "0", "0.0", "-0", `""`, "[]", "{}":
		return true
	}
	return false
}

// immutable returns the patch's fields that can't be changed.
func (p *Patch) immutable() []string {
	var fields []string
	for _, op := range p.ops {
		if p.rules.fields[op.field] != nil && (p.rules.mutable == nil || slices.Contains(p.rules.mutable, op.field)) {
			continue
		}
		if !slices.Contains(fields, op.field) {
			fields = append(fields, op.field)
		}
	}
	return fields
}

// CheckMutable returns CodeInvalid if the patch contains a field that can't be
// changed.
func (p *Patch) CheckMutable() error {
	if fields := p.immutable(); len(fields) > 0 {
		return CannotChange(p.rules.name, fields)
	}
	return nil
}

// CannotChange returns the refusal to change the fields of a kind of object,
// CodeInvalid.
func CannotChange(kind string, fields []string) error {
	return structs.Errorf(structs.CodeInvalid, "cannot change %s property(ies) %s.", kind, strings.Join(fields, ", ")).About(kind)
}

// Touches reports whether the patch writes the field.
func (p *Patch) Touches(field string) bool {
	return slices.ContainsFunc(p.ops, func(op patchOp) bool { return op.field == field })
}

// Apply applies the operations to the request struct that target points to. Errors are
// CodeInvalid.
func (p *Patch) Apply(target any) error {
	v := reflect.ValueOf(target).Elem()
	for i := range p.ops {
		op := &p.ops[i]
		index := p.rules.fields[op.field]
		if index == nil {
			return CannotChange(p.rules.name, []string{op.field})
		}
		if err := op.apply(v.FieldByIndex(index)); err != nil {
			return err
		}
	}
	return nil
}

func (op *patchOp) apply(field reflect.Value) error {
	if len(op.below) == 0 {
		field.SetZero()
		if op.Op == "remove" {
			return nil
		}
		return decodeValue(op.field, op.Value, field)
	}
	if len(op.below) > 1 || field.Type() != stringMap {
		return op.doesNotApply("there is nothing below " + op.field + " at this path")
	}
	// The object shares its map with the state: never write to it.
	key, m := op.below[0], make(map[string]string)
	for k, v := range field.Interface().(map[string]string) {
		m[k] = v
	}
	if _, ok := m[key]; !ok && op.Op != "add" {
		return op.doesNotApply("there is no such key")
	}
	delete(m, key)
	if op.Op != "remove" {
		if op.Value[0] != '"' {
			return wrongType(op.field+"."+key, op.Value, "a string")
		}
		m[key] = Unquote(op.Value)
	}
	field.Set(reflect.ValueOf(m))
	return nil
}

// Only returns the patch's operations on one field.
func (p *Patch) Only(field string) *Patch {
	out := &Patch{rules: p.rules}
	for _, op := range p.ops {
		if op.field == field {
			out.ops = append(out.ops, op)
		}
	}
	return out
}

// Changed returns the fields to which the patch assigns a new value. body is the
// object as the API shows it. Like the API of 2015, it compares values: assigning the
// current value is not a change.
func (p *Patch) Changed(body any) []string {
	var fields []string
	for _, op := range p.ops {
		if !op.keeps(body) && !slices.Contains(fields, op.field) {
			fields = append(fields, op.field)
		}
	}
	return fields
}

// keeps reports whether the operation changes nothing. body is the object as the API
// shows it.
func (op *patchOp) keeps(body any) bool {
	shown, err := json.Marshal(body)
	if err != nil {
		return false
	}
	var members map[string]any
	if json.Unmarshal(shown, &members) != nil {
		return false
	}
	var value any
	if op.Op != "remove" && json.Unmarshal(op.Value, &value) != nil {
		return false
	}
	return len(op.below) == 0 && reflect.DeepEqual(members[op.field], value)
}
