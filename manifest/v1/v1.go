// Package v1 has the types of Kubernetes v1 that manifests are read into. They are those
// of k8s.io/api without their methods: generated code, registration and logging, which
// the program would keep in memory whether it reads a manifest or not. What is refused
// or has no effect stays as it was sent.
//
// Only package manifest imports it. A test there checks that no field is missing.
package v1

import (
	"encoding/json"
	"errors"
	"math/big"
	"strconv"
	"strings"
)

// Raw is a value whose fields are not read.
type Raw []byte

// UnmarshalJSON keeps the text. A null is nil.
func (r *Raw) UnmarshalJSON(b []byte) error {
	*r = nil
	if string(b) != "null" {
		*r = append(*r, b...)
	}
	return nil
}

// Document is an object of type S as a manifest has it.
type Document[S any] struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Metadata   ObjectMeta `json:"metadata"`
	Spec       S          `json:"spec"`
	Status     Raw        `json:"status"`
}

// IntOrString is a number, or a name if Name isn't "".
type IntOrString struct {
	Int  int32
	Name string
	Text bool // it was given as text
}

// UnmarshalJSON reads a number or a text.
func (v *IntOrString) UnmarshalJSON(b []byte) error {
	*v = IntOrString{Text: len(b) > 0 && b[0] == '"'}
	if v.Text {
		return json.Unmarshal(b, &v.Name)
	}
	if json.Unmarshal(b, &v.Int) != nil {
		return errors.New("must be a number or a name")
	}
	return nil
}

// Quantity is an amount, such as 500m or 64Mi. The zero value is 0.
type Quantity struct {
	text  string
	value *big.Rat // nil means 0
}

// errQuantity is the error for all texts that aren't amounts.
var errQuantity = errors.New("is not an amount, such as 0.5, 500m, 64Mi or 1e3")

// ParseQuantity reads an amount of up to 40 digits and an exponent of up to two: larger
// ones are numbers of up to a billion digits.
func ParseQuantity(s string) (Quantity, error) {
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.' || end == 0 && (s[end] == '+' || s[end] == '-')) {
		end++
	}
	number, suffix := s[:end], s[end:]
	digits := strings.TrimLeft(number, "+-")
	if len(digits) > 40 || strings.Trim(digits, ".") == "" || strings.Count(digits, ".") > 1 {
		return Quantity{}, errQuantity
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return Quantity{}, errQuantity
	}
	factor, ok := factorOf(suffix)
	if !ok {
		return Quantity{}, errQuantity
	}
	return Quantity{text: s, value: value.Mul(value, factor)}, nil
}

// factorOf returns what a suffix stands for.
func factorOf(suffix string) (*big.Rat, bool) {
	power := func(base, exponent int64) *big.Rat {
		n := new(big.Int).Exp(big.NewInt(base), big.NewInt(max(exponent, -exponent)), nil)
		if exponent < 0 {
			return new(big.Rat).SetFrac(big.NewInt(1), n)
		}
		return new(big.Rat).SetInt(n)
	}
	switch suffix {
	case "":
		return power(10, 0), true
	case "n":
		return power(10, -9), true
	case "u":
		return power(10, -6), true
	case "m":
		return power(10, -3), true
	}
	if prefix, binary := strings.CutSuffix(suffix, "i"); binary {
		if i := strings.Index("KMGTPE", prefix); len(prefix) == 1 && i >= 0 {
			return power(1024, int64(i)+1), true
		}
		return nil, false
	}
	if i := strings.Index("kMGTPE", suffix); len(suffix) == 1 && i >= 0 {
		return power(1000, int64(i)+1), true
	}
	exponent, err := strconv.ParseInt(suffix[1:], 10, 8)
	if suffix[0] != 'e' && suffix[0] != 'E' || err != nil {
		return nil, false
	}
	return power(10, exponent), true
}

// UnmarshalJSON reads an amount that is given as text or as a number.
func (q *Quantity) UnmarshalJSON(b []byte) error {
	*q = Quantity{}
	text := string(b)
	switch {
	case text == "null":
		return nil
	case strings.HasPrefix(text, `"`):
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
	}
	var err error
	*q, err = ParseQuantity(text)
	return err
}

// String returns the amount as it was given.
func (q Quantity) String() string {
	if q.value == nil {
		return "0"
	}
	return q.text
}

// Sign returns -1, 0 or 1.
func (q Quantity) Sign() int {
	if q.value == nil {
		return 0
	}
	return q.value.Sign()
}

// Beyond reports whether the amount is more than most.
func (q Quantity) Beyond(most int64) bool {
	return q.value != nil && q.value.Cmp(new(big.Rat).SetInt64(most)) > 0
}

// Times returns the amount in parts of 1/n, rounded up. The result must fit: see Beyond.
func (q Quantity) Times(n int64) int64 {
	if q.value == nil {
		return 0
	}
	v := new(big.Rat).Mul(q.value, new(big.Rat).SetInt64(n))
	whole, rest := new(big.Int).QuoRem(v.Num(), v.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	return whole.Int64()
}
