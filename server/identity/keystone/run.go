package keystone

import (
	"context"
	"slices"
	"time"
)

// Times of Run.
const (
	sweepEvery = time.Minute
	keepStale  = 10 * time.Minute // an answer that is too old to be used still shows that the token was valid
)

// Run logs in, so that a wrong password is seen before the first user comes, checks the
// catalogue, and drops old answers until ctx ends. A Keystone that is away is no error: it is
// tried again, and requests are answered when it is back.
func (a *Authenticator) Run(ctx context.Context) error {
	greeted := a.greet(ctx)
	tick := time.NewTicker(a.sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			a.cache.sweep(now.Add(-keepStale))
			greeted = greeted || a.greet(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// greet logs in and looks for this cluster in the catalogue. It says what it finds, and reports
// whether it could log in.
func (a *Authenticator) greet(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	if err := a.client.login(ctx); err != nil {
		if ctx.Err() == nil || context.Cause(ctx) == context.DeadlineExceeded {
			a.log.Warn("keystone can't be logged in to yet: no token can be validated before", "auth_url", a.config.AuthURL, "error", err)
		}
		return false
	}
	services, urls := a.client.endpoints()
	a.log.Info("keystone authenticates callers", "auth_url", a.config.AuthURL, "endpoints", urls)
	a.checkEndpoints(services, urls)
	return true
}

// checkEndpoints warns if clients won't find this cluster in the catalogue, or another one.
// services is the number of services of type container, urls are their public endpoints.
func (a *Authenticator) checkEndpoints(services int, urls []string) {
	want := a.config.Endpoint
	differs := func(endpoint string) bool { return want != "" && comparableURL(endpoint) != comparableURL(want) }
	switch {
	case len(urls) == 0:
		a.log.Warn("keystone's catalogue has no public endpoint of type container: clients won't find this cluster by it "+
			"(\"magnum keystone-setup\" registers it)", "auth_url", a.config.AuthURL, "region", a.config.Region)
	case slices.ContainsFunc(urls, differs):
		a.log.Warn("keystone's catalogue has another public endpoint of type container than -keystone-endpoint: clients go there "+
			"(\"magnum keystone-setup\" changes it)", "endpoint", want, "catalogue", urls, "region", a.config.Region)
	case services > 1:
		a.log.Warn("keystone's catalogue has several services of type container: clients may choose another than this cluster",
			"services", services, "catalogue", urls)
	}
}
