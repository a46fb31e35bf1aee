package command

import (
	"errors"
	"strconv"

	"github.com/stackforge/magnum/server/audit"
)

// auditSettings adds the settings of the audit log, which a file may have in a block
// audit.
func auditSettings(s *settings, c *audit.Config, note string) {
	s.text(&c.Path, "audit-log audit-log-file", "FILE",
		"write a line of JSON for each write and each session to FILE, as CADF; SIGHUP reopens it (default none)"+note)
	s.add("audit-log-max-bytes", "N", "size at which the audit log is rotated (default 104857600)"+note, func(v string) (err error) {
		if c.MaxBytes, err = strconv.ParseInt(v, 10, 64); err != nil {
			return errors.New("is not a whole number")
		}
		return nil
	})
	s.number(&c.MaxFiles, "audit-log-max-files", "N", "rotated files that are kept (default 10)"+note)
	s.duration(&c.KeepFor, "audit-log-keep-for",
		"age until which rotated files are kept beyond that number (default 24h; -1s none)"+note)
	s.add("audit-log-on-error", "refuse|allow", "what happens to writes when the audit log can't be written (default refuse)"+note,
		func(v string) error {
			if v != "refuse" && v != "allow" {
				return errors.New("is neither refuse nor allow")
			}
			c.AllowOnError = v == "allow"
			return nil
		})
}
