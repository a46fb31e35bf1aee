package openstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/regions"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"

	"github.com/stackforge/magnum/structs"
)

// Registration is what Register provides in Keystone.
type Registration struct {
	Name   string            // of the service, whose type is ServiceType
	Region string            // of the endpoints; "" means the settings', else the only one
	URLs   map[string]string // of the endpoints by interface: public, internal, admin

	User     string // by which the servers validate tokens, in the domain default; "" means none
	Password string // of a user that is made; "" means a generated one
	Project  string // in which the user gets Role, in the domain default
}

// Role is the role of the servers' user. It is enough to validate tokens.
const Role = "service"

// defaultDomain is the domain of the servers' user and project.
const defaultDomain = "default"

// Results of a Step.
const (
	Created = "created"
	Found   = "found" // as it is wanted: nothing was changed
	Changed = "changed"
)

// Step is something that Register provided.
type Step struct {
	Kind   string `json:"kind"`   // service, endpoint, project, role, user, assignment
	Name   string `json:"name"`   // for an endpoint its interface, for an assignment the role
	ID     string `json:"id"`     // in Keystone; "" for an assignment
	Result string `json:"result"` // Created, Found or Changed
	Detail string `json:"detail"` // the URL of an endpoint, and what was changed

	// Password of a user that was made with a generated one. It is in no other place.
	Password string `json:"password,omitempty"`
}

// registrar registers magnum as the settings' user.
type registrar struct {
	settings *Settings
	client   *gophercloud.ServiceClient
	want     Registration
	report   func(Step) error
}

// Register provides the service, its endpoints and, if one is asked for, the servers' user. It
// changes only what differs, so that it can be repeated, also after it was interrupted. It
// calls report after each step. CodeForbidden: the session's user is no administrator,
// CodeConflict: Keystone has what only an administrator can decide about; and the codes of
// Token.
func (s *Session) Register(ctx context.Context, want Registration, report func(Step) error) error {
	token, err := s.Token(ctx, "")
	if err != nil {
		return err
	}
	client, err := s.settings.identity(s.transport)
	if err != nil {
		return err
	}
	client.SetToken(token)
	r := &registrar{settings: s.settings, client: client, want: want, report: report}
	region, err := r.region(ctx)
	if err != nil {
		return err
	}
	id, err := r.service(ctx)
	if err != nil {
		return err
	}
	for _, face := range interfaces {
		if err := r.endpoint(ctx, id, face, region); err != nil {
			return err
		}
	}
	if want.User == "" {
		return nil
	}
	return r.user(ctx)
}

// failed describes an error of an administrator's request.
func (r *registrar) failed(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var answer gophercloud.ErrUnexpectedResponseCode
	switch {
	case errors.As(err, &answer) && answer.Actual == http.StatusForbidden:
		return structs.Errorf(structs.CodeForbidden, "%s: %s may not do that: sign in as an administrator of Keystone (role admin)",
			doing, r.settings.who())
	case errors.As(err, &answer):
		return structs.Errorf(structs.CodeInternal, "%s: %s answered with status %d: %s", doing, r.settings.at(), answer.Actual,
			strings.TrimSpace(string(answer.Body[:min(len(answer.Body), 300)])))
	}
	return fmt.Errorf("%s: %w", doing, r.settings.refused(ctx, err))
}

// region returns the region of the endpoints. An unknown one is refused: Keystone would make it.
func (r *registrar) region(ctx context.Context) (string, error) {
	pages, err := regions.List(r.client, regions.ListOpts{}).AllPages(ctx)
	if err != nil {
		return "", r.failed(ctx, "listing regions", err)
	}
	all, err := regions.ExtractRegions(pages)
	if err != nil {
		return "", r.failed(ctx, "listing regions", err)
	}
	var names []string
	for _, one := range all {
		names = append(names, one.ID)
	}
	want := orDefault(r.want.Region, r.settings.region)
	switch {
	case want == "" && len(names) == 1:
		return names[0], nil
	case want == "":
		return "", structs.Errorf(structs.CodeInvalid, "the region is missing: give one with -region; Keystone has %s",
			orNone(strings.Join(names, ", ")))
	case len(names) > 0 && !slices.Contains(names, want):
		return "", structs.Errorf(structs.CodeInvalid, "Keystone has no region %s, but %s: choose with -region",
			want, strings.Join(names, ", "))
	}
	return want, nil
}

