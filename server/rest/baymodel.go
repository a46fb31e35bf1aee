package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/server/rest/wire"
	"github.com/stackforge/magnum/server/service"
	"github.com/stackforge/magnum/structs"
)

// bayModelBrief is the summary of a baymodel. The type's name is that of a schema in the
// OpenAPI document.
type bayModelBrief struct {
	//api:doc UUID in canonical lower-case form.
	UUID string `json:"uuid"`
	//api:doc 1 to 255 characters, not unique. A readable name is generated if none is given.
	Name string `json:"name"`
	//api:doc Image of the hosts. Stored for the client of 2015, not used.
	ImageID       *string `json:"image_id"`
	APIServerPort *int    `json:"apiserver_port"`
	//api:doc docker, swarm (an alias of docker) or kubernetes.
	COE string `json:"coe"`
	//api:doc URLs of the object: self, and bookmark without the version.
	Links []structs.Link `json:"links"`
}

var bayModels = &web.Resource{
	Noun: "baymodels", Kind: structs.KindBayModel, Table: structs.TableBayModels,
	Sorts: map[string]func(a, b structs.Row) int{
		"name":               web.By(func(m *structs.BayModel) string { return m.Name }),
		"coe":                web.By(func(m *structs.BayModel) string { return m.COE }),
		"image_id":           web.By(func(m *structs.BayModel) string { return m.ImageID }),
		"flavor_id":          web.By(func(m *structs.BayModel) string { return m.FlavorID }),
		"keypair_id":         web.By(func(m *structs.BayModel) string { return m.KeypairID }),
		"apiserver_port":     web.By(func(m *structs.BayModel) int { return m.APIServerPort }),
		"docker_volume_size": web.By(func(m *structs.BayModel) int { return m.DockerVolumeSize }),
	},
	Filters: map[string]func(web.View, string) (func(structs.Row) bool, error){
		"name": web.FilterName(func(r structs.Row) string { return r.(*structs.BayModel).Name }),
	},
	Summary: func(v web.View, r structs.Row) any {
		m := r.(*structs.BayModel)
		return bayModelBrief{
			UUID: m.ID, Name: m.Name, ImageID: wire.OrNull(m.ImageID), APIServerPort: wire.OrNull(m.APIServerPort), COE: m.COE,
			Links: v.Links("baymodels", m.ID),
		}
	},
	Detail: func(v web.View, r structs.Row) any {
		m := r.(*structs.BayModel)
		return structs.BayModelBody{
			UUID: m.ID, Name: m.Name, ImageID: wire.OrNull(m.ImageID), APIServerPort: wire.OrNull(m.APIServerPort), COE: m.COE,
			Links: v.Links("baymodels", m.ID), FlavorID: wire.OrNull(m.FlavorID), MasterFlavorID: wire.OrNull(m.MasterFlavorID),
			KeypairID: wire.OrNull(m.KeypairID), ExternalNetworkID: wire.OrNull(m.ExternalNetworkID),
			FixedNetwork:  wire.OrNull(m.FixedNetwork),
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

func bayModelRoutes() []*web.Route {
	get := web.Reading(bayModels, bayModelBrief{}, structs.BayModelBody{}, identity.BayModelList, identity.BayModelDetail,
		identity.BayModelGet, web.FilterArgName)
	return append(get,
		&web.Route{Method: http.MethodPost, Path: "/" + bayModels.Noun, Action: identity.BayModelCreate, Handle: createBayModel,
			Summary: "Create a baymodel", Takes: structs.BayModelRequest{}, Gives: web.CreatedNow(structs.BayModelBody{})},
		&web.Route{Method: http.MethodPatch, Path: "/" + bayModels.Noun + "/:id", Action: identity.BayModelUpdate, Handle: patchBayModel,
			Summary: "Change a baymodel", Takes: []structs.PatchOp{}, Gives: web.OK(structs.BayModelBody{})},
		&web.Route{Method: http.MethodDelete, Path: "/" + bayModels.Noun + "/:id", Action: identity.BayModelDelete, Handle: deleteBayModel,
			Summary: "Delete a baymodel that no bay refers to", Gives: web.DeletedNow()},
	)
}

var createBayModel = web.Write(func(q *web.Request) (*structs.BayModel, error) {
	var body structs.BayModelRequest
	once, err := q.Decode(bayModelShape, &body)
	if err != nil {
		return nil, err
	}
	return q.Service.BayModels().Create(q.Context(), &q.Call, &body, once)
}, func(q *web.Request, row *structs.BayModel) error {
	bayModels.Locate(q, row)
	return bayModels.Written(q, http.StatusCreated, row)
})

var patchBayModel = web.Write(func(q *web.Request) (*structs.BayModel, error) {
	p, err := q.DecodePatch(bayModelPatch)
	if err != nil {
		return nil, err
	}
	if err := p.CheckMutable(); err != nil {
		return nil, err
	}
	return q.Service.BayModels().Patch(q.Context(), &q.Call, q.Ident(), func(body *structs.BayModelRequest) error { return p.Apply(body) })
}, func(q *web.Request, row *structs.BayModel) error { return bayModels.Written(q, http.StatusOK, row) })

var deleteBayModel = web.Write(func(q *web.Request) (service.Removed[*structs.BayModel], error) {
	return q.Service.BayModels().Delete(q.Context(), &q.Call, q.Ident())
}, func(q *web.Request, _ service.Removed[*structs.BayModel]) error { return q.NoContent() })
