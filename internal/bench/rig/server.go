package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// Server is a single magnum server with one bay.
type Server struct {
	*Process
	Addr   string // of the REST API, host:port
	Dir    string // data directory
	Client *api.Client
	Bay    string // UUID

	ctx      context.Context
	program  string
	flags    []string
	raftPort string
}

// StartServer starts a server with empty state in a new directory below dir. flags are
// additional flags of magnum server.
func StartServer(ctx context.Context, program, dir string, flags ...string) (*Server, error) {
	dir, err := os.MkdirTemp(dir, "server-")
	if err != nil {
		return nil, err
	}
	s := &Server{ctx: ctx, program: program, flags: flags, Dir: filepath.Join(dir, "data")}
	if s.Addr, err = FreeAddr(); err != nil {
		return nil, err
	}
	raft, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	_, s.raftPort, _ = net.SplitHostPort(raft)
	if s.Client, err = api.New(api.Config{Address: s.Addr}); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	name, one := "rig", 1
	bay, _, err := s.Client.Bays().Create(ctx, &structs.BayRequest{Name: &name, NodeCount: &one}, api.WriteOptions{})
	if err != nil {
		s.Stop()
		return nil, err
	}
	s.Bay = bay.UUID
	return s, nil
}

// Restart stops the server and starts it again on the same data.
func (s *Server) Restart() error {
	s.Stop()
	return s.start()
}

func (s *Server) start() (err error) {
	_, port, _ := net.SplitHostPort(s.Addr)
	args := append([]string{"server", "-data-dir", s.Dir, "-http-port", port, "-raft-port", s.raftPort, "-gossip-port", "-1"}, s.flags...)
	s.Process, err = Start(s.ctx, filepath.Dir(s.Dir), "server", s.program, args...)
	if err != nil {
		return err
	}
	err = Until(time.Minute, func() bool {
		_, _, err := s.Client.Bays().List(s.ctx, api.QueryOptions{Consistent: true})
		return err == nil
	})
	if err != nil {
		s.Stop()
		return fmt.Errorf("the server does not answer: %s", s.Tail())
	}
	return nil
}

// End stops the server and removes its files.
func (s *Server) End() {
	s.Stop()
	os.RemoveAll(filepath.Dir(s.Dir))
}
