package rest

import (
	"net"
	"net/http"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/server/rest/wire"
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

func createBayModel(q *request) error {
	var body structs.BayModelRequest
	once, err := q.decode(bayModelShape, &body)
	if err != nil {
		return err
	}
	model, err := bayModelOf(&body)
	if err != nil {
		return err
	}
	r := conductor.CreateBayModel{Caller: q.caller(), Once: once, UUID: body.UUID, Model: model}
	minted := r.UUID == ""
	if minted {
		r.UUID = q.newID()
	}
	m, err := create(q, r.UUID, minted, r)
	if err != nil {
		return err
	}
	bayModels.locate(q, m)
	return bayModels.written(q, http.StatusCreated, m)
}

// bayModelOf checks what a request says of a baymodel. Errors are CodeInvalid.
func bayModelOf(body *structs.BayModelRequest) (structs.BayModel, error) {
	m := structs.BayModel{
		COE: body.COE, ImageID: body.ImageID, FlavorID: body.FlavorID, MasterFlavorID: body.MasterFlavorID,
		KeypairID: body.KeypairID, ExternalNetworkID: body.ExternalNetworkID, FixedNetwork: body.FixedNetwork,
		DNSNameserver: body.DNSNameserver, SSHAuthorizedKey: body.SSHAuthorizedKey, ClusterDistro: body.ClusterDistro,
	}
	var err error
	if m.Name, err = checkIdentity(body.UUID, body.Name); err != nil {
		return m, err
	}
	if m.COE == "" {
		return m, wire.Invalid("coe", "None", "Mandatory field missing.")
	}
	if err := checkCOE(m.COE); err != nil {
		return m, err
	}
	for _, f := range []struct {
		name, value string
		most        int
	}{
		{"image_id", m.ImageID, structs.MaxText}, {"flavor_id", m.FlavorID, structs.MaxText},
		{"master_flavor_id", m.MasterFlavorID, structs.MaxText}, {"keypair_id", m.KeypairID, structs.MaxName},
		{"external_network_id", m.ExternalNetworkID, structs.MaxText}, {"fixed_network", m.FixedNetwork, structs.MaxText},
		{"ssh_authorized_key", m.SSHAuthorizedKey, 4 * structs.MaxText}, {"cluster_distro", m.ClusterDistro, structs.MaxText},
	} {
		check := structs.CheckLine
		if f.name == "ssh_authorized_key" {
			check = structs.CheckText // one on each line
		}
		if err := check(f.name, f.value, f.most); err != nil {
			return m, err
		}
	}
	if ip := net.ParseIP(m.DNSNameserver); m.DNSNameserver != "" && (ip == nil || ip.To4() == nil || len(m.DNSNameserver) > 15) {
		return m, wire.Invalid("dns_nameserver", m.DNSNameserver, "Value should be IPv4 format")
	}
	if body.DockerVolumeSize != nil {
		if m.DockerVolumeSize = int(*body.DockerVolumeSize); m.DockerVolumeSize < 1 {
			return m, wire.Invalid("docker_volume_size", m.DockerVolumeSize, "Value should be greater or equal to 1")
		}
	}
	if body.APIServerPort != nil {
		switch m.APIServerPort = int(*body.APIServerPort); {
		case m.APIServerPort < 1024:
			return m, wire.Invalid("apiserver_port", m.APIServerPort, "Value should be greater or equal to 1024")
		case m.APIServerPort > 65535:
			return m, wire.Invalid("apiserver_port", m.APIServerPort, "Value should be lesser or equal to 65535")
		}
	}
	return m, nil
}

// bayModelRequest is bayModelOf backwards: what a PATCH is applied to.
func bayModelRequest(m *structs.BayModel) structs.BayModelRequest {
	return structs.BayModelRequest{
		Name: &m.Name, COE: m.COE, ImageID: m.ImageID, FlavorID: m.FlavorID, MasterFlavorID: m.MasterFlavorID,
		KeypairID: m.KeypairID, ExternalNetworkID: m.ExternalNetworkID, FixedNetwork: m.FixedNetwork,
		DNSNameserver: m.DNSNameserver, DockerVolumeSize: optional(m.DockerVolumeSize),
		SSHAuthorizedKey: m.SSHAuthorizedKey, APIServerPort: optional(m.APIServerPort), ClusterDistro: m.ClusterDistro,
	}
}

// optional returns n as requests have it: nil if it is 0.
func optional(n int) *structs.Int {
	if n == 0 {
		return nil
	}
	i := structs.Int(n)
	return &i
}

func patchBayModel(q *request) error {
	p, err := q.decodePatch(bayModelPatch)
	if err != nil {
		return err
	}
	if err := p.CheckMutable(); err != nil {
		return err
	}
	if !structs.IsID(q.ident()) {
		return wire.NotUUID(q.ident())
	}
	m, err := decide(q, conductor.PatchBayModel{Caller: q.caller(), Ident: q.ident(), Apply: func(was structs.BayModel) (structs.BayModel, error) {
		body := bayModelRequest(&was)
		if err := p.Apply(&body); err != nil {
			return was, err
		}
		return bayModelOf(&body)
	}})
	if err != nil {
		return err
	}
	return bayModels.written(q, http.StatusOK, m)
}

func deleteBayModel(q *request) error {
	if _, _, err := remove(q, conductor.DeleteBayModel{Caller: q.caller(), Ident: q.ident()}); err != nil {
		return err
	}
	return q.noContent()
}
