package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/structs"
)

const (
	// reserve is the free space below which writes are refused. It holds what is being
	// committed, a snapshot, and the log's own bookkeeping: Raft must never be the
	// first to find the disk full.
	reserve = 32 << 20
	// ballastSize is the size of the ballast file. A server that finds the disk full at
	// its start, or when it has to write a term or a vote, removes the file.
	ballastSize = 64 << 20

	spaceTick = 500 * time.Millisecond
)

// space monitors the free space on the data directory's disk.
type space struct {
	dir      string
	log      hclog.Logger
	free     func(dir string) (int64, error) // returns the bytes that this process may still write
	reusable atomic.Pointer[func() int64]    // returns the free bytes within the log's file; nil until it is open
	short    atomic.Int64                    // bytes left while they are less than reserve, otherwise -1
}

func newSpace(dir string, log hclog.Logger) *space {
	s := &space{dir: dir, log: log, free: freeBytes}
	s.short.Store(-1)
	return s
}

// freeBytes returns the file system's free bytes for this process.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// countReusable makes free space within the log's file count: it is as good as free
// space on the disk.
func (s *space) countReusable(free func() int64) { s.reusable.Store(&free) }

// makeRoom removes the ballast file, so that this server can write a term or a vote. It
// reports whether there was one.
func (s *space) makeRoom() bool {
	info, err := os.Stat(s.ballast())
	if err != nil || info.Size() == 0 {
		return false
	}
	if err := os.Remove(s.ballast()); err != nil {
		return false
	}
	s.log.Warn("the disk is full: removed the ballast file to write the term and vote; free disk space", "path", s.ballast())
	return true
}

func (s *space) ballast() string { return filepath.Join(s.dir, "ballast") }

// open makes the first check. If the disk is full, it removes the ballast, so that the
// log can be opened and read.
func (s *space) open() error {
	free, err := s.free(s.dir)
	if err != nil {
		return err
	}
	if free < reserve {
		switch err := os.Remove(s.ballast()); {
		case err == nil:
			s.log.Warn("the disk is full: removed the ballast file to start; free disk space", "path", s.ballast(), "free", free)
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	return s.check()
}

// run checks the free space every spaceTick until ctx ends.
func (s *space) run(ctx context.Context) error {
	tick := time.NewTicker(spaceTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.check(); err != nil {
				return err
			}
		}
	}
}

// check measures the free space, and creates the ballast while there is plenty.
func (s *space) check() error {
	left, err := s.free(s.dir)
	if err != nil {
		return err
	}
	free := left
	if again := s.reusable.Load(); again != nil {
		free += (*again)()
	}
	was := s.short.Load()
	switch {
	case free < reserve:
		s.short.Store(free)
		if was < 0 {
			s.log.Error("the disk is nearly full: writes are refused until there is space", "path", s.dir, "free", free, "reserve", reserve)
		}
		return nil
	case was >= 0 && free < reserve+reserve/4:
		return nil // hysteresis
	case was >= 0:
		s.log.Info("the disk has space again: writes are accepted", "path", s.dir, "free", free)
	}
	s.short.Store(-1)
	if left > 4*ballastSize {
		return s.keepBallast()
	}
	return nil
}

// keepBallast creates the ballast file if there is none.
func (s *space) keepBallast() error {
	f, err := os.OpenFile(s.ballast(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.Fallocate(int(f.Fd()), 0, 0, ballastSize)
	if err == nil {
		return nil
	}
	// Without a ballast file there is less to recover with; nothing else is lost.
	s.log.Warn("the ballast file can't be created", "path", s.ballast(), "error", err)
	if errors.Is(err, unix.ENOTSUP) {
		return nil // the empty file says that this was tried
	}
	return os.Remove(s.ballast())
}

// room returns CodeNoSpace while there is too little disk space for writes.
func (s *space) room() error {
	left := s.short.Load()
	if left < 0 {
		return nil
	}
	return structs.Errorf(structs.CodeNoSpace,
		"the server's disk is nearly full (%d MiB left, %d are kept back): nothing is written until its operator makes room; reads go "+
			"on", left>>20, reserve>>20)
}
