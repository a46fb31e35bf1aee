package rest

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// FuzzContainerLine compares what a container writes of itself in a list with
// what encoding/json writes.
func FuzzContainerLine(f *testing.F) {
	f.Add("web-1", "sh -c 'x'", "a", "b", byte(0))
	f.Add("ü\"\\\x00\x7f", "", "\xff", "<&>\u2028", byte(1))
	f.Add("", "", "", "", byte(2))
	f.Fuzz(func(t *testing.T, name, text, one, two string, args byte) {
		c := &structs.Container{
			Meta: structs.Meta{ID: two}, Name: name, BayID: one,
			Spec: structs.ContainerSpec{Image: two, CommandText: text},
		}
		for i := range args % 3 {
			c.Spec.Command = append(c.Spec.Command, []string{one, two}[i])
		}
		v := view{base: "http://" + one}
		want, err := json.Marshal(containerBrief{
			UUID: c.ID, Name: name, BayUUID: one, ImageID: two, Status: c.Status(),
			Command: command(c.Spec.Command, text), Links: v.links("containers", c.ID),
		})
		if err != nil {
			t.Fatal(err)
		}
		got := containerLine{v.base, c}.appendJSON([]byte(" "))[1:]
		var g, w any
		if err := json.Unmarshal(got, &g); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		if err := json.Unmarshal(want, &w); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(g, w) {
			t.Fatalf("%s, not %s", got, want)
		}
	})
}
