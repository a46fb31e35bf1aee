package history

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// ops returns a history of sequential operations; list alternates Op and Outcome.
func ops(list ...any) []porcupine.Operation {
	var all []porcupine.Operation
	for i := 0; i < len(list); i += 2 {
		o := porcupine.Operation{
			ClientId: i, Input: list[i].(Op), Output: list[i+1].(Outcome), Call: int64(10 * i), Return: int64(10*i + 5),
		}
		if o.Output.(Outcome).Verdict == Unknown {
			o.Return = math.MaxInt64
		}
		all = append(all, o)
	}
	return all
}

// TestCheckTellsValidFromInvalidHistories: check must find the violation in each invalid
// history, and none in a valid one.
func TestCheckTellsValidFromInvalidHistories(t *testing.T) {
	var (
		create, patch = Op{Kind: Create, Value: "a"}, Op{Kind: Patch, Value: "b"}
		remove, read  = Op{Kind: Delete}, Op{Kind: Read}
		done, missing = Outcome{Verdict: Done}, Outcome{Verdict: Missing}
		unknown       = Outcome{Verdict: Unknown}
		conflict      = Outcome{Verdict: Conflict}
		says          = func(v string) Outcome { return Outcome{Verdict: Done, Value: v} }
		do            = func(k Kind) Op { return Op{Kind: k} }
	)
	for name, bad := range map[string][]any{
		"an acknowledged create is lost":    {create, done, read, missing},
		"an acknowledged patch is lost":     {create, done, patch, done, read, says("a")},
		"a deleted object exists again":     {create, done, remove, done, read, says("a")},
		"a create makes a second object":    {create, done, create, done},
		"a conflict without an object":      {create, conflict, read, says("a")},
		"a value that was never written":    {create, done, read, says("c")},
		"a stop is lost":                    {create, done, do(Start), done, do(Stop), done, do(Pause), done},
		"a start is refused without reason": {create, done, do(Start), conflict},
		"a pause without a start":           {create, done, do(Pause), done},
		"an action on a deleted object":     {create, done, remove, done, do(Stop), done},
		"an unknown patch is undone":        {create, done, patch, unknown, read, says("b"), read, says("a")},
		"an unknown delete is undone":       {create, done, remove, unknown, read, missing, read, says("a")},
		"an unknown start is undone":        {create, done, do(Start), unknown, do(Pause), done, do(Unpause), conflict},
		"an existing container isn't found": {create, done, do(Start), missing},
	} {
		if check("x", ops(bad...)) == "" {
			t.Errorf("%s: check found no violation", name)
		}
	}
	for name, good := range map[string][]any{
		"create to delete": {
			read, missing, create, done, create, conflict, patch, done, read, says("b"),
			remove, done, remove, missing, read, missing,
		},
		"actions": {
			create, done, do(Stop), done, do(Pause), conflict, do(Start), done, do(Pause), done, do(Start), conflict,
			do(Unpause), done, do(Stop), done, do(Unpause), conflict,
		},
		"an unknown create is carried out":     {create, unknown, read, says("a")},
		"an unknown create is not carried out": {create, unknown, read, missing},
		"an unknown create takes effect late":  {create, unknown, read, missing, remove, missing, read, says("a")},
		"a repeated delete":                    {create, done, remove, unknown, remove, done, read, missing},
		"a create after a delete":              {create, done, remove, done, create, done, read, says("a")},
	} {
		if fault := check("x", ops(good...)); fault != "" {
			t.Errorf("%s: %s", name, fault)
		}
	}
}

// fakeServer is a server of nodes whose answers a test can make wrong.
type fakeServer struct {
	mu    sync.Mutex
	nodes map[string]string
	index int
	lie   func(method string, index int) (loses bool, shown int) // nil answers correctly
}

var typeOf = regexp.MustCompile(`"(?:type|value)":"([^"]*)"`)

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, _ := io.ReadAll(r.Body)
	id, says := strings.TrimPrefix(r.URL.Path, "/v1/nodes/"), ""
	if m := typeOf.FindSubmatch(raw); m != nil {
		says = string(m[1])
	}
	if r.Method == http.MethodPost {
		id = regexp.MustCompile(`[0-9a-f-]{36}`).FindString(string(raw))
	}
	loses, shown := false, 0
	s.index++
	if shown = s.index; s.lie != nil {
		loses, shown = s.lie(r.Method, s.index)
	}
	w.Header().Set("X-Magnum-Index", fmt.Sprint(shown))
	was, there := s.nodes[id]
	switch {
	case r.Method == http.MethodPost && there:
		w.WriteHeader(http.StatusConflict)
	case r.Method != http.MethodPost && !there:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodGet:
		fmt.Fprintf(w, `{"uuid":%q,"type":%q}`, id, was)
	case loses:
	case r.Method == http.MethodDelete:
		delete(s.nodes, id)
	default:
		s.nodes[id] = says
	}
}

