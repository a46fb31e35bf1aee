package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/stackforge/magnum/structs"
)

// settings are the settings of a daemon. Each is a flag (-http-port), an environment
// variable (MAGNUM_HTTP_PORT) and an attribute of an HCL file (http_port). A flag
// overrides the environment, which overrides the file.
type settings struct {
	flags *flagSet
	all   []*setting
	file  string // of -config, "" for none
}

// setting is a setting of a daemon.
type setting struct {
	name      string   // of the flag
	aliases   []string // its other names
	parse     func(string) error
	repeat    bool     // has several values: the flag is repeated, the others are lists
	fromFlags []string // values of the flags
	env       bool     // the value is from the environment
	given     bool     // it has a value, from wherever
}

func newSettings(f *flagSet) *settings {
	s := &settings{flags: f}
	f.text(&s.file, "config", "FILE", "HCL file with these settings, with underscores instead of dashes (MAGNUM_CONFIG)")
	return s
}

// variable returns the name of the environment variable.
func (s *setting) variable() string {
	return "MAGNUM_" + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// attribute returns the name in a file.
func (s *setting) attribute() string { return attributeOf(s.name) }

func attributeOf(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// add adds a setting. names are those of the flag; the first one is the main one.
func (s *settings) add(names, placeholder, usage string, parse func(string) error) *setting {
	all := strings.Fields(names)
	set := &setting{name: all[0], aliases: all[1:], parse: parse}
	s.all = append(s.all, set)
	s.flags.value(names, placeholder, usage, func(value string) error {
		set.fromFlags = append(set.fromFlags, value)
		return nil
	})
	return set
}

func (s *settings) text(p *string, names, placeholder, usage string) *setting {
	return s.add(names, placeholder, usage, func(v string) error { *p = v; return nil })
}

func (s *settings) number(p *int, names, placeholder, usage string) *setting {
	return s.add(names, placeholder, usage, func(v string) (err error) {
		if *p, err = strconv.Atoi(v); err != nil {
			return errors.New("is not a whole number")
		}
		return nil
	})
}

// limit adds a limit. 0 turns it off, which is -1 in p: there, 0 is the default.
func (s *settings) limit(p *int, name, usage string) *setting {
	return s.add(name, "N", usage, func(v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return errors.New("is not a whole number, 0 or more")
		}
		if *p = n; n == 0 {
			*p = -1
		}
		return nil
	})
}

// list adds a setting of several words. A value can have several, separated by commas.
func (s *settings) list(p *[]string, names, placeholder, usage string) *setting {
	set := s.add(names, placeholder, usage, func(v string) error {
		for word := range strings.SplitSeq(v, ",") {
			if word = strings.TrimSpace(word); word != "" {
				*p = append(*p, word)
			}
		}
		return nil
	})
	set.repeat = true
	return set
}

func (s *settings) duration(p *time.Duration, names, usage string) *setting {
	return s.add(names, "DURATION", usage, func(v string) (err error) {
		if *p, err = time.ParseDuration(v); err != nil {
			return errors.New("is not a duration such as 10s")
		}
		return nil
	})
}

// toggle adds a boolean setting.
func (s *settings) toggle(p *bool, names, usage string) *setting {
	name, _, _ := strings.Cut(names, " ")
	set := &setting{name: name, parse: func(v string) (err error) {
		if *p, err = strconv.ParseBool(v); err != nil {
			return errors.New("must be true or false")
		}
		return nil
	}}
	s.all = append(s.all, set)
	s.flags.toggle(names, usage, func(b bool) { set.fromFlags = []string{strconv.FormatBool(b)} })
	return set
}

// load reads the file, the environment and the flags, in this order.
func (s *settings) load(e *env) error {
	if s.file == "" {
		s.file = e.getenv("MAGNUM_CONFIG")
	}
	if s.file != "" {
		if err := s.loadFile(s.file); err != nil {
			return err
		}
	}
	for _, set := range s.all {
		if v, ok := e.lookupEnv(set.variable()); ok {
			set.env = len(set.fromFlags) == 0
			values := []string{v}
			if set.repeat {
				values = strings.Split(v, ",")
			}
			if err := set.set(values, set.variable()); err != nil {
				return err
			}
		}
		if err := set.set(set.fromFlags, "flag -"+set.name); err != nil {
			return err
		}
	}
	return nil
}

// asUsageError turns a CodeInvalid error of a daemon's configuration into a usage error.
// Its exit code tells service managers that a restart doesn't help.
//
// If the error names the flag of a setting from the environment, the text says so: the
// variable may be set for another purpose, as MAGNUM_TLS_CA is for clients.
func (s *settings) asUsageError(err error) error {
	if structs.CodeOf(err) != structs.CodeInvalid {
		return err
	}
	text := printable(err.Error())
	for _, set := range s.all {
		if v := set.variable(); set.env && set.isMentionedIn(text) {
			text += fmt.Sprintf("; -%s comes from %s in the environment: \"env -u %s magnum %s ...\" starts without it",
				set.name, v, v, s.flags.set.Name())
		}
	}
	return usagef("%s", text)
}

// isMentionedIn reports whether a text has the setting's flag.
func (s *setting) isMentionedIn(text string) bool {
	return slices.Contains(strings.FieldsFunc(text, func(r rune) bool {
		return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}), "-"+s.name)
}

// set parses values; origin is where they come from, for the error.
func (s *setting) set(values []string, origin string) error {
	for _, v := range values {
		s.given = true
		if err := s.parse(v); err != nil {
			return usagef("%s: %q %v", origin, v, err)
		}
	}
	return nil
}

// loadFile reads settings from an HCL file. An attribute in a block is a setting with the
// block's prefix: auth_url in keystone is keystone_auth_url.
func (s *settings) loadFile(path string) error {
	if _, err := os.Stat(path); err != nil {
		return usagef("-config: %v", err)
	}
	file, diags := hclparse.NewParser().ParseHCLFile(path)
	if diags.HasErrors() {
		return usagef("-config: %v", diags)
	}
	body := file.Body.(*hclsyntax.Body) // ParseHCLFile returns no other
	if err := s.loadBody(path, "", body); err != nil {
		return err
	}
	for _, block := range body.Blocks {
		origin := fmt.Sprintf("%s:%d: %s", path, block.TypeRange.Start.Line, block.Type)
		switch {
		case !s.hasBlock(block.Type):
			return usagef("-config: %s: there is no such block", origin)
		case len(block.Labels) > 0 || len(block.Body.Blocks) > 0:
			return usagef("-config: %s: the block takes neither labels nor other blocks", origin)
		}
		is := blocks[block.Type]
		for name, a := range block.Body.Attributes {
			if is.only != nil && !slices.Contains(is.only, name) {
				return usagef("%s:%d: %s: there is no such setting in block %s, which has %s", path, a.SrcRange.Start.Line, name,
					block.Type, strings.Join(is.only, ", "))
			}
		}
		if err := s.loadBody(path, is.prefix, block.Body); err != nil {
			return err
		}
	}
	return nil
}

// blocks are the blocks that a file may have, with the prefix of their settings, or with the
// names of those that are all of it.
var blocks = map[string]struct {
	prefix string
	only   []string
}{
	"keystone": {prefix: "keystone_"},
	"audit":    {prefix: "audit_log_"},
	"limits":   {only: []string{"rate_writes", "rate_reads", "rate_addresses", "max_bytes_in_flight"}},
}

// hasBlock reports whether a file of these settings may have the block.
func (s *settings) hasBlock(name string) bool {
	is, ok := blocks[name]
	return ok && slices.ContainsFunc(s.all, func(set *setting) bool {
		return is.prefix != "" && strings.HasPrefix(set.attribute(), is.prefix) || slices.Contains(is.only, set.attribute())
	})
}

// loadBody reads the attributes of a file or block. prefix is what the names of its
// settings begin with.
func (s *settings) loadBody(path, prefix string, body *hclsyntax.Body) error {
	known := make(map[string]*setting, len(s.all))
	var names []string
	for _, set := range s.all {
		for _, flag := range append([]string{set.name}, set.aliases...) {
			known[attributeOf(flag)] = set
			names = append(names, attributeOf(flag))
		}
	}
	for name, a := range body.Attributes {
		origin := fmt.Sprintf("%s:%d: %s", path, a.SrcRange.Start.Line, name)
		name = prefix + name
		set := known[name]
		if set == nil {
			if near := nearest(name, names); near != "" {
				return usagef("%s: there is no such setting; did you mean %s?", origin, strings.TrimPrefix(near, prefix))
			}
			return usagef("%s: there is no such setting", origin)
		}
		value, diags := a.Expr.Value(nil)
		if diags.HasErrors() {
			return usagef("-config: %v", diags)
		}
		values, err := textsOf(value)
		if err != nil {
			return usagef("%s: %v", origin, err)
		}
		if err := set.set(values, origin); err != nil {
			return err
		}
	}
	return nil
}

// textsOf returns a value of a file in the form of flags: maps as KEY=VALUE.
func textsOf(v cty.Value) ([]string, error) {
	switch {
	case v.IsNull():
		return nil, nil
	case v.Type().IsTupleType():
		var out []string
		for _, item := range v.AsValueSlice() {
			text, err := textOf(item)
			if err != nil {
				return nil, err
			}
			out = append(out, text)
		}
		return out, nil
	case v.Type().IsObjectType():
		var out []string
		for key, item := range v.AsValueMap() {
			text, err := textOf(item)
			if err != nil {
				return nil, err
			}
			out = append(out, key+"="+text)
		}
		return out, nil
	}
	text, err := textOf(v)
	return []string{text}, err
}

func textOf(v cty.Value) (string, error) {
	text, err := convert.Convert(v, cty.String)
	if err != nil || text.IsNull() {
		return "", errors.New("must be a string, a number, true or false")
	}
	return text.AsString(), nil
}

// logging holds the settings of a daemon's log, which goes to standard error.
type logging struct {
	level  string
	format string
}

func (l *logging) add(s *settings) {
	l.level, l.format = "info", "text"
	s.text(&l.level, "log-level", "trace|debug|info|warn|error", "lowest level that is logged (default info)")
	s.text(&l.format, "log-format", "text|json", "format of the log (default text)")
}

// logger returns the logger of the settings.
func (l *logging) logger(e *env) (hclog.Logger, error) {
	level := hclog.LevelFromString(l.level)
	if level == hclog.NoLevel {
		return nil, usagef("-log-level %q must be one of trace, debug, info, warn, error", l.level)
	}
	if l.format != "text" && l.format != "json" {
		return nil, usagef("-log-format %q must be text or json", l.format)
	}
	return hclog.New(&hclog.LoggerOptions{Name: "magnum", Level: level, JSONFormat: l.format == "json", Output: e.stderr}), nil
}
