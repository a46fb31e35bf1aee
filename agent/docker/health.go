package docker

import (
	"time"

	"github.com/docker/docker/api/types/container"

	"github.com/stackforge/magnum/structs"
)

// healthcheck converts a healthcheck for the engine; nil leaves it to the image.
func healthcheck(h *structs.Healthcheck) *container.HealthConfig {
	if h == nil {
		return nil
	}
	seconds := func(n int) time.Duration { return time.Duration(n) * time.Second }
	conf := &container.HealthConfig{
		Interval: seconds(h.Interval), Timeout: seconds(h.Timeout), StartPeriod: seconds(h.StartPeriod), Retries: h.Retries,
	}
	switch {
	case h.Test.Text != "":
		conf.Test = []string{"CMD-SHELL", h.Test.Text}
	case len(h.Test.Args) > 0:
		conf.Test = append([]string{"CMD"}, h.Test.Args...)
	default:
		return &container.HealthConfig{Test: []string{"NONE"}}
	}
	return conf
}

// healthOf returns the health of a running process.
func healthOf(s *container.State) string {
	if !s.Running || s.Restarting || s.Health == nil || s.Health.Status == container.NoHealthcheck {
		return ""
	}
	return s.Health.Status
}
