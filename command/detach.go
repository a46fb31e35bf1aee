package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// defaultDetachKeys are the keys that detach from a container's terminal, as in docker.
const defaultDetachKeys = "ctrl-p,ctrl-q"

// errDetached is the error of a session whose user pressed the detach keys.
var errDetached = errors.New("detached")

// parseDetachKeys parses a sequence such as "ctrl-p,ctrl-q" or "a,b"; "" means no keys.
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
			return nil, fmt.Errorf("has %q, which is neither one character nor ctrl- with a letter or one of @ [ \\ ] ^ _", word)
		}
	}
	return keys, nil
}

// detachReader reads a terminal's input until the detach keys are typed. Then it calls
// detached and returns errDetached. It holds back keys that match the beginning of the
// sequence until the next key tells whether they are part of it.
type detachReader struct {
	r        io.Reader
	keys     []byte // not empty
	detached func()

	matched int    // number of keys that are held back
	out     []byte // input for the next Read
	err     error  // returned after out
}

// Read implements io.Reader.
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

// match moves typed keys to out, except those of the sequence.
func (d *detachReader) match(typed []byte) {
	for _, key := range typed {
		if key == d.keys[d.matched] {
			if d.matched++; d.matched == len(d.keys) {
				d.matched, d.err = 0, errDetached
				d.detached()
				return // drop the keys after the sequence
			}
			continue
		}
		d.out = append(d.out, d.keys[:d.matched]...)
		d.matched = 0
		if key == d.keys[0] {
			d.matched = 1 // a sequence of one key was handled above
			continue
		}
		d.out = append(d.out, key)
	}
}
