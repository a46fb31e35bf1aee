// Package probe checks the containers of pods: it runs their probes as Kubernetes does,
// and their hooks. Package agent starts a Prober for each attempt of a container and acts
// on its State. Package probe never starts, stops or kills a container.
//
// HTTP and TCP checks are made from the agent's process, which reaches more than a tenant
// may: the host's own ports, and the pods of other projects. They therefore connect only
// to the address of the container's own pod, whatever a manifest or a redirect says.
package probe
