package command

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/stackforge/magnum/internal/tlsconf"
	"github.com/stackforge/magnum/server"
)

// tlsSettings adds the settings of TLS files. note is added to the usage of those that
// only a server needs.
func tlsSettings(s *settings, conf *server.Config, note string) {
	s.text(&conf.TLSCA, "tls-ca", "FILE", "PEM certificates of the CA that has signed the servers' certificates")
	s.text(&conf.TLSCert, "tls-cert", "FILE", "PEM certificate of this server, signed by the CA"+note)
	s.text(&conf.TLSKey, "tls-key", "FILE", "key of -tls-cert"+note)
}

// tlsFiles returns the files of tlsSettings.
func tlsFiles(conf *server.Config) tlsconf.Files {
	return tlsconf.Files{CA: conf.TLSCA, Cert: conf.TLSCert, Key: conf.TLSKey}
}

// onHangup calls reload on each SIGHUP until stop is called.
func onHangup(reload func()) (stop func()) {
	hangups, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-hangups:
				reload()
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(done)
		<-ended
	}
}
