package manifests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Bay is a bay of a magnum that runs. Servers count the pods of a Docker bay, and a cluster those
// of its own, so services and replication controllers are seen only where both sides of the wire
// are.
type Bay struct {
	Backend structs.Backend
	Image   string // the busybox that its hosts have; they reach no registry that has others
	Project Project
}

// Project has nothing in the bay but what the suite makes there. Its methods ask for what has
// been decided, not for what a follower knows, and return the errors of the API. kind is
// structs.KindService or KindRC.
type Project interface {
	Create(ctx context.Context, kind, manifest string) error
	Replace(ctx context.Context, kind, name, manifest string) error
	Delete(ctx context.Context, kind, name string) error
	Service(ctx context.Context, name string) (*structs.ServiceBody, error)
	RC(ctx context.Context, name string) (*structs.RCBody, error)
	Pods(ctx context.Context) ([]structs.PodBody, error) // with all that is known of each
}

// Objects creates the services and replication controllers of the table at once, changes them as
// it says, all of them before the first is looked at, and compares what is shown with the table.
func Objects(t *testing.T, b *Bay) {
	for round := 0; ; round++ {
		var have []*objectTest
		for i := range objects {
			if c := &objects[i]; round < len(c.steps) {
				have = append(have, c)
			}
		}
		if len(have) == 0 {
			break
		}
		refused := make(map[string]string)
		for _, c := range have {
			if step := &c.steps[round]; step.spec != "" {
				refused[c.name] = b.apply(t, c, step.spec, round > 0)
			}
		}
		for _, c := range have {
			step := &c.steps[round]
			t.Run(c.name+"/"+step.what, func(t *testing.T) {
				b.until(t, step.on(b.Backend), func() string {
					if refused[c.name] != "" {
						return refused[c.name]
					}
					return b.view(t, c)
				})
			})
		}
	}
	for i := range objects {
		_ = b.Project.Delete(t.Context(), objects[i].kind, objects[i].name) // one that was refused isn't there
	}
	for i := range objects {
		t.Run(objects[i].name+"/delete", func(t *testing.T) {
			b.until(t, "gone", func() string { return b.view(t, &objects[i]) })
		})
	}
	t.Run("pods/delete", func(t *testing.T) {
		b.until(t, "no pods", func() string {
			pods, err := b.Project.Pods(t.Context())
			if err != nil || len(pods) > 0 {
				return fmt.Sprintf("%d pods, error: %v", len(pods), err)
			}
			return "no pods"
		})
	})
}

// objectTest is a service or replication controller, and what becomes of it.
type objectTest struct {
	kind  string // structs.KindService or KindRC
	name  string
	steps []step
}

// step is a change of an object, and what is seen of it afterwards.
type step struct {
	what string
	spec string // of the object, in YAML; IMAGE stands for the image; "" leaves the object as it is
	// view is what is shown in the end: what Bay.view gives, in which * stands for any text, or
	// the refusal.
	view    string
	differs []objectDifference
}

// objectDifference is another view, which a backend has by its nature.
type objectDifference struct {
	on   structs.Backend
	view string
	why  string
}

// on returns what is to be seen on a backend.
func (s *step) on(b structs.Backend) string {
	if i := slices.IndexFunc(s.differs, func(d objectDifference) bool { return d.on == b }); i >= 0 {
		return s.differs[i].view
	}
	return s.view
}

// manifest returns the text of the object.
func (c *objectTest) manifest(spec, image string) string {
	kind := map[string]string{structs.KindService: "Service", structs.KindRC: "ReplicationController"}[c.kind]
	return "apiVersion: v1\nkind: " + kind + "\nmetadata: {name: " + c.name + "}\nspec:\n" + strings.ReplaceAll(spec, "IMAGE", image)
}

// apply creates or changes the object, and returns the refusal; "" if there is none.
func (b *Bay) apply(t *testing.T, c *objectTest, spec string, exists bool) (refusal string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	text := c.manifest(spec, b.Image)
	var err error
	if exists {
		err = b.Project.Replace(ctx, c.kind, c.name, text)
	} else {
		err = b.Project.Create(ctx, c.kind, text)
	}
	if err != nil {
		return fmt.Sprintf("refused, %s: %v", structs.CodeOf(err), err)
	}
	return ""
}

