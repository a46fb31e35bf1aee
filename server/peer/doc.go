// Package peer makes the calls of one server to another: a write that only the
// leader can decide, its read index, which hosts were heard of, sessions that
// wait for a host, and the vote on a new cluster. There is one protocol, HTTP:
// these are routes below /v1/peer of the REST API, and forwarded requests are
// the users' own.
//
// package server makes one and hands it to rest and dispatch, which declare what
// they need of it. It knows no state and decides nothing.
package peer
