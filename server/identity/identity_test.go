package identity

import (
	"context"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestNoneAuthenticatesEveryTokenAsAdmin(t *testing.T) {
	caller, err := None{}.Authenticate(context.Background(), Credentials{Token: "whatever"})
	if err != nil || caller.ProjectID != DefaultProject || !caller.Is(structs.RoleAdmin) || !caller.Is(structs.RoleMember) {
		t.Fatalf("caller %+v, error %v", caller, err)
	}
}

func TestStaticRefusesUnknownTokens(t *testing.T) {
	s := Static{"good": {ProjectID: "p"}, "": {ProjectID: "trap"}}
	if c, err := s.Authenticate(context.Background(), Credentials{Token: "good"}); err != nil || c.ProjectID != "p" {
		t.Fatalf("good token: %+v, %v", c, err)
	}
	for _, token := range []string{"", "bad", "GOOD"} {
		if _, err := s.Authenticate(context.Background(), Credentials{Token: token}); structs.CodeOf(err) != structs.CodeUnauthenticated {
			t.Errorf("token %q: %v, want unauthenticated", token, err)
		}
	}
}

func TestCheckProjectRefusesOtherProject(t *testing.T) {
	caller := structs.Caller{ProjectID: "p"}
	for named, want := range map[string]structs.Code{"": "", "p": "", "q": structs.CodeForbidden} {
		if got := structs.CodeOf(CheckProject(caller, named)); got != want {
			t.Errorf("project %q: code %q, want %q", named, got, want)
		}
	}
}

func TestZeroCallerMayNothing(t *testing.T) {
	for action := range defaults {
		if May(structs.Caller{}, action) {
			t.Errorf("a caller without roles may %s", action)
		}
	}
}

func TestPolicyByRole(t *testing.T) {
	as := func(r structs.Role) structs.Caller { return structs.Caller{Roles: []structs.Role{r}} }
	for action := range defaults {
		if !May(as(structs.RoleAdmin), action) {
			t.Errorf("admin may not %s", action)
		}
		if May(as(structs.RoleReader), action) && !May(as(structs.RoleMember), action) {
			t.Errorf("a reader may %s, but a member may not", action)
		}
	}
	if err := Check(as(structs.RoleReader), ContainerExecute); structs.CodeOf(err) != structs.CodeForbidden {
		t.Errorf("a reader may execute: %v", err)
	}
	if err := Check(as(structs.RoleAdmin), Action("no:such")); structs.CodeOf(err) != structs.CodeForbidden {
		t.Errorf("an unknown action: %v", err)
	}
}
