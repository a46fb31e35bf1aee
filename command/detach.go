package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// defaultDetachKeys leave a container's terminal without ending anything, as
// docker's do.
const defaultDetachKeys = "ctrl-p,ctrl-q"

// errDetached says that the user has pressed the detach keys.
var errDetached = errors.New("detached")

// parseDetachKeys reads a sequence such as "ctrl-p,ctrl-q" or "a,b"; "" means
// none.
func parseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for word := range strings.SplitSeq(s, ",") {
		key, isCtrl := strings.CutPrefix(strings.ToLower(word), "ctrl-")
		switch {
		case isCtrl && len(key) == 1 && key[0] >= 'a' && key[0] <= 'z':
			keys = append(keys, key[0]-'a'+1)
		case isCtrl && len(key) == 1 && strings.Contains("@[\\]^_", key):
			keys = append(keys, key[0]-'@')
		case len(word) == 1:
			keys = append(keys, word[0])
		default:
			return nil, fmt.Errorf("has %q, which is neither one character nor ctrl- and a letter or one of @ [ \\ ] ^ _", word)
		}
	}
	return keys, nil
}

// detachReader passes a terminal's input on until the detach keys are typed,
// then calls left and ends. Keys that begin like the sequence are held back
// until it is clear that they don't go on so.
type detachReader struct {
	r        io.Reader
	keys     []byte // not empty
	detached func()

	matched int    // keys of the sequence that are held back
	out     []byte // to be read
	err     error  // after that
}

// Read reads on.
func (d *detachReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(d.out) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.r.Read(p)
		d.match(p[:n])
		if err != nil && d.err == nil {
			d.out = append(d.out, d.keys[:d.matched]...)
			d.matched, d.err = 0, err
		}
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// take looks at what was typed.
func (d *detachReader) match(typed []byte) {
	for _, key := range typed {
		if key == d.keys[d.matched] {
			if d.matched++; d.matched == len(d.keys) {
				d.matched, d.err = 0, errDetached
				d.detached()
				return // what was typed behind it is nobody's
			}
			continue
		}
		d.out = append(d.out, d.keys[:d.matched]...)
		d.matched = 0
		if key == d.keys[0] {
			d.matched = 1 // of at least two: one alone would have been it
			continue
		}
		d.out = append(d.out, key)
	}
}
