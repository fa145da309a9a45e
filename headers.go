package main

// Which headers pass. To a backend: those that S3 documents, user metadata, and a few for
// tracing. An unknown x-amz-* header is refused: dropping it could change what the
// request means, and forwarding it would be a guess. To a client: those that are known to
// describe the object, not the backend.

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
)

// A headerRule says how a header passes to a backend.
type headerRule struct {
	reason string    // why it passes, in the words of docs/headers-and-parameters.md
	value  valueRule // what it may hold; nil: free text, as net/http has checked it
	list   bool      // several lines are one list: RFC 9110 section 5.3
	admin  bool      // it grants rights or removes protection
}

// Reasons for which headers of a request pass.
const (
	describesObject  = "describes the object"
	setsCondition    = "sets a condition"
	selectsPart      = "selects a part of the answer"
	protectsBody     = "protects the body"
	encrypts         = "encrypts the object"
	placesObject     = "says how the object is kept"
	copies           = "copies"
	identifiesOwner  = "names the owner or payer that is expected"
	handsOutRights   = "hands out rights, or takes protection away"
	configuresBucket = "configures a bucket"
	negotiates       = "negotiates the answer"
	traces           = "traces a request"
)

// passing are the headers of a request that reach a backend: those that S3
// documents for the operations of the table, and a few for tracing. The value of an
// x-amz-* header without a rule obeys the rule for opaque tokens. See also ruleFor.
// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonRequestHeaders.html
var passing = headerTable([]struct {
	rule  headerRule
	names string
}{
	{headerRule{reason: describesObject}, "Content-Type Content-Disposition Expires"},
	{headerRule{reason: describesObject, list: true}, "Content-Encoding Content-Language Cache-Control"},
	{headerRule{reason: describesObject, value: freeText}, "X-Amz-Tagging"}, // a query, of any text

	{headerRule{reason: setsCondition, list: true}, "If-Match If-None-Match"},
	{headerRule{reason: setsCondition}, "If-Modified-Since If-Unmodified-Since If-Range " +
		"X-Amz-If-Match-Last-Modified-Time X-Amz-If-Match-Initiated-Time"},
	{headerRule{reason: setsCondition, value: anySize}, "X-Amz-If-Match-Size"},

	{headerRule{reason: selectsPart}, "Range X-Amz-Checksum-Mode"},
	{headerRule{reason: selectsPart, list: true}, "X-Amz-Object-Attributes X-Amz-Optional-Object-Attributes"},
	{headerRule{reason: selectsPart, value: listNumber}, "X-Amz-Max-Parts X-Amz-Part-Number-Marker"},

	{headerRule{reason: protectsBody}, "Content-Md5 X-Amz-Sdk-Checksum-Algorithm X-Amz-Trailer"},
	{headerRule{reason: protectsBody, value: anySize}, "X-Amz-Decoded-Content-Length X-Amz-Mp-Object-Size"},

	{headerRule{reason: encrypts}, "X-Amz-Server-Side-Encryption X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id " +
		"X-Amz-Server-Side-Encryption-Bucket-Key-Enabled X-Amz-Server-Side-Encryption-Context " +
		"X-Amz-Server-Side-Encryption-Customer-Algorithm X-Amz-Server-Side-Encryption-Customer-Key " +
		"X-Amz-Server-Side-Encryption-Customer-Key-Md5"},

	{headerRule{reason: placesObject}, "X-Amz-Storage-Class"},

	{headerRule{reason: copies, value: freeText}, copySource}, // parseCopySource reads it
	{headerRule{reason: copies}, "X-Amz-Copy-Source-Range X-Amz-Copy-Source-If-Match X-Amz-Copy-Source-If-None-Match " +
		"X-Amz-Copy-Source-If-Modified-Since X-Amz-Copy-Source-If-Unmodified-Since " +
		"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key " +
		"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key-Md5 X-Amz-Metadata-Directive X-Amz-Tagging-Directive"},

	{headerRule{reason: identifiesOwner}, "X-Amz-Expected-Bucket-Owner X-Amz-Source-Expected-Bucket-Owner X-Amz-Request-Payer"},

	{headerRule{reason: handsOutRights, admin: true}, "X-Amz-Acl X-Amz-Grant-Full-Control X-Amz-Grant-Read X-Amz-Grant-Read-Acp " +
		"X-Amz-Grant-Write X-Amz-Grant-Write-Acp X-Amz-Bypass-Governance-Retention X-Amz-Mfa X-Amz-Object-Lock-Legal-Hold " +
		"X-Amz-Object-Lock-Mode X-Amz-Object-Lock-Retain-Until-Date"},
	{headerRule{reason: handsOutRights, admin: true, value: freeText}, "X-Amz-Website-Redirect-Location"}, // a path or a URL

	{headerRule{reason: configuresBucket}, "X-Amz-Bucket-Object-Lock-Token X-Amz-Confirm-Remove-Self-Bucket-Access " +
		"X-Amz-Skip-Destination-Validation X-Amz-Transition-Default-Minimum-Object-Size"},

	{headerRule{reason: negotiates, list: true}, "Accept Accept-Encoding Accept-Language User-Agent"},

	// https://www.w3.org/TR/trace-context/
	// https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-request-tracing.html
	{headerRule{reason: traces, list: true}, "Traceparent Tracestate X-Amzn-Trace-Id"},
})

