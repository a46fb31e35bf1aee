package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/stackforge/magnum"

// arrow forbids imports to packages. A package path stands for itself and all
// packages below it; those of this module are written from its root.
type arrow struct {
	from []string // importing packages; "" is package main at the root
	ban  []string // import paths, of any module
	only []string // packages of this module that may be imported, all others not; nil bans none
	but  []string // importing packages that may, after all
	why  string
}

// arrows are all rules of who may import whom. Test files are free: they meet
// what production code keeps apart.
var arrows = []arrow{
	{from: []string{"structs"}, only: []string{},
		why: "the vocabulary knows nobody, so that everybody can know it"},
	{from: []string{"structs"}, ban: []string{"net", "os", "io/ioutil", "log", "time/tzdata"},
		why: "the vocabulary does no I/O"},
	{from: []string{"api"}, only: []string{"api", "structs"},
		why: "other people's programs import the client; it must not bring the server along"},
	{from: []string{"internal/tlsconf"}, only: []string{"internal/tlsconf", "structs"},
		why: "servers, agents and the command line meet in it; it knows none of them"},
	{from: []string{"server"}, ban: []string{module + "/agent", module + "/command", module + "/api"},
		why: "both sides of the wire meet in structs"},
	{from: []string{"agent"}, ban: []string{module + "/server", module + "/command"},
		why: "both sides of the wire meet in structs"},
	{from: []string{"internal/atomicfile"}, only: []string{"internal/atomicfile"},
		why: "files know nothing of what is in them"},
	{from: []string{"internal/gossip"}, only: []string{"internal/atomicfile", "internal/gossip", "structs"},
		why: "servers and agents both gossip; it knows neither"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{"github.com/hashicorp/memberlist"},
		but: []string{"internal/gossip"},
		why: "one package knows memberlist; the others see gossip.Gossip"},
	{from: []string{"api", "structs", "server/conductor", "server/dispatch", "server/identity", "server/raftlog", "server/rest",
		"server/schedule", "server/service", "server/state", "agent/backend", "agent/docker", "agent/lease"},
		ban: []string{module + "/internal/gossip"},
		why: "server and agent run gossip and hand on what their parts need of it; the command line maps its flags"},
	{from: []string{""}, only: []string{"command"},
		why: "main calls command.Run and does nothing else"},
	{from: []string{"agent", "api", "server", "structs", "internal/tlsconf"}, ban: []string{module + "/command"},
		why: "the command line is the top"},
	{from: []string{"server/conductor", "server/state", "server/schedule"},
		ban: []string{"net/http", "crypto/tls", module + "/internal/tlsconf"},
		why: "what is decided and kept doesn't depend on how it was asked for"},
	{from: []string{"server/conductor"},
		ban: []string{"github.com/hashicorp/raft", module + "/server/raftlog", module + "/server/rest", module + "/server/service",
			module + "/server/dispatch"},
		why: "the conductor declares the proposer that it needs; who calls it and who replicates is not its business"},
	{from: []string{"server/conductor/placing"},
		only: []string{"server/conductor/placing", "server/conductor/scratch", "server/schedule", "server/state", "structs"},
		why:  "where a workload can go follows from the batch's view; when it moves is the conductor's business"},
	{from: []string{"server/state"}, only: []string{"server/state", "structs"},
		why: "state is the bottom: everybody reads it"},
	{from: []string{"server/state/btree"}, only: []string{},
		why: "ordered maps know nothing of what is in them"},
	{from: []string{"server/state/msgpack"}, only: []string{},
		why: "an encoder knows nothing of what it encodes"},
	{from: []string{"server/schedule"}, only: []string{"server/schedule", "server/state", "structs"},
		why: "the scheduler is a function of a snapshot and a workload"},
	{from: []string{"server/state", "server/schedule"}, ban: []string{"net", "os/exec", "math/rand", "math/rand/v2", "crypto/rand"},
		why: "replicas that are fed the same log must reach the same state: no network and no chance in it"},
	{from: []string{"agent", "api", "command", "server", "structs"}, ban: []string{"github.com/hashicorp/raft"},
		but: []string{"server/raftlog"},
		why: "one package knows Raft, so that its rules are kept in one place"},
	{from: []string{"agent", "api", "command", "server", "structs"}, ban: []string{"github.com/docker"}, but: []string{"agent/docker"},
		why: "one backend is one package; the others see backend.Backend"},
	{from: []string{"agent", "api", "command", "server", "structs"}, ban: []string{"k8s.io"}, but: []string{"agent/kubernetes"},
		why: "one backend is one package; the others see backend.Backend"},
	{from: []string{"manifest"}, only: []string{"manifest", "structs"},
		why: "what a manifest says doesn't depend on who sent it, nor on what becomes of it"},
	{from: []string{"manifest/v1"}, only: []string{},
		why: "types know nothing of what is made of them"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{module + "/manifest/v1"},
		why: "how a manifest is written is known to those who read it"},
	{from: []string{"manifest"}, ban: []string{"k8s.io", "net/http", "os"}, but: []string{"manifest/kubernetes"},
		why: "Docker bays need no packages of Kubernetes; package v1 has what their manifests need of them"},
	{from: []string{"agent", "api", "command", "internal", "manifest", "server", "structs"},
		ban: []string{module + "/manifest/manifesttest"},
		why: "only tests have manifests that nobody would write"},
	{from: []string{"manifest/kubernetes"}, ban: []string{"k8s.io/client-go", "net/http", "os"},
		why: "what a manifest says is known without a cluster"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{"sigs.k8s.io", "go.yaml.in"},
		but: []string{"agent/kubernetes", "internal/openstack", "server/identity"},
		why: "one package reads manifests, within its limits; others read an operator's policy and a user's clouds"},
	{from: []string{"server/identity"}, only: []string{"server/identity", "structs"},
		why: "who somebody is and what everybody may do is known without the state"},
	{from: []string{"server/identity"}, ban: []string{"net/http", "github.com/gophercloud"}, but: []string{"server/identity/keystone"},
		why: "one package calls Keystone; the others see an Authenticator"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"},
		ban: []string{module + "/server/identity/keystone/keystonefake"},
		why: "only tests have a Keystone that believes everybody"},
	{from: []string{"agent", "api", "structs", "server/state", "server/schedule", "server/dispatch"}, ban: []string{module + "/manifest"},
		but: []string{"agent/kubernetes"},
		why: "rows and hosts have what was derived from a manifest, once"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{"github.com/gophercloud"},
		but: []string{"internal/openstack", "server/network", "server/identity"},
		why: "OpenStack is spoken to from where its answers are needed, never under the conductor"},
	{from: []string{"agent", "api", "command", "server", "structs"}, ban: []string{module + "/server"}, but: []string{"command", "server"},
		why: "only the command line starts a server; parts of it know each other's neighbours only"},
	{from: []string{"agent", "api", "command", "server", "structs"}, ban: []string{module + "/agent"}, but: []string{"command", "agent"},
		why: "only the command line starts an agent"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"},
		ban: []string{"github.com/hashicorp/raft-boltdb", "go.etcd.io"}, but: []string{"server/raftlog", "internal/bench/baseline"},
		why: "one package has the log's file, and checks it before it is opened"},
	{from: []string{"server/peer"}, only: []string{"server/peer", "structs"},
		why: "calls between servers know no state: what they need to know is handed to them"},
	{from: []string{"server/raftlog/transport"}, only: []string{"server/raftlog/transport", "structs"},
		why: "connections know whom they are for, and nothing of what is sent over them"},
	{from: []string{"server/raftlog/autopilot"}, only: []string{"server/raftlog/autopilot", "structs"},
		why: "which servers belong to the log is decided from what the log and gossip say of them"},
	{from: []string{"server/memberfile"}, only: []string{"internal/atomicfile", "internal/fileid", "server/memberfile", "structs"},
		why: "the log and bootstrap meet in a server's record; it knows neither"},
	{from: []string{"server/bootstrap"},
		only: []string{"internal/atomicfile", "internal/gossip", "server/bootstrap", "server/memberfile", "server/raftlog", "structs"},
		why:  "bootstrap is over before there is a state to serve; how it calls others is handed to it"},
	{from: []string{"internal/fileid"}, only: []string{},
		why: "files know nothing of what is in them"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{module + "/internal/fill"},
		why: "only tests want values that nobody has asked for"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{module + "/internal/kubetest"},
		but: []string{"internal/bench/rig"},
		why: "only tests and measurements have a cluster that they may break"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{module + "/internal/keystonetest"},
		why: "only tests have a Keystone in which they may do everything"},
	{from: []string{"internal/openstack"}, only: []string{"internal/openstack", "structs"},
		why: "a login knows Keystone; what the token is for is its caller's business"},
	{from: []string{"agent", "api", "server", "structs"}, ban: []string{module + "/internal/openstack"},
		why: "only the command line signs in as a user"},
	{from: []string{"internal/pause"}, only: []string{},
		why: "time passes alike for everybody"},
	{from: []string{"internal/textpages"}, only: []string{"internal/pause"},
		why: "the file of a program is the same for every process of it"},
	{from: []string{"server/fetch"}, only: []string{"server/fetch", "structs"},
		why: "what is fetched for a user is read by who knows what it means"},
	{from: []string{"server/admission"}, only: []string{"server/admission", "structs"},
		why: "connections are counted before anything is known of their requests"},
	{from: []string{"server/rest/wire"}, only: []string{"server/rest/wire", "structs"},
		why: "what bodies and queries say doesn't depend on what becomes of them"},
	{from: []string{"server/rest/zun"},
		only: []string{"server/rest/web", "server/rest/wire", "server/rest/zun", "server/service", "server/conductor", "server/dispatch",
			"server/identity", "structs"},
		why: "a second spelling of the API does what the service does, and nothing of its own"},
	{from: []string{"server/rest/quota"},
		only: []string{"server/rest/quota", "server/rest/web", "server/rest/wire", "server/service", "server/identity", "structs"},
		why:  "a route reads a request and answers; what a quota is, the service knows"},
	{from: []string{"server/conductor/quotas"}, only: []string{"server/conductor/quotas", "server/conductor/scratch", "structs"},
		why: "whether a project may have more follows from the batch's view, never from hosts"},
	{from: []string{"server/state/charges"},
		only: []string{"server/state/btree", "server/state/charges", "server/state/msgpack", "structs"},
		why:  "what a row is charged for follows from the row"},
	{from: []string{"server/rest/operator"},
		only: []string{"server/rest/operator", "server/rest/web", "server/rest/wire", "server/identity", "server/peer", "server/state",
			"structs"},
		why: "operators' routes ask the service, and what they were given; nouns are not their business"},
	{from: []string{"server/service"},
		ban: []string{"net/http", "crypto/tls", "github.com/coder/websocket", module + "/server/rest", module + "/server/peer"},
		why: "what callers may ask doesn't depend on the protocol by which they ask; forwarding is the transport's"},
	{from: []string{"server/metrics"}, only: []string{"server/metrics", "server/state", "structs"},
		why: "what is observed declares the hooks; package server joins them"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{"github.com/prometheus"},
		but: []string{"server/metrics"},
		why: "one package counts, so that there is one list of names"},
	{from: []string{"command"},
		ban: []string{module + "/server/metrics", module + "/server/conductor", module + "/server/state", module + "/server/raftlog",
			module + "/server/schedule"},
		why: "the command line starts a server as a whole"},
	{from: []string{"server/admission", "server/bootstrap", "server/conductor", "server/dispatch", "server/identity",
		"server/metrics", "server/peer", "server/raftlog", "server/rest", "server/schedule", "server/service", "server/state"},
		ban: []string{"=" + module + "/server"},
		why: "server wires its parts; a part that knew the whole would close a circle"},
	{from: []string{"agent/lease"}, only: []string{"agent/backend", "agent/lease", "internal/atomicfile", "internal/pause", "structs"},
		why: "the right to run is a matter of answers and clocks; who polls and who stops containers is not its business"},
	{from: []string{"agent/podplan"}, only: []string{"agent/podplan", "structs"},
		why: "what a container of a pod does next follows from what is observed; who observes and who acts is not its business"},
	{from: []string{"agent/probe"}, only: []string{"agent/backend", "agent/probe", "internal/pause", "structs"},
		why: "checks are made and counted; what follows from them is the agent's"},
	{from: []string{"agent/podenv"}, only: []string{"agent/podenv", "structs"},
		why: "values follow from what the agent hands in"},
	{from: []string{"agent/datapath"},
		only: []string{"agent/datapath", "internal/atomicfile", "internal/pause", "internal/textpages", "structs"},
		why:  "the data path outlives the agent, and serves what it was told; it decides nothing that an agent can"},
	{from: []string{"agent/datapath/proxy"}, only: []string{"agent/datapath/sockets", "structs"},
		why: "where connections go is a matter of endpoints; how other hosts are reached is handed to it"},
	{from: []string{"agent/datapath/sockets"}, only: []string{},
		why: "a socket is handed on without what is served by it"},
	{from: []string{"agent/backend", "agent/docker", "agent/lease", "agent/podenv", "agent/podplan", "agent/probe", "api", "internal",
		"server", "structs"}, ban: []string{module + "/agent/datapath"}, but: []string{"internal/bench"},
		why: "the agent has one data path; its backends and checks know nothing of services"},
	{from: []string{"agent/datapath/names"}, only: []string{"agent/datapath/names", "structs"},
		why: "names follow from what the data path hands in; who listens and what is a service is not its business"},
	{from: []string{"agent/datapath/relay"}, only: []string{"agent/datapath/relay", "internal/atomicfile", "structs"},
		why: "streams between hosts know peers and targets; which pod a connection goes to is the data path's"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{"github.com/miekg/dns"},
		but: []string{"agent/datapath/names"},
		why: "one package speaks DNS; the data path sees a zone and a server"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{"github.com/hashicorp/yamux"},
		but: []string{"agent/datapath/relay"},
		why: "one package knows how streams share a connection; its limits stand in one place"},
	{from: []string{"agent/redirect"}, only: []string{"agent/datapath", "agent/redirect", "structs"},
		why: "rules follow from what the data path has open; who decides that is not its business"},
	{from: []string{"agent", "api", "command", "internal", "server", "structs"}, ban: []string{"github.com/google/nftables"},
		but: []string{"agent/redirect"},
		why: "one package changes the kernel's packet filter, in tables of its own"},
	{from: []string{"agent/services"},
		only: []string{"agent/backend", "agent/datapath", "agent/redirect", "agent/services", "structs"},
		why:  "what is served follows from answers and networks; who polls and who makes containers is not its business"},
	{from: []string{"agent/docker/engine"}, only: []string{"agent/backend", "agent/docker/engine", "structs"},
		why: "the connection to an engine knows nothing of what it is used for"},
	{from: []string{"agent/docker/infra"}, only: []string{},
		why: "a program is bytes; who loads and runs it is not its business"},
	{from: []string{"agent/docker/images"},
		only: []string{"agent/backend", "agent/docker/engine", "agent/docker/registry", "internal/atomicfile", "structs"},
		why:  "whose an image is and who may have it is decided in one place; what a registry says is asked for"},
	{from: []string{"agent/docker/registry"}, only: []string{"structs"},
		why: "what a registry gives a user doesn't depend on which engine asks"},
	{from: []string{"agent/docker/console", "agent/docker/networks", "agent/docker/volumes"},
		only: []string{"agent/backend", "agent/docker/engine", "structs"},
		why: "each is one of a backend's interfaces and works without the others; " +
			"what a container needs of several, agent/docker puts together"},
	{from: []string{"agent/kubernetes/mirror"}, ban: []string{"k8s.io/client-go", "context", "net/http", "os"},
		why: "what to do follows from what is told; who calls the cluster's API is not its business"},
	{from: []string{"agent/kubernetes/mirror"}, only: []string{"agent/kubernetes/mirror", "structs"},
		why: "what to do follows from what is told; who calls the cluster's API is not its business"},
	{from: []string{"agent/kubernetes/access"}, only: []string{"agent/kubernetes/access", "agent/kubernetes/cluster", "structs"},
		why: "who may get a token is the servers' business; what a token needs is known without workloads"},
	{from: []string{"agent/kubernetes/cluster"}, only: []string{"agent/kubernetes/cluster", "structs"},
		why: "the connection to a cluster knows nothing of what it is used for"},
	{from: []string{"agent/backend", "agent/docker", "agent/kubernetes"}, ban: []string{"=" + module + "/agent", module + "/api"},
		why: "a backend is called by the agent and speaks to its engine only"},
}

