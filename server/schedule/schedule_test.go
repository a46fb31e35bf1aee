package schedule

import (
	"bufio"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

var rewrite = flag.Bool("rewrite", false, "write the results of the scripts to testdata")

// TestScripts runs the scripts in testdata. A script consists of lines of the form
//
//	placement spread|binpack
//	node-port N[/udp]
//	host NAME [memory=GiB] [cpu=CORES] [lost] [suspect] [draining] [KEY=VALUE ...]
//	place [memory=GiB] [cpu=CORES] [port=N[/udp]] [KEY=VALUE ...]
//
// Each place is followed by its result, "-> host" or "-> reason", which -rewrite rewrites.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("got:\n%s", got)
			}
		})
	}
}

// choose chooses with Choose and with ChooseAmong, which must agree.
func choose(t *testing.T, hosts []Host, d structs.Demand, strategy structs.PlacementStrategy) (id, reason string) {
	t.Helper()
	return chooseWith(t, hosts, d, strategy, nil)
}

// chooseWith is choose with facts.
func chooseWith(
	t *testing.T, hosts []Host, d structs.Demand, strategy structs.PlacementStrategy, facts *Facts,
) (id, reason string) {
	t.Helper()
	bay := &structs.Bay{Meta: structs.Meta{ID: "bay"}, Placement: strategy}
	id, reason = Choose(roomsOf(hosts, strategy), bay, d, facts)
	if one, why := ChooseAmong(hosts, d, strategy, facts); one != id || why != reason {
		t.Fatalf("Choose returns %q (%s), ChooseAmong %q (%s)", id, reason, one, why)
	}
	return id, reason
}

// roomsOf returns Rooms with the hosts in a bay, and with hosts of two other bays.
func roomsOf(hosts []Host, strategy structs.PlacementStrategy) *state.Rooms {
	var rooms state.Rooms
	rooms.Own()
	for _, bayID := range []string{"ba", "bay", "bays"} {
		for i := range hosts {
			h := hosts[i]
			h.BayID, h.Strategy = bayID, strategy
			if bayID != "bay" {
				h.ID, h.Memory, h.MilliCPU, h.Used = bayID+h.ID, 1<<50, 1<<50, new(state.Usage)
			}
			rooms.Replace(nil, &h)
		}
	}
	return &rooms
}

func runScript(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	var hosts []Host
	strategy := structs.PlacementSpread
	var nodePorts []structs.Port
	facts := &Facts{NodePort: func(protocol string, port int) bool {
		return slices.ContainsFunc(nodePorts, func(p structs.Port) bool { return p.HostPort == port && p.Protocol == protocol })
	}}
	lines := bufio.NewScanner(strings.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		words := strings.Fields(line)
		if len(words) > 0 && words[0] == "->" {
			continue
		}
		fmt.Fprintln(&out, line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		switch words[0] {
		case "placement":
			strategy = structs.PlacementStrategy(words[1])
		case "node-port":
			nodePorts = append(nodePorts, scriptDemand(t, []string{"port=" + words[1]}).Ports...)
		case "host":
			hosts = append(hosts, scriptHost(t, words[1:]))
		case "place":
			demand := scriptDemand(t, words[1:])
			id, reason := chooseWith(t, hosts, demand, strategy, facts)
			if id == "" {
				fmt.Fprintln(&out, "-> "+reason)
				continue
			}
			i := slices.IndexFunc(hosts, func(h Host) bool { return h.ID == id })
			hosts[i].Used.Add(demand)
			fmt.Fprintln(&out, "-> "+hosts[i].Name)
		default:
			t.Fatalf("unknown command in line %q", line)
		}
	}
	return out.String()
}

func scriptHost(t *testing.T, words []string) Host {
	h := Host{
		ID: "id-" + words[0], Name: words[0], Ready: true, Memory: 4 << 30, MilliCPU: 4000,
		Labels: map[string]string{}, Used: new(state.Usage),
	}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "draining":
			h.Draining = true
		case "runs":
			h.Kinds = append(h.Kinds, structs.WorkloadKind(value))
		case "no-network":
			h.NetworksFull = true
		case "suspect":
			h.Suspect = true
		case "lost":
			h.Ready = false
		case "memory":
			h.Memory = int64(number(t, value) * (1 << 30))
		case "cpu":
			h.MilliCPU = int64(number(t, value) * 1000)
		default:
			h.Labels[key] = value
		}
	}
	return h
}

