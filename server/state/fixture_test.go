package state

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stackforge/magnum/server/state/statetest"
	"github.com/stackforge/magnum/structs"
)

// Fixtures of a schema are written once, by the build that introduced the schema, and never
// again: they stand for existing logs and snapshots.
var writeFixture = flag.String("write-fixture", "", "write the fixture of this name, such as schema4, into testdata")

// fixtureNames are the fixtures that this build has to read and to write byte for byte, the
// newest last.
var fixtureNames = []string{"schema2", "schema3", "schema4", "schema5"}

// TestFixtureIsReadAndWrittenUnchanged reads two entries and a snapshot of an earlier
// build. The rows must have the same values as then, and must encode to the same bytes:
// servers of both builds share a cluster during an upgrade.
func TestFixtureIsReadAndWrittenUnchanged(t *testing.T) {
	if *writeFixture != "" {
		writeFixtureFiles(t, *writeFixture)
	}
	for _, name := range fixtureNames {
		t.Run(name, func(t *testing.T) { readFixture(t, name) })
	}
}

func readFixture(t *testing.T, fixtureName string) {
	s := New()
	for i, name := range []string{fixtureName + ".made", fixtureName + ".changed"} {
		data := golden(t, name)
		e, err := DecodeEntry(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, err := EncodeEntry(e)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(again, data) {
			t.Errorf("%s: the entry has other bytes once it is decoded and encoded", name)
		}
		mustApply(t, s, uint64(10*(i+1)), e.Changes...)
	}
	snap := golden(t, fixtureName+".snap")
	if !bytes.Equal(persisted(t, s), snap) {
		t.Error("the entries make a snapshot with other bytes")
	}
	back := restored(t, snap)
	if !bytes.Equal(persisted(t, back), snap) {
		t.Error("the snapshot has other bytes once it is restored and written")
	}
	want := string(golden(t, fixtureName+".rows"))
	for what, store := range map[string]*Store{"entries": s, "snapshot": back} {
		if got := dump(store.Snapshot()); got != want {
			t.Errorf("%s: the rows differ from those that were written: %s", what, firstDifference(got, want))
		}
		checkDerived(t, store.Snapshot())
	}
}

// TestFixtureFillsEveryField: one row of each table has a value in each of its fields, so
// that the newest fixture covers the field. Fields that are newer than the fixture are
// listed here.
func TestFixtureFillsEveryField(t *testing.T) {
	young := []string{"hosts Fingerprint.Cluster.PublicAddress", "hosts Fingerprint.Cluster.CA",
		"hosts TokenID", "hosts Granted", "hosts Claimed", "tokens MaxHosts", "tokens Labels"}
	older := slices.DeleteFunc(Tables(), func(table structs.Table) bool { return table == statetest.TablePairs })
	s := restored(t, golden(t, fixtureNames[len(fixtureNames)-1]+".snap"))
	rows := dump(s.Snapshot())
	for _, table := range older {
		if len(slices.Collect(s.Snapshot().List(table, AllProjects, 0))) == 0 {
			t.Errorf("%s: the fixture has no row", table)
		}
		row := NewRow(table)
		fillAll(reflect.ValueOf(row).Elem(), "")
		leaves(reflect.ValueOf(row).Elem(), "", func(path string, _ reflect.Value) {
			if !strings.Contains(rows, fmt.Sprintf("%s %s ", table, path)) && !slices.Contains(young, string(table)+" "+path) {
				t.Errorf("%s: no row of the fixture has a value in %s", table, path)
			}
		})
	}
}

// fillAll sets every field below v to a value that depends only on the field's path. An
// embedded struct is not a part of the path: its fields are encoded as if they were those
// of the outer struct.
func fillAll(v reflect.Value, path string) {
	h := fnv.New32a()
	h.Write([]byte(path))
	n := int64(h.Sum32()%100000) + 1
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1764000000+n, 0).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		eachField(v, path, fillAll)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillAll(v.Elem(), path)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fillAll(v.Index(i), fmt.Sprintf("%s[%d]", path, i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range 2 {
			v.SetMapIndex(reflect.ValueOf(fmt.Sprint("key", i)), reflect.ValueOf(fmt.Sprintf("%s[key%d]", path, i)))
		}
	case reflect.String:
		v.SetString(path)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(n)
	case reflect.Uint64:
		v.SetUint(uint64(n))
	default:
		panic("no value for " + v.Type().String())
	}
}

// eachField calls f with each field that is in a row's encoding or kept beside it.
func eachField(v reflect.Value, path string, f func(v reflect.Value, path string)) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch {
		case field.Anonymous:
			eachField(v.Field(i), path, f)
		case field.IsExported():
			f(v.Field(i), strings.TrimPrefix(path+"."+field.Name, "."))
		}
	}
}

// leaves calls f with each non-zero value below v.
func leaves(v reflect.Value, path string, f func(path string, v reflect.Value)) {
	switch {
	case v.Kind() == reflect.Map || v.Kind() == reflect.Slice:
		if v.Len() == 0 {
			return
		}
	case v.IsZero():
		return
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		f(path, v)
	case v.Kind() == reflect.Struct:
		eachField(v, path, func(v reflect.Value, path string) { leaves(v, path, f) })
	case v.Kind() == reflect.Pointer:
		if v.Elem().IsZero() {
			f(path, v.Elem())
		}
		leaves(v.Elem(), path, f)
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			leaves(v.Index(i), fmt.Sprintf("%s[%d]", path, i), f)
		}
	default:
		f(path, v)
	}
}

