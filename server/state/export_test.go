package state

import "io"

// OpenArchive takes the head off an archive; what is left is the stream.
func OpenArchive(r io.Reader) (io.Reader, error) {
	stream, _, err := openArchive(r)
	return stream, err
}
