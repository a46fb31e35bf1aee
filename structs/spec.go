package structs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Spec checks the request, including its secrets, and returns its spec. Errors are
// CodeInvalid and name the field and the value.
func (r *ContainerRequest) Spec() (ContainerSpec, error) {
	s := r.ContainerSpec
	if s.Image == "" {
		s.Image = r.Image
	} else if r.Image != "" && r.Image != s.Image {
		return s, Errorf(CodeInvalid, "image %q and image_id %q are two spellings of one field: give one of them", r.Image, s.Image)
	}
	s.Command, s.CommandText = nil, ""
	if r.Command != nil {
		s.Command, s.CommandText = r.Command.Args, r.Command.Text
	}
	if s.PullPolicy == "" {
		s.PullPolicy = PullIfNotPresent
	}
	var err error
	if s.RestartPolicy, err = ParseRestartPolicy(s.RestartPolicy.String()); err != nil {
		return s, err
	}
	if s.Ports, err = checkPorts(s.Ports); err != nil {
		return s, err
	}
	if s.Volumes, err = checkMounts(s.Volumes); err != nil {
		return s, err
	}
	if err := s.check(); err != nil {
		return s, err
	}
	return s, r.Secrets.check()
}

// Shown returns the spec as answers show it: with defaults filled in, and without the
// fields that ContainerBody has itself. None of its lists and maps is nil, but for
// Entrypoint.
func (s ContainerSpec) Shown() ContainerSpec {
	s.Command, s.CommandText = nil, ""
	if len(s.Entrypoint) == 0 {
		s.Entrypoint = nil // null in JSON: the image's own
	}
	for _, m := range []*map[string]string{&s.Environment, &s.Labels, &s.Constraints} {
		if *m == nil {
			*m = map[string]string{}
		}
	}
	if s.Volumes == nil {
		s.Volumes = []Mount{}
	}
	stop := s.StopSeconds()
	s.StopTimeout = &stop
	s.LogMaxSize = cmp.Or(s.LogMaxSize, DefaultLogMaxSize)
	return s
}

// specFields maps the Go names of a PrivateSpec's fields to their names in requests.
var specFields = sync.OnceValue(func() map[string]string {
	names := make(map[string]string)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[PrivateSpec]()) {
		names[field.Name], _, _ = strings.Cut(field.Tag.Get("json"), ",")
	}
	names["CommandText"] = names["Command"]
	return names
})

// SpecField returns the name in requests of a field of a PrivateSpec.
func SpecField(name string) string {
	if field, ok := specFields()[name]; ok {
		return field
	}
	return name
}

// check checks the fields of the spec against their limits.
func (s *ContainerSpec) check() error {
	if err := CheckImage(s.Image); err != nil {
		return err
	}
	for _, f := range []struct{ name, value string }{
		{"workdir", string(s.Workdir)}, {"hostname", string(s.Hostname)}, {"user", string(s.User)},
	} {
		if err := CheckLine(f.name, f.value, MaxText); err != nil {
			return err
		}
	}
	if s.Workdir != "" && !path.IsAbs(string(s.Workdir)) {
		return Errorf(CodeInvalid, "workdir %q is not an absolute path", s.Workdir)
	}
	if s.Hostname != "" && !isHostname(string(s.Hostname)) {
		return Errorf(CodeInvalid, "hostname %q is not a host name: up to 63 letters, digits, dots and hyphens", s.Hostname)
	}
	for name, args := range map[string][]string{"command": s.Command, "entrypoint": s.Entrypoint} {
		if err := CheckText(name, strings.Join(args, " "), MaxCommand); err != nil {
			return err
		}
	}
	if err := checkEnvironment(s.Environment); err != nil {
		return err
	}
	if err := CheckLabels("labels", s.Labels); err != nil {
		return err
	}
	for k := range s.Labels {
		if strings.HasPrefix(k, "magnum.") {
			return Errorf(CodeInvalid, "labels: %q begins with magnum., which is kept for magnum itself", k)
		}
	}
	if err := CheckLabels("constraints", s.Constraints); err != nil {
		return err
	}
	if s.Memory != 0 && (s.Memory < MinMemory || s.Memory > MaxMemory) {
		return Errorf(CodeInvalid, "memory %d not in %d..%d bytes (0: no limit)", s.Memory, MinMemory, int64(MaxMemory))
	}
	if s.MilliCPU < 0 || s.MilliCPU > MaxMilliCPU/1000*1000 {
		return Errorf(CodeInvalid, "cpu %v not in 0..%d cores", s.MilliCPU.Cores(), MaxMilliCPU/1000)
	}
	if t := s.StopTimeout; t != nil && (*t < 0 || *t > MaxStopTimeout) {
		return Errorf(CodeInvalid, "stop_timeout %d not in 0..%d seconds", *t, MaxStopTimeout)
	}
	if s.LogMaxSize != 0 && (s.LogMaxSize < MinLogMaxSize || s.LogMaxSize > MaxLogMaxSize) {
		return Errorf(CodeInvalid, "log_max_size %d not in %d..%d bytes", s.LogMaxSize, MinLogMaxSize, MaxLogMaxSize)
	}
	switch s.PullPolicy {
	case PullIfNotPresent, PullAlways, PullNever:
	default:
		return Errorf(CodeInvalid, "image_pull_policy %q must be one of ifnotpresent, always, never", s.PullPolicy)
	}
	if err := s.Healthcheck.check(); err != nil {
		return err
	}
	if s.AutoRemove && s.RestartPolicy.Name != RestartNo {
		return Errorf(CodeInvalid, "auto_remove and restart_policy %q contradict each other: give one of them", s.RestartPolicy)
	}
	return nil
}

