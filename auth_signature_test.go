package main

// Signatures that are forged, stale, partial or of something else. The client here signs
// by AWS's pages with crypto/hmac alone: a signer that shared the gateway's code would
// share its mistakes.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html

import (
	"bufio"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// exampleUsers has the user whose name and key are those of AWS's examples.
func exampleUsers() *authenticator {
	return newAuthenticator([]*user{
		{name: exampleCredentials.AccessKeyID, role: roleUser, keys: []apiKey{keyOf("another key, older"), keyOf(exampleCredentials.SecretAccessKey)}},
		{name: "digest", role: roleUser, keys: []apiKey{keyOfDigest(sha256.Sum256([]byte("x")))}},
	})
}

const exampleGet = "GET /test.txt HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n" +
	"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
	"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date," +
	"Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\r\n" +
	"Range: bytes=0-9\r\nx-amz-content-sha256: " + emptyPayload + "\r\nx-amz-date: 20130524T000000Z\r\n\r\n"

const examplePut = "PUT /test$file.text HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n" +
	"Date: Fri, 24 May 2013 00:00:00 GMT\r\n" +
	"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
	"SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class," +
	"Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd\r\n" +
	"x-amz-date: 20130524T000000Z\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\n" +
	"x-amz-content-sha256: 44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072\r\n\r\n"

const exampleList = "GET /?max-keys=2&prefix=J HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n" +
	"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, " +
	"SignedHeaders=host;x-amz-content-sha256;x-amz-date, " +
	"Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7\r\n" +
	"x-amz-date: 20130524T000000Z\r\nx-amz-content-sha256: " + emptyPayload + "\r\n\r\n"

const exampleLifecycle = "GET /?lifecycle HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n" +
	"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
	"SignedHeaders=host;x-amz-content-sha256;x-amz-date," +
	"Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543\r\n" +
	"x-amz-date: 20130524T000000Z\r\nx-amz-content-sha256: " + emptyPayload + "\r\n\r\n"

const examplePresigned = "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
	"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" +
	"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\r\nHost: examplebucket.s3.amazonaws.com\r\n\r\n"

const exampleChunkedPut = "PUT /examplebucket/chunkObject.txt HTTP/1.1\r\nHost: s3.amazonaws.com\r\n" +
	"x-amz-date: 20130524T000000Z\r\nx-amz-storage-class: REDUCED_REDUNDANCY\r\n" +
	"Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
	"SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class," +
	"Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9\r\n" +
	"x-amz-content-sha256: STREAMING-AWS4-HMAC-SHA256-PAYLOAD\r\nContent-Encoding: aws-chunked\r\n" +
	"x-amz-decoded-content-length: 66560\r\nContent-Length: 66824\r\n\r\n"

// verifyRaw reads a request as net/http does and authenticates it.
func verifyRaw(t *testing.T, raw string, now time.Time) (*user, *apiError) {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatalf("http.ReadRequest: %v\n%s", err, raw)
	}
	path, err := requestPath(r)
	if err != nil {
		t.Fatal(err)
	}
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, newError(reasonInternal, "InvalidArgument", err.Error())
	}
	c, refusal := exampleUsers().authenticate(r, path, query, now)
	return c.user, refusal
}

