package main

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// create begins an upload and returns the query of its other operations.
func (c *demoClient) create(path string, h http.Header) string {
	c.t.Helper()
	var doc struct{ UploadId string }
	a := c.want(200, "", "POST", path, "uploads=", h, "")
	if err := xml.Unmarshal([]byte(a.body), &doc); err != nil || doc.UploadId == "" {
		c.t.Fatalf("CreateMultipartUpload: %v\n%s", err, a.body)
	}
	return "uploadId=" + doc.UploadId
}

// complete writes the document out of numbers and ETags, each with what else
// its part has.
func demoComplete(parts ...[3]string) string {
	doc := "<CompleteMultipartUpload>"
	for _, p := range parts {
		doc += "<Part><PartNumber>" + p[0] + "</PartNumber><ETag>" + p[1] + "</ETag>" + p[2] + "</Part>"
	}
	return doc + "</CompleteMultipartUpload>"
}

// The MD5s, by md5sum, and the CRC32s, by Python's zlib, of the parts below;
// and the same of these one after another, in binary form.
const (
	demoHello, demoSmall, demoWorld          = "f814893777bcc2295fff05f00e508da6", "8e6401f72e871b6973f929ce0a31a392", "7d793037a0760186574b0282f2f435e7"
	demoHelloCRC, demoSmallCRC, demoWorldCRC = "<ChecksumCRC32>7YH59g==</ChecksumCRC32>", "<ChecksumCRC32>bafLcQ==</ChecksumCRC32>", "<ChecksumCRC32>OncRQw==</ChecksumCRC32>"
	demoAllETag, demoAllCRC                  = "a36ac213727c028d991dccc041225793-3", "Fm4Z3Q==-3"
)

