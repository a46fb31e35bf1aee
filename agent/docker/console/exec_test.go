package console

import (
	"io"
	"testing"
)

// TestNoProgram tells a missing program from other reasons why a command can't be executed.
func TestNoProgram(t *testing.T) {
	const oci = "OCI runtime exec failed: exec failed: unable to start container process: "
	for text, want := range map[string]bool{
		oci + `exec: "nope": executable file not found in $PATH: unknown`:                   true,
		oci + `exec: "/nope": stat /nope: no such file or directory: unknown`:               true,
		oci + `chdir to cwd ("/nope") set in config.json failed: no such file or directory`: false,
		oci + `exec: "/etc": permission denied: unknown`:                                    false,
		`unable to find user nope: no matching entries in passwd file`:                      false,
		`ls: /nope: No such file or directory`:                                              false,
	} {
		b := &beginning{w: io.Discard}
		for _, c := range []byte(text) {
			_, _ = b.Write([]byte{c})
		}
		if b.noProgram() != want {
			t.Errorf("%q: %v", text, !want)
		}
		if _, _ = b.Write(make([]byte, 5000)); len(b.text) != 1024 {
			t.Errorf("%d bytes are kept", len(b.text))
		}
	}
}
