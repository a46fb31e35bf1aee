package rest

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// The files zun*.go are the second spelling of the API: that of OpenStack's
// container client (python-zunclient, "openstack appcontainer"). A request that
// says so in headerVersion is read and answered in that client's shapes; what is
// done is what the routes of our own do. Nothing else in this package knows of
// it, but for route.zun.

// headerVersion is how newer OpenStack clients say whose API they speak, and
// which version: "container 1.40".
const headerVersion = "OpenStack-API-Version"

// zunVersion returns the minor version that the header asks for, at most the
// one that is served; ok is false if it is of another API.
func zunVersion(header string) (minor int, ok bool) {
	for _, said := range strings.Split(header, ",") {
		service, version, _ := strings.Cut(strings.TrimSpace(said), " ")
		if service != "container" {
			continue
		}
		most, _ := strconv.Atoi(strings.TrimPrefix(maxVersion, "1."))
		if version == "latest" {
			return most, true
		}
		text, found := strings.CutPrefix(version, "1.")
		n, err := strconv.Atoi(text)
		return min(n, most), found && err == nil && n > 0
	}
	return 0, false
}

// serveZun serves the request if it is one of the second spelling.
func (s *Server) serveZun(w *responseWriter, r *http.Request, path, version string) bool {
	minor, ok := zunVersion(version)
	if !ok {
		return false
	}
	w.Header().Set(headerVersion, "container 1."+strconv.Itoa(minor))
	w.Header().Add("Vary", headerVersion)
	handle, params, _ := s.zun.Lookup(r.Method, path)
	if handle == nil {
		return false
	}
	handle(w, r, params)
	return true
}

// withoutNone drops the arguments that the client writes as Python's None:
// those that nobody gave.
func withoutNone(raw string) string {
	if !strings.Contains(raw, "=None") {
		return raw
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return raw // refused by who reads it
	}
	for name, given := range values {
		if given = slices.DeleteFunc(given, func(v string) bool { return v == "None" }); len(given) == 0 {
			delete(values, name)
		} else {
			values[name] = given
		}
	}
	return values.Encode()
}