func TestDemoUpload(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos")
	c.server.minPart = 6
	id := c.create("/photos/a b", demoHeader("Content-Type", "text/cat", "X-Amz-Meta-Mood", "calm", "X-Amz-Tagging", "k=v", "X-Amz-Checksum-Algorithm", "CRC32"))
	for _, part := range []struct{ number, body string }{{"3", "world"}, {"1", "other!"}, {"2", "small "}, {"1", "hello "}} {
		c.want(200, "", "PUT", "/photos/a b", "partNumber="+part.number+"&"+id, nil, part.body)
	}
	c.want(404, "NoSuchKey", "GET", "/photos/a b", "", nil, "")
	c = startDemo(t, dir) // an upload outlives the process
	c.server.minPart = 6
	c.want(200, "", "GET", "/photos/a b", "max-parts=2&"+id, nil, "").
		has(t, "<ListPartsResult", "<PartNumber>1</PartNumber>", "<ETag>&quot;"+demoHello+"&quot;</ETag><Size>6</Size>"+demoHelloCRC, "<PartNumber>2<", "!<PartNumber>3<", "<NextPartNumberMarker>2<", "<IsTruncated>true<", "<MaxParts>2<", "<ChecksumType>COMPOSITE<")
	c.want(200, "", "GET", "/photos/a b", "part-number-marker=2&"+id, nil, "").has(t, "<PartNumber>3<", "!<PartNumber>2<", "!<Next", "<PartNumberMarker>2<", "<IsTruncated>false<")

	one, two, three := [3]string{"1", `"` + demoHello + `"`, demoHelloCRC}, [3]string{"2", demoSmall, demoSmallCRC}, [3]string{"3", demoWorld, demoWorldCRC}
	for _, test := range []struct {
		doc    string
		header http.Header
		code   string
	}{
		{demoComplete(two, one, three), nil, "InvalidPartOrder"},
		{demoComplete(one, one), nil, "InvalidPartOrder"},
		{demoComplete(one, [3]string{"4", demoSmall, demoSmallCRC}), nil, "InvalidPart"},
		{demoComplete([3]string{"1", demoSmall, demoHelloCRC}), nil, "InvalidPart"},
		{demoComplete([3]string{"1", demoHello, demoSmallCRC}), nil, "InvalidPart"},
		{demoComplete([3]string{"1", demoHello, ""}), nil, "InvalidRequest"},
		{demoComplete(), nil, "MalformedXML"},
		{"", nil, "MalformedXML"},
		{demoComplete(one, two, three), demoHeader("X-Amz-Mp-Object-Size", "16"), "InvalidRequest"},
		{demoComplete(one, two, three), demoHeader("X-Amz-Checksum-Crc32", demoAllCRC[:8]+"-2"), "BadDigest"},
		{demoComplete(one, two, three), demoHeader("X-Amz-Checksum-Sha1", demoAllCRC), "InvalidRequest"},
	} {
		c.want(400, test.code, "POST", "/photos/a b", id, test.header, test.doc)
	}
	c.server.minPart = 7
	c.want(400, "EntityTooSmall", "POST", "/photos/a b", id, nil, demoComplete(one, two, three))
	c.server.minPart = 6
	c.want(404, "NoSuchUpload", "POST", "/photos/other", id, nil, demoComplete(one, two, three))
	c.want(404, "NoSuchKey", "GET", "/photos/a b", "", nil, "")
	c.want(404, "NoSuchKey", "POST", "/photos/a b", id, demoHeader("If-Match", "*"), demoComplete(one, two, three))

	c.want(200, "", "POST", "/photos/a b", id, demoHeader("X-Amz-Mp-Object-Size", "17", "If-None-Match", "*", "X-Amz-Checksum-Crc32", demoAllCRC), demoComplete(one, two, three)).
		has(t, "<CompleteMultipartUploadResult", "<ETag>&quot;"+demoAllETag+"&quot;</ETag>", "<Key>a b</Key>", "<ChecksumCRC32>"+demoAllCRC+"</ChecksumCRC32><ChecksumType>COMPOSITE<", "/photos/a%20b</Location>")
	a := c.want(200, "", "GET", "/photos/a b", "", demoHeader("X-Amz-Checksum-Mode", "ENABLED"), "")
	if a.body != "hello small world" || a.Header.Get("ETag") != `"`+demoAllETag+`"` || a.Header.Get("X-Amz-Meta-Mood") != "calm" ||
		a.Header.Get("X-Amz-Tagging-Count") != "1" || a.Header.Get("X-Amz-Checksum-Crc32") != demoAllCRC || a.Header.Get("X-Amz-Checksum-Type") != "COMPOSITE" {
		t.Errorf("completed object: %q %v", a.body, a.Header)
	}
	c.want(200, "", "GET", "/photos/a b", "attributes=", demoHeader("X-Amz-Object-Attributes", "ObjectParts"), "").has(t, "<ObjectParts><PartsCount>3</PartsCount></ObjectParts>")
	c.want(404, "NoSuchUpload", "POST", "/photos/a b", id, nil, demoComplete(one, two, three))
	if files := c.files("photos"); len(files) != 2 {
		t.Errorf("files left: %q", files)
	}
}

// TestDemoUploadFullObject sums the whole object, by the algorithm that can't
// be used otherwise: the sum is that of TestDemoChecksums.
func TestDemoUploadFullObject(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.server.minPart = 1
	for _, value := range []string{"rosUhgp5mIk=", "rosUhgp5mIg="} {
		id := c.create("/photos/cat", demoHeader("X-Amz-Checksum-Algorithm", "CRC64NVME"))
		first := c.want(200, "", "PUT", "/photos/cat", "partNumber=1&"+id, nil, "1234").Header.Get("ETag")
		second := c.want(200, "", "PUT", "/photos/cat", "partNumber=10000&"+id, nil, "56789").Header.Get("ETag")
		doc, h := demoComplete([3]string{"1", first, ""}, [3]string{"10000", second, ""}), demoHeader("X-Amz-Checksum-Crc64nvme", value)
		if value != "rosUhgp5mIg=" {
			c.want(400, "BadDigest", "POST", "/photos/cat", id, h, doc)
			c.want(404, "NoSuchKey", "GET", "/photos/cat", "", nil, "")
			continue
		}
		c.want(200, "", "POST", "/photos/cat", id, h, doc).has(t, "<ChecksumCRC64NVME>"+value, "<ChecksumType>FULL_OBJECT<", "d8399932ce6023ac3365f50fbbcde132-2")
	}
	for _, h := range []http.Header{
		demoHeader("X-Amz-Checksum-Algorithm", "CRC64NVME", "X-Amz-Checksum-Type", "COMPOSITE"),
		demoHeader("X-Amz-Checksum-Algorithm", "SHA1", "X-Amz-Checksum-Type", "FULL_OBJECT"),
		demoHeader("X-Amz-Checksum-Type", "COMPOSITE"), demoHeader("X-Amz-Checksum-Algorithm", "CRC32", "X-Amz-Checksum-Type", "x"),
	} {
		c.want(400, "InvalidRequest", "POST", "/photos/cat", "uploads=", h, "")
	}
}

