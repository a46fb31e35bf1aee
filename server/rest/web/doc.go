// Package web serves HTTP requests of the REST API: the route table, who is let in
// (authentication, other servers, pages of other sites), bodies and their times,
// the request as a handler sees it, lists, and answers with their errors and
// headers.
//
// server/rest makes a Server of the routes of all nouns, and server/rest/zun of
// those of its dialect. Handlers get a Request, whose Service carries out what is
// asked; they see neither the server nor the conductor's queue. web knows no noun of
// its own, holds no state but its configuration, and never redirects: the clients of
// 2015 can't follow.
package web
