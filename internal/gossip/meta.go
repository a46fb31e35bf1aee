package gossip

import (
	"bytes"
	"encoding/json"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"

	"github.com/stackforge/magnum/structs"
)

// Bounds of the fields of meta, which has at most memberlist.MetaMaxSize (512) bytes.
const (
	minName    = 32  // bytes of the name that must fit; the rest is cut
	maxVersion = 48  // bytes of the version; the rest is cut
	maxExpect  = 101 // servers
)

// meta is the wire form of a Node. Its keys are short because it travels in UDP packets.
// Unknown keys are ignored, so that newer versions can add some.
type meta struct {
	Name      string `json:"n,omitempty"`
	Role      string `json:"r"` // s or a
	ClusterID string `json:"c,omitempty"`
	HTTPAddr  string `json:"h,omitempty"`
	RaftAddr  string `json:"a,omitempty"`
	Expect    int    `json:"e,omitempty"`
	Fresh     bool   `json:"f,omitempty"`
	Schema    int    `json:"s,omitempty"`
	Version   string `json:"v,omitempty"`
}

var roles = map[Role]string{RoleServer: "s", RoleAgent: "a"}

// encodeMeta encodes a node, its name cut to what fits. The error is CodeInvalid.
func encodeMeta(n Node) ([]byte, error) {
	if err := n.check(); err != nil {
		return nil, err
	}
	m := meta{
		Name: "", Role: roles[n.Role], ClusterID: n.ClusterID, HTTPAddr: n.HTTPAddr, RaftAddr: n.RaftAddr,
		Expect: n.Expect, Fresh: n.Fresh, Schema: n.Schema, Version: cut(n.Version, maxVersion),
	}
	for size := len(n.Name); ; size-- {
		m.Name = cut(n.Name, size)
		b := marshal(m)
		if len(b) <= memberlist.MetaMaxSize {
			return b, nil
		}
		if size <= minName {
			return nil, structs.Errorf(structs.CodeInvalid,
				"gossip: %d bytes about this process are more than %d: give it shorter addresses than %q and %q",
				len(b), memberlist.MetaMaxSize, n.HTTPAddr, n.RaftAddr)
		}
	}
}

// marshal can't fail for a meta.
func marshal(m meta) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// cut shortens s to at most size bytes without splitting a character.
func cut(s string, size int) string {
	if len(s) <= size {
		return s
	}
	for size > 0 && !utf8.RuneStart(s[size]) {
		size--
	}
	return s[:size]
}

// decodeMeta decodes what another process announces: all of a Node but its ID. The bytes
// come from the network, so they are checked; the error is CodeInvalid.
func decodeMeta(b []byte) (Node, error) {
	if len(b) > memberlist.MetaMaxSize {
		return Node{}, structs.Errorf(structs.CodeInvalid, "%d bytes about a process are more than %d", len(b), memberlist.MetaMaxSize)
	}
	var m meta
	if err := json.Unmarshal(b, &m); err != nil {
		return Node{}, structs.Errorf(structs.CodeInvalid, "the metadata of a process can't be decoded: %w", err)
	}
	n := Node{
		Name: m.Name, ClusterID: m.ClusterID, HTTPAddr: m.HTTPAddr, RaftAddr: m.RaftAddr,
		Expect: m.Expect, Fresh: m.Fresh, Schema: m.Schema, Version: cut(m.Version, maxVersion),
	}
	for role, letter := range roles {
		if m.Role == letter {
			n.Role = role
		}
	}
	if err := n.check(); err != nil {
		return Node{}, err
	}
	return n, nil
}

// check checks all fields but ID, of this process and of others. Errors are CodeInvalid.
func (n Node) check() error {
	invalid := func(field string, value any) error {
		return structs.Errorf(structs.CodeInvalid, "gossip: %s %.128q", field, value)
	}
	switch {
	case roles[n.Role] == "":
		return invalid("role", string(n.Role))
	case n.ClusterID != "" && !structs.IsID(n.ClusterID):
		return invalid("cluster id", n.ClusterID)
	case n.Expect < 0 || n.Expect > maxExpect:
		return invalid("expect", strconv.Itoa(n.Expect))
	case n.Schema < 0:
		return invalid("schema", strconv.Itoa(n.Schema))
	}
	if n.HTTPAddr != "" {
		u, err := url.Parse(n.HTTPAddr)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || !isHostPort(u.Host) {
			return invalid("HTTP address", n.HTTPAddr)
		}
	}
	if n.RaftAddr != "" && !isHostPort(n.RaftAddr) {
		return invalid("Raft address", n.RaftAddr)
	}
	return nil
}

// isHostPort reports whether s is host:port with a port of 1..65535.
func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// instance is one run of a process. memberlist knows instances, not processes: a process
// that was killed and restarted at another address is a new member to it, which need
// not wait until the old address is declared dead.
type instance struct {
	id    string // Node.ID
	start int64  // Unix microseconds; later ones supersede earlier ones
}

// String returns the name of the instance in memberlist: its id and its start.
func (i instance) String() string { return i.id + "." + strconv.FormatInt(i.start, 36) }

// parseInstance parses a name made by String.
func parseInstance(name string) (instance, bool) {
	id, start, ok := strings.Cut(name, ".")
	at, err := strconv.ParseInt(start, 36, 64)
	i := instance{id: id, start: at}
	return i, ok && err == nil && structs.IsID(id) && i.String() == name
}
