package rest

import (
	"encoding/json"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// appender is a body that writes its own JSON. Only what lists are full of is
// one: encoding/json takes ten times as long for it.
type appender interface {
	// appendJSON appends the JSON of the body, equal to encoding/json's.
	appendJSON(b []byte) []byte
}

// containerLine is a container as lists show it. It writes what a
// containerBrief would be, straight from the row.
type containerLine struct {
	base string // as in view
	*structs.Container
}

func (c containerLine) appendJSON(b []byte) []byte {
	b = appendText(append(b, `{"uuid":`...), c.ID)
	b = appendText(append(b, `,"name":`...), c.Name)
	b = appendText(append(b, `,"bay_uuid":`...), c.BayID)
	b = appendText(append(b, `,"image_id":`...), c.Spec.Image)
	b = appendCommand(append(b, `,"command":`...), c.Spec.Command, c.Spec.CommandText)
	b = appendText(append(b, `,"status":`...), string(c.Status()))
	b = appendText(append(b, `,"links":[{"href":`...), c.base, "/v1/containers/", c.ID)
	b = appendText(append(b, `,"rel":"self"},{"href":`...), c.base, "/containers/", c.ID)
	return append(b, `,"rel":"bookmark"}]}`...)
}

// appendCommand appends a command as command returns it.
func appendCommand(b []byte, args []string, text string) []byte {
	switch {
	case text != "":
		return appendText(b, text)
	case len(args) == 0:
		return append(b, `null`...)
	}
	for i, arg := range args {
		b = append(b, "[,"[min(i, 1)])
		b = appendText(b, arg)
	}
	return append(b, ']')
}

// appendText appends a JSON string that is made of the parts.
func appendText(b []byte, parts ...string) []byte {
	began := len(b)
	b = append(b, '"')
	for _, s := range parts {
		for i := range len(s) {
			if c := s[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
				quoted, err := json.Marshal(strings.Join(parts, ""))
				if err != nil {
					panic(err) // strings always encode
				}
				return append(b[:began], quoted...)
			}
		}
		b = append(b, s...)
	}
	return append(b, '"')
}
