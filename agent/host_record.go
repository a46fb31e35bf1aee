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

// hostRecord names the host of a data directory and its engine. Engine is zero if the
// engine is unknown, as in records of agents that did not note engines.
type hostRecord struct {
	HostID string                 `json:"host_id"`
	Engine structs.EngineIdentity `json:"engine,omitzero"`
	Secret string                 `json:"secret,omitempty"` // only in host_id.next; the current host's secret has its own file
}

// encode returns the content of a record's file: one line with its checksum.
func (i hostRecord) encode() []byte {
	body, err := json.Marshal(i)
	if err != nil {
		panic(fmt.Sprintf("agent: a host record that is no JSON: %v", err)) // the fields are strings, numbers and times only
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.ChecksumIEEE(body), body)
}

// readHostRecord reads the file of a record; ok is false if the file is missing or
// damaged.
func (d *dataDir) readHostRecord(name string) (i hostRecord, ok bool) {
	content, err := os.ReadFile(d.file(name))
	if err != nil {
		return i, false
	}
	sum, body, _ := bytes.Cut(bytes.TrimSpace(content), []byte(" "))
	if string(sum) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)) || json.Unmarshal(body, &i) != nil || !structs.IsID(i.HostID) {
		return hostRecord{}, false
	}
	return i, true
}

// damagedError says that host_id can't be read, or contradicts the engine's record.
type damagedError struct {
	file string
	was  string // the host's UUID in the engine's record; "" if unknown
}

func (e *damagedError) Error() string {
	what := "it has to hold the host's UUID"
	if e.was != "" {
		what = "the record beside, " + fileEngine + ", is of host " + e.was
	}
	return fmt.Sprintf("%s is damaged: %s. Restore it, or, to join as a new host by a join token, remove the file", e.file, what)
}

// readHostID reads the host's UUID, or makes a new one. host_id is damaged if it is
// empty although the host has a secret, which is written first, or if it contradicts
// the engine's record.
func (d *dataDir) readHostID(hadSecret bool) error {
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
	record, noted := d.readHostRecord(fileEngine)
	switch next, _ := d.readHostRecord(fileNext); {
	case noted && structs.IsID(id) && id != record.HostID && next.HostID == record.HostID:
		// The agent has died in replaceHost, before its last step.
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

// writeHostID writes the host's UUID and takes it over.
func (d *dataDir) writeHostID(id string) error {
	if err := atomicfile.Replace(d.file(fileHost), []byte(id+"\n")); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	d.hostID = id
	return nil
}

// lostHostID reports whether a data directory has a secret but no host UUID.
func lostHostID(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, fileHost))
	return HasSecret(dir) && (errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(b)) == 0)
}

// explainDamage adds to the error about a damaged host_id what the engine's labels
// tell. Labels prove nothing: the operator decides.
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
	return structs.Errorf(structs.CodeInvalid,
		"%w. The engine has containers of host %s: if that is this host, write its UUID into the file. "+
			"As a new host the agent is let in once those containers are removed, or that host is fenced: magnum host-fence "+
			"HOST", damaged, strings.Join(hosts, " and of host "))
}

// readCluster returns the ID of the cluster that a journal follows, "" if it can't be
// read.
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

// keptPrefix and the old host's UUID name the directory that keeps the files of a
// replaced host.
const keptPrefix = "host-"

// errOtherEngine says that the engine is not the host's.
var errOtherEngine = errors.New("another engine")

// checkEngine compares the engine that answers with the host's. Another engine means
// another host: it gets a record of its own, which replaceHost puts into effect. That
// takes a join token; token says whether there is one. errOtherEngine.
func (d *dataDir) checkEngine(engine structs.EngineIdentity, token bool) error {
	differs := d.engine.Differs(engine)
	if differs == "" {
		return nil
	}
	if !token {
		return structs.Errorf(structs.CodeConflict, "%w than that of host %s, whose data directory this is: %s. "+
			"Start the agent with the engine of that host; or start it with a join token (-join-token-file FILE) to join as a new host: "+
			"what host %s ran stays reserved until it is back or fenced (magnum host-fence %s)",
			errOtherEngine, d.hostID, differs, d.hostID, d.hostID)
	}
	if next, ok := d.readHostRecord(fileNext); ok && next.Secret != "" && next.Engine.Known() && next.Engine.Differs(engine) == "" {
		d.next = &next
		return nil
	}
	next := &hostRecord{HostID: structs.NewID(), Engine: engine, Secret: structs.NewSecret()}
	if err := atomicfile.Replace(d.file(fileNext), next.encode()); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	d.next = next
	return nil
}