// Families of headers that pass.
var (
	metadata  = headerRule{reason: describesObject, list: true}
	checksums = headerRule{reason: protectsBody, value: headerToken} // of any algorithm
)

var (
	headerToken = opaque(maxHeaderToken)
	anySize     = decimal(0, math.MaxInt64)
)

// freeText is the rule for what net/http has checked: RFC 9110 section 5.5.
func freeText(string) error { return nil }

func headerTable(groups []struct {
	rule  headerRule
	names string
}) map[string]headerRule {
	table := map[string]headerRule{}
	for _, g := range groups {
		for name := range strings.FieldsSeq(g.names) {
			rule := g.rule
			if rule.value == nil && strings.HasPrefix(name, "X-Amz-") {
				rule.value = headerToken
			}
			table[name] = rule
		}
	}
	return table
}

// ending are headers of a request that are for the gateway alone.
var ending = setOf(
	// The client's credentials.
	"X-Api-Key", "Authorization", "Cookie", "Proxy-Authorization", "X-Amz-Security-Token", "X-Amz-S3session-Token",
	// Made anew for the gateway's own request and signature.
	"Host", "Content-Length", "X-Amz-Date", "X-Amz-Content-Sha256",
	// The framing of this connection, and net/http has answered Expect.
	"Connection", "Transfer-Encoding", "Expect",
	// What a browser's SDK says in place of User-Agent.
	"X-Amz-User-Agent",
	// The version of S3's API, of which there is one. The AWS SDK for C++ sends it.
	"X-Amz-Api-Version",
	// A wish that a server may ignore: to append the MD5 of an object to its body. A client
	// that resumes a download could not tell the two apart.
	"X-Amz-Te",
)

