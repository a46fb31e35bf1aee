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

func TestTableKeepsServersForGoodAndAgentsForADay(t *testing.T) {
	tb := testTable()
	server, agent := instance{structs.NewID(), 1}, instance{structs.NewID(), 1}
	tb.add(server, RoleServer, epoch)
	tb.add(agent, RoleAgent, epoch)
	tb.gone(server, epoch)
	tb.gone(agent, epoch)
	if tb.expire(epoch.Add(goneAgentFor)) || len(tb.all()) != 2 {
		t.Error("somebody is gone after a day")
	}
	if !tb.expire(epoch.Add(goneAgentFor+1)) || len(tb.all()) != 1 || tb.find(server) == nil {
		t.Error("after more than a day not the server alone is left")
	}
}

func TestTableBoundsAgentsThatAreGone(t *testing.T) {
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
		t.Errorf("%d are kept, the first among them: %v", n, tb.find(first) != nil)
	}
}

func TestTableTakesTheNewestInstanceThatLives(t *testing.T) {
	tb := testTable()
	id := structs.NewID()
	older, newer := instance{id, 1}, instance{id, 2}
	tb.add(newer, RoleServer, epoch)
	tb.add(older, RoleServer, epoch) // news of it comes late
	if tb.current(id).instance != newer {
		t.Error("an older instance stands for the process")
	}
	tb.gone(newer, epoch)
	if tb.current(id).instance != older || len(tb.records[id]) != 1 {
		t.Error("an instance that is dead stands for a process that lives") // its clock went back
	}
	tb.gone(older, epoch)
	if r := tb.current(id); r == nil || r.State != StateDead {
		t.Errorf("the process is %+v, want dead", r)
	}
}

func TestTableTellsLeftFromDeadInAnyOrder(t *testing.T) {
	for _, wordFirst := range []bool{true, false} {
		tb := testTable()
		i := instance{structs.NewID(), 1}
		tb.add(i, RoleServer, epoch)
		if wordFirst {
			if !tb.leaves(i, epoch) || tb.leaves(i, epoch) {
				t.Error("the word is news not just once")
			}
			tb.gone(i, epoch)
		} else {
			tb.gone(i, epoch)
			tb.leaves(i, epoch)
		}
		if s := tb.current(i.id).State; s != StateLeft {
			t.Errorf("word first %v: state %s, want left", wordFirst, s)
		}
		if tb.leaves(i, epoch) {
			t.Error("the word is news after it has left")
		}
		tb.add(i, RoleServer, epoch)
		tb.gone(i, epoch)
		if s := tb.current(i.id).State; s != StateDead {
			t.Errorf("state %s after it was back and is gone, want dead", s)
		}
	}
	tb := testTable()
	if tb.leaves(instance{structs.NewID(), 1}, epoch) || len(tb.left) != 0 {
		t.Error("a word about nobody is kept")
	}
}

func TestTableIsItselfFirst(t *testing.T) {
	tb := testTable()
	tb.add(tb.self, RoleServer, epoch)
	tb.add(instance{tb.self.id, tb.self.start + 1}, RoleServer, epoch)
	if tb.current(tb.self.id).instance != tb.self {
		t.Error("another process with the same id stands for this one")
	}
}
