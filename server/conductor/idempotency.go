package conductor

import (
	"net/url"

	"github.com/stackforge/magnum/structs"
)

// Once identifies a POST, so that a retry of it makes no second object. The
// zero value identifies nothing.
type Once struct {
	Key      string // the Idempotency-Key, "" if there is none
	Minted   bool   // the client has sent none: its server minted it, to try again itself
	BodyHash string // hex SHA-256 of method, path, query and body
}

// find returns the object that an earlier POST with the key made, or nil. The
// error is CodeConflict if that POST said something else, or if its object is
// gone by now.
func (o Once) find(t *tx, caller structs.Caller) (structs.Row, error) {
	if o.Key == "" {
		return nil, nil
	}
	k := row[structs.IdempotencyKey](t, o.rowID(caller))
	// A row of another project is one of an earlier version, which did not escape
	// projects. It is gone within IdempotencyTTL of the upgrade.
	if k == nil || k.ProjectID != caller.ProjectID {
		return nil, nil
	}
	if k.BodyHash != o.BodyHash {
		return nil, structs.Errorf(structs.CodeConflict, "Idempotency-Key %q was used for another request in the last %v: take a new key", o.Key, structs.IdempotencyTTL)
	}
	made := t.get(k.Result, k.ResultID)
	if made == nil && o.Minted {
		return nil, structs.Errorf(structs.CodeConflict, "what this request made has been deleted since, before it was answered")
	}
	if made == nil {
		return nil, structs.Errorf(structs.CodeConflict, "what the request with Idempotency-Key %q made has been deleted since: take a new key to make another", o.Key)
	}
	return made, nil
}

// keep remembers the object that the POST made.
func (o Once) keep(t *tx, caller structs.Caller, made structs.Row) {
	if o.Key == "" {
		return
	}
	t.put(&structs.IdempotencyKey{
		Meta:     t.meta(caller, o.rowID(caller)),
		BodyHash: o.BodyHash,
		Result:   made.Table(),
		ResultID: made.Base().ID,
	})
}

// rowID is the ID of the row of the key. Projects and keys are free text, so the
// project is escaped: no two pairs of them have one ID. Projects without special
// characters keep the ID that they had in earlier versions.
func (o Once) rowID(caller structs.Caller) string {
	return url.PathEscape(caller.ProjectID) + "/" + o.Key
}

// once makes an object by create, unless an earlier try of the same POST has
// made it.
func once[P structs.Row](t *tx, o Once, caller structs.Caller, create func() (P, error)) (P, error) {
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

// Again is a delete or an action that is tried again because nobody knows whether
// an earlier try was carried out. What has been made since is another object, with
// the name or UUID of the one that was meant: it is left alone, and the outcome
// stays unknown.
type Again[P structs.Row] struct {
	Request Request[P]
	Known   uint64 // index of a state that the client's server had when the request came
}

func (r Again[P]) decide(t *tx) (P, error) {
	var none P
	row, err := r.Request.decide(t)
	if err != nil || any(row) == any(none) {
		return row, err
	}
	// 0 is one of this very batch.
	if made := row.Base().CreateIndex; made == 0 || made > r.Known {
		return none, structs.Errorf(structs.CodeUnavailable, "an earlier try may or may not have been carried out, and what is there now may have been made since: look at it, and ask again if it is what you mean (%w)", ErrUnknown)
	}
	return row, nil
}

// ExpireKeys deletes idempotency rows whose time is over. IDs that are gone
// already are skipped.
type ExpireKeys struct {
	IDs []string // at most structs.MaxChanges
}

func (r ExpireKeys) decide(t *tx) (struct{}, error) {
	for _, id := range r.IDs {
		if k := row[structs.IdempotencyKey](t, id); k != nil {
			t.remove(k)
		}
	}
	return struct{}{}, nil
}
