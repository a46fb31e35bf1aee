package zun

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/structs"
)

// quotaBody is a project's quota in the form of Zun's API: memory in MiB, cpu in cores, disk in
// GB. magnum doesn't limit disks. -1 means unlimited.
type quotaBody[T any] struct {
	Containers T `json:"containers"`
	Memory     T `json:"memory"`
	CPU        T `json:"cpu"`
	Disk       T `json:"disk"`
}

// usage is a limit with what is used of it.
type usage struct {
	Limit float64 `json:"limit"`
	InUse float64 `json:"in_use"`
}

// usesOf returns the quota with what is used of it.
func usesOf(b *structs.QuotaBody) quotaBody[usage] {
	of := func(u structs.QuotaUse, unit float64) usage {
		if u.Limit != structs.Unlimited {
			u.Limit /= unit
		}
		return usage{u.Limit, u.InUse / unit}
	}
	return quotaBody[usage]{of(b.Containers, 1), of(b.Memory, 1<<20), of(b.CPU, 1), usage{Limit: structs.Unlimited}}
}

// limitsOf returns the quota alone.
func limitsOf(b *structs.QuotaBody) quotaBody[float64] {
	u := usesOf(b)
	return quotaBody[float64]{u.Containers.Limit, u.Memory.Limit, u.CPU.Limit, u.Disk.Limit}
}

// projectOf returns the project that a request is about; "" stands for the default of all
// projects.
type projectOf func(q *web.Request) string

func ofDefault(*web.Request) string { return "" }

func showQuota(of projectOf) func(*web.Request) error {
	return func(q *web.Request) error {
		snap, body, err := q.Service.Quotas().Get(q.Context(), &q.Call, of(q))
		if q.Query.Bool("usages", false) {
			return q.JSONOf(snap, usesOf(&body), err)
		}
		return q.JSONOf(snap, limitsOf(&body), err)
	}
}

func setQuota(of projectOf) func(*web.Request) error {
	return web.Write(func(q *web.Request) (*structs.Quota, error) {
		raw, err := q.Body()
		if err != nil {
			return nil, err
		}
		body, err := readQuota(raw)
		if err != nil {
			return nil, err
		}
		return q.Service.Quotas().Set(q.Context(), &q.Call, of(q), body)
	}, func(q *web.Request, row *structs.Quota) error {
		snap, body := q.Service.Quotas().Now(row.Project)
		q.W.Index = snap.Index()
		return q.JSON(http.StatusOK, limitsOf(&body))
	})
}

// readQuota reads the body of a PUT. Clients send numbers as text. Errors: CodeInvalid.
func readQuota(raw []byte) (*structs.QuotaRequest, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, structs.Errorf(structs.CodeInvalid, "The request's body is not a JSON object: %w", err).About(structs.KindQuota)
	}
	var body structs.QuotaRequest
	for name, value := range fields {
		if string(value) == "null" {
			continue
		}
		n, err := strconv.ParseFloat(wire.Unquote(value), 64)
		if err != nil {
			return nil, structs.Invalid(name, string(value), "It is not a number.")
		}
		switch name {
		case "containers":
			body.Containers, err = whole(name, n, 1)
		case "memory":
			body.Memory, err = whole(name, n, 1<<20)
		case "cpu":
			body.CPU = &n
		case "disk":
			if n != structs.Unlimited {
				return nil, structs.Invalid(name, n, "Disks of containers are not limited here: leave it out, or give -1.")
			}
		default:
			return nil, structs.Invalid(name, string(value), "There is no such quota: they are containers, memory and cpu.")
		}
		if err != nil {
			return nil, err
		}
	}
	return &body, nil
}

// whole returns a limit in magnum's unit, which is a part of Zun's. CodeInvalid.
func whole(name string, n float64, unit int64) (*int64, error) {
	most := float64(structs.MaxQuota / unit)
	if n != math.Trunc(n) || !(n >= structs.Unlimited && n <= most) {
		return nil, structs.Invalid(name, n, "It must be -1, which means unlimited, or a whole number in 0..%.0f.", most)
	}
	limit := int64(n)
	if limit != structs.Unlimited {
		limit *= unit
	}
	return &limit, nil
}