// TestWorkloadFindsViolations runs clients against a correct server and several faulty
// ones.
func TestWorkloadFindsViolations(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lie  func(method string, index int) (bool, int)
		want string // part of a violation; "" for no violation
	}{
		"correct": {},
		"loses a patch": {
			func(m string, i int) (bool, int) { return m == http.MethodPatch && i%7 == 0, i }, "fits no order of events",
		},
		"loses a delete": {
			func(m string, i int) (bool, int) { return m == http.MethodDelete && i%5 == 0, i }, "fits no order of events",
		},
		"returns older index": {
			func(m string, i int) (bool, int) {
				if m == http.MethodGet && i%5 == 0 {
					return false, max(1, i-50)
				}
				return false, i
			}, "I2: index",
		},
		"differs at an index": {func(string, int) (bool, int) { return false, 7 }, "I3: object"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(&fakeServer{nodes: make(map[string]string), lie: c.lie})
			defer srv.Close()
			w := New(Nodes, 3)
			root := func(bool) string { return srv.URL }
			checker := w.Client(3, 1, root)
			ctx, cancel := context.WithCancel(t.Context())
			var working, checking sync.WaitGroup
			checking.Go(func() { w.CheckEnded(ctx, checker) })
			for n := range 3 {
				working.Go(func() {
					one := w.Client(n, 1, root)
					for range 400 {
						one.Step(ctx)
					}
				})
			}
			working.Wait()
			cancel()
			checking.Wait()
			w.Finish(checker)
			f := w.Figures()
			found := strings.Join(w.Violations(), "\n")
			if c.want == "" && f.Violations != 0 || c.want != "" && !strings.Contains(found, c.want) {
				t.Errorf("%d violations, want %q:\n%.2000s", f.Violations, c.want, found)
			}
			if f.Checked < 1200/opsPerObject || c.want == "" && f.Acknowledged != 1200+int64(f.Checked) {
				t.Errorf("figures of 1200 operations: %+v", f)
			}
		})
	}
}

// TestCutSeparatesHistories: a loss of writes during Cut is no violation, but a loss after
// Cut is.
func TestCutSeparatesHistories(t *testing.T) {
	t.Parallel()
	var lies atomic.Bool
	s := &fakeServer{nodes: make(map[string]string), lie: func(m string, i int) (bool, int) {
		return lies.Load() && m == http.MethodPatch, i
	}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	w := New(Nodes, 1)
	root := func(bool) string { return srv.URL }
	one, checker := w.Client(0, 1, root), w.Client(1, 1, root)
	work := func() {
		for range 200 {
			one.Step(t.Context())
		}
	}
	work()
	w.Cut(checker, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.nodes)
	})
	work()
	w.Finish(checker)
	if f := w.Figures(); f.Violations != 0 || f.Checked < 400/opsPerObject {
		t.Fatalf("%+v: %v", f, w.Violations())
	}
	lies.Store(true)
	work()
	w.Finish(checker)
	if f := w.Figures(); f.Violations == 0 {
		t.Errorf("lost writes after the cut are no violation: %+v", f)
	}
}

// TestWriteGapLeavesOutPauses: the gap before a reset does not count.
func TestWriteGapLeavesOutPauses(t *testing.T) {
	began := time.Now()
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	var g writeGap
	g.reset(at(0))
	g.wrote(at(2))
	g.wrote(at(3))
	if got := g.take(at(4)); got != 2*time.Second {
		t.Errorf("gap %v, want 2s", got)
	}
	if got := g.take(at(8)); got != 5*time.Second { // the current gap counts
		t.Errorf("gap %v, want 5s", got)
	}
	g.reset(at(20))
	g.wrote(at(21))
	if got, ever := g.take(at(21)), g.ever(); got != time.Second || ever != 5*time.Second {
		t.Errorf("gap %v, want 1s; longest gap %v, want 5s", got, ever)
	}
}
