package zun

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// headerVersion is the header in which newer OpenStack clients name the API and its
// version, such as "container 1.40".
const headerVersion = "OpenStack-API-Version"

// minorVersion returns the minor version that the header asks for, or that of MaxVersion
// if it asks for a newer one. ok is false if the header names another API.
func minorVersion(header string) (minor int, ok bool) {
	for _, said := range strings.Split(header, ",") {
		service, version, _ := strings.Cut(strings.TrimSpace(said), " ")
		if service != "container" {
			continue
		}
		most, _ := strconv.Atoi(strings.TrimPrefix(MaxVersion, "1."))
		if version == "latest" {
			return most, true
		}
		text, found := strings.CutPrefix(version, "1.")
		n, err := strconv.Atoi(text)
		return min(n, most), found && err == nil && n > 0
	}
	return 0, false
}

// MaxVersion is the newest version of Zun's API that magnum serves. GET / shows it, because
// newer OpenStack clients look for it before they use a server.
const MaxVersion = "1.40"

// asked reports whether a request asks for this API, and sets the version in the
// response's header.
func asked(r *http.Request, answer http.Header) bool {
	said := r.Header.Get(headerVersion)
	if said == "" {
		return false
	}
	minor, ok := minorVersion(said)
	if !ok {
		return false
	}
	answer.Set(headerVersion, "container 1."+strconv.Itoa(minor))
	answer.Add("Vary", headerVersion)
	return true
}

// translate drops arguments with the value None, which the client sends for arguments that its
// user didn't give, and gives all_tenants, as older clients say, its present name.
func translate(raw string) string {
	if !strings.Contains(raw, "=None") && !strings.Contains(raw, "all_tenants") {
		return raw
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return raw // ReadQuery refuses it
	}
	for name, given := range values {
		if given = slices.DeleteFunc(given, func(v string) bool { return v == "None" }); len(given) == 0 {
			delete(values, name)
		} else {
			values[name] = given
		}
	}
	if given, ok := values["all_tenants"]; ok && !values.Has("all_projects") {
		values["all_projects"] = given
		delete(values, "all_tenants")
	}
	return values.Encode()
}

// New returns the dialect, and routes of magnum's own API that open terminals.
func New() (d *web.Dialect, own []*web.Route) {
	ts := &terminals{}
	return &web.Dialect{Asked: asked, Query: translate, Arguments: true, Routes: routes(ts)}, []*web.Route{
		// Clients of Zun can't send a token here. The secret in the path takes its place.
		{Method: http.MethodGet, Path: "/terminals/:sid", Action: identity.Public, Handle: ts.join,
			Summary: "Raw streams of a command or process for clients of Zun (WebSocket)",
			Gives:   []wire.Answer{{Status: http.StatusSwitchingProtocols}}},
	}
}

