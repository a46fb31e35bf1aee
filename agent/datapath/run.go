package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/agent/datapath/sockets"
	"github.com/stackforge/magnum/internal/pause"
)

const (
	watchEvery   = 2 * time.Second  // looks whether the socket is still there
	retryEvery   = 10 * time.Second // opens what couldn't be opened
	drainAtMost  = time.Hour        // after a handover
	takeoverWait = 10 * time.Second // for the lock, or for the data path that has it
	lockPause    = 20 * time.Millisecond
)

// server is a data path as a process: its core, and the control socket.
type server struct {
	dir     string
	log     hclog.Logger
	lock    *os.File
	control *net.UnixListener
	inode   uint64 // of the control socket's path
	core    *core

	stop     context.CancelFunc // ends at once
	handed   chan struct{}      // closed when another data path serves
	handOnce sync.Once

	mu    sync.Mutex
	conns map[*net.UnixConn]struct{}
	wg    sync.WaitGroup
}

// Run is the data path's process: it serves dir until the context ends, it is told to stop,
// or the directory or its socket is gone. If another data path serves dir, Run takes it
// over; that one then ends when its connections have. Run sets limits of the process, so
// that it is only called by a program that does nothing else.
func Run(ctx context.Context, dir string, log hclog.Logger) error {
	files := limitProcess(log)
	ready := readyPipe()
	err := serve(ctx, dir, log, files, func() { ready.tell(nil) })
	ready.tell(err) // does nothing if it was ready
	return err
}

// serve is Run without what concerns the process as a whole. It calls ready once it serves.
func serve(ctx context.Context, dir string, log hclog.Logger, files int, ready func()) error {
	id, err := build()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &server{dir: dir, log: log, stop: cancel, handed: make(chan struct{}), conns: map[*net.UnixConn]struct{}{}}
	before, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer s.lock.Close()
	if before == nil {
		if s.control, err = listenControl(dir); err != nil {
			return err
		}
		s.core = newCore(dir, log, id, sockets.New(nil, loadPorts(dir)), files)
	} else {
		s.control = before.control
		s.core = newCore(dir, log, id, sockets.New(before.sockets, before.state.Ports), files)
		if before.state.Config != nil {
			s.core.proxy.SetFlows(before.state.Flows)
			s.core.apply(*before.state.Config)
			s.core.proxy.SetClients(before.state.Clients)
		}
	}
	if s.inode, err = socketInode(dir); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := s.writePID(); err != nil {
		log.Warn("the process ID can't be written", "error", err)
	}
	var small sync.WaitGroup
	small.Go(func() { keepSmall(ctx, s.core.changed) })
	defer func() { // also while it drains
		cancel()
		small.Wait()
	}()
	s.wg.Add(1)
	go s.accept(ctx)
	if before != nil {
		before.served(log)
	}
	ready()
	log.Info("data path serves", "version", id, "pid", os.Getpid())
	s.watch(ctx)
	s.end(ctx)
	return nil
}

// end closes the control socket and what it serves. After a handover it lets connections
// end first.
func (s *server) end(ctx context.Context) {
	_ = s.control.Close()
	s.closeConns()
	s.wg.Wait()
	select {
	case <-s.handed:
		_ = s.lock.Close() // the other has it
		drain, cancel := context.WithTimeout(ctx, drainAtMost)
		defer cancel()
		go s.cancelWhenGone(drain)
		s.core.drain(drain)
		s.log.Info("data path has drained")
	default:
		s.core.close()
		if s.mine() {
			_ = os.Remove(filepath.Join(s.dir, fileSocket))
		}
		s.log.Info("data path ends")
	}
}

// watch returns when the context has ended, the data path is handed over, or its socket is
// gone.
func (s *server) watch(ctx context.Context) {
	look := time.NewTicker(watchEvery)
	defer look.Stop()
	retry := time.NewTicker(retryEvery)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.handed:
			return
		case <-retry.C:
			s.core.retry()
		case <-look.C:
			trimLog(s.dir)
			if !s.mine() {
				s.log.Warn("data path ends, because its socket is gone", "path", filepath.Join(s.dir, fileSocket))
				return
			}
		}
	}
}

// cancelWhenGone ends the drain once the socket, now another's, is gone: so is the
// directory.
func (s *server) cancelWhenGone(ctx context.Context) {
	for pause.For(ctx, watchEvery) == nil {
		if _, err := os.Stat(filepath.Join(s.dir, fileSocket)); errors.Is(err, os.ErrNotExist) {
			s.stop()
			return
		}
	}
}

// mine reports whether the path of the control socket still leads to the one of this
// process.
func (s *server) mine() bool {
	inode, err := socketInode(s.dir)
	return err == nil && inode == s.inode
}

// socketInode returns the inode of the path of a control socket.
func socketInode(dir string) (uint64, error) {
	var at unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, fileSocket), &at); err != nil {
		return 0, err
	}
	return at.Ino, nil
}

// writePID writes the process ID into the lock file.
func (s *server) writePID() error {
	if err := s.lock.Truncate(0); err != nil {
		return err
	}
	_, err := s.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// acquire takes the lock of the directory. If another data path has it, acquire asks that
// one for all it has.
func (s *server) acquire(ctx context.Context) (*inheritance, error) {
	lock, err := os.OpenFile(filepath.Join(s.dir, fileLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, takeoverWait)
	defer cancel()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			s.lock = lock
			return nil, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			_ = lock.Close()
			return nil, fmt.Errorf("%s: %w", lock.Name(), err)
		}
		before, err := inherit(ctx, s.dir)
		if err == nil {
			_ = lock.Close()
			s.lock = before.lock
			return before, nil
		}
		// It may be ending just now, or starting.
		if pause.For(ctx, lockPause) != nil {
			_ = lock.Close()
			return nil, fmt.Errorf("another data path serves %s and can't be taken over: %w", s.dir, err)
		}
	}
}

// accept serves connections of agents until the control socket is closed.
func (s *server) accept(ctx context.Context) {
	defer s.wg.Done()
	for {
		c, err := s.control.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("the control socket takes no connections", "error", err)
			if pause.For(ctx, time.Second) != nil {
				return
			}
			continue
		}
		if !sameUser(c) || !s.track(c) {
			_ = c.Close()
			continue
		}
		s.wg.Add(1)
		go func() {
			defer s.wg.Done()
			defer s.untrack(c)
			s.answer(c)
		}()
	}
}

// answer answers requests of one connection, one after the other.
func (s *server) answer(c *net.UnixConn) {
	for {
		var req request
		if readFrame(c, &req) != nil {
			return
		}
		a := answer{ID: req.ID}
		var after func()
		switch req.Op {
		case opStatus:
			st := s.core.status()
			a.Status = &st
		case opApply:
			if req.Config == nil {
				a.Error = "a configuration is missing"
			} else if st, ok := s.core.apply(*req.Config); ok {
				a.Status = &st
			} else {
				a.Error = "another data path serves"
			}
		case opStop:
			after = s.stop
		case opHandover:
			if err := s.handOver(c, req.ID); err != nil {
				s.log.Warn("the data path can't be handed over", "error", err)
			}
			return
		default:
			a.Error = fmt.Sprintf("request %q is unknown", req.Op)
		}
		if writeFrame(c, a) != nil {
			return
		}
		if after != nil {
			after()
		}
	}
}

// track notes a connection, so that closeConns closes it; false if that is over.
func (s *server) track(c *net.UnixConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *server) untrack(c *net.UnixConn) {
	_ = c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// closeConns closes all connections of agents.
func (s *server) closeConns() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
}
