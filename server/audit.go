package server

import (
	"github.com/stackforge/magnum/server/audit"
	"github.com/stackforge/magnum/server/rest/web"
)

// openAudit opens the audit log, if there is to be one.
func (s *Server) openAudit() (err error) {
	if s.config.Audit.Path == "" {
		return nil
	}
	c := s.config.Audit
	c.ServerID, c.Server, c.Logger = s.id, s.config.Name, s.config.Logger.Named("audit")
	s.audit, err = audit.Open(c)
	return err
}

// auditor returns the audit log for the REST API, nil if there is none.
func (s *Server) auditor() web.Auditor {
	if s.audit == nil {
		return nil
	}
	return s.audit
}

// room returns why this server takes no writes: its disk, or that of its audit log, is
// full. nil means that it does.
func (s *Server) room() error {
	if s.audit != nil {
		if err := s.audit.Failing(); err != nil {
			return err
		}
	}
	return s.space.room()
}

// reopenAudit continues the audit log in the file that has its name now.
func (s *Server) reopenAudit() {
	if s.audit == nil {
		return
	}
	if err := s.audit.Reopen(); err != nil {
		s.log.Error("audit log can't be reopened", "error", err)
		return
	}
	s.log.Info("audit log reopened", "file", s.config.Audit.Path)
}
