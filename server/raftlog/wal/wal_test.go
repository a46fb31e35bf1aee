package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func mustOpen(t testing.TB, dir string) *Log {
	t.Helper()
	l, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.segmentSize = small
	t.Cleanup(func() { l.Close() })
	return l
}

// entries returns n entries from the index on, of a term.
func entries(from uint64, n int, term uint64, size int) []*raft.Log {
	var list []*raft.Log
	for i := range n {
		e := &raft.Log{Index: from + uint64(i), Term: term, Type: raft.LogCommand, AppendedAt: time.Unix(7, int64(i))}
		e.Data = bytes.Repeat([]byte{byte(e.Index), byte(term), 0}, 1+size/3)
		list = append(list, e)
	}
	return list
}

func store(t testing.TB, l *Log, list []*raft.Log) {
	t.Helper()
	if err := l.StoreLogs(list); err != nil {
		t.Fatal(err)
	}
}

// holds wants these entries in the log and no others, now and after it was
// opened anew. Of those that were deleted at its beginning some may be back.
func holds(t testing.TB, l *Log, want []*raft.Log) {
	t.Helper()
	has(t, l, want)
	again, err := Open(l.dir, nil) // beside the other: reading changes nothing
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if len(want) > 0 {
		if first, _ := again.FirstIndex(); first == 0 || first > want[0].Index {
			t.Errorf("opened anew it begins at entry %d, want %d or before", first, want[0].Index)
		}
		again.head = want[0].Index
	}
	has(t, again, want)
}

func has(t testing.TB, l *Log, want []*raft.Log) {
	t.Helper()
	first, _ := l.FirstIndex()
	last, _ := l.LastIndex()
	if len(want) == 0 {
		if first != 0 || last != 0 {
			t.Errorf("there are entries %d to %d, want none", first, last)
		}
		return
	}
	if first != want[0].Index || last != want[len(want)-1].Index {
		t.Errorf("there are entries %d to %d, want %d to %d", first, last, want[0].Index, want[len(want)-1].Index)
	}
	for _, w := range want {
		var e raft.Log
		if err := l.GetLog(w.Index, &e); err != nil {
			t.Errorf("entry %d: %v", w.Index, err)
			continue
		}
		if e.Index != w.Index || e.Term != w.Term || e.Type != w.Type || !bytes.Equal(e.Data, w.Data) || !bytes.Equal(e.Extensions, w.Extensions) || !e.AppendedAt.Equal(w.AppendedAt) {
			t.Errorf("entry %d is %+v, want %+v", w.Index, e, *w)
		}
	}
	for _, index := range []uint64{0, want[0].Index - 1, last + 1} {
		if err := l.GetLog(index, new(raft.Log)); err != raft.ErrLogNotFound {
			t.Errorf("entry %d: %v", index, err)
		}
	}
}

func TestEntriesAreKept(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	holds(t, l, nil)
	want := entries(1, 3, 1, 10)
	want = append(want, &raft.Log{Index: 4, Term: 2, Type: raft.LogNoop}, &raft.Log{Index: 5, Term: 2, Type: raft.LogConfiguration, Data: []byte("a"), Extensions: []byte("ext")})
	store(t, l, want[:2])
	store(t, l, want[2:])
	if err := l.StoreLogs(nil); err != nil {
		t.Error(err)
	}
	holds(t, l, want)
	if !l.IsMonotonic() {
		t.Error("the library has to know that there may be no gap")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, l.dir)
	more := entries(6, 2, 3, 10)
	store(t, l, more)
	holds(t, l, append(want, more...))
}

func TestEntriesInDisorderAreRefused(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	for _, list := range [][]*raft.Log{
		{{Index: 1}, {Index: 3}}, {{Index: 2}, {Index: 1}}, {{Index: 0}},
	} {
		if err := l.StoreLogs(list); err == nil {
			t.Errorf("entries %d... were taken", list[0].Index)
		}
	}
	holds(t, l, nil)
}

// Four big entries fill a small segment.
const (
	small = 16 << 10
	big   = small/4 + 1
)

func TestSegments(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	want := entries(1, 11, 1, big)
	for _, e := range want {
		store(t, l, []*raft.Log{e})
	}
	if len(l.segments) != 3 {
		t.Fatalf("%d segments", len(l.segments))
	}
	holds(t, l, want)
	// The first ones go, with the files that hold nothing else.
	for _, max := range []uint64{2, 4, 6} {
		if err := l.DeleteRange(1, max); err != nil {
			t.Fatal(err)
		}
		holds(t, l, want[max:])
	}
	if files := filesOf(t, l.dir); len(files) != 2 || len(l.segments) != 2 {
		t.Errorf("%d segments, files %v", len(l.segments), files)
	}
	// The last ones, across a file.
	if err := l.DeleteRange(7, 11); err != nil {
		t.Fatal(err)
	}
	holds(t, l, nil)
	if files := filesOf(t, l.dir); len(files) != 0 {
		t.Errorf("files are left: %v", files)
	}
	store(t, l, entries(100, 2, 5, 10))
	holds(t, l, entries(100, 2, 5, 10))
}

