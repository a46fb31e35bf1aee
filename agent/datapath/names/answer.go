package names

import (
	"encoding/binary"
	"net/netip"

	"github.com/miekg/dns"
)

// question is one packet of a client, and how to answer it.
type question struct {
	projectID string
	client    netip.AddrPort
	local     netip.AddrPort // the address that was asked
	udp       bool
	msg       *dns.Msg // set once the packet is understood; has exactly one Question
	reply     func(packet []byte)
}

// maxUDPAnswer bounds an answer by UDP whatever the client says: larger ones go by TCP.
const maxUDPAnswer = 4096

// send packs and sends an answer, cut to what the client can take.
func (q *question) send(m *dns.Msg) {
	m.Compress = true
	size := dns.MaxMsgSize - 1
	if q.udp {
		size = dns.MinMsgSize
		if opt := q.msg.IsEdns0(); opt != nil {
			size = min(max(size, int(opt.UDPSize())), maxUDPAnswer)
		}
	}
	m.Truncate(size)
	packet, err := m.Pack()
	if err != nil || len(packet) > size {
		q.reply(refusal(q.msg.Id, q.msg.Opcode, dns.RcodeServerFailure))
		return
	}
	q.reply(packet)
}

// fail sends an answer that is only an error.
func (q *question) fail(rcode int) { q.send(q.newAnswer(rcode)) }

// newAnswer returns an answer without records.
func (q *question) newAnswer(rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(q.msg, rcode)
	m.RecursionAvailable = true
	if opt := q.msg.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDPAnswer, opt.Do())
	}
	return m
}

// refusal returns the header of an answer to a packet that isn't understood.
func refusal(id uint16, opcode, rcode int) []byte {
	packet := make([]byte, 12)
	binary.BigEndian.PutUint16(packet, id)
	packet[2] = 0x80 | byte(opcode&15)<<3
	packet[3] = byte(rcode & 15)
	return packet
}

// answer answers a packet, unless it is to be forwarded: it returns true then. What is no
// question, or too short to have a header, gets no answer.
func (s *Server) answer(q *question, packet []byte) (forward bool) {
	if len(packet) < 12 || packet[2]&0x80 != 0 {
		return false
	}
	id, opcode := binary.BigEndian.Uint16(packet), int(packet[2]>>3&15)
	if opcode != dns.OpcodeQuery {
		q.reply(refusal(id, opcode, dns.RcodeNotImplemented))
		return false
	}
	count := func(at int) uint16 { return binary.BigEndian.Uint16(packet[at:]) }
	msg := new(dns.Msg)
	// A question has no answers, and at most an OPT and a signature besides.
	if count(4) != 1 || count(6) != 0 || count(8) != 0 || count(10) > 2 || msg.Unpack(packet) != nil || len(msg.Question) != 1 {
		q.reply(refusal(id, opcode, dns.RcodeFormatError))
		return false
	}
	q.msg = msg
	opts := 0
	for _, rr := range msg.Extra {
		if opt, is := rr.(*dns.OPT); is {
			if opts++; opt.Version() != 0 {
				q.fail(dns.RcodeBadVers)
				return false
			}
		}
	}
	if opts > 1 {
		q.reply(refusal(id, opcode, dns.RcodeFormatError))
		return false
	}
	asked := msg.Question[0]
	switch {
	case asked.Qclass != dns.ClassINET, asked.Qtype == dns.TypeAXFR, asked.Qtype == dns.TypeIXFR, asked.Qtype == dns.TypeOPT,
		asked.Qtype == dns.TypeTSIG, asked.Qtype == dns.TypeTKEY:
		q.fail(dns.RcodeRefused)
		return false
	}
	known := s.known.Load()
	found := known.zone.Lookup(q.projectID, asked.Name, asked.Qtype)
	if !found.Own {
		// See DESIGN.md: what comes from the asked address itself would come round again.
		if len(known.upstreams) == 0 || q.client.Addr() == q.local.Addr() {
			q.fail(dns.RcodeRefused)
			return false
		}
		return true
	}
	m := q.newAnswer(dns.RcodeSuccess)
	m.Authoritative = true
	m.Answer, m.Extra = found.Answer, append(found.Extra, m.Extra...)
	if !found.Exists {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{recordSOA(found.Apex)}
	}
	q.send(m)
	return false
}
