//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// screen is a program on a terminal, and what it has shown.
type screen struct {
	cli  *commandLine
	user *os.File // the side of the terminal emulator
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended

	mu   sync.Mutex
	text bytes.Buffer
}

// atTerminal runs the CLI on a terminal of its own.
func (l *commandLine) atTerminal(width, height uint16, args ...string) *screen {
	l.Helper()
	path := program(l)
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		l.Fatalf("a pseudo-terminal: %v", err)
	}
	l.Cleanup(func() { user.Close() })
	s := &screen{cli: l, user: user, done: make(chan struct{})}
	if err := unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		l.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err != nil {
		l.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		l.Fatal(err)
	}
	defer tty.Close()
	s.resize(width, height)
	s.cmd = exec.Command(path, args...)
	s.cmd.Env = append(os.Environ(), "MAGNUM_ADDR="+l.addr)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = tty, tty, tty
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		l.Fatal(err)
	}
	go func() {
		s.cmd.Wait()
		close(s.done)
	}()
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := user.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// resize changes the terminal's size. The kernel signals the program.
func (s *screen) resize(width, height uint16) {
	s.cli.Helper()
	if err := unix.IoctlSetWinsize(int(s.user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		s.cli.Fatal(err)
	}
}

func (s *screen) types(keys string) {
	s.cli.Helper()
	if _, err := s.user.WriteString(keys); err != nil {
		s.cli.Fatal(err)
	}
}

func (s *screen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) shows(words string) {
	s.cli.Helper()
	s.cli.eventually("the terminal shows "+words, patience, func() error {
		if text := s.shown(); !strings.Contains(text, words) {
			return fmt.Errorf("it shows %q", text)
		}
		return nil
	})
}

// ends expects the program to end with a code.
func (s *screen) ends(code int) {
	s.cli.Helper()
	select {
	case <-s.done:
		if got := s.cmd.ProcessState.ExitCode(); got != code {
			s.cli.Errorf("exit code %d, want %d; the terminal shows %q", got, code, s.shown())
		}
	case <-time.After(patience):
		s.cmd.Process.Kill()
		s.cli.Fatalf("the program does not end; the terminal shows %q", s.shown())
	}
}

func (l *commandLine) terminal() {
	l.runSleeper("inner")
	s := l.atTerminal(91, 31, "container-execute", "-it", "inner", "sh")
	s.types("stty size; tty\r")
	s.shows("31 91\r\n/dev/pts/")
	s.resize(123, 45)
	s.types("sleep 0.2; stty size\r")
	s.shows("45 123\r\n")
	// Ctrl-C goes to the command in the container, and does not end the CLI.
	s.types("sh -c 'echo begins; sleep 1000'\r") // a child process always ends by Ctrl-C
	s.shows("begins\r\n")
	s.types("\x03")
	s.types("echo still $((40 + 2)) here\r")
	s.shows("still 42 here\r\n")
	s.types("exit 9\r")
	s.ends(9)

	// Without -t both streams of the container are shown, and Ctrl-C stops the
	// container.
	s = l.atTerminal(80, 24, "container-run", "--rm", image, "sh", "-c",
		`trap "echo bye; exit 7" TERM; echo out; sleep 0.3; echo err >&2; while :; do sleep 1 & wait $!; done`)
	s.shows("out\r\nerr\r\n")
	s.types("\x03")
	s.shows("bye")
	s.ends(7)
	if strings.Count(s.shown(), "\nerr\r\n") != 1 {
		l.Errorf("the terminal shows %q", s.shown())
	}
}

// interruptedRun interrupts a run that waits for room. With --rm the container
// is deleted; without it, the CLI says that it goes on.
func (l *commandLine) interruptedRun() {
	for _, flags := range [][]string{{"--rm"}, nil} {
		args := append([]string{"container-run", "--name", "waits", "-m", "10000g"}, flags...)
		s := l.atTerminal(200, 24, append(args, image)...)
		s.shows("waits: Creating: ")
		s.types("\x03")
		s.ends(130)
		left := len(strings.Fields(l.says([]string{"container-list", "-q"})))
		if told := strings.Contains(s.shown(), "goes on without you"); left != 1-len(flags) || told != (left == 1) {
			l.Errorf("flags %v: %d containers are left, and the terminal shows %q", flags, left, s.shown())
		}
	}
	l.says([]string{"container-delete", "waits"})
}
