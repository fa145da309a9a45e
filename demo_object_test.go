package main

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// chunked puts a body in chunks, without a socket: a body that is cut ends.
func (c *demoClient) chunked(path, trailer string, size int, body string, more ...string) demoAnswer {
	c.t.Helper()
	req := httptest.NewRequest("PUT", path, strings.NewReader(body))
	for name, values := range demoHeader(append(more, "X-Amz-Trailer", trailer, "X-Amz-Decoded-Content-Length", strconv.Itoa(size))...) {
		req.Header[name] = values
	}
	c.signer.sign(req, &demoTestCreds, demoChunked, time.Now())
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, req)
	return demoAnswer{w.Result(), w.Body.String()}
}

func TestDemoReturnsStoredHeaders(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	stored := demoHeader("Content-Type", "text/html", "Content-Encoding", "gzip", "Content-Disposition", "attachment", "Content-Language", "en",
		"Cache-Control", "no-cache", "Expires", "Thu, 01 Dec 1994 16:00:00 GMT", "X-Amz-Meta-Name", "Caf\xc3\xa9 \xe9")
	put := stored.Clone()
	put.Set("X-Amz-Acl", "private")
	put.Set("X-Amz-Storage-Class", "STANDARD")
	c.want(200, "", "PUT", "/photos/cat", "", put, "meow")
	for _, method := range []string{"GET", "HEAD"} {
		a := c.want(200, "", method, "/photos/cat", "", nil, "")
		want := stored.Clone()
		want.Set("ETag", `"4a4be40c96ac6314e91d93f38043a634"`) // the MD5 of "meow", by md5sum
		want.Set("Content-Length", "4")
		want.Set("Accept-Ranges", "bytes")
		want.Set("Server", "s3-proxy-demo")
		for name := range want {
			if got := a.Header[name]; !slices.Equal(got, want[name]) {
				t.Errorf("%s: %s = %q, want %q", method, name, got, want[name])
			}
		}
		if a.Header.Get("Last-Modified") == "" || a.Header.Get("X-Amz-Request-Id") == "" {
			t.Errorf("%s: a header is missing: %v", method, a.Header)
		}
	}
	w := httptest.NewRecorder() // a client of net/http would not show the case
	c.server.ServeHTTP(w, c.sign(httptest.NewRequest("GET", "/photos/cat", nil), ""))
	//lint:ignore SA1008 in lower case, as S3 sends it
	if w.Header()["x-amz-meta-name"] == nil {
		t.Errorf("metadata is not in lower case: %v", w.Header())
	}
	a := c.want(200, "", "GET", "/photos/cat", "response-content-type=image%2Fpng&response-expires=never", nil, "")
	if got := a.Header.Get("Content-Type") + " " + a.Header.Get("Expires"); got != "image/png never" {
		t.Errorf("overridden headers = %q", got)
	}
	c.want(200, "", "PUT", "/photos/plain", "", nil, "")
	if got := c.want(200, "", "HEAD", "/photos/plain", "", nil, "").Header.Get("Content-Type"); got != "binary/octet-stream" {
		t.Errorf("Content-Type = %q, want binary/octet-stream", got)
	}
}

