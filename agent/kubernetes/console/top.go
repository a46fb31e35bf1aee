package console

import (
	"bytes"
	"context"
	"errors"
	"strings"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// Stats is not what the API of a cluster has. ErrInvalid.
func (cs *Consoles) Stats(context.Context, string, bool, func(structs.StatsBody) error) error {
	return &backend.Failure{Reason: backend.ErrInvalid,
		Msg: "a Kubernetes cluster shows no usage of containers here; use `kubectl top pod`, which needs the cluster's metrics " +
			"server, or run top inside the container with pod-execute"}
}

// Top lists the container's processes by the ps inside the container.
func (cs *Consoles) Top(ctx context.Context, engineID, args string) (structs.TopBody, error) {
	ps, err := structs.ParsePS(args)
	if err != nil {
		return structs.TopBody{}, &backend.Failure{Reason: backend.ErrInvalid, Msg: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	var out, problems bytes.Buffer
	code, err := cs.capture(ctx, engineID, append([]string{"ps"}, strings.Fields(ps.Ask())...), &out, &problems)
	if err == nil && code != 0 && args == "" { // that of a small image may know no options
		out.Reset()
		problems.Reset()
		code, err = cs.capture(ctx, engineID, []string{"ps"}, &out, &problems)
	}
	switch {
	case errors.Is(err, errNoProgram):
		return structs.TopBody{}, &backend.Failure{Reason: backend.ErrInvalid,
			Msg: "the container has no program ps, by which the processes of a pod in a cluster are listed"}
	case err != nil:
		return structs.TopBody{}, err
	case code != 0:
		return structs.TopBody{}, &backend.Failure{Reason: backend.ErrInvalid,
			Msg: "ps inside the container refuses: " + firstLine(problems.String())}
	}
	body, err := ps.Arrange(parsePS(out.String()))
	if err != nil {
		return structs.TopBody{}, &backend.Failure{Reason: backend.ErrInvalid, Msg: err.Error()}
	}
	return body, nil
}

// parsePS reads what ps has written. Only the last column may have blanks.
func parsePS(text string) structs.TopBody {
	var body structs.TopBody
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case body.Titles == nil:
			body.Titles = words
		default:
			if last := len(body.Titles) - 1; len(words) > last+1 {
				words = append(words[:last:last], strings.Join(words[last:], " "))
			}
			body.Processes = append(body.Processes, words)
		}
	}
	return body
}

// firstLine returns the first line of what a program has complained.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}
