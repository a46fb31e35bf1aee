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

// An archive of images is streamed from its sender to all hosts. No more than one
// piece of it is kept in memory, and the slowest host sets the pace. A host that takes
// no piece within loadStall is left out.
const (
	loadPiece    = 64 << 10         // bytes
	loadStall    = 30 * time.Second // for one piece
	loadPatience = 30 * time.Minute // from the last piece to the last host's answer
)

// LoadImages is the request to load images on hosts.
type LoadImages struct {
	Bay, Host string    // UUID or name of one of them
	Archive   io.Reader // a tar archive of images
	Size      int64     // bytes of the archive; below 0 means unknown
}

func (n Images) errImagesTooLarge() error {
	return structs.Errorf(structs.CodeTooLarge, "the archive is larger than %d bytes: save fewer images into it", n.s.config.MaxImageFile)
}

// Load loads images on hosts. It returns the result of each host, or, if all hosts
// failed, an error that names each. It may return before the archive is read to its
// end. Errors are CodeInvalid, CodeForbidden, CodeConflict, CodeTooLarge,
// CodeUnavailable, and those of Await.
func (n Images) Load(ctx context.Context, c *Call, r LoadImages) (*state.Snapshot, []structs.HostResult, error) {
	if err := n.s.Await(ctx, c); err != nil {
		return nil, nil, err
	}
	if r.Size > n.s.config.MaxImageFile {
		return nil, nil, n.errImagesTooLarge()
	}
	snap := n.s.Snapshot()
	hosts, bay, err := chosenHosts(snap, c.Caller, r.Bay, r.Host)
	if err != nil {
		return snap, nil, err
	}
	if bay != nil && bay.Shared {
		// An archive can give its images any name, also that of an image from which
		// containers of other projects are created.
		if err := identity.Check(c.Caller, identity.ImageHosts); err != nil {
			return snap, nil, structs.Errorf(structs.CodeForbidden,
				"bay %s is shared with other projects, and an archive may replace their images: only operators load there; pull the "+
					"image from a registry", bay.Name)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	loads := eachHost(hosts, func(h *structs.Host) *hostLoad { return n.openLoad(ctx, h) })
	defer func() {
		for _, l := range loads {
			l.close()
		}
	}()
	if err := n.sendImages(ctx, r.Archive, loads); err != nil {
		return snap, nil, err
	}
	patience := time.AfterFunc(loadPatience, cancel)
	defer patience.Stop()
	all := make([]structs.HostResult, len(loads))
	for i, l := range loads {
		<-l.ended
		all[i] = n.s.result(c, l.host, l.change, l.err)
	}
	all, err = resultsOrError(all)
	return snap, all, err
}

// hostLoad is a load on one host.
type hostLoad struct {
	host    *structs.Host
	session *dispatch.Session // nil if it could not be opened
	over    atomic.Bool       // the host takes no more pieces
	ended   chan struct{}     // closed once change and err are final
	change  structs.ImageChange
	err     error
}

// openLoad begins a load on a host.
func (n Images) openLoad(ctx context.Context, h *structs.Host) *hostLoad {
	l := &hostLoad{host: h, ended: make(chan struct{})}
	l.session, l.err = n.s.config.Dispatch.Open(ctx, h.ID, structs.SessionOffer{Kind: structs.SessionImageLoad})
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
	err := readSession(ctx, l.session, func(payload []byte) error {
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

// close ends the load if it still runs.
func (l *hostLoad) close() {
	if l.session != nil {
		l.session.Close()
	}
	<-l.ended
}

// send sends the host a message. It returns no error: the last message of a host that
// takes no more says why.
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

// sendImages sends an archive to all hosts at the pace of the slowest. Errors:
// CodeTooLarge, CodeInvalid if the archive can't be read to its end.
func (n Images) sendImages(ctx context.Context, archive io.Reader, loads []*hostLoad) error {
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
	left, piece := n.s.config.MaxImageFile, make([]byte, loadPiece)
	for {
		got, err := readFull(archive, piece)
		if left -= int64(got); left < 0 {
			return n.errImagesTooLarge()
		}
		if got > 0 && !toAll(structs.ChannelStdin, piece[:got]) {
			return nil // no host takes more
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

// readFull reads until p is full. Unlike io.ReadFull it returns the reader's own error,
// so that a body which was cut short differs from one that has ended.
func readFull(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
