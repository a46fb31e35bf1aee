package structs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// TableQuotas is the table of quotas.
const TableQuotas Table = "quotas"

// KindQuota names quotas in URLs, error codes and messages.
const KindQuota = "quota"

// Resource is what a quota limits.
type Resource int

// The resources, in the order in which they are shown.
const (
	ResourceBays Resource = iota
	ResourceHosts
	ResourceContainers
	ResourcePods
	ResourceRCs
	ResourceServices
	ResourceVolumes   // named volumes, each name once
	ResourceMemory    // bytes that containers and pods request
	ResourceCPU       // thousandths of a core that they request
	ResourceSpecBytes // encoded size of what users have written
	NumResources
)

var resourceNames = [NumResources]string{"bays", "hosts", "containers", "pods", "rcs", "services", "volumes", "memory", "cpu", "spec_bytes"}

// String returns the name in requests and messages.
func (r Resource) String() string { return resourceNames[r] }

// Unit returns the unit of an amount in messages, with a space in front; "" if the resource
// counts objects.
func (r Resource) Unit() string {
	switch r {
	case ResourceMemory, ResourceSpecBytes:
		return " bytes"
	case ResourceCPU:
		return " cores"
	}
	return ""
}

// Text returns an amount of the resource as messages have it, without its unit.
func (r Resource) Text(amount int64) string {
	if r == ResourceCPU {
		return strconv.FormatFloat(float64(amount)/1000, 'f', -1, 64)
	}
	return strconv.FormatInt(amount, 10)
}

// Unlimited is the limit of a resource that has none.
const Unlimited = -1

// Amounts has an amount of each resource: a limit, or what is used.
type Amounts [NumResources]int64

// UnlimitedAmounts returns limits that limit nothing.
func UnlimitedAmounts() (a Amounts) {
	for r := range a {
		a[r] = Unlimited
	}
	return a
}

// ShippedQuota returns the limits of a project while an operator has set no others and callers
// are authenticated. They keep one project from taking all hosts that come, and the memory of
// the servers, which hold all specs. Memory and cpu are not limited: under such a limit
// each container has to say what it needs.
func ShippedQuota() Amounts {
	return Amounts{ResourceBays: 20, ResourceHosts: 100, ResourceContainers: 1000, ResourcePods: 1000, ResourceRCs: 200,
		ResourceServices: 200, ResourceVolumes: 500, ResourceMemory: Unlimited, ResourceCPU: Unlimited, ResourceSpecBytes: 64 << 20}
}

// Quota is the limits that an operator has set for one project, or for all projects without a
// limit of their own. The conductor writes it for operators. The row belongs to operators:
// Meta.ProjectID is "".
type Quota struct {
	Meta
	Project string       // "" for the default of all projects
	Limits  []QuotaLimit // by name, in ascending order; what is missing has the default
}

// QuotaLimit is the limit of one resource.
type QuotaLimit struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Resource string // a name that a later version knows is kept
	Limit    int64  // Unlimited or 0 and more, in the unit of the resource
}

// Table says which table the row belongs to.
func (*Quota) Table() Table { return TableQuotas }

// QuotaID returns the ID of a project's row; "" stands for the default of all projects.
func QuotaID(project string) string {
	if project == "" {
		return "default"
	}
	return "project/" + project
}

// Over returns the limits of which the row's own replace those that it has. q may be nil.
func (q *Quota) Over(limits Amounts) Amounts {
	if q == nil {
		return limits
	}
	for _, l := range q.Limits {
		if r := slices.Index(resourceNames[:], l.Resource); r >= 0 {
			limits[r] = l.Limit
		}
	}
	return limits
}

// Has reports whether the row has a limit of the resource of its own. q may be nil.
func (q *Quota) Has(r Resource) bool {
	return q != nil && slices.ContainsFunc(q.Limits, func(l QuotaLimit) bool { return l.Resource == r.String() })
}

// Set sets the limit of a resource, by its name. It doesn't change the present list, which readers share.
func (q *Quota) Set(resource string, limit int64) {
	next := slices.Clone(q.Limits)
	at, found := slices.BinarySearchFunc(next, resource, func(l QuotaLimit, name string) int { return strings.Compare(l.Resource, name) })
	if !found {
		next = slices.Insert(next, at, QuotaLimit{Resource: resource})
	}
	next[at].Limit = limit
	q.Limits = next
}

// QuotaExceeded returns the refusal of a request that would take more of a resource than is
// left: used of limit are used. CodeQuota.
func QuotaExceeded(r Resource, used, limit, more int64) *Error {
	return Errorf(CodeQuota, "Quota exceeded for %s: the project uses %s of %s%s, and this would take %s more. Delete what isn't needed, or "+
		"ask an operator for a higher quota.", r, r.Text(used), r.Text(limit), r.Unit(), r.Text(more)).About(KindQuota)
}

