package web

import (
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
)

const argAllProjects = "all_projects"

// ofProjects are the first segments of the paths of objects that belong to projects.
var ofProjects = []string{"bays", "baymodels", "nodes", "containers", "pods", "rcs", "services"}

// TakeAllProjects adds the query argument all_projects to the routes of single objects that
// belong to projects. With it, operators use the names of all projects.
func TakeAllProjects(routes []*Route) {
	isArg := func(a wire.Arg) bool { return a.Name == argAllProjects }
	for _, rt := range routes {
		parts := strings.Split(rt.Path, "/")
		if len(parts) < 3 || parts[2] != ":id" || !slices.Contains(ofProjects, parts[1]) || slices.ContainsFunc(rt.Args, isArg) {
			continue
		}
		rt.Args = append(slices.Clip(rt.Args), wire.Arg{Name: argAllProjects, Kind: wire.ArgBool,
			Doc: "Look for a name in all projects; for operators."})
	}
}

// askAllProjects checks whether the caller may use the objects of all projects, if it asks for
// them. CodeForbidden.
func askAllProjects(q *Request) error {
	if !q.Query.Bool(argAllProjects, false) {
		return nil
	}
	if err := identity.Check(q.Caller(), identity.AllProjects); err != nil {
		return err
	}
	q.Call.Caller.AllProjects = true
	return nil
}
