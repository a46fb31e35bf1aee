package wire

import (
	"fmt"

	"github.com/stackforge/magnum/structs"
)

// Invalid is the contract's refusal of a field's value.
func Invalid(field string, value any, format string, args ...any) *structs.Error {
	return structs.Errorf(structs.CodeInvalid, "Invalid input for field/attribute %s. Value: '%s'. %s", field, Short(fmt.Sprint(value)), fmt.Sprintf(format, args...))
}

// Short cuts a value for a message.
func Short(s string) string {
	const most = 64
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "..."
		}
	}
	return s
}

// NotUUID refuses a name where only a UUID is taken.
func NotUUID(ident string) error {
	return structs.Errorf(structs.CodeInvalid, "Expected a uuid but received %s.", Short(ident))
}
