// Package zun is the second spelling of the REST API: that of OpenStack's container
// client (python-zunclient, "openstack appcontainer"). A request that says so in its
// OpenStack-API-Version header is read and answered in that client's shapes. What is
// done is done by server/service, as for our own spelling.
//
// server/rest has it served. It keeps nothing but the terminals that a client has
// prepared and not opened yet, and nothing else in this repository knows its shapes.
package zun
