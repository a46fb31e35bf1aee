package structs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
)

// SpecHash identifies a spec but for its limits, which may change in a container's
// life: equal specs have equal hashes. Secrets aren't in a spec: a hash
// on a label would let them be guessed. Two versions may disagree, so a
// different hash never is a reason to remove a container.
func SpecHash(spec *ContainerSpec) string {
	lasting := *spec
	lasting.Memory, lasting.MilliCPU = 0, 0
	sum := sha256.Sum256(hashedForm(reflect.ValueOf(lasting)))
	return hex.EncodeToString(sum[:8])
}

// SpecHash identifies the container's spec; see the function SpecHash.
func (c *Container) SpecHash() string { return SpecHash(&c.Spec.ContainerSpec) }

// hashedForm is what a spec is hashed as: the JSON that it had before its fields had
// names in JSON. Fields from later on are in it only if they are set, so that the
// hashes on the labels of older containers stay those of their specs.
func hashedForm(spec reflect.Value) []byte {
	var buf bytes.Buffer
	for i := range spec.NumField() {
		field := spec.Type().Field(i)
		if !field.IsExported() || !hashedFields[field.Name] && spec.Field(i).IsZero() {
			continue
		}
		b, err := json.Marshal(earlierValue(spec.Field(i))) // map keys are sorted
		if err != nil {
			panic(fmt.Sprintf("structs: a spec that is no JSON: %v", err)) // strings and numbers only
		}
		buf.WriteByte(',')
		fmt.Fprintf(&buf, "%q:", field.Name)
		buf.Write(b)
		if field.Name == "Healthcheck" {
			buf.WriteString(`,"Registry":null`) // which was a field of specs then
		}
	}
	form := append(buf.Bytes(), '}')
	form[0] = '{'
	return form
}

// hashedFields are the fields that are hashed even if they are zero. Never add one.
var hashedFields = map[string]bool{
	"Image": true, "Command": true, "CommandText": true, "Entrypoint": true, "Environment": true, "Labels": true, "Workdir": true,
	"Hostname": true, "User": true, "Ports": true, "Memory": true, "MilliCPU": true, "RestartPolicy": true, "Volumes": true,
	"StopTimeout": true, "TTY": true, "Stdin": true, "AutoRemove": true, "PullPolicy": true, "Constraints": true, "LogMaxSize": true,
	"Healthcheck": true,
}
