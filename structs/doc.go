// Package structs is magnum's vocabulary: the rows that servers replicate, the
// messages between servers, agents and clients, and the errors that they share.
//
// Every other package may import it. It imports only the standard library and does
// no I/O. Rows in the state store are immutable: copy a row before changing it.
package structs