// dump writes each non-zero value of each row, one per line.
func dump(s *Snapshot) string {
	var b strings.Builder
	for _, table := range Tables() {
		for row := range s.List(table, AllProjects, 0) {
			var lines []string
			leaves(reflect.ValueOf(row).Elem(), "", func(path string, v reflect.Value) {
				value := fmt.Sprint(v.Interface())
				lines = append(lines, fmt.Sprintf("%s %s %.200s (%d bytes)\n", table, path, value, len(value)))
			})
			slices.Sort(lines)
			fmt.Fprintf(&b, "%s %s:\n%s", table, row.Base().ID, strings.Join(lines, ""))
		}
	}
	return b.String()
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d is %q, not %q", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, not %d", len(g), len(w))
}

// fixtureContainers returns containers in the states that the store treats differently.
func fixtureContainers() []*structs.Container {
	var all []*structs.Container
	add := func(change func(c *structs.Container)) {
		c := typicalContainer(uint64(100 + len(all)))
		change(c)
		all = append(all, c)
	}
	add(func(c *structs.Container) {
		m := c.Meta
		fillAll(reflect.ValueOf(c).Elem(), "")
		c.ID, c.Seq, c.ProjectID = m.ID, m.Seq, m.ProjectID
	})
	add(func(*structs.Container) {})
	add(func(c *structs.Container) { // waits
		c.HostID, c.Epoch, c.PlaceReason, c.Observed = "", 0, "waits for a host", structs.Observed{}
	})
	add(func(c *structs.Container) { // has moved twice
		c.Epoch = 3
		c.Priors = []structs.Prior{{HostID: testID(1<<41 + 50), Epoch: 1, Generation: 1},
			{HostID: testID(1<<41 + 51), Epoch: 2, Generation: 1, Keep: true, EngineID: "e"}}
	})
	add(func(c *structs.Container) { // being deleted, with an earlier placement left
		c.HostID, c.Desired, c.Force = "", structs.DesiredAbsent, true
		c.Priors = []structs.Prior{{HostID: testID(1<<41 + 52), Epoch: 1}}
	})
	add(func(c *structs.Container) { c.Gone, c.Observed.Status = true, structs.ContainerError })
	add(func(c *structs.Container) { c.DrainStop, c.Observed.Status = true, structs.ContainerStopped })
	add(func(c *structs.Container) {
		*c = structs.Container{Meta: structs.Meta{ID: c.ID}, Placement: structs.Placement{BayID: c.BayID}}
	})
	return all
}

func writeFixtureFiles(t *testing.T, name string) {
	t.Helper()
	var made, changed []structs.Change
	add := func(row structs.Row) {
		ch := put(row, 0)
		_, ch.Assign = row.(structs.Workload)
		made = append(made, ch)
	}
	for i, table := range Tables() {
		switch table {
		case statetest.TablePairs, structs.TableContainers, structs.TableSpecs, structs.TablePods:
			continue
		}
		row := NewRow(table)
		fillAll(reflect.ValueOf(row).Elem(), "")
		row.Base().ID, row.Base().Seq = testID(uint64(i+1)), uint64(i+1)
		switch row := row.(type) {
		case *structs.Cluster:
			row.ID, row.Schema = structs.ClusterRowID, structs.SchemaVersion
		case *structs.Lineages:
			row.ID = structs.LineagesRowID
		case *structs.Quarantine:
			row.ID = structs.QuarantineID(row.HostID, 0)
		}
		add(row)
	}
	containers := fixtureContainers()
	for i, c := range containers {
		ch := put(c, 0)
		ch.Assign = i%2 == 0
		made = append(made, ch)
	}
	large := largeContainer(200, 9<<10)
	spec := specRow(large)
	full := *spec
	fillAll(reflect.ValueOf(&full).Elem(), "")
	full.ID, full.Seq, full.ProjectID = spec.ID, spec.Seq, spec.ProjectID
	full.Spec.Environment["LARGE"], full.Pod = large.Spec.Environment["LARGE"], nil
	made = append(made, put(&full, 0), bare(large, 0), put(node(301), 0))
	for i, p := range []*structs.Pod{largePod(400, 10), largePod(401, 10)} {
		m := p.Meta
		fillAll(reflect.ValueOf(p).Elem(), "")
		p.ID, p.Seq, p.ProjectID = m.ID, m.Seq, m.ProjectID
		ch := assign(p, 0)
		if ch.SpecApart = i == 1; ch.SpecApart {
			spec := p.StoredSpec()
			fillAll(reflect.ValueOf(spec).Elem(), "")
			spec.ID, spec.Seq, spec.ProjectID, spec.Spec = p.Ref().BesideID(), m.Seq, m.ProjectID, structs.PrivateSpec{}
			p.SetSpec(nil)
			made = append(made, put(spec, 0))
		}
		made = append(made, ch)
	}

	moved := *containers[1]
	moved.Priors, moved.HostID, moved.Epoch = []structs.Prior{{HostID: moved.HostID, Epoch: 1, Generation: 1}}, testID(1<<41+60), 2
	second := largeContainer(201, 20<<10)
	changed = append(changed, assign(&moved, 10), drop(node(301), 10), put(node(300), 0),
		put(specRow(second), 0), bare(second, 0))

	s := New()
	write := func(part string, data []byte) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(data); err != nil || z.Close() != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("testdata", name+"."+part+".gz"), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for i, changes := range [][]structs.Change{made, changed} {
		data, err := EncodeEntry(&structs.Entry{Schema: structs.SchemaVersion, Term: 4, Prev: uint64(10 * i), Changes: changes})
		if err != nil {
			t.Fatal(err)
		}
		write([]string{"made", "changed"}[i], data)
		applyBytes(t, s, uint64(10*(i+1)), data)
	}
	write("snap", persisted(t, s))
	write("rows", []byte(dump(s.Snapshot())))
}