// newZunRoutes returns the routes that differ from our own.
func newZunRoutes() []*route {
	get, post, patch, del := http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	allProjects := wire.Arg{Name: "all_projects", Kind: wire.ArgBool}
	timeout := wire.Arg{Name: "timeout", Kind: wire.ArgInt}
	size := []wire.Arg{{Name: "w", Kind: wire.ArgInt, Wants: true}, {Name: "h", Kind: wire.ArgInt, Wants: true}}
	routes := []*route{
		{method: get, path: "/containers", action: identity.ContainerList, handle: zunContainers.list(false),
			args: zunContainers.listArgs(filterArgName, filterArgStatus, filterArgHost, wire.Arg{Name: "image", Kind: wire.ArgText}, wire.Arg{Name: "memory", Kind: wire.ArgText},
				wire.Arg{Name: "project_id", Kind: wire.ArgText}, wire.Arg{Name: "user_id", Kind: wire.ArgText}, wire.Arg{Name: "task_state", Kind: wire.ArgText}, wire.Arg{Name: "auto_remove", Kind: wire.ArgBool})},
		{method: post, path: "/containers", action: identity.ContainerCreate, handle: createZun, takes: struct{}{}, args: []wire.Arg{{Name: "run", Kind: wire.ArgBool}}},
		{method: get, path: "/containers/:id", action: identity.ContainerGet, handle: zunContainers.show, args: reads},
		{method: patch, path: "/containers/:id", action: identity.ContainerUpdate, handle: patchZun, takes: struct{}{}},
		{method: del, path: "/containers/:id", action: identity.ContainerDelete, handle: deleteContainer,
			args: []wire.Arg{{Name: "force", Kind: wire.ArgBool}, {Name: "stop", Kind: wire.ArgBool}, allProjects}},

		{method: post, path: "/containers/:id/start", action: identity.ContainerStart, handle: act(conductor.ActionStart)},
		{method: post, path: "/containers/:id/stop", action: identity.ContainerStop, handle: act(conductor.ActionStop), args: []wire.Arg{timeout}},
		{method: post, path: "/containers/:id/reboot", action: identity.ContainerReboot, handle: act(conductor.ActionReboot), args: []wire.Arg{timeout}},
		{method: post, path: "/containers/:id/pause", action: identity.ContainerPause, handle: act(conductor.ActionPause)},
		{method: post, path: "/containers/:id/unpause", action: identity.ContainerUnpause, handle: act(conductor.ActionUnpause)},
		{method: post, path: "/containers/:id/kill", action: identity.ContainerKill, handle: act(conductor.ActionKill), args: []wire.Arg{{Name: "signal", Kind: wire.ArgText}}},
		{method: post, path: "/containers/:id/rename", action: identity.ContainerRename, handle: renameZun, args: []wire.Arg{{Name: "name", Kind: wire.ArgText, Wants: true}}},
		{method: post, path: "/containers/:id/rebuild", action: identity.ContainerRebuild, handle: rebuildZun, args: []wire.Arg{{Name: "image", Kind: wire.ArgText}, {Name: "image_driver", Kind: wire.ArgText}}},

		{method: get, path: "/containers/:id/logs", action: identity.ContainerLogs, handle: logsZun, args: logsArgs[:5]},
		{method: post, path: "/containers/:id/execute", action: identity.ContainerExecute, handle: executeZun,
			args: []wire.Arg{commandArg, {Name: "run", Kind: wire.ArgBool}, {Name: "interactive", Kind: wire.ArgBool}}},
		{method: post, path: "/containers/:id/execute_resize", action: identity.ContainerExecute, handle: resizeExecZun, args: slices.Concat(size, []wire.Arg{{Name: "exec_id", Kind: wire.ArgText, Wants: true}})},
		{method: get, path: "/containers/:id/attach", action: identity.ContainerAttach, handle: attachZun},
		{method: post, path: "/containers/:id/resize", action: identity.ContainerAttach, handle: resizeZun, args: size},
		{method: get, path: "/containers/:id/stats", action: identity.ContainerStats, handle: statsZun},
		{method: get, path: "/containers/:id/top", action: identity.ContainerTop, handle: topZun, args: []wire.Arg{{Name: "ps_args", Kind: wire.ArgText}}},
		{method: get, path: "/containers/:id/container_actions", action: identity.ContainerActions, handle: zunActions},
		{method: get, path: "/containers/:id/container_actions/:request", action: identity.ContainerActions, handle: zunActionShow},
		{method: get, path: "/containers/:id/get_archive", action: identity.ArchiveGet, handle: getArchiveZun, args: archiveArgs},
		{method: post, path: "/containers/:id/put_archive", action: identity.ArchivePut, handle: putArchiveZun, takes: struct{}{}, streams: true, args: archiveArgs},
	}
	for _, rt := range routes {
		rt.zun = true
	}
	return routes
}

// onlyDocker refuses an image driver that isn't the one there is.
func onlyDocker(driver string) error {
	if driver != "" && driver != "docker" {
		return structs.Errorf(structs.CodeInvalid, "image_driver %.64q: images come from registries here, which is docker", driver)
	}
	return nil
}

func renameZun(q *request) error {
	name := q.query.Text("name")
	if err := structs.CheckName(name); err != nil {
		return err
	}
	c, err := decide(q, conductor.PatchContainer{Caller: q.caller(), Ident: q.ident(), Name: &name})
	if err != nil {
		return err
	}
	return zunContainers.written(q, http.StatusOK, c)
}

func rebuildZun(q *request) error {
	if err := onlyDocker(q.query.Text("image_driver")); err != nil {
		return err
	}
	return rebuildContainer(q)
}