func TestVerifyExamples(t *testing.T) {
	for name, raw := range map[string]string{
		"GET": exampleGet, "PUT": examplePut, "list": exampleList, "lifecycle": exampleLifecycle,
		"presigned": examplePresigned, "chunked": exampleChunkedPut,
	} {
		for _, now := range []time.Time{exampleInstant, exampleInstant.Add(maxSkew), exampleInstant.Add(-maxSkew)} {
			if u, refusal := verifyRaw(t, raw, now); refusal != nil || u.name != exampleCredentials.AccessKeyID {
				t.Errorf("%s at %s: %v, want the user", name, now, refusal)
			}
		}
	}
	// net/http canonicalises nothing that was signed: not the order of the
	// query, not an escape that need not be one.
	for _, raw := range []string{
		strings.Replace(exampleList, "?max-keys=2&prefix=J", "?prefix=J&max-keys=2", 1),
		strings.Replace(examplePut, "/test$file.text", "/test%24file.text", 1),
		strings.Replace(examplePut, "/test$file.text", "/%74est%24file.text", 1),
		strings.Replace(exampleGet, "Range: bytes=0-9", "Range:   bytes=0-9  ", 1),
	} {
		if _, refusal := verifyRaw(t, raw, exampleInstant); refusal != nil {
			t.Errorf("%v\n%s", refusal, raw)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	edit := func(raw, old, new string) string {
		if !strings.Contains(raw, old) {
			t.Fatalf("the request has no %q", old)
		}
		return strings.Replace(raw, old, new, 1)
	}
	for _, test := range []struct{ name, raw, code string }{
		// What was signed has changed.
		{"path", edit(exampleGet, "/test.txt", "/test.txT"), "SignatureDoesNotMatch"},
		{"method", edit(exampleGet, "GET", "PUT"), "SignatureDoesNotMatch"},
		{"query added", edit(exampleGet, "/test.txt", "/test.txt?acl"), "SignatureDoesNotMatch"},
		{"query changed", edit(exampleList, "prefix=J", "prefix=K"), "SignatureDoesNotMatch"},
		{"host", edit(exampleGet, "examplebucket", "examplebuckex"), "SignatureDoesNotMatch"},
		{"range", edit(exampleGet, "0-9", "0-8"), "SignatureDoesNotMatch"},
		{"payload hash", edit(exampleGet, "x-amz-content-sha256: e3", "x-amz-content-sha256: e4"), "SignatureDoesNotMatch"},
		{"signature", edit(exampleGet, "Signature=f0", "Signature=f1"), "SignatureDoesNotMatch"},
		{"signed header twice", edit(exampleGet, "Range:", "Range: bytes=0-9\r\nRange:"), "SignatureDoesNotMatch"},
		{"signed header gone", edit(exampleGet, "Range: bytes=0-9\r\n", ""), "SignatureDoesNotMatch"},
		{"presigned path", edit(examplePresigned, "/test.txt", "/test.txu"), "SignatureDoesNotMatch"},
		{"presigned method", edit(examplePresigned, "GET", "DELETE"), "SignatureDoesNotMatch"},
		{"presigned parameter", edit(examplePresigned, " HTTP", "&response-content-type=text%2Fhtml HTTP"), "SignatureDoesNotMatch"},
		{"presigned expiry", edit(examplePresigned, "86400", "86401"), "SignatureDoesNotMatch"},
		{"presigned twice", edit(examplePresigned, " HTTP", "&X-Amz-Expires=86400 HTTP"), "InvalidArgument"},
		// Somebody on the way has added what means something.
		{"unsigned copy source", edit(exampleGet, "Range:", "x-amz-copy-source: /secret/k\r\nRange:"), "AccessDenied"},
		{"unsigned acl", edit(examplePresigned, "\r\n\r\n", "\r\nx-amz-acl: public-read\r\n\r\n"), "AccessDenied"},
		// Who.
		{"unknown", edit(exampleGet, "Credential=AKIAIOSFODNN7EXAMPLE", "Credential=AKIAIOSFODNN7EXAMPLF"), "InvalidAccessKeyId"},
		{"digest", edit(exampleGet, "Credential=AKIAIOSFODNN7EXAMPLE", "Credential=digest"), "AccessDenied"},
		// The scope.
		{"service", edit(exampleGet, "/s3/", "/sts/"), "AuthorizationHeaderMalformed"},
		{"terminator", edit(exampleGet, "aws4_request", "aws5_request"), "AuthorizationHeaderMalformed"},
		{"no region", edit(exampleGet, "us-east-1", ""), "AuthorizationHeaderMalformed"},
		{"region", edit(exampleGet, "us-east-1", "us-east-2"), "SignatureDoesNotMatch"},
		{"scope date", edit(exampleGet, "/20130524/", "/20130523/"), "SignatureDoesNotMatch"},
		// The form.
		{"no signed headers", edit(exampleGet, "host;range;x-amz-content-sha256;x-amz-date", ""), "AuthorizationHeaderMalformed"},
		{"no host", edit(exampleGet, "host;range", "range"), "AuthorizationHeaderMalformed"},
		{"unsorted", edit(exampleGet, "host;range", "range;host"), "AuthorizationHeaderMalformed"},
		{"upper case", edit(exampleGet, "host;range", "Host;range"), "AuthorizationHeaderMalformed"},
		{"a part twice", edit(exampleGet, "SignedHeaders=", "SignedHeaders=host,SignedHeaders="), "AuthorizationHeaderMalformed"},
		{"a part missing", edit(exampleGet, "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,", ""), "AuthorizationHeaderMalformed"},
		{"short signature", edit(exampleGet, "Signature=f0", "Signature=f"), "AuthorizationHeaderMalformed"},
		{"two headers", edit(exampleGet, "Range:", "Authorization: AWS4-HMAC-SHA256 x\r\nRange:"), "InvalidRequest"},
		{"SigV2", edit(exampleGet, "AWS4-HMAC-SHA256 Credential", "AWS Credential"), "InvalidRequest"},
		{"ECDSA", edit(exampleGet, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "InvalidRequest"},
		{"Basic", edit(exampleGet, "AWS4-HMAC-SHA256 Credential", "Basic Credential"), "InvalidRequest"},
		{"both", edit(examplePresigned, "\r\n\r\n", "\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n\r\n"), "InvalidRequest"},
		{"no payload hash", edit(exampleGet, "x-amz-content-sha256: "+emptyPayload+"\r\n", ""), "InvalidRequest"},
		// The date.
		{"no date", edit(exampleGet, "x-amz-date: 20130524T000000Z\r\n", ""), "AccessDenied"},
		{"Date alone", edit(exampleGet, "x-amz-date: 20130524T000000Z\r\n", "Date: Fri, 24 May 2013 00:00:00 GMT\r\n"), "AccessDenied"},
		{"fraction", edit(exampleGet, "T000000Z", "T000000.5Z"), "AccessDenied"},
		{"two dates", edit(exampleGet, "x-amz-date:", "x-amz-date: 20130524T000000Z\r\nx-amz-date:"), "AccessDenied"},
		{"presigned fraction", edit(examplePresigned, "T000000Z", "T000000.5Z"), "AuthorizationQueryParametersError"},
		{"presigned no algorithm", edit(examplePresigned, "X-Amz-Algorithm=AWS4-HMAC-SHA256&", ""), "AuthorizationQueryParametersError"},
		{"presigned no signature", examplePresigned[:strings.Index(examplePresigned, "&X-Amz-Signature")] + " HTTP/1.1\r\nHost: x\r\n\r\n", "AuthorizationQueryParametersError"},
		{"expires 0", edit(examplePresigned, "86400", "0"), "AuthorizationQueryParametersError"},
		{"expires -1", edit(examplePresigned, "86400", "-1"), "AuthorizationQueryParametersError"},
		{"expires +5", edit(examplePresigned, "86400", "%2B5"), "AuthorizationQueryParametersError"},
		{"expires 604801", edit(examplePresigned, "86400", "604801"), "AuthorizationQueryParametersError"},
		{"expires 9e18", edit(examplePresigned, "86400", "9000000000000000000"), "AuthorizationQueryParametersError"},
		{"expires missing", edit(examplePresigned, "&X-Amz-Expires=86400", ""), "AuthorizationQueryParametersError"},
	} {
		if u, refusal := verifyRaw(t, test.raw, exampleInstant); refusal == nil || refusal.Code != test.code || u != nil {
			t.Errorf("%s: %v, %v, want %s and no user", test.name, u, refusal, test.code)
		}
	}
}

func TestVerifyTime(t *testing.T) {
	const second = time.Second
	for _, test := range []struct {
		raw  string
		age  time.Duration
		code string
	}{
		{exampleGet, maxSkew + second, "RequestTimeTooSkewed"},
		{exampleGet, -maxSkew - second, "RequestTimeTooSkewed"},
		{examplePresigned, 86400 * second, ""},
		{examplePresigned, 86401 * second, "AccessDenied"},
		{examplePresigned, -maxSkew - second, "AccessDenied"},
	} {
		_, refusal := verifyRaw(t, test.raw, exampleInstant.Add(test.age))
		if code := codeOf(refusal); code != test.code {
			t.Errorf("%.20q… at an age of %s: %q, want %q", test.raw, test.age, code, test.code)
		}
	}
}

func codeOf(e *apiError) string {
	if e == nil {
		return ""
	}
	return e.Code
}

// One byte changed anywhere, and the request is refused. Only the version of
// HTTP is not signed.
func TestVerifyMutations(t *testing.T) {
	for _, raw := range []string{exampleGet, examplePut, exampleList, examplePresigned} {
		version := strings.Index(raw, "HTTP/1.1\r\n")
		for i := range raw {
			changed := []byte(raw)
			changed[i] ^= 1
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(changed))))
			if err != nil || version <= i && i < version+len("HTTP/1.1") {
				continue
			}
			path, err := requestPath(r)
			if err != nil {
				continue
			}
			query, err := parseQuery(r.URL.RawQuery)
			if err != nil {
				continue
			}
			if c, refusal := exampleUsers().authenticate(r, path, query, exampleInstant); refusal == nil {
				t.Errorf("accepted for %s with byte %d (%q) changed to %q:\n%s", c.user.name, i, raw[i], changed[i], changed)
			}
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(exampleGet)))
	if err != nil {
		b.Fatal(err)
	}
	users := exampleUsers()
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := users.authenticate(r, "/test.txt", nil, exampleInstant); refusal != nil {
			b.Fatal(refusal)
		}
	}
}

