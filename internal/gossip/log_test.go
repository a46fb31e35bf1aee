package gossip

import (
	"fmt"
	"log"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestMemberlistLinesGetLevelAndAddr(t *testing.T) {
	for line, want := range map[string]string{
		"[ERR] memberlist: Failed to send ping: no route from=192.0.2.1:5": "[WARN]  Failed to send ping: no route: addr=192.0.2.1:5",
		"[ERR] memberlist: Decrypt packet failed: no key from=192.0.2.1:5": "[ERROR] Decrypt packet failed: no key: addr=192.0.2.1:5",
		`[ERR] memberlist: discarding stream with unacceptable label "x": from=192.0.2.1:5`: "[ERROR] discarding stream " +
			`with unacceptable label "x": addr=192.0.2.1:5`,
		"[WARN] memberlist: UDP probes failed":                      "[WARN]  UDP probes failed",
		"[INFO] memberlist: Updating address":                       "[INFO]  Updating address",
		"[INFO] memberlist: Suspect x has failed, no acks received": "[DEBUG] Suspect x has failed",
		"[DEBUG] memberlist: Stream connection from=192.0.2.1:5":    "[DEBUG] Stream connection: addr=192.0.2.1:5",
		"Err: Could not set the deadline: x":                        "[WARN]  Err: Could not set the deadline: x",
		"[WARN] memberlist: Refuting an alive message for 'x'":      "[DEBUG] Refuting",
	} {
		var out logBuffer
		w := &logWriter{logger: hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Debug}), once: &once{}}
		log.New(w, "", 0).Print(line)
		if out.count(want) != 1 {
			t.Errorf("%q became %q, want %q", line, out.buf.String(), want)
		}
	}
}

func TestRepeatedLinesAreLoggedOncePerPeer(t *testing.T) {
	var out logBuffer
	w := &logWriter{logger: hclog.New(&hclog.LoggerOptions{Output: &out, Level: hclog.Info}), once: &once{}}
	l := log.New(w, "", 0)
	for i := range 100 {
		for host := range 3 {
			l.Printf("[ERR] memberlist: discarding stream with unacceptable label %q: from=192.0.2.%d:%d",
				strings.Repeat("x", i), host, 1000+i)
			l.Printf("[ERR] memberlist: msg type (%d) not supported from=192.0.2.%d:%d", i, host, 1000+i)
		}
	}
	for _, text := range []string{"unacceptable label", "msg type"} {
		if n := out.count(text); n != 3 {
			t.Errorf("%q was logged %d times, want once for each of 3 peers", text, n)
		}
	}
}

func TestOnceIsBoundedAndForgets(t *testing.T) {
	var o once
	for i := range 3 * onceMax {
		if !o.first(fmt.Sprint(i)) {
			t.Fatalf("new key %d is not first", i)
		}
		if len(o.seen) > onceMax {
			t.Fatalf("%d keys are kept, more than %d", len(o.seen), onceMax)
		}
	}
	o.first("x")
	if o.first("x") {
		t.Error("a key is first twice in a row")
	}
	o.seen["x"] = time.Now().Add(-2 * onceFor)
	if !o.first("x") {
		t.Error("a key is not first again after onceFor")
	}
	o.reset("x")
	if !o.first("x") {
		t.Error("a key is not first again after reset")
	}
}
