package web

import (
	"encoding/base64"
	"encoding/json"

	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/structs"
)

// maxCaller bounds the header that says who the caller of a forwarded request is.
const maxCaller = 4 << 10

// forwardedCaller is a caller of Keystone's on the way to the leader.
type forwardedCaller struct {
	ProjectID       string                 `json:"project_id"`
	UserID          string                 `json:"user_id"`
	Roles           []structs.Role         `json:"roles"`
	UserName        string                 `json:"user_name,omitempty"`
	ProjectName     string                 `json:"project_name,omitempty"`
	UserDomainID    string                 `json:"user_domain_id,omitempty"`
	ProjectDomainID string                 `json:"project_domain_id,omitempty"`
	Service         *structs.ServiceCaller `json:"service,omitempty"`
}

// encodeCaller returns a caller for the leader. It returns "" for a caller whom the leader
// authenticates itself: one of a local token, which each server knows, and one that is too
// large for a header.
func encodeCaller(c structs.Caller) string {
	if c.Kind != structs.CallerKeystone {
		return ""
	}
	text, err := json.Marshal(forwardedCaller{
		ProjectID: c.ProjectID, UserID: c.UserID, Roles: c.Roles, UserName: c.UserName, ProjectName: c.ProjectName,
		UserDomainID: c.UserDomainID, ProjectDomainID: c.ProjectDomainID, Service: c.Service,
	})
	if err != nil || base64.StdEncoding.EncodedLen(len(text)) > maxCaller {
		return ""
	}
	return base64.StdEncoding.EncodeToString(text)
}

// forwardedCaller returns the caller that another server has authenticated. ok is false if
// the request isn't from a server, or if the server leaves it to this one.
func (s *Server) forwardedCaller(q *Request) (caller structs.Caller, ok bool) {
	header := q.R.Header.Get(peer.HeaderCaller)
	if header == "" || !q.Call.Forwarded || s.open {
		return structs.Caller{}, false
	}
	text, err := base64.StdEncoding.DecodeString(header)
	var f forwardedCaller
	if err != nil || json.Unmarshal(text, &f) != nil || f.ProjectID == "" || f.UserID == "" {
		return structs.Caller{}, false
	}
	return structs.Caller{
		Kind: structs.CallerKeystone, ProjectID: f.ProjectID, UserID: f.UserID, Roles: f.Roles, UserName: f.UserName,
		ProjectName: f.ProjectName, UserDomainID: f.UserDomainID, ProjectDomainID: f.ProjectDomainID, Service: f.Service,
	}, true
}
