package backendtest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/stackforge/magnum/agent/backend/backendtest/userland"
)

// podShell runs the commands by which the suite sees what the containers of a pod share.
// It holds the engine's lock.
type podShell struct {
	f *engine
	p *process
}

// runLocked runs a command in a container.
func (f *engine) runLocked(p *process, command, env []string) userland.Outcome {
	if p.pod == nil {
		return userland.Run(command, env, nil)
	}
	in := &podShell{f, p}
	return userland.Run(command, env, in.run)
}

// run runs one of these commands; false if it is another one:
//
//	echo WORD... > FILE
//	cat FILE
//	ps
//	hostname
//	id -u
//	nc -ll -p PORT -e echo WORD...    serves until the container ends
//	nc 127.0.0.1 PORT
func (s *podShell) run(words []string, o *userland.Outcome) bool {
	if len(words) == 0 {
		return false
	}
	n := len(words)
	fail := func(text string) { o.Stderr, o.ExitCode = append(o.Stderr, text+"\n"...), 1 }
	o.ExitCode = 0
	switch {
	case words[0] == "echo" && n > 2 && words[n-2] == ">":
		files, name, readOnly := s.files(words[n-1])
		if readOnly {
			fail("sh: can't create " + words[n-1] + ": Read-only file system")
			return true
		}
		files[name] = strings.Join(words[1:n-2], " ") + "\n"
	case words[0] == "cat" && n == 2:
		files, name, _ := s.files(words[1])
		text, ok := files[name]
		if !ok {
			fail("cat: can't open '" + words[1] + "': No such file or directory")
		}
		o.Stdout = append(o.Stdout, text...)
	case words[0] == "ps":
		for _, q := range s.f.containers {
			if q.Live() && (q == s.p || s.sharesPID(q)) {
				o.Stdout = fmt.Appendln(o.Stdout, "1 root", strings.Join(q.spec.Command, " "))
			}
		}
	case words[0] == "hostname":
		o.Stdout = fmt.Appendln(o.Stdout, s.host().spec.Hostname)
	case words[0] == "id" && slices.Equal(words[1:], []string{"-u"}):
		user := int64(0)
		if u := s.p.pod.Security.RunAsUser; u != nil {
			user = *u
		}
		o.Stdout = fmt.Appendln(o.Stdout, user)
	case words[0] == "nc" && n == 3:
		for _, q := range s.f.containers {
			if q.Live() && s.sharesNetwork(q) && q.serves[words[2]] != "" {
				o.Stdout = append(o.Stdout, q.serves[words[2]]...)
				return true
			}
		}
		fail("nc: can't connect to remote host (127.0.0.1): Connection refused")
	case words[0] == "nc" && n > 6:
		s.p.serves = map[string]string{words[3]: strings.Join(words[6:], " ") + "\n"}
		return false // and runs until it is killed
	default:
		return false
	}
	return true
}

// host returns the infra container, or the container itself if that is gone.
func (s *podShell) host() *process {
	if infra := infraOf(s.f, s.p); infra != nil {
		return infra
	}
	return s.p
}

// sharesNetwork reports whether q is in the pod's network: once the infra container has
// ended, each container keeps only what it has.
func (s *podShell) sharesNetwork(q *process) bool {
	return q.Infra == s.p.Infra || q == s.host()
}

func (s *podShell) sharesPID(q *process) bool {
	if !s.p.pod.SharePID {
		return false
	}
	return q == s.host() || q.Infra == s.p.Infra && q.pod.SharePID
}

// files returns the files that a path is one of, and its name among them.
func (s *podShell) files(at string) (files map[string]string, name string, readOnly bool) {
	at = path.Clean(at)
	if rest, ok := strings.CutPrefix(at, "/dev/shm/"); ok {
		return s.host().own(), "shm/" + rest, false
	}
	for _, m := range s.p.pod.Mounts {
		rest, ok := strings.CutPrefix(at, path.Clean(m.Path)+"/")
		if !ok {
			continue
		}
		for _, v := range s.p.pod.Volumes {
			switch {
			case v.Name != m.Volume:
			case v.Claim == "":
				return s.f.podFiles[podVolume{s.p.owner, s.p.Whole(), v.Name}], rest, m.ReadOnly
			default:
				return claimFiles(s.f, volume{s.p.owner.ClusterID, s.p.project, v.Claim}), rest, m.ReadOnly || v.ReadOnly
			}
		}
	}
	return s.p.own(), at, s.p.pod.Security.ReadOnlyRoot
}

// own returns the files of the container's own file system.
func (p *process) own() map[string]string {
	if p.written == nil {
		p.written = make(map[string]string)
	}
	return p.written
}

// claimFiles returns the files of a named volume.
func claimFiles(f *engine, v volume) map[string]string {
	if f.claimed[v] == nil {
		f.claimed[v] = make(map[string]string)
	}
	return f.claimed[v]
}