// imageReference matches an image reference as github.com/distribution/reference,
// which engines use, defines it: [domain[:port]/]path[/path...][:tag][@digest]. The
// groups are the domain and the path.
var imageReference = func() *regexp.Regexp {
	const (
		label  = `[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?`
		domain = `(?:` + label + `(?:\.` + label + `)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?`
		part   = `[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*`
		tag    = `[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}`
		digest = `sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}`
	)
	return regexp.MustCompile(`^(?:(` + domain + `)/)?(` + part + `(?:/` + part + `)*)(?::` + tag + `)?(?:@(?:` + digest + `))?$`)
}()

// maxImagePath is the longest path of an image reference that a registry accepts, in
// characters without domain, tag and digest.
const maxImagePath = 255

// plainImage reports whether the reference has the most common form, which is valid
// without a check by imageReference: up to maxPlain characters, made of lower-case
// letters and digits with a single . _ - or / between them, and an optional tag.
func plainImage(image string) bool {
	const maxPlain = 128
	name, tag, tagged := strings.Cut(image, ":")
	if name == "" || len(image) > maxPlain || tagged && (tag == "" || tag[0] == '.' || tag[0] == '-') {
		return false
	}
	between := true // the name doesn't begin with a separator
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			between = false
		case strings.IndexByte("._-/", c) >= 0 && !between:
			between = true
		default:
			return false
		}
	}
	for i := range len(tag) {
		switch c := tag[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '.', c == '-':
		default:
			return false
		}
	}
	return !between
}

// CheckImage checks the form and length of an image reference. Errors are
// CodeInvalid.
func CheckImage(image string) error {
	if plainImage(image) {
		return nil
	}
	if image == "" {
		return Errorf(CodeInvalid,
			"Invalid input for field/attribute image_id. Mandatory field missing: name an image, such as busybox:latest.")
	}
	if err := CheckText("image_id", image, MaxText); err != nil {
		return err
	}
	if strings.ContainsAny(image, " \t\n") {
		return Errorf(CodeInvalid, "image_id %q contains white space: write it as [registry/]name[:tag]", image)
	}
	m := imageReference.FindStringSubmatch(image)
	if m == nil {
		return Errorf(CodeInvalid, "image_id %.200q is not an image name: write it as [registry[:port]/]name[:tag][@sha256:...], "+
			"the name in lower case", image)
	}
	domain, name := m[1], m[2]
	if domain != "" && domain != "localhost" && !strings.ContainsAny(domain, ".:") && strings.ToLower(domain) == domain {
		domain, name = "", domain+"/"+name // the first segment of a name on Docker Hub
	}
	if domain == "" && !strings.Contains(name, "/") {
		name = "library/" + name // as engines expand it
	}
	if len(name) > maxImagePath {
		return Errorf(CodeInvalid, "image_id %.64q...: its name has %d characters without registry and tag, more than %d",
			image, len(name), maxImagePath)
	}
	return nil
}

