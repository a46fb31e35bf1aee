package rest

import (
	"net/http"
	"slices"
	"strings"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// listOf stands for the answer of a list in the document.
type listOf struct {
	noun string
	item any
}

// The filters of lists.
var (
	filterArgName   = arg{name: "name", kind: argText, doc: "Only objects of this name."}
	filterArgStatus = arg{name: "status", kind: argText, doc: "Only objects of this status."}
	filterArgLabel  = arg{name: "label", kind: argText, many: true, doc: "Only objects with this label: key=value, or key."}
	filterArgBay    = arg{name: "bay", kind: argText, doc: "Only objects of this bay: uuid or name."}
	filterArgHost   = arg{name: "host", kind: argText, doc: "Only objects on this host: uuid or name."}
)

// newRoutes returns the route table: every route with the action that policy
// allows or not, and what the OpenAPI document says of it.
func newRoutes() []*route {
	get, post, put, patch, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	ok := func(body any) []answer { return []answer{{status: http.StatusOK, body: body}} }
	created := func(body any) []answer {
		return []answer{{status: http.StatusCreated, body: body}, {status: http.StatusAccepted, body: body}}
	}
	deleted := func(body any) []answer {
		return []answer{{status: http.StatusNoContent}, {status: http.StatusAccepted, body: body}}
	}
	force := arg{name: "force", kind: argBool, doc: "Kill it if it runs; forget it if its host is lost."}
	stop := arg{name: "stop", kind: argBool, doc: "Stop it first if it runs."}
	timeout := arg{name: "timeout", kind: argInt, doc: "Seconds between SIGTERM and SIGKILL."}
	allProjects := arg{name: "all_projects", kind: argBool, doc: "For operators."}

	routes := []*route{
		{method: get, path: "/", action: identity.Public, handle: getVersions, summary: "Versions of the API", gives: ok(versionsBody{})},
		{method: get, path: "/v1", action: identity.APIVersion, handle: getV1, summary: "Resources of version 1", gives: ok(v1Body{})},
		{method: get, path: "/openapi.json", action: identity.APIDocument, handle: getDocument, summary: "This document", gives: ok(map[string]any{})},

		{method: post, path: "/bays", action: identity.BayCreate, handle: createBay, args: []arg{waits}, summary: "Create a bay", takes: structs.BayRequest{}, gives: created(structs.BayBody{})},
		{method: patch, path: "/bays/:id", action: identity.BayUpdate, handle: patchBay, args: []arg{waits}, summary: "Change the number of a bay's hosts", takes: []structs.PatchOp{},
			gives: append(ok(structs.BayBody{}), answer{status: http.StatusAccepted, body: structs.BayBody{}})},
		{method: del, path: "/bays/:id", action: identity.BayDelete, handle: deleteBay, args: []arg{waits}, summary: "Delete a bay and what is in it", gives: deleted(structs.BayBody{})},

		{method: post, path: "/baymodels", action: identity.BayModelCreate, handle: createBayModel, summary: "Create a baymodel", takes: structs.BayModelRequest{}, gives: ok(structs.BayModelBody{})},
		{method: patch, path: "/baymodels/:id", action: identity.BayModelUpdate, handle: patchBayModel, summary: "Change a baymodel", takes: []structs.PatchOp{}, gives: ok(structs.BayModelBody{})},
		{method: del, path: "/baymodels/:id", action: identity.BayModelDelete, handle: deleteBayModel, summary: "Delete a baymodel that no bay refers to", gives: []answer{{status: http.StatusNoContent}}},

		{method: post, path: "/nodes", action: identity.NodeCreate, handle: createNode, summary: "Store a node, as in 2015", takes: structs.NodeRequest{}, gives: ok(structs.NodeBody{})},
		{method: patch, path: "/nodes/:id", action: identity.NodeUpdate, handle: patchNode, summary: "Change a stored node", takes: []structs.PatchOp{}, gives: ok(structs.NodeBody{})},
		{method: del, path: "/nodes/:id", action: identity.NodeDelete, handle: deleteNode, summary: "Delete a stored node", gives: []answer{{status: http.StatusNoContent}}},

		{method: patch, path: "/hosts/:id", action: identity.HostUpdate, handle: patchHost, summary: "Change the labels that operators give a host", takes: []structs.PatchOp{}, gives: ok(structs.HostBody{})},
		{method: put, path: "/hosts/:id/drain", action: identity.HostDrain, handle: drainHost(true), args: []arg{
			{name: argDeadline, kind: argDuration, doc: "Then stop what can't move; default: never."},
			{name: "force", kind: argBool, doc: "Stop it at once."},
		}, summary: "Move what runs off a host, and place nothing new on it", gives: ok(structs.HostBody{})},
		{method: put, path: "/hosts/:id/undrain", action: identity.HostDrain, handle: drainHost(false), summary: "End a drain", gives: ok(structs.HostBody{})},
		{method: put, path: "/hosts/:id/fence", action: identity.HostFence, handle: fenceHost, args: []arg{{name: "force", kind: argBool, doc: "Also if it is only suspect: it is lost then."}},
			summary: "Say that a lost host is off, so that its exclusive containers may be placed anew", gives: ok(structs.HostBody{})},
		{method: put, path: "/hosts/:id/adopt", action: identity.HostAdopt, handle: adoptHost, args: []arg{
			{name: "container", kind: argText, wants: true, doc: "Its uuid, or the name that it had."},
			{name: "remove", kind: argBool, doc: "Remove it from the host; default: keep it as the cluster's container of that uuid, which has to be there."},
		}, summary: "Decide what becomes of a container that a host keeps in quarantine", gives: ok(structs.HostBody{})},
		{method: put, path: "/hosts/:id/release", action: identity.HostRelease, handle: releaseHost, summary: "End the mass-loss brake for a host: it is lost", gives: ok(structs.HostBody{})},

		{method: post, path: "/containers", action: identity.ContainerCreate, handle: createContainer, args: []arg{waits, {name: "run", kind: argBool, doc: "Start it too."}},
			summary: "Create a container", takes: structs.ContainerRequest{}, gives: created(structs.ContainerBody{})},
		{method: patch, path: "/containers/:id", action: identity.ContainerUpdate, handle: patchContainer, args: []arg{waits}, summary: "Change a container's name, image, command, memory or cpu", takes: []structs.PatchOp{},
			gives: append(ok(structs.ContainerBody{}), answer{status: http.StatusAccepted, body: structs.ContainerBody{}})},
		{method: put, path: "/containers/:id/rename", action: identity.ContainerRename, handle: renameContainer, args: []arg{{name: "name", kind: argText, wants: true, doc: "The new name."}},
			summary: "Rename a container", gives: ok(structs.ContainerBody{})},
		{method: put, path: "/containers/:id/rebuild", action: identity.ContainerRebuild, handle: rebuildContainer, args: []arg{waits, {name: "image", kind: argText, doc: "Another image; default the one that it has."}},
			summary: "Make a container anew", gives: []answer{{status: http.StatusOK}, {status: http.StatusAccepted, body: structs.ContainerBody{}}}},
		{method: del, path: "/containers/:id", action: identity.ContainerDelete, handle: deleteContainer, args: []arg{waits, force, stop, allProjects}, summary: "Delete a container", gives: deleted(structs.ContainerBody{})},
		{method: get, path: "/containers/:id/logs", action: identity.ContainerLogs, handle: containerLogs, args: slices.Concat(logsArgs, reads[2:4]), summary: "Output of a container",
			gives: append(ok(structs.OutputBody{}), answer{status: http.StatusOK, media: "text/plain"})},
		{method: put, path: "/containers/:id/execute", action: identity.ContainerExecute, handle: containerExecute,
			args: slices.Concat(execArgs, outputArgs), summary: "Execute a command in a container", gives: ok(structs.OutputBody{})},
		{method: get, path: "/containers/:id/execute/ws", action: identity.ContainerExecute, handle: containerExecuteWS, args: slices.Concat(execArgs, terminalArgs),
			summary: "Execute a command with streams in both directions (WebSocket)", gives: []answer{{status: http.StatusSwitchingProtocols}}},
		{method: get, path: "/containers/:id/attach/ws", action: identity.ContainerAttach, handle: containerAttachWS, args: attachArgs,
			summary: "Attach to a container's own process (WebSocket)", gives: []answer{{status: http.StatusSwitchingProtocols}}},
		{method: get, path: "/containers/:id/stats", action: identity.ContainerStats, handle: containerStats, args: slices.Concat([]arg{{name: "stream", kind: argBool, doc: "One document a second, each on a line, until somebody leaves."}}, reads[2:4]),
			summary: "What a container uses of its host", gives: append(ok(structs.StatsBody{}), answer{status: http.StatusOK, media: mediaLines})},
		{method: get, path: "/containers/:id/top", action: identity.ContainerTop, handle: containerTop, args: slices.Concat([]arg{{name: "ps_args", kind: argText, doc: "Of ps: -ef (the default), -e, aux, or -o with columns: " + strings.Join(structs.PSColumns, ", ") + "."}}, reads[2:4]),
			summary: "The processes of a container", gives: ok(structs.TopBody{})},
		{method: get, path: "/containers/:id/actions", action: identity.ContainerActions, handle: containerActions, args: reads[2:4],
			summary: "What was done to a container, by whom and how it ended", gives: ok(structs.ActionsBody{})},
		{method: get, path: "/containers/:id/archive", action: identity.ArchiveGet, handle: getArchive, args: slices.Concat(archiveArgs, reads[2:4]),
			summary: "Copy a file or directory out of a container", gives: []answer{{status: http.StatusOK, media: mediaTar}}},
		{method: put, path: "/containers/:id/archive", action: identity.ArchivePut, handle: putArchive, args: archiveArgs,
			summary: "Copy a tar archive into a directory of a container", takesMedia: mediaTar, streams: true, gives: ok(nil)},
		// Its clients can't send a token: the secret in the path is one.
		{method: get, path: "/terminals/:sid", action: identity.Public, handle: openTerminal, summary: "Raw streams of a command or process for clients of Zun (WebSocket)",
			gives: []answer{{status: http.StatusSwitchingProtocols}}},

		{method: get, path: "/images", action: identity.ImageList, handle: listImages, args: imageListArgs, summary: "List the images on hosts", gives: ok(structs.ImagesBody{})},
		{method: post, path: "/images", action: identity.ImagePull, handle: pullImage, summary: "Pull an image to hosts; JSON lines of its progress for who accepts them", takes: structs.ImagePullRequest{},
			gives: []answer{{status: http.StatusOK, body: structs.HostResultsBody{}}, {status: http.StatusOK, body: structs.HostResult{}, media: mediaLines}}},
		{method: put, path: "/images/load", action: identity.ImageLoad, handle: loadImages, args: imageTargetArgs, summary: "Load a tar archive of images on hosts", takesMedia: mediaTar, streams: true, gives: ok(structs.HostResultsBody{})},
		{method: put, path: "/images/prune", action: identity.ImagePrune, handle: pruneImages, args: imagePruneArgs, summary: "Remove the images that no container uses", gives: ok(structs.HostResultsBody{})},

		{method: get, path: "/volumes", action: identity.VolumeList, handle: listVolumes, args: volumeListArgs, summary: "List the volumes on hosts", gives: ok(structs.VolumesBody{})},
		{method: del, path: "/volumes/:id", action: identity.VolumeDelete, handle: deleteVolume, args: volumeDeleteArgs, summary: "Delete a volume and what is in it", gives: []answer{{status: http.StatusNoContent}}},

		{method: get, path: "/events", action: identity.EventList, handle: streamEvents, args: eventArgs, summary: "What happens, as it happens: JSON lines, or server-sent events for who accepts them",
			gives: []answer{{status: http.StatusOK, body: structs.EventBody{}, media: mediaLines}, {status: http.StatusOK, body: structs.EventBody{}, media: mediaEvents}}},
		{method: get, path: "/operator/state", action: identity.OperatorState, handle: getOperatorState, args: reads[2:4], summary: "Index, hash and schema of the replicated state", gives: ok(operatorState{})},
		{method: get, path: "/operator/members", action: identity.OperatorMembers, handle: listMembers, args: []arg{{name: "role", kind: argText, doc: "server or agent; default both."}},
			summary: "Servers, and hosts registered or not, as this server's gossip has them", gives: ok(structs.MembersBody{})},
		{method: get, path: "/operator/raft/peers", action: identity.OperatorPeers, handle: listPeers, args: reads[2:4], summary: "The servers of the log's configuration, and how far each is", gives: ok(structs.RaftPeersBody{})},
		{method: del, path: "/operator/raft/peers/:id", action: identity.OperatorRemove, handle: removePeer, args: []arg{{name: "force", kind: argBool, doc: "Also if no majority that answers is left."}},
			summary: "Take a server out of the cluster for good", gives: []answer{{status: http.StatusNoContent}}},
		{method: put, path: "/operator/raft/transfer-leader", action: identity.OperatorLead, handle: transferLeader, args: []arg{{name: "to", kind: argText, doc: "Server that shall lead: uuid or name; default the one that is most up to date."}},
			summary: "Hand leadership to another server", gives: ok(leaderBody{})},
		{method: get, path: "/operator/snapshot", action: identity.OperatorSave, handle: saveSnapshot, args: reads[2:4], summary: "The replicated state as a snapshot file, secrets included",
			gives: []answer{{status: http.StatusOK, media: mediaSnapshot}}},
		{method: put, path: "/operator/snapshot", action: identity.OperatorRestore, handle: restoreSnapshot, args: []arg{{name: "keep_cluster_id", kind: argBool, doc: "Keep this cluster's own id instead of the snapshot's."}},
			summary: "Replace the replicated state by that of a snapshot file", takesMedia: mediaSnapshot, streams: true, gives: ok(structs.RestoredBody{})},
		{method: get, path: "/metrics", action: identity.OperatorMetrics, handle: getMetrics, summary: "Metrics for Prometheus; the token may be a bearer token",
			gives: []answer{{status: http.StatusOK, media: mediaProm}, {status: http.StatusOK, media: mediaOpenMetrics}}},

		{method: get, path: "/status/leader", action: identity.Public, handle: getLeader, summary: "Who leads; 503 while nobody does", gives: ok(leaderBody{})},
		{method: get, path: "/status/health", action: identity.Public, handle: getHealth, summary: "Whether all is well with this server; 503 with the reasons if not",
			gives: append(ok(statusBody{}), answer{status: http.StatusServiceUnavailable, body: unwellBody{}})},
		{method: get, path: "/status/ready", action: identity.Public, handle: getReady, summary: "Whether this server can serve requests; 503 with the reasons if not",
			gives: append(ok(statusBody{}), answer{status: http.StatusServiceUnavailable, body: unwellBody{}})},

		// Nobody can have a token before this has given out the first one.
		{method: post, path: "/operator/bootstrap", action: identity.Public, handle: bootstrap, summary: "Give out the first admin token, once", gives: ok(structs.TokenSecretBody{})},
		{method: post, path: "/tokens", action: identity.TokenCreate, handle: createToken, summary: "Make a token; its secret is shown in this answer only", takes: structs.TokenRequest{}, gives: ok(structs.TokenSecretBody{})},
		{method: del, path: "/tokens/:id", action: identity.TokenRevoke, handle: revokeToken, summary: "Revoke a token", gives: []answer{{status: http.StatusNoContent}}},

		{method: post, path: "/agent/hosts", action: identity.AgentRegister, handle: registerHost, summary: "Register a host (agents)", takes: structs.HostRegister{}, most: structs.MaxRegistration, gives: ok(structs.HostRegistered{})},
		{method: get, path: "/agent/hosts/:id/work", action: identity.AgentCall, handle: hostWork, summary: "Poll for work (agents)",
			args: []arg{
				{name: "index", kind: argIndex, doc: "Of the last answer; 0 asks for everything."},
				{name: "incarnation", kind: argIndex, doc: "Of the last answer."},
				{name: "registration", kind: argIndex, doc: "Instead of the header X-Magnum-Registration."},
				{name: "wait", kind: argDuration, doc: "How long to wait for a change."},
				{name: "lineage", kind: argText, doc: "Of the last answer, if it had one."},
				{name: "seen", kind: argIndex, doc: "Index of the last answer, also if index asks for everything."},
				{name: "sent", kind: argIndex, doc: "A number that grows with each poll of the host, if it asks for leases."},
			}, gives: ok(structs.Work{})},
		{method: post, path: "/agent/hosts/:id/status", action: identity.AgentCall, handle: hostStatus, summary: "Report what runs (agents)", takes: structs.StatusReport{}, gives: ok(structs.StatusReported{})},
		{method: post, path: "/agent/hosts/:id/quarantine", action: identity.AgentCall, handle: hostQuarantine, summary: "Report what is in quarantine (agents)", takes: structs.QuarantineReport{}, gives: ok(structs.QuarantineReported{})},
		{method: get, path: "/agent/hosts/:id/sessions/:sid", action: identity.AgentCall, handle: hostSession, args: []arg{{name: "via", kind: argText, doc: "ID of the server that has the user, if it can't be dialled itself."}}, summary: "Dial back for a session (agents, WebSocket)", gives: []answer{{status: http.StatusSwitchingProtocols}}},
	}
	for _, rt := range routes {
		if rt.method == post && len(rt.gives) == 1 && rt.action != identity.AgentRegister && rt.action != identity.AgentCall {
			rt.gives[0].status = http.StatusCreated
		}
	}
	for _, a := range []struct {
		action conductor.Action
		policy identity.Action
	}{
		{conductor.ActionStart, identity.ContainerStart}, {conductor.ActionStop, identity.ContainerStop},
		{conductor.ActionReboot, identity.ContainerReboot}, {conductor.ActionPause, identity.ContainerPause},
		{conductor.ActionUnpause, identity.ContainerUnpause}, {conductor.ActionKill, identity.ContainerKill},
	} {
		args := []arg{waits}
		if a.action == conductor.ActionStop || a.action == conductor.ActionReboot {
			args = append(args, timeout)
		}
		if a.action == conductor.ActionKill {
			args = append(args, arg{name: "signal", kind: argText, doc: "A name such as SIGHUP or HUP, or a number; default SIGKILL."})
		}
		routes = append(routes, &route{
			method: put, path: "/containers/:id/" + string(a.action), action: a.policy, handle: act(a.action), args: args,
			summary: structs.Title(string(a.action)) + " a container",
			gives:   []answer{{status: http.StatusOK}, {status: http.StatusAccepted, body: structs.ContainerBody{}}},
		})
	}
	return slices.Concat(routes,
		reading(bays, bayBrief{}, structs.BayBody{}, identity.BayList, identity.BayDetail, identity.BayGet, filterArgName, filterArgStatus, filterArgLabel),
		reading(bayModels, bayModelBrief{}, structs.BayModelBody{}, identity.BayModelList, identity.BayModelDetail, identity.BayModelGet, filterArgName),
		reading(nodes, nodeBrief{}, structs.NodeBody{}, identity.NodeList, identity.NodeDetail, identity.NodeGet, filterArgName),
		reading(hosts, hostBrief{}, structs.HostBody{}, identity.HostList, identity.HostDetail, identity.HostGet, filterArgName, filterArgStatus, filterArgLabel, filterArgBay),
		reading(containers, containerBrief{}, structs.ContainerBody{}, identity.ContainerList, identity.ContainerDetail, identity.ContainerGet,
			filterArgName, filterArgStatus, filterArgLabel, filterArgBay, filterArgHost),
		reading(tokens, structs.TokenBody{}, structs.TokenBody{}, identity.TokenList, identity.TokenDetail, identity.TokenGet, filterArgName),
	)
}

// reading returns the three routes on which a resource is read.
func reading(res *resource, brief, full any, list, detail, show identity.Action, filters ...arg) []*route {
	args := res.listArgs(filters...)
	return []*route{
		{method: http.MethodGet, path: "/" + res.noun, action: list, handle: res.list(false), args: args,
			summary: "List " + res.noun, gives: []answer{{status: http.StatusOK, body: listOf{res.noun, brief}}}},
		{method: http.MethodGet, path: "/" + res.noun + "/detail", action: detail, handle: res.list(true), args: args,
			summary: "List " + res.noun + " with all fields", gives: []answer{{status: http.StatusOK, body: listOf{res.noun, full}}}},
		{method: http.MethodGet, path: "/" + res.noun + "/:id", action: show, handle: res.show, args: reads,
			summary: "Show a " + res.kind, gives: []answer{{status: http.StatusOK, body: full}}},
	}
}
