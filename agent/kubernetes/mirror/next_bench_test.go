package mirror

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// BenchmarkNext measures what an event about one pod costs among n of them.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := unlistedScript(&testing.T{})
			s.list()
			for i := range n {
				s.pod(fmt.Sprintf("%08d-4444-4444-8444-444444444444", i), fmt.Sprint("web-", i), onePod)
			}
			s.take(true)
			for range 3 {
				s.next()
				s.do()
			}
			s.next()
			key := Key{Kind: Pods, Namespace: namespace, Name: "web-0"}
			pod, ok := s.objects[key].(*corev1.Pod)
			if !ok || len(s.reports) != n {
				b.Fatalf("%d pods are reported, and the first one is %v", len(s.reports), pod)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				next := pod.DeepCopy()
				s.version++
				next.ResourceVersion = fmt.Sprint(s.version)
				next.Status.PodIP = fmt.Sprint("10.0.0.", i%200)
				s.m.See(next)
				if out := s.m.Next(s.now); len(out.Reports) > 1 {
					b.Fatalf("reported are %+v", out.Reports)
				}
			}
		})
	}
}
