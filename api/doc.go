// Package api is the Go client of magnum's REST API.
//
// The command line, the agents and other people's programs call it. It turns
// typed requests into HTTP requests, and HTTP responses into typed bodies and
// errors: structs.CodeOf gives the same code on both sides of the wire. It
// imports structs and no package of the server or the agent, writes nothing to
// disk, and logs nothing.
package api
