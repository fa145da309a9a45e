package main

// Why a request was refused or failed, in a word: for the log, the metrics and the status page,
// where a code of S3 is too coarse. AccessDenied has eight reasons, and each has its own remedy.
// A program may rely on these words: none changes its meaning, and new ones may come.

import "strings"

// A refusalReason is one of the words of reasons. The zero value is that of an error that a
// backend gave to the client's own request, such as NoSuchKey.
type refusalReason string

// Who is asking.
const (
	reasonNoKey              refusalReason = "no_key"
	reasonUnknownKey         refusalReason = "unknown_key"
	reasonUnknownUser        refusalReason = "unknown_user"
	reasonBadSignature       refusalReason = "bad_signature"
	reasonMalformedSignature refusalReason = "malformed_signature"
	reasonUnsignedHeader     refusalReason = "unsigned_header"
	reasonKeyIsDigest        refusalReason = "key_is_digest"
	reasonExpired            refusalReason = "expired"
	reasonClockSkew          refusalReason = "clock_skew"
)

// What may not be done, or not now.
const (
	reasonBucketNotAllowed refusalReason = "bucket_not_allowed"
	reasonUnknownBucket    refusalReason = "unknown_bucket"
	reasonRole             refusalReason = "role"
	reasonDeclared         refusalReason = "declared"
	reasonRateLimit        refusalReason = "rate_limit"
	reasonInFlight         refusalReason = "in_flight"
	reasonAccountInFlight  refusalReason = "account_in_flight"
	reasonLimiterBusy      refusalReason = "limiter_busy"
	reasonMemory           refusalReason = "memory"
)

// What is wrong with the request.
const (
	reasonAmbiguous    refusalReason = "ambiguous"
	reasonHost         refusalReason = "host"
	reasonPath         refusalReason = "path"
	reasonMethod       refusalReason = "method"
	reasonOperation    refusalReason = "operation"
	reasonCORS         refusalReason = "cors"
	reasonParameter    refusalReason = "parameter"
	reasonHeader       refusalReason = "header"
	reasonLength       refusalReason = "length"
	reasonTooLarge     refusalReason = "too_large"
	reasonBodyCut      refusalReason = "body_cut"
	reasonBodyTimeout  refusalReason = "body_timeout"
	reasonBodyFraming  refusalReason = "body_framing"
	reasonDigest       refusalReason = "digest"
	reasonDocument     refusalReason = "document"
	reasonCopySource   refusalReason = "copy_source"
	reasonPrecondition refusalReason = "precondition"
	reasonHTTPVersion  refusalReason = "http_version"
)

// What is wrong at the backend, or between it and the gateway. The client can't help it.
const (
	reasonBackendDNS         refusalReason = "backend_dns"
	reasonBackendConnect     refusalReason = "backend_connect"
	reasonBackendTLS         refusalReason = "backend_tls"
	reasonBackendTimeout     refusalReason = "backend_timeout"
	reasonBackendBroken      refusalReason = "backend_broken"
	reasonBackendProtocol    refusalReason = "backend_protocol"
	reasonBackendCredentials refusalReason = "backend_credentials"
	reasonBackendToken       refusalReason = "backend_token"
	reasonBackendRegion      refusalReason = "backend_region"
	reasonBackendClock       refusalReason = "backend_clock"
	reasonBackendDenied      refusalReason = "backend_denied"
	reasonBackendBucket      refusalReason = "backend_bucket"
	reasonBackendBusy        refusalReason = "backend_busy"
	reasonBackendError       refusalReason = "backend_error"
	reasonBackendDown        refusalReason = "backend_down"

	reasonInternal refusalReason = "internal"
)

// A reasonText says what a reason means, and what to do about it. In a remedy, USER, BUCKET and
// ACCOUNT stand for names.
type reasonText struct {
	reason          refusalReason
	meaning, remedy string
}

