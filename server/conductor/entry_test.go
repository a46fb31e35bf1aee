package conductor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// specOf returns a spec of exactly size bytes.
func specOf(t testing.TB, size int) structs.ContainerSpec {
	t.Helper()
	spec := structs.ContainerSpec{Image: "busybox", RestartPolicy: structs.RestartPolicy{Name: structs.RestartAlways},
		Environment: map[string]string{"MODE": "x"}}
	for n := 0; ; n++ {
		now, _, _ := state.SpecSize(&structs.StoredSpec{Spec: structs.PrivateSpec{ContainerSpec: spec}})
		switch left := size - now; {
		case left == 0:
			return spec
		case left < 300: // one more byte at a time
			spec.Environment["MODE"] += "x"
		default:
			spec.Environment[fmt.Sprint("V", n)] = strings.Repeat("v", min(left-100, 60_000))
		}
	}
}

// storedSpec returns the separate row of a container's spec, nil if there is none.
func (h *harness) storedSpec(id string) *structs.StoredSpec {
	s, _ := h.store.Snapshot().Get(structs.TableSpecs, id).(*structs.StoredSpec)
	return s
}

// within runs f, and fails the test unless f has made entries and none of them is larger
// than the limit. It returns their number.
func (h *harness) within(what string, limit int, f func()) (entries int) {
	h.Helper()
	before := h.proposer.entries
	h.proposer.largest = 0
	f()
	entries = h.proposer.entries - before
	if entries == 0 || h.proposer.largest > limit {
		h.Errorf("%s: %d entries, the largest of %d bytes; at most %d are allowed", what, entries, h.proposer.largest, limit)
	}
	return entries
}

func TestLargeSpecHasARowOfItsOwn(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	for _, tt := range []struct {
		size  int
		apart bool
	}{{500, false}, {structs.MaxInlineSpec, false}, {structs.MaxInlineSpec + 1, true}, {structs.MaxSpec, true}} {
		c := h.create(alice, "", specOf(t, tt.size))
		stored := h.storedSpec(c.ID)
		if (stored != nil) != tt.apart {
			t.Errorf("%d bytes: its own row: %v", tt.size, stored != nil)
		}
		got := h.container(c.ID)
		if !reflect.DeepEqual(got.Spec, c.Spec) {
			t.Errorf("%d bytes: the spec is not the requested one", tt.size)
		}
		h.within("a start", 4<<10+structs.MaxInlineSpec, func() { must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionStop}) })
		h.within("a report", 4<<10+structs.MaxInlineSpec, func() {
			h.report(c.ID, structs.Observed{Status: structs.ContainerStopped})
		})
		h.within("a new name", 4<<10+structs.MaxInlineSpec, func() {
			name := "other"
			must(h, PatchContainer{Caller: alice, Ident: c.ID, Name: &name})
		})
		if now := h.storedSpec(c.ID); tt.apart && now != stored {
			t.Errorf("%d bytes: the spec was written again without a change", tt.size)
		}
		if got := h.container(c.ID); !reflect.DeepEqual(got.Spec, c.Spec) || got.Name != "other" {
			t.Errorf("%d bytes: the spec has changed", tt.size)
		}
		must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
		h.report(c.ID, structs.Observed{Status: structs.ContainerGone})
		if h.container(c.ID) != nil || h.storedSpec(c.ID) != nil {
			t.Errorf("%d bytes: the container is deleted, but a row is left", tt.size)
		}
	}
}

