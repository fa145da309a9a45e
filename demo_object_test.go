package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// has fails if an answer lacks one of the texts, or has one that begins with !.
func (a demoAnswer) has(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if absent, no := strings.CutPrefix(text, "!"); strings.Contains(a.body, absent) == no {
			t.Errorf("want %s in %d\n%s", text, a.StatusCode, a.body)
		}
	}
}

func TestDemoCopy(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos", "backups")
	const key = "a b+c%2F/é?x#&"
	c.want(200, "", "PUT", "/photos/"+key, "", demoHeader("Content-Type", "text/cat", "X-Amz-Meta-Mood", "calm", "X-Amz-Tagging", "k=v",
		"X-Amz-Storage-Class", "STANDARD_IA", "X-Amz-Checksum-Crc32", "y/Q5Jg=="), "123456789")
	source := "photos/" + uriEncode(key, false)
	copied := func(dst string, pairs ...string) demoAnswer {
		t.Helper()
		c.want(200, "", "PUT", dst, "", demoHeader(pairs...), "").has(t, "<CopyObjectResult", `<ETag>&quot;25f9e794323b453885f5181f1b624d0b&quot;</ETag>`, "<LastModified>")
		return c.want(200, "", "GET", dst, "", demoHeader("X-Amz-Checksum-Mode", "ENABLED"), "")
	}
	check := func(a demoAnswer, contentType, mood, tags, class string) {
		t.Helper()
		if got, want := []string{a.body, a.Header.Get("Content-Type"), a.Header.Get("X-Amz-Meta-Mood"), a.Header.Get("X-Amz-Tagging-Count"), a.Header.Get("X-Amz-Storage-Class"), a.Header.Get("X-Amz-Checksum-Crc32")},
			[]string{"123456789", contentType, mood, tags, class, "y/Q5Jg=="}; !slices.Equal(got, want) {
			t.Errorf("copy = %q, want %q", got, want)
		}
	}
	check(copied("/backups/1", "X-Amz-Copy-Source", source), "text/cat", "calm", "1", "")
	check(copied("/backups/2", "X-Amz-Copy-Source", "/"+source, "X-Amz-Metadata-Directive", "COPY", "Content-Type", "x"), "text/cat", "calm", "1", "")
	check(copied("/backups/3", "X-Amz-Copy-Source", strings.Replace(source, "/", "%2F", 1), "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-Mood", "wild"), "binary/octet-stream", "wild", "1", "")
	check(copied("/backups/4", "X-Amz-Copy-Source", source, "X-Amz-Tagging-Directive", "REPLACE", "X-Amz-Storage-Class", "ONEZONE_IA"), "text/cat", "calm", "", "ONEZONE_IA")
	check(copied("/backups/1", "X-Amz-Copy-Source", "backups/1", "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-Mood", "new", "X-Amz-Tagging-Directive", "REPLACE", "X-Amz-Tagging", "a=1&b=2"), "binary/octet-stream", "new", "2", "")
	if a := copied("/backups/5", "X-Amz-Copy-Source", source, "X-Amz-Checksum-Algorithm", "CRC32C"); a.Header.Get("X-Amz-Checksum-Crc32c") != "4waSgw==" {
		t.Errorf("checksum of another algorithm: %v", a.Header)
	}
	const before, after = "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"
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
		{source + "?versionId=null", "", "", 501, "NotImplemented"},
		{"backups/2", "", "", 400, "InvalidRequest"}, // onto itself
		{source, "X-Amz-Metadata-Directive", "MOVE", 400, "InvalidArgument"},
		{source, "X-Amz-Tagging-Directive", "MOVE", 400, "InvalidArgument"},
		{source, "X-Amz-Checksum-Algorithm", "CRC8", 501, "NotImplemented"},
		{source, "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm", "AES256", 501, "NotImplemented"},
		{source, "X-Amz-Copy-Source-If-Match", `"x"`, 412, "PreconditionFailed"},
		{source, "X-Amz-Copy-Source-If-Match", `"25f9e794323b453885f5181f1b624d0b"`, 200, ""},
		{source, "X-Amz-Copy-Source-If-None-Match", `"25f9e794323b453885f5181f1b624d0b"`, 412, "PreconditionFailed"},
		{source, "X-Amz-Copy-Source-If-Modified-Since", after, 412, "PreconditionFailed"},
		{source, "X-Amz-Copy-Source-If-Modified-Since", before, 200, ""},
		{source, "X-Amz-Copy-Source-If-Unmodified-Since", before, 412, "PreconditionFailed"},
		{source, "If-None-Match", "*", 412, "PreconditionFailed"}, // the destination
	} {
		h := demoHeader("X-Amz-Copy-Source", test.source)
		if test.header != "" {
			h.Set(test.header, test.value)
		}
		c.want(test.status, test.code, "PUT", "/backups/2", "", h, "")
	}
	if n := len(c.files("backups")); n != 10 {
		t.Errorf("%d files, want 2 for each of 5 objects", n)
	}
}

