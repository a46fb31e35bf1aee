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

// typical is the container that is created and read in all measurements
// without an engine.
const typical = `{"name":"web-1","image_id":"nginx:1.27","command":["nginx","-g","daemon off;"],` +
	`"environment":{"MODE":"production","REGION":"eu-1"},"labels":{"app":"web","tier":"front"},` +
	`"memory":268435456,"cpu":0.5,"restart_policy":"always"}`

// listed is how many containers the measured list has.
const listed = 100

// yardstick is the process of internal/bench/yardstick.
type yardstick struct {
	*rig.Process
	addr string
}

// startYardstick starts it with the bytes that a magnum server gives in answer
// to the same requests. addr is the server's host:port, bay the UUID of a bay
// without hosts.
func startYardstick(ctx context.Context, dir, addr, bay string) (*yardstick, error) {
	dir, err := os.MkdirTemp(dir, "yardstick-")
	if err != nil {
		return nil, err
	}
	if err := sample(ctx, dir, addr, bay); err != nil {
		return nil, err
	}
	y := new(yardstick)
	if y.addr, err = rig.FreeAddr(); err != nil {
		return nil, err
	}
	if y.Process, err = rig.Start(ctx, dir, "yardstick", *yardstickBinary, "-listen", y.addr, "-dir", dir); err != nil {
		return nil, err
	}
	err = rig.Until(30*time.Second, func() bool {
		_, err := get(ctx, "http://"+y.addr+"/one")
		return err == nil
	})
	if err != nil {
		y.Stop()
		return nil, fmt.Errorf("the yardstick does not answer: %s", y.Tail())
	}
	return y, nil
}

// sample creates the containers of the list on the server and writes down what
// the server answers, and the log entry that such a create comes to.
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

func one(addr, uuid string) string { return "http://" + addr + "/v1/containers/" + uuid }
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
		Meta: structs.Meta{ID: uuid, Seq: 1000, ProjectID: structs.DefaultProject, UserID: "default", CreatedAt: time.Now().UTC().Truncate(time.Second)},
		Name: *r.Name, Spec: structs.PrivateSpec{ContainerSpec: spec},
		Placement: structs.Placement{BayID: bay, Desired: structs.DesiredCreated, Generation: 1, PlaceReason: "waits for bay rig to get a host: it has none"},
	}
	return state.EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: 2, Prev: 1000, Changes: []structs.Change{
		{Table: structs.TableContainers, ID: uuid, Row: row, Assign: true},
	}})
}

// get fetches a URL once.
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

// readAll reads the answer, which has to be a success.
func readAll(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s: %s", resp.Status, b)
	}
	return b, err
}
