package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/stackforge/magnum/agent/backend"
	"github.com/stackforge/magnum/agent/backend/backendtest"
	"github.com/stackforge/magnum/structs"
)

// collector is an image GC on an engine in memory, in a bubble.
type collector struct {
	*testing.T
	fake *backendtest.Fake
	log  sharedLog
	stop func()
}

// sharedLog is a log that is read and written concurrently.
type sharedLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// inCollector runs a test in a bubble, with a disk of 100 GB.
func inCollector(t *testing.T, test func(*collector)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &collector{T: t, fake: backendtest.NewFake()}
		time.Sleep(24 * time.Hour) // so that images can be older than the agent
		test(c)
		if c.stop != nil {
			c.stop()
		}
	})
}

// start runs the collection of an agent that starts now.
func (c *collector) start(high, low int) {
	c.Helper()
	conf := Config{Backend: c.fake, ImageGCHigh: high, ImageGCLow: low, Logger: hclog.New(&hclog.LoggerOptions{Output: &c.log})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- newImageGC(conf).run(ctx) }()
	c.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			c.Errorf("run: %v", err)
		}
	}
	synctest.Wait()
}

const gb = 1 << 30

// used sets the usage of the disk without the test's images, in GB of 100.
func (c *collector) used(n int64) {
	c.fake.Outside.SetDisk(backend.Disk{Used: n * gb, Free: (100 - n) * gb})
}

// put adds an image of 5 GB that was built and pulled some time ago.
func (c *collector) put(name string, built, pulled time.Duration) {
	img := structs.Image{ID: "sha256:" + name, Names: []string{name}, Size: 5 * gb}
	img.CreatedAt.Time = time.Now().Add(-built)
	if pulled > 0 {
		img.PulledAt.Time = time.Now().Add(-pulled)
	}
	c.fake.Outside.PutImage(img)
}

// use creates a container of the image.
func (c *collector) use(name string) string {
	c.Helper()
	spec := backendtest.Sleeper()
	spec.Image = name
	made, err := c.fake.Create(context.Background(), backend.CreateRequest{
		Owner: backend.Owner{ClusterID: "c", HostID: "h"}, Ref: structs.ContainerRef(structs.NewID(), 1), Spec: spec,
	}, func(string) {})
	if err != nil {
		c.Fatal(err)
	}
	return made.EngineID
}

// are fails unless the engine has these images besides the fake's own.
func (c *collector) are(want ...string) {
	c.Helper()
	images, err := c.fake.ListImages(context.Background())
	if err != nil {
		c.Fatal(err)
	}
	var have []string
	for _, img := range images {
		if img.Names[0] != backendtest.Image {
			have = append(have, img.Names[0])
		}
	}
	slices.Sort(have)
	if !slices.Equal(have, want) {
		c.Errorf("images are %q, want %q", have, want)
	}
}

func (c *collector) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestImageGCTakesTheLeastRecentlyUsed(t *testing.T) {
	inCollector(t, func(c *collector) {
		c.used(50)
		c.put("built", 20*time.Hour, 0)
		c.put("pulled", 23*time.Hour, 10*time.Hour)
		c.put("used", 22*time.Hour, 21*time.Hour)
		c.put("busy", 23*time.Hour, 23*time.Hour)
		c.use("busy")
		if err := c.fake.Remove(t.Context(), c.use("used")); err != nil {
			t.Fatal(err)
		}
		c.start(85, 81)
		c.after(time.Hour)
		c.are("built", "busy", "pulled", "used") // 70 % and the fake's own
		c.used(65)                               // 85 %
		c.after(2 * time.Minute)
		c.are("busy", "pulled", "used") // 80 %
		c.used(70)
		c.after(2 * time.Minute)
		c.are("busy", "used")
	})
}

func TestImageGCGoesDownToTheLowMark(t *testing.T) {
	inCollector(t, func(c *collector) {
		for i := range 4 {
			c.put(fmt.Sprintf("i%d", i), time.Duration(20-i)*time.Hour, 0)
		}
		c.used(67) // 87 %
		c.start(85, 72)
		c.are("i0", "i1", "i2", "i3") // the agent has just come
		c.after(6 * time.Minute)
		c.are("i3") // 72 % and the fake's own image
		if n := strings.Count(c.log.String(), "image removed"); n != 4 {
			t.Errorf("%d removals were logged, want 4 with the fake's own:\n%s", n, &c.log)
		}
	})
}

func TestImageGCSparesTheYoung(t *testing.T) {
	inCollector(t, func(c *collector) {
		c.used(50)
		c.start(85, 80)
		c.after(time.Hour)
		c.used(99)
		c.put("pulled", 20*time.Hour, time.Second)
		c.put("outside", 20*time.Hour, 0) // when it came nobody has noted
		c.after(4 * time.Minute)
		c.are("outside", "pulled")
		if n := strings.Count(c.log.String(), "the disk stays full"); n != 1 {
			t.Errorf("it was reported %d times that nothing can go:\n%s", n, &c.log)
		}
		c.after(4 * time.Minute)
		c.are()
	})
}

func TestImageGCWaitsForTheEngine(t *testing.T) {
	inCollector(t, func(c *collector) {
		c.used(95)
		c.put("old", 20*time.Hour, 0)
		c.start(85, 80)
		c.fake.Outside.Down()
		c.after(time.Hour)
		c.fake.Outside.Up()
		c.are("old")
		c.after(10 * time.Minute)
		c.are()
	})
}

func TestImageGCEnds(t *testing.T) {
	remote := func(op string, _ structs.Ref) error {
		if op == "disk" {
			return &backend.Failure{Reason: backend.ErrNotFound, Msg: "the directory is elsewhere"}
		}
		return errors.New("images of an engine elsewhere were touched")
	}
	fake := backendtest.NewFake()
	fake.Fault = remote
	var log bytes.Buffer
	for _, high := range []int{0, 85} {
		if err := newImageGC(Config{Backend: fake, ImageGCHigh: high,
			Logger: hclog.New(&hclog.LoggerOptions{Output: &log})}).run(t.Context()); err != nil {
			t.Error(err)
		}
		if reported := strings.Contains(log.String(), "elsewhere"); reported != (high > 0) {
			t.Errorf("high mark %d: the log is %q", high, &log)
		}
	}
}

func TestImageGCMarks(t *testing.T) {
	for _, m := range []struct {
		high, low int
		ok        bool
		want      int
	}{{0, 0, true, 0}, {85, 0, true, 80}, {3, 0, true, 0}, {85, 85, true, 85}, {-1, 0, false, 0}, {100, 0, false, 0}, {85, 86, false,
		0}, {85, -1, false, 0}, {0, 1, false, 0}} {
		c := Config{Servers: []string{"127.0.0.1"}, DataDir: "x", Name: "x", JoinToken: "x", Backend: backendtest.NewFake(),
			ImageGCHigh: m.high, ImageGCLow: m.low}.withDefaults()
		if err := c.validate(); (err == nil) != m.ok || structs.CodeOf(err) != structs.CodeInvalid && err != nil {
			t.Errorf("marks %d and %d: %v", m.high, m.low, err)
		} else if err == nil && c.ImageGCLow != m.want {
			t.Errorf("marks %d and %d: the low one is %d, want %d", m.high, m.low, c.ImageGCLow, m.want)
		}
	}
}
