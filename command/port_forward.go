package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// forwarder joins local connections to ports of an object.
type forwarder interface {
	// forward joins local to a port until both have ended. It closes local.
	forward(ctx context.Context, port int, local api.HalfCloser) error
}

// forwardTargets are what port-forward can lead to, by what stands before the slash in its
// argument. Each function finds the object.
var forwardTargets = map[string]func(ctx context.Context, client *api.Client, ident string, pairs []portPair) (forwarder, error){
	"":     findForwardPod,
	"pod":  findForwardPod,
	"pods": findForwardPod,

	"service":  findForwardService,
	"services": findForwardService,
}

// forwardPod forwards to a pod.
type forwardPod struct {
	pods api.Pods
	uuid string
}

// findForwardPod finds a pod. Another pod that gets its name later isn't meant. A pod may
// listen on ports that its manifest doesn't name.
func findForwardPod(ctx context.Context, client *api.Client, ident string, _ []portPair) (forwarder, error) {
	pod, _, err := client.Pods().Get(ctx, ident, api.QueryOptions{})
	if err != nil {
		return nil, err
	}
	if pod.Status == structs.PodSucceeded || pod.Status == structs.PodFailed {
		return nil, fmt.Errorf("pod %s is %s: its containers have ended for good, so nothing of it takes connections", pod.Name, pod.Status)
	}
	return forwardPod{client.Pods(), pod.UUID}, nil
}

func (p forwardPod) forward(ctx context.Context, port int, local api.HalfCloser) error {
	return p.pods.Forward(ctx, p.uuid, port, local)
}

// forwardService forwards to the ready pods of a service, one after the other.
type forwardService struct {
	client *api.Client
	uuid   string
	turn   atomic.Uint32
}

// findForwardService finds a service that has all the ports. Whether it has ready pods is seen
// with each connection: they may come later.
func findForwardService(ctx context.Context, client *api.Client, ident string, pairs []portPair) (forwarder, error) {
	s, _, err := client.Services().Get(ctx, ident, api.QueryOptions{})
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		if tcpPort(s, p.remote) < 0 {
			return nil, noTCPPort(s, p.remote)
		}
	}
	return &forwardService{client: client, uuid: s.UUID}, nil
}

func (f *forwardService) forward(ctx context.Context, port int, local api.HalfCloser) error {
	pod, target, err := f.choose(ctx, port)
	if err != nil {
		local.Close()
		return err
	}
	err = f.client.Pods().Forward(ctx, pod, target, local)
	if structs.CodeOf(err) == structs.CodeNotFound {
		return fmt.Errorf("the pod is gone meanwhile: %s", describe(err)) // the service isn't
	}
	return err
}

// choose returns the next ready pod of the service, and its port for one of the service's.
func (f *forwardService) choose(ctx context.Context, port int) (pod string, target int, err error) {
	s, _, err := f.client.Services().Get(ctx, f.uuid, api.QueryOptions{})
	if err != nil {
		return "", 0, err
	}
	at := tcpPort(s, port)
	if at < 0 {
		return "", 0, noTCPPort(s, port) // it has had one
	}
	var ready []structs.EndpointBody
	if s.Endpoints != nil {
		for _, e := range *s.Endpoints {
			if e.Ready && at < len(e.Ports) && e.Ports[at] != 0 {
				ready = append(ready, e)
			}
		}
	}
	if len(ready) == 0 {
		return "", 0, fmt.Errorf("service %s has no ready pod for port %d; \"magnum service-show %s\" says why", s.Name, port, s.Name)
	}
	e := ready[int(f.turn.Add(1)-1)%len(ready)]
	return e.PodUUID, e.Ports[at], nil
}

// tcpPort returns the index of a service's TCP port, or -1.
func tcpPort(s *structs.ServiceBody, port int) int {
	return slices.IndexFunc(s.Ports, func(p structs.ServicePortBody) bool { return p.Port == port && p.Protocol == "TCP" })
}

// noTCPPort says that a service has no such port, and which it has.
func noTCPPort(s *structs.ServiceBody, port int) error {
	var has []string
	for _, p := range s.Ports {
		if p.Protocol == "TCP" {
			has = append(has, strconv.Itoa(p.Port))
		}
	}
	if len(has) == 0 {
		return fmt.Errorf("service %s has no TCP port %d: it has UDP ports only, which can't be forwarded", s.Name, port)
	}
	return fmt.Errorf("service %s has no TCP port %d: it has %s", s.Name, port, strings.Join(has, ", "))
}

// portPair is a local port, 0 for a free one, and the port that it leads to.
type portPair struct{ local, remote int }

