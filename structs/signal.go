package structs

import (
	"strconv"
	"strings"
)

// signals maps the names of Linux's signals, without SIG, to their numbers on the
// machines that run containers.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10,
	"SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19,
	"TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28,
	"IO": 29, "PWR": 30, "SYS": 31,
}

// signalNames is the inverse of signals.
var signalNames = func() map[int]string {
	names := make(map[int]string, len(signals))
	for name, number := range signals {
		names[number] = name
	}
	return names
}()

// The range of the real-time signals, which have numbers only.
const (
	minRealTime = 34
	maxRealTime = 64
)

// ParseSignal accepts SIGHUP, HUP, hup or 1 and returns SIGHUP. A real-time signal,
// such as SIGRTMIN+3, is returned as its number. Errors are CodeInvalid.
func ParseSignal(s string) (string, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if signals[name] != 0 {
		return "SIG" + name, nil
	}
	number, err := strconv.Atoi(s)
	for prefix, base := range map[string]int{"RTMIN": minRealTime, "RTMAX": maxRealTime} {
		if offset, ok := strings.CutPrefix(name, prefix); ok {
			number, err = base, nil
			if offset != "" {
				var n int
				n, err = strconv.Atoi(offset) // with its sign
				number += n
			}
		}
	}
	switch {
	case err == nil && signalNames[number] != "":
		return "SIG" + signalNames[number], nil
	case err == nil && number >= minRealTime && number <= maxRealTime:
		return strconv.Itoa(number), nil
	}
	return "", Errorf(CodeInvalid, "signal %.32q is unknown: give a name such as SIGHUP or HUP, or a number in 1..31 or %d..%d",
		s, minRealTime, maxRealTime)
}
