package server

import "github.com/stackforge/magnum/structs"

// shippedQuota returns the limits of projects for which no operator has set any: nil, which
// limits nothing, while callers aren't authenticated, because then there is one project.
func (c Config) shippedQuota() *structs.Amounts {
	if !c.tenants() {
		return nil
	}
	limits := structs.ShippedQuota()
	return &limits
}
