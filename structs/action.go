package structs

import "time"

// TableActions is the table of actions.
const TableActions Table = "actions"

// Actions is what was done to a container: the last MaxActions, oldest first.
// Its ID is the container's. The conductor writes it with the first action
// after the creation, which stands in the container's own row until then, and
// deletes it with the container.
type Actions struct {
	Meta
	List []ActionRecord
}

// ActionRecord is one thing that somebody did to a container.
type ActionRecord struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Action     string    // create, start, stop, reboot, pause, unpause, kill, rebuild, update or delete
	UserID     string    // from the token
	RequestID  string    // of the HTTP request; "" if nobody knows
	StartedAt  time.Time // when it was decided
	FinishedAt time.Time // when the conductor heard that its host had done it or given it up; zero if it hasn't
	Generation uint64    // of the container, that carries it out; 0 for one that needs no host
	Result     string    // one of the Action results
	Message    string    // what went wrong, "" if nothing did
}

// The action results.
const (
	ActionPending   = "in_progress"
	ActionSucceeded = "success"
	ActionFailed    = "error"
	ActionReplaced  = "superseded" // a later action came before it was done
)

// MaxActions is how many actions of a container are kept.
const MaxActions = 20

// Table says which table the row belongs to.
func (*Actions) Table() Table { return TableActions }

// CreationOf returns the record of a workload's creation, as far as its own
// row knows it.
func CreationOf(w Workload) ActionRecord {
	m, seen := w.Base(), w.Seen()
	r := ActionRecord{Action: "create", UserID: m.UserID, StartedAt: m.CreatedAt, Generation: 1, Result: ActionPending}
	if c, ok := w.(*Container); ok {
		r.RequestID = c.Request
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

// ActionBody is one thing that somebody did to a container.
type ActionBody struct {
	Action string `json:"action"` // create, start, stop, reboot, pause, unpause, kill, rebuild, update or delete
	//api:doc User who asked for the action.
	UserID string `json:"user_id"` // who did it
	//api:doc ID of the request, which the server's log has too; null if unknown.
	RequestID  *string `json:"request_id"`  // null if it is not known
	StartedAt  Time    `json:"started_at"`  // when it was decided
	FinishedAt Time    `json:"finished_at"` // when its host had done it or given it up, null if it hasn't
	//api:doc in_progress, success, error or superseded.
	Result  string  `json:"result"`  // in_progress, success, error or superseded
	Message *string `json:"message"` // what went wrong, null if nothing did
}
