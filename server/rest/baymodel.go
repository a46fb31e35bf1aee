package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// bayModelBrief is a baymodel as lists show it.
type bayModelBrief struct {
	UUID          string         `json:"uuid"`
	Name          string         `json:"name"`
	ImageID       *string        `json:"image_id"`
	APIServerPort *int           `json:"apiserver_port"`
	COE           string         `json:"coe"`
	Links         []structs.Link `json:"links"`
}

var bayModels = &resource{
	noun: "baymodels", kind: structs.KindBayModel, table: structs.TableBayModels,
	sorts: map[string]func(a, b structs.Row) int{
		"name":               by(func(m *structs.BayModel) string { return m.Name }),
		"coe":                by(func(m *structs.BayModel) string { return m.COE }),
		"image_id":           by(func(m *structs.BayModel) string { return m.ImageID }),
		"flavor_id":          by(func(m *structs.BayModel) string { return m.FlavorID }),
		"keypair_id":         by(func(m *structs.BayModel) string { return m.KeypairID }),
		"apiserver_port":     by(func(m *structs.BayModel) int { return m.APIServerPort }),
		"docker_volume_size": by(func(m *structs.BayModel) int { return m.DockerVolumeSize }),
	},
	filters: map[string]func(view, string) (func(structs.Row) bool, error){
		"name": filterName(func(r structs.Row) string { return r.(*structs.BayModel).Name }),
	},
	brief: func(v view, r structs.Row) any {
		m := r.(*structs.BayModel)
		return bayModelBrief{
			UUID: m.ID, Name: m.Name, ImageID: wire.OrNull(m.ImageID), APIServerPort: wire.OrNull(m.APIServerPort), COE: m.COE,
			Links: v.links("baymodels", m.ID),
		}
	},
	full: func(v view, r structs.Row) any {
		m := r.(*structs.BayModel)
		return structs.BayModelBody{
			UUID: m.ID, Name: m.Name, ImageID: wire.OrNull(m.ImageID), APIServerPort: wire.OrNull(m.APIServerPort), COE: m.COE,
			Links: v.links("baymodels", m.ID), FlavorID: wire.OrNull(m.FlavorID), MasterFlavorID: wire.OrNull(m.MasterFlavorID),
			KeypairID: wire.OrNull(m.KeypairID), ExternalNetworkID: wire.OrNull(m.ExternalNetworkID), FixedNetwork: wire.OrNull(m.FixedNetwork),
			DNSNameserver: wire.OrNull(m.DNSNameserver), DockerVolumeSize: wire.OrNull(m.DockerVolumeSize),
			SSHAuthorizedKey: wire.OrNull(m.SSHAuthorizedKey), ClusterDistro: wire.OrNull(m.ClusterDistro),
			CreatedAt: structs.Time{Time: m.CreatedAt}, UpdatedAt: structs.Time{Time: m.UpdatedAt},
		}
	},
}

var (
	bayModelShape = wire.NewShape(structs.KindBayModel, structs.BayModelRequest{}, structs.BayModelBody{})
	bayModelPatch = wire.NewPatchRules(bayModelShape, structs.BayModelBody{}, nil, []string{"coe"}, nil)
)

func bayModelRoutes() []*route {
	get := reading(bayModels, bayModelBrief{}, structs.BayModelBody{}, identity.BayModelList, identity.BayModelDetail, identity.BayModelGet, filterArgName)
	return append(get,
		&route{method: http.MethodPost, path: "/" + bayModels.noun, action: identity.BayModelCreate, handle: createBayModel,
			summary: "Create a baymodel", takes: structs.BayModelRequest{}, gives: made(structs.BayModelBody{})},
		&route{method: http.MethodPatch, path: "/" + bayModels.noun + "/:id", action: identity.BayModelUpdate, handle: patchBayModel,
			summary: "Change a baymodel", takes: []structs.PatchOp{}, gives: ok(structs.BayModelBody{})},
		&route{method: http.MethodDelete, path: "/" + bayModels.noun + "/:id", action: identity.BayModelDelete, handle: deleteBayModel,
			summary: "Delete a baymodel that no bay refers to", gives: removed()},
	)
}

var createBayModel = write(func(q *request) (*structs.BayModel, error) {
	var body structs.BayModelRequest
	once, err := q.decode(bayModelShape, &body)
	if err != nil {
		return nil, err
	}
	return q.service.BayModels.Create(q.ctx(), &q.call, &body, once)
}, func(q *request, row *structs.BayModel) error {
	bayModels.locate(q, row)
	return bayModels.written(q, http.StatusCreated, row)
})

var patchBayModel = write(func(q *request) (*structs.BayModel, error) {
	p, err := q.decodePatch(bayModelPatch)
	if err != nil {
		return nil, err
	}
	if err := p.CheckMutable(); err != nil {
		return nil, err
	}
	return q.service.BayModels.Patch(q.ctx(), &q.call, q.ident(), func(body *structs.BayModelRequest) error { return p.Apply(body) })
}, func(q *request, row *structs.BayModel) error { return bayModels.written(q, http.StatusOK, row) })

var deleteBayModel = write(func(q *request) (service.Removed[*structs.BayModel], error) {
	return q.service.BayModels.Delete(q.ctx(), &q.call, q.ident())
}, func(q *request, _ service.Removed[*structs.BayModel]) error { return q.noContent() })
