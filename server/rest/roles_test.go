package rest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/servertest"
	"github.com/stackforge/magnum/structs"
)

// tokens are the callers of tests that need several.
var tokens = identity.Static{
	"alice":   {ProjectID: "p1", UserID: "alice", Roles: []structs.Role{structs.RoleMember}},
	"reader":  {ProjectID: "p1", UserID: "rita", Roles: []structs.Role{structs.RoleReader}},
	"admin":   {ProjectID: "p1", UserID: "root", Roles: []structs.Role{structs.RoleAdmin}},
	"mallory": {ProjectID: "p2", UserID: "mallory", Roles: []structs.Role{structs.RoleMember}},
	"nobody":  {ProjectID: "p1", UserID: "norbert"},
}

// walkers are the callers that a walk over all routes tries, in the order of an
// expectation's statuses: no token, an unknown token, no role, reader, member, operator,
// member of another project.
var walkers = []string{"", "wrong", "nobody", "reader", "alice", "admin", "mallory"}

// walk has the status that each of the walkers gets on a route. 0 means any status that
// isn't a refusal of the policy.
var walk = map[string][7]int{
	"GET /":                {200, 200, 200, 200, 200, 200, 200},
	"GET /v1":              {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/openapi.json": {401, 401, 403, 200, 200, 200, 200},

	"POST /v1/bays":            {401, 401, 403, 403, 201, 201, 201},
	"GET /v1/bays":             {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/bays/detail":      {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/bays/:id":         {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/bays/:id/actions": {401, 401, 403, 200, 200, 200, 404},
	"PATCH /v1/bays/:id":       {401, 401, 403, 403, 200, 200, 404},
	"DELETE /v1/bays/:id":      {401, 401, 403, 403, 204, 204, 404},

	"GET /v1/bays/:id/config":      {401, 401, 403, 400, 400, 400, 404}, // it is no Kubernetes bay
	"POST /v1/bays/:id/credential": {401, 401, 403, 403, 400, 400, 404},

	"POST /v1/baymodels":            {401, 401, 403, 403, 201, 201, 201},
	"GET /v1/baymodels":             {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/baymodels/detail":      {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/baymodels/:id":         {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/baymodels/:id/actions": {401, 401, 403, 200, 200, 200, 404},
	"PATCH /v1/baymodels/:id":       {401, 401, 403, 403, 200, 200, 404},
	"DELETE /v1/baymodels/:id":      {401, 401, 403, 403, 204, 204, 404},

	"POST /v1/nodes":            {401, 401, 403, 403, 201, 201, 201},
	"GET /v1/nodes":             {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/nodes/detail":      {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/nodes/:id":         {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/nodes/:id/actions": {401, 401, 403, 200, 200, 200, 404},
	"PATCH /v1/nodes/:id":       {401, 401, 403, 403, 200, 200, 404},
	"DELETE /v1/nodes/:id":      {401, 401, 403, 403, 204, 204, 404},

	"GET /v1/hosts":             {401, 401, 403, 403, 403, 200, 403},
	"GET /v1/hosts/detail":      {401, 401, 403, 403, 403, 200, 403},
	"GET /v1/hosts/:id":         {401, 401, 403, 403, 403, 200, 403},
	"GET /v1/hosts/:id/actions": {401, 401, 403, 403, 403, 200, 403},

	"PATCH /v1/hosts/:id":       {401, 401, 403, 403, 403, 200, 403},
	"PUT /v1/hosts/:id/drain":   {401, 401, 403, 403, 403, 200, 403},
	"PUT /v1/hosts/:id/undrain": {401, 401, 403, 403, 403, 200, 403},
	"PUT /v1/hosts/:id/fence":   {401, 401, 403, 403, 403, 409, 403},
	"PUT /v1/hosts/:id/release": {401, 401, 403, 403, 403, 409, 403},
	"PUT /v1/hosts/:id/adopt":   {401, 401, 403, 403, 403, 400, 403},
	"DELETE /v1/hosts/:id":      {401, 401, 403, 403, 403, 409, 403}, // it is ready

	"POST /v1/containers":               {401, 401, 403, 403, 201, 201, 400},
	"GET /v1/containers":                {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/containers/detail":         {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/containers/:id":            {401, 401, 403, 200, 200, 200, 404},
	"PATCH /v1/containers/:id":          {401, 401, 403, 403, 200, 200, 404},
	"DELETE /v1/containers/:id":         {401, 401, 403, 403, 204, 204, 404},
	"PUT /v1/containers/:id/start":      {401, 401, 403, 403, 200, 200, 404},
	"PUT /v1/containers/:id/stop":       {401, 401, 403, 403, 200, 200, 404},
	"PUT /v1/containers/:id/reboot":     {401, 401, 403, 403, 200, 200, 404},
	"PUT /v1/containers/:id/pause":      {401, 401, 403, 403, 200, 200, 404},
	"PUT /v1/containers/:id/unpause":    {401, 401, 403, 403, 409, 409, 404}, // the container isn't paused
	"GET /v1/containers/:id/logs":       {401, 401, 403, 200, 200, 200, 404},
	"PUT /v1/containers/:id/execute":    {401, 401, 403, 403, 200, 200, 404},
	"GET /v1/containers/:id/execute/ws": {401, 401, 403, 403, 400, 400, 400}, // no upgrade

	"PUT /v1/containers/:id/kill":      {401, 401, 403, 403, 200, 200, 404},
	"PUT /v1/containers/:id/rename":    {401, 401, 403, 403, 200, 200, 404},
	"PUT /v1/containers/:id/rebuild":   {401, 401, 403, 403, 200, 200, 404},
	"GET /v1/containers/:id/attach/ws": {401, 401, 403, 403, 400, 400, 400}, // no upgrade
	"GET /v1/containers/:id/stats":     {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/containers/:id/top":       {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/containers/:id/actions":   {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/containers/:id/archive":   {401, 401, 403, 403, 200, 200, 404},
	"PUT /v1/containers/:id/archive":   {401, 401, 403, 403, 200, 200, 404},

	"POST /v1/pods":               {401, 401, 403, 403, 201, 201, 400},
	"GET /v1/pods":                {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/pods/detail":         {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/pods/:id":            {401, 401, 403, 200, 200, 200, 404},
	"PATCH /v1/pods/:id":          {401, 401, 403, 403, 200, 200, 404},
	"DELETE /v1/pods/:id":         {401, 401, 403, 403, 204, 204, 404},
	"GET /v1/pods/:id/logs":       {401, 401, 403, 200, 200, 200, 404},
	"PUT /v1/pods/:id/execute":    {401, 401, 403, 403, 200, 200, 404},
	"GET /v1/pods/:id/execute/ws": {401, 401, 403, 403, 400, 400, 400}, // no upgrade
	"GET /v1/pods/:id/attach/ws":  {401, 401, 403, 403, 400, 400, 400}, // no upgrade
	"GET /v1/pods/:id/forward/ws": {401, 401, 403, 403, 400, 400, 400}, // no upgrade
	"GET /v1/pods/:id/stats":      {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/pods/:id/top":        {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/pods/:id/actions":    {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/pods/:id/archive":    {401, 401, 403, 403, 200, 200, 404},
	"PUT /v1/pods/:id/archive":    {401, 401, 403, 403, 200, 200, 404},

	"POST /v1/rcs":            {401, 401, 403, 403, 201, 201, 400},
	"GET /v1/rcs":             {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/rcs/detail":      {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/rcs/:id":         {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/rcs/:id/actions": {401, 401, 403, 200, 200, 200, 404},
	"PATCH /v1/rcs/:id":       {401, 401, 403, 403, 200, 200, 404},
	"DELETE /v1/rcs/:id":      {401, 401, 403, 403, 204, 204, 404},

	"POST /v1/services":            {401, 401, 403, 403, 201, 201, 400},
	"GET /v1/services":             {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/services/detail":      {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/services/:id":         {401, 401, 403, 200, 200, 200, 404},
	"GET /v1/services/:id/actions": {401, 401, 403, 200, 200, 200, 404},
	"PATCH /v1/services/:id":       {401, 401, 403, 403, 200, 200, 404},
	"DELETE /v1/services/:id":      {401, 401, 403, 403, 204, 204, 404},

	"GET /v1/images":         {401, 401, 403, 200, 200, 200, 200},
	"POST /v1/images":        {401, 401, 403, 403, 200, 200, 400}, // mallory has no bay
	"PUT /v1/images/load":    {401, 401, 403, 403, 200, 200, 400},
	"PUT /v1/images/prune":   {401, 401, 403, 403, 403, 200, 403},
	"GET /v1/volumes":        {401, 401, 403, 200, 200, 200, 200},
	"DELETE /v1/volumes/:id": {401, 401, 403, 403, 204, 204, 404},

	"GET /v1/terminals/:sid": {400, 400, 400, 400, 400, 400, 400}, // no upgrade

	"GET /v1/events": {401, 401, 403, 400, 400, 400, 400}, // the request has an unknown type, because a valid stream doesn't end

	"GET /v1/operator/state":                {401, 401, 403, 403, 403, 200, 403},
	"GET /v1/operator/members":              {401, 401, 403, 403, 403, 503, 403}, // this server has no operations
	"GET /v1/operator/raft/peers":           {401, 401, 403, 403, 403, 503, 403},
	"PUT /v1/operator/snapshot":             {401, 401, 403, 403, 403, 503, 403},
	"GET /v1/operator/snapshot":             {401, 401, 403, 403, 403, 503, 403},
	"DELETE /v1/operator/raft/peers/:id":    {401, 401, 403, 403, 403, 503, 403},
	"PUT /v1/operator/raft/transfer-leader": {401, 401, 403, 403, 403, 503, 403},

	"GET /v1/metrics": {401, 401, 403, 403, 403, 404, 403}, // this server has no metrics

	"GET /v1/status/leader": {200, 200, 200, 200, 200, 200, 200},
	"GET /v1/status/health": {200, 200, 200, 200, 200, 200, 200},
	"GET /v1/status/ready":  {200, 200, 200, 200, 200, 200, 200},

	"GET /v1/quotas":                   {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/quotas/:id":               {401, 401, 403, 200, 200, 200, 404},
	"PUT /v1/quotas/:id":               {401, 401, 403, 403, 403, 200, 403},
	"DELETE /v1/quotas/:id":            {401, 401, 403, 403, 403, 204, 403},
	"GET /v1/quotas/:id/defaults":      {401, 401, 403, 200, 200, 200, 200},
	"GET /v1/quota_classes/default":    {401, 401, 403, 200, 200, 200, 200},
	"PUT /v1/quota_classes/default":    {401, 401, 403, 403, 403, 200, 403},
	"DELETE /v1/quota_classes/default": {401, 401, 403, 403, 403, 204, 403},

	"POST /v1/tokens":       {401, 401, 403, 403, 403, 201, 403},
	"GET /v1/tokens":        {401, 401, 403, 403, 403, 200, 403},
	"GET /v1/tokens/detail": {401, 401, 403, 403, 403, 200, 403},
	"GET /v1/tokens/:id":    {401, 401, 403, 403, 403, 200, 403},
	"DELETE /v1/tokens/:id": {401, 401, 403, 403, 403, 204, 403},

	"POST /v1/operator/bootstrap": {409, 409, 409, 409, 409, 409, 409}, // the first token was given out, or there are no local tokens

	// Agents have host secrets, so that no user's token is accepted.
	"POST /v1/agent/hosts":                  {401, 401, 401, 401, 401, 401, 401},
	"GET /v1/agent/hosts/:id/work":          {401, 401, 401, 401, 401, 401, 401},
	"GET /v1/agent/hosts/:id/drained":       {401, 401, 401, 401, 401, 401, 401},
	"POST /v1/agent/hosts/:id/status":       {401, 401, 401, 401, 401, 401, 401},
	"POST /v1/agent/hosts/:id/quarantine":   {401, 401, 401, 401, 401, 401, 401},
	"GET /v1/agent/hosts/:id/sessions/:sid": {401, 401, 401, 401, 401, 401, 401},
}

// TestEveryRouteByRole tries every route with every kind of caller. A route without an
// expectation fails.
func TestEveryRouteByRole(t *testing.T) {
	t.Run("static", func(t *testing.T) {
		walkRoutes(t, servertest.New(t, servertest.WithAuth(tokens)), func(name string) string { return name })
	})
	t.Run("tokens", func(t *testing.T) {
		s := servertest.New(t, servertest.WithTokens())
		walkRoutes(t, s, newLocal(t, s).token)
	})
	t.Run("keystone", func(t *testing.T) {
		walkRoutes(t, newCloud(t).server(), cloudToken)
	})
}

// walkRoutes tries the routes with all walkers. of returns a caller's token.
func walkRoutes(t *testing.T, s *servertest.Server, of func(name string) string) {
	agent := s.StartAgent(t, "host-1", servertest.Serve(serveText))
	root := newCaller(t, s).as(of("admin"))
	owner := newCaller(t, s).as(of("alice"))
	home := owner.do("POST", "/v1/bays?wait=1m", `{"name":"home"}`).is(201).uuid()
	manifest := func(image string) string {
		return strings.TrimSpace(toJSON(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"p-"},`+
			`"spec":{"containers":[{"name":"c","image":"`+image+`"}]}}`))
	}
	newPod := `{"bay":"` + home + `","manifest":` + manifest("busybox") + `}`
	made := 0
	rc := func() string { // with a selector of its own
		return strings.TrimSpace(toJSON(t, rcManifest(fmt.Sprint("rc-", made), 0, "busybox")))
	}
	service := func() string {
		return strings.TrimSpace(toJSON(t, serviceManifest(fmt.Sprint("s-", made), "ports: [{port: 80}]")))
	}
	newService := func() string {
		made++
		return `{"bay":"` + home + `","manifest":` + service() + `}`
	}
	newRC := func() string {
		made++
		return `{"bay":"` + home + `","manifest":` + rc() + `}`
	}
	seen := make(map[string]bool)
	for _, rt := range s.REST.Routes() {
		key := rt.Method + " " + rt.Path
		seen[key] = true
		want, ok := walk[key]
		if !ok {
			t.Errorf("%s (%s) has no expectation: who may call it?", key, rt.Action)
			continue
		}
		for i, token := range walkers {
			path, body := rt.Path, ""
			switch parts := strings.Split(rt.Path, "/"); {
			case strings.HasPrefix(rt.Path, "/v1/agent"):
				path = strings.NewReplacer(":id", agent.HostID, ":sid", "none").Replace(path)
				body = `{"host_id":"` + structs.NewID() + `","name":"x","join_token":"wrong","secret":"` + structs.NewSecret() +
					`","fingerprint":{"backend":"docker"}}`
			case parts[len(parts)-1] == ":id" || strings.Contains(rt.Path, ":id/"):
				id := ""
				switch parts[2] {
				case "bays":
					if id = home; rt.Method == "DELETE" {
						id = owner.do("POST", "/v1/bays", `{}`).is(201).uuid()
					}
				case "baymodels":
					id = owner.do("POST", "/v1/baymodels", `{"coe":"docker"}`).is(201).uuid()
				case "nodes":
					id = owner.do("POST", "/v1/nodes", `{}`).is(201).uuid()
				case "hosts":
					id = agent.HostID
				case "tokens":
					id = root.do("POST", "/v1/tokens", `{}`).is(201).uuid()
				case "volumes":
					id = "data"
				case "quotas":
					id = "p1"
				case "operator":
					id = "s1"
				case "containers":
					id = owner.do("POST", "/v1/containers?run=true&wait=1m", `{"image":"busybox","bay":"`+home+`"}`).is(201).uuid()
				case "pods":
					id = owner.do("POST", "/v1/pods?wait=1m", newPod).is(201).uuid()
				case "rcs":
					id = owner.do("POST", "/v1/rcs?wait=1m", newRC()).is(201).uuid()
				case "services":
					id = owner.do("POST", "/v1/services", newService()).is(201).uuid()
				}
				path = strings.Replace(path, ":id", id, 1)
			}
			switch {
			case rt.Method == "PATCH" && strings.Contains(path, "/bays/"):
				body = `[{"op":"replace","path":"/node_count","value":1}]`
			case rt.Method == "PATCH" && strings.Contains(path, "/hosts/"):
				body = `[{"op":"add","path":"/labels/zone","value":"a"}]`
			case rt.Method == "PATCH" && strings.Contains(path, "/pods/"):
				body = `[{"op":"replace","path":"/manifest","value":` + manifest("busybox:2") + `}]`
			case rt.Method == "PATCH" && strings.Contains(path, "/rcs/"):
				body = `[{"op":"replace","path":"/manifest","value":` + rc() + `}]`
			case rt.Method == "PATCH" && strings.Contains(path, "/services/"):
				body = `[{"op":"replace","path":"/manifest","value":` + service() + `}]`
			case rt.Method == "PATCH":
				body = `[{"op":"replace","path":"/name","value":"new"}]`
			case rt.Method == "PUT" && strings.Contains(path, "/quota"):
				body = `{"bays":100}`
			case body != "":
			case key == "POST /v1/baymodels":
				body = `{"coe":"docker"}`
			case key == "POST /v1/containers":
				body = `{"image":"busybox","bay":"` + home + `"}`
			case key == "POST /v1/pods":
				body = newPod
			case key == "POST /v1/rcs":
				body = newRC()
			case key == "POST /v1/services":
				body = newService()
			case key == "POST /v1/images":
				body = `{"image":"busybox","bay":"` + home + `"}`
			case rt.Method == "POST":
				body = `{}`
			}
			for end, query := range map[string]string{"/execute": "?command=ls", "/execute/ws": "?command=ls", "/rename": "?name=new",
				"/archive": "?path=/", "/events": "?type=none", "/prune": "?all=true", "/load": "?bay=" + home} {
				if strings.HasSuffix(path, end) {
					path += query
				}
			}
			if strings.HasPrefix(path, "/v1/rcs") && (rt.Method == "POST" || rt.Method == "PATCH") {
				path += "?wait=5s" // the servers count its pods after that
			}
			if rt.Method == "DELETE" && strings.Contains(path, "/containers/") {
				path += "?force=true"
			}
			try := func() *reply { return root.as(of(token)).do(rt.Method, path, body) }
			r := try()
			if r.status != want[i] {
				t.Errorf("%s as %q: status %d, want %d: %s", key, token, r.status, want[i], cut(string(r.body)))
			}
			if challenge := r.header.Get("WWW-Authenticate"); (challenge != "") != (want[i] == 401) ||
				want[i] == 401 && strings.HasPrefix(challenge, "Bearer") != strings.HasPrefix(rt.Path, "/v1/agent") {
				t.Errorf("%s as %q: WWW-Authenticate %q with %d", key, token, challenge, r.status)
			}
			if want[i] == 401 || want[i] == 403 {
				unchanged(t, s, fmt.Sprintf("%s as %q", key, token), func() { try() })
			}
		}
	}
	for key := range walk {
		if !seen[key] {
			t.Errorf("the expectation of %s is of no route", key)
		}
	}
}

// TestClaimsOfClientsAreIgnored checks that headers such as X-Roles give no rights.
func TestClaimsOfClientsAreIgnored(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	c := newCaller(t, s)
	claims := []header{{"X-Roles", "admin"}, {"X-User-Id", "root"}, {"X-Project-Id", "p1"}, {"X-Identity-Status", "Confirmed"},
		{"X-Tenant-Id", "p1"}, {"X-User", "root"}, {"X-Role", "admin"}, {"X-Is-Admin-Project", "True"},
		{"X-Service-Roles", "service"}, {"X-Service-Identity-Status", "Confirmed"}}
	c.do("GET", "/v1/hosts", "", claims...).is(401)
	c.as("reader").do("GET", "/v1/hosts", "", claims...).is(403)
	c.as("reader").do("POST", "/v1/bays", "{}", claims...).is(403)
	c.as("alice").do("GET", "/v1/bays", "", header{"X-Auth-Project-Id", "p1"}).is(200)
	c.as("alice").do("GET", "/v1/bays", "", header{"X-Auth-Project-Id", "p2"}).is(403)
	bay := c.as("alice").do("POST", "/v1/bays", "{}", append(claims, header{"X-Project-Id", "p2"})...).is(201).uuid()
	if got := s.Store.Snapshot().Bay(bay); got.ProjectID != "p1" || got.UserID != "alice" {
		t.Errorf("bay of project %q, user %q", got.ProjectID, got.UserID)
	}
	// Without a token a client doesn't learn whether a path exists.
	c.do("GET", "/v1/bogus", "").is(401)
	c.as("alice").do("GET", "/v1/bogus", "").is(404)
}

// TestHostSecretIsForOneHost checks that a host secret authenticates only its own host.
func TestHostSecretIsForOneHost(t *testing.T) {
	s := servertest.New(t, servertest.WithAuth(tokens))
	a, b := s.StartAgent(t, "a"), s.StartAgent(t, "b")
	c := newCaller(t, s)
	for _, secret := range []string{"", "Bearer ", "Bearer wrong", "Bearer " + b.Secret, a.Secret[1:], "Basic " + a.Secret} {
		unchanged(t, s, "another host's secret "+secret, func() {
			for _, h := range [][2]string{{"GET", "/work?index=0"}, {"POST", "/status"}, {"GET", "/sessions/x"}} {
				c.do(h[0], "/v1/agent/hosts/"+a.HostID+h[1], "{}", header{"Authorization", secret}).is(401)
			}
		})
	}
	c.do("GET", "/v1/agent/hosts/"+a.HostID+"/sessions/unknown", "", header{"Authorization", "Bearer " + a.Secret},
		header{"Upgrade", "websocket"}, header{"Connection", "Upgrade"}).is(404)
}
