package main

// The demo's check of Signature Version 4, in the header and in the query of a
// presigned request.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html

import (
	"cmp"
	"crypto/subtle"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	demoMaxSkew    = 15 * time.Minute
	demoMaxExpires = 7 * 24 * time.Hour // of a presigned request
)

// A demoAuthorization is what a request says about its own signature.
type demoAuthorization struct {
	accessKeyID, date, region string // of the credential; the date is yyyymmdd
	signedHeaders             string // a;b;c
	signature                 string
	time                      time.Time
	expires                   time.Duration // of a presigned request; otherwise 0
	token                     string
	payloadHash               string
}

// authenticate checks the signature over what was received, and then puts a
// reader in the place of the body which checks that too. A bucket that is
// not there is nobody's business before.
func (s *demoServer) authenticate(q *demoRequest) error {
	a, err := q.authorization()
	if err != nil {
		return err
	}
	if !demoEqual(a.accessKeyID, s.creds.AccessKeyID) {
		return &demoError{403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."}
	}
	if s.region != "" && a.region != s.region {
		return demoMalformed("the region '" + a.region + "' is wrong; expecting '" + s.region + "'")
	}
	if err := a.checkTime(s.now()); err != nil {
		return err
	}
	if !q.allSigned(a.signedHeaders) {
		return demoDenied("There were headers present in the request which were not signed")
	}
	key := signingKey(s.creds.SecretAccessKey, a.date, a.region, "s3")
	want := signature(key, stringToSign(a.time.Format(amzDateFormat), credentialScope(a.date, a.region, "s3"), q.canonical(a)))
	if !demoEqual(a.signature, string(want)) {
		return &demoError{403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	}
	if !demoEqual(a.token, s.creds.SessionToken) {
		return &demoError{400, "InvalidToken", "The provided token is malformed or otherwise invalid."}
	}
	return q.expectBody(a.payloadHash)
}

// demoEqual compares in constant time: how long a refusal takes must not tell
// how much of a guess was right.
func demoEqual(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func demoDenied(message string) error { return &demoError{403, "AccessDenied", message} }

func demoMalformed(why string) error {
	return &demoError{400, "AuthorizationHeaderMalformed", "The authorization header is malformed; " + why + "."}
}

// authorization reads a presigned request's parameters, or the headers:
//
//	Authorization: AWS4-HMAC-SHA256 Credential=…,SignedHeaders=…,Signature=…
//	X-Amz-Date: …
//
// A comma may have a space behind it. The body of a presigned request is not
// signed unless it says so.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
func (q *demoRequest) authorization() (*demoAuthorization, error) {
	header, presigned := q.Header.Get("Authorization"), q.query.Has("X-Amz-Signature") || q.query.Has("X-Amz-Algorithm")
	algorithm, rest, _ := strings.Cut(header, " ")
	switch {
	case header != "" && presigned:
		return nil, demoInvalidArgument("Only one auth mechanism allowed")
	case presigned:
		return newDemoAuthorization(q.query, true, cmp.Or(q.Header.Get("X-Amz-Content-Sha256"), q.query.Get("X-Amz-Content-Sha256"), unsignedPayload))
	case q.query.Has("AWSAccessKeyId"), header != "" && algorithm != signatureAlgorithm: // version 2, which some clients still have
		return nil, demoInvalidRequest("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
	case header == "":
		return nil, demoDenied("Access Denied")
	case q.Header.Get("X-Amz-Content-Sha256") == "":
		return nil, demoInvalidRequest("Missing required header for this request: x-amz-content-sha256")
	}
	fields := url.Values{"X-Amz-Date": q.Header["X-Amz-Date"], "X-Amz-Security-Token": q.Header["X-Amz-Security-Token"]}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields.Set("X-Amz-"+name, value)
	}
	return newDemoAuthorization(fields, false, q.Header.Get("X-Amz-Content-Sha256"))
}

// newDemoAuthorization reads fields by the names they have in a query.
func newDemoAuthorization(fields url.Values, presigned bool, payloadHash string) (*demoAuthorization, error) {
	seconds, err := strconv.ParseUint(cmp.Or(fields.Get("X-Amz-Expires"), "0"), 10, 31)
	a := &demoAuthorization{
		signedHeaders: fields.Get("X-Amz-SignedHeaders"),
		signature:     fields.Get("X-Amz-Signature"),
		expires:       time.Duration(seconds) * time.Second,
		token:         fields.Get("X-Amz-Security-Token"),
		payloadHash:   payloadHash,
	}
	t, errTime := time.Parse(amzDateFormat, fields.Get("X-Amz-Date"))
	a.time = t
	ok := a.setCredential(fields.Get("X-Amz-Credential")) && a.date == t.Format("20060102") && a.signedHeaders != "" && a.signature != ""
	switch {
	case presigned && (!ok || err != nil || a.expires == 0 || a.expires > demoMaxExpires || fields.Get("X-Amz-Algorithm") != signatureAlgorithm):
		return nil, &demoError{400, "AuthorizationQueryParametersError", "Query-string authentication version 4 requires valid X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."}
	case errTime != nil:
		return nil, demoDenied("AWS authentication requires a valid x-amz-date header")
	case !ok:
		return nil, demoMalformed("it must hold Credential=<key id>/<yyyymmdd>/<region>/s3/aws4_request, SignedHeaders and Signature")
	}
	return a, nil
}

// setCredential reads a credential from its end: a key id may hold a slash.
func (a *demoAuthorization) setCredential(credential string) bool {
	parts := strings.Split(credential, "/")
	n := len(parts) - 4
	if n < 1 || parts[n+2] != "s3" || parts[n+3] != scopeTerminator {
		return false
	}
	a.accessKeyID, a.date, a.region = strings.Join(parts[:n], "/"), parts[n], parts[n+1]
	return a.region != ""
}

func (a *demoAuthorization) checkTime(now time.Time) error {
	switch {
	case a.expires == 0 && now.Sub(a.time).Abs() > demoMaxSkew:
		return &demoError{403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."}
	case a.expires > 0 && now.After(a.time.Add(a.expires)):
		return demoDenied("Request has expired")
	case a.expires > 0 && a.time.Sub(now) > demoMaxSkew:
		return demoDenied("Request is not yet valid")
	}
	return nil
}

// allSigned reports whether host and every x-amz-* header are in the list.
func (q *demoRequest) allSigned(list string) bool {
	signed := strings.Split(list, ";")
	for name := range q.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(signed, lower) {
			return false
		}
	}
	return slices.Contains(signed, "host")
}

// canonical writes the canonical request anew from what was received.
func (q *demoRequest) canonical(a *demoAuthorization) []byte {
	var fields []headerField
	for name := range strings.SplitSeq(a.signedHeaders, ";") {
		value := strings.Join(q.Header.Values(name), ",")
		switch {
		case name == "host":
			value = q.Host
		case name == "content-length" && value == "":
			value = strconv.FormatInt(q.ContentLength, 10)
		}
		fields = append(fields, headerField{name, value})
	}
	path := strings.ReplaceAll(demoEncode(q.path), "%2F", "/")
	return appendCanonicalRequest(nil, q.Method, path, q.canonicalQuery(), fields, a.payloadHash)
}

// canonicalQuery sorts by name and then by value, both encoded. A NUL, which
// comes before all they can hold, stands between them for that time.
func (q *demoRequest) canonicalQuery() string {
	var pairs []string
	for name, values := range q.query {
		for _, value := range values {
			if name != "X-Amz-Signature" {
				pairs = append(pairs, demoEncode(name)+"\x00"+demoEncode(value))
			}
		}
	}
	slices.Sort(pairs)
	return strings.ReplaceAll(strings.Join(pairs, "&"), "\x00", "=")
}

// demoEncode is the specification's UriEncode: url.QueryEscape leaves just the
// same characters alone, but for the space.
func demoEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
