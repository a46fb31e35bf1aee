package structs

import "time"

// TableIdempotency is the table of idempotency keys.
const TableIdempotency Table = "idempotency"

// IdempotencyKey remembers the object that a POST with an Idempotency-Key
// made, so that a retry gets the same one. Its ID is "project/key". Written by
// the conductor in the entry that makes the object, deleted by it
// IdempotencyTTL later.
type IdempotencyKey struct {
	Meta
	BodyHash string // hex SHA-256 of the request's method, path, query and body
	Result   Table  // table of the object made
	ResultID string // ID of the object made
}

// Table says which table the row belongs to.
func (*IdempotencyKey) Table() Table { return TableIdempotency }

// IdempotencyTTL is how long a retried POST finds its first answer.
const IdempotencyTTL = 10 * time.Minute
