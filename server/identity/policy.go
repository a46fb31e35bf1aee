package identity

import "github.com/stackforge/magnum/structs"

// Action names what a caller needs permission for. Every route of the REST API names one;
// a few more depend on the content of a request.
type Action string

// The actions of routes.
const (
	Public      Action = "public" // anyone, without a token
	APIVersion  Action = "api:get"
	APIDocument Action = "api:openapi"

	BayCreate Action = "bay:create"
	BayList   Action = "bay:get_all"
	BayDetail Action = "bay:detail"
	BayGet    Action = "bay:get"
	BayUpdate Action = "bay:update"
	BayDelete Action = "bay:delete"
	// The two that clients of a bay's Kubernetes cluster need.
	BayConfig     Action = "bay:config"
	BayCredential Action = "bay:credential"

	BayModelCreate Action = "baymodel:create"
	BayModelList   Action = "baymodel:get_all"
	BayModelDetail Action = "baymodel:detail"
	BayModelGet    Action = "baymodel:get"
	BayModelUpdate Action = "baymodel:update"
	BayModelDelete Action = "baymodel:delete"

	NodeCreate Action = "node:create"
	NodeList   Action = "node:get_all"
	NodeDetail Action = "node:detail"
	NodeGet    Action = "node:get"
	NodeUpdate Action = "node:update"
	NodeDelete Action = "node:delete"

	HostList    Action = "host:get_all"
	HostDetail  Action = "host:detail"
	HostGet     Action = "host:get"
	HostUpdate  Action = "host:update"
	HostDrain   Action = "host:drain"
	HostFence   Action = "host:fence"
	HostRelease Action = "host:release"
	HostDelete  Action = "host:delete"
	HostAdopt   Action = "host:adopt"

	ContainerCreate  Action = "container:create"
	ContainerList    Action = "container:get_all"
	ContainerDetail  Action = "container:detail"
	ContainerGet     Action = "container:get"
	ContainerUpdate  Action = "container:update"
	ContainerDelete  Action = "container:delete"
	ContainerStart   Action = "container:start"
	ContainerStop    Action = "container:stop"
	ContainerReboot  Action = "container:reboot"
	ContainerPause   Action = "container:pause"
	ContainerUnpause Action = "container:unpause"
	ContainerLogs    Action = "container:logs"
	ContainerExecute Action = "container:execute"
	ContainerKill    Action = "container:kill"
	ContainerRename  Action = "container:rename"
	ContainerRebuild Action = "container:rebuild"
	ContainerAttach  Action = "container:attach"
	ContainerStats   Action = "container:stats"
	ContainerActions Action = "container:actions"
	ContainerTop     Action = "container:top"
	ArchiveGet       Action = "container:get_archive"
	ArchivePut       Action = "container:put_archive"

	PodCreate     Action = "pod:create"
	PodList       Action = "pod:get_all"
	PodDetail     Action = "pod:detail"
	PodGet        Action = "pod:get"
	PodUpdate     Action = "pod:update"
	PodDelete     Action = "pod:delete"
	PodActions    Action = "pod:actions"
	PodLogs       Action = "pod:logs"
	PodExecute    Action = "pod:execute"
	PodAttach     Action = "pod:attach"
	PodStats      Action = "pod:stats"
	PodTop        Action = "pod:top"
	PodForward    Action = "pod:forward" // connect to a port
	PodArchiveGet Action = "pod:get_archive"
	PodArchivePut Action = "pod:put_archive"

	RCCreate Action = "rc:create"
	RCList   Action = "rc:get_all"
	RCDetail Action = "rc:detail"
	RCGet    Action = "rc:get"
	RCUpdate Action = "rc:update"
	RCDelete Action = "rc:delete"

	ServiceCreate Action = "service:create"
	ServiceList   Action = "service:get_all"
	ServiceDetail Action = "service:detail"
	ServiceGet    Action = "service:get"
	ServiceUpdate Action = "service:update"
	ServiceDelete Action = "service:delete"

	ImageList  Action = "image:get_all"
	ImagePull  Action = "image:pull"
	ImageLoad  Action = "image:load"
	ImagePrune Action = "image:prune"

	VolumeList   Action = "volume:get_all"
	VolumeDelete Action = "volume:delete"

	EventList Action = "event:get_all"

	OperatorState   Action = "operator:state"
	OperatorMetrics Action = "operator:metrics"
	OperatorPprof   Action = "operator:pprof" // profiles of the server process
	OperatorMembers Action = "operator:members"
	OperatorPeers   Action = "operator:raft_peers"
	OperatorRemove  Action = "operator:raft_remove"
	OperatorLead    Action = "operator:raft_transfer"
	OperatorSave    Action = "operator:snapshot_save" // a snapshot holds all secrets of the state
	OperatorRestore Action = "operator:snapshot_restore"

	QuotaList   Action = "quota:get_all"
	QuotaGet    Action = "quota:get"
	QuotaUpdate Action = "quota:update"
	QuotaDelete Action = "quota:delete"

	TokenCreate Action = "token:create"
	TokenList   Action = "token:get_all"
	TokenDetail Action = "token:detail"
	TokenGet    Action = "token:get"
	TokenRevoke Action = "token:revoke"

	AgentRegister Action = "agent:register" // needs the join token, or the host's secret, in the body
	AgentCall     Action = "agent:call"     // needs the host's secret
	PeerCall      Action = "peer:call"      // needs the peer secret of the cluster
)

