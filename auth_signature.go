package main

// The second authentication method: a client's own Signature Version 4. Its access key id
// is the user's name, its secret access key the user's API key. It comes in the
// Authorization header or, presigned, in the query. The request is verified as it was
// received, before anything else reads it.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxSkew = 15 * time.Minute // between the client's clock and ours, either way
)

// A claim is what a client says about its signature, checked for form only.
type claim struct {
	accessKeyID   string
	date, region  string // of the scope
	signedHeaders []string
	signature     string // hex
	amzDate       string
	at            time.Time     // amzDate, parsed
	expires       time.Duration // of a presigned request
	presigned     bool

	key []byte // the signing key that matched, once verified
}

// hasClaim reports whether a request is signed, in the header or in the query.
func hasClaim(r *http.Request, query []parameter) (header, presigned bool) {
	for _, p := range query {
		switch p.name {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature":
			presigned = true
		}
	}
	return len(r.Header["Authorization"]) > 0, presigned
}

// parseClaim reads the claim of a request that has one.
func parseClaim(r *http.Request, query []parameter, presigned bool) (*claim, *apiError) {
	if presigned {
		return parsePresigned(query)
	}
	return parseAuthorization(r.Header)
}

// parseAuthorization reads
//
//	AWS4-HMAC-SHA256 Credential=ID/20130524/us-east-1/s3/aws4_request,
//	    SignedHeaders=host;x-amz-date, Signature=64hex
//
// in which each part occurs once.
func parseAuthorization(h http.Header) (*claim, *apiError) {
	values := h["Authorization"]
	rest, ok := strings.CutPrefix(values[0], signatureAlgorithm+" ")
	if !ok || len(values) > 1 {
		return nil, newError(reasonMalformedSignature, "InvalidRequest", "the authorization mechanism is not supported; use x-api-key or AWS4-HMAC-SHA256")
	}
	parts := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if _, twice := parts[name]; !ok || twice || len(parts) == 3 {
			return nil, newError(reasonMalformedSignature, "AuthorizationHeaderMalformed", "")
		}
		parts[name] = value
	}
	c := &claim{signature: parts["Signature"]}
	if len(parts) != 3 || !c.setScope(parts["Credential"]) || !c.setHeaders(parts["SignedHeaders"]) || !isSignature(c.signature) {
		return nil, newError(reasonMalformedSignature, "AuthorizationHeaderMalformed", "")
	}
	dates := h["X-Amz-Date"]
	if len(dates) != 1 || !c.setDate(dates[0]) {
		return nil, newError(reasonMalformedSignature, "AccessDenied", "a signed request needs one x-amz-date header, like 20130524T000000Z")
	}
	if len(h["X-Amz-Content-Sha256"]) != 1 {
		return nil, newError(reasonMalformedSignature, "InvalidRequest", "a signed request needs one x-amz-content-sha256 header")
	}
	return c, nil
}

// parsePresigned reads the same from the query. parseQuery has checked that no parameter
// occurs twice.
func parsePresigned(query []parameter) (*claim, *apiError) {
	c := &claim{presigned: true, signature: parameterValue(query, "X-Amz-Signature")}
	seconds, err := strconv.ParseUint(parameterValue(query, "X-Amz-Expires"), 10, 32)
	switch {
	case parameterValue(query, "X-Amz-Algorithm") != signatureAlgorithm:
		return nil, newError(reasonMalformedSignature, "AuthorizationQueryParametersError", "X-Amz-Algorithm must be AWS4-HMAC-SHA256")
	case err != nil || seconds < 1 || seconds > maxPresignExpiry:
		return nil, newError(reasonMalformedSignature, "AuthorizationQueryParametersError", "X-Amz-Expires must be a number of seconds from 1 to 604800")
	case !c.setScope(parameterValue(query, "X-Amz-Credential")):
		return nil, newError(reasonMalformedSignature, "AuthorizationQueryParametersError", "X-Amz-Credential must have the form ID/20130524/region/s3/aws4_request")
	case !c.setHeaders(parameterValue(query, "X-Amz-SignedHeaders")):
		return nil, newError(reasonMalformedSignature, "AuthorizationQueryParametersError", "X-Amz-SignedHeaders must be a sorted list of headers that includes host")
	case !c.setDate(parameterValue(query, "X-Amz-Date")):
		return nil, newError(reasonMalformedSignature, "AuthorizationQueryParametersError", "X-Amz-Date must have the form 20130524T000000Z")
	case !isSignature(c.signature):
		return nil, newError(reasonMalformedSignature, "AuthorizationQueryParametersError", "X-Amz-Signature must be 64 hex digits")
	}
	c.expires = time.Duration(seconds) * time.Second
	return c, nil
}

