package state

import (
	"encoding/binary"
	"iter"
	"maps"
	"slices"

	"github.com/stackforge/magnum/server/state/btree"
	"github.com/stackforge/magnum/structs"
)

// HostRoom is a host of a bay as the scheduler sees it: its state, its size, and what is
// reserved on it. It is never modified.
type HostRoom struct {
	ID       string
	Name     string
	BayID    string
	Strategy structs.PlacementStrategy // of the bay
	Ready    bool                      // not lost
	Suspect  bool                      // silent, but not lost
	Draining bool
	Labels   map[string]string
	Memory   int64  // the host's bytes
	MilliCPU int64  // the host's thousandths of cores
	Used     *Usage // what is reserved on it

	NetworksFull bool                   // no room for another project's network
	Kinds        []structs.WorkloadKind // that its agent runs, beside containers

	key []byte // in Rooms; nil if it is not in there
}

// RoomOf returns a host's HostRoom in a bay with the strategy.
func RoomOf(h *structs.Host, used *Usage, strategy structs.PlacementStrategy) HostRoom {
	return HostRoom{
		ID: h.ID, Name: h.Name, BayID: h.BayID, Strategy: strategy,
		Ready: h.State != structs.HostLost, Suspect: h.State == structs.HostSuspect, Draining: h.Draining, Labels: h.AllLabels(),
		Memory: h.Fingerprint.Memory, MilliCPU: int64(h.Fingerprint.Cores) * 1000, Used: used, NetworksFull: h.NetworksFull,
		Kinds: h.Fingerprint.Kinds,
	}
}

// FreeMemory returns the unreserved bytes, negative if more is reserved than the host has.
func (h *HostRoom) FreeMemory() int64 { return h.Memory - h.Used.Memory }

// FreeMilliCPU returns the unreserved thousandths of cores.
func (h *HostRoom) FreeMilliCPU() int64 { return h.MilliCPU - h.Used.MilliCPU }

// Open reports whether workloads may be placed on the host.
func (h *HostRoom) Open() bool { return h.Ready && !h.Suspect && !h.Draining }

// sameHostRoom reports whether two rows of a host have the same HostRoom.
func sameHostRoom(a, b *structs.Host) bool {
	return a.State == b.State && a.Draining == b.Draining && a.BayID == b.BayID && a.Name == b.Name && a.NetworksFull == b.NetworksFull &&
		a.Fingerprint.Memory == b.Fingerprint.Memory && a.Fingerprint.Cores == b.Fingerprint.Cores &&
		slices.Equal(a.Fingerprint.Kinds, b.Fingerprint.Kinds) && maps.Equal(a.Labels, b.Labels) &&
		a.Claimed == b.Claimed && maps.Equal(a.Granted, b.Granted) && maps.Equal(a.Fingerprint.Labels, b.Fingerprint.Labels)
}

// Rooms keeps the hosts of each bay in the order of the bay's strategy, so that a choice
// looks at the first few only. A copy is a snapshot. A holder calls Own before it changes
// its copy.
type Rooms struct {
	hosts  btree.Tree[HostRoom] // by bay, open or closed, and the strategy's order
	counts btree.Tree[roomCount]
	epoch  uint64
}

// roomCount counts the hosts of a bay.
type roomCount struct {
	all   int
	open  int // that are Open
	ready int // that are Ready
}

// Own allows the holder to change its copy. Other copies stay unchanged.
func (r *Rooms) Own() { r.epoch = btree.NewEpoch() }

// Replace replaces the host was by now. was is nil for a host that joins a bay, now for one
// that leaves it.
func (r *Rooms) Replace(was, now *HostRoom) {
	if now != nil {
		now.key = appendRoom(make([]byte, 0, 128), now)
	}
	if was != nil && (now == nil || string(was.key) != string(now.key)) {
		r.hosts.Remove(r.epoch, was.key)
	}
	if now != nil {
		r.hosts.Set(r.epoch, now.key, now)
	}
	switch {
	case was != nil && now != nil && was.BayID == now.BayID && was.Ready == now.Ready && was.Open() == now.Open():
		return
	case was != nil:
		r.count(was, -1)
	}
	if now != nil {
		r.count(now, 1)
	}
}

func (r *Rooms) count(h *HostRoom, n int) {
	c := roomCount{}
	if was := r.counts.Get(idKey(h.BayID)); was != nil {
		c = *was
	}
	if c.all += n; h.Ready {
		c.ready += n
	}
	if h.Open() {
		c.open += n
	}
	if c.all == 0 {
		r.counts.Remove(r.epoch, idKey(h.BayID))
		return
	}
	r.counts.Set(r.epoch, idKey(h.BayID), &c)
}

// Count returns the number of hosts of the bay, and how many of them are open.
func (r *Rooms) Count(bayID string) (all, open int) {
	if c := r.counts.Get(idKey(bayID)); c != nil {
		return c.all, c.open
	}
	return 0, 0
}

// Ready returns the number of the bay's hosts that are not lost.
func (r *Rooms) Ready(bayID string) int {
	if c := r.counts.Get(idKey(bayID)); c != nil {
		return c.ready
	}
	return 0
}

