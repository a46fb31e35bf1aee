package structs

import (
	"slices"
	"strings"
)

// This file says which of a pod's images its credentials are for.

// dockerHub is the registry of images that name none.
const dockerHub = "docker.io"

// RegistryOf returns the registry that a valid image reference names, as host or
// host:port in lower case; docker.io if it names none.
func RegistryOf(image string) string {
	host, _, found := strings.Cut(image, "/")
	if !found || host != "localhost" && !strings.ContainsAny(host, ".:") && strings.ToLower(host) == host {
		return dockerHub // the first segment of a name on Docker Hub
	}
	return registryHost(host)
}

// registryHost returns the host of a registry's address, of which users write a URL, too.
func registryHost(address string) string {
	if _, rest, found := strings.Cut(address, "://"); found {
		address = rest
	}
	address, _, _ = strings.Cut(address, "/")
	switch address = strings.ToLower(address); address {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return dockerHub
	}
	return address
}

// registries returns the registries from which images of the pod may be pulled, in the
// order of the manifest.
func (s *PodSpec) registries() []string {
	var hosts []string
	add := func(image string) {
		if host := RegistryOf(image); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	for _, list := range [][]PodContainer{s.InitContainers, s.Containers} {
		for i := range list {
			if list[i].PullPolicy != PullNever {
				add(list[i].Image)
			}
		}
	}
	if s.InfraImage != "" {
		add(s.InfraImage)
	}
	return hosts
}

// CredentialsFor returns the pod's credentials r if they are for the registry of image, one
// of the pod's; else nil. r may be nil. Credentials without a server are for the only
// registry that the images name. No other registry may get to know them.
func (s *PodSpec) CredentialsFor(image string, r *Registry) *Registry {
	switch {
	case r == nil:
		return nil
	case r.Server == "" && len(s.registries()) == 1, r.Server != "" && registryHost(r.Server) == RegistryOf(image):
		return r
	}
	return nil
}

// CheckCredentials refuses credentials of which nobody can say for which of the registries
// they are that the pod's images name. r may be nil. Errors are CodeInvalid.
func (s *PodSpec) CheckCredentials(r *Registry) error {
	if r == nil || r.Server != "" {
		return nil
	}
	hosts := s.registries()
	if len(hosts) < 2 {
		return nil
	}
	const most = 4
	var named []string
	for _, host := range hosts[:min(len(hosts), most)] {
		named = append(named, Shorten(host))
	}
	if len(hosts) > most {
		named = append(named, "...")
	}
	return Errorf(CodeInvalid, "registry.server is missing: the images name the registries %s; say which one the credentials are for",
		strings.Join(named, ", "))
}
