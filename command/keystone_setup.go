package command

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/openstack"
)

func keystoneSetupCommand() *command {
	return &command{
		name: "keystone-setup", group: groupOperators,
		synopsis: "Register magnum in Keystone's catalogue, so that clients find it",
		about: "Signs in at Keystone as an administrator, by -os-cloud or the OS_* variables of an openrc file, and provides\n" +
			"a service of type container with its public, internal and admin endpoints. -service-user also provides the\n" +
			"user by which the servers validate tokens, with the role service. Another run changes only what differs.\n" +
			"It calls Keystone only, so that no server has to run.\n\n" +
			"A user that exists keeps its password. A new one gets that of -service-password-file, else a generated\n" +
			"one, which is printed and is in no other place.",
		examples: []string{
			"magnum keystone-setup -url https://magnum.example.com:9511/v1 -service-user magnum",
			"magnum keystone-setup -os-cloud admin -url https://magnum.example.com -internal-url http://10.0.0.1:9511 -json",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			var out output
			want := openstack.Registration{}
			var url, internal, admin, passwordFile string
			f.text(&url, "url", "URL", "address of magnum for users: its public endpoint")
			f.text(&internal, "internal-url", "URL", "internal endpoint (default -url)")
			f.text(&admin, "admin-url", "URL", "admin endpoint (default -url)")
			f.text(&want.Region, "region", "REGION", "region of the endpoints").
				defaultText("$OS_REGION_NAME or the cloud's, else the only one")
			f.text(&want.Name, "name", "NAME", "name of the service").defaultText("magnum")
			f.text(&want.User, "service-user", "USER", "also provide this user for the servers, in the domain default")
			f.text(&want.Project, "service-project", "PROJECT", "project of the user, in the domain default").defaultText("service")
			f.text(&passwordFile, "service-password-file", "FILE", "file with the password of a new user (default a generated one)")
			out.flags(f)
			conn.cloudFlag(f)
			conn.debugFlag(f)
			return func(ctx context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				if err := out.check(); err != nil {
					return err
				}
				var err error
				if want.URLs, err = endpointURLs(url, internal, admin); err != nil {
					return err
				}
				want.Name, want.Project = orDefault(want.Name, "magnum"), orDefault(want.Project, "service")
				if passwordFile != "" {
					if want.User == "" {
						return usagef("-service-password-file needs -service-user")
					}
					if want.Password, err = readPassword(passwordFile); err != nil {
						return usagef("-service-password-file %s: %v", passwordFile, err)
					}
				}
				settings, err := openstack.Load(conn.cloud, e.getenv)
				if err != nil {
					return usagef("%v", err)
				}
				if settings == nil {
					return usagef("no login at Keystone: source an administrator's openrc file (OS_AUTH_URL and others), or give -os-cloud")
				}
				return setUpKeystone(ctx, e, &out, conn.session(e, settings), settings, want)
			}
		},
	}
}

// endpointURLs returns the endpoints by interface.
func endpointURLs(public, internal, admin string) (map[string]string, error) {
	if public == "" {
		return nil, usagef("-url is missing: it is the address of magnum for users, such as https://magnum.example.com:9511/v1")
	}
	urls := map[string]string{
		"public": public, "internal": orDefault(internal, public), "admin": orDefault(admin, public),
	}
	for _, face := range slices.Sorted(maps.Keys(urls)) {
		if !strings.Contains(urls[face], "://") {
			return nil, usagef("endpoint %q must be a URL that begins with http:// or https://", urls[face])
		}
		root, err := api.ParseAddress(urls[face])
		if err != nil {
			return nil, usagef("endpoint: %v", err)
		}
		urls[face] = root.String() + "/v1" // in one form, so that another run finds it
	}
	return urls, nil
}

// setUpKeystone registers magnum, and prints what was done, also before an error.
func setUpKeystone(ctx context.Context, e *env, out *output, session *openstack.Session, s *openstack.Settings,
	want openstack.Registration,
) error {
	p := newProgress(e)
	var steps []json.RawMessage
	password := ""
	failed := session.Register(ctx, want, func(step openstack.Step) error {
		p.show("%s %s: %s", step.Kind, step.Name, step.Result)
		if step.Password != "" {
			password = step.Password
		}
		raw, err := json.Marshal(step)
		steps = append(steps, raw)
		return err
	})
	p.clear()
	if len(steps) > 0 || failed == nil {
		if err := out.list(e.stdout, steps, []string{"kind", "name", "result", "detail", "id"}, nil, false); err != nil {
			return err
		}
	}
	if out.isTable() && (password != "" || failed == nil && want.User != "") {
		fmt.Fprint(e.stdout, keystoneBlock(s.AuthURL(), want, password))
	}
	return failed
}

// keystoneBlock returns the block of a server's -config file.
func keystoneBlock(authURL string, want openstack.Registration, password string) string {
	if password == "" {
		password = "..." // it was given, or was there
	}
	var b strings.Builder
	b.WriteString("\nFor the file of the servers' -config:\n\nkeystone {\n")
	for _, line := range [][2]string{
		{"auth_url    ", authURL}, {"username    ", want.User}, {"password    ", password}, {"project_name", want.Project},
	} {
		fmt.Fprintf(&b, "  %s = %s\n", line[0], strconv.Quote(line[1]))
	}
	b.WriteString("}\n")
	return b.String()
}
