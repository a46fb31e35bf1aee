package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

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
