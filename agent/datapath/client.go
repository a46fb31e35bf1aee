package datapath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

const (
	// callAllow is how long a data path may take for an answer, if the caller has set no
	// deadline.
	callAllow  = 20 * time.Second
	greetAllow = 10 * time.Second
	startAllow = takeoverWait + handoverAllow
)

// Subcommand is the first argument of a data path's process. It is not a command for users.
const Subcommand = "datapath"

// errGone is why a call fails after the data path has ended.
var errGone = errors.New("the data path has ended")

// Client is the agent's connection to the data path of a directory.
type Client struct {
	conn *net.UnixConn
	done chan struct{}

	writing sync.Mutex // held while a request is written

	mu      sync.Mutex
	last    uint64 // ID of the last request
	pending map[uint64]chan answer
}

// opener finds and starts data paths. Tests replace the program.
type opener struct {
	program string
	args    []string      // before -dir
	env     []string      // added
	build   string        // of the program
	greet   time.Duration // for a data path to say which build it is; one that takes longer is killed
}

// Open connects to the data path of a directory. If none runs, Open starts one, which
// outlives this process. If the one that runs is of another build of the program, Open
// starts one that takes over: listeners stay open, and connections go on in the earlier
// process until they end. The caller is the only one that opens the directory.
func Open(ctx context.Context, dir string, log hclog.Logger) (*Client, error) {
	id, err := build()
	if err != nil {
		return nil, err
	}
	o := opener{program: self, args: []string{"magnum", Subcommand}, build: id, greet: greetAllow}
	return o.open(ctx, dir, log)
}

func (o *opener) open(ctx context.Context, dir string, log hclog.Logger) (*Client, error) {
	dir, err := filepath.Abs(dir) // the data path has another working directory
	if err != nil {
		return nil, err
	}
	c, s, err := connect(ctx, dir, o.greet)
	switch {
	case err == nil && s.Version == o.build:
		return c, nil
	case err == nil:
		log.Info("data path is of another build: it is replaced", "version", s.Version, "pid", s.PID)
		_ = c.conn.Close()
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		log.Error("data path doesn't answer: it is killed", "error", err)
		if err := killHung(dir); err != nil {
			return nil, fmt.Errorf("data path in %s doesn't answer and can't be killed: %w", dir, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := o.start(ctx, dir); err != nil {
		return nil, fmt.Errorf("data path in %s can't be started: %w", dir, err)
	}
	c, s, err = connect(ctx, dir, greetAllow)
	if err != nil {
		return nil, fmt.Errorf("data path in %s doesn't answer: %w", dir, err)
	}
	log.Info("data path started", "version", s.Version, "pid", s.PID)
	return c, nil
}

// Connect connects to the data path that serves a directory. It starts none and replaces
// none: that is for Open.
func Connect(ctx context.Context, dir string) (*Client, error) {
	c, _, err := connect(ctx, dir, greetAllow)
	return c, err
}

// connect connects to a data path that runs.
func connect(ctx context.Context, dir string, greet time.Duration) (*Client, Status, error) {
	conn, err := dialControl(dir)
	if err != nil {
		return nil, Status{}, err
	}
	c := &Client{conn: conn, done: make(chan struct{}), pending: map[uint64]chan answer{}}
	go c.read()
	ctx, cancel := context.WithTimeout(ctx, greet)
	defer cancel()
	s, err := c.Status(ctx)
	if err != nil {
		_ = conn.Close()
		<-c.done
		return nil, Status{}, err
	}
	return c, s, nil
}

// start starts a data path and waits until it serves.
func (o *opener) start(ctx context.Context, dir string) error {
	out, err := os.OpenFile(filepath.Join(dir, fileLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(o.program)
	cmd.Args = append(append([]string(nil), o.args...), "-dir", dir)
	cmd.Env = append(append(environment(), o.env...), envReady+"=3")
	cmd.Dir = "/" // a working directory would be kept from being unmounted
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // signals to the agent's group aren't for it
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // so that no zombie is left if it ends before this process

	deadline := time.Now().Add(startAllow)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = r.SetReadDeadline(deadline)
	defer context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })()
	said, err := io.ReadAll(io.LimitReader(r, 4096))
	switch text := string(said); {
	case err != nil:
		_ = cmd.Process.Kill() // it may have been about to serve; the next one takes over
		return fmt.Errorf("it doesn't say that it serves: %w; see %s", err, out.Name())
	case text == "":
		return fmt.Errorf("it has ended; see %s", out.Name())
	case text != readyText:
		return errors.New(text)
	}
	return nil
}

// environment returns what a data path inherits of the environment: not the agent's
// settings, among which are secrets.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAGNUM_") })
}

// killHung kills the data path that has the lock of a directory and doesn't answer.
func killHung(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, fileLock))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return fmt.Errorf("%s has no process ID", fileLock)
	}
	// The number may be another process's by now.
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.HasSuffix(strings.TrimRight(string(line), "\x00"), "\x00-dir\x00"+dir) {
		return fmt.Errorf("process %d is not the data path of %s", pid, dir)
	}
	return unix.Kill(pid, unix.SIGKILL)
}

// Apply hands over a configuration. When it returns, the data path serves it.
func (c *Client) Apply(ctx context.Context, conf Config) (Status, error) {
	return c.call(ctx, request{Op: opApply, Config: &conf})
}

// Status asks what is served.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, request{Op: opStatus})
}

// Done is closed when the data path has ended, or another agent has replaced it. The agent
// then opens it again.
func (c *Client) Done() <-chan struct{} { return c.done }

// Stop ends the data path with all its connections, and waits for it.
func (c *Client) Stop(ctx context.Context) error {
	if _, err := c.call(ctx, request{Op: opStop}); err != nil && !errors.Is(err, errGone) {
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close closes the connection. The data path goes on.
func (c *Client) Close() {
	_ = c.conn.Close()
	<-c.done
}

// call makes one request. An answer without a status is zero.
func (c *Client) call(ctx context.Context, req request) (Status, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callAllow)
		defer cancel()
	}
	got := make(chan answer, 1)
	c.mu.Lock()
	c.last++
	req.ID = c.last
	c.pending[req.ID] = got
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pending, req.ID)
	}()
	if err := c.write(ctx, req); err != nil {
		select {
		case <-c.done:
			return Status{}, errGone
		default:
			return Status{}, err
		}
	}
	select {
	case a := <-got:
		return a.result()
	case <-c.done:
		select { // it may have answered before its end
		case a := <-got:
			return a.result()
		default:
			return Status{}, errGone
		}
	case <-ctx.Done():
		return Status{}, fmt.Errorf("data path: %w", ctx.Err())
	}
}

// result returns what an answer says.
func (a answer) result() (Status, error) {
	if a.Error != "" {
		return Status{}, errors.New("data path: " + a.Error)
	}
	if a.Status == nil {
		return Status{}, nil
	}
	return *a.Status, nil
}

// write writes a request. A request that is written in part makes the connection useless.
func (c *Client) write(ctx context.Context, req request) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	deadline, _ := ctx.Deadline()
	_ = c.conn.SetWriteDeadline(deadline)
	err := writeFrame(c.conn, req)
	if err != nil {
		_ = c.conn.Close()
	}
	return err
}

// read gives answers to who waits for them, until the connection ends.
func (c *Client) read() {
	defer close(c.done)
	defer c.conn.Close()
	for {
		var a answer
		if readFrame(c.conn, &a) != nil {
			return
		}
		c.mu.Lock()
		got := c.pending[a.ID]
		delete(c.pending, a.ID)
		c.mu.Unlock()
		if got != nil {
			got <- a
		}
	}
}
