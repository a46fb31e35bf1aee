package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/posener/complete"

	"github.com/stackforge/magnum/api"
)

// completion is the kind of a command's arguments.
type completion int

// The kinds of arguments.
const (
	completeNothing completion = iota
	completeBays
	completeBayModels
	completeContainers
	completePods
	completeRCs
	completeServices
	completeHosts
	completeTokens
	completeProjects
	completeServers
	completeVolumes
	completeFileNames
	completeCommands
	completeShells
)

// completeTimeout bounds the request to the server, because the user waits for the
// completion.
const completeTimeout = time.Second

// AutocompleteArgs returns the predictor of the command's arguments.
func (r *runner) AutocompleteArgs() complete.Predictor {
	switch r.cmd.complete {
	case completeNothing:
		return nil
	case completeFileNames:
		return completeFiles
	case completeShells:
		return complete.PredictSet(shells...)
	case completeCommands:
		return complete.PredictFunc(func(a complete.Args) []string { return nextWords(a.Completed) })
	}
	return r.e.predictNames(r.cmd.complete)
}

// nextWords returns the words that may follow in a command's name.
func nextWords(words []string) []string {
	var next []string
	for _, c := range commands() {
		name := strings.Fields(c.name)
		if n := len(words); n < len(name) && slices.Equal(name[:n], words) && !slices.Contains(next, name[n]) {
			next = append(next, name[n])
		}
	}
	return next
}

// AutocompleteFlags returns the predictors of the command's flags.
func (r *runner) AutocompleteFlags() complete.Flags {
	f := newFlagSet(r.cmd.name)
	r.cmd.setup(r.e, f)
	flags := complete.Flags{}
	for _, o := range f.options {
		for _, n := range o.names {
			flags["-"+n] = o.predict
			if len(n) > 1 {
				flags["--"+n] = o.predict
			}
		}
	}
	return flags
}

// predictNames returns a predictor that asks the server for the names of objects. It
// predicts nothing if the server doesn't respond.
func (e *env) predictNames(kind completion) complete.Predictor {
	return complete.PredictFunc(func(a complete.Args) []string {
		if strings.HasPrefix(a.Last, "-") {
			return nil
		}
		// a.All begins after the command; -addr may stand before it.
		words := strings.Fields(e.getenv("COMP_LINE"))
		conn := connection{addr: valueOf(words, "addr"), tlsCA: valueOf(words, "tls-ca")}
		client, err := conn.client(e)
		if err != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), completeTimeout)
		defer cancel()
		names, err := objectNames(ctx, client, kind)
		if err != nil {
			return nil // a message would appear in the line that is being typed
		}
		return names
	})
}

// valueOf returns a flag's value in an incomplete command line, "" if it has none.
func valueOf(words []string, flag string) string {
	for i, w := range words {
		name, value, hasValue := strings.Cut(strings.TrimLeft(w, "-"), "=")
		if !strings.HasPrefix(w, "-") || name != flag {
			continue
		}
		if hasValue {
			return value
		}
		if i+1 < len(words) {
			return words[i+1]
		}
	}
	return ""
}

// objectNames returns the names of the objects of a kind.
func objectNames(ctx context.Context, client *api.Client, kind completion) ([]string, error) {
	o := api.QueryOptions{Limit: 200, Stale: true}
	var names []string
	var meta api.Meta
	var err error
	switch kind {
	case completeBays:
		_, meta, err = client.Bays().List(ctx, o)
	case completeBayModels:
		_, meta, err = client.BayModels().List(ctx, o)
	case completeContainers:
		_, meta, err = client.Containers().List(ctx, o)
	case completePods:
		_, meta, err = client.Pods().List(ctx, o)
	case completeRCs:
		_, meta, err = client.RCs().List(ctx, o)
	case completeServices:
		_, meta, err = client.Services().List(ctx, o)
	case completeHosts:
		_, meta, err = client.Hosts().List(ctx, o)
	case completeTokens:
		_, meta, err = client.Tokens().List(ctx, o)
	case completeProjects:
		o.AllProjects = true
		_, meta, err = client.Quotas().List(ctx, o)
	case completeServers:
		_, meta, err = client.Operator().Peers(ctx, api.QueryOptions{Stale: true})
	case completeVolumes:
		_, meta, err = client.Volumes().List(ctx, api.HostListOptions{Stale: true})
	}
	for _, raw := range meta.Items {
		obj, err := parseObject(raw)
		if err != nil {
			continue
		}
		name := obj.text("name")
		if kind == completeProjects {
			name = obj.text("project_id")
		}
		if name == "" || name == "None" || strings.ContainsAny(name, " \t\n\"'\\$`") {
			name = obj.text("uuid")
		}
		names = append(names, name)
	}
	return names, err
}
