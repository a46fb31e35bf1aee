package wal

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/stackforge/magnum/atomicfile"
)

// errNoValue is what the library knows by its text.
var errNoValue = errors.New("not found")

// Stable is the few values that Raft keeps beside the log: its term and its
// vote. It is a raft.StableStore, a file that is replaced as a whole.
type Stable struct {
	path string

	mu     sync.Mutex
	values map[string][]byte
}

// stableFile is the content of the file.
type stableFile struct {
	Values map[string][]byte `json:"values"`
	Sum    uint32            `json:"crc32c"` // of the values, by key
}

// OpenStable reads the values; there are none if there is no file. A damaged
// one is an error that names it.
func OpenStable(path string) (*Stable, error) {
	s := &Stable{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	var f stableFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if f.Sum != sumOf(f.Values) {
		return nil, fmt.Errorf("%s is damaged: its values do not have their checksum", path)
	}
	s.values = f.Values
	return s, nil
}

func sumOf(values map[string][]byte) uint32 {
	var b []byte
	for _, key := range slices.Sorted(maps.Keys(values)) {
		for _, part := range [][]byte{[]byte(key), values[key]} {
			b = append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
		}
	}
	return crc32.Checksum(b, castagnoli)
}

// Set stores a value and returns when it is on disk.
func (s *Stable) Set(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	values := maps.Clone(s.values)
	if values == nil {
		values = make(map[string][]byte)
	}
	values[string(key)] = slices.Clone(value)
	b, err := json.Marshal(stableFile{Values: values, Sum: sumOf(values)})
	if err != nil {
		return err
	}
	if err := atomicfile.Replace(s.path, append(b, '\n')); err != nil {
		return err
	}
	s.values = values
	return nil
}

// Get returns a value. One that was never set is an error.
func (s *Stable) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if value, ok := s.values[string(key)]; ok {
		return slices.Clone(value), nil
	}
	return nil, errNoValue
}

// Keys returns which values there are, in order.
func (s *Stable) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.values))
}

// SetUint64 stores a number.
func (s *Stable) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 returns a number. One that was never set is an error.
func (s *Stable) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%s: the value %s is no number", s.path, key)
	}
	return binary.BigEndian.Uint64(b), nil
}