// check checks a healthcheck against its limits; nil is valid.
func (h *Healthcheck) check() error {
	if h == nil {
		return nil
	}
	// An empty list turns the check off. An absent, null or blank test is refused:
	// most users who send one expect a check.
	if h.Test.Args == nil || len(h.Test.Args) > 0 && h.Test.Args[0] == "" {
		return Errorf(CodeInvalid,
			"healthcheck.test %q names no command: give one, or [] to turn off the image's own check", orList(h.Test))
	}
	if err := CheckText("healthcheck.test", strings.Join(h.Test.Args, " "), MaxCommand); err != nil {
		return err
	}
	for _, f := range []struct {
		name        string
		value, most int
		unit        string
	}{
		{"interval", h.Interval, MaxInterval, " seconds"}, {"timeout", h.Timeout, MaxInterval, " seconds"},
		{"start_period", h.StartPeriod, MaxInterval, " seconds"}, {"retries", h.Retries, MaxRetries, ""},
	} {
		if f.value < 0 || f.value > f.most {
			return Errorf(CodeInvalid, "healthcheck.%s %d not in 0..%d%s (0: the engine's default)", f.name, f.value, f.most, f.unit)
		}
	}
	return nil
}

// orList returns the command in the form in which it was given: text or list.
func orList(c Command) any {
	if c.Args == nil {
		return c.Text
	}
	return c.Args
}

// check checks the secrets against their limits. Errors never contain a secret.
func (s *Secrets) check() error { return s.Registry.check() }

// check checks credentials against their limits; nil is valid. Errors never contain
// the password.
func (r *Registry) check() error {
	if r == nil {
		return nil
	}
	if r.Username == "" || r.Password == "" {
		return Errorf(CodeInvalid, "registry: credentials need a username and a password, and one of them is missing")
	}
	for _, f := range []struct{ name, value string }{{"username", r.Username}, {"server", r.Server}} {
		if err := CheckLine("registry."+f.name, f.value, MaxText); err != nil {
			return err
		}
	}
	if CheckText("registry.password", r.Password, MaxText) != nil {
		return Errorf(CodeInvalid, "registry.password: must be UTF-8 text without NUL bytes, of at most %d bytes", MaxText)
	}
	if strings.ContainsAny(r.Server, " \t\n") {
		return Errorf(CodeInvalid, "registry.server %q contains white space: write it as host[:port]", r.Server)
	}
	return nil
}

// ParseRestartPolicy reads no, on-failure[:n], always or unless-stopped; ""
// means no.
func ParseRestartPolicy(s string) (RestartPolicy, error) {
	name, retries, counted := strings.Cut(s, ":")
	p := RestartPolicy{Name: name}
	switch {
	case s == "":
		p.Name = RestartNo
	case counted && name == RestartOnFailure:
		n, err := strconv.Atoi(retries)
		if err != nil || n < 1 || n > 1000 {
			return p, Errorf(CodeInvalid, "restart_policy %q: the retries must be a number in 1..1000, such as on-failure:3", s)
		}
		p.MaxRetries = n
	case !counted && (name == RestartNo || name == RestartOnFailure || p.Always()):
	default:
		return p, Errorf(CodeInvalid, "restart_policy %q must be one of no, on-failure[:n], always, unless-stopped", s)
	}
	return p, nil
}

// String returns the policy as users write it.
func (p RestartPolicy) String() string {
	if p.MaxRetries > 0 {
		return fmt.Sprintf("%s:%d", p.Name, p.MaxRetries)
	}
	return p.Name
}

// MarshalJSON writes the policy as users write it.
func (p RestartPolicy) MarshalJSON() ([]byte, error) { return marshalText(p.String()) }

// UnmarshalJSON reads any string, without checking that it is a valid policy.
func (p *RestartPolicy) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*p = RestartPolicyOf(text)
	return nil
}

// RestartPolicyOf returns the policy whose String is text, without checking that it
// is valid.
func RestartPolicyOf(text string) RestartPolicy {
	if name, retries, counted := strings.Cut(text, ":"); counted {
		if n, err := strconv.Atoi(retries); err == nil && n > 0 {
			return RestartPolicy{Name: name, MaxRetries: n}
		}
	}
	return RestartPolicy{Name: text}
}

