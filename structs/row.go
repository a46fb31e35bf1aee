package structs

import "time"

// Table names a table of the state store, whose rows all have one type. Each noun
// declares its own table and its kind, which names it in URLs, error codes and
// messages.
type Table string

// Row is one row of the replicated state. Package state lists all tables.
type Row interface {
	Table() Table
	Base() *Meta
}

// Meta is what every row carries.
type Meta struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	ID        string    // UUID, or the key of a row without one; minted by the conductor unless a POST carried one
	Seq       uint64    // the contract's internal integer ID, from the conductor: creation order, unique over all tables
	ProjectID string    // from the token, never from the body; "" for rows that belong to operators
	UserID    string    // from the token
	CreatedAt time.Time // when the conductor decided the creation; UTC, whole seconds
	UpdatedAt time.Time // when a user last changed it; zero means never
	StatusAt  time.Time // when the conductor last decided, or learned of, a change of status or health; zero if there was none

	// The state store sets the indexes when it applies the entry. Entries and
	// snapshots hold them beside the row, not in it.
	CreateIndex uint64 `codec:"-"` // index of the entry that created the row
	ModifyIndex uint64 `codec:"-"` // index of the entry that last wrote the row
}

// Named is a row that has a name. Names are not unique.
type Named interface {
	Row
	RowName() string
}

// NameOf returns the row's name; "" for rows without one.
func NameOf(row Row) string {
	if r, ok := row.(Named); ok {
		return r.RowName()
	}
	return ""
}

// Base returns the Meta itself. A row that embeds a Meta gets this method of Row from
// it.
func (m *Meta) Base() *Meta { return m }
