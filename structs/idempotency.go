package structs

import "time"

// TableIdempotency is the table of idempotency keys.
const TableIdempotency Table = "idempotency"

// IdempotencyKey records which object a POST with an Idempotency-Key created, so that
// a retry gets the same object. Its ID is "project/key". The conductor writes it in
// the entry that creates the object, and deletes it IdempotencyTTL later.
type IdempotencyKey struct {
	Meta
	BodyHash string // hex SHA-256 of the request's method, path, query and body
	Result   Table  // table of the created object
	ResultID string // ID of the created object
}

// Table says which table the row belongs to.
func (*IdempotencyKey) Table() Table { return TableIdempotency }

// IdempotencyTTL is how long an IdempotencyKey is kept.
const IdempotencyTTL = 10 * time.Minute
