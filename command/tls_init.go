package command

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/stackforge/magnum/internal/tlsconf"
)

// defaultDays is the default validity of a server's certificate.
const defaultDays = 365

// tlsResult is the output of tls-init.
type tlsResult struct {
	CA      string      `json:"ca"`      // path of the certificate
	Made    bool        `json:"made"`    // false if it existed
	Servers []tlsServer `json:"servers"` // in the order of the flags
}

type tlsServer struct {
	Names     []string  `json:"names"`
	Cert      string    `json:"cert"`
	Key       string    `json:"key"`
	Made      bool      `json:"made"`
	ExpiresAt time.Time `json:"expires_at"`
}

func tlsInitCommand() *command {
	return &command{
		name: "tls-init", group: groupDaemons,
		synopsis: "Create a CA and certificates of servers",
		about: "Creates a CA in DIR unless there is one, and a certificate with its key for each -server. It never\n" +
			"overwrites a file, so you can run it again to add servers. No daemon needs the CA's key: keep DIR where\n" +
			"you keep secrets. Copy to each server its own files and ca.pem. Agents and users need ca.pem only.\n\n" +
			"Every certificate has the name " + tlsconf.ServerName + ", by which servers verify each other.",
		examples: []string{
			"magnum tls-init -server s1.example.com,10.0.0.1 -server s2.example.com,10.0.0.2",
			"magnum tls-init -dir /root/magnum-tls -days 90 -server 10.0.0.3",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var out output
			dir, days := "magnum-tls", defaultDays
			var servers [][]string
			f.text(&dir, "dir", "DIR", "directory of all files").defaultText(dir)
			f.repeatable("server", "NAME[,NAME...]", "DNS names and IP addresses of a server; the first is in its files' names",
				func(s string) error {
					var names []string
					for name := range strings.SplitSeq(s, ",") {
						names = append(names, strings.TrimSpace(name))
					}
					servers = append(servers, names)
					return nil
				})
			validity := fmt.Sprintf("validity of servers' certificates, at most %d and not longer than the CA's", tlsconf.MaxDays)
			f.number("days", "N", validity, 1, func(n int) { days = n }).defaultText(fmt.Sprint(defaultDays))
			out.flags(f)
			return func(_ context.Context, args []string) error {
				if err := exactly(args); err != nil {
					return err
				}
				if err := out.check(); err != nil {
					return err
				}
				authority, err := tlsconf.OpenAuthority(dir)
				if err != nil {
					return err
				}
				made := tlsResult{CA: authority.CAFile(), Made: authority.Made, Servers: []tlsServer{}}
				for _, names := range servers {
					issued, err := authority.IssueServer(names, days)
					if err != nil {
						return err
					}
					made.Servers = append(made.Servers, tlsServer{
						Names: names, Cert: issued.Cert, Key: issued.Key, Made: issued.Made, ExpiresAt: issued.NotAfter.UTC(),
					})
				}
				if out.isTable() {
					_, err := fmt.Fprint(e.stdout, made.text())
					return err
				}
				raw, err := json.Marshal(made)
				if err != nil {
					return fmt.Errorf("encoding the result as JSON: %w", err)
				}
				return out.show(e.stdout, raw)
			}
		},
	}
}

// text returns the result for people, with the next steps.
func (m tlsResult) text() string {
	done := func(made bool) string {
		if made {
			return "made"
		}
		return "kept"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s, the CA\n", done(m.Made), m.CA)
	for _, s := range m.Servers {
		fmt.Fprintf(&b, "%s  %s, valid until %s\n", done(s.Made), s.Cert, s.ExpiresAt.Format(time.DateOnly))
	}
	if len(m.Servers) == 0 {
		b.WriteString("\nAdd a server's certificate with -server NAME[,NAME...].\n")
		return b.String()
	}
	b.WriteString("\nStart each server with its own files:\n")
	for _, s := range m.Servers {
		fmt.Fprintf(&b, "  magnum server -bind %s -encrypt KEY -auth token -tls-ca %s -tls-cert %s -tls-key %s\n",
			bindOf(s.Names), m.CA, s.Cert, s.Key)
	}
	fmt.Fprintf(&b, "KEY is the output of \"magnum keygen\", the same for all servers and agents.\n"+
		"Agents and users need only the CA: -tls-ca %s\n", m.CA)
	return b.String()
}

// bindOf returns the first IP address in names, for -bind; "IP" if there is none.
func bindOf(names []string) string {
	for _, name := range names {
		if strings.Trim(name, "0123456789.") == "" || strings.Contains(name, ":") {
			return name
		}
	}
	return "IP"
}
