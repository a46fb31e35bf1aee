package structs

import (
	"fmt"
	"strings"
)

// Invalid is the contract's refusal of a field's value. It returns CodeInvalid with a
// message that names the field and the value, and ends with the formatted reason.
func Invalid(field string, value any, format string, args ...any) *Error {
	return Errorf(CodeInvalid, "Invalid input for field/attribute %s. Value: '%s'. %s",
		field, Shorten(fmt.Sprint(value)), fmt.Sprintf(format, args...))
}

// NotUUID is the contract's refusal of a name where only a UUID is accepted. It
// returns CodeInvalid.
func NotUUID(ident string) error {
	return Errorf(CodeInvalid, "Expected a uuid but received %s.", Shorten(ident))
}

// NoID is the UUID without any bits, which no object has.
const NoID = "00000000-0000-0000-0000-000000000000"

// UnusableID is the refusal of a requested UUID. It says neither why nor whether another
// project's object has it. CodeInvalid.
func UnusableID(kind, uuid string) error {
	return Invalid("uuid", uuid, "It can't be used: leave it out, or give another one.").About(kind)
}

// Shorten cuts a user's value for a message to 64 characters. Three dots stand for
// the rest.
func Shorten(s string) string {
	const most = 64
	n := 0
	for i := range s {
		if n++; n > most {
			return s[:i] + "..."
		}
	}
	return s
}

// Known reports whether this version has the code.
func (c Code) Known() bool {
	switch c {
	case CodeInvalid, CodeUnauthenticated, CodeForbidden, CodeNotFound, CodeMethod, CodeConflict, CodeGone, CodeTooLarge, CodeMedia,
		CodeQuota, CodeRateLimited, CodeInternal, CodeNoLeader, CodeUnavailable, CodeNoSpace:
		return true
	}
	return false
}

// Cut returns the text with at most n bytes, and spaces for control and format characters
// but line ends and tabs.
func Cut(text string, n int) string {
	if len(text) > n {
		text = strings.ToValidUTF8(text[:n], "")
	}
	return strings.Map(func(r rune) rune {
		if IsControl(r) && r != '\n' && r != '\t' {
			return ' '
		}
		return r
	}, text)
}

// CutLine is Cut for text of one line.
func CutLine(text string, n int) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(Cut(text, n))
}