// Rooms keeps open and closed hosts of a bay apart.
const (
	roomOpen   = 'a' // Open
	roomClosed = 'b'
)

// appendRoom appends the host's key.
func appendRoom(b []byte, h *HostRoom) []byte {
	b = appendID(b, h.BayID)
	if !h.Open() {
		b = append(b, roomClosed)
	} else {
		b = append(b, roomOpen)
	}
	memory, cpu := ordered(h.FreeMemory()), ordered(h.FreeMilliCPU())
	if h.Strategy == structs.PlacementBinpack {
		b = appendNumber(appendNumber(b, memory), cpu)
		b = binary.BigEndian.AppendUint32(b, ^uint32(h.Used.Workloads))
	} else {
		b = binary.BigEndian.AppendUint32(b, uint32(h.Used.Workloads))
		b = appendNumber(appendNumber(b, ^memory), ^cpu)
	}
	b = append(append(b, h.Name...), 0)
	return append(b, h.ID...)
}

// ordered maps a number to one whose big-endian bytes have the same order.
func ordered(n int64) uint64 { return uint64(n) ^ 1<<63 }

// Preferred returns the open hosts of the bay in the order of its strategy. With binpack it
// begins at the first host with the free memory.
func (r *Rooms) Preferred(bayID string, strategy structs.PlacementStrategy, memory int64) iter.Seq[*HostRoom] {
	return func(yield func(*HostRoom) bool) {
		var room [64]byte
		start := append(appendID(room[:0], bayID), roomOpen)
		if strategy == structs.PlacementBinpack && memory > 0 {
			start = appendNumber(start, ordered(memory))
		}
		it := r.hosts.Seek(start)
		for h := it.Next(); h != nil && h.BayID == bayID && h.Open(); h = it.Next() {
			if !yield(h) {
				return
			}
		}
	}
}

// All returns the hosts of the bay, open ones first.
func (r *Rooms) All(bayID string) iter.Seq[*HostRoom] { return r.from(bayID, roomOpen) }

// Closed returns the hosts of the bay that aren't open.
func (r *Rooms) Closed(bayID string) iter.Seq[*HostRoom] { return r.from(bayID, roomClosed) }

func (r *Rooms) from(bayID string, part byte) iter.Seq[*HostRoom] {
	return func(yield func(*HostRoom) bool) {
		it := r.hosts.Seek(append(idKey(bayID), part))
		for h := it.Next(); h != nil && h.BayID == bayID; h = it.Next() {
			if !yield(h) {
				return
			}
		}
	}
}

// Rooms returns a copy that the caller may change after Own.
func (s *Snapshot) Rooms() Rooms { return s.rooms }

// Room returns the host's entry in Rooms, nil if the host is in no bay.
func (s *Snapshot) Room(hostID string) *HostRoom {
	if h := makeRoom(s, hostID); h != nil {
		return s.rooms.hosts.Get(appendRoom(make([]byte, 0, 128), h))
	}
	return nil
}

// makeRoom computes the HostRoom of a host from the rows, nil if the host is in no bay.
func makeRoom(s *Snapshot, hostID string) *HostRoom {
	h := s.Host(hostID)
	if h == nil || h.BayID == "" {
		return nil
	}
	room := RoomOf(h, s.usage(hostID), strategyOf(s, h.BayID))
	return &room
}

// strategyOf returns the strategy of the bay, spread if it has none.
func strategyOf(s *Snapshot, bayID string) structs.PlacementStrategy {
	if b := s.Bay(bayID); b != nil && b.Placement != "" {
		return b.Placement
	}
	return structs.PlacementSpread
}

// moveRooms updates the rooms of the hosts that the steps touch, and of those in used.
func (w *writer) moveRooms(steps []*step, used map[string]*Usage) {
	w.to.rooms.epoch = w.epoch
	update := func(hostID string) {
		if was, now := w.from.Room(hostID), makeRoom(w.to, hostID); was != nil || now != nil {
			w.to.rooms.Replace(was, now)
		}
	}
	var others map[string]bool // hosts that are not in used; each is updated once
	touch := func(hostID string) {
		if used[hostID] != nil {
			return
		}
		if others == nil {
			others = make(map[string]bool)
		}
		others[hostID] = true
	}
	for _, st := range steps {
		switch st.table {
		case structs.TableHosts:
			if st.old == nil || st.row == nil || !sameHostRoom(st.old.row.(*structs.Host), st.row.(*structs.Host)) {
				touch(st.id)
			}
		case structs.TableBays:
			if strategyOf(w.from, st.id) == strategyOf(w.to, st.id) {
				continue
			}
			for _, snap := range []*Snapshot{w.from, w.to} {
				for h := range snap.HostsInBay(st.id) {
					touch(h.ID)
				}
			}
		}
	}
	for hostID := range used {
		update(hostID)
	}
	for hostID := range others {
		update(hostID)
	}
}

// buildRooms computes the rooms of all hosts.
func (w *writer) buildRooms() {
	w.to.rooms = Rooms{epoch: w.epoch}
	for row := range w.to.List(structs.TableHosts, AllProjects, 0) {
		if h := makeRoom(w.to, row.Base().ID); h != nil {
			w.to.rooms.Replace(nil, h)
		}
	}
}
