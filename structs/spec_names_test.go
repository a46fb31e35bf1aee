package structs

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// recordedWork is the content of testdata/work-pascal.json: an answer of a server whose
// build used the Go names of a spec's fields.
func recordedWork() Work {
	stop, bay := 7, "bay-1"
	return Work{ClusterID: "c1", Incarnation: 1, Index: 42, Full: true, Confirmed: true, Lineage: "l1", HostLostAfter: 10 * time.Second,
		BayID: &bay, Assignments: []Assignment{
			{ContainerID: "a", ProjectID: "p", Name: "web", Epoch: 3, Generation: 9, StartGeneration: 8, RebootGeneration: 7,
				KillGeneration: 6, Signal: "SIGHUP",
				LimitGeneration: 5, Desired: DesiredRunning, StopTimeout: 7, Observed: 9, EngineID: "e1", Spec: &ContainerSpec{
					Image: "busybox:1", Command: []string{"sh", "-c", "sleep 1"}, CommandText: "sh -c 'sleep 1'",
					Entrypoint:  []string{"/entry"},
					Environment: map[string]string{"B": "2", "A": "1"}, Labels: map[string]string{"mine": "y"}, Workdir: "/tmp",
					Hostname: "h", User: "1000",
					Ports: []Port{{ContainerPort: 80, HostPort: 8080, Protocol: "tcp"}}, Memory: 32 << 20, MilliCPU: 500,
					RestartPolicy: RestartPolicy{Name: RestartOnFailure, MaxRetries: 3},
					Volumes: []Mount{{Name: "data", Target: "/data", Type: MountVolume, ReadOnly: true}, {Target: "/scratch",
						Type: MountTmpfs, Size: 1 << 20}},
					StopTimeout: &stop, TTY: true, Stdin: true, AutoRemove: true, PullPolicy: PullAlways,
					Constraints: map[string]string{"disk": "ssd"}, LogMaxSize: 1 << 20,
					Healthcheck: &Healthcheck{Test: Command{Text: "true", Args: []string{"true"}}, Interval: 60, Timeout: 5, Retries: 2,
						StartPeriod: 1}, Exclusive: ExclusiveLease,
				}, Secrets: Secrets{Registry: &Registry{Username: "u", Password: "p", Server: "r:5000"}}},
			{ContainerID: "b", ProjectID: "p", Name: "plain", Epoch: 1, Generation: 1, Desired: DesiredStopped, StopTimeout: 10,
				Spec: &ContainerSpec{Image: "busybox"}},
		}}
}

