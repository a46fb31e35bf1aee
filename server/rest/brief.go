package rest

import (
	"bytes"

	"github.com/stackforge/magnum/structs"
)

// appendContainer appends the JSON of a container's containerBrief, straight
// from the row: encoding/json takes ten times as long for what long lists are
// made of. base is a view's.
func appendContainer(b []byte, base string, r structs.Row) []byte {
	c := r.(*structs.Container)
	// An ID is a UUID, and a status one of ours.
	b = append(append(b, `{"uuid":"`...), c.ID...)
	b = appendText(append(b, `","name":`...), c.Name)
	b = append(append(b, `,"bay_uuid":"`...), c.BayID...)
	b = appendText(append(b, `","image_id":`...), c.Spec.Image)
	b = appendCommand(append(b, `,"command":`...), c.Spec.Command, c.Spec.CommandText)
	b = append(append(b, `,"status":"`...), c.Status()...)
	b = appendText(append(b, `","links":[{"href":`...), base)
	b = append(append(b[:len(b)-1], "/v1/containers/"...), c.ID...)
	b = appendText(append(b, `","rel":"self"},{"href":`...), base)
	b = append(append(b[:len(b)-1], "/containers/"...), c.ID...)
	return append(b, `","rel":"bookmark"}]}`...)
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

// appendText appends a JSON string.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			e := newEncoder()
			defer e.free()
			if err := e.json.Encode(s); err != nil {
				panic(err) // strings always encode
			}
			return append(b, bytes.TrimSuffix(e.buf.Bytes(), []byte("\n"))...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// plain are the bytes that stand for themselves in a JSON string.
var plain = func() (table [256]bool) {
	for c := ' '; c <= '~'; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()
