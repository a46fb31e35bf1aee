package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/structs"
)

// identity is who the agent is: a host, and the engine that makes it this host.
// A zero engine is one that was never seen, or of an agent from before engines
// were noted.
type identity struct {
	HostID string                 `json:"host_id"`
	Engine structs.EngineIdentity `json:"engine,omitzero"`
	Secret string                 `json:"secret,omitempty"` // of a successor only; else it has a file of its own
}

// encode returns the content of an identity's file: a line with its checksum.
func (i identity) encode() []byte {
	body, err := json.Marshal(i)
	if err != nil {
		panic(fmt.Sprintf("agent: an identity that is no JSON: %v", err)) // strings, numbers and times only
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(body), body)
}

// readRecord reads the file of an identity; ok is false if there is none, or if it
// is damaged.
func (d *dataDir) readRecord(name string) (i identity, ok bool) {
	content, err := os.ReadFile(d.file(name))
	if err != nil {
		return i, false
	}
	sum, body, _ := bytes.Cut(bytes.TrimSpace(content), []byte(" "))
	if string(sum) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)) || json.Unmarshal(body, &i) != nil || !structs.IsID(i.HostID) {
		return identity{}, false
	}
	return i, true
}

// damagedError says that the host's identity can't be read, or is not what it was.
type damagedError struct {
	file string
	was  string // the host's UUID, as its engine's record has it; "" if that isn't known
}

func (e *damagedError) Error() string {
	what := "it has to hold the host's UUID"
	if e.was != "" {
		what = "the record beside, " + fileEngine + ", is of host " + e.was
	}
	return fmt.Sprintf("%s is damaged: %s. Restore it, or, to join as a new host by a join token, remove the file", e.file, what)
}

// readIdentity reads the host's identity, or makes a new one. It is damaged if it
// is empty although the host has a secret, which is written first; or if it isn't
// the one that the engine was noted for.
func (d *dataDir) readIdentity(hadSecret bool) error {
	path := d.file(fileHost)
	b, err := os.ReadFile(path)
	id := strings.TrimSpace(string(b))
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && id == "" && !hadSecret:
		if err := os.Remove(d.file(fileEngine)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data dir: %w", err)
		}
		return d.writeHostID(structs.NewID())
	case err != nil:
		return fmt.Errorf("data dir: %w", err)
	}
	record, noted := d.readRecord(fileEngine)
	switch next, _ := d.readRecord(fileNext); {
	case noted && structs.IsID(id) && id != record.HostID && next.HostID == record.HostID:
		// The agent has died in the last step but one of succeed.
		if err := d.writeHostID(record.HostID); err != nil {
			return err
		}
	case !structs.IsID(id), noted && id != record.HostID:
		return structs.Errorf(structs.CodeInvalid, "%w", &damagedError{path, record.HostID})
	}
	d.hostID, d.engine = id, structs.EngineIdentity{}
	if noted {
		d.hostID, d.engine = record.HostID, record.Engine
	}
	return nil
}

// writeHostID writes the host's UUID, and takes it for its own.
func (d *dataDir) writeHostID(id string) error {
	if err := atomicfile.Replace(d.file(fileHost), []byte(id+"\n")); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	d.hostID = id
	return nil
}

// lostIdentity reports whether a data dir has a secret, and no host that it is of.
func lostIdentity(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, fileHost))
	return HasIdentity(dir) && (errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(b)) == 0)
}

// explainDamage completes the error about a damaged identity by what the labels on
// the engine tell. They prove nothing: whoever reads it decides.
func (a *Agent) explainDamage(ctx context.Context, cause error) error {
	var damaged *damagedError
	if !errors.As(cause, &damaged) {
		return cause
	}
	ctx, cancel := context.WithTimeout(ctx, firstLook)
	defer cancel()
	owners, err := a.conf.Backend.Owners(ctx)
	if err != nil || len(owners) == 0 {
		return cause
	}
	cluster := readCluster(filepath.Join(a.conf.DataDir, fileJournal))
	var hosts []string
	for _, o := range owners {
		if cluster == "" || o.ClusterID == cluster {
			hosts = append(hosts, o.HostID)
		}
	}
	if len(hosts) == 0 {
		return cause
	}
	return structs.Errorf(structs.CodeInvalid, "%w. The engine has containers of host %s: if that is this host, write its UUID into the file. "+
		"As a new host the agent is let in once those containers are removed, or that host is fenced: magnum host-fence HOST", damaged, strings.Join(hosts, " and of host "))
}

// readCluster returns the cluster that a journal follows, "" if that can't be read.
func readCluster(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	j := &journal{records: make(map[structs.Ref]record), kept: make(map[structs.Ref]kept)}
	_, _ = j.read(f)
	return j.seen.ClusterID
}

// keptPrefix and the old host's UUID name the directory that keeps what was there
// before an identity took the place of another one.
const keptPrefix = "host-"

// errOtherEngine says that the engine is not the one of the host.
var errOtherEngine = errors.New("another engine")

// meet holds the engine that answers against the one of the host. Another engine
// is another host: it gets an identity of its own, which takes effect with succeed.
// token says whether there is a join token, which that takes. errOtherEngine.
func (d *dataDir) meet(engine structs.EngineIdentity, token bool) error {
	differs := d.engine.Differs(engine)
	if differs == "" {
		return nil
	}
	if !token {
		return structs.Errorf(structs.CodeConflict, "%w than that of host %s, whose data directory this is: %s. "+
			"Start the agent with the engine of that host; or start it with a join token (-join-token-file FILE) to join as a new host: what host %s ran stays reserved until it is back or fenced (magnum host-fence %s)",
			errOtherEngine, d.hostID, differs, d.hostID, d.hostID)
	}
	if next, ok := d.readRecord(fileNext); ok && next.Secret != "" && next.Engine.Known() && next.Engine.Differs(engine) == "" {
		d.next = &next
		return nil
	}
	next := &identity{HostID: structs.NewID(), Engine: engine, Secret: structs.NewSecret()}
	if err := atomicfile.Replace(d.file(fileNext), next.encode()); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	d.next = next
	return nil
}

