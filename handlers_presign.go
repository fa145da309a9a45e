package main

// GET /-/presign: a URL of the gateway that works without a key, for one method and one
// object, until it expires. It has the user's name and a signature with the user's key. So
// it can do what the user can do at the time of use, and ends with the key.

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

const defaultPresignExpiry = 3600 // seconds

// presign answers with {"url":…,"method":…,"expires":…}. Parameters: bucket,
// key, method (GET by default; HEAD, PUT or DELETE), expires (seconds).
func (g *gateway) presign(x *exchange) *apiError {
	t := target{bucket: parameterValue(x.query, "bucket"), key: parameterValue(x.query, "key")}
	method, op := presignMethod(parameterValue(x.query, "method"))
	seconds := defaultPresignExpiry
	if n, err := strconv.Atoi(parameterValue(x.query, "expires")); err == nil { // it is in range: parameterRules
		seconds = n
	}
	if !validBucket(t.bucket) {
		return newError(reasonParameter, "InvalidArgument", "the query parameter bucket must be the name of a bucket")
	}
	if err := checkKey(t.key, g.config.nestedKeys); err != nil {
		return newError(reasonParameter, "InvalidArgument", err.Error())
	}
	if refusal := g.mayAct(x.user, t.bucket, op, "a presigned "+method); refusal != nil {
		return refusal
	}
	if x.user.lastSecret() == nil {
		return newError(reasonKeyIsDigest, "InvalidRequest", "your key is kept as a digest, with which nothing can be signed")
	}
	now := time.Now()
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // a URL is pasted as it is
	encoder.Encode(struct {      // strings: it can't fail
		URL     string `json:"url"`
		Method  string `json:"method"`
		Expires string `json:"expires"`
	}{
		x.origin() + presignedTarget(x.user, x.r.Host, method, t, seconds, now),
		method,
		now.Add(time.Duration(seconds) * time.Second).UTC().Format(time.RFC3339),
	})
	h := x.Header()
	h["Cache-Control"] = []string{"no-store"}
	x.writeDocument("application/json", body.Bytes())
	return nil
}

// presignMethod returns the method of the query, GET by default, and its action.
func presignMethod(method string) (string, action) {
	switch method {
	case http.MethodHead:
		return method, actionRead
	case http.MethodPut, http.MethodDelete:
		return method, actionWrite
	}
	return http.MethodGet, actionRead
}

// presignedTarget returns the path and query of a presigned URL, path-style. Of two keys the
// last one signs: it is the one that stays after a rotation.
func presignedTarget(u *user, host, method string, t target, seconds int, now time.Time) string {
	amzDate := now.UTC().Format(amzDateFormat)
	scope := credentialScope(amzDate[:8], "us-east-1", "s3")
	query := canonicalQuery([]parameter{
		{"X-Amz-Algorithm", signatureAlgorithm},
		{"X-Amz-Credential", u.name + "/" + scope},
		{"X-Amz-Date", amzDate},
		{"X-Amz-Expires", strconv.Itoa(seconds)},
		{"X-Amz-SignedHeaders", "host"},
	})
	path := "/" + t.bucket + "/" + uriEncode(t.key, false)
	canonical := appendCanonicalRequest(nil, method, path, query, []headerField{{"host", host}}, unsignedPayload)
	key := signingKey(u.lastSecret().secret, amzDate[:8], "us-east-1", "s3")
	return path + "?" + query + "&X-Amz-Signature=" + string(signature(key, stringToSign(amzDate, scope, canonical)))
}