// hopByHop are the options of a Connection header that have a meaning of their
// own: RFC 9110 section 7.6.1, and what older software sends.
var hopByHop = setOf("close", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings")

// refusedHeaders are headers that change what a request is, in another protocol or in one
// store: where an object comes from, when it is deleted, whether it may be overwritten.
// Without them the request would be another, and with them it is not the one that was
// authorized. An entry that ends in "-" is a prefix. Other unknown headers are dropped.
var refusedHeaders = []string{
	"Content-Range", // of an upload, it would be a write in the middle: RFC 9110 section 14.5
	"X-Amz-Replication-", "X-Minio-", "X-Rgw-", "X-Rustfs-",
	"X-Container-", "X-Object-Manifest", "X-Delete-At", "X-Delete-After", // Swift
	"X-Copy-From", "X-Copy-From-", "X-Symlink-Target", "X-Symlink-Target-",
	"X-Goog-Copy-Source", "X-Goog-Copy-Source-", "X-Goog-If-", "X-Goog-Content-Length-Range",
	"X-Oss-Copy-Source", "X-Oss-Copy-Source-", "X-Oss-Forbid-Overwrite",
	"X-Obs-Copy-Source", "X-Obs-Copy-Source-", "X-Cos-Copy-Source", "X-Cos-Copy-Source-", "X-Cos-Forbid-Overwrite",
}

// isTrigger reports whether some store reads the name of user metadata as a command.
// MinIO and RustFS unpack the upload into other keys, RustFS for a name with any
// word before "snowball" (CVE-2026-40344); Zenko stores it in another place.
// Servers that keep headers as CGI variables do not tell "_" from "-".
// https://github.com/minio/minio/blob/master/internal/http/headers.go
// https://github.com/scality/cloudserver/blob/development/7.70/constants.js
func isTrigger(name string) bool {
	rest, ok := strings.CutPrefix(name, metadataPrefix)
	if !ok {
		return false
	}
	rest = strings.ReplaceAll(strings.ToLower(rest), "_", "-")
	return strings.Contains(rest, "snowball-") || strings.HasPrefix(rest, "scal-")
}

const metadataPrefix = "X-Amz-Meta-"

// returned are the headers of a backend's answer that reach a client. An unknown header
// may identify the backend (as X-Served-By, X-Backend and the headers of each store do),
// and dropping it changes no object. An entry that ends in "-" is a prefix.
var returned = []string{
	// The representation, and how to keep it: RFC 9110, RFC 9111, RFC 9530.
	"Accept-Ranges", "Age", "Cache-Control", "Digest", "Etag", "Expires", "Last-Modified", "Repr-Digest", "Vary",
	"Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Md5", "Content-Range", "Content-Type",
	// What the client can do about it.
	"Allow", "Retry-After",
	// S3's own. Not among them are those that hold ids, ARNs and places: x-amz-id-2,
	// x-amz-request-id, x-amz-server-side-encryption-aws-kms-key-id,
	// x-amz-server-side-encryption-context, x-amz-restore-output-path, x-amz-bucket-arn.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonResponseHeaders.html
	"X-Amz-Meta-", "X-Amz-Checksum-", "X-Amz-Object-Lock-",
	"X-Amz-Abort-Date", "X-Amz-Abort-Rule-Id", "X-Amz-Archive-Status", "X-Amz-Bucket-Object-Lock-Enabled", "X-Amz-Bucket-Region",
	"X-Amz-Copy-Source-Version-Id", "X-Amz-Delete-Marker", "X-Amz-Expiration", "X-Amz-Missing-Meta", "X-Amz-Mp-Parts-Count",
	"X-Amz-Object-Size", "X-Amz-Replication-Status", "X-Amz-Request-Charged", "X-Amz-Restore",
	"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Bucket-Key-Enabled",
	"X-Amz-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Server-Side-Encryption-Customer-Key-Md5",
	"X-Amz-Storage-Class", "X-Amz-Tagging-Count", "X-Amz-Transition-Default-Minimum-Object-Size", "X-Amz-Type",
	"X-Amz-Version-Id", "X-Amz-Website-Redirect-Location",
}

// returnedAs are the names of the entries of returned as they are sent.
var returnedAs = func() map[string]string {
	m := make(map[string]string, len(returned))
	for _, name := range returned {
		m[name] = answerName(name)
	}
	return m
}()

// answerName is how S3 writes the name of a header in an answer. Names are
// case-insensitive, but AWS SDK for Java 1.10 and Hadoop 2.7 look for exactly "ETag", and
// SDKs return what follows "x-amz-meta-" as they find it.
func answerName(name string) string {
	switch {
	case strings.HasPrefix(name, "X-Amz-"):
		return strings.ToLower(name)
	case name == "Etag":
		return "ETag"
	case name == "Content-Md5":
		return "Content-MD5"
	}
	return name
}

// matches reports whether a canonical header name is in a list with prefixes.
func matches(list []string, name string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		return name == entry || strings.HasSuffix(entry, "-") && strings.HasPrefix(name, entry)
	})
}

// ruleFor returns the rule for a header, by its canonical name, if it passes.
func ruleFor(name string) (headerRule, bool) {
	rule, ok := passing[name]
	if ok || !strings.HasPrefix(name, "X-Amz-") {
		return rule, ok
	}
	switch {
	case len(name) > len(metadataPrefix) && strings.HasPrefix(name, metadataPrefix):
		return metadata, !isTrigger(name)
	case len(name) > len(checksumPrefix) && strings.HasPrefix(name, checksumPrefix):
		return checksums, true
	}
	return rule, false
}

// isDropped reports whether a header that does not pass may be dropped. CloudFront adds
// X-Amz-Cf-* to what it fetches.
func isDropped(name string) bool {
	return ending[name] || strings.HasPrefix(name, "X-Amz-Cf-")
}

