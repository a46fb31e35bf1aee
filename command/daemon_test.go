package command

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server"
)

func TestBareServerFlag(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"-server":                 "-server=",
		"--server":                "--server=",
		"-server -dev":            "-server= -dev",
		"-dev -server":            "-dev -server=",
		"-server 10.0.0.1":        "-server 10.0.0.1",
		"-server a,b -name x":     "-server a,b -name x",
		"-server=":                "-server=",
		"-server=a -server":       "-server=a -server=",
		"-server -- x":            "-server= -- x",
		"-- -server":              "-- -server",
		"-servers -server-name":   "-servers -server-name",
		"-name -server -server x": "-name -server= -server x",
	} {
		if got := allowBareServer(strings.Fields(in)); !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// loadServer loads the server's settings from a command line, an environment and a file.
func loadServer(t *testing.T, file string, environment map[string]string, args ...string) (server.Config, []string, error) {
	t.Helper()
	if file != "" {
		path := filepath.Join(t.TempDir(), "magnum.hcl")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-config", path)
	}
	e := &env{stderr: io.Discard, lookupEnv: func(name string) (string, bool) { v, ok := environment[name]; return v, ok }}
	f := newFlagSet("server")
	var conf server.Config
	var labels []string
	s := newSettings(f)
	serverSettings(s, &conf, "")
	s.add("label", "KEY=VALUE", "", func(v string) error { labels = append(labels, v); return nil }).repeat = true
	if _, err := f.parse(args); err != nil {
		return conf, nil, err
	}
	err := s.load(e)
	slices.Sort(labels)
	return conf, labels, err
}

func TestSettingsPrecedence(t *testing.T) {
	file := "http_port = 1\nname = \"file\"\nhost_lost_after = \"20s\"\ninsecure = true\nbind = \"127.0.0.2\"\nlabel = { zone = \"a\" }\n"
	environment := map[string]string{"MAGNUM_HTTP_PORT": "2", "MAGNUM_NAME": "env", "MAGNUM_LABEL": "disk=ssd,b=c"}
	conf, labels, err := loadServer(t, file, environment, "-http-port", "3", "-label", "x=y", "--label=z=w")
	if err != nil {
		t.Fatal(err)
	}
	if conf.HTTPPort != 3 || conf.Name != "env" || conf.HostLostAfter != 20*time.Second || !conf.Insecure || conf.Bind != "127.0.0.2" {
		t.Errorf("%+v", conf)
	}
	if want := []string{"b=c", "disk=ssd", "x=y", "z=w", "zone=a"}; !slices.Equal(labels, want) {
		t.Errorf("labels %v", labels)
	}
	// A list of networks is repeated, separated by commas, or a list of the file.
	conf, _, err = loadServer(t, "service_pool = \"10.1.0.0/16\"\nmanifest_network = [\"10.2.0.0/16\", \"10.3.0.0/16\"]\n",
		map[string]string{"MAGNUM_NODE_PORT_RANGE": "20000-20999"})
	if err != nil || conf.ServicePool != "10.1.0.0/16" || conf.NodePortRange != "20000-20999" || len(conf.ManifestNetworks) != 2 {
		t.Errorf("%+v, %v", conf, err)
	}
	conf, _, err = loadServer(t, "", nil, "-manifest-network", "10.2.0.0/16,10.3.0.0/16", "-manifest-network", "10.4.0.0/16")
	if want := []string{"10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16"}; err != nil || !slices.Equal(conf.ManifestNetworks, want) {
		t.Errorf("%+v, %v", conf, err)
	}
	if conf, _, err = loadServer(t, "", map[string]string{"MAGNUM_INSECURE": "true"}, "-insecure=false"); err != nil || conf.Insecure {
		t.Errorf("%+v, %v", conf, err)
	}
}

// TestKeystoneBlock: the settings of Keystone can be in a block, and each source of
// settings still overrides the ones before it.
func TestKeystoneBlock(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("from the file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := "bind = \"127.0.0.2\"\nkeystone {\n  auth_url = \"http://k:5000/v3\"\n  username = \"magnum\"\n  password_file = \"" + secret +
		"\"\n  project_name = \"services\"\n  cache_ttl = \"10s\"\n  admin_roles = [\"admin\", \"cloud\"]\n}\n"
	conf, _, err := loadServer(t, file, map[string]string{"MAGNUM_KEYSTONE_USERNAME": "other"}, "-keystone-timeout", "5s")
	k := conf.Keystone
	if err != nil || k.AuthURL != "http://k:5000/v3" || k.Username != "other" || k.Password != "from the file" ||
		k.ProjectName != "services" ||
		k.CacheTTL != 10*time.Second || k.Timeout != 5*time.Second || !slices.Equal(k.AdminRoles, []string{"admin", "cloud"}) {
		t.Errorf("%+v, %v", k, err)
	}
	conf, _, err = loadServer(t, file, map[string]string{"MAGNUM_KEYSTONE_PASSWORD": "from the environment"})
	if err != nil || conf.Keystone.Password != "from the environment" {
		t.Errorf("%+v, %v", conf.Keystone, err)
	}
}

// TestLimitsBlock: the limits of a server can be in a block. 0 in it means no limit, as in a flag.
func TestLimitsBlock(t *testing.T) {
	file := "limits {\n  rate_writes = 7\n  rate_reads = 0\n  rate_addresses = 5\n  max_bytes_in_flight = 64\n}\n"
	conf, _, err := loadServer(t, file, map[string]string{"MAGNUM_RATE_ADDRESSES": "6"})
	if err != nil || conf.RateWrites != 7 || conf.RateReads != -1 || conf.RateAddresses != 6 || conf.MaxBytesInFlight != 64 {
		t.Errorf("%d, %d, %d, %d, %v", conf.RateWrites, conf.RateReads, conf.RateAddresses, conf.MaxBytesInFlight, err)
	}
}

func TestSettingsErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		file string
		env  map[string]string
		args []string
		want string
	}{
		"flag":        {args: []string{"-http-port", "many"}, want: "flag -http-port: \"many\""},
		"environment": {env: map[string]string{"MAGNUM_HTTP_PORT": "many"}, want: "MAGNUM_HTTP_PORT: \"many\""},
		"file":        {file: "http_port = \"many\"", want: "magnum.hcl:1: http_port"},
		"duration":    {args: []string{"-host-lost-after", "10"}, want: "10s"},
		"toggle":      {file: "insecure = \"perhaps\"", want: "insecure"},
		"unknown":     {file: "\nhttp_prot = 1", want: "magnum.hcl:2: http_prot: there is no such setting; did you mean http_port?"},
		"block":       {file: "server { }", want: "-config"},
		"keystone": {file: "keystone {\n  auth_ulr = \"x\"\n}",
			want: "magnum.hcl:2: auth_ulr: there is no such setting; did you mean auth_url?"},
		"limits": {file: "limits {\n  http_port = 1\n}",
			want: "magnum.hcl:2: http_port: there is no such setting in block limits, which has rate_writes, rate_reads,"},
		"nested block":  {file: "keystone {\n  x { }\n}", want: "neither labels nor other blocks"},
		"label":         {file: "keystone \"a\" {\n}", want: "neither labels nor other blocks"},
		"password file": {file: "keystone {\n  password_file = \"/nowhere/password\"\n}", want: "/nowhere/password"},
		"not hcl":       {file: "= =", want: "-config"},
		"expression":    {file: "name = x", want: "-config"},
		"list of lists": {file: "label = [[1]]", want: "label"},
		"missing file":  {args: []string{"-config", "/nowhere/magnum.hcl"}, want: "/nowhere/magnum.hcl"},
	} {
		_, _, err := loadServer(t, tc.file, tc.env, tc.args...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
}

func TestDaemonConfigErrorsLeaveNoFiles(t *testing.T) {
	for line, want := range map[string]string{
		"server -bind example.org":                               "-bind",
		"server -bind 0.0.0.0":                                   "-insecure",
		"server -http-port 70000":                                "-http-port",
		"server -auth ldap":                                      "-auth",
		"server -auth keystone":                                  "-keystone-auth-url",
		"server -auth none -keystone-auth-url http://k:5000":     "contradict",
		"server -keystone-username magnum":                       "-keystone-auth-url",
		"server -keystone-auth-url http://k:5000":                "-keystone-username",
		"server -raft-snapshot-threshold 63":                     "-raft-snapshot-threshold 63",
		"server -raft-trailing-logs 10000001":                    "-raft-trailing-logs 10000001",
		"server -raft-trailing-logs -1":                          "-raft-trailing-logs -1",
		"server -bootstrap-expect 2":                             "-bootstrap-expect",
		"server -advertise s1":                                   "-advertise",
		"server -join http://s2":                                 "-join",
		"server -encrypt secret":                                 "-encrypt",
		"server -tls-ca nowhere.pem":                             "-tls-ca",
		"server -host-lost-after 1ms":                            "-host-lost-after",
		"server -service-pool 10.127.0.0/30":                     "-service-pool: 10.127.0.0/30 is not of a size from /8 to /28",
		"server -node-port-range 32767-30000":                    "-node-port-range: 32767-30000",
		"server -manifest-network 10.0.0.0/8,intranet":           "-manifest-network \"intranet\" is not a network",
		"agent -dev -service-pool 172.17.0.0/16":                 "-network-pool: 172.17.0.0/16 and 172.16.0.0/12 overlap",
		"agent -dev -network-pool 10.0.0.0/8":                    "10.127.0.0/16 and 10.0.0.0/8 overlap",
		"server -join-token short":                               "-join-token",
		"server -log-level loud":                                 "-log-level",
		"server -log-format xml":                                 "-log-format",
		"server now":                                             "one argument too many",
		"agent -dev -server 127.0.0.1":                           "-dev and -server",
		"agent -server 127.0.0.1 -join-token=12345678 -label =x": "-label",
		"agent -server 127.0.0.1:1 -join-token":                  "-join-token",
		"agent -join-token=12345678 -join a:0":                   "-join",
		"agent -join-token=12345678 -bind s1":                    "-bind",
		"agent -join-token=12345678 -encrypt secret":             "-encrypt",
		"agent -join-token=12345678 -server ftp://s1":            "ftp://s1",
		"agent -join-token=12345678 -docker-host nowhere":        "docker host",
		"agent -join-token=12345678 -image-gc-high 100":          "-image-gc-high",
	} {
		var stderr bytes.Buffer
		e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: &stderr,
			lookupEnv: func(string) (string, bool) { return "", false }}
		args, dir := strings.Fields(line), t.TempDir()
		args = append([]string{args[0], "-data-dir=" + dir}, args[1:]...)
		if code := e.run(t.Context(), args); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %s", line, code, stderr.String())
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s: leaves %v behind, %v", line, left, err)
		}
	}
}

