package manifest

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	kjson "sigs.k8s.io/json"

	"github.com/stackforge/magnum/manifest/v1"
)

// The kinds that are read, and by which command.
const (
	kindPod     = "Pod"
	kindService = "Service"
	kindRC      = "ReplicationController"
)

// instead says for kinds that are not read what to use instead.
var instead = map[string]string{
	kindPod:     "a Pod is created by pod-create, POST /v1/pods",
	kindService: "a Service is created by service-create, POST /v1/services",
	kindRC:      "a ReplicationController is created by rc-create, POST /v1/rcs",

	"ConfigMap":   "write its values into env or args of the containers, or into the image",
	"Secret":      "write its values into env of the containers; credentials of a registry go into the field registry beside the manifest",
	"Deployment":  "use a ReplicationController, which rolls a new template out too",
	"ReplicaSet":  "use a ReplicationController",
	"StatefulSet": "use a Pod with a persistentVolumeClaim for each member",
	"DaemonSet":   "use a Pod with a nodeSelector for each host",
	"Job":         "use a Pod with restartPolicy OnFailure or Never",
	"CronJob":     "start a Pod with restartPolicy Never from a scheduler of your own",
	"PersistentVolumeClaim": "leave it out: a pod's persistentVolumeClaim names a volume of the project, " +
		"which is made at its first use",
	"PersistentVolume": "leave it out: a pod's persistentVolumeClaim names a volume of the project, which is made at its first use",
	"Ingress":          "use a Service with a nodePort",
	"Namespace":        "leave it out: a project's objects are its own",
	"ServiceAccount":   "leave it out: containers get no credentials of magnum",
	"Endpoints":        "leave it out: a Service finds its pods by its selector",
	"NetworkPolicy":    "leave it out: other projects' pods can't be reached anyway",

	"HorizontalPodAutoscaler": "change replicas of a ReplicationController",
	"PodDisruptionBudget":     "leave it out",
	"List":                    "send its items one at a time",
	"PodList":                 "send its items one at a time",
	"PodTemplate":             "use a Pod or a ReplicationController",
}

// Instead says what to use in a bay of Docker hosts instead of an object of a kind that is
// not taken, "" if nothing is known.
func Instead(kind string) string { return instead[kind] }

// InsteadInCluster is Instead for a Kubernetes bay, whose cluster knows more kinds.
func InsteadInCluster(kind string) string {
	switch kind {
	case kindPod, kindService, kindRC, "List", "PodList", "Namespace", "Deployment", "ReplicaSet":
		return instead[kind]
	}
	if instead[kind] == "" {
		return ""
	}
	return "create it with kubectl"
}

// apiVersions are what a manifest's apiVersion may be. v1beta3 of 2015 has the fields of
// v1, with few exceptions, which are unknown fields.
var apiVersions = []string{"v1", "v1beta3"}

// read decodes the manifest of an object of a Docker bay. Errors are as Decoder.Decode's.
func read[S any](text, kind string) (*v1.Document[S], error) {
	doc := new(v1.Document[S])
	return doc, (&Decoder{Instead: Instead}).Decode(text, kind, doc)
}

// Decoder decodes manifests into types of Kubernetes. It says what else is checked than
// what the types say. The zero value checks nothing else.
type Decoder struct {
	// Instead says what to use instead of an object of another kind; "" if nothing is known.
	// It may be nil.
	Instead func(kind string) string
	// As has types whose values must be those of another type, too, which has an
	// UnmarshalJSON.
	As map[reflect.Type]reflect.Type
	// Check checks the values that a manifest gives, before their types. It may be nil.
	Check func(object map[string]any) error
}

// Decode decodes the manifest of an object of the kind into a struct with fields apiVersion,
// kind, metadata, spec and status. All but status, which may be of a newer release, is read
// strictly. Errors are CodeInvalid and begin with the path of the field.
func (d *Decoder) Decode(text, kind string, into any) error {
	b, err := toJSON(text)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		return refuse("manifest", "is not an object: begin with apiVersion: v1 and kind: %s", kind)
	}
	var v map[string]any
	repeated, err := kjson.UnmarshalStrict(b, &v, kjson.DisallowDuplicateFields)
	if err != nil {
		return refuse("manifest", "is not JSON: %v", err)
	}
	if err := d.checkHead(v["apiVersion"], v["kind"], kind); err != nil {
		return err
	}
	if len(repeated) > 0 {
		return fieldError(repeated, nil)
	}
	if d.Check != nil {
		if err := d.Check(v); err != nil {
			return err
		}
	}
	// The decoder doesn't say in which item of a list a value has the wrong type.
	t := reflect.TypeOf(into).Elem()
	f := fitter{as: d.As, left: maxItems, fields: make(map[reflect.Type][]field)}
	if err := f.misfit(t, v, ""); err != nil {
		return err
	}
	unknown, err := kjson.UnmarshalStrict(b, into)
	if err != nil {
		return refuse("manifest", "can't be read: %v", err)
	}
	if len(unknown) > 0 {
		return fieldError(unknown, t)
	}
	return nil
}

// checkHead checks apiVersion and kind before anything else: the fields of another kind
// would only be unknown.
func (d *Decoder) checkHead(version, kind any, want string) error {
	name, _ := kind.(string)
	if name != want {
		use := ""
		if d.Instead != nil {
			use = d.Instead(name)
		}
		switch {
		case kind == nil:
			return refuse("kind", "is missing: begin with apiVersion: v1 and kind: %s", want)
		case use != "":
			return refuse("kind", "%s is not a %s: %s", name, want, use)
		}
		return refuse("kind", "%s is not a %s", show(kind), want)
	}
	if v, _ := version.(string); !slices.Contains(apiVersions, v) {
		if version == nil {
			return refuse("apiVersion", "is missing: it must be v1")
		}
		return refuse("apiVersion", "%s must be v1", show(version))
	}
	return nil
}

