package structs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// TableRCs is the table of replication controllers.
const TableRCs Table = "rcs"

// KindRC names replication controllers in URLs, error codes and messages.
const KindRC = "rc"

// RC is a replication controller: it keeps a number of pods of one template running. The
// conductor writes it. The template is in the Manifest beside it, so the row, which is
// written whenever a pod becomes ready, stays small.
type RC struct {
	Meta
	BayID       string
	Name        string // a DNS label, unique among the replication controllers of a project in a bay
	Labels      map[string]string
	Selector    map[string]string // of no other replication controller of the project and bay could match the same pod
	Replicas    int               // wanted pods, 0..MaxReplicas
	Images      []string          // of the template's containers, in its order
	Revision    string            // names the template: pods of another revision are replaced one by one
	Exclusive   Exclusive         // of new pods, as InfraImage: neither is the manifest's, and neither can be changed
	InfraImage  string            // "" means the agent's own
	Secrets     Secrets           `json:"-" codec:",omitempty"` // of new pods; servers don't send them to each other
	ManifestURL string            // where the manifest was fetched; "" if it was sent
	Request     string            // ID of the HTTP request that created it
	Generation  uint64            // raised by each change of a user; the first is 1
	Deleting    bool              // its pods are being deleted; the row is deleted after the last of them
	Force       bool              // with Deleting: kill them instead of stopping them

	Observed RCObserved
}

// RCObserved is what the servers last counted. A pod counts from its creation until it has
// ended or is to be deleted.
type RCObserved struct {
	_struct struct{} `codec:",omitempty"` // see codec.go

	Generation uint64 // newest generation for which the pods were counted
	Current    int    // pods
	Ready      int    // pods that are ready
	Updated    int    // pods of the current revision
	Reason     string // what is not as wanted, and why; "" if all is
	OverQuota  bool   // pods are missing because the project's quota has no room for them
}

// Table says which table the row belongs to.
func (*RC) Table() Table { return TableRCs }

// RowName returns the name.
func (r *RC) RowName() string { return r.Name }

// BesideID returns the ID of the Manifest of the replication controller.
func (r *RC) BesideID() string { return KindRC + "/" + r.ID }

// Matches reports whether the pod has the labels of the selector. It doesn't look at the
// project and the bay.
func (r *RC) Matches(p *Pod) bool {
	for key, value := range r.Selector {
		if got, ok := p.Labels[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// Settled reports whether the pods are as the newest generation wants them: as many, all of
// the current revision, all ready.
func (r *RC) Settled() bool {
	o := &r.Observed
	return !r.Deleting && o.Generation >= r.Generation && o.Current == r.Replicas && o.Updated == r.Replicas && o.Ready == r.Replicas
}

// RCReason says what is not as wanted of a replication controller, in the same words on every
// bay; "" if all is. updated of its pods are of the current revision, old are of earlier ones.
// waits is a pod that is not ready, nil if there is none.
func RCReason(wanted, updated, old int, waits *Pod) string {
	text := ""
	if old > 0 {
		text = fmt.Sprintf("rolling update: %d of %d pods are of the new template", updated, wanted)
	}
	if waits == nil {
		return text
	}
	if text != "" {
		text += "; "
	}
	return text + fmt.Sprintf("waits for pod %s to be ready: %s", waits.Name, waits.Obstacle())
}

// Overlap reports whether a pod could have the labels of both selectors: no label has
// different values in them.
func Overlap(a, b map[string]string) bool {
	for key, value := range a {
		if other, ok := b[key]; ok && other != value {
			return false
		}
	}
	return true
}

// Revision returns a name of what new pods are made from. Replicas and the selector don't
// change it.
func (s *RCSpec) Revision() (string, error) {
	b, err := json.Marshal(struct {
		Labels, Annotations map[string]string
		Template            PodSpec
	}{s.Labels, s.Annotations, s.Template})
	if err != nil {
		return "", fmt.Errorf("encoding the template: %w", err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8]), nil
}