// TestSpecGrowsAndShrinks: the spec's row is created and deleted with its size, also within
// a batch.
func TestSpecGrowsAndShrinks(t *testing.T) {
	h := newHarness(t)
	h.bay(alice, "web", 1)
	long := &structs.Command{Args: []string{strings.Repeat("a", 20<<10)}}
	short := &structs.Command{Args: []string{"sh"}}
	c := h.create(alice, "", structs.ContainerSpec{})
	patch := func(command *structs.Command) PatchContainer {
		return PatchContainer{Caller: alice, Ident: c.ID, Command: command}
	}
	check := func(what string, want *structs.Command) {
		t.Helper()
		got, stored := h.container(c.ID), h.storedSpec(c.ID)
		if !reflect.DeepEqual(got.Spec.Command, want.Args) || (stored != nil) != (want == long) || stored != nil &&
			!reflect.DeepEqual(stored.Spec, got.Spec) {
			t.Errorf("%s: the command has %d bytes, the row of its own: %v", what, len(got.Spec.Command[0]), stored != nil)
		}
	}
	for range 2 {
		must(h, patch(long))
		check("longer", long)
		must(h, patch(short))
		check("shorter", short)
	}
	must(h, oneAfterAnother{and(patch(long)), and(patch(short)), and(patch(long))})
	check("longer, in one batch", long)
	must(h, oneAfterAnother{and(patch(short)), and(patch(long)), and(patch(short))})
	check("shorter, in one batch", short)
	must(h, patch(long))
	remove := DeleteContainer{Caller: alice, Ident: c.ID, Force: true}
	create := CreateContainer{Caller: alice, UUID: c.ID, Spec: specOf(t, 30<<10)}
	must(h, oneAfterAnother{and(remove), and(create)})
	if got, stored := h.container(c.ID), h.storedSpec(c.ID); stored == nil || !reflect.DeepEqual(got.Spec.ContainerSpec, create.Spec) {
		t.Error("made again in one batch, it has another spec")
	}
	must(h, oneAfterAnother{and(remove), and(create), and(remove)})
	if h.container(c.ID) != nil || h.storedSpec(c.ID) != nil {
		t.Error("the container is deleted, but a row is left")
	}
	h.create(alice, "", specOf(t, 30<<10)) // the state can still be written
	if err := state.New().Restore(strings.NewReader(h.persisted())); err != nil {
		t.Error(err)
	}
}

func (h *harness) persisted() string {
	h.Helper()
	var b strings.Builder
	if err := h.store.Persist(&b); err != nil {
		h.Fatal(err)
	}
	return b.String()
}

// TestSpecIsBounded: every request that sets a spec checks the limit, and the refusal names
// the largest field.
func TestSpecIsBounded(t *testing.T) {
	for _, schema := range []int{structs.LeastSchema, structs.SchemaVersion} {
		h := newHarnessOf(t, schema)
		h.host("h1", nil)
		h.bay(alice, "web", 1)
		tooLarge := specOf(t, structs.MaxSpec+1)
		names := func(field string, err error) {
			t.Helper()
			if !strings.Contains(err.Error(), fmt.Sprint(structs.MaxSpec)) || !strings.Contains(err.Error(), " "+field+" with ") {
				t.Errorf("the refusal doesn't name the limit and %s: %v", field, err)
			}
		}
		names("environment", refuse(h, structs.CodeInvalid, CreateContainer{Caller: alice, Spec: tooLarge}))
		labelled := structs.ContainerSpec{Image: "i", Labels: map[string]string{}}
		for i := range 100 {
			labelled.Labels[fmt.Sprint(i)] = strings.Repeat("l", structs.MaxLabel)
		}
		names("labels", refuse(h, structs.CodeInvalid, CreateContainer{Caller: alice, Spec: labelled}))
		c := h.create(alice, "", specOf(t, structs.MaxSpec-4<<10))
		image := "registry.example.org/" + strings.Repeat("a/", 2000) + "b"
		command := &structs.Command{Args: []string{strings.Repeat("a", 60<<10)}}
		names("environment", refuse(h, structs.CodeInvalid, PatchContainer{Caller: alice, Ident: c.ID, Command: command}))
		image += image
		names("environment", refuse(h, structs.CodeInvalid, PatchContainer{Caller: alice, Ident: c.ID, Image: &image}))
		names("environment", refuse(h, structs.CodeInvalid, RebuildContainer{Caller: alice, Ident: c.ID, Image: image}))
		name := "renamed"
		must(h, PatchContainer{Caller: alice, Ident: c.ID, Name: &name})
		must(h, RebuildContainer{Caller: alice, Ident: c.ID, Image: "small"})
	}
}