// calls are functions that packages may not call: what an import can't show.
var calls = []struct {
	from  []string
	names []string // package.Func
	why   string
}{
	{from: []string{"server/state", "server/schedule", "structs"},
		names: []string{"time.Now", "time.Since", "time.Until", "time.After", "time.NewTimer", "time.NewTicker", "time.Tick",
			"time.AfterFunc", "time.Sleep"},
		why: "timestamps are settled before an entry is proposed: two replicas have two clocks"},
	{from: []string{"server/state", "server/schedule"},
		names: []string{"rand.Int", "rand.IntN", "rand.Intn", "rand.Read", "rand.Shuffle", "structs.NewID", "structs.NewSecret"},
		why:   "ids are minted before an entry is proposed: two replicas would mint two"},
}

// source is one Go file that isn't a test.
type source struct {
	path    string // from the module's root
	pkg     string // directory from the module's root, "" for the root
	file    *ast.File
	imports []string
}

func TestArrowsImports(t *testing.T) {
	for _, src := range sources(t) {
		for _, imported := range src.imports {
			for _, a := range arrows {
				if a.forbids(src.pkg, imported) {
					t.Errorf("%s imports %s: %s", src.path, imported, a.why)
				}
			}
		}
	}
}

func TestArrowsCalls(t *testing.T) {
	for _, src := range sources(t) {
		for _, c := range calls {
			if !slices.ContainsFunc(c.from, func(dir string) bool { return within(src.pkg, dir) }) {
				continue
			}
			ast.Inspect(src.file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(c.names, x.Name+"."+sel.Sel.Name) {
					t.Errorf("%s uses %s.%s: %s", src.path, x.Name, sel.Sel.Name, c.why)
				}
				return true
			})
		}
	}
}

