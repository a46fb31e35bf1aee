package structs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Exclusive says whether at most one copy of a container may run at any
// instant, over all hosts and epochs. In JSON it is false, true or "lease".
type Exclusive string

// The kinds of exclusiveness.
const (
	ExclusiveNo    Exclusive = ""      // a copy on a host that is cut off may run on beside its replacement
	ExclusiveYes   Exclusive = "true"  // placed anew only when its host has said that it is gone, or an operator that the host is off
	ExclusiveLease Exclusive = "lease" // its host stops it when it can't reach the servers, and then it is placed anew by itself
)

// UnmarshalJSON takes true, false and "lease", and the first two as strings.
func (e *Exclusive) UnmarshalJSON(b []byte) error {
	switch s := strings.ToLower(strings.Trim(string(bytes.TrimSpace(b)), `"`)); s {
	case "false", "":
		*e = ExclusiveNo
	case "true", "lease":
		*e = Exclusive(s)
	default:
		return fmt.Errorf("%s is none of true, false, lease", quoteJSON(b))
	}
	return nil
}

// MarshalJSON writes true, false or "lease".
func (e Exclusive) MarshalJSON() ([]byte, error) {
	if e == ExclusiveLease {
		return json.Marshal(string(e))
	}
	return json.Marshal(e == ExclusiveYes)
}