func filesOf(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// Entries that another leader doesn't have are replaced by its own; nothing of
// them comes back.
func TestLastEntriesAreReplaced(t *testing.T) {
	for _, deleted := range []bool{true, false} {
		for _, keep := range []int{0, 1, 4, 6, 7} {
			for _, fresh := range []int{1, 2, 3} {
				t.Run(fmt.Sprint(deleted, keep, fresh), func(t *testing.T) {
					l := mustOpen(t, t.TempDir())
					old := entries(1, 8, 1, big)
					store(t, l, old[:4])
					store(t, l, old[4:5])
					store(t, l, old[5:])
					from := uint64(keep) + 1
					if deleted {
						if err := l.DeleteRange(from, 8); err != nil {
							t.Fatal(err)
						}
						holds(t, l, old[:keep])
					}
					// As long as the old ones: what stood behind them would fit.
					list := entries(from, fresh, 2, big)
					store(t, l, list)
					holds(t, l, append(slices.Clone(old[:keep]), list...))
				})
			}
		}
	}
}

// A snapshot that another server has sent replaces all entries before it.
func TestGapDropsWhatIsBeforeIt(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	store(t, l, entries(1, 3, 1, 10))
	store(t, l, entries(9, 2, 2, 10))
	holds(t, l, entries(9, 2, 2, 10))
	// So do entries that come before all there are.
	store(t, l, entries(11, 4, 2, 10))
	if err := l.DeleteRange(9, 12); err != nil {
		t.Fatal(err)
	}
	store(t, l, entries(10, 1, 3, 10))
	holds(t, l, entries(10, 1, 3, 10))
}

func TestDeleteRangeInTheMiddleIsRefused(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	want := entries(3, 5, 1, 10)
	store(t, l, want)
	if err := l.DeleteRange(4, 5); err == nil || !strings.Contains(err.Error(), "4 to 5") {
		t.Errorf("%v", err)
	}
	for _, r := range [][2]uint64{{1, 2}, {8, 9}, {5, 4}} { // nothing of them is there
		if err := l.DeleteRange(r[0], r[1]); err != nil {
			t.Errorf("%v: %v", r, err)
		}
	}
	holds(t, l, want)
}

var errDisk = errors.New("input/output error")

// A write that fails, wherever, leaves what was there; the same indexes are
// stored with other entries afterwards, and nothing of the first try comes back.
func TestFailedWrites(t *testing.T) {
	for _, tc := range []struct {
		name  string
		begin int // entries before
		size  int
	}{
		{"first", 0, 10}, {"next", 3, 10}, {"another segment", 4, big}, {"no room ahead", 1, ahead},
	} {
		for failing := 1; ; failing++ {
			l := mustOpen(t, t.TempDir())
			want := entries(1, tc.begin, 1, tc.size)
			if tc.begin > 0 {
				store(t, l, want)
			}
			calls := 0
			fails := func() bool { calls++; return calls >= failing }
			writeAt, sync := l.writeAt, l.sync
			l.writeAt = func(f *os.File, b []byte, at int64) (int, error) {
				if fails() { // half of it arrives
					n, _ := writeAt(f, b[:len(b)/2], at)
					return n, errDisk
				}
				return writeAt(f, b, at)
			}
			l.sync = func(f *os.File) error {
				if fails() {
					return errDisk
				}
				return sync(f)
			}
			err := l.StoreLogs(entries(uint64(tc.begin)+1, 3, 2, tc.size))
			if err == nil {
				if failing == 1 {
					t.Errorf("%s: nothing failed", tc.name)
				}
				break
			}
			if !errors.Is(err, errDisk) {
				t.Errorf("%s: %v", tc.name, err)
			}
			has(t, l, want)
			// A process that is killed here finds what was there, or more of it.
			killed := mustOpen(t, l.dir)
			if last, _ := killed.LastIndex(); last < uint64(tc.begin) || last > uint64(tc.begin)+3 {
				t.Errorf("%s: opened after write %d failed, it ends at %d", tc.name, failing, last)
			}
			if err := l.StoreLogs(entries(uint64(tc.begin)+1, 2, 3, tc.size)); !errors.Is(err, errDisk) {
				t.Errorf("%s: on the disk that stays broken: %v", tc.name, err)
			}
			l.writeAt, l.sync = writeAt, sync
			list := entries(uint64(tc.begin)+1, 1, 4, tc.size)
			store(t, l, list)
			holds(t, l, append(slices.Clone(want), list...))
		}
	}
}

// Wherever the file ends or a byte of it is flipped, the log holds the entries
// before that place and no other, or it is refused with the name of the file.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	var ends []int64 // of the records
	want := entries(1, 20, 1, 30)
	for _, e := range want {
		store(t, l, []*raft.Log{e})
		ends = append(ends, l.tail().size)
	}
	path := filesOf(t, dir)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) < ahead {
		t.Fatalf("the file has %d bytes", len(whole))
	}
	end := int(ends[len(ends)-1])
	check := func(what string, at int, content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		damaged, err := Open(dir, nil)
		if err != nil {
			if at >= headSize || !strings.Contains(err.Error(), path) {
				t.Errorf("%s at %d: %v", what, at, err)
			}
			return
		}
		defer damaged.Close()
		n := 0
		for n < len(ends) && ends[n] <= int64(at) {
			n++
		}
		has(t, damaged, want[:n])
		if says := damaged.End(); n > 0 && n < len(ends) && (!strings.Contains(says, path) || !strings.Contains(says, fmt.Sprintf("at byte %d", ends[n-1]))) {
			t.Errorf("%s at %d: %q does not say where", what, at, says)
		}
	}
	for at := range end + 5 {
		check("cut", at, whole[:at])
		b := slices.Clone(whole[:end+100])
		b[at] ^= 1 << (at % 8)
		check("flipped", at, b)
	}
}

