package rest

import (
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// pprofPath is where Go's tools look for profiles.
const pprofPath = "/debug/pprof"

// profiles is no route of the API: a server has it only if its operator said so.
var profiles = &route{action: identity.OperatorPprof, handle: servePprof}

// servePprof answers with a profile of this process.
func servePprof(q *request) error {
	if q.r.Method != http.MethodGet {
		q.w.Header().Set("Allow", http.MethodGet)
		return structs.Errorf(structs.CodeMethod, "The method %s is not allowed for this resource: it takes GET.", q.r.Method)
	}
	q.w.parked = true
	switch strings.TrimPrefix(q.r.URL.Path, pprofPath+"/") {
	case "cmdline": // may hold secrets: a join token is a flag
		return structs.Errorf(structs.CodeNotFound, "The resource could not be found.")
	case "profile":
		pprof.Profile(q.w, q.r)
	case "symbol":
		pprof.Symbol(q.w, q.r)
	case "trace":
		pprof.Trace(q.w, q.r)
	default:
		pprof.Index(q.w, q.r)
	}
	return nil
}
