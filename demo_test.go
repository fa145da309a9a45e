package main

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var demoTestCreds = credentials{AccessKeyID: "demo-key", SecretAccessKey: "demo-secret"}

// A demoClient talks to a demo server over a socket. The zero time is now.
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
	t.Cleanup(demoTransport.CloseIdleConnections) // first: Close waits for them
	u, _ := url.Parse(ts.URL)
	return &demoClient{t, dir, u, s, &signer{source: staticCredentials(demoTestCreds), region: "us-east-1"}}
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
	c.signer.sign(req, hex.EncodeToString(sum[:]), time.Now())
	return req
}

// A demoAnswer is a response, read.
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

// demoTransport doesn't follow a redirect, there must be none, and doesn't
// unpack what says that it is gzip.
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

// want sends a request and fails if the status and the code are others.
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

// files returns the names in a bucket's folder but for the marker.
func (c *demoClient) files(bucket string) []string {
	c.t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.dir, bucket))
	if err != nil {
		c.t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if entry.Name() != demoBucketMarker {
			names = append(names, entry.Name())
		}
	}
	return names
}

// TestDemoVectors has the server check the requests that AWS signed in its
// documentation. They are addressed to the host of a bucket, which the demo
// doesn't know; so what comes after authentication is an error, and it tells
// that the signature was found to be right.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
func TestDemoVectors(t *testing.T) {
	creds := credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	s, err := newDemoServer(t.TempDir(), creds)
	if err != nil {
		t.Fatal(err)
	}
	s.now = func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) }
	const (
		empty   = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		welcome = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
	)
	for _, test := range []struct {
		method, target, names, signature, hash string
		header                                 http.Header
		want                                   int
	}{
		{"GET", "/test.txt", "host;range;x-amz-content-sha256;x-amz-date", "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41", empty,
			demoHeader("Range", "bytes=0-9"), 404},
		{"PUT", "/test%24file.text", "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class", "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd", welcome,
			demoHeader("Date", "Fri, 24 May 2013 00:00:00 GMT", "X-Amz-Storage-Class", "REDUCED_REDUNDANCY"), 501},
		{"GET", "/?lifecycle", "host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543", empty, nil, 501},
		{"GET", "/?max-keys=2&prefix=J", "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7", empty, nil, 501},
		{"GET", "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
			"", "", "", nil, 404},
	} {
		req := httptest.NewRequest(test.method, test.target, nil)
		req.Host = "examplebucket.s3.amazonaws.com"
		for name, values := range test.header {
			req.Header[name] = values
		}
		if test.hash != "" {
			req.Header.Set("X-Amz-Date", "20130524T000000Z")
			req.Header.Set("X-Amz-Content-Sha256", test.hash)
			req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders="+test.names+",Signature="+test.signature)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		if w.Code != test.want {
			t.Errorf("%s %s = %d, want %d\n%s", test.method, test.target, w.Code, test.want, w.Body)
		}
	}
}

