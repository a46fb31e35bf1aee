package datapath

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The files in the directory of a data path.
const (
	fileSocket = "datapath.sock"  // where the agent reaches the data path
	fileLock   = "datapath.lock"  // locked by the data path that serves; holds its process ID
	filePorts  = "datapath.ports" // where the sockets were bound, for the next data path
	fileLog    = "datapath.log"
)

// maxFrame bounds a message on the control socket.
const maxFrame = 64 << 20

// op is what a request on the control socket asks for.
type op string

const (
	opStatus   op = "status"
	opApply    op = "apply"
	opStop     op = "stop"
	opHandover op = "handover" // to another data path; descriptors follow the answer
	opServing  op = "serving"  // the other data path serves: the end of a handover
)

// request is a message to the data path.
type request struct {
	ID     uint64  `json:"id"` // the answer repeats it
	Op     op      `json:"op"`
	Config *Config `json:"config,omitempty"` // of opApply
}

// answer is the data path's answer to a request.
type answer struct {
	ID       uint64    `json:"id"`
	Error    string    `json:"error,omitempty"`
	Status   *Status   `json:"status,omitempty"`
	Handover *handover `json:"handover,omitempty"` // of opHandover
}

// writeFrame writes a message: its length in four bytes, and JSON.
func writeFrame(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxFrame {
		return fmt.Errorf("a message of %d bytes is too large, at most %d", len(b), maxFrame)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

// readFrame reads a message. It reads no byte after it.
func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("a message of %d bytes is too large, at most %d", n, maxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// atSocket calls a function with the path of the control socket. The path is short: those
// of Unix sockets have 107 bytes at most, and data directories may be longer.
func atSocket[T any](dir string, use func(path string) (T, error)) (T, error) {
	d, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		var zero T
		return zero, err
	}
	defer d.Close()
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), fileSocket))
}

// listenControl makes the control socket of a directory. Its caller has the lock.
func listenControl(dir string) (*net.UnixListener, error) {
	path := filepath.Join(dir, fileSocket)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	ln, err := atSocket(dir, func(short string) (*net.UnixListener, error) {
		return net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	})
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	ln.SetUnlinkOnClose(false) // another data path may have it
	if err := os.Chmod(path, 0o600); err != nil {
		_ = ln.Close()
		return nil, err
	}
	return ln, nil
}

// dialControl connects to the data path of a directory.
func dialControl(dir string) (*net.UnixConn, error) {
	return atSocket(dir, func(short string) (*net.UnixConn, error) {
		return net.DialUnix("unix", nil, &net.UnixAddr{Name: short, Net: "unix"})
	})
}

// sameUser reports whether the peer of a connection runs as the user of this process.
func sameUser(c *net.UnixConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return err == nil && credErr == nil && int(cred.Uid) == os.Geteuid()
}