// Clients write white space in a signed header down in two ways. A backend is sent
// what all of them read alike.
func TestWhiteSpaceInASignedValue(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, test := range []struct{ sent, spaces, folded, forwarded string }{
		// as aws-sdk-go signs it, as botocore does, as it goes on
		{"a\tb", "a\tb", "a b", "a b"},
		{"a \t b", "a \t b", "a b", "a   b"},
		{"a\t\tb  c", "a\t\tb c", "a b c", "a  b  c"},
		{"a  b", "a b", "a b", "a  b"},
		{"\ta b\t", "a b", "a b", "a b"},
		{"東京\u3000大阪", "東京\u3000大阪", "東京 大阪", "東京 大阪"},
		{"a\xffb\tc", "a\xffb\tc", "a\xffb c", "a\xffb c"},
		{"a\xff\u3000b", "a\xff\u3000b", "a\xff b", "a\xff b"},
		{"a b", "a b", "a b", "a b"},
	} {
		for _, name := range []string{"x-amz-meta-a", "content-type", "x-amz-tagging"} {
			for _, canonical := range []string{test.spaces, test.folded} {
				lines, _ := signedHead{header: []string{name + ":" + canonical}}.sign()
				lines[2] = name + ": " + test.sent
				before := len(rec.requests())
				resp, body := g.do("PUT", "/photos/k", "", "data", lines...)
				seen := rec.requests()[before:]
				if resp.StatusCode != 200 || len(seen) != 1 || seen[0].header.Get(name) != test.forwarded {
					t.Errorf("%s: %q, signed as %q = %d %s, the backend saw %v, want %q", name, test.sent, canonical, resp.StatusCode, body, seen, test.forwarded)
				}
			}
			lines, _ := signedHead{header: []string{name + ":" + strings.ReplaceAll(test.folded, " ", "")}}.sign()
			lines[2] = name + ": " + test.sent
			resp, body := g.do("PUT", "/photos/k", "", "data", lines...)
			wantSignedRefusal(t, test.sent, "PUT", resp, body, "403 SignatureDoesNotMatch")
			if resp, body := g.do("PUT", "/photos/k", userKey, "data", name+": "+test.sent); resp.StatusCode != 200 {
				t.Errorf("%s: %q with x-api-key = %d %s, want 200", name, test.sent, resp.StatusCode, body)
			}
		}
	}
	for _, seen := range rec.requests() {
		for name, values := range seen.header {
			if _, is := signedName(name); is && hasOddSpace(values[0]) {
				t.Errorf("the backend got %s: %q", name, values[0])
			}
		}
	}
}

const (
	emptySHA256         = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
	formUnsigned        = "UNSIGNED-PAYLOAD"
	formChunks          = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	formChunksTrailer   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	formUnsignedTrailer = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	crc32Header         = "x-amz-checksum-crc32"
	amzDateLayout       = "20060102T150405Z"
	inventedSignature   = "Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func hmacOf(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func hexSHA256(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// A signedHead is the head of a request as its client means it. What is empty has
// the value that a good client would give it.
type signedHead struct {
	user, secret string // user, userKey
	method, path string // PUT, /photos/k
	query        []string
	header       []string // "name: value", names in lower case
	payload      string   // x-amz-content-sha256; UNSIGNED-PAYLOAD
	at           time.Time
	day          string // of the scope
	scope        string // what follows the day in it: any-region-1/s3/aws4_request
	names        string // that are said to be signed
}

func (h signedHead) filled() signedHead {
	h.user, h.secret = cmp.Or(h.user, "user"), cmp.Or(h.secret, userKey)
	h.method, h.path = cmp.Or(h.method, "PUT"), cmp.Or(h.path, "/photos/k")
	h.payload, h.scope = cmp.Or(h.payload, formUnsigned), cmp.Or(h.scope, "any-region-1/s3/aws4_request")
	if h.at.IsZero() {
		h.at = time.Now()
	}
	h.day = cmp.Or(h.day, h.at.UTC().Format("20060102"))
	return h
}

// key is the signing key: the secret, narrowed step by step.
func (h signedHead) key() []byte {
	key := []byte("AWS4" + h.secret)
	for _, part := range append([]string{h.day}, strings.Split(h.scope, "/")...) {
		key = hmacOf(key, part)
	}
	return key
}

// signature signs the request with these header lines, whose names, sorted, are
// what is signed unless h.names says otherwise.
func (h signedHead) signature(query, lines []string) (signature, names string) {
	lines, query = slices.Clone(lines), slices.Clone(query)
	slices.Sort(lines)
	slices.Sort(query)
	for i, pair := range query {
		if !strings.Contains(pair, "=") {
			query[i] += "="
		}
	}
	var fields, all []string
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		fields, all = append(fields, name+":"+strings.TrimSpace(value)+"\n"), append(all, name)
	}
	names = cmp.Or(h.names, strings.Join(all, ";"))
	canonical := strings.Join([]string{h.method, h.path, strings.Join(query, "&"), strings.Join(fields, ""), names, h.payload}, "\n")
	text := "AWS4-HMAC-SHA256\n" + h.at.UTC().Format(amzDateLayout) + "\n" + h.day + "/" + h.scope + "\n" + hexSHA256(canonical)
	return hex.EncodeToString(hmacOf(h.key(), text)), names
}

func (h signedHead) chain(signature string) *chunkChain {
	return &chunkChain{key: h.key(), rest: h.at.UTC().Format(amzDateLayout) + "\n" + h.day + "/" + h.scope + "\n", previous: signature}
}

