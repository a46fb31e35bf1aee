//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// chaosPodMemory is what each pod reserves, in bytes.
const chaosPodMemory = 8 << 20

// chaosRCs are the replicas of the replication controllers that exist from the beginning to
// the end.
var chaosRCs = map[string]int{"standing-rc": 3}

// runningPods are the pods and replication controllers of runningContainers, whose mu
// guards them.
type runningPods struct {
	wanted   map[string]string // names by UUID, of those that were acknowledged, without those of rcs
	rcs      map[string]string // likewise
	replicas map[string]int    // of these
	standing map[string]podStart
}

// podStart says since when the parts of a pod run, and under which epoch.
type podStart struct {
	began string
	epoch uint64
}

// chaosPod is the template of all pods: two containers that run until they are told to end. The
// first one answers requests at port 8080 with the pod's UUID.
func chaosPod(template string) string {
	const c = `{"name":"%s","image":"` + image + `","imagePullPolicy":"IfNotPresent","command":["sh","-c",` +
		`"%strap 'exit 0' TERM; while :; do sleep 1 & wait; done"]`
	const web = `"env":[{"name":"POD_UID","valueFrom":{"fieldRef":{"fieldPath":"metadata.uid"}}}],` +
		`"readinessProbe":{"tcpSocket":{"port":8080},"periodSeconds":1,"timeoutSeconds":20}`
	return fmt.Sprintf(`{"metadata":{%s},"spec":{"terminationGracePeriodSeconds":2,"containers":[`+c+
		`,`+web+`,"resources":{"requests":{"memory":"8Mi"}}},`+c+`}]}}`, template,
		"a", "mkdir -p /w; echo $POD_UID >/w/index.html; httpd -p 8080 -h /w; ", "b", "")
}

// podManifest is the manifest of a pod.
func podManifest(name, labels string) string {
	return `{"apiVersion":"v1","kind":"Pod",` + chaosPod(fmt.Sprintf(`"name":"%s","labels":{%s"of":"chaos"}`, name, labels))[1:]
}

// chaosRC is the manifest of a replication controller. version makes another template.
func chaosRC(name string, replicas, version int) string {
	const head = `{"apiVersion":"v1","kind":"ReplicationController","metadata":{"name":"%s"},`
	return fmt.Sprintf(head+`"spec":{"replicas":%d,"template":%s}}`,
		name, replicas, chaosPod(fmt.Sprintf(`"labels":{"app":"%s","of":"chaos"},"annotations":{"version":"%d"}`, name, version)))
}

// startPods creates what runs from the beginning to the end.
func (l *runningContainers) startPods() {
	l.Helper()
	l.pods = runningPods{wanted: make(map[string]string), rcs: make(map[string]string), replicas: make(map[string]int),
		standing: make(map[string]podStart)}
	l.createStanding("standing-pod", structs.ExclusiveNo)
	l.createStanding("standing-pod-lease", structs.ExclusiveLease)
	l.createStanding("standing-pod-exclusive", structs.ExclusiveYes)
	for name, replicas := range chaosRCs {
		rc, _, err := l.client.RCs().Create(l.ctx(), &structs.RCRequest{Bay: l.bay.UUID, Manifest: chaosRC(name, replicas, 0)},
			api.WriteOptions{Wait: -1})
		if err != nil {
			l.Fatal(err)
		}
		l.pods.rcs[rc.UUID], l.pods.replicas[rc.UUID] = name, replicas
	}
}

// createStanding creates a pod that no client deletes.
func (l *runningContainers) createStanding(name string, exclusive structs.Exclusive) {
	l.Helper()
	r := &structs.PodRequest{Bay: l.bay.UUID, Manifest: podManifest(name, ""), Exclusive: exclusive}
	p, _, err := l.client.Pods().Create(l.ctx(), r, api.WriteOptions{Wait: -1})
	if err != nil {
		l.Fatal(err)
	}
	l.pods.wanted[p.UUID] = name
	if exclusive != structs.ExclusiveNo {
		l.singles[p.UUID] = exclusive
	}
}