// QuotaRequest is the body of PUT /v1/quotas/PROJECT and /v1/quota_classes/default.
//
//api:doc Limits to set; -1 means unlimited. What is left out stays as it is.
type QuotaRequest struct {
	Bays *int64 `json:"bays,omitempty"`
	//api:doc Hosts of all bays together, by their node_count.
	Hosts      *int64 `json:"hosts,omitempty"`
	Containers *int64 `json:"containers,omitempty"`
	//api:doc Pods, those of replication controllers among them.
	Pods *int64 `json:"pods,omitempty"`
	//api:doc Replication controllers.
	RCs      *int64 `json:"rcs,omitempty"`
	Services *int64 `json:"services,omitempty"`
	//api:doc Named volumes of containers and pods, each name once.
	Volumes *int64 `json:"volumes,omitempty"`
	//api:doc Bytes that containers and pods request.
	Memory *int64 `json:"memory,omitempty"`
	//api:doc Cores that containers and pods request, such as 2.5.
	CPU *float64 `json:"cpu,omitempty"`
	//api:doc Bytes of what the project's specs and manifests take in the servers' memory.
	SpecBytes *int64 `json:"spec_bytes,omitempty"`
}

// fields returns the request's whole numbers by resource, without cpu.
func (q *QuotaRequest) fields() [NumResources]**int64 {
	return [NumResources]**int64{ResourceBays: &q.Bays, ResourceHosts: &q.Hosts, ResourceContainers: &q.Containers, ResourcePods: &q.Pods,
		ResourceRCs: &q.RCs, ResourceServices: &q.Services, ResourceVolumes: &q.Volumes, ResourceMemory: &q.Memory,
		ResourceSpecBytes: &q.SpecBytes}
}

// MaxQuota is the largest limit of a resource, in its unit.
const MaxQuota = 1 << 53

// Each calls f for each limit that the request has, in the order of the resources. Errors:
// CodeInvalid for a limit out of range, or if there is none.
func (q *QuotaRequest) Each(f func(Resource, int64)) error {
	limits := q.fields()
	found := false
	for r, limit := range limits {
		var value int64
		switch {
		case Resource(r) == ResourceCPU && q.CPU != nil:
			c := *q.CPU
			if c != Unlimited && !(c >= 0 && c <= MaxQuota/1000) {
				return Invalid("cpu", c, "It must be -1, which means unlimited, or a number of cores in 0..%d.", int64(MaxQuota/1000))
			}
			if value = int64(c*1000 + 0.5); c == Unlimited {
				value = Unlimited
			}
		case limit != nil && *limit != nil:
			if value = **limit; value < Unlimited || value > MaxQuota {
				return Invalid(Resource(r).String(), value, "It must be -1, which means unlimited, or in 0..%d.", int64(MaxQuota))
			}
		default:
			continue
		}
		found = true
		f(Resource(r), value)
	}
	if !found {
		return Errorf(CodeInvalid, "the quota has no limit: give at least one of %s", fmt.Sprint(resourceNames)).About(KindQuota)
	}
	return nil
}

// SetLimit sets the request's limit of a resource, in its unit.
func (q *QuotaRequest) SetLimit(r Resource, limit int64) {
	if r == ResourceCPU {
		cores := float64(limit) / 1000
		if limit == Unlimited {
			cores = Unlimited
		}
		q.CPU = &cores
		return
	}
	*q.fields()[r] = &limit
}

// QuotaUse is the quota of one resource.
type QuotaUse struct {
	//api:doc The limit; -1 means unlimited.
	Limit float64 `json:"limit"`
	//api:doc What the project uses.
	InUse float64 `json:"in_use"`
	//api:doc project if the limit was set for the project, default if it was set for all projects, shipped if nobody has set it.
	Source string `json:"source"`
}

// The sources of a limit.
const (
	QuotaOfProject = "project"
	QuotaOfDefault = "default"
	QuotaShipped   = "shipped"
)

// QuotaBody is a project's quota as the API shows it.
//
//api:doc What a project may use, and what it uses.
type QuotaBody struct {
	//api:doc The project; null for the default of all projects.
	ProjectID  *string  `json:"project_id"`
	Bays       QuotaUse `json:"bays"`
	Hosts      QuotaUse `json:"hosts"`
	Containers QuotaUse `json:"containers"`
	Pods       QuotaUse `json:"pods"`
	RCs        QuotaUse `json:"rcs"`
	Services   QuotaUse `json:"services"`
	Volumes    QuotaUse `json:"volumes"`
	//api:doc In bytes.
	Memory QuotaUse `json:"memory"`
	//api:doc In cores.
	CPU       QuotaUse `json:"cpu"`
	SpecBytes QuotaUse `json:"spec_bytes"`
	//api:doc When an operator last set limits for the project; null if none has.
	UpdatedAt Time `json:"updated_at"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []Link `json:"links"`
}

// Uses returns the body's resources in their order.
func (b *QuotaBody) Uses() [NumResources]*QuotaUse {
	return [NumResources]*QuotaUse{ResourceBays: &b.Bays, ResourceHosts: &b.Hosts, ResourceContainers: &b.Containers, ResourcePods: &b.Pods,
		ResourceRCs: &b.RCs, ResourceServices: &b.Services, ResourceVolumes: &b.Volumes, ResourceMemory: &b.Memory, ResourceCPU: &b.CPU,
		ResourceSpecBytes: &b.SpecBytes}
}

// Shown returns an amount as the API shows it: cpu in cores.
func (r Resource) Shown(amount int64) float64 {
	if r == ResourceCPU && amount != Unlimited {
		return float64(amount) / 1000
	}
	return float64(amount)
}
