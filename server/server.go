// Package server wires a magnum server together: the replicated log, the state
// store, the conductor, dispatch and the REST API. Package command starts it.
// It is the only package that knows all of server/...; it decides nothing
// itself.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/raftlog"
	"github.com/stackforge/magnum/server/rest"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// Server is one magnum server.
type Server struct {
	Config
	log       hclog.Logger
	dir       *dataDir
	joinToken string
	space     *space
	listener  net.Listener

	store     *state.Store
	raft      *raftlog.Log
	conductor *conductor.Conductor
	dispatch  *dispatch.Dispatch
	rest      *rest.Server
}

// New opens the server's data directory and its HTTP port, and puts its parts
// together. Run must follow. Errors say in the flags' words what is wrong;
// CodeInvalid for the configuration, CodeConflict for a directory or port that
// is in use.
func New(c Config) (*Server, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	s := &Server{Config: c, log: c.Logger.Named("server"), store: state.New()}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// open makes all parts, in the order in which they need each other.
func (s *Server) open() (err error) {
	if s.dir, err = openDataDir(s.DataDir); err != nil {
		return err
	}
	s.space = newSpace(s.DataDir, s.log)
	if err := s.space.open(); err != nil {
		return err
	}
	id, err := s.dir.keep("server-id", structs.NewID)
	if err != nil {
		return err
	}
	if s.joinToken = s.JoinToken; s.joinToken == "" {
		if s.joinToken, err = s.dir.keep("join-token", structs.NewSecret); err != nil {
			return err
		}
	}
	if s.listener, err = net.Listen("tcp", s.httpAddr()); err != nil {
		return structs.Errorf(structs.CodeConflict, "-http-port: %s can't be listened on (is another magnum running?): %w", s.httpAddr(), err)
	}
	s.raft, err = raftlog.Open(raftlog.Config{
		DataDir: s.DataDir, ServerID: id, BindAddr: s.raftAddr(), Store: s.store, Logger: s.Logger,
	})
	if err != nil {
		return err
	}
	s.conductor = conductor.New(conductor.Config{Store: s.store, Proposer: s.raft, Logger: s.Logger.Named("conductor"), Room: s.space.room})
	s.dispatch = dispatch.New(dispatch.Config{
		Store: s.store, Conductor: s.conductor, Logger: s.Logger.Named("dispatch"),
		ReadIndex: s.raft.ReadIndex, HostLostAfter: s.HostLostAfter,
		Servers: func() []string { return []string{s.URL()} },
	})
	s.rest = rest.New(rest.Config{
		Store: s.store, Conductor: s.conductor, Dispatch: s.dispatch, Cluster: s.raft,
		Authenticator: identity.None{}, Logger: s.Logger.Named("rest"), Version: s.Version,
	})
	return nil
}

// URL returns the address of the REST API.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// JoinTokenInUse returns the token with which agents register here.
func (s *Server) JoinTokenInUse() string { return s.joinToken }

// shutdownGrace is how long a clean stop lets requests end.
const shutdownGrace = 3 * time.Second

// Run serves until ctx ends or a part fails, and closes everything.
func (s *Server) Run(ctx context.Context) error {
	defer s.close()
	if !s.raft.HasState() {
		if err := s.raft.Bootstrap(); err != nil {
			return fmt.Errorf("bootstrap: %w", err)
		}
	}
	// Requests end before the log does: what is answered must be committed, and
	// what is parked must not be cut without an answer.
	web, stopWeb := context.WithCancel(context.Background())
	defer stopWeb()
	server := &http.Server{
		Handler:           s.rest.Handler(),
		BaseContext:       func(net.Listener) context.Context { return web },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          s.Logger.Named("http").StandardLogger(&hclog.StandardLoggerOptions{InferLevels: true}),
	}
	raftCtx, stopRaft := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRaft()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return wrap("raft", s.raft.Run(raftCtx, s.lead)) })
	g.Go(func() error { return wrap("disk", s.space.run(ctx)) })
	g.Go(func() error {
		err := server.Serve(s.listener)
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return wrap("http", err)
	})
	g.Go(func() error {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		defer cancel()
		stopWeb()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
		stopRaft()
		return nil
	})
	s.log.Info("server is up", "addr", s.URL(), "name", s.Name, "data_dir", s.DataDir)
	return g.Wait()
}

// Close gives back what New took, if Run won't be called.
func (s *Server) Close() {
	if s.raft != nil {
		s.raft.Close()
	}
	s.close()
}

// close gives back the port and the directory.
func (s *Server) close() {
	if s.listener != nil {
		s.listener.Close()
	}
	if s.dir != nil {
		s.dir.close()
	}
}

func wrap(part string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", part, err)
	}
	return nil
}
