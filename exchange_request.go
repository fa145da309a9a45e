package main

// What a client asks for, and who it is: the part of an exchange that is known before
// anything is sent or answered. It knows nothing of backends.

import (
	"net/http"
	"net/url"
	"strings"
)

// A request is what the steps of handlers.go learn of an http.Request, in their order.
// Before a step, its fields have their zero values.
type request struct {
	r    *http.Request
	head requestHead // its framing on the wire
	body requestBody

	path   string // as received, escaped
	target target
	parsed bool        // target is known
	query  []parameter // as received; once classified, what the backend gets

	auth *authenticator // of the configuration that the request sees
	caller
	bucket *bucket // of target, once it is authorized; nil for the service
}

// isHTTP10 reports whether the client speaks HTTP/1.0.
func (q *request) isHTTP10() bool { return !q.r.ProtoAtLeast(1, 1) }

// isSecure reports whether the client speaks TLS with the gateway.
func (q *request) isSecure() bool {
	_, secure := q.r.Context().Value(connKey{}).(*tlsClientConn)
	return secure || q.r.TLS != nil
}

// signs reports whether the client signs its requests, as S3 tools do. The signature may
// be wrong, and may not have been verified.
func (q *request) signs() bool {
	return strings.HasPrefix(q.r.Header.Get("Authorization"), signatureAlgorithm) ||
		strings.Contains(q.r.URL.RawQuery, "X-Amz-Credential=") || strings.Contains(q.r.URL.RawQuery, "AWSAccessKeyId=")
}

// wantsXML reports whether errors are S3's XML: for clients that sign, as every S3 tool
// does, and for listings, whose answers are XML too.
func (q *request) wantsXML() bool {
	return q.signs() || q.parsed && q.r.Method == http.MethodGet &&
		(q.target.level() == bucketLevel || q.target.level() == serviceLevel)
}

// left reports whether the client left before the answer. The context also ends when a
// body fails or is interrupted; neither means that the client left.
func (q *request) left() bool {
	return q.r.Context().Err() != nil && q.body.failure() == nil && !q.body.wasInterrupted()
}

// resource is the path as errors name it, escaped: a key may have characters that XML
// can't.
func (q *request) resource() string {
	switch q.target.level() {
	case objectLevel:
		return "/" + q.target.bucket + "/" + uriEncode(q.target.key, false)
	case bucketLevel:
		return "/" + q.target.bucket
	}
	return "/"
}

// userName returns the name of the user, or "" if it is not known.
func (q *request) userName() string {
	if q.user == nil {
		return ""
	}
	return q.user.name
}

// withoutCredentials returns a text of the client for the log, without what may authenticate a
// request: the key that was sent, keys and signature of whom it names, and the signature of a
// presigned URL. If a shell's quoting made the query a part of the key, that signature is still
// valid for the key without it.
func (q *request) withoutCredentials(text string) string {
	if values := q.r.Header["X-Api-Key"]; len(values) > 0 && len(values[0]) >= pieceSize {
		text = strings.ReplaceAll(text, values[0], withheld)
	}
	for _, u := range []*user{q.user, q.claimed} {
		if u == nil {
			continue
		}
		for _, key := range u.keys {
			if key.secret != "" {
				text = strings.ReplaceAll(text, key.secret, withheld)
			}
		}
	}
	if q.claim != nil {
		text = strings.ReplaceAll(text, q.claim.signature, withheld)
	}
	return withoutSignatures(q.auth.withoutKeys(text))
}

// withoutSignatures returns a text without the values of parameters whose names end in Signature.
func withoutSignatures(text string) string {
	const name = "Signature="
	if !strings.Contains(text, name) {
		return text
	}
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, name)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString(withheld)
		text = strings.TrimLeft(rest, "0123456789abcdef")
	}
}

// origin is the address of the gateway, as the client wrote it.
func (q *request) origin() string {
	u := url.URL{Scheme: "http", Host: q.r.Host}
	if q.isSecure() {
		u.Scheme = "https"
	}
	return u.String()
}
