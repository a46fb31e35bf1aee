package mirror

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestMerge(t *testing.T) {
	for _, c := range []struct{ name, original, modified, current, want string }{
		{"a field is set", `{"a":1}`, `{"a":2}`, `{"a":1,"server":9}`, `{"a":2,"server":9}`},
		{"a field is removed", `{"a":1,"b":2}`, `{"a":1}`, `{"a":1,"b":2,"server":9}`, `{"a":1,"server":9}`},
		{"a field that somebody else has removed is set", `{"a":1}`, `{"a":1}`, `{}`, `{"a":1}`},
		{"in an object", `{"o":{"a":1,"b":1}}`, `{"o":{"a":2}}`, `{"o":{"a":1,"b":1,"server":9}}`, `{"o":{"a":2,"server":9}}`},
		{"an object is removed", `{"o":{"a":1}}`, `{}`, `{"o":{"a":1,"server":9}}`, `{}`},
		{"containers by name", `{"containers":[{"name":"x","image":"1"},{"name":"old"}]}`,
			`{"containers":[{"name":"new"},{"name":"x","image":"2"}]}`,
			`{"containers":[{"name":"x","image":"1","server":9},{"name":"old"},{"name":"injected"}]}`,
			`{"containers":[{"name":"new"},{"name":"x","image":"2","server":9},{"name":"injected"}]}`},
		{"a mount that was injected stays", `{"volumeMounts":[{"mountPath":"/a","name":"a"}]}`, `{"volumeMounts":[{"mountPath":"/b","name":"b"}]}`,
			`{"volumeMounts":[{"mountPath":"/a","name":"a"},{"mountPath":"/token","name":"t"}]}`,
			`{"volumeMounts":[{"mountPath":"/b","name":"b"},{"mountPath":"/token","name":"t"}]}`},
		{"ports by number and protocol", `{"ports":[{"port":53}]}`, `{"ports":[{"port":53},{"port":53,"protocol":"UDP"}]}`,
			`{"ports":[{"port":53,"protocol":"TCP","nodePort":30000}]}`,
			`{"ports":[{"port":53,"protocol":"TCP","nodePort":30000},{"port":53,"protocol":"UDP"}]}`},
		{"other lists as a whole", `{"command":["a"]}`, `{"command":["b"]}`, `{"command":["a"]}`, `{"command":["b"]}`},
		{"a list that the manifest has not changed", `{"finalizers":["a"]}`, `{"finalizers":["a"]}`, `{"finalizers":["a","server"]}`,
			`{"finalizers":["a","server"]}`},
		{"a toleration that was added stays", `{"tolerations":[{"key":"a","operator":"Exists"}]}`,
			`{"tolerations":[{"key":"a","operator":"Exists"},{"key":"b","value":"v"}]}`,
			`{"tolerations":[{"key":"a","operator":"Exists"},{"key":"server","operator":"Exists","effect":"NoExecute"}]}`,
			`{"tolerations":[{"key":"a","operator":"Exists"},{"key":"b","value":"v"},{"key":"server","operator":"Exists","effect":"NoExecute"}]}`},
		{"another type", `{"a":1}`, `{"a":{"b":1}}`, `{"a":1}`, `{"a":{"b":1}}`},
	} {
		var original, modified, current, want any
		for text, to := range map[*string]*any{&c.original: &original, &c.modified: &modified, &c.current: &current, &c.want: &want} {
			if err := json.Unmarshal([]byte(*text), to); err != nil {
				t.Fatal(err)
			}
		}
		if got := merge("", original, modified, current); !reflect.DeepEqual(got, want) {
			b, _ := json.Marshal(got)
			t.Errorf("%s: %s, want %s", c.name, b, c.want)
		}
	}
}