func TestDemoAuthentication(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(200, "", "PUT", "/photos/cat one", "", nil, "meow")
	at := func(age time.Duration) func(*http.Request) {
		return func(req *http.Request) { c.signer.sign(req, emptyPayload, time.Now().Add(-age)) }
	}
	with := func(creds credentials, region string) func(*http.Request) {
		s := &signer{source: staticCredentials(creds), region: region}
		return func(req *http.Request) { s.sign(req, emptyPayload, time.Now()) }
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
		{"no signature", func(*http.Request) {}, 403, "AccessDenied"},
		{"wrong secret", with(credentials{"demo-key", "other", ""}, "us-east-1"), 403, "SignatureDoesNotMatch"},
		{"wrong key id", with(credentials{"other-key", "demo-secret", ""}, "us-east-1"), 403, "InvalidAccessKeyId"},
		{"token of none", with(credentials{"demo-key", "demo-secret", "token"}, "us-east-1"), 400, "InvalidToken"},
		{"14 minutes late", at(14 * time.Minute), 200, ""},
		{"16 minutes late", at(16 * time.Minute), 403, "RequestTimeTooSkewed"},
		{"16 minutes early", at(-16 * time.Minute), 403, "RequestTimeTooSkewed"},
		{"altered path", altered(func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/photos/cat two", "" }), 403, "SignatureDoesNotMatch"},
		{"altered query", altered(func(r *http.Request) { r.URL.RawQuery = "x=1" }), 403, "SignatureDoesNotMatch"},
		{"altered method", altered(func(r *http.Request) { r.Method = "DELETE" }), 403, "SignatureDoesNotMatch"},
		{"altered host", altered(func(r *http.Request) { r.Host = "other" }), 403, "SignatureDoesNotMatch"},
		{"altered range", func(r *http.Request) {
			r.Header.Set("Range", "bytes=0-1")
			at(0)(r)
			r.Header.Set("Range", "bytes=0-0")
		}, 403, "SignatureDoesNotMatch"},
		{"unsigned header of S3", altered(func(r *http.Request) { r.Header.Set("X-Amz-Acl", "private") }), 403, "AccessDenied"},
		{"unsigned other header", altered(func(r *http.Request) { r.Header.Set("Accept-Language", "en") }), 200, ""},
		{"host not signed", authorization("host;", ""), 403, "AccessDenied"},
		{"another date in the credential", authorization("/us-east-1", "1/us-east-1"), 400, "AuthorizationHeaderMalformed"},
		{"another service", authorization("/s3/", "/iam/"), 400, "AuthorizationHeaderMalformed"},
		{"no Signature", authorization("Signature=", "Sig="), 400, "AuthorizationHeaderMalformed"},
		{"empty signature", func(r *http.Request) {
			at(0)(r)
			r.Header.Set("Authorization", r.Header.Get("Authorization")[:strings.Index(r.Header.Get("Authorization"), "Signature=")+10])
		}, 400, "AuthorizationHeaderMalformed"},
		{"version 2", altered(func(r *http.Request) { r.Header.Set("Authorization", "AWS demo-key:x") }), 400, "InvalidRequest"},
		{"no digest", altered(func(r *http.Request) { r.Header.Del("X-Amz-Content-Sha256") }), 400, "InvalidRequest"},
		{"digest of another body", func(r *http.Request) { c.signer.sign(r, strings.Repeat("ab", 32), time.Now()) }, 400, "XAmzContentSHA256Mismatch"},
		{"no digest at all", func(r *http.Request) { c.signer.sign(r, "none", time.Now()) }, 400, "InvalidArgument"},
		{"body unsigned", func(r *http.Request) { c.signer.sign(r, unsignedPayload, time.Now()) }, 200, ""},
		{"chunked body", func(r *http.Request) { c.signer.sign(r, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", time.Now()) }, 501, "NotImplemented"},
		{"no date", altered(func(r *http.Request) { r.Header.Del("X-Amz-Date") }), 403, "AccessDenied"},
		{"spaces in a header", func(r *http.Request) { r.Header.Set("X-Amz-Request-Payer", "  a   b "); at(0)(r) }, 200, ""},
		{"header twice", func(r *http.Request) { r.Header["X-Amz-Request-Payer"] = []string{"a", "b"}; at(0)(r) }, 200, ""},
		{"needless escapes", altered(func(r *http.Request) { r.URL.RawPath = "/%70hotos/cat%20one" }), 200, ""},
		{"both forms", altered(func(r *http.Request) { r.URL.RawQuery = "X-Amz-Signature=0" }), 400, "InvalidArgument"},
	} {
		req := c.request("GET", "/photos/cat one", "", nil, "")
		test.prepare(req)
		if a := c.send(req); a.StatusCode != test.status || a.code() != test.code {
			t.Errorf("%s: %d %q, want %d %q\n%s", test.name, a.StatusCode, a.code(), test.status, test.code, a.body)
		}
	}
}

// presign returns a presigned query, made by the four steps.
func (c *demoClient) presign(method, path string, at time.Time, expires string) string {
	date := at.UTC().Format(amzDateFormat)
	scope := credentialScope(date[:8], "us-east-1", "s3")
	query := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + uriEncode("demo-key/"+scope, true) +
		"&X-Amz-Date=" + date + "&X-Amz-Expires=" + expires + "&X-Amz-SignedHeaders=host"
	canonical := appendCanonicalRequest(nil, method, uriEncode(path, false), query, []headerField{{"host", c.url.Host}}, unsignedPayload)
	return query + "&X-Amz-Signature=" + string(signature(signingKey("demo-secret", date[:8], "us-east-1", "s3"), stringToSign(date, scope, canonical)))
}

func TestDemoPresigned(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	now := time.Now()
	if a := c.send(c.request("PUT", "/photos/cat", c.presign("PUT", "/photos/cat", now, "60"), nil, "meow")); a.StatusCode != 200 {
		t.Fatalf("presigned PUT = %d %s", a.StatusCode, a.body)
	}
	for _, test := range []struct {
		name, query string
		header      http.Header
		status      int
		code        string
	}{
		{"right", c.presign("GET", "/photos/cat", now, "60"), nil, 200, ""},
		{"for another method", c.presign("PUT", "/photos/cat", now, "60"), nil, 403, "SignatureDoesNotMatch"},
		{"for another key", c.presign("GET", "/photos/dog", now, "60"), nil, 403, "SignatureDoesNotMatch"},
		{"with another parameter", c.presign("GET", "/photos/cat", now, "60") + "&response-expires=x", nil, 403, "SignatureDoesNotMatch"},
		{"two hours old, for three", c.presign("GET", "/photos/cat", now.Add(-2*time.Hour), "10800"), nil, 200, ""},
		{"two hours old, for one", c.presign("GET", "/photos/cat", now.Add(-2*time.Hour), "3600"), nil, 403, "AccessDenied"},
		{"of tomorrow", c.presign("GET", "/photos/cat", now.Add(24*time.Hour), "60"), nil, 403, "AccessDenied"},
		{"for eight days", c.presign("GET", "/photos/cat", now, "691200"), nil, 400, "AuthorizationQueryParametersError"},
		{"by version 2", "AWSAccessKeyId=demo-key&Expires=2000000000&Signature=x", nil, 400, "InvalidRequest"},
		{"for no time", c.presign("GET", "/photos/cat", now, "0"), nil, 400, "AuthorizationQueryParametersError"},
		{"unsigned header of S3", c.presign("GET", "/photos/cat", now, "60"), demoHeader("X-Amz-Acl", "private"), 403, "AccessDenied"},
	} {
		if a := c.send(c.request("GET", "/photos/cat", test.query, test.header, "")); a.StatusCode != test.status || a.code() != test.code {
			t.Errorf("%s: %d %q, want %d %q", test.name, a.StatusCode, a.code(), test.status, test.code)
		}
	}
}

var demoOddKeys = []string{
	"a", "a b", "a+b", "a%2Fb", "a%b", "a//b", "a/./b", "a/../b", "..", ".", "/a", "//", "dir/", "ключ/鍵/🗝", "e\u0301", "é",
	"\x01\x1f\x7f\t\r\n", "?x#y&z=", `\"'<>`, "~-._!$'()*,;:@", strings.Repeat("k", 1024), "index.html", "\ufffe\uffff",
}

func TestDemoOddKeys(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos")
	for i, key := range demoOddKeys {
		c.want(200, "", "PUT", "/photos/"+key, "", nil, fmt.Sprint("object ", i))
	}
	c = startDemo(t, dir) // what was stored is found again
	for i, key := range demoOddKeys {
		if a := c.want(200, "", "GET", "/photos/"+key, "", nil, ""); a.body != fmt.Sprint("object ", i) {
			t.Errorf("GET %q = %q, want object %d", key, a.body, i)
		}
	}
	if got, want := c.listAll(demoListing{size: 1000, v2: true, encode: true}), slices.Sorted(slices.Values(demoOddKeys)); !slices.Equal(got, want) {
		t.Errorf("list = %q, want %q", got, want)
	}
	for _, key := range demoOddKeys {
		c.want(204, "", "DELETE", "/photos/"+key, "", nil, "")
		c.want(204, "", "DELETE", "/photos/"+key, "", nil, "")
		c.want(404, "NoSuchKey", "GET", "/photos/"+key, "", nil, "")
	}
	if got := c.listAll(demoListing{size: 1000, v2: true}); len(got) > 0 {
		t.Errorf("list of nothing = %q", got)
	}
	if files := c.files("photos"); len(files) > 0 {
		t.Errorf("files left: %q", files)
	}
	c.want(400, "KeyTooLongError", "PUT", "/photos/"+strings.Repeat("k", 1025), "", nil, "")
	c.want(400, "InvalidURI", "PUT", "/photos/\xff", "", nil, "")
}

func TestDemoHeaders(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	stored := demoHeader("Content-Type", "text/html", "Content-Encoding", "gzip", "Content-Disposition", "attachment", "Content-Language", "en",
		"Cache-Control", "no-cache", "Expires", "Thu, 01 Dec 1994 16:00:00 GMT", "X-Amz-Meta-Name", "Caf\xc3\xa9 \xe9", "X-Amz-Storage-Class", "STANDARD_IA")
	put := stored.Clone()
	put.Set("X-Amz-Acl", "private")
	c.want(200, "", "PUT", "/photos/cat", "", put, "meow")
	for _, method := range []string{"GET", "HEAD"} {
		a := c.want(200, "", method, "/photos/cat", "", nil, "")
		for name := range stored {
			if got, want := a.Header.Get(name), stored.Get(name); got != want {
				t.Errorf("%s: %s = %q, want %q", method, name, got, want)
			}
		}
		// The MD5 of "meow", by md5sum.
		if got, want := a.Header.Get("ETag"), `"4a4be40c96ac6314e91d93f38043a634"`; got != want {
			t.Errorf("%s: ETag = %s, want %s", method, got, want)
		}
		for name, values := range a.Header {
			if len(values) != 1 {
				t.Errorf("%s: %s = %q, want it once", method, name, values)
			}
		}
		if got := a.Header.Get("Content-Length"); got != "4" {
			t.Errorf("%s: Content-Length = %q, want 4", method, got)
		}
		if a.Header.Get("Last-Modified") == "" || a.Header.Get("Accept-Ranges") != "bytes" || a.Header.Get("X-Amz-Request-Id") == "" || a.Header.Get("Server") != "s3-proxy-demo" {
			t.Errorf("%s: a header is missing: %v", method, a.Header)
		}
	}
	w := httptest.NewRecorder() // a client of net/http would not show the case
	c.server.ServeHTTP(w, c.sign(httptest.NewRequest("GET", "/photos/cat", nil), ""))
	if w.Header()["x-amz-meta-name"] == nil || w.Header()["Content-Type"] == nil {
		t.Errorf("metadata not in lower case, or Content-Type not in net/http's: %v", w.Header())
	}
	a := c.want(200, "", "GET", "/photos/cat", "response-content-type=image%2Fpng&response-expires=never", nil, "")
	if got := a.Header.Get("Content-Type") + " " + a.Header.Get("Expires"); got != "image/png never" {
		t.Errorf("overridden headers = %q", got)
	}
	c.want(200, "", "PUT", "/photos/plain", "", nil, "")
	if got := c.want(200, "", "HEAD", "/photos/plain", "", nil, "").Header.Get("Content-Type"); got != "binary/octet-stream" {
		t.Errorf("Content-Type = %q, want binary/octet-stream", got)
	}
	c.want(200, "", "PUT", "/photos/m", "", demoHeader("X-Amz-Meta-A", strings.Repeat("v", 2047)), "")
	c.want(400, "MetadataTooLarge", "PUT", "/photos/m", "", demoHeader("X-Amz-Meta-A", strings.Repeat("v", 2048)), "")
	c.want(400, "InvalidStorageClass", "PUT", "/photos/m", "", demoHeader("X-Amz-Storage-Class", "FLOPPY"), "")
	c.want(400, "InvalidArgument", "PUT", "/photos/m", "", demoHeader("X-Amz-Acl", "mine"), "")
}

func TestDemoRange(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	etag := c.want(200, "", "PUT", "/photos/ten", "", nil, "0123456789").Header.Get("ETag")
	c.want(200, "", "PUT", "/photos/none", "", nil, "")
	for _, test := range []struct {
		key, spec, ifRange string
		status             int
		contentRange, body string
	}{
		{"ten", "bytes=0-0", "", 206, "bytes 0-0/10", "0"},
		{"ten", "bytes=2-4", "", 206, "bytes 2-4/10", "234"},
		{"ten", "bytes=7-", "", 206, "bytes 7-9/10", "789"},
		{"ten", "bytes=-3", "", 206, "bytes 7-9/10", "789"},
		{"ten", "bytes=-30", "", 206, "bytes 0-9/10", "0123456789"},
		{"ten", "bytes=8-30", "", 206, "bytes 8-9/10", "89"},
		{"ten", "bytes=8-99999999999999999999", "", 206, "bytes 8-9/10", "89"},
		{"ten", "bytes=10-", "", 416, "bytes */10", ""},
		{"ten", "bytes=-0", "", 416, "bytes */10", ""},
		{"ten", "bytes=4-2", "", 200, "", "0123456789"},
		{"ten", "bytes=+1-2", "", 200, "", "0123456789"},
		{"ten", "bytes=0-1,3-4", "", 200, "", "0123456789"},
		{"ten", "bytes=-", "", 200, "", "0123456789"},
		{"ten", "lines=1-2", "", 200, "", "0123456789"},
		{"ten", "bytes=0-1", etag, 206, "bytes 0-1/10", "01"},
		{"ten", "bytes=0-1", `"other"`, 200, "", "0123456789"},
		{"none", "bytes=0-", "", 416, "bytes */0", ""},
		{"none", "bytes=-1", "", 416, "bytes */0", ""},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			h := demoHeader("Range", test.spec)
			if test.ifRange != "" {
				h.Set("If-Range", test.ifRange)
			}
			a := c.do(method, "/photos/"+test.key, "", h, "")
			ok := a.StatusCode == test.status && a.Header.Get("Content-Range") == test.contentRange
			switch {
			case method == "HEAD":
				ok = ok && a.body == "" && (test.status == 416 || a.Header.Get("Content-Length") == strconv.Itoa(len(test.body)))
			case test.status == 416:
				ok = ok && a.code() == "InvalidRange"
			default:
				ok = ok && a.body == test.body
			}
			if !ok {
				t.Errorf("%s %s %s = %d %q %q", method, test.key, test.spec, a.StatusCode, a.Header.Get("Content-Range"), a.body)
			}
		}
	}
}

func TestDemoReadConditions(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	etag := c.want(200, "", "PUT", "/photos/cat", "", nil, "meow").Header.Get("ETag")
	const before, after = "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"
	for _, test := range []struct {
		header http.Header
		want   int
	}{
		{demoHeader("If-Match", etag), 200},
		{demoHeader("If-Match", strings.Trim(etag, `"`)), 200},
		{demoHeader("If-Match", "*"), 200},
		{demoHeader("If-Match", `"x", `+etag), 200},
		{demoHeader("If-Match", `"x"`), 412},
		{demoHeader("If-None-Match", etag), 304},
		{demoHeader("If-None-Match", `"x"`), 200},
		{demoHeader("If-Modified-Since", before), 200},
		{demoHeader("If-Modified-Since", after), 304},
		{demoHeader("If-Modified-Since", "no date"), 200},
		{demoHeader("If-Unmodified-Since", before), 412},
		{demoHeader("If-Unmodified-Since", after), 200},
		{demoHeader("If-Match", etag, "If-Unmodified-Since", before), 200},
		{demoHeader("If-None-Match", `"x"`, "If-Modified-Since", after), 200},
		{demoHeader("If-None-Match", etag, "If-Modified-Since", before), 304},
		{demoHeader("If-None-Match", etag, "Range", "bytes=9-"), 304},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := c.do(method, "/photos/cat", "", test.header, "")
			wantCode := map[bool]string{true: "PreconditionFailed"}[test.want == 412 && method == "GET"]
			if a.StatusCode != test.want || a.code() != wantCode {
				t.Errorf("%s %v = %d %q, want %d", method, test.header, a.StatusCode, a.code(), test.want)
			}
			if a.StatusCode == 304 && (a.Header.Get("ETag") != etag || a.body != "") {
				t.Errorf("%s %v: ETag %q, body %q", method, test.header, a.Header.Get("ETag"), a.body)
			}
		}
	}
}

func TestDemoWriteConditions(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(404, "NoSuchKey", "PUT", "/photos/cat", "", demoHeader("If-Match", `"x"`), "one")
	etag := c.want(200, "", "PUT", "/photos/cat", "", demoHeader("If-None-Match", "*"), "one").Header.Get("ETag")
	c.want(412, "PreconditionFailed", "PUT", "/photos/cat", "", demoHeader("If-None-Match", "*"), "two")
	c.want(412, "PreconditionFailed", "PUT", "/photos/cat", "", demoHeader("If-Match", `"x"`), "two")
	c.want(501, "NotImplemented", "PUT", "/photos/cat", "", demoHeader("If-None-Match", `"x"`), "two")
	if a := c.want(200, "", "GET", "/photos/cat", "", nil, ""); a.body != "one" {
		t.Errorf("after refused writes: %q, want one", a.body)
	}
	c.want(200, "", "PUT", "/photos/cat", "", demoHeader("If-Match", etag), "two")
	if n := len(c.files("photos")); n != 2 {
		t.Errorf("%d files, want 2: %q", n, c.files("photos"))
	}
}

// TestDemoChecksums has the check values of "123456789": those of the CRCs from
// the catalogue https://reveng.sourceforge.io/crc-catalogue/all.htm, the other
// ones by md5sum, sha1sum and sha256sum.
func TestDemoChecksums(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	const body = "123456789"
	for _, test := range []struct{ name, digest, mismatch, malformed string }{
		{"Content-Md5", "25f9e794323b453885f5181f1b624d0b", "BadDigest", "InvalidDigest"},
		{"X-Amz-Checksum-Crc32", "cbf43926", "BadDigest", "InvalidRequest"},
		{"X-Amz-Checksum-Crc32c", "e3069283", "BadDigest", "InvalidRequest"},
		{"X-Amz-Checksum-Crc64nvme", "ae8b14860a799888", "BadDigest", "InvalidRequest"},
		{"X-Amz-Checksum-Sha1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441", "BadDigest", "InvalidRequest"},
		{"X-Amz-Checksum-Sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225", "BadDigest", "InvalidRequest"},
	} {
		raw, err := hex.DecodeString(test.digest)
		if err != nil {
			t.Fatal(err)
		}
		value, key := base64.StdEncoding.EncodeToString(raw), "/photos/"+test.name
		c.want(400, test.mismatch, "PUT", key, "", demoHeader(test.name, value), "12345678X")
		c.want(400, test.malformed, "PUT", key, "", demoHeader(test.name, value[:4]), body)
		c.want(404, "NoSuchKey", "GET", key, "", nil, "")
		c.want(200, "", "PUT", key, "", demoHeader(test.name, value), body)
		if test.name == "Content-Md5" {
			continue
		}
		enabled := demoHeader("X-Amz-Checksum-Mode", "ENABLED")
		partial := demoHeader("X-Amz-Checksum-Mode", "ENABLED", "Range", "bytes=0-1")
		if got := c.want(200, "", "GET", key, "", enabled, "").Header.Get(test.name); got != value {
			t.Errorf("%s = %q, want %q", test.name, got, value)
		}
		if got := c.want(200, "", "GET", key, "", nil, "").Header.Get(test.name); got != "" {
			t.Errorf("%s = %q, unasked", test.name, got)
		}
		if got := c.want(206, "", "GET", key, "", partial, "").Header.Get(test.name); got != "" {
			t.Errorf("%s = %q, with a part of the object", test.name, got)
		}
	}
	c.want(400, "InvalidRequest", "PUT", "/photos/x", "", demoHeader("X-Amz-Checksum-Crc32", "y/Q5Jg==", "X-Amz-Checksum-Crc32c", "4waSgw=="), body)
	c.want(400, "InvalidRequest", "PUT", "/photos/x", "", demoHeader("X-Amz-Sdk-Checksum-Algorithm", "CRC32"), body)
	c.want(501, "NotImplemented", "PUT", "/photos/x", "", demoHeader("X-Amz-Checksum-Crc8", "AA=="), body)
	if n := len(c.files("photos")); n != 12 {
		t.Errorf("%d files, want 2 for each of 6 objects", n)
	}
}

// TestDemoShortBody has the upload end in the middle.
func TestDemoShortBody(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(200, "", "PUT", "/photos/cat", "", nil, "old")
	for _, test := range []struct{ framing, body, status, code string }{
		{"Content-Length: 100\r\n", "ten bytes.", "400 Bad Request", "IncompleteBody"},
		{"Transfer-Encoding: chunked\r\n", "3\r\nnew\r\n0\r\n\r\n", "411 Length Required", "MissingContentLength"},
		{"", "", "411 Length Required", "MissingContentLength"},
		{"Content-Length: 3\r\n", "bad", "400 Bad Request", "XAmzContentSHA256Mismatch"},
	} {
		req := c.sign(c.request("PUT", "/photos/cat", "", nil, ""), "new")
		conn, err := net.Dial("tcp", c.url.Host)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "PUT /photos/cat HTTP/1.1\r\nHost: %s\r\n", c.url.Host)
		req.Header.Write(conn)
		fmt.Fprint(conn, test.framing+"\r\n"+test.body)
		conn.(*net.TCPConn).CloseWrite()
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			t.Fatalf("%q: %v", test.framing, err)
		}
		body, _ := io.ReadAll(resp.Body)
		conn.Close()
		if a := (demoAnswer{resp, string(body)}); a.Status != test.status || a.code() != test.code {
			t.Errorf("%q: %s %s, want %s %s", test.framing, a.Status, a.code(), test.status, test.code)
		}
		if a := c.want(200, "", "GET", "/photos/cat", "", nil, ""); a.body != "old" {
			t.Errorf("%q: the object is now %q", test.framing, a.body)
		}
		if n := len(c.files("photos")); n != 2 {
			t.Errorf("%q: %d files, want 2", test.framing, n)
		}
	}
}

func TestDemoOperations(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos", "backups")
	if a := c.want(200, "", "GET", "/", "", nil, ""); !strings.Contains(a.body, "<Name>backups</Name>") || strings.Index(a.body, "photos") < strings.Index(a.body, "backups") {
		t.Errorf("ListBuckets = %s", a.body)
	}
	if a := c.want(200, "", "GET", "/photos", "location=", nil, ""); !strings.HasSuffix(a.body, "></LocationConstraint>") {
		t.Errorf("GetBucketLocation = %s", a.body)
	}
	c.want(200, "", "HEAD", "/photos", "", nil, "")
	c.want(200, "", "HEAD", "/photos/", "", nil, "")
	if a := c.want(404, "", "HEAD", "/videos", "", nil, ""); a.body != "" {
		t.Errorf("HEAD with a body: %q", a.body)
	}
	c.want(404, "NoSuchBucket", "GET", "/videos", "", nil, "")
	c.want(404, "NoSuchBucket", "PUT", "/videos/cat", "", nil, "x")
	c.want(404, "", "HEAD", "/photos/cat", "", nil, "")
	c.want(200, "", "GET", "/photos", "unknown=1&x-id=ListObjects", nil, "")
	for _, sub := range []string{"cors=", "lifecycle=", "policy=", "tagging=", "website=", "versionId=x&versions=", "acl=&versioning="} {
		c.want(501, "NotImplemented", "GET", "/photos", sub, nil, "")
	}
	c.want(200, "", "PUT", "/photos/cat", "", nil, "meow")
	for _, test := range []struct{ method, path, query, header string }{
		{"PUT", "/photos", "", ""}, {"DELETE", "/photos", "", ""}, {"PATCH", "/photos/cat", "", ""}, {"POST", "/photos/cat", "", ""},
		{"GET", "/photos/cat", "versionId=null", ""}, {"GET", "/photos/cat", "tagging=&versionId=x", ""}, {"GET", "/photos/cat", "partNumber=1", ""},
		{"PUT", "/photos/cat", "acl=", ""}, {"PUT", "/photos/cat", "partNumber=1&tagging=&uploadId=x", ""}, {"PUT", "/photos/cat", "tagging=", "X-Amz-Copy-Source"},
		{"GET", "/photos/cat", "", "X-Amz-Copy-Source"}, {"PUT", "/photos/cat", "", "X-Amz-Server-Side-Encryption"}, {"PUT", "/photos/cat", "", "X-Amz-Object-Lock-Mode"},
		{"DELETE", "/photos/cat", "", "If-Match"},
	} {
		h := http.Header{}
		if test.header != "" {
			h.Set(test.header, "x")
		}
		c.want(501, "NotImplemented", test.method, test.path, test.query, h, "")
	}
	if a := c.want(200, "", "GET", "/photos/cat", "", nil, ""); a.body != "meow" {
		t.Errorf("after operations not implemented: %q, want meow", a.body)
	}
}

// TestDemoReadWhileReplaced reads an object too large for the buffers between,
// while it is replaced and then deleted.
func TestDemoReadWhileReplaced(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	old := strings.Repeat("0123456789abcdef", 1<<20)
	c.want(200, "", "PUT", "/photos/cat", "", nil, old)
	for _, next := range []func(){
		func() { c.want(200, "", "PUT", "/photos/cat", "", nil, "new") },
		func() { c.want(204, "", "DELETE", "/photos/cat", "", nil, "") },
	} {
		c.want(200, "", "PUT", "/photos/cat", "", nil, old)
		resp, err := demoTransport.RoundTrip(c.sign(c.request("GET", "/photos/cat", "", nil, ""), ""))
		if err != nil {
			t.Fatal(err)
		}
		next()
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != old {
			t.Errorf("read %d bytes (%v), want the %d bytes of the old object", len(body), err, len(old))
		}
	}
}

// TestDemoConcurrentWriters has writers and readers of one key. What is read is
// always one of the bodies, whole, with the ETag that belongs to it.
func TestDemoConcurrentWriters(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos")
	body := func(i int) string { return strings.Repeat(string(rune('a'+i)), 1000*(i+1)) }
	c.want(200, "", "PUT", "/photos/cat", "", nil, body(0))
	check := func(a demoAnswer) {
		if a.StatusCode != 200 || a.body != body(int(a.body[0]-'a')) {
			t.Errorf("read %d %.20q…", a.StatusCode, a.body)
		}
		if sum := md5.Sum([]byte(a.body)); a.Header.Get("ETag") != `"`+hex.EncodeToString(sum[:])+`"` {
			t.Errorf("ETag %s of another object", a.Header.Get("ETag"))
		}
	}
	var wg sync.WaitGroup
	var created atomic.Int32
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				c.want(200, "", "PUT", "/photos/cat", "", nil, body(i))
				check(c.do("GET", "/photos/cat", "", nil, ""))
			}
			if c.do("PUT", "/photos/lock", "", demoHeader("If-None-Match", "*"), body(i)).StatusCode == 200 {
				created.Add(1)
			}
			c.want(200, "", "PUT", "/photos/"+body(i)[:1], "", nil, "")
			c.listAll(demoListing{size: 2, v2: true})
		})
	}
	wg.Wait()
	if n := created.Load(); n != 1 {
		t.Errorf("%d writers created the object, want 1", n)
	}
	if n := len(c.files("photos")); n != 20 {
		t.Errorf("%d files, want 2 for each of 10 objects", n)
	}
	check(startDemo(t, dir).do("GET", "/photos/cat", "", nil, ""))
}

