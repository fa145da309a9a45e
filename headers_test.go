package main

// Which headers of a request reach a backend, with which values, and that the
// docs say the same.

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// s3RequestHeaders are the headers that S3 documents for the operations of the
// table, each with a value that a client would send, but for checksums and user
// metadata.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
var s3RequestHeaders = map[string]string{
	"cache-control": "no-cache", "content-disposition": `attachment; filename="..\a.txt"`, "content-encoding": "gzip", "content-language": "de, en",
	"content-type": "text/plain; charset=utf-8", "expires": "Thu, 01 Dec 1994 16:00:00 GMT", "range": "bytes=0-1",
	"if-match": `"e"`, "if-none-match": `"e", "f"`, "if-modified-since": "Thu, 01 Dec 1994 16:00:00 GMT", "if-unmodified-since": "Thu, 01 Dec 2094 16:00:00 GMT",
	"x-amz-acl": "public-read", "x-amz-bucket-object-lock-token": "token", "x-amz-bypass-governance-retention": "true", "x-amz-checksum-algorithm": "SHA512",
	"x-amz-checksum-mode": "ENABLED", "x-amz-checksum-type": "FULL_OBJECT", "x-amz-confirm-remove-self-bucket-access": "true",
	"x-amz-copy-source": "photos/a", "x-amz-copy-source-if-match": `"e"`, "x-amz-copy-source-if-none-match": `"e"`,
	"x-amz-copy-source-if-modified-since": "Thu, 01 Dec 1994 16:00:00 GMT", "x-amz-copy-source-if-unmodified-since": "Thu, 01 Dec 2094 16:00:00 GMT",
	"x-amz-copy-source-range":                                     "bytes=0-1",
	"x-amz-copy-source-server-side-encryption-customer-algorithm": "AES256", "x-amz-copy-source-server-side-encryption-customer-key": "a2V5/+==",
	"x-amz-copy-source-server-side-encryption-customer-key-md5": "a2V5/+==", "x-amz-expected-bucket-owner": "111122223333",
	"x-amz-grant-full-control": `id="1"`, "x-amz-grant-read": `uri="http://acs.amazonaws.com/groups/global/AllUsers"`, "x-amz-grant-read-acp": `emailAddress="x@example.com"`,
	"x-amz-grant-write": `id="1", id="2"`, "x-amz-grant-write-acp": `id="1"`, "x-amz-if-match-initiated-time": "Thu, 01 Dec 1994 16:00:00 GMT",
	"x-amz-if-match-last-modified-time": "Thu, 01 Dec 1994 16:00:00 GMT", "x-amz-if-match-size": "4", "x-amz-max-parts": "5", "x-amz-metadata-directive": "REPLACE",
	"x-amz-mfa": "arn:aws:iam::111122223333:mfa/user 123456", "x-amz-mp-object-size": "4", "x-amz-object-attributes": "ETag,ObjectSize",
	"x-amz-object-lock-legal-hold": "ON", "x-amz-object-lock-mode": "GOVERNANCE", "x-amz-object-lock-retain-until-date": "2099-01-01T00:00:00Z",
	"x-amz-optional-object-attributes": "RestoreStatus", "x-amz-part-number-marker": "0", "x-amz-request-payer": "requester", "x-amz-sdk-checksum-algorithm": "CRC64NVME",
	"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab",
	"x-amz-server-side-encryption-bucket-key-enabled": "true", "x-amz-server-side-encryption-context": "eyJhIjoiYiJ9", "x-amz-server-side-encryption-customer-algorithm": "AES256",
	"x-amz-server-side-encryption-customer-key": "a2V5/+==", "x-amz-server-side-encryption-customer-key-md5": "a2V5/+==", "x-amz-skip-destination-validation": "true",
	"x-amz-source-expected-bucket-owner": "111122223333", "x-amz-storage-class": "STANDARD_IA", "x-amz-tagging": "a=..%2Fb&c=d", "x-amz-tagging-directive": "REPLACE",
	"x-amz-transition-default-minimum-object-size": "varies_by_storage_class", "x-amz-website-redirect-location": "/../a",

	// Not of the API's model, and yet of S3's: conditions of reads, framing, what is negotiated.
	"if-range": `"e"`, "x-amz-decoded-content-length": "4", "x-amz-trailer": "x-amz-checksum-crc32",
	"accept": "*/*", "accept-encoding": "identity", "accept-language": "de", "user-agent": "test/1",
	"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b", "x-amzn-trace-id": "Root=1-67891233-abcdef012345678912345678",
	"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
}

