package command

import (
	"context"
	"encoding/json"
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
		synopsis: "Show what happens to containers, bays and hosts, as it happens",
		about: "A line for each event until Ctrl-C: created, updated (another status or health) and deleted. Hosts are\n" +
			"shown to operators. With -follow it goes on where it was when the connection breaks; without, it ends.\n" +
			"-index N begins with what came after N, the \"resume\" of an event in -json; servers keep the last 4096.",
		examples: []string{"magnum events -follow", "magnum events -type container -json | jq .name"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var o api.EventOptions
			lines, again := false, false
			f.switchOn(&again, "follow f", "go on where it was when the connection breaks")
			f.switchOn(&lines, "json", "print the API's JSON, one event a line")
			f.value("index since-index", "N", "begin with what came after it (default now)", func(s string) error {
				n, err := strconv.ParseUint(s, 10, 63)
				if err != nil {
					return fmt.Errorf("is not a whole number")
				}
				o.Index = n
				return nil
			})
			f.text(&o.Type, "type", "TYPE", "only of containers, bays or hosts").suggest("container", "bay", "host")
			f.text(&o.UUID, "uuid", "UUID", "only of this object")
			f.switchOn(&o.AllProjects, "all-projects", "of all projects (operators)")
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.events(ctx, client, o, lines, again)
			}
		},
	}
}

// events prints events; with again, over breaks of the connection.
func (e *env) events(ctx context.Context, client *api.Client, o api.EventOptions, lines, again bool) error {
	away, heard := 0, false
	for {
		err := client.Events(ctx, o, func(event structs.EventBody, raw json.RawMessage) error {
			away, heard = 0, true
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
			return &exitError{exitInterrupted} // the way to end it
		case code == structs.CodeGone:
			return fmt.Errorf("%w. Begin anew without -index", err)
		case !again || !heard && api.IsUnreachable(err) || code != structs.CodeUnavailable && code != structs.CodeNoLeader:
			return err
		}
		away++
		if away == 1 {
			fmt.Fprintf(e.stderr, "%s; trying again\n", describe(err))
		}
		if err := backoff(ctx, away); err != nil {
			return &exitError{exitInterrupted}
		}
	}
}

// eventText is an event as a person reads it.
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
