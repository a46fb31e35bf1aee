// Package dispatch is the servers' side of the agents. It answers their long polls from
// this server's own state, takes their status reports, knows which hosts are alive, and
// joins users to the sessions (logs, execute) with which agents dial back.
//
// server/rest calls it from its agent routes, and server/service for its users' sessions.
// It never writes state itself: all writes go through the conductor.
package dispatch

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/coder/websocket"
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
	// ReadIndex returns the leader's read index: the state at it contains all that was
	// committed before the call. It fails while there is no leader.
	ReadIndex func(ctx context.Context) (uint64, error)
	// Servers returns the REST addresses of all servers, for agents.
	Servers func() []string
	// Ask leaves an offer with the other servers, one of which may have the host's poll. It
	// doesn't wait for them. nil means that there are no other servers.
	Ask func(hostID string, offer structs.SessionOffer)
	// ServerID and URL are this server's own. They go with offers that other servers make
	// on its behalf.
	ServerID string
	URL      func() string
	// HostLostAfter is the silence after which a host is lost; at least 1 s, 0 means 10 s.
	HostLostAfter time.Duration
	// Tenants says that callers are authenticated, so that the projects have to be kept apart.
	Tenants bool
	// ClaimedLabels says that the labels which agents give their hosts are mere claims.
	ClaimedLabels bool
	// Agree reports whether a majority of the servers, this one included, has not seen the
	// hosts either. nil means that there is no other server.
	Agree func(ctx context.Context, hostIDs []string) bool
	// Followed asks the other servers which of the hosts have polled there with the index or a
	// later one, and calls found with those. It returns when ctx ends, or when the other
	// servers have named all hosts. nil means that there is no other server.
	Followed func(ctx context.Context, hostIDs []string, index uint64, found func(hostIDs []string))
	// VerifyLeader returns nil if this server was still the leader at some moment after the
	// call began. nil means that it always is.
	VerifyLeader func(ctx context.Context) error
}

// Dispatch serves the agents. Its parts share its Config. Each part has its own lock and
// doesn't hold it during a call to another part.
type Dispatch struct {
	config     Config
	heartbeats *heartbeats
	liveness   *liveness
	sessions   *sessions
	drained    *drained
	leaderless *leaderless
}

// New returns a Dispatch. Nothing runs until Lead is called.
func New(c Config) *Dispatch {
	if c.HostLostAfter == 0 {
		c.HostLostAfter = 10 * time.Second
	}
	if c.Servers == nil {
		c.Servers = func() []string { return nil }
	}
	d := &Dispatch{config: c, leaderless: newLeaderless()}
	d.heartbeats = newHeartbeats(&d.config)
	d.liveness = &liveness{config: &d.config, heartbeats: d.heartbeats}
	d.sessions = newSessions(&d.config)
	d.drained = newDrained(&d.config)
	return d
}

// Lead runs the leader's work on hosts: it marks silent hosts and acknowledges the polls of
// hosts with leases. The cluster's row must have this server's HostLostAfter or a longer
// one, which conductor.InitCluster ensures. It blocks until ctx ends.
func (d *Dispatch) Lead(ctx context.Context) error { return d.liveness.lead(ctx) }

// TakeHeartbeats notes, on the leader, the heartbeats that a follower has received, and
// returns all acknowledged polls; see heartbeats.fromFollower.
func (d *Dispatch) TakeHeartbeats(ctx context.Context, heartbeats map[string]structs.PeerHeartbeat) structs.PeerAcknowledged {
	return d.heartbeats.fromFollower(ctx, heartbeats)
}

// Silent returns the hosts without a heartbeat at this server for HostLostAfter: this
// server's answer when the leader asks whether it agrees.
func (d *Dispatch) Silent(hostIDs []string) []string { return d.heartbeats.silent(hostIDs) }

// AgentDead notes that gossip reports the host's agent dead: the leader makes the host suspect
// at once, unless it has sent a heartbeat since.
func (d *Dispatch) AgentDead(hostID string) { d.heartbeats.gossipDead(hostID) }

// Parked returns how many polls wait for work.
func (d *Dispatch) Parked() int { return d.sessions.parked() }

// Joined returns the number of active sessions.
func (d *Dispatch) Joined() int { return d.sessions.joined() }

