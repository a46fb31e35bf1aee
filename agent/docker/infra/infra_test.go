package infra

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20s: %s", what)
		}
	}
}

// statusOf returns a field of /proc/PID/status.
func statusOf(pid int, field string) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	for _, line := range strings.Split(string(b), "\n") {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// childrenOf returns the children of a process, zombies included.
func childrenOf(t *testing.T, pid int) (children []int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range all {
		if child, _ := strconv.Atoi(filepath.Base(dir)); statusOf(child, "PPid") == strconv.Itoa(pid) {
			children = append(children, child)
		}
	}
	return children
}

// TestProgram runs the program of this machine: it pauses, reaps, and ends.
func TestProgram(t *testing.T) {
	program, ok := Program(runtime.GOARCH)
	if !ok {
		t.Skip("there is no program for " + runtime.GOARCH)
	}
	path := filepath.Join(t.TempDir(), "infra")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		// The shell becomes the program, and its two children are the program's.
		cmd := exec.Command("sh", "-c", `cat <&3 & cat <&3 & exec 3<&-; exec "$0"`, path)
		cmd.ExtraFiles = []*os.File{r}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		r.Close()
		pid := cmd.Process.Pid
		eventually(t, "it waits", func() bool {
			return statusOf(pid, "Name") == "infra" && strings.HasPrefix(statusOf(pid, "State"), "S")
		})
		if got := childrenOf(t, pid); len(got) != 2 {
			t.Fatalf("its children are %v, want two", got)
		}
		w.Close()
		eventually(t, "its children are reaped", func() bool { return len(childrenOf(t, pid)) == 0 })
		if state := statusOf(pid, "State"); !strings.HasPrefix(state, "S") {
			t.Errorf("with nothing to do its state is %s", state)
		}
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %s it ends with %v, want exit code 0", signal, err)
		}
	}
}

// TestDisassembly compares the programs with what a disassembler has read in them.
func TestDisassembly(t *testing.T) {
	for _, arch := range Archs() {
		want, err := os.ReadFile(filepath.Join("testdata", arch+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		program, _ := Program(arch)
		code := program[codeOffset:]
		for _, line := range strings.Split(strings.TrimSpace(string(want)), "\n") {
			hex, text, _ := strings.Cut(line, "\t")
			var b []byte
			if _, err := fmt.Sscanf(strings.ReplaceAll(hex, " ", ""), "%x", &b); err != nil {
				t.Fatalf("%s: %q: %v", arch, line, err)
			}
			if !bytes.HasPrefix(code, b) {
				t.Fatalf("%s: at %#x it has % x, want % x: %s", arch, len(program)-len(code), code[:min(len(b), len(code))], b, text)
			}
			code = code[len(b):]
		}
		if got := binary.LittleEndian.AppendUint64(nil, signals); !bytes.Equal(code, got) {
			t.Errorf("%s: after the code there is % x, want % x", arch, code, got)
		}
	}
}

func TestELF(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		program, _ := Program(arch)
		f, err := elf.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine || f.Type != elf.ET_EXEC || f.Entry != base+codeOffset || len(f.Progs) != 2 {
			t.Errorf("%s is %+v", arch, f.FileHeader)
		}
		if p := f.Progs[0]; p.Flags != elf.PF_R|elf.PF_X || p.Filesz != uint64(len(program)) || p.Vaddr%p.Align != p.Off%p.Align {
			t.Errorf("%s is loaded as %+v", arch, p.ProgHeader)
		}
		if len(program) > 512 {
			t.Errorf("%s has %d bytes", arch, len(program))
		}
	}
}

// TestImage: the archive is a docker save of one image with one layer, and always the same.
func TestImage(t *testing.T) {
	if _, ok := New("s390x"); ok {
		t.Error("there is an image for s390x")
	}
	seen := make(map[string]bool)
	for _, arch := range Archs() {
		image, _ := New(arch)
		if again, _ := New(arch); !bytes.Equal(image.Archive, again.Archive) || again.Layer != image.Layer {
			t.Errorf("%s: two archives differ", arch)
		}
		if !Is([]string{image.Layer}) || Is([]string{image.Layer, image.Layer}) || Is(nil) || seen[image.Layer] {
			t.Errorf("%s: the layer %s doesn't tell the image from others", arch, image.Layer)
		}
		seen[image.Layer] = true
		files := filesOf(t, image.Archive)
		var manifest []struct {
			Config           string
			RepoTags, Layers []string
		}
		if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 1 || manifest[0].RepoTags[0] != Name {
			t.Fatalf("%s: the manifest is %s, %v", arch, files["manifest.json"], err)
		}
		var config struct {
			Architecture string
			Rootfs       struct {
				IDs []string `json:"diff_ids"`
			}
		}
		if err := json.Unmarshal(files[manifest[0].Config], &config); err != nil || config.Architecture != arch ||
			config.Rootfs.IDs[0] != image.Layer || digestOf(files[manifest[0].Layers[0]]) != image.Layer {
			t.Errorf("%s: the configuration is %s, %v", arch, files[manifest[0].Config], err)
		}
		program, _ := Program(arch)
		if layer := filesOf(t, files[manifest[0].Layers[0]]); len(layer) != 1 || !bytes.Equal(layer[path], program) {
			t.Errorf("%s: the layer has %d files", arch, len(layer))
		}
	}
}

func filesOf(t *testing.T, archive []byte) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}