func TestEachSpecFieldHasAName(t *testing.T) {
	for _, f := range reflect.VisibleFields(reflect.TypeFor[structs.PrivateSpec]()) {
		if f.IsExported() && !f.Anonymous && structs.SpecField(f.Name) == f.Name {
			t.Errorf("%s has no name that requests use", f.Name)
		}
	}
}

// TestBatchClosesBeforeTheLimit: the request that would exceed the limit is the first of
// the next entry, and later requests stay behind it.
func TestBatchClosesBeforeTheLimit(t *testing.T) {
	h := newHarnessOf(t, structs.LeastSchema)
	h.bay(alice, "web", 1)
	started, release := h.hold()
	defer release()
	var wg sync.WaitGroup
	sizes := []int{1000, 200 << 10, 250 << 10, 300 << 10, 383 << 10, 380 << 10, 1000}
	for i, size := range sizes {
		spec := specOf(t, size)
		wg.Go(func() {
			if _, err := Do(context.Background(), h.Conductor, CreateContainer{Caller: alice, Name: fmt.Sprint(i),
				Spec: spec}); err != nil {
				t.Error(err)
			}
		})
		if i == 0 {
			<-started
		} else {
			h.queued(i)
		}
	}
	entries := h.within("creates", structs.MaxEntry, func() {
		release()
		wg.Wait()
	})
	if entries != 4 { // the first; 200+250+300; 383+380; 1000 behind 512 KiB
		t.Errorf("they took %d entries, want 4", entries)
	}
	last := uint64(0)
	for i := range sizes {
		found, err := Lookup(h.store.Snapshot(), alice, structs.KindContainer, fmt.Sprint(i))
		if err != nil || found.Base().Seq < last {
			t.Fatalf("container %d: %v, out of order", i, err)
		}
		last = found.Base().Seq
	}
}

// TestRequestContinuesInTheNextEntry: a request for which the entry has no room at all is
// not refused.
func TestRequestContinuesInTheNextEntry(t *testing.T) {
	h := newHarnessOf(t, structs.LeastSchema)
	bay := func(name string, size int) CreateBay {
		return CreateBay{Caller: alice, Name: name, NodeCount: 1, Placement: structs.PlacementSpread,
			Labels: map[string]string{"large": strings.Repeat("l", size)}}
	}
	started, release := h.hold()
	defer release()
	var wg sync.WaitGroup
	do := func(queued int, want structs.Code, r CreateBay) {
		wg.Go(func() {
			if _, err := Do(context.Background(), h.Conductor, r); structs.CodeOf(err) != want {
				t.Errorf("%s: %v, want code %q", r.Name, err, want)
			}
		})
		if queued == 0 {
			<-started
		} else {
			h.queued(queued)
		}
	}
	do(0, "", bay("first", 10))
	do(1, "", bay("half", 500<<10))
	do(2, "", bay("large", 1000<<10))
	do(3, structs.CodeTooLarge, bay("too large", 1<<20))
	do(4, "", bay("last", 10))
	if entries := h.within("bays", structs.MaxEntry, func() {
		release()
		wg.Wait()
	}); entries != 4 {
		t.Errorf("they took %d entries, want 4", entries)
	}
	h.settle() // the status of such large bays still fits
}

// TestCarriedOverRequestIsAnswered: a request that is carried over to the next entry is
// answered even if the leadership ends before that entry.
func TestCarriedOverRequestIsAnswered(t *testing.T) {
	h := newHarness(t)
	started, release := h.hold()
	defer release()
	answers := make([]chan error, 4)
	for i, size := range []int{10, 500 << 10, 1000 << 10, 10} {
		answers[i] = make(chan error, 1)
		labels := map[string]string{"large": strings.Repeat("l", size)}
		go func() {
			_, err := Do(context.Background(), h.Conductor, CreateBay{Caller: alice, Name: "b", NodeCount: 1,
				Placement: structs.PlacementSpread, Labels: labels})
			answers[i] <- err
		}()
		if i == 0 {
			<-started
		} else {
			h.queued(i)
		}
	}
	hold := h.proposer.before
	h.proposer.before = func(data []byte) error {
		if err := hold(data); err != nil || len(data) < 400<<10 {
			return err
		}
		return errors.New("leadership lost")
	}
	release()
	for i, want := range []struct {
		code    structs.Code
		unknown bool
	}{{"", false}, {structs.CodeNoLeader, true}, {structs.CodeNoLeader, false}, {structs.CodeNoLeader, false}} {
		if err := <-answers[i]; structs.CodeOf(err) != want.code || errors.Is(err, ErrUnknown) != want.unknown {
			t.Errorf("request %d: %v, want code %q", i, err, want.code)
		}
	}
	h.ended <- <-h.ended
}

