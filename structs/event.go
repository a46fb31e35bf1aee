package structs

// EventBody is one event of GET /v1/events.
//
//api:doc A change of a container, pod, bay or host.
type EventBody struct {
	Event string `json:"event"` // created, updated (its status or health has changed), deleted, or tick (nothing has happened)
	Type  string `json:"type"`  // container, pod, bay or host
	//api:doc UUID of the object.
	UUID string `json:"uuid"`
	//api:doc Name of the object.
	Name string `json:"name"`
	//api:doc Status after the event; after a deletion, the last one.
	Status string  `json:"status"`
	Was    *string `json:"was"` // status before the event
	//api:doc starting, healthy or unhealthy; null without a health check.
	Health *string `json:"health"`
	//api:doc What happened and what to do.
	StatusReason *string `json:"status_reason"` // as the object shows it
	//api:doc Name of the container's or pod's host; null for other objects.
	Host *string `json:"host"`
	//api:doc Project of the object; null for hosts.
	ProjectID *string `json:"project_id"`
	At        Time    `json:"at"`     // when it happened; null if unknown
	Index     uint64  `json:"index"`  // of the log entry that caused it
	Resume    uint64  `json:"resume"` // the ?index= from which to continue
}
