package main

// The query of a request: how it is parsed, what each parameter may hold, and how it is
// encoded for a backend. A query is parsed before the user is known, so the work is
// linear in the bytes received. It knows nothing of operations.

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxParameters bounds the parameters of a request. SDKs move headers into the
// query of a presigned URL. A PutObject can have the most: 8 parameters of the signature,
// x-id, 33 headers of the operation, and user metadata, of which S3 allows 2 KiB.
const maxParameters = 128

// A parameter is one name and value of a query, decoded.
type parameter struct{ name, value string }

// parseQuery decodes a query. Where url.Values would drop a pair that it can't
// decode, or keep both of two, parseQuery returns an error: no parameter may reach a
// backend that the gateway did not check. The error is for the client.
func parseQuery(raw string) ([]parameter, error) {
	if raw == "" {
		return nil, nil
	}
	params := make([]parameter, 0, min(1+strings.Count(raw, "&"), maxParameters))
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		if len(params) == maxParameters {
			return nil, fmt.Errorf("there are more than %d query parameters", maxParameters)
		}
		p, err := parseParameter(pair)
		if err != nil {
			return nil, err
		}
		params = append(params, p)
	}
	if name, twice := repeated(params); twice {
		return nil, fmt.Errorf("the query parameter %q is given more than once", shortened(name, 64))
	}
	return params, nil
}

func parseParameter(pair string) (parameter, error) {
	if strings.Contains(pair, ";") {
		return parameter{}, fmt.Errorf("a query parameter holds a semicolon; encode it as %%3B")
	}
	name, value, _ := strings.Cut(pair, "=")
	name, err1 := url.QueryUnescape(name)
	value, err2 := url.QueryUnescape(value)
	switch {
	case err1 != nil || err2 != nil || !utf8.ValidString(name) || !utf8.ValidString(value):
		return parameter{}, fmt.Errorf("a query parameter is not properly percent-encoded UTF-8")
	case name == "":
		return parameter{}, fmt.Errorf("a query parameter has no name")
	}
	return parameter{name, value}, nil
}

// repeated returns a name that two parameters have. Few are compared with each
// other, which allocates nothing; many are put into a set.
func repeated(params []parameter) (name string, twice bool) {
	const few = 8
	if len(params) <= few {
		for i, p := range params {
			if hasParameter(params[:i], p.name) {
				return p.name, true
			}
		}
		return "", false
	}
	seen := make(map[string]bool, len(params))
	for _, p := range params {
		if seen[p.name] {
			return p.name, true
		}
		seen[p.name] = true
	}
	return "", false
}

// canonicalQuery encodes a query for the canonical request: each name
// and value encoded, then sorted. url.Values.Encode sorts first, which is
// another order where one name is the beginning of another ("x[" and "xA").
func canonicalQuery(params []parameter) string {
	if len(params) == 0 {
		return ""
	}
	encoded := make([]parameter, len(params))
	for i, p := range params {
		encoded[i] = parameter{uriEncode(p.name, true), uriEncode(p.value, true)}
	}
	slices.SortFunc(encoded, func(a, b parameter) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	var b strings.Builder
	for i, p := range encoded {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name)
		b.WriteByte('=')
		b.WriteString(p.value)
	}
	return b.String()
}

func hasParameter(query []parameter, name string) bool {
	return slices.ContainsFunc(query, func(p parameter) bool { return p.name == name })
}

// parameterValue returns the value of a parameter, or "".
func parameterValue(query []parameter, name string) string {
	for _, p := range query {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// withParameter returns a copy of a query with one parameter set.
func withParameter(query []parameter, name, value string) []parameter {
	query = slices.DeleteFunc(slices.Clone(query), func(p parameter) bool { return p.name == name })
	return append(query, parameter{name, value})
}

var (
	issuedID    = notEmpty(opaque(maxID)) // required: without it the request would be another
	markerID    = opaque(maxID)           // may be empty: tools send it with the first page
	keyPrefix   = keyText(maxKey)
	pageToken   = keyText(maxPageToken)
	unknownKind = notEmpty(opaque(maxID))
)

// parameterRules has the rule of each parameter of the operation table. Should one be
// forgotten, it must be a token that is not empty (unknownKind).
var parameterRules = map[string]valueRule{
	// Selectors.
	"acl": noValue, "attributes": noValue, "delete": noValue, "legal-hold": noValue, "restore": noValue, "retention": noValue,
	"select": noValue, "tagging": noValue, "uploads": noValue, "versions": noValue,
	"accelerate": noValue, "analytics": noValue, "cors": noValue, "encryption": noValue, "intelligent-tiering": noValue,
	"inventory": noValue, "lifecycle": noValue, "location": noValue, "logging": noValue, "metrics": noValue, "notification": noValue,
	"object-lock": noValue, "ownershipControls": noValue, "policy": noValue, "policyStatus": noValue, "publicAccessBlock": noValue,
	"replication": noValue, "requestPayment": noValue, "versioning": noValue, "website": noValue,

	// Words.
	"list-type": oneOf("2"), "encoding-type": oneOf("url"), "fetch-owner": oneOf("true", "false"), "select-type": oneOf("2"),
	"metadata": oneOf("true", "false"), "withUpdatedAt": oneOf("true", "false"),

	// Numbers. A backend has lower limits of its own for a page.
	"max-keys": listNumber, "max-uploads": listNumber, "max-parts": listNumber, "part-number-marker": listNumber,
	"max-buckets": decimal(1, maxBuckets), "partNumber": decimal(1, maxParts),

	// Keys, and beginnings of keys.
	"prefix": keyPrefix, "marker": keyPrefix, "key-marker": keyPrefix, "start-after": keyPrefix, "delimiter": delimiterText,

	// Tokens that a service has issued.
	"uploadId": issuedID, "versionId": issuedID, "id": issuedID,
	"version-id-marker": markerID, "upload-id-marker": markerID, "continuation-token": pageToken,

	// Headers of the answer.
	"response-cache-control": headerText, "response-content-disposition": headerText, "response-content-encoding": headerText,
	"response-content-language": headerText, "response-content-type": headerText, "response-expires": headerText,

	// Of /-/presign, which checks the first two as it checks a path.
	"bucket": keyPrefix, "key": keyPrefix, "method": oneOf("", "GET", "HEAD", "PUT", "DELETE"), "expires": decimal(1, maxPresignExpiry),
}

// checkParameter applies the rule for a parameter.
func checkParameter(p parameter) *apiError {
	rule := parameterRules[p.name]
	if rule == nil {
		rule = unknownKind
	}
	if err := rule(p.value); err != nil {
		return newError(reasonParameter, "InvalidArgument", fmt.Sprintf("the query parameter %s %v", p.name, err))
	}
	return nil
}

// maxParts is S3's limit on the parts of an upload. A server that finds no such number or
// upload might store the part as the object.
const maxParts = 10_000

// maxBuckets is the largest page of buckets, as S3 has it.
const maxBuckets = 10_000
