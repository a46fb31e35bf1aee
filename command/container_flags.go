package command

import (
	"errors"
	"strconv"

	"github.com/posener/complete"

	"github.com/stackforge/magnum/structs"
)

// completeFiles completes file names.
var completeFiles = complete.PredictFiles("*")

// containerFlags are the flags that describe a container. Each field of a
// structs.ContainerRequest has a flag of its name, with dashes. Docker's flag names
// mean the same as in docker.
type containerFlags struct {
	e    *env
	body map[string]any // the request by JSON names; holds only what was given

	noCheck  bool // -no-healthcheck
	registry credentials
}

func newContainerFlags(e *env) *containerFlags {
	return &containerFlags{e: e, body: map[string]any{}}
}

// flags adds the flags. Docker's -d is added by container-run.
func (c *containerFlags) flags(f *flagSet) {
	c.text(f, "name", "name", "NAME", "name (default a generated one)")
	c.text(f, "bay", "bay", "BAY", "uuid or name of the bay").predict = c.e.predictNames(completeBays)
	c.text(f, "bay_uuid", "bay-uuid", "BAY", "same as -bay").predict = c.e.predictNames(completeBays)
	c.text(f, "image", "image", "IMAGE", "image, instead of the argument")
	c.text(f, "image_id", "image-id", "IMAGE", "same as -image")
	c.text(f, "command", "command", "COMMAND", "command in one text, split as a shell does")
	c.text(f, "entrypoint", "entrypoint", "COMMAND", "program instead of the image's entrypoint, split as a shell does")
	f.repeatable("environment e env", "KEY=VALUE", "environment variable; KEY alone copies your own value", func(s string) error {
		key, value, ok, err := parseEnvironment(s, c.e.lookupEnv)
		if err == nil && ok {
			c.pairs("environment")[key] = value
		}
		return err
	})
	f.repeatable("ports p publish", "[HOST:]CONTAINER[/udp]", "publish a port of the container on its host", func(s string) error {
		p, err := parsePort(s)
		if err == nil {
			list, _ := c.body["ports"].([]structs.Port)
			c.body["ports"] = append(list, p)
		}
		return err
	})
	c.mounts(f, "volumes v volume", "NAME:/TARGET[:ro]", "named volume of your project on the host", parseVolume)
	c.mounts(f, "tmpfs", "/TARGET[:size=64m]", "file system in memory", parseTmpfs)
	c.size(f, "memory", "memory m", "memory limit, such as 512m")
	f.value("cpu cpus", "CORES", "CPU limit in cores, such as 0.5", func(s string) error {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n > 0) || n > structs.MaxMilliCPU {
			return errors.New("is not a number of cores, such as 0.5")
		}
		c.body["cpu"] = n
		return nil
	})
	c.text(f, "workdir", "workdir w", "PATH", "working directory")
	c.text(f, "user", "user u", "USER[:GROUP]", "user to run as")
	c.text(f, "hostname", "hostname h", "NAME", "host name (default its uuid)")
	f.repeatable("labels l label", "KEY=VALUE", "label of the container", func(s string) error {
		return addPairTo(c.pairs("labels"))(s)
	})
	c.text(f, "restart_policy", "restart-policy restart", "POLICY", "no, on-failure[:N], always or unless-stopped (default no)").
		suggest("no", "on-failure", "always", "unless-stopped")
	f.number("stop-timeout", "SECONDS", "time between SIGTERM and SIGKILL (default 10)", 0, func(n int) { c.body["stop_timeout"] = n })
	c.toggle(f, "tty", "tty t", "allocate a terminal")
	c.toggle(f, "stdin", "stdin i interactive", "keep standard input open")
	f.toggle("it ti", "short for -i -t", func(b bool) { c.body["tty"], c.body["stdin"] = b, b })
	c.toggle(f, "auto_remove", "auto-remove rm", "delete it after its process has ended")
	exclusiveFlag(f, func(x structs.Exclusive) { c.body["exclusive"] = x })
	c.text(f, "image_pull_policy", "image-pull-policy pull", "POLICY", "ifnotpresent, always or never (default ifnotpresent)").
		suggest("ifnotpresent", "always", "never")
	f.repeatable("constraints constraint", "KEY=VALUE", "label that the host must have", func(s string) error {
		return addPairTo(c.pairs("constraints"))(s)
	})
	c.size(f, "log_max_size", "log-max-size", "size of each of the three log files (default 10m)")
	c.healthFlags(f)
	c.registry.flags(f)
	c.text(f, "uuid", "uuid", "UUID", "uuid (default a new one)")
}

// exclusiveFlag adds -exclusive.
func exclusiveFlag(f *flagSet, set func(structs.Exclusive)) {
	f.add(funcValue{toggle: true, set: func(s string) error {
		switch s {
		case "false":
			set(structs.ExclusiveNo)
		case "true", "lease":
			set(structs.Exclusive(s))
		default:
			return errors.New("must be one of true, false, lease")
		}
		return nil
	}}, "exclusive", "",
		"never run two copies, even if the host is partitioned; with =lease that host then stops it, and another one starts it")
}

// command sets image and command from the arguments IMAGE and COMMAND...
func (c *containerFlags) command(args []string) error {
	if c.body["image"] == nil && c.body["image_id"] == nil && len(args) > 0 {
		c.body["image"], args = args[0], args[1:]
	}
	if len(args) == 0 {
		return nil
	}
	if c.body["command"] != nil {
		return usagef("-command and %q both give the command", args[0])
	}
	c.body["command"] = args
	return nil
}

// is reports whether a boolean field is true.
func (c *containerFlags) is(key string) bool {
	on, _ := c.body[key].(bool)
	return on
}

// pairs returns the map of a field, and creates it if it is missing.
func (c *containerFlags) pairs(key string) map[string]string {
	m, ok := c.body[key].(map[string]string)
	if !ok {
		m = map[string]string{}
		c.body[key] = m
	}
	return m
}

func (c *containerFlags) text(f *flagSet, key, names, placeholder, usage string) *option {
	return f.value(names, placeholder, usage, func(s string) error { c.body[key] = s; return nil })
}

func (c *containerFlags) toggle(f *flagSet, key, names, usage string) {
	f.toggle(names, usage, func(b bool) { c.body[key] = b })
}

func (c *containerFlags) size(f *flagSet, key, names, usage string) {
	f.value(names, "SIZE", usage, func(s string) error {
		n, err := structs.ParseBytes(s)
		if err != nil {
			return errors.New("is not a size: write bytes, or a number with k, m or g, such as 512m")
		}
		c.body[key] = n
		return nil
	})
}

func (c *containerFlags) mounts(f *flagSet, names, placeholder, usage string, parse func(string) (structs.Mount, error)) {
	f.repeatable(names, placeholder, usage, func(s string) error {
		m, err := parse(s)
		if err == nil {
			list, _ := c.body["volumes"].([]structs.Mount)
			c.body["volumes"] = append(list, m)
		}
		return err
	})
}
