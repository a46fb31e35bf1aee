package manifest

import "strings"

// The forms of names, as Kubernetes checks them.

const (
	lowers = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
	alnum  = lowers + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + digits
)

// spells reports whether a text consists of some characters, and begins and ends with
// others. An empty text doesn't.
func spells(s, ends, within string, most int) bool {
	if s == "" || len(s) > most || strings.IndexByte(ends, s[0]) < 0 || strings.IndexByte(ends, s[len(s)-1]) < 0 {
		return false
	}
	for i := range len(s) {
		if strings.IndexByte(ends, s[i]) < 0 && strings.IndexByte(within, s[i]) < 0 {
			return false
		}
	}
	return true
}

// isLabel is a label of DNS, RFC 1123.
func isLabel(s string) bool { return spells(s, lowers+digits, "-", 63) }

// isServiceLabel is a label of DNS, RFC 1035: it begins with a letter.
func isServiceLabel(s string) bool { return isLabel(s) && strings.IndexByte(lowers, s[0]) >= 0 }

// isDomain is a name of DNS.
func isDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if !spells(part, lowers+digits, "-", 253) {
			return false
		}
	}
	return true
}

// isKey is the key of a label or annotation: a name, if need be after a domain and /.
func isKey(s string) bool {
	domain, name, prefixed := strings.Cut(s, "/")
	if !prefixed {
		domain, name = "", s
	}
	return (!prefixed || isDomain(domain)) && spells(name, alnum, "-_.", 63)
}

// isValue is the value of a label.
func isValue(s string) bool { return s == "" || spells(s, alnum, "-_.", 63) }

// isPortName is the name of a port: with at least one letter, and no two hyphens in a
// row.
func isPortName(s string) bool {
	return spells(s, lowers+digits, "-", 15) && strings.ContainsAny(s, lowers) && !strings.Contains(s, "--")
}

// isHeader is the name of a header of HTTP.
func isHeader(s string) bool { return s != "" && strings.Trim(s, alnum+"-") == "" }

// isVariable is the name of an environment variable: printable ASCII without =.
func isVariable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' || s[i] == '=' {
			return false
		}
	}
	return s != ""
}

// isVolume is the name of a volume of a project.
func isVolume(s string) bool {
	return s != "" && len(s) <= 128 && strings.IndexByte(alnum, s[0]) >= 0 && strings.Trim(s, alnum+"._-") == ""
}
