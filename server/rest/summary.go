package rest

import (
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// appendContainerSummary appends the JSON of a containerBrief, straight from the row,
// because encoding/json is much slower for long lists. base is View.Base.
func appendContainerSummary(b []byte, base string, r structs.Row) []byte {
	c := r.(*structs.Container)
	// IDs and statuses need no escapes.
	b = append(append(b, `{"uuid":"`...), c.ID...)
	b = wire.AppendText(append(b, `","name":`...), c.Name)
	b = append(append(b, `,"bay_uuid":"`...), c.BayID...)
	b = wire.AppendText(append(b, `","image_id":`...), c.Spec.Image)
	b = appendCommand(append(b, `,"command":`...), c.Spec.Command, c.Spec.CommandText)
	b = append(append(b, `,"status":"`...), c.Status()...)
	b = wire.AppendText(append(b, `","links":[{"href":`...), base)
	b = append(append(b[:len(b)-1], "/v1/containers/"...), c.ID...)
	b = wire.AppendText(append(b, `","rel":"self"},{"href":`...), base)
	b = append(append(b[:len(b)-1], "/containers/"...), c.ID...)
	return append(b, `","rel":"bookmark"}]}`...)
}

// appendCommand appends the JSON of what command returns.
func appendCommand(b []byte, args []string, text string) []byte {
	switch {
	case text != "":
		return wire.AppendText(b, text)
	case len(args) == 0:
		return append(b, `null`...)
	}
	for i, arg := range args {
		b = append(b, "[,"[min(i, 1)])
		b = wire.AppendText(b, arg)
	}
	return append(b, ']')
}