// A rule about a package that was renamed would pass for ever.
func TestArrowsNameWhatExists(t *testing.T) {
	// Packages that the layout has a place for and that are not written yet.
	planned := []string{"agent/kubernetes", "server/network"}
	packages := map[string]bool{}
	for _, src := range sources(t) {
		packages[src.pkg] = true
	}
	check := func(dir string) {
		exists := slices.Contains(planned, dir)
		for pkg := range packages {
			exists = exists || within(pkg, dir)
		}
		if !exists {
			t.Errorf("a rule names package %q, which does not exist", dir)
		}
	}
	for _, a := range arrows {
		for _, dir := range slices.Concat(a.from, a.only, a.but) {
			check(dir)
		}
		for _, path := range a.ban {
			if dir, ours := strings.CutPrefix(strings.TrimPrefix(path, "="), module+"/"); ours {
				check(dir)
			}
		}
	}
	for _, c := range calls {
		for _, dir := range c.from {
			check(dir)
		}
	}
}

// TestSourcesAreOfThisModule: a peer of tests is built from a module of its own, whose
// dependencies are not magnum's.
func TestSourcesAreOfThisModule(t *testing.T) {
	const peer = "scripts/peers/kubernetes"
	if !otherModule(peer) || otherModule(".") {
		t.Errorf("%s is another module: %v, this directory: %v", peer, otherModule(peer), otherModule("."))
	}
	for _, src := range sources(t) {
		if within(src.pkg, peer) {
			t.Errorf("%s belongs to another module", src.path)
		}
	}
}

