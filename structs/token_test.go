package structs

import (
	"strings"
	"testing"
	"time"
)

func TestTokenText(t *testing.T) {
	id, secret := NewID(), NewSecret()
	gotID, gotSecret, ok := ParseToken(FormatToken(id, secret))
	if !ok || gotID != id || gotSecret != secret {
		t.Errorf("%s, %s, %v", gotID, gotSecret, ok)
	}
	for _, text := range []string{
		"", "mgt_", id, "mgt_" + id, "mgt_" + id + "_", "MGT_" + id + "_" + secret, id + "_" + secret, "mgt_" + strings.ToUpper(id) +
			"_" + secret,
		"mgt__" + secret, "mgt_x_" + secret, " mgt_" + id + "_" + secret, "mgt_" + id + "_" + strings.Repeat("x", MaxName+1),
	} {
		if id, secret, ok := ParseToken(text); ok || id != "" || secret != "" {
			t.Errorf("%q is taken for a token", text)
		}
	}
}

func TestTokenExpiry(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for expires, want := range map[time.Time]bool{{}: false, now: true, now.Add(-time.Hour): true, now.Add(time.Nanosecond): false} {
		if got := (&Token{ExpiresAt: expires}).Expired(now); got != want {
			t.Errorf("one that expires at %v: %v", expires, got)
		}
	}
	token := Token{Hash: HashSecret("s")}
	if !token.OpenedBy(HashSecret("s")) || token.OpenedBy(HashSecret("t")) || token.OpenedBy("") || token.OpenedBy("s") ||
		(&Token{}).OpenedBy("") {
		t.Error("the wrong hash opens it")
	}
}
