package rest

import (
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// appendContainerSummary appends the JSON of a container's containerBrief, straight
// from the row: encoding/json takes ten times as long for what long lists are
// made of. base is a view's.
func appendContainerSummary(b []byte, base string, r structs.Row) []byte {
	c := r.(*structs.Container)
	// An ID is a UUID, and a status one of ours.
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

// appendCommand appends a command as command returns it.
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
