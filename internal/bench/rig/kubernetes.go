package rig

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/internal/kubetest"
	"github.com/stackforge/magnum/structs"
)

// KubeNode is a server, and the agent of a Kubernetes cluster that belongs to the server's
// Kubernetes bay.
type KubeNode struct {
	*Server
	Agent   *Process
	Kube    *kubetest.Cluster
	KubeBay string // UUID
	Spare   string // a namespace for pods without magnum

	agents string // namespace of the agent's Lease and Secret
}

// StartKubeNode starts server and agent with empty state for the cluster in a state directory of
// scripts/peers/kubernetes-up, and waits until the cluster is in the bay.
func StartKubeNode(ctx context.Context, program, dir, state string) (n *KubeNode, err error) {
	n = &KubeNode{}
	if n.Kube, err = kubetest.Connect(state); err != nil {
		return nil, err
	}
	if n.Server, err = StartServer(ctx, program, dir); err != nil {
		return nil, err
	}
	n.agents = "magnum-rig-" + structs.NewID()[:8]
	defer func() {
		if err != nil {
			n.End()
		}
	}()
	n.Agent, err = Start(ctx, filepath.Dir(n.Dir), "agent", program, "agent", "-server", n.Addr, "-gossip=false", "-data-dir", n.Dir,
		"-name", "rig", "-backend", "kubernetes", "-kubeconfig", filepath.Join(state, "admin.conf"), "-kubernetes-namespace", n.agents)
	if err != nil {
		return nil, err
	}
	name, one := "rig-kubernetes", 1
	request := &structs.BayRequest{Name: &name, COE: string(structs.BackendKubernetes), NodeCount: &one}
	bay, _, err := n.Client.Bays().Create(ctx, request, api.WriteOptions{})
	if err != nil {
		return nil, err
	}
	n.KubeBay = bay.UUID
	err = Until(time.Minute, func() bool {
		bay, _, err := n.Client.Bays().Get(ctx, n.KubeBay, api.QueryOptions{})
		return err == nil && bay.Status == structs.BayCreated
	})
	if err != nil {
		return nil, fmt.Errorf("the bay gets no cluster: %s", n.Agent.Tail())
	}
	spare := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "rig-"}}
	if err := n.Kube.Do(ctx, http.MethodPost, "/api/v1/namespaces", spare, spare); err != nil {
		return nil, err
	}
	n.Spare = spare.Name
	return n, nil
}

// sleepingPod is a pod that runs until SIGTERM.
func sleepingPod(name string) *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "main", Image: kubetest.Image, ImagePullPolicy: corev1.PullNever, Command: SleepCommand}}},
	}
}

// RunPod creates a pod through magnum, and waits until its API reports that it runs.
func (n *KubeNode) RunPod(ctx context.Context, name string) (uuid string, err error) {
	manifest, err := json.Marshal(sleepingPod(name))
	if err != nil {
		return "", err
	}
	body, meta, err := n.Client.Pods().Create(ctx, &structs.PodRequest{Bay: n.KubeBay, Manifest: string(manifest)},
		api.WriteOptions{Wait: 4 * time.Minute})
	if err != nil {
		return "", err
	}
	if !meta.Done() || body.Status != structs.PodRunning {
		return "", fmt.Errorf("pod %s is %s after four minutes", name, body.Status)
	}
	return body.UUID, nil
}

// DeletePod kills and deletes a pod through magnum, and waits until it is deleted.
func (n *KubeNode) DeletePod(ctx context.Context, uuid string) error {
	_, err := n.Client.Pods().Delete(ctx, uuid, api.DeleteOptions{Force: true, WriteOptions: api.WriteOptions{Wait: 2 * time.Minute}})
	return err
}

// RunPodDirectly creates the same pod through the cluster's API alone, and watches until it runs.
func (n *KubeNode) RunPodDirectly(ctx context.Context, name string) error {
	return n.Kube.RunPod(ctx, n.Spare, sleepingPod(name))
}

// DeletePodDirectly kills and deletes a pod of RunPodDirectly.
func (n *KubeNode) DeletePodDirectly(ctx context.Context, name string) error {
	return n.Kube.Do(ctx, http.MethodDelete, "/api/v1/namespaces/"+n.Spare+"/pods/"+name+"?gracePeriodSeconds=0", nil, nil)
}

// End deletes what is in the cluster, and stops server and agent.
func (n *KubeNode) End() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // the measurement's may have ended
	defer cancel()
	if n.KubeBay != "" {
		_, _ = n.Client.Bays().Delete(ctx, n.KubeBay, api.WriteOptions{Wait: time.Minute})
		// The agent removes the namespace with all pods. Another run can't use one that is left.
		_ = Until(2*time.Minute, func() bool {
			namespace := "/api/v1/namespaces/" + structs.KubernetesNamespace("default")
			return apierrors.IsNotFound(n.Kube.Do(ctx, http.MethodGet, namespace, nil, nil))
		})
	}
	n.Agent.Stop()
	for _, namespace := range []string{n.agents, n.Spare} {
		if namespace != "" {
			_ = n.Kube.Do(ctx, http.MethodDelete, "/api/v1/namespaces/"+namespace, nil, nil) // there may be none
		}
	}
	n.Server.End()
}