// freeTextHeaders are those of them whose value is free, or read by a parser.
var freeTextHeaders = setOf("X-Amz-Tagging", "X-Amz-Website-Redirect-Location", "X-Amz-Copy-Source")

func TestWhatS3DocumentsPasses(t *testing.T) {
	in := http.Header{}
	for name, value := range s3RequestHeaders {
		in.Set(name, value)
	}
	for _, algorithm := range []string{"crc32", "crc32c", "crc64nvme", "sha1", "sha256", "sha512", "md5", "xxhash64", "xxhash3", "xxhash128", "of-tomorrow"} {
		in.Set("x-amz-checksum-"+algorithm, "AAAAAA==")
	}
	out, err := forwardHeader(in, roleAdmin)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range in {
		if !slices.Equal(out[name], values) {
			t.Errorf("%s: %q is forwarded as %q", name, values, out[name])
		}
	}
	for name := range passing {
		if _, known := s3RequestHeaders[strings.ToLower(name)]; !known {
			t.Errorf("%s passes, and S3 does not document it", name)
		}
	}
}

func TestEveryHeaderThatPassesIsInTheDocs(t *testing.T) {
	want := map[string]string{"x-amz-meta-*": metadata.reason, "x-amz-checksum-*": checksums.reason}
	for name, rule := range passing {
		want[strings.ToLower(name)] = rule.reason
	}
	for _, row := range docsTable(t, "headers-and-parameters", "header", "why", "role") {
		for cell := range strings.SplitSeq(row[0], ", ") {
			name, ok := codeSpan(cell)
			rule, passes := ruleFor(http.CanonicalHeaderKey(strings.ReplaceAll(name, "*", "any")))
			if !ok || want[name] != row[1] || !passes {
				t.Errorf("the docs has %s, which %s; it passes: %t, for it %s", cell, row[1], passes, want[name])
			}
			if role, _ := codeSpan(row[2]); (role == "admin") != rule.admin {
				t.Errorf("the docs has %s for the role %s", cell, row[2])
			}
			delete(want, name)
		}
	}
	for name := range want {
		t.Errorf("%s passes, and is not in the docs", name)
	}
}

// Dropping such a header could change what a request means, forwarding it is a guess.
func TestUnknownAmzHeaderIsRefusedByName(t *testing.T) {
	rec := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(rec.URL))
	for _, name := range []string{
		"x-amz-write-offset-bytes", "x-amz-rename-source", "x-amz-rename-source-if-match", "x-amz-client-token", "x-amz-snowball-auto-extract", "x-amz-signature", "x-amz-credential",
		"x-amz-create-session-mode", "x-amz-fwd-status", "x-amz-request-route", "x-amz-of-tomorrow", "x-amz-meta-", "x-amz-checksum-", "x-amz-", "x-amz-metadata", "x-amz-grant-all", "x-amz-object-lock-all",
		"x-amz-copy-source-if-size", "x-amz-server-side-encryption-key",
	} {
		for _, key := range []string{adminKey, userKey} {
			for _, method := range []string{"PUT", "GET", "DELETE", "HEAD"} {
				resp, body := g.do(method, "/photos/k", key, "", name+": 1")
				wantDenied(t, method, resp, body, 501, "NotImplemented")
				if method != "HEAD" && !strings.Contains(body, "the header "+name+" ") {
					t.Errorf("%s with %s = %s, want the header named", method, name, body)
				}
			}
			if name == "x-amz-signature" || name == "x-amz-credential" || name == "x-amz-" {
				continue // as a parameter it is of the authentication, or has no name
			}
			resp, body := g.do("PUT", "/photos/k?"+name+"=1", key, "data")
			wantError(t, resp, body, 501, "NotImplemented")
		}
	}
	rec.wantNone(t)
}

