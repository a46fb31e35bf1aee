package redirect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Table is what the kernel has of a host's rules. Two agents on one kernel have two. Methods
// must not be called concurrently.
type Table struct {
	name  string
	netns int    // file descriptor of a network namespace; 0 means that of the process
	now   *Rules // what the kernel has; nil if unknown
	// was are the rules of before whose UDP flows the kernel may still have. unflushed says
	// that it may have any.
	was       []*Rules
	unflushed bool
}

// New returns the table of a host. It changes nothing.
func New(hostID string) *Table { return &Table{name: "magnum-" + hostID} }

// Set makes the kernel do what the rules say, in one transaction: either all of it has changed
// or nothing. It writes only what differs from the last call. Then it ends the UDP flows that
// the rules led elsewhere before. An error says what is missing on the host.
func (t *Table) Set(r Rules) error {
	switch {
	case t.now == nil: // an agent of before may have made other rules
		t.unflushed = true
	case changesUDP(t.now, &r):
		t.keep(t.now)
	}
	if err := t.set(r); err != nil {
		return err
	}
	return t.flushNow()
}

// maxWas bounds the rules of before, if the kernel refuses to end flows.
const maxWas = 16

// keep notes that there may be flows of rules that are over.
func (t *Table) keep(was *Rules) {
	t.was = append(t.was[max(0, len(t.was)-maxWas+1):], was)
	t.unflushed = true
}

// flushNow ends the UDP flows that the rules don't lead where they go.
func (t *Table) flushNow() error {
	if !t.unflushed {
		return nil
	}
	if err := t.flush(t.was, t.now); err != nil {
		return explain(err)
	}
	t.was, t.unflushed = nil, false
	return nil
}

// set is Set without the flows.
func (t *Table) set(r Rules) error {
	if t.now != nil {
		err := t.write(func(b *batch) { b.change(t.now, &r) })
		if err == nil {
			t.now = &r
			return nil
		}
		t.now = nil // somebody else may have removed the table: make it again
	}
	if err := t.write(func(b *batch) { b.replace(&r) }); err != nil {
		return explain(err)
	}
	t.now = &r
	return nil
}

// Check makes the rules of the last Set again if somebody else has removed them, as a restart
// of a firewall does. It does nothing before the first Set.
func (t *Table) Check() error {
	if t.now == nil {
		return nil
	}
	c, err := t.dial()
	if err != nil {
		return explain(err)
	}
	for _, want := range []struct {
		family nftables.TableFamily
		chains int
	}{{nftables.TableFamilyIPv4, 1}, {nftables.TableFamilyINet, 2}} {
		chains, err := c.ListChainsOfTableFamily(want.family)
		if err != nil {
			return explain(err)
		}
		found := 0
		for _, chain := range chains {
			if chain.Table.Name != t.name {
				continue
			}
			if rules, err := c.GetRules(chain.Table, chain); err == nil && len(rules) > 0 {
				found++
			}
		}
		if found < want.chains {
			rules := *t.now
			t.now = nil
			return t.Set(rules)
		}
	}
	return nil
}

// Remove removes the rules. It does nothing if there are none.
func (t *Table) Remove() error {
	if t.now != nil {
		t.keep(t.now)
	}
	t.now = nil
	if err := t.write(func(b *batch) { b.clear() }); err != nil {
		return explain(err)
	}
	if !t.unflushed {
		return nil
	}
	if err := t.flush(t.was, &Rules{}); err != nil {
		return explain(err)
	}
	t.was, t.unflushed = nil, false
	return nil
}

// explain says what an operator can do about an error of the kernel.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the kernel's packet filter can't be changed: run the agent as root, or with CAP_NET_ADMIN: %w", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP),
		errors.Is(err, unix.ENOENT):
		return fmt.Errorf("the kernel's packet filter can't be changed: load its modules nf_tables, nft_redir, nft_ct, "+
			"nft_fib_inet and nft_reject_inet: %w", err)
	}
	return fmt.Errorf("the kernel's packet filter can't be changed: %w", err)
}

// writeBuffer is the size of the socket's buffer, in bytes. A transaction is one message.
const writeBuffer = 8 << 20

func (t *Table) dial() (*nftables.Conn, error) {
	options := []nftables.ConnOption{nftables.WithSockOptions(func(c *netlink.Conn) error {
		return c.SetWriteBuffer(writeBuffer)
	})}
	if t.netns != 0 {
		options = append(options, nftables.WithNetNSFd(t.netns))
	}
	return nftables.New(options...)
}

