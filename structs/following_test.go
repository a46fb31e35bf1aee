package structs

import (
	"strings"
	"testing"
)

func TestAgentFollowsItsClusterOnly(t *testing.T) {
	for _, tc := range []struct {
		at          Following
		cluster     string
		incarnation uint64
		says        string // "" if it may follow
	}{
		{Following{}, "a", 7, ""},
		{Following{}, "", 0, "names no cluster"},
		{Following{ClusterID: "a", Incarnation: 2}, "a", 2, ""},
		{Following{ClusterID: "a", Incarnation: 2}, "b", 2, "new data dir"},
		{Following{ClusterID: "a", Incarnation: 2, Restore: true}, "b", 3, "new data dir"},
		{Following{ClusterID: "a", Incarnation: 2}, "a", 3, "-follow-restore"},
		{Following{ClusterID: "a", Incarnation: 2, Restore: true}, "a", 3, ""},
		{Following{ClusterID: "a", Incarnation: 2, Restore: true}, "a", 1, "outdated"},
	} {
		err := tc.at.Check(tc.cluster, tc.incarnation)
		if (err == nil) != (tc.says == "") || err != nil && (CodeOf(err) != CodeForbidden || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%+v to %s, incarnation %d: %v", tc.at, tc.cluster, tc.incarnation, err)
		}
	}
}
