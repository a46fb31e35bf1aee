package structs

import "time"

// Assignment is one container as its host has to have it. The server derives
// it from the Container row; the agent reconciles to it.
type Assignment struct {
	ContainerID      string         `json:"container_id"`
	ProjectID        string         `json:"project_id"`
	Name             string         `json:"name"`
	Epoch            uint64         `json:"epoch"`
	Generation       uint64         `json:"generation"`
	RebootGeneration uint64         `json:"reboot_generation,omitempty"`
	KillGeneration   uint64         `json:"kill_generation,omitempty"`
	Signal           string         `json:"signal,omitempty"` // of that kill
	Desired          Desired        `json:"desired"`
	Force            bool           `json:"force,omitempty"`
	StopTimeout      int            `json:"stop_timeout"` // seconds
	Observed         uint64         `json:"observed"`     // generation that the servers know to be carried out
	Spec             *ContainerSpec `json:"spec"`
}

// AssignmentOf returns what the container's host has to know of it.
func AssignmentOf(c *Container) Assignment {
	stop := c.Spec.StopSeconds()
	if c.StopTimeout != nil {
		stop = *c.StopTimeout
	}
	return Assignment{
		ContainerID: c.ID, ProjectID: c.ProjectID, Name: c.Name,
		Epoch: c.Epoch, Generation: c.Generation, RebootGeneration: c.RebootGeneration,
		KillGeneration: c.KillGeneration, Signal: c.Signal,
		Desired: c.Desired, Force: c.Force, StopTimeout: stop, Observed: c.Observed.Generation, Spec: &c.Spec,
	}
}

// HostRegister is the body of POST /v1/agent/hosts.
type HostRegister struct {
	HostID      string      `json:"host_id"` // UUID, kept in the agent's data dir
	Name        string      `json:"name"`    // the host's name
	JoinToken   string      `json:"join_token"`
	Secret      string      `json:"secret"` // minted by the agent and kept in its data dir, at least 32 characters; sent as "Authorization: Bearer" with every later call
	Fingerprint Fingerprint `json:"fingerprint"`
}

// HostRegistered answers HostRegister.
type HostRegistered struct {
	ClusterID     string        `json:"cluster_id"`
	Incarnation   uint64        `json:"incarnation"`
	Registration  uint64        `json:"registration"` // number of this registration; reports carry it
	HostLostAfter time.Duration `json:"host_lost_after"`
	Servers       []string      `json:"servers"` // REST addresses
}

// Work answers an agent's poll: GET /v1/agent/hosts/ID/work?index=N&wait=D.
type Work struct {
	ClusterID   string         `json:"cluster_id"`
	Incarnation uint64         `json:"incarnation"`
	Index       uint64         `json:"index"`     // the state that this answer is from; the next poll's N
	Full        bool           `json:"full"`      // all assignments of the host, not only those that changed since N
	Confirmed   bool           `json:"confirmed"` // the server made sure with a leader's read index that it is not behind; only then may unknown containers be removed
	Assignments []Assignment   `json:"assignments"`
	Sessions    []SessionOffer `json:"sessions,omitempty"`
	Servers     []string       `json:"servers,omitempty"`
}

// StatusReport is the body of POST /v1/agent/hosts/ID/status.
type StatusReport struct {
	Registration uint64            `json:"registration"`
	Seq          uint64            `json:"seq"` // raised by one with each new report of the registration; a repeat is dropped
	Containers   []ContainerReport `json:"containers"`
}

// ContainerReport is what the agent sees of one container. It is dropped if
// its epoch isn't the container's own.
type ContainerReport struct {
	ContainerID string `json:"container_id"`
	Epoch       uint64 `json:"epoch"`
	Observed
}

// StatusReported answers StatusReport.
type StatusReported struct {
	Index uint64 `json:"index"`
	Seq   uint64 `json:"seq"` // the last one taken
}
