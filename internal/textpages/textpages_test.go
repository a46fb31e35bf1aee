package textpages

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

func TestAreas(t *testing.T) {
	const maps = `00400000-00a00000 r-xp 00000000 fe:00 1234                             /usr/bin/magnum
00a00000-01200000 r--p 00600000 fe:00 1234                             /usr/bin/magnum
01200000-01300000 rw-p 00e00000 fe:00 1234                             /usr/bin/magnum
01300000-01400000 rw-p 00000000 00:00 0
c000000000-c000400000 rw-p 00000000 00:00 0
7f0000000000-7f0000001000 r-xp 00000000 fe:00 99                       /opt/usr/bin/magnum
7f0000002000-7f0000003000 r-xp 00000000 00:00 0                        [vdso]
`
	want := []area{{0x400000, 0xa00000}, {0xa00000, 0x1200000}}
	if got := areas(maps, "/usr/bin/magnum"); !reflect.DeepEqual(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestReleaseGivesBackWhatIsNotUsed(t *testing.T) {
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range areas(string(maps), path) {
		if _, _, e := unix.Syscall(unix.SYS_MADVISE, a.from, a.to-a.from, unix.MADV_POPULATE_READ); e != 0 {
			t.Skip("the kernel can't load pages on demand: ", e)
		}
	}
	before := resident(t)
	Release()
	if after := resident(t); after > before*3/4 {
		t.Errorf("%d KiB of files are resident, %d before", after, before)
	}
}

// resident returns how much of files is in memory, in KiB.
func resident(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "RssFile:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}

func TestKeepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		began := time.Now()
		Keep(ctx, 5*time.Second, time.Hour)
		if took := time.Since(began); took != 3*time.Hour {
			t.Errorf("ended after %v", took)
		}
	})
}