// write carries out a transaction.
func (t *Table) write(fill func(*batch)) error {
	c, err := t.dial()
	if err != nil {
		return err
	}
	b := newBatch(c, t.name)
	fill(b)
	if b.err != nil {
		return b.err
	}
	return c.Flush()
}

// nameSize is the size of an interface's name in the kernel, with the NUL byte at its end.
const nameSize = unix.IFNAMSIZ

// batch is a transaction in the making.
type batch struct {
	conn *nftables.Conn
	// The kernel has redirections in tables of one address family only; what is refused is
	// refused in all of them.
	nat, filter *nftables.Table
	// ports has the port of the gateway by interface, address, protocol and port.
	ports *nftables.Set
	// bridges are the interfaces that are guarded, own the gateways by interface, gateways
	// their addresses, services the addresses of services, refused UDP ports of the host.
	bridges, own, gateways, services, refused *nftables.Set
	err                                       error
}

func newBatch(c *nftables.Conn, name string) *batch {
	b := &batch{
		conn:   c,
		nat:    &nftables.Table{Name: name, Family: nftables.TableFamilyIPv4},
		filter: &nftables.Table{Name: name, Family: nftables.TableFamilyINet},
	}
	b.ports = &nftables.Set{Table: b.nat, Name: "ports", IsMap: true, Concatenation: true, DataType: nftables.TypeInetService,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)}
	b.bridges = &nftables.Set{Table: b.filter, Name: "bridges", KeyType: nftables.TypeIFName}
	b.own = &nftables.Set{Table: b.filter, Name: "own", Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)}
	b.gateways = &nftables.Set{Table: b.filter, Name: "gateways", KeyType: nftables.TypeIPAddr}
	b.services = &nftables.Set{Table: b.filter, Name: "services", KeyType: nftables.TypeIPAddr}
	b.refused = &nftables.Set{Table: b.filter, Name: "refused", KeyType: nftables.TypeInetService}
	return b
}

// clear removes the tables, whether they exist or not.
func (b *batch) clear() {
	for _, t := range []*nftables.Table{b.nat, b.filter} {
		b.conn.AddTable(t)
		b.conn.DelTable(t)
	}
}

// replace makes the tables again.
func (b *batch) replace(r *Rules) {
	b.clear()
	b.conn.AddTable(b.nat)
	b.conn.AddTable(b.filter)
	for _, s := range []*nftables.Set{b.ports, b.bridges, b.own, b.gateways, b.services, b.refused} {
		b.note(b.conn.AddSet(s, nil))
	}
	b.change(&Rules{}, r)
	b.addRedirect()
	b.addInput()
	b.addForward()
}

// change writes the difference between two rule sets.
func (b *batch) change(was, now *Rules) {
	var remove, add []nftables.SetElement
	for t, to := range was.Ports {
		if now.Ports[t] != to {
			remove = append(remove, portElement(t, to))
		}
	}
	for t, to := range now.Ports {
		if was.Ports[t] != to {
			add = append(add, portElement(t, to))
		}
	}
	b.update(b.ports, remove, add)
	changeSet(b, b.bridges, bridgesOf(was), bridgesOf(now), interfaceKey)
	changeSet(b, b.own, was.Gateways, now.Gateways, func(g Gateway) []byte { return append(interfaceKey(g.Bridge), addrKey(g.Addr)...) })
	changeSet(b, b.gateways, addrsOf(was), addrsOf(now), addrKey)
	changeSet(b, b.services, was.Addresses, now.Addresses, addrKey)
	changeSet(b, b.refused, was.Refused, now.Refused, func(port uint16) []byte { return binary.BigEndian.AppendUint16(nil, port) })
}

// bridgesOf returns the names of the bridges.
func bridgesOf(r *Rules) map[string]struct{} {
	all := make(map[string]struct{}, len(r.Gateways))
	for g := range r.Gateways {
		all[g.Bridge] = struct{}{}
	}
	return all
}

// addrsOf returns the addresses of the gateways.
func addrsOf(r *Rules) map[netip.Addr]struct{} {
	all := make(map[netip.Addr]struct{}, len(r.Gateways))
	for g := range r.Gateways {
		all[g.Addr] = struct{}{}
	}
	return all
}