func TestDemoRestart(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos", "backups")
	c.want(200, "", "PUT", "/photos/cat", "", demoHeader("Content-Type", "text/plain", "X-Amz-Meta-Mood", "\xe9"), "meow")
	first := c.want(200, "", "GET", "/photos/cat", "", nil, "")
	files := c.files("photos")

	hash := strings.Repeat("0", 64)
	foreign := filepath.Join(dir, "foreign", hash+".1.data") // in no bucket of ours
	os.Mkdir(filepath.Dir(foreign), 0o700)
	for _, path := range []string{foreign, filepath.Join(dir, "photos", hash+".1.data"), filepath.Join(dir, "photos", hash+".2.tmp")} {
		if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c = startDemo(t, dir, "photos", "videos")
	again := c.want(200, "", "GET", "/photos/cat", "", nil, "")
	for _, name := range []string{"Content-Type", "ETag", "Last-Modified", "X-Amz-Meta-Mood", "Content-Length"} {
		if got, want := again.Header.Get(name), first.Header.Get(name); got != want || want == "" {
			t.Errorf("%s = %q, was %q", name, got, want)
		}
	}
	if got := c.files("photos"); !slices.Equal(got, files) {
		t.Errorf("files = %q, want %q", got, files)
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a file in a folder that is no bucket: %v", err)
	}
	c.want(200, "", "HEAD", "/backups", "", nil, "")
	c.want(200, "", "HEAD", "/videos", "", nil, "")
	c.want(404, "", "HEAD", "/foreign", "", nil, "")

	// An object whose bytes are not all there is not started with.
	i := slices.IndexFunc(files, func(name string) bool { return strings.HasSuffix(name, ".data") })
	if err := os.Truncate(filepath.Join(dir, "photos", files[i]), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := newDemoServer(dir, demoTestCreds); err == nil || !strings.Contains(err.Error(), `"cat"`) {
		t.Errorf("newDemoServer with a damaged object: %v", err)
	}
	for _, name := range []string{"", "ab", "../x", "a/b", "UPPER", ".hid", strings.Repeat("b", 64)} {
		if _, err := newDemoServer(t.TempDir(), demoTestCreds, name); err == nil {
			t.Errorf("newDemoServer took the bucket name %q", name)
		}
	}
}

// A demoListing is how a bucket is listed.
type demoListing struct {
	prefix, delimiter string
	size              int
	v2, encode        bool
}

// A demoListDocument is what a client reads of either version.
type demoListDocument struct {
	IsTruncated                       bool
	KeyCount                          *int
	MaxKeys                           int
	NextMarker, NextContinuationToken string
	Contents                          []struct{ Key string }
	CommonPrefixes                    []struct{ Prefix string }
}

// page asks for one page of photos, without a socket: there are many. A prefix
// among the names it returns is not told from a key.
func (c *demoClient) page(l demoListing, position string) (names []string, doc demoListDocument) {
	c.t.Helper()
	params := []parameter{{"prefix", l.prefix}, {"delimiter", l.delimiter}, {"max-keys", strconv.Itoa(l.size)}}
	switch {
	case l.v2 && position != "":
		params = append(params, parameter{"list-type", "2"}, parameter{"continuation-token", position})
	case l.v2:
		params = append(params, parameter{"list-type", "2"})
	default:
		params = append(params, parameter{"marker", position})
	}
	if l.encode {
		params = append(params, parameter{"encoding-type", "url"})
	}
	req := httptest.NewRequest("GET", "/photos?"+canonicalQuery(params), nil)
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, c.sign(req, ""))
	if err := xml.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 200 {
		c.t.Fatalf("%+v: %d %v\n%s", l, w.Code, err, w.Body)
	}
	decode := func(name string) string {
		if l.encode {
			name, _ = url.QueryUnescape(name)
		}
		return name
	}
	for i := range doc.Contents {
		doc.Contents[i].Key = decode(doc.Contents[i].Key)
		names = append(names, doc.Contents[i].Key)
	}
	for _, p := range doc.CommonPrefixes {
		names = append(names, decode(p.Prefix))
	}
	doc.NextMarker = decode(doc.NextMarker)
	slices.Sort(names)
	return names, doc
}

// listAll follows the pages to the end.
func (c *demoClient) listAll(l demoListing) []string {
	c.t.Helper()
	var all []string
	position := ""
	for {
		names, doc := c.page(l, position)
		all = append(all, names...)
		switch {
		case doc.MaxKeys != l.size, l.v2 != (doc.KeyCount != nil), l.v2 && *doc.KeyCount != len(names),
			doc.IsTruncated && len(names) != l.size,
			(doc.NextMarker != "") != (!l.v2 && doc.IsTruncated && l.delimiter != ""),
			(doc.NextContinuationToken != "") != (l.v2 && doc.IsTruncated):
			c.t.Fatalf("%+v at %q: %d names in %+v", l, position, len(names), doc)
		case !doc.IsTruncated:
			return all
		case l.v2:
			position = doc.NextContinuationToken
		case l.delimiter != "":
			position = doc.NextMarker
		default:
			position = doc.Contents[len(doc.Contents)-1].Key
		}
	}
}

// demoModel is a list in one page, done in the simplest way.
func demoModel(keys []string, prefix, delimiter string) []string {
	var names []string
	for _, key := range slices.Sorted(slices.Values(keys)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if before, _, found := strings.Cut(key[len(prefix):], delimiter); found && delimiter != "" {
			key = prefix + before + delimiter
		}
		if !slices.Contains(names, key) {
			names = append(names, key)
		}
	}
	return names
}

func TestDemoListModel(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"a", "b", "a", "b", "/", "/", "é", "~", " ", "+", "&", "\U0001f5dd", "\uff61"}
	seen := map[string]bool{}
	var keys []string
	for len(keys) < 300 {
		key := ""
		for range 1 + random.IntN(7) {
			key += alphabet[random.IntN(len(alphabet))]
		}
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
			c.want(200, "", "PUT", "/photos/"+key, "", nil, "")
		}
	}
	for _, prefix := range []string{"", "a", "a/", "/", "é", "b+", "none"} {
		for _, delimiter := range []string{"", "/", "ab", "é"} {
			want := demoModel(keys, prefix, delimiter)
			for _, size := range []int{1, 2, 3, 4, 5, 6, 7, 1000} {
				for _, v2 := range []bool{false, true} {
					l := demoListing{prefix, delimiter, size, v2, size%2 == 0}
					if got := c.listAll(l); !slices.Equal(got, want) {
						t.Fatalf("%+v = %q, want %q", l, got, want)
					}
				}
			}
		}
	}
}

