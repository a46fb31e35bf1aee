package server

import (
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/structs"
)

// shippedQuota returns the limits of projects for which no operator has set any: nil, which
// limits nothing, while callers aren't authenticated, because then there is one project.
func shippedQuota(a identity.Authenticator) *structs.Amounts {
	if _, none := a.(identity.None); none || a == nil {
		return nil
	}
	limits := structs.ShippedQuota()
	return &limits
}
