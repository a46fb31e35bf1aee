package server

import "syscall"

// Bounds of the settings of connections.
const (
	minConns = 16
	maxConns = 1 << 20

	defaultMaxConns     = 16384 // this many parked requests take about half a GiB
	defaultMaxPerClient = 256
	otherFiles          = 512 // open files other than connections of the REST API
)

// maxConns returns the limit of connections of the REST API; 0 means no limit.
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

// connsFor returns how many connections a limit of open files leaves room for.
func connsFor(files uint64) int {
	if files >= defaultMaxConns+otherFiles {
		return defaultMaxConns
	}
	return max(minConns, int(files)/2, int(files)-otherFiles)
}

// maxPerClient returns the limit of connections without a valid credential for one
// client address; 0 means no limit.
func (c Config) maxPerClient() int {
	switch {
	case c.HTTPMaxConnsPerClient < 0:
		return 0
	case c.HTTPMaxConnsPerClient > 0:
		return c.HTTPMaxConnsPerClient
	}
	return defaultMaxPerClient
}
