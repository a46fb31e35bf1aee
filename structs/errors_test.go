package structs

import (
	"errors"
	"testing"
)

func TestErrorSaysItsCauseOnce(t *testing.T) {
	cause := errors.New("address already in use")
	wrapped := Errorf(CodeConflict, "port 1 is taken: %w", cause)
	if got := wrapped.Error(); got != "port 1 is taken: address already in use" ||
		!errors.Is(wrapped, cause) || CodeOf(wrapped) != CodeConflict {
		t.Errorf("%q, %v", got, CodeOf(wrapped))
	}
	other := errors.New("nobody knows")
	both := Errorf(CodeNoLeader, "%w (%w)", wrapped, other)
	if got := both.Error(); got != "port 1 is taken: address already in use (nobody knows)" ||
		!errors.Is(both, cause) || !errors.Is(both, other) || CodeOf(both) != CodeNoLeader {
		t.Errorf("%q, %v", got, CodeOf(both))
	}
	hidden := &Error{Code: CodeInternal, Msg: "it failed", Err: cause}
	if got := hidden.Error(); got != "it failed: address already in use" {
		t.Errorf("%q", got)
	}
}
