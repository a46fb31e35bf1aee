package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/stackforge/magnum/api"
)

// follow prints the objects of a list, and then each object that is new, changed or
// deleted, until ctx ends, which is not an error. A deleted object is printed as it was
// last seen, with the status "Deleted". follow goes on when servers are away for a while,
// but not if none answers at the beginning.
func (n noun) follow(ctx context.Context, e *env, client *api.Client, o api.QueryOptions, out *output) error {
	o.Detail = true
	first, err := n.list(ctx, client, o)
	if err != nil {
		return err
	}
	lines := &lineTable{w: e.stdout, head: append(append([]string{}, n.columns...), n.wide...)}
	ownStatus := slices.Contains(lines.head, statusColumn)
	if !ownStatus {
		lines.head = append(lines.head, statusColumn) // is empty, except for a deleted one
	}
	row := func(obj object) []string {
		cells := make([]string, len(lines.head))
		for i, column := range lines.head {
			if column != statusColumn || ownStatus || obj.get(column) != nil {
				cells[i] = n.cells.of(obj, column)
			}
		}
		return cells
	}
	print := func(objects []object) error {
		if !out.isTable() {
			return out.each(e.stdout, objects)
		}
		var rows [][]string
		for _, obj := range objects {
			rows = append(rows, row(obj))
		}
		return lines.add(rows)
	}
	type seen struct {
		obj  object
		text string // what a change is noticed by
	}
	last := make(map[string]seen) // by uuid
	p := newProgress(e)
	read := false // first is
	err = watch(ctx, func(ctx context.Context, q api.QueryOptions) (*api.Meta, api.Meta, error) {
		if !read {
			read = true
			return &first, first, nil
		}
		o.Index, o.Wait = q.Index, q.Wait
		meta, err := n.list(ctx, client, o)
		return &meta, meta, err
	}, func(meta *api.Meta, _ api.Meta) (bool, error) {
		p.clear()
		var changed []object
		now := make(map[string]seen, len(meta.Items))
		for _, raw := range meta.Items {
			obj, err := parseObject(raw)
			if err != nil {
				return false, err
			}
			s := seen{obj, string(raw)}
			if out.isTable() { // not all changes are seen in the table
				s.text = strings.Join(row(obj.with("created_at", "null")), "\x00") // without the age
			}
			uuid := obj.text("uuid")
			if now[uuid] = s; last[uuid].text != s.text {
				changed = append(changed, obj)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(last)) {
			if _, left := now[id]; !left {
				changed = append(changed, last[id].obj.with(statusColumn, `"Deleted"`))
			}
		}
		last = now
		return false, print(changed)
	}, p)
	p.clear()
	if ctx.Err() != nil {
		return nil // Ctrl-C is the normal end
	}
	return err
}

// statusColumn is the column in which follow shows that an object was deleted.
const statusColumn = "status"

// lineTable prints a table of which not all rows are known yet: without a frame, in
// columns that are as wide as the first rows need.
type lineTable struct {
	w      io.Writer
	head   []string
	widths []int // nil before the head was printed
}

// add prints rows.
func (t *lineTable) add(rows [][]string) error {
	if t.widths == nil {
		t.widths = make([]int, len(t.head))
		rows = append([][]string{t.head}, rows...)
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			row[i] = strings.ReplaceAll(cell, "\n", " ")
			t.widths[i] = max(t.widths[i], displayWidth(row[i]))
		}
	}
	for _, row := range rows {
		line := ""
		for i, cell := range row {
			line += cell + strings.Repeat(" ", t.widths[i]-displayWidth(cell)+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}

// each prints objects one after the other, as JSON or by the template.
func (o *output) each(w io.Writer, objects []object) error {
	if !o.isJSON() {
		return o.executeTemplate(w, objects)
	}
	for _, obj := range objects {
		raw, err := obj.MarshalJSON()
		if err != nil {
			return err
		}
		if err := writeJSON(w, raw, o.json); err != nil {
			return err
		}
	}
	return nil
}

// with returns the object with another value of a field.
func (o object) with(key, raw string) object {
	changed := append(object(nil), o...)
	for i := range changed {
		if changed[i].key == key {
			changed[i].raw = json.RawMessage(raw)
			return changed
		}
	}
	return append(changed, field{key, json.RawMessage(raw)})
}

// MarshalJSON writes the object with its fields in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(f.key)
		if err != nil {
			return nil, fmt.Errorf("encoding a field's name: %w", err)
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(f.raw)
	}
	b.WriteByte('}')
	return []byte(b.String()), nil
}
