package rest

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// headerRegistration carries the number of the agent's registration.
const headerRegistration = "X-Magnum-Registration"

// agentCalls serves the requests of agents.
type agentCalls struct {
	dispatch agents
	peers    web.Peers // nil: there are no other servers
	log      hclog.Logger
}

func (a agentCalls) routes() []*web.Route {
	get, post := http.MethodGet, http.MethodPost
	return []*web.Route{
		{Method: post, Path: "/agent/hosts", Action: identity.AgentRegister, Handle: registerHost, Summary: "Register a host (agents)",
			Takes: structs.HostRegister{}, MaxBody: structs.MaxRegistration, Gives: web.OK(structs.HostRegistered{})},
		{Method: get, Path: "/agent/hosts/:id/work", Action: identity.AgentCall, Handle: a.work, Summary: "Poll for work (agents)",
			Args: []wire.Arg{
				{Name: "index", Kind: wire.ArgIndex, Doc: "Of the last answer; 0 asks for everything."},
				{Name: "incarnation", Kind: wire.ArgIndex, Doc: "Of the last answer."},
				{Name: "registration", Kind: wire.ArgIndex, Doc: "Instead of the header X-Magnum-Registration."},
				{Name: "wait", Kind: wire.ArgDuration, Doc: "How long to wait for a change."},
				{Name: "lineage", Kind: wire.ArgText, Doc: "Of the last answer, if it had one."},
				{Name: "seen", Kind: wire.ArgIndex, Doc: "Index of the last answer, also if index asks for everything."},
				{Name: "pages", Kind: wire.ArgBool, Doc: "The agent asks for the rest of a long answer."},
				{Name: "after", Kind: wire.ArgText, Doc: "What the page before has in more."},
				{Name: "behind", Kind: wire.ArgBool, Doc: "The host doesn't serve yet what the last answer said of services."},
				{Name: "sent", Kind: wire.ArgIndex, Doc: "A number that grows with each poll of the host, if it asks for leases."},
			}, Gives: web.OK(structs.Work{})},
		{Method: get, Path: "/agent/hosts/:id/drained", Action: identity.AgentCall, Handle: a.drained,
			Summary: "Ask whether a pod gets no new connections any more (agents)",
			Args: []wire.Arg{
				{Name: "pod", Kind: wire.ArgText, Doc: "UUID of a pod that is placed on the host."},
				{Name: "index", Kind: wire.ArgIndex, Doc: "Of the answer with which the host learnt that the pod is to end."},
				{Name: "wait", Kind: wire.ArgDuration, Doc: "How long to wait for it, at most 2s, which is also the default."},
			}, Gives: web.OK(structs.Drained{})},
		{Method: post, Path: "/agent/hosts/:id/status", Action: identity.AgentCall, Handle: hostStatus,
			Summary: "Report the host's workloads (agents)",
			Takes:   structs.StatusReport{}, Gives: web.OK(structs.StatusReported{})},
		{Method: post, Path: "/agent/hosts/:id/quarantine", Action: identity.AgentCall, Handle: hostQuarantine,
			Summary: "Report the host's quarantine (agents)",
			Takes:   structs.QuarantineReport{}, Gives: web.OK(structs.QuarantineReported{})},
		{Method: get, Path: "/agent/hosts/:id/sessions/:sid", Action: identity.AgentCall, Handle: a.session,
			Args: []wire.Arg{{Name: "via", Kind: wire.ArgText,
				Doc: "ID of the user's server, if the agent can't dial that server itself."}},
			Summary: "Dial back for a session (agents, WebSocket)", Gives: []wire.Answer{{Status: http.StatusSwitchingProtocols}}},
	}
}

func registerHost(q *web.Request) error {
	var body structs.HostRegister
	return web.Write(func(q *web.Request) (structs.HostRegistered, error) {
		if err := q.DecodeLenient(&body); err != nil {
			return structs.HostRegistered{}, err
		}
		return q.Service.Agents().Register(q.Context(), &q.Call, body)
	}, func(q *web.Request, registered structs.HostRegistered) error {
		if err := q.Prove(admission.Host, body.HostID); err != nil {
			return err
		}
		registered.Servers = wire.List(registered.Servers)
		return q.JSON(http.StatusOK, registered)
	})(q)
}

