package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// clusterHost registers a host that is a Kubernetes cluster.
func (d *Dispatch) clusterHost(t *testing.T) string {
	t.Helper()
	if _, err := conductor.Do(t.Context(), d.config.Conductor, conductor.RaiseSchema{Schema: structs.SchemaKubernetes}); err != nil {
		t.Fatal(err)
	}
	r := registration(structs.NewID())
	r.Fingerprint.Backend, r.Fingerprint.Cluster = structs.BackendKubernetes, &structs.KubernetesCluster{Ready: 1}
	r.Fingerprint.Engine = structs.EngineIdentity{ID: structs.NewID()}
	r.Fingerprint.Kinds = []structs.WorkloadKind{structs.WorkloadPod, structs.WorkloadObject}
	if _, err := d.Register(context.Background(), r); err != nil {
		t.Fatal(err)
	}
	return r.HostID
}

// objects writes n services of a cluster with manifests of a size.
func (d *Dispatch) objects(t *testing.T, host string, n, size int) {
	t.Helper()
	var rows []structs.Row
	for i := range n {
		id := structs.NewID()
		meta := structs.Meta{ID: "service/" + id, Seq: uint64(1000 + i), ProjectID: "p"}
		rows = append(rows, &structs.Object{Meta: meta, Kind: structs.KindService, OwnerID: id, Name: fmt.Sprint("s", i),
			Placement: structs.Placement{HostID: host, Epoch: 1, Generation: 1, Desired: structs.DesiredRunning}},
			&structs.Manifest{Meta: meta, Text: strings.Repeat("x", size)})
	}
	d.write(t, false, rows...)
}

// TestLongAnswersComeInPages: an answer has bounds, in assignments and in bytes, and all pages
// together have each workload once, also if workloads change between two pages.
func TestLongAnswersComeInPages(t *testing.T) {
	for name, tt := range map[string]struct{ objects, size, pages, most int }{
		"short": {10, 100, 1, 10},
		"many":  {2*pageSize + 1, 10, 3, pageSize},
		"large": {20, pageBytes / 8, 3, 8},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDispatch(t)
			host := d.clusterHost(t)
			before := d.config.Store.Index()
			d.objects(t, host, tt.objects, tt.size)
			for _, index := range []uint64{0, before} { // full, and what has changed
				seen, pages := map[string]int{}, 0
				p := Poll{HostID: host, Registration: 1, Index: index, Pages: true, Wait: time.Millisecond}
				for {
					work := d.poll(t, p)
					pages++
					if len(work.Assignments) > tt.most || work.Full != (index == 0) || work.Full != work.Confirmed {
						t.Fatalf("page %d has %d assignments, full %t, confirmed %t", pages, len(work.Assignments), work.Full,
							work.Confirmed)
					}
					for _, a := range work.Assignments {
						seen[a.ID]++
						if len(a.Object.Manifest) != tt.size {
							t.Fatalf("the manifest of %s has %d bytes", a.ID, len(a.Object.Manifest))
						}
					}
					if work.More == "" {
						break
					}
					if p.After = work.More; pages > 10 {
						t.Fatal("the pages have no end")
					}
					// One that was read, and one that was not, get a new place in the order of changes.
					for _, i := range []int{0, len(work.Assignments) - 1} {
						o := *d.config.Store.Snapshot().Get(structs.TableObjects, work.Assignments[i].ID).(*structs.Object)
						o.Generation++
						d.write(t, false, &o)
					}
				}
				if pages != tt.pages || len(seen) != tt.objects {
					t.Errorf("%d pages with %d workloads, want %d with %d", pages, len(seen), tt.pages, tt.objects)
				}
				for id, n := range seen {
					if n != 1 {
						t.Errorf("%s was listed %d times", id, n)
					}
				}
			}
			if work := d.poll(t, Poll{HostID: host, Registration: 1}); len(work.Assignments) != tt.objects || work.More != "" {
				t.Errorf("an agent that asks for no pages gets %d assignments, more: %q", len(work.Assignments), work.More)
			}
		})
	}
}

// inProcess is a transport that calls a handler.
type inProcess func(http.ResponseWriter, *http.Request)

func (f inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	f(w, r)
	return w.Result(), nil
}

// TestAgentReadsAllPages: the client puts pages together, and takes none of another history.
// The clock stands while a page is made, so that a busy machine may take its time.
func TestAgentReadsAllPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDispatch(t)
		host := d.clusterHost(t)
		d.objects(t, host, 2*pageSize+1, 10)
		var asked []string
		change := func(page int, w *structs.Work) {}
		answers := inProcess(func(w http.ResponseWriter, r *http.Request) {
			index, _ := strconv.ParseUint(r.FormValue("index"), 10, 64)
			seen, _ := strconv.ParseUint(r.FormValue("seen"), 10, 64)
			asked = append(asked, r.FormValue("after"))
			work, err := d.Work(r.Context(), Poll{HostID: host, Registration: 1, Index: index, Pages: r.FormValue("pages") == "true",
				After: r.FormValue("after"), Lineage: r.FormValue("lineage"), Seen: seen})
			if err != nil {
				t.Error(err)
				return
			}
			change(len(asked), work)
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(work)
		})
		read := func() (*structs.Work, error) {
			asked = nil
			a, err := api.NewAgent(api.AgentConfig{Servers: []string{"server"}, HTTPClient: &http.Client{Transport: answers}})
			if err != nil {
				t.Fatal(err)
			}
			w, _, err := a.Work(t.Context(), api.WorkRequest{Wait: time.Second})
			return w, err
		}
		index := d.config.Store.Index()
		change = func(page int, _ *structs.Work) { d.objects(t, host, 1, 1) } // the index grows with each page
		w, err := read()
		if err != nil || len(w.Assignments) < 2*pageSize+1 || !w.Full || !w.Confirmed || w.More != "" || w.Index != index ||
			len(asked) != 3 || !slices.IsSorted(asked) {
			t.Fatalf("read %v in %q, %v", w, asked, err)
		}
		change = func(page int, w *structs.Work) { w.Confirmed = page != 2 }
		if w, err := read(); err != nil || w.Confirmed {
			t.Errorf("a page is not confirmed, the answer is: %v", err)
		}
		for name, change2 := range map[string]func(*structs.Work){
			"incarnation": func(w *structs.Work) { w.Incarnation++ },
			"cluster":     func(w *structs.Work) { w.ClusterID = "other" },
			"lineage":     func(w *structs.Work) { w.Lineage = "other" },
			"not full":    func(w *structs.Work) { w.Full = false },
			"another bay": func(w *structs.Work) { w.BayID = new("other") },
			"no end":      func(w *structs.Work) { w.More = asked[len(asked)-1] },
		} {
			change = func(page int, w *structs.Work) {
				if page == 2 {
					change2(w)
				}
			}
			if w, err := read(); structs.CodeOf(err) != structs.CodeUnavailable {
				t.Errorf("%s: read %d assignments, %v", name, len(w.Assignments), err)
			}
		}
	})
}