func TestDemoRanges(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(200, "", "PUT", "/photos/ten", "", nil, "0123456789")
	c.want(200, "", "PUT", "/photos/none", "", nil, "")
	for _, test := range []struct {
		key, spec          string
		status             int
		contentRange, body string
	}{
		{"ten", "bytes=0-0", 206, "bytes 0-0/10", "0"},
		{"ten", "bytes=2-4", 206, "bytes 2-4/10", "234"},
		{"ten", "bytes=7-", 206, "bytes 7-9/10", "789"},
		{"ten", "bytes=-3", 206, "bytes 7-9/10", "789"},
		{"ten", "bytes=-30", 206, "bytes 0-9/10", "0123456789"},
		{"ten", "bytes=8-99999999999999999999", 206, "bytes 8-9/10", "89"},
		{"ten", "bytes=10-", 416, "bytes */10", ""},
		{"ten", "bytes=-0", 416, "bytes */10", ""},
		{"ten", "bytes=4-2", 200, "", "0123456789"},
		{"ten", "bytes=+1-2", 200, "", "0123456789"},
		{"ten", "bytes=0-1,3-4", 200, "", "0123456789"},
		{"ten", "bytes=-", 200, "", "0123456789"},
		{"ten", "lines=1-2", 200, "", "0123456789"},
		{"none", "bytes=0-", 416, "bytes */0", ""},
		{"none", "bytes=-1", 416, "bytes */0", ""},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := c.do(method, "/photos/"+test.key, "", demoHeader("Range", test.spec), "")
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

func TestDemoRefusedWriteLeavesTheObject(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(404, "NoSuchKey", "PUT", "/photos/cat", "", demoHeader("If-Match", `"x"`), "one")
	etag := c.want(200, "", "PUT", "/photos/cat", "", demoHeader("If-None-Match", "*"), "one").Header.Get("ETag")
	c.want(412, "PreconditionFailed", "PUT", "/photos/cat", "", demoHeader("If-None-Match", "*"), "two")
	c.want(412, "PreconditionFailed", "PUT", "/photos/cat", "", demoHeader("If-Match", `"x"`), "two")
	if a := c.want(200, "", "GET", "/photos/cat", "", nil, ""); a.body != "one" {
		t.Errorf("after refused writes: %q, want one", a.body)
	}
	c.want(200, "", "PUT", "/photos/cat", "", demoHeader("If-Match", etag), "two")
	c.wantFiles("photos", 2)
}

// demoCheckValues are the check values of "123456789": those of the CRCs from
// the catalogue https://reveng.sourceforge.io/crc-catalogue/all.htm, the other
// ones by md5sum, sha1sum and sha256sum.
var demoCheckValues = []struct{ name, digest string }{
	{"Content-Md5", "25f9e794323b453885f5181f1b624d0b"},
	{"X-Amz-Checksum-Crc32", "cbf43926"},
	{"X-Amz-Checksum-Crc32c", "e3069283"},
	{"X-Amz-Checksum-Crc64nvme", "ae8b14860a799888"},
	{"X-Amz-Checksum-Sha1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"},
	{"X-Amz-Checksum-Sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"},
}

func TestDemoVerifiesChecksums(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	const body = "123456789"
	for _, test := range demoCheckValues {
		raw, err := hex.DecodeString(test.digest)
		if err != nil {
			t.Fatal(err)
		}
		value, key := base64.StdEncoding.EncodeToString(raw), "/photos/"+test.name
		c.want(400, "BadDigest", "PUT", key, "", demoHeader(test.name, value), "12345678X")
		c.want(400, "BadDigest", "PUT", key, "", demoHeader(test.name, value[:4]), body)
		c.want(404, "NoSuchKey", "GET", key, "", nil, "")
		c.want(200, "", "PUT", key, "", demoHeader(test.name, value), body)
		if test.name == "Content-Md5" {
			continue
		}
		enabled := demoHeader("X-Amz-Checksum-Mode", "ENABLED")
		if a := c.want(200, "", "GET", key, "", enabled, ""); a.Header.Get(test.name) != value || a.Header.Get("X-Amz-Checksum-Type") != "FULL_OBJECT" {
			t.Errorf("%s = %q, want %q", test.name, a.Header.Get(test.name), value)
		}
		enabled.Set("Range", "bytes=0-1")
		for status, h := range map[int]http.Header{200: nil, 206: enabled} { // not asked for; of more bytes than are sent
			if got := c.want(status, "", "GET", key, "", h, "").Header.Get(test.name); got != "" {
				t.Errorf("%s = %q in %d", test.name, got, status)
			}
		}
		trailer := strings.ToLower(test.name)
		whole := "9\r\n" + body + "\r\n0\r\n" + trailer + ":" + value + "\r\n\r\n"
		if a := c.chunked(key+"-chunked", trailer, 9, strings.Replace(whole, "9\r\n1", "9\r\nX", 1)); a.code() != "BadDigest" {
			t.Errorf("%s with a wrong trailer: %d %s", test.name, a.StatusCode, a.body)
		}
		if a := c.chunked(key+"-chunked", trailer, 9, whole, "Content-Encoding", "gzip,aws-chunked"); a.StatusCode != 200 {
			t.Errorf("%s in a trailer: %d %s", test.name, a.StatusCode, a.body)
		}
		a := c.want(200, "", "GET", key+"-chunked", "", demoHeader("X-Amz-Checksum-Mode", "ENABLED"), "")
		if a.body != body || a.Header.Get(test.name) != value || a.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s in a trailer: stored %q with %v", test.name, a.body, a.Header)
		}
	}
	c.want(501, "NotImplemented", "PUT", "/photos/x", "", demoHeader("X-Amz-Checksum-Crc8", "AA=="), body)
	c.wantFiles("photos", 22)
}

// Of a body in chunks that is not whole, wherever it is cut, nothing is stored.
func TestDemoRefusesBrokenChunks(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	const name, trailer = "x-amz-checksum-crc32", "x-amz-checksum-crc32:y/Q5Jg==\r\n\r\n"
	const whole = "9\r\n123456789\r\n0\r\n" + trailer
	for n := range len(whole) {
		if a := c.chunked("/photos/cat", name, 9, whole[:n]); a.StatusCode != 400 || a.code() == "" {
			t.Errorf("%q: %d %s", whole[:n], a.StatusCode, a.body)
		}
	}
	for _, test := range []struct {
		why, trailer string
		size         int
		body         string
		status       int
		code         string
	}{
		{"more than announced", name, 8, whole, 400, "IncompleteBody"},
		{"less than announced", name, 10, whole, 400, "IncompleteBody"},
		{"a size with a sign", name, 9, "+" + whole, 400, "IncompleteBody"},
		{"a size too large", name, 9, "fffffffffffffffff" + whole, 400, "IncompleteBody"},
		{"chunks without CR", name, 9, strings.Replace(whole, "9\r\n", "9\n", 1), 400, "IncompleteBody"},
		{"more after the end", name, 9, whole + "x", 400, "MalformedTrailerError"},
		{"another trailer", name, 9, strings.Replace(whole, name, "x-amz-checksum-crc32c", 1), 400, "MalformedTrailerError"},
		{"an empty trailer", name, 9, strings.Replace(whole, "y/Q5Jg==", "", 1), 400, "MalformedTrailerError"},
		{"no trailer", name, 9, "9\r\n123456789\r\n0\r\n\r\n", 400, "MalformedTrailerError"},
		{"a trailer that is no checksum", "x-amz-meta-a", 9, whole, 400, "InvalidRequest"},
		{"no trailer announced", "", 9, whole, 400, "InvalidRequest"},
		{"no size", name, -1, whole, 411, "MissingContentLength"},
	} {
		if a := c.chunked("/photos/cat", test.trailer, test.size, test.body); a.StatusCode != test.status || a.code() != test.code {
			t.Errorf("%s: %d %s, want %d %s", test.why, a.StatusCode, a.code(), test.status, test.code)
		}
	}
	c.want(400, "InvalidRequest", "PUT", "/photos/cat", "", demoHeader("X-Amz-Trailer", name), "123456789")
	c.wantFiles("photos", 0)
}

// An upload that ends in the middle, or does not say where it ends, leaves the
// object that is there.
func TestDemoRefusesBodyOfOtherLength(t *testing.T) {
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
		c.wantFiles("photos", 2)
	}
}