// setScope accepts "ID/date/region/s3/aws4_request", with any region: the gateway has
// none, and clients must name one.
func (c *claim) setScope(credential string) bool {
	parts := strings.SplitN(credential, "/", 6)
	if len(parts) != 5 || parts[0] == "" || len(parts[1]) != 8 || parts[2] == "" || parts[3] != "s3" || parts[4] != scopeTerminator {
		return false
	}
	c.accessKeyID, c.date, c.region = parts[0], parts[1], parts[2]
	return true
}

// maxSignedHeaders bounds the work before the user is known. S3 allows 8 KiB
// of headers, which are 512 lines of the shortest user metadata.
const maxSignedHeaders = 512

// setHeaders accepts names in lower case, sorted, none twice, with host among them.
func (c *claim) setHeaders(list string) bool {
	if strings.Count(list, ";") >= maxSignedHeaders {
		return false
	}
	c.signedHeaders = strings.Split(list, ";")
	for i, name := range c.signedHeaders {
		if name == "" || name != strings.ToLower(name) || i > 0 && name <= c.signedHeaders[i-1] {
			return false
		}
	}
	return c.signs("host")
}

// setDate accepts the form of amzDateFormat. time.Parse alone would accept "…00.5Z".
func (c *claim) setDate(value string) bool {
	t, err := time.Parse(amzDateFormat, value)
	c.amzDate, c.at = value, t
	return err == nil && len(value) == len(amzDateFormat)
}

func isSignature(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(s) == 64
}

// checkTime refuses a request that is too old or too new: it may be a replay.
func (c *claim) checkTime(now time.Time) *apiError {
	age := now.Sub(c.at)
	switch {
	case c.date != c.amzDate[:8]:
		return newError(reasonBadSignature, "SignatureDoesNotMatch", "the date of the credential scope is not that of the request")
	case c.presigned && age > c.expires:
		return newError(reasonExpired, "AccessDenied", "the presigned request has expired")
	case c.presigned && age < -maxSkew:
		return newError(reasonExpired, "AccessDenied", "the presigned request is not valid yet")
	case !c.presigned && (age > maxSkew || age < -maxSkew):
		return newError(reasonClockSkew, "RequestTimeTooSkewed", "")
	}
	return nil
}

// signs reports whether a header, by its name in lower case, is among the signed
// ones, which are sorted.
func (c *claim) signs(name string) bool {
	_, found := slices.BinarySearch(c.signedHeaders, name)
	return found
}

// checkHeaders refuses a request with an x-amz-* header that is not signed: somebody on
// the way could have added it, and x-amz-copy-source above all. CloudFront adds
// X-Amz-Cf-*, which is dropped. The value of x-amz-content-sha256 is the last line of
// the canonical request, so it is signed even if the list of headers lacks it. Some older
// clients leave it out of the list, and S3 accepts that.
func (c *claim) checkHeaders(h http.Header) *apiError {
	for name, values := range h {
		switch {
		case !strings.HasPrefix(name, "X-Amz-"), strings.HasPrefix(name, "X-Amz-Cf-"), c.signs(strings.ToLower(name)):
		case name == "X-Amz-Content-Sha256" && len(values) == 1:
		default:
			return newError(reasonUnsignedHeader, "AccessDenied", "there are x-amz-* headers in the request that were not signed")
		}
	}
	return nil
}