func checkPorts(ports []Port) ([]Port, error) {
	if len(ports) > MaxPorts {
		return nil, Errorf(CodeInvalid, "ports: %d are more than %d", len(ports), MaxPorts)
	}
	type published struct {
		protocol string
		port     int
	}
	taken := make(map[published]bool, len(ports))
	var out []Port
	for i, p := range ports {
		if p.Protocol == "" {
			p.Protocol = "tcp"
		}
		if p.Protocol != "tcp" && p.Protocol != "udp" {
			return nil, Errorf(CodeInvalid, "ports[%d].protocol %q is neither tcp nor udp", i, p.Protocol)
		}
		if p.ContainerPort < 1 || p.ContainerPort > 65535 {
			return nil, Errorf(CodeInvalid, "ports[%d].container_port %d not in 1..65535", i, p.ContainerPort)
		}
		if p.HostPort < 0 || p.HostPort > 65535 {
			return nil, Errorf(CodeInvalid, "ports[%d].host_port %d not in 0..65535 (0: any)", i, p.HostPort)
		}
		key := published{p.Protocol, p.HostPort}
		if p.HostPort != 0 && taken[key] {
			return nil, Errorf(CodeInvalid, "ports[%d].host_port %d/%s is published twice", i, p.HostPort, p.Protocol)
		}
		taken[key] = true
		out = append(out, p)
	}
	return out, nil
}

func checkMounts(mounts []Mount) ([]Mount, error) {
	if len(mounts) > MaxVolumes {
		return nil, Errorf(CodeInvalid, "volumes: %d are more than %d", len(mounts), MaxVolumes)
	}
	targets := make(map[string]bool, len(mounts))
	var out []Mount
	for i, m := range mounts {
		if m.Type == "" {
			m.Type = MountVolume
		}
		switch m.Type {
		case MountVolume:
			if !isVolumeName(m.Name) {
				return nil, Errorf(CodeInvalid, "volumes[%d].name %q is not a volume name: 1..128 letters, digits, dots, hyphens "+
					"and underscores, the first a letter or digit (host paths can't be mounted)", i, m.Name)
			}
			if m.Size != 0 {
				return nil, Errorf(CodeInvalid, "volumes[%d].size %d: only a tmpfs has a size", i, m.Size)
			}
		case MountTmpfs:
			if m.Name != "" {
				return nil, Errorf(CodeInvalid, "volumes[%d].name %q: a tmpfs has no name", i, m.Name)
			}
			if m.Size < 0 || m.Size > MaxMemory {
				return nil, Errorf(CodeInvalid, "volumes[%d].size %d not in 0..%d bytes", i, m.Size, int64(MaxMemory))
			}
		default:
			return nil, Errorf(CodeInvalid, "volumes[%d].type %q is neither volume nor tmpfs", i, m.Type)
		}
		if why := CheckTarget(m.Target); why != "" {
			return nil, Errorf(CodeInvalid, "volumes[%d].target %.64q %s", i, m.Target, why)
		}
		if targets[path.Clean(m.Target)] {
			return nil, Errorf(CodeInvalid, "volumes[%d].target %q is mounted twice", i, m.Target)
		}
		targets[path.Clean(m.Target)] = true
		out = append(out, m)
	}
	return out, nil
}

// CheckTarget says why nothing can be mounted at a path in a container; "" if something can.
// Refused is what a runtime needs for itself or mounts too: a container with such a mount
// would never start.
func CheckTarget(target string) (why string) {
	p := path.Clean(target)
	switch {
	case !path.IsAbs(target) || p == "/" || len(target) > MaxText || strings.Contains(target, ":") || !utf8.ValidString(target) ||
		strings.ContainsFunc(target, IsControl):
		return "is not an absolute path below /"
	case below(p, "/proc"), below(p, "/sys"):
		return "can't be mounted: the container has the kernel's files there; choose another path"
	case p == "/dev":
		return "can't be mounted: the container has its devices there; choose another path, such as /dev/shm"
	case below(p, "/etc/hosts"), below(p, "/etc/hostname"), below(p, "/etc/resolv.conf"):
		return "can't be mounted: the container has a file there that its host keeps; choose another path"
	}
	for _, device := range devices {
		if below(p, "/dev/"+device) {
			return "can't be mounted: the container has a device there; choose another path"
		}
	}
	return ""
}

// below reports whether a clean path is that of a file, or is below it.
func below(p, file string) bool { return p == file || strings.HasPrefix(p, file+"/") }

// devices are what each container has in /dev, beside /dev/shm and /dev/mqueue, which may be
// replaced.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "fd", "stdin", "stdout", "stderr",
	"core"}

