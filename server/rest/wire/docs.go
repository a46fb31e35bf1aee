package wire

import (
	_ "embed"
	"encoding/json"
	"path"
	"reflect"
	"sync"
)

// The OpenAPI document's text for a type or a field is written above it, in lines that
// begin with //api:doc. The program has no access to comments, so docs.json holds the
// texts too. TestDocs writes it, and fails if it differs from the comments.
//
//go:generate go test . -run ^TestDocs$ -update

//go:embed docs.json
var docsJSON []byte

// docs returns the texts by type, such as "structs.BayBody", and JSON name. The text of
// the type itself has the name "".
var docs = sync.OnceValue(func() map[string]map[string]string {
	var all map[string]map[string]string
	if err := json.Unmarshal(docsJSON, &all); err != nil {
		panic(err) // docs.json is embedded, so any test would fail
	}
	return all
})

// docOf returns the text for a field of a type; "" if there is none. The name "" stands
// for the type itself.
func docOf(t reflect.Type, name string) string {
	return docs()[path.Base(t.PkgPath())+"."+t.Name()][name]
}