// TestRequestsWithManyChangesKeepTheLimit: all requests with many changes keep the limit of
// an entry, also with specs inside the containers' rows, as in a cluster of an earlier
// schema. They also complete.
func TestRequestsWithManyChangesKeepTheLimit(t *testing.T) {
	const many = 12
	for name, tt := range map[string]struct{ schema, size, limit int }{
		"specs in separate rows":    {structs.SchemaVersion, structs.MaxSpec, 64 << 10},
		"specs in containers' rows": {structs.LeastSchema, structs.MaxSpec, structs.MaxEntry},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarnessOf(t, tt.schema)
			bay := h.bay(alice, "web", 2)
			var ids []string
			spec := specOf(t, tt.size)
			for range many {
				ids = append(ids, h.create(alice, "", spec).ID)
			}
			on := func(host string) (n int) {
				for _, id := range ids {
					if c := h.container(id); c.HostID == host {
						n++
					}
				}
				return n
			}
			one := h.host("h1", nil)
			h.within("place waiting", tt.limit, h.settle)
			if on(one) != many {
				t.Fatalf("%d of %d are placed", on(one), many)
			}
			reported := func(host string, status structs.ContainerStatus) {
				t.Helper()
				row := h.store.Snapshot().Host(host)
				r := ReportStatus{HostID: host, StatusReport: structs.StatusReport{Registration: row.Registration, Seq: row.ReportSeq + 1}}
				for _, id := range ids {
					if c := h.container(id); c != nil {
						seen := structs.ContainerReport{ContainerID: id, Epoch: c.Epoch,
							Observed: structs.Observed{Status: status, Generation: c.Generation}}
						if c.HostID != host {
							seen.Epoch = c.PriorOn(host).Epoch
						}
						r.Containers = append(r.Containers, seen)
					}
				}
				if _, err := Report(context.Background(), h.Conductor, r); err != nil {
					t.Fatal(err)
				}
				if got := h.store.Snapshot().Host(host).ReportSeq; got != r.Seq {
					t.Errorf("the last report taken is %d, not %d", got, r.Seq)
				}
			}
			h.within("report", tt.limit, func() { reported(one, structs.ContainerRunning) })
			for _, id := range ids {
				if got := h.container(id).Status(); got != structs.ContainerRunning {
					t.Errorf("a reported container is %s", got)
				}
			}
			two := h.host("h2", nil)
			h.settle()
			h.within("mark lost", tt.limit, func() {
				must(h, MarkHosts{Marks: []HostMark{{ID: one, State: structs.HostLost, Reason: "silent"}}})
				h.settle()
			})
			if on(two) != many {
				t.Fatalf("%d of %d have moved from the lost host", on(two), many)
			}
			h.within("report of earlier placements", tt.limit, func() {
				must(h, MarkHosts{Marks: []HostMark{{ID: one, State: structs.HostReady}}})
				reported(one, structs.ContainerGone)
				reported(two, structs.ContainerRunning)
			})
			h.within("drain", tt.limit, func() {
				must(h, DrainHost{Caller: root, Ident: two, Draining: true})
				h.settle()
			})
			if on(one) != many {
				t.Fatalf("%d of %d have moved from the drained host", on(one), many)
			}
			h.within("reports of a drain", tt.limit, func() {
				reported(one, structs.ContainerRunning)
				reported(two, structs.ContainerGone)
			})
			h.within("forced drain of the last host", tt.limit, func() {
				must(h, DrainHost{Caller: root, Ident: one, Draining: true, Force: true})
				h.settle()
			})
			for _, id := range ids {
				if !h.container(id).DrainStop {
					t.Error("a container that can't move isn't stopped")
				}
			}
			h.within("end of a drain", tt.limit, func() {
				must(h, DrainHost{Caller: root, Ident: one})
				h.settle()
			})
			h.within("deletion of a bay", tt.limit, func() {
				must(h, DeleteBay{Caller: alice, Ident: bay.ID})
				h.settle()
				reported(one, structs.ContainerGone)
				h.settle()
			})
			snap := h.store.Snapshot()
			if snap.Bay(bay.ID) != nil || snap.HasSpecs() || snap.Host(one).BayID != "" {
				t.Error("the bay isn't gone with all that it had")
			}
		})
	}
}