func TestDemoDeleteObjects(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	for _, key := range []string{"a", "b", "x<&>y", "stays"} {
		c.want(200, "", "PUT", "/photos/"+key, "", nil, "")
	}
	c.want(200, "", "POST", "/photos", "delete=", nil, `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>a</Key></Object><Object><Key>x&lt;&amp;&gt;y</Key></Object><Object><Key>none</Key></Object></Delete>`).
		has(t, "<DeleteResult", "<Deleted><Key>a</Key></Deleted>", "<Deleted><Key>x&lt;&amp;&gt;y</Key></Deleted>", "<Deleted><Key>none</Key></Deleted>", "!<Error>")
	c.want(200, "", "POST", "/photos", "delete=", nil, `<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>`).has(t, "<DeleteResult", "!<Deleted>")
	many := func(n int) string {
		return "<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", n) + "</Delete>"
	}
	c.want(200, "", "POST", "/photos", "delete=", nil, many(1000))
	for _, test := range []struct {
		doc    string
		status int
		code   string
	}{
		{many(1001), 400, "MalformedXML"},
		{many(0), 400, "MalformedXML"},
		{"<Delete><Object><Key>stays</Key></Object>", 400, "MalformedXML"},
		{"<Remove><Object><Key>stays</Key></Object></Remove>", 400, "MalformedXML"},
		{"<Delete><Object><Key>stays</Key></Object><Object><Key></Key></Object></Delete>", 400, "MalformedXML"},
		{"<Delete><Object><Key>stays</Key><VersionId>null</VersionId></Object></Delete>", 501, "NotImplemented"},
		{"<Delete><Object><Key>stays</Key><ETag>x</ETag></Object></Delete>", 501, "NotImplemented"},
	} {
		c.want(test.status, test.code, "POST", "/photos", "delete=", nil, test.doc)
	}
	if got := c.listAll(demoListing{size: 1000, v2: true}); !slices.Equal(got, []string{"stays"}) {
		t.Errorf("left: %q", got)
	}
}

func TestDemoTagging(t *testing.T) {
	dir := t.TempDir()
	c := startDemo(t, dir, "photos")
	first := c.want(200, "", "PUT", "/photos/cat", "", demoHeader("X-Amz-Tagging", "b=2&a=x+%2B"), "meow")
	c.want(200, "", "GET", "/photos/cat", "tagging=", nil, "").
		has(t, "<Tagging", "<TagSet><Tag><Key>a</Key><Value>x +</Value></Tag><Tag><Key>b</Key><Value>2</Value></Tag></TagSet>")
	set := func(tags string) string { return "<Tagging><TagSet>" + tags + "</TagSet></Tagging>" }
	c.want(200, "", "PUT", "/photos/cat", "tagging=", nil, set("<Tag><Key>é</Key><Value></Value></Tag>"))
	c = startDemo(t, dir)
	for _, method := range []string{"GET", "HEAD"} {
		a := c.want(200, "", method, "/photos/cat", "", nil, "")
		if a.Header.Get("X-Amz-Tagging-Count") != "1" || a.Header.Get("ETag") != first.Header.Get("ETag") || method == "GET" && a.body != "meow" {
			t.Errorf("%s of a tagged object: %v %q", method, a.Header, a.body)
		}
	}
	tag := func(i int) string { return fmt.Sprintf("<Tag><Key>k%d</Key><Value>v</Value></Tag>", i) }
	var eleven string
	for i := range 11 {
		eleven += tag(i)
	}
	for _, test := range []struct{ doc, code string }{
		{set(eleven), "BadRequest"}, {set(tag(1) + tag(1)), "InvalidTag"}, {set("<Tag><Key></Key></Tag>"), "InvalidTag"}, {set("<Tag><Key>a&lt;</Key></Tag>"), "InvalidTag"},
		{set("<Tag><Key>" + strings.Repeat("k", 129) + "</Key></Tag>"), "InvalidTag"}, {set("<Tag><Key>k</Key><Value>" + strings.Repeat("v", 257) + "</Value></Tag>"), "InvalidTag"},
		{"<Tagging>", "MalformedXML"}, {"", "MalformedXML"},
	} {
		c.want(400, test.code, "PUT", "/photos/cat", "tagging=", nil, test.doc)
	}
	c.want(400, "InvalidTag", "PUT", "/photos/dog", "", demoHeader("X-Amz-Tagging", "a=1&a=2"), "")
	c.want(400, "InvalidArgument", "PUT", "/photos/dog", "", demoHeader("X-Amz-Tagging", "a=%zz"), "")
	c.want(200, "", "GET", "/photos/cat", "tagging=", nil, "").has(t, "<Key>é</Key>")
	c.want(204, "", "DELETE", "/photos/cat", "tagging=", nil, "")
	c.want(200, "", "GET", "/photos/cat", "tagging=", nil, "").has(t, "<TagSet></TagSet>")
	for _, method := range []string{"GET", "DELETE"} {
		c.want(404, "NoSuchKey", method, "/photos/dog", "tagging=", nil, "")
	}
	c.want(404, "NoSuchKey", "PUT", "/photos/dog", "tagging=", nil, set(""))
}

