package web

import (
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// pprofPath is the path at which Go's tools look for profiles.
const pprofPath = "/debug/pprof"

// profiles serves profiles. It is not a route of the API: a server has it only with
// Config.Pprof.
var profiles = &Route{Action: identity.OperatorPprof, Handle: servePprof}

// servePprof answers with a profile of this process.
func servePprof(q *Request) error {
	if q.R.Method != http.MethodGet {
		q.W.Header().Set("Allow", http.MethodGet)
		return structs.Errorf(structs.CodeMethod, "The method %s is not allowed for this resource: it takes GET.", q.R.Method)
	}
	q.W.Parked = true
	switch strings.TrimPrefix(q.R.URL.Path, pprofPath+"/") {
	case "cmdline": // it may contain secrets: a join token is a flag
		return structs.Errorf(structs.CodeNotFound, "The resource could not be found.")
	case "profile":
		pprof.Profile(q.W, q.R)
	case "symbol":
		pprof.Symbol(q.W, q.R)
	case "trace":
		pprof.Trace(q.W, q.R)
	default:
		pprof.Index(q.W, q.R)
	}
	return nil
}
