package main

import (
	"fmt"
	"slices"
)

// pairs are measurements of the two sides, taken turn by turn: the machines
// are noisy, so only ratios within a pair are worth quoting.
type pairs struct {
	ours, theirs []float64
}

// interleave measures both sides so many times. Whoever goes second finds
// warmer caches, so they take turns at going first.
func interleave(rounds int, ours, theirs func(round int) (float64, error)) (pairs, error) {
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

// spread writes a median and how far the values lie apart.
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
