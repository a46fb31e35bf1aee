package service

import (
	"context"
	"net"

	"github.com/stackforge/magnum/server/conductor"
	"github.com/stackforge/magnum/structs"
)

// BayModels carries out requests about baymodels.
type BayModels struct{ s *Service }

// BayModels returns the operations on baymodels.
func (s *Service) BayModels() BayModels { return BayModels{s} }

// Create creates a baymodel. Errors are CodeInvalid, CodeConflict, and those of
// onLeader.
func (n BayModels) Create(ctx context.Context, c *Call, body *structs.BayModelRequest, once conductor.Once) (*structs.BayModel, error) {
	model, err := bayModelOf(body)
	if err != nil {
		return nil, err
	}
	return createPlain(ctx, n.s, c, once, body.UUID, model)
}

// Patch changes a baymodel. apply changes the baymodel in the form that a request
// has. id is the baymodel's UUID. Errors are CodeInvalid, CodeNotFound, and those of
// onLeader.
func (n BayModels) Patch(ctx context.Context, c *Call, id string, apply func(*structs.BayModelRequest) error) (*structs.BayModel, error) {
	if !structs.IsID(id) {
		return nil, structs.NotUUID(id)
	}
	return decide(ctx, n.s, c, conductor.PatchRow[structs.BayModel, *structs.BayModel]{Caller: c.Caller, Ident: id,
		Apply: func(was structs.BayModel) (structs.BayModel, error) {
			body := bayModelRequest(&was)
			if err := apply(&body); err != nil {
				return was, err
			}
			return bayModelOf(&body)
		}})
}

// Delete deletes a baymodel that no bay refers to. Errors are CodeNotFound,
// CodeConflict, and those of onLeader.
func (n BayModels) Delete(ctx context.Context, c *Call, ident string) (Removed[*structs.BayModel], error) {
	return remove(ctx, n.s, c, conductor.DeleteBayModel{Caller: c.Caller, Ident: ident})
}

// bayModelOf makes a row from the request for a baymodel. Errors are CodeInvalid.
func bayModelOf(body *structs.BayModelRequest) (structs.BayModel, error) {
	m := structs.BayModel{
		COE: body.COE, ImageID: body.ImageID, FlavorID: body.FlavorID, MasterFlavorID: body.MasterFlavorID,
		KeypairID: body.KeypairID, ExternalNetworkID: body.ExternalNetworkID, FixedNetwork: body.FixedNetwork,
		DNSNameserver: body.DNSNameserver, SSHAuthorizedKey: body.SSHAuthorizedKey, ClusterDistro: body.ClusterDistro,
	}
	var err error
	if m.Name, err = checkUUIDAndName(body.UUID, body.Name); err != nil {
		return m, err
	}
	if m.COE == "" {
		return m, structs.Invalid("coe", "None", "Mandatory field missing.")
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
			check = structs.CheckText // there may be several keys, one on each line
		}
		if err := check(f.name, f.value, f.most); err != nil {
			return m, err
		}
	}
	if ip := net.ParseIP(m.DNSNameserver); m.DNSNameserver != "" && (ip == nil || ip.To4() == nil || len(m.DNSNameserver) > 15) {
		return m, structs.Invalid("dns_nameserver", m.DNSNameserver, "Value should be IPv4 format")
	}
	if body.DockerVolumeSize != nil {
		if m.DockerVolumeSize = int(*body.DockerVolumeSize); m.DockerVolumeSize < 1 {
			return m, structs.Invalid("docker_volume_size", m.DockerVolumeSize, "Value should be greater or equal to 1")
		}
	}
	if body.APIServerPort != nil {
		switch m.APIServerPort = int(*body.APIServerPort); {
		case m.APIServerPort < 1024:
			return m, structs.Invalid("apiserver_port", m.APIServerPort, "Value should be greater or equal to 1024")
		case m.APIServerPort > 65535:
			return m, structs.Invalid("apiserver_port", m.APIServerPort, "Value should be lesser or equal to 65535")
		}
	}
	return m, nil
}

// bayModelRequest is the inverse of bayModelOf. A PATCH is applied to its result.
func bayModelRequest(m *structs.BayModel) structs.BayModelRequest {
	return structs.BayModelRequest{
		Name: &m.Name, COE: m.COE, ImageID: m.ImageID, FlavorID: m.FlavorID, MasterFlavorID: m.MasterFlavorID,
		KeypairID: m.KeypairID, ExternalNetworkID: m.ExternalNetworkID, FixedNetwork: m.FixedNetwork,
		DNSNameserver: m.DNSNameserver, DockerVolumeSize: optional(m.DockerVolumeSize),
		SSHAuthorizedKey: m.SSHAuthorizedKey, APIServerPort: optional(m.APIServerPort), ClusterDistro: m.ClusterDistro,
	}
}

// optional returns nil for 0, as requests leave an absent number out.
func optional(n int) *int {
	if n == 0 {
		return nil
	}
	i := n
	return &i
}
