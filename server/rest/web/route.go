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

// Route is one line of the route table.
type Route struct {
	Method string
	Path   string // below /v1, with :parameters; the roots "/" and "/v1" stand for themselves
	Action identity.Action
	Handle func(*Request) error
	Args   []wire.Arg // query arguments that it takes; others are refused

	// For the OpenAPI document.
	Summary string
	Takes   any // a value of the body's type, nil if there is none
	Gives   []wire.Answer

	TakesMedia string   // of a body that isn't JSON; "" if it is
	Streams    bool     // its body is read as it comes, for as long as that takes
	MaxBody    int64    // bytes of a body that doesn't stream; 0 means structs.MaxBody, or MaxRegistration if anybody may send it
	Dialect    *Dialect // of a second spelling of the API; nil of our own

	observe func(status int, took time.Duration)
}

// Operation is the route as the OpenAPI document has it.
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

// OK is the answer of what is done at once.
func OK(body any) []wire.Answer { return []wire.Answer{{Status: http.StatusOK, Body: body}} }

// Made is the answer of a create that needs no host.
func Made(body any) []wire.Answer { return []wire.Answer{{Status: http.StatusCreated, Body: body}} }

// Created are the answers of a create that can be waited for.
func Created(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusCreated, Body: body}, {Status: http.StatusAccepted, Body: body}}
}

// Changed are the answers of a change that can be waited for.
func Changed(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusOK, Body: body}, {Status: http.StatusAccepted, Body: body}}
}

// Acted are the answers of an action: null, as in 2015, or the object while it is
// under way.
func Acted(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusOK}, {Status: http.StatusAccepted, Body: body}}
}

// Deleted are the answers of a delete that can be waited for.
func Deleted(body any) []wire.Answer {
	return []wire.Answer{{Status: http.StatusNoContent}, {Status: http.StatusAccepted, Body: body}}
}

// Removed is the answer of a delete that is done at once.
func Removed() []wire.Answer { return []wire.Answer{{Status: http.StatusNoContent}} }

// newRouter registers the routes. A route whose last segment stands where
// another has a parameter, such as /bays/detail beside /bays/:id, is kept apart,
// because httprouter knows only one of them.
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
func (s *Server) ServeHTTP(hw http.ResponseWriter, r *http.Request) {
	w := &ResponseWriter{ResponseWriter: hw, store: s.config.Store, RequestID: structs.NewRequestID()}
	started := time.Now()
	defer s.observe(w, started)
	defer func() {
		if cause := recover(); cause != nil {
			s.recovered(w, r, cause)
		}
		if s.config.Logger.IsDebug() {
			s.config.Logger.Debug("request served", "request_id", w.RequestID, "method", r.Method, "path", r.URL.Path, "status", w.Status,
				"duration", time.Since(started))
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

// serve runs one request through what all routes share.
func (s *Server) serve(rt *Route, w *ResponseWriter, r *http.Request, params httprouter.Params) {
	w.route = rt
	q := &Request{Service: s.config.Service, server: s, route: rt, W: w, R: r, params: params}
	q.Call.Transport, q.Call.RequestID = (*transport)(q), w.RequestID
	q.limitBodyTime()
	defer q.discardBody()
	if err := q.admit(); err != nil {
		q.fail(err)
		return
	}
	defer q.watchToken()()
	if err := rt.Handle(q); err != nil {
		q.fail(err)
	}
}

// admit lets the request in, or says why not.
func (q *Request) admit() error {
	if err := q.admitPeer(); err != nil {
		return err
	}
	if err := q.checkSite(); err != nil {
		return err
	}
	if err := q.authenticate(); err != nil {
		return err
	}
	if q.route.Method == "" {
		return nil // no route: its handler says so, whatever the arguments are
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
	return nil
}

// authenticate finds out who asks and whether the policy allows it. What a
// client says of itself in X-Roles, X-User-Id and the like is never looked at.
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
		return q.Prove(admission.Host, q.Ident())
	}
	caller, err := q.server.config.Authenticator.Authenticate(q.R.Context(), q.token())
	if err != nil {
		return err
	}
	if err := identity.CheckProject(caller, q.R.Header.Get("X-Auth-Project-Id")); err != nil {
		return err
	}
	caller.RequestID = q.W.RequestID
	q.Call.Caller = caller
	if err := q.ProveCaller(caller); err != nil {
		return err
	}
	return identity.Check(caller, q.route.Action)
}

// Prove counts the request's connection for who was let in by it. Errors:
// CodeRateLimited, CodeUnavailable; the connection ends then.
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

// ProveCaller is prove for a user.
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

// recovered answers a request whose handler panicked. http.ErrAbortHandler is
// how a handler cuts an answer off that it has begun.
func (s *Server) recovered(w *ResponseWriter, r *http.Request, cause any) {
	if cause == http.ErrAbortHandler {
		panic(cause)
	}
	s.config.Logger.Error("request panicked", "request_id", w.RequestID, "method", r.Method, "path", r.URL.Path, "error", cause, "stack",
		string(debug.Stack()))
	if w.Status != 0 {
		panic(http.ErrAbortHandler) // too late for an answer: let the client see that it is cut off
	}
	writeError(w, service.ErrUnexpected)
}

// Ident returns the identifier in the path: a UUID or a name.
func (q *Request) Ident() string { return q.Param("id") }

// Param returns a segment of the path by the name of its parameter, "" if it has
// none.
func (q *Request) Param(name string) string {
	raw := q.params.ByName(name)
	if text, err := url.PathUnescape(raw); err == nil {
		return text
	}
	return raw
}

// token returns the token of the request. Prometheus can't send another header
// than Authorization, so metrics take a token there, too.
func (q *Request) token() string {
	token := q.R.Header.Get("X-Auth-Token")
	if token == "" && q.route.Action == identity.OperatorMetrics {
		token, _ = strings.CutPrefix(q.R.Header.Get("Authorization"), "Bearer ")
	}
	return token
}
