package rest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/coder/websocket"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/structs"
)

// headerRegistration carries the number of the registration under which an
// agent speaks.
const headerRegistration = "X-Magnum-Registration"

// decodeAgent reads the body of an agent's call. Agents may be newer than their
// servers, so fields that a server doesn't know are left aside.
func (q *request) decodeAgent(target any) error {
	raw, err := q.body()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, target); err != nil {
		return structs.Errorf(structs.CodeInvalid, "The request's body can't be read: %v", err)
	}
	return nil
}

func registerHost(q *request) error {
	var body structs.HostRegister
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	// Registering twice does no harm: it is a later registration.
	registered, err := onLeader(q, true, func(bool) (structs.HostRegistered, error) {
		return q.Dispatch.Register(q.r.Context(), body)
	})
	if err != nil {
		return err
	}
	if err := q.prove(admission.Host, body.HostID); err != nil {
		return err
	}
	registered.Servers = list(registered.Servers)
	return q.json(http.StatusOK, registered)
}

func hostWork(q *request) error {
	p := dispatch.Poll{
		HostID: q.ident(), Index: q.query.index("index"), Incarnation: q.query.index("incarnation"),
		Registration: q.query.index("registration"), Wait: q.query.duration("wait", 0),
		Sent: q.query.index("sent"), Lineage: q.query.text("lineage"), Seen: q.query.index("seen"),
	}
	if h := q.r.Header.Get(headerRegistration); h != "" {
		n, err := strconv.ParseUint(h, 10, 64)
		if err != nil {
			return invalid(headerRegistration, h, "It is not a whole number.")
		}
		p.Registration = n
	}
	q.w.parked = true
	work, err := q.Dispatch.Work(q.r.Context(), p)
	if err != nil {
		return err
	}
	q.w.index = work.Index
	if !understands(q.r, structs.UnderstandsSpec) {
		raw, err := work.ForEarlierAgents()
		if err != nil {
			return err
		}
		return q.json(http.StatusOK, raw)
	}
	return q.json(http.StatusOK, work)
}

// understands reports whether a poll says that its agent understands something.
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

func hostStatus(q *request) error {
	var body structs.StatusReport
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	// A report that was taken already is dropped by its seq.
	reported, err := onLeader(q, true, func(bool) (structs.StatusReported, error) {
		return q.Dispatch.Report(q.r.Context(), q.ident(), body)
	})
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, reported)
}

// hostQuarantine takes what an agent says of its host's quarantine.
func hostQuarantine(q *request) error {
	var body structs.QuarantineReport
	if err := q.decodeAgent(&body); err != nil {
		return err
	}
	reported, err := onLeader(q, true, func(bool) (structs.QuarantineReported, error) {
		return q.Dispatch.ReportQuarantine(q.r.Context(), q.ident(), body)
	})
	if err != nil {
		return err
	}
	return q.json(http.StatusOK, reported)
}

// hostSession takes the connection with which an agent dials back.
func hostSession(q *request) error {
	if !strings.EqualFold(q.r.Header.Get("Upgrade"), "websocket") {
		return structs.Errorf(structs.CodeInvalid, "This is a WebSocket: the request has to upgrade to one.")
	}
	if via := q.query.text("via"); via != "" && q.Peers != nil {
		// The agent can't reach the server that has the user.
		r := q.r.Clone(q.r.Context())
		r.URL.RawQuery = ""
		return q.Peers.Relay(q.w, r, via)
	}
	if err := q.Dispatch.Expects(q.ident(), q.param("sid")); err != nil {
		return err
	}
	conn, err := websocket.Accept(q.w, q.r, nil)
	if err != nil {
		q.Logger.Debug("websocket refused", "request_id", q.w.requestID, "error", err)
		return nil // Accept has answered
	}
	defer conn.CloseNow()
	if err := q.Dispatch.Accept(q.r.Context(), q.ident(), q.param("sid"), conn); err != nil {
		// Somebody else was faster, or the user has just left.
		q.Logger.Debug("session refused", "request_id", q.w.requestID, "host_id", q.ident(), "error", err)
		conn.Close(websocket.StatusPolicyViolation, "no such session")
	}
	return nil
}
