package web

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

// Route is one entry of the route table.
type Route struct {
	Method string
	Path   string // below /v1, with :parameters; the roots "/" and "/v1" stand for themselves
	Action identity.Action
	Handle func(*Request) error
	Args   []wire.Arg // query arguments; others are refused

	// For the OpenAPI document.
	Summary string
	Takes   any // a value of the request body's type, nil if there is no body
	Gives   []wire.Answer

	TakesMedia string   // media type of the request body; "" means JSON
	Streams    bool     // the body is streamed: its deadline is for each read
	MaxBody    int64    // bytes of a body that isn't streamed; 0 means structs.MaxBody, or MaxRegistration if the route is public
	Manifest   bool     // the request body carries a manifest
	Dialect    *Dialect // nil means magnum's own API

	observe func(status int, took time.Duration)
}

// Operation returns the route as an operation of the OpenAPI document.
func (rt *Route) Operation() wire.Operation {
	o := wire.Operation{
		Method: rt.Method, Path: rt.FullPath(), ID: string(rt.Action) + " " + rt.Path, Summary: rt.Summary, Args: rt.Args,
		Takes: rt.Takes, TakesMedia: rt.TakesMedia, Gives: rt.Gives, Security: wire.SecurityToken,
		Agents: strings.HasPrefix(rt.Path, "/agent/"),
	}
	switch rt.Action {
	case identity.Public, identity.AgentRegister:
		o.Security = ""
	case identity.AgentCall:
		o.Security = wire.SecurityHost
	}
	return o
}

// FullPath returns the path from the root.
func (rt *Route) FullPath() string {
	if rt.Path == "/" || rt.Path == "/v1" {
		return rt.Path
	}
	return "/v1" + rt.Path
}

// OK is the response of an operation that is complete at once.
func OK(body any) []wire.Answer { return []wire.Answer{{Status: http.StatusOK, Body: body}} }

// CreatedNow is the response of a create that is complete at once.
func CreatedNow(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusCreated, Body: body}}
}

// Created are the responses of a create that can wait for its result.
func Created(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusCreated, Body: body}, {Status: http.StatusAccepted, Body: body}}
}

// Changed are the responses of a change that can wait for its result.
func Changed(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusOK, Body: body}, {Status: http.StatusAccepted, Body: body}}
}

// Acted are the responses of an action: null, as in 2015, or the object while the
// action is in progress.
func Acted(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusOK}, {Status: http.StatusAccepted, Body: body}}
}

// Deleted are the responses of a delete that can wait for its result.
func Deleted(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusNoContent}, {Status: http.StatusAccepted, Body: body}}
}

// DeletedNow is the response of a delete that is complete at once.
func DeletedNow() []wire.Answer { return []wire.Answer{{Status: http.StatusNoContent}} }

// newRouter registers the routes. A route whose last segment is at the place of another
// route's parameter, such as /bays/detail and /bays/:id, is returned in the map, because
// httprouter accepts only one of the two.
func newRouter(s *Server, routes []*Route) (*httprouter.Router, map[string]*Route) {
	params := make(map[string]bool)
	for _, rt := range routes {
		if parent, last := splitLast(rt.Path); strings.HasPrefix(last, ":") {
			params[rt.Method+" "+parent] = true
		}
	}
	router := httprouter.New()
	siblings := make(map[string]*Route)
	for _, rt := range routes {
		if parent, last := splitLast(rt.Path); params[rt.Method+" "+parent] && !strings.HasPrefix(last, ":") {
			siblings[rt.Method+" "+rt.Path] = rt
			continue
		}
		router.Handle(rt.Method, rt.Path, func(w http.ResponseWriter, r *http.Request, ps httprouter.Params) {
			s.serve(rt, w.(*ResponseWriter), r, ps)
		})
	}
	return router, siblings
}

func splitLast(path string) (parent, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:i], path[i+1:]
}

// cleanPath returns the path in the form of the route table. As in 2015, every path is
// also served without /v1, and lists also with a slash at the end.
func cleanPath(path string) string {
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	if rest, ok := strings.CutPrefix(path, "/v1/"); ok {
		return "/" + rest
	}
	return path
}

