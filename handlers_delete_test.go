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

// A batch is its keys. Each is held to the rules for a key in a path,
// and the backend reads no other list than the one that was checked, whatever a
// second parser might make of the document.
func TestBatchDeleteIsAuthorizedKeyByKey(t *testing.T) {
	for _, nested := range []bool{false, true} {
		rec := startRecorder(t, answerAsS3)
		g := startGateway(t, testConfig(rec.URL, with("nested_keys", nested)))
		key := func(k string) string { return "<Object><Key>" + k + "</Key></Object>" }
		wrap := func(s string) string { return "<Delete>" + s + "</Delete>" }
		const s3 = "http://s3.amazonaws.com/doc/2006-03-01/"
		for name, row := range map[string]struct {
			body string
			want string
		}{
			"text between elements":    {wrap("x" + key("k")), "400 MalformedXML"},
			"text after an element":    {wrap(key("k") + "x"), "400 MalformedXML"},
			"1001 keys":                {wrap(strings.Repeat(key("k"), 1001)), "400 MalformedXML"},
			"70 000 keys":              {wrap(strings.Repeat(key(""), 70_000)), "400 MalformedXML"},
			"over 2 MiB":               {wrap(key("k") + strings.Repeat(" ", 2<<20)), "413 EntityTooLarge"},
			"a key of 1 MiB":           {wrap(key(strings.Repeat("k", 1<<20))), "400 MalformedXML"},
			"a key of 1025 bytes":      {wrap(key(strings.Repeat("k", 1025))), "400 KeyTooLongError"},
			"deep":                     {strings.Repeat("<Delete>", 200_000), "400 MalformedXML"},
			"deep, and closed":         {wrap("<Object>" + strings.Repeat("<Key>", 50_000) + strings.Repeat("</Key>", 50_000) + "</Object>"), "400 MalformedXML"},
			"a million attributes":     {`<Delete` + strings.Repeat(` a="b"`, 300_000) + ">" + key("k") + "</Delete>", "400 MalformedXML"},
			"two keys in one":          {wrap("<Object><Key>a</Key><Key>b</Key></Object>"), "400 MalformedXML"},
			"a key of another case":    {wrap("<Object><Key>a</Key><key>b</key></Object>"), "400 MalformedXML"},
			"a key in a key":           {wrap("<Object><Key><Key>a</Key></Key></Object>"), "400 MalformedXML"},
			"no key":                   {wrap("<Object><ETag>e</ETag></Object>"), "400 MalformedXML"},
			"an empty key":             {wrap(key("")), "400 InvalidRequest"},
			"no objects":               {wrap(""), "400 MalformedXML"},
			"an object in an object":   {wrap("<Object>" + key("k") + "</Object>"), "400 MalformedXML"},
			"a foreign root":           {`<Delete xmlns="urn:x">` + key("k") + "</Delete>", "400 MalformedXML"},
			"a foreign object":         {`<Delete xmlns="` + s3 + `" xmlns:x="urn:x"><x:Object><Key>k</Key></x:Object></Delete>`, "400 MalformedXML"},
			"a foreign key":            {`<Delete xmlns:x="urn:x"><Object><x:Key>k</x:Key></Object></Delete>`, "400 MalformedXML"},
			"a foreign key beside":     {`<Delete xmlns:x="urn:x"><Object><x:Key>a</x:Key><Key>k</Key></Object></Delete>`, "400 MalformedXML"},
			"a second root":            {wrap(key("a")) + wrap(key("b")), "400 MalformedXML"},
			"text behind":              {wrap(key("a")) + "b", "400 MalformedXML"},
			"NUL behind":               {wrap(key("a")) + "\x00", "400 MalformedXML"},
			"an instruction behind":    {wrap(key("a")) + "<?x y?>", "400 MalformedXML"},
			"another root":             {"<Remove>" + key("k") + "</Remove>", "400 MalformedXML"},
			"a document type":          {"<!DOCTYPE Delete>" + wrap(key("k")), "400 MalformedXML"},
			"a document type inside":   {wrap("<!DOCTYPE Delete>" + key("k")), "400 MalformedXML"},
			"an external entity":       {`<!DOCTYPE Delete [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + wrap(key("&x;")), "400 MalformedXML"},
			"a bomb":                   {`<!DOCTYPE Delete [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>` + wrap(key("&b;")), "400 MalformedXML"},
			"an entity":                {wrap(key("&x;")), "400 MalformedXML"},
			"an inclusion":             {`<Delete xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd"/>` + key("k") + `</Delete>`, "400 MalformedXML"},
			"another encoding":         {`<?xml version="1.0" encoding="UTF-16"?>` + wrap(key("k")), "400 MalformedXML"},
			"invalid UTF-8":            {wrap(key("\xff")), "400 MalformedXML"},
			"a control character":      {wrap(key("&#x1;")), "400 MalformedXML"},
			"NUL":                      {wrap(key("&#0;")), "400 MalformedXML"},
			"a surrogate":              {wrap(key("&#xD800;")), "400 MalformedXML"},
			"dots":                     {wrap(key("..")), "400 InvalidRequest"},
			"dot segments":             {wrap(key("../secret/k")), "400 InvalidRequest"},
			"dot segments in CDATA":    {wrap(key("<![CDATA[../secret/k]]>")), "400 InvalidRequest"},
			"dots around a comment":    {wrap(key(".<!-- x -->./secret")), "400 InvalidRequest"},
			"dots by number":           {wrap(key("&#46;&#46;")), "400 InvalidRequest"},
			"one of a thousand":        {wrap(strings.Repeat(key("k"), 999) + key("a/./b")), "400 InvalidRequest"},
			"JSON":                     {`{"Objects":[{"Key":"k"}]}`, "400 MalformedXML"},
			"nothing":                  {"", "400 MalformedXML"},
			"cut":                      {wrap(key("k"))[:40], "400 MalformedXML"},
			"a form":                   {"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--x--\r\n", "400 MalformedXML"},
			"the aws-chunked envelope": {"4\r\n" + wrap(key("k")) + "\r\n0\r\n\r\n", "400 MalformedXML"},
		} {
			t.Run(fmt.Sprintf("%s, nested %t", name, nested), func(t *testing.T) {
				before := requestCount(rec)
				resp, body := g.do("POST", "/photos?delete", userKey, row.body)
				wantRefusal(t, "POST", resp, body, row.want)
				wantSince(t, rec, before, 0)
			})
		}
		if !nested {
			for _, k := range []string{"a/b", "a&#47;b", "k/", "/k", `a\b`, "a&#9;b", "a&#x85;b"} {
				resp, body := g.do("POST", "/photos?delete", userKey, wrap(key(k)))
				wantRefusal(t, "POST", resp, body, "400 InvalidRequest")
			}
		}
		// Who, by every authentication method, and with digests that do not fit.
		for _, auth := range authMethods {
			r := requestSpec{method: "POST", path: "/photos", query: "delete", body: wrap(key("k"))}
			for _, caller := range []struct{ name, key, path string }{{"ro", readOnlyKey, "/photos"}, {"none", noneKey, "/photos"}, {"user", userKey, "/secret"}, {"user", userKey, "/nosuch"}} {
				r.path = caller.path
				resp, body := auth.send(g, caller.name, caller.key, r)
				wantDenied(t, "POST", resp, body, 403, "AccessDenied")
			}
		}
		for _, header := range []string{"Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==", "Content-MD5: x", "x-amz-content-sha256: " + strings.Repeat("0", 64)} {
			resp, body := g.do("POST", "/photos?delete", userKey, wrap(key("k")), header)
			wantRefusal(t, "POST", resp, body, "400 BadDigest", "400 InvalidDigest", "400 XAmzContentSHA256Mismatch")
		}
		if t.Failed() {
			continue
		}
		rec.wantNone(t)

		// What passes was written anew.
		resp, body := g.do("POST", "/photos?delete", userKey, `<?xml version="1.0"?><?x y?><!-- `+key("c")+` --><Delete xmlns="`+s3+`" a="b"> <Quiet>true</Quiet>`+
			`<Object b="c"><Key><![CDATA[a&b]]></Key></Object>`+strings.Repeat(key("k"), 999)+`</Delete><!-- -->`)
		seen := rec.requests()
		if resp.StatusCode != 200 || len(seen) != 1 || seen[0].uri != "/photos?delete=" {
			t.Fatalf("DeleteObjects = %d %s, the backend saw %v, want 200 and one request", resp.StatusCode, body, seen)
		}
		for _, surplus := range []string{"<!--", "<?x y", "CDATA", `="b"`, `="c"`, "> <"} {
			if strings.Contains(seen[0].body, surplus) {
				t.Errorf("the backend got %.300s, want nothing of %q", seen[0].body, surplus)
			}
		}
		digest := md5.Sum([]byte(seen[0].body))
		if got, want := seen[0].header.Get("Content-Md5"), base64.StdEncoding.EncodeToString(digest[:]); got != want || strings.Count(seen[0].body, "<Key>") != 1000 {
			t.Errorf("the backend got %d keys and Content-MD5 %q, want 1000 and %q", strings.Count(seen[0].body, "<Key>"), got, want)
		}
	}
}
