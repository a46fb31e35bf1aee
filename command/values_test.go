package command

import (
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestParsePort(t *testing.T) {
	for in, want := range map[string]structs.Port{
		"80":          {ContainerPort: 80, Protocol: "tcp"},
		"8080:80":     {ContainerPort: 80, HostPort: 8080, Protocol: "tcp"},
		"0:80":        {ContainerPort: 80, Protocol: "tcp"},
		":80":         {ContainerPort: 80, Protocol: "tcp"},
		"53:53/udp":   {ContainerPort: 53, HostPort: 53, Protocol: "udp"},
		"65535/TCP":   {ContainerPort: 65535, Protocol: "tcp"},
		"1:65535/udp": {ContainerPort: 65535, HostPort: 1, Protocol: "udp"},
	} {
		if got, err := parsePort(in); err != nil || got != want {
			t.Errorf("parsePort(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"":                "not in 1..65535",
		"0":               "not in 1..65535",
		"80:0":            "not in 1..65535",
		"65536":           "not in 1..65535",
		"x:80":            "not in 0..65535",
		"+80":             "not in 1..65535",
		"80/sctp":         "write tcp or udp",
		"80/":             "write tcp or udp",
		"127.0.0.1:80:80": "names an address",
		"[::1]:80:80":     "names an address",
		"8000-8010":       "is a range",
	} {
		if got, err := parsePort(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parsePort(%q) = %+v, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestParseVolume(t *testing.T) {
	for in, want := range map[string]structs.Mount{
		"data:/data":    {Name: "data", Target: "/data", Type: "volume"},
		"data:/data:ro": {Name: "data", Target: "/data", Type: "volume", ReadOnly: true},
		"d.1_x:/a/b:rw": {Name: "d.1_x", Target: "/a/b", Type: "volume"},
	} {
		if got, err := parseVolume(in); err != nil || got != want {
			t.Errorf("parseVolume(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"data":           "no name or no target",
		"":               "no name or no target",
		":/x":            "has no name",
		"/host:/x":       "a path of the host",
		"./rel:/x":       "a path of the host",
		"~:/x":           "a path of the host",
		"data:x":         "does not begin with /",
		"data:/x:zz":     `the option "zz"`,
		"data:/x:ro:rw:": "too many colons",
	} {
		if got, err := parseVolume(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("parseVolume(%q) = %+v, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	for in, want := range map[string]structs.Mount{
		"/run":             {Target: "/run", Type: "tmpfs"},
		"/run:size=64m,ro": {Target: "/run", Type: "tmpfs", Size: 64 << 20, ReadOnly: true},
		"/run:rw":          {Target: "/run", Type: "tmpfs"},
	} {
		if got, err := parseTmpfs(in); err != nil || got != want {
			t.Errorf("parseTmpfs(%q) = %+v, %v, want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{"run", "", "/run:size=x", "/run:nosuid", "/run:size=1m,,"} {
		if got, err := parseTmpfs(in); err == nil {
			t.Errorf("parseTmpfs(%q) = %+v, want an error", in, got)
		}
	}
}

func TestParseEnvironment(t *testing.T) {
	lookup := func(k string) (string, bool) {
		v, ok := map[string]string{"HOME": "mine"}[k]
		return v, ok
	}
	for in, want := range map[string]struct {
		key, value string
		ok         bool
	}{
		"A=1":   {"A", "1", true},
		"A=":    {"A", "", true},
		"A=b=c": {"A", "b=c", true},
		"HOME":  {"HOME", "mine", true},
		"NONE":  {"NONE", "", false},
	} {
		key, value, ok, err := parseEnvironment(in, lookup)
		if err != nil || key != want.key || value != want.value || ok != want.ok {
			t.Errorf("parseEnvironment(%q) = %q %q %v %v, want %+v", in, key, value, ok, err, want)
		}
	}
	for _, in := range []string{"", "=x", "A=\x00"} {
		if _, _, _, err := parseEnvironment(in, lookup); err == nil {
			t.Errorf("parseEnvironment(%q) gives no error", in)
		}
	}
}

func FuzzParsePort(f *testing.F) {
	for _, s := range []string{"80", "8080:80/udp", ":", "127.0.0.1:80:80", "1-2:3-4", "/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePort(s)
		if err == nil && (p.ContainerPort < 1 || p.ContainerPort > 65535 || p.HostPort < 0 || p.HostPort > 65535 || p.Protocol != "tcp" &&
			p.Protocol != "udp") {
			t.Fatalf("parsePort(%q) = %+v", s, p)
		}
	})
}

func FuzzParseVolume(f *testing.F) {
	for _, s := range []string{"data:/data", "data:/data:ro", "/etc:/etc", ":", "::", "a:/b:c:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseVolume(s)
		if err != nil {
			return
		}
		if m.Name == "" || strings.Contains(m.Name, "/") || !strings.HasPrefix(m.Target, "/") || m.Type != structs.MountVolume {
			t.Fatalf("parseVolume(%q) = %+v", s, m)
		}
		if again, err := parseVolume(m.Name + ":" + m.Target); err != nil || again.Name != m.Name || again.Target != m.Target {
			t.Fatalf("%+v doesn't read back: %+v, %v", m, again, err)
		}
	})
}

func FuzzParseEnvironment(f *testing.F) {
	for _, s := range []string{"A=1", "A", "=", "A=b=c", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, value, ok, err := parseEnvironment(s, func(string) (string, bool) { return "", false })
		if err != nil {
			return
		}
		if key == "" || strings.Contains(key, "=") || ok && key+"="+value != s || !ok && key != s {
			t.Fatalf("parseEnvironment(%q) = %q %q %v", s, key, value, ok)
		}
	})
}
