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
		most, _ := strconv.Atoi(strings.TrimPrefix(zunVersionMax, "1."))
		if version == "latest" {
			return most, true
		}
		text, found := strings.CutPrefix(version, "1.")
		n, err := strconv.Atoi(text)
		return min(n, most), found && err == nil && n > 0
	}
	return 0, false
}

// zunVersionMax is the newest version of the API that is spoken.
const zunVersionMax = "1.40"

// asksForZun reports whether a request says that it speaks this API, and says in the
// answer which version it gets.
func asksForZun(r *http.Request, answer http.Header) bool {
	said := r.Header.Get(headerVersion)
	if said == "" {
		return false
	}
	minor, ok := zunVersion(said)
	if !ok {
		return false
	}
	answer.Set(headerVersion, "container 1."+strconv.Itoa(minor))
	answer.Add("Vary", headerVersion)
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

// newZun returns the dialect. terminals are opened by own routes.
func newZun() (d *dialect, terminals []*route) {
	ts := &terminalSet{}
	return &dialect{asked: asksForZun, query: withoutNone, arguments: true, routes: zunRoutes(ts)}, []*route{
		// Its clients can't send a token: the secret in the path is one.
		{method: http.MethodGet, path: "/terminals/:sid", action: identity.Public, handle: ts.join, summary: "Raw streams of a command or process for clients of Zun (WebSocket)",
			gives: []wire.Answer{{Status: http.StatusSwitchingProtocols}}},
	}
}

// zunRoutes returns the routes that differ from our own.
func zunRoutes(ts *terminalSet) []*route {
	get, post, patch, del := http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	allProjects := wire.Arg{Name: "all_projects", Kind: wire.ArgBool}
	timeout := wire.Arg{Name: "timeout", Kind: wire.ArgInt}
	size := []wire.Arg{{Name: "w", Kind: wire.ArgInt, Wants: true}, {Name: "h", Kind: wire.ArgInt, Wants: true}}
	return []*route{
		{method: get, path: "/containers", action: identity.ContainerList, handle: zunContainers.list(false),
			args: zunContainers.listArgs(filterArgName, filterArgStatus, filterArgHost, wire.Arg{Name: "image", Kind: wire.ArgText}, wire.Arg{Name: "memory", Kind: wire.ArgText},
				wire.Arg{Name: "project_id", Kind: wire.ArgText}, wire.Arg{Name: "user_id", Kind: wire.ArgText}, wire.Arg{Name: "task_state", Kind: wire.ArgText}, wire.Arg{Name: "auto_remove", Kind: wire.ArgBool})},
		{method: post, path: "/containers", action: identity.ContainerCreate, handle: createZun, takes: struct{}{}, args: []wire.Arg{{Name: "run", Kind: wire.ArgBool}}},
		{method: get, path: "/containers/:id", action: identity.ContainerGet, handle: zunContainers.show, args: reads},
		{method: patch, path: "/containers/:id", action: identity.ContainerUpdate, handle: patchZun, takes: struct{}{}},
		{method: del, path: "/containers/:id", action: identity.ContainerDelete, handle: deleteZun,
			args: []wire.Arg{{Name: "force", Kind: wire.ArgBool}, {Name: "stop", Kind: wire.ArgBool}, allProjects}},

		{method: post, path: "/containers/:id/start", action: identity.ContainerStart, handle: actZun(conductor.ActionStart)},
		{method: post, path: "/containers/:id/stop", action: identity.ContainerStop, handle: actZun(conductor.ActionStop), args: []wire.Arg{timeout}},
		{method: post, path: "/containers/:id/reboot", action: identity.ContainerReboot, handle: actZun(conductor.ActionReboot), args: []wire.Arg{timeout}},
		{method: post, path: "/containers/:id/pause", action: identity.ContainerPause, handle: actZun(conductor.ActionPause)},
		{method: post, path: "/containers/:id/unpause", action: identity.ContainerUnpause, handle: actZun(conductor.ActionUnpause)},
		{method: post, path: "/containers/:id/kill", action: identity.ContainerKill, handle: actZun(conductor.ActionKill), args: []wire.Arg{{Name: "signal", Kind: wire.ArgText}}},
		{method: post, path: "/containers/:id/rename", action: identity.ContainerRename, handle: renameZun, args: []wire.Arg{{Name: "name", Kind: wire.ArgText, Wants: true}}},
		{method: post, path: "/containers/:id/rebuild", action: identity.ContainerRebuild, handle: rebuildZun, args: []wire.Arg{{Name: "image", Kind: wire.ArgText}, {Name: "image_driver", Kind: wire.ArgText}}},

		{method: get, path: "/containers/:id/logs", action: identity.ContainerLogs, handle: logsZun, args: wire.LogsArgs[:5]},
		{method: post, path: "/containers/:id/execute", action: identity.ContainerExecute, handle: ts.execute,
			args: []wire.Arg{wire.CommandArg, {Name: "run", Kind: wire.ArgBool}, {Name: "interactive", Kind: wire.ArgBool}}},
		{method: post, path: "/containers/:id/execute_resize", action: identity.ContainerExecute, handle: ts.resizeExec, args: slices.Concat(size, []wire.Arg{{Name: "exec_id", Kind: wire.ArgText, Wants: true}})},
		{method: get, path: "/containers/:id/attach", action: identity.ContainerAttach, handle: ts.attach},
		{method: post, path: "/containers/:id/resize", action: identity.ContainerAttach, handle: ts.resizeAttached, args: size},
		{method: get, path: "/containers/:id/stats", action: identity.ContainerStats, handle: statsZun},
		{method: get, path: "/containers/:id/top", action: identity.ContainerTop, handle: topZun, args: []wire.Arg{{Name: "ps_args", Kind: wire.ArgText}}},
		{method: get, path: "/containers/:id/container_actions", action: identity.ContainerActions, handle: listActionsZun},
		{method: get, path: "/containers/:id/container_actions/:request", action: identity.ContainerActions, handle: showActionZun},
		{method: get, path: "/containers/:id/get_archive", action: identity.ArchiveGet, handle: getArchiveZun, args: archiveArgs},
		{method: post, path: "/containers/:id/put_archive", action: identity.ArchivePut, handle: putArchiveZun, takes: struct{}{}, streams: true, args: archiveArgs},
	}
}

// onlyDocker refuses an image driver that isn't the one there is.
func onlyDocker(driver string) error {
	if driver != "" && driver != "docker" {
		return structs.Errorf(structs.CodeInvalid, "image_driver %.64q: images come from registries here, which is docker", driver)
	}
	return nil
}
