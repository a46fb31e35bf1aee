package structs

// A field _struct tells the codec of log entries and snapshots (server/state) to omit
// the struct's empty fields. This makes rows smaller, and a new field changes no byte
// of the rows that don't use it. The field in Meta applies to the whole row. A struct
// inside a row has its own.
//
// The codec finds these fields by reflection. This variable uses them, because static
// checks would report them as unused.
var _ = []struct{}{
	Meta{}._struct, Fingerprint{}._struct, ContainerSpec{}._struct, RestartPolicy{}._struct,
	Port{}._struct, Mount{}._struct, Observed{}._struct, Healthcheck{}._struct, Registry{}._struct,
	ActionRecord{}._struct, Prior{}._struct, EngineIdentity{}._struct, Copy{}._struct,
	Lineage{}._struct, PrivateSpec{}._struct, Quarantined{}._struct,
	PodSpec{}._struct, HostAlias{}._struct, PodVolume{}._struct, PodContainer{}._struct, Resources{}._struct, EnvVar{}._struct,
	ResourceRef{}._struct, PodPort{}._struct, PodMount{}._struct, Handler{}._struct, HTTPGet{}._struct, HTTPHeader{}._struct,
	TCPSocket{}._struct, Probe{}._struct, PodSecurity{}._struct, PodObserved{}._struct, PartObserved{}._struct,
	PartState{}._struct,
	ServiceSpec{}._struct, ServicePort{}._struct, RCSpec{}._struct, RCObserved{}._struct,
	Endpoint{}._struct, Relay{}._struct, ServiceProblem{}._struct,
	ObjectObserved{}._struct, KubernetesCluster{}._struct, KubernetesNode{}._struct, Condition{}._struct,
	QuotaLimit{}._struct, Cleaning{}._struct,
}
