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

// EventOptions says which events are wanted.
type EventOptions struct {
	Index       uint64 // begin with what came after it: an event's Resume or a Meta's Index; 0 begins now
	Type        string // container, bay or host; "" means all
	UUID        string // of one object; "" means all
	AllProjects bool   // operators only
}

// Events hands events to each as they come, and the JSON that they were sent
// as, until ctx ends, the connection breaks (CodeUnavailable), or each returns
// an error, which is returned. Among them are ticks: nothing has happened, but
// their Resume counts. CodeGone: the server no longer has what came after
// Index; list the objects, and go on from that answer's Index.
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
			return structs.Errorf(structs.CodeInternal, "an event is not magnum's: %w", err)
		}
		if err := each(event, json.RawMessage(line[:len(line)-1])); err != nil {
			return err
		}
	}
}