// sign returns the header lines of a request signed in the header, and the chain
// of signatures that its chunks go on with.
func (h signedHead) sign() ([]string, *chunkChain) {
	h = h.filled()
	lines := append([]string{"x-amz-content-sha256: " + h.payload, "x-amz-date: " + h.at.UTC().Format(amzDateLayout)}, h.header...)
	signature, names := h.signature(h.query, append([]string{"host: gateway.example"}, lines...))
	return append(lines, "Authorization: AWS4-HMAC-SHA256 Credential="+h.user+"/"+h.day+"/"+h.scope+
		", SignedHeaders="+names+", Signature="+signature), h.chain(signature)
}

// presign returns the request target of a presigned request, and the chain.
func (h signedHead) presign(expires string) (target string, chain *chunkChain) {
	h = h.filled()
	names := []string{"host"}
	for _, line := range h.header {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	slices.Sort(names)
	query := append([]string{
		"X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Credential=" + url.QueryEscape(h.user+"/"+h.day+"/"+h.scope),
		"X-Amz-Date=" + h.at.UTC().Format(amzDateLayout), "X-Amz-Expires=" + expires,
		"X-Amz-SignedHeaders=" + url.QueryEscape(cmp.Or(h.names, strings.Join(names, ";"))),
	}, h.query...)
	signature, _ := h.signature(query, append([]string{"host: gateway.example"}, h.header...))
	return h.path + "?" + strings.Join(query, "&") + "&X-Amz-Signature=" + signature, h.chain(signature)
}

// wantSignedRefusal checks a refusal of a request that came signed, which is XML.
func wantSignedRefusal(t *testing.T, what, method string, resp *http.Response, body string, want ...string) {
	t.Helper()
	if resp.StatusCode == 0 {
		t.Errorf("%s: the connection was closed without an answer: %s", what, resp.Header.Get("Test-Error"))
		return
	}
	if method != "HEAD" && resp.Header.Get("Content-Type") != "application/xml" {
		t.Errorf("%s: Content-Type %q, want S3's XML", what, resp.Header.Get("Content-Type"))
	}
	if method != "HEAD" {
		method = what + ": " + method
	}
	wantRefusal(t, method, resp, body, want...)
}

// Who names a known user, and invents the signature, has not proved
// anything. Other gateways have looked at it for every form of payload but the
// one whose chunks carry no signatures.
func TestInventedSignatureIsRefused(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	invented := regexp.MustCompile("Signature=[0-9a-f]{64}")
	body := strings.Join(framePayload(formUnsignedTrailer, nil, "x"), "")
	for _, framing := range []string{formUnsignedTrailer, formChunks, formChunksTrailer, formUnsigned, hexSHA256(body)} {
		for _, target := range []string{"/photos/k", "/photos/k?partNumber=1&uploadId=u"} {
			for _, auth := range []string{"header", "presigned"} {
				target, lines, _ := chunkedUpload{auth, framing}.open(target, 1)
				target = invented.ReplaceAllString(target, inventedSignature)
				for i := range lines {
					lines[i] = invented.ReplaceAllString(lines[i], inventedSignature)
				}
				resp, text := sendUpload(g, target, lines, body, "length", 0)
				wantSignedRefusal(t, auth+"/"+framing, "PUT", resp, text, "403 SignatureDoesNotMatch")
			}
		}
	}
	rec.wantNone(t)
}

// What was not signed may have been added on the way. With
// x-amz-copy-source a presigned upload would become a copy of another object,
// and with an acl a private object a public one.
func TestUnsignedHeadersAreRefused(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, line := range []string{
		"x-amz-copy-source: /photos/other", "X-AMZ-COPY-SOURCE: /secret/k", "x-amz-copy-source-range: bytes=0-1",
		"x-amz-metadata-directive: REPLACE", "x-amz-acl: private", "x-amz-grant-read: id=x", "x-amz-meta-a: b",
		"x-amz-tagging: a=b", "x-amz-storage-class: GLACIER", "x-amz-security-token: t", "x-amz-trailer: " + crc32Header,
		"x-amz-decoded-content-length: 1", "x-amz-server-side-encryption: AES256",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			head := signedHead{method: method}
			lines, _ := head.sign()
			resp, text := g.do(method, "/photos/k", "", "", append(lines, line)...)
			wantSignedRefusal(t, "header, "+line, method, resp, text, "403 AccessDenied")
			target, _ := head.presign("60")
			resp, text = g.do(method, target, "", "", line)
			wantSignedRefusal(t, "presigned, "+line, method, resp, text, "403 AccessDenied")
		}
	}
	// The digest of a body is in what is signed, named among the headers or not. A
	// presigned request has none unless it says so.
	target, _ := signedHead{}.presign("60")
	for _, digest := range []string{hexSHA256("x"), formUnsignedTrailer} {
		resp, text := g.do("PUT", target, "", "x", "x-amz-content-sha256: "+digest)
		wantSignedRefusal(t, "presigned, digest", "PUT", resp, text, "403 SignatureDoesNotMatch")
	}
	resp, text := g.do("PUT", target, "", "x", "x-amz-content-sha256: "+formUnsigned, "x-amz-content-sha256: "+formUnsigned)
	wantSignedRefusal(t, "presigned, digest twice", "PUT", resp, text, "403 AccessDenied")
	said, _ := signedHead{query: []string{"X-Amz-Content-Sha256=" + formUnsigned}}.presign("60")
	for _, digest := range []string{hexSHA256("x"), formUnsignedTrailer} {
		resp, text := g.do("PUT", said, "", "x", "x-amz-content-sha256: "+digest)
		wantSignedRefusal(t, "presigned, another digest", "PUT", resp, text, "400 InvalidArgument", "403 SignatureDoesNotMatch")
	}
	// Added to the query, they were not signed either.
	for _, parameter := range []string{"X-Amz-Copy-Source=%2Fphotos%2Fother", "x-amz-acl=private", "x-amz-meta-a=b"} {
		resp, text := g.do("PUT", target+"&"+parameter, "", "x")
		wantSignedRefusal(t, parameter, "PUT", resp, text, "403 SignatureDoesNotMatch")
	}
	rec.wantNone(t)
	// What is no x-amz- header need not be signed: proxies add such things.
	resp, text = g.do("PUT", target, "", "x", "Content-Type: text/plain", "x-amzn-trace-id: Root=1", "X-Forwarded-For: 1.2.3.4")
	if resp.StatusCode != 200 || len(rec.requests()) != 1 {
		t.Errorf("PUT with unsigned harmless headers = %d %s, want 200", resp.StatusCode, text)
	}
}