// parsePortPair reads LOCAL:REMOTE, :REMOTE, or PORT for both.
func parsePortPair(s string) (p portPair, err error) {
	local, remote, both := strings.Cut(s, ":")
	if !both {
		remote = local
	}
	number := func(text string, least uint64) (int, error) {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n < least {
			return 0, usagef("%q is not a pair of ports: write LOCAL:REMOTE, such as 8080:80, or :80 for a free local port", s)
		}
		return int(n), nil
	}
	if local != "" || !both {
		if p.local, err = number(local, 0); err != nil {
			return p, err
		}
	}
	p.remote, err = number(remote, 1)
	return p, err
}

func portForwardCommand() *command {
	return &command{
		name: "port-forward", group: groupPods, args: "POD|service/NAME LOCAL:REMOTE...", complete: completePods,
		synopsis: "Forward local ports to ports of a pod or a service",
		about: "Connections to the local ports are carried over the server and the pod's host to ports of the pod, until\n" +
			"you press Ctrl-C. LOCAL 0, or nothing before the colon, chooses a free port; the output says which. PORT\n" +
			"alone stands for both. Only TCP is forwarded. Each connection to service/NAME goes to another one of its\n" +
			"ready pods; REMOTE is then a port of the service.\n\n" +
			"A connection that fails is closed, and standard error says why; the others go on. The command ends with 1\n" +
			"when the pod or the service is deleted. For a pod that is made again, start it again.",
		examples: []string{
			"magnum port-forward web 8080:80",
			"magnum port-forward db :5432 9187",
			"magnum port-forward service/web 8080:80",
			"magnum port-forward -address 0.0.0.0 pod/web 8080:80",
		},
		setup: func(e *env, f *flagSet) runFunc {
			var conn connection
			address := "127.0.0.1"
			f.text(&address, "address", "ADDRESS", "local address to listen on").defaultText(address)
			conn.flags(f)
			return func(ctx context.Context, args []string) error {
				if len(args) < 2 {
					return exactly(args, "POD|service/NAME", "LOCAL:REMOTE")
				}
				pairs := make([]portPair, len(args)-1)
				for i, text := range args[1:] {
					var err error
					if pairs[i], err = parsePortPair(text); err != nil {
						return err
					}
				}
				kind, ident, named := strings.Cut(args[0], "/")
				if !named {
					kind, ident = "", args[0]
				}
				find := forwardTargets[kind]
				if find == nil || ident == "" {
					return usagef("%q can't be forwarded to: write the uuid or name of a pod, or service/NAME", args[0])
				}
				client, err := conn.client(e)
				if err != nil {
					return err
				}
				to, err := find(ctx, client, ident, pairs)
				if err != nil {
					return err
				}
				return e.portForward(ctx, to, address, pairs)
			}
		},
	}
}

// portForward listens on local ports and forwards connections, until ctx ends, which is not an
// error, or until there is nothing to forward to any more.
func (e *env) portForward(ctx context.Context, to forwarder, address string, pairs []portPair) error {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	var config net.ListenConfig
	for _, p := range pairs {
		l, err := config.Listen(ctx, "tcp", net.JoinHostPort(address, strconv.Itoa(p.local)))
		if err != nil {
			return fmt.Errorf("listening on local port %d: %w; :%d chooses a free port", p.local, err, p.remote)
		}
		listeners = append(listeners, l)
	}
	for i, l := range listeners {
		if _, err := fmt.Fprintf(e.stdout, "Forwarding from %s -> %d\n", l.Addr(), pairs[i].remote); err != nil {
			return err
		}
	}
	outer := ctx
	ctx, end := context.WithCancelCause(outer)
	defer end(nil)
	var mu sync.Mutex // guards the output
	report := func(port int, err error) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(e.stderr, "port %d: %s\n", port, describe(err))
	}
	handle := func(local net.Conn, port int) {
		err := to.forward(ctx, port, local.(*net.TCPConn))
		if err == nil || ctx.Err() != nil {
			return
		}
		if structs.CodeOf(err) == structs.CodeNotFound {
			end(err)
			return
		}
		report(port, err)
	}
	var running sync.WaitGroup
	for i, l := range listeners {
		running.Go(func() {
			for failures := 1; ; {
				local, err := l.Accept()
				switch {
				case errors.Is(err, net.ErrClosed):
					return
				case err != nil: // no file descriptors are left, for example
					report(pairs[i].remote, err)
					if backoff(ctx, failures) != nil {
						return
					}
					failures++
				default:
					failures = 1
					running.Go(func() { handle(local, pairs[i].remote) })
				}
			}
		})
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	running.Wait()
	if outer.Err() != nil {
		return nil // Ctrl-C is the normal end
	}
	return context.Cause(ctx)
}
