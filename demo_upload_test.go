package main

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// create begins an upload and returns the query of its other operations.
func (c *demoClient) create(path string, headers ...string) string {
	c.t.Helper()
	var doc struct{ UploadId string }
	a := c.want(200, "", "POST", path, "uploads=", demoHeader(headers...), "")
	if err := xml.Unmarshal([]byte(a.body), &doc); err != nil || doc.UploadId == "" {
		c.t.Fatalf("CreateMultipartUpload: %v\n%s", err, a.body)
	}
	return "uploadId=" + doc.UploadId
}

// demoCompletion writes the document out of numbers and ETags, each with what
// else its part has.
func demoCompletion(parts ...[3]string) string {
	doc := "<CompleteMultipartUpload>"
	for _, p := range parts {
		doc += "<Part><PartNumber>" + p[0] + "</PartNumber><ETag>" + p[1] + "</ETag>" + p[2] + "</Part>"
	}
	return doc + "</CompleteMultipartUpload>"
}

// The MD5s of the parts below, by md5sum, and that of these one after another,
// in binary form; the CRC32s of a part and of all, by Python's zlib.
const (
	demoHello, demoSmall, demoWorld = "f814893777bcc2295fff05f00e508da6", "8e6401f72e871b6973f929ce0a31a392", "7d793037a0760186574b0282f2f435e7"
	demoAllETag                     = `"a36ac213727c028d991dccc041225793-3"`
	demoHelloCRC, demoAllCRC        = "7YH59g==", "tznB9A=="
)

func TestDemoCompletesUpload(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.server.minPart = 6
	id := c.create("/photos/a b", "Content-Type", "text/cat", "X-Amz-Meta-Mood", "calm", "X-Amz-Checksum-Algorithm", "CRC32")
	for _, part := range []struct{ number, body, sum string }{{"3", "world", ""}, {"1", "other!", ""}, {"2", "small ", ""}, {"1", "hello ", demoHelloCRC}} {
		h := http.Header{}
		if part.sum != "" {
			h.Set("X-Amz-Checksum-Crc32", part.sum)
		}
		c.want(200, "", "PUT", "/photos/a b", "partNumber="+part.number+"&"+id, h, part.body)
	}
	one, two, three := [3]string{"1", `"` + demoHello + `"`, "<ChecksumCRC32>" + demoHelloCRC + "</ChecksumCRC32>"}, [3]string{"2", demoSmall}, [3]string{"3", demoWorld}
	for _, test := range []struct {
		doc    string
		header http.Header
		status int
		code   string
	}{
		{demoCompletion(two, one, three), nil, 400, "InvalidPartOrder"},
		{demoCompletion(one, one), nil, 400, "InvalidPartOrder"},
		{demoCompletion(one, [3]string{"4", demoSmall}), nil, 400, "InvalidPart"},
		{demoCompletion([3]string{"1", demoSmall}), nil, 400, "InvalidPart"},
		{demoCompletion(three, [3]string{"4", demoSmall}), nil, 400, "EntityTooSmall"},
		{demoCompletion(), nil, 400, "MalformedXML"},
		{"", nil, 400, "MalformedXML"},
		{demoCompletion(one, two, three), demoHeader("X-Amz-Mp-Object-Size", "16"), 400, "InvalidRequest"},
		{demoCompletion(one, two, three), demoHeader("X-Amz-Checksum-Crc32", demoHelloCRC), 400, "BadDigest"},
		{demoCompletion(one, two, three), demoHeader("If-Match", "*"), 404, "NoSuchKey"},
	} {
		c.want(test.status, test.code, "POST", "/photos/a b", id, test.header, test.doc)
	}
	c.want(404, "NoSuchUpload", "POST", "/photos/other", id, nil, demoCompletion(one, two, three))
	c.want(404, "NoSuchKey", "GET", "/photos/a b", "", nil, "")

	c.want(200, "", "POST", "/photos/a b", id, demoHeader("X-Amz-Mp-Object-Size", "17", "If-None-Match", "*", "X-Amz-Checksum-Crc32", demoAllCRC), demoCompletion(one, two, three)).
		has(t, "<CompleteMultipartUploadResult", "<ETag>"+strings.ReplaceAll(demoAllETag, `"`, "&#34;")+"</ETag>", "<Key>a b</Key>", "/photos/a%20b</Location>")
	a := c.want(200, "", "GET", "/photos/a b", "", demoHeader("X-Amz-Checksum-Mode", "ENABLED"), "")
	if a.body != "hello small world" || a.Header.Get("ETag") != demoAllETag || a.Header.Get("X-Amz-Meta-Mood") != "calm" || a.Header.Get("X-Amz-Checksum-Crc32") != demoAllCRC {
		t.Errorf("completed object: %q %v", a.body, a.Header)
	}
	c.want(404, "NoSuchUpload", "POST", "/photos/a b", id, nil, demoCompletion(one, two, three))
	c.wantFiles("photos", 2)
}

