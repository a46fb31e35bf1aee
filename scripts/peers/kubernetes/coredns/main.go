// Command coredns is CoreDNS with what a cluster of tests needs of it: the names of services
// and pods, from the Kubernetes API.
//
// It is a peer of tests. Its module is not part of magnum's.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	// Of the directives that a Corefile may have, in the order in which they act.
	dnsserver.Directives = []string{"bind", "errors", "ready", "kubernetes"}
	coremain.Run()
}