// forwardHeader returns the headers of a request that its backend gets, each
// once, or an error if one of them is not allowed to this role.
func forwardHeader(in http.Header, r role) (http.Header, *apiError) {
	out := make(http.Header, len(in)+4)
	for name, values := range in {
		rule, passes := ruleFor(name)
		if !passes {
			if err := checkUnknown(name); err != nil {
				return nil, err
			}
			continue
		}
		if err := rule.check(name, values, r); err != nil {
			return nil, err
		}
		if len(values) > 1 {
			values = []string{strings.Join(values, ",")}
		}
		out[wireName(name)] = values
	}
	return out, nil
}

// wireName is the name that a header is sent to a backend by. net/http writes names as
// "X-Amz-Meta-Name", and S3 in lower case. Some servers store what follows "x-amz-meta-"
// as they find it, and then a program that looks for "name" does not find "Name".
func wireName(name string) string {
	if strings.HasPrefix(name, metadataPrefix) {
		return strings.ToLower(name)
	}
	return name
}

// check applies a rule to the values of a header.
func (rule headerRule) check(name string, values []string, r role) *apiError {
	switch {
	case rule.admin && r != roleAdmin && !harmlessACL(name, values):
		return newError(reasonRole, "AccessDenied", fmt.Sprintf("the header %s needs the role admin", strings.ToLower(name)))
	case len(values) > 1 && !rule.list:
		// Of two values, the one that was checked may not be the one that a
		// backend applies.
		return newError(reasonHeader, "InvalidRequest", fmt.Sprintf("the header %s is given more than once", strings.ToLower(name)))
	case rule.value == nil:
		return nil
	}
	for _, value := range values {
		if err := rule.value(value); err != nil {
			return newError(reasonHeader, "InvalidArgument", fmt.Sprintf("the header %s %v", strings.ToLower(name), err))
		}
	}
	return nil
}

// checkUnknown returns an error for a header that does not pass and that can't be
// dropped either.
func checkUnknown(name string) *apiError {
	switch {
	case isDropped(name):
		return nil
	case matches(refusedHeaders, name), isTrigger(name), looksReserved(name):
		return newNameError(reasonHeader, "InvalidRequest", "the header %s is not allowed", strings.ToLower(name))
	case strings.HasPrefix(name, "X-Amz-"):
		return newNameError(reasonHeader, "NotImplemented", "the header %s is not supported", strings.ToLower(name))
	}
	return nil
}

// looksReserved reports whether a name differs from that of a known header in underscores
// only. Servers that keep headers as CGI variables read x_amz_copy_source as
// x-amz-copy-source, which would pass unchecked.
func looksReserved(name string) bool {
	if !strings.Contains(name, "_") {
		return false
	}
	name = http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
	return strings.HasPrefix(name, "X-Amz-") || ending[name] || matches(refusedHeaders, name)
}

// harmlessACL reports whether a header is a canned ACL that grants no new access; s3cmd, s3fs and others send these without being asked.
func harmlessACL(name string, values []string) bool {
	return name == "X-Amz-Acl" && len(values) == 1 &&
		(values[0] == "private" || values[0] == "bucket-owner-full-control")
}

// checkConnection refuses a Connection header that names other than hop-by-hop headers.
// The header is never signed, so a proxy that adds it could remove a condition or a digest
// from a signed request. The argument signed holds the names that the signature covers;
// unknown names are ignored, because such headers are dropped anyway.
func checkConnection(h http.Header, signed []string) *apiError {
	for _, value := range h["Connection"] {
		for option := range strings.SplitSeq(value, ",") {
			option = strings.ToLower(strings.TrimSpace(option))
			if hopByHop[option] {
				continue
			}
			name := http.CanonicalHeaderKey(option)
			_, passes := ruleFor(name)
			if passes || isDropped(name) || checkUnknown(name) != nil || slices.Contains(signed, option) {
				return newNameError(reasonHeader, "InvalidRequest", "the Connection header names %s, which is not a hop-by-hop header", option)
			}
		}
	}
	return nil
}