func TestDemoAbout(t *testing.T) {
	c := startDemo(t, t.TempDir(), "photos")
	c.want(200, "", "PUT", "/photos/dir/cat", "", demoHeader("X-Amz-Checksum-Crc32", "y/Q5Jg==", "X-Amz-Storage-Class", "STANDARD_IA"), "123456789")
	c.want(200, "", "PUT", "/photos/zoo", "", nil, "")
	grant := "<Permission>FULL_CONTROL</Permission>"
	c.want(200, "", "GET", "/photos", "acl=", nil, "").has(t, "<AccessControlPolicy", "<Owner><ID>s3-proxy-demo</ID>", `xsi:type="CanonicalUser"`, grant)
	c.want(200, "", "GET", "/photos/zoo", "acl=", nil, "").has(t, grant)
	c.want(404, "NoSuchKey", "GET", "/photos/none", "acl=", nil, "")
	c.want(200, "", "GET", "/photos", "versioning=", nil, "").has(t, "<VersioningConfiguration", "!Status")

	attributes := func(values ...string) http.Header { return http.Header{"X-Amz-Object-Attributes": values} }
	a := c.want(200, "", "GET", "/photos/dir/cat", "attributes=", attributes("ETag,Checksum, ObjectParts", "StorageClass,ObjectSize"), "")
	a.has(t, "<GetObjectAttributesResponse", "<ETag>25f9e794323b453885f5181f1b624d0b</ETag>", "<Checksum><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32><ChecksumType>FULL_OBJECT</ChecksumType></Checksum>",
		"<StorageClass>STANDARD_IA</StorageClass>", "<ObjectSize>9</ObjectSize>", "!ObjectParts")
	if a.Header.Get("Last-Modified") == "" {
		t.Error("GetObjectAttributes without Last-Modified")
	}
	c.want(200, "", "GET", "/photos/zoo", "attributes=", attributes("ObjectSize"), "").has(t, "<ObjectSize>0</ObjectSize>", "!ETag")
	c.want(400, "InvalidArgument", "GET", "/photos/zoo", "attributes=", attributes("Colour"), "")
	c.want(400, "InvalidArgument", "GET", "/photos/zoo", "attributes=", nil, "")
	c.want(404, "NoSuchKey", "GET", "/photos/none", "attributes=", attributes("ETag"), "")

	c.want(200, "", "GET", "/photos", "versions=", nil, "").has(t, "<ListVersionsResult", "<Version><VersionId>null</VersionId><IsLatest>true</IsLatest><Key>dir/cat</Key>", "<Key>zoo</Key>", "<IsTruncated>false")
	c.want(200, "", "GET", "/photos", "max-keys=1&versions=", nil, "").has(t, "<Key>dir/cat</Key>", "!zoo", "<NextKeyMarker>dir/cat</NextKeyMarker><NextVersionIdMarker>null<")
	c.want(200, "", "GET", "/photos", "key-marker=dir%2Fcat&version-id-marker=null&versions=", nil, "").has(t, "<Key>zoo</Key>", "!<Key>dir", "<KeyMarker>dir/cat<")
	c.want(200, "", "GET", "/photos", "delimiter=%2F&versions=", nil, "").has(t, "<CommonPrefixes><Prefix>dir/</Prefix></CommonPrefixes>", "!<Key>dir")
	c.want(400, "InvalidArgument", "GET", "/photos", "version-id-marker=null&versions=", nil, "")
}
