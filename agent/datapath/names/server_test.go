package names

import (
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/stackforge/magnum/structs"
)

// client is the loopback address from which tests ask: not the one that is asked.
const client = "127.0.0.9"

// started is a server with the listeners of project p1.
type started struct {
	*Server
	udp, tcp string
	conn     net.PacketConn
	ln       net.Listener
	ended    chan error
}

func start(t testing.TB, conf Config, upstreams ...string) *started {
	t.Helper()
	s := &started{Server: New(conf), ended: make(chan error, 1)}
	s.Set(NewZone(host, testServices()), upstreams)
	var err error
	if s.conn, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if s.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.udp, s.tcp = s.conn.LocalAddr().String(), s.ln.Addr().String()
	go func() { s.ended <- s.Serve(s.conn, s.ln, "p1") }()
	t.Cleanup(func() {
		s.Close()
		if err := <-s.ended; err != nil {
			t.Errorf("Serve returned %v", err)
		}
	})
	return s
}

// ask sends a question as a container does.
func (s *started) ask(t testing.TB, network string, m *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Client{Net: network, Timeout: 10 * time.Second, UDPSize: dns.MaxMsgSize}
	to := s.udp
	c.Dialer = &net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.UDPAddr{IP: net.ParseIP(client)}}
	if network == "tcp" {
		to = s.tcp
		c.Dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(client)}
	}
	got, _, err := c.Exchange(m, to)
	if err != nil {
		t.Fatalf("asking %s by %s: %v", m.Question[0].Name, network, err)
	}
	return got
}

func askA(name string) *dns.Msg { return new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA) }

// upstream is a DNS server of the test's own.
func upstream(t testing.TB, handle func(w dns.ResponseWriter, m *dns.Msg)) string {
	t.Helper()
	for range 20 { // one port for both
		ln, err := net.Listen("tcp", "127.0.0.2:0")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.ListenPacket("udp", ln.Addr().String())
		if err != nil {
			_ = ln.Close()
			continue
		}
		for _, s := range []*dns.Server{{Listener: ln}, {PacketConn: conn}} {
			s.Handler = dns.HandlerFunc(handle)
			up := make(chan struct{})
			s.NotifyStartedFunc = func() { close(up) }
			go func() { _ = s.ActivateAndServe() }()
			<-up
			t.Cleanup(func() { _ = s.Shutdown() })
		}
		return ln.Addr().String()
	}
	t.Fatal("no port is free for udp and tcp")
	return ""
}

// replying answers every question with so many addresses.
func replying(n int) func(w dns.ResponseWriter, m *dns.Msg) {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		for i := range n {
			r.Answer = append(r.Answer, recordA(m.Question[0].Name, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})))
		}
		if w.RemoteAddr().Network() == "udp" {
			r.Truncate(512)
		}
		_ = w.WriteMsg(r)
	}
}

func failing(rcode int) func(w dns.ResponseWriter, m *dns.Msg) {
	return func(w dns.ResponseWriter, m *dns.Msg) { _ = w.WriteMsg(new(dns.Msg).SetRcode(m, rcode)) }
}

func TestServerAnswersByUDPAndTCP(t *testing.T) {
	s := start(t, Config{})
	for _, network := range []string{"udp", "tcp"} {
		m := s.ask(t, network, askA("redis"))
		if len(m.Answer) != 1 || !m.Authoritative || !m.RecursionAvailable || m.Rcode != dns.RcodeSuccess {
			t.Errorf("by %s: %v", network, m)
		}
		m = s.ask(t, network, new(dns.Msg).SetQuestion("redis.p1.svc.cluster.local.", dns.TypeAAAA))
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 || len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA {
			t.Errorf("AAAA by %s: %v", network, m)
		}
		m = s.ask(t, network, askA("redis.p2.svc.cluster.local"))
		if m.Rcode != dns.RcodeNameError || len(m.Ns) != 1 {
			t.Errorf("a name of another project by %s: %v", network, m)
		}
	}
}

func TestServerRefusesOtherNamesWithoutUpstreams(t *testing.T) {
	s := start(t, Config{})
	if m := s.ask(t, "udp", askA("example.com")); m.Rcode != dns.RcodeRefused {
		t.Errorf("%v", m)
	}
	s.Set(nil, []string{"resolver.example.com:53", "192.0.2.1", "0.0.0.0:53"})
	if m := s.ask(t, "udp", askA("example.com")); m.Rcode != dns.RcodeRefused {
		t.Errorf("with upstreams that are no address: %v", m)
	}
}

