package structs

// EventBody is one event of GET /v1/events.
//
//api:doc A change of a container, bay or host.
type EventBody struct {
	Event string `json:"event"` // created, updated (its status or health is another), deleted; tick: nothing has happened
	Type  string `json:"type"`  // container, bay or host
	//api:doc UUID of the object.
	UUID string `json:"uuid"` // of the object
	//api:doc Name of the object.
	Name string `json:"name"` // of the object
	//api:doc Status after the event; after a deletion, the last one.
	Status string  `json:"status"` // after the event; of a deletion, the last one
	Was    *string `json:"was"`    // status before it
	//api:doc starting, healthy or unhealthy; null without a health check.
	Health *string `json:"health"` // of a container with a health check
	//api:doc What happened and what to do.
	StatusReason *string `json:"status_reason"` // as the object shows it
	//api:doc Name of the container's host; null for other objects.
	Host *string `json:"host"` // of a container: name of its host
	//api:doc Project of the object; null for hosts.
	ProjectID *string `json:"project_id"` // null for hosts
	At        Time    `json:"at"`         // when it happened, null if nobody has noted it
	Index     uint64  `json:"index"`      // of the log entry that did it
	Resume    uint64  `json:"resume"`     // the ?index= to go on from
}
