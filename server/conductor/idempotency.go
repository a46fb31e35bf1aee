package conductor

import (
	"github.com/stackforge/magnum/structs"
)

// Once identifies a POST, so that a retry of it makes no second object. The
// zero value identifies nothing.
type Once struct {
	Key      string // the Idempotency-Key, "" if there was none
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
	if k == nil {
		return nil, nil
	}
	if k.BodyHash != o.BodyHash {
		return nil, structs.Errorf(structs.CodeConflict, "Idempotency-Key %q was used for another request in the last %v: take a new key", o.Key, structs.IdempotencyTTL)
	}
	made := t.get(k.Result, k.ResultID)
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

func (o Once) rowID(caller structs.Caller) string { return caller.ProjectID + "/" + o.Key }

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
