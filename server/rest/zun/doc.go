// Package zun is a dialect of the REST API: that of OpenStack's container client
// (python-zunclient, "openstack appcontainer"). A request that asks for it in its
// OpenStack-API-Version header is read and answered in that client's form. server/service
// carries it out, as for magnum's own API.
//
// server/rest serves it. Its only state are the terminals that clients have asked for.
// Nothing else in this repository knows the client's form.
package zun
