package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

var demoTestCreds = credentials{AccessKeyID: "demo-key", SecretAccessKey: "demo-secret"}

// A demoClient talks to a demo server over a socket.
type demoClient struct {
	t      testing.TB
	dir    string
	url    *url.URL
	server *demoServer
	signer *signer
}

func startDemo(t testing.TB, dir string, buckets ...string) *demoClient {
	t.Helper()
	s, err := newDemoServer(dir, demoTestCreds, buckets...)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	t.Cleanup(demoTransport.CloseIdleConnections) // before Close, which waits for them
	u, _ := url.Parse(ts.URL)
	return &demoClient{t, dir, u, s, &signer{region: "us-east-1"}}
}

// request returns a request that is not signed. The path is decoded, the query
// encoded.
func (c *demoClient) request(method, path, query string, h http.Header, body string) *http.Request {
	c.t.Helper()
	u := &url.URL{Scheme: "http", Host: c.url.Host, Path: path, RawPath: uriEncode(path, false), RawQuery: query}
	req, err := http.NewRequest(method, u.String(), strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, values := range h {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	return req
}

func (c *demoClient) sign(req *http.Request, body string) *http.Request {
	sum := sha256.Sum256([]byte(body))
	c.signer.sign(req, &demoTestCreds, hex.EncodeToString(sum[:]), time.Now())
	return req
}

// A demoAnswer is a response with its body.
type demoAnswer struct {
	*http.Response
	body string
}

// code is the code of an error document, and "" for anything else.
func (a demoAnswer) code() string {
	var doc struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
	}
	if xml.Unmarshal([]byte(a.body), &doc) != nil {
		return ""
	}
	return doc.Code
}

// has fails if an answer lacks one of the texts, or has one that begins with !.
func (a demoAnswer) has(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if absent, no := strings.CutPrefix(text, "!"); strings.Contains(a.body, absent) == no {
			t.Errorf("want %s in %d\n%s", text, a.StatusCode, a.body)
		}
	}
}

// demoTransport follows no redirect and unpacks nothing.
var demoTransport = &http.Transport{DisableCompression: true}

func (c *demoClient) send(req *http.Request) demoAnswer {
	c.t.Helper()
	resp, err := demoTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return demoAnswer{resp, string(body)}
}

// do signs and sends.
func (c *demoClient) do(method, path, query string, h http.Header, body string) demoAnswer {
	c.t.Helper()
	return c.send(c.sign(c.request(method, path, query, h, body), body))
}

// want is do, and fails if the status and the code are others.
func (c *demoClient) want(status int, code, method, path, query string, h http.Header, body string) demoAnswer {
	c.t.Helper()
	a := c.do(method, path, query, h, body)
	if a.StatusCode != status || method != "HEAD" && a.code() != code {
		c.t.Errorf("%s %q ?%s %v = %d %q, want %d %q\n%s", method, path, query, h, a.StatusCode, a.code(), status, code, a.body)
	}
	return a
}

func demoHeader(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// The server accepts the requests that AWS signed in its documentation. They
// are addressed to the host of a bucket, which the demo does not know: the error
// after the authentication shows that the signature was right.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
func TestDemoAcceptsSignaturesOfAWS(t *testing.T) {
	creds := credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	s, err := newDemoServer(t.TempDir(), creds)
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) }
	const welcome = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
	for _, test := range []struct {
		method, target, names, signature, hash string
		header                                 http.Header
		want                                   int
	}{
		{"GET", "/test.txt", "host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", emptyPayload,
			demoHeader("Range", "bytes=0-9"), 404},
		{"PUT", "/test%24file.text", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", welcome,
			demoHeader("Date", "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY"), 501},
		{"GET", "/?lifecycle", "host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543", emptyPayload, nil, 501},
		{"GET", "/?max-keys=2&prefix=J", "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", emptyPayload, nil, 501},
		{"GET", "/?max-keys=2&prefix=K", "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", emptyPayload, nil, 403},
	} {
		req := httptest.NewRequest(test.method, test.target, nil)
		req.Host = "examplebucket.s3.amazonaws.com"
		for name, values := range test.header {
			req.Header[name] = values
		}
		req.Header.Set("X-Amz-Date", "20130524T000000Z")
		req.Header.Set("X-Amz-Content-Sha256", test.hash)
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders="+test.names+",Signature="+test.signature)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		if w.Code != test.want {
			t.Errorf("%s %s = %d, want %d\n%s", test.method, test.target, w.Code, test.want, w.Body)
		}
	}
}

