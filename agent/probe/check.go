package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/internal/pause"
	"github.com/stackforge/magnum/structs"
)

// Exec runs a command in the container until it ends, and returns its exit code and the
// first bytes of its output; Output gathers them. It returns promptly once ctx has ended.
type Exec func(ctx context.Context, argv []string) (exitCode int, output string, err error)

// Target is a container that is checked.
type Target struct {
	Address string // the pod's IP address; "" if it has none
	Exec    Exec
}

// result is the outcome of one check.
type result struct {
	ok      bool
	message string // why not, in one line of at most maxMessage bytes; "" if ok
	// failed: the check could not be carried out, which says nothing about the container.
	failed error
}

// check runs a probe's handler once, for at most timeout.
func (t Target) check(ctx context.Context, h *structs.Handler, timeout time.Duration) result {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var message string
	var err error
	switch {
	case len(h.Exec) > 0:
		message, err = t.exec(ctx, h.Exec)
	case h.HTTP != nil:
		message = t.get(ctx, h.HTTP)
	case h.TCP != nil:
		message = t.connect(ctx, h.TCP)
	default:
		err = errors.New("the probe has no action")
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && (message != "" || err != nil):
		return result{message: fmt.Sprintf("no answer within %v", timeout)}
	case err != nil:
		return result{failed: err}
	case message != "":
		return result{message: oneLine(message)}
	}
	return result{ok: true}
}

// Hook runs a hook once, until it has ended or ctx has. Unlike a probe's, an HTTP request
// succeeds with any status, as in Kubernetes. The error says why the hook has failed, in
// one line.
func (t Target) Hook(ctx context.Context, h *structs.Handler) error {
	var message string
	var err error
	switch {
	case len(h.Exec) > 0:
		message, err = t.exec(ctx, h.Exec)
	case h.HTTP != nil:
		if _, failed := t.status(ctx, h.HTTP); failed != nil {
			message = describe(h.HTTP.Port, failed)
		}
	case h.TCP == nil: // no seconds are a sleep, too
		err = pause.For(ctx, time.Duration(h.Sleep)*time.Second)
	default:
		err = errors.New("a hook can't be a connection")
	}
	switch {
	case ctx.Err() != nil && (message != "" || err != nil):
		return fmt.Errorf("it has not ended in time: %w", ctx.Err())
	case err != nil:
		return err
	case message != "":
		return errors.New(oneLine(message))
	}
	return nil
}

// exec runs a command in the container. message says why the command has failed, err why
// nothing is known about it.
func (t Target) exec(ctx context.Context, argv []string) (message string, err error) {
	code, output, err := t.Exec(ctx, argv)
	switch {
	case errors.Is(err, backend.ErrInvalid): // such as a command that the image doesn't have
		return fmt.Sprintf("%q can't run: %v", argv[0], err), nil
	case err != nil:
		return "", err
	case code == 0:
		return "", nil
	case strings.TrimSpace(output) == "":
		return fmt.Sprintf("exit code %d", code), nil
	}
	return fmt.Sprintf("exit code %d: %s", code, output), nil
}

// connect opens a connection and closes it. It returns why that is impossible.
func (t Target) connect(ctx context.Context, s *structs.TCPSocket) (message string) {
	if !t.isPod(s.Host) {
		return t.foreign(s.Host)
	}
	conn, err := t.dial(ctx, "tcp", net.JoinHostPort(t.Address, strconv.Itoa(s.Port)))
	if err != nil {
		return describe(s.Port, err)
	}
	_ = conn.Close()
	return ""
}

// dial connects to a port of the pod. It refuses any other address.
func (t Target) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if host == "" || !t.isPod(host) {
		return nil, errors.New(t.foreign(host))
	}
	d := net.Dialer{KeepAlive: -1}
	return d.DialContext(ctx, network, address)
}

// isPod reports whether a manifest's host is the pod: "" or its address. It is false as
// long as the pod has no address, because connections to "" lead to the agent's machine.
func (t Target) isPod(host string) bool {
	pod, err := netip.ParseAddr(t.Address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.Unmap() == pod.Unmap()
}

// foreign is the message for a host that isn't the pod.
func (t Target) foreign(host string) string {
	if t.Address == "" {
		return "the pod has no address yet"
	}
	return fmt.Sprintf("host %q is not the pod, whose address is %s: leave host out", host, t.Address)
}

// describe says why there is no connection or answer, without the addresses that a
// net.OpError repeats.
func describe(port int, err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fmt.Sprintf("port %d: %v", port, errno)
	}
	return fmt.Sprintf("port %d: %v", port, innermost(err))
}

// innermost returns the last cause of an error.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

// MaxOutput is how much of a command's output and of a response's body is read, in bytes.
const MaxOutput = 10 << 10

// maxMessage bounds the message of a result, in bytes.
const maxMessage = 512

// oneLine makes a message of text from a container: one line of printable characters.
func oneLine(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage]
	}
	words := strings.FieldsFunc(strings.ToValidUTF8(text, ""), func(r rune) bool {
		return !strconv.IsGraphic(r) || r == ' '
	})
	return strings.Join(slices.DeleteFunc(words, func(w string) bool { return w == "" }), " ")
}
