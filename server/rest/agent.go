package rest

import (
	"net/http"
	"strconv"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// headerRegistration carries the number of the registration under which an
// agent speaks.
const headerRegistration = "X-Magnum-Registration"

// agentCalls answers the agents of hosts.
type agentCalls struct {
	dispatch agents
	peers    peers // nil: there are no other servers
	log      hclog.Logger
}

func (a agentCalls) routes() []*route {
	get, post := http.MethodGet, http.MethodPost
	return []*route{
		{method: post, path: "/agent/hosts", action: identity.AgentRegister, handle: registerHost, summary: "Register a host (agents)",
			takes: structs.HostRegister{}, most: structs.MaxRegistration, gives: ok(structs.HostRegistered{})},
		{method: get, path: "/agent/hosts/:id/work", action: identity.AgentCall, handle: a.work, summary: "Poll for work (agents)",
			args: []wire.Arg{
				{Name: "index", Kind: wire.ArgInt, Doc: "Of the last answer; 0 asks for everything."},
				{Name: "incarnation", Kind: wire.ArgInt, Doc: "Of the last answer."},
				{Name: "registration", Kind: wire.ArgInt, Doc: "Instead of the header X-Magnum-Registration."},
				{Name: "wait", Kind: wire.ArgDuration, Doc: "How long to wait for a change."},
				{Name: "lineage", Kind: wire.ArgText, Doc: "Of the last answer, if it had one."},
				{Name: "seen", Kind: wire.ArgInt, Doc: "Index of the last answer, also if index asks for everything."},
				{Name: "sent", Kind: wire.ArgInt, Doc: "A number that grows with each poll of the host, if it asks for leases."},
			}, gives: ok(structs.Work{})},
		{method: post, path: "/agent/hosts/:id/status", action: identity.AgentCall, handle: hostStatus, summary: "Report what runs (agents)",
			takes: structs.StatusReport{}, gives: ok(structs.StatusReported{})},
		{method: post, path: "/agent/hosts/:id/quarantine", action: identity.AgentCall, handle: hostQuarantine, summary: "Report what is in quarantine (agents)",
			takes: structs.QuarantineReport{}, gives: ok(structs.QuarantineReported{})},
		{method: get, path: "/agent/hosts/:id/sessions/:sid", action: identity.AgentCall, handle: a.session,
			args:    []wire.Arg{{Name: "via", Kind: wire.ArgText, Doc: "ID of the server that has the user, if it can't be dialled itself."}},
			summary: "Dial back for a session (agents, WebSocket)", gives: []wire.Answer{{Status: http.StatusSwitchingProtocols}}},
	}
}

func registerHost(q *request) error {
	var body structs.HostRegister
	return write(func(q *request) (structs.HostRegistered, error) {
		if err := q.decodeLenient(&body); err != nil {
			return structs.HostRegistered{}, err
		}
		return q.service.Agents.Register(q.ctx(), &q.call, body)
	}, func(q *request, registered structs.HostRegistered) error {
		if err := q.prove(admission.Host, body.HostID); err != nil {
			return err
		}
		registered.Servers = wire.List(registered.Servers)
		return q.json(http.StatusOK, registered)
	})(q)
}

var hostStatus = write(func(q *request) (structs.StatusReported, error) {
	var body structs.StatusReport
	if err := q.decodeLenient(&body); err != nil {
		return structs.StatusReported{}, err
	}
	return q.service.Agents.Report(q.ctx(), &q.call, q.ident(), body)
}, func(q *request, reported structs.StatusReported) error { return q.json(http.StatusOK, reported) })

// hostQuarantine takes what an agent says of its host's quarantine.
var hostQuarantine = write(func(q *request) (structs.QuarantineReported, error) {
	var body structs.QuarantineReport
	if err := q.decodeLenient(&body); err != nil {
		return structs.QuarantineReported{}, err
	}
	return q.service.Agents.ReportQuarantine(q.ctx(), &q.call, q.ident(), body)
}, func(q *request, reported structs.QuarantineReported) error { return q.json(http.StatusOK, reported) })

// work answers a host's poll.
func (a agentCalls) work(q *request) error {
	p := dispatch.Poll{
		HostID: q.ident(), Index: uint64(q.query.Int("index", 0)), Incarnation: uint64(q.query.Int("incarnation", 0)),
		Registration: uint64(q.query.Int("registration", 0)), Wait: q.query.Duration("wait", 0),
		Sent: uint64(q.query.Int("sent", 0)), Lineage: q.query.Text("lineage"), Seen: uint64(q.query.Int("seen", 0)),
	}
	if h := q.r.Header.Get(headerRegistration); h != "" {
		n, err := strconv.ParseUint(h, 10, 64)
		if err != nil {
			return structs.Invalid(headerRegistration, h, "It is not a whole number.")
		}
		p.Registration = n
	}
	q.w.parked = true
	work, err := a.dispatch.Work(q.ctx(), p)
	if err != nil {
		return err
	}
	q.w.index = work.Index
	return q.json(http.StatusOK, work)
}

// session takes the connection with which an agent dials back.
func (a agentCalls) session(q *request) error {
	if err := q.checkUpgrade(); err != nil {
		return err
	}
	if via := q.query.Text("via"); via != "" && a.peers != nil {
		// The agent can't reach the server that has the user.
		r := q.r.Clone(q.ctx())
		r.URL.RawQuery = ""
		return a.peers.Relay(q.w, r, via)
	}
	if err := a.dispatch.Expects(q.ident(), q.param("sid")); err != nil {
		return err
	}
	conn := q.upgrade(nil)
	if conn == nil {
		return nil
	}
	defer conn.CloseNow()
	if err := a.dispatch.Accept(q.ctx(), q.ident(), q.param("sid"), conn); err != nil {
		// Somebody else was faster, or the user has just left.
		a.log.Debug("session refused", "request_id", q.w.requestID, "host_id", q.ident(), "error", err)
		conn.Close(websocket.StatusPolicyViolation, "no such session")
	}
	return nil
}