func TestForeignHeadersAreDropped(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	foreign := []string{
		"x-seaweedfs-principal", "x-seaweedfs-a", "x-oss-acl", "x-goog-api-client", "x-obs-a", "x-cos-a", "x-emc-a", "x-forwarded-prefix", "x-forwarded-user", "x-remote-user", "x-real-ip",
		"x-original-url", "x-rewrite-url", "x-http-method-override", "x-method-override", "forwarded", "via", "x-request-id", "x-amzn-oidc-data", "x-amz-cf-id", "x-amz-user-agent", "x-amz-api-version", "x-amz-te",
		"x-amz-security-token", "x-amz-s3session-token", "cookie", "authorization", "proxy-authorization", "idempotency-key", "x-idempotency-key", "origin", "referer", "from", "date", "pragma",
		"amz-sdk-request", "amz-sdk-invocation-id", "sec-fetch-site", "dnt", "http2-settings", "keep-alive", "te", "trailer", "upgrade", "content-location", "last-modified", "etag", "seaweed-a", "x_y",
	}
	lines := []string{"x-amz-meta-name: Tom"}
	for _, name := range foreign {
		lines = append(lines, name+": canary")
	}
	if resp, body := g.do("PUT", "/photos/k", userKey, "data", lines...); resp.StatusCode != 200 {
		t.Fatalf("PUT = %d %s, want 200", resp.StatusCode, body)
	}
	seen := rec.requests()[0].header
	for name, values := range seen {
		if strings.Contains(strings.Join(values, ","), "canary") {
			t.Errorf("the backend got %s: %q", name, values)
		}
	}
	if seen.Get("X-Amz-Meta-Name") != "Tom" {
		t.Errorf("the backend got %v, want the metadata", seen)
	}
}

func TestHeadersThatChangeARequestAreRefused(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, line := range []string{
		"content-range: bytes 0-3/8", "x-goog-copy-source: secret/k", "x-goog-if-generation-match: 0", "x-oss-copy-source: /secret/k", "x-oss-forbid-overwrite: true", "x-cos-copy-source: secret/k",
		"x-obs-copy-source: /secret/k", "x-copy-from-account: a", "x-minio-a: b", "x-rustfs-internal-a: b", "x-rgw-a: b", "content_length: 1", "transfer_encoding: chunked", "x_api_key: k", "host_: a\r\nx_amz_acl: a",
		"x-amz-meta-snowball-auto-extract: true", "x-amz-meta-minio-snowball-prefix: ../secret", "x-amz-meta-minio-snowball-ignore-dirs: true", "x-amz-meta-acme-snowball-prefix: a",
		"x-amz-meta-snowball_auto_extract: true", "x-amz-meta-scal-location-constraint: elsewhere", "x-amz-meta-scal_location_constraint: elsewhere", "x-amz-meta-scal-replication-status: a",
	} {
		for _, key := range []string{userKey, adminKey} {
			for _, method := range []string{"PUT", "GET", "DELETE"} {
				resp, body := g.do(method, "/photos/k", key, "", line)
				wantError(t, resp, body, 400, "InvalidRequest")
				if t.Failed() {
					t.Fatalf("that was %s with %s", method, line)
				}
			}
		}
	}
	rec.wantNone(t)
}

// A name of user metadata is any token: RFC 9110 section 5.6.2.
func TestAnyTokenIsANameOfMetadata(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	names := []string{"realm_id", "_", "a_b-c", "amz_acl", "x_api_key", "!#$%&'*+-.^_`|~", "1", "snowball", "auto-extract", "s3cmd-attrs", "x-amz-key", "x-amz-unencrypted-content-length", "goog-reserved-file-mtime"}
	for _, name := range names {
		before := len(rec.requests())
		for _, send := range []func() (*http.Response, string){
			func() (*http.Response, string) {
				return g.do("PUT", "/photos/k", userKey, "data", "x-amz-meta-"+name+": 2")
			},
			func() (*http.Response, string) {
				return g.do("PUT", "/photos/k?x-amz-meta-"+uriEncode(name, true)+"=2", userKey, "data")
			},
			func() (*http.Response, string) {
				return g.do("PUT", "/photos/k", "", "data", signed("user", userKey, "PUT", "/photos/k", "", "x-amz-meta-"+name+": 2")...)
			},
		} {
			if resp, body := send(); resp.StatusCode != 200 {
				t.Errorf("PUT with x-amz-meta-%s = %d %s, want 200", name, resp.StatusCode, body)
			}
		}
		for _, seen := range rec.requests()[before:] {
			if got := seen.header[http.CanonicalHeaderKey("x-amz-meta-"+name)]; !slices.Equal(got, []string{"2"}) {
				t.Errorf("the backend got x-amz-meta-%s: %q, want 2", name, got)
			}
		}
	}
}