// TestProgramHasNoClientset: that package registers every type of Kubernetes as it is
// initialized, which each command would wait for.
func TestProgramHasNoClientset(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, module+"/command") {
		t.Fatalf("go list shows %d packages, but not command", len(deps))
	}
	for _, dep := range deps {
		if within(dep, "k8s.io/client-go/kubernetes") {
			t.Errorf("the program contains %s: use client-go's rest with a scheme of few types", dep)
		}
	}
}

func TestArrowForbids(t *testing.T) {
	a := arrow{from: []string{"server"}, ban: []string{module + "/agent", "net/http", "=" + module + "/api"}, but: []string{"server/rest"}}
	only := arrow{from: []string{"structs"}, only: []string{"structs"}}
	root := arrow{from: []string{""}, only: []string{"command"}}
	for _, c := range []struct {
		arrow         arrow
		pkg, imported string
		want          bool
	}{
		{a, "server", module + "/agent", true},
		{a, "server/state", module + "/agent/docker", true},
		{a, "server", module + "/agents", false},
		{a, "servers", module + "/agent", false},
		{a, "server", "net/http/httptest", true},
		{a, "server", "net", false},
		{a, "server/rest", "net/http", false},
		{a, "server", module + "/api", true},
		{a, "server", module + "/api/v2", false},
		{only, "structs", module + "/api", true},
		{only, "structs", module + "/structs/x", false},
		{only, "structs", "net/http", false},
		{root, "", module + "/server", true},
		{root, "", module + "/command", false},
		{root, "server", module + "/state", false},
	} {
		if got := c.arrow.forbids(c.pkg, c.imported); got != c.want {
			t.Errorf("package %q importing %s: forbidden %v, want %v", c.pkg, c.imported, got, c.want)
		}
	}
}

