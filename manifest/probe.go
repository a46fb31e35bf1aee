package manifest

import (
	"cmp"
	"strings"

	"github.com/stackforge/magnum/manifest/v1"
	"github.com/stackforge/magnum/structs"
)

// checks derives the probes and hooks of a container.
func (b *builder) checks(c *v1.Container, out *structs.PodContainer, at string) error {
	for _, p := range []struct {
		name  string
		probe *v1.Probe
		out   **structs.Probe
	}{
		{"livenessProbe", c.LivenessProbe, &out.Liveness}, {"readinessProbe", c.ReadinessProbe, &out.Readiness},
		{"startupProbe", c.StartupProbe, &out.Startup},
	} {
		if p.probe == nil {
			continue
		}
		probe, err := probe(p.probe, p.name, out.Ports, at)
		if err != nil {
			return err
		}
		*p.out = probe
	}
	if c.Lifecycle == nil {
		return nil
	}
	for _, h := range []struct {
		name string
		hook *v1.LifecycleHandler
		out  **structs.Handler
	}{{"postStart", c.Lifecycle.PostStart, &out.PostStart}, {"preStop", c.Lifecycle.PreStop, &out.PreStop}} {
		if h.hook == nil {
			continue
		}
		hook, err := b.hook(h.hook, out.Ports, at+".lifecycle."+h.name)
		if err != nil {
			return err
		}
		*h.out = hook
	}
	return nil
}

// probe derives a probe.
func probe(p *v1.Probe, name string, ports []structs.PodPort, at string) (*structs.Probe, error) {
	at = join(at, name)
	for _, f := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds}, {"timeoutSeconds", p.TimeoutSeconds}, {"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold}, {"failureThreshold", p.FailureThreshold},
	} {
		if f.value < 0 {
			return nil, refuse(join(at, f.name), "%d is negative", f.value)
		}
	}
	out := &structs.Probe{
		InitialDelay: int(p.InitialDelaySeconds),
		Period:       int(cmp.Or(p.PeriodSeconds, 10)),
		Timeout:      int(cmp.Or(p.TimeoutSeconds, 1)),
		Success:      int(cmp.Or(p.SuccessThreshold, 1)),
		Failure:      int(cmp.Or(p.FailureThreshold, 3)),
	}
	readiness := name == "readinessProbe"
	if out.Success != 1 && !readiness {
		return nil, refuse(at+".successThreshold", "%d must be 1: only a readiness probe may need several successes", out.Success)
	}
	if grace := p.TerminationGracePeriodSeconds; grace != nil {
		if readiness {
			return nil, refuse(at+".terminationGracePeriodSeconds", "a readiness probe ends no container: leave it out")
		}
		if *grace < 1 || *grace > structs.MaxStopTimeout {
			return nil, refuse(at+".terminationGracePeriodSeconds", "%d not in 1..%d seconds", *grace, structs.MaxStopTimeout)
		}
		out.GracePeriod = new(int(*grace))
	}
	var err error
	out.Handler, err = handler(p.Exec, p.HTTPGet, p.TCPSocket, nil, false, ports, at)
	return out, err
}

// hook derives a hook, nil if it does nothing.
func (b *builder) hook(h *v1.LifecycleHandler, ports []structs.PodPort, at string) (*structs.Handler, error) {
	out, err := handler(h.Exec, h.HTTPGet, nil, h.Sleep, true, ports, at)
	if err != nil {
		return nil, err
	}
	if h.Sleep != nil {
		if s := h.Sleep.Seconds; s < 0 || s > int64(b.out.GracePeriod) {
			return nil, refuse(at+".sleep.seconds", "%d not in 0..%d, the pod's terminationGracePeriodSeconds", s, b.out.GracePeriod)
		}
		if h.Sleep.Seconds == 0 {
			return nil, nil
		}
	}
	return &out, nil
}

// handler derives the action of a probe or hook.
func handler(exec *v1.ExecAction, get *v1.HTTPGetAction, tcp *v1.TCPSocketAction, sleep *v1.SleepAction,
	hook bool, ports []structs.PodPort, at string) (structs.Handler, error) {
	var out structs.Handler
	var err error
	given := ""
	one := func(name string, set bool) error {
		if !set {
			return nil
		}
		if given != "" {
			return refuse(join(at, name), "is given beside %s: it has one of them", given)
		}
		given = name
		return nil
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"exec", exec != nil}, {"httpGet", get != nil}, {"tcpSocket", tcp != nil}, {"sleep", sleep != nil}} {
		if err := one(f.name, f.set); err != nil {
			return out, err
		}
	}
	switch given {
	case "exec":
		if len(exec.Command) == 0 {
			return out, refuse(at+".exec.command", "is empty: name a command")
		}
		if len(strings.Join(exec.Command, " ")) > structs.MaxCommand {
			return out, refuse(at+".exec.command", "more than %d bytes", structs.MaxCommand)
		}
		if err := checkProgram(exec.Command, at+".exec.command"); err != nil {
			return out, err
		}
		out.Exec = exec.Command
	case "httpGet":
		out.HTTP, err = httpGet(get, ports, at+".httpGet")
	case "tcpSocket":
		out.TCP = new(structs.TCPSocket)
		out.TCP.Port, err = port(tcp.Port, ports, at+".tcpSocket.port")
	case "sleep":
		out.Sleep = sleep.Seconds
	default:
		third := "tcpSocket"
		if hook {
			third = "sleep"
		}
		return out, refuse(at, "does nothing: give exec, httpGet or %s", third)
	}
	return out, err
}

// httpGet derives a request.
func httpGet(get *v1.HTTPGetAction, ports []structs.PodPort, at string) (*structs.HTTPGet, error) {
	out := &structs.HTTPGet{Path: get.Path, HTTPS: get.Scheme == "HTTPS"}
	if !strings.HasPrefix(out.Path, "/") {
		out.Path = "/" + out.Path
	}
	if err := structs.CheckLine(at+".path", out.Path, structs.MaxText); err != nil {
		return nil, err
	}
	var err error
	if out.Port, err = port(get.Port, ports, at+".port"); err != nil {
		return nil, err
	}
	for i, h := range get.HTTPHeaders {
		at := at + index(".httpHeaders", i)
		if !isHeader(h.Name) {
			return nil, refuse(at+".name", "%.64q is not the name of a header", h.Name)
		}
		if err := structs.CheckLine(at+".value", h.Value, structs.MaxText); err != nil {
			return nil, err
		}
		out.Headers = append(out.Headers, structs.HTTPHeader{Name: h.Name, Value: h.Value})
	}
	return out, nil
}

func port(p v1.IntOrString, ports []structs.PodPort, at string) (int, error) {
	if p.Text && p.Name == "" {
		return 0, refuse(at, "is empty")
	}
	return portOf(p.Int, p.Name, ports, at)
}