// registersAs returns the host that the agent registers as, and its secret.
func (d *dataDir) registersAs() (hostID, secret string) {
	if d.next != nil {
		return d.next.HostID, d.next.Secret
	}
	return d.hostID, d.secret
}

// registered is called when a server has accepted the host with the engine. From now on
// that is the host's engine.
func (d *dataDir) registered(engine structs.EngineIdentity, j *journal) error {
	if d.next != nil {
		return d.replaceHost(j)
	}
	merged := d.engine.Merge(engine)
	if merged == d.engine {
		return nil
	}
	if err := atomicfile.Replace(d.file(fileEngine), hostRecord{HostID: d.hostID, Engine: merged}.encode()); err != nil {
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

// replaceHost makes the next record the data directory's own. The old files are kept in
// a directory beside, in case the data directory was moved by mistake. Each step may be
// repeated: agent.engine and then host_id are written last.
func (d *dataDir) replaceHost(j *journal) error {
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
	// The journal is about containers on the other engine.
	if err := j.reset(); err != nil {
		return err
	}
	if err := os.Remove(d.file(fileLease)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("data dir: %w", err)
	}
	if err := atomicfile.Replace(d.file(fileSecret), []byte(d.next.Secret+"\n")); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	next := hostRecord{HostID: d.next.HostID, Engine: d.next.Engine}
	if err := atomicfile.Replace(d.file(fileEngine), next.encode()); err != nil {
		return fmt.Errorf("data dir: %w", err)
	}
	if err := d.writeHostID(next.HostID); err != nil {
		return err
	}
	d.secret, d.next = d.next.Secret, nil
	d.setEngine(next.Engine)
	_ = os.Remove(d.file(fileNext)) // a leftover does no harm
	return nil
}

// awaitEngine waits for the engine, and checks that it is the host's.
func (a *Agent) awaitEngine(ctx context.Context, dir *dataDir) error {
	retry := backoff{min: 100 * time.Millisecond, max: a.conf.Backoff}
	for {
		f, err := a.conf.Backend.Fingerprint(ctx)
		if err == nil {
			if err = dir.checkEngine(f.Engine, a.conf.JoinToken != ""); err == nil && dir.next != nil {
				a.conf.Logger.Warn("the engine is not the one of the host whose data directory this is: joining as a new host. What the "+
					"old one ran stays reserved until it is back or fenced; its files are kept beside",
					"host_id", dir.next.HostID, "old_host_id", dir.hostID, "reason", dir.engine.Differs(f.Engine))
			}
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.conf.Logger.Warn("the engine does not answer; waiting for it", "error", err)
		if err := retry.wait(ctx, 0); err != nil {
			return err
		}
	}
}

// owners returns the owners of the engine's containers, as far as servers ask.
func (l *link) owners(ctx context.Context) ([]structs.LabelOwner, error) {
	if l.conf.Backend == nil {
		return nil, nil // what a cluster has is told from others by its namespaces and names
	}
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

// sameHost fails if the engine is not that of the host that the agent registers as.
// errOtherEngine.
func (l *link) sameHost(engine structs.EngineIdentity) error {
	hostID, own := l.dir.hostID, l.dir.ownEngine()
	if l.dir.next != nil {
		hostID, own = l.dir.next.HostID, l.dir.next.Engine
	}
	if differs := own.Differs(engine); differs != "" {
		return structs.Errorf(structs.CodeConflict,
			"%w answers now than that of host %s: %s. The host's containers may go on running there, and are not reported. "+
				"Start the agent with the engine of the host; or with a join token (-join-token-file FILE), to join as a new "+
				"host", errOtherEngine, hostID, differs)
	}
	return nil
}

// sameEngine fails unless the engine that answers now is the host's. Another engine
// ends the agent: what another engine doesn't have was not removed.
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

// end ends the agent with an error. It returns once the agent's context has ended.
func (l *link) end(ctx context.Context, err error) error {
	select {
	case l.fatal <- err:
	default: // the agent ends with an earlier error
	}
	<-ctx.Done()
	return ctx.Err()
}

// failure returns the error that has ended the agent, nil if ctx did.
func (l *link) failure(ctx context.Context) error {
	select {
	case err := <-l.fatal:
		return err
	case <-ctx.Done():
		return nil
	}
}
