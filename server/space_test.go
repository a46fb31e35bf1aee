package server

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/api"
	"github.com/stackforge/magnum/structs"
)

// newTestSpace returns a space on a disk whose free bytes the test sets.
func newTestSpace(t *testing.T, free *int64) *space {
	t.Helper()
	s := newSpace(t.TempDir(), hclog.NewNullLogger())
	s.free = func(string) (int64, error) { return *free, nil }
	return s
}

func TestRoomFollowsFreeSpace(t *testing.T) {
	var free int64
	s := newTestSpace(t, &free)
	for _, step := range []struct {
		free int64
		room bool
	}{
		{1 << 40, true}, {reserve, true}, {reserve - 1, false}, {reserve + 1, false}, // near the limit the state is kept
		{2 * reserve, true}, {reserve + 1, true}, {0, false},
	} {
		free = step.free
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		err := s.room()
		if (err == nil) != step.room || err != nil && structs.CodeOf(err) != structs.CodeNoSpace {
			t.Errorf("%d bytes free: %v", step.free, err)
		}
	}
	s.free = func(string) (int64, error) { return 0, errors.New("input/output error") }
	if err := s.run(context.Background()); err == nil {
		t.Error("a disk that can't be asked is taken for a good one")
	}
}

func TestBallastIsCreatedAndRemoved(t *testing.T) {
	free := int64(1 << 40)
	s := newTestSpace(t, &free)
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.ballast())
	if err != nil || info.Size() != ballastSize && info.Size() != 0 {
		t.Fatalf("%v, %v", info, err)
	}
	free = reserve / 2 // a running server keeps the ballast for the operator
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.ballast()); err != nil {
		t.Error(err)
	}
	if err := s.open(); err != nil { // as at a start
		t.Fatal(err)
	}
	if _, err := os.Stat(s.ballast()); !os.IsNotExist(err) {
		t.Errorf("a server that starts on a full disk keeps its ballast: %v", err)
	}
}

// Free space within the log's file counts.
func TestFreeSpaceInLogCounts(t *testing.T) {
	free, again := int64(reserve/2), int64(0)
	s := newTestSpace(t, &free)
	s.countReusable(func() int64 { return again })
	for _, step := range []struct {
		again int64
		room  bool
	}{{0, false}, {reserve, true}, {reserve / 2, true}, {reserve/2 - 1, false}} {
		again = step.again
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		if err := s.room(); (err == nil) != step.room {
			t.Errorf("%d bytes free in the log: %v", step.again, err)
		}
	}
	again = 8 * ballastSize
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.ballast()); !os.IsNotExist(err) {
		t.Errorf("room in the log is taken for the ballast: %v", err)
	}
}

func TestMakeRoomRemovesBallastOnce(t *testing.T) {
	free := int64(1 << 40)
	s := newTestSpace(t, &free)
	if s.makeRoom() {
		t.Error("there is room without a ballast")
	}
	if err := os.WriteFile(s.ballast(), []byte("ballast"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !s.makeRoom() || s.makeRoom() {
		t.Error("the ballast does not go, or goes twice")
	}
}

func TestFullDiskRefusesWritesAndServesReads(t *testing.T) {
	srv := start(t, t.TempDir())
	ctx := context.Background()
	srv.space.short.Store(5 << 20)
	_, _, err := srv.client.Containers().Create(ctx, &structs.ContainerRequest{Image: "busybox"}, api.CreateOptions{})
	if api.StatusOf(err) != 507 || structs.CodeOf(err) != structs.CodeNoSpace || !strings.Contains(err.Error(), "5 MiB") {
		t.Errorf("a write on a full disk: %v", err)
	}
	if bays, _, err := srv.client.Bays().List(ctx, api.QueryOptions{Consistent: true}); err != nil || len(bays) != 1 {
		t.Errorf("a read on a full disk: %v, %v", bays, err)
	}
	srv.space.short.Store(-1)
	if _, _, err := srv.client.Containers().Create(ctx, &structs.ContainerRequest{Image: "busybox"}, api.CreateOptions{}); err != nil {
		t.Error(err)
	}
}
