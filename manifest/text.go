package manifest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"

	"github.com/stackforge/magnum/structs"
)

const (
	maxDepth = 64       // levels of nesting; a manifest has up to 15
	maxNodes = 32 << 10 // scalars, lists and objects
	maxMarks = 64 << 10 // characters that can begin one; more nodes would take a hundred times the text's memory
)

// Refuse returns a CodeInvalid whose message begins with the path of a field.
func Refuse(path, format string, args ...any) *structs.Error { return refuse(path, format, args...) }

// refuse returns a CodeInvalid whose message begins with the path of a field.
func refuse(path, format string, args ...any) *structs.Error {
	const most = 300 // bytes of a path: keys come from users
	if len(path) > most {
		path = strings.ToValidUTF8(path[:most], "") + "..."
	}
	path = strings.Map(func(r rune) rune {
		if structs.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, path)
	return structs.Errorf(structs.CodeInvalid, "%s: %s", cmp.Or(path, "manifest"), fmt.Sprintf(format, args...))
}

// toJSON converts a text to JSON. It holds exactly one document, and no object has the
// same key twice unless the text is JSON, which decode checks. Errors are CodeInvalid.
func toJSON(text string) ([]byte, error) {
	if err := checkText(text); err != nil {
		return nil, err
	}
	text = strings.TrimPrefix(text, "\ufeff")
	object := strings.HasPrefix(strings.TrimSpace(text), "{")
	if object && json.Valid([]byte(text)) {
		return []byte(text), checkJSON(text)
	}
	text, err := oneDocument(text)
	if err == nil {
		var b []byte
		if b, err = kyaml.YAMLToJSONStrict([]byte(text)); err == nil {
			return b, nil
		}
	}
	var syntax *json.SyntaxError
	if object && structs.CodeOf(err) != structs.CodeInvalid && errors.As(json.Unmarshal([]byte(text), new(any)), &syntax) {
		return nil, refuse("manifest", "line %d: is not JSON: %v", 1+strings.Count(text[:syntax.Offset], "\n"), syntax)
	}
	if structs.CodeOf(err) == structs.CodeInvalid {
		return nil, err
	}
	return nil, refuse("manifest", "is not YAML: %s", strings.TrimPrefix(strings.ReplaceAll(err.Error(), "\n", " "), "yaml: "))
}

// checkText checks what needs no parser.
func checkText(text string) error {
	line := func(i int) int { return 1 + strings.Count(text[:i], "\n") }
	switch i := strings.IndexByte(text, 0); {
	case len(text) > structs.MaxManifest:
		return refuse("manifest", "%d bytes are more than %d", len(text), structs.MaxManifest)
	case strings.TrimSpace(text) == "":
		return refuse("manifest", "is empty: send a Pod, Service or ReplicationController of Kubernetes v1, as YAML or JSON")
	case i >= 0:
		return refuse("manifest", "line %d: contains a NUL byte: send text", line(i))
	case !utf8.ValidString(text):
		for i, r := range text {
			if _, n := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && n == 1 {
				return refuse("manifest", "line %d: contains a byte that is not UTF-8: send UTF-8 text", line(i))
			}
		}
	}
	return nil
}

// marks counts the characters of a YAML text that can begin a value, in texts within
// quotes and blocks too.
func marks(text string) int {
	n := 0
	for i := range len(text) {
		switch text[i] {
		case '[', '{', ',':
			n++
		case '-', '?', ':':
			if i+1 == len(text) || strings.IndexByte(" \t\r\n", text[i+1]) >= 0 {
				n++
			}
		}
	}
	return n
}

// oneDocument returns the only document of a YAML text that isn't empty. It refuses
// what could make the text larger than it is, before anything decodes the text.
func oneDocument(text string) (string, error) {
	if n := marks(text); n > maxMarks {
		return text, refuse("manifest", "has %d characters that can begin a value, more than %d: send it as JSON", n, maxMarks)
	}
	found := 0
	for decoder, documents := yaml.NewDecoder(strings.NewReader(text)), 0; ; documents++ {
		var document yaml.Node
		err := decoder.Decode(&document)
		if err == io.EOF {
			break
		}
		if err != nil {
			return text, err
		}
		if documents > maxDepth {
			return text, refuse("manifest", "contains more than %d documents", maxDepth)
		}
		root := document.Content[0]
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" && root.Anchor == "" {
			continue
		}
		if found != 0 {
			return text, refuse("manifest", "line %d: begins a second document: send one object at a time", root.Line)
		}
		found = root.Line
		c := yamlChecker{left: maxNodes}
		if err := c.check(root, place{}); err != nil {
			return text, err
		}
	}
	if found == 0 {
		return text, refuse("manifest", "is empty: send a Pod, Service or ReplicationController of Kubernetes v1, as YAML or JSON")
	}
	rest := text
	for range found - 1 {
		_, rest, _ = strings.Cut(rest, "\n")
	}
	return rest, nil
}

