// Package audit keeps the audit log of one server: a file with a line of JSON for each
// write and each session that callers have asked of this server, as events of DMTF's
// CADF. The server that the client talked to writes the line, once. server/rest/web calls
// it, and package server opens, reopens and closes it. It knows no HTTP, decides nothing,
// and never reads the file.
//
// # Nothing is done without its line
//
// A line needs the outcome of the action, so it is written after the action and before the
// answer. Before the action, Begin reserves the line's room: it allocates disk blocks
// behind the end of the file (fallocate), MaxLine bytes for each action that is under way.
// So a full disk is noticed before anything is done, and the line of an action that has
// been done finds its room. Begin fails with CodeNoSpace, and the action is refused, if
//
//   - the room can't be allocated, or
//   - a line could not be written and can't be written now.
//
// A line that could not be written in spite of its room, because the disk broke, stays in
// memory. It is written before any other line, and until it is written every Begin fails.
// There is at most one such line for each action that was under way at that moment. They
// are lost only if the process ends before the disk takes them; the server's own log has
// their request IDs.
//
// A file that blocks can't be allocated for, such as a device or a file of NFS 3, is first
// tested with a space, which JSON permits before a line. From then on the last write
// counts: of the actions that are under way when the disk becomes full, lines may have to
// wait in memory.
//
// With Config.AllowOnError, Begin always succeeds. Lines that can't be written wait in
// memory up to maxKept bytes, and are counted after that. The next line that can be
// written says how many are missing.
//
// The file isn't synced: after a crash of the machine, not of the process, the last
// seconds may be missing.
//
// # Files
//
// The file is renamed once it has MaxBytes, to its name with the time of the rotation
// behind it, and a new file is created. A crash in between leaves no file of the name, and
// the next start creates it. Begin rotates, not the writing of a line, so that a new file
// has its room first; if that fails, the old file goes on. Of the renamed files the newest
// MaxFiles stay, and beyond them those that are younger than KeepFor.
package audit
