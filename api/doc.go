// Package api is the Go client of magnum's REST API.
//
// The command line, the agents and other people's programs call it. It turns
// typed requests into HTTP calls and HTTP answers into typed bodies and
// errors, so that structs.CodeOf answers alike on both sides of the wire. It
// imports structs and never a server's or an agent's package, keeps nothing on
// disk, and logs nothing.
package api
