package state

import "io"

// OpenArchive reads the head of an archive. The rest is the stream.
func OpenArchive(r io.Reader) (io.Reader, error) {
	stream, _, err := openArchive(r)
	return stream, err
}
