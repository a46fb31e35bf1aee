package server

import "syscall"

// Bounds of the settings of connections.
const (
	minConns = 16
	maxConns = 1 << 20

	defaultMaxConns     = 16384 // parked requests of so many take about half a GiB
	defaultMaxPerClient = 256
	otherFiles          = 512 // open files that are no connections of the REST API
)

// maxConns is how many connections the REST API has; 0 for no bound.
func (c Config) maxConns() int {
	switch {
	case c.HTTPMaxConns < 0:
		return 0
	case c.HTTPMaxConns > 0:
		return c.HTTPMaxConns
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return defaultMaxConns
	}
	return connsFor(limit.Cur)
}

// connsFor is how many connections a limit of open files leaves room for.
func connsFor(files uint64) int {
	if files >= defaultMaxConns+otherFiles {
		return defaultMaxConns
	}
	return max(minConns, int(files)/2, int(files)-otherFiles)
}

// maxPerClient is how many unproven connections an address has; 0 for no bound.
func (c Config) maxPerClient() int {
	switch {
	case c.HTTPMaxConnsPerClient < 0:
		return 0
	case c.HTTPMaxConnsPerClient > 0:
		return c.HTTPMaxConnsPerClient
	}
	return defaultMaxPerClient
}
