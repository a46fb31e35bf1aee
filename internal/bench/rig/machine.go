package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/stackforge/magnum/agent/docker/dockertest"
)

// Machine returns lines that describe the machine and the versions measured.
func Machine(ctx context.Context, program string) []string {
	lines := []string{
		time.Now().UTC().Format("2006-01-02 15:04") + " UTC, load average at the beginning " + LoadAverage(),
		fmt.Sprintf("%d cores of %s, %s, Linux %s", runtime.NumCPU(), field("/proc/cpuinfo", "model name"), memory(), kernel()),
		"magnum " + Version(ctx, program),
	}
	if engine, err := dockertest.Open(""); err == nil {
		defer engine.Close()
		if v, err := engine.ServerVersion(ctx); err == nil {
			lines = append(lines, "Docker engine "+v.Version)
		}
	}
	return lines
}

// field returns the first value of a key in a file such as /proc/cpuinfo.
func field(file, key string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func memory() string {
	var kib int64
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal"), &kib); err != nil {
		return "unknown memory"
	}
	return fmt.Sprintf("%.0f GB", float64(kib)*1024/1e9)
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// output returns the first line that a program prints, without its first word.
func output(ctx context.Context, program string, args ...string) string {
	out, err := exec.CommandContext(ctx, program, args...).Output()
	line, _, _ := strings.Cut(string(out), "\n")
	words := strings.Fields(line)
	if err != nil || len(words) < 2 {
		return "unknown"
	}
	return strings.Join(words[1:], " ")
}

// Version returns the version that a magnum tells of itself.
func Version(ctx context.Context, program string) string { return output(ctx, program, "version") }