// reasons are all reasons, in the order of the documentation.
var reasons = []reasonText{
	{reasonNoKey, "the request has no API key and no signature", "send the key in the header x-api-key, or sign: the user's name is the access key id, and the key is the secret"},
	{reasonUnknownKey, "the value of x-api-key is the key of no user", "compare it with the configuration in use; after a change, reload"},
	{reasonUnknownUser, "the access key id of the signature is the name of no user", "use the name of a user of the gateway as the access key id"},
	{reasonBadSignature, "the signature does not match the request, a chunk or a trailer", "use the user's API key as the secret, and let no proxy before the gateway change the Host header, the path or signed headers"},
	{reasonMalformedSignature, "what signs the request lacks a part, has one twice, or is of another kind", "sign with Signature Version 4, once, in the header or in the query"},
	{reasonUnsignedHeader, "the request has an x-amz-* header that is not signed", "sign every x-amz-* header, and let no proxy add one"},
	{reasonKeyIsDigest, "the configuration has the SHA-256 of the user's key alone, with which no signature can be verified or made", "send the key as x-api-key, or give users.USER an api_key"},
	{reasonExpired, "the presigned URL has expired, or is not valid yet", "make a new one; if it is new, compare the clocks"},
	{reasonClockSkew, "the clocks of client and gateway differ by more than 15 minutes", "set the clock that is wrong"},

	{reasonBucketNotAllowed, "the user may not use the bucket, or it does not exist", "add it to users.USER.allowed_buckets, if the user should have it"},
	{reasonUnknownBucket, "the bucket is in no account", "add BUCKET to accounts.NAME.buckets, under the account that has it"},
	{reasonRole, "the operation or a header needs a higher role, or \"*\" in allowed_buckets", "change users.USER.role or allowed_buckets, if the user should do that"},
	{reasonDeclared, "buckets are declared in the configuration, and not made or deleted by clients", "let the client not do it; a new bucket goes into accounts.NAME.buckets"},
	{reasonRateLimit, "the user has sent more requests than the window admits", "wait for Retry-After seconds, or raise users.USER.rate_limit"},
	{reasonInFlight, "the user has too many requests in flight", "send fewer at once, or raise max_in_flight of users.USER"},
	{reasonAccountInFlight, "the account has too many requests in flight", "wait, or raise max_in_flight of the account of BUCKET"},
	{reasonLimiterBusy, "the shared limiter store has no time to decide on the request", "look at the Redis server of rate_limit.redis_url, and at the network before it"},
	{reasonMemory, "too many documents are in memory", "send fewer large lists, completions and deletions at once"},

	{reasonAmbiguous, "two servers could read the request in two ways, as in request smuggling", "correct the client, or the proxy before the gateway; the message says what is in doubt"},
	{reasonHost, "the Host header names no bucket below server.domain", "correct the host, or use path-style addresses"},
	{reasonPath, "the path is not valid, or another server could read it as another object", `the message says why; keys with slashes need "nested_keys": true`},
	{reasonMethod, "there is no such method for this path", "see the header Allow of the answer"},
	{reasonOperation, "the gateway does not implement the operation", "do without it, or ask the backend directly"},
	{reasonCORS, "a preflight that server.cors does not allow", "add the origin, the method and the headers to server.cors"},
	{reasonParameter, "a parameter of the query is not valid, or not known for the operation", "the message names it; do without it, or correct it"},
	{reasonHeader, "a header is not valid, not allowed, or not known", "the message names it; do without it, or correct it"},
	{reasonLength, "the upload has no length", "send Content-Length, and x-amz-decoded-content-length with aws-chunked"},
	{reasonTooLarge, "the body is larger than is allowed", "raise max_file_size, or upload in parts"},
	{reasonBodyCut, "the body ended before its length; nothing was stored", "look for a connection that broke, on the side of the client"},
	{reasonBodyTimeout, "the client sent nothing of the body for server.idle_timeout; nothing was stored", "look for a connection that stalls, on the side of the client"},
	{reasonBodyFraming, "the chunks of an aws-chunked body are not well-formed; nothing was stored", "the message says what is wrong; look for what changes the body on the way"},
	{reasonDigest, "the body is not what a digest or checksum says, or the digest is not one; nothing was stored", "look for what changes the body on the way"},
	{reasonDocument, "the document in the body is not valid, or not known", "the message says what is wrong"},
	{reasonCopySource, "the source of a copy is not valid, or can't be copied", "the message says why"},
	{reasonPrecondition, "a condition for the source of a copy does not hold", "this is what the client asked to be told"},
	{reasonHTTPVersion, "the client speaks HTTP/1.0, in which the end of this answer can't be told from a cut", "use HTTP/1.1; nginx: proxy_http_version 1.1"},

	{reasonBackendDNS, "the name of the backend's host can't be resolved", "correct endpoint_url of accounts.ACCOUNT, or the DNS of this machine"},
	{reasonBackendConnect, "the backend accepts no connection", "is it running? correct host and port in endpoint_url of accounts.ACCOUNT, or the network"},
	{reasonBackendTLS, "the TLS handshake with the backend fails", "the cause says why: http:// for https:// in endpoint_url, a certificate for another host, an expired one, or an authority that ca_file of accounts.ACCOUNT must name"},
	{reasonBackendTimeout, "the backend did not answer in time", "look at the backend; connect_timeout, response_header_timeout and server.idle_timeout are the limits"},
	{reasonBackendBroken, "the backend broke the connection off", "look at the backend's log, and at what is between it and the gateway; some TLS servers do so if endpoint_url of accounts.ACCOUNT has http://"},
	{reasonBackendProtocol, "the backend's answer is not one of an S3 server", "the cause says what is wrong; endpoint_url of accounts.ACCOUNT must be that of an S3 service, with https:// if it speaks TLS"},
	{reasonBackendCredentials, "the backend refuses the credentials of the account, not those of the client", "correct access_key_id and secret_access_key, or credentials, of accounts.ACCOUNT"},
	{reasonBackendToken, "the session token of the account has expired, or belongs to another key", "give accounts.ACCOUNT a new session_token, or a source in credentials that refreshes it"},
	{reasonBackendRegion, "the bucket is in another region, or at another address of the service", "set region and endpoint_url of accounts.ACCOUNT; the log has expected_region if the backend names one"},
	{reasonBackendClock, "the clocks of the backend and of the gateway differ by more than 15 minutes", "set the clock that is wrong"},
	{reasonBackendDenied, "the backend refuses it to the account, whoever the user is", "allow it to the key of accounts.ACCOUNT, in the policies of the service"},
	{reasonBackendBucket, "the backend has no such bucket under the name that the configuration gives", "correct BUCKET in accounts.ACCOUNT.buckets, or make the bucket"},
	{reasonBackendBusy, "the backend asks for fewer requests", "wait; max_in_flight of accounts.ACCOUNT bounds what the gateway sends at once"},
	{reasonBackendError, "the backend failed", "look at the backend's own log, for the request that the gateway's log names in upstream_request_id"},
	{reasonBackendDown, "the account is refused for a while, because its backend failed many requests in a row", "earlier lines of the log say why; the gateway tries again by itself"},

	{reasonInternal, "a fault of the gateway", "report it, with the line that says panic and has the same request_id"},
}

// text returns the text of a reason, or nil for a word that is none.
func (r refusalReason) text() *reasonText {
	for i := range reasons {
		if reasons[i].reason == r {
			return &reasons[i]
		}
	}
	return nil
}

// isBackends reports whether the reason is in what a backend did.
func (r refusalReason) isBackends() bool { return strings.HasPrefix(string(r), "backend_") }

// isTrouble reports whether an account can't serve its clients for this reason. That one is busy,
// denies a request or lacks a bucket is no such reason: it answers.
func (r refusalReason) isTrouble() bool {
	switch r {
	case reasonBackendDNS, reasonBackendConnect, reasonBackendTLS, reasonBackendTimeout, reasonBackendBroken, reasonBackendProtocol,
		reasonBackendCredentials, reasonBackendToken, reasonBackendRegion, reasonBackendClock, reasonBackendError, reasonBackendDown:
		return true
	}
	return false
}

// blamesGateway reports whether a backend finds fault with the gateway's request, or is none of S3: the
// client's own would not change that.
func (r refusalReason) blamesGateway() bool {
	switch r {
	case reasonBackendCredentials, reasonBackendToken, reasonBackendRegion, reasonBackendClock, reasonBackendProtocol:
		return true
	}
	return false
}