func TestDemoCopy(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos", "backups")
	const key, etag = "a b+c%2F/é?x#&", `"25f9e794323b453885f5181f1b624d0b"`
	c.want(200, "", "PUT", "/photos/"+key, "", demoHeader("Content-Type", "text/cat", "X-Amz-Meta-Mood", "calm"), "123456789")
	source := "photos/" + uriEncode(key, false)
	for _, test := range []struct {
		target            string
		header            []string
		contentType, mood string
	}{
		{"/backups/1", []string{"X-Amz-Copy-Source", source}, "text/cat", "calm"},
		{"/backups/2", []string{"X-Amz-Copy-Source", "/" + source, "X-Amz-Metadata-Directive", "COPY", "Content-Type", "x"}, "text/cat", "calm"},
		{"/backups/3", []string{"X-Amz-Copy-Source", strings.Replace(source, "/", "%2F", 1), "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-Mood", "wild"}, "binary/octet-stream", "wild"},
		{"/backups/1", []string{"X-Amz-Copy-Source", "backups/1", "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-Mood", "new"}, "binary/octet-stream", "new"},
	} {
		c.want(200, "", "PUT", test.target, "", demoHeader(test.header...), "").
			has(t, "<CopyObjectResult", `<ETag>`+strings.ReplaceAll(etag, `"`, "&#34;")+`</ETag>`, "<LastModified>")
		a := c.want(200, "", "GET", test.target, "", nil, "")
		if got, want := []string{a.body, a.Header.Get("ETag"), a.Header.Get("Content-Type"), a.Header.Get("X-Amz-Meta-Mood")},
			[]string{"123456789", etag, test.contentType, test.mood}; !slices.Equal(got, want) {
			t.Errorf("%q = %q, want %q", test.header, got, want)
		}
	}
	for _, test := range []struct {
		source, header, value string
		status                int
		code                  string
	}{
		{"photos/none", "", "", 404, "NoSuchKey"},
		{"videos/cat", "", "", 404, "NoSuchBucket"},
		{"", "", "", 400, "InvalidArgument"},
		{"photos", "", "", 400, "InvalidArgument"},
		{"photos/%zz", "", "", 400, "InvalidArgument"},
		{"backups/2", "", "", 400, "InvalidRequest"}, // onto itself
		{source, "X-Amz-Metadata-Directive", "MOVE", 400, "InvalidArgument"},
		{source, "If-None-Match", "*", 412, "PreconditionFailed"}, // of the target
		{source + "?versionId=null", "", "", 501, "NotImplemented"},
		{source, "X-Amz-Checksum-Algorithm", "CRC32", 501, "NotImplemented"},
		{source, "X-Amz-Copy-Source-If-Match", etag, 200, ""},
		{source, "X-Amz-Copy-Source-If-Match", `"x"`, 412, "PreconditionFailed"},
		{source, "X-Amz-Copy-Source-If-None-Match", etag, 412, "PreconditionFailed"},
		{source, "X-Amz-Copy-Source-If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT", 412, "PreconditionFailed"},
	} {
		h := demoHeader("X-Amz-Copy-Source", test.source)
		if test.header != "" {
			h.Set(test.header, test.value)
		}
		c.want(test.status, test.code, "PUT", "/backups/2", "", h, "")
	}
	c.wantFiles("backups", 6)
}