func TestConfigErrorNamesEnvironmentVariable(t *testing.T) {
	environment := map[string]string{"MAGNUM_TLS_CA": "ca.pem", "MAGNUM_JOIN_TOKEN": "12345678", "MAGNUM_NAME": "h"}
	for line, want := range map[string]string{
		"server": "-tls-ca is given without -tls-cert: TLS needs all of -tls-ca, -tls-cert and -tls-key (\"magnum tls-init\" makes the " +
			"files); " +
			"-tls-ca comes from MAGNUM_TLS_CA in the environment: \"env -u MAGNUM_TLS_CA magnum server ...\" starts without it\nUsage: " +
			"magnum server [FLAGS]\n",
		"agent -dev":                "\"env -u MAGNUM_TLS_CA magnum agent ...\" starts without it\n",
		"agent":                     "-tls-ca comes from MAGNUM_TLS_CA in the environment",
		"server -tls-ca other.pem":  "(\"magnum tls-init\" makes the files)\nUsage",
		"server -tls-ca= -join a:0": "-join \"a:0\" is not host[:port]\nUsage",
		"server -tls-ca= -bind s1":  "-bind \"s1\" is not an IP address\nUsage",
	} {
		var stderr bytes.Buffer
		e := &env{stdin: strings.NewReader(""), stdout: io.Discard, stderr: &stderr,
			lookupEnv: func(name string) (string, bool) { v, ok := environment[name]; return v, ok }}
		args := append(strings.Fields(line), "-data-dir="+t.TempDir())
		if code := e.run(t.Context(), args); code != exitUsage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit code %d, %s; want %s", line, code, stderr.String(), want)
		}
	}
}

