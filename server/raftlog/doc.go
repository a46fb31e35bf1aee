// Package raftlog runs the replicated log: its files and their checks, the transport,
// the state machine that feeds server/state, leadership, and the questions that only a
// leader can answer. It wraps hashicorp/raft.
//
// server opens and runs it. The conductor calls Propose and VerifyLeader; rest and
// dispatch call ReadIndex. DESIGN.md describes how the parts interact.
//
// It never reads more of an entry than decides whether the entry is applied, and it
// never decides what to propose.
package raftlog
