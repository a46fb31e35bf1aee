package wire

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// This file holds what is read more leniently than it is written: numbers and booleans
// in strings, sizes with units, commands as lists or as text.

// readers read types of fields of which JSON has more than one form.
var readers = map[reflect.Type]func(raw json.RawMessage, v reflect.Value) error{
	reflect.TypeFor[structs.Bytes]():         readBytes,
	reflect.TypeFor[structs.MilliCPU]():      readCPU,
	reflect.TypeFor[structs.Text]():          readText,
	reflect.TypeFor[structs.Words]():         readWords,
	reflect.TypeFor[structs.RestartPolicy](): readRestartPolicy,
}

// readInt takes 2 and "2".
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

// readBool takes true, "true" and the other words of ReadBool.
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

// readBytes takes 536870912, "536870912" and "512m".
func readBytes(raw json.RawMessage, v reflect.Value) error {
	s, err := scalar(raw)
	if err != nil {
		return err
	}
	n, err := structs.ParseBytes(s)
	v.SetInt(int64(n))
	return err
}

// readCPU takes a number of cores, 0.5 or "0.5".
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

// readWords takes ["echo","hi"] and "echo hi".
func readWords(raw json.RawMessage, v reflect.Value) error {
	var c structs.Command
	err := c.UnmarshalJSON(raw)
	v.Set(reflect.ValueOf(structs.Words(c.Args)))
	return err
}

// readText takes a string.
func readText(raw json.RawMessage, v reflect.Value) error {
	if raw[0] != '"' {
		return wrongKind{"a string", kindOf(raw)}
	}
	v.SetString(Unquote(raw))
	return nil
}

// readRestartPolicy takes on-failure:3 and the like; whether it is a policy is for
// others to say.
func readRestartPolicy(raw json.RawMessage, v reflect.Value) error {
	if raw[0] != '"' {
		return wrongKind{"a string", kindOf(raw)}
	}
	v.Set(reflect.ValueOf(structs.RestartPolicyOf(Unquote(raw))))
	return nil
}

// wrongKind is the error of a value of another kind than the field's.
type wrongKind struct{ want, got string }

// Error says both.
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
