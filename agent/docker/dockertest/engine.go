package dockertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/docker/docker/client"
)

// Engine is a Docker engine of a test's own, which it may restart. It needs root.
type Engine struct {
	Host string // unix://PATH
	dir  string
	cmd  *exec.Cmd
}

// enginePatience is how long an engine may take to start or to end.
const enginePatience = time.Minute

// ErrNoEngine is returned by StartEngine on a machine that can't run one.
var ErrNoEngine = errors.New("this machine can't run a Docker engine of the test's own")

// StartEngine starts an engine with its data in dir, without a default network. It has
// Image. ErrNoEngine.
func StartEngine(dir string) (*Engine, error) {
	if _, err := exec.LookPath("dockerd"); err != nil || os.Getuid() != 0 {
		return nil, ErrNoEngine
	}
	e := &Engine{Host: "unix://" + filepath.Join(dir, "docker.sock"), dir: dir}
	if err := e.start(); err != nil {
		return nil, err
	}
	if err := e.copyImage(); err != nil {
		return nil, errors.Join(err, e.Stop())
	}
	return e, nil
}

func (e *Engine) start() error {
	in := func(name string) string { return filepath.Join(e.dir, name) }
	log, err := os.OpenFile(in("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	e.cmd = exec.Command("dockerd", "--host", e.Host, "--data-root", in("data"), "--exec-root", in("exec"), "--pidfile", in("pid"),
		"--bridge", "none", "--iptables=false", "--ip-masq=false")
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the test ends it by Stop
	if err := e.cmd.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(enginePatience); ; time.Sleep(50 * time.Millisecond) {
		cli, err := Open(e.Host)
		if err == nil {
			return cli.Close()
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(in("log"))
			return errors.Join(fmt.Errorf("the engine of the test does not answer: %w\n%s", err, text), e.Stop())
		}
	}
}

// copyImage copies Image from the machine's engine.
func (e *Engine) copyImage() error {
	from, err := Open("")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := Open(e.Host)
	if err != nil {
		return err
	}
	defer to.Close()
	ctx, cancel := context.WithTimeout(context.Background(), enginePatience)
	defer cancel()
	saved, err := from.ImageSave(ctx, []string{Image})
	if err != nil {
		return err
	}
	defer saved.Close()
	resp, err := to.ImageLoad(ctx, saved, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// Stop ends the engine, and its containers with it.
func (e *Engine) Stop() error {
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.AfterFunc(enginePatience, func() { _ = e.cmd.Process.Kill() })
	defer timer.Stop()
	return e.cmd.Wait()
}

// Restart ends the engine and starts it again.
func (e *Engine) Restart() error {
	if err := e.Stop(); err != nil {
		return err
	}
	return e.start()
}
