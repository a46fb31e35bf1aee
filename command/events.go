package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

func eventsCommand() *command {
	return &command{
		name: "events", group: groupClient,
		synopsis: "Show events of containers, pods, bays and hosts as they happen",
		about: "Prints a line per event until Ctrl-C: created, updated (status or health changed) or deleted. Only\n" +
			"operators see events of hosts. When the connection breaks, -follow reconnects and continues; without it\n" +
			"the command ends. When the token of a login at Keystone ends, it continues with another. -index N starts\n" +
			"with the events after N, the \"resume\" of an event in -json. Servers keep the last 4096 events.",
		examples: []string{"magnum events -follow", "magnum events -type container -json | jq .name"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var o api.EventOptions
			lines, reconnect := false, false
			f.switchOn(&reconnect, "follow f", "reconnect and continue when the connection breaks")
			f.switchOn(&lines, "json", "print the API's JSON, one event per line")
			f.value("index since-index", "N", "start with the events after this index (default now)", func(s string) error {
				n, err := strconv.ParseUint(s, 10, 63)
				if err != nil {
					return fmt.Errorf("is not a whole number")
				}
				o.Index = n
				return nil
			})
			f.text(&o.Type, "type", "TYPE", "only events of containers, pods, bays or hosts").suggest("container", "pod", "bay", "host")
			f.text(&o.UUID, "uuid", "UUID", "only events of this object")
			f.switchOn(&o.AllProjects, "all-projects", "events of all projects (operators)")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.events(ctx, client, o, lines, reconnect)
			}
		},
	}
}

// events prints events: with lines as JSON, with reconnect also after the connection
// broke. A first connection that fails is an error.
func (e *env) events(ctx context.Context, client *api.Client, o api.EventOptions, lines, reconnect bool) error {
	failures, received, renewed := 0, false, false
	for {
		err := client.Events(ctx, o, func(event structs.EventBody, raw json.RawMessage) error {
			failures, received, renewed = 0, true, false
			o.Index = event.Resume
			if event.Event == "tick" {
				return nil
			}
			text := string(raw)
			if !lines {
				text = eventText(event)
			} else if _, isTerminal := terminalOf(e.stdout); isTerminal {
				text = plainJSON(text)
			}
			_, err := fmt.Fprintln(e.stdout, text)
			return err
		})
		code := structs.CodeOf(err)
		switch {
		case ctx.Err() != nil:
			return &exitError{exitInterrupted} // Ctrl-C is the normal end
		case code == structs.CodeGone:
			return fmt.Errorf("%w. Start again without -index", err)
		case errors.Is(err, api.ErrTokenEnded) && client.SignsIn() && !renewed:
			renewed = true
			continue // with another token
		case !reconnect || !received && api.IsUnreachable(err) || code != structs.CodeUnavailable && code != structs.CodeNoLeader:
			return err
		}
		failures++
		if failures == 1 {
			fmt.Fprintf(e.stderr, "%s; reconnecting\n", describe(err))
		}
		if err := backoff(ctx, failures); err != nil {
			return &exitError{exitInterrupted}
		}
	}
}

// eventText formats an event as a line of text.
func eventText(event structs.EventBody) string {
	at := "-"
	if !event.At.IsZero() {
		at = event.At.UTC().Format(time.RFC3339)
	}
	words := []string{at, event.Type, event.Event, event.Name, event.UUID}
	status := event.Status
	if event.Was != nil && *event.Was != status {
		status = *event.Was + " -> " + status
	}
	words = append(words, status)
	if event.Health != nil {
		words = append(words, "("+*event.Health+")")
	}
	text := strings.Join(words, " ")
	if event.Host != nil {
		text += " on " + *event.Host
	}
	if event.StatusReason != nil {
		text += ": " + *event.StatusReason
	}
	return strings.ReplaceAll(printable(text), "\n", " ")
}