// Some clients leave x-amz-content-sha256 out of the list of signed headers, and S3
// lets them: its value is in what is signed all the same.
// https://github.com/zengularity/benji/pull/309
func TestDigestThatIsNotAmongTheSignedHeaders(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	now := time.Now()
	lines := func(signed string) []string {
		h := signedHead{payload: signed, at: now}.filled()
		date := "x-amz-date: " + h.at.UTC().Format(amzDateLayout)
		signature, names := h.signature(nil, []string{"host: gateway.example", date})
		return []string{date, "Authorization: AWS4-HMAC-SHA256 Credential=" + h.user + "/" + h.day + "/" + h.scope + ", SignedHeaders=" + names + ", Signature=" + signature}
	}
	for _, payload := range []string{formUnsigned, hexSHA256("x")} {
		resp, text := g.do("PUT", "/photos/k", "", "x", append(lines(payload), "x-amz-content-sha256: "+payload)...)
		if resp.StatusCode != 200 {
			t.Errorf("PUT with %s = %d %s, want 200", payload, resp.StatusCode, text)
		}
		for _, other := range []string{formUnsignedTrailer, formChunks, hexSHA256("y"), ""} {
			resp, text = g.do("PUT", "/photos/k", "", "x", append(lines(payload), "x-amz-content-sha256: "+other)...)
			wantSignedRefusal(t, other+" in place of "+payload, "PUT", resp, text, "403 SignatureDoesNotMatch")
		}
	}
	resp, text := g.do("PUT", "/photos/k", "", "x", append(lines(formUnsigned), "x-amz-content-sha256: "+formUnsigned, "x-amz-content-sha256: "+formUnsigned)...)
	wantSignedRefusal(t, "twice", "PUT", resp, text, "400 InvalidRequest", "403 AccessDenied")
	for _, seen := range rec.requests() {
		if seen.body != "x" {
			t.Errorf("the backend got %q", seen.body)
		}
	}
}

// Servers that keep headers as CGI variables, such as radosgw, take
// x_amz_copy_source for x-amz-copy-source. So that is a name nobody has checked,
// by either authentication method, and no such header may reach a backend.
func TestUnderscoresDoNotStandForHyphens(t *testing.T) {
	for _, name := range []string{"x_amz_copy_source", "X_Amz_Copy_Source", "x-amz_copy-source", "x_amz_acl", "x_amz_meta_a", "x_amz_decoded_content_length", "x_rgw_a"} {
		rec := startRecorder(t, nil)
		g := startGateway(t, testConfig(rec.URL))
		line := name + ": secret/k"
		lines, _ := signedHead{}.sign()
		target, _ := signedHead{}.presign("60")
		g.do("PUT", "/photos/k", userKey, "", line)
		g.do("PUT", "/photos/k", "", "", append(lines, line)...)
		g.do("PUT", target, "", "", line)
		for _, seen := range rec.requests() {
			for header := range seen.header {
				if strings.Contains(header, "_") {
					t.Errorf("the backend got the header %s: %s", header, seen.header[header])
				}
			}
		}
	}
}

// A presigned request is good from its date to its end, which is at most
// seven days later, and neither is to be read generously. As AWS has it, what is
// malformed is a 400, what is not of now a 403.
func TestPresignedRequestExpires(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	const malformed = "400 AuthorizationQueryParametersError"
	now := time.Now()
	for _, row := range []struct {
		what, expires string
		age           time.Duration
		want          string
	}{
		{"a second late", "60", 61 * time.Second, "403 AccessDenied"},
		{"a second late, of one", "1", 2 * time.Second, "403 AccessDenied"},
		{"a second late, of seven days", "604800", 604801 * time.Second, "403 AccessDenied"},
		{"years late", "60", 20 * 365 * 24 * time.Hour, "403 AccessDenied"},
		{"from the future", "60", -16 * time.Minute, "403 AccessDenied"},
		{"from the far future", "604800", -24 * time.Hour, "403 AccessDenied"},
		{"0", "0", 0, malformed},
		{"-1", "-1", 0, malformed},
		{"+5", "%2B5", 0, malformed},
		{"a space", "5%20", 0, malformed},
		{"5.0", "5.0", 0, malformed},
		{"5e3", "5e3", 0, malformed},
		{"0x5", "0x5", 0, malformed},
		{"1_0", "1_0", 0, malformed},
		{"more than seven days", "604801", 0, malformed},
		{"9e18", "9000000000000000000", 0, malformed},
		{"2^32 and five", "4294967301", 0, malformed},
		{"2^64 and five", "18446744073709551621", 0, malformed},
		{"empty", "", 0, malformed},
		{"Arabic digits", "%D9%A5", 0, malformed},
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			target, _ := signedHead{method: method, at: now.Add(-row.age)}.presign(row.expires)
			resp, text := g.do(method, target, "", "")
			wantSignedRefusal(t, row.what, method, resp, text, row.want)
		}
	}
	// Signed rightly, over a query that lacks a part or has a strange date.
	target, _ := signedHead{method: "GET"}.presign("60")
	date := now.UTC().Format(amzDateLayout)
	for what, edit := range map[string]string{
		"no expiry":       strings.Replace(target, "&X-Amz-Expires=60", "", 1),
		"no date":         regexp.MustCompile("&X-Amz-Date=[^&]*").ReplaceAllString(target, ""),
		"no credential":   regexp.MustCompile("&X-Amz-Credential=[^&]*").ReplaceAllString(target, ""),
		"no algorithm":    strings.Replace(target, "X-Amz-Algorithm=AWS4-HMAC-SHA256&", "", 1),
		"no names":        regexp.MustCompile("&X-Amz-SignedHeaders=[^&]*").ReplaceAllString(target, ""),
		"no signature":    regexp.MustCompile("&X-Amz-Signature=[^&]*").ReplaceAllString(target, ""),
		"a fraction":      regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date="+strings.TrimSuffix(date, "Z")+".5Z"),
		"a comma":         regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date="+strings.TrimSuffix(date, "Z")+",5Z"),
		"another form":    regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date="+url.QueryEscape(now.UTC().Format(time.RFC3339))),
		"a zone":          regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date="+strings.TrimSuffix(date, "Z")+"%2B0000"),
		"a 31st February": regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date=20130231T000000Z"),
	} {
		resp, text := g.do("GET", edit, "", "")
		if resp.Header.Get("Content-Type") != "application/xml" && what != "no credential" {
			t.Errorf("%s: Content-Type %q, want S3's XML", what, resp.Header.Get("Content-Type"))
		}
		wantRefusal(t, what, resp, text, malformed)
	}
	rec.wantNone(t)
	for _, row := range []struct {
		expires string
		age     time.Duration
	}{{"604800", 604700 * time.Second}, {"60", -14 * time.Minute}, {"1", -time.Minute}, {"0005", 0}} {
		target, _ := signedHead{method: "GET", at: now.Add(-row.age)}.presign(row.expires)
		if resp, text := g.do("GET", target, "", ""); resp.StatusCode != 200 {
			t.Errorf("expires %s at an age of %s = %d %s, want 200", row.expires, row.age, resp.StatusCode, text)
		}
	}
}

