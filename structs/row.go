package structs

import "time"

// Table names a table of the state store and a kind of row. Each noun declares its
// own, and its Kind: how callers name it in URLs, error codes and messages.
type Table string

// Row is one row of the replicated state. Package state has the table of all kinds.
type Row interface {
	Table() Table
	Base() *Meta
}

// Meta is what every row carries.
type Meta struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ID        string    // UUID (or the key of a row that has no UUID); minted by the conductor unless a POST carried one
	Seq       uint64    // the contract's internal integer id: creation order, unique over all tables; from the conductor
	ProjectID string    // from the token, never from the body; "" for rows that belong to the operator
	UserID    string    // from the token
	CreatedAt time.Time // when the conductor decided the creation; UTC, whole seconds
	UpdatedAt time.Time // when a user last changed it; zero means never
	StatusAt  time.Time // when the conductor heard of, or decided, the status or health that it has; zero since its creation

	// Written by the state store when the entry is applied, and carried
	// beside the row, not in it, in entries and snapshots.
	CreateIndex uint64 `codec:"-"` // index of the entry that made the row
	ModifyIndex uint64 `codec:"-"` // index of the entry that last wrote the row
}

// Named is a row that has a name. Names are not unique.
type Named interface {
	Row
	RowName() string
}

// NameOf returns the row's name, "" for rows that have none.
func NameOf(row Row) string {
	if r, ok := row.(Named); ok {
		return r.RowName()
	}
	return ""
}

// Base returns the Meta itself, so that a Meta embedded in a row makes half of
// the Row interface.
func (m *Meta) Base() *Meta { return m }
