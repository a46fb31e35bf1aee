package wire

// This file converts values to the form that answers have.

// OrNull returns a pointer to v, or nil, which is null in JSON, if v is zero.
func OrNull[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// List returns s, never nil.
func List[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// Object returns m, never nil.
func Object(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