// Open asks the host's agent for a session and returns once the agent has dialed back. The
// caller closes the session. Errors: CodeUnavailable if the agent doesn't dial back within
// five seconds, CodeRateLimited.
func (d *Dispatch) Open(ctx context.Context, hostID string, offer structs.SessionOffer) (*Session, error) {
	return d.sessions.open(ctx, hostID, offer)
}

// Offer leaves an offer of another server for the host's poll, for as long as that server
// waits. Such offers never displace those of this server's own users. offer.ServerID is
// set.
func (d *Dispatch) Offer(hostID string, offer structs.SessionOffer) {
	d.sessions.offerRemote(hostID, offer)
}

// Expects returns CodeNotFound unless the host may dial back for the session. rest asks
// before it accepts the WebSocket.
func (d *Dispatch) Expects(hostID, sid string) error { return d.sessions.expects(hostID, sid) }

// Accept joins the connection with which an agent has dialed back to the user who waits for
// it, and blocks until the session ends. A session is used once, and only by its host;
// otherwise Accept returns CodeNotFound.
func (d *Dispatch) Accept(ctx context.Context, hostID, sid string, conn *websocket.Conn) error {
	return d.sessions.accept(ctx, hostID, sid, conn)
}

// maxGossip is the number of hosts above which agents are told not to gossip: the time to
// detect a dead member grows with their number, and so does each full exchange between two
// members.
const maxGossip = 2000

// Register admits a new host, or one that has registered before. Errors: CodeInvalid,
// CodeUnauthenticated for a wrong join token or secret, CodeForbidden for an agent that
// would not follow this cluster, and those of conductor.RegisterHost.
func (d *Dispatch) Register(ctx context.Context, r structs.HostRegister) (structs.HostRegistered, error) {
	var none structs.HostRegistered
	if err := checkRegister(&r); err != nil {
		return none, err
	}
	request := conductor.RegisterHost{HostRegister: r, TokenHash: structs.HashSecret(r.JoinToken), SecretHash: structs.HashSecret(r.Secret),
		Claimed: d.config.ClaimedLabels}
	if id, secret, ok := structs.ParseToken(r.JoinToken); ok {
		request.TokenID, request.TokenHash = id, structs.HashSecret(secret)
		if err := d.checkExpiry(id, request.TokenHash, r.HostID); err != nil {
			return none, err
		}
	}
	request.JoinToken, request.Secret = "", ""
	if err := d.admit(ctx, request); err != nil {
		var e *structs.Error
		if errors.As(err, &e) && e.Kind == structs.KindEngine {
			d.reportCopy(ctx, d.config.Store.Snapshot().Host(r.HostID), r)
		}
		return none, err
	}
	host := d.config.Store.Snapshot().Host(r.HostID)
	known := d.knows(r.HostID, request.SecretHash)
	if known && !conductor.Superseded(host, r) && d.follows(&r) {
		d.heartbeats.recordNow(r.HostID) // before the state says ready: its silence has ended
	}
	answer, err := conductor.Do(ctx, d.config.Conductor, request)
	if err != nil {
		if known && structs.CodeOf(err) == structs.CodeConflict {
			d.reportCopy(ctx, host, r)
		}
		return none, err
	}
	d.heartbeats.recordNow(r.HostID)
	snap := d.config.Store.Snapshot()
	answer.HostLostAfter, answer.Servers, answer.NoGossip = d.config.HostLostAfter, d.config.Servers(), snap.Hosts() > maxGossip
	if c := snap.Cluster(); c != nil && c.HostLostAfter > 0 {
		answer.HostLostAfter = c.HostLostAfter
	}
	answer.Lease = leaseOf(answer.HostLostAfter)
	d.config.Logger.Info("host registered", "host_id", r.HostID, "name", r.Name, "registration", answer.Registration)
	return answer, nil
}

// admit refuses what the conductor would refuse, once this server has caught up with the
// leader. A flood of agents without a valid token then costs shared read-index rounds
// instead of places in the conductor's queue.
func (d *Dispatch) admit(ctx context.Context, r conductor.RegisterHost) error {
	ask := func() error {
		snap := d.config.Store.Snapshot()
		if snap.Cluster() == nil {
			return nil // the conductor refuses it
		}
		return r.Admit(snap.Cluster(), snap.Host(r.HostID), snap.Token(r.TokenID))
	}
	if ask() == nil {
		return nil
	}
	if err := d.catchUp(ctx); err != nil {
		if structs.CodeOf(err) == structs.CodeNoLeader {
			return err
		}
		return structs.Errorf(structs.CodeUnavailable, "this server does not know yet which hosts may register: try again in a second (%w)",
			err)
	}
	return ask()
}