// TestLargestReportIsOneEntry: a report of the largest number of containers, with the
// largest specs, fits in one entry.
func TestLargestReportIsOneEntry(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	r := ReportStatus{HostID: host, StatusReport: structs.StatusReport{Registration: 1, Seq: 1}}
	spec := specOf(t, structs.MaxSpec)
	for range structs.MaxReport {
		c := h.create(alice, "", spec)
		must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: ActionReboot}) // writes a row with its actions
		r.Containers = append(r.Containers, structs.ContainerReport{ContainerID: c.ID, Epoch: 1, Observed: structs.Observed{
			Status: structs.ContainerRunning, Generation: 2, Reason: "it runs", StartedAt: h.clock, Addresses: []string{"172.18.0.7"},
		}})
	}
	if entries := h.within("report", 256<<10, func() { must(h, r) }); entries != 1 {
		t.Errorf("it took %d entries", entries)
	}
	for _, seen := range r.Containers {
		if got := h.container(seen.ContainerID); got.Status() != structs.ContainerRunning || len(got.Spec.Environment) < 2 {
			t.Fatalf("a container is %s, with %d variables", got.Status(), len(got.Spec.Environment))
		}
	}
	// A server that restores a snapshot has the same state as one that has applied the
	// entry.
	again := state.New()
	if err := again.Restore(strings.NewReader(h.persisted())); err != nil || again.Hash() != h.store.Hash() {
		t.Errorf("restored: %v, hash %016x, not %016x", err, again.Hash(), h.store.Hash())
	}
}

// TestReportIsSplitOverEntries: a report's rows may nevertheless be larger than one entry.
// They are written in order, and Seq with the last of them.
func TestReportIsSplitOverEntries(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	r := ReportStatus{HostID: host, StatusReport: structs.StatusReport{Registration: 1, Seq: 7}}
	spec := specOf(t, structs.MaxInlineSpec)
	for range structs.MaxReport {
		c := h.create(alice, "", spec)
		for n := range structs.MaxActions {
			action := ActionReboot
			if n%2 == 1 {
				action = ActionStop
			}
			must(h, ActOnContainer{Caller: alice, Ident: c.ID, Action: action})
		}
		now := h.container(c.ID)
		r.Containers = append(r.Containers, structs.ContainerReport{ContainerID: c.ID, Epoch: 1, Observed: structs.Observed{
			Status: structs.ContainerStopped, Generation: now.Generation, Failed: true, Reason: strings.Repeat("r", structs.MaxText),
		}})
	}
	var answer structs.StatusReported
	entries := h.within("report", structs.MaxEntry, func() {
		var err error
		if answer, err = Report(context.Background(), h.Conductor, r); err != nil {
			t.Fatal(err)
		}
	})
	if entries < 2 || answer.Seq != 7 {
		t.Errorf("%d entries, seq %d", entries, answer.Seq)
	}
	for _, seen := range r.Containers {
		if got := h.container(seen.ContainerID); got.Observed.Reason != seen.Reason {
			t.Fatal("a container is not as reported")
		}
	}
	// A newer report that overtakes the rest of an older one stays in effect.
	part := r
	part.Seq = 9
	part.Containers = nil
	must(h, part)
	part = r
	part.Seq, part.Containers = 8, part.Containers[:1]
	part.Containers[0].Reason = "older"
	if got, err := Report(context.Background(), h.Conductor, part); err != nil || got.Seq != 9 ||
		h.container(part.Containers[0].ContainerID).Observed.Reason == "older" {
		t.Errorf("the rest of an older report was written: %+v, %v", got, err)
	}
}