// A header is a place for a traversal, too.
func TestTraversalInAnyAmzHeaderIsRefused(t *testing.T) {
	for _, nested := range []bool{false, true} {
		rec := startRecorder(t, answerAsS3)
		g := startGateway(t, testConfig(rec.URL, with("nested_keys", nested)))
		names := []string{"X-Amz-Checksum-Sha512", "X-Amz-Checksum-Of-Tomorrow"}
		for name := range passing {
			if strings.HasPrefix(name, "X-Amz-") && !freeTextHeaders[name] {
				names = append(names, name)
			}
		}
		for _, name := range names {
			for _, value := range append(append([]string{`a\b`, strings.Repeat("a", 8193)}, traversals...), controls[:6]...) {
				var more []string
				if strings.HasPrefix(name, copySource) {
					more = []string{"x-amz-copy-source: photos/a"}
				}
				header := name + ": " + value
				if !strings.ContainsAny(value, "\x00\r\n\x1b\x7f") { // or net/http refuses it
					resp, body := g.do("PUT", "/photos/k", adminKey, "", append(more, header)...)
					wantDenied(t, "PUT", resp, body, 400, "InvalidArgument")
				}
				resp, body := g.do("PUT", "/photos/k?"+name+"="+uriEncode(value, true), adminKey, "", more...)
				wantDenied(t, "PUT", resp, body, 400, "InvalidArgument")
				if t.Failed() {
					t.Fatalf("that was %.60q, nested_keys %t", header, nested)
				}
			}
		}
		rec.wantNone(t)
	}
}

// A Connection header is never signed. Whoever adds it must not be able to take
// away what the client has signed, or what the gateway relies on.
func TestConnectionNamesHopByHopHeadersOnly(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	lines, _ := signedHead{method: "PUT", header: []string{"if-none-match:*", "x-foreign:a"}}.sign()
	for _, option := range []string{"if-none-match", "If-None-Match", "close, if-none-match", "keep-alive,\tx-foreign", "x-amz-date", "host", "authorization"} {
		resp, body := g.do("PUT", "/photos/k", "", "", append(slices.Clone(lines), "Connection: "+option)...)
		wantSignedRefusal(t, option, "PUT", resp, body, "400 InvalidRequest")
	}
	refused := []string{"x-api-key", "authorization", "cookie", "host", "content-length", "transfer-encoding", "connection", "expect", "x-amz-meta-a", "x-amz-checksum-sha256", "x-amz-of-tomorrow",
		"x-minio-a", "x_amz_acl", "x-amz-date", "x-amz-content-sha256", "x-amz-cf-id", "content-range"}
	for name := range passing {
		refused = append(refused, strings.ToLower(name))
	}
	for _, option := range refused {
		for _, line := range []string{"Connection: " + option, "Connection: close\r\nConnection: keep-alive, " + option} {
			resp, body := g.do("GET", "/photos/k", adminKey, "", line)
			wantError(t, resp, body, 400, "InvalidRequest")
		}
	}
	rec.wantNone(t)
	for _, option := range []string{"close", "Keep-Alive", "TE", "Upgrade, HTTP2-Settings", "trailer", "x-foreign", "", ",", "x-foreign, x-other"} {
		if resp, body := g.do("GET", "/photos/k", userKey, "", "Connection: "+option, "X-Foreign: a"); resp.StatusCode != 200 {
			t.Errorf("Connection: %s = %d %s, want 200", option, resp.StatusCode, body)
		}
	}
	// HTTP/2 has no such header (RFC 9113 section 8.2.2); if one comes, the rule is the same.
	r := httptest.NewRequest("GET", "/photos/k", nil)
	r.ProtoMajor, r.ProtoMinor, r.Proto = 2, 0, "HTTP/2.0"
	r.Header = http.Header{"X-Api-Key": {userKey}, "Connection": {"if-match"}, "If-Match": {`"e"`}}
	w := httptest.NewRecorder()
	g.gw.ServeHTTP(w, r)
	if w.Code != 400 {
		t.Errorf("Connection over HTTP/2 = %d, want 400", w.Code)
	}
}

