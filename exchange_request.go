package main

// What a client asks for, and who it is: the part of an exchange that is known before
// anything is answered or sent. Nothing here knows of backends.

import (
	"net/http"
	"net/url"
	"strings"
)

// A request is what the steps before the operation learn of an http.Request, in their
// order. Until a step has passed, its fields have their zero values.
type request struct {
	r    *http.Request
	head requestHead // its framing on the wire
	body requestBody

	path   string // as received, escaped
	target target
	parsed bool        // target is known
	query  []parameter // as received; once classified, what the backend gets

	user   *user
	claim  *claim  // the verified signature; nil for a user with x-api-key
	bucket *bucket // of target, once it is authorized; nil for the service
}

// isHTTP10 reports whether the client speaks HTTP/1.0.
func (q *request) isHTTP10() bool { return !q.r.ProtoAtLeast(1, 1) }

// isSecure reports whether the client speaks TLS with the gateway.
func (q *request) isSecure() bool {
	_, secure := q.r.Context().Value(connKey{}).(*tlsClientConn)
	return secure || q.r.TLS != nil
}

// signs reports whether the client is an S3 tool. It says nothing of whether
// the signature is good, or looked at.
func (q *request) signs() bool {
	return strings.HasPrefix(q.r.Header.Get("Authorization"), signatureAlgorithm) ||
		strings.Contains(q.r.URL.RawQuery, "X-Amz-Credential=") || strings.Contains(q.r.URL.RawQuery, "AWSAccessKeyId=")
}

// wantsXML reports whether errors go out as S3's XML: for a client that signs,
// as every S3 tool does, and for listings, whose answer is XML as well.
func (q *request) wantsXML() bool {
	return q.signs() || q.parsed && q.r.Method == http.MethodGet &&
		(q.target.level() == bucketLevel || q.target.level() == serviceLevel)
}

// left reports whether the client has gone without an answer. An interrupted body may
// have ended the context, too.
func (q *request) left() bool {
	return q.r.Context().Err() != nil && q.body.failure() == nil && !q.body.wasInterrupted()
}

// resource is the path as errors name it, escaped: a key may hold what no XML can.
func (q *request) resource() string {
	switch q.target.level() {
	case objectLevel:
		return "/" + q.target.bucket + "/" + uriEncode(q.target.key, false)
	case bucketLevel:
		return "/" + q.target.bucket
	}
	return "/"
}

// userName returns the name of the user, or "" for a stranger.
func (q *request) userName() string {
	if q.user == nil {
		return ""
	}
	return q.user.name
}

// withoutCredentials returns a text of the client for the log, without the API key or
// the signature that authenticated the request, and without the signature of a
// presigned URL: if a shell's quoting made the query a part of the key, the signature
// is still good for the key before it.
func (q *request) withoutCredentials(text string) string {
	switch {
	case q.user == nil:
	case q.claim != nil:
		text = strings.ReplaceAll(text, q.claim.signature, withheld)
	default:
		text = strings.ReplaceAll(text, q.r.Header["X-Api-Key"][0], withheld)
	}
	before, rest, found := strings.Cut(text, "Signature=")
	if !found {
		return text
	}
	return before + withheld + q.withoutCredentials(strings.TrimLeft(rest, "0123456789abcdef"))
}

// withheld stands in the log for a credential.
const withheld = "(withheld)"

// origin is the gateway's address as the client has it.
func (q *request) origin() string {
	u := url.URL{Scheme: "http", Host: q.r.Host}
	if q.isSecure() {
		u.Scheme = "https"
	}
	return u.String()
}
