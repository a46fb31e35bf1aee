// Package shares divides a number of places, such as the sessions of a host, among the
// projects and users that hold them, so that none of them can take all.
//
// Agents and servers both use it. It decides nothing but the share: its callers bound the
// places themselves.
package shares

import (
	"sync"

	"github.com/stackforge/magnum/structs"
)

// ProjectShare returns how many of so many places one project may hold: three quarters, and
// at least 1.
func ProjectShare(most int) int { return max(1, most*3/4) }

// UserShare returns how many of so many places one user of a project may hold: half of the
// project's, and at least 1.
func UserShare(most int) int { return max(1, ProjectShare(most)/2) }

// Shares counts the places that are held. The zero value is ready. It is safe for concurrent
// use.
type Shares struct {
	mu   sync.Mutex
	held map[key]int
}

// key is a holder in one group of places. A user of "" stands for the whole project.
type key struct{ group, project, user string }

// Take takes one of most places in a group, such as a host. It returns a function that
// gives the place back, which may be called more than once. what names the places in the
// error. A holder without a project has no bound. CodeRateLimited.
func (s *Shares) Take(group string, most int, h structs.SessionHolder, what string) (giveBack func(), err error) {
	if h.Project == "" {
		return func() {}, nil
	}
	project, user := key{group: group, project: h.Project}, key{group, h.Project, "\x00" + h.User}
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit := UserShare(most); s.held[user] >= limit {
		return nil, refused("you have", limit, what, most)
	}
	if limit := ProjectShare(most); s.held[project] >= limit {
		return nil, refused("your project has", limit, what, most)
	}
	if s.held == nil {
		s.held = make(map[key]int)
	}
	s.held[project]++
	s.held[user]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, k := range []key{project, user} {
			if s.held[k]--; s.held[k] == 0 {
				delete(s.held, k)
			}
		}
	}), nil
}

func refused(who string, limit int, what string, most int) error {
	return structs.Errorf(structs.CodeRateLimited, "%s %d of the %d %s, the largest share that one may have: end some, or try again later",
		who, limit, most, what)
}
