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
	f.value("health-cmd", "COMMAND", "shell command that checks the container's health", func(s string) error {
		if strings.TrimSpace(s) == "" {
			return errors.New("is empty: -no-healthcheck turns the check off")
		}
		check()["test"] = s
		return nil
	})
	seconds := func(name, key, usage string) {
		f.value(name, "DURATION", usage, func(s string) error {
			d, err := time.ParseDuration(s)
			if err != nil || d < time.Second || d%time.Second != 0 {
				return errors.New("is not a duration of whole seconds such as 30s")
			}
			check()[key] = int(d / time.Second)
			return nil
		})
	}
	seconds("health-interval", "interval", "time between two checks (default 30s)")
	seconds("health-timeout", "timeout", "time limit of a check (default 30s)")
	f.number("health-retries", "N", "consecutive failures until it is unhealthy (default 3)", 1, func(n int) { check()["retries"] = n })
	seconds("health-start-period", "start_period", "time after the start during which failures don't count (default none)")
	f.switchOn(&c.noCheck, "no-healthcheck", "disable the check, also that of the image")
}

// credentials are the registry credentials of a pull. The password is not a flag,
// because other users of the machine can read command lines.
type credentials struct {
	structs.Registry      // without its password
	passwordStdin    bool // read the password from standard input
}

func (c *credentials) flags(f *flagSet) {
	f.text(&c.Username, "registry-username", "USER", "pull the image as this user; prompts for the password")
	f.switchOn(&c.passwordStdin, "registry-password-stdin", "read the password from standard input instead")
	f.text(&c.Server, "registry-server", "HOST[:PORT]", "registry of the user (default the image's registry)")
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

// readSecrets checks the flags of the health check and the registry, and reads the
// password.
func (c *containerFlags) readSecrets() error {
	h, ok := c.body["healthcheck"].(map[string]any)
	switch {
	case ok && c.noCheck:
		return usagef("-no-healthcheck and the -health flags exclude each other")
	case ok && h["test"] == nil:
		return usagef("-health-cmd is missing: the other -health flags require it")
	case c.noCheck:
		c.body["healthcheck"] = map[string]any{"test": []string{}}
	}
	if c.registry.Username != "" && c.registry.passwordStdin && c.is("stdin") {
		return usagef("-registry-password-stdin and -i both use standard input: leave out one")
	}
	registry, err := c.registry.read(c.e)
	if registry != nil {
		c.body["registry"] = *registry
	}
	return err
}

// password reads the password from standard input, or prompts for it at the terminal
// without echo.
func (c *credentials) password(e *env) (string, error) {
	if c.passwordStdin {
		text, err := io.ReadAll(io.LimitReader(e.stdin, structs.MaxText+1))
		if err != nil {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		if len(text) > structs.MaxText {
			return "", usagef("the password is longer than %d bytes", structs.MaxText)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	fd, ok := terminalOf(e.stdin)
	if !ok {
		return "", usagef("standard input is not a terminal to prompt for the password: use -registry-password-stdin")
	}
	fmt.Fprintf(e.stderr, "Password of %s: ", printable(c.Username))
	text, err := term.ReadPassword(fd)
	fmt.Fprintln(e.stderr)
	if err != nil {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	return string(text), nil
}
