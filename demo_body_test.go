package main

import (
	"crypto/md5"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// chunked sends a body in chunks, without a socket: a body that is cut ends.
func (c *demoClient) chunked(path, trailer string, size int, body string, more ...string) demoAnswer {
	c.t.Helper()
	req := httptest.NewRequest("PUT", path, strings.NewReader(body))
	for name, values := range demoHeader(append(more, "X-Amz-Trailer", trailer, "X-Amz-Decoded-Content-Length", strconv.Itoa(size))...) {
		req.Header[name] = values
	}
	c.signer.sign(req, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", time.Now())
	w := httptest.NewRecorder()
	c.server.ServeHTTP(w, req)
	return demoAnswer{w.Result(), w.Body.String()}
}

// TestDemoChunks has the check values of TestDemoChecksums in trailers.
func TestDemoChunks(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	const encoded = "9\r\n123456789\r\n0\r\n"
	for _, test := range []struct{ name, value, wrong string }{
		{"x-amz-checksum-crc32", "y/Q5Jg==", "y/Q5Jw=="},
		{"x-amz-checksum-crc32c", "4waSgw==", "4waShA=="},
		{"x-amz-checksum-crc64nvme", "rosUhgp5mIg=", "rosUhgp5mIk="},
		{"x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE=", "98O8HYCOBHMq32eZZczDTKeuNEI="},
		{"x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiY="},
	} {
		key := "/photos/" + test.name
		if a := c.chunked(key, test.name, 9, encoded+test.name+":"+test.wrong+"\r\n\r\n"); a.code() != "BadDigest" {
			t.Errorf("%s with a wrong trailer: %d %s", test.name, a.StatusCode, a.body)
		}
		c.want(404, "NoSuchKey", "GET", key, "", nil, "")
		if a := c.chunked(key, test.name, 9, encoded+test.name+":"+test.value+"\r\n\r\n", "Content-Encoding", "gzip,aws-chunked"); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", test.name, a.StatusCode, a.body)
		}
		a := c.want(200, "", "GET", key, "", demoHeader("X-Amz-Checksum-Mode", "ENABLED"), "")
		if a.body != "123456789" || a.Header.Get(test.name) != test.value || a.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: stored %q with %v", test.name, a.body, a.Header)
		}
	}
	large := "2000\r\n" + strings.Repeat("k", 8192) + "\r\n1\r\nk\r\n0\r\nx-amz-checksum-crc32:" + demoCRC32(strings.Repeat("k", 8193)) + "\r\n\r\n"
	req := c.request("PUT", "/photos/two", "", demoHeader("Content-Encoding", "aws-chunked", "X-Amz-Trailer", "x-amz-checksum-crc32", "X-Amz-Decoded-Content-Length", "8193"), large)
	c.signer.sign(req, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", time.Now())
	if a := c.send(req); a.StatusCode != 200 { // over a socket
		t.Errorf("two chunks: %d %s", a.StatusCode, a.body)
	}
	id := c.create("/photos/parts", demoHeader("X-Amz-Checksum-Algorithm", "CRC32"))
	if a := c.chunked("/photos/parts?partNumber=1&"+id, "x-amz-checksum-crc32", 8193, large); a.StatusCode != 200 {
		t.Errorf("a part in chunks: %d %s", a.StatusCode, a.body)
	}
	c.want(200, "", "GET", "/photos/parts", id, nil, "").has(t, "<Size>8193</Size>")
	if a := c.want(200, "", "HEAD", "/photos/two", "", nil, ""); a.ContentLength != 8193 || a.Header["Content-Encoding"] != nil {
		t.Errorf("two chunks: %d bytes, %v", a.ContentLength, a.Header)
	}
}

func demoCRC32(s string) string {
	sums := newDemoSums("CRC32") // the known answers are in TestDemoChecksums
	sums.Write([]byte(s))
	return base64.StdEncoding.EncodeToString(sums["X-Amz-Checksum-CRC32"].Sum(nil))
}

// TestDemoChunksRefused has nothing stored of any body that is not whole.
func TestDemoChunksRefused(t *testing.T) {
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
		{"an extension", name, 9, strings.Replace(whole, "9\r", "9;chunk-signature=0\r", 1), 400, "IncompleteBody"},
		{"lines without CR", name, 9, strings.ReplaceAll(whole, "\r", ""), 400, "IncompleteBody"},
		{"chunks too small", name, 9, "4\r\n1234\r\n5\r\n56789\r\n0\r\n" + trailer, 403, "InvalidChunkSizeError"},
		{"more behind the end", name, 9, whole + "x", 400, "MalformedTrailerError"},
		{"another trailer", name, 9, strings.Replace(whole, name, "x-amz-checksum-crc32c", 1), 400, "MalformedTrailerError"},
		{"an empty trailer", name, 9, strings.Replace(whole, "y/Q5Jg==", "", 1), 400, "MalformedTrailerError"},
		{"no trailer", name, 9, "9\r\n123456789\r\n0\r\n\r\n", 400, "IncompleteBody"},
		{"a trailer that is no checksum", "x-amz-meta-a", 9, whole, 400, "InvalidRequest"},
		{"no trailer promised", "", 9, whole, 400, "InvalidRequest"},
		{"no size", name, -1, whole, 411, "MissingContentLength"},
	} {
		if a := c.chunked("/photos/cat", test.trailer, test.size, test.body); a.StatusCode != test.status || a.code() != test.code {
			t.Errorf("%s: %d %s, want %d %s", test.why, a.StatusCode, a.code(), test.status, test.code)
		}
	}
	c.want(400, "InvalidRequest", "PUT", "/photos/cat", "", demoHeader("X-Amz-Trailer", name), "123456789")
	if files := c.files("photos"); len(files) > 0 {
		t.Errorf("files left: %q", files)
	}
}

// TestDemoDocument is about what vouches for a list of what to delete.
func TestDemoDocument(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	const doc = "<Delete><Object><Key>cat</Key></Object></Delete>"
	sum := md5.Sum([]byte(doc))
	right, wrong := base64.StdEncoding.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(make([]byte, 16))
	for _, test := range []struct {
		header http.Header
		status int
		code   string
	}{
		{nil, 400, "InvalidRequest"},
		{demoHeader("Content-Md5", wrong), 400, "BadDigest"},
		{demoHeader("Content-Md5", "x"), 400, "InvalidDigest"},
		{demoHeader("X-Amz-Checksum-Crc32", "AAAAAA=="), 400, "BadDigest"},
		{demoHeader("Content-Md5", right), 200, ""},
		{demoHeader("X-Amz-Checksum-Crc32", demoCRC32(doc)), 200, ""},
	} {
		req := c.request("POST", "/photos", "delete=", test.header, doc)
		c.signer.sign(req, unsignedPayload, time.Now())
		if a := c.send(req); a.StatusCode != test.status || a.code() != test.code {
			t.Errorf("%v: %d %s, want %d %s", test.header, a.StatusCode, a.code(), test.status, test.code)
		}
	}
	c.want(200, "", "POST", "/photos", "delete=", nil, doc) // the digest that was signed will do
}
