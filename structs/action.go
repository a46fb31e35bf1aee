package structs

import (
	"slices"
	"time"
)

// TableActions is the table of actions.
const TableActions Table = "actions"

// Actions holds the last MaxActions actions on an object, oldest first. Its ID is
// BesideOf of the object. The conductor writes it with the first action after the create,
// and deletes it with the object. Until then the create is known from the object's own
// row; see CreationOf.
type Actions struct {
	Meta
	List []ActionRecord
}

// ActionRecord is one user action on an object.
type ActionRecord struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Action     string    // create, register, start, stop, drain, update, delete and so on
	UserID     string    // from the token
	RequestID  string    // of the HTTP request; "" if unknown
	ProjectID  string    // of the user's token, if it isn't the object's project; since SchemaActions
	ServiceID  string    // user ID of the service that asked for the user; "" means none; since SchemaActions
	StartedAt  time.Time // when it was decided
	FinishedAt time.Time // when the conductor learned that the host had carried it out or abandoned it; zero until then
	Generation uint64    // of the workload, which carries the action out; 0 for an action that needs no host
	Result     string    // one of the action results
	Message    string    // what went wrong; "" if nothing did
}

// The action results.
const (
	ActionPending   = "in_progress"
	ActionSucceeded = "success"
	ActionFailed    = "error"
	ActionReplaced  = "superseded" // a later action replaced it before it was done
)

// MaxActions is the number of actions that are kept for an object.
const MaxActions = 20

// Table says which table the row belongs to.
func (*Actions) Table() Table { return TableActions }

// BesideOf returns the ID of the rows that belong to the object and are in tables of all
// kinds, such as its actions; "" if there are none.
func BesideOf(row Row) string {
	switch r := row.(type) {
	case Workload:
		return r.Ref().BesideID()
	case *RC:
		return r.BesideID()
	case *Service:
		return r.BesideID()
	case *Bay:
		return KindBay + "/" + r.ID
	case *BayModel:
		return KindBayModel + "/" + r.ID
	case *Node:
		return KindNode + "/" + r.ID
	case *Host:
		return KindHost + "/" + r.ID
	}
	return ""
}

// ActionsOf returns the actions on an object, oldest first, with the result that its row
// shows. kept is nil if there was none after its create.
func ActionsOf(row Row, kept *Actions) []ActionRecord {
	list := []ActionRecord{CreationOf(row)}
	if kept != nil {
		list = slices.Clone(kept.List)
	}
	last := &list[len(list)-1]
	switch r := row.(type) {
	case *Bay:
		if r.Status.InProgress() {
			last.Result, last.FinishedAt, last.Message = ActionPending, time.Time{}, r.StatusReason
		} else if r.Status == BayCreateFailed {
			last.Result, last.Message = ActionFailed, r.StatusReason
		}
	case *RC:
		if r.Deleting {
			last.Result, last.FinishedAt = ActionPending, time.Time{}
		}
	}
	return list
}

// CreationOf returns the record of an object's create, as far as the object's row holds
// it. A host was registered by its agent, and not by a user.
func CreationOf(row Row) ActionRecord {
	m := row.Base()
	r := ActionRecord{Action: "create", UserID: m.UserID, StartedAt: m.CreatedAt, FinishedAt: m.CreatedAt, Result: ActionSucceeded}
	switch o := row.(type) {
	case *Container:
		r.RequestID = o.Request
	case *Pod:
		r.RequestID = o.Request
	case *RC:
		r.RequestID = o.Request
	case *Service:
		r.RequestID = o.Request
	case *Bay:
		r.RequestID = o.Request
	case *BayModel:
		r.RequestID = o.Request
	case *Node:
		r.RequestID = o.Request
	case *Host:
		r.Action = "register"
	}
	w, ok := row.(Workload)
	if !ok {
		return r
	}
	seen := w.Seen()
	r.Generation, r.Result, r.FinishedAt = 1, ActionPending, time.Time{}
	switch {
	case seen.Generation < 1 || seen.Status == "":
	case seen.Generation == 1 && seen.Failed:
		r.Result, r.Message = ActionFailed, seen.Reason
	default:
		r.Result, r.FinishedAt = ActionSucceeded, seen.StartedAt
	}
	return r
}

// ActionsBody answers GET /v1/containers/ID/actions and its like.
type ActionsBody struct {
	Actions []ActionBody `json:"actions"` // the last MaxActions, the newest first
}

// ActionBody is one action on an object.
type ActionBody struct {
	Action string `json:"action"` // create, register, start, stop, reboot, pause, unpause, kill, rebuild, drain, update, delete and so on
	//api:doc User who asked for the action.
	UserID string `json:"user_id"`
	//api:doc Project of the user's token; null if it is the object's project.
	ProjectID *string `json:"project_id"`
	//api:doc User of the service that asked for the user; null if none did.
	ServiceUserID *string `json:"service_user_id"`
	//api:doc ID of the request, which the server's log has too; null if unknown.
	RequestID  *string `json:"request_id"`
	StartedAt  Time    `json:"started_at"`  // when it was decided
	FinishedAt Time    `json:"finished_at"` // when the host had carried it out or abandoned it; null until then
	//api:doc in_progress, success, error or superseded.
	Result  string  `json:"result"`
	Message *string `json:"message"` // what went wrong; null if nothing did
}
