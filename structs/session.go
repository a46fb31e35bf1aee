package structs

// KindPath names paths in a container.
const KindPath = "path"

// SessionKind is the kind of a session that an agent is asked to open.
type SessionKind string

// The session kinds, and what their channels carry. A session that answers with a
// JSON document sends it on ChannelStdout, in one or more messages. Every session
// that isn't an execute or attach ends with Control.Done.
const (
	SessionLogs       SessionKind = "logs"        // log lines
	SessionExec       SessionKind = "execute"     // input, output and terminal sizes; ends with Control.ExitCode
	SessionAttach     SessionKind = "attach"      // the same for the container's own process; ends with its ExitCode
	SessionStats      SessionKind = "stats"       // one StatsBody in each message
	SessionTop        SessionKind = "top"         // a TopBody
	SessionArchiveGet SessionKind = "archive_get" // a tar stream
	SessionArchivePut SessionKind = "archive_put" // a tar stream on ChannelStdin, then Control.EOF
	// SessionForward is a TCP connection to a port of a pod. ChannelStdin and ChannelStdout
	// carry its bytes. Control.EOF says, in either direction, that no more will follow. The
	// session is about the part PodInfra.
	SessionForward SessionKind = "forward"
)

// The session kinds that concern a host and name no container.
const (
	SessionImageList    SessionKind = "image_list"    // a []Image
	SessionImagePull    SessionKind = "image_pull"    // a sentence about the progress in each message
	SessionImageLoad    SessionKind = "image_load"    // a tar stream on ChannelStdin, then Control.EOF; answers with an ImageChange
	SessionImagePrune   SessionKind = "image_prune"   // an ImageChange
	SessionVolumeList   SessionKind = "volume_list"   // a []Volume
	SessionVolumeDelete SessionKind = "volume_delete" // no data
	SessionCredential   SessionKind = "credential"    // a BayCredentialBody, for a project's namespace in a Kubernetes cluster
)

// SessionOffer asks an agent to dial back: a WebSocket on
// GET /v1/agent/hosts/ID/sessions/SID, whose binary messages begin with a
// Channel byte. A SID is used once and only by its host.
type SessionOffer struct {
	SID      string      `json:"sid"`
	Server   string      `json:"server,omitempty"`    // URL of the server that the user is connected to; "" means the answering server
	ServerID string      `json:"server_id,omitempty"` // of that server; the answering server relays if Server can't be dialled
	Kind     SessionKind `json:"kind"`
	// Workload, ID and Part name a workload of another kind than container, as Ref
	// does. For a container they are "", and ContainerID names it.
	Workload    WorkloadKind `json:"workload,omitempty"`
	ID          string       `json:"id,omitempty"`
	Part        string       `json:"part,omitempty"`
	ContainerID string       `json:"container_id"` // "" in a session about the host
	//api:doc Number of the placement. Each new placement raises it.
	Epoch     uint64       `json:"epoch"`
	Logs      *LogsRequest `json:"logs,omitempty"`
	Exec      *ExecRequest `json:"exec,omitempty"`      // attach: TTY is the container's own, Command is empty
	Unstarted bool         `json:"unstarted,omitempty"` // attach: accept a container that was never started, and wait for its first run
	Stream    bool         `json:"stream,omitempty"`    // stats: one document a second until a side closes, instead of a single one
	Args      string       `json:"args,omitempty"`      // top: arguments of ps; "" means -ef
	Path      string       `json:"path,omitempty"`      // archives: path in the container
	//api:doc Port of the pod.
	Port int `json:"port,omitempty"` // forward: 1..65535
	//api:doc Name of the image to pull.
	Image string `json:"image,omitempty"` // image_pull
	//api:doc Credentials for pulling the image. They are never shown.
	Registry *Registry `json:"registry,omitempty"`
	//api:doc Project of the volumes, empty in a list of all projects' volumes; or project of the credential.
	ProjectID string `json:"project_id,omitempty"` // volumes, credential
	Volume    string `json:"volume,omitempty"`     // volume_delete: name of the volume in the project
	//api:doc Who opens the session, so that nobody holds all sessions of the host.
	Holder SessionHolder `json:"holder,omitzero"` // written by the server that offers the session
}

// SessionHolder is who holds a session. The zero value stands for nobody in particular: there
// is no authentication, or the server is of a version without shares.
type SessionHolder struct {
	Project string `json:"project,omitempty"` // ID
	User    string `json:"user,omitempty"`    // ID; users of different projects are different holders
}

// MaxSessions is how many sessions a host has by default.
const MaxSessions = 128

// Ref returns the reference of the workload or part; the zero Ref in a session about
// the host.
func (o *SessionOffer) Ref() Ref {
	if o.ContainerID != "" {
		return ContainerRef(o.ContainerID, o.Epoch)
	}
	return Ref{Kind: o.Workload, ID: o.ID, Epoch: o.Epoch, Part: o.Part}
}

