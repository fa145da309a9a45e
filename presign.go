package main

// GET /-/presign: a URL of the gateway that somebody without a key can use, for
// one method and one object, until it expires. It carries the user's name and a
// signature made with the user's key: so it can do what the user can do at the
// time it is used, and dies with the key.

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const defaultPresignExpiry = 3600 // seconds

// presign answers with {"url":…,"method":…,"expires":…}. Parameters: bucket,
// key, method (GET by default; HEAD, PUT or DELETE), expires (seconds).
func (g *gateway) presign(x *exchange) *apiError {
	t := target{bucket: get(x.query, "bucket"), key: get(x.query, "key")}
	method, action, refusal := presignMethod(get(x.query, "method"))
	if refusal != nil {
		return refusal
	}
	seconds, refusal := presignExpiry(x.query)
	if refusal != nil {
		return refusal
	}
	if !validBucket(t.bucket) {
		return newError("InvalidArgument", "bucket wants the name of a bucket")
	}
	if err := checkKey(t.key, g.config.nestedKeys); err != nil {
		return newError("InvalidArgument", err.Error())
	}
	if refusal := g.mayAct(x.user, t.bucket, action, "a presigned "+method); refusal != nil {
		return refusal
	}
	if len(x.user.secrets) == 0 {
		return newError("InvalidRequest", "your key is kept as a digest, with which nothing can be signed")
	}
	now := time.Now()
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // a URL is for pasting
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

func presignMethod(method string) (string, action, *apiError) {
	switch method {
	case "", http.MethodGet:
		return http.MethodGet, actionRead, nil
	case http.MethodHead:
		return method, actionRead, nil
	case http.MethodPut, http.MethodDelete:
		return method, actionWrite, nil
	}
	return "", "", newError("InvalidArgument", "method wants to be GET, HEAD, PUT or DELETE")
}

func presignExpiry(query []parameter) (int, *apiError) {
	if !has(query, "expires") {
		return defaultPresignExpiry, nil
	}
	seconds, err := strconv.Atoi(get(query, "expires"))
	if err != nil || seconds < 1 || seconds > maxPresignExpiry {
		return 0, newError("InvalidArgument", fmt.Sprintf("expires wants a number of seconds from 1 to %d", maxPresignExpiry))
	}
	return seconds, nil
}

// presignedTarget returns path and query of a presigned URL, path-style. The
// last key signs: of two it is the one that stays.
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
	key := signingKey(u.secrets[len(u.secrets)-1], amzDate[:8], "us-east-1", "s3")
	return path + "?" + query + "&X-Amz-Signature=" + string(signature(key, stringToSign(amzDate, scope, canonical)))
}

// origin is the gateway's address as the client has it.
func (x *exchange) origin() string {
	u := url.URL{Scheme: "http", Host: x.r.Host}
	if x.r.TLS != nil {
		u.Scheme = "https"
	}
	return u.String()
}
