// Package web serves the HTTP requests of the REST API. It has the route table,
// authentication, the checks of other servers and of pages of other sites, deadlines of
// bodies and responses, limits of rates and bytes, what trusted proxies say of
// their clients, the Request that handlers get, lists, and responses with their errors and
// headers.
//
// server/rest makes a Server from the routes of all nouns and of the dialect in
// server/rest/zun. Handlers get a Request, and call its Service to carry it out. They
// see neither the server nor the conductor's queue. web knows no noun, holds no state
// but its configuration, and never redirects, because the clients of 2015 don't follow
// redirects.
package web
