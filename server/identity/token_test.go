package identity

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

func TestTokensAuthenticateOnlyValidTokens(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	known := map[string]*structs.Token{}
	behind := map[string]*structs.Token{} // tokens that CatchUp applies
	add := func(to map[string]*structs.Token, token structs.Token) string {
		id, secret := structs.NewID(), structs.NewSecret()
		token.ID, token.Hash = id, structs.HashSecret(secret)
		to[id] = &token
		return structs.FormatToken(id, secret)
	}
	var away error
	a := Tokens{
		Find: func(id string) *structs.Token { return known[id] },
		CatchUp: func(context.Context) error {
			for id, token := range behind {
				known[id] = token
			}
			return away
		},
		Now: func() time.Time { return now },
	}
	good := add(known, structs.Token{Project: "p", User: "u", Role: structs.RoleReader})
	late := add(behind, structs.Token{Project: "q", User: "v", Role: structs.RoleMember, ExpiresAt: now.Add(time.Second)})
	over := add(known, structs.Token{Project: "p", User: "u", Role: structs.RoleAdmin, ExpiresAt: now})
	join := add(known, structs.Token{Join: true})
	id, secret, _ := structs.ParseToken(good)
	_, foreign, _ := structs.ParseToken(over)

	for token, want := range map[string]structs.Caller{
		good: {ProjectID: "p", UserID: "u", Roles: []structs.Role{structs.RoleReader}},
		late: {ProjectID: "q", UserID: "v", Roles: []structs.Role{structs.RoleMember}},
	} {
		got, err := a.Authenticate(context.Background(), Credentials{Token: token})
		if err != nil || got.ProjectID != want.ProjectID || got.UserID != want.UserID || !got.Is(want.Roles[0]) || len(got.Roles) != 1 {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
	for what, c := range map[string]struct{ token, says string }{
		"none":                   {"", "Authentication required"},
		"garbage":                {"garbage", "not valid"},
		"a UUID":                 {id, "not valid"},
		"without its prefix":     {strings.TrimPrefix(good, "mgt_"), "not valid"},
		"without its secret":     {"mgt_" + id + "_", "not valid"},
		"with another's secret":  {structs.FormatToken(id, foreign), "not valid"},
		"with its hash":          {structs.FormatToken(id, known[id].Hash), "not valid"},
		"with another character": {good + "0", "not valid"},
		"in capitals":            {strings.ToUpper(good), "not valid"},
		"an unknown one":         {structs.FormatToken(structs.NewID(), secret), "not valid"},
		"expired":                {over, "has expired"},
		"expired, bad secret":    {over + "0", "not valid"},
		"a join token":           {join, "join token"},
		"a join, bad secret":     {join + "0", "not valid"},
	} {
		caller, err := a.Authenticate(context.Background(), Credentials{Token: c.token})
		if structs.CodeOf(err) != structs.CodeUnauthenticated || !strings.Contains(err.Error(), c.says) ||
			caller.ProjectID != "" || caller.Roles != nil {
			t.Errorf("%s: %+v, %v", what, caller, err)
		}
		if c.token != "" && err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error contains the secret", what)
		}
	}
	away = errors.New("no leader")
	unknown := structs.FormatToken(structs.NewID(), secret)
	if _, err := a.Authenticate(context.Background(), Credentials{Token: unknown}); structs.CodeOf(err) != structs.CodeUnavailable {
		t.Errorf("an unknown token without a leader: %v", err)
	}
	if _, err := a.Authenticate(context.Background(), Credentials{Token: good}); err != nil {
		t.Errorf("a known token without a leader: %v", err)
	}
}
