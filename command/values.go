package command

import (
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// This file parses the values of flags that docker also has. The text of each error
// follows the value: `"x" is not ...`.

// parsePair parses KEY=VALUE; without = the value is "".
func parsePair(s string) (key, value string, err error) {
	key, value, _ = strings.Cut(s, "=")
	if key == "" {
		return "", "", errors.New("has no key: write KEY=VALUE")
	}
	return key, value, nil
}

// parseEnvironment parses KEY=VALUE, or KEY with the value that lookup returns. ok is
// false for a KEY that lookup doesn't find.
func parseEnvironment(s string, lookup func(string) (string, bool)) (key, value string, ok bool, err error) {
	key, value, hasValue := strings.Cut(s, "=")
	switch {
	case key == "":
		return "", "", false, errors.New("has no name: write KEY=VALUE, or KEY for the value in your environment")
	case strings.ContainsRune(key, 0) || strings.ContainsRune(value, 0):
		return "", "", false, errors.New("has a zero byte")
	case hasValue:
		return key, value, true, nil
	}
	value, ok = lookup(key)
	return key, value, ok, nil
}

// parsePort parses [HOST:]CONTAINER[/PROTOCOL].
func parsePort(s string) (structs.Port, error) {
	ports, protocol, hasProtocol := strings.Cut(s, "/")
	if !hasProtocol {
		protocol = "tcp"
	}
	protocol = strings.ToLower(protocol)
	if protocol != "tcp" && protocol != "udp" {
		return structs.Port{}, fmt.Errorf("has the protocol %q: write tcp or udp", protocol)
	}
	p := structs.Port{Protocol: protocol}
	host, container, both := strings.Cut(ports, ":")
	if !both {
		host, container = "", ports
	}
	if strings.Contains(container, ":") || strings.Contains(ports, "[") || net.ParseIP(host) != nil {
		return structs.Port{}, errors.New("names an address: a port is published on all addresses of the host, " +
			"so write [HOST:]CONTAINER[/tcp|udp]")
	}
	if strings.Contains(ports, "-") {
		return structs.Port{}, errors.New("is a range: publish each port with its own flag")
	}
	var err error
	if p.ContainerPort, err = parsePortNumber(container, 1); err != nil {
		return structs.Port{}, err
	}
	if host != "" {
		if p.HostPort, err = parsePortNumber(host, 0); err != nil {
			return structs.Port{}, err
		}
	}
	return p, nil
}

// parsePortNumber parses a number in least..65535.
func parsePortNumber(s string, least int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > 65535 || strings.HasPrefix(s, "+") {
		return 0, fmt.Errorf("has the port %q, which is not in %d..65535: write [HOST:]CONTAINER[/tcp|udp]", s, least)
	}
	return n, nil
}

// parseVolume parses NAME:TARGET[:ro|rw].
func parseVolume(s string) (structs.Mount, error) {
	const form = "write NAME:/TARGET or NAME:/TARGET:ro"
	parts := strings.Split(s, ":")
	m := structs.Mount{Type: structs.MountVolume}
	switch {
	case len(parts) < 2:
		return m, errors.New("has no name or no target: " + form)
	case len(parts) > 3:
		return m, errors.New("has too many colons: " + form)
	case parts[0] == "":
		return m, errors.New("has no name: " + form)
	case strings.ContainsAny(parts[0], "/\\") || parts[0][0] == '.' || parts[0][0] == '~':
		return m, errors.New("names a path of the host, which containers can't mount: " + form)
	case !path.IsAbs(parts[1]):
		return m, fmt.Errorf("has the target %q, which does not begin with /: %s", parts[1], form)
	}
	m.Name, m.Target = parts[0], parts[1]
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			m.ReadOnly = true
		case "rw":
		default:
			return m, fmt.Errorf("has the option %q: %s", parts[2], form)
		}
	}
	return m, nil
}

// parseTmpfs parses TARGET[:OPTION,...] with the options size=SIZE, ro and rw.
func parseTmpfs(s string) (structs.Mount, error) {
	target, options, _ := strings.Cut(s, ":")
	m := structs.Mount{Type: structs.MountTmpfs, Target: target}
	if !path.IsAbs(target) {
		return m, errors.New("does not begin with /: write /TARGET or /TARGET:size=64m")
	}
	if options == "" {
		return m, nil
	}
	for o := range strings.SplitSeq(options, ",") {
		size, isSize := strings.CutPrefix(o, "size=")
		switch {
		case isSize:
			n, err := structs.ParseBytes(size)
			if err != nil {
				return m, fmt.Errorf("has an invalid size: %w", err)
			}
			m.Size = int64(n)
		case o == "ro":
			m.ReadOnly = true
		case o == "rw":
		default:
			return m, fmt.Errorf("has the unknown option %q: the options are size=SIZE, ro and rw", o)
		}
	}
	return m, nil
}
