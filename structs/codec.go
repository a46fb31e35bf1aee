package structs

// A field _struct tells the codec of log entries and snapshots (server/state)
// to leave the struct's empty fields out. Rows are smaller for it, and a field
// that is added one day changes no byte of the rows that don't use it. In Meta
// it speaks for the whole row; a struct inside a row has its own.
//
// The codec finds the fields by reflection, which static checks can't see.
var _ = []struct{}{
	Meta{}._struct, Fingerprint{}._struct, ContainerSpec{}._struct, RestartPolicy{}._struct,
	Port{}._struct, Mount{}._struct, Observed{}._struct, Healthcheck{}._struct, Registry{}._struct, ActionRecord{}._struct, Prior{}._struct, EngineIdentity{}._struct, Copy{}._struct,
	Lineage{}._struct, PrivateSpec{}._struct, Quarantined{}._struct,
}
