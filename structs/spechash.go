package structs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// SpecHash identifies a spec but for its limits, which may change in a container's
// life: equal specs have equal hashes. Credentials don't count either: a hash
// on a label would let their password be guessed. Two versions may disagree, so a
// different hash never is a reason to remove a container.
func SpecHash(spec *ContainerSpec) string {
	lasting := *spec
	lasting.Memory, lasting.MilliCPU, lasting.Registry = 0, 0, nil
	b, err := json.Marshal(lasting) // map keys are sorted
	if err != nil {
		panic(fmt.Sprintf("structs: a spec that is no JSON: %v", err)) // strings and numbers only
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}
