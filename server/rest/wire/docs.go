package wire

import (
	_ "embed"
	"encoding/json"
	"path"
	"reflect"
	"sync"
)

// What the OpenAPI document says of a type or a field stands above it, in lines that
// begin with //api:doc. A program has no comments, so docs.json has them as well: a test
// makes it, and fails while it is another than what stands at the fields.
//
//go:generate go test . -run ^TestDocs$ -update

//go:embed docs.json
var docsJSON []byte

// docs has the texts by type, such as "structs.BayBody", and JSON name; that of the type
// itself is under "".
var docs = sync.OnceValue(func() map[string]map[string]string {
	var all map[string]map[string]string
	if err := json.Unmarshal(docsJSON, &all); err != nil {
		panic(err) // any test shows it
	}
	return all
})

// docOf returns what the document says of a field of a type, "" if nothing. name "" is
// the type itself.
func docOf(t reflect.Type, name string) string {
	return docs()[path.Base(t.PkgPath())+"."+t.Name()][name]
}
