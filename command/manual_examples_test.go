package command

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// written matches the files that the shell lines of the manual's examples write.
var written = []*regexp.Regexp{
	regexp.MustCompile(`[^>0-9-]>>? ?([^ &|;>]+)`),
	regexp.MustCompile(`\bmagnum tls-init\b.* -dir[ =]([^ ]+)`),
	regexp.MustCompile(`\bmagnum operator snapshot save(?: -\S+(?: [0-9][^ ]*)?)* ([^ -][^ ]*)`),
	regexp.MustCompile(`\bcurl\b.* -o ?([^ ]+)`),
	regexp.MustCompile(`\bdocker save\b.* -o ?([^ ]+)`),
	regexp.MustCompile(`\bmagnum container-cp [^ ]+:[^ ]+ ([^ :]+)$`),
}

// examples returns the lines of the code blocks of a page.
func examples(page string) (lines []string) {
	fenced := false
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if fenced || strings.HasPrefix(line, "    ") {
			command, _, _ := strings.Cut(strings.TrimSpace(line), "  #")
			lines = append(lines, command)
		}
	}
	return lines
}

// writes returns the files below the working directory that the lines write.
func writes(lines []string) (files []string) {
	for _, line := range lines {
		for _, w := range written {
			for _, m := range w.FindAllStringSubmatch(line, -1) {
				file := strings.TrimPrefix(strings.Trim(m[1], `'"`), "./")
				if file != "" && file != "." && !path.IsAbs(file) && !strings.ContainsAny(file[:1], "$~<(-") {
					files = append(files, strings.TrimSuffix(file, "/"))
				}
			}
		}
	}
	return files
}

// ignored reports whether .gitignore has a pattern for the file or a directory above it.
func ignored(patterns []string, file string) bool {
	for at := file; at != "."; at = path.Dir(at) {
		for _, p := range patterns {
			p = strings.TrimSuffix(p, "/")
			name := path.Base(at)
			if strings.HasPrefix(p, "/") {
				p, name = p[1:], at
			}
			if ok, _ := path.Match(p, name); ok {
				return true
			}
		}
	}
	return false
}

// Somebody who follows the manual in the repository must not commit the files that its
// examples write; some are secret.
func TestFilesOfManualExamplesAreIgnored(t *testing.T) {
	pages, err := filepath.Glob("../website/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("../.gitignore")
	if err != nil {
		t.Fatal(err)
	}
	var patterns []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	found := 0
	for _, page := range append(pages, "../README.md") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range writes(examples(string(b))) {
			found++
			if !ignored(patterns, file) {
				t.Errorf("%s writes %s, which .gitignore does not name", page, file)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d files were found: the patterns no longer match the examples", found)
	}
}

func TestFilesWrittenByExamplesAreFound(t *testing.T) {
	for line, want := range map[string]string{
		"    magnum token-create -q > join-token        # for hosts":     "join-token",
		"    magnum tls-init -dir certs -server s1":                      "certs",
		"    magnum operator snapshot save -stale -addr 10.0.0.1 a.snap": "a.snap",
		"    magnum operator snapshot save /root/lost.snap":              "",
		"    magnum container-cp web1:/etc/hosts ./hosts":                "hosts",
		"    curl -o cpu.pprof 'http://127.0.0.1/'":                      "cpu.pprof",
		"    magnum server > /dev/null 2>&1":                             "",
		"magnum keygen > key":                                            "",
	} {
		if got := strings.Join(writes(examples(line)), " "); got != want {
			t.Errorf("%s: %q, not %q", line, got, want)
		}
	}
}
