package structs

// The JSON bodies of the REST API are declared with their nouns: what clients send
// (…Request) and what servers answer (…Body). Their field order is that of the
// contract's tables. This file holds what nouns share.

// Link is one entry of an object's "links".
type Link struct {
	Href string `json:"href"`
	Rel  string `json:"rel"` // self or bookmark
}

// PatchOp is one operation of a PATCH body: add, replace or remove of RFC 6902.
//
//api:doc One operation of a PATCH.
type PatchOp struct {
	Op    string `json:"op"`   // add, replace or remove
	Path  string `json:"path"` // "/field" or "/field/key"
	Value any    `json:"value,omitempty"`
}