func TestDemoUploadPart(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(200, "", "PUT", "/photos/src", "", nil, "hello small world")
	id := c.create("/photos/cat", demoHeader("X-Amz-Checksum-Algorithm", "CRC32"))
	for _, number := range []string{"0", "10001", "x", "-1", ""} {
		c.want(400, "InvalidArgument", "PUT", "/photos/cat", "partNumber="+number+"&"+id, nil, "x")
	}
	c.want(404, "NoSuchUpload", "PUT", "/photos/cat", "partNumber=1&uploadId=x", nil, "x")
	c.want(404, "NoSuchUpload", "PUT", "/photos/dog", "partNumber=1&"+id, nil, "x")
	c.want(400, "BadDigest", "PUT", "/photos/cat", "partNumber=1&"+id, demoHeader("X-Amz-Checksum-Crc32", "AAAAAA=="), "x")
	c.want(400, "InvalidRequest", "PUT", "/photos/cat", "partNumber=1&"+id, demoHeader("X-Amz-Checksum-Sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="), "123456789")
	c.want(200, "", "GET", "/photos/cat", id, nil, "").has(t, "!<Part>")
	for _, test := range []struct {
		spec   string
		status int
		want   string
	}{
		{"bytes=2-4", 200, "<ETag>&quot;7062da7393ecc31c3c0564020f85efd1&quot;</ETag>"},
		{"", 200, "<ETag>&quot;9a21ef48e6d797f2c7c5c27b745662eb&quot;</ETag>"},
		{"bytes=0-16", 200, "<ETag>&quot;9a21ef48e6d797f2c7c5c27b745662eb&quot;</ETag>"},
		{"bytes=0-17", 400, "InvalidArgument"}, {"bytes=17-18", 400, "InvalidArgument"}, {"bytes=2-", 400, "InvalidArgument"},
		{"bytes=-2", 400, "InvalidArgument"}, {"bytes=4-2", 400, "InvalidArgument"}, {"2-4", 400, "InvalidArgument"}, {"bytes=02-4", 400, "InvalidArgument"},
	} {
		h := demoHeader("X-Amz-Copy-Source", "photos/src")
		if test.spec != "" {
			h.Set("X-Amz-Copy-Source-Range", test.spec)
		}
		a := c.do("PUT", "/photos/cat", "partNumber=2&"+id, h, "")
		if a.has(t, test.want); a.StatusCode != test.status {
			t.Errorf("copy of %q: %d, want %d", test.spec, a.StatusCode, test.status)
		}
	}
	c.want(412, "PreconditionFailed", "PUT", "/photos/cat", "partNumber=2&"+id, demoHeader("X-Amz-Copy-Source", "photos/src", "X-Amz-Copy-Source-If-Match", "x"), "")
	c.want(404, "NoSuchKey", "PUT", "/photos/cat", "partNumber=2&"+id, demoHeader("X-Amz-Copy-Source", "photos/none"), "")
	c.want(200, "", "GET", "/photos/cat", id, nil, "").has(t, "9a21ef48e6d797f2c7c5c27b745662eb", "<ChecksumCRC32>tznB9A==</ChecksumCRC32>")
	c.want(204, "", "DELETE", "/photos/cat", id, nil, "")
	for _, method := range []string{"GET", "DELETE", "POST"} {
		c.want(404, "NoSuchUpload", method, "/photos/cat", id, nil, "")
	}
	if files := c.files("photos"); len(files) != 2 {
		t.Errorf("files left: %q", files)
	}
}

