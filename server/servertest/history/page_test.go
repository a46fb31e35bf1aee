package history

import (
	"os"
	"strings"
	"testing"
)

// TestPageBeginsAsANewOne: make chaos writes the text of the page only where there is
// no page, so an edit of one of the two has to be made in the other.
func TestPageBeginsAsANewOne(t *testing.T) {
	page, err := os.ReadFile("../../../website/docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	if rows, found := strings.CutPrefix(string(page), pageHead); !found || !strings.HasPrefix(rows, "| 20") {
		t.Error("website/docs/reliability.md doesn't begin with pageHead of page.go and a row: change both")
	}
}
