package rest

import (
	"context"
	"net/http"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// forwardRoute is the route of a TCP connection to a port of an object, which open opens. what
// names the object.
func forwardRoute(
	noun, what string, may identity.Action,
	open func(n service.Sessions, ctx context.Context, call *service.Call, ident string, port int64) (*dispatch.Session, error),
) *web.Route {
	port := wire.Arg{Name: "port", Kind: wire.ArgInt, Doc: "Port to connect to, 1 to 65535. It must be given."}
	return &web.Route{Method: http.MethodGet, Path: "/" + noun + "/:id/forward/ws", Action: may, Args: []wire.Arg{port},
		Summary: "Connect to a TCP port of a " + what + " (WebSocket)",
		Gives:   []wire.Answer{{Status: http.StatusSwitchingProtocols}},
		Handle: func(q *web.Request) error {
			if err := q.CheckUpgrade(); err != nil {
				return err
			}
			if !q.Query.Has("port") {
				return structs.Errorf(structs.CodeInvalid, "port is missing: give the port to connect to, such as ?port=80")
			}
			session, err := open(q.Service.Sessions(), q.Context(), &q.Call, q.Ident(), q.Query.Int("port", 0))
			if err != nil {
				return err
			}
			defer session.Close()
			return terminal(q, session)
		},
	}
}