// methods are the methods of routes, in the order of the Allow header.
var methods = []string{http.MethodDelete, http.MethodGet, http.MethodPatch, http.MethodPost, http.MethodPut}

// ServeHTTP finds the route and serves it.
func (s *Server) ServeHTTP(hw http.ResponseWriter, r *http.Request) {
	started := time.Now()
	r, scheme := s.config.Proxies.unwrap(r)
	w := &ResponseWriter{ResponseWriter: hw, store: s.config.Store, RequestID: structs.NewRequestID(), scheme: scheme,
		writeTime: s.config.WriteTime, unread: s.unread, extended: started}
	defer w.endAudit() // of a handler that sent nothing
	defer s.observe(w, started)
	defer func() {
		if cause := recover(); cause != nil {
			s.recovered(w, r, cause)
		}
		if s.config.Logger.IsDebug() {
			s.config.Logger.Debug("request served", "request_id", w.RequestID, "method", r.Method, "path", r.URL.Path,
				"addr", ClientAddress(r), "status", w.Status, "duration", time.Since(started))
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

// missing returns a route for a path or method that has none. It needs a token, too, so
// that nobody without one learns which paths exist.
func (s *Server) missing(path string) *Route {
	var allow []string
	for _, m := range methods {
		if handle, _, _ := s.router.Lookup(m, path); handle != nil {
			allow = append(allow, m)
		}
	}
	return &Route{Action: identity.APIVersion, Args: nil, Handle: func(q *Request) error {
		if len(allow) == 0 {
			return structs.Errorf(structs.CodeNotFound, "The resource could not be found.")
		}
		q.W.Header().Set("Allow", strings.Join(allow, ", "))
		return structs.Errorf(structs.CodeMethod, "The method %s is not allowed for this resource: it takes %s.", q.R.Method,
			strings.Join(allow, ", "))
	}}
}

// serve admits one request, runs the route's handler and answers with its error.
func (s *Server) serve(rt *Route, w *ResponseWriter, r *http.Request, params httprouter.Params) {
	w.route = rt
	q := &Request{Service: s.config.Service, server: s, route: rt, W: w, R: r, params: params}
	q.Call.Transport, q.Call.RequestID = (*transport)(q), w.RequestID
	defer q.Use.Release()
	q.limitBodyTime()
	defer q.discardBody()
	if s.config.Audit != nil {
		w.audited = q
	}
	if err := q.admit(); err != nil {
		q.fail(err)
		return
	}
	if err := beginAudit(q); err != nil {
		q.fail(err)
		return
	}
	defer q.watchToken()()
	if err := rt.Handle(q); err != nil {
		countFailure(q, err)
		q.fail(err)
	}
}

// admit authenticates the request, checks its origin and body, and reads its arguments.
func (q *Request) admit() error {
	if err := q.admitPeer(); err != nil {
		return err
	}
	if err := q.checkSite(); err != nil {
		return err
	}
	if err := authenticateLimited(q); err != nil {
		return err
	}
	if q.route.Method == "" {
		return nil // there is no route, so no arguments to check: the handler answers 404 or 405
	}
	if err := q.checkBody(); err != nil {
		return err
	}
	raw := q.R.URL.RawQuery
	if q.route.Dialect != nil {
		raw = q.route.Dialect.Query(raw)
	}
	values, err := wire.ReadQuery(raw)
	if err == nil && q.R.ContentLength != 0 && q.route.takesArguments() {
		if values == nil {
			values = make(url.Values)
		}
		if err = q.bodyArguments(values); err == nil {
			q.moveArgumentsToQuery(values)
		}
	}
	if err != nil {
		return err
	}
	if q.Query, err = wire.CheckQuery(values, q.route.Args); err != nil {
		return err
	}
	q.Call.Freshness = q.freshness()
	return askAllProjects(q)
}

// authenticate determines the caller and checks that the policy allows the action.
// Headers such as X-Roles and X-User-Id, which the client can set, are ignored.
func (q *Request) authenticate() error {
	switch q.route.Action {
	case identity.Public, identity.AgentRegister:
		return nil
	case identity.PeerCall:
		if !q.Call.Forwarded {
			return structs.Errorf(structs.CodeForbidden, "only servers of this cluster may ask that")
		}
		return nil
	case identity.AgentCall:
		secret, _ := strings.CutPrefix(q.R.Header.Get("Authorization"), "Bearer ")
		if err := q.server.config.Agents.Authenticate(q.R.Context(), q.Ident(), secret); err != nil {
			return err
		}
		q.server.config.Limits.OfHost(&q.Use, q.Ident())
		return q.Prove(admission.Host, q.Ident())
	}
	caller, known := q.server.forwardedCaller(q)
	if !known {
		var err error
		caller, err = q.server.config.Authenticator.Authenticate(q.R.Context(), identity.Credentials{
			Token: q.token(), ServiceToken: q.R.Header.Get("X-Service-Token"),
		})
		if err != nil {
			q.server.failures.note(q, err)
			return err
		}
	}
	if q.server.config.Rules != nil {
		caller.Rules = q.server.config.Rules()
	}
	if err := identity.CheckProject(caller, q.R.Header.Get("X-Auth-Project-Id")); err != nil {
		return err
	}
	caller.RequestID = q.W.RequestID
	caller.AllProjects = q.Call.Caller.AllProjects && identity.May(caller, identity.AllProjects) // of a request that is checked again
	q.Call.Caller = caller
	if err := q.ProveCaller(caller); err != nil {
		return err
	}
	if err := Charge(q, caller); err != nil {
		return err
	}
	return identity.Check(caller, q.route.Action)
}

// Prove counts the request's connection for the credential that authenticated it. kind
// and id name the credential. Errors are CodeRateLimited and CodeUnavailable, after
// which the connection is closed.
func (q *Request) Prove(kind admission.Kind, id string) error {
	if q.server.config.Connections == nil || q.Call.Forwarded && kind != admission.Peer {
		return nil
	}
	err := q.server.config.Connections.Prove(q.R.Context(), kind, id)
	if err != nil {
		q.W.Header().Set("Connection", "close")
	}
	return err
}

// ProveCaller is Prove for a caller.
func (q *Request) ProveCaller(caller structs.Caller) error {
	switch {
	case caller.TokenID != "":
		return q.Prove(admission.Token, caller.TokenID)
	case q.server.config.Connections == nil || q.Call.Forwarded:
		return nil
	case q.server.open:
		q.server.config.Connections.Serve(q.R.Context())
		return nil
	}
	return q.Prove(admission.Token, caller.ProjectID+"\x00"+caller.UserID) // neither has a NUL in it
}

// recovered answers a request whose handler panicked. A handler panics with
// http.ErrAbortHandler to cut off a response that it has begun.
func (s *Server) recovered(w *ResponseWriter, r *http.Request, cause any) {
	if cause == http.ErrAbortHandler {
		panic(cause)
	}
	s.config.Logger.Error("request panicked", "request_id", w.RequestID, "method", r.Method, "path", r.URL.Path,
		"error", cause, "stack", string(debug.Stack()))
	if w.Status != 0 {
		panic(http.ErrAbortHandler) // the response has begun: show the client that it is cut off
	}
	writeError(w, service.ErrUnexpected)
}

// Ident returns the identifier in the path: a UUID or a name.
func (q *Request) Ident() string { return q.Param("id") }

// Param returns the value of a path parameter, "" if the route doesn't have it.
func (q *Request) Param(name string) string {
	raw := q.params.ByName(name)
	if text, err := url.PathUnescape(raw); err == nil {
		return text
	}
	return raw
}

// token returns the request's token. The metrics also accept it in Authorization,
// because Prometheus can send no other header.
func (q *Request) token() string {
	token := q.R.Header.Get("X-Auth-Token")
	if token == "" && q.route.Action == identity.OperatorMetrics {
		token, _ = strings.CutPrefix(q.R.Header.Get("Authorization"), "Bearer ")
	}
	return token
}