// follows reports whether the agent may follow this server's state.
func (d *Dispatch) follows(r *structs.HostRegister) bool {
	c := d.config.Store.Snapshot().Cluster()
	return c != nil && r.Follows.Check(c.ClusterID, c.Incarnation) == nil
}

// reportCopy notes, for operators, that an agent was refused because another agent has
// registered with a copy of its data directory.
func (d *Dispatch) reportCopy(ctx context.Context, host *structs.Host, r structs.HostRegister) {
	where := strings.Join(r.Fingerprint.Addresses[:min(len(r.Fingerprint.Addresses), 4)], ", ")
	d.config.Logger.Error("an agent is refused: another agent has since registered with a copy of its data directory",
		"host_id", host.ID, "name", host.Name, "registration", r.Registration, "addr", where)
	reason := "an agent with a copy of its data directory"
	if where != "" {
		reason += " (on " + where + ")"
	}
	_, err := conductor.Do(ctx, d.config.Conductor, conductor.NoteHost{ID: host.ID, Reason: reason +
		" was refused: stop it, or give it a directory of its own"})
	if err != nil {
		d.config.Logger.Warn("the refused agent could not be noted", "host_id", host.ID, "error", err)
	}
}

// checkExpiry refuses an expired join token. A registered host needs no token any more. The
// conductor refuses tokens that don't exist.
func (d *Dispatch) checkExpiry(id, hash, hostID string) error {
	snap := d.config.Store.Snapshot()
	token := snap.Token(id)
	if token == nil || !token.OpenedBy(hash) || !token.Expired(time.Now()) || snap.Host(hostID) != nil {
		return nil
	}
	return structs.Errorf(structs.CodeUnauthenticated,
		"the join token has expired: give the agent another one of \"magnum token-create -join\"").About(structs.KindHost)
}

// checkRegister checks an agent's description of its host against the limits.
func checkRegister(r *structs.HostRegister) error {
	if !structs.IsID(r.HostID) {
		return structs.Errorf(structs.CodeInvalid, "host_id: Expected a uuid but received %.64s.", r.HostID)
	}
	if len(r.Secret) < 32 || len(r.Secret) > structs.MaxText {
		return structs.Errorf(structs.CodeInvalid, "secret: %d characters are not in 32..%d", len(r.Secret), structs.MaxText)
	}
	if r.Instance != "" && !structs.IsID(r.Instance) {
		return structs.Errorf(structs.CodeInvalid, "instance: Expected a uuid but received %.64s.", r.Instance)
	}
	if r.Follows.Lineage != "" && !structs.IsID(r.Follows.Lineage) {
		return structs.Errorf(structs.CodeInvalid, "follows.lineage: Expected a uuid but received %.64s.", r.Follows.Lineage)
	}
	if err := structs.CheckName(r.Name); err != nil {
		return err
	}
	f := &r.Fingerprint
	if f.Backend != structs.BackendDocker && f.Backend != structs.BackendKubernetes {
		return structs.Errorf(structs.CodeInvalid, "fingerprint.backend %.64q is neither docker nor kubernetes", f.Backend)
	}
	if f.Cores < 0 || f.Memory < 0 || f.Disk < 0 {
		return structs.Errorf(structs.CodeInvalid, "fingerprint: cores %d, memory %d and disk %d must not be negative", f.Cores, f.Memory,
			f.Disk)
	}
	for field, value := range map[string]string{"engine_version": f.EngineVersion, "agent_version": f.AgentVersion, "os": f.OS,
		"kernel":    f.Kernel,
		"engine.id": f.Engine.ID, "engine.root": f.Engine.Root, "engine.machine": f.Engine.Machine} {
		if err := structs.CheckLine("fingerprint."+field, value, structs.MaxText); err != nil {
			return err
		}
	}
	if len(f.Kinds) > structs.MaxLabels {
		return structs.Errorf(structs.CodeInvalid, "fingerprint.kinds: %d are more than %d", len(f.Kinds), structs.MaxLabels)
	}
	for _, k := range f.Kinds {
		if err := structs.CheckLine("fingerprint.kinds", string(k), structs.MaxText); err != nil {
			return err
		}
	}
	if len(f.Addresses) > structs.MaxLabels {
		return structs.Errorf(structs.CodeInvalid, "fingerprint.addresses: %d are more than %d", len(f.Addresses), structs.MaxLabels)
	}
	for _, a := range f.Addresses {
		if err := structs.CheckLine("fingerprint.addresses", a, structs.MaxText); err != nil {
			return err
		}
	}
	if len(r.Found) > structs.MaxLabelOwners {
		return structs.Errorf(structs.CodeInvalid, "found: %d owners are more than %d", len(r.Found), structs.MaxLabelOwners)
	}
	for _, o := range r.Found {
		if !structs.IsID(o.ClusterID) || !structs.IsID(o.HostID) {
			return structs.Errorf(structs.CodeInvalid, "found: Expected uuids but received %.64s and %.64s.", o.ClusterID, o.HostID)
		}
	}
	if err := checkRelay(f.Relay); err != nil {
		return err
	}
	return structs.CheckRowLabels("fingerprint.labels", f.Labels)
}

