package structs

import (
	"strconv"
	"testing"
)

func TestParseSignal(t *testing.T) {
	for in, want := range map[string]string{
		"SIGKILL": "SIGKILL", "KILL": "SIGKILL", "kill": "SIGKILL", "sigkill": "SIGKILL", "9": "SIGKILL", "1": "SIGHUP",
		"31": "SIGSYS", "34": "34", "64": "64", "SIGRTMIN": "34", "rtmin+3": "37", "RTMAX-1": "63", "SIGRTMAX": "64",
	} {
		if got, err := ParseSignal(in); got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "0", "-1", "32", "33", "65", "SIG", "SIGSIGHUP", "SIGNOPE", "9 ", "1e0", "RTMIN+31", "RTMIN+x",
		"RTMAX+1", "RTMIN-1", "\x00"} {
		if got, err := ParseSignal(bad); CodeOf(err) != CodeInvalid {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
	// Names and numbers say the same.
	for name, n := range signals {
		a, _ := ParseSignal(name)
		if b, err := ParseSignal(strconv.Itoa(n)); a != b || err != nil {
			t.Errorf("%s is %s, %d is %s", name, a, n, b)
		}
	}
}
