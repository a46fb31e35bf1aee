package kubernetes

import (
	"encoding/json"
	"math/rand"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	kyaml "sigs.k8s.io/yaml"
)

// FuzzRoundTrip checks that objects with any fields are read back as they were written, as
// YAML and as JSON. Kubernetes' own fuzzers fill them by chance.
func FuzzRoundTrip(f *testing.F) {
	for seed := range int64(60) {
		f.Add(seed)
	}
	codecs := serializer.NewCodecFactory(runtime.NewScheme())
	f.Fuzz(func(t *testing.T, seed int64) {
		filler := fuzzer.FuzzerFor(metafuzzer.Funcs, rand.NewSource(seed), codecs).NumElements(0, 3)

		var pod corev1.Pod
		filler.Fill(&pod)
		pod.TypeMeta, pod.ObjectMeta = types(kindPod), userMetadata(pod.ObjectMeta)
		bare := pod
		bare.Namespace, bare.GenerateName, bare.Status = "", "", corev1.PodStatus{}
		readsBack(t, &pod, &bare, "web", Pod)

		var service corev1.Service
		filler.Fill(&service)
		service.TypeMeta, service.ObjectMeta = types(kindService), userMetadata(service.ObjectMeta)
		plain := service
		plain.Namespace, plain.GenerateName, plain.Status = "", "", corev1.ServiceStatus{}
		readsBack(t, &service, &plain, "web", Service)

		var rc corev1.ReplicationController
		filler.Fill(&rc)
		rc.TypeMeta, rc.ObjectMeta = types(kindRC), userMetadata(rc.ObjectMeta)
		if rc.Spec.Template == nil {
			rc.Spec.Template = new(corev1.PodTemplateSpec)
			filler.Fill(rc.Spec.Template)
		}
		template := &rc.Spec.Template.ObjectMeta
		template.Finalizers, template.Labels, template.Annotations = nil, map[string]string{"a": "b"}, nil
		rc.Spec.Selector = map[string]string{"a": "b"}
		lone := rc
		lone.Namespace, lone.GenerateName, lone.Status = "", "", corev1.ReplicationControllerStatus{}
		readsBack(t, &rc, &lone, "web", RC)
	})
}

// userMetadata returns metadata with what a user may set, of what a fuzzer has set.
func userMetadata(meta metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: "web", GenerateName: meta.GenerateName, Namespace: meta.Namespace,
		Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"example.com/note": meta.GenerateName + "\n: {"}}
}

func readsBack[T any](t *testing.T, object, want *T, name string, read func(text, name string) (*T, error)) {
	t.Helper()
	for format, marshal := range map[string]func(any) ([]byte, error){"JSON": json.Marshal, "YAML": func(v any) ([]byte, error) {
		return kyaml.Marshal(v)
	}} {
		text, err := marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(string(text), name)
		if err != nil {
			t.Fatalf("as %s: %v\n%s", format, err, text)
		}
		if !apiequality.Semantic.DeepEqual(got, want) {
			t.Errorf("as %s %s\nis read as\n%s", format, text, asJSON(t, got))
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