// checkRelay checks how other hosts reach the host's relay.
func checkRelay(r structs.Relay) error {
	if key, err := hex.DecodeString(r.Key); err != nil || r.Key != "" && (len(key) != sha256.Size || r.Key != strings.ToLower(r.Key)) {
		return structs.Errorf(structs.CodeInvalid, "fingerprint.relay.key %.80q is not a SHA-256 in lower-case hex", r.Key)
	}
	if r.Addr == "" {
		return nil
	}
	if host, port, err := net.SplitHostPort(r.Addr); err != nil || host == "" || port == "" || len(r.Addr) > structs.MaxName {
		return structs.Errorf(structs.CodeInvalid, "fingerprint.relay.addr %.80q is not host:port", r.Addr)
	}
	return structs.CheckLine("fingerprint.relay.addr", r.Addr, structs.MaxName)
}

// Authenticate returns CodeUnauthenticated unless the secret is the host's. A server that
// has just started knows no hosts until it has a leader: only a server that is up to date
// refuses, others return CodeUnavailable.
func (d *Dispatch) Authenticate(ctx context.Context, hostID, secret string) error {
	hash := structs.HashSecret(secret)
	if d.knows(hostID, hash) {
		return nil
	}
	if err := d.catchUp(ctx); err != nil {
		return structs.Errorf(structs.CodeUnavailable, "this server does not know yet which hosts there are: try again in a second (%w)",
			err)
	}
	if d.knows(hostID, hash) {
		return nil
	}
	return structs.Errorf(structs.CodeUnauthenticated, "host %.64s is not registered with this secret", hostID).About(structs.KindHost)
}

// knows reports whether the host exists and has the secret with this hash.
func (d *Dispatch) knows(hostID, hash string) bool {
	host := d.config.Store.Snapshot().Host(hostID)
	return host != nil && subtle.ConstantTimeCompare([]byte(hash), []byte(host.SecretHash)) == 1
}

// catchUp returns once this server has applied all that was committed before the call, or
// an error if it can't know that.
func (d *Dispatch) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	index, err := d.config.ReadIndex(ctx)
	if err != nil {
		return err
	}
	return d.config.Store.WaitIndex(ctx, index)
}

// Report takes an agent's status report. A repeated report changes nothing. Errors:
// CodeConflict for a registration that is not the host's last one, CodeInvalid, and those
// of conductor.Report.
func (d *Dispatch) Report(ctx context.Context, hostID string, r structs.StatusReport) (structs.StatusReported, error) {
	if err := checkReport(&r); err != nil {
		return structs.StatusReported{}, err
	}
	if err := d.refuseSuperseded(hostID, r.Registration); err != nil {
		return structs.StatusReported{Index: d.config.Store.Index()}, err
	}
	d.heartbeats.recordNow(hostID)
	answer, err := conductor.Report(ctx, d.config.Conductor, conductor.ReportStatus{HostID: hostID, StatusReport: r})
	answer.Index = d.config.Store.Index()
	return answer, err
}

// checkProblems checks what a host says that it doesn't serve; nil means that it says nothing.
func checkProblems(list *[]structs.ServiceProblem) error {
	if list == nil {
		return nil
	}
	if len(*list) > structs.MaxServiceProblems {
		return structs.Errorf(structs.CodeInvalid, "service_problems: %d are more than %d", len(*list), structs.MaxServiceProblems)
	}
	for _, p := range *list {
		if p.ServiceID != "" && !structs.IsID(p.ServiceID) || p.HostID != "" && !structs.IsID(p.HostID) {
			return structs.Errorf(structs.CodeInvalid, "service_problems: %q and %q must be UUIDs or empty", p.ServiceID, p.HostID)
		}
		if err := structs.CheckText("service_problems.reason", p.Reason, structs.MaxText); err != nil {
			return err
		}
	}
	return nil
}

