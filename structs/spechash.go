package structs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
)

// SpecHash identifies a spec without its limits, which may change while a container
// exists. Equal specs have equal hashes. Secrets are not part of the spec: a hash in a
// label would allow guessing them. Two versions of magnum may compute different
// hashes, so a different hash is never a reason to remove a container.
func SpecHash(spec *ContainerSpec) string {
	fixed := *spec
	fixed.Memory, fixed.MilliCPU = 0, 0
	sum := sha256.Sum256(hashedForm(reflect.ValueOf(fixed)))
	return hex.EncodeToString(sum[:8])
}

// SpecHash identifies the container's spec; see the function SpecHash.
func (c *Container) SpecHash() string { return SpecHash(&c.Spec.ContainerSpec) }

// hashedForm returns the bytes of a spec that are hashed: JSON with the Go names of the
// fields, as in earlier builds. Newer fields are in it only if they are set, so that
// the hashes in the labels of older containers stay valid.
func hashedForm(spec reflect.Value) []byte {
	var buf bytes.Buffer
	for i := range spec.NumField() {
		field := spec.Type().Field(i)
		if !field.IsExported() || !hashedFields[field.Name] && spec.Field(i).IsZero() {
			continue
		}
		b, err := json.Marshal(earlierValue(spec.Field(i))) // map keys are sorted
		if err != nil {
			panic(fmt.Sprintf("structs: encode field %s of a spec: %v", field.Name, err)) // strings and numbers always encode
		}
		buf.WriteByte(',')
		fmt.Fprintf(&buf, "%q:", field.Name)
		buf.Write(b)
		if field.Name == "Healthcheck" {
			buf.WriteString(`,"Registry":null`) // was a field of specs in earlier builds
		}
	}
	form := append(buf.Bytes(), '}')
	form[0] = '{'
	return form
}

// hashedFields holds the fields that are hashed even if they are zero. Never add one.
var hashedFields = map[string]bool{
	"Image": true, "Command": true, "CommandText": true, "Entrypoint": true, "Environment": true, "Labels": true, "Workdir": true,
	"Hostname": true, "User": true, "Ports": true, "Memory": true, "MilliCPU": true, "RestartPolicy": true, "Volumes": true,
	"StopTimeout": true, "TTY": true, "Stdin": true, "AutoRemove": true, "PullPolicy": true, "Constraints": true, "LogMaxSize": true,
	"Healthcheck": true,
}