// listPods returns all pods.
func (l *runningContainers) listPods() []structs.PodBody {
	l.Helper()
	pods, _, err := l.client.Pods().List(l.ctx(), api.QueryOptions{Consistent: true, Detail: true})
	if err != nil {
		l.Fatal(err)
	}
	return pods
}

// workPods creates, changes and deletes pods, one after the other, until ctx ends.
func (l *runningContainers) workPods(ctx context.Context, random *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		name, key, id := fmt.Sprint("cycle-pod-", n), structs.NewID(), ""
		l.take(ctx, random, []func(){
			func() {
				l.insist("create "+name, random, func(ctx context.Context, c *api.Client) error {
					r := &structs.PodRequest{Bay: l.bay.UUID, Manifest: podManifest(name, "")}
					p, _, err := c.Pods().Create(ctx, r, api.WriteOptions{Wait: -1, IdempotencyKey: key})
					if err == nil {
						l.sameObject(name, &id, p.UUID)
					}
					return err
				})
				l.mu.Lock()
				defer l.mu.Unlock()
				l.pods.wanted[id] = name
			},
			func() {
				l.insist("update "+name, random, func(ctx context.Context, c *api.Client) error {
					_, _, err := c.Pods().Update(ctx, id, manifestIs(podManifest(name, `"step":"two",`)), api.WriteOptions{Wait: -1})
					return err
				})
			},
			func() {
				l.insistGone("delete "+name, random, func(ctx context.Context, c *api.Client) error {
					_, err := c.Pods().Delete(ctx, id, api.DeleteOptions{Force: random.IntN(2) == 0,
						WriteOptions: api.WriteOptions{Wait: -1}})
					return err
				})
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.pods.wanted, id)
			},
		}, &id)
	}
}

// workRCs creates, scales, changes and deletes replication controllers, one after the
// other, until ctx ends.
func (l *runningContainers) workRCs(ctx context.Context, random *rand.Rand) {
	for n := 0; ctx.Err() == nil; n++ {
		name, key, id := fmt.Sprint("cycle-rc-", n), structs.NewID(), ""
		want := func(replicas int) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.pods.rcs[id], l.pods.replicas[id] = name, replicas
		}
		update := func(replicas, version int) func() {
			return func() {
				l.insist("update "+name, random, func(ctx context.Context, c *api.Client) error {
					_, _, err := c.RCs().Update(ctx, id, manifestIs(chaosRC(name, replicas, version)), api.WriteOptions{Wait: -1})
					return err
				})
				want(replicas)
			}
		}
		l.take(ctx, random, []func(){
			func() {
				l.insist("create "+name, random, func(ctx context.Context, c *api.Client) error {
					r := &structs.RCRequest{Bay: l.bay.UUID, Manifest: chaosRC(name, 1, 0)}
					rc, _, err := c.RCs().Create(ctx, r, api.WriteOptions{Wait: -1, IdempotencyKey: key})
					if err == nil {
						l.sameObject(name, &id, rc.UUID)
					}
					return err
				})
				want(1)
			},
			update(2, 0),
			update(2, 1),
			update(random.IntN(2), 1),
			func() {
				l.insistGone("delete "+name, random, func(ctx context.Context, c *api.Client) error {
					_, err := c.RCs().Delete(ctx, id, api.DeleteOptions{Force: true, WriteOptions: api.WriteOptions{Wait: -1}})
					return err
				})
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.pods.rcs, id)
				delete(l.pods.replicas, id)
			},
		}, &id)
	}
}

func manifestIs(text string) []structs.PatchOp {
	return []structs.PatchOp{{Op: "replace", Path: "/manifest", Value: text}}
}

// insist repeats a request until a server has carried it out.
func (l *runningContainers) insist(what string, random *rand.Rand, f func(context.Context, *api.Client) error) {
	if err := l.ask(random, what, f); err != nil {
		l.Errorf("%s: %v", what, err)
	}
}

// insistGone is insist for a delete, whose first try may have deleted the object
// although its answer was lost.
func (l *runningContainers) insistGone(what string, random *rand.Rand, f func(context.Context, *api.Client) error) {
	if err := l.ask(random, what, f); err != nil && structs.CodeOf(err) != structs.CodeNotFound {
		l.Errorf("%s: %v", what, err)
	}
}

