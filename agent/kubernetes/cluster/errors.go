package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Unanswered reports whether a call failed without an answer of the API: whether a write
// was carried out is unknown then. A write that Config.Allowed refused isn't such a call.
func Unanswered(err error) bool {
	var status apierrors.APIStatus
	var refused *RefusedWrite
	return err != nil && !errors.As(err, &status) && !errors.As(err, &refused)
}

// Brief returns why the API doesn't answer, without what differs with each try.
func Brief(err error) string {
	var op *net.OpError
	var call *url.Error
	var sys *os.SyscallError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("it has not answered within %s", probeTimeout)
	case errors.As(err, &sys):
		return sys.Err.Error()
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.As(err, &call):
		return call.Err.Error()
	}
	return err.Error()
}

// tooOld reports whether a watch has to begin with a new list.
func tooOld(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// failedChecks returns the lines of a /readyz that name failed checks.
func failedChecks(body string) string {
	var failed []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			failed = append(failed, strings.TrimSpace(strings.TrimPrefix(line, "[-]")))
		}
	}
	if len(failed) == 0 {
		return http.StatusText(http.StatusInternalServerError)
	}
	return strings.Join(failed, "; ")
}