// What is done before a client is known, and for one who may do nothing, grows no
// faster than the bytes that it sends.
func TestWorkGrowsWithTheBytesReceived(t *testing.T) {
	rec := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(rec.URL, with("nested_keys", true)))
	lines := func(n int, format func(i int) (name, value string)) func(r *http.Request) {
		return func(r *http.Request) {
			for i := range n {
				name, value := format(i)
				r.Header.Add(name, value)
			}
		}
	}
	numbered := func(prefix string, i int) string {
		return prefix + uriEncode(string(rune('a'+i%26)), true) + strings.Repeat("z", i/26%8) + time.Duration(i).String()
	}
	list := func(n int, sep string, item func(i int) string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = item(i)
		}
		slices.Sort(items)
		return strings.Join(items, sep)
	}
	const n = 400
	for _, test := range []struct {
		what   string
		target string
		change func(n int) func(r *http.Request)
	}{
		{"headers", "/photos/k", func(n int) func(*http.Request) {
			return lines(n, func(i int) (string, string) { return numbered("X-", i), "a" })
		}},
		{"x-amz-* headers of a request that is signed", "/photos/k", func(n int) func(*http.Request) {
			return func(r *http.Request) {
				lines(n, func(i int) (string, string) { return numbered("X-Amz-Meta-", i), "a" })(r)
				names := list(min(n, maxSignedHeaders-3), ";", func(i int) string { return numbered("x-amz-meta-", i) })
				signHead(r, "host;"+names)
			}
		}},
		{"signed headers", "/photos/k", func(n int) func(*http.Request) {
			return func(r *http.Request) {
				signHead(r, "host;"+list(n, ";", func(i int) string { return numbered("i", i) }))
			}
		}},
		{"values of a header", "/photos/k", func(n int) func(*http.Request) {
			return lines(n, func(i int) (string, string) { return "X-Amz-Meta-A", "a" })
		}},
		{"names in Connection", "/photos/k", func(n int) func(*http.Request) {
			return lines(1, func(i int) (string, string) {
				return "Connection", list(n, ",", func(i int) string { return numbered("x-", i) })
			})
		}},
		{"Connection headers", "/photos/k", func(n int) func(*http.Request) {
			return lines(n, func(i int) (string, string) { return "Connection", numbered("x-", i) })
		}},
		{"parts of Authorization", "/photos/k", func(n int) func(*http.Request) {
			return lines(1, func(i int) (string, string) {
				return "Authorization", signatureAlgorithm + " " + list(n, ",", func(i int) string { return numbered("p", i) + "=1" })
			})
		}},
		{"parts of a credential", "/photos/k", func(n int) func(*http.Request) {
			return lines(1, func(i int) (string, string) {
				return "Authorization", signatureAlgorithm + " Credential=" + strings.Repeat("a/", n) + ",SignedHeaders=host,Signature=" + strings.Repeat("0", 64)
			})
		}},
		{"objects of DeleteObjects", "/photos?delete", func(n int) func(*http.Request) {
			return func(r *http.Request) {
				document := "<Delete>" + strings.Repeat("<Object><Key>k</Key><VersionId>v</VersionId></Object>", n) + "</Delete>"
				*r = *httptest.NewRequest("POST", "/photos?delete", strings.NewReader(document))
				r.Header.Set("Content-Length", "0") // that there is one; net/http has its value
			}
		}},
	} {
		for _, door := range []struct {
			key     string
			version int // of HTTP; the head of version 2 is a few bytes of HPACK
		}{{"", 1}, {"", 2}, {adminKey, 1}, {adminKey, 2}} {
			allocations := func(n int) float64 {
				change := test.change(n)
				return testing.AllocsPerRun(5, func() {
					r := httptest.NewRequest("GET", test.target, nil)
					change(r)
					r.ProtoMajor, r.ProtoMinor = door.version, 2-door.version
					if door.key != "" {
						r.Header.Set("X-Api-Key", door.key)
					}
					g.gw.ServeHTTP(httptest.NewRecorder(), r)
				})
			}
			small, large := allocations(n), allocations(2*n)
			if large > 2.3*small+50 {
				t.Errorf("%s, %v: %d take %g allocations, twice as many %g", test.what, door, n, small, large)
			}
		}
	}
}

// signHead gives a request a signature that is well-formed and wrong.
func signHead(r *http.Request, signedHeaders string) {
	now := time.Now().UTC().Format(amzDateFormat)
	r.Header["X-Amz-Date"] = []string{now}
	r.Header["X-Amz-Content-Sha256"] = []string{unsignedPayload}
	r.Header["Authorization"] = []string{signatureAlgorithm + " Credential=user/" + now[:8] + "/us-east-1/s3/aws4_request,SignedHeaders=" + signedHeaders + ",Signature=" + strings.Repeat("0", 64)}
}