// awaitReplicas waits until each replication controller has its pods, all ready and of its
// template. No client may change anything meanwhile.
func (l *runningContainers) awaitReplicas() {
	l.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.eventually("replication controllers have their pods", 2*time.Minute, func() error {
		_, err := l.replicas()
		return err
	})
}

// replicas returns the pods, and what is not as the replication controllers want it.
func (l *runningContainers) replicas() ([]structs.PodBody, error) {
	rcs, _, err := l.client.RCs().List(l.ctx(), api.QueryOptions{Consistent: true, Detail: true})
	if err != nil {
		return nil, err
	}
	pods, _, err := l.client.Pods().List(l.ctx(), api.QueryOptions{Consistent: true, Detail: true})
	if err != nil {
		return nil, err
	}
	if len(rcs) != len(l.pods.rcs) {
		return nil, fmt.Errorf("I1, I10: %d replication controllers are there, of %d: %v", len(rcs), len(l.pods.rcs), l.pods.rcs)
	}
	for _, rc := range rcs {
		want, ok := l.pods.replicas[rc.UUID]
		its, running := 0, 0
		for i := range pods {
			if deref(pods[i].RCUUID) == rc.UUID {
				if its++; podIsReady(&pods[i]) {
					running++
				}
			}
		}
		if !ok || rc.Replicas != want || rc.Current != want || rc.Ready != want || rc.Updated != want || its != want || running != want {
			return nil, fmt.Errorf("rc %s wants %d pods, and was asked for %d: it counts %d, %d ready, %d of its template (%s); "+
				"%d are shown, %d of them ready", rc.Name, rc.Replicas, want, rc.Current, rc.Ready, rc.Updated, deref(rc.StatusReason), its,
				running)
		}
	}
	return pods, nil
}