// A request signed in the header is good for 15 minutes, either way, and
// by the date that was signed; or what was overheard years ago would still do.
func TestSignatureIsFreshFor15Minutes(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	now := time.Now()
	for _, age := range []time.Duration{16 * time.Minute, -16 * time.Minute, 24 * time.Hour, -24 * time.Hour, now.Sub(time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC))} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			lines, _ := signedHead{method: method, at: now.Add(-age)}.sign()
			resp, text := g.do(method, "/photos/k", "", "", lines...)
			wantSignedRefusal(t, age.String(), method, resp, text, "403 RequestTimeTooSkewed")
		}
	}
	lines, _ := signedHead{method: "GET"}.sign()
	amzDate := lines[1]
	edit := func(replace ...string) []string {
		return append(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l == amzDate }), replace...)
	}
	for what, lines := range map[string][]string{
		"no date":      edit(),
		"Date alone":   edit("Date: " + now.UTC().Format(http.TimeFormat)),
		"a fraction":   edit(strings.TrimSuffix(amzDate, "Z") + ".5Z"),
		"a comma":      edit(strings.TrimSuffix(amzDate, "Z") + ",5Z"),
		"another form": edit("x-amz-date: " + now.UTC().Format(http.TimeFormat)),
		"an empty one": edit("x-amz-date:"),
		"two":          edit(amzDate, amzDate),
		"two in one":   edit(amzDate + ", " + strings.TrimPrefix(amzDate, "x-amz-date: ")),
	} {
		resp, text := g.do("GET", "/photos/k", "", "", lines...)
		wantSignedRefusal(t, what, "GET", resp, text, "403 AccessDenied", "403 SignatureDoesNotMatch")
	}
	// With the Date of the request signed, in place of x-amz-date.
	head := signedHead{method: "GET", names: "date;host;x-amz-content-sha256", header: []string{"date: " + now.UTC().Format(http.TimeFormat)}}
	lines, _ = head.sign()
	resp, text := g.do("GET", "/photos/k", "", "", slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "x-amz-date") })...)
	wantSignedRefusal(t, "Date signed", "GET", resp, text, "403 AccessDenied")
	for _, day := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		lines, _ := signedHead{method: "GET", day: now.Add(day).UTC().Format("20060102")}.sign()
		resp, text := g.do("GET", "/photos/k", "", "", lines...)
		wantSignedRefusal(t, "another day in the scope", "GET", resp, text, "403 SignatureDoesNotMatch", "400 AuthorizationHeaderMalformed")
		target, _ := signedHead{method: "GET", day: now.Add(day).UTC().Format("20060102")}.presign("604800")
		resp, text = g.do("GET", target, "", "")
		wantSignedRefusal(t, "another day in the scope, presigned", "GET", resp, text, "403 SignatureDoesNotMatch", "400 AuthorizationQueryParametersError")
	}
	rec.wantNone(t)
	for _, age := range []time.Duration{14 * time.Minute, -14 * time.Minute} {
		at := now.Add(-age)
		lines, _ := signedHead{method: "GET", at: at}.sign()
		if resp, text := g.do("GET", "/photos/k", "", "", lines...); resp.StatusCode != 200 {
			t.Errorf("at an age of %s = %d %s, want 200", age, resp.StatusCode, text)
		}
	}
}

// A presigned request is good for what it was made for: one method, one
// key, one set of parameters.
func TestPresignedRequestIsForOneRequestOnly(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	target, _ := signedHead{method: "GET"}.presign("60")
	overridden, _ := signedHead{method: "GET", query: []string{"response-content-type=text%2Fplain"}}.presign("60")
	for _, row := range []struct{ method, target string }{
		{"PUT", target}, {"DELETE", target}, {"HEAD", target}, {"POST", target},
		{"GET", strings.Replace(target, "/photos/k", "/photos/k2", 1)},
		{"GET", strings.Replace(target, "/photos/k", "/photos/K", 1)},
		{"GET", strings.Replace(target, "/photos/k", "/photos", 1)},
		{"GET", strings.Replace(target, "/photos/k", "/secret/k", 1)},
		{"GET", target + "&response-content-type=text%2Fhtml"},
		{"GET", target + "&versionId=1"},
		{"GET", target + "&acl"},
		{"GET", target + "&x-id=GetObject"},
		{"GET", target + "&X-Amz-Security-Token=t"},
		{"GET", strings.Replace(target, "X-Amz-Expires=60", "X-Amz-Expires=61", 1)},
		{"GET", strings.Replace(target, "user%2F", "ro%2F", 1)},
		{"GET", strings.Replace(target, "user%2F", "admin%2F", 1)},
		{"GET", strings.Replace(target, "any-region-1", "any-region-2", 1)},
		{"GET", strings.Replace(overridden, "text%2Fplain", "text%2Fhtml", 1)},
		{"GET", strings.Replace(overridden, "&response-content-type=text%2Fplain", "", 1)},
	} {
		resp, text := g.do(row.method, row.target, "", "")
		wantSignedRefusal(t, row.target[:20], row.method, resp, text, "403 SignatureDoesNotMatch", "403 AccessDenied")
	}
	resp, text := g.raw("GET", "GET "+target+" HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n")
	wantSignedRefusal(t, "another host", "GET", resp, text, "403 SignatureDoesNotMatch")
	// Of two values, another program on the way may have taken the other one.
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		pair := regexp.MustCompile(name + "=[^&]*").FindString(target)
		for _, twice := range []string{target + "&" + pair, strings.Replace(target, "?", "?"+pair+"&", 1), target + "&" + name + "=", target + "&" + name} {
			resp, text := g.do("GET", twice, "", "")
			wantRefusal(t, name+" twice", resp, text, "400 InvalidArgument", "400 AuthorizationQueryParametersError")
		}
	}
	rec.wantNone(t)
	for _, target := range []string{target, overridden} {
		if resp, text := g.do("GET", target, "", ""); resp.StatusCode != 200 {
			t.Errorf("GET %s = %d %s, want 200", target[:20], resp.StatusCode, text)
		}
	}
}

