package election

import (
	"time"

	"golang.org/x/sys/unix"
)

// started is the beginning of the clock where the system has no better one.
var started = time.Now()

// sinceBoot returns the time since the machine's boot. Unlike Go's monotonic clock, it goes
// on while the machine sleeps: an agent that wakes up is no longer the active one.
func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return time.Since(started)
	}
	return time.Duration(t.Nano())
}