func TestDemoListUploads(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	var ids []string
	for _, key := range []string{"a", "a", "b/x", "b/y", "c d"} {
		ids = append(ids, strings.TrimPrefix(c.create("/photos/"+key, nil), "uploadId="))
	}
	all := c.want(200, "", "GET", "/photos", "uploads=", nil, "")
	all.has(t, "<ListMultipartUploadsResult", "<IsTruncated>false<", "!<Next", "<Key>c d</Key>", "<Initiator>", "<Owner>", "<Initiated>")
	for i := range ids {
		if n := strings.Index(all.body, ids[i]); n < 0 || i > 0 && n < strings.Index(all.body, ids[i-1]) {
			t.Errorf("upload %d is missing or out of order", i)
		}
	}
	list := func(query string) demoAnswer { return c.want(200, "", "GET", "/photos", query+"&uploads=", nil, "") }
	list("max-uploads=1").has(t, ids[0], "!"+ids[1], "<NextKeyMarker>a<", "<NextUploadIdMarker>"+ids[0], "<MaxUploads>1<", "<IsTruncated>true<")
	list("key-marker=a&max-uploads=1&upload-id-marker="+ids[0]).has(t, "<UploadId>"+ids[1], "!"+ids[2], "<NextUploadIdMarker>"+ids[1])
	list("key-marker=a&upload-id-marker="+ids[1]).has(t, "!<Key>a<", ids[2], ids[4])
	list("key-marker=a").has(t, "!<Key>a<", ids[2], ids[4])
	list("prefix=b").has(t, "!<Key>a<", ids[2], ids[3], "!"+ids[4])
	list("delimiter=%2F&max-uploads=3").has(t, ids[0], ids[1], "<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>", "!"+ids[2], "<NextKeyMarker>b/<", "!<NextUploadIdMarker>")
	list("delimiter=%2F&key-marker=b%2F").has(t, "!Prefixes", ids[4], "!"+ids[3])
	list("encoding-type=url").has(t, "<Key>c+d</Key>")
	c.want(400, "InvalidArgument", "GET", "/photos", "max-uploads=x&uploads=", nil, "")
}

// TestDemoUploadRestart has an upload of more than a week ago, and what is left
// of one that was being removed, gone after a restart.
func TestDemoUploadRestart(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos")
	young := c.create("/photos/cat", nil)
	week := time.Now().Add(-demoUploadAge - time.Hour)
	c.server.now = func() time.Time { return week }
	req := c.request("POST", "/photos/old", "uploads=", nil, "")
	c.signer.sign(req, emptyPayload, week)
	if a := c.send(req); a.StatusCode != 200 {
		t.Fatal(a.body)
	}
	os.Mkdir(filepath.Join(dir, "photos", "0.upload"), 0o700)
	if n := len(c.files("photos")); n != 3 {
		t.Errorf("%d folders, want 3", n)
	}
	c = startDemo(t, dir)
	c.want(200, "", "GET", "/photos/cat", young, nil, "")
	if files := c.files("photos"); len(files) != 1 || !strings.HasPrefix(files[0], young[len("uploadId="):]) {
		t.Errorf("files = %q, want the folder of the young upload", files)
	}
}

// TestDemoUploadConcurrent has parts come while the upload is completed and
// aborted. Each gets an answer of S3's, and nothing stays behind.
func TestDemoUploadConcurrent(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	for round := range 8 {
		id := c.create("/photos/cat", nil)
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
				if round%2 == 0 {
					c.do("POST", "/photos/cat", id, nil, demoComplete([3]string{"1", etag, ""}))
				} else {
					c.do("DELETE", "/photos/cat", id, nil, "")
				}
			})
		}
		wg.Wait()
		c.want(404, "NoSuchUpload", "GET", "/photos/cat", id, nil, "")
		if files := c.files("photos"); len(files) != 2 {
			t.Errorf("files = %q, want those of one object", files)
		}
	}
	if a := c.want(200, "", "GET", "/photos/cat", "", nil, ""); a.body != "hello" {
		t.Errorf("completed: %q", a.body)
	}
}