// forbids reports whether the arrow is against a package importing another.
func (a arrow) forbids(pkg, imported string) bool {
	covers := func(dirs []string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return within(pkg, dir) })
	}
	if !covers(a.from) || covers(a.but) {
		return false
	}
	if slices.ContainsFunc(a.ban, func(path string) bool {
		exact, one := strings.CutPrefix(path, "=")
		return one && imported == exact || !one && within(imported, path)
	}) {
		return true
	}
	dir, ours := strings.CutPrefix(imported, module+"/")
	return a.only != nil && ours && !slices.ContainsFunc(a.only, func(p string) bool { return within(dir, p) })
}

// within reports whether a path is another or below it. Nothing is below "".
func within(path, dir string) bool {
	return path == dir || dir != "" && strings.HasPrefix(path, dir+"/")
}

// otherModule reports whether a directory is the root of another module than this one.
func otherModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return dir != "." && err == nil
}

// sources parses the module's Go files, for every build tag.
func sources(t testing.TB) []source {
	t.Helper()
	var all []source
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() && otherModule(path):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		src := source{path: path, pkg: filepath.ToSlash(filepath.Dir(path)), file: file}
		if src.pkg == "." {
			src.pkg = ""
		}
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			src.imports = append(src.imports, imported)
		}
		all = append(all, src)
		return nil
	})
	if err != nil {
		t.Fatalf("the module's sources can't be read: %v", err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d source files were found: this test runs in the module's root", len(all))
	}
	return all
}
