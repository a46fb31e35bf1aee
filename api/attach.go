package api

import "context"

// AttachOptions are the options of Attach.
type AttachOptions struct {
	Streams
	Width, Height uint   // of the terminal in columns and lines; 0 means unknown
	Attached      func() // called once the session is open; may be nil

	// Unstarted also attaches to a container that was never started. Start the
	// container after Joined was called: no output is lost from then on. Joined
	// may be nil. Servers before version 1 never call it.
	Unstarted bool
	Joined    func()
}

// Attach attaches the caller's streams to the main process of a running container.
// It returns the exit code when the process ends, and nil if the session ended
// before the process. Canceling ctx detaches: the process continues, and the error
// is the cause of ctx's end. CodeNotFound, CodeConflict: the container does not
// run, or Stdin is set and it was created without stdin, CodeUnavailable: the
// connection broke.
func (t Containers) Attach(ctx context.Context, ident string, o AttachOptions) (*int, error) {
	return t.process(ident).attach(ctx, o)
}
