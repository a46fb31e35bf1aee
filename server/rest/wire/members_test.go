package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

// A repeated member is refused, however many there are.
func TestMembersAreGivenOnce(t *testing.T) {
	for _, n := range []int{1, 15, 16, 17, 18, 40} {
		var members []string
		for i := range n {
			members = append(members, fmt.Sprintf("\"m%d\": %d", i, i))
		}
		visit := func(raw string) (visited int, err error) {
			err = eachMember("", []byte(raw), func(string, json.RawMessage) error { visited++; return nil })
			return visited, err
		}
		if got, err := visit("{" + strings.Join(members, ",") + "}"); err != nil || got != n {
			t.Errorf("%d of %d members were visited: %v", got, n, err)
		}
		for i := range n {
			if _, err := visit("{" + strings.Join(append(members, members[i]), " , ") + " }"); structs.CodeOf(err) != structs.CodeInvalid {
				t.Errorf("of %d members, the %d. was taken twice: %v", n, i, err)
			}
		}
	}
}

// FuzzMembers compares the functions of members.go with encoding/json.
func FuzzMembers(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, ` { "a" : [ 1 , "]" , {"b":"}"} ] , "c\u0064" : "x\\" , "e":-1e5 } `, `{"":null,"t":true}`,
		`{"a":"\"","b":"\\\\","c":{"d":[[],{}]}}`, `[]`, `[1,2 , "3"]`, "[\n{\"a\":\"ü\"}\t]", `{"a":1,"a":2}`, `"x"`, `12`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !json.Valid(raw) {
			return
		}
		raw = bytes.TrimSpace(raw)
		switch raw[0] {
		case '{':
			var want map[string]json.RawMessage
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			got, twice := make(map[string]json.RawMessage), false
			err := eachMember("", raw, func(name string, value json.RawMessage) error {
				got[name] = value
				return nil
			})
			if twice = err != nil && strings.Contains(err.Error(), "twice"); err != nil && !twice {
				t.Fatal(err)
			}
			if !twice && !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %q, not %q", raw, got, want)
			}
		case '[':
			var want []json.RawMessage
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			if got := items(raw); len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %q, not %q", raw, got, want)
			}
		case '"':
			var want string
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			if got := Unquote(raw); got != want {
				t.Fatalf("%q: %q, not %q", raw, got, want)
			}
		}
	})
}
