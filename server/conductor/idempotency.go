package conductor

import (
	"net/url"

	"github.com/stackforge/magnum/server/conductor/scratch"
	"github.com/stackforge/magnum/structs"
)

// Once identifies a POST, so that a retry creates no second object. Zero identifies
// nothing.
type Once struct {
	Key      string // the Idempotency-Key; "" if there is none
	Minted   bool   // the client has sent no key: its server generated one for its own retries
	BodyHash string // hex SHA-256 of method, path, query and body
}

// find returns the object that an earlier POST with the key created, or nil. The error is
// CodeConflict if that POST had another body, or if its object has been deleted.
func (o Once) find(t *scratch.Tx, caller structs.Caller) (structs.Row, error) {
	if o.Key == "" {
		return nil, nil
	}
	k := scratch.Row[structs.IdempotencyKey](t, o.rowID(caller))
	// A row of another project was written by an earlier version, which did not escape
	// projects. Such rows expire within IdempotencyTTL of the upgrade.
	if k == nil || k.ProjectID != caller.ProjectID {
		return nil, nil
	}
	if k.BodyHash != o.BodyHash {
		return nil, structs.Errorf(structs.CodeConflict, "Idempotency-Key %q was used for another request in the last %v: use a new key",
			o.Key, structs.IdempotencyTTL)
	}
	made := t.Get(k.Result, k.ResultID)
	if made == nil && o.Minted {
		return nil, structs.Errorf(structs.CodeConflict,
			"the object that this request created has been deleted before the request was answered")
	}
	if made == nil {
		return nil, structs.Errorf(structs.CodeConflict,
			"the object that the request with Idempotency-Key %q created has been deleted: use a new key to create another", o.Key)
	}
	return made, nil
}

// keep stores the key with the object that the POST has created.
func (o Once) keep(t *scratch.Tx, caller structs.Caller, made structs.Row) {
	if o.Key == "" {
		return
	}
	t.Put(&structs.IdempotencyKey{
		Meta:     t.Meta(caller, o.rowID(caller)),
		BodyHash: o.BodyHash,
		Result:   made.Table(),
		ResultID: made.Base().ID,
	})
}

// rowID returns the ID of the key's row. Projects and keys are free text, so the project is
// escaped: different pairs have different IDs. Projects without special characters keep
// their IDs of earlier versions.
func (o Once) rowID(caller structs.Caller) string {
	return url.PathEscape(caller.ProjectID) + "/" + o.Key
}

// once creates an object unless an earlier try of the same POST has created it.
func once[P structs.Row](t *scratch.Tx, o Once, caller structs.Caller, create func() (P, error)) (P, error) {
	var none P
	found, err := o.find(t, caller)
	if err != nil {
		return none, err
	}
	if made, ok := found.(P); ok {
		return made, nil
	}
	made, err := create()
	if err != nil {
		return none, err
	}
	o.keep(t, caller, made)
	return made, nil
}

// FindMade returns the object that an earlier try of the same POST has created; nil if there
// is none. It changes nothing. Errors are those of the POST.
type FindMade[P structs.Row] struct {
	Caller structs.Caller
	Once   Once
}

func (r FindMade[P]) decide(t *scratch.Tx) (P, error) {
	found, err := r.Once.find(t, r.Caller)
	made, _ := found.(P)
	return made, err
}

// RetryAfterUnknown repeats a delete or an action whose earlier try has an unknown outcome.
// An object that was created since is another one with the same name or UUID: it is left
// alone, and the outcome stays unknown.
type RetryAfterUnknown[P structs.Row] struct {
	Request    Request[P]
	SinceIndex uint64 // index of a state that the client's server had when the request came
}

func (r RetryAfterUnknown[P]) decide(t *scratch.Tx) (P, error) {
	var none P
	row, err := r.Request.decide(t)
	if err != nil || any(row) == any(none) {
		return row, err
	}
	// CreateIndex 0 means that this batch creates it.
	if made := row.Base().CreateIndex; made == 0 || made > r.SinceIndex {
		return none, structs.Errorf(structs.CodeUnavailable,
			"an earlier try may or may not have been carried out, and the object that exists now may have been created since: check "+
				"it, and repeat the request if it is the one you mean (%w)", ErrUnknown)
	}
	return row, nil
}

// ExpireKeys deletes expired idempotency rows. IDs without a row are skipped.
type ExpireKeys struct {
	IDs []string // at most structs.MaxChanges
}

func (r ExpireKeys) decide(t *scratch.Tx) (struct{}, error) {
	for _, id := range r.IDs {
		if k := scratch.Row[structs.IdempotencyKey](t, id); k != nil {
			t.Remove(k)
		}
	}
	return struct{}{}, nil
}
