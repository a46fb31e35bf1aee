// Package agent makes a host run what its cluster wants of it: it registers,
// pulls the host's assignments by long poll, reconciles the engine to them
// through a backend, and reports what it sees.
//
// The command line makes an Agent and runs it, alone or beside a server. It
// speaks to servers only through package api, all calls going out, and never
// imports a server's package. It never decides what should run: it follows
// answers of its own cluster, never goes back behind one that it has followed
// unless the leader says that it was of another history, and removes what it was
// not told of only on a full answer that the cluster has confirmed. What is of
// another history goes into quarantine instead, until operators end that.
//
// Labels on the engine's objects say what exists; the journal in the data dir
// keeps what labels can't. DESIGN.md tells how no action happens twice.
package agent
