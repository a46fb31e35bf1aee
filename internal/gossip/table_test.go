package gossip

import (
	"testing"
	"time"

	"github.com/stackforge/magnum/structs"
)

var epoch = time.Unix(1_700_000_000, 0)

func testTable() *table { return newTable(instance{id: structs.NewID(), start: 5}) }

func (tb *table) add(i instance, role Role, at time.Time) {
	tb.put(i, Node{Role: role}, []byte(role), "192.0.2.1:1", at)
}

func TestGoneServersAreKeptAndGoneAgentsExpireAfterADay(t *testing.T) {
	tb := testTable()
	server, agent := instance{structs.NewID(), 1}, instance{structs.NewID(), 1}
	tb.add(server, RoleServer, epoch)
	tb.add(agent, RoleAgent, epoch)
	tb.gone(server, epoch)
	tb.gone(agent, epoch)
	if tb.expire(epoch.Add(goneAgentFor)) || len(tb.all()) != 2 {
		t.Error("a record expired within a day")
	}
	if !tb.expire(epoch.Add(goneAgentFor+1)) || len(tb.all()) != 1 || tb.find(server) == nil {
		t.Error("after more than a day the server is not the only record")
	}
}

func TestGoneAgentsAreBounded(t *testing.T) {
	tb := testTable()
	first := instance{structs.NewID(), 1}
	tb.add(first, RoleAgent, epoch)
	tb.gone(first, epoch)
	for n := range goneAgentsMax {
		i := instance{structs.NewID(), 1}
		tb.add(i, RoleAgent, epoch)
		tb.gone(i, epoch.Add(time.Duration(n+1)))
	}
	if n := len(tb.all()); n != goneAgentsMax || tb.find(first) != nil {
		t.Errorf("%d agents are kept, the oldest among them: %v", n, tb.find(first) != nil)
	}
}

func TestCurrentIsNewestLivingInstance(t *testing.T) {
	tb := testTable()
	id := structs.NewID()
	older, newer := instance{id, 1}, instance{id, 2}
	tb.add(newer, RoleServer, epoch)
	tb.add(older, RoleServer, epoch) // its announcement arrives late
	if tb.current(id).instance != newer {
		t.Error("an older instance is current")
	}
	tb.gone(newer, epoch)
	if tb.current(id).instance != older || len(tb.records[id]) != 1 {
		t.Error("a dead instance is current although another is alive") // happens if the clock was set back
	}
	tb.gone(older, epoch)
	if r := tb.current(id); r == nil || r.State != StateDead {
		t.Errorf("the current instance is %+v, want dead", r)
	}
}

func TestLeftIsToldFromDeadInAnyOrder(t *testing.T) {
	for _, leaveFirst := range []bool{true, false} {
		tb := testTable()
		i := instance{structs.NewID(), 1}
		tb.add(i, RoleServer, epoch)
		if leaveFirst {
			if !tb.leaves(i, epoch) || tb.leaves(i, epoch) {
				t.Error("leaving is not reported as a change exactly once")
			}
			tb.gone(i, epoch)
		} else {
			tb.gone(i, epoch)
			tb.leaves(i, epoch)
		}
		if s := tb.current(i.id).State; s != StateLeft {
			t.Errorf("leave first %v: state %s, want left", leaveFirst, s)
		}
		if tb.leaves(i, epoch) {
			t.Error("leaving is a change although the instance has left already")
		}
		tb.add(i, RoleServer, epoch)
		tb.gone(i, epoch)
		if s := tb.current(i.id).State; s != StateDead {
			t.Errorf("state %s of an instance that came back and died, want dead", s)
		}
	}
	tb := testTable()
	if tb.leaves(instance{structs.NewID(), 1}, epoch) || len(tb.left) != 0 {
		t.Error("the leaving of an unknown instance is recorded")
	}
}

func TestOwnInstanceIsCurrent(t *testing.T) {
	tb := testTable()
	tb.add(tb.self, RoleServer, epoch)
	tb.add(instance{tb.self.id, tb.self.start + 1}, RoleServer, epoch)
	if tb.current(tb.self.id).instance != tb.self {
		t.Error("another instance with this process's ID is current")
	}
}
