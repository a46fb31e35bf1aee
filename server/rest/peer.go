package rest

import (
	"net/http"

	"github.com/stackforge/magnum/server/identity"
	"github.com/stackforge/magnum/server/peer"
	"github.com/stackforge/magnum/server/rest/web"
	"github.com/stackforge/magnum/structs"
)

// peerCalls serves the requests of other servers. Its routes aren't in the OpenAPI
// document, because they belong to one version of the servers.
type peerCalls struct{ member web.Member }

func (p peerCalls) routes() []*web.Route {
	post := func(path string, action identity.Action, handle func(*web.Request) error) *web.Route {
		return &web.Route{Method: http.MethodPost, Path: "/peer/" + path, Action: action, Handle: handle, Takes: struct{}{}}
	}
	return []*web.Route{
		post("read-index", identity.PeerCall, p.readIndex),
		post("heard", identity.PeerCall, p.takeHeartbeats),
		post("silent", identity.PeerCall, p.silent),
		post("followed", identity.PeerCall, p.followed),
		post("offers", identity.PeerCall, p.offer),
		post("progress", identity.PeerCall, p.progress),
		// These come before there is a peer secret. The answer to identity has nothing
		// that gossip doesn't show, and the member checks the proof of a grant.
		post("identity", identity.Public, p.identity),
		post("grant", identity.Public, p.grant),
	}
}

func (p peerCalls) readIndex(q *web.Request) error {
	var body structs.PeerReadIndex
	if err := q.DecodeLenient(&body); err != nil {
		return err
	}
	ask := p.member.ReadIndex
	if body.Leased {
		ask = p.member.LeaderIndex
	}
	index, err := ask(q.Context())
	if err != nil {
		return err
	}
	return q.JSON(http.StatusOK, structs.PeerIndex{Index: index})
}

func (p peerCalls) takeHeartbeats(q *web.Request) error {
	var body structs.PeerHeartbeats
	if err := q.DecodeLenient(&body); err != nil {
		return err
	}
	acknowledged, err := p.member.TakeHeartbeats(q.Context(), body.Hosts)
	if err != nil {
		return err
	}
	return q.JSON(http.StatusOK, acknowledged)
}

func (p peerCalls) silent(q *web.Request) error {
	var body structs.PeerSilent
	if err := q.DecodeLenient(&body); err != nil {
		return err
	}
	return q.JSON(http.StatusOK, structs.PeerSilent{Hosts: p.member.Silent(body.Hosts)})
}

func (p peerCalls) followed(q *web.Request) error {
	var body structs.PeerFollowed
	if err := q.DecodeLenient(&body); err != nil {
		return err
	}
	q.W.Parked = true
	hosts := p.member.Followed(q.Context(), body.Hosts, body.Index, body.Wait)
	return q.JSON(http.StatusOK, structs.PeerFollowed{Hosts: hosts, Index: body.Index})
}

func (p peerCalls) offer(q *web.Request) error {
	var body structs.PeerOffer
	if err := q.DecodeLenient(&body); err != nil {
		return err
	}
	p.member.Offer(body.HostID, body.Offer)
	return q.JSON(http.StatusOK, struct{}{})
}

func (p peerCalls) progress(q *web.Request) error { return q.JSON(http.StatusOK, p.member.Progress()) }

func (p peerCalls) identity(q *web.Request) error {
	if err := q.FromServer(); err != nil {
		return err
	}
	var body structs.PeerChallenge
	if err := q.DecodeLenient(&body); err != nil {
		return err
	}
	if n := len(body.Nonce); n < structs.MinNonce || n > structs.MaxNonce {
		return structs.Errorf(structs.CodeInvalid, "nonce: %d characters are not in %d..%d", n, structs.MinNonce, structs.MaxNonce)
	}
	return q.JSON(http.StatusOK, p.member.Identity(body.Nonce))
}

func (p peerCalls) grant(q *web.Request) error {
	if err := q.FromServer(); err != nil {
		return err
	}
	var body structs.PeerGrant
	if err := q.DecodeLenient(&body); err != nil {
		return err
	}
	if err := p.member.Grant(q.R.Header.Get(peer.HeaderProof), body); err != nil {
		return err
	}
	return q.JSON(http.StatusOK, struct{}{})
}
