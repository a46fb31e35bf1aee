//go:build engine

package datapath

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// A host and a pod are two network namespaces. The host redirects the service's address as
// the agent's rules do; the data path sees where a connection was meant to go, and answers
// come from the service's address.
func TestRedirectedConnections(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are root's")
	}
	host, pod := fmt.Sprintf("dph%d", os.Getpid()), fmt.Sprintf("dpp%d", os.Getpid())
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	for _, name := range []string{host, pod} {
		run("ip", "netns", "add", name)
		t.Cleanup(func() { run("ip", "netns", "del", name) })
		run("ip", "-n", name, "link", "set", "lo", "up")
	}
	run("ip", "-n", host, "link", "add", "br0", "type", "veth", "peer", "name", "eth0", "netns", pod)
	run("ip", "-n", host, "addr", "add", "10.99.0.1/24", "dev", "br0")
	run("ip", "-n", host, "link", "set", "br0", "up")
	run("ip", "-n", pod, "addr", "add", "10.99.0.2/24", "dev", "eth0")
	run("ip", "-n", pod, "link", "set", "eth0", "up")
	run("ip", "-n", pod, "route", "add", "default", "via", "10.99.0.1")

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	server := exec.Command("ip", "netns", "exec", pod, exe, "pod", "serve", "10.99.0.2:8080")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "serves\n" {
		t.Fatalf("the pod says %q, %v", line, err)
	}

	o := program("one")
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Fatal(err)
	}
	o.program, o.args = ip, []string{"ip", "netns", "exec", host, exe, Subcommand}
	c := openProgram(t, o, dataDir(t))
	s := apply(t, c, Config{HostID: "host-1",
		Projects: []Project{{ID: "project-1", Gateway: netip.MustParsePrefix("10.99.0.1/24")}},
		Services: []Service{{ID: "service-1", ProjectID: "project-1", Name: "web", Address: "10.127.0.1",
			Spec: structs.ServiceSpec{Ports: []structs.ServicePort{{Name: "tcp", Port: 80, Protocol: "tcp"},
				{Name: "udp", Port: 80, Protocol: "udp"}}},
			Endpoints: []structs.Endpoint{{PodID: "pod-1", HostID: "host-1", Address: "10.99.0.2", Ports: []int{8080, 8080},
				Ready: true}}}}})
	if len(s.Problems) > 0 || len(s.UDP) != 1 {
		t.Fatalf("status %+v", s)
	}
	rules := exec.Command("ip", "netns", "exec", host, "nft", "-f", "-")
	rules.Stdin = strings.NewReader(fmt.Sprintf(`table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat
		iifname "br0" ip daddr 10.127.0.0/16 meta l4proto tcp redirect to :%d
		iifname "br0" ip daddr 10.127.0.1 udp dport 80 redirect to :%d
	}
}`, s.TCP["project-1"], s.UDP[0].Local))
	if out, err := rules.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ask := func(network, addr string) string {
		out, _ := exec.Command("ip", "netns", "exec", pod, exe, "pod", "ask", network, addr).Output()
		return string(out)
	}
	for _, network := range []string{"tcp4", "udp4"} {
		if got := ask(network, "10.127.0.1:80"); got != "pod" {
			t.Errorf("%s: the service answers %q", network, got)
		}
	}
	for what, addr := range map[string]string{"another port": "10.127.0.1:81", "another address": "10.127.0.2:80",
		"the listener itself": fmt.Sprintf("10.99.0.1:%d", s.TCP["project-1"])} {
		if got := ask("tcp4", addr); !strings.HasPrefix(got, "ERROR") {
			t.Errorf("%s answers %q", what, got)
		}
	}
}