func TestAgentJoinTokenSources(t *testing.T) {
	dir := t.TempDir()
	own, named, empty := filepath.Join(dir, "server", "join-token"), filepath.Join(dir, "named"), filepath.Join(dir, "empty")
	secret := filepath.Join(dir, "agent", "agent.secret")
	for _, sub := range []string{"server", "agent"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		files         []string
		given, file   string // flags
		token, refuse string
	}{
		{given: "t", file: named, token: "t"},
		{files: []string{own}, token: "of server/join-token"},
		{files: []string{own, named}, file: named, token: "of named"},
		{files: []string{own, named, secret}, file: named, token: "of named"},
		{refuse: "no join token"},
		{file: named, refuse: "no such file"},
		{files: []string{secret}},
		{files: []string{secret}, file: named},
		{files: []string{secret}, file: secret + "/x", refuse: "not a directory"},
		{files: []string{secret, empty}, file: empty, refuse: "is empty"},
	} {
		for _, path := range tt.files {
			content := "of " + strings.TrimPrefix(path, dir+"/") + "\n"
			if path == empty {
				content = "\n"
			}
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		a := agentSettings{tokenFile: tt.file}
		a.agent.JoinToken, a.agent.DataDir = tt.given, filepath.Join(dir, "agent")
		err := a.readToken(dir)
		if a.agent.JoinToken != tt.token || (err == nil) != (tt.refuse == "") || err != nil && !strings.Contains(err.Error(), tt.refuse) {
			t.Errorf("%+v: token %q, %v", tt, a.agent.JoinToken, err)
		}
		for _, path := range tt.files {
			os.Remove(path)
		}
	}
}

func TestImageGCHighDefaults(t *testing.T) {
	for _, tt := range []struct {
		set  int
		dev  bool
		want int
	}{{gcUnset, false, 85}, {gcUnset, true, 0}, {70, false, 70}, {70, true, 70}, {0, false, 0}} {
		if got := gcHigh(tt.set, tt.dev); got != tt.want {
			t.Errorf("a mark of %d with dev %v becomes %d, want %d", tt.set, tt.dev, got, tt.want)
		}
	}
}