// Names × signed names would be the product of two numbers of the client's.
func TestSignedHeadersAreBounded(t *testing.T) {
	names := func(n int) string { return "a" + sortedNames(n) + ";host" }
	if c := new(claim); !c.setHeaders(names(maxSignedHeaders - 2)) {
		t.Errorf("%d signed headers are refused", maxSignedHeaders)
	}
	for _, n := range []int{maxSignedHeaders - 1, 100 * maxSignedHeaders} {
		c, list := new(claim), names(n)
		if c.setHeaders(list) {
			t.Errorf("%d signed headers are accepted", n+2)
		}
		if got := testing.AllocsPerRun(5, func() { c.setHeaders(list) }); got != 0 {
			t.Errorf("%d signed headers take %g allocations to refuse, want none", n+2, got)
		}
	}
}

// sortedNames returns ";aa…" n times, each name longer than the one before.
func sortedNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(";b")
		for digit := 100_000; digit > 0; digit /= 10 {
			b.WriteByte(byte('0' + i/digit%10))
		}
	}
	return b.String()
}

// Names below the gateway's are not the gateway's to bind.
func TestHSTSIsTheOperators(t *testing.T) {
	for _, test := range []struct {
		change func(map[string]any)
		want   []string
	}{
		{func(map[string]any) {}, []string{"max-age=31536000"}},
		{with("server.hsts", ""), nil},
		{with("server.hsts", "max-age=0"), []string{"max-age=0"}},
		{with("server.hsts", "max-age=63072000; includeSubDomains; preload"), []string{"max-age=63072000; includeSubDomains; preload"}},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Strict-Transport-Security", "max-age=1") })
		g := startGateway(t, testConfig(backend.URL, test.change))
		for _, key := range []string{userKey, ""} {
			resp, _ := g.do("GET", "/photos/k", key, "")
			if got := resp.Header["Strict-Transport-Security"]; !slices.Equal(got, test.want) {
				t.Errorf("answer %d: Strict-Transport-Security = %q, want %q", resp.StatusCode, got, test.want)
			}
		}
	}
	for _, value := range []string{"31536000", "max-age=", "max-age=1; includeSubDomains\r\nX-Evil: 1", "max-age=1;", "includeSubDomains", "max-age=1, max-age=2", " "} {
		wantErrors(t, configText(t, with("server.hsts", value)), "server.hsts")
	}
}

// A list in several lines is one list: RFC 9110 section 5.3. aws-sdk-go-v2 sends
// x-amz-object-attributes so.
func TestListHeaderInSeveralLinesIsOneList(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	lists := []string{"x-amz-object-attributes", "x-amz-optional-object-attributes", "if-match", "if-none-match", "content-encoding", "content-language", "cache-control", "accept", "accept-encoding", "accept-language", "tracestate"}
	for name, rule := range passing {
		if rule.list && !slices.Contains(append(lists, "user-agent", "traceparent", "x-amzn-trace-id"), strings.ToLower(name)) {
			t.Errorf("%s is a list", name)
		}
	}
	for _, name := range lists {
		signedLines, _ := signedHead{method: "GET", header: []string{name + ":a,b"}}.sign()
		signedLines = slices.DeleteFunc(signedLines, func(line string) bool { return strings.HasPrefix(line, name+":") })
		for _, lines := range [][]string{{name + ": a", "X-Foreign: c", name + ": b"}, append(signedLines, name+": a", name+":\tb ")} {
			key := userKey
			if len(lines) > 3 {
				key = ""
			}
			before := len(rec.requests())
			resp, body := g.do("GET", "/photos/k", key, "", lines...)
			seen := rec.requests()[before:]
			if resp.StatusCode != 200 || len(seen) != 1 || !slices.Equal(seen[0].header[http.CanonicalHeaderKey(name)], []string{"a,b"}) {
				t.Errorf("%s in two lines = %d %s, the backend saw %v, want a,b", name, resp.StatusCode, body, seen)
			}
		}
	}
	before := len(rec.requests())
	for name, rule := range passing {
		if !rule.list {
			value := s3RequestHeaders[strings.ToLower(name)]
			resp, body := g.do("PUT", "/photos/k", adminKey, "", name+": "+value, name+": "+value)
			wantError(t, resp, body, 400, "InvalidRequest")
			if t.Failed() {
				t.Fatalf("that was %s", name)
			}
		}
	}
	if n := len(rec.requests()); n != before {
		t.Errorf("the backend saw %d requests that were refused", n-before)
	}
}

