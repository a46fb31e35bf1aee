package rest

import (
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/julienschmidt/httprouter"

	"github.com/stackforge/magnum/server/admission"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// route is one line of the route table.
type route struct {
	method string
	path   string // below /v1, with :parameters; the roots "/" and "/v1" stand for themselves
	action identity.Action
	handle func(*request) error
	args   []wire.Arg // query arguments that it takes; others are refused

	// For the OpenAPI document.
	summary string
	takes   any // a value of the body's type, nil if there is none
	gives   []wire.Answer

	takesMedia string   // of a body that isn't JSON; "" if it is
	streams    bool     // its body is read as it comes, for as long as that takes
	most       int64    // bytes of a body that doesn't stream; 0 means structs.MaxBody, or MaxRegistration if anybody may send it
	dialect    *dialect // of a second spelling of the API; nil of our own

	observe func(status int, took time.Duration)
}

// operation is the route as the OpenAPI document has it.
func (rt *route) operation() wire.Operation {
	o := wire.Operation{
		Method: rt.method, Path: rt.fullPath(), ID: string(rt.action) + " " + rt.path, Summary: rt.summary, Args: rt.args,
		Takes: rt.takes, TakesMedia: rt.takesMedia, Gives: rt.gives, Security: wire.SecurityToken, Agents: strings.HasPrefix(rt.path, "/agent/"),
	}
	switch rt.action {
	case identity.Public, identity.AgentRegister:
		o.Security = ""
	case identity.AgentCall:
		o.Security = wire.SecurityHost
	}
	return o
}

func (rt *route) fullPath() string {
	if rt.path == "/" || rt.path == "/v1" {
		return rt.path
	}
	return "/v1" + rt.path
}

// ok is the answer of what is done at once.
func ok(body any) []wire.Answer { return []wire.Answer{{Status: http.StatusOK, Body: body}} }

// made is the answer of a create that needs no host.
func made(body any) []wire.Answer { return []wire.Answer{{Status: http.StatusCreated, Body: body}} }

// created are the answers of a create that can be waited for.
func created(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusCreated, Body: body}, {Status: http.StatusAccepted, Body: body}}
}

// changed are the answers of a change that can be waited for.
func changed(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusOK, Body: body}, {Status: http.StatusAccepted, Body: body}}
}

// acted are the answers of an action: null, as in 2015, or the object while it is
// under way.
func acted(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusOK}, {Status: http.StatusAccepted, Body: body}}
}

// deleted are the answers of a delete that can be waited for.
func deleted(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusNoContent}, {Status: http.StatusAccepted, Body: body}}
}

// removed is the answer of a delete that is done at once.
func removed() []wire.Answer { return []wire.Answer{{Status: http.StatusNoContent}} }

// newRouter registers the routes. A route whose last segment stands where
// another has a parameter, such as /bays/detail beside /bays/:id, is kept apart,
// because httprouter knows only one of them.
func newRouter(s *webServer, routes []*route) (*httprouter.Router, map[string]*route) {
	params := make(map[string]bool)
	for _, rt := range routes {
		if parent, last := splitLast(rt.path); strings.HasPrefix(last, ":") {
			params[rt.method+" "+parent] = true
		}
	}
	router := httprouter.New()
	siblings := make(map[string]*route)
	for _, rt := range routes {
		if parent, last := splitLast(rt.path); params[rt.method+" "+parent] && !strings.HasPrefix(last, ":") {
			siblings[rt.method+" "+rt.path] = rt
			continue
		}
		router.Handle(rt.method, rt.path, func(w http.ResponseWriter, r *http.Request, ps httprouter.Params) {
			s.serve(rt, w.(*responseWriter), r, ps)
		})
	}
	return router, siblings
}

func splitLast(path string) (parent, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i], path[i+1:]
}

// cleanPath returns the path as the route table spells it: 2015 served every
// path also without /v1, and lists also with a slash at their end.
func cleanPath(path string) string {
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if rest, ok := strings.CutPrefix(path, "/v1/"); ok {
		return "/" + rest
	}
	return path
}

// methods are those that a route may have, in the order of the Allow header.
var methods = []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut}

// ServeHTTP finds the route and serves it.
func (s *webServer) ServeHTTP(hw http.ResponseWriter, r *http.Request) {
	w := &responseWriter{ResponseWriter: hw, store: s.config.Store, requestID: structs.NewRequestID()}
	started := time.Now()
	defer s.observe(w, started)
	defer func() {
		if cause := recover(); cause != nil {
			s.recovered(w, r, cause)
		}
		if s.config.Logger.IsDebug() {
			s.config.Logger.Debug("request served", "request_id", w.requestID, "method", r.Method, "path", r.URL.Path, "status", w.status, "duration", time.Since(started))
		}
	}()
	path := cleanPath(r.URL.EscapedPath())
	for _, d := range s.dialects {
		if d.serve(w, r, path) {
			return
		}
	}
	if s.config.Pprof && (path == pprofPath || strings.HasPrefix(path, pprofPath+"/")) {
		s.serve(profiles, w, r, nil)
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet // net/http drops the body
	}
	if rt := s.siblings[method+" "+path]; rt != nil {
		s.serve(rt, w, r, nil)
		return
	}
	if handle, params, _ := s.router.Lookup(method, path); handle != nil {
		handle(w, r, params)
		return
	}
	s.serve(s.missing(path), w, r, nil)
}

