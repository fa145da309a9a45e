package main

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What a backend gets is written anew, with a digest of its own.
func TestDeleteObjectsRebuilds(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	body := `<?xml version="1.0"?><!-- c --><Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"> <Quiet>true</Quiet>
		<Object><Key>a&lt;b</Key></Object><Object><Key> c/d </Key><ETag>"e"</ETag></Object></Delete>`
	sum := crc32.ChecksumIEEE([]byte(body))
	checksum := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum))
	resp, answer := g.do("POST", "/photos?delete", userKey, body, "x-amz-checksum-crc32: "+checksum, "x-amz-sdk-checksum-algorithm: CRC32")
	if resp.StatusCode != 200 {
		t.Fatalf("DeleteObjects = %d %s", resp.StatusCode, answer)
	}
	seen := backend.requests()[0]
	want := xmlHeader + `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet><Object><Key>a&lt;b</Key></Object><Object><Key> c/d </Key><ETag>&#34;e&#34;</ETag></Object></Delete>`
	if seen.body != want {
		t.Errorf("the backend got\n%s\nwant\n%s", seen.body, want)
	}
	digest := md5.Sum([]byte(want))
	checkHeaders(t, "the request", seen.header, map[string]string{
		"Content-Md5":          base64.StdEncoding.EncodeToString(digest[:]),
		"X-Amz-Checksum-Crc32": "", "X-Amz-Sdk-Checksum-Algorithm": "",
	})
	if seen.uri != "/photos?delete=" {
		t.Errorf("uri = %s", seen.uri)
	}
}

func TestDeleteObjectsRefuses(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	object := "<Object><Key>k</Key></Object>"
	wrap := func(s string) string { return "<Delete>" + s + "</Delete>" }
	for name, test := range map[string]struct {
		body, key string
		status    int
		code      string
	}{
		"readonly":           {wrap(object), readOnlyKey, 403, "AccessDenied"},
		"other bucket":       {wrap(object), noneKey, 403, "AccessDenied"},
		"version as user":    {wrap("<Object><Key>k</Key><VersionId>v</VersionId></Object>"), userKey, 403, "AccessDenied"},
		"no objects":         {wrap(""), userKey, 400, "MalformedXML"},
		"1001 objects":       {wrap(strings.Repeat(object, 1001)), userKey, 400, "MalformedXML"},
		"key twice":          {wrap("<Object><Key>a</Key><Key>b</Key></Object>"), userKey, 400, "MalformedXML"},
		"no key":             {wrap("<Object></Object>"), userKey, 400, "MalformedXML"},
		"other element":      {wrap(object + "<Force>true</Force>"), userKey, 400, "MalformedXML"},
		"element in key":     {wrap("<Object><Key><b>k</b></Key></Object>"), userKey, 400, "MalformedXML"},
		"foreign namespace":  {`<Delete xmlns:x="urn:x"><x:Object><Key>k</Key></x:Object></Delete>`, userKey, 400, "MalformedXML"},
		"second root":        {wrap(object) + wrap(object), userKey, 400, "MalformedXML"},
		"text after":         {wrap(object) + "x", userKey, 400, "MalformedXML"},
		"document type":      {`<!DOCTYPE Delete [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + wrap("<Object><Key>&x;</Key></Object>"), userKey, 400, "MalformedXML"},
		"entity":             {wrap("<Object><Key>&x;</Key></Object>"), userKey, 400, "MalformedXML"},
		"cut":                {wrap(object)[:20], userKey, 400, "MalformedXML"},
		"deep":               {strings.Repeat("<Delete>", 100000), userKey, 400, "MalformedXML"},
		"other root":         {"<Remove>" + object + "</Remove>", userKey, 400, "MalformedXML"},
		"empty":              {"", userKey, 400, "MalformedXML"},
		"dot segments":       {wrap("<Object><Key>../secret/k</Key></Object>"), userKey, 400, "InvalidRequest"},
		"nested":             {wrap("<Object><Key>a/b</Key></Object>"), userKey, 400, "InvalidRequest"},
		"one bad of several": {wrap(object + "<Object><Key>a\\b</Key></Object>"), userKey, 400, "InvalidRequest"},
		"large":              {wrap(object + strings.Repeat(" ", 2<<20)), userKey, 413, "EntityTooLarge"},
	} {
		resp, body := g.do("POST", "/photos?delete", test.key, test.body)
		if resp.StatusCode != test.status || !strings.Contains(body, fmt.Sprintf("%q", test.code)) {
			t.Errorf("%s = %d %s, want %d %s", name, resp.StatusCode, body, test.status, test.code)
		}
		checkHardened(t, resp)
	}
	resp, body := g.do("POST", "/photos?delete", userKey, wrap(object), "Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==")
	wantError(t, resp, body, 400, "BadDigest")
	backend.wantNone(t)
}

// A key of which the result says nothing may still be there. Such a result is no
// success, unless the client wants to be told of failures only.
func TestDeleteResultsThatLeaveOutKeys(t *testing.T) {
	object := func(key, version string) string {
		if version != "" {
			version = "<VersionId>" + version + "</VersionId>"
		}
		return "<Object><Key>" + key + "</Key>" + version + "</Object>"
	}
	two := object("a", "") + object("b", "")
	for _, test := range []struct {
		name, asked, result string
		status              int
	}{
		{"all", two, "<Deleted><Key>a</Key></Deleted><Deleted><Key>b</Key></Deleted>", 200},
		{"one deleted, one not", two, "<Deleted><Key>a</Key></Deleted><Error><Key>b</Key><Code>AccessDenied</Code></Error>", 200},
		{"one left out", two, "<Deleted><Key>a</Key></Deleted>", 502},
		{"one told twice", two, "<Deleted><Key>a</Key></Deleted><Deleted><Key>a</Key></Deleted>", 502},
		{"one asked for twice", two + object("a", ""), "<Deleted><Key>a</Key></Deleted><Deleted><Key>b</Key></Deleted>", 200},
		{"none", two, "", 502},
		{"none, quietly", "<Quiet>true</Quiet>" + two, "", 200},
		{"none, not quietly", "<Quiet>false</Quiet>" + two, "", 502},
		{"one version of two", object("a", "1") + object("a", "2"), "<Deleted><Key>a</Key><VersionId>1</VersionId></Deleted>", 502},
		{"both versions", object("a", "1") + object("a", "2"), "<Deleted><Key>a</Key><VersionId>1</VersionId></Deleted><Deleted><Key>a</Key><VersionId>2</VersionId></Deleted>", 200},
		{"as many, written in another way", two, "<Deleted><Key>A</Key></Deleted><Deleted><Key>B</Key></Deleted>", 200},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "<DeleteResult>"+test.result+"</DeleteResult>")
		})
		g := startGateway(t, testConfig(backend.URL))
		if resp, body := g.do("POST", "/photos?delete", adminKey, "<Delete>"+test.asked+"</Delete>"); resp.StatusCode != test.status {
			t.Errorf("%s: DeleteObjects = %d %s, want %d", test.name, resp.StatusCode, body, test.status)
		}
	}
}