// checkReport checks a report against the limits.
func checkReport(r *structs.StatusReport) error {
	if len(r.Containers) > structs.MaxReport {
		return structs.Errorf(structs.CodeInvalid, "containers: %d in one report are more than %d", len(r.Containers), structs.MaxReport)
	}
	if c := r.Copies; c != nil {
		if len(c.First) > structs.MaxCopies || c.Count < len(c.First) {
			return structs.Errorf(structs.CodeInvalid, "copies: %d of %d are more than %d, or than all", len(c.First), c.Count,
				structs.MaxCopies)
		}
		for _, one := range c.First {
			for field, value := range map[string]string{"engine_id": one.EngineID, "name": one.Name, "container_uuid": one.ContainerID} {
				if err := structs.CheckLine("copies."+field, value, structs.MaxName); err != nil {
					return err
				}
			}
		}
	}
	if err := checkProblems(r.Problems); err != nil {
		return err
	}
	for i := range r.Containers {
		c := &r.Containers[i]
		if err := structs.CheckLine("containers.kind", string(c.Kind), structs.MaxName); err != nil {
			return err
		}
		cutCluster(c)
		if len(c.Parts) > structs.MaxParts {
			return structs.Errorf(structs.CodeInvalid, "containers[%d].parts: %d are more than %d", i, len(c.Parts), structs.MaxParts)
		}
		if err := checkObserved(i, &c.Observed); err != nil {
			return err
		}
		for j := range c.Parts {
			if err := structs.CheckLine("containers.parts.part", c.Parts[j].Part, structs.MaxName); err != nil {
				return err
			}
			if err := checkPart(i, &c.Parts[j]); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPart checks what is observed of a part of the i-th workload of a report. Of a
// container of a pod that doesn't exist yet only State is observed.
func checkPart(i int, p *structs.PartReport) error {
	if err := structs.CheckLine("containers.parts.image_id", p.ImageID, structs.MaxName); err != nil {
		return err
	}
	for field, s := range map[string]*structs.PartState{"state": &p.State, "last": &p.Last} {
		switch s.State {
		case "", structs.PartWaiting, structs.PartRunning, structs.PartTerminated:
		default:
			return structs.Errorf(structs.CodeInvalid, "containers[%d].parts.%s.state %.64q is not one that an agent reports", i, field,
				s.State)
		}
		if err := structs.CheckLine("containers.parts."+field+".reason", s.Reason, structs.MaxName); err != nil {
			return err
		}
		if err := structs.CheckText("containers.parts."+field+".message", s.Message, structs.MaxText); err != nil {
			return err
		}
	}
	seen := p.Observed
	if seen.Status == "" && p.State.State != "" {
		seen.Status = structs.ContainerCreating
	}
	return checkObserved(i, &seen)
}

// checkObserved checks the observation of the i-th workload of a report, or of a part of
// it, against the limits.
func checkObserved(i int, o *structs.Observed) error {
	if err := structs.CheckLine("containers.engine_id", o.EngineID, structs.MaxName); err != nil {
		return err
	}
	switch o.Status {
	case structs.ContainerCreating, structs.ContainerStopped, structs.ContainerRunning, structs.ContainerPaused, structs.ContainerError,
		structs.ContainerGone:
	default:
		return structs.Errorf(structs.CodeInvalid, "containers[%d].status %.64q is not one that an agent reports", i, o.Status)
	}
	if err := structs.CheckText("containers.reason", o.Reason, structs.MaxText); err != nil {
		return err
	}
	if len(o.Addresses) > structs.MaxPorts || len(o.Ports) > structs.MaxPorts*2 {
		return structs.Errorf(structs.CodeInvalid, "containers[%d]: too many addresses or ports", i)
	}
	if err := structs.CheckText("containers.health", o.Health, structs.MaxName); err != nil {
		return err
	}
	for _, a := range o.Addresses {
		if err := structs.CheckLine("containers.addresses", a, structs.MaxName); err != nil {
			return err
		}
	}
	for _, p := range o.Ports {
		if err := structs.CheckText("containers.ports.protocol", p.Protocol, structs.MaxName); err != nil {
			return err
		}
	}
	return nil
}