// TestReportOfManyDeletions: with actions and specs, each deletion removes three rows.
func TestReportOfManyDeletions(t *testing.T) {
	h := newHarness(t)
	host := h.host("h1", nil)
	h.bay(alice, "web", 1)
	r := ReportStatus{HostID: host, StatusReport: structs.StatusReport{Registration: 1, Seq: 1}}
	for range structs.MaxReport {
		c := h.create(alice, "", specOf(t, 10<<10))
		must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
		r.Containers = append(r.Containers, structs.ContainerReport{ContainerID: c.ID, Epoch: 1,
			Observed: structs.Observed{Status: structs.ContainerGone}})
	}
	if _, err := Report(context.Background(), h.Conductor, r); err != nil {
		t.Fatal(err)
	}
	if left := h.store.Snapshot().Usage(host).Workloads; left != 0 || h.store.Snapshot().HasSpecs() {
		t.Errorf("%d containers are left", left)
	}
}

// hostsOf writes hosts with rows of about the given size directly to the state: agents
// can't report that much any more.
func (h *harness) hostsOf(n, size int) []string {
	h.Helper()
	var ids []string
	for i := range n {
		host := &structs.Host{Meta: structs.Meta{ID: structs.NewID(), Seq: uint64(1_000_000 + i)}, Name: fmt.Sprint("h", i),
			State: structs.HostReady}
		host.Fingerprint = structs.Fingerprint{Backend: structs.BackendDocker, Cores: 4, Memory: 4 << 30,
			Labels: map[string]string{"large": strings.Repeat("l", size)}}
		if err := h.store.Apply(h.store.Index()+1, []structs.Change{{Table: structs.TableHosts, ID: host.ID, Row: host}}); err != nil {
			h.Fatal(err)
		}
		ids = append(ids, host.ID)
	}
	return ids
}

// TestLargeHostsKeepTheLimit: hundreds of large hosts are claimed, freed and marked.
func TestLargeHostsKeepTheLimit(t *testing.T) {
	h := newHarness(t)
	ids := h.hostsOf(40, 100<<10)
	var bay *structs.Bay
	h.within("claim", structs.MaxEntry, func() {
		bay = h.bay(alice, "web", len(ids))
		h.settle()
	})
	if got := h.bayNow(bay.ID); got.Status != structs.BayCreated {
		t.Fatalf("the bay is %s: %s", got.Status, got.StatusReason)
	}
	h.within("marks", structs.MaxEntry, func() {
		var marks []HostMark
		for _, id := range ids {
			marks = append(marks, HostMark{ID: id, State: structs.HostSuspect, Reason: "silent"})
		}
		for len(marks) > 0 {
			n := must(h, MarkHosts{Marks: marks})
			if n == 0 {
				t.Fatal("nothing was written")
			}
			marks = marks[n:]
		}
	})
	for _, id := range ids {
		if got := h.store.Snapshot().Host(id).State; got != structs.HostSuspect {
			t.Fatalf("a host is %s", got)
		}
	}
	h.within("shrink", structs.MaxEntry, func() {
		must(h, PatchBay{Caller: alice, Ident: bay.ID, NodeCount: 1})
		h.settle()
	})
	h.within("delete", structs.MaxEntry, func() {
		must(h, DeleteBay{Caller: alice, Ident: bay.ID})
		h.settle()
	})
	if h.bayNow(bay.ID) != nil {
		t.Error("the bay is still there")
	}
}

// TestRowLargerThanAnEntryBlocksNothing: such a row can't be written any more, but the rows
// behind it can.
func TestRowLargerThanAnEntryBlocksNothing(t *testing.T) {
	h := newHarness(t)
	huge, small := h.hostsOf(1, 2<<20)[0], h.host("small", nil)
	bay := h.bay(alice, "web", 2)
	h.settle()
	snap := h.store.Snapshot()
	if snap.Host(huge).BayID != "" || snap.Host(small).BayID != bay.ID {
		t.Errorf("the bays of the hosts are %q and %q", snap.Host(huge).BayID, snap.Host(small).BayID)
	}
	h.create(alice, "", structs.ContainerSpec{})
}

