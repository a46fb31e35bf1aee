package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// This file reads values that have more forms in requests than in answers: numbers and
// booleans in strings, sizes with units, and commands as lists or text.

// readers holds the functions that read the types with several JSON forms.
var readers = map[reflect.Type]func(raw json.RawMessage, v reflect.Value) error{
	reflect.TypeFor[structs.Bytes]():         readBytes,
	reflect.TypeFor[structs.MilliCPU]():      readCPU,
	reflect.TypeFor[float64]():               readFloat,
	reflect.TypeFor[structs.Text]():          readText,
	reflect.TypeFor[structs.Words]():         readWords,
	reflect.TypeFor[structs.Command]():       readCommand,
	reflect.TypeFor[structs.RestartPolicy](): readRestartPolicy,
}

// readCommand is Command.UnmarshalJSON, which parses a list of strings once more.
func readCommand(raw json.RawMessage, v reflect.Value) error {
	c := v.Addr().Interface().(*structs.Command)
	if raw[0] == '[' {
		args := items(raw)
		if !slices.ContainsFunc(args, func(item json.RawMessage) bool { return item[0] != '"' }) {
			*c = structs.Command{Args: make([]string, len(args))}
			for i, item := range args {
				c.Args[i] = Unquote(item)
			}
			return nil
		}
	}
	return c.UnmarshalJSON(raw)
}

// readInt accepts 2 and "2".
func readInt(raw json.RawMessage, v reflect.Value) error {
	s, err := scalar(raw)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil {
		return fmt.Errorf("%s is not a whole number", excerpt(raw))
	}
	v.SetInt(n)
	return nil
}

// readBool accepts true, "true" and the other words of ReadBool.
func readBool(raw json.RawMessage, v reflect.Value) error {
	s, err := scalar(raw)
	if err != nil {
		return err
	}
	b, ok := ReadBool(s)
	if !ok || s == "" {
		return fmt.Errorf("%s is not true or false", excerpt(raw))
	}
	v.SetBool(b)
	return nil
}

// readBytes accepts 536870912, "536870912" and "512m".
func readBytes(raw json.RawMessage, v reflect.Value) error {
	s, err := scalar(raw)
	if err != nil {
		return err
	}
	n, err := structs.ParseBytes(s)
	v.SetInt(int64(n))
	return err
}

// readFloat accepts 0.5 and "0.5".
func readFloat(raw json.RawMessage, v reflect.Value) error {
	s, err := scalar(raw)
	if err != nil {
		return err
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
		return fmt.Errorf("%s is not a number", excerpt(raw))
	}
	v.SetFloat(n)
	return nil
}

// readCPU accepts a number of cores, such as 0.5 or "0.5".
func readCPU(raw json.RawMessage, v reflect.Value) error {
	s, err := scalar(raw)
	if err != nil {
		return err
	}
	cores, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(cores) || math.IsInf(cores, 0) {
		return fmt.Errorf("%s is not a number", excerpt(raw))
	}
	n, err := structs.CPUOf(cores)
	v.SetInt(int64(n))
	return err
}

// readWords accepts ["echo","hi"] and "echo hi".
func readWords(raw json.RawMessage, v reflect.Value) error {
	var c structs.Command
	err := c.UnmarshalJSON(raw)
	v.Set(reflect.ValueOf(structs.Words(c.Args)))
	return err
}

// readText accepts a string.
func readText(raw json.RawMessage, v reflect.Value) error {
	if raw[0] != '"' {
		return wrongKind{"a string", kindOf(raw)}
	}
	v.SetString(Unquote(raw))
	return nil
}

// readRestartPolicy accepts any string, such as "on-failure:3". It doesn't check that
// the policy is valid; ContainerRequest.Spec does.
func readRestartPolicy(raw json.RawMessage, v reflect.Value) error {
	if raw[0] != '"' {
		return wrongKind{"a string", kindOf(raw)}
	}
	v.Set(reflect.ValueOf(structs.RestartPolicyOf(Unquote(raw))))
	return nil
}

// wrongKind is the error for a JSON value of another kind than the field's.
type wrongKind struct{ want, got string }

// Error names both kinds.
func (w wrongKind) Error() string {
	return fmt.Sprintf("Wrong type. Expected %s, got %s", w.want, w.got)
}

// scalar returns the text of a JSON string, number or boolean.
func scalar(raw json.RawMessage) (string, error) {
	switch raw[0] {
	case '{', '[', 'n':
		return "", fmt.Errorf("%s is not a single value", excerpt(raw))
	}
	return Unquote(raw), nil
}

// excerpt returns the start of a JSON value for an error message.
func excerpt(raw json.RawMessage) string {
	const most = 60
	if len(raw) > most {
		return strings.ToValidUTF8(string(raw[:most]), "") + "..."
	}
	return string(raw)
}
