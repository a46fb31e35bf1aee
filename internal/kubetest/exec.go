package kubetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The channels of an execute session. The first byte of each message names one.
const (
	channelOut    = 1
	channelErr    = 2
	channelStatus = 3 // a metav1.Status, the last message
)

// Result is what a command in a container has written, and how it ended.
type Result struct {
	Out, Err string
	Exit     int
}

// Exec executes a command in a container of a pod. The test fails if the command can't
// be started.
func (c *Cluster) Exec(t testing.TB, namespace, pod, container string, command ...string) Result {
	t.Helper()
	result, err := c.exec(t.Context(), namespace, pod, container, command)
	if err != nil {
		t.Fatalf("execute %q in %s: %v", command, pod, err)
	}
	return result
}

func (c *Cluster) exec(ctx context.Context, namespace, pod, container string, command []string) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	query := url.Values{"container": {container}, "command": command, "stdout": {"1"}, "stderr": {"1"}}
	conn, _, err := websocket.Dial(ctx, c.URL+podPath(namespace, pod)+"/exec?"+query.Encode(), &websocket.DialOptions{
		HTTPClient:   c.http,
		HTTPHeader:   http.Header{"Authorization": {"Bearer " + c.token}},
		Subprotocols: []string{"v4.channel.k8s.io"},
	})
	if err != nil {
		return Result{}, err
	}
	defer conn.CloseNow()
	conn.SetReadLimit(-1)
	var out, problems strings.Builder
	for {
		_, message, err := conn.Read(ctx)
		if err != nil {
			return Result{}, fmt.Errorf("the session has ended without a status: %w", err)
		}
		if len(message) == 0 {
			continue
		}
		switch content := message[1:]; message[0] {
		case channelOut:
			out.Write(content)
		case channelErr:
			problems.Write(content)
		case channelStatus:
			exit, err := exitCode(content)
			return Result{Out: out.String(), Err: problems.String(), Exit: exit}, err
		}
	}
}

// exitCode reads the status at the end of a session.
func exitCode(content []byte) (int, error) {
	var status metav1.Status
	if err := json.Unmarshal(content, &status); err != nil {
		return 0, err
	}
	if status.Status == metav1.StatusSuccess {
		return 0, nil
	}
	if status.Details != nil {
		for _, cause := range status.Details.Causes {
			if cause.Type == "ExitCode" {
				return strconv.Atoi(cause.Message)
			}
		}
	}
	return 0, fmt.Errorf("%s: %s", status.Reason, status.Message)
}
