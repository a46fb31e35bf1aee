package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/stackforge/magnum/server/state/statetest"
	"github.com/stackforge/magnum/structs"
)

// history makes random entries that a conductor could have proposed: bays, hosts and
// containers are created, change, move and are deleted.
type history struct {
	rng   *rand.Rand
	store *Store
	index uint64
	seq   uint64
	live  []rowKey
}

func newHistory(seed uint64) *history {
	return &history{rng: rand.New(rand.NewPCG(seed, 7)), store: New()}
}

func (h *history) pick(kind string, n int) string { return fmt.Sprint(kind, "-", h.rng.IntN(n)) }

// entry returns the bytes of the next entry, and applies it.
func (h *history) entry(t testing.TB) (index uint64, data []byte) {
	t.Helper()
	snap := h.store.Snapshot()
	e := &structs.Entry{Schema: structs.SchemaVersion, Term: 1, Prev: snap.Index()}
	touched := make(map[rowKey]bool)
	for range h.rng.IntN(8) {
		if len(h.live) > 0 && h.rng.IntN(3) > 0 {
			at := h.rng.IntN(len(h.live))
			key := h.live[at]
			if touched[key] {
				continue
			}
			touched[key] = true
			old := snap.Get(key.table, key.id)
			c := structs.Change{Table: key.table, ID: key.id, Version: old.Base().ModifyIndex}
			if h.rng.IntN(4) > 0 {
				c.Row = h.row(key.table, key.id, old.Base().Seq, old.Base().ProjectID)
				c.Assign = h.rng.IntN(2) == 0
			} else {
				h.live = append(h.live[:at], h.live[at+1:]...)
			}
			e.Changes = append(e.Changes, h.split(snap, c)...)
			continue
		}
		table := Tables()[h.rng.IntN(len(Tables()))]
		if table == structs.TableSpecs {
			continue // written with containers
		}
		h.seq++
		key := rowKey{table, testID(h.seq)}
		touched[key] = true
		h.live = append(h.live, key)
		row := h.row(key.table, key.id, h.seq, h.pick("project", 3))
		e.Changes = append(e.Changes, h.split(snap, structs.Change{Table: table, ID: key.id, Row: row, Assign: h.rng.IntN(2) == 0})...)
	}
	data, err := EncodeEntry(e)
	if err != nil {
		t.Fatal(err)
	}
	h.index += 1 + uint64(h.rng.IntN(2)) // Raft's own entries take indexes too
	applyBytes(t, h.store, h.index, data)
	return h.index, data
}

// split sometimes moves the spec of a workload to a separate row, keeps it there, or moves
// it back, and returns the changes of both rows.
func (h *history) split(snap *Snapshot, c structs.Change) []structs.Change {
	row, split := NewRow(c.Table).(structs.Specced)
	if !split {
		return []structs.Change{c}
	}
	id := structs.Ref{Kind: row.Ref().Kind, ID: c.ID}.BesideID()
	spec := structs.Change{Table: structs.TableSpecs, ID: id}
	stored := specOf(snap, id)
	if stored != nil {
		spec.Version = stored.ModifyIndex
	}
	row, _ = c.Row.(structs.Specced)
	switch way := h.rng.IntN(4); {
	case row == nil || way < 2:
		if stored == nil {
			return []structs.Change{c}
		}
	case way == 2 && snap.Get(c.Table, c.ID) != nil: // the present spec, separate or not
		c.SpecApart = true
		return []structs.Change{c}
	default:
		c.SpecApart = true
		spec.Row = row.StoredSpec()
	}
	if h.rng.IntN(2) == 0 {
		return []structs.Change{spec, c}
	}
	return []structs.Change{c, spec}
}

// apart reports whether the row is a workload with a separate spec.
func apart(s *Snapshot, row structs.Row) bool {
	w, ok := row.(structs.Specced)
	return ok && specOf(s, w.Ref().BesideID()) != nil
}

