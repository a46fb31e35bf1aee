package rest

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/structs"
)

// FuzzAppendContainerSummary compares the summary of a container with that of
// encoding/json.
func FuzzAppendContainerSummary(f *testing.F) {
	f.Add("web-1", "sh -c 'x'", "a", "b", byte(0))
	f.Add("ü\"\\\x00\x7f", "", "\xff", "<&>\u2028", byte(1))
	f.Add("", "", "", "", byte(2))
	f.Fuzz(func(t *testing.T, name, text, one, two string, args byte) {
		c := &structs.Container{
			Meta: structs.Meta{ID: structs.NewID()}, Name: name, Placement: structs.Placement{BayID: structs.NewID()},
			Spec: structs.PrivateSpec{ContainerSpec: structs.ContainerSpec{Image: two, CommandText: text}},
		}
		for i := range args % 3 {
			c.Spec.Command = append(c.Spec.Command, []string{one, two}[i])
		}
		v := web.View{Base: "http://" + one}
		want, err := json.Marshal(containers.Summary(v, c))
		if err != nil {
			t.Fatal(err)
		}
		got := appendContainerSummary([]byte(" "), v.Base, c)[1:]
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
