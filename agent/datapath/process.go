package datapath

import (
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

const (
	wantFiles   = 1 << 16 // RLIMIT_NOFILE
	memoryLimit = 512 << 20
	gcPercent   = 50
	// oomScore makes the kernel end most other processes first: with the data path, all
	// connections of services are lost.
	oomScore = -500

	maxLog = 1 << 20 // bytes of the log before its first half is dropped
)

// envReady names the descriptor by which a data path says that it serves, or why it can't.
const envReady = "MAGNUM_DATAPATH_READY"

// limitProcess sets the limits of this process. It returns how many files it may have open.
// A limit that can't be set is as it was.
func limitProcess(log hclog.Logger) int {
	debug.SetMemoryLimit(memoryLimit)
	debug.SetGCPercent(gcPercent)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		log.Warn("the limit of open files is unknown", "error", err)
		return 1024
	}
	want := unix.Rlimit{Cur: max(limit.Cur, wantFiles), Max: max(limit.Max, wantFiles)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
		limit = want
	} else if limit.Cur < limit.Max && unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}) == nil {
		limit.Cur = limit.Max // without the right to raise it further
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(oomScore)), 0); err != nil {
		log.Debug("the OOM score stays as it is", "error", err)
	}
	return int(min(limit.Cur, 1<<20))
}

// ready is the pipe by which a data path tells who started it that it serves.
type ready struct {
	once sync.Once
	pipe *os.File // nil if nobody waits
}

func readyPipe() *ready {
	fd, err := strconv.Atoi(os.Getenv(envReady))
	_ = os.Unsetenv(envReady)
	if err != nil || fd <= 2 {
		return &ready{}
	}
	unix.CloseOnExec(fd)
	return &ready{pipe: os.NewFile(uintptr(fd), "ready")}
}

// tell says that the data path serves, or why it doesn't. Only the first call counts.
func (r *ready) tell(err error) {
	r.once.Do(func() {
		if r.pipe == nil {
			return
		}
		text := readyText
		if err != nil {
			text = err.Error()
		}
		_, _ = io.WriteString(r.pipe, text)
		_ = r.pipe.Close()
	})
}

// readyText is what a data path says once it serves.
const readyText = "ready"

// trimLog drops the first half of the log if it has become too long. It is cut in place,
// because the standard output and error of the process are the file.
func trimLog(dir string) {
	f, err := os.OpenFile(filepath.Join(dir, fileLog), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	at, err := f.Stat()
	if err != nil || at.Size() <= maxLog {
		return
	}
	b := make([]byte, maxLog/2)
	n, err := f.ReadAt(b, at.Size()-int64(len(b)))
	if err != nil && err != io.EOF {
		return
	}
	// The process appends: what it writes in between is lost, not written elsewhere.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt(b[:n], 0)
	}
}