// service provides the service and returns its ID. A second service of the type would make
// clients choose between them.
func (r *registrar) service(ctx context.Context) (string, error) {
	const doing = "listing services"
	pages, err := services.List(r.client, services.ListOpts{ServiceType: ServiceType}).AllPages(ctx)
	if err != nil {
		return "", r.failed(ctx, doing, err)
	}
	all, err := services.ExtractServices(pages)
	if err != nil {
		return "", r.failed(ctx, doing, err)
	}
	var have []string
	for _, one := range all {
		have = append(have, fmt.Sprintf("%q (%s)", one.Name, one.ID))
	}
	step := Step{Kind: "service", Name: r.want.Name, Result: Found, Detail: "type " + ServiceType}
	enabled := true
	switch {
	case len(all) == 0:
		made, err := services.Create(ctx, r.client, services.CreateOpts{
			Name: r.want.Name, Type: ServiceType, Description: "Container service", Enabled: &enabled,
		}).Extract()
		if err != nil {
			return "", r.failed(ctx, "creating the service", err)
		}
		step.ID, step.Result = made.ID, Created
	case len(all) > 1:
		return "", structs.Errorf(structs.CodeConflict, "Keystone has %d services of type %s: %s; delete all but one",
			len(all), ServiceType, strings.Join(have, ", "))
	case all[0].Name != r.want.Name:
		return "", structs.Errorf(structs.CodeConflict,
			"Keystone has another service of type %s: %s; delete it, or take it over with -name %s",
			ServiceType, have[0], all[0].Name)
	default:
		step.ID = all[0].ID
		if !all[0].Enabled {
			if _, err := services.Update(ctx, r.client, step.ID, services.UpdateOpts{Enabled: &enabled}).Extract(); err != nil {
				return "", r.failed(ctx, "enabling the service", err)
			}
			step.Result, step.Detail = Changed, step.Detail+", was disabled"
		}
	}
	return step.ID, r.report(step)
}

// endpoint provides one endpoint.
func (r *registrar) endpoint(ctx context.Context, service, face, region string) error {
	doing := "listing the " + face + " endpoints"
	availability := gophercloud.Availability(face)
	match := endpoints.ListOpts{Availability: availability, ServiceID: service, RegionID: region}
	pages, err := endpoints.List(r.client, match).AllPages(ctx)
	if err != nil {
		return r.failed(ctx, doing, err)
	}
	all, err := endpoints.ExtractEndpoints(pages)
	if err != nil {
		return r.failed(ctx, doing, err)
	}
	url, enabled := r.want.URLs[face], true
	step := Step{Kind: "endpoint", Name: face, Result: Found, Detail: url}
	switch {
	case len(all) == 0:
		made, err := endpoints.Create(ctx, r.client, endpoints.CreateOpts{
			Availability: availability, Region: region, URL: url, ServiceID: service, Enabled: &enabled,
		}).Extract()
		if err != nil {
			return r.failed(ctx, "creating the "+face+" endpoint", err)
		}
		step.ID, step.Result = made.ID, Created
	case len(all) > 1:
		return structs.Errorf(structs.CodeConflict,
			"Keystone has %d %s endpoints of the service in region %s: %s and %s; delete all but one",
			len(all), face, region, all[0].ID, all[1].ID)
	default:
		step.ID = all[0].ID
		var change []string
		if all[0].URL != url {
			change = append(change, "was "+all[0].URL)
		}
		if !all[0].Enabled {
			change = append(change, "was disabled")
		}
		if len(change) > 0 {
			if _, err := endpoints.Update(ctx, r.client, step.ID, endpoints.UpdateOpts{URL: url, Enabled: &enabled}).Extract(); err != nil {
				return r.failed(ctx, "changing the "+face+" endpoint", err)
			}
			step.Result, step.Detail = Changed, url+", "+strings.Join(change, ", ")
		}
	}
	return r.report(step)
}