func TestExpiryKeepsTheLimit(t *testing.T) {
	h := newHarness(t)
	long := structs.Caller{ProjectID: strings.Repeat("p", 3800)}
	var ids []string
	for i := range structs.MaxChanges {
		once := Once{Key: fmt.Sprintf("%0200d", i), BodyHash: "b"}
		must(h, CreateRow[structs.Node, *structs.Node]{Caller: long, Once: once})
		ids = append(ids, once.rowID(long))
	}
	h.within("expiry", structs.MaxEntry, func() { must(h, ExpireKeys{IDs: ids}) })
	for _, id := range ids {
		if h.store.Snapshot().IdempotencyKey(id) != nil {
			t.Fatal("a key is left")
		}
	}
}

// TestComputedSizesMatchTheEntry: the size that a batch computes is that of its entry.
func TestComputedSizesMatchTheEntry(t *testing.T) {
	h := newHarness(t)
	h.host("h1", nil)
	h.bay(alice, "web", 1)
	old := h.create(alice, "", specOf(t, 20<<10))
	batch := scratch.New(h.store.Snapshot(), h.clock)
	check := func(what string) {
		t.Helper()
		data, err := state.EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: 1 << 40, Prev: 1 << 50,
			Changes: batch.Changes()})
		if err != nil {
			t.Fatal(err)
		}
		if head := len(data) - batch.Size(); head < 0 || head > state.EntryHead {
			t.Errorf("%s: computed %d bytes, there are %d", what, batch.Size(), len(data))
		}
	}
	check("nothing")
	for _, size := range []int{500, 9 << 10, 300 << 10} {
		if _, err := decided(batch, CreateContainer{Caller: alice, Once: Once{Key: fmt.Sprint(size)}, Spec: specOf(t, size)}); err != nil {
			t.Fatal(err)
		}
		check("a create")
	}
	if _, err := decided(batch, CreateContainer{Caller: alice, Spec: specOf(t, structs.MaxSpec+1)}); err == nil {
		t.Error("not refused")
	}
	check("a refusal")
	remove := DeleteContainer{Caller: alice, Ident: old.ID, Force: true}
	for range 2 {
		if _, err := decided(batch, ActOnContainer{Caller: alice, Ident: old.ID, Action: ActionReboot}); err != nil {
			t.Fatal(err)
		}
		check("an action")
	}
	if _, err := decided(batch, remove); err != nil {
		t.Fatal(err)
	}
	check("a delete")
	batch.Begin()
	batch.Remove(batch.Get(structs.TableContainers, old.ID))
	check("removed")
	if _, err := decided(batch, CreateContainer{Caller: alice, UUID: old.ID, Spec: specOf(t, 30<<10)}); err != nil {
		t.Fatal(err)
	}
	check("made again")
}

