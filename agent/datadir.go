package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/structs"
)

// The files of a data directory.
const (
	fileLock    = "agent.lock"    // locked while the agent runs
	fileHost    = "host_id"       // the host's UUID
	fileEngine  = "agent.engine"  // the host's UUID and its engine, with a checksum: see hostRecord
	fileNext    = "host_id.next"  // the record of a new host, with its secret, until a server has accepted it
	fileSecret  = "agent.secret"  // proves that the host is the one that registered
	fileJournal = "agent.journal" // see journal
	fileKnown   = "known-servers" // where servers gossip
	fileLease   = "agent.lease"   // see lease.File
	fileImages  = "images.json"   // see backend.Tenants
	fileVolumes = "agent.volumes" // exists once the volumes of earlier agents are claimed: see claimVolumes
)

// The lock of a killed agent lasts until the kernel has freed the process's memory. The
// next agent waits up to lockWait for it.
const (
	lockWait  = 3 * time.Second
	lockPause = 20 * time.Millisecond
)

// HasSecret reports whether a data directory has the secret of a host. Such an agent
// needs no join token to register again. If the host has never registered, the server
// refuses it.
func HasSecret(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, fileSecret))
	return err == nil
}

// dataDir is the agent's directory. One agent at a time holds its lock.
type dataDir struct {
	path   string
	lock   *os.File
	hostID string
	secret string
	next   *hostRecord // the host that replaces this one once a server has accepted it; nil for none

	mu     sync.Mutex
	engine structs.EngineIdentity // of the host; zero if unknown
}

// openDir makes the directory if necessary, locks it, and reads it. CodeConflict if
// another agent uses it.
func openDir(path string) (*dataDir, error) {
	d, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	if err := d.read(); err != nil {
		_ = d.close()
		return nil, err
	}
	return d, nil
}

// lockDir makes the directory if necessary, and locks it. CodeConflict if another agent
// uses it.
func lockDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data dir: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, fileLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data dir: %w", err)
	}
	d := &dataDir{path: path, lock: lock}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockPause) {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(deadline) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = structs.Errorf(structs.CodeConflict,
			"another agent%s uses the data dir %s; stop it, or give this one its own with -data-dir", d.holder(), d.path)
	case err != nil:
		err = fmt.Errorf("locking %s: %w", lock.Name(), err)
	default:
		d.sign()
		return d, nil
	}
	_ = d.close()
	return nil, err
}

// read reads the host's UUID and secret.
func (d *dataDir) read() error {
	hadSecret := HasSecret(d.path)
	var err error
	// The secret comes first: a UUID without a secret could never register again.
	if d.secret, err = d.readOrMake(fileSecret, structs.NewSecret); err != nil {
		return err
	}
	return d.readHostID(hadSecret)
}

// sign writes the process ID into the lock, for the error of another agent. A failure
// is ignored: a full disk is no reason not to start.
func (d *dataDir) sign() {
	if d.lock.Truncate(0) == nil {
		_, _ = d.lock.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
	}
}

// holder names the process that holds the lock, "" if it can't be read.
func (d *dataDir) holder() string {
	b, err := os.ReadFile(d.lock.Name())
	pid, bad := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || bad != nil || pid <= 0 {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

// readOrMake reads a file of one line. It makes the file if it is missing or empty.
func (d *dataDir) readOrMake(name string, mint func() string) (string, error) {
	b, err := os.ReadFile(d.file(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("data dir: %w", err)
	}
	if text := strings.TrimSpace(string(b)); text != "" {
		return text, nil
	}
	text := mint()
	if err := atomicfile.Replace(d.file(name), []byte(text+"\n")); err != nil {
		return "", fmt.Errorf("data dir: %w", err)
	}
	return text, nil
}

// close releases the directory.
func (d *dataDir) close() error { return d.lock.Close() }