var hostStatus = web.Write(func(q *web.Request) (structs.StatusReported, error) {
	var body structs.StatusReport
	if err := q.DecodeLenient(&body); err != nil {
		return structs.StatusReported{}, err
	}
	return q.Service.Agents().Report(q.Context(), &q.Call, q.Ident(), body)
}, func(q *web.Request, reported structs.StatusReported) error { return q.JSON(http.StatusOK, reported) })

// hostQuarantine accepts an agent's report of its host's quarantine.
var hostQuarantine = web.Write(func(q *web.Request) (structs.QuarantineReported, error) {
	var body structs.QuarantineReport
	if err := q.DecodeLenient(&body); err != nil {
		return structs.QuarantineReported{}, err
	}
	return q.Service.Agents().ReportQuarantine(q.Context(), &q.Call, q.Ident(), body)
}, func(q *web.Request, reported structs.QuarantineReported) error {
	return q.JSON(http.StatusOK, reported)
})

// work answers a host's poll.
func (a agentCalls) work(q *web.Request) error {
	p := dispatch.Poll{
		HostID: q.Ident(), Index: q.Query.Index("index"), Incarnation: q.Query.Index("incarnation"),
		Registration: q.Query.Index("registration"), Wait: q.Query.Duration("wait", 0),
		Sent: q.Query.Index("sent"), Lineage: q.Query.Text("lineage"), Seen: q.Query.Index("seen"),
		Behind: q.Query.Bool("behind", false), Pages: q.Query.Bool("pages", false), After: q.Query.Text("after"),
	}
	if h := q.R.Header.Get(headerRegistration); h != "" {
		n, err := strconv.ParseUint(h, 10, 64)
		if err != nil {
			return structs.Invalid(headerRegistration, h, "It is not a whole number.")
		}
		p.Registration = n
	}
	q.W.Parked = true
	work, err := a.dispatch.Work(q.Context(), p)
	if err != nil {
		return err
	}
	q.W.Index = work.Index
	if !understands(q.R, structs.UnderstandsSpec) {
		raw, err := work.ForEarlierAgents()
		if err != nil {
			return err
		}
		return q.JSON(http.StatusOK, raw)
	}
	return q.JSON(http.StatusOK, work)
}

// drained answers a host's question about a pod that is to end there.
func (a agentCalls) drained(q *web.Request) error {
	question := dispatch.Question{HostID: q.Ident(), PodID: q.Query.Text("pod"), Index: q.Query.Index("index"),
		Wait: q.Query.Duration("wait", structs.MaxDrained)}
	if !structs.IsID(question.PodID) {
		return structs.Errorf(structs.CodeInvalid, "pod: Expected a uuid but received %.64s.", question.PodID)
	}
	q.W.Parked = true
	answer, err := a.dispatch.Drained(q.Context(), question)
	if err != nil {
		return err
	}
	return q.JSON(http.StatusOK, answer)
}

// understands reports whether the request's agent says that it understands a feature.
func understands(r *http.Request, word string) bool {
	for _, h := range r.Header.Values(structs.HeaderUnderstands) {
		for said := range strings.SplitSeq(h, ",") {
			if strings.TrimSpace(said) == word {
				return true
			}
		}
	}
	return false
}

// session accepts the connection with which an agent dials back for a session.
func (a agentCalls) session(q *web.Request) error {
	if err := q.CheckUpgrade(); err != nil {
		return err
	}
	if via := q.Query.Text("via"); via != "" && a.peers != nil {
		// The user is connected to another server, which the agent can't reach.
		r := q.R.Clone(q.Context())
		r.URL.RawQuery = ""
		return a.peers.Relay(q.W, r, via)
	}
	if err := a.dispatch.Expects(q.Ident(), q.Param("sid")); err != nil {
		return err
	}
	conn := q.Upgrade(nil)
	if conn == nil {
		return nil
	}
	defer conn.CloseNow()
	if err := a.dispatch.Accept(q.Context(), q.Ident(), q.Param("sid"), conn); err != nil {
		// Another connection was first, or the user has just left.
		a.log.Debug("session refused", "request_id", q.W.RequestID, "host_id", q.Ident(), "error", err)
		conn.Close(websocket.StatusPolicyViolation, "no such session")
	}
	return nil
}
