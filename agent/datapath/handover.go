package datapath

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/stackforge/magnum/agent/datapath/proxy"
	"github.com/stackforge/magnum/agent/datapath/sockets"
)

// handoverAllow is how long a handover may take. Until its end the earlier data path takes
// connections, but no configuration.
const handoverAllow = 30 * time.Second

// filesPerMessage bounds the descriptors of one message; the kernel's bound is 253.
const filesPerMessage = 200

// handover is what a data path hands to the next one. As many descriptors follow it.
type handover struct {
	Config *Config        `json:"config,omitempty"` // nil if none was applied
	Ports  map[string]int `json:"ports,omitempty"`
	Keys   []string       `json:"keys"` // of the sockets, after the lock and the control socket
	// Clients have a pod by the affinity of a service.
	Clients []proxy.Client `json:"clients,omitempty"`
	// Flows have a pod each, whether the service has affinity or not.
	Flows []proxy.Flow `json:"flows,omitempty"`
}

// inheritance is what a data path got from the one before.
type inheritance struct {
	conn    *net.UnixConn // to the one before, until it has stopped to take connections
	state   handover
	lock    *os.File
	control *net.UnixListener
	sockets map[string]*os.File
}

// handOver gives all that the data path has to the caller. Once the caller serves, the
// data path leaves. If the caller fails before that, nothing has changed.
func (s *server) handOver(c *net.UnixConn, id uint64) (err error) {
	s.core.mu.Lock()
	defer s.core.mu.Unlock()
	if s.core.leaving {
		return errors.New("it was handed over before")
	}
	_ = c.SetDeadline(time.Now().Add(handoverAllow))
	files, err := s.core.sockets.Dup()
	if err != nil {
		return err
	}
	defer closeAll(files)
	flows, resume := s.core.proxy.PauseFlows()
	defer func() {
		if err != nil {
			resume()
		}
	}()
	state := &handover{Ports: s.core.sockets.Ports(), Keys: slices.Sorted(maps.Keys(files)), Clients: s.core.proxy.Clients(), Flows: flows}
	if s.core.applied {
		state.Config = &s.core.conf
	}
	control, err := sockets.DupConn(s.control, fileSocket)
	if err != nil {
		return err
	}
	defer control.Close()
	all := []*os.File{s.lock, control}
	for _, key := range state.Keys {
		all = append(all, files[key])
	}
	if err := writeFrame(c, answer{ID: id, Handover: state}); err != nil {
		return err
	}
	if err := sendFiles(c, all); err != nil {
		return err
	}
	var done request
	if err := readFrame(c, &done); err != nil {
		return fmt.Errorf("the other data path doesn't serve: %w", err)
	}
	if done.Op != opServing {
		return fmt.Errorf("the other data path says %q", done.Op)
	}
	s.core.leaving = true
	// The answer is the end of the connection: it comes after the control socket is closed.
	s.handOnce.Do(func() { close(s.handed) })
	return nil
}

// inherit asks the data path that serves a directory for all it has.
func inherit(ctx context.Context, dir string) (*inheritance, error) {
	c, err := dialControl(dir)
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(handoverAllow)
	}
	_ = c.SetDeadline(deadline)
	in, err := receive(c)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return in, nil
}

// receive reads what handOver sends.
func receive(c *net.UnixConn) (*inheritance, error) {
	if err := writeFrame(c, request{Op: opHandover}); err != nil {
		return nil, err
	}
	var a answer
	if err := readFrame(c, &a); err != nil {
		return nil, err
	}
	if a.Error != "" || a.Handover == nil {
		return nil, fmt.Errorf("it isn't handed over: %s", a.Error)
	}
	in := &inheritance{conn: c, state: *a.Handover, sockets: map[string]*os.File{}}
	names := append([]string{fileLock, fileSocket}, in.state.Keys...)
	files, err := receiveFiles(c, names)
	if err != nil {
		return nil, err
	}
	ln, err := net.FileListener(files[1])
	_ = files[1].Close()
	control, ok := ln.(*net.UnixListener)
	if err != nil || !ok {
		for _, f := range files {
			_ = f.Close()
		}
		return nil, fmt.Errorf("the control socket can't be taken over: %w", err)
	}
	control.SetUnlinkOnClose(false)
	in.lock, in.control = files[0], control
	for i, key := range in.state.Keys {
		in.sockets[key] = files[2+i]
	}
	return in, nil
}

// served tells the data path before that this one serves, and waits until it takes no more
// connections.
func (in *inheritance) served(log hclog.Logger) {
	defer in.conn.Close()
	_ = in.conn.SetDeadline(time.Now().Add(handoverAllow))
	err := writeFrame(in.conn, request{Op: opServing})
	if err == nil {
		var none answer
		_ = readFrame(in.conn, &none) // its end
		return
	}
	log.Warn("the data path before may still take connections", "error", err)
}

// sendFiles sends descriptors.
func sendFiles(c *net.UnixConn, files []*os.File) error {
	for part := range slices.Chunk(files, filesPerMessage) {
		fds := make([]int, 0, len(part))
		for _, f := range part {
			raw, err := f.SyscallConn() // the method Fd would make the sockets blocking
			if err != nil {
				return err
			}
			if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
				return err
			}
		}
		if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil); err != nil {
			return err
		}
	}
	return nil
}

// receiveFiles receives descriptors, one for each name.
func receiveFiles(c *net.UnixConn, names []string) (files []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
		}
	}()
	oob := make([]byte, unix.CmsgSpace(4*filesPerMessage))
	for len(files) < len(names) {
		b := make([]byte, 1)
		n, oobn, flags, _, err := c.ReadMsgUnix(b, oob)
		if err != nil {
			return files, err
		}
		if n == 0 || flags&unix.MSG_CTRUNC != 0 {
			return files, errors.New("descriptors are missing: the limit of open files is too low")
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return files, err
		}
		got := 0
		for _, m := range messages {
			fds, err := unix.ParseUnixRights(&m)
			if err != nil {
				return files, err
			}
			for _, fd := range fds {
				unix.CloseOnExec(fd)
				name := "more"
				if len(files) < len(names) {
					name = names[len(files)]
				}
				files = append(files, os.NewFile(uintptr(fd), name))
				got++
			}
		}
		if got == 0 {
			return files, errors.New("descriptors are missing")
		}
	}
	if len(files) > len(names) {
		return files, fmt.Errorf("%d descriptors came, not %d", len(files), len(names))
	}
	return files, nil
}

func closeAll(files map[string]*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