// The names of a service without ready pods are answered at once, and never asked elsewhere.
func TestServerAnswersForServicesWithoutPods(t *testing.T) {
	var asked atomic.Int64
	up := upstream(t, func(w dns.ResponseWriter, m *dns.Msg) { asked.Add(1) }) // it never answers
	s := start(t, Config{}, up)
	services := []structs.ServiceAssignment{
		{ID: "1", ProjectID: "p1", Name: "none", Spec: structs.ServiceSpec{Headless: true}},
		{ID: "2", ProjectID: "p1", Name: "unready", Spec: structs.ServiceSpec{Headless: true}, Endpoints: []structs.Endpoint{
			{PodID: "x", Name: "x", HostID: "host-1", Address: "172.16.0.9"}}},
		{ID: "3", ProjectID: "p1", Name: "elsewhere", Spec: structs.ServiceSpec{Headless: true}, Endpoints: []structs.Endpoint{
			{PodID: "y", Name: "y", HostID: "host-2", Address: "172.16.0.9", Ready: true}}},
	}
	s.Set(NewZone("host-1", services), []string{up})
	for _, name := range []string{"none", "unready", "elsewhere"} {
		for _, name := range []string{name, name + "." + Domain("p1")} {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
				for _, network := range []string{"udp", "tcp"} {
					a := s.ask(t, network, new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype))
					if a.Rcode != dns.RcodeSuccess || len(a.Answer) != 0 || len(a.Ns) != 1 || !a.Authoritative {
						t.Errorf("%s %s by %s: %v", dns.TypeToString[qtype], name, network, a)
					}
				}
			}
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

func TestServerForwardsOtherNames(t *testing.T) {
	var udpSize atomic.Uint32
	good := upstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		if opt := m.IsEdns0(); opt != nil {
			udpSize.Store(uint32(opt.UDPSize()))
		}
		replying(2)(w, m)
	})
	s := start(t, Config{}, good)
	for _, network := range []string{"udp", "tcp"} {
		m := askA("example.com").SetEdns0(1400, true)
		if got := s.ask(t, network, m); len(got.Answer) != 2 || got.Id != m.Id {
			t.Errorf("by %s: %v", network, got)
		}
		if udpSize.Load() != 1400 {
			t.Errorf("the upstream got an EDNS size of %d, want the client's 1400", udpSize.Load())
		}
	}
	if m := s.ask(t, "udp", askA("nothere.p1.svc.cluster.local")); m.Rcode != dns.RcodeNameError {
		t.Errorf("a name of the cluster went upstream: %v", m)
	}
}

func TestServerAsksByTCPWhatIsTruncated(t *testing.T) {
	s := start(t, Config{}, upstream(t, replying(100)))
	if m := s.ask(t, "tcp", askA("many.example.com")); len(m.Answer) != 100 || m.Truncated {
		t.Errorf("by TCP come %d of 100 addresses", len(m.Answer))
	}
	if m := s.ask(t, "udp", askA("many.example.com")); len(m.Answer) >= 100 || !m.Truncated {
		t.Errorf("in 512 bytes come %d of 100 addresses, truncated: %v", len(m.Answer), m.Truncated)
	}
	if m := s.ask(t, "udp", askA("many.example.com").SetEdns0(4096, false)); len(m.Answer) != 100 || m.Truncated {
		t.Errorf("in 4096 bytes come %d of 100 addresses, truncated: %v", len(m.Answer), m.Truncated)
	}
}

func TestServerGoesOnToTheNextUpstream(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	conf := Config{UpstreamTimeout: 100 * time.Millisecond}
	good := upstream(t, replying(1))
	for name, bad := range map[string]string{
		"silent":  silent.LocalAddr().String(),
		"refused": upstream(t, failing(dns.RcodeRefused)),
		"failing": upstream(t, failing(dns.RcodeServerFailure)),
		"closed":  "127.0.0.2:1",
	} {
		t.Run(name, func(t *testing.T) {
			both := start(t, conf, bad, good)
			m := both.ask(t, "udp", askA("example.com"))
			for tries := 1; len(m.Answer) != 1; tries++ { // on a busy machine the good one may be late
				if tries == 30 {
					t.Fatalf("%v", m)
				}
				m = both.ask(t, "udp", askA("example.com"))
			}
			m = start(t, conf, bad).ask(t, "udp", askA("example.com"))
			if m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeRefused {
				t.Errorf("with this upstream only: %v", m)
			}
		})
	}
	// A name that doesn't exist is an answer: the next upstream isn't asked.
	first := upstream(t, failing(dns.RcodeNameError))
	if m := start(t, conf, first, good).ask(t, "udp", askA("example.com")); m.Rcode != dns.RcodeNameError {
		t.Errorf("%v", m)
	}
}

