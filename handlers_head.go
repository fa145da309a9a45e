package main

// What a HEAD can't say. The answer to a HEAD has no document, so a bare 400 or 403 may
// mean that the backend refuses the client's request, or that it refuses the gateway's own
// credentials or clock. A GET of as little as possible tells which.

import (
	"fmt"
	"io"
	"net/http"
)

// headRefusals are the statuses that may mean either.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
var headRefusals = map[int]bool{http.StatusBadRequest: true, http.StatusUnauthorized: true, http.StatusForbidden: true}

// headRefusal returns the error of a HEAD that was refused with a status. It is the error of
// a GET in its place if that blames the gateway, else the HEAD's own.
func (x *exchange) headRefusal(status int, header http.Header) *apiError {
	e := x.refusalOf(status, header, http.NoBody)
	if !headRefusals[status] {
		return e
	}
	get := x.backend.out.asGet()
	resp, err := x.backend.upstream.once(x.r.Context(), get)
	if err != nil {
		return e
	}
	defer resp.Body.Close()
	if isSuccess(resp.StatusCode) {
		return e
	}
	x.backend.out = get
	refusal := x.refusalOf(resp.StatusCode, nil, plainBody(resp))
	io.CopyN(io.Discard, resp.Body, maxErrorDocument) // a drained connection is kept
	if refusal.Code == "BadGateway" {
		refusal.cause = fmt.Errorf("the backend answered a HEAD with %d, and a GET with %d %s", status, resp.StatusCode, refusal.upstream.code)
		return refusal
	}
	e.reason, e.cause, e.upstream = refusal.reason, refusal.cause, refusal.upstream
	return e
}

// asGet returns the GET in place of a HEAD: of one byte of an object, or of a list of no
// keys.
func (out *outgoing) asGet() *outgoing {
	get := &outgoing{method: http.MethodGet, target: out.target, query: out.query, header: out.header.Clone(), payloadHash: out.payloadHash}
	if out.target.key == "" {
		get.query = []parameter{{"list-type", "2"}, {"max-keys", "0"}}
		return get
	}
	if !hasParameter(out.query, "partNumber") { // S3 accepts only one of the two
		get.header["Range"] = []string{"bytes=0-0"}
	}
	return get
}
