package lease

import "time"

// sentShift leaves room for 34 years of milliseconds below a registration's number:
// polls of a later registration have higher numbers, whatever clocks there were.
const sentShift = 40

// MaxRegistration is the first number of a registration whose polls can't be numbered
// any more: the host gets no lease then, rather than one that a poll of an earlier
// registration has earned.
const MaxRegistration = 1 << (64 - sentShift)

// graceShare of a lease is what a process has to end by itself once the lease is
// over: a third of what the servers wait beyond it, which is 3/7.
const graceShare = 7

// GraceOf returns what a process has to end by itself after a lease of the length.
func GraceOf(length time.Duration) time.Duration { return length / graceShare }

// Number is the number of a poll that is sent under a registration, so long after the
// agent was started. Numbers of one agent only grow. It is 0 from MaxRegistration on.
func Number(registration uint64, since time.Duration) uint64 {
	if registration >= MaxRegistration {
		return 0
	}
	return registration<<sentShift | uint64(since.Milliseconds())
}

// SentAt returns how long after the agent's start the poll of an acknowledged number
// was sent. ok is false if that is no number of a poll of the registration up to the
// last one, which then says nothing.
func SentAt(number, registration, last uint64) (since time.Duration, ok bool) {
	if number>>sentShift != registration || number > last {
		return 0, false
	}
	return time.Duration(number&(1<<sentShift-1)) * time.Millisecond, true
}