func TestServerIgnoresForgedAnswers(t *testing.T) {
	forging := upstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		forged := new(dns.Msg).SetReply(m)
		forged.Answer = []dns.RR{recordA(m.Question[0].Name, netip.MustParseAddr("203.0.113.1"))}
		forged.Id++
		_ = w.WriteMsg(forged)
		forged.Id--
		forged.Question[0].Name = "other.example.com."
		_ = w.WriteMsg(forged)
		forged.Question[0] = m.Question[0]
		forged.Response = false
		_ = w.WriteMsg(forged)
		replying(1)(w, m)
	})
	m := start(t, Config{}, forging).ask(t, "udp", askA("example.com"))
	if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "192.0.2.0" {
		t.Errorf("%v", m)
	}
}

func TestServerDoesNotAskItself(t *testing.T) {
	s := start(t, Config{})
	s.Set(nil, []string{s.udp})
	if m := s.ask(t, "udp", askA("example.com")); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("an upstream that is the server: %v", m)
	}
	// A resolver of the host hands the question back, from the gateway's address.
	var asked atomic.Int32
	back := upstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		asked.Add(1)
		r, _, err := new(dns.Client).Exchange(m, s.udp) // from 127.0.0.1
		if err != nil {
			r = new(dns.Msg).SetRcode(m, dns.RcodeServerFailure)
		}
		_ = w.WriteMsg(r)
	})
	s.Set(nil, []string{back})
	if m := s.ask(t, "udp", askA("example.com")); m.Rcode != dns.RcodeRefused || asked.Load() != 1 {
		t.Errorf("after %d turns: %v", asked.Load(), m)
	}
}

func TestServerBoundsWhatAProjectHasInFlight(t *testing.T) {
	release := make(chan struct{})
	var held atomic.Int32
	slow := upstream(t, func(w dns.ResponseWriter, m *dns.Msg) {
		held.Add(1)
		<-release
		replying(1)(w, m)
	})
	s := start(t, Config{MaxForwards: 4, UpstreamTimeout: time.Minute, ForwardTimeout: time.Minute}, slow)
	conn2, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(conn2, nil, "p2") }()
	flood, err := net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(client)}, conn(s.udp))
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	answers := make(map[int]int)
	buf := make([]byte, 512)
	for i := range 50 {
		packet, _ := askA(fmt.Sprintf("n%d.example.com", i)).Pack()
		_, _ = flood.Write(packet)
		if i < 4 {
			continue // in flight
		}
		_ = flood.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := flood.Read(buf)
		m := new(dns.Msg)
		if err != nil || m.Unpack(buf[:n]) != nil {
			t.Fatalf("question %d has no answer: %v", i, err)
		}
		answers[m.Rcode]++
	}
	if answers[dns.RcodeServerFailure] != 46 {
		t.Errorf("answers by code: %v, want 46 of code %d", answers, dns.RcodeServerFailure)
	}
	// Local names, and the other project, are served meanwhile.
	if m := s.ask(t, "udp", askA("redis")); len(m.Answer) != 1 {
		t.Errorf("%v", m)
	}
	second := *s
	second.udp = conn2.LocalAddr().String()
	go close(release)
	if m := second.ask(t, "udp", askA("example.com")); len(m.Answer) != 1 {
		t.Errorf("the other project: %v", m)
	}
	_ = conn2.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func conn(addr string) *net.UDPAddr { return net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)) }

func TestServerBoundsTCPConnections(t *testing.T) {
	s := start(t, Config{MaxConnections: 2})
	var open []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", s.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
		m := &dns.Conn{Conn: c}
		if err := m.WriteMsg(askA("redis")); err != nil {
			t.Fatal(err)
		}
		if _, err := m.ReadMsg(); err != nil {
			t.Fatal(err)
		}
	}
	third, err := net.Dial("tcp", s.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	_ = third.SetDeadline(time.Now().Add(time.Minute))
	if n, err := third.Read(make([]byte, 1)); err == nil {
		t.Errorf("a third connection gets %d bytes", n)
	}
	_ = open[0].Close()
	for {
		c, err := net.Dial("tcp", s.tcp)
		if err != nil {
			t.Fatal(err)
		}
		m := &dns.Conn{Conn: c}
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		_ = m.WriteMsg(askA("redis"))
		_, err = m.ReadMsg()
		_ = c.Close()
		if err == nil {
			break // the slot of the closed one is free
		}
	}
}