func scriptDemand(t *testing.T, words []string) structs.Demand {
	d := structs.Demand{Constraints: map[string]string{}}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "kind":
			d.Kind = structs.WorkloadKind(value)
		case "memory":
			d.Memory = int64(number(t, value) * (1 << 30))
		case "cpu":
			d.MilliCPU = int64(number(t, value) * 1000)
		case "port":
			port, udp := strings.CutSuffix(value, "/udp")
			p := structs.Port{ContainerPort: 80, HostPort: int(number(t, port)), Protocol: "tcp"}
			if udp {
				p.Protocol = "udp"
			}
			d.Ports = append(d.Ports, p)
		default:
			d.Constraints[key] = value
		}
	}
	return d
}

func number(t *testing.T, s string) float64 {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestHostsAreNeverOverfilled places random workloads and compares the usage of each host
// with its capacity.
func TestHostsAreNeverOverfilled(t *testing.T) {
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		var hosts []Host
		for i := range 5 {
			hosts = append(hosts, Host{
				ID: fmt.Sprint(i), Name: fmt.Sprint(i), Ready: true,
				Memory: int64(r.IntN(8)) << 30, MilliCPU: int64(r.IntN(8000)), Used: new(state.Usage),
			})
		}
		ports := make(map[string]bool)
		for range 300 {
			demand := structs.Demand{Memory: int64(r.IntN(3)) << 29, MilliCPU: int64(r.IntN(3)) * 250}
			port := r.IntN(20)
			if port > 0 {
				demand.Ports = []structs.Port{{ContainerPort: 1, HostPort: port, Protocol: "tcp"}}
			}
			strategies := []structs.PlacementStrategy{structs.PlacementSpread, structs.PlacementBinpack}
			id, reason := choose(t, hosts, demand, strategies[r.IntN(2)])
			if (id == "") == (reason == "") {
				t.Fatalf("seed %d: id %q and reason %q", seed, id, reason)
			}
			if id == "" {
				continue
			}
			h := &hosts[slices.IndexFunc(hosts, func(h Host) bool { return h.ID == id })]
			key := fmt.Sprint(id, port)
			if port > 0 && ports[key] {
				t.Fatalf("seed %d: port %d of host %s is assigned twice", seed, port, id)
			}
			ports[key] = true
			h.Used.Add(demand)
			if h.Used.Memory > h.Memory && demand.Memory > 0 || h.Used.MilliCPU > h.MilliCPU && demand.MilliCPU > 0 {
				t.Fatalf("seed %d: host %s is overfilled: %+v of %d, %d", seed, id, h.Used, h.Memory, h.MilliCPU)
			}
		}
	}
}

// TestChoiceIsIndependentOfHostOrder: the choice must be deterministic.
func TestChoiceIsIndependentOfHostOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	var hosts []Host
	for i := range 6 {
		hosts = append(hosts, Host{
			ID: fmt.Sprint("id", i), Name: "same", Ready: true, Memory: 1 << 30, MilliCPU: 1000, Used: new(state.Usage),
		})
	}
	want, _ := choose(t, hosts, structs.Demand{}, structs.PlacementSpread)
	for range 20 {
		r.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
		if got, _ := choose(t, hosts, structs.Demand{}, structs.PlacementSpread); got != want {
			t.Fatalf("chose %s, then %s", want, got)
		}
	}
}

