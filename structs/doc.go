// Package structs is magnum's vocabulary: the rows that servers replicate, the
// messages between servers, agents and clients, and the errors that all of
// them share.
//
// Every other package may import it; it imports the standard library only and
// does no I/O. Rows are immutable once they are in the state store: whoever
// changes one copies it first.
package structs
