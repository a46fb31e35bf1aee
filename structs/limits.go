package structs

import (
	"strconv"
	"time"
)

// schemaVersion is SchemaVersion in a form that the linker can set: tests build a
// binary of a later schema with -ldflags -X.
var schemaVersion = "6"

// SchemaVersion is the newest schema of log entries and snapshots that this binary
// understands. A server that reads a higher one stops. A cluster writes
// Cluster.Schema, which the leader raises once every server understands it.
var SchemaVersion = func() int {
	n, err := strconv.Atoi(schemaVersion)
	if err != nil || n < LeastSchema {
		panic("structs: schemaVersion was linked as " + schemaVersion)
	}
	return n
}()

// LeastSchema is the schema of a cluster that has never raised it.
const LeastSchema = 1

// The schemas that introduced a feature.
const (
	SchemaLastTime = 2 // time of the last write in snapshots
	SchemaSpecs    = 2 // TableSpecs and Change.SpecApart
	SchemaEngines  = 2 // Fingerprint.Engine, Host.Copies and CopyCount, Observed.EngineID and Prior.EngineID
	SchemaLineages = 2 // TableLineages, TableQuarantine and Host.Quarantined
	// TablePods, TableManifests, TableRCs, TableServices, TableEndpoints; Fingerprint.Kinds and Relay, Host.BayIndex and Problems
	SchemaPods = 3
	// TableObjects, Fingerprint.Cluster, PodSpec.Cluster, and what a cluster's agent reports of pods. Servers of an earlier schema
	// would lose these fields, so nothing writes them before: hosts with the backend kubernetes are not admitted until then.
	SchemaKubernetes = 4
	SchemaQuotas     = 5 // TableQuotas and RCObserved.OverQuota
	// Host.TokenID, Granted and Claimed; Token.MaxHosts and Labels.
	SchemaHosts = 6
)

// Limits of what users may send. A value beyond one is refused with
// CodeInvalid (CodeTooLarge for bodies).
const (
	MaxBody        = 1 << 20  // bytes of a request body
	MaxHeader      = 1 << 20  // bytes of a request's URL and headers, which hold an execute's escaped command and its env
	MaxArchive     = 64 << 20 // bytes of a tar archive, into a container or out of it
	MaxImageFile   = 10 << 30 // bytes of a tar archive of images, streamed
	MaxSnapshot    = 4 << 30  // bytes of a snapshot file, streamed
	MaxListing     = 16 << 20 // bytes of all hosts' answers for one list of images or volumes
	MaxName        = 255      // characters of a name
	MaxPage        = 1000     // objects of one page
	MaxNodeCount   = 1000     // hosts of one bay
	MaxTokenHosts  = 100_000  // hosts of one join token
	MaxText        = 4096     // bytes of an image reference, path, user, ...
	MaxCommand     = 64 << 10
	MaxEnvironment = 256 << 10   // bytes of all environment variables of a container
	MaxVariable    = 128<<10 - 1 // bytes of NAME=VALUE: what Linux takes as one string of a program; words of MaxCommand are shorter
	MaxLabels      = 256         // labels of one object
	MaxLabel       = 4096        // bytes of a label's key or value
	MaxRowLabels   = 64 << 10    // bytes of all labels of a bay, host or pod (with annotations), whose row is written often
	MaxPodName     = 63          // characters of a pod's name, which is a DNS label
	MaxPorts       = 256         // published ports of a container, or ports of a service
	MaxParts       = 100         // parts of a workload in a report
	MaxVolumes     = 64          // volumes of a container
	MaxStopTimeout = 3600        // seconds
	MaxInterval    = 86400       // seconds of a health check's interval, timeout and start period
	MaxRetries     = 1000        // failures in a row of a health check
	MaxWait        = 10 * time.Minute
	MaxDrain       = 30 * 24 * time.Hour // deadline of a drain
	MaxIdempotency = 255                 // characters of an Idempotency-Key
	MinMemory      = 6 << 20             // bytes; the engine refuses less
	MaxMemory      = 1 << 50             // bytes
	MaxMilliCPU    = 1 << 20
	MaxSpec        = 384 << 10            // bytes of a container's or pod's spec, encoded as in an entry
	MaxManifest    = 512 << 10            // bytes of a manifest's text
	MaxInlineSpec  = 8 << 10              // bytes of a spec in its workload's row; a larger one has a row of its own
	MaxReport      = (MaxChanges - 1) / 2 // containers in one status report: two changes each (container, actions), and one for the host
	MaxChanges     = 200                  // changes by one request in one entry
	MaxQueue       = 4096                 // requests that wait for the conductor
	MaxBatch       = 512                  // requests in one entry
	MaxBatchSize   = 512 << 10            // bytes from which on an entry takes no further request
	MaxEntry       = 1 << 20              // bytes of any entry
	MaxLogMaxSize  = 1 << 30
	MinLogMaxSize  = 4 << 10
)

// Limits of services. A request beyond one is refused with CodeQuota. Hosts of a bay get
// all of its services, and node ports are taken on all hosts for all projects, so no project
// of a shared bay may take all of them.
const (
	MaxServices         = 5000 // services of one bay, of all projects together
	MaxProjectServices  = 2000 // services of one project in one bay
	MaxProjectNodePorts = 1000 // node ports of one project in one bay
)

// MaxRegistration bounds the body of a host's registration, in bytes. It is read
// before its sender is authenticated.
const MaxRegistration = 16 << 10

// Defaults of a container.
const (
	DefaultStopTimeout = 10       // seconds
	DefaultLogMaxSize  = 10 << 20 // bytes
)

// MaxWork is the longest time for which a server holds an agent's poll.
const MaxWork = time.Minute