func changeSet[K comparable](b *batch, set *nftables.Set, was, now map[K]struct{}, key func(K) []byte) {
	var remove, add []nftables.SetElement
	for k := range was {
		if _, ok := now[k]; !ok {
			remove = append(remove, nftables.SetElement{Key: key(k)})
		}
	}
	for k := range now {
		if _, ok := was[k]; !ok {
			add = append(add, nftables.SetElement{Key: key(k)})
		}
	}
	b.update(set, remove, add)
}

// chunk bounds the elements of one message, whose attributes have at most 64 KiB.
const chunk = 500

// update removes elements of a set and adds others.
func (b *batch) update(set *nftables.Set, remove, add []nftables.SetElement) {
	for ; len(remove) > 0; remove = remove[min(chunk, len(remove)):] {
		b.note(b.conn.SetDeleteElements(set, remove[:min(chunk, len(remove))]))
	}
	for ; len(add) > 0; add = add[min(chunk, len(add)):] {
		b.note(b.conn.SetAddElements(set, add[:min(chunk, len(add))]))
	}
}

func (b *batch) note(err error) { b.err = errors.Join(b.err, err) }

func portElement(t Target, to uint16) nftables.SetElement {
	key := append(interfaceKey(t.Bridge), addrKey(t.Addr)...)
	key = append(key, byte(t.Protocol), 0, 0, 0) // each part fills registers of 4 bytes
	key = append(binary.BigEndian.AppendUint16(key, t.Port), 0, 0)
	return nftables.SetElement{Key: key, Val: binary.BigEndian.AppendUint16(nil, to)}
}

func interfaceKey(name string) []byte {
	key := make([]byte, nameSize)
	copy(key, name)
	return key
}

func addrKey(a netip.Addr) []byte { return a.AsSlice() }

// Equal reports whether two rule sets are the same.
func (r *Rules) Equal(o *Rules) bool {
	return maps.Equal(r.Ports, o.Ports) && maps.Equal(r.Gateways, o.Gateways) && maps.Equal(r.Addresses, o.Addresses) &&
		maps.Equal(r.Refused, o.Refused)
}

// The registers, of 4 bytes each, in which a rule gathers what it looks up.
const (
	regName  = unix.NFT_REG32_00 // 4 of them
	regAddr  = unix.NFT_REG32_04
	regProto = unix.NFT_REG32_05
	regPort  = unix.NFT_REG32_06
)

// The offsets of fields of packets.
const (
	offsetDestination = 16 // of the destination address in an IPv4 header
	offsetPort        = 2  // of the destination port in a TCP or UDP header
)

// priorityRedirect is before the chains in which engines redirect published ports: the first
// redirection of a connection counts.
const priorityRedirect = -110

// priorityFilter is before the chains of engines and firewalls. Only what is refused here is
// final.
const priorityFilter = -10

// addRedirect adds the redirection of services.
func (b *batch) addRedirect() {
	c := b.chain(b.nat, "redirect", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, priorityRedirect)
	b.rule(c,
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: regName}, destination(regAddr),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: regProto}, destinationPort(regPort),
		&expr.Lookup{SourceRegister: regName, DestRegister: unix.NFT_REG_1, IsDestRegSet: true, SetID: b.ports.ID, SetName: b.ports.Name},
		&expr.Redir{RegisterProtoMin: unix.NFT_REG_1},
	)
}