// until looks at an object until it is seen as wanted.
func (*Bay) until(t *testing.T, want string, view func() string) {
	t.Helper()
	var past []string
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		now := view()
		if matches(want, now) {
			return
		}
		if !slices.Contains(past, now) {
			past = append(past, now)
		}
		if time.Now().After(deadline) {
			t.Fatalf("never seen:\n  %s\nseen:\n  %s", want, strings.Join(past, "\n  "))
		}
	}
}

// view describes an object in one line: how many of its pods are as wanted, the reason, and then
// each pod of a replication controller, or each endpoint of a service. Pods, whose names are
// anybody's, are called POD.
func (b *Bay) view(t *testing.T, c *objectTest) string {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	look := b.viewService
	if c.kind == structs.KindRC {
		look = b.viewRC
	}
	text, err := look(ctx, c.name)
	switch {
	case structs.CodeOf(err) == structs.CodeNotFound:
		return "gone"
	case err != nil:
		return "error: " + err.Error()
	}
	return text
}

func (b *Bay) viewRC(ctx context.Context, name string) (string, error) {
	rc, err := b.Project.RC(ctx, name)
	if err != nil {
		return "", err
	}
	pods, err := b.Project.Pods(ctx)
	if err != nil {
		return "", err
	}
	if rc.ObservedGeneration < rc.Generation {
		return "the last change has not been carried out", nil
	}
	var lines, names []string
	for i := range pods {
		if p := &pods[i]; p.RCUUID != nil && *p.RCUUID == rc.UUID && p.Status != structs.PodPhase(structs.ContainerDeleting) {
			lines, names = append(lines, viewPod(p)), append(names, p.Name)
		}
	}
	head := fmt.Sprintf("%d wanted, %d there, %d ready, %d updated", rc.Replicas, rc.Current, rc.Ready, rc.Updated)
	return line(head, rc.StatusReason, lines, names), nil
}

// line joins what is seen of an object.
func line(head string, reason *string, lines, pods []string) string {
	if reason != nil {
		head += ": " + *reason
	}
	for _, name := range pods {
		head = strings.ReplaceAll(head, name, "POD")
	}
	slices.Sort(lines) // by nothing else, because each backend has names of its own
	return strings.Join(append([]string{head}, lines...), " | ")
}

// viewPod describes a pod as watcher.view does.
func viewPod(p *structs.PodBody) string {
	text := string(p.Status)
	if p.Ready {
		text += ", ready"
	}
	for _, list := range [][]structs.PodContainerBody{p.InitContainers, p.Containers} {
		for i := range list {
			text += fmt.Sprintf("; %s: %s", list[i].Name, viewState(&list[i].State))
			if list[i].Ready {
				text += ", ready"
			}
			if list[i].LastState != nil {
				text += ", before " + viewState(list[i].LastState)
			}
		}
	}
	return text
}

func viewState(s *structs.PartStateBody) string {
	of := structs.PartState{State: s.State, ExitCode: s.ExitCode}
	if s.Reason != nil {
		of.Reason = *s.Reason
	}
	return state(&of)
}

func (b *Bay) viewService(ctx context.Context, name string) (string, error) {
	s, err := b.Project.Service(ctx, name)
	if err != nil {
		return "", err
	}
	head := string(s.Status)
	if s.Headless {
		head += ", headless"
	}
	if s.Address != nil {
		head += ", address"
	}
	if s.ClientIPTimeout > 0 {
		head += fmt.Sprintf(", clients stay for %d s", s.ClientIPTimeout)
	}
	for i, p := range s.Ports {
		head += fmt.Sprintf(", %d/%s to %v", p.Port, p.Protocol, p.TargetPort)
		if p.NodePort != nil && i < len(s.NodePorts) && *p.NodePort == s.NodePorts[i] && *p.NodePort > 0 {
			head += " with node port"
		}
	}
	head += fmt.Sprintf(", %d of %d ready", s.Ready, s.Total)
	var lines, names []string
	if s.Endpoints != nil {
		for _, e := range *s.Endpoints {
			text := fmt.Sprint(e.Ports)
			if e.Ready {
				text += " ready"
			}
			if e.Address == "" || e.Host == nil || e.PodUUID == "" {
				text += " nowhere"
			}
			lines, names = append(lines, text), append(names, e.Pod)
		}
	}
	return line(head, s.StatusReason, lines, names), nil
}