// row returns a random row that refers to a few bays and hosts.
func (h *history) row(table structs.Table, id string, seq uint64, project string) structs.Row {
	row := randomRow(h.rng, table)
	*row.Base() = structs.Meta{ID: id, Seq: seq, ProjectID: project, CreatedAt: row.Base().CreatedAt}
	switch r := row.(type) {
	case *structs.Bay:
		r.Name, r.Shared = h.pick("name", 3), h.rng.IntN(2) == 0
		if h.rng.IntN(3) == 0 {
			r.Status = structs.BayDeleting
		}
		r.Placement = []structs.PlacementStrategy{structs.PlacementSpread, structs.PlacementBinpack}[h.rng.IntN(2)]
	case *structs.Host:
		r.Name, r.BayID, r.Draining, r.DrainForce = h.pick("name", 3), h.pick("bay", 3), h.rng.IntN(3) == 0, false
		r.State = []structs.HostState{structs.HostReady, structs.HostReady, structs.HostSuspect, structs.HostLost}[h.rng.IntN(4)]
	case *structs.Container:
		r.Name = h.pick("name", 3)
		r.Spec.Memory, r.Spec.MilliCPU = structs.Bytes(h.rng.Int64N(5))<<20, structs.MilliCPU(h.rng.Int64N(3))*100
		r.Spec.Ports = h.ports()
	case *structs.Pod:
		r.Name = h.pick("name", 3)
		for _, list := range [][]structs.PodContainer{r.Spec.InitContainers, r.Spec.Containers} {
			for i := range list {
				list[i].Requests = structs.Resources{Memory: h.rng.Int64N(5) << 20, MilliCPU: h.rng.Int64N(3) * 100}
				list[i].Ports = nil
				for _, port := range h.ports() {
					list[i].Ports = append(list[i].Ports, structs.PodPort{Port: port})
				}
			}
		}
	case *statetest.Pair:
		r.Name = h.pick("name", 3)
		for i := range r.Parts {
			r.Parts[i].Memory, r.Parts[i].MilliCPU, r.Parts[i].Ports = h.rng.Int64N(5)<<20, h.rng.Int64N(3)*100, h.ports()
		}
	}
	if w, ok := row.(structs.Workload); ok {
		p := w.Place()
		p.BayID, p.HostID, p.Desired = h.pick("bay", 3), "", structs.DesiredRunning
		if h.rng.IntN(3) > 0 {
			p.HostID = h.pick("host", 3)
		}
		if h.rng.IntN(5) == 0 {
			p.Desired = structs.DesiredAbsent
		}
		p.Priors = nil
		for range h.rng.IntN(4) {
			if on := h.pick("host", 3); !p.On(on) {
				p.Priors = append(p.Priors, structs.Prior{HostID: on, Epoch: 1})
			}
		}
	}
	return row
}

func (h *history) ports() (ports []structs.Port) {
	for range h.rng.IntN(3) {
		ports = append(ports, structs.Port{HostPort: h.rng.IntN(4), Protocol: []string{"", "tcp", "udp"}[h.rng.IntN(3)]})
	}
	return ports
}

func applyBytes(t testing.TB, s *Store, index uint64, data []byte) {
	t.Helper()
	e, err := DecodeEntry(data)
	if err != nil {
		t.Fatalf("entry %d: %v", index, err)
	}
	if err := s.Apply(index, e.Changes); err != nil {
		t.Fatalf("entry %d: %v", index, err)
	}
}

