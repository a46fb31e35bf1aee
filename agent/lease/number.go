package lease

import "time"

// sentShift leaves room for 34 years in milliseconds below a registration's number.
// Polls of a later registration so have higher numbers, whatever the clocks say.
const sentShift = 40

// MaxRegistration is the first registration whose polls can't be numbered. Such a host
// gets no lease; otherwise it could take one that a poll of an earlier registration has
// earned.
const MaxRegistration = 1 << (64 - sentShift)

// A process may take 1/graceShare of the lease's length to end by itself. That is a
// third of the time that the servers wait beyond the lease, which is 3/7 of its length.
const graceShare = 7

// GraceOf returns how long a process may take to end by itself after a lease of length.
func GraceOf(length time.Duration) time.Duration { return length / graceShare }

// Number returns the number of a poll that is sent under a registration, since after the
// agent's start. The numbers of one agent only grow. 0 from MaxRegistration on.
func Number(registration uint64, since time.Duration) uint64 {
	if registration >= MaxRegistration {
		return 0
	}
	return registration<<sentShift | uint64(since.Milliseconds())
}

// SentAt returns how long after the agent's start the poll with the acknowledged number
// was sent. ok is false if no poll of the registration up to the poll numbered last has
// that number.
func SentAt(number, registration, last uint64) (since time.Duration, ok bool) {
	if number>>sentShift != registration || number > last {
		return 0, false
	}
	return time.Duration(number&(1<<sentShift-1)) * time.Millisecond, true
}
