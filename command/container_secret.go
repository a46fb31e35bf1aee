package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/stackforge/magnum/structs"
)

// healthFlags adds the flags of the health check.
func (c *containerFlags) healthFlags(f *flagSet) {
	check := func() map[string]any {
		h, ok := c.body["healthcheck"].(map[string]any)
		if !ok {
			h = map[string]any{}
			c.body["healthcheck"] = h
		}
		return h
	}
	f.value("health-cmd", "COMMAND", "check with it, run by a shell, whether the container works", func(s string) error {
		if strings.TrimSpace(s) == "" {
			return errors.New("is empty: -no-healthcheck is no check")
		}
		check()["test"] = s
		return nil
	})
	seconds := func(name, key, usage string) {
		f.value(name, "DURATION", usage, func(s string) error {
			d, err := time.ParseDuration(s)
			if err != nil || d < time.Second || d%time.Second != 0 {
				return errors.New("is not a duration of whole seconds, such as 30s")
			}
			check()[key] = int(d / time.Second)
			return nil
		})
	}
	seconds("health-interval", "interval", "time between two checks (default 30s)")
	seconds("health-timeout", "timeout", "time that a check may take (default 30s)")
	f.number("health-retries", "N", "failures in a row that make it unhealthy (default 3)", 1, func(n int) { check()["retries"] = n })
	seconds("health-start-period", "start_period", "time after the start in which failures don't count (default none)")
	f.switchOn(&c.noCheck, "no-healthcheck", "no check, not even the image's own")
}

// credentials are those for a pull. The password is no flag: everybody on this
// machine could read it.
type credentials struct {
	structs.Registry      // without its password
	passwordStdin    bool // it is read from standard input
}

func (c *credentials) flags(f *flagSet) {
	f.text(&c.Username, "registry-username", "USER", "pull the image as this user; asks for the password")
	f.switchOn(&c.passwordStdin, "registry-password-stdin", "read the password from standard input instead")
	f.text(&c.Server, "registry-server", "HOST[:PORT]", "where the user is known (default the image's registry)")
}

// read returns the credentials with the password, nil if there are none.
func (c *credentials) read(e *env) (*structs.Registry, error) {
	if c.Username == "" {
		if c.passwordStdin || c.Server != "" {
			return nil, usagef("-registry-username is missing")
		}
		return nil, nil
	}
	password, err := c.password(e)
	if err != nil {
		return nil, err
	}
	if password == "" {
		return nil, usagef("the password of -registry-username is empty")
	}
	return &structs.Registry{Username: c.Username, Password: password, Server: c.Server}, nil
}

// secrets checks the flags of both and gets the password.
func (c *containerFlags) readSecrets() error {
	h, ok := c.body["healthcheck"].(map[string]any)
	switch {
	case ok && c.noCheck:
		return usagef("-no-healthcheck and the -health flags exclude each other")
	case ok && h["test"] == nil:
		return usagef("-health-cmd is missing: the other -health flags belong to it")
	case c.noCheck:
		c.body["healthcheck"] = map[string]any{"test": []string{}}
	}
	if c.registry.Username != "" && c.registry.passwordStdin && c.is("stdin") {
		return usagef("-registry-password-stdin takes standard input, which -i passes on: leave out one")
	}
	registry, err := c.registry.read(c.e)
	if registry != nil {
		c.body["registry"] = *registry
	}
	return err
}

// password reads the password: a line of standard input, or what is typed
// unseen at a terminal.
func (c *credentials) password(e *env) (string, error) {
	if c.passwordStdin {
		text, err := io.ReadAll(io.LimitReader(e.stdin, structs.MaxText+1))
		if err != nil {
			return "", fmt.Errorf("the password can't be read: %w", err)
		}
		if len(text) > structs.MaxText {
			return "", usagef("the password has more than %d bytes", structs.MaxText)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	fd, ok := terminalOf(e.stdin)
	if !ok {
		return "", usagef("standard input is no terminal to ask for the password at: use -registry-password-stdin")
	}
	fmt.Fprintf(e.stderr, "Password of %s: ", printable(c.Username))
	text, err := term.ReadPassword(fd)
	fmt.Fprintln(e.stderr)
	if err != nil {
		return "", fmt.Errorf("the password can't be read: %w", err)
	}
	return string(text), nil
}