// The actions that depend on the content of a request.
const (
	BayShare    Action = "bay:share"         // make a bay that all projects use
	AllProjects Action = "list:all_projects" // list objects of other projects
	SeeHosts    Action = "node:hosts"        // list hosts among the nodes
	ImageHosts  Action = "image:hosts"       // use images on a host by its name, and load them into shared bays
)

// The rules that the default rules are made of. A file can change them, too, and has names
// of its own beside them.
const (
	anyone    = "rule:reader"
	members   = "rule:member"
	operators = "rule:admin"
)

// named has the default text of each named rule.
var named = map[string]string{
	"admin":  "role:admin",
	"member": "role:member or rule:admin",
	"reader": "role:reader or rule:member",
}

// defaults has the default rule of each action. An action without an entry is forbidden to
// everybody, and no file can allow it: such are the calls of agents and servers.
var defaults = map[Action]string{
	APIVersion:  anyone,
	APIDocument: anyone,

	BayCreate: members,
	BayList:   anyone,
	BayDetail: anyone,
	BayGet:    anyone,
	BayUpdate: members,
	BayDelete: members,
	BayShare:  operators,
	BayConfig: anyone,
	// What the token may do is more than reading.
	BayCredential: members,

	BayModelCreate: members,
	BayModelList:   anyone,
	BayModelDetail: anyone,
	BayModelGet:    anyone,
	BayModelUpdate: members,
	BayModelDelete: members,

	NodeCreate: members,
	NodeList:   anyone,
	NodeDetail: anyone,
	NodeGet:    anyone,
	NodeUpdate: members,
	NodeDelete: members,
	SeeHosts:   operators,

	HostList:    operators,
	HostDetail:  operators,
	HostGet:     operators,
	HostUpdate:  operators,
	HostDrain:   operators,
	HostFence:   operators,
	HostRelease: operators,
	HostDelete:  operators,
	HostAdopt:   operators,

	ContainerCreate:  members,
	ContainerList:    anyone,
	ContainerDetail:  anyone,
	ContainerGet:     anyone,
	ContainerUpdate:  members,
	ContainerDelete:  members,
	ContainerStart:   members,
	ContainerStop:    members,
	ContainerReboot:  members,
	ContainerPause:   members,
	ContainerUnpause: members,
	ContainerLogs:    anyone,
	ContainerExecute: members,
	ContainerKill:    members,
	ContainerRename:  members,
	ContainerRebuild: members,
	ContainerAttach:  members,
	ContainerStats:   anyone,
	ContainerActions: anyone,
	ContainerTop:     anyone,
	ArchiveGet:       members, // logs are meant for readers, files are not
	ArchivePut:       members,

	PodCreate:     members,
	PodList:       anyone,
	PodDetail:     anyone,
	PodGet:        anyone,
	PodUpdate:     members,
	PodDelete:     members,
	PodActions:    anyone,
	PodLogs:       anyone,
	PodExecute:    members,
	PodAttach:     members,
	PodStats:      anyone,
	PodTop:        anyone,
	PodForward:    members,
	PodArchiveGet: members,
	PodArchivePut: members,

	RCCreate: members,
	RCList:   anyone,
	RCDetail: anyone,
	RCGet:    anyone,
	RCUpdate: members,
	RCDelete: members,

	ServiceCreate: members,
	ServiceList:   anyone,
	ServiceDetail: anyone,
	ServiceGet:    anyone,
	ServiceUpdate: members,
	ServiceDelete: members,

	ImageList:  anyone,
	ImagePull:  members,
	ImageLoad:  members,
	ImagePrune: operators,
	ImageHosts: operators,

	VolumeList:   anyone,
	VolumeDelete: members,

	EventList: anyone,

	QuotaList:   anyone,
	QuotaGet:    anyone,
	QuotaUpdate: operators,
	QuotaDelete: operators,

	TokenCreate: operators,
	TokenList:   operators,
	TokenDetail: operators,
	TokenGet:    operators,
	TokenRevoke: operators,

	OperatorState:   operators,
	OperatorMetrics: operators,
	OperatorPprof:   operators,
	OperatorMembers: operators,
	OperatorPeers:   operators,
	OperatorRemove:  operators,
	OperatorLead:    operators,
	OperatorSave:    operators,
	OperatorRestore: operators,
	AllProjects:     operators,
}

// May reports whether the caller is allowed to do the action.
func May(caller structs.Caller, action Action) bool {
	return rulesOf(&caller).Allows(&caller, string(action))
}

// Check returns CodeForbidden unless the caller is allowed to do the action.
func Check(caller structs.Caller, action Action) error {
	if May(caller, action) {
		return nil
	}
	rule := rulesOf(&caller).Rule(string(action))
	if rule == "" {
		rule = "!"
	}
	return structs.Errorf(structs.CodeForbidden, "Policy doesn't allow %s to be performed: its rule is %q", action, rule)
}

// rulesOf returns the rules at the time of the caller's request.
func rulesOf(caller *structs.Caller) structs.Rules {
	if caller.Rules != nil {
		return caller.Rules
	}
	return DefaultRules()
}
