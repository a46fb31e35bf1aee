package mirror

import (
	"errors"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/stackforge/magnum/structs"
)

// The pauses before something is tried again.
const (
	firstPause   = 500 * time.Millisecond // after a failure that may pass by itself; doubled each time
	quotaPause   = 5 * time.Second        // after a refusal, which may be a quota's; doubled each time
	quotaMost    = time.Minute
	invalidMost  = 10 * time.Minute // of what can only change with the cluster
	foreignPause = 15 * time.Second // while somebody else's object has the name
	accountPause = 100 * time.Millisecond
	accountTries = 50 // until a namespace's service account is missed for good
)

// verdict is what the outcome of a call means.
type verdict struct {
	kind   outcome
	reason string // word for word
	code   structs.Code
}

type outcome int

const (
	fine        outcome = iota
	missing             // there is no such object
	taken               // there is an object of the name
	changed             // the object isn't the one that was decided on
	refusedCall         // the cluster doesn't want it
	account             // the namespace has no service account yet
	ending              // the namespace is being deleted
	passing             // may pass by itself
)

// judge returns what the outcome of a call means.
func judge(c *Call, err error) verdict {
	if err == nil {
		return verdict{}
	}
	v := verdict{kind: passing, reason: err.Error()}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return v
	}
	s := status.Status()
	v.reason = s.Message
	switch {
	case apierrors.IsNotFound(err) && c.Verb == Create: // its namespace
		v.kind = ending
	case apierrors.IsNotFound(err):
		v.kind = missing
	case apierrors.IsAlreadyExists(err):
		v.kind = taken
	case apierrors.IsConflict(err) && c.Verb == Create: // a quota that is being counted
		v.kind = passing
	case apierrors.IsConflict(err):
		v.kind = changed
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		v.kind = ending
	case apierrors.IsForbidden(err) && strings.Contains(v.reason, "error looking up service account"):
		v.kind = account
	case apierrors.IsTooManyRequests(err), apierrors.IsUnauthorized(err), s.Code == 408:
	case s.Code >= 400 && s.Code < 500:
		v.kind = refusedCall
	}
	switch {
	case isInvalid(err):
		v.code = structs.CodeInvalid
	case apierrors.IsForbidden(err):
		v.code = structs.CodeForbidden // a quota's refusal, too
	}
	return v
}

// pauseAfter returns the pause after a number of failures in a row.
func pauseAfter(tries int, most time.Duration) time.Duration { return doubled(firstPause, tries, most) }

// doubled doubles a pause with each try after the first, up to most.
func doubled(first time.Duration, tries int, most time.Duration) time.Duration {
	d := first
	for ; tries > 1 && d < most; tries-- {
		d *= 2
	}
	return min(d, most)
}

// refusal is why the cluster doesn't want a workload's newest generation.
type refusal struct {
	generation uint64
	reason     string // word for word
	code       structs.Code
	tries      int
}

// isInvalid reports whether only another manifest, or another cluster, can help.
func isInvalid(err error) bool { return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) }
