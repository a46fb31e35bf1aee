package backend

import (
	"errors"

	"github.com/stackforge/magnum/structs"
)

// The reasons of failures on which the agent acts. Test with errors.Is.
var (
	ErrAway       = errors.New("engine away")              // the engine does not answer
	ErrNotFound   = errors.New("no such container")        // removed, or never created
	ErrNotRunning = errors.New("container not running")    // or paused
	ErrNoImage    = errors.New("no such image")            // the registry has none or is away, or the pull policy forbids a pull
	ErrNoPath     = errors.New("no such path")             // in the container
	ErrNotDir     = errors.New("no directory")             // a path in the container that is not a directory
	ErrNoVolume   = errors.New("no such volume")           // of the project
	ErrInUse      = errors.New("in use")                   // an image or a volume, by a container
	ErrNoSpace    = errors.New("no space left")            // on the engine's file system
	ErrNameTaken  = errors.New("name taken")               // by another container
	ErrPortTaken  = errors.New("port taken")               // a host port is used by something else
	ErrNoNetwork  = errors.New("no network left")          // for another project's network
	ErrNoInfra    = errors.New("infra container away")     // of the pod: it doesn't run, or no longer exists
	ErrConfig     = errors.New("configuration refused")    // it doesn't fit the image, such as runAsNonRoot of one that runs as root
	ErrStart      = errors.New("process can't be started") // the image or spec doesn't fit, such as a program that isn't there
	ErrTooSlow    = errors.New("read too slowly")          // the log was rotated before it was read
	ErrInvalid    = errors.New("refused by the engine")    // a repeated call would be refused, too
)

// Failure is an error of a Backend.
type Failure struct {
	Reason error  // one of this package's Err values; nil if none fits
	Msg    string // for the user: what happened and the way out
	Err    error  // the cause, for the log only; may be nil
}

// Error returns the user's message.
func (f *Failure) Error() string { return f.Msg }

// Unwrap returns the reason, the cause, and an error that carries the code.
func (f *Failure) Unwrap() []error {
	e := &structs.Error{Code: codeOf(f.Reason), Msg: f.Msg}
	if f.Reason == ErrNoPath || f.Reason == ErrNotDir {
		e.Kind = structs.KindPath
	}
	errs := []error{e}
	if f.Reason != nil {
		errs = append(errs, f.Reason)
	}
	if f.Err != nil {
		errs = append(errs, f.Err)
	}
	return errs
}

// codeOf returns the code of a failure in a user's session.
func codeOf(reason error) structs.Code {
	switch reason {
	case ErrAway, ErrTooSlow:
		return structs.CodeUnavailable
	case ErrNotFound, ErrNoImage, ErrNoPath, ErrNoVolume:
		return structs.CodeNotFound
	case ErrNotRunning, ErrNameTaken, ErrPortTaken, ErrInUse, ErrNoInfra:
		return structs.CodeConflict
	case ErrNoSpace, ErrNoNetwork:
		return structs.CodeNoSpace
	case ErrInvalid, ErrNotDir, ErrConfig, ErrStart:
		return structs.CodeInvalid
	}
	return structs.CodeInternal
}