func TestDemoListsParts(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	id := c.create("/photos/cat")
	for _, number := range []string{"10000", "2", "1"} {
		c.want(200, "", "PUT", "/photos/cat", "partNumber="+number+"&"+id, nil, "hello ")
	}
	c.want(200, "", "GET", "/photos/cat", id, nil, "").
		has(t, "<ListPartsResult", "<PartNumber>1</PartNumber>", "<ETag>&#34;"+demoHello+"&#34;</ETag><Size>6</Size>", "<PartNumber>2<", "<PartNumber>10000<", "<IsTruncated>false<")
}

func TestDemoRefusesParts(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	id := c.create("/photos/cat")
	for _, number := range []string{"0", "10001", "x", "-1", ""} {
		c.want(400, "InvalidArgument", "PUT", "/photos/cat", "partNumber="+number+"&"+id, nil, "x")
	}
	c.want(404, "NoSuchUpload", "PUT", "/photos/cat", "partNumber=1&uploadId=x", nil, "x")
	c.want(404, "NoSuchUpload", "PUT", "/photos/dog", "partNumber=1&"+id, nil, "x")
	c.want(400, "BadDigest", "PUT", "/photos/cat", "partNumber=1&"+id, demoHeader("X-Amz-Checksum-Crc32", "AAAAAA=="), "x")
	c.want(501, "NotImplemented", "POST", "/photos/cat", "uploads=", demoHeader("X-Amz-Checksum-Algorithm", "CRC32", "X-Amz-Checksum-Type", "COMPOSITE"), "")
	c.want(200, "", "GET", "/photos/cat", id, nil, "").has(t, "!<Part>")
	c.want(204, "", "DELETE", "/photos/cat", id, nil, "")
	for _, method := range []string{"GET", "DELETE", "POST"} {
		c.want(404, "NoSuchUpload", method, "/photos/cat", id, nil, "")
	}
	c.wantFiles("photos", 0)
}

func TestDemoCopiesIntoParts(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(200, "", "PUT", "/photos/src", "", nil, "hello small world")
	id := c.create("/photos/cat")
	for _, test := range []struct {
		source, spec string
		status       int
		want         string // an MD5, by md5sum, or a code
	}{
		{"photos/src", "bytes=2-4", 200, "7062da7393ecc31c3c0564020f85efd1"},
		{"photos/src", "", 200, "9a21ef48e6d797f2c7c5c27b745662eb"},
		{"photos/src", "bytes=0-16", 200, "9a21ef48e6d797f2c7c5c27b745662eb"},
		{"photos/src", "bytes=0-17", 400, "InvalidArgument"}, {"photos/src", "bytes=17-18", 400, "InvalidArgument"}, {"photos/src", "bytes=2-", 400, "InvalidArgument"},
		{"photos/src", "bytes=-2", 400, "InvalidArgument"}, {"photos/src", "bytes=4-2", 400, "InvalidArgument"}, {"photos/src", "2-4", 400, "InvalidArgument"},
		{"photos/none", "", 404, "NoSuchKey"},
	} {
		h := demoHeader("X-Amz-Copy-Source", test.source)
		if test.spec != "" {
			h.Set("X-Amz-Copy-Source-Range", test.spec)
		}
		a := c.do("PUT", "/photos/cat", "partNumber=2&"+id, h, "")
		if a.has(t, test.want); a.StatusCode != test.status {
			t.Errorf("copy of %q: %d, want %d", test.spec, a.StatusCode, test.status)
		}
	}
	c.want(200, "", "GET", "/photos/cat", id, nil, "").has(t, "9a21ef48e6d797f2c7c5c27b745662eb")
}

// While parts arrive, the upload is completed or aborted. Each request gets an
// answer of S3's, and nothing stays behind.
func TestDemoUploadEndsWhilePartsArrive(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	for round := range 8 {
		id := c.create("/photos/cat")
		etag := c.want(200, "", "PUT", "/photos/cat", "partNumber=1&"+id, nil, "hello").Header.Get("ETag")
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				a := c.do("PUT", "/photos/cat", fmt.Sprintf("partNumber=%d&%s", i+2, id), nil, "other")
				if a.StatusCode != 200 && a.code() != "NoSuchUpload" {
					t.Errorf("part: %d %s", a.StatusCode, a.body)
				}
			})
		}
		for range 2 {
			wg.Go(func() {
				var a demoAnswer
				if round%2 == 0 {
					a = c.do("POST", "/photos/cat", id, nil, demoCompletion([3]string{"1", etag}))
				} else {
					a = c.do("DELETE", "/photos/cat", id, nil, "")
				}
				if a.StatusCode >= 300 && a.code() != "NoSuchUpload" {
					t.Errorf("end: %d %s", a.StatusCode, a.body)
				}
			})
		}
		wg.Wait()
		c.want(404, "NoSuchUpload", "GET", "/photos/cat", id, nil, "")
		c.wantFiles("photos", 2)
	}
	if a := c.want(200, "", "GET", "/photos/cat", "", nil, ""); a.body != "hello" {
		t.Errorf("completed: %q", a.body)
	}
}