func TestDemoList(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	for _, key := range []string{"a", "dir/x", "dir/y", "dir0", "z+ &/\x01"} {
		c.want(200, "", "PUT", "/photos/"+key, "", nil, "")
	}
	has := func(query string, wants ...string) {
		t.Helper()
		a := c.do("GET", "/photos", query, nil, "")
		for _, want := range wants {
			if absent, ok := strings.CutPrefix(want, "!"); strings.Contains(a.body, cmpString(ok, absent, want)) == ok || a.StatusCode != 200 {
				t.Errorf("list ?%s: %d, want %s in\n%s", query, a.StatusCode, want, a.body)
			}
		}
	}
	has("", "<Key>a</Key>", "<Key>dir/y</Key>", "<Key>z+ &amp;/&#x1;</Key>", "<Marker></Marker>", "<MaxKeys>1000</MaxKeys>", "<IsTruncated>false<", "<StorageClass>STANDARD<", "<Owner>", "!KeyCount", "!Delimiter")
	has("list-type=2", "<KeyCount>5</KeyCount>", "!<Owner>", "!Marker", "!Token")
	has("fetch-owner=true&list-type=2", "<Owner>")
	has("encoding-type=url", "<Key>z%2B+%26/%01</Key>", "<EncodingType>url<", "<Key>dir/x</Key>")
	has("delimiter=%2B&encoding-type=url&marker=d%20&prefix=z%2B", "<Delimiter>%2B<", "<Marker>d+<", "<Prefix>z%2B<")
	has("max-keys=0", "<MaxKeys>0<", "<IsTruncated>false<", "!<Key>")
	has("list-type=2&max-keys=0", "<KeyCount>0<", "<IsTruncated>false<")
	has("max-keys=5000", "<MaxKeys>1000<")
	has("marker=dir%2Fx", "!<Key>dir/x<", "<Key>dir/y<")
	has("marker=dir%2F", "<Key>dir/x<")
	has("marker=A&prefix=dir", "<Key>dir/x<")
	has("marker=z&prefix=dir", "!<Key>")
	// The end of a page that was a common prefix, and a start inside of one.
	has("delimiter=%2F&marker=dir%2F", "!<Prefix>dir/<", "<Key>dir0<")
	has("delimiter=%2F&marker=dir%2Fx", "<Prefix>dir/<", "!<Key>a<")
	has("list-type=2&start-after=dir%2Fy", "<StartAfter>dir/y<", "<Key>dir0<", "!<Key>dir/y<")
	has("continuation-token="+uriEncode(demoToken("dir0"), true)+"&list-type=2&start-after=a", "<KeyCount>1<", "<ContinuationToken>")
	for _, query := range []string{"max-keys=-1", "max-keys=x", "max-keys=1.5", "max-keys=9999999999", "encoding-type=html", "list-type=3",
		"continuation-token=&list-type=2", "continuation-token=dir0&list-type=2"} {
		c.want(400, "InvalidArgument", "GET", "/photos", query, nil, "")
	}
}

func cmpString(ok bool, a, b string) string {
	if ok {
		return a
	}
	return b
}

// BenchmarkDemoFill is a page out of a large bucket: the cost must not grow
// with the bucket.
func BenchmarkDemoFill(b *testing.B) {
	for _, n := range []int{1000, 100000} {
		bucket := &demoFolder{objects: map[string]*demoObject{}}
		for i := range n {
			bucket.keys = append(bucket.keys, fmt.Sprintf("dir%03d/%07d", i*100/n, i))
		}
		for _, delimiter := range []string{"", "/"} {
			b.Run(fmt.Sprintf("keys=%d/delimiter=%s", n, bytes.ToUpper([]byte(delimiter))), func(b *testing.B) {
				for b.Loop() {
					bucket.list(&demoPage{after: "dir050/", delimiter: delimiter, max: 100})
				}
			})
		}
	}
}