// missing is the route of a path or method that isn't one. It asks for a token
// like the others, so that nobody else learns which paths there are.
func (s *webServer) missing(path string) *route {
	var allow []string
	for _, m := range methods {
		if handle, _, _ := s.router.Lookup(m, path); handle != nil {
			allow = append(allow, m)
		}
	}
	return &route{action: identity.APIVersion, args: nil, handle: func(q *request) error {
		if len(allow) == 0 {
			return structs.Errorf(structs.CodeNotFound, "The resource could not be found.")
		}
		q.w.Header().Set("Allow", strings.Join(allow, ", "))
		return structs.Errorf(structs.CodeMethod, "The method %s is not allowed for this resource: it takes %s.", q.r.Method, strings.Join(allow, ", "))
	}}
}

// serve runs one request through what all routes share.
func (s *webServer) serve(rt *route, w *responseWriter, r *http.Request, params httprouter.Params) {
	w.route = rt
	q := &request{service: s.config.Service, server: s, route: rt, w: w, r: r, params: params}
	q.call.Transport, q.call.RequestID = (*transport)(q), w.requestID
	q.receive()
	defer q.forget()
	if err := q.admit(); err != nil {
		q.fail(err)
		return
	}
	defer q.guard()()
	if err := rt.handle(q); err != nil {
		q.fail(err)
	}
}

// admit lets the request in, or says why not.
func (q *request) admit() error {
	if err := q.admitPeer(); err != nil {
		return err
	}
	if err := q.checkSite(); err != nil {
		return err
	}
	if err := q.authenticate(); err != nil {
		return err
	}
	if q.route.method == "" {
		return nil // no route: its handler says so, whatever the arguments are
	}
	if err := q.checkBody(); err != nil {
		return err
	}
	raw := q.r.URL.RawQuery
	if q.route.dialect != nil {
		raw = q.route.dialect.query(raw)
	}
	values, err := wire.ReadQuery(raw)
	if err == nil && q.r.ContentLength != 0 && q.route.takesArguments() {
		if values == nil {
			values = make(url.Values)
		}
		if err = q.bodyArguments(values); err == nil {
			q.intoQuery(values)
		}
	}
	if err != nil {
		return err
	}
	if q.query, err = wire.CheckQuery(values, q.route.args); err != nil {
		return err
	}
	q.call.Freshness = q.freshness()
	return nil
}

// authenticate finds out who asks and whether the policy allows it. What a
// client says of itself in X-Roles, X-User-Id and the like is never looked at.
func (q *request) authenticate() error {
	switch q.route.action {
	case identity.Public, identity.AgentRegister:
		return nil
	case identity.PeerCall:
		if !q.call.Forwarded {
			return structs.Errorf(structs.CodeForbidden, "only servers of this cluster may ask that")
		}
		return nil
	case identity.AgentCall:
		secret, _ := strings.CutPrefix(q.r.Header.Get("Authorization"), "Bearer ")
		if err := q.server.config.Agents.Authenticate(q.r.Context(), q.ident(), secret); err != nil {
			return err
		}
		return q.prove(admission.Host, q.ident())
	}
	caller, err := q.server.config.Authenticator.Authenticate(q.r.Context(), q.token())
	if err != nil {
		return err
	}
	if err := identity.CheckProject(caller, q.r.Header.Get("X-Auth-Project-Id")); err != nil {
		return err
	}
	caller.RequestID = q.w.requestID
	q.call.Caller = caller
	if err := q.proveCaller(caller); err != nil {
		return err
	}
	return identity.Check(caller, q.route.action)
}

// prove counts the request's connection for who was let in by it. Errors:
// CodeRateLimited, CodeUnavailable; the connection ends then.
func (q *request) prove(kind admission.Kind, id string) error {
	if q.server.config.Connections == nil || q.call.Forwarded && kind != admission.Peer {
		return nil
	}
	err := q.server.config.Connections.Prove(q.r.Context(), kind, id)
	if err != nil {
		q.w.Header().Set("Connection", "close")
	}
	return err
}

// proveCaller is prove for a user.
func (q *request) proveCaller(caller structs.Caller) error {
	switch {
	case caller.TokenID != "":
		return q.prove(admission.Token, caller.TokenID)
	case q.server.config.Connections == nil || q.call.Forwarded:
		return nil
	case q.server.open:
		q.server.config.Connections.Serve(q.r.Context())
		return nil
	}
	return q.prove(admission.Token, caller.ProjectID+"\x00"+caller.UserID) // neither has a NUL in it
}

// recovered answers a request whose handler panicked. http.ErrAbortHandler is
// how a handler cuts an answer off that it has begun.
func (s *webServer) recovered(w *responseWriter, r *http.Request, cause any) {
	if cause == http.ErrAbortHandler {
		panic(cause)
	}
	s.config.Logger.Error("request panicked", "request_id", w.requestID, "method", r.Method, "path", r.URL.Path, "error", cause, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler) // too late for an answer: let the client see that it is cut off
	}
	writeError(w, service.ErrUnexpected)
}

// ident returns the identifier in the path: a UUID or a name.
func (q *request) ident() string { return q.param("id") }

func (q *request) param(name string) string {
	raw := q.params.ByName(name)
	if text, err := url.PathUnescape(raw); err == nil {
		return text
	}
	return raw
}

// token returns the token of the request. Prometheus can't send another header
// than Authorization, so metrics take a token there, too.
func (q *request) token() string {
	token := q.r.Header.Get("X-Auth-Token")
	if token == "" && q.route.action == identity.OperatorMetrics {
		token, _ = strings.CutPrefix(q.r.Header.Get("Authorization"), "Bearer ")
	}
	return token
}