// as returns the host that the agent registers as, and its secret.
func (d *dataDir) as() (hostID, secret string) {
	if d.next != nil {
		return d.next.HostID, d.next.Secret
	}
	return d.hostID, d.secret
}

// registered is called when a server has let the host in with the engine: from now
// on that is its engine.
func (d *dataDir) registered(engine structs.EngineIdentity, j *journal) error {
	if d.next != nil {
		return d.succeed(j)
	}
	merged := d.engine.Merge(engine)
	if merged == d.engine {
		return nil
	}
	if err := atomicfile.Replace(d.file(fileEngine), identity{HostID: d.hostID, Engine: merged}.encode()); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	d.setEngine(merged)
	return nil
}

// ownEngine returns the engine of the host.
func (d *dataDir) ownEngine() structs.EngineIdentity {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.engine
}

func (d *dataDir) setEngine(engine structs.EngineIdentity) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.engine = engine
}

// succeed makes the next identity the data dir's own. The old one is kept in a
// directory beside, in case the data dir was moved by mistake. Each step may be
// repeated: the engine's record, and then host_id, are written last.
func (d *dataDir) succeed(j *journal) error {
	kept := d.file(keptPrefix + d.hostID)
	if err := os.MkdirAll(kept, 0o700); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	for _, name := range []string{fileHost, fileEngine, fileSecret, fileJournal} {
		b, err := os.ReadFile(d.file(name))
		if err == nil {
			if _, there := os.Stat(filepath.Join(kept, name)); errors.Is(there, fs.ErrNotExist) {
				err = atomicfile.Replace(filepath.Join(kept, name), b)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("data dir: %w", err)
		}
	}
	// What it says is of containers on the other engine.
	if err := j.reset(); err != nil {
		return err
	}
	if err := os.Remove(d.file(fileLease)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data dir: %w", err)
	}
	if err := atomicfile.Replace(d.file(fileSecret), []byte(d.next.Secret+"\n")); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	next := identity{HostID: d.next.HostID, Engine: d.next.Engine}
	if err := atomicfile.Replace(d.file(fileEngine), next.encode()); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	if err := d.writeHostID(next.HostID); err != nil {
		return err
	}
	d.secret, d.next = d.next.Secret, nil
	d.setEngine(next.Engine)
	_ = os.Remove(d.file(fileNext)) // it is of no use any more, and does no harm
	return nil
}

// meetEngine waits for the engine, and holds it against the host's own.
func (a *Agent) meetEngine(ctx context.Context, dir *dataDir) error {
	retry := backoff{min: 100 * time.Millisecond, max: a.conf.Backoff}
	for {
		f, err := a.conf.Backend.Fingerprint(ctx)
		if err == nil {
			if err = dir.meet(f.Engine, a.conf.JoinToken != ""); err == nil && dir.next != nil {
				a.conf.Logger.Warn("the engine is not the one of the host whose data directory this is: joining as a new host. What the old one ran stays reserved until it is back or fenced; its files are kept beside",
					"host_id", dir.next.HostID, "old_host_id", dir.hostID, "reason", dir.engine.Differs(f.Engine))
			}
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.conf.Logger.Warn("the engine can't be asked who it is; waiting for it", "error", err)
		if err := retry.wait(ctx, 0); err != nil {
			return err
		}
	}
}

// owners returns whose containers the engine has, as far as servers want to know.
func (l *link) owners(ctx context.Context) ([]structs.LabelOwner, error) {
	all, err := l.conf.Backend.Owners(ctx)
	if err != nil {
		return nil, err
	}
	var found []structs.LabelOwner
	for _, o := range all {
		if structs.IsID(o.ClusterID) && structs.IsID(o.HostID) && len(found) < structs.MaxLabelOwners {
			found = append(found, structs.LabelOwner{ClusterID: o.ClusterID, HostID: o.HostID})
		}
	}
	return found, nil
}

// sameHost reports an engine that is not the one of the host that the agent
// registers as. errOtherEngine.
func (l *link) sameHost(engine structs.EngineIdentity) error {
	hostID, own := l.dir.hostID, l.dir.ownEngine()
	if l.dir.next != nil {
		hostID, own = l.dir.next.HostID, l.dir.next.Engine
	}
	if differs := own.Differs(engine); differs != "" {
		return structs.Errorf(structs.CodeConflict, "%w answers now than that of host %s: %s. What the host ran may go on running there, and nothing is said of it. "+
			"Start the agent with the engine of the host; or with a join token (-join-token-file FILE), to join as a new host", errOtherEngine, hostID, differs)
	}
	return nil
}

// sameEngine fails unless the engine that answers now is the host's. If it is
// another one, the agent ends: what that doesn't have was not removed.
func (l *link) sameEngine(ctx context.Context) error {
	f, err := l.describe(ctx)
	if err != nil {
		return err
	}
	if err := l.sameHost(f.Engine); err != nil {
		return l.end(ctx, err)
	}
	return nil
}

// end ends the agent with an error. It returns when that has begun.
func (l *link) end(ctx context.Context, err error) error {
	select {
	case l.fatal <- err:
	default: // another one was faster
	}
	<-ctx.Done()
	return ctx.Err()
}

// failure returns what has ended the agent, nil if it was ctx.
func (l *link) failure(ctx context.Context) error {
	select {
	case err := <-l.fatal:
		return err
	case <-ctx.Done():
		return nil
	}
}
