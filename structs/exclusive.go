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

// The values of Exclusive.
const (
	ExclusiveNo    Exclusive = ""      // a copy on a host that is cut off may keep running beside its replacement
	ExclusiveYes   Exclusive = "true"  // placed again only after its host has reported it gone, or an operator has fenced the host
	ExclusiveLease Exclusive = "lease" // its host stops it when it can't reach the servers; it is then placed again automatically
)

// UnmarshalJSON accepts true, false and "lease", and true and false as strings.
func (e *Exclusive) UnmarshalJSON(b []byte) error {
	switch s := strings.ToLower(strings.Trim(string(bytes.TrimSpace(b)), `"`)); s {
	case "false", "":
		*e = ExclusiveNo
	case "true", "lease":
		*e = Exclusive(s)
	default:
		return fmt.Errorf("%s must be one of true, false, lease", quoteJSON(b))
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