func persisted(t testing.TB, s *Store) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := s.Persist(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func restored(t testing.TB, b []byte) *Store {
	t.Helper()
	s := New()
	if err := s.Restore(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return s
}

func sameState(t testing.TB, what string, got, want *Store) {
	t.Helper()
	g, w := got.Snapshot(), want.Snapshot()
	if g.Index() != w.Index() || g.Hash() != w.Hash() || g.LastSeq() != w.LastSeq() {
		t.Fatalf("%s: index, hash, seq are %d, %016x, %d; want %d, %016x, %d",
			what, g.Index(), g.Hash(), g.LastSeq(), w.Index(), w.Hash(), w.LastSeq())
	}
	if !bytes.Equal(persisted(t, got), persisted(t, want)) {
		t.Fatalf("%s: snapshots differ", what)
	}
}

// One store applies the whole log, one starts from a snapshot in the middle, and one is
// restored from a snapshot at the end. All are equal, byte for byte.
func TestServersHaveEqualStates(t *testing.T) {
	for seed := range uint64(4) {
		h, replay := newHistory(seed), New()
		var late *Store
		for n := range 150 {
			index, data := h.entry(t)
			applyBytes(t, replay, index, data)
			if late != nil {
				applyBytes(t, late, index, data)
			} else if n == 70 {
				late = restored(t, persisted(t, h.store))
				sameState(t, "restored in the middle", late, h.store)
			}
		}
		sameState(t, "replayed", replay, h.store)
		sameState(t, "restored and replayed", late, h.store)
		last := restored(t, persisted(t, h.store))
		sameState(t, "restored", last, h.store)
		for _, s := range []*Store{h.store, late, last} {
			checkDerived(t, s.Snapshot())
		}
	}
}

// checkDerived compares the indexes and usage with the rows.
func checkDerived(t testing.TB, s *Snapshot) {
	t.Helper()
	usage, waiting, onHost, inBay, hosts, shared := map[string]*Usage{}, map[string]int{}, map[string]int{}, map[string]int{},
		map[string]int{}, 0
	var hash uint64
	ending, unsettled, moving := 0, 0, 0
	for _, table := range Tables() {
		seqs, names := map[string]int{}, map[[2]string]int{}
		last, all := uint64(0), 0
		for row := range s.List(table, AllProjects, 0) {
			m := row.Base()
			if m.Seq < last {
				t.Fatalf("%s: Seq %d comes after %d", table, m.Seq, last)
			}
			last = m.Seq
			all++
			seqs[m.ProjectID]++
			if s.Get(table, m.ID) != row {
				t.Fatalf("%s: %s is listed, but Get returns another row", table, m.ID)
			}
			if m.ModifyIndex > s.ListIndex(table, m.ProjectID) || m.ModifyIndex > s.ListIndex(table, AllProjects) {
				t.Fatalf("%s: row of index %d in a list of index %d", table, m.ModifyIndex, s.ListIndex(table, m.ProjectID))
			}
			hash += rowHash(row, nil, apart(s, row))
			if row, named := row.(structs.Named); named {
				names[[2]string{m.ProjectID, row.RowName()}]++
			}
			switch r := row.(type) {
			case *structs.Bay:
				if r.Shared {
					shared++
				}
				if r.Status == structs.BayDeleting {
					ending++
				}
			case *structs.Host:
				hosts[r.BayID]++
				if unsettledHost(r) {
					unsettled++
				}
			case *structs.StoredSpec:
				owner := specOwner(r.ID)
				w, _ := s.Get(owner.table, owner.id).(structs.Specced)
				if w == nil || w.Base().Seq != r.Seq || !reflect.DeepEqual(w.StoredSpec().Spec, r.Spec) ||
					!reflect.DeepEqual(w.StoredSpec().Pod, r.Pod) {
					t.Fatalf("the spec of %s is %+v, its workload %+v", r.ID, r, w)
				}
			case *structs.Service:
				checkServicesIndex(t, s, r.BayID, m.ModifyIndex)
			case *structs.Endpoints:
				checkServicesIndex(t, s, r.BayID, m.ModifyIndex)
			case structs.Workload:
				p := r.Place()
				inBay[p.BayID]++
				if p.HostID == "" && p.Desired != structs.DesiredAbsent {
					waiting[p.BayID]++
				}
				if slices.ContainsFunc(p.Priors, func(p structs.Prior) bool { return p.Keep }) {
					moving++
				}
				for _, on := range p.Hosts() {
					onHost[on]++
					if usage[on] == nil {
						usage[on] = new(Usage)
					}
					usage[on].Add(r.Reserved())
				}
			}
		}
		for project, n := range seqs {
			if got := count(s.List(table, project, 0)); got != n {
				t.Fatalf("%s: %d rows in %s, want %d", table, got, project, n)
			}
			half := 0
			for row := range s.List(table, project, last/2) {
				if row.Base().Seq <= last/2 {
					t.Fatalf("%s: Seq %d isn't above %d", table, row.Base().Seq, last/2)
				}
				half++
			}
			if half > n {
				t.Fatalf("%s: %d rows behind the middle of %d", table, half, n)
			}
		}
		for key, n := range names {
			if got := count(s.ByName(table, key[0], key[1])); got != n {
				t.Fatalf("%s: %d rows of name %q in %q, want %d", table, got, key[1], key[0], n)
			}
		}
		if got := s.table(table)[indexID].Len(); got != all {
			t.Fatalf("%s: %d rows, %d listed", table, got, all)
		}
	}
	if hash != s.Hash() {
		t.Fatalf("hash is %016x, its rows' is %016x", s.Hash(), hash)
	}
	bays := 0
	checkRooms(t, s)
	checkCharged(t, s)
	if e, u := count(s.EndingBays()), count(s.UnsettledHosts()); e != ending || u != unsettled {
		t.Fatalf("%d bays end and %d hosts are unsettled, want %d and %d", e, u, ending, unsettled)
	}
	if m := count(Moving(s)); m != moving {
		t.Fatalf("%d workloads move, want %d", m, moving)
	}
	for id := range s.WaitingBays() {
		bays++
		if waiting[id] == 0 {
			t.Fatalf("bay %s has nothing waiting", id)
		}
	}
	if bays != len(waiting) || count(s.SharedBays()) != shared {
		t.Fatalf("%d waiting bays, want %d; %d shared ones, want %d", bays, len(waiting), count(s.SharedBays()), shared)
	}
	for n := range 3 {
		host, bay := fmt.Sprint("host-", n), fmt.Sprint("bay-", n)
		want := usage[host]
		if want == nil {
			want = new(Usage)
		}
		if got := s.Usage(host); fmt.Sprint(got) != fmt.Sprint(*want) {
			t.Fatalf("usage of %s is %+v, its containers' is %+v", host, got, *want)
		}
		if got := count(s.OnHost(host)); got != onHost[host] {
			t.Fatalf("%d containers on %s, want %d", got, host, onHost[host])
		}
		if w, i, h := count(s.Waiting(bay)), count(s.InBay(bay)), count(s.HostsInBay(bay)); w != waiting[bay] || i != inBay[bay] ||
			h != hosts[bay] {
			t.Fatalf("%s has %d waiting, %d containers, %d hosts; want %d, %d, %d", bay, w, i, h, waiting[bay], inBay[bay], hosts[bay])
		}
		for _, since := range []uint64{0, s.Index() / 2, s.Index()} {
			last, kind := uint64(0), structs.WorkloadKind("")
			for w := range s.AssignedSince(host, since) {
				p := w.Place()
				if w.Ref().Kind != kind {
					last, kind = 0, w.Ref().Kind
				}
				if p.AssignIndex < last || p.AssignIndex <= since && since > 0 || !p.On(host) {
					t.Fatalf("assigned since %d on %s: %s with %d after %d", since, host, p.HostID, p.AssignIndex, last)
				}
				last = p.AssignIndex
			}
		}
	}
}

// checkServicesIndex checks that a poll of a host of the bay learns of a row at the index.
func checkServicesIndex(t testing.TB, s *Snapshot, bayID string, index uint64) {
	t.Helper()
	if changed, deleted := ServicesIndex(s, bayID); bayID != "" && (index > changed || deleted > changed) {
		t.Fatalf("services of bay %s: a row of index %d, the bay's is %d, of its last deletion %d", bayID, index, changed, deleted)
	}
}

// checkRooms compares the order of hosts with the rows.
func checkRooms(t testing.TB, s *Snapshot) {
	t.Helper()
	inBays := map[string]roomCount{}
	for row := range s.List(structs.TableHosts, AllProjects, 0) {
		h := row.(*structs.Host)
		room := s.Room(h.ID)
		if h.BayID == "" {
			if room != nil {
				t.Fatalf("host %s is in no bay, and has a room", h.ID)
			}
			continue
		}
		want := RoomOf(h, s.usage(h.ID), strategyOf(s, h.BayID))
		if room == nil {
			t.Fatalf("host %s has no room in the order of bay %s", h.ID, h.BayID)
		}
		got := *room
		if got.key = nil; !reflect.DeepEqual(got, want) {
			t.Fatalf("host %s is\n%+v, not\n%+v", h.ID, got, want)
		}
		n := inBays[h.BayID]
		if n.all++; h.State != structs.HostLost {
			n.ready++
		}
		if h.State != structs.HostLost && h.State != structs.HostSuspect && !h.Draining {
			n.open++
		}
		inBays[h.BayID] = n
	}
	total := 0
	for bayID, n := range inBays {
		all, open := s.rooms.Count(bayID)
		if got := (roomCount{all, open, s.rooms.Ready(bayID)}); got != n || count(s.rooms.All(bayID)) != all ||
			count(s.rooms.Closed(bayID)) != all-open {
			t.Fatalf("bay %s has %+v hosts, want %+v", bayID, got, n)
		}
		if got := count(s.rooms.Preferred(bayID, strategyOf(s, bayID), 0)); got != open {
			t.Fatalf("bay %s prefers %d hosts, %d are open", bayID, got, open)
		}
		total += all
	}
	if s.rooms.hosts.Len() != total || s.rooms.counts.Len() != len(inBays) {
		t.Fatalf("%d rooms in %d bays, want %d in %d", s.rooms.hosts.Len(), s.rooms.counts.Len(), total, len(inBays))
	}
}

func count[T any](seq func(func(T) bool)) (n int) {
	seq(func(T) bool { n++; return true })
	return n
}
