package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/stackforge/magnum/structs"
)

// fileJoinToken holds the token with which agents register, on the server that
// has made the cluster.
const fileJoinToken = "join-token"

// openToken finds the join token. A server that makes a cluster of its own mints
// one; of several servers the first leader does.
func (s *Server) openToken() (err error) {
	switch {
	case s.JoinToken != "":
		s.joinToken = s.JoinToken
		return nil
	case s.BootstrapExpect == 1:
		s.joinToken, err = s.dir.keep(fileJoinToken, structs.NewSecret)
		return err
	}
	b, err := os.ReadFile(filepath.Join(s.dir.path, fileJoinToken))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.joinToken = strings.TrimSpace(string(b))
	return nil
}

// JoinTokenInUse returns the token with which agents register, "" if this server
// doesn't know it.
func (s *Server) JoinTokenInUse() string { return s.joinToken }
