// Package wire reads and writes the messages of the REST API: request bodies (Shape,
// Patch), query arguments (Query), JSON answers (Encoder) and the OpenAPI document
// that describes them (NewDocument). It keeps the contract of the API of 2015: the
// accepted forms, such as numbers in strings, and the error messages.
//
// server/rest and its packages web and zun call it. It imports only structs, and knows
// no server, state or caller. Invalid input always returns an error for the user, and
// never panics.
package wire
