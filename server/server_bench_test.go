package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stackforge/magnum/structs"
)

const typicalCreate = `{"name":"web-1","image_id":"nginx:1.27","command":["nginx","-g","daemon off;"],` +
	`"environment":{"MODE":"production","REGION":"eu-1"},"labels":{"app":"web","tier":"front"},` +
	`"memory":"256m","cpu":0.5,"restart_policy":"always"}`

// discard is an http.ResponseWriter that keeps only the status.
type discard struct {
	header http.Header
	status int
	body   io.Writer
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return d.body.Write(b) }

// call passes a request to the handler without a connection, and fails on any answer
// but the wanted one.
func (r *running) call(tb testing.TB, method, path, body string, want int, out io.Writer) {
	req, err := http.NewRequest(method, "http://127.0.0.1:9511"+path, strings.NewReader(body))
	if err != nil {
		tb.Error(err)
		return
	}
	w := &discard{header: make(http.Header), body: out}
	r.rest.Handler().ServeHTTP(w, req)
	if w.status != want {
		tb.Errorf("%s %s: status %d, not %d", method, path, w.status, want)
	}
}

// BenchmarkCreate is a durable create without the connection: decode, decide, commit,
// apply, encode. Concurrent clients share commits.
func BenchmarkCreate(b *testing.B) {
	for _, clients := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			r := start(b, b.TempDir())
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			done := make(chan struct{})
			for range clients {
				go func() {
					for next.Add(1) <= int64(b.N) {
						r.call(b, http.MethodPost, "/v1/containers", typicalCreate, http.StatusCreated, io.Discard)
					}
					done <- struct{}{}
				}()
			}
			for range clients {
				<-done
			}
		})
	}
}

// BenchmarkGet reads one container, and pages of containers, without the connection.
func BenchmarkGet(b *testing.B) {
	r := start(b, b.TempDir())
	var last bytes.Buffer
	for range 1000 {
		last.Reset()
		r.call(b, http.MethodPost, "/v1/containers", typicalCreate, http.StatusCreated, &last)
	}
	var c structs.ContainerBody
	if err := json.Unmarshal(last.Bytes(), &c); err != nil {
		b.Fatal(err)
	}
	for name, path := range map[string]string{
		"one":        "/v1/containers/" + c.UUID,
		"list=100":   "/v1/containers?limit=100",
		"detail=100": "/v1/containers/detail?limit=100",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.call(b, http.MethodGet, path, "", http.StatusOK, io.Discard)
			}
		})
	}
}
