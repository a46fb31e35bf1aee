package web

import (
	"net/http"
	"reflect"
	"strings"

	"github.com/stackforge/magnum/server/audit"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Auditor keeps the audit log. *audit.Log satisfies it.
type Auditor interface {
	// Begin reserves room for the line of a request that is about to be carried out.
	// CodeNoSpace.
	Begin() error
	// End writes the line of a request after Begin.
	End(e *audit.Event)
	// Refused writes the line of a request that was refused before Begin.
	Refused(e *audit.Event)
}

// sessions are the actions of GET requests that leave a line in the audit log: they open a
// session with a container, or copy what readers may not see. The value says that the
// action only shows something.
var sessions = map[identity.Action]bool{
	identity.ContainerExecute: false, identity.ContainerAttach: false,
	identity.PodExecute: false, identity.PodAttach: false, identity.PodForward: false,
	identity.ArchiveGet: true, identity.PodArchiveGet: true, identity.OperatorSave: true,
}

// follows are the actions that are sessions with the query argument follow.
var follows = map[identity.Action]bool{identity.ContainerLogs: true, identity.PodLogs: true}

// auditPart is what a request notes for its line in the audit log.
type auditPart struct {
	begun   bool // Begin has reserved the line's room
	target  audit.Target
	code    structs.Code // with which the request was refused
	unknown bool         // whether it was carried out is unknown
}

// isAudited reports whether the request leaves a line, unless it is refused. The first
// server writes the line of a request that is forwarded. Agents and servers act for
// requests that have a line already.
func isAudited(q *Request) bool {
	rt := q.route
	if !mayBeAudited(q) {
		return false
	}
	_, session := sessions[rt.Action]
	return rt.Method != http.MethodGet || session || follows[rt.Action] && q.Query.Bool("follow", false) ||
		rt.Action == identity.Public && strings.HasPrefix(rt.Path, "/terminals/")
}

// mayBeAudited reports whether a refusal of the request leaves a line.
func mayBeAudited(q *Request) bool {
	switch q.route.Action {
	case identity.AgentCall, identity.AgentRegister, identity.PeerCall:
		return false
	}
	return !q.Call.Forwarded && q.route.Method != "" && !strings.HasPrefix(q.route.Path, "/peer/")
}

// beginAudit makes sure that the request's line can be written. CodeNoSpace.
func beginAudit(q *Request) error {
	if q.server.config.Audit == nil || !isAudited(q) {
		return nil
	}
	findTarget(q)
	if err := q.server.config.Audit.Begin(); err != nil {
		return err
	}
	q.audit.begun = true
	return nil
}

// findTarget notes the object that the path names, as this server sees it now: afterwards
// it may be gone.
func findTarget(q *Request) {
	kind, _, _ := strings.Cut(string(q.route.Action), ":")
	t := &q.audit.target
	t.Kind, t.ID = kind, q.Ident()
	if table, _ := state.TableOfKind(kind); table == "" || t.ID == "" {
		return
	}
	if row, err := conductor.Lookup(q.Service.Snapshot(), q.Caller(), kind, t.ID); err == nil {
		noteTarget(q, row)
	}
}

// noteTarget notes the object of a write, from the decision about it.
func noteTarget(q *Request, decided any) {
	if created, ok := decided.(service.NewToken); ok {
		decided = created.Token
	}
	row, ok := decided.(structs.Row)
	if !ok || reflect.ValueOf(row).IsNil() {
		return
	}
	m, t := row.Base(), &q.audit.target
	t.ID, t.Name, t.ProjectID = m.ID, structs.NameOf(row), m.ProjectID
}

// AuditTarget notes the object of an action that has no row: its name, and the project whose it
// is, "" if there is none.
func AuditTarget(q *Request, name, projectID string) {
	q.audit.target.ID, q.audit.target.ProjectID = name, projectID
}

// AuditSession notes who opens a session with which container, for a request without a
// token.
func AuditSession(q *Request, caller structs.Caller, containerID string) {
	q.Call.Caller = caller
	q.audit.target = audit.Target{Kind: structs.KindContainer, ID: containerID}
	if c := q.Service.Snapshot().Container(containerID); c != nil {
		noteTarget(q, c)
	}
}

// leaveLine writes the request's line once its status is known, before the answer. Reads
// leave one only if the policy refuses them.
func leaveLine(q *Request, status int) {
	q.W.audited = nil
	log := q.server.config.Audit
	switch {
	case q.audit.begun:
		log.End(event(q, status))
	case isAudited(q) || q.audit.code == structs.CodeForbidden && mayBeAudited(q):
		findTarget(q)
		log.Refused(event(q, status))
	}
}

// event returns the request as an event of the audit log. The path and the query may hold
// secrets, so it has neither.
func event(q *Request, status int) *audit.Event {
	reads, session := sessions[q.route.Action]
	e := &audit.Event{
		Action: string(q.route.Action), Reads: q.route.Method == http.MethodGet && (reads || !session),
		Outcome: audit.Success, Status: status, Code: q.audit.code,
		RequestID: q.W.RequestID, Method: q.route.Method, Route: q.route.FullPath(),
		Address: clientAddress(q), Agent: q.R.UserAgent(), Caller: auditCaller(q.Caller()), Target: q.audit.target,
	}
	switch {
	case q.audit.unknown:
		e.Outcome = audit.Unknown
	case status >= http.StatusBadRequest:
		e.Outcome = audit.Failure
	}
	return e
}

// auditCaller returns a caller as the audit log shows it.
func auditCaller(c structs.Caller) audit.Caller {
	who := audit.Caller{
		UserID: c.UserID, UserName: c.UserName, UserDomainID: c.UserDomainID,
		ProjectID: c.ProjectID, ProjectName: c.ProjectName, ProjectDomainID: c.ProjectDomainID,
		Roles: roleNames(c.Roles), Kind: string(c.Kind), TokenID: c.TokenID,
	}
	if s := c.Service; s != nil {
		who.Service = &audit.Service{UserID: s.UserID, UserName: s.UserName, ProjectID: s.ProjectID, Roles: roleNames(s.Roles)}
	}
	return who
}

func roleNames(roles []structs.Role) []string {
	names := make([]string, len(roles))
	for i, role := range roles {
		names[i] = string(role)
	}
	return names
}

// clientAddress returns the address of the client, "" if it has none.
func clientAddress(q *Request) string {
	if a := ClientAddress(q.R); a.IsValid() {
		return a.String()
	}
	return ""
}