// TestStateOfTheFirstSchema: a state of an earlier build, with specs larger than the
// present limit, is processed in small entries.
func TestStateOfTheFirstSchema(t *testing.T) {
	h := newHarnessOf(t, structs.LeastSchema)
	one := h.host("h1", nil)
	bay := h.bay(alice, "web", 1)
	h.settle()
	var huge []*structs.Container
	for i := range 8 {
		spec := specOf(t, structs.MaxInlineSpec+1)
		env := maps.Clone(spec.Environment)
		env["HUGE"] = strings.Repeat("h", 1<<20+i) // more than an entry may contain
		spec.Environment = env
		c := &structs.Container{
			Meta: structs.Meta{ID: structs.NewID(), Seq: uint64(1000 + i), ProjectID: alice.ProjectID}, Name: fmt.Sprint("huge-", i),
			Spec: structs.PrivateSpec{ContainerSpec: spec}, Placement: structs.Placement{BayID: bay.ID, Desired: structs.DesiredRunning,
				Generation: 1},
		}
		if i < 4 {
			c.HostID, c.Epoch = one, 1
		}
		huge = append(huge, c)
		kept := *c
		if err := h.store.Apply(h.store.Index()+1, []structs.Change{{Table: structs.TableContainers, ID: c.ID, Row: &kept}}); err != nil {
			t.Fatal(err)
		}
	}
	if h.store.Snapshot().HasSpecs() {
		t.Fatal("a state of the first schema has rows of specs")
	}
	h.settle() // none of them can be written yet, and settle ends nevertheless
	must(h, RaiseSchema{Schema: structs.SchemaVersion})
	const limit = 64 << 10
	h.within("place", limit, h.settle)
	host := h.store.Snapshot().Host(one)
	r := ReportStatus{HostID: one, StatusReport: structs.StatusReport{Registration: host.Registration, Seq: 1}}
	for _, c := range huge {
		now := h.container(c.ID)
		if now.HostID != one {
			t.Fatalf("%s is not placed: %s", c.Name, now.PlaceReason)
		}
		r.Containers = append(r.Containers, structs.ContainerReport{ContainerID: c.ID, Epoch: now.Epoch,
			Observed: structs.Observed{Status: structs.ContainerRunning, Generation: 1}})
	}
	h.within("report", limit, func() { must(h, r) })
	for _, c := range huge {
		if now := h.container(c.ID); now.Status() != structs.ContainerRunning || !reflect.DeepEqual(now.Spec, c.Spec) ||
			h.storedSpec(c.ID) == nil {
			t.Errorf("%s is %s, its spec in a row of its own: %v", c.Name, now.Status(), h.storedSpec(c.ID) != nil)
		}
	}
	again := state.New()
	if err := again.Restore(strings.NewReader(h.persisted())); err != nil || again.Hash() != h.store.Hash() {
		t.Errorf("restored: %v", err)
	}
	name, image := "renamed", "busybox:1"
	h.within("rename", limit, func() { must(h, PatchContainer{Caller: alice, Ident: huge[0].ID, Name: &name}) })
	refuse(h, structs.CodeInvalid, PatchContainer{Caller: alice, Ident: huge[0].ID, Image: &image})
	h.within("delete", limit, func() {
		for _, c := range huge {
			must(h, DeleteContainer{Caller: alice, Ident: c.ID, Force: true})
			h.report(c.ID, structs.Observed{Status: structs.ContainerGone})
		}
	})
	if h.store.Snapshot().HasSpecs() {
		t.Error("specs are left")
	}
}

// TestStepGetsAnEntryOfItsOwnInABusyLoop: a step that needs an entry of its own gets one,
// however busy the loop is.
func TestStepGetsAnEntryOfItsOwnInABusyLoop(t *testing.T) {
	h := newHarness(t)
	large := h.hostsOf(1, 900<<10)[0]
	started, release := h.hold()
	defer release()
	var wg sync.WaitGroup
	wg.Go(func() { h.bay(alice, "web", 1) })
	<-started
	for i := range 2 { // of a batch that has room for more
		labels := map[string]string{"large": strings.Repeat("l", 200<<10)}
		wg.Go(func() {
			if _, err := Do(context.Background(), h.Conductor, CreateBay{Caller: bob, Name: fmt.Sprint(i), NodeCount: 1, COE: "kubernetes",
				Placement: structs.PlacementSpread, Labels: labels}); err != nil {
				t.Error(err)
			}
		})
		h.queued(i + 1)
	}
	more := make(chan bool, 1)
	wg.Go(func() {
		written, err := Do(context.Background(), h.Conductor, MarkHosts{Marks: []HostMark{{ID: large, State: structs.HostSuspect,
			Reason: "silent"}}})
		if err != nil {
			t.Error(err)
		}
		more <- written != 1
	})
	h.queued(3)
	release()
	wg.Wait()
	if <-more {
		t.Error("the mark is not written")
	}
	if got := h.store.Snapshot().Host(large).State; got != structs.HostSuspect {
		t.Errorf("the host is %s", got)
	}
}
