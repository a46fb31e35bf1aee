// Package infra makes the image of the infra containers of pods: one program of a few
// hundred bytes, which holds what a pod's containers share and does nothing.
//
// The Docker backend loads the image into its engine, so that pods need no registry. The
// program is assembled here, instruction by instruction. It waits for signals. At SIGCHLD
// it reaps all children that have ended, because it is process 1 of a pod whose containers
// share their processes. At SIGTERM or SIGINT it ends with exit code 0.
package infra

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Name is the image's name on the engine, and Label is its label.
const (
	Name  = "magnum/infra:1"
	Label = "magnum.infra" // the version
)

// path is the program's path in the image.
const path = "infra"

// Entrypoint returns the image's entrypoint. Its configuration has no command, environment,
// user or volumes.
func Entrypoint() []string { return []string{"/" + path} }

// Image is the image for one architecture.
type Image struct {
	Archive []byte // for docker load
	Layer   string // digest of the only layer, by which the image is recognized: sha256:HEX
}

// Archs returns the architectures that New knows, in Go's words.
func Archs() []string { return []string{"amd64", "arm64"} }

// New returns the image for an architecture; ok is false if there is none. The same
// bytes come out each time, so an engine that loads it twice has it once.
func New(arch string) (image Image, ok bool) {
	program, ok := Program(arch)
	if !ok {
		return Image{}, false
	}
	layer := archive(file{path, 0o755, program})
	image.Layer = digestOf(layer)
	config := encode(map[string]any{
		"architecture": arch, "os": "linux", "created": time.Unix(0, 0).UTC(),
		"config":  map[string]any{"Entrypoint": Entrypoint(), "Labels": map[string]string{Label: "1"}, "StopSignal": "SIGTERM"},
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{image.Layer}},
		"history": []any{map[string]any{"created": time.Unix(0, 0).UTC(), "comment": "made by magnum"}},
	})
	name := hex.EncodeToString(sum(config)) + ".json"
	manifest := encode([]any{map[string]any{"Config": name, "RepoTags": []string{Name}, "Layers": []string{"layer.tar"}}})
	image.Archive = archive(file{name, 0o644, config}, file{"layer.tar", 0o644, layer}, file{"manifest.json", 0o644, manifest})
	return image, true
}

// Is reports whether an image of the engine with these layers is one of New's.
func Is(layers []string) bool {
	return slices.ContainsFunc(Archs(), func(arch string) bool {
		image, _ := New(arch)
		return slices.Equal(layers, []string{image.Layer})
	})
}

// Program returns the program for an architecture: a static ELF executable.
func Program(arch string) (elf []byte, ok bool) {
	switch arch {
	case "amd64":
		return link(machineAMD64, assemble(amd64, patchAMD64)), true
	case "arm64":
		return link(machineARM64, assemble(arm64, patchARM64)), true
	}
	return nil, false
}

// The machines of ELF headers.
const (
	machineAMD64 = 62
	machineARM64 = 183
)

// The parts of an ELF file. The code follows the headers and is loaded with them.
const (
	headerSize  = 64
	segmentSize = 56
	segments    = 2
	base        = 0x400000
	codeOffset  = headerSize + segments*segmentSize
	pageSize    = 0x10000 // the largest of both architectures
)

// link puts the headers before the code.
func link(machine uint16, code []byte) []byte {
	size := uint64(codeOffset + len(code))
	var elf bytes.Buffer
	put := func(fields ...any) {
		for _, f := range fields {
			if err := binary.Write(&elf, binary.LittleEndian, f); err != nil {
				panic(err) // a field without a fixed size
			}
		}
	}
	elf.WriteString("\x7fELF\x02\x01\x01") // 64 bits, little-endian, version 1
	elf.Write(make([]byte, 9))
	put(uint16(2), machine, uint32(1))                          // executable
	put(uint64(base+codeOffset), uint64(headerSize), uint64(0)) // entry, segments, no sections
	put(uint32(0), uint16(headerSize), uint16(segmentSize))     // no flags
	put(uint16(segments), uint16(0), uint16(0), uint16(0))      // no sections
	put(uint32(1), uint32(4|1), uint64(0), uint64(base))        // load all of the file, to read and execute
	put(uint64(base), size, size, uint64(pageSize))             //
	put(uint32(0x6474e551), uint32(4|2), uint64(0), uint64(0))  // the stack isn't executable
	put(uint64(0), uint64(0), uint64(0), uint64(16))            //
	elf.Write(code)
	return elf.Bytes()
}

// file is an entry of an archive.
type file struct {
	name    string
	mode    int64
	content []byte
}

func archive(files ...file) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: time.Unix(0, 0),
			Format: tar.FormatUSTAR})
		if err == nil {
			_, err = w.Write(f.content)
		}
		if err != nil {
			panic(fmt.Sprintf("infra: archive %s: %v", f.name, err)) // memory takes all
		}
	}
	if err := w.Close(); err != nil {
		panic(fmt.Sprintf("infra: archive: %v", err))
	}
	return buf.Bytes()
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("infra: encode: %v", err)) // strings, lists and maps of them always encode
	}
	return b
}

func sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func digestOf(b []byte) string { return "sha256:" + hex.EncodeToString(sum(b)) }