// Of a request that is signed twice, one signature may be good and the
// other one be what a later step goes by. It is refused, whichever is good.
func TestTwoSignaturesAreRefused(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		head := signedHead{method: method}
		target, _ := head.presign("60")
		_, query, _ := strings.Cut(target, "?")
		over := head
		over.query = strings.Split(query, "&")
		both, _ := over.sign()
		plain, _ := head.sign()
		for what, row := range map[string]struct {
			target string
			lines  []string
		}{
			"both good":           {target, both},
			"the query is good":   {target, plain},
			"nonsense beside it":  {target, []string{"Authorization: x"}},
			"empty beside it":     {target, []string{"Authorization:"}},
			"Basic beside it":     {target, []string{"Authorization: Basic dXNlcjp1c2Vy"}},
			"a signature alone":   {"/photos/k?X-Amz-Signature=00", plain},
			"an algorithm alone":  {"/photos/k?X-Amz-Algorithm=AWS4-HMAC-SHA256", plain},
			"a credential alone":  {"/photos/k?X-Amz-Credential=user", plain},
			"an encoded name":     {"/photos/k?X-Amz-%53ignature=00", plain},
			"an empty parameter":  {"/photos/k?X-Amz-Signature", plain},
			"the other way round": {"/photos/k?" + query, []string{plain[0], plain[1], "Authorization: AWS4-HMAC-SHA256 x"}},
		} {
			resp, text := g.do(method, row.target, "", "", row.lines...)
			wantRefusal(t, what, resp, text, "400 InvalidRequest", "400 InvalidArgument")
		}
	}
	rec.wantNone(t)
}

// A claim that is not of the form agreed is refused; it does not become
// a request without one, nor one of another kind.
func TestMalformedClaimsAreRefused(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	claims := map[string]signedHead{
		"another service":    {scope: "us-east-1/sts/aws4_request"},
		"S3":                 {scope: "us-east-1/S3/aws4_request"},
		"s3express":          {scope: "us-east-1/s3express/aws4_request"},
		"another terminator": {scope: "us-east-1/s3/aws5_request"},
		"no terminator":      {scope: "us-east-1/s3"},
		"one part more":      {scope: "us-east-1/s3/aws4_request/x"},
		"no region":          {scope: "/s3/aws4_request"},
		"a short day":        {day: "2013524"},
		"no user":            {user: "/"},
		"no host":            {names: "x-amz-content-sha256;x-amz-date"},
		"no names":           {names: " "},
		"upper case":         {names: "Host;x-amz-content-sha256;x-amz-date"},
		"unsorted":           {names: "x-amz-date;host;x-amz-content-sha256"},
		"a name twice":       {names: "host;host;x-amz-content-sha256;x-amz-date"},
		"an empty name":      {names: ";host;x-amz-content-sha256;x-amz-date"},
		"a name too many":    {names: "host;x-amz-content-sha256;x-amz-date;x-amz-meta-absent"},
		"Host too many":      {names: "content-md5;host;x-amz-content-sha256;x-amz-date"},
	}
	denied := []string{"400 AuthorizationHeaderMalformed", "400 AuthorizationQueryParametersError", "403 SignatureDoesNotMatch", "403 AccessDenied", "400 InvalidRequest"}
	for what, head := range claims {
		for _, method := range []string{"GET", "PUT"} {
			head.method = method
			lines, _ := head.sign()
			resp, text := g.do(method, "/photos/k", "", "", lines...)
			wantSignedRefusal(t, what, method, resp, text, denied...)
			if head.names != "" { // of a presigned request they are others
				continue
			}
			target, _ := head.presign("60")
			resp, text = g.do(method, target, "", "")
			wantSignedRefusal(t, what+", presigned", method, resp, text, denied...)
		}
	}
	lines, _ := signedHead{method: "GET"}.sign()
	good := lines[len(lines)-1]
	rest := lines[:len(lines)-1]
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the header has no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for what, line := range map[string]string{
		"ECDSA":             with("AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 "),
		"SHA1":              with("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 "),
		"lower case":        with("AWS4-HMAC-SHA256 ", "aws4-hmac-sha256 "),
		"a tab":             with("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256\t"),
		"version 2":         "Authorization: AWS user:MDEyMzQ1Njc4OWFiY2RlZjAxMjM=",
		"Basic":             "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+userKey)),
		"Bearer":            "Authorization: Bearer " + userKey,
		"a JWT":             "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
		"empty":             "Authorization:",
		"the word alone":    "Authorization: AWS4-HMAC-SHA256",
		"no signature":      with(", Signature=", ", Signatur="),
		"empty signature":   regexp.MustCompile("Signature=.*").ReplaceAllString(good, "Signature="),
		"short signature":   good[:len(good)-1],
		"long signature":    good + "0",
		"a part twice":      good + ", " + good[strings.Index(good, "Signature="):],
		"a part more":       good + ", Extra=1",
		"no commas":         strings.ReplaceAll(good, ",", " "),
		"semicolons":        strings.ReplaceAll(good, ",", ";"),
		"no names at all":   regexp.MustCompile("SignedHeaders=[^,]*, ").ReplaceAllString(good, ""),
		"empty names":       regexp.MustCompile("SignedHeaders=[^,]*").ReplaceAllString(good, "SignedHeaders="),
		"capital signature": good[:len(good)-64] + strings.ToUpper(good[len(good)-64:]),
	} {
		resp, text := g.do("GET", "/photos/k", "", "", append(slices.Clone(rest), line)...)
		wantRefusal(t, what, resp, text, denied...)
	}
	for what, query := range map[string]string{
		"version 2":       "AWSAccessKeyId=user&Expires=9999999999&Signature=abc",
		"version 2 alone": "AWSAccessKeyId=user",
		"an ECDSA":        "X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Credential=user&X-Amz-Signature=00",
		"v4a regions":     "X-Amz-Region-Set=*&X-Amz-Algorithm=AWS4-HMAC-SHA256",
	} {
		resp, text := g.do("GET", "/photos/k?"+query, "", "")
		wantRefusal(t, what, resp, text, denied...)
	}
	// No digest of the body, which header authentication needs.
	resp, text := g.do("GET", "/photos/k", "", "", slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.HasPrefix(l, "x-amz-content-sha256") })...)
	wantRefusal(t, "no digest", resp, text, denied...)
	rec.wantNone(t)
	if resp, text := g.do("GET", "/photos/k", "", "", lines...); resp.StatusCode != 200 {
		t.Errorf("GET, rightly signed = %d %s, want 200", resp.StatusCode, text)
	}
}