// show returns a value as JSON, cut short.
func show(v any) string {
	b, _ := json.Marshal(v)
	if s := string(b); len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "..."
	}
	return string(b)
}

// fieldError is the refusal of unknown and of repeated fields. It names the first one.
func fieldError(strict []error, t reflect.Type) error {
	first, ok := strict[0].(kjson.FieldError)
	if !ok {
		return refuse("manifest", "%v", strict[0])
	}
	path := first.FieldPath()
	if strings.HasPrefix(first.Error(), "duplicate field") {
		return refuse(path, "is given twice: leave one of them out")
	}
	more := ""
	if n := len(strict) - 1; n > 0 {
		more = " (" + strconv.Itoa(n) + " more fields are refused)"
	}
	if near := nearest(t, path); near != "" {
		return refuse(path, "is not a field: is %s meant?%s", near, more)
	}
	return refuse(path, "is not a field%s", more)
}

// nearest returns the field whose name is most like the last one of a path, "" if none
// is like it.
func nearest(t reflect.Type, path string) string {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		name, _, _ = strings.Cut(name, "[")
		f, ok := fieldNamed(t, name)
		if !ok {
			return ""
		}
		for t = f.Type; t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice; {
			t = t.Elem()
		}
	}
	if t.Kind() != reflect.Struct {
		return ""
	}
	wrong := names[len(names)-1]
	best, least := "", max(2, len(wrong)/2)
	for _, f := range fieldsOf(t) {
		if d := distance(strings.ToLower(wrong), strings.ToLower(f.name)); d < least {
			best, least = f.name, d
		}
	}
	return best
}

// distance returns the number of characters to insert, to delete or to change that make
// b of a.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// field is a field of a struct by its name in manifests.
type field struct {
	name string
	rule string // key in rules, such as Container.image
	reflect.StructField
}

// fieldsOf returns the fields of a struct, with those of inlined structs, in the order
// of their declarations.
func fieldsOf(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			for _, in := range fieldsOf(f.Type) {
				in.Index = append([]int{i}, in.Index...)
				all = append(all, in)
			}
		case f.IsExported() && name != "" && name != "-":
			all = append(all, field{name, t.Name() + "." + name, f})
		}
	}
	return all
}

func fieldNamed(t reflect.Type, name string) (field, bool) {
	if t.Kind() != reflect.Struct {
		return field{}, false
	}
	all := fieldsOf(t)
	i := slices.IndexFunc(all, func(f field) bool { return f.name == name })
	if i < 0 {
		return field{}, false
	}
	return all[i], true
}

// maxItems bounds the memory of all lists, in bytes. Lists grow as they are decoded, and an
// item of two characters can be a kilobyte.
const maxItems = 8 << 20

// fitter checks the types of values.
type fitter struct {
	as     map[reflect.Type]reflect.Type // of the Decoder
	left   int                           // bytes that items of lists may still take
	fields map[reflect.Type][]field      // of the structs so far
}

// fieldsOf returns the fields of a struct.
func (f *fitter) fieldsOf(t reflect.Type) []field {
	fields, ok := f.fields[t]
	if !ok {
		fields = fieldsOf(t)
		f.fields[t] = fields
	}
	return fields
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// misfit returns the refusal of the first value that doesn't have its field's type.
func (f *fitter) misfit(t reflect.Type, v any, path string) error {
	if v == nil || path == "status" {
		return nil
	}
	wrong := func(want string) error {
		if s, ok := v.(string); ok && want != "text" {
			return refuse(path, "must be %s, but is the text %s", want, show(s))
		}
		return refuse(path, "must be %s, but is %s", want, show(v))
	}
	if t.Kind() != reflect.Pointer && reflect.PointerTo(t).Implements(unmarshaler) {
		b, err := json.Marshal(v)
		if as := f.as[t]; as != nil && err == nil {
			err = json.Unmarshal(b, reflect.New(as).Interface())
		}
		if err == nil {
			err = json.Unmarshal(b, reflect.New(t).Interface())
		}
		if err != nil {
			return refuse(path, "%s %.200v", show(v), err) // texts that are no times are in it
		}
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer:
		return f.misfit(t.Elem(), v, path)
	case reflect.Struct:
		object, ok := v.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		for _, in := range f.fieldsOf(t) {
			if object[in.name] == nil {
				continue
			}
			if err := f.misfit(in.Type, object[in.name], join(path, in.name)); err != nil {
				return err
			}
		}
	case reflect.Map:
		object, ok := v.(map[string]any)
		if !ok {
			return wrong("an object")
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			if err := f.misfit(t.Elem(), object[key], join(path, key)); err != nil {
				return err
			}
		}
	case reflect.Slice:
		list, ok := v.([]any)
		if !ok {
			return wrong("a list")
		}
		if f.left -= len(list) * int(t.Elem().Size()); f.left < 0 {
			return refuse(path, "has too many items: %d", len(list))
		}
		for i, item := range list {
			if err := f.misfit(t.Elem(), item, path+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
	case reflect.String:
		if _, ok := v.(string); !ok {
			return refuse(path, "must be text, but is %s: write it in quotes", show(v))
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			return wrong("true or false")
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, ok := v.(int64)
		if !ok {
			return wrong("a whole number")
		}
		if most := int64(1)<<(t.Bits()-1) - 1; n > most || n < -most-1 {
			return wrong("at most " + strconv.FormatInt(most, 10))
		}
	}
	return nil
}
