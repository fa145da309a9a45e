package main

import (
	"bufio"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"
	"time"
)

// exampleUsers has the user whose name and key are those of AWS's examples.
func exampleUsers() *authenticator {
	return newAuthenticator([]*user{
		{name: exampleCredentials.AccessKeyID, role: roleUser, secrets: []string{"another key, older", exampleCredentials.SecretAccessKey}},
		{name: "digest", role: roleUser, digests: [][sha256.Size]byte{sha256.Sum256([]byte("x"))}},
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
		return nil, newError("InvalidArgument", err.Error())
	}
	u, _, refusal := exampleUsers().authenticate(r, path, query, now)
	return u, refusal
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
			if u, _, refusal := exampleUsers().authenticate(r, path, query, exampleInstant); refusal == nil {
				t.Errorf("accepted for %s with byte %d (%q) changed to %q:\n%s", u.name, i, raw[i], changed[i], changed)
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
		if _, _, refusal := users.authenticate(r, "/test.txt", nil, exampleInstant); refusal != nil {
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
		{"a b", "a b", "a b", "a b"},
	} {
		for _, name := range []string{"x-amz-meta-a", "content-type", "x-amz-tagging"} {
			for _, canonical := range []string{test.spaces, test.folded} {
				lines, _ := sigHead{header: []string{name + ":" + canonical}}.sign()
				lines[2] = name + ": " + test.sent
				before := len(rec.requests())
				resp, body := g.do("PUT", "/photos/k", "", "data", lines...)
				seen := rec.requests()[before:]
				if resp.StatusCode != 200 || len(seen) != 1 || seen[0].header.Get(name) != test.forwarded {
					t.Errorf("%s: %q, signed as %q = %d %s, the backend saw %v, want %q", name, test.sent, canonical, resp.StatusCode, body, seen, test.forwarded)
				}
			}
			lines, _ := sigHead{header: []string{name + ":" + strings.ReplaceAll(test.folded, " ", "")}}.sign()
			lines[2] = name + ": " + test.sent
			resp, body := g.do("PUT", "/photos/k", "", "data", lines...)
			sigRefusal(t, test.sent, "PUT", resp, body, "403 SignatureDoesNotMatch")
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