// A user that is not there, a wrong key of one that is, and one whose
// key can't verify anything: the same status, the same words but for S3's code,
// and the same work, so that time tells nothing either.
func TestUnknownUserCostsAsMuchAsAWrongKey(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("users.hashed", map[string]any{"api_key_sha256": hexSHA256("some key of somebody"), "role": "user", "allowed_buckets": []any{"photos"}})))
	claims := map[string]signedHead{
		"InvalidAccessKeyId":    {user: "nobody", method: "GET"},
		"SignatureDoesNotMatch": {user: "user", secret: "not the key of anybody", method: "GET"},
		"AccessDenied":          {user: "hashed", secret: "some key of somebody", method: "GET"},
	}
	headers := map[string]string{}
	work := map[string]float64{}
	for code, head := range claims {
		for _, presigned := range []bool{false, true} {
			target := "/photos/k"
			var lines []string
			if presigned {
				target, _ = head.presign("60")
			} else {
				lines, _ = head.sign()
			}
			resp, text := g.do("GET", target, "", "", lines...)
			wantSignedRefusal(t, head.user, "GET", resp, text, "403 "+code)
			if head.user != "user" && strings.Contains(text, head.user) { // "user" is a word
				t.Errorf("the answer names the user: %s", text)
			}
			var names []string
			for name := range resp.Header {
				names = append(names, name)
			}
			slices.Sort(names)
			headers[strings.Join(names, " ")] = code
			raw := "GET " + target + " HTTP/1.1\r\nHost: gateway.example\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n"
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
			if err != nil {
				t.Fatal(err)
			}
			query, err := parseQuery(r.URL.RawQuery)
			if err != nil {
				t.Fatal(err)
			}
			work[fmt.Sprint(presigned, code)] = testing.AllocsPerRun(100, func() {
				if _, refusal := g.gw.auth.authenticate(r, "/photos/k", query, time.Now()); refusal == nil || refusal.Code != code {
					t.Errorf("authenticate: %v, want %s", refusal, code)
				}
			})
		}
	}
	if len(headers) != 1 {
		t.Errorf("the answers have different headers: %q", headers)
	}
	// Each HMAC allocates, so who leaves one out is found by that.
	for _, presigned := range []bool{false, true} {
		want := work[fmt.Sprint(presigned, "SignatureDoesNotMatch")]
		for code := range claims {
			if got := work[fmt.Sprint(presigned, code)]; got < want-3 || got > want+3 {
				t.Errorf("presigned %t, %s takes %v allocations, a wrong key takes %v, want about the same", presigned, code, got, want)
			}
		}
	}
	rec.wantNone(t)
	for _, key := range []string{"nobody-has-this-key-0123", userKey[:len(userKey)-1] + "g", userKey + "0"} {
		resp, text := g.do("GET", "/photos/k", key, "")
		wantError(t, resp, text, 401, "Unauthorized")
	}
	rec.wantNone(t)
}

// A comparison that stops at the first difference tells, by its time, how
// far a guess was right. So no operator and no function that stops so is used
// on a secret or a signature, anywhere but in tests.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	secret := regexp.MustCompile(`(?i)secret|signature|api_?key|passw|signingkey|hmac|sessiontoken|\.token$`)
	compares := regexp.MustCompile(`^(bytes\.(Equal|Compare|HasPrefix|Contains)|strings\.(EqualFold|Compare|HasPrefix|Contains)|reflect\.DeepEqual|slices\.(Equal|Contains|Index)|cmp\.Compare)$`)
	constants := regexp.MustCompile(`^(signatureAlgorithm|len\(.*\)|nil|true|false|\d+|"[^"]*"|".*)$`)
	// Words about secrets, which are none.
	known := regexp.MustCompile(`SignatureDoesNotMatch|^(c\.)?signatureAlgorithm|SignedHeaders|lastSecret\(\)`)
	names, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	files, calls := 0, 0
	for _, entry := range names {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		source, err := os.ReadFile(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		set := gotoken.NewFileSet()
		file, err := parser.ParseFile(set, entry.Name(), source, 0)
		if err != nil {
			t.Fatal(err)
		}
		files++
		text := func(n ast.Node) string {
			return string(source[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset])
		}
		suspect := func(n ast.Node, sides ...ast.Expr) {
			for _, side := range sides {
				if constants.MatchString(text(side)) {
					return // of a form, or of whether there is one
				}
			}
			for _, side := range sides {
				if s := text(side); secret.MatchString(s) && !known.MatchString(s) {
					t.Errorf("%s: %s compares what looks like a secret", set.Position(n.Pos()), text(n))
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if n.Op == gotoken.EQL || n.Op == gotoken.NEQ {
					suspect(n, n.X, n.Y)
				}
			case *ast.SwitchStmt:
				if n.Tag != nil && secret.MatchString(text(n.Tag)) {
					t.Errorf("%s: a switch on what looks like a secret: %s", set.Position(n.Pos()), text(n.Tag))
				}
			case *ast.CallExpr:
				switch name := text(n.Fun); {
				case compares.MatchString(name):
					suspect(n, n.Args...)
				case name == "subtle.ConstantTimeCompare" || name == "hmac.Equal":
					calls++
				}
			}
			return true
		})
	}
	if files < 20 || calls < 4 { // the head, a chunk, the trailer, and the demo's
		t.Errorf("%d files and %d comparisons in constant time, want at least 20 and 4: was the right folder read?", files, calls)
	}
}

// Who has overheard a signed request on plain HTTP can send it again, for
// 15 minutes. Signature Version 4 knows no other answer than TLS, and neither
// does the gateway: this is allowed, and after that time it is not.
func TestSignedRequestMayBeRepeatedWhileFresh(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	lines, _ := signedHead{payload: hexSHA256("x"), at: time.Now().Add(-14 * time.Minute)}.sign()
	for i := range 3 {
		if resp, text := g.do("PUT", "/photos/k", "", "x", lines...); resp.StatusCode != 200 {
			t.Errorf("PUT, time %d = %d %s, want 200", i, resp.StatusCode, text)
		}
	}
	for _, other := range []string{"y", ""} {
		resp, text := g.do("PUT", "/photos/k", "", other, lines...)
		wantSignedRefusal(t, "another body", "PUT", resp, text, "400 XAmzContentSHA256Mismatch")
	}
	whole := 0
	for _, seen := range rec.requests() {
		if seen.err == nil {
			whole++
		}
	}
	if whole != 3 {
		t.Errorf("the backend got %d whole requests, want 3", whole)
	}
}