func TestServerAnswersBadPackets(t *testing.T) {
	s := New(Config{})
	s.Set(NewZone(host, testServices()), nil)
	pack := func(change func(m *dns.Msg)) []byte {
		m := askA("redis")
		change(m)
		packet, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return packet
	}
	two := pack(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
	for name, c := range map[string]struct {
		packet []byte
		rcode  int // -1 is no answer
	}{
		"empty":           {nil, -1},
		"short":           {[]byte{1, 2, 3}, -1},
		"an answer":       {pack(func(m *dns.Msg) { m.Response = true }), -1},
		"header only":     {make([]byte, 12), dns.RcodeFormatError},
		"cut off":         {pack(func(*dns.Msg) {})[:16], dns.RcodeFormatError},
		"two questions":   {two, dns.RcodeFormatError},
		"no question":     {pack(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		"with an answer":  {pack(func(m *dns.Msg) { m.Answer = []dns.RR{recordSOA(".")} }), dns.RcodeFormatError},
		"update":          {pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		"notify":          {pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		"class CH":        {pack(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		"transfer":        {pack(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAXFR }), dns.RcodeRefused},
		"EDNS version":    {pack(func(m *dns.Msg) { m.SetEdns0(1232, false).IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		"two OPT records": {pack(func(m *dns.Msg) { m.SetEdns0(1232, false).SetEdns0(1232, false) }), dns.RcodeFormatError},
		"a good one":      {pack(func(*dns.Msg) {}), dns.RcodeSuccess},
	} {
		t.Run(name, func(t *testing.T) {
			got := -1
			q := question{projectID: "p1", udp: true, reply: func(packet []byte) {
				m := new(dns.Msg)
				if err := m.Unpack(packet); err != nil {
					t.Fatalf("the answer can't be read: %v", err)
				}
				if !m.Response || len(c.packet) > 2 && m.Id != uint16(c.packet[0])<<8|uint16(c.packet[1]) {
					t.Errorf("no answer to this question: %v", m)
				}
				got = m.Rcode
			}}
			if s.answer(&q, c.packet) {
				t.Error("the packet is to be forwarded")
			}
			if got != c.rcode {
				t.Errorf("code %d, want %d", got, c.rcode)
			}
		})
	}
}

func TestLargeAnswersAreTruncatedByUDPOnly(t *testing.T) {
	services := testServices()
	for i := range structs.MaxEndpoints {
		services[1].Endpoints = append(services[1].Endpoints, structs.Endpoint{Name: fmt.Sprintf("x-%d", i), HostID: host, Ready: true,
			Address: netip.AddrFrom4([4]byte{172, 21, byte(i >> 8), byte(i)}).String(), Ports: []int{1}})
	}
	s := start(t, Config{})
	s.Set(NewZone(host, services), nil)
	if m := s.ask(t, "udp", askA("db")); !m.Truncated || len(m.Answer) == 0 {
		t.Errorf("by UDP: truncated %v, %d addresses", m.Truncated, len(m.Answer))
	}
	if m := s.ask(t, "tcp", askA("db")); m.Truncated || len(m.Answer) != structs.MaxEndpoints+3 {
		t.Errorf("by TCP: truncated %v, %d addresses", m.Truncated, len(m.Answer))
	}
}

func TestServeEndsWithItsListeners(t *testing.T) {
	s := start(t, Config{})
	_ = s.conn.Close()
	if err := <-s.ended; err != nil {
		t.Errorf("Serve returned %v", err)
	}
	s.ended <- nil
	if c, err := net.Dial("tcp", s.tcp); err == nil {
		_ = c.Close()
		t.Error("the other listener is still open")
	}
	s.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(nil, ln, "p1"); err != nil {
		t.Errorf("Serve after Close returned %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, name := range []string{"redis", "redis.p1.svc.cluster.local", "_redis._tcp.redis.p1.svc.cluster.local", "example.com"} {
		packet, _ := askA(name).SetEdns0(1232, true).Pack()
		f.Add(packet)
	}
	f.Add([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1})
	s := New(Config{})
	s.Set(NewZone(host, testServices()), []string{"192.0.2.1:53"})
	f.Fuzz(func(t *testing.T, packet []byte) {
		answers := 0
		q := question{projectID: "p1", client: netip.MustParseAddrPort("192.0.2.9:1"), udp: true, reply: func(out []byte) {
			answers++
			m := new(dns.Msg)
			if err := m.Unpack(out); err != nil {
				t.Errorf("the answer can't be read: %v", err)
			}
			if len(out) > maxUDPAnswer || !m.Response {
				t.Errorf("%d bytes, an answer: %v", len(out), m.Response)
			}
			for _, rr := range m.Answer {
				if a, is := rr.(*dns.A); is && (a.A.String() == "10.127.0.2" || a.A.String() == "10.127.0.3") {
					t.Errorf("an address of another project: %v", a)
				}
			}
		}}
		forward := s.answer(&q, packet)
		if forward && (answers != 0 || dns.IsSubDomain("cluster.local.", q.msg.Question[0].Name)) || answers > 1 {
			t.Errorf("forward %v after %d answers", forward, answers)
		}
	})
}
