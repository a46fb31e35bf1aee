package command

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent"
	"github.com/stackforge/magnum/agent/docker"
	"github.com/stackforge/magnum/agent/docker/networks"
	"github.com/stackforge/magnum/agent/kubernetes"
	"github.com/stackforge/magnum/structs"
)

// backendSettings are the settings of the agent's backend. Those of a backend that isn't
// chosen are refused: they would do nothing.
type backendSettings struct {
	kind   string // a structs.Backend
	docker struct {
		host string
		pool []netip.Prefix // network pool of the engine

		contained docker.Containment
	}
	kubernetes kubernetes.Options

	only map[structs.Backend][]*setting // that mean something for this backend alone
}

// add adds the choice of the backend. The other settings have to be added to only.
func (b *backendSettings) add(s *settings) {
	b.only = make(map[structs.Backend][]*setting)
	b.kind = string(structs.BackendDocker)
	s.add("backend", "BACKEND", "what runs workloads: docker, this host's engine, or kubernetes, a whole cluster (default docker)",
		func(v string) error {
			if b.kind = v; !slices.Contains([]structs.Backend{structs.BackendDocker, structs.BackendKubernetes}, structs.Backend(v)) {
				return errors.New("is not docker or kubernetes")
			}
			return nil
		})
}

// addDocker adds the settings of the Docker engine.
func (b *backendSettings) addDocker(s *settings, c *agent.Config) {
	c.ImageGCHigh = gcUnset
	b.belong(structs.BackendDocker,
		s.text(&b.docker.host, "docker-host", "URL", "Docker engine (default $DOCKER_HOST, else unix:///var/run/docker.sock)"),
		s.add("network-pool", "CIDR[,CIDR]",
			"address ranges for the networks of projects, a /24 for each (default "+networks.DefaultPool+")",
			func(v string) (err error) {
				b.docker.pool, err = networks.ParsePool(v)
				return err
			}),
		s.number(&c.ImageGCHigh, "image-gc-high", "PERCENT",
			"use of the engine's file system at which unused images are removed; 0 never (default 85; with -dev 0)"),
		s.number(&c.ImageGCLow, "image-gc-low", "PERCENT", "use at which the removal stops (default 5 below -image-gc-high)"))
	b.addContainment(s)
}

// addContainment adds the settings that bound what containers may have of the host.
func (b *backendSettings) addContainment(s *settings) {
	c := &b.docker.contained
	b.belong(structs.BackendDocker,
		s.add("container-pids", "N", "limit of processes and threads of a container (default 4096; -1 no limit)", func(v string) (err error) {
			if c.Pids, err = strconv.ParseInt(v, 10, 64); err != nil {
				return errors.New("is not a whole number")
			}
			return nil
		}),
		s.toggle(&c.NewPrivileges, "container-new-privileges",
			"let programs in containers gain privileges, for example by setuid bits (default false; pods ask for it themselves)"),
		s.add("container-tmpfs", "SIZE", "size of a tmpfs that is asked for without a size (default 64m; -1 no limit)",
			func(v string) error { return parseSize(&c.Tmpfs, v) }),
		s.add("container-shm", "SIZE", "size of /dev/shm of a container (default 64m)",
			func(v string) error { return parseSize(&c.Shm, v) }),
		s.add("publish-address", "IP", "address of the host at which ports of containers are published (default all)",
			func(v string) (err error) {
				if c.Publish, err = netip.ParseAddr(v); err != nil || c.Publish.Zone() != "" {
					return errors.New("is not an IP address")
				}
				return nil
			}))
}

// parseSize reads a number of bytes, -1 for no limit.
func parseSize(p *int64, v string) error {
	if v == "-1" {
		*p = -1
		return nil
	}
	size, err := structs.ParseBytes(v)
	*p = int64(size)
	return err
}

// addKubernetes adds the settings of a Kubernetes cluster.
func (b *backendSettings) addKubernetes(s *settings) {
	k := &b.kubernetes
	b.belong(structs.BackendKubernetes,
		s.text(&k.Kubeconfig, "kubeconfig", "FILE",
			"how to reach the cluster of -backend kubernetes (default $KUBECONFIG, else the service account of the agent's pod)"),
		s.text(&k.Namespace, "kubernetes-namespace", "NAMESPACE",
			"where the agents of the cluster keep what they share (default that of the agent's pod, else "+kubernetes.DefaultNamespace+")"),
		s.add("kubernetes-pod-security", "LEVEL",
			"pod security standard for the namespaces of projects: baseline or restricted (default baseline)",
			func(v string) error {
				if k.PodSecurity = v; v != "baseline" && v != "restricted" {
					return errors.New("is not baseline or restricted")
				}
				return nil
			}),
		s.add("kubernetes-pod-cidr", "CIDR[,CIDR]",
			"address ranges of the cluster's pods, which network policies keep apart by project (default those of the nodes)",
			func(v string) error {
				k.PodRanges = nil
				for text := range strings.SplitSeq(v, ",") {
					r, err := netip.ParsePrefix(strings.TrimSpace(text))
					if err != nil || r != r.Masked() {
						return fmt.Errorf("%q is not an address range such as 10.244.0.0/16", structs.Shorten(text))
					}
					k.PodRanges = append(k.PodRanges, r)
				}
				return nil
			}),
		s.add("kubernetes-api", "URL",
			"the cluster's API as users' own clients reach it, for bay-config (default that of -kubeconfig; inside the cluster none)",
			func(v string) error {
				k.Address = strings.TrimSuffix(v, "/")
				u, err := url.Parse(v)
				if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
					return errors.New("is not a URL such as https://kube.example.com:6443")
				}
				return nil
			}))
}

// belong notes that settings are of one backend alone.
func (b *backendSettings) belong(to structs.Backend, sets ...*setting) {
	b.only[to] = append(b.only[to], sets...)
}

// check refuses the settings of other backends than the chosen one.
func (b *backendSettings) check() error {
	for of, sets := range b.only {
		for _, set := range sets {
			if set.given && string(of) != b.kind {
				return usagef("setting -%s is of the backend %s, and the agent's is %s: leave it out, or choose the other one with "+
					"-backend %s", set.name, of, b.kind, of)
			}
		}
	}
	return nil
}

// isKubernetes reports whether the agent's host is a Kubernetes cluster.
func (b *backendSettings) isKubernetes() bool { return b.kind == string(structs.BackendKubernetes) }

// open opens the backend for an agent. The caller closes it.
func (a *agentSettings) open(e *env, logger hclog.Logger) (io.Closer, error) {
	if !a.backend.isKubernetes() {
		d := a.backend.docker
		engine, err := docker.New(docker.Config{Host: d.host, NetworkPool: d.pool, Containment: d.contained, Logger: logger.Named("docker")})
		if err != nil {
			return nil, err
		}
		a.agent.Backend = engine
		return engine, nil
	}
	options := a.backend.kubernetes
	options.Kubeconfig = orDefault(options.Kubeconfig, e.getenv("KUBECONFIG"))
	options.Version, options.Logger = version(), logger
	cluster, err := kubernetes.Open(options)
	if err != nil {
		return nil, err
	}
	a.agent.Cluster = cluster
	return cluster, nil
}
