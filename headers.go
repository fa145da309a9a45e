package main

// Which headers pass. Everything end-to-end does, both ways, but for the lists
// here, each with its reason. A proxy that drops a header it does not know
// drops a condition or a checksum one day, and data with it.

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// notForwarded are headers of a request that never reach a backend.
var notForwarded = set(
	// The client's credentials are the gateway's business.
	"X-Api-Key", "Authorization", "Cookie", "Proxy-Authorization", "X-Amz-Security-Token",
	// Made anew for the gateway's own request and signature.
	"Host", "Content-Length", "X-Amz-Date", "X-Amz-Content-Sha256",
	// Hop-by-hop: RFC 9110 section 7.6.1, and what older software sends.
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "Http2-Settings",
	// net/http has answered it already.
	"Expect",
	// With one of these, some clients on the way (Go's http.Transport) send a
	// write a second time.
	"Idempotency-Key", "X-Idempotency-Key",
	// Some frameworks take another method or path from these than the ones
	// that were authorized.
	"X-Http-Method", "X-Http-Method-Override", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url",
	// What a stranger says about the network in front of us is not our word
	// to a backend.
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Real-Ip",
)

// refused are headers that change what a request is: an archive that is
// unpacked into other keys, or the private language of a server behind. An
// entry that ends in "-" is a prefix.
var refused = []string{
	"X-Amz-Meta-Snowball-Auto-Extract", "X-Amz-Replication-", "X-Minio-", "X-Rgw-",
	"X-Container-", "X-Object-Manifest", "X-Delete-At", "X-Delete-After",
	"X-Copy-From", "X-Copy-From-", "X-Symlink-Target", "X-Symlink-Target-", // Swift's copies and links, to any bucket
}

// adminOnly are headers that hand out rights or take protection away.
var adminOnly = []string{
	"X-Amz-Acl", "X-Amz-Grant-", "X-Amz-Bypass-Governance-Retention", "X-Amz-Object-Lock-",
	"X-Amz-Mfa", "X-Amz-Website-Redirect-Location",
}

// notReturned are headers of a backend's answer that never reach a client.
var notReturned = set(
	// Who the backend is, and its own ids (the log has them).
	"Server", "Via", "Set-Cookie", "Alt-Svc", "Location", "X-Amz-Id-2", "X-Amz-Request-Id",
	"Www-Authenticate", "Proxy-Authenticate",
	// S3 clients correct their clocks by it; it is our clock that they meet.
	"Date",
	// Hop-by-hop.
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	// Ours to say.
	"Content-Security-Policy", "Content-Security-Policy-Report-Only", "Strict-Transport-Security",
	"X-Content-Type-Options", "X-Frame-Options", "X-Xss-Protection",
	"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset",
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[name] = true
	}
	return m
}

// matches reports whether a canonical header name is in a list with prefixes.
func matches(list []string, name string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		return name == entry || strings.HasSuffix(entry, "-") && strings.HasPrefix(name, entry)
	})
}

// forwardHeader returns the headers of a request that its backend gets, each
// once, or an error if one of them is not allowed to this role.
func forwardHeader(in http.Header, r role) (http.Header, *apiError) {
	out := make(http.Header, len(in)+4)
	hop := namedBy(in["Connection"])
	for name, values := range in {
		if notForwarded[name] {
			continue
		}
		if err := checkHeader(name, values, r); err != nil {
			return nil, err
		}
		if hop[name] {
			continue
		}
		if len(values) > 1 {
			values = []string{strings.Join(values, ",")}
		}
		out[wireName(name)] = values
	}
	return out, nil
}

// wireName is the name a header is sent by. net/http writes names as "X-Amz-Meta-Name",
// and S3 in lower case; SDKs hand on what is behind "x-amz-meta-" as they find
// it, and a program that looks for "name" does not find "Name".
func wireName(name string) string {
	if strings.HasPrefix(name, "X-Amz-Meta-") {
		return strings.ToLower(name)
	}
	return name
}

func checkHeader(name string, values []string, r role) *apiError {
	switch {
	case strings.Contains(name, "_") && isReserved(http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))):
		return newError("InvalidRequest", fmt.Sprintf("the header %s is not allowed", strings.ToLower(name)))
	case matches(refused, name):
		return newError("InvalidRequest", fmt.Sprintf("the header %s is not allowed", strings.ToLower(name)))
	case matches(adminOnly, name) && r != roleAdmin && !harmlessACL(name, values):
		return newError("AccessDenied", fmt.Sprintf("the header %s needs the role admin", strings.ToLower(name)))
	case len(values) > 1 && single(name):
		return newError("InvalidRequest", fmt.Sprintf("the header %s is given more than once", strings.ToLower(name)))
	}
	return nil
}

// isReserved reports whether a header means something to the gateway or to a
// backend. Servers that keep headers as CGI variables take x_amz_copy_source for
// x-amz-copy-source, which nobody would have checked.
func isReserved(name string) bool {
	return strings.HasPrefix(name, "X-Amz-") || notForwarded[name] || matches(refused, name)
}

// harmlessACL reports whether a header is a canned ACL that gives nobody new
// access; s3cmd, s3fs and others send these without being asked.
func harmlessACL(name string, values []string) bool {
	return name == "X-Amz-Acl" && len(values) == 1 &&
		(values[0] == "private" || values[0] == "bucket-owner-full-control")
}

// single reports whether a header has one meaning and one value. Of two values,
// the one we check may not be the one a backend takes. Lists (If-None-Match,
// Cache-Control, …) and user metadata may be repeated: RFC 9110 section 5.3.
func single(name string) bool {
	switch name {
	case "Content-Type", "Content-Md5", "Range", "If-Range", "If-Modified-Since", "If-Unmodified-Since":
		return true
	}
	return strings.HasPrefix(name, "X-Amz-") && !strings.HasPrefix(name, "X-Amz-Meta-")
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

// returnHeader copies what a client gets of a backend's headers. It takes away none
// of ours.
func returnHeader(out, in http.Header) {
	hop := namedBy(in["Connection"])
	for name, values := range in {
		if !notReturned[name] && !hop[name] && !strings.HasPrefix(name, "Access-Control-") {
			out[wireName(name)] = values
		}
	}
}

// returnErrorHeader is returnHeader for an error, whose body is not the
// backend's: Content-Range stays, it tells the size of the object in a 416.
func returnErrorHeader(out, in http.Header) {
	returnHeader(out, in)
	for name := range in {
		if strings.HasPrefix(name, "Content-") && name != "Content-Range" && !notReturned[name] {
			delete(out, name)
		}
	}
}

// hardening is what every response carries. The sandbox keeps a stored page from
// acting in the gateway's origin. The slices are shared by all responses, which
// only ever replace them.
var hardening = map[string][]string{
	"X-Content-Type-Options":    {"nosniff"},
	"X-Frame-Options":           {"DENY"},
	"Strict-Transport-Security": {"max-age=31536000; includeSubDomains"},
	"X-Xss-Protection":          {"1; mode=block"},
	"Content-Security-Policy":   {"sandbox; default-src 'none'"},
}

func hardenHeader(h http.Header) { maps.Copy(h, hardening) }
