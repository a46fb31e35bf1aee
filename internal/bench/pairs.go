package main

import (
	"fmt"
	"slices"
)

// pairs are interleaved measurements of both sides. Machines are noisy, so only the
// ratios within a pair are meaningful.
type pairs struct {
	ours, theirs []float64
}

// interleave measures both sides in each round. The second side finds warmer caches, so
// the sides take turns at being first. Another build's measurement has its turn after each
// round.
func (b *bench) interleave(rounds int, ours, theirs func(round int) (float64, error)) (pairs, error) {
	var p pairs
	for i := range rounds {
		for turn := range 2 {
			measure, values := ours, &p.ours
			if (i+turn)%2 == 1 {
				measure, values = theirs, &p.theirs
			}
			v, err := measure(i)
			if err != nil {
				return p, err
			}
			*values = append(*values, v)
		}
		b.turns.pass()
	}
	return p, nil
}

// ratios returns ours over theirs, pair by pair.
func (p pairs) ratios() []float64 {
	out := make([]float64, len(p.ours))
	for i := range out {
		out[i] = p.ours[i] / p.theirs[i]
	}
	return out
}

// differences returns ours minus theirs, pair by pair.
func (p pairs) differences() []float64 {
	out := make([]float64, len(p.ours))
	for i := range out {
		out[i] = p.ours[i] - p.theirs[i]
	}
	return out
}

// spread formats the median and the range of the values.
func spread(format string, v []float64) string {
	return fmt.Sprintf(format+" ("+format+"–"+format+")", median(v), slices.Min(v), slices.Max(v))
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}
