package wire

// The helpers here give values the form that answers show them in.

// OrNull returns what v is shown as: null if it is the zero value.
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
