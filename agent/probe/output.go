package probe

import "sync"

// Output keeps the first MaxOutput bytes of what is written to it, and drops the rest. It
// is safe for concurrent use: a command's two streams may share one. The zero value is
// empty.
type Output struct {
	mu   sync.Mutex
	kept []byte
}

// Write never fails.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.kept = append(o.kept, b[:min(len(b), MaxOutput-len(o.kept))]...)
	return len(b), nil
}

// String returns what was kept.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.kept)
}