func TestDemoRefusesWrongSignatures(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(200, "", "PUT", "/photos/cat one", "", nil, "meow")
	at := func(age time.Duration) func(*http.Request) {
		return func(req *http.Request) { c.signer.sign(req, &demoTestCreds, emptyPayload, time.Now().Add(-age)) }
	}
	with := func(creds credentials, region string) func(*http.Request) {
		s := &signer{region: region}
		return func(req *http.Request) { s.sign(req, &creds, emptyPayload, time.Now()) }
	}
	digest := func(payloadHash string) func(*http.Request) {
		return func(req *http.Request) { c.signer.sign(req, &demoTestCreds, payloadHash, time.Now()) }
	}
	header := func(name, value, then string) func(*http.Request) { // signed, then another
		return func(req *http.Request) { req.Header.Set(name, value); at(0)(req); req.Header.Set(name, then) }
	}
	altered := func(alter func(*http.Request)) func(*http.Request) {
		return func(req *http.Request) { at(0)(req); alter(req) }
	}
	authorization := func(old, new string) func(*http.Request) {
		return altered(func(req *http.Request) {
			req.Header.Set("Authorization", strings.Replace(req.Header.Get("Authorization"), old, new, 1))
		})
	}
	for _, test := range []struct {
		name    string
		prepare func(*http.Request)
		status  int
		code    string
	}{
		{"right", at(0), 200, ""},
		{"any region", with(demoTestCreds, "eu-west-1"), 200, ""},
		{"14 minutes late", at(14 * time.Minute), 200, ""},
		{"body unsigned", digest(unsignedPayload), 200, ""},
		{"spaces in a header", header("X-Amz-Request-Payer", "  a   b ", "  a   b "), 200, ""},
		{"header twice", func(r *http.Request) { r.Header["X-Amz-Request-Payer"] = []string{"a", "b"}; at(0)(r) }, 200, ""},
		{"spaces after the commas", authorization(",SignedHeaders=", ", SignedHeaders="), 200, ""},
		{"needless escapes", altered(func(r *http.Request) { r.URL.RawPath = "/%70hotos/cat%20one" }), 200, ""},
		{"unsigned header that is not S3's", altered(func(r *http.Request) { r.Header.Set("Accept-Language", "en") }), 200, ""},
		{"no signature", func(*http.Request) {}, 403, "AccessDenied"},
		{"presigned", func(r *http.Request) { r.URL.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=0" }, 403, "AccessDenied"},
		{"wrong secret", with(credentials{"demo-key", "other", ""}, "us-east-1"), 403, "SignatureDoesNotMatch"},
		{"wrong key id", with(credentials{"other-key", "demo-secret", ""}, "us-east-1"), 403, "InvalidAccessKeyId"},
		{"unknown token", with(credentials{"demo-key", "demo-secret", "token"}, "us-east-1"), 400, "InvalidToken"},
		{"16 minutes late", at(16 * time.Minute), 403, "RequestTimeTooSkewed"},
		{"16 minutes early", at(-16 * time.Minute), 403, "RequestTimeTooSkewed"},
		{"altered path", altered(func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/photos/cat two", "" }), 403, "SignatureDoesNotMatch"},
		{"altered query", altered(func(r *http.Request) { r.URL.RawQuery = "x=1" }), 403, "SignatureDoesNotMatch"},
		{"altered method", altered(func(r *http.Request) { r.Method = "DELETE" }), 403, "SignatureDoesNotMatch"},
		{"altered host", altered(func(r *http.Request) { r.Host = "other" }), 403, "SignatureDoesNotMatch"},
		{"altered range", header("Range", "bytes=0-1", "bytes=0-0"), 403, "SignatureDoesNotMatch"},
		{"unsigned header of S3", altered(func(r *http.Request) { r.Header.Set("X-Amz-Acl", "private") }), 403, "AccessDenied"},
		{"host not signed", authorization("host;", ""), 403, "AccessDenied"},
		{"no date", altered(func(r *http.Request) { r.Header.Del("X-Amz-Date") }), 403, "AccessDenied"},
		{"another date in the credential", authorization("demo-key/20", "demo-key/19"), 403, "AccessDenied"},
		{"another service", authorization("/s3/", "/iam/"), 400, "AuthorizationHeaderMalformed"},
		{"no Signature", authorization("Signature=", "Sig="), 400, "AuthorizationHeaderMalformed"},
		{"version 2", altered(func(r *http.Request) { r.Header.Set("Authorization", "AWS demo-key:x") }), 400, "InvalidRequest"},
		{"no digest", altered(func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }), 400, "InvalidRequest"},
		{"digest of another body", digest(strings.Repeat("ab", 32)), 400, "XAmzContentSHA256Mismatch"},
		{"signed chunks", digest("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), 501, "NotImplemented"},
	} {
		req := c.request("GET", "/photos/cat one", "", nil, "")
		test.prepare(req)
		if a := c.send(req); a.StatusCode != test.status || a.code() != test.code {
			t.Errorf("%s: %d %q, want %d %q\n%s", test.name, a.StatusCode, a.code(), test.status, test.code, a.body)
		}
	}
	if a := c.want(200, "", "GET", "/photos/cat one", "", nil, ""); a.body != "meow" {
		t.Errorf("after refused requests the object is %q", a.body)
	}
}

// What a request asks for and the server does not know is refused, and does
// nothing: it is not ignored.
func TestDemoRefusesWhatItDoesNotImplement(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(200, "", "PUT", "/photos/cat", "", nil, "meow")
	for _, test := range []struct{ method, path, query, header string }{
		{"GET", "/", "", ""}, {"PUT", "/photos", "", ""}, {"DELETE", "/photos", "", ""}, {"PATCH", "/photos/cat", "", ""}, {"POST", "/photos/cat", "", ""},
		{"GET", "/photos", "cors=", ""}, {"GET", "/photos", "versions=", ""}, {"GET", "/photos", "delete=&location=", ""}, {"GET", "/photos", "unknown=1", ""},
		{"GET", "/photos/cat", "versionId=null", ""}, {"GET", "/photos/cat", "partNumber=1", ""}, {"PUT", "/photos/cat", "acl=", ""},
		{"GET", "/photos/cat", "max-parts=1&uploadId=x", ""},
		{"PUT", "/photos/cat", "partNumber=1&tagging=&uploadId=x", ""}, {"PUT", "/photos/cat", "", "X-Amz-Copy-Source-Range: bytes=0-1"},
		{"GET", "/photos/cat", "", "X-Amz-Copy-Source: photos/cat"}, {"PUT", "/photos/cat", "", "X-Amz-Server-Side-Encryption: AES256"},
		{"PUT", "/photos/cat", "", "X-Amz-Tagging: a=b"}, {"PUT", "/photos/cat", "", "X-Amz-Storage-Class: GLACIER"}, {"PUT", "/photos/cat", "", "X-Amz-Acl: public-read"},
		{"PUT", "/photos/cat", "", `If-None-Match: "x"`}, {"DELETE", "/photos/cat", "", "If-Match: x"},
	} {
		h := http.Header{}
		if name, value, ok := strings.Cut(test.header, ": "); ok {
			h.Set(name, value)
		}
		c.want(501, "NotImplemented", test.method, test.path, test.query, h, "")
	}
	if a := c.want(200, "", "GET", "/photos/cat", "x-id=GetObject", nil, ""); a.body != "meow" {
		t.Errorf("after operations not implemented: %q, want meow", a.body)
	}
}

func TestDemoAnswersWhatIsMissingWith404(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	for _, test := range []struct{ method, path, code string }{
		{"GET", "/videos", "NoSuchBucket"}, {"HEAD", "/videos", ""}, {"PUT", "/videos/cat", "NoSuchBucket"},
		{"GET", "/photos/cat", "NoSuchKey"}, {"HEAD", "/photos/cat", ""},
	} {
		if a := c.want(404, test.code, test.method, test.path, "", nil, ""); test.method == "HEAD" && a.body != "" {
			t.Errorf("HEAD %s with a body: %q", test.path, a.body)
		}
	}
	c.want(404, "NoSuchKey", "GET", "/photos/<&>", "", nil, "").has(t, "<Resource>/photos/%3C%26%3E</Resource>", "<RequestId>")
	c.want(400, "KeyTooLongError", "PUT", "/photos/"+strings.Repeat("k", 1025), "", nil, "")
	c.want(400, "InvalidURI", "PUT", "/photos/\xff", "", nil, "")
	c.want(200, "", "HEAD", "/photos", "", nil, "")
	c.want(200, "", "HEAD", "/photos/", "", nil, "")
}