// routes returns the routes that differ from magnum's own API.
func routes(ts *terminals) []*web.Route {
	get, post, put, patch, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	timeout := wire.Arg{Name: "timeout", Kind: wire.ArgInt}
	size := []wire.Arg{{Name: "w", Kind: wire.ArgInt, Wants: true}, {Name: "h", Kind: wire.ArgInt, Wants: true}}
	return []*web.Route{
		{Method: get, Path: "/containers", Action: identity.ContainerList, Handle: containers.List(false),
			Args: containers.ListArgs(web.FilterArgName, web.FilterArgStatus, web.FilterArgHost,
				wire.Arg{Name: "image", Kind: wire.ArgText}, wire.Arg{Name: "memory", Kind: wire.ArgText},
				wire.Arg{Name: "project_id", Kind: wire.ArgText}, wire.Arg{Name: "user_id", Kind: wire.ArgText},
				wire.Arg{Name: "task_state", Kind: wire.ArgText}, wire.Arg{Name: "auto_remove", Kind: wire.ArgBool})},
		{Method: post, Path: "/containers", Action: identity.ContainerCreate, Handle: createContainer, Takes: struct{}{},
			Args: []wire.Arg{{Name: "run", Kind: wire.ArgBool}}},
		{Method: get, Path: "/containers/:id", Action: identity.ContainerGet, Handle: containers.Show, Args: web.Reads},
		{Method: patch, Path: "/containers/:id", Action: identity.ContainerUpdate, Handle: patchContainer, Takes: struct{}{}},
		{Method: del, Path: "/containers/:id", Action: identity.ContainerDelete, Handle: deleteContainer,
			Args: []wire.Arg{{Name: "force", Kind: wire.ArgBool}, {Name: "stop", Kind: wire.ArgBool}}},

		{Method: post, Path: "/containers/:id/start", Action: identity.ContainerStart, Handle: act(conductor.ActionStart)},
		{Method: post, Path: "/containers/:id/stop", Action: identity.ContainerStop, Handle: act(conductor.ActionStop),
			Args: []wire.Arg{timeout}},
		{Method: post, Path: "/containers/:id/reboot", Action: identity.ContainerReboot, Handle: act(conductor.ActionReboot),
			Args: []wire.Arg{timeout}},
		{Method: post, Path: "/containers/:id/pause", Action: identity.ContainerPause, Handle: act(conductor.ActionPause)},
		{Method: post, Path: "/containers/:id/unpause", Action: identity.ContainerUnpause, Handle: act(conductor.ActionUnpause)},
		{Method: post, Path: "/containers/:id/kill", Action: identity.ContainerKill, Handle: act(conductor.ActionKill),
			Args: []wire.Arg{{Name: "signal", Kind: wire.ArgText}}},
		{Method: post, Path: "/containers/:id/rename", Action: identity.ContainerRename, Handle: renameContainer,
			Args: []wire.Arg{{Name: "name", Kind: wire.ArgText, Wants: true}}},
		{Method: post, Path: "/containers/:id/rebuild", Action: identity.ContainerRebuild, Handle: rebuildContainer,
			Args: []wire.Arg{{Name: "image", Kind: wire.ArgText}, {Name: "image_driver", Kind: wire.ArgText}}},

		{Method: get, Path: "/containers/:id/logs", Action: identity.ContainerLogs, Handle: getLogs, Args: wire.LogsArgs[:5]},
		{Method: post, Path: "/containers/:id/execute", Action: identity.ContainerExecute, Handle: ts.execute,
			Args: []wire.Arg{wire.CommandArg, {Name: "run", Kind: wire.ArgBool}, {Name: "interactive", Kind: wire.ArgBool}}},
		{Method: post, Path: "/containers/:id/execute_resize", Action: identity.ContainerExecute, Handle: ts.resizeExec,
			Args: slices.Concat(size, []wire.Arg{{Name: "exec_id", Kind: wire.ArgText, Wants: true}})},
		{Method: get, Path: "/containers/:id/attach", Action: identity.ContainerAttach, Handle: ts.attach},
		{Method: post, Path: "/containers/:id/resize", Action: identity.ContainerAttach, Handle: ts.resizeAttached, Args: size},
		{Method: get, Path: "/containers/:id/stats", Action: identity.ContainerStats, Handle: getStats},
		{Method: get, Path: "/containers/:id/top", Action: identity.ContainerTop, Handle: getTop,
			Args: []wire.Arg{{Name: "ps_args", Kind: wire.ArgText}}},
		{Method: get, Path: "/containers/:id/container_actions", Action: identity.ContainerActions, Handle: listActions},
		{Method: get, Path: "/containers/:id/container_actions/:request", Action: identity.ContainerActions, Handle: showAction},
		{Method: get, Path: "/containers/:id/get_archive", Action: identity.ArchiveGet, Handle: getArchive, Args: wire.ArchiveArgs},
		{Method: post, Path: "/containers/:id/put_archive", Action: identity.ArchivePut, Handle: putArchive,
			Takes: struct{}{}, Streams: true, Args: wire.ArchiveArgs},

		{Method: get, Path: "/quotas/:id", Action: identity.QuotaGet, Handle: showQuota((*web.Request).Ident),
			Args: []wire.Arg{{Name: "usages", Kind: wire.ArgBool}}},
		{Method: put, Path: "/quotas/:id", Action: identity.QuotaUpdate, Handle: setQuota((*web.Request).Ident), Takes: struct{}{}},
		{Method: get, Path: "/quotas/:id/defaults", Action: identity.QuotaGet, Handle: showQuota(ofDefault)},
		{Method: get, Path: "/quota_classes/default", Action: identity.QuotaGet, Handle: showQuota(ofDefault)},
		{Method: put, Path: "/quota_classes/default", Action: identity.QuotaUpdate, Handle: setQuota(ofDefault), Takes: struct{}{}},
	}
}

// onlyDocker refuses every image driver but docker. CodeInvalid.
func onlyDocker(driver string) error {
	if driver != "" && driver != "docker" {
		return structs.Errorf(structs.CodeInvalid, "image_driver %.64q: images come from registries here, which is docker", driver)
	}
	return nil
}
