package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

var tokens = noun{
	kind: structs.KindToken, group: groupOperators, plural: "tokens, without their secrets", example: "ci", complete: completeTokens,
	columns: []string{"uuid", "name", "project_id", "role", "join", "expires_at"},
	wide:    []string{"user_id", "expired", "created_at", "created_by"},
	filters: []string{"name"},
	list: func(ctx context.Context, c *api.Client, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Tokens().List(ctx, o)
		return meta, err
	},
	get: func(ctx context.Context, c *api.Client, ident string, o api.QueryOptions) (api.Meta, error) {
		_, meta, err := c.Tokens().Get(ctx, ident, o)
		return meta, err
	},
}

func tokenCommands() []*command {
	return []*command{tokenCreateCommand(), tokens.listCommand(), tokens.showCommand(), tokenRevokeCommand()}
}

func tokenCreateCommand() *command {
	return &command{
		name: "token-create", group: groupOperators,
		synopsis: "Create a token for a user, or for agents to register with",
		about: "The token is printed only once: the servers keep a hash of it. A user sets OS_TOKEN to it. -join creates\n" +
			"a join token, which agents take as -join-token to register for the first time. It has no other use. Until\n" +
			"it expires or is revoked, any number of hosts can be added with it, or -max-hosts. Its labels are those\n" +
			"of the hosts, whatever their agents claim: bays can choose hosts by them.\n\n" +
			"Roles: admin is an operator of the whole cluster; member can read and write the objects of the project;\n" +
			"reader can only read them.",
		examples: []string{
			"magnum token-create -name ci -project web -role member -expires 30d",
			"export OS_TOKEN=$(magnum token-create -role reader -q)",
			"magnum token-create -join -expires 24h -q > join-token",
			"magnum token-create -join -max-hosts 10 -label rack=r7 -q > join-token",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			var req structs.TokenRequest
			join, quiet := false, false
			most := 0
			f.value("name", "NAME", "name (default a generated one)", func(s string) error { req.Name = &s; return nil })
			f.text(&req.ProjectID, "project", "PROJECT", "project of the token (default your own)")
			f.text(&req.UserID, "user", "USER", "user of the token (default its name)")
			f.value("role", "admin|member|reader", "role in the project", func(s string) error { req.Role = structs.Role(s); return nil }).
				suggest("admin", "member", "reader").defaultText("member")
			f.value("expires", "DURATION", "time until the token expires, such as 12h or 30d", func(s string) (err error) {
				req.ExpiresIn, err = parseExpiry(s)
				return err
			}).defaultText("never")
			f.switchOn(&join, "join", "create a join token for agents; excludes -project, -user and -role")
			f.value("max-hosts", "N", "of a join token: how many hosts that registered with it there may be at a time", func(s string) (err error) {
				if most, err = strconv.Atoi(s); err != nil {
					return errors.New("is not a whole number")
				}
				req.MaxHosts = &most
				return nil
			}).defaultText("any number")
			f.value("label", "KEY=VALUE", "of a join token: label that its hosts get (may be repeated)", func(s string) error {
				key, value, err := parsePair(s)
				if err != nil {
					return err
				}
				if req.Labels == nil {
					req.Labels = make(map[string]string)
				}
				req.Labels[key] = value
				return nil
			})
			f.switchOn(&quiet, "quiet q", "print the token only")
			out.flags(f)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.checkedClient(e, &out, args)
				if err != nil {
					return err
				}
				req.Join = join
				made, meta, err := client.Tokens().Create(ctx, &req)
				if err != nil {
					return err
				}
				return showSecret(e, &out, quiet, made, meta)
			}
		},
	}
}

// showSecret prints a new token.
func showSecret(e *env, out *output, quiet bool, made *structs.TokenSecretBody, meta api.Meta) error {
	if quiet {
		_, err := fmt.Fprintln(e.stdout, made.Token)
		return err
	}
	if out.isTable() {
		fmt.Fprintln(e.stderr, "The token is shown only once: keep it now.")
	}
	return out.show(e.stdout, meta.Raw)
}

// parseExpiry parses a duration, also in days, and returns whole seconds.
func parseExpiry(s string) (*int, error) {
	wrong := errors.New("is not a duration of at least a second, such as 12h or 30d")
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 1 || n > structs.MaxTokenDays {
			return nil, fmt.Errorf("is not a number of days in 1..%d", structs.MaxTokenDays)
		}
		seconds := n * 24 * 60 * 60
		return &seconds, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < time.Second {
		return nil, wrong
	}
	seconds := int(d / time.Second)
	return &seconds, nil
}

func tokenRevokeCommand() *command {
	return &command{
		name: "token-revoke", group: groupOperators, args: "TOKEN [TOKEN...]", complete: completeTokens,
		synopsis: "Revoke tokens",
		about: "TOKEN is a uuid or a name. Each server refuses the token as soon as it has applied the change. Hosts that\n" +
			"registered with a join token stay registered.",
		examples: []string{"magnum token-revoke ci"},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				return e.forEach(ctx, "Revoke", structs.KindToken, args, func(ctx context.Context, ident string) error {
					_, err := client.Tokens().Revoke(ctx, ident)
					return err
				})
			}
		},
	}
}