// A segment that is damaged, or gone, and not the last one is refused.
func TestDamageBetween(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for _, e := range entries(1, 9, 1, big) {
		store(t, l, []*raft.Log{e})
	}
	paths := filesOf(t, dir)
	whole, err := os.ReadFile(paths[1])
	if err != nil || len(paths) != 3 {
		t.Fatal(paths, err)
	}
	for range 20 {
		b := slices.Clone(whole)
		b[rand.IntN(4*big)] ^= 4
		if err := os.WriteFile(paths[1], b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), paths[1]+" is damaged") {
			t.Errorf("%v", err)
		}
	}
	if err := os.Remove(paths[1]); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, nil); err == nil || !strings.Contains(err.Error(), paths[0]+" is damaged: it ends with entry 4") || !strings.Contains(err.Error(), paths[2]) {
		t.Errorf("%v", err)
	}
}

// What a power failure leaves of a segment that was just begun is no damage.
func TestUnfinishedSegment(t *testing.T) {
	for name, content := range map[string][]byte{
		"empty": nil, "half a head": segmentHead(4)[:headSize/2], "zeros": make([]byte, 4096), "begun": segmentHead(4),
	} {
		t.Run(name, func(t *testing.T) {
			l := mustOpen(t, t.TempDir())
			want := entries(1, 3, 1, 10)
			store(t, l, want)
			path := filepath.Join(l.dir, segmentName(4))
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			l = mustOpen(t, l.dir)
			has(t, l, want)
			list := entries(4, 2, 2, 10)
			store(t, l, list)
			holds(t, l, append(want, list...))
		})
	}
}

func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	l := mustOpen(f, dir)
	store(f, l, entries(1, 5, 1, 50))
	path := filesOf(f, dir)[0]
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	whole = whole[:l.tail().size+200]
	f.Add(uint16(24), []byte{0, 0, 0, 1}, uint16(0))
	f.Add(uint16(200), []byte{255, 255, 255, 255, 255}, uint16(50))
	f.Fuzz(func(t *testing.T, at uint16, change []byte, cut uint16) {
		b := slices.Clone(whole)
		copy(b[int(at)%len(b):], change)
		b = b[:len(b)-int(cut)%len(b)]
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		damaged, err := Open(dir, nil)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%q does not name the file", err)
			}
			return
		}
		defer damaged.Close()
		last, _ := damaged.LastIndex()
		for index := uint64(1); index <= last; index++ {
			if err := damaged.GetLog(index, new(raft.Log)); err != nil {
				t.Errorf("entry %d of %d: %v", index, last, err)
			}
		}
	})
}

func BenchmarkStoreLogs(b *testing.B) {
	for _, size := range []int{1000, 30000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := mustOpen(b, b.TempDir())
			l.segmentSize = segmentSize
			list := entries(1, 1, 1, size)
			for b.Loop() {
				store(b, l, list)
				list[0].Index++
			}
		})
	}
}

// TestDeletedEntriesTakeNoRoomForLong: a log that is cut again and again, as
// snapshots have it, is not larger for what it has held.
func TestDeletedEntriesTakeNoRoomForLong(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	l.segmentSize = segmentSize
	const each, kept = 100 << 10, 8
	list := entries(1, 100, 1, each)
	for i, e := range list {
		store(t, l, list[i:i+1])
		if e.Index > kept {
			if err := l.DeleteRange(1, e.Index-kept); err != nil {
				t.Fatal(err)
			}
		}
		var size int64
		for _, f := range filesOf(t, dir) {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			size += info.Size()
		}
		// They are in three segments at most: one that begins with deleted entries,
		// the next, which may by now, and the one that is appended to.
		if most := int64(3 * (staleSize + each + ahead)); size > most {
			t.Fatalf("%d bytes for the %d entries up to %d, more than %d", size, kept, e.Index, most)
		}
	}
	holds(t, l, list[len(list)-kept:])
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