// podsConverged returns what the engines have of pods otherwise than acknowledged: I1, I4,
// I5, I10. The caller holds mu.
func (l *runningContainers) podsConverged() error {
	pods, err := l.replicas()
	if err != nil {
		return err
	}
	found := 0
	for i := range pods {
		p := &pods[i]
		if _, ok := l.pods.wanted[p.UUID]; ok {
			found++
		} else if p.RCUUID == nil {
			return fmt.Errorf("I5, I10: pod %s (%s, %s: %s) was deleted, or no client created it", p.Name, p.UUID, p.Status,
				deref(p.StatusReason))
		}
		if !podIsReady(p) {
			return fmt.Errorf("pod %s is %s (%s), ready %v, with %+v", p.Name, p.Status, deref(p.StatusReason), p.Ready, p.Containers)
		}
	}
	if found != len(l.pods.wanted) {
		return fmt.Errorf("I1: of %d pods that were acknowledged %d are there", len(l.pods.wanted), found)
	}
	for _, a := range l.agents {
		its := slices.Clone(pods)
		its = slices.DeleteFunc(its, func(p structs.PodBody) bool { return deref(p.Host) != a.name })
		if err := a.engine.podsAgree(a.hostID(), its); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

// podsAgree checks I5 for pods that are ready: the engine has exactly their parts, of which
// the newest attempts run, and at most one attempt before.
func (e *engine) podsAgree(hostID string, pods []structs.PodBody) error {
	list, err := e.list(hostID)
	if err != nil {
		return err
	}
	running, ended := make(map[string]int), make(map[string]int)
	for _, s := range list {
		if s.part == "" {
			continue
		}
		i := slices.IndexFunc(pods, func(p structs.PodBody) bool { return p.UUID == s.container })
		if i < 0 {
			return fmt.Errorf("I5: part %s of pod %s has no row", s.part, s.container)
		}
		if s.epoch != fmt.Sprint(pods[i].Epoch) {
			return fmt.Errorf("I5: part %s of pod %s has epoch %s on the engine, not %d", s.part, pods[i].Name, s.epoch, pods[i].Epoch)
		}
		count := ended
		if s.state == "running" {
			count = running
		}
		count[s.container+" "+s.part]++
	}
	total := 0
	for i := range pods {
		names := []string{structs.PodInfra}
		for _, c := range pods[i].Containers {
			names = append(names, c.Name)
		}
		for _, name := range names {
			key := pods[i].UUID + " " + name
			if total++; running[key] != 1 || ended[key] > 1 {
				return fmt.Errorf("I5: of part %s of pod %s %d attempts run, and %d have ended", name, pods[i].Name, running[key],
					ended[key])
			}
		}
	}
	if len(running) != total {
		return fmt.Errorf("I5: %d parts of pods run, of %d", len(running), total)
	}
	return e.noDuplicates(hostID)
}

// checkPodStarts checks that standing pods were started once in an epoch, and did not move
// if they must not: I6, I7. The caller holds mu.
func (l *runningContainers) checkPodStarts() {
	l.Helper()
	for _, a := range l.agents {
		started := a.engine.started(a.hostID())
		for _, p := range l.listPods() {
			if deref(p.Host) != a.name || l.singles[p.UUID] == structs.ExclusiveLease || !strings.HasPrefix(p.Name, "standing-") {
				continue // the end of a lease stops it
			}
			was, now := l.pods.standing[p.UUID], podStart{started[p.UUID], p.Epoch}
			if was.began != "" && was.epoch == now.epoch && was.began != now.began {
				l.Errorf("I6: pod %s, epoch %d, began at %s, and now at %s", p.Name, p.Epoch, was.began, now.began)
			}
			if was.began != "" && was.epoch != now.epoch && l.singles[p.UUID] == structs.ExclusiveYes {
				l.Errorf("I7: pod %s has epoch %d, had %d, and must not move", p.Name, now.epoch, was.epoch)
			}
			l.pods.standing[p.UUID] = now
		}
	}
}

// endBackoffs replaces pods whose containers were ended from outside so often that they
// wait before their next start, as an owner does who doesn't want to wait. The caller holds
// mu.
func (l *runningContainers) endBackoffs() {
	l.Helper()
	for _, p := range l.listPods() {
		waits := slices.ContainsFunc(p.Containers, func(c structs.PodContainerBody) bool {
			return deref(c.State.Reason) == structs.ReasonCrashLoop
		})
		name, standing := l.pods.wanted[p.UUID]
		standing = standing && strings.HasPrefix(name, "standing-")
		if !waits || p.RCUUID == nil && !standing {
			continue
		}
		l.Logf("pod %s is in back-off, and is replaced", p.Name)
		l.deletePod(p.UUID)
		if standing {
			delete(l.pods.wanted, p.UUID)
			l.createStanding(name, l.singles[p.UUID])
		}
	}
}

// deletePod deletes a pod and waits until it is gone.
func (l *runningContainers) deletePod(id string) {
	l.Helper()
	l.eventually("pod "+id+" is gone", retryFor, func() error {
		_, err := l.client.Pods().Delete(l.ctx(), id, api.DeleteOptions{Force: true,
			WriteOptions: api.WriteOptions{Wait: 10 * time.Second}})
		if structs.CodeOf(err) == structs.CodeNotFound {
			return nil
		}
		return fmt.Errorf("it was there: %v", err)
	})
}

// deletePods deletes some replication controllers and pods, and waits until they are gone.
// The caller holds mu.
func (l *runningContainers) deletePods(which func(id string) bool) {
	l.Helper()
	for id, name := range l.pods.rcs {
		if !which(id) {
			continue
		}
		l.eventually("rc "+name+" is gone", retryFor, func() error {
			_, err := l.client.RCs().Delete(l.ctx(), id, api.DeleteOptions{Force: true,
				WriteOptions: api.WriteOptions{Wait: 10 * time.Second}})
			if structs.CodeOf(err) == structs.CodeNotFound {
				return nil
			}
			return fmt.Errorf("it was there: %v", err)
		})
		delete(l.pods.rcs, id)
		delete(l.pods.replicas, id)
	}
	for id := range l.pods.wanted {
		if which(id) {
			l.deletePod(id)
			delete(l.pods.wanted, id)
		}
	}
}
