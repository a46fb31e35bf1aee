// Package raftlog is the life of the replicated log: its files and their
// checks, the transport, the state machine that feeds server/state, leadership,
// and the questions that only a leader can answer. It wraps hashicorp/raft.
//
// server opens and runs it; the conductor calls Propose and VerifyLeader; rest
// and dispatch call ReadIndex. See DESIGN.md for how the parts meet.
//
// It never looks into an entry beyond what decides whether it is applied, and
// it never decides what to propose.
package raftlog