func checkEnvironment(env map[string]string) error {
	size := 0
	for k, v := range env {
		if k == "" || strings.Contains(k, "=") || !utf8.ValidString(k) || strings.ContainsFunc(k, IsControl) {
			return Errorf(CodeInvalid, "environment: %q is not a variable's name", k)
		}
		if strings.ContainsRune(v, 0) {
			return Errorf(CodeInvalid, "environment: the value of %q contains a NUL byte", k)
		}
		if n := len(k) + len("=") + len(v); n > MaxVariable {
			return Errorf(CodeInvalid, "environment: %.64q has %d bytes with its name, more than the %d that Linux lets a program have: "+
				"put the value into a file", k, n, MaxVariable)
		}
		size += len(k) + len(v) + 2
	}
	if size > MaxEnvironment {
		return Errorf(CodeInvalid, "environment: %d bytes are more than %d", size, MaxEnvironment)
	}
	return nil
}

// CheckLabels checks labels against their limits. Errors are CodeInvalid.
func CheckLabels(field string, labels map[string]string) error {
	if len(labels) > MaxLabels {
		return Errorf(CodeInvalid, "%s: %d are more than %d", field, len(labels), MaxLabels)
	}
	for k, v := range labels {
		if k == "" {
			return Errorf(CodeInvalid, "%s: an empty key", field)
		}
		if err := CheckLine(field, k, MaxLabel); err != nil {
			return err
		}
		if err := CheckText(field, v, MaxLabel); err != nil {
			return err
		}
		// Some users keep texts of several lines in labels.
		if err := checkControl(field, v, "\n\t"); err != nil {
			return err
		}
	}
	return nil
}

// CheckRowLabels is CheckLabels for the labels of a bay or host, which may have
// MaxRowLabels bytes in all.
func CheckRowLabels(field string, labels map[string]string) error {
	size := 0
	for k, v := range labels {
		size += len(k) + len(v)
	}
	if size > MaxRowLabels {
		return Errorf(CodeInvalid, "%s: %d bytes in all are more than %d", field, size, MaxRowLabels)
	}
	return CheckLabels(field, labels)
}

// CheckName checks a user's name for an object: 1..255 characters, none of them a
// control or format character. Errors are CodeInvalid.
func CheckName(name string) error {
	if err := CheckLine("name", name, len(name)); err != nil {
		return err // first, because the other errors quote the name
	}
	switch n := utf8.RuneCountInString(name); {
	case n == 0:
		return Errorf(CodeInvalid,
			"Invalid input for field/attribute name. Value: ''. Value should have a minimum character requirement of 1")
	case n > MaxName:
		return Errorf(CodeInvalid,
			"Invalid input for field/attribute name. Value: '%.32s...' (%d characters). "+
				"Value should have a maximum character requirement of %d",
			name, n, MaxName)
	}
	return nil
}

// CheckLine is CheckText for values such as names that appear in log lines and table
// cells. It also refuses control and format characters, which can start a new line,
// control a terminal, or disguise the text.
func CheckLine(field, text string, most int) error {
	if err := CheckText(field, text, most); err != nil {
		return err
	}
	return checkControl(field, text, "")
}

// checkControl refuses control and format characters other than the allowed ones.
func checkControl(field, text, allowed string) error {
	for _, r := range text {
		if IsControl(r) && !strings.ContainsRune(allowed, r) {
			return Errorf(CodeInvalid, "%s: %.64q contains the control or format character %U: leave it out", field, text, r)
		}
	}
	return nil
}

// IsControl reports whether a character is invisible but changes how others are
// shown: the Unicode categories Cc (line feeds and escapes), Cf (such as U+202E,
// which reverses the text after it), Zl and Zp.
func IsControl(r rune) bool {
	if r < unicode.MaxASCII {
		return r < ' '
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// CheckText refuses text that is longer than most bytes, is not UTF-8, or contains a
// NUL byte. Errors are CodeInvalid.
func CheckText(field, text string, most int) error {
	if len(text) > most {
		return Errorf(CodeInvalid, "%s: %d bytes are more than %d", field, len(text), most)
	}
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return Errorf(CodeInvalid, "%s: %.64q is not UTF-8 text without NUL bytes", field, text)
	}
	return nil
}

func isHostname(s string) bool {
	if len(s) > 63 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || i == len(s)-1 || c != '-' && c != '.') {
			return false
		}
	}
	return true
}

func isVolumeName(s string) bool {
	if len(s) == 0 || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '.' && c != '_') {
			return false
		}
	}
	return true
}
