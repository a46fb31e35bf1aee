package audit

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stackforge/magnum/structs"
)

// Outcome is how an action ended, in CADF's words.
type Outcome string

// The outcomes. A caller that gets no answer to a write whose outcome is unknown may find
// it done.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
	Unknown Outcome = "unknown"
)

// Event is one line of the log before it is encoded. Text may be of any length and hold
// any bytes. No field may hold a secret.
type Event struct {
	Time    time.Time
	Action  string // of the policy table, such as container:create
	Reads   bool   // the action changes nothing: it only shows what is in an object, such as a file
	Outcome Outcome
	Status  int          // of the HTTP answer
	Code    structs.Code // of the refusal; "" for a success

	RequestID string
	Method    string // of the HTTP request
	Route     string // its path, with parameters instead of their values
	Address   string // of the client, without the port
	Agent     string // User-Agent of the client; "" if it sent none

	Caller Caller
	Target Target
}

// Caller is who asked. The zero Caller showed no valid credential.
type Caller struct {
	UserID, UserName, UserDomainID          string
	ProjectID, ProjectName, ProjectDomainID string
	Roles                                   []string
	Kind                                    string // how the caller was authenticated; "" if unknown
	TokenID                                 string // of a local token, which is no secret; "" for others
	// Service is the service that made the request for the user; nil for none.
	Service *Service
}

// Service is a service that makes requests for users.
type Service struct {
	UserID, UserName, ProjectID string
	Roles                       []string
}

// Target is the object of an action. For an object that could not be found, ID is the
// identifier that the caller gave.
type Target struct {
	Kind      string // such as Container
	ID        string // "" if the action has no object, or the object was not made
	Name      string
	ProjectID string // whose object it is; "" if it belongs to the operators, or is unknown
}

const (
	typeEvent = "http://schemas.dmtf.org/cloud/audit/1.0/event"
	typeUser  = "service/security/account/user"
	typeBase  = "service/magnum/" // a kind of object, in lower case, follows
)

// timeFormat is pycadf's, with microseconds.
const timeFormat = "2006-01-02T15:04:05.000000-0700"

// observer is the server that writes the log.
type observer struct{ id, name string }

// encode returns the event as a line, which it appends to b[:0]. missing is the number of
// lines that are missing before it.
func (e *Event) encode(b []byte, by observer, id string, missing int) []byte {
	for _, most := range maxValues {
		w := writer{b: b[:0], most: most}
		e.write(&w, by, id, missing)
		if b = append(w.b, '\n'); len(b) <= MaxLine {
			break
		}
	}
	return b
}

// write writes the event in CADF's form. Attachments are what CADF has no field for; each
// needs a typeURI.
func (e *Event) write(w *writer, by observer, id string, missing int) {
	c := &e.Caller
	w.begin("", '{')
	w.text("typeURI", typeEvent)
	w.text("eventType", "activity")
	w.text("id", id)
	w.text("eventTime", e.Time.UTC().Format(timeFormat))
	w.text("action", cadfAction(e.Action, e.Reads))
	w.text("outcome", string(e.Outcome))
	w.begin("reason", '{')
	w.text("reasonType", "HTTP")
	w.text("reasonCode", strconv.Itoa(e.Status))
	w.end('}')
	w.begin("initiator", '{')
	w.text("typeURI", typeUser)
	w.text("id", identifier(c.UserID))
	w.option("name", c.UserName)
	w.begin("host", '{')
	w.text("address", e.Address)
	w.option("agent", e.Agent)
	w.end('}')
	w.end('}')
	w.begin("target", '{')
	w.text("typeURI", typeBase+orUnknown(strings.ToLower(cut(e.Target.Kind, w.most))))
	w.text("id", identifier(e.Target.ID))
	w.option("name", e.Target.Name)
	w.end('}')
	w.begin("observer", '{')
	w.text("typeURI", typeBase+"server")
	w.text("id", identifier(by.id))
	w.option("name", by.name)
	w.end('}')
	w.begin("attachments", '[')
	w.attachment("request", func() {
		w.text("id", e.RequestID)
		w.text("action", e.Action)
		w.text("method", e.Method)
		w.text("route", e.Route)
		w.option("code", string(e.Code))
	})
	w.attachment("caller", func() {
		w.option("project_id", c.ProjectID)
		w.option("project_name", c.ProjectName)
		w.option("project_domain_id", c.ProjectDomainID)
		w.option("user_domain_id", c.UserDomainID)
		w.texts("roles", c.Roles)
		w.option("authentication", c.Kind)
		w.option("token_id", c.TokenID)
	})
	if s := c.Service; s != nil {
		w.attachment("service", func() {
			w.text("user_id", s.UserID)
			w.option("user_name", s.UserName)
			w.option("project_id", s.ProjectID)
			w.texts("roles", s.Roles)
		})
	}
	if e.Target.ProjectID != "" {
		w.attachment("target", func() { w.text("project_id", e.Target.ProjectID) })
	}
	if missing > 0 {
		w.attachment("missing", func() { w.number("lines", missing) })
	}
	w.end(']')
	w.end('}')
}

// identifier returns an ID as CADF takes it. It is never empty, and not one of the words
// that stand for another part of the event.
func identifier(id string) string {
	switch id {
	case "initiator", "target", "observer":
		return "id:" + id
	}
	return orUnknown(id)
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

// verbs are the actions of CADF that actions of the policy table are called by. Those that
// are not here become update/VERB, or read/VERB.
var verbs = []string{"create", "update", "delete", "start", "stop", "revoke", "restore"}

// cadfAction returns CADF's action for an action of the policy table.
func cadfAction(action string, reads bool) string {
	_, verb, _ := strings.Cut(action, ":")
	switch {
	case reads:
		return "read/" + orUnknown(verb)
	case slices.Contains(verbs, verb):
		return verb
	}
	return "update/" + orUnknown(verb)
}