// Names of headers go out as S3 writes them, whatever the answer: some clients compare
// them to the letter.
func TestAnswersSpellHeaderNamesAsS3(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range []string{"Etag", "X-Amz-Version-Id", "X-Amz-Meta-Name", "X-Amz-Checksum-Crc32", "X-Amz-Object-Lock-Mode", "X-Amz-Storage-Class", "Last-Modified", "Content-Md5"} {
			w.Header().Set(name, "x")
		}
		answerAsS3(w, r)
	})
	g := startGateway(t, testConfig(backend.URL, with("rate_limit.requests", 10_000)))
	for _, op := range operations {
		r := specFor(op.name, "photos")
		for _, key := range []string{adminKey, noneKey} {
			head, _, _ := strings.Cut(g.bytesUntilClose(requestText(r.method, r.target(), key, r.body, append(r.header, fmt.Sprintf("Content-Length: %d", len(r.body)))...)), "\r\n\r\n")
			for line := range strings.Lines(head) {
				name, _, _ := strings.Cut(line, ":")
				if want := (map[string]string{
					"etag": "ETag", "content-md5": "Content-MD5", "content-length": "Content-Length", "content-type": "Content-Type", "last-modified": "Last-Modified",
					"x-ratelimit-limit": "X-RateLimit-Limit", "x-ratelimit-remaining": "X-RateLimit-Remaining", "x-ratelimit-reset": "X-RateLimit-Reset",
				})[strings.ToLower(name)]; want != "" && name != want || strings.HasPrefix(name, "X-Amz-") {
					t.Errorf("%s: header %q, want it as S3 writes it", op.name, name)
				}
			}
			if !strings.Contains(head, "\r\nx-amz-request-id: ") || strings.Count(strings.ToLower(head), "x-amz-request-id:") != 1 {
				t.Errorf("%s: want x-amz-request-id once:\n%s", op.name, head)
			}
			if op.name == "GetObject" && key == adminKey && (!strings.Contains(head, "\r\nETag: x\r\n") || !strings.Contains(head, "\r\nx-amz-meta-name: x\r\n") || strings.Count(strings.ToLower(head), "etag:") != 1) {
				t.Errorf("%s:\n%s", op.name, head)
			}
		}
	}
}

// An object that was stored without a type has none: what its bytes look like says
// nothing about them.
func TestContentTypeIsNeverInvented(t *testing.T) {
	for _, content := range []string{"<html><script>alert(1)</script>", "%PDF-1.7", "{}", "GIF89a", "", strings.Repeat("<html>", 100_000)} {
		for _, framing := range []string{"length", "chunks"} {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Content-Type"] = nil
				if framing == "length" {
					w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				} else {
					w.(http.Flusher).Flush()
				}
				io.WriteString(w, content)
			})
			g := startGateway(t, testConfig(backend.URL))
			client := startHTTP2(t, g)
			for _, version := range []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0"} {
				for _, method := range []string{"GET", "HEAD", "PUT"} {
					if len(content) > maxUnsized && version == "HTTP/1.0" && framing == "chunks" {
						continue
					}
					resp, body, err := sendVersion(t, g, client, version, requestSpec{method: method, path: "/photos/k"})
					if values, given := resp.Header["Content-Type"]; err != nil || resp.StatusCode != 200 || given || method == "GET" && body != content {
						t.Errorf("%s by %s of %.10q in %s = %d, Content-Type %q, %v; want 200, and none", method, version, content, framing, resp.StatusCode, values, err)
					}
				}
			}
		}
	}
}

