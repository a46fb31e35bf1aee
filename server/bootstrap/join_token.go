package bootstrap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stackforge/magnum/internal/atomicfile"
	"github.com/stackforge/magnum/structs"
)

// JoinTokenPath returns the path of the file with the token with which agents register.
// Only the server that has bootstrapped the cluster has the file.
func JoinTokenPath(dataDir string) string { return filepath.Join(dataDir, "join-token") }

// ReadJoinToken returns the token in the file, "" if there is none.
func ReadJoinToken(dataDir string) (string, error) {
	b, err := os.ReadFile(JoinTokenPath(dataDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return strings.TrimSpace(string(b)), nil
}

// MintJoinToken returns the token in the file. If there is no file it makes a token, which
// is on disk when MintJoinToken returns. An empty file is an error.
func MintJoinToken(dataDir string) (string, error) {
	path := JoinTokenPath(dataDir)
	token, err := ReadJoinToken(dataDir)
	if err != nil || token != "" {
		return token, err
	}
	if _, err := os.Stat(path); err == nil {
		return "", fmt.Errorf("%s is empty: restore it from a backup, or remove it, and the server makes a new token", path)
	}
	token = structs.NewSecret()
	return token, atomicfile.Replace(path, []byte(token+"\n"))
}