// user provides the servers' user, with its role in its project.
func (r *registrar) user(ctx context.Context) error {
	project, err := r.project(ctx)
	if err != nil {
		return err
	}
	role, err := r.role(ctx)
	if err != nil {
		return err
	}
	user, err := r.account(ctx)
	if err != nil {
		return err
	}
	step := Step{Kind: "assignment", Name: Role, Result: Found, Detail: "user " + r.want.User + " in project " + r.want.Project}
	err = roles.Validate(ctx, r.client, role, roles.ValidateOpts{UserID: user, ProjectID: project}).ExtractErr()
	if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
		step.Result = Created
		err = roles.Assign(ctx, r.client, role, roles.AssignOpts{UserID: user, ProjectID: project}).ExtractErr()
	}
	if err != nil {
		return r.failed(ctx, "giving the user its role", err)
	}
	return r.report(step)
}

func (r *registrar) project(ctx context.Context) (string, error) {
	const doing = "looking for the project"
	pages, err := projects.List(r.client, projects.ListOpts{Name: r.want.Project, DomainID: defaultDomain}).AllPages(ctx)
	if err != nil {
		return "", r.failed(ctx, doing, err)
	}
	all, err := projects.ExtractProjects(pages)
	if err != nil {
		return "", r.failed(ctx, doing, err)
	}
	if len(all) > 0 { // names are unique in a domain
		if !all[0].Enabled {
			return "", structs.Errorf(structs.CodeConflict,
				"project %s (%s) is disabled: enable it, or choose another with -service-project",
				r.want.Project, all[0].ID)
		}
		return all[0].ID, r.report(Step{Kind: "project", Name: r.want.Project, ID: all[0].ID, Result: Found})
	}
	made, err := projects.Create(ctx, r.client, projects.CreateOpts{
		Name: r.want.Project, DomainID: defaultDomain, Description: "Users of OpenStack's services",
	}).Extract()
	if err != nil {
		return "", r.failed(ctx, "creating the project", err)
	}
	return made.ID, r.report(Step{Kind: "project", Name: r.want.Project, ID: made.ID, Result: Created})
}

func (r *registrar) role(ctx context.Context) (string, error) {
	const doing = "looking for the role"
	pages, err := roles.List(r.client, roles.ListOpts{Name: Role}).AllPages(ctx)
	if err != nil {
		return "", r.failed(ctx, doing, err)
	}
	all, err := roles.ExtractRoles(pages)
	if err != nil {
		return "", r.failed(ctx, doing, err)
	}
	if len(all) > 0 {
		return all[0].ID, r.report(Step{Kind: "role", Name: Role, ID: all[0].ID, Result: Found})
	}
	made, err := roles.Create(ctx, r.client, roles.CreateOpts{Name: Role}).Extract()
	if err != nil {
		return "", r.failed(ctx, "creating the role", err)
	}
	return made.ID, r.report(Step{Kind: "role", Name: Role, ID: made.ID, Result: Created})
}

// account provides the user. The password of an existing one is not changed: servers may use it.
func (r *registrar) account(ctx context.Context) (string, error) {
	const doing = "looking for the user"
	pages, err := users.List(r.client, users.ListOpts{Name: r.want.User, DomainID: defaultDomain}).AllPages(ctx)
	if err != nil {
		return "", r.failed(ctx, doing, err)
	}
	all, err := users.ExtractUsers(pages)
	if err != nil {
		return "", r.failed(ctx, doing, err)
	}
	if len(all) > 0 {
		if !all[0].Enabled {
			return "", structs.Errorf(structs.CodeConflict, "user %s (%s) is disabled: enable it, or choose another with -service-user",
				r.want.User, all[0].ID)
		}
		return all[0].ID, r.report(Step{Kind: "user", Name: r.want.User, ID: all[0].ID, Result: Found, Detail: "its password is unchanged"})
	}
	step := Step{Kind: "user", Name: r.want.User, Result: Created, Detail: "with the given password"}
	password := r.want.Password
	if password == "" {
		password = rand.Text()
		step.Password, step.Detail = password, "with a generated password"
	}
	enabled := true
	made, err := users.Create(ctx, r.client, users.CreateOpts{
		Name: r.want.User, DomainID: defaultDomain, Password: password, Enabled: &enabled,
		Description: "Validates the tokens of magnum's users",
	}).Extract()
	if err != nil {
		return "", r.failed(ctx, "creating the user", err)
	}
	step.ID = made.ID
	return made.ID, r.report(step)
}
