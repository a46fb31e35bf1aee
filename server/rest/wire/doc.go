// Package wire reads and writes what the REST API sends over the wire: bodies of
// requests (Shape, Patch), query arguments (Query), JSON of answers (Encoder) and
// the OpenAPI document that describes them (NewDocument). It keeps to the contract
// of 2015's API: what it took, such as numbers in strings, and its messages.
//
// server/rest, its web and its zun call it. It knows structs alone: no server, no
// state, no caller. Whatever a client has sent, it returns an error for the user, and
// never panics.
package wire