// BenchmarkChoose chooses among hosts with random usage, for demands that all hosts, some
// hosts or no host can meet.
func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		for _, strategy := range []structs.PlacementStrategy{structs.PlacementSpread, structs.PlacementBinpack} {
			rng := rand.New(rand.NewPCG(uint64(n), 5))
			hosts := make([]Host, n)
			for i := range hosts {
				hosts[i] = Host{
					ID: structs.NewID(), Name: fmt.Sprint("host-", i), Ready: true, Memory: 64 << 30, MilliCPU: 16000,
					Used: new(state.Usage), Labels: map[string]string{"rack": fmt.Sprint(i % 100)},
				}
				for range rng.IntN(20) {
					hosts[i].Used.Add(structs.Demand{Memory: rng.Int64N(3) << 30, MilliCPU: rng.Int64N(4) * 250})
				}
			}
			rooms := roomsOf(hosts, strategy)
			bay := &structs.Bay{Meta: structs.Meta{ID: "bay"}, Placement: strategy}
			for _, c := range []struct {
				name   string
				demand structs.Demand
				fits   bool
			}{
				{"any", structs.Demand{}, true},
				{"limits", structs.Demand{Memory: 1 << 30, MilliCPU: 500}, true},
				{"label-of-1-in-100", structs.Demand{Memory: 1 << 30, Constraints: map[string]string{"rack": "42"}}, true},
				{"label-of-none", structs.Demand{Constraints: map[string]string{"rack": "none"}}, false},
				{"too-large", structs.Demand{Memory: 1 << 40}, false},
			} {
				b.Run(fmt.Sprintf("%s/%s/hosts=%d", c.name, strategy, n), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if id, _ := Choose(rooms, bay, c.demand, nil); (id != "") != c.fits {
							b.Fatalf("chosen %q", id)
						}
					}
				})
			}
			// A choice, and the update of the host's place in the order after the placement.
			b.Run(fmt.Sprintf("place/%s/hosts=%d", strategy, n), func(b *testing.B) {
				now := make(map[string]*Host, n)
				for h := range rooms.All("bay") {
					now[h.ID] = h
				}
				b.ReportAllocs()
				for b.Loop() {
					id, _ := Choose(rooms, bay, structs.Demand{}, nil)
					h := *now[id]
					used := h.Used.Clone()
					used.Add(structs.Demand{Memory: 1})
					h.Used = &used
					rooms.Replace(now[id], &h)
					now[id] = &h
				}
			})
		}
	}
}

// TestCopiesAreApart: the number of copies decides before the strategy, and only among hosts
// that fit.
func TestCopiesAreApart(t *testing.T) {
	host := func(id string, free int64, workloads int) Host {
		return Host{ID: id, Name: id, Ready: true, Memory: free, Used: &state.Usage{Workloads: workloads}}
	}
	hosts := []Host{host("a", 8, 0), host("b", 4, 5), host("c", 2, 9)}
	for _, test := range []struct {
		copies   map[string]int
		strategy structs.PlacementStrategy
		memory   int64
		want     string
	}{
		{nil, structs.PlacementSpread, 1, "a"},
		{nil, structs.PlacementBinpack, 1, "c"},
		{map[string]int{"a": 1}, structs.PlacementSpread, 1, "b"},
		{map[string]int{"c": 1}, structs.PlacementBinpack, 1, "b"},
		{map[string]int{"a": 2, "b": 2, "c": 1}, structs.PlacementSpread, 1, "c"},
		{map[string]int{"a": 2, "b": 2, "c": 1}, structs.PlacementSpread, 3, "a"},
		{map[string]int{"a": 2}, structs.PlacementSpread, 5, "a"}, // the only one that fits
		{nil, structs.PlacementSpread, 9, ""},
	} {
		id, why := ChooseApart(hosts, test.copies, structs.Demand{Memory: test.memory}, test.strategy, nil)
		if id != test.want || (id == "") != (why != "") {
			t.Errorf("copies %v, %s, memory %d: %q (%s), not %q", test.copies, test.strategy, test.memory, id, why, test.want)
		}
	}
}