func recorded(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/work-pascal.json")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWorkOfAnEarlierServerIsRead reads the recorded answer as an agent does.
func TestWorkOfAnEarlierServerIsRead(t *testing.T) {
	var got Work
	if err := json.Unmarshal(recorded(t), &got); err != nil {
		t.Fatal(err)
	}
	if want := recordedWork(); !reflect.DeepEqual(got, want) {
		t.Errorf("it reads as\n%+v, %+v\nwant\n%+v, %+v", got, got.Assignments[0].Spec, want, want.Assignments[0].Spec)
	}
}

// TestWorkForAnEarlierAgent compares an answer for an earlier agent with the recorded
// one. Fields that only the recorded answer has are zero.
func TestWorkForAnEarlierAgent(t *testing.T) {
	work := recordedWork()
	raw, err := work.ForEarlierAgents()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "image_id") {
		t.Errorf("it has today's names: %s", raw)
	}
	var got, want struct {
		Assignments []struct{ Spec map[string]any }
	}
	for b, to := range map[*struct {
		Assignments []struct{ Spec map[string]any }
	}][]byte{&got: raw, &want: recorded(t)} {
		if err := json.Unmarshal(to, b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range want.Assignments {
		spec := want.Assignments[i].Spec
		for field, v := range spec {
			if _, said := got.Assignments[i].Spec[field]; v == nil || !said && reflect.ValueOf(v).IsZero() {
				delete(spec, field)
			}
		}
		if !reflect.DeepEqual(got.Assignments[i].Spec, spec) {
			t.Errorf("the spec is\n%v\nwant\n%v", got.Assignments[i].Spec, spec)
		}
	}
	// The rest is the same for both, and reads as it was meant.
	var back Work
	if err := json.Unmarshal(raw, &back); err != nil || !reflect.DeepEqual(back, work) {
		t.Errorf("it reads as %+v, %v", back, err)
	}
}

// TestEverySpecFieldReachesAgents fills every field of a spec. Current and earlier
// agents get each of them, and the credentials beside the spec.
func TestEverySpecFieldReachesAgents(t *testing.T) {
	recorded := recordedWork().Assignments[0]
	spec, secrets := recorded.Spec, recorded.Secrets
	for _, v := range []reflect.Value{reflect.ValueOf(spec).Elem(), reflect.ValueOf(secrets)} {
		for field, v := range v.Fields() {
			if field.IsExported() && v.IsZero() {
				t.Fatalf("field %s is not in the recorded answer's spec: give it a value there, but not in the record", field.Name)
			}
		}
	}
	c := &Container{Meta: Meta{ID: "a"}, Spec: PrivateSpec{ContainerSpec: *spec, Secrets: secrets}, Placement: Placement{Epoch: 1,
		Generation: 1}}
	work := Work{Assignments: []Assignment{AssignmentOf(c, "h")}}
	now, err := json.Marshal(&work)
	if err != nil {
		t.Fatal(err)
	}
	earlier, err := work.ForEarlierAgents()
	if err != nil {
		t.Fatal(err)
	}
	for _, sent := range [][]byte{now, earlier} {
		var got Work
		if err := json.Unmarshal(sent, &got); err != nil {
			t.Fatal(err)
		}
		if a := got.Assignments[0]; !reflect.DeepEqual(a.Spec, spec) || !reflect.DeepEqual(a.Secrets, secrets) {
			t.Errorf("%s\nreads as %+v with %#v", sent, a.Spec, a.Secrets)
		}
	}
}

// TestSpecHasNoSecrets encodes and formats a spec in every way that may reach an
// answer, an event or a log.
func TestSpecHasNoSecrets(t *testing.T) {
	const secret = "marker-of-a-secret"
	spec := PrivateSpec{ContainerSpec: ContainerSpec{Image: "x"}, Secrets: Secrets{Registry: &Registry{Username: secret, Password: secret,
		Server: secret}}}
	c := &Container{Spec: spec}
	var all []string
	for _, v := range []any{spec, &spec, c, spec.Registry, *spec.Registry} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if _, creds := v.(*Registry); !creds {
			if _, creds := v.(Registry); !creds {
				all = append(all, string(b))
			}
		}
		for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
			all = append(all, fmt.Sprintf(format, v))
		}
	}
	for _, s := range all {
		if strings.Contains(s, secret) {
			t.Errorf("a secret is in %s", s)
		}
	}
}

// TestSpecHashIsThatOfEarlierBuilds checks hashes that containers carry in their labels.
func TestSpecHashIsThatOfEarlierBuilds(t *testing.T) {
	full := recordedWork().Assignments[0]
	for want, spec := range map[string]*ContainerSpec{
		"8fd19e417fc464ca": full.Spec,
		"2fa5176c8d80b157": {Image: "busybox"},
		"c5888966353dbf1b": {},
	} {
		if got := SpecHash(spec); got != want {
			t.Errorf("%+v has hash %s, and had %s", spec, got, want)
		}
	}
	seen := map[string]string{}
	for field := range reflect.TypeFor[ContainerSpec]().Fields() {
		if !field.IsExported() || field.Name == "Memory" || field.Name == "MilliCPU" {
			continue
		}
		spec := *full.Spec
		reflect.ValueOf(&spec).Elem().FieldByIndex(field.Index).SetZero()
		hash := SpecHash(&spec)
		if other := seen[hash]; other != "" || hash == "8fd19e417fc464ca" {
			t.Errorf("without %s it has the hash that it has with it, or without %s", field.Name, other)
		}
		seen[hash] = field.Name
	}
}

// TestRowOfAnEarlierServer reads a row from a leader whose build used the Go names of a
// spec's fields, and writes it in the form that this build reads.
func TestRowOfAnEarlierServer(t *testing.T) {
	b, err := os.ReadFile("testdata/container-pascal.json")
	if err != nil {
		t.Fatal(err)
	}
	want := &Container{Meta: Meta{ID: "a", ProjectID: "p", Seq: 4}, Name: "web",
		Spec: PrivateSpec{ContainerSpec: *recordedWork().Assignments[0].Spec}, Placement: Placement{
			BayID: "b", Desired: DesiredRunning, Generation: 9, Epoch: 3, HostID: "h", Priors: []Prior{{HostID: "old", Epoch: 2,
				Generation: 8, Keep: true}}}}
	got := new(Container)
	if err := json.Unmarshal(b, got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it reads as\n%+v\nwant\n%+v, %v", got, want, err)
	}
	sent, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var now, then struct{ Spec map[string]any }
	if json.Unmarshal(sent, &now) != nil || json.Unmarshal(b, &then) != nil {
		t.Fatalf("%s is no row", sent)
	}
	delete(then.Spec, "Registry")
	if !reflect.DeepEqual(now, then) {
		t.Errorf("its spec is sent as\n%v\nwant\n%v", now, then)
	}
}
