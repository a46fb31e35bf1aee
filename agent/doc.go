// Package agent runs on a host and carries out the host's assignments. It registers the
// host, polls for assignments, reconciles the engine with them through a backend, and
// reports what it observes.
//
// The command line makes an Agent and runs it, alone or beside a server. The agent calls
// servers only through package api, and accepts no connections. It never imports a
// server's package, and never decides what should run. It follows answers of its own
// cluster only. It never goes back behind an answer that it has followed, unless the
// leader says that the answer was of another history. It removes unknown containers only
// on a full, confirmed answer. Containers of another history go into quarantine until
// operators decide.
//
// Labels on the engine's objects say what exists. The journal in the data directory keeps
// what labels can't. DESIGN.md says why no action happens twice.
package agent
