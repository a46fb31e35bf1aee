package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/stackforge/magnum/internal/bench/rig"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// typical is the container that the measurements without an engine create and read.
const typical = `{"name":"web-1","image_id":"nginx:1.27","command":["nginx","-g","daemon off;"],` +
	`"environment":{"MODE":"production","REGION":"eu-1"},"labels":{"app":"web","tier":"front"},` +
	`"memory":268435456,"cpu":0.5,"restart_policy":"always"}`

// listed is the number of containers in the measured list.
const listed = 100

// baseline is a process of internal/bench/baseline.
type baseline struct {
	*rig.Process
	addr string
}

// startBaseline starts the baseline with the answers of a magnum server to the same
// requests. addr is the server's host:port, bay the UUID of a bay without hosts.
func startBaseline(ctx context.Context, dir, addr, bay string) (*baseline, error) {
	dir, err := os.MkdirTemp(dir, "baseline-")
	if err != nil {
		return nil, err
	}
	if err := sample(ctx, dir, addr, bay); err != nil {
		return nil, err
	}
	p := new(baseline)
	if p.addr, err = rig.FreeAddr(); err != nil {
		return nil, err
	}
	if p.Process, err = rig.Start(ctx, dir, "baseline", *baselineBinary, "-listen", p.addr, "-dir", dir); err != nil {
		return nil, err
	}
	err = rig.Until(30*time.Second, func() bool {
		_, err := get(ctx, "http://"+p.addr+"/one")
		return err == nil
	})
	if err != nil {
		p.Stop()
		return nil, fmt.Errorf("the baseline does not answer: %s", p.Tail())
	}
	return p, nil
}

// sample creates the containers of the list on the server. It saves the server's answers
// and the log entry of such a create to dir.
func sample(ctx context.Context, dir, addr, bay string) error {
	var uuid string
	for range listed {
		resp, err := http.Post("http://"+addr+"/v1/containers", "application/json", strings.NewReader(typical))
		if err != nil {
			return err
		}
		created, err := readAll(resp)
		if err != nil {
			return err
		}
		var body structs.ContainerBody
		if err := json.Unmarshal(created, &body); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "created"), created, 0o600); err != nil {
			return err
		}
		uuid = body.UUID
	}
	for name, url := range map[string]string{"one": one(addr, uuid), "list": list(addr)} {
		b, err := get(ctx, url)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	entry, err := entryOf(bay, uuid)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "entry"), entry, 0o600)
}

// one returns the URL of a container.
func one(addr, uuid string) string { return "http://" + addr + "/v1/containers/" + uuid }

// list returns the URL of the measured list.
func list(addr string) string {
	return fmt.Sprintf("http://%s/v1/containers?limit=%d", addr, listed)
}

// entryOf returns the log entry that the conductor makes of a typical create.
func entryOf(bay, uuid string) ([]byte, error) {
	var r structs.ContainerRequest
	if err := json.Unmarshal([]byte(typical), &r); err != nil {
		return nil, err
	}
	spec, err := r.Spec()
	if err != nil {
		return nil, err
	}
	row := &structs.Container{
		Meta: structs.Meta{
			ID: uuid, Seq: 1000, ProjectID: structs.DefaultProject, UserID: "default", CreatedAt: time.Now().UTC().Truncate(time.Second),
		},
		Name: *r.Name, Spec: structs.PrivateSpec{ContainerSpec: spec},
		Placement: structs.Placement{
			BayID: bay, Desired: structs.DesiredCreated, Generation: 1,
			PlaceReason: "waits for bay rig to get a host: it has none",
		},
	}
	return state.EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: 2, Prev: 1000, Changes: []structs.Change{
		{Table: structs.TableContainers, ID: uuid, Row: row, Assign: true},
	}})
}

// get returns the body at a URL.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	return readAll(resp)
}

// readAll returns the body of an answer; another status than 2xx is an error.
func readAll(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, err
}
