package datapath

import (
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sync"
)

// self is this program, also if its file was moved or replaced.
const self = "/proc/self/exe"

// build identifies the program that runs: a hash of the linker's build ID, or of the whole
// file if it has none.
var build = sync.OnceValues(func() (string, error) {
	f, err := os.Open(self)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	if program, err := elf.NewFile(f); err == nil {
		if note := program.Section(".note.go.buildid"); note != nil {
			if id, err := note.Data(); err == nil && len(id) > 32 { // with a header of 16 bytes
				hash.Write(id)
				return name(hash.Sum(nil)), nil
			}
		}
	}
	if _, err := io.Copy(hash, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return "", fmt.Errorf("%s can't be read: %w", self, err)
	}
	return name(hash.Sum(nil)), nil
})

// name shortens a hash.
func name(sum []byte) string { return hex.EncodeToString(sum[:8]) }