// place is the way from the root of a document to one of its values.
type place struct {
	up    *place
	key   string // of an object
	index int    // of a list, from 1; 0 means a key
	depth int
}

// String returns the path, such as spec.containers[0].image.
func (p *place) String() string {
	switch {
	case p.up == nil:
		return ""
	case p.index > 0:
		return p.up.String() + "[" + strconv.Itoa(p.index-1) + "]"
	}
	return join(p.up.String(), p.key)
}

// join appends a field's name to a path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// yamlChecker checks the nodes of a document.
type yamlChecker struct{ left int }

func (c *yamlChecker) check(n *yaml.Node, at place) error {
	if c.left--; c.left < 0 {
		return refuse("manifest", "contains more than %d values", maxNodes)
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return refuse(at.String(), "line %d: anchors (&) and aliases (*) are not read: write the value out", n.Line)
	}
	if at.depth > maxDepth {
		return refuse("manifest", "line %d: is nested more than %d levels deep", n.Line, maxDepth)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		for i, item := range n.Content {
			if err := c.check(item, place{up: &at, index: i + 1, depth: at.depth + 1}); err != nil {
				return err
			}
		}
	case yaml.MappingNode:
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			in := place{up: &at, key: key.Value, depth: at.depth + 1}
			switch {
			case key.Kind != yaml.ScalarNode || key.Anchor != "":
				return refuse(at.String(), "line %d: a key is not plain text", key.Line)
			case key.Tag == "!!merge":
				return refuse(at.String(), "line %d: the merge key << is not read: write the fields out", key.Line)
			case seen[key.Value]:
				return refuse(in.String(), "line %d: is given twice: leave one of them out", key.Line)
			}
			seen[key.Value] = true
			if err := c.check(n.Content[i+1], in); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxNumber is the length of the longest number. A longer one, or an exponent of more
// than two digits, could take the decoders of quantities minutes.
const maxNumber = 40

// checkJSON checks the nesting, the numbers and the number of values of a valid JSON
// text.
func checkJSON(text string) error {
	depth, values, quoted := 0, 1, false
	digits, exponent := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return refuse("manifest", "line %d: is nested more than %d levels deep", 1+strings.Count(text[:i], "\n"), maxDepth)
			}
			values++
		case c == '}' || c == ']':
			depth--
		case c == ',':
			values++
		case '0' <= c && c <= '9':
			if digits++; digits > maxNumber || exponent && digits > 2 {
				return refuse("manifest", "line %d: contains a number of too many digits", 1+strings.Count(text[:i], "\n"))
			}
			continue
		case (c == 'e' || c == 'E') && digits > 0:
			digits, exponent = 0, true
			continue
		case c == '.' || c == '+' || c == '-':
			continue
		}
		digits, exponent = 0, false
		if values > maxNodes {
			return refuse("manifest", "contains more than %d values", maxNodes)
		}
	}
	return nil
}