// canonicalRequest returns the canonical request as the client built it to sign. Clients
// differ: some fold any white space of a header, others spaces only. It reports whether
// that makes a difference. The path is in escaped form, as received.
func (c *claim) canonicalRequest(r *http.Request, path string, query []parameter, fold bool) (canonical []byte, differs bool, refusal *apiError) {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return nil, false, newError(reasonPath, "InvalidRequest", "the path is not properly percent-encoded")
	}
	payloadHash := unsignedPayload
	if values := r.Header["X-Amz-Content-Sha256"]; len(values) == 1 {
		payloadHash = values[0]
	}
	if c.presigned {
		query = slices.DeleteFunc(slices.Clone(query), func(p parameter) bool { return p.name == "X-Amz-Signature" })
		if value := parameterValue(query, "X-Amz-Content-Sha256"); value != "" {
			payloadHash = value
		}
	}
	fields := make([]headerField, 0, len(c.signedHeaders))
	for _, name := range c.signedHeaders {
		values, ok := receivedHeader(r, name)
		if !ok {
			return nil, false, newError(reasonBadSignature, "SignatureDoesNotMatch", "a header that was signed is not in the request")
		}
		differs = differs || slices.ContainsFunc(values, hasOddSpace)
		fields = append(fields, headerField{name, joinTrimmed(values, fold)})
	}
	return appendCanonicalRequest(nil, r.Method, uriEncode(decoded, false), canonicalQuery(query), fields, payloadHash), differs, nil
}

// joinTrimmed joins the values of a header. Clients trim each by itself, so "a\u00a0" and "b" are
// "a,b" to one that folds any white space.
func joinTrimmed(values []string, fold bool) string {
	joined := ""
	for i, value := range values {
		if i > 0 {
			joined += ","
		}
		if fold {
			joined += foldSpace(value)
		} else {
			joined += strings.Trim(value, " \t")
		}
	}
	return joined
}

// receivedHeader finds the values of a header by its lower-case name, including those that
// net/http removes from the header map.
func receivedHeader(r *http.Request, name string) ([]string, bool) {
	switch name {
	case "host":
		return []string{r.Host}, r.Host != ""
	case "transfer-encoding":
		return r.TransferEncoding, len(r.TransferEncoding) > 0
	}
	values, ok := r.Header[http.CanonicalHeaderKey(name)]
	return values, ok
}

// verify checks the claim against the user's keys, and returns the id of the one that made
// it. An unknown user costs as much as a wrong key.
func (c *claim) verify(u *user, r *http.Request, path string, query []parameter, now time.Time) (keyID string, refusal *apiError) {
	if err := c.checkTime(now); err != nil {
		return "", err
	}
	if err := c.checkHeaders(r.Header); err != nil {
		return "", err
	}
	for _, fold := range [...]bool{false, true} {
		canonical, differs, err := c.canonicalRequest(r, path, query, fold)
		if err != nil {
			return "", err
		}
		if key := c.match(u, canonical); key != nil {
			return key.id, nil
		}
		if !differs {
			break
		}
	}
	switch {
	case u == nil:
		return "", newError(reasonUnknownUser, "InvalidAccessKeyId", "")
	case u.lastSecret() == nil:
		return "", newError(reasonKeyIsDigest, "AccessDenied", "this user's key is kept as a digest, with which no signature can be verified; send the key as x-api-key")
	}
	return "", newError(reasonBadSignature, "SignatureDoesNotMatch", "")
}

// nobodysKey takes the place of the keys of a user who is not known, or has none to sign with.
var nobodysKey = []apiKey{{secret: "nobody has this key"}}

// match returns the key of the user that makes the signature, or nil, and keeps its signing
// key.
func (c *claim) match(u *user, canonical []byte) *apiKey {
	keys := nobodysKey
	known := u.lastSecret() != nil
	if known {
		keys = u.keys
	}
	text := stringToSign(c.amzDate, c.scope(), canonical)
	for i := range keys {
		if keys[i].secret == "" {
			continue
		}
		key := signingKey(keys[i].secret, c.date, c.region, "s3")
		// In constant time: the time must not tell how much of a guess is right.
		if subtle.ConstantTimeCompare(signature(key, text), []byte(c.signature)) == 1 && known {
			c.key = key
			return &keys[i]
		}
	}
	return nil
}

func (c *claim) scope() string { return credentialScope(c.date, c.region, "s3") }

// chunks returns the verifier of the chunks that follow a signed head.
func (c *claim) chunks() *chunkSigner {
	return &chunkSigner{key: c.key, amzDate: c.amzDate, scope: c.scope(), previous: c.signature}
}