// About makes the session one about the workload or part.
func (o *SessionOffer) About(r Ref) {
	o.Epoch = r.Epoch
	if r.Kind == WorkloadContainer {
		o.ContainerID = r.ID
		return
	}
	o.Workload, o.ID, o.Part = r.Kind, r.ID, r.Part
}

// LogsRequest selects log lines.
type LogsRequest struct {
	Stdout     bool   `json:"stdout"`
	Stderr     bool   `json:"stderr"`
	Timestamps bool   `json:"timestamps"`
	Follow     bool   `json:"follow"`
	Tail       int    `json:"tail"`  // lines from the end; -1 means all
	Since      string `json:"since"` // RFC 3339, or a duration before now; "" means from the start
	// Previous: of the container before the last restart. Only containers of pods have one.
	Previous bool `json:"previous,omitempty"`
}

// ExecRequest is a command to run inside a container.
type ExecRequest struct {
	Command []string `json:"command"`
	Env     []string `json:"env,omitempty"` // KEY=VALUE
	User    string   `json:"user,omitempty"`
	Workdir string   `json:"workdir,omitempty"`
	TTY     bool     `json:"tty,omitempty"`
	Stdin   bool     `json:"stdin,omitempty"`
	Width   uint     `json:"width,omitempty"`  // columns of the terminal; 0 means unknown
	Height  uint     `json:"height,omitempty"` // lines of the terminal; 0 means unknown
}

// The channels. The first byte of each binary WebSocket message of a session names
// its channel, both between client and server and between server and agent.
const (
	ChannelStdin   byte = 0
	ChannelStdout  byte = 1
	ChannelStderr  byte = 2
	ChannelControl byte = 3 // JSON: Control
)

// Control is a message on ChannelControl. One field is set.
type Control struct {
	Resize   *Resize `json:"resize,omitempty"`    // client to agent: the terminal's new size
	EOF      bool    `json:"eof,omitempty"`       // client to agent: standard input has ended; forward: in both directions
	Accepted bool    `json:"accepted,omitempty"`  // agent to server, logs with follow and streams: the host has room
	Attached bool    `json:"attached,omitempty"`  // agent to client, attach: from now on all output of the process is sent
	ExitCode *int    `json:"exit_code,omitempty"` // last message of an execute session that ran
	Error    string  `json:"error,omitempty"`     // last message of a session that failed
	Code     Code    `json:"code,omitempty"`      // of Error
	Kind     string  `json:"kind,omitempty"`      // what Error is about: KindPath; "" means the container
	Done     bool    `json:"done,omitempty"`      // last message of other sessions
}

// Resize is a terminal's size.
type Resize struct {
	Width  uint `json:"w"`
	Height uint `json:"h"`
}

// OutputBody answers logs and execute. Output is text: what isn't UTF-8 of it
// arrives as U+FFFD, unless it is encoded.
//
//api:doc What a container or a command put out.
type OutputBody struct {
	Output string `json:"output"`
	//api:doc Exit code of an execute.
	ExitCode  *int    `json:"exit_code,omitempty"`
	Stdout    *string `json:"stdout,omitempty"`    // with ?split=true
	Stderr    *string `json:"stderr,omitempty"`    // with ?split=true
	Encoding  string  `json:"encoding,omitempty"`  // of the three outputs: EncodingBase64; "" means text
	Truncated bool    `json:"truncated,omitempty"` // execute: the end of the output is missing, because an answer can't hold it
}

// EncodingBase64 is the encoding of outputs that are returned byte by byte.
const EncodingBase64 = "base64"

// StatsBody is what a container uses of its host at one moment.
//
//api:doc What a container uses of its host at one moment.
type StatsBody struct {
	ReadAt Time `json:"read_at"`
	//api:doc Percent of one core: 200 is two full cores.
	CPUPercent float64 `json:"cpu_percent"`
	//api:doc Bytes in use, without reclaimable page cache.
	MemoryUsed int64 `json:"memory_used"`
	//api:doc Bytes; the host's memory if there is no limit.
	MemoryLimit int64 `json:"memory_limit"`
	//api:doc Bytes received since the start.
	NetworkIn int64 `json:"network_in"`
	//api:doc Bytes sent since the start.
	NetworkOut int64 `json:"network_out"`
	//api:doc Bytes read from disks since the start.
	BlockIn int64 `json:"block_in"`
	//api:doc Bytes written to disks since the start.
	BlockOut int64 `json:"block_out"`
	//api:doc Processes and threads.
	PIDs int `json:"pids"`
}

// TopBody is the processes of a container, as ps shows them on its host.
//
//api:doc The processes of a container, as ps shows them on its host.
type TopBody struct {
	Titles    []string   `json:"titles"`
	Processes [][]string `json:"processes"` // one row of values for each process, in the order of Titles
}
