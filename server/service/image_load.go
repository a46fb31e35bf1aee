package service

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stackforge/magnum/server/dispatch"
	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/state"
	"github.com/stackforge/magnum/structs"
)

// An archive of images goes from its sender to all hosts as it comes: nowhere is
// more of it kept than a piece, and the slowest host sets the pace. One that
// takes nothing for loadStall drops out.
const (
	loadPiece    = 64 << 10         // bytes
	loadStall    = 30 * time.Second // for one piece
	loadPatience = 30 * time.Minute // from the last piece to the last host's answer
)

// LoadImages is a load of images on hosts.
type LoadImages struct {
	Bay, Host string    // UUID or name of one of them
	Archive   io.Reader // a tar archive of images
	Size      int64     // bytes of it; below 0 means unknown
}

func (s *Service) errImagesTooLarge() error {
	return structs.Errorf(structs.CodeTooLarge, "the archive is larger than %d bytes: save fewer images into it", s.config.MaxImageFile)
}

// Load loads images on hosts, and returns what became of it on each; if no host
// could do it, an error that names each. It may return before the archive is read to
// its end. CodeInvalid, CodeForbidden, CodeConflict, CodeTooLarge, CodeUnavailable,
// and the errors of Await.
func (n Images) Load(ctx context.Context, c *Call, r LoadImages) (*state.Snapshot, []structs.HostResult, error) {
	if err := n.s.Await(ctx, c); err != nil {
		return nil, nil, err
	}
	if r.Size > n.s.config.MaxImageFile {
		return nil, nil, n.s.errImagesTooLarge()
	}
	snap := n.s.Snapshot()
	hosts, bay, err := chosenHosts(snap, c.Caller, r.Bay, r.Host)
	if err != nil {
		return snap, nil, err
	}
	if bay != nil && bay.Shared {
		// An archive can take any name, also that of an image which other
		// projects' containers are made of.
		if err := identity.Check(c.Caller, identity.ImageHosts); err != nil {
			return snap, nil, structs.Errorf(structs.CodeForbidden,
				"bay %s is shared with other projects, and an archive may replace their images: only operators load there; pull the image from a registry", bay.Name)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loads := eachHost(hosts, func(h *structs.Host) *hostLoad { return n.s.openLoad(ctx, h) })
	defer func() {
		for _, l := range loads {
			l.close()
		}
	}()
	if err := n.s.sendImages(ctx, r.Archive, loads); err != nil {
		return snap, nil, err
	}
	patience := time.AfterFunc(loadPatience, cancel)
	defer patience.Stop()
	all := make([]structs.HostResult, len(loads))
	for i, l := range loads {
		<-l.ended
		all[i] = n.s.result(c, l.host, l.change, l.err)
	}
	all, err = outcome(all)
	return snap, all, err
}

// hostLoad is a load on one host.
type hostLoad struct {
	host    *structs.Host
	session *dispatch.Session // nil if it could not be opened
	over    atomic.Bool       // it takes no more
	ended   chan struct{}     // closed once change and err are final
	change  structs.ImageChange
	err     error
}

// openLoad begins a load on a host.
func (s *Service) openLoad(ctx context.Context, h *structs.Host) *hostLoad {
	l := &hostLoad{host: h, ended: make(chan struct{})}
	l.session, l.err = s.config.Dispatch.Open(ctx, h.ID, structs.SessionOffer{Kind: structs.SessionImageLoad})
	if l.err != nil {
		l.over.Store(true)
		close(l.ended)
		return l
	}
	go func() {
		defer close(l.ended)
		defer l.over.Store(true)
		l.err = l.read(ctx)
	}()
	return l
}

// read reads the host's answer.
func (l *hostLoad) read(ctx context.Context) error {
	var text []byte
	err := hear(ctx, l.session, func(payload []byte) error {
		if text = append(text, payload...); len(text) > MaxOutput {
			return structs.Errorf(structs.CodeTooLarge, "the host's answer is longer than %d bytes", MaxOutput)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &l.change); err != nil {
		return structs.Errorf(structs.CodeUnavailable, "the host's agent sent an answer that can't be read: %w", err)
	}
	return nil
}

// close ends the load, if it has not ended.
func (l *hostLoad) close() {
	if l.session != nil {
		l.session.Close()
	}
	<-l.ended
}

// send hands the host a message. How a host that takes none has ended is told
// by its last message.
func (l *hostLoad) send(ctx context.Context, channel byte, payload []byte) {
	if l.over.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, loadStall)
	defer cancel()
	if l.session.Write(ctx, channel, payload) != nil {
		l.over.Store(true)
	}
}

// sendImages hands an archive to all hosts at one pace. Errors:
// CodeTooLarge, CodeInvalid if the body breaks off.
func (s *Service) sendImages(ctx context.Context, archive io.Reader, loads []*hostLoad) error {
	toAll := func(channel byte, payload []byte) (taken bool) {
		var wg sync.WaitGroup
		for _, l := range loads {
			if l.over.Load() {
				continue
			}
			taken = true
			wg.Go(func() { l.send(ctx, channel, payload) })
		}
		wg.Wait()
		return taken
	}
	left, piece := s.config.MaxImageFile, make([]byte, loadPiece)
	for {
		n, err := fill(archive, piece)
		if left -= int64(n); left < 0 {
			return s.errImagesTooLarge()
		}
		if n > 0 && !toAll(structs.ChannelStdin, piece[:n]) {
			return nil // nobody wants the rest
		}
		switch {
		case err == io.EOF:
			toAll(structs.ChannelControl, []byte(`{"eof":true}`))
			return nil
		case err != nil:
			return structs.Errorf(structs.CodeInvalid, "The request's body could not be read to its end: %w", err)
		}
	}
}

// fill reads until p is full. Unlike io.ReadFull it returns the reader's own
// error: a body that was cut short is no body that has ended.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
