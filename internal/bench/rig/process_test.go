package rig

import "testing"

func TestGoroutinesOfLastCompleteTraceAreCounted(t *testing.T) {
	const trace = "SCHED 2000ms: gomaxprocs=2 idleprocs=2\n  P0: status=0 m=nil\n  M1: p=nil curg=nil\n" +
		"  G1: status=4(chan receive) m=nil lockedm=nil\n  G2: status=4(force gc (idle)) m=nil lockedm=nil\n" +
		"  G3: status=6() m=nil lockedm=nil\n"
	incomplete := "SCHED 6000ms: gomaxprocs=2\n  G1: status=4(sel"
	if n, err := goroutinesIn("2026-11-26 [INFO] G7: status=4(\n" + trace + trace + incomplete); n != 2 || err != nil {
		t.Errorf("%v goroutines, want 2: %v", n, err)
	}
	if n, err := goroutinesIn(trace); err == nil {
		t.Errorf("counted %v goroutines of a trace that may be incomplete", n)
	}
}
