// Package dispatch is the servers' side of the agents: it answers their long
// polls from this server's own state, takes their status reports in, knows
// which hosts are alive, and joins users to the sessions (logs, execute) that
// agents dial back for.
//
// server/rest calls it from its agent routes and for its users' sessions. It
// never writes state itself: what has to be written goes through the
// conductor.
package dispatch

import (
	"context"
	"crypto/subtle"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Config is what a Dispatch needs.
type Config struct {
	Store     *state.Store
	Conductor *conductor.Conductor
	Logger    hclog.Logger
	// ReadIndex returns an index that holds all that was committed before the
	// call: the leader's read index. It fails while there is no leader.
	ReadIndex func(ctx context.Context) (uint64, error)
	// Servers returns the REST addresses of all servers, for the agents.
	Servers func() []string
	// HostLostAfter is the silence after which a host is lost; 0 means 10 s, at
	// least 1 s.
	HostLostAfter time.Duration
}

// Dispatch serves the agents.
type Dispatch struct {
	Config

	mu       sync.Mutex // guards all below
	seen     map[string]time.Time
	mailbox  map[string]*mailbox // by host
	sessions map[string]*Session // by SID, until the agent has dialed back
}

// New returns a Dispatch. Only Lead runs anything by itself.
func New(c Config) *Dispatch {
	if c.HostLostAfter == 0 {
		c.HostLostAfter = 10 * time.Second
	}
	if c.Servers == nil {
		c.Servers = func() []string { return nil }
	}
	return &Dispatch{
		Config:   c,
		seen:     make(map[string]time.Time),
		mailbox:  make(map[string]*mailbox),
		sessions: make(map[string]*Session),
	}
}

// Register takes a host in, or back. Errors: CodeInvalid, CodeUnauthenticated
// for a wrong join token or secret, and the conductor's own.
func (d *Dispatch) Register(ctx context.Context, r structs.HostRegister) (structs.HostRegistered, error) {
	var none structs.HostRegistered
	if err := checkRegister(&r); err != nil {
		return none, err
	}
	request := conductor.RegisterHost{HostRegister: r, TokenHash: structs.HashSecret(r.JoinToken), SecretHash: structs.HashSecret(r.Secret)}
	request.JoinToken, request.Secret = "", ""
	answer, err := conductor.Do(ctx, d.Conductor, request)
	if err != nil {
		return none, err
	}
	d.touch(r.HostID)
	answer.HostLostAfter, answer.Servers = d.HostLostAfter, d.Servers()
	d.Logger.Info("host registered", "host_id", r.HostID, "name", r.Name, "registration", answer.Registration)
	return answer, nil
}

// checkRegister holds what an agent says of its host against the limits.
func checkRegister(r *structs.HostRegister) error {
	if !structs.IsID(r.HostID) {
		return structs.Errorf(structs.CodeInvalid, "host_id: Expected a uuid but received %.64s.", r.HostID)
	}
	if len(r.Secret) < 32 || len(r.Secret) > structs.MaxText {
		return structs.Errorf(structs.CodeInvalid, "secret: %d characters are not in 32..%d", len(r.Secret), structs.MaxText)
	}
	if err := structs.CheckName(r.Name); err != nil {
		return err
	}
	f := &r.Fingerprint
	if f.Backend != structs.BackendDocker && f.Backend != structs.BackendKubernetes {
		return structs.Errorf(structs.CodeInvalid, "fingerprint.backend %.64q is neither docker nor kubernetes", f.Backend)
	}
	if f.Cores < 0 || f.Memory < 0 || f.Disk < 0 {
		return structs.Errorf(structs.CodeInvalid, "fingerprint: cores %d, memory %d and disk %d must not be negative", f.Cores, f.Memory, f.Disk)
	}
	for field, value := range map[string]string{"engine_version": f.EngineVersion, "agent_version": f.AgentVersion, "os": f.OS, "kernel": f.Kernel} {
		if err := structs.CheckText("fingerprint."+field, value, structs.MaxText); err != nil {
			return err
		}
	}
	if len(f.Addresses) > structs.MaxLabels {
		return structs.Errorf(structs.CodeInvalid, "fingerprint.addresses: %d are more than %d", len(f.Addresses), structs.MaxLabels)
	}
	for _, a := range f.Addresses {
		if err := structs.CheckText("fingerprint.addresses", a, structs.MaxText); err != nil {
			return err
		}
	}
	return structs.CheckLabels("fingerprint.labels", f.Labels)
}

// Authenticate returns CodeUnauthenticated unless the secret is the host's. A
// server that has just started knows nobody until it has a leader: only one
// that is up to date says no, others say CodeUnavailable.
func (d *Dispatch) Authenticate(ctx context.Context, hostID, secret string) error {
	hash := structs.HashSecret(secret)
	if d.knows(hostID, hash) {
		return nil
	}
	if err := d.catchUp(ctx); err != nil {
		return structs.Errorf(structs.CodeUnavailable, "this server does not know yet which hosts there are: try again in a second (%w)", err)
	}
	if d.knows(hostID, hash) {
		return nil
	}
	return structs.Errorf(structs.CodeUnauthenticated, "host %.64s is not registered with this secret", hostID).About(structs.KindHost)
}

// knows reports whether the secret with the hash is the host's.
func (d *Dispatch) knows(hostID, hash string) bool {
	host := d.Store.Snapshot().Host(hostID)
	return host != nil && subtle.ConstantTimeCompare([]byte(hash), []byte(host.SecretHash)) == 1
}

// catchUp returns once this server has applied all that was committed before
// the call, or says why it can't know.
func (d *Dispatch) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	index, err := d.ReadIndex(ctx)
	if err != nil {
		return err
	}
	return d.Store.WaitIndex(ctx, index)
}

// Report takes what an agent saw. A repeat of a report that was taken changes
// nothing. Errors: CodeConflict for a registration that is not the host's last
// one, CodeInvalid, and the conductor's own.
func (d *Dispatch) Report(ctx context.Context, hostID string, r structs.StatusReport) (structs.StatusReported, error) {
	if err := checkReport(&r); err != nil {
		return structs.StatusReported{}, err
	}
	d.touch(hostID)
	answer, err := conductor.Do(ctx, d.Conductor, conductor.ReportStatus{HostID: hostID, StatusReport: r})
	answer.Index = d.Store.Index()
	return answer, err
}

// checkReport holds a report against the limits.
func checkReport(r *structs.StatusReport) error {
	if len(r.Containers) > structs.MaxReport {
		return structs.Errorf(structs.CodeInvalid, "containers: %d in one report are more than %d", len(r.Containers), structs.MaxReport)
	}
	for i := range r.Containers {
		c := &r.Containers[i]
		switch c.Status {
		case structs.ContainerCreating, structs.ContainerStopped, structs.ContainerRunning, structs.ContainerPaused, structs.ContainerError, structs.ContainerGone:
		default:
			return structs.Errorf(structs.CodeInvalid, "containers[%d].status %.64q is not one that an agent reports", i, c.Status)
		}
		if err := structs.CheckText("containers.reason", c.Reason, structs.MaxText); err != nil {
			return err
		}
		if len(c.Addresses) > structs.MaxPorts || len(c.Ports) > structs.MaxPorts*2 {
			return structs.Errorf(structs.CodeInvalid, "containers[%d]: too many addresses or ports", i)
		}
		for _, a := range c.Addresses {
			if err := structs.CheckText("containers.addresses", a, structs.MaxName); err != nil {
				return err
			}
		}
	}
	return nil
}

// touch notes that the host was heard of.
func (d *Dispatch) touch(hostID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[hostID] = time.Now()
}
