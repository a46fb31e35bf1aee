package services

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/datapath"
	"github.com/stackforge/magnum/structs"
)

// This file has what containers and pods need of the services.

// Domain returns the domain of the names of a project's services.
func Domain(projectID string) string { return projectID + ".svc.cluster.local" }

// maxSearch is the number of search domains that every C library takes.
const maxSearch = 6

// serveWait is how long a container waits until the host serves its project.
const serveWait = 2 * time.Second

// Names returns how a container of a project is to find names; nil for as its engine does,
// because the bay has no services or the host can't serve them.
func (s *Services) Names(ctx context.Context, projectID string) *backend.Names {
	if s == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, serveWait)
	defer cancel()
	s.mu.Lock()
	none, version := len(s.services) == 0, s.version
	s.mu.Unlock()
	if none || !s.until(ctx, func() bool { return s.done >= version || s.up }) {
		return nil
	}
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	if !up {
		return nil
	}
	r := s.conf.Resolver()
	names := &backend.Names{Search: append([]string{Domain(projectID)}, r.Search...)}
	names.Search = names.Search[:min(len(names.Search), maxSearch)]
	for _, a := range r.routable() {
		names.Servers = append(names.Servers, a.String())
	}
	return names
}

// Prepare waits, for a short time at most, until the host serves the network of a project,
// which a container has just joined. A process that looks for a service at once would not
// find it otherwise.
func (s *Services) Prepare(ctx context.Context, projectID string) {
	if s == nil {
		return
	}
	serves := func() bool {
		if len(s.services) == 0 || !s.up && s.done >= s.version {
			return true // nothing is served, and that doesn't change by waiting
		}
		return slices.ContainsFunc(s.applied.Projects, func(p datapath.Project) bool { return p.ID == projectID })
	}
	s.mu.Lock()
	ready := serves()
	s.mu.Unlock()
	if ready {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, serveWait)
	defer cancel()
	s.Kick()
	s.until(ctx, serves)
}

// maxVariables bounds the bytes of the variables of services. With those of the container
// (structs.MaxEnvironment) and its command they fit into what Linux passes to a process.
const maxVariables = 256 << 10

// Variables returns the environment variables by which Kubernetes tells containers of a
// project of its services.
func (s *Services) Variables(projectID string) map[string]string {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []structs.ServiceAssignment
	for _, a := range s.services {
		if a.ProjectID == projectID && a.Address != "" && len(a.Spec.Ports) > 0 {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, func(a, b structs.ServiceAssignment) int { return strings.Compare(a.Name, b.Name) })
	all, size := make(map[string]string), 0
	for i := range list {
		vars := variables(&list[i])
		more := 0
		for k, v := range vars {
			more += len(k) + len(v) + len("=") + 1
		}
		if size += more; size > maxVariables {
			if !s.dropped {
				s.dropped = true
				s.conf.Log.Warn("containers don't get the variables of all services: they would be too long", "project_id", projectID,
					"services", len(list), "left_out", len(list)-i)
			}
			break
		}
		maps.Copy(all, vars)
	}
	return all
}

// variables returns the variables of one service.
func variables(a *structs.ServiceAssignment) map[string]string {
	upper := func(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
	prefix := upper(a.Name)
	vars := map[string]string{
		prefix + "_SERVICE_HOST": a.Address,
		prefix + "_SERVICE_PORT": strconv.Itoa(a.Spec.Ports[0].Port),
	}
	for i, p := range a.Spec.Ports {
		port := strconv.Itoa(p.Port)
		if p.Name != "" {
			vars[prefix+"_SERVICE_PORT_"+upper(p.Name)] = port
		}
		url := fmt.Sprintf("%s://%s:%s", p.Protocol, a.Address, port)
		if i == 0 {
			vars[prefix+"_PORT"] = url
		}
		of := prefix + "_PORT_" + port + "_" + strings.ToUpper(p.Protocol)
		vars[of], vars[of+"_PROTO"], vars[of+"_PORT"], vars[of+"_ADDR"] = url, p.Protocol, port, a.Address
	}
	return vars
}

// drainWait is how long a pod waits before it ends.
const drainWait = 2 * time.Second

// drainKeep is for how long it is known that a pod has waited: all of its containers end
// within this time, or wait again.
const drainKeep = 10 * time.Minute

// drainKey is one end of a pod.
type drainKey struct {
	pod        structs.Ref
	generation uint64
}

// drain is a wait for the end of a pod.
type drain struct {
	began time.Time
	over  chan struct{}
}

// Drain waits, for a short time at most, until no host of the bay leads new connections to a
// pod of this host that is about to end. Each end of a pod, known by its generation, waits
// once. Any failure ends the wait.
func (s *Services) Drain(ctx context.Context, pod structs.Ref, generation uint64, projectID string, labels map[string]string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	if !s.leadsToLocked(pod.ID, projectID, labels) {
		s.mu.Unlock()
		return
	}
	key := drainKey{pod, generation}
	d := s.drains[key]
	if d == nil {
		maps.DeleteFunc(s.drains, func(_ drainKey, d *drain) bool { return time.Since(d.began) > drainKeep })
		d = &drain{began: time.Now(), over: make(chan struct{})}
		s.drains[key] = d
		// Not under ctx: other containers of the pod may wait for the same.
		go func() {
			defer close(d.over)
			s.drain(pod.ID)
		}()
	}
	s.mu.Unlock()
	select {
	case <-d.over:
	case <-ctx.Done():
	}
}

// leadsToLocked reports whether a service leads to a pod, or may have done so a moment ago.
func (s *Services) leadsToLocked(podID, projectID string, labels map[string]string) bool {
	for _, a := range s.services {
		if a.ProjectID == projectID && (selects(a.Spec.Selector, labels) || hasEndpoint(a.Endpoints, podID)) {
			return true
		}
	}
	return false
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return len(selector) > 0
}

func hasEndpoint(of []structs.Endpoint, podID string) bool {
	return slices.ContainsFunc(of, func(e structs.Endpoint) bool { return e.PodID == podID })
}

// drain waits for the other hosts, and then for the data path of this one.
func (s *Services) drain(podID string) {
	ctx, cancel := context.WithTimeout(context.Background(), drainWait)
	defer cancel()
	if err := s.conf.Drained(ctx, podID, drainWait); err != nil {
		s.conf.Log.Debug("pod ends although other hosts may still lead connections to it", "pod_id", podID, "error", err)
		return
	}
	s.until(ctx, func() bool {
		for i := range s.applied.Services {
			if hasEndpoint(s.applied.Services[i].Endpoints, podID) {
				return !s.up
			}
		}
		return true
	})
}
