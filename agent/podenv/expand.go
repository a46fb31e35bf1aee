package podenv

import (
	"strings"

	"github.com/stackforge/magnum/structs"
)

// Expand replaces each $(NAME) in text by the value of the variable, and each $$ by $. A
// reference to a variable that doesn't exist stays as it is, and so does any other $.
// Values are not expanded again. A result of more than limit bytes is refused with
// CodeInvalid: variables that refer to each other twice double in length each time.
func Expand(text string, vars map[string]string, limit int) (string, error) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "$")
		b.WriteString(before)
		if !found {
			break
		}
		text = after
		switch name, rest, closed := reference(after); {
		case strings.HasPrefix(after, "$"):
			b.WriteByte('$')
			text = after[1:]
		case closed:
			if value, exists := vars[name]; exists {
				b.WriteString(value)
			} else {
				b.WriteString("$(" + name + ")")
			}
			text = rest
		default:
			b.WriteByte('$')
		}
		if b.Len() > limit {
			break
		}
	}
	if b.Len() > limit {
		return "", structs.Errorf(structs.CodeInvalid, "it expands to more than %d bytes", limit)
	}
	return b.String(), nil
}

// reference splits "(NAME)rest". closed is false if text doesn't begin so.
func reference(text string) (name, rest string, closed bool) {
	if name, closed = strings.CutPrefix(text, "("); closed {
		name, rest, closed = strings.Cut(name, ")")
	}
	return name, rest, closed
}