// addInput adds what a bridge's containers reach of the host, with an address of that bridge:
// what they have been asked by it, redirected ports, and names and echoes at their own gateway.
// From elsewhere only datagrams to a node port that leads to no pod are refused.
func (b *batch) addInput() {
	c := b.chain(b.filter, "input", nftables.ChainTypeFilter, nftables.ChainHookInput, priorityFilter)
	accept, drop := &expr.Verdict{Kind: expr.VerdictAccept}, &expr.Verdict{Kind: expr.VerdictDrop}
	guarded := func(e ...expr.Any) { b.rule(c, e...) }
	name := &expr.Meta{Key: expr.MetaKeyIIFNAME, Register: regName}
	ipv4 := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, equals(unix.NFPROTO_IPV4)}
	// Who forges the address of another project's pod has the answer go there. What that pod
	// answers is then part of the same connection, and would be let in below.
	outside := []expr.Any{name, b.in(b.bridges, regName, true), notEqual(interfaceKey("lo")...)}
	guarded(slices.Concat(ipv4, outside, []expr.Any{&expr.Fib{Register: regName, ResultOIFNAME: true, FlagSADDR: true},
		b.in(b.bridges, regName, false), drop})...)
	protocol := &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG_1}
	guarded(name, b.in(b.bridges, regName, true), protocol, equals(unix.IPPROTO_UDP), destinationPort(regPort),
		b.in(b.refused, regPort, false), unreachable())
	guarded(name, b.in(b.bridges, regName, true), accept)
	guarded(slices.Concat(ipv4, foreignSource(), []expr.Any{drop})...)
	guarded(&expr.Ct{Key: expr.CtKeySTATE, Register: unix.NFT_REG_1},
		anyBit(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), notZero(), accept)
	guarded(&expr.Ct{Key: expr.CtKeySTATUS, Register: unix.NFT_REG_1}, anyBit(statusDNAT), notZero(), accept)
	own := slices.Concat(ipv4, []expr.Any{name, destination(regAddr), b.in(b.own, regName, false)})
	guarded(append(own, protocol, equals(unix.IPPROTO_ICMP),
		&expr.Payload{DestRegister: unix.NFT_REG_1, Base: expr.PayloadBaseTransportHeader, Len: 1}, equals(echoRequest), accept)...)
	names := func(before []expr.Any, verdict expr.Any) {
		for _, p := range []Protocol{TCP, UDP} {
			guarded(append(before[:len(before):len(before)], protocol, equals(byte(p)), destinationPort(unix.NFT_REG_1), equals(0, 53),
				verdict)...)
		}
	}
	names(own, accept)
	// A resolver of the host's own at one of its addresses may be where the host asks; the
	// gateways of other projects answer other names.
	b.rule(c, &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, equals(unix.NFPROTO_IPV4), destination(regAddr),
		b.in(b.gateways, regAddr, false), drop)
	names(nil, accept)
	guarded(drop)
}

// foreignSource matches an address that is not of the network of the interface from which a
// packet comes.
func foreignSource() []expr.Any {
	return []expr.Any{&expr.Fib{Register: unix.NFT_REG_1, ResultOIF: true, FlagSADDR: true, FlagIIF: true}, equals(0, 0, 0, 0)}
}

// addForward refuses what was sent to the address of a service and isn't redirected: ports
// that it doesn't have, ports for datagrams that lead to no pod, and services of other projects. Without it such packets would leave
// the host. Nor does anything leave a bridge with a forged address: it may be that of a pod of
// another host.
func (b *batch) addForward() {
	c := b.chain(b.filter, "forward", nftables.ChainTypeFilter, nftables.ChainHookForward, priorityFilter)
	fromBridge := []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: unix.NFT_REG_1}, equals(unix.NFPROTO_IPV4),
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: regName}, b.in(b.bridges, regName, false)}
	// From pod to pod of a bridge, the kernel asks here too if it filters bridges.
	b.rule(c, slices.Concat(fromBridge, []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: regName},
		b.in(b.bridges, regName, true)}, foreignSource(), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})...)
	b.rule(c, slices.Concat(fromBridge, []expr.Any{destination(regAddr), b.in(b.services, regAddr, false),
		unreachable()})...)
}

// unreachable refuses a packet with the answer that its port is unreachable.
func unreachable() expr.Any {
	return &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}
}

const (
	statusDNAT  = 1 << 5 // IPS_DST_NAT: the destination of the connection was changed
	echoRequest = 8      // of ICMP
)

func (b *batch) chain(t *nftables.Table, name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int32) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return b.conn.AddChain(&nftables.Chain{Table: t, Name: name, Type: kind, Hooknum: hook,
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)), Policy: &accept})
}

func (b *batch) rule(c *nftables.Chain, exprs ...expr.Any) {
	b.conn.AddRule(&nftables.Rule{Table: c.Table, Chain: c, Exprs: exprs})
}

func (b *batch) in(s *nftables.Set, register uint32, invert bool) expr.Any {
	return &expr.Lookup{SourceRegister: register, SetID: s.ID, SetName: s.Name, Invert: invert}
}

func destination(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offsetDestination, Len: 4}
}

func destinationPort(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2}
}

func equals(value ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: unix.NFT_REG_1, Data: value}
}

func notEqual(value ...byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: value}
}

func notZero() expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: unix.NFT_REG_1, Data: make([]byte, 4)}
}

// anyBit keeps the bits of register 1 that are in mask.
func anyBit(mask uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: unix.NFT_REG_1, DestRegister: unix.NFT_REG_1, Len: 4,
		Mask: binary.NativeEndian.AppendUint32(nil, mask), Xor: make([]byte, 4)}
}