// namedBy returns the headers that a Connection header names as hop-by-hop.
func namedBy(connection []string) map[string]bool {
	if len(connection) == 0 {
		return nil
	}
	names := map[string]bool{}
	for _, value := range connection {
		for name := range strings.SplitSeq(value, ",") {
			names[http.CanonicalHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return names
}

// returnHeader copies the headers of a backend that a client gets. It replaces none of
// the gateway's own.
func returnHeader(out, in http.Header) {
	returnHeaders(out, in, func(name string) bool { return true })
}

// returnHeaderWithoutBody is returnHeader for an answer whose body is not the backend's. Of the
// headers that describe the body it copies only Content-Range, which tells the size of the
// object in a 416.
func returnHeaderWithoutBody(out, in http.Header) {
	returnHeaders(out, in, func(name string) bool { return !strings.HasPrefix(name, "Content-") || name == "Content-Range" })
}

func returnHeaders(out, in http.Header, but func(name string) bool) {
	hop := namedBy(in["Connection"])
	for name, values := range in {
		wire, known := returnedAs[name]
		if !known {
			wire = answerName(name)
		}
		switch {
		case !known && !matches(returned, name), hop[name], !but(name):
		case name == "Content-Encoding":
			encodings, _ := withoutChunked(in) // which some servers store, and which it is not
			setEncodings(out, encodings)
		case name == "Vary": // ours stays: see cors
			out[name] = slices.Concat(out[name], values)
		default:
			out[wire] = values
		}
	}
}

// hardening are the headers of every response, besides Strict-Transport-Security. The
// sandbox keeps a stored page from acting in the gateway's origin. The slices are
// shared by all responses, which only ever replace them.
var hardening = map[string][]string{
	"X-Content-Type-Options":  {"nosniff"},
	"X-Frame-Options":         {"DENY"},
	"Content-Security-Policy": {"sandbox; default-src 'none'"},
}

// harden adds hardening and, if it is not empty, the value of Strict-Transport-Security.
func harden(h http.Header, hsts []string) {
	maps.Copy(h, hardening)
	if len(hsts) > 0 {
		h["Strict-Transport-Security"] = hsts
	}
}

// sourceHash names an inline script or style: https://www.w3.org/TR/CSP3/#grammardef-hash-source
func sourceHash(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

const copySource = "X-Amz-Copy-Source"

// authentication are the parameters of a presigned URL, which are the client's
// credentials, and x-id, with which SDKs name the operation for logs. They are in lower
// case: another spelling would be a header that a presigner has moved.
var authentication = setOf("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires",
	"x-amz-signedheaders", "x-amz-signature", "x-amz-security-token", "x-id")

// A destination says where a parameter goes.
type destination int

const (
	toOperation destination = iota // for the operation table to accept or refuse
	toHeader                       // it is a header that a presigner has moved into the query
	toNobody
)

// destinationOf returns where a parameter goes.
//
// Presigners move x-amz-* headers into the query, and S3 reads them there. It does not
// read checksums and Content-* there: they are part of the signature only.
// The SDK for JavaScript presigns a PUT with the checksum of an empty body
// (https://github.com/aws/aws-sdk-js-v3/issues/6994).
//
// S3 ignores a parameter whose name begins with "x-"; it is for access logs.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html#LogFormatCustom
func destinationOf(p parameter, presigned bool, h http.Header) destination {
	lower := strings.ToLower(p.name)
	switch {
	case authentication[lower], presigned && isPresignedChecksum(lower):
		return toNobody
	case strings.HasPrefix(lower, "x-amz-"):
		return toHeader
	case !presigned && !strings.HasPrefix(p.name, "x-"):
		return toOperation
	}
	name := http.CanonicalHeaderKey(p.name)
	rule, passes := passing[name]
	_, sent := h[name]
	switch {
	case presigned && passes && (sent || rule.reason == describesObject || rule.reason == protectsBody):
		return toNobody
	case strings.HasPrefix(p.name, "x-") && !ending[name] && checkUnknown(name) == nil:
		return toNobody
	}
	return toOperation
}

// isPresignedChecksum reports whether a header, by its name in lower case, holds the checksum
// of a body, or names its algorithm.
func isPresignedChecksum(name string) bool {
	switch name {
	case "x-amz-sdk-checksum-algorithm":
		return true
	case "x-amz-checksum-algorithm", "x-amz-checksum-mode", "x-amz-checksum-type":
		return false
	}
	return strings.HasPrefix(name, "x-amz-checksum-")
}
