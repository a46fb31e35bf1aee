package manifest

import (
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"

	"github.com/stackforge/magnum/manifest/v1"
)

// forms are the checks of names, and those of Kubernetes.
var forms = map[string]struct {
	own        func(string) bool
	kubernetes func(string) []string
}{
	"label": {isLabel, validation.IsDNS1123Label}, "service": {isServiceLabel, validation.IsDNS1035Label},
	"domain": {isDomain, validation.IsDNS1123Subdomain}, "key": {isKey, validation.IsQualifiedName},
	"value": {isValue, validation.IsValidLabelValue}, "port": {isPortName, validation.IsValidPortName},
	"header": {isHeader, validation.IsHTTPHeaderName}, "variable": {isVariable, validation.IsRelaxedEnvVarName},
}

// FuzzForms checks that names are checked as Kubernetes does.
func FuzzForms(f *testing.F) {
	for _, s := range []string{"", "a", "-", "a-", "-a", "a-b", "a--b", "1", "1a", "A", "a_b", "a.b", ".a", "a.", "a..b",
		"a/b", "/b", "a/", "a/b/c",
		"A.b/c", "a=b", "a b", "a\x7f", "é", "a\n", "X-Y", "a-.b", "\x00", "~", "kubernetes.io/os",
		strings.Repeat("a", 15), strings.Repeat("a", 16),
		strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 126) + "aa",
		strings.Repeat("a", 253) + "/" + strings.Repeat("b", 63), strings.Repeat("a", 254) + "/b", strings.Repeat("a", 254),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for name, form := range forms {
			if own, theirs := form.own(s), len(form.kubernetes(s)) == 0; own != theirs {
				t.Errorf("%q as a %s: %v, for Kubernetes %v", s, name, own, theirs)
			}
		}
	})
}

// FuzzQuantity checks that amounts are read as Kubernetes does. Longer ones, which would
// take it long, are refused.
func FuzzQuantity(f *testing.F) {
	for _, s := range []string{
		"", "0", "1", "-1", "+1", "1.5", ".5", "5.", ".", "1..5", "1.5.5", "100m", "1500m", "0.1", "64Mi", "1.5Gi",
		"0.0000001Ki", "1k", "1K", "1Ki", "1M", "1E", "1Ei", "1P", "1T", "1n", "1u", "1ui", "1e3", "1E3", "1e-3", "1e+3",
		"1e", "1e99", "1e-99", "1e100", "i", "m", "1m1", "0x1", "1_0", "1/2", " 1", "9223372036854775807",
		"9223372036854775808", "0.0000000000000000001", "1e1000000000", "-0", "007",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		own, err := v1.ParseQuantity(s)
		if err != nil && len(s) > 30 || err != nil && exponent(s) > 99 {
			return // it may be one of those that are refused
		}
		if !strings.ContainsAny(s, digits) {
			if err == nil {
				t.Errorf("%q, without a digit, is an amount", s) // for Kubernetes some are 0
			}
			return
		}
		theirs, wrong := resource.ParseQuantity(s)
		if (err == nil) != (wrong == nil) {
			t.Fatalf("%q: %v, for Kubernetes %v", s, err, wrong)
		}
		if err != nil {
			return
		}
		if own.Sign() != theirs.Sign() {
			t.Errorf("%q has sign %d, for Kubernetes %d", s, own.Sign(), theirs.Sign())
		}
		const most = math.MaxInt64 / 1000
		if own.Beyond(most) || own.Sign() < 0 {
			if theirs.CmpInt64(most) <= 0 && own.Sign() > 0 {
				t.Errorf("%q is more than %d, for Kubernetes not", s, most)
			}
			return
		}
		if a, b := own.Times(1), theirs.Value(); a != b {
			t.Errorf("%q is %d, for Kubernetes %d", s, a, b)
		}
		if a, b := own.Times(1000), theirs.MilliValue(); a != b {
			t.Errorf("%q is %d thousandths, for Kubernetes %d", s, a, b)
		}
	})
}

// exponent returns the number of an amount's exponent, without its sign, and 0 if it has
// none.
func exponent(s string) int {
	_, s, _ = strings.Cut(strings.ToLower(s), "e")
	n, err := strconv.Atoi(strings.Trim(s, "+-"))
	if errors.Is(err, strconv.ErrRange) {
		return math.MaxInt
	}
	return n
}

// TestKubernetesReadsTheFixtures checks that the fixtures are pods of Kubernetes.
func TestKubernetesReadsTheFixtures(t *testing.T) {
	for _, name := range []string{"kubectl", "podman", "redis-master"} {
		text, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		b, err := toJSON(string(text))
		if err != nil {
			t.Fatal(err)
		}
		strict, err := kjson.UnmarshalStrict(b, new(corev1.Pod))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, err := range strict {
			if !strings.Contains(err.Error(), "status.aFieldOfANewerServer") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}
