package state

import (
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// filled returns a store of n typical containers on 100 hosts.
func filled(b *testing.B, n int) *Store {
	b.Helper()
	s := New()
	index := uint64(0)
	for at := 1; at <= n; {
		var changes []structs.Change
		for ; at <= n && len(changes) < 512; at++ {
			changes = append(changes, assign(typicalContainer(uint64(at)), 0))
		}
		index++
		// As in a server, the stored rows are the decoded ones.
		data, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Changes: changes})
		if err != nil {
			b.Fatal(err)
		}
		applyBytes(b, s, index, data)
	}
	return s
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func BenchmarkMemoryOfContainers(b *testing.B) {
	const n = 20000
	for range b.N {
		before := heapInUse()
		s := filled(b, n)
		b.ReportMetric(float64(heapInUse()-before)/n, "bytes/container")
		runtime.KeepAlive(s)
	}
	b.ReportMetric(0, "ns/op")
}

// Entries of new containers, and of reports on existing ones, are decoded and applied as by
// the FSM.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 100} {
		b.Run(fmt.Sprintf("create/changes=%d", size), func(b *testing.B) {
			s := filled(b, 10000)
			entries := make([][]byte, b.N)
			for i := range entries {
				var changes []structs.Change
				for range size {
					changes = append(changes, assign(typicalContainer(uint64(1<<20+i*size+len(changes))), 0))
				}
				entries[i] = mustEncode(b, changes)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i, e := range entries {
				applyBytes(b, s, uint64(1000+i), e)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "us/change")
		})
		b.Run(fmt.Sprintf("report/changes=%d", size), func(b *testing.B) {
			s := filled(b, 10000)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				b.StopTimer()
				snap := s.Snapshot()
				var changes []structs.Change
				for n := range size {
					id := testID(uint64(1 + (i*size+n)%10000))
					c := *snap.Container(id)
					c.Observed.RestartCount++
					changes = append(changes, put(&c, c.ModifyIndex))
				}
				data := mustEncode(b, changes)
				b.StartTimer()
				applyBytes(b, s, uint64(1000+i), data)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "us/change")
		})
	}
}

func mustEncode(b *testing.B, changes []structs.Change) []byte {
	b.Helper()
	data, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Changes: changes})
	if err != nil {
		b.Fatal(err)
	}
	return data
}

func BenchmarkEncodeEntry(b *testing.B) {
	changes := []structs.Change{assign(typicalContainer(1), 0)}
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(mustEncode(b, changes))))
	}
}

func BenchmarkDecodeEntry(b *testing.B) {
	data := mustEncode(b, []structs.Change{assign(typicalContainer(1), 0)})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEntry(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	s := filled(b, 20000)
	project, host := typicalContainer(1).ProjectID, typicalContainer(1).HostID
	for name, f := range map[string]func(*Snapshot){
		"get":            func(s *Snapshot) { s.Container(testID(77)) },
		"usage":          func(s *Snapshot) { s.Usage(host) },
		"name":           func(s *Snapshot) { count(s.ByName(structs.TableContainers, project, "web-1")) },
		"waiting-none":   func(s *Snapshot) { count(s.Waiting(testID(1 << 40))) },
		"assigned-none":  func(s *Snapshot) { count(s.AssignedSince(host, s.Index())) },
		"host-200":       func(s *Snapshot) { count(s.OnHost(host)) },
		"list-project":   func(s *Snapshot) { count(s.List(structs.TableContainers, project, 0)) },
		"list-all-20000": func(s *Snapshot) { count(s.List(structs.TableContainers, AllProjects, 0)) },
		"list-all-first": func(s *Snapshot) {
			s.List(structs.TableContainers, AllProjects, 10000)(func(structs.Row) bool { return false })
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f(s.Snapshot())
			}
		})
	}
}

// An entry that touches one of 10,000 parked hosts wakes that one.
func BenchmarkWake(b *testing.B) {
	s := New()
	for n := range 10000 {
		defer s.Subscribe(TopicHost(fmt.Sprint("host-", n))).Close()
	}
	woken := s.Subscribe(TopicHost("host-x"), TopicRow(structs.TableContainers, "c"))
	defer woken.Close()
	index := uint64(0)
	for b.Loop() {
		c := typicalContainer(1)
		c.HostID = "host-x"
		index++
		if err := s.Apply(index, []structs.Change{assign(c, index-1)}); err != nil {
			b.Fatal(err)
		}
		<-woken.C()
	}
}

func BenchmarkSubscribe(b *testing.B) {
	s := New()
	b.ReportAllocs()
	for b.Loop() {
		s.Subscribe(TopicHost("host-x"), TopicRow(structs.TableContainers, "c")).Close()
	}
}

func BenchmarkPersist(b *testing.B) {
	s := filled(b, 10000)
	for b.Loop() {
		if err := s.Persist(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*10000), "us/row")
}

func BenchmarkRestore(b *testing.B) {
	stream := persisted(b, filled(b, 10000))
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		restored(b, stream)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*10000), "us/row")
}
