package command

import (
	"io"
	"slices"
	"strings"
	"unicode"
)

// table draws tables as prettytable did for the 2015 client: with a frame of +, - and |,
// left-aligned, without truncation. Line feeds break a cell into lines.
type table struct {
	head []string
	rows [][]string
}

// sortByFirst sorts the rows by their first column.
func (t *table) sortByFirst() {
	slices.SortStableFunc(t.rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
}

// writeTo draws the table.
func (t *table) writeTo(w io.Writer) error {
	width := make([]int, len(t.head))
	grow := func(row []string) {
		for i, cell := range row {
			for line := range strings.SplitSeq(cell, "\n") {
				width[i] = max(width[i], displayWidth(line))
			}
		}
	}
	grow(t.head)
	for _, row := range t.rows {
		grow(row)
	}
	var b strings.Builder
	frame := func() {
		for _, n := range width {
			b.WriteString("+" + strings.Repeat("-", n+2))
		}
		b.WriteString("+\n")
	}
	line := func(row []string) {
		cells, height := make([][]string, len(row)), 1
		for i, cell := range row {
			cells[i] = strings.Split(cell, "\n")
			height = max(height, len(cells[i]))
		}
		for n := range height {
			for i := range row {
				text := ""
				if n < len(cells[i]) {
					text = cells[i][n]
				}
				b.WriteString("| " + text + strings.Repeat(" ", width[i]-displayWidth(text)) + " ")
			}
			b.WriteString("|\n")
		}
	}
	frame()
	line(t.head)
	frame()
	for _, row := range t.rows {
		line(row)
	}
	frame() // as prettytable, also if there are no rows
	_, err := io.WriteString(w, b.String())
	return err
}

// doubleWidth are the characters that take two columns of a terminal: East Asian wide
// and full-width forms, and emoji.
var doubleWidth = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1}, {0x2e80, 0x303e, 1}, {0x3041, 0x33ff, 1}, {0x3400, 0x4dbf, 1}, {0x4e00, 0x9fff, 1},
		{0xa000, 0xa4cf, 1}, {0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe30, 0xfe6f, 1}, {0xff00, 0xff60, 1}, {0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{{0x1f300, 0x1f64f, 1}, {0x1f900, 0x1f9ff, 1}, {0x20000, 0x3fffd, 1}},
}

// displayWidth returns the number of terminal columns of a line.
func displayWidth(s string) int {
	n := 0
	for _, r := range s {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		case unicode.Is(doubleWidth, r):
			n += 2
		default:
			n++
		}
	}
	return n
}
