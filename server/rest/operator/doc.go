// Package operator has the routes for those who run the servers: the log's membership, the
// members of gossip, snapshots, metrics, and what probes and load balancers ask.
//
// server/rest joins them with the routes of users. Package operator decides nothing: it
// asks server/service, and the functions that it was given.
package operator
