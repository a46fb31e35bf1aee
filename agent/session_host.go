package agent

import (
	"context"
	"io"
	"time"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/structs"
)

// serveHost serves a session about the host, and returns its last message.
func (s *sessions) serveHost(ctx context.Context, c *channel, in *input, offer structs.SessionOffer) (structs.Control, error) {
	done := structs.Control{Done: true}
	stdout := c.writer(structs.ChannelStdout)
	switch offer.Kind {
	case structs.SessionImageList, structs.SessionImagePull, structs.SessionImageLoad, structs.SessionImagePrune:
		if s.images == nil {
			return structs.Control{}, errNoImages
		}
	case structs.SessionVolumeList, structs.SessionVolumeDelete:
		if s.volumes == nil {
			return structs.Control{}, errNoVolumes
		}
	case structs.SessionCredential:
		if s.credentials == nil {
			return structs.Control{}, errNoCredentials
		}
	}
	switch {
	case offer.Kind == structs.SessionImageList:
		images, err := s.listImages(ctx, offer.ProjectID)
		return done, answer(stdout, images, err)
	case offer.Kind == structs.SessionImagePull && offer.Image != "":
		return done, s.pullImage(ctx, stdout, offer)
	case offer.Kind == structs.SessionImageLoad:
		names, err := s.images.LoadImages(ctx, &capped{r: in.whole(), left: structs.MaxImageFile, over: errImageFile})
		if err == nil {
			s.log.Info("images loaded", "images", names)
		}
		return done, answer(stdout, structs.ImageChange{Images: names}, err)
	case offer.Kind == structs.SessionImagePrune:
		change, err := pruneImages(ctx, s.images, s.log)
		return done, answer(stdout, change, err)
	case offer.Kind == structs.SessionVolumeList:
		volumes, err := s.volumes.ListVolumes(ctx, s.clusterID, offer.ProjectID)
		return done, answer(stdout, volumes, err)
	case offer.Kind == structs.SessionVolumeDelete && offer.ProjectID != "" && offer.Volume != "":
		err := s.volumes.RemoveVolume(ctx, s.clusterID, offer.ProjectID, offer.Volume)
		if err == nil {
			s.log.Info("volume deleted", "project_id", offer.ProjectID, "volume", offer.Volume)
		}
		return done, err
	case offer.Kind == structs.SessionCredential && offer.ProjectID != "":
		made, err := s.credentials.Credential(ctx, offer.ProjectID)
		if err == nil {
			s.log.Info("credential made", "project_id", offer.ProjectID, "expires_at", made.ExpiresAt.Format(time.RFC3339))
		}
		return done, answer(stdout, made, err)
	}
	return structs.Control{}, errKind(offer.Kind)
}

// listImages lists the images that the project may use, all if it is "".
func (s *sessions) listImages(ctx context.Context, project string) ([]structs.Image, error) {
	if t, ok := s.images.(backend.Tenants); ok && project != "" {
		return t.ImagesOf(ctx, project)
	}
	return s.images.ListImages(ctx)
}

// pullImage sends the progress as fast as the user reads it. The pull doesn't wait for
// the user, because containers may wait for the same pull.
func (s *sessions) pullImage(ctx context.Context, w io.Writer, offer structs.SessionOffer) error {
	newest, written := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(written)
		for sentence := range newest {
			_, _ = io.WriteString(w, sentence) // the user's leaving ends ctx
		}
	}()
	err := s.images.PullImage(ctx, offer.Image, offer.Registry, func(sentence string) {
		for {
			select {
			case newest <- sentence:
				return
			default:
			}
			select {
			case <-newest: // drop an older sentence
			default:
			}
		}
	})
	close(newest)
	<-written
	return err
}

var errImageFile = structs.Errorf(structs.CodeTooLarge,
	"the archive has more than %d bytes, the most that a load takes; save fewer images into it", int64(structs.MaxImageFile))

// answer writes v as one document, or returns err.
func answer(w io.Writer, v any, err error) error {
	if err != nil {
		return err
	}
	return writeJSON(w, v)
}