// A condition that is dropped on the way is data overwritten. Every
// one arrives as it was sent, and what the backend makes of it comes back.
func TestConditionsReachTheBackend(t *testing.T) {
	g := startGateway(t, testConfig(startDemoBackend(t).URL))
	if resp, body := g.do("PUT", "/photos/k", userKey, "first", "If-None-Match: *"); resp.StatusCode != 200 {
		t.Fatalf("PUT of a new key = %d %s, want 200", resp.StatusCode, body)
	}
	resp, _ := g.do("HEAD", "/photos/k", userKey, "")
	etag, modified := resp.Header.Get("Etag"), resp.Header.Get("Last-Modified")
	if etag == "" || modified == "" {
		t.Fatalf("HEAD: Etag %q, Last-Modified %q, want both", etag, modified)
	}
	const long, other = "Thu, 01 Jan 1970 00:00:00 GMT", `"00000000000000000000000000000000"`
	for _, test := range []struct {
		method, header string
		status         int
		code           string
	}{
		{"PUT", "If-None-Match: *", 412, "PreconditionFailed"},
		{"PUT", "if-none-match:   *  ", 412, "PreconditionFailed"},
		{"PUT", "If-Match: " + other, 412, "PreconditionFailed"},
		{"GET", "If-Match: " + other, 412, "PreconditionFailed"},
		{"HEAD", "If-Match: " + other, 412, "PreconditionFailed"},
		{"GET", "If-Unmodified-Since: " + long, 412, "PreconditionFailed"},
		{"HEAD", "If-Unmodified-Since: " + long, 412, "PreconditionFailed"},
		{"GET", "If-None-Match: " + etag, 304, ""},
		{"HEAD", "If-None-Match: " + etag, 304, ""},
		{"GET", "If-None-Match: " + other + "\r\nIf-None-Match: " + etag, 304, ""}, // two lines are one list
		{"GET", "If-Modified-Since: " + modified, 304, ""},
		{"GET", "If-Match: " + etag, 200, ""},
		{"GET", "If-None-Match: " + other, 200, ""},
	} {
		resp, body := g.do(test.method, "/photos/k", userKey, map[string]string{"PUT": "second"}[test.method], test.header)
		switch test.status {
		case 412:
			wantDenied(t, test.method, resp, body, test.status, test.code)
		case 304:
			checkHardened(t, resp)
			if resp.StatusCode != 304 || body != "" || resp.Header.Get("Etag") != etag {
				t.Errorf("%s with %s = %d %q, Etag %s, want 304 with Etag %s", test.method, test.header, resp.StatusCode, body, resp.Header.Get("Etag"), etag)
			}
		default:
			if resp.StatusCode != test.status || body != "first" {
				t.Errorf("%s with %s = %d %q, want 200 first", test.method, test.header, resp.StatusCode, body)
			}
		}
		if t.Failed() {
			t.Fatalf("that was %s with %s", test.method, test.header)
		}
	}
	if _, body := g.do("GET", "/photos/k", userKey, ""); body != "first" {
		t.Errorf("after all the conditions the object is %q, want first", body)
	}
	if resp, body := g.do("PUT", "/photos/k", userKey, "second", "If-Match: "+etag); resp.StatusCode != 200 {
		t.Errorf("PUT with the ETag that is there = %d %s, want 200", resp.StatusCode, body)
	}
	if resp, _ := g.do("PUT", "/photos/k", userKey, "third", "If-Match: "+etag); resp.StatusCode != 412 {
		t.Errorf("PUT with the ETag that was there = %d, want 412", resp.StatusCode)
	}
	if _, body := g.do("GET", "/photos/k", userKey, ""); body != "second" {
		t.Errorf("the object is %q, want second", body)
	}

	rec := startRecorder(t, nil)
	g = startGateway(t, testConfig(rec.URL))
	sent := map[string]string{
		"If-Match": `"a", W/"b"`, "If-None-Match": `"c"`, "If-Modified-Since": long, "If-Unmodified-Since": modified, "If-Range": `"d"`, "Range": "bytes=0-1",
		"X-Amz-If-Match-Size": "3", "X-Amz-If-Match-Last-Modified-Time": long, "X-Amz-Expected-Bucket-Owner": "111122223333", "Content-Md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
	}
	var header []string
	for name, value := range sent {
		header = append(header, name+": "+value)
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		before := len(rec.requests())
		g.do(method, "/photos/k", userKey, "", header...)
		seen := rec.requests()[before:]
		if len(seen) != 1 {
			t.Fatalf("%s: %d requests behind, want one", method, len(seen))
		}
		for name, want := range sent {
			if got := seen[0].header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: the backend sees %s: %q, want %q", method, name, got, want)
			}
		}
	}
	// Of two different conditions of one kind, a backend may take either.
	for _, header := range []string{
		"If-Modified-Since: " + long + "\r\nIf-Modified-Since: " + modified, "If-Unmodified-Since: " + long + "\r\nIf-Unmodified-Since: " + modified,
		"If-Range: \"a\"\r\nIf-Range: \"b\"", "Range: bytes=0-1\r\nRange: bytes=2-3", "x-amz-if-match-size: 1\r\nx-amz-if-match-size: 2",
	} {
		before := len(rec.requests())
		resp, body := g.do("GET", "/photos/k", userKey, "", header)
		wantDenied(t, "GET", resp, body, 400, "InvalidRequest")
		if len(rec.requests()) != before {
			t.Errorf("%q reached the backend", header)
		}
	}
}
