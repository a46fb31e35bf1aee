package wire

import (
	"bytes"
	"encoding/json"
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// ReadArguments adds the members of the JSON object raw to given, the arguments of the
// query. An empty body and null count as an empty object. It returns CodeInvalid if
// raw is not an object, or if a member is not an argument or is in the query too.
func ReadArguments(raw []byte, args []Arg, given url.Values) error {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if err := checkJSON(raw); err != nil {
		return err
	}
	if raw[0] != '{' {
		return structs.Errorf(structs.CodeInvalid,
			"The request's body is %s: it has to be an object with the arguments of the action.", kindOf(raw))
	}
	return eachMember("", raw, func(name string, value json.RawMessage) error {
		a := findArg(args, name)
		switch {
		case a == nil:
			return structs.Errorf(structs.CodeInvalid, "Unknown argument: %q", structs.Shorten(name))
		case string(value) == "null":
			return nil
		case given.Has(name):
			return structs.Errorf(structs.CodeInvalid, "The argument %q is given in the query and in the body.", name)
		}
		texts, err := a.textsOf(value)
		if err != nil {
			return err
		}
		given[name] = texts
		return nil
	})
}

// textsOf converts an argument's JSON value to the values that a query would hold.
func (a *Arg) textsOf(value json.RawMessage) ([]string, error) {
	switch kind := kindOf(value); {
	case kind == "a list" && a.Many:
		var texts []string
		for _, item := range items(value) {
			if item[0] != '"' {
				return nil, wrongType(a.Name, item, "a string")
			}
			texts = append(texts, Unquote(item))
		}
		return texts, nil
	case kind == "a list" && a.Array:
		return []string{string(value)}, nil
	case kind == "a list" || kind == "an object":
		return nil, wrongType(a.Name, value, "a single value")
	case a.Kind == ArgText && value[0] != '"' && kind == "true or false":
		return nil, wrongType(a.Name, value, "a string")
	case a.Kind == ArgBool && kind == "a number", a.Kind == ArgInt && kind == "true or false":
		return nil, wrongType(a.Name, value, string(a.Kind))
	}
	return []string{Unquote(value)}, nil
}
