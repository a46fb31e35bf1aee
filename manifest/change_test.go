package manifest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stackforge/magnum/structs"
)

func TestChange(t *testing.T) {
	const base = "initContainers: [{name: i, image: 'a:1'}], containers: [{name: web, image: 'b:1', env: [{name: A, value: b}], " +
		"livenessProbe: {exec: {command: [a]}}, lifecycle: {preStop: {exec: {command: [a]}}}, ports: [{containerPort: 80}], " +
		"resources: {limits: {memory: 8Mi}}, securityContext: {runAsUser: 1}, volumeMounts: [{name: v, mountPath: /v}]}], " +
		"volumes: [{name: v}], activeDeadlineSeconds: 60, hostAliases: [{ip: 1.2.3.4, hostnames: [a]}]"
	old := mustParse(t, podText(base)).Spec
	changed := func(from, to string) structs.PodSpec {
		t.Helper()
		text := strings.Replace(base, from, to, 1)
		if text == base {
			t.Fatalf("%q is not in the manifest", from)
		}
		return mustParse(t, podText(text)).Spec
	}
	for from, to := range map[string]string{
		"'a:1'": "'a:2'", "'b:1'": "'b:2'", "'b:1',": "b,", "'b:1', ": "'b:1', args: [], ", "Seconds: 60": "Seconds: 59",
	} {
		spec := changed(from, to)
		spec.InfraImage, spec.Exclusive = "pause:1", structs.ExclusiveLease
		if err := Change(&old, &spec); err != nil {
			t.Errorf("%s to %s: %v", from, to, err)
		}
	}
	for _, c := range []struct{ from, to, path, want string }{
		{"{name: i, image: 'a:1'}", "", "spec.initContainers", "it has 1, not 0"},
		{"name: web", "name: www", "spec.containers[0].name", "only images"},
		{"'b:1'", "'b:1', imagePullPolicy: Never", "spec.containers[0].imagePullPolicy", "only images"},
		{"'b:1'", "'b:2', imagePullPolicy: Never", "spec.containers[0].imagePullPolicy", "only images"},
		{"'b:1'", "'b:1', command: [a]", "spec.containers[0].command", "only images"},
		{"value: b", "value: c", "spec.containers[0].env", "only images"},
		{"livenessProbe: {", "livenessProbe: {periodSeconds: 7, ", "spec.containers[0].livenessProbe", "only images"},
		{"preStop", "postStart", "spec.containers[0].lifecycle.postStart", "only images"},
		{"containerPort: 80", "containerPort: 81", "spec.containers[0].ports", "only images"},
		{"8Mi", "9Mi", "spec.containers[0].resources.requests", "only images"},
		{"runAsUser: 1", "runAsUser: 2", "spec.containers[0].securityContext", "only images"},
		{"mountPath: /v", "mountPath: /w", "spec.containers[0].volumeMounts", "only images"},
		{"volumes: [{name: v}]", "volumes: [{name: v}, {name: w}]", "spec.volumes", "only images"},
		{"ip: 1.2.3.4", "ip: 1.2.3.5", "spec.hostAliases", "only images"},
		{"Seconds: 60", "Seconds: 61", "spec.activeDeadlineSeconds", "can only be lowered: it is 60"},
		{"activeDeadlineSeconds: 60, ", "", "spec.activeDeadlineSeconds", "can only be lowered"},
		{"activeDeadlineSeconds: 60", "restartPolicy: Never, activeDeadlineSeconds: 60", "spec.restartPolicy", "only images"},
		{"activeDeadlineSeconds: 60", "securityContext: {fsGroup: 1}, activeDeadlineSeconds: 60",
			"spec.securityContext.fsGroup", "only images"},
	} {
		spec := changed(c.from, c.to)
		refuses(t, Change(&old, &spec), c.path, c.want)
	}
	spec := old
	spec.ActiveDeadline = 0
	if err := Change(&spec, &old); err != nil {
		t.Errorf("a deadline can't be set: %v", err)
	}
}

// TestChangeKnowsAllFields checks that each field of a spec has a name in manifests: one
// without would be free to change.
func TestChangeKnowsAllFields(t *testing.T) {
	for of, names := range map[reflect.Type]map[string]string{
		reflect.TypeFor[structs.PodSpec](): podNames, reflect.TypeFor[structs.PodContainer](): containerNames,
	} {
		for i := range of.NumField() {
			name := of.Field(i).Name
			if _, ok := names[name]; !ok && name != "_struct" {
				t.Errorf("%s.%s has no name", of.Name(), name)
			}
		}
		for name := range names {
			if _, ok := of.FieldByName(name); !ok {
				t.Errorf("%s has no field %s", of.Name(), name)
			}
		}
	}
}
