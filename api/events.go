package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/stackforge/magnum/structs"
)

// EventOptions says which events to return.
type EventOptions struct {
	Index       uint64 // start with the event after it: an event's Resume or a Meta's Index; 0 starts now
	Type        string // container, bay or host; "" means all
	UUID        string // of one object; "" means all
	AllProjects bool   // operators only
}

// Events calls each with every event and its JSON. It returns when ctx ends, when
// the connection breaks (CodeUnavailable), or with the error that each returns.
// Some events are ticks: nothing happened, but their Resume is a newer Index.
// CodeGone: the server no longer has the events after Index; list the objects and
// continue from the Index of that list.
func (c *Client) Events(ctx context.Context, o EventOptions, each func(structs.EventBody, json.RawMessage) error) error {
	q := url.Values{}
	if o.Index > 0 {
		q.Set("index", strconv.FormatUint(o.Index, 10))
	}
	if o.Type != "" {
		q.Set("type", o.Type)
	}
	if o.UUID != "" {
		q.Set("uuid", o.UUID)
	}
	if o.AllProjects {
		q.Set("all_projects", "true")
	}
	resp, err := c.stream(ctx, call{method: http.MethodGet, path: "/v1/events", query: q, stale: o.Index == 0})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for {
		line, err := in.ReadBytes('\n')
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return structs.Errorf(structs.CodeUnavailable, "the events of %s broke off: %w", c.Address(), err)
		}
		var event structs.EventBody
		if err := json.Unmarshal(line, &event); err != nil {
			return structs.Errorf(structs.CodeInternal, "an event can't be decoded: %w", err)
		}
		if err := each(event, json.RawMessage(line[:len(line)-1])); err != nil {
			return err
		}
	}
}
