package structs

import "time"

// TableActions is the table of actions.
const TableActions Table = "actions"

// Actions holds the last MaxActions actions on a container, oldest first. Its ID is
// the container's. The conductor writes it with the first action after the create,
// and deletes it with the container. Until then the create is known from the
// container's own row; see CreationOf.
type Actions struct {
	Meta
	List []ActionRecord
}

// ActionRecord is one user action on a container.
type ActionRecord struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Action     string    // create, start, stop, reboot, pause, unpause, kill, rebuild, update or delete
	UserID     string    // from the token
	RequestID  string    // of the HTTP request; "" if unknown
	StartedAt  time.Time // when it was decided
	FinishedAt time.Time // when the conductor learned that the host had carried it out or abandoned it; zero until then
	Generation uint64    // of the container, which carries the action out; 0 for an action that needs no host
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

// MaxActions is the number of actions that are kept for a container.
const MaxActions = 20

// Table says which table the row belongs to.
func (*Actions) Table() Table { return TableActions }

// CreationOf returns the record of a workload's create, as far as the workload's row
// holds it.
func CreationOf(w Workload) ActionRecord {
	m, seen := w.Base(), w.Seen()
	r := ActionRecord{Action: "create", UserID: m.UserID, StartedAt: m.CreatedAt, Generation: 1, Result: ActionPending}
	switch w := w.(type) {
	case *Container:
		r.RequestID = w.Request
	case *Pod:
		r.RequestID = w.Request
	}
	switch {
	case seen.Generation < 1 || seen.Status == "":
	case seen.Generation == 1 && seen.Failed:
		r.Result, r.Message = ActionFailed, seen.Reason
	default:
		r.Result, r.FinishedAt = ActionSucceeded, seen.StartedAt
	}
	return r
}

// ActionsBody answers GET /v1/containers/ID/actions.
type ActionsBody struct {
	Actions []ActionBody `json:"actions"` // the last MaxActions, the newest first
}

// ActionBody is one user action on a container.
type ActionBody struct {
	Action string `json:"action"` // create, start, stop, reboot, pause, unpause, kill, rebuild, update or delete
	//api:doc User who asked for the action.
	UserID string `json:"user_id"`
	//api:doc ID of the request, which the server's log has too; null if unknown.
	RequestID  *string `json:"request_id"`
	StartedAt  Time    `json:"started_at"`  // when it was decided
	FinishedAt Time    `json:"finished_at"` // when the host had carried it out or abandoned it; null until then
	//api:doc in_progress, success, error or superseded.
	Result  string  `json:"result"`
	Message *string `json:"message"` // what went wrong; null if nothing did
}
