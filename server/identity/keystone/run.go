package keystone

import (
	"context"
	"time"
)

// Times of Run.
const (
	sweepEvery = time.Minute
	keepStale  = 10 * time.Minute // an answer that is too old to be used still shows that the token was valid
)

// Run logs in, so that a wrong password is seen before the first user comes, and drops old
// answers until ctx ends. A Keystone that is away is no error: requests are answered when
// it is back.
func (a *Authenticator) Run(ctx context.Context) error {
	a.greet(ctx)
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			a.cache.sweep(now.Add(-keepStale))
		case <-ctx.Done():
			return nil
		}
	}
}

// greet logs in and looks for this cluster in the catalogue. It says what it finds.
func (a *Authenticator) greet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, a.config.Timeout)
	defer cancel()
	if err := a.client.login(ctx); err != nil {
		if ctx.Err() == nil || context.Cause(ctx) == context.DeadlineExceeded {
			a.log.Warn("keystone can't be logged in to yet: no token can be validated before", "auth_url", a.config.AuthURL, "error", err)
		}
		return
	}
	urls := a.client.endpoints()
	if len(urls) == 0 {
		a.log.Warn("keystone's catalogue has no public endpoint of type container: clients won't find this cluster by it "+
			"(\"magnum keystone-setup\" registers it)", "auth_url", a.config.AuthURL, "region", a.config.Region)
		return
	}
	a.log.Info("keystone authenticates callers", "auth_url", a.config.AuthURL, "endpoints", urls)
}
