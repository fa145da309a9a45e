package main

import (
	"bufio"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// pathAbuseDenied checks a refusal in the format that its request gets: JSON,
// XML, or for a HEAD the status alone. Nothing of the backend is in it.
func pathAbuseDenied(t *testing.T, method string, resp *http.Response, body string, status int, code string) {
	t.Helper()
	checkNoSecret(t, "the answer", body)
	if failure := resp.Header.Get("Test-Error"); failure != "" {
		t.Errorf("no whole answer: %s", failure)
		return
	}
	if location := resp.Header.Get("Location"); location != "" {
		t.Errorf("the answer leads to %q, want no redirect", location)
	}
	switch {
	case method == "HEAD":
		checkHardened(t, resp)
		if resp.StatusCode != status || body != "" {
			t.Errorf("answer = %d %q, want %d without a body", resp.StatusCode, body, status)
		}
	case resp.Header.Get("Content-Type") == "application/xml":
		checkHardened(t, resp)
		var e struct {
			XMLName   xml.Name `xml:"Error"`
			Code      string
			RequestID string `xml:"RequestId"`
		}
		if err := xml.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != status || e.Code != code {
			t.Errorf("answer = %d %s, %v, want %d %s", resp.StatusCode, body, err, status, code)
		}
		if e.RequestID == "" || e.RequestID != resp.Header.Get("X-Amz-Request-Id") {
			t.Errorf("RequestId = %q, header %q, want the same", e.RequestID, resp.Header.Get("X-Amz-Request-Id"))
		}
	default:
		wantError(t, resp, body, status, code)
	}
}

// pathAbuseRefusePaths sends each path with several methods, by a user who may
// do everything, and wants a 400 that the backend hears nothing of.
func pathAbuseRefusePaths(t *testing.T, nested bool, paths ...string) {
	t.Helper()
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("nested_keys", nested)))
	for _, path := range paths {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			body := ""
			if method == "PUT" {
				body = "intruder"
			}
			resp, answer := g.do(method, path, adminKey, body)
			pathAbuseDenied(t, method, resp, answer, 400, modelCode(path))
			if t.Failed() {
				t.Fatalf("that was %s %q, nested_keys %t", method, path, nested)
			}
		}
	}
	rec.wantNone(t)
}

// pathAbuseWantKeys sends each path as a PUT and wants the backend to be asked
// for exactly the key that stands beside it.
func pathAbuseWantKeys(t *testing.T, nested bool, keys map[string]string) {
	t.Helper()
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("nested_keys", nested)))
	for _, path := range slices.Sorted(maps.Keys(keys)) {
		before := len(rec.requests())
		resp, body := g.do("PUT", path, userKey, "data")
		seen := rec.requests()[before:]
		if resp.StatusCode != 200 || len(seen) != 1 {
			t.Errorf("PUT %q = %d %s with %d requests behind, want 200 and one", path, resp.StatusCode, body, len(seen))
			continue
		}
		want := target{bucket: "photos", key: keys[path]}
		if got, err := s3View(seen[0].uri); err != nil || got != want || strings.Contains(seen[0].uri, "?") {
			t.Errorf("PUT %q went on as %s, which is %q, %v, want %q", path, seen[0].uri, got, err, want)
		}
		if seen[0].uri != "/photos/"+uriEncode(want.key, false) {
			t.Errorf("PUT %q went on as %s, want each byte encoded once", path, seen[0].uri)
		}
	}
}

// Case 1: dot segments, in every spelling. A gate that counts segments before
// it decodes and forwards what it decoded lets a user of one bucket write into
// another: the hole of CVE-2026-42882.
func TestAbuse001DotSegments(t *testing.T) {
	paths := []string{
		"/photos/../secret/k", "/photos/..%2Fsecret%2Fk", "/photos/..%2fsecret%2fk", "/photos/..%2Fsecret/k",
		"/photos/%2e%2e/secret/k", "/photos/%2E%2E/secret/k", "/photos/%2e%2E/secret/k", "/photos/%2E%2e/secret/k",
		"/photos/.%2e/secret/k", "/photos/.%2E/secret/k", "/photos/%2e./secret/k", "/photos/%2E./secret/k",
		"/photos/%2e%2e%2fsecret%2fk", "/photos/%2E%2E%2Fsecret%2Fk", "/photos/.%2e%2fsecret%2fk", "/photos/%2e.%2Fsecret%2Fk",
		"/photos/..", "/photos/%2e%2e", "/photos/.%2e", "/photos/%2E.", "/photos/../", "/photos/..%2f", "/photos/%2e%2e/",
		"/photos/.", "/photos/%2e", "/photos/%2E", "/photos/./", "/photos/.%2F", "/photos/./k", "/photos/%2e/k", "/photos/%2e%2fk", "/photos/.%2Fk",
		"/photos/k/..", "/photos/k/.", "/photos/k%2F..", "/photos/k%2f%2e%2e", "/photos/k/%2e", "/photos/a/../b", "/photos/a/./b",
		"/photos/a/../../secret/k", "/photos/a/%2e%2e/%2E%2E/secret/k", "/photos/a%2F..%2F..%2Fsecret%2Fk", "/photos//../secret/k", "/photos/..//secret/k",
		"/../secret/k", "/./secret/k", "/%2e%2e/secret/k", "/%2e/secret/k", "/..%2Fsecret%2Fk", "/..", "/.", "/%2e%2e", "/../", "/photos/../../secret/k",
		"/photos/..%2Fsecret%2Fk|", "/photos/%2e%2e/secret/^", "/photos%2F..%2Fsecret/{k}", // raw, net/url reads these another way
		"/photos/../secret/k?x-id=PutObject", "http://gateway.example/photos/../secret/k", "http://gateway.example/photos/%2e%2e%2Fsecret%2Fk",
	}
	pathAbuseRefusePaths(t, false, append(paths, "/photos/..;/secret/k", "/photos/..%5csecret%5ck")...)
	pathAbuseRefusePaths(t, true, paths...)

	// Not dot segments: what is decoded twice by whoever comes next must not
	// have been decoded once here.
	literal := map[string]string{
		"/photos/%252e%252e%252fsecret%252fk": "%2e%2e%2fsecret%2fk", "/photos/..%252Fsecret": "..%2Fsecret", "/photos/%25252e": "%252e",
		"/photos/...": "...", "/photos/..k": "..k", "/photos/k..": "k..", "/photos/%2e%2e%2e": "...", "/photos/.k": ".k", "/photos/%EF%BC%8E%EF%BC%8E": "．．",
	}
	pathAbuseWantKeys(t, false, literal)
	pathAbuseWantKeys(t, true, literal)
}

// Case 2: an encoded slash behind the bucket. S3 decodes first and splits then,
// so it sees a key in photos; who splits first sees a bucket "photos/secret".
// Two readings are one too many.
func TestAbuse002EncodedBucketSlash(t *testing.T) {
	paths := []string{
		"/photos%2Fsecret", "/photos%2fsecret", "/photos%2Fk", "/photos%2F", "/photos%2Fsecret/k", "/photos%2f%2e%2e%2fsecret/k",
		"/%2Fphotos/k", "/%2fphotos", "/%2F", "/%2F%2Fphotos/k", "/%70hotos/k", "/photo%73", "/photos%00/k", "/photos%20/k", "/photos%3Fk", "/photos%23k",
		// Bytes that should have been encoded make net/url forget how the rest was.
		"/photos%2Fk|", "/photos%2Fk^", "/photos%2Fk{}", `/photos%2F"k"`, "/photos%2F<k>", "/photos%2Fé", "/photos%2Fk`", "/%70hotos/k|", "/%70hotos/é",
	}
	pathAbuseRefusePaths(t, false, paths...)
	pathAbuseRefusePaths(t, true, paths...)
}

// Case 3: one parse. For any path, what was authorized is what the backend
// decodes is what was logged, and is what a reader of the design would take the
// path for. (The limiter knows users only, and no path.)
func TestAbuse003OneParse(t *testing.T) {
	pieces := []string{
		"photos", "secret", "nosuch", "a", "k", "/", "/", "/", "//", "%2F", "%2f", "%252F", ".", "..", "%2e", "%2E%2e", ";", "=", "@", ":", "+", "%20", "%25",
		"é", "%C3%A9", "%e2%82%ac", "%ff", "%c0%ae", "%00", "%0a", "%7f", `\`, "%5C", "|", "^", "~", "*", "'", "&", "%70hotos", "%3Facl", "%23", "!", "[", "?", "?x-id=a/b",
	}
	for _, nested := range []bool{false, true} {
		t.Run(fmt.Sprintf("nested=%t", nested), func(t *testing.T) {
			rec := startRecorder(t, nil)
			g := startGateway(t, testConfig(rec.URL, with("nested_keys", nested)))
			random := rand.New(rand.NewPCG(3, 42882))
			type sent struct {
				target string
				user   string
				status int
				from   int // index of the first request the backend saw of it
				to     int
			}
			var all []sent
			accepted := 0
			for range 400 {
				path := [...]string{"/", "/photos/", "/photos/", "/secret/", "/photos"}[random.IntN(5)]
				for range random.IntN(6) {
					path += pieces[random.IntN(len(pieces))]
				}
				s := sent{target: path, user: "ro", from: len(rec.requests())}
				key := readOnlyKey
				if random.IntN(3) == 0 {
					s.user, key = "admin", adminKey
				}
				resp, _ := g.do("HEAD", path, key, "")
				s.status, s.to = resp.StatusCode, len(rec.requests())
				all = append(all, s)
			}
			lines, seen := g.lines(), rec.requests()
			if len(lines) != len(all) {
				t.Fatalf("%d lines for %d requests", len(lines), len(all))
			}
			for i, s := range all {
				path, _, _ := strings.Cut(s.target, "?")
				want, ok := modelTarget(path, nested)
				status := modelStatus(want, ok, s.user)
				if strings.Contains(s.target, "?") && s.status == 400 || s.status == 501 {
					// Its query was refused; the verdict on the path is the log's.
					status = s.status
				}
				if s.status != status {
					t.Errorf("HEAD %q by %s = %d, want %d", s.target, s.user, s.status, status)
				}
				logged := target{bucket: lines[i]["bucket"].(string), key: lines[i]["key"].(string)}
				if ok && logged != want || !ok && logged != (target{}) {
					t.Errorf("HEAD %q: logged as %q, want %q, fine %t", s.target, logged, want, ok)
				}
				if s.status != 200 || want.bucket == "" {
					if s.from != s.to {
						t.Errorf("HEAD %q = %d, and the backend got %s", s.target, s.status, seen[s.from].uri)
					}
					continue
				}
				accepted++
				if s.to-s.from != 1 {
					t.Fatalf("HEAD %q: the backend got %d requests, want 1", s.target, s.to-s.from)
				}
				if got, err := s3View(seen[s.from].uri); err != nil || got != want || s.user == "ro" && got.bucket != "photos" {
					t.Errorf("HEAD %q by %s went on as %s, which is %q, %v, want %q", s.target, s.user, seen[s.from].uri, got, err, want)
				}
				if got, err := s3View(s.target); err != nil || got != want && got.key != "" {
					t.Errorf("HEAD %q is %q to S3, and %q here", s.target, got, want)
				}
			}
			if accepted < 40 {
				t.Errorf("%d of %d random paths were accepted: too few to tell", accepted, len(all))
			}
		})
	}
}

// modelStatus is the status that a HEAD deserves.
func modelStatus(t target, ok bool, user string) int {
	switch {
	case !ok:
		return 400
	case t.bucket == "" || t.bucket == "photos":
		return 200
	case user == "ro":
		return 403
	case t.bucket == "secret":
		return 200
	}
	return 404
}

// Case 4: an authority where the path should be, in the request target or in
// the Host header. A URL parser that is handed "//evil/k" takes evil for the
// host; the gateway speaks to the hosts of its configuration and to no other.
func TestAbuse004ForeignAuthority(t *testing.T) {
	rec, evil := startRecorder(t, nil), startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("nested_keys", true)))
	host := strings.TrimPrefix(evil.URL, "http://")
	for _, path := range []string{
		"//" + host + "/photos/k", "///" + host + "/photos/k", `/\` + host + "/photos/k", `/\\` + host + "/k", "//photos/k", "/%2F" + host + "/k",
		"/http://" + host + "/photos/k", "/http:%2F%2F" + host + "/k", "/@" + host + "/k", "/photos@" + host + "/k", "/photos:80@" + host + "/k", "/" + host + "/k",
		"/user:password@" + host, "http://" + host, "http://" + host + "//photos/k", "mailto:photos/k", "photos/k", "?photos/k", "..//" + host,
	} {
		resp, body := g.do("GET", path, adminKey, "")
		if resp.StatusCode != 400 || resp.Header.Get("Location") != "" {
			t.Errorf("GET %s = %d %s, want 400", path, resp.StatusCode, body)
		}
	}
	rec.wantNone(t)
	for _, request := range []string{
		"GET /photos/k HTTP/1.1\r\nHost: " + host,
		"GET /photos/k HTTP/1.1\r\nHost: photos." + host,
		"GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\nX-Forwarded-Host: " + host,
		"GET http://" + host + "/photos/k HTTP/1.1\r\nHost: gateway.example",
		"GET https://user:password@" + host + "/photos/k HTTP/1.1\r\nHost: " + host,
	} {
		before := len(rec.requests())
		resp, body := g.raw("GET", request+"\r\nX-Api-Key: "+adminKey+"\r\nConnection: close\r\n\r\n")
		seen := rec.requests()[before:]
		if resp.StatusCode != 200 || len(seen) != 1 {
			t.Fatalf("%q = %d %s with %d requests behind, want 200 and one", request, resp.StatusCode, body, len(seen))
		}
		if want := strings.TrimPrefix(rec.URL, "http://"); seen[0].host != want || seen[0].uri != "/photos/k" {
			t.Errorf("%q went to %s%s, want %s/photos/k", request, seen[0].host, seen[0].uri, want)
		}
		for name, values := range seen[0].header {
			if strings.Contains(strings.Join(values, ","), host) {
				t.Errorf("%q: the backend is told of the foreign host: %s: %q", request, name, values)
			}
		}
	}
	evil.wantNone(t)
}

// Case 6: slashes too many. ServeMux would redirect these, with a 307 that has
// a client send its PUT again, to another key. They are refused here, and where
// it would help, the message names the setting.
func TestAbuse006NoRedirect(t *testing.T) {
	tooMany := []string{"/photos//k", "/photos/k/", "/photos/x/y", "/photos/x%2Fy", "/photos/x//y", "/photos//", "/photos/k//", "/photos/x/y/z"}
	pathAbuseRefusePaths(t, false, append(tooMany, "/photos/", "//photos", "//photos/k", "//", "///")...)
	pathAbuseRefusePaths(t, true, "//photos", "//photos/k", "//", "///")

	g := startGateway(t, testConfig("http://127.0.0.1:1"))
	for _, path := range tooMany {
		if _, body := g.do("GET", path, userKey, ""); !strings.Contains(body, "nested_keys") {
			t.Errorf("GET %s: %s, want a message that names nested_keys", path, body)
		}
	}
	pathAbuseWantKeys(t, true, map[string]string{
		"/photos//k": "/k", "/photos/k/": "k/", "/photos/x/y": "x/y", "/photos/x%2Fy": "x/y", "/photos/x//y": "x//y", "/photos//": "/", "/photos/k//": "k//",
	})
}

// Case 8: control characters. Ceph's gateway crashed on a NUL (CVE-2022-3854),
// an escape sequence in a key plays with the terminal of whoever reads a log,
// and XML has no way to write most of them. With nested keys every key of S3 is
// taken, but NUL, which ends a string in too many servers.
func TestAbuse008ControlCharacters(t *testing.T) {
	var strict []string
	nested := map[string]string{}
	for c := range 0xa0 {
		if c >= 0x20 && c < 0x7f {
			continue
		}
		path := "/photos/a" + url.PathEscape(string(rune(c))) + "b"
		strict = append(strict, path)
		if c != 0 {
			nested[path] = "a" + string(rune(c)) + "b"
		}
	}
	pathAbuseRefusePaths(t, false, append(strict, "/photos/%0a", "/photos/%0d%0aX-Evil:%20y", "/photos/%1b%5b2J", "/photos/%00", "/photos/k%00.jpg", "/photos%00", "/%00")...)
	pathAbuseRefusePaths(t, true, "/photos/%00", "/photos/k%00", "/photos/%00k", "/photos/a/%00/b", "/photos%00/k", "/%00", "/%0d%0a")
	pathAbuseWantKeys(t, true, nested)
}

// Case 9: backslashes are separators to a server that keeps objects as files on
// some systems, and ".." between two of them leads out of the bucket.
func TestAbuse009Backslashes(t *testing.T) {
	pathAbuseRefusePaths(t, false, `/photos/\`, "/photos/%5c", "/photos/%5C", `/photos/a\b`, "/photos/a%5cb", "/photos/%5c..%5c", "/photos/%5c..%5csecret%5ck",
		`/photos/..\secret\k`, "/photos/..%5Csecret%5Ck", `/photos\secret`, "/photos%5csecret", "/photos%5C..%5csecret", `/\photos/k`)
	pathAbuseRefusePaths(t, true, `/photos\secret`, "/photos%5csecret", `/\photos/k`, "/%5cphotos/k")
}

// Case 10: bytes that are not UTF-8. An overlong "." is a dot to a decoder that
// is lenient, and none to the check before it; S3's keys are UTF-8.
func TestAbuse010InvalidUTF8(t *testing.T) {
	paths := []string{
		"/photos/%ff", "/photos/%FF", "/photos/a%80b", "/photos/%c3", "/photos/%c3k", "/photos/%e2%82", "/photos/\xff", "/photos/\xc0\xae",
		"/photos/%c0%ae%c0%ae", "/photos/%c0%ae%c0%ae%c0%afsecret", "/photos/%c0%af", "/photos/%e0%80%ae", "/photos/%f0%80%80%ae", // overlong "." and "/"
		"/photos/%ed%a0%80", "/photos/%ed%bf%bf", "/photos/%ed%a0%bd%ed%b8%80", // surrogates, alone and as the pair of CESU-8
		"/photos/%f4%90%80%80", "/photos/%f8%88%80%80%80", "/photos/%fe%ff", "/%ff", "/photos%ff/k", "/photos\xff/k",
	}
	pathAbuseRefusePaths(t, false, paths...)
	pathAbuseRefusePaths(t, true, paths...)
}

// Case 11: path parameters, which some servers cut off before they decide. A
// bucket has no semicolon; in a key it is a character like any other.
func TestAbuse011PathParameters(t *testing.T) {
	for _, nested := range []bool{false, true} {
		pathAbuseRefusePaths(t, nested, "/photos;x=1/k;v=2", "/photos;/k", "/photos;x=1", "/;/photos/k", "/photos;x=/../secret/k", "/photos%3Bx=1/k")
		pathAbuseWantKeys(t, nested, map[string]string{
			"/photos/k;v=2": "k;v=2", "/photos/k%3Bv=2": "k;v=2", "/photos/;": ";", "/photos/k;v=2;acl": "k;v=2;acl", "/photos/k;": "k;", "/photos/..;": "..;",
		})
	}
}

// Case 12: the characters that signers get wrong. PUT, HEAD, GET, both lists
// and DELETE agree on every key, however the client has encoded it, before a
// backend that decodes and encodes by itself what was signed.
func TestAbuse012SigningMatrix(t *testing.T) {
	keys := []string{
		"a b", "a  b", " a", "a ", "a+b", "+", "a@b", "a:b", "a=b", "a&b", "a$b", "a,b", "a(b)", "it's", "a*b", "*", "a!b", "~a", "a[b]", "a{b}", "a|b", "a^b",
		"a`b", `a"b`, "a<b>", "a?b", "?acl", "a#b", "a%b", "a%2Fb", "a%20b", "%", "%%", "a;b", "a-b_c.d", "...", "é", "e\u0301", "日本", "😀", "\u00a0", "\u200b", "\ufeff", "\ufffd", "a\u2028b",
	}
	nestedKeys := []string{"dir/", "a/b/c", "a//b", "/a", "/", "//", "a/ b/+c", "日/本/", "a/...", "a/..b", "a/b?c/#d", "a\\b", "\x01\x1f\x7f", "a/\n/b", "a/b&c=d"}
	for _, nested := range []bool{false, true} {
		if nested {
			keys = append(keys, nestedKeys...)
		}
		t.Run(fmt.Sprintf("nested=%t", nested), func(t *testing.T) {
			g := startGateway(t, testConfig(startDemoBackend(t).URL, with("nested_keys", nested)))
			for i, key := range keys {
				content := fmt.Sprintf("object %d", i)
				for j, spelling := range pathAbuseSpellings(key, nested) {
					path := "/photos/" + spelling
					if j == 0 {
						if resp, body := g.do("PUT", path, userKey, content); resp.StatusCode != 200 {
							t.Fatalf("PUT %q as %s = %d %s, want 200", key, path, resp.StatusCode, body)
						}
					}
					if resp, body := g.do("GET", path, userKey, ""); resp.StatusCode != 200 || body != content {
						t.Errorf("GET %q as %s = %d %q, want %q", key, path, resp.StatusCode, body, content)
					}
					if resp, _ := g.do("HEAD", path, userKey, ""); resp.StatusCode != 200 || resp.ContentLength != int64(len(content)) {
						t.Errorf("HEAD %q as %s = %d, Content-Length %d, want 200, %d", key, path, resp.StatusCode, resp.ContentLength, len(content))
					}
				}
				prefix := url.QueryEscape(key)
				for _, list := range []string{"?list-type=2&encoding-type=url&prefix=" + prefix, "?encoding-type=url&prefix=" + prefix, "?max-keys=1000&encoding-type=url&prefix=" + prefix} {
					if got := pathAbuseList(t, g, "/photos"+list); !slices.Contains(got, key) {
						t.Errorf("GET /photos%s = %q, want %q among them", list, got, key)
					}
				}
			}
			want := slices.Sorted(slices.Values(keys))
			if got := pathAbuseList(t, g, "/photos?encoding-type=url"); !slices.Equal(got, want) {
				t.Errorf("list = %q, want %q", got, want)
			}
			for _, key := range keys {
				spellings := pathAbuseSpellings(key, nested)
				if resp, body := g.do("DELETE", "/photos/"+spellings[len(spellings)-1], userKey, ""); resp.StatusCode != 204 {
					t.Errorf("DELETE %q = %d %s, want 204", key, resp.StatusCode, body)
				}
			}
			if got := pathAbuseList(t, g, "/photos?encoding-type=url"); len(got) != 0 {
				t.Errorf("list after all were deleted = %q", got)
			}
		})
	}
}

// pathAbuseSpellings returns the ways in which clients write a key in a path:
// everything encoded that SigV4 says, with large digits and small, net/url's
// choice, every byte encoded, and as little as a request line needs.
func pathAbuseSpellings(key string, nested bool) []string {
	sigV4 := uriEncode(key, !nested)
	every, least := "", ""
	for i := range len(key) {
		c := key[i]
		every += fmt.Sprintf("%%%02x", c)
		if c <= ' ' || c == 0x7f || strings.IndexByte("%?#", c) >= 0 {
			least += fmt.Sprintf("%%%02X", c)
		} else {
			least += key[i : i+1]
		}
	}
	small := []byte(sigV4)
	for i := range small {
		if i > 0 && small[i-1] == '%' || i > 1 && small[i-2] == '%' {
			small[i] = strings.ToLower(string(small[i]))[0]
		}
	}
	return []string{sigV4, string(small), url.PathEscape(key), every, least}
}

// pathAbuseList returns the keys of a list that was asked for with
// encoding-type=url.
func pathAbuseList(t *testing.T, g *testGateway, path string) []string {
	t.Helper()
	resp, body := g.do("GET", path, userKey, "")
	var doc struct {
		XMLName      xml.Name `xml:"ListBucketResult"`
		EncodingType string
		Contents     []struct{ Key string }
	}
	if err := xml.Unmarshal([]byte(body), &doc); err != nil || resp.StatusCode != 200 || doc.EncodingType != "url" {
		t.Fatalf("GET %s = %d %s, %v, want a list", path, resp.StatusCode, body, err)
	}
	var keys []string
	for _, c := range doc.Contents {
		key, err := url.QueryUnescape(c.Key)
		if err != nil {
			t.Errorf("GET %s: key %q: %v", path, c.Key, err)
		}
		keys = append(keys, key)
	}
	return keys
}

// Case 13: a key of 1024 bytes is S3's longest, whatever it takes to write it;
// one more is the client's error, not a server's. A request line without end is
// cut off by net/http.
func TestAbuse013LongKeys(t *testing.T) {
	everyByte := "/photos/" + strings.Repeat("%6b", 1024)
	longest := map[string]string{
		"/photos/" + longestKey:                     longestKey,
		"/photos/" + longestKeyWide:                 longestKeyWide,
		"/photos/" + url.PathEscape(longestKeyWide): longestKeyWide,
		everyByte: longestKey,
	}
	tooLong := []string{
		"/photos/" + longestKey + "k", "/photos/" + longestKeyWide + "k", everyByte + "%6b",
		"/photos/" + strings.Repeat("%E6%97%A5", 342), "/photos/" + strings.Repeat("k", 20_000), "/" + strings.Repeat("p", 20_000) + "/k",
	}
	for _, nested := range []bool{false, true} {
		pathAbuseWantKeys(t, nested, longest)
		pathAbuseRefusePaths(t, nested, tooLong...)
	}
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, target := range []string{"/photos/" + strings.Repeat("k", 64<<10), "/photos/k?prefix=" + strings.Repeat("k", 64<<10)} {
		if resp, _ := g.do("GET", target, adminKey, ""); resp.StatusCode != 414 && resp.StatusCode != 431 {
			t.Errorf("GET of a target of %d bytes = %d %v, want 414 or 431", len(target), resp.StatusCode, resp.Header)
		}
	}
	rec.wantNone(t)
}

// Case 14: what is no bucket name is a path of the wrong shape, not a bucket
// that is missing, and a bucket is its name exactly. None can stand in the
// configuration either, so none can get in the way of the gateway's own pages
// under "/-/".
func TestAbuse014BucketNames(t *testing.T) {
	names := []string{
		"..", ".", "...", "A", "a", "ab", "a_b", "Photos", "PHOTOS", "photoS", "192.168.0.1", "127.0.0.1", strings.Repeat("b", 64), "%E2%80%8B", "photos%E2%80%8B",
		"photos%20", "%20photos", "photos.", ".photos", "-photos", "photos-", "pho..tos", "-", "photos*", "*", "pho,tos", "photos:80", "photos@x", "phot%C3%B6s", "phot\u00f6s", "ｐhotos", "~photos", "photos$",
	}
	var paths []string
	for _, name := range names {
		paths = append(paths, "/"+name, "/"+name+"/k")
	}
	pathAbuseRefusePaths(t, false, paths...)
	pathAbuseRefusePaths(t, true, paths...)
	for _, name := range names {
		decoded, err := url.PathUnescape(name)
		if err != nil {
			t.Fatal(err)
		}
		config, err := json.Marshal(testConfig("http://localhost:9000", with("accounts.main.buckets", []any{"photos", "secret", decoded})))
		if err != nil {
			t.Fatal(err)
		}
		_, err = parseConfig(config, noEnv)
		if err == nil || !strings.HasPrefix(err.Error(), "accounts.main.buckets[2]: ") {
			t.Errorf("a configuration with the bucket %q: %v, want a fault at accounts.main.buckets[2]", decoded, err)
		}
	}
}

// Case 15: methods and request targets that no S3 client sends. Each is refused
// alike for every bucket and caller, so that it tells nothing about either.
func TestAbuse015OddMethods(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, test := range []struct {
		line   string
		status int
	}{
		{"GET * HTTP/1.1", 400},
		{"OPTIONS * HTTP/1.1", 400},
		{"CONNECT 169.254.169.254:80 HTTP/1.1", 400},
		{"CONNECT photos:443 HTTP/1.1", 400},
		{"CONNECT /photos/k HTTP/1.1", 405},
		{"OPTIONS / HTTP/1.1", 403},
		{"TRACE / HTTP/1.1", 405},
	} {
		for _, key := range []string{"", userKey, adminKey} {
			resp, body := g.raw("GET", test.line+"\r\nHost: gateway.example\r\nX-Api-Key: "+key+"\r\nConnection: close\r\n\r\n")
			pathAbuseDenied(t, "GET", resp, body, test.status, map[int]string{400: "InvalidURI", 403: "AccessForbidden", 405: "MethodNotAllowed"}[test.status])
			if t.Failed() {
				t.Fatalf("that was %q", test.line)
			}
		}
	}
	resp, body := g.raw("PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	pathAbuseDenied(t, "PRI", resp, body, 400, "InvalidURI")

	for _, method := range []string{"put", "get", "Get", "TRACE", "P!T", "OPTIONS", "PATCH", "COPY", "MOVE", "PROPFIND", "MKCOL", "LIST", "PURGE", "QUERY", "GETT", "CONNECT"} {
		for _, level := range []string{"", "/k"} {
			answers := map[string]bool{}
			for _, bucket := range []string{"photos", "secret", "nosuch"} {
				for _, key := range []string{"", userKey, adminKey} {
					resp, body := g.do(method, "/"+bucket+level, key, "")
					if method == "OPTIONS" { // as S3 has it
						pathAbuseDenied(t, method, resp, body, 403, "AccessForbidden")
						answers[pathAbuseNormal(resp, body, bucket)] = true
						continue
					}
					pathAbuseDenied(t, method, resp, body, 405, "MethodNotAllowed")
					if allow := resp.Header.Get("Allow"); !strings.Contains(allow, "GET") || strings.Contains(allow, method) {
						t.Errorf("%s: Allow = %q, want the methods there are", method, allow)
					}
					answers[pathAbuseNormal(resp, body, bucket)] = true
				}
			}
			if len(answers) != 1 {
				t.Errorf("%s: %d different answers, want one: %q", method, len(answers), slices.Collect(maps.Keys(answers)))
			}
		}
	}
	rec.wantNone(t)
}

// pathAbuseNormal is an answer without what may differ between two that tell
// the same: the ids, the lengths, and the bucket that was asked for.
func pathAbuseNormal(resp *http.Response, body, bucket string) string {
	h := resp.Header.Clone()
	id := h.Get("X-Amz-Request-Id")
	for _, name := range []string{"X-Amz-Request-Id", "Content-Length", "Date"} {
		h.Del(name)
	}
	body = strings.ReplaceAll(strings.ReplaceAll(body, id, "ID"), bucket, "BUCKET")
	return fmt.Sprint(resp.StatusCode, h, body)
}

// Case 33: headers with which a request would be another one than was
// authorized. What changes its meaning is refused, not dropped; what hands out
// rights or takes protection away is for admins; the client's session token is
// no business of a backend.
func TestAbuse033RequestHeaders(t *testing.T) {
	rec := startRecorder(t, pathAbuseBackend)
	g := startGateway(t, testConfig(rec.URL))
	requests := []struct{ method, target, key string }{
		{"PUT", "/photos/k", adminKey}, {"PUT", "/photos/k", userKey}, {"GET", "/photos/k", readOnlyKey}, {"HEAD", "/photos/k", userKey},
		{"DELETE", "/photos/k", adminKey}, {"DELETE", "/photos/k?versionId=1", adminKey}, {"HEAD", "/photos", userKey}, {"GET", "/photos", adminKey}, {"GET", "/photos?list-type=2", userKey},
	}
	for _, header := range []string{
		"x-minio-source-mtime: 1", "x-minio-source-replication-request: true", "X-MINIO-FORCE-DELETE: true", "x-minio-extract: true",
		"x-rgw-quota-max-size: 1", "x-rgw-zone: z", "x-container-meta-x: y", "x-container-read: .r:*", "x-container-sync-to: //evil",
		"x-object-manifest: secret/k", "X-Object-Manifest:", "x-delete-at: 1", "x-delete-after: 1",
		"x-amz-replication-status: REPLICA", "x-amz-replication-x: y", "x-amz-meta-snowball-auto-extract: true",
	} {
		for _, r := range requests {
			resp, body := g.do(r.method, r.target, r.key, "", header)
			pathAbuseDenied(t, r.method, resp, body, 400, "InvalidRequest")
			if t.Failed() {
				t.Fatalf("that was %s %s with %s", r.method, r.target, header)
			}
		}
	}
	adminOnly := []string{
		"x-amz-acl: public-read", "x-amz-acl: public-read-write", "x-amz-acl: authenticated-read", "x-amz-acl: aws-exec-read", "x-amz-acl: bucket-owner-read",
		"x-amz-acl:", "x-amz-acl: Private", "x-amz-acl: private,public-read", "x-amz-acl: private\r\nx-amz-acl: public-read",
		"x-amz-grant-read: uri=http://acs.amazonaws.com/groups/global/AllUsers", "x-amz-grant-write: id=1", "x-amz-grant-read-acp: id=1", "x-amz-grant-write-acp: id=1", "x-amz-grant-full-control: id=1",
		"x-amz-bypass-governance-retention: true", "x-amz-object-lock-mode: COMPLIANCE", "x-amz-object-lock-retain-until-date: 2099-01-01T00:00:00Z", "x-amz-object-lock-legal-hold: OFF",
		"x-amz-mfa: serial 123456", "x-amz-website-redirect-location: http://evil.example/",
	}
	for _, header := range adminOnly {
		for _, r := range requests {
			if r.key == adminKey {
				continue
			}
			resp, body := g.do(r.method, r.target, r.key, "", header)
			pathAbuseDenied(t, r.method, resp, body, 403, "AccessDenied")
			if t.Failed() {
				t.Fatalf("that was %s %s with %s", r.method, r.target, header)
			}
		}
	}
	rec.wantNone(t)

	for _, test := range []struct{ key, header, name, want string }{
		{adminKey, "x-amz-acl: public-read", "X-Amz-Acl", "public-read"},
		{adminKey, "x-amz-grant-read: id=1", "X-Amz-Grant-Read", "id=1"},
		{adminKey, "x-amz-object-lock-mode: GOVERNANCE", "X-Amz-Object-Lock-Mode", "GOVERNANCE"},
		{adminKey, "x-amz-website-redirect-location: /x", "X-Amz-Website-Redirect-Location", "/x"},
		{userKey, "x-amz-acl: private", "X-Amz-Acl", "private"},
		{userKey, "x-amz-acl: bucket-owner-full-control", "X-Amz-Acl", "bucket-owner-full-control"},
		{userKey, "x-amz-storage-class: STANDARD_IA", "X-Amz-Storage-Class", "STANDARD_IA"},
		{userKey, "x-amz-security-token: canary", "X-Amz-Security-Token", ""},
		{adminKey, "x-amz-security-token: canary", "X-Amz-Security-Token", ""},
	} {
		before := len(rec.requests())
		resp, body := g.do("PUT", "/photos/k", test.key, "data", test.header)
		seen := rec.requests()[before:]
		if resp.StatusCode != 200 || len(seen) != 1 || seen[0].header.Get(test.name) != test.want {
			t.Errorf("PUT with %s = %d %s, behind %d requests %v, want 200, one, %s: %q", test.header, resp.StatusCode, body, len(seen), seen, test.name, test.want)
		}
	}
}

// Case 33, Swift: its S3 layer makes a Swift request of all the headers that it
// got, and in that language a copy and a link have headers of their own. With
// them a PUT into one bucket would read from another that was never authorized.
// https://github.com/openstack/swift/blob/master/swift/common/middleware/s3api/s3request.py (to_swift_req)
func TestAbuse033SwiftHeaders(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, header := range []string{"X-Copy-From: /secret/k", "X-Copy-From-Account: AUTH_other", "X-Symlink-Target: secret/k", "X-Symlink-Target-Account: AUTH_other"} {
		resp, body := g.do("PUT", "/photos/k", userKey, "", header)
		pathAbuseDenied(t, "PUT", resp, body, 400, "InvalidRequest")
		if t.Failed() {
			t.Errorf("that was PUT with %s", header)
		}
	}
	rec.wantNone(t)
}

// pathAbuseBackend answers as S3 would, as far as the gateway looks: a list for
// a bucket, 204 for a DELETE, else an empty 200.
func pathAbuseBackend(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == "DELETE":
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "GET" && strings.Count(r.URL.Path, "/") == 1:
		io.WriteString(w, `<ListBucketResult><Name>b</Name><IsTruncated>false</IsTruncated></ListBucketResult>`)
	}
}

// Case 34: MinIO and RustFS take an upload with this header for an archive and
// unpack it, each file into a key that nobody has authorized (CVE-2026-40344).
// It looks like user metadata, which passes.
func TestAbuse034SnowballExtract(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("nested_keys", true)))
	archive := strings.Repeat("../secret/k\x00", 100)
	for _, header := range []string{
		"X-Amz-Meta-Snowball-Auto-Extract: true", "x-amz-meta-snowball-auto-extract: TRUE", "X-AMZ-META-SNOWBALL-AUTO-EXTRACT: 1", "x-amz-meta-snowball-auto-extract: false", "x-amz-meta-snowball-auto-extract:",
		"x-amz-meta-a: b\r\nx-amz-meta-snowball-auto-extract: false\r\nx-amz-meta-snowball-auto-extract: true",
		"Connection: x-amz-meta-snowball-auto-extract\r\nx-amz-meta-snowball-auto-extract: true",
	} {
		for _, key := range []string{userKey, adminKey} {
			resp, body := g.do("PUT", "/photos/k.tar", key, archive, header)
			pathAbuseDenied(t, "PUT", resp, body, 400, "InvalidRequest")
			if t.Failed() {
				t.Fatalf("that was %s", header)
			}
		}
	}
	rec.wantNone(t)
	if resp, body := g.do("PUT", "/photos/k.tar", userKey, archive, "x-amz-meta-snowball: true", "x-amz-meta-auto-extract: true"); resp.StatusCode != 200 {
		t.Errorf("PUT with metadata that looks alike = %d %s, want 200", resp.StatusCode, body)
	}
}

// Case 35: the client's credentials, in whatever form it sends them, end here.
// The backend sees the gateway's own and nothing that a client could use again.
func TestAbuse035CredentialsStay(t *testing.T) {
	rec := startRecorder(t, pathAbuseBackend)
	g := startGateway(t, testConfig(rec.URL))
	const canary = "canary-35"
	headers := []string{
		"Authorization: AWS4-HMAC-SHA256 Credential=" + canary + "/20260101/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=" + canary,
		"Cookie: session=" + canary, "Proxy-Authorization: Basic " + canary, "Proxy-Connection: " + canary, "Proxy-Authenticate: " + canary,
		"X-Amz-Security-Token: " + canary, "X-Amz-Date: " + canary,
	}
	query := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + canary + "&X-Amz-Date=" + canary + "&X-Amz-Expires=60&X-Amz-SignedHeaders=" + canary +
		"&X-Amz-Signature=" + canary + "&X-Amz-Security-Token=" + canary
	encoded := strings.ReplaceAll(query, "X-Amz-", "%58-Amz%2D")
	for _, r := range []struct{ method, target, key string }{
		{"PUT", "/photos/k?" + query, userKey}, {"GET", "/photos/k?" + query, readOnlyKey}, {"HEAD", "/photos/k?" + encoded, readOnlyKey}, {"DELETE", "/photos/k?" + encoded, userKey},
		{"GET", "/photos?" + query, readOnlyKey}, {"GET", "/photos?list-type=2&" + encoded, readOnlyKey}, {"HEAD", "/photos?" + query, readOnlyKey}, {"DELETE", "/photos/k?versionId=1&" + query, adminKey},
	} {
		before := len(rec.requests())
		resp, body := g.do(r.method, r.target, r.key, "", headers...)
		seen := rec.requests()[before:]
		if resp.StatusCode/100 != 2 || len(seen) != 1 {
			t.Fatalf("%s %s = %d %s with %d requests behind, want 2xx and one", r.method, r.target, resp.StatusCode, body, len(seen))
		}
		all := fmt.Sprint(seen[0].uri, seen[0].header)
		for _, secret := range []string{canary, r.key, "X-Api-Key", "Cookie", "Proxy-", "X-Amz-Security-Token", "X-Amz-Credential", "X-Amz-Expires", "X-Amz-Signature", "X-Amz-Algorithm"} {
			if strings.Contains(all, secret) {
				t.Errorf("%s %s: the backend sees %q: %s", r.method, r.target, secret, all)
			}
		}
		if got := seen[0].header.Get("Authorization"); !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential="+testCredentials.AccessKeyID+"/") {
			t.Errorf("%s %s: Authorization = %q, want the gateway's", r.method, r.target, got)
		}
		if answer := fmt.Sprint(resp.Header, body); strings.Contains(answer, canary) {
			t.Errorf("%s %s: the answer holds a canary: %s", r.method, r.target, answer)
		}
	}
	if strings.Contains(g.log.String(), canary) {
		t.Errorf("the log holds a canary:\n%s", g.log.String())
	}
}

// Case 37: a connection that changes its protocol is one that nobody checks any
// more. The client's wish is ignored and not passed on; a backend that switches
// unasked has not answered.
func TestAbuse037Upgrade(t *testing.T) {
	rec := startRecorder(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "data") })
	g := startGateway(t, testConfig(rec.URL))
	for _, header := range [][]string{
		{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
		{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
		{"Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
		{"Connection: upgrade", "Upgrade: TLS/1.0, HTTP/1.1"},
	} {
		before := len(rec.requests())
		resp, body := g.do("GET", "/photos/k", userKey, "", header...)
		if resp.StatusCode != 200 || body != "data" || resp.Header.Get("Upgrade") != "" {
			t.Errorf("GET with %q = %d %q, want 200 data", header, resp.StatusCode, body)
		}
		for _, seen := range rec.requests()[before:] {
			for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
				if got, ok := seen.header[name]; ok {
					t.Errorf("GET with %q: the backend sees %s: %q", header, name, got)
				}
			}
		}
	}

	switching := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for {
			line, header, err := readHead(r)
			if err != nil {
				return
			}
			n, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
			io.CopyN(io.Discard, r, n)
			if strings.Contains(line, "/good") {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
				continue
			}
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nsmuggled")
		}
	})
	g = startGateway(t, testConfig(switching))
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		resp, body := g.do(method, "/photos/k", userKey, "")
		pathAbuseDenied(t, method, resp, body, 502, "BadGateway")
		if strings.Contains(body, "smuggled") || resp.Header.Get("Upgrade") != "" {
			t.Errorf("%s = %v %q, want nothing of the backend's answer", method, resp.Header, body)
		}
		if resp, body := g.do("GET", "/photos/good", userKey, ""); resp.StatusCode != 200 || body != "good" {
			t.Errorf("GET after it = %d %q, want 200 good", resp.StatusCode, body)
		}
	}
}

// Case 38: the x-api-key header is there once, as it was given out, or there is
// no user. Of two values, or of one that was folded, a proxy on the way may
// have checked another than we do.
func TestAbuse038APIKeyForms(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	half := len(userKey) / 2
	for _, test := range []struct{ name, lines string }{
		{"missing", ""},
		{"empty", "X-Api-Key:\r\n"},
		{"blank", "X-Api-Key:  \t \r\n"},
		{"twice the same", "X-Api-Key: " + userKey + "\r\nX-Api-Key: " + userKey + "\r\n"},
		{"a good one second", "X-Api-Key: wrong\r\nx-api-key: " + userKey + "\r\n"},
		{"an empty one second", "X-Api-Key: " + userKey + "\r\nX-API-KEY:\r\n"},
		{"a list", "X-Api-Key: " + userKey + "," + userKey + "\r\n"},
		{"a space within", "X-Api-Key: " + userKey[:half] + " " + userKey[half:] + "\r\n"},
		{"a tab within", "X-Api-Key: " + userKey[:half] + "\t" + userKey[half:] + "\r\n"},
		{"folded", "X-Api-Key: " + userKey[:half] + "\r\n " + userKey[half:] + "\r\n"},
		{"continued", "X-Api-Key: " + userKey + "\r\n x\r\n"},
		{"8-bit", "X-Api-Key: " + userKey + "\xe9\r\n"},
		{"beyond ASCII", "X-Api-Key: ключ-ключ-ключ-ключ\r\n"},
		{"quoted", "X-Api-Key: \"" + userKey + "\"\r\n"},
		{"other case", "X-Api-Key: " + strings.ToUpper(userKey) + "\r\n"},
		{"cut", "X-Api-Key: " + userKey[:len(userKey)-1] + "\r\n"},
		{"longer", "X-Api-Key: " + userKey + "0\r\n"},
		{"very long", "X-Api-Key: " + strings.Repeat("k", 16<<10) + "\r\n"},
		{"encoded", "X-Api-Key: %75" + userKey[1:] + "\r\n"},
		{"underscores", "X_Api_Key: " + userKey + "\r\n"},
		{"no hyphens", "XApiKey: " + userKey + "\r\n"},
		{"bearer", "Authorization: Bearer " + userKey + "\r\n"},
		{"basic", "Authorization: Basic dXNlcjp1c2VyLWtleS0wMTIzNDU2Nzg5YWJjZGVm\r\n"},
		{"cookie", "Cookie: x-api-key=" + userKey + "\r\n"},
		{"a user's name", "X-Api-Key: user\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, code := 401, "Unauthorized"
			if strings.HasPrefix(test.lines, "Authorization:") {
				status, code = 400, "InvalidRequest" // S3's words for a scheme it does not know
			}
			for _, target := range []string{"/photos/k", "/photos", "/secret/k", "/nosuch", "/"} {
				resp, body := g.raw("GET", "GET "+target+" HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n"+test.lines+"\r\n")
				pathAbuseDenied(t, "GET", resp, body, status, code)
			}
			resp, body := g.raw("PUT", "PUT /photos/k HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nContent-Length: 4\r\n"+test.lines+"\r\ndata")
			pathAbuseDenied(t, "PUT", resp, body, status, code)
		})
	}
	for _, query := range []string{"x-api-key=", "X-Api-Key=", "api_key=", "apikey="} {
		resp, body := g.do("GET", "/photos/k?"+query+userKey, "", "")
		pathAbuseDenied(t, "GET", resp, body, 401, "Unauthorized")
	}
	resp, body := g.raw("PUT", "PUT /photos/k HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Api-Key\r\n\r\n"+
		"4\r\ndata\r\n0\r\nX-Api-Key: "+userKey+"\r\n\r\n")
	pathAbuseDenied(t, "PUT", resp, body, 401, "Unauthorized")
	// net/http itself refuses these, without our format.
	for _, line := range []string{"X-Api-Key: " + userKey + "\x00", "X-Api-Key : " + userKey, " X-Api-Key: " + userKey} {
		resp, _ := g.raw("GET", "GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n"+line+"\r\n\r\n")
		if resp.StatusCode != 400 && resp.StatusCode != 401 {
			t.Errorf("%q = %d, want 400 or 401", line, resp.StatusCode)
		}
	}
	rec.wantNone(t)
	// Space around a value is no part of it: RFC 9110 section 5.5.
	if resp, body := g.raw("GET", "GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nx-API-key: \t"+userKey+" \t\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("a good key with space around it = %d %s, want 200", resp.StatusCode, body)
	}
}

// Case 40: with one of these headers http.Transport takes a write for one that
// may be sent twice, and sends it twice when a kept connection turns out to be
// dead. Whether the first was done, nobody knows.
func TestAbuse040IdempotencyKey(t *testing.T) {
	var mu sync.Mutex // guards seen
	type request struct {
		conn   int
		line   string
		header http.Header
	}
	var seen []request
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for {
			line, header, err := readHead(r)
			if err != nil {
				return
			}
			length, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
			io.CopyN(io.Discard, r, length)
			mu.Lock()
			seen = append(seen, request{n, line, http.Header(header)})
			mu.Unlock()
			if !strings.HasPrefix(line, "GET ") {
				return // the kept connection dies under a write, which may have been done
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g := startGateway(t, testConfig(endpoint))
	for _, test := range []struct{ method, target, body string }{
		{"DELETE", "/photos/k", ""}, {"DELETE", "/photos/k?versionId=1", ""}, {"PUT", "/photos/k", "data"}, {"PUT", "/photos/k", ""},
	} {
		for _, header := range []string{"Idempotency-Key: canary-40", "X-Idempotency-Key: canary-40", "idempotency-key:", "Idempotency-Key: a\r\nX-Idempotency-Key: b", "X-Other: c"} {
			mu.Lock()
			seen = nil
			mu.Unlock()
			if resp, body := g.do("GET", "/photos/warm", adminKey, ""); resp.StatusCode != 200 {
				t.Fatalf("GET = %d %s, want 200", resp.StatusCode, body)
			}
			resp, body := g.do(test.method, test.target, adminKey, test.body, header)
			pathAbuseDenied(t, test.method, resp, body, 502, "BadGateway")
			mu.Lock()
			got := seen
			mu.Unlock()
			if len(got) != 2 || got[0].conn != got[1].conn {
				t.Fatalf("%s %s with %q: the backend saw %v, want the GET and, once, on the same connection, the write", test.method, test.target, header, got)
			}
			for name := range got[1].header {
				if strings.HasSuffix(name, "Idempotency-Key") {
					t.Errorf("%s with %q: the backend sees %s", test.method, header, name)
				}
			}
		}
	}
}

// Case 42: what a client says about where it comes from, or which method it
// would rather have sent, changes neither its limit, nor the log, nor the
// request. (CVE-2026-21862 is a limit that believed it.)
func TestAbuse042ForwardedHeaders(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("rate_limit", map[string]any{"requests": 3, "window_seconds": 3600})))
	lies := func(i int) []string {
		return []string{
			fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i), fmt.Sprintf("X-Real-IP: 203.0.113.%d", i), fmt.Sprintf("Forwarded: for=203.0.113.%d;host=evil.example", i),
			fmt.Sprintf("X-Client-IP: 203.0.113.%d", i), fmt.Sprintf("True-Client-IP: 203.0.113.%d", i), fmt.Sprintf("CF-Connecting-IP: 203.0.113.%d", i),
			"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443", "X-Forwarded-User: admin", "X-Remote-User: admin",
			"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "X-Original-URL: /secret/k", "X-Rewrite-URL: /secret/k",
		}
	}
	for i := range 5 {
		resp, body := g.do("GET", "/photos/k", userKey, "", lies(i)...)
		if i < 3 && resp.StatusCode != 200 {
			t.Fatalf("request %d = %d %s, want 200", i, resp.StatusCode, body)
		}
		if i >= 3 {
			pathAbuseDenied(t, "GET", resp, body, 429, "TooManyRequests")
		}
	}
	if resp, body := g.do("GET", "/photos/k", readOnlyKey, "", lies(0)...); resp.StatusCode != 200 {
		t.Errorf("another user from the same address = %d %s, want 200", resp.StatusCode, body)
	}
	for _, seen := range rec.requests() {
		if seen.method != "GET" || seen.uri != "/photos/k" {
			t.Errorf("the backend got %s %s, want GET /photos/k", seen.method, seen.uri)
		}
		for _, name := range []string{
			"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
			"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url",
		} {
			if got, ok := seen.header[name]; ok {
				t.Errorf("the backend sees %s: %q", name, got)
			}
		}
	}
	for _, line := range g.lines() {
		host, _, err := net.SplitHostPort(fmt.Sprint(line["client"]))
		if err != nil || host != "127.0.0.1" || line["method"] != "GET" {
			t.Errorf("logged: client %v, method %v, want 127.0.0.1, GET", line["client"], line["method"])
		}
	}
	if log := g.log.String(); strings.Contains(log, "203.0.113.") || strings.Contains(log, "evil.example") {
		t.Errorf("the log believes the client:\n%s", log)
	}
}

// Case 43: a condition that is dropped on the way is data overwritten. Every
// one arrives as it was sent, and what the backend makes of it comes back.
func TestAbuse043Conditions(t *testing.T) {
	g := startGateway(t, testConfig(startDemoBackend(t).URL))
	if resp, body := g.do("PUT", "/photos/k", userKey, "first", "If-None-Match: *"); resp.StatusCode != 200 {
		t.Fatalf("PUT of a new key = %d %s, want 200", resp.StatusCode, body)
	}
	resp, _ := g.do("HEAD", "/photos/k", userKey, "")
	etag, modified := resp.Header.Get("Etag"), resp.Header.Get("Last-Modified")
	if etag == "" || modified == "" {
		t.Fatalf("HEAD: Etag %q, Last-Modified %q, want both", etag, modified)
	}
	const long, other = "Thu, 01 Jan 1970 00:00:00 GMT", `"00000000000000000000000000000000"`
	for _, test := range []struct {
		method, header string
		status         int
		code           string
	}{
		{"PUT", "If-None-Match: *", 412, "PreconditionFailed"},
		{"PUT", "if-none-match:   *  ", 412, "PreconditionFailed"},
		{"PUT", "If-Match: " + other, 412, "PreconditionFailed"},
		{"GET", "If-Match: " + other, 412, "PreconditionFailed"},
		{"HEAD", "If-Match: " + other, 412, "PreconditionFailed"},
		{"GET", "If-Unmodified-Since: " + long, 412, "PreconditionFailed"},
		{"HEAD", "If-Unmodified-Since: " + long, 412, "PreconditionFailed"},
		{"GET", "If-None-Match: " + etag, 304, ""},
		{"HEAD", "If-None-Match: " + etag, 304, ""},
		{"GET", "If-None-Match: " + other + "\r\nIf-None-Match: " + etag, 304, ""}, // two lines are one list
		{"GET", "If-Modified-Since: " + modified, 304, ""},
		{"GET", "If-Match: " + etag, 200, ""},
		{"GET", "If-None-Match: " + other, 200, ""},
	} {
		resp, body := g.do(test.method, "/photos/k", userKey, map[string]string{"PUT": "second"}[test.method], test.header)
		switch test.status {
		case 412:
			pathAbuseDenied(t, test.method, resp, body, test.status, test.code)
		case 304:
			checkHardened(t, resp)
			if resp.StatusCode != 304 || body != "" || resp.Header.Get("Etag") != etag {
				t.Errorf("%s with %s = %d %q, Etag %s, want 304 with Etag %s", test.method, test.header, resp.StatusCode, body, resp.Header.Get("Etag"), etag)
			}
		default:
			if resp.StatusCode != test.status || body != "first" {
				t.Errorf("%s with %s = %d %q, want 200 first", test.method, test.header, resp.StatusCode, body)
			}
		}
		if t.Failed() {
			t.Fatalf("that was %s with %s", test.method, test.header)
		}
	}
	if _, body := g.do("GET", "/photos/k", userKey, ""); body != "first" {
		t.Errorf("after all the conditions the object is %q, want first", body)
	}
	if resp, body := g.do("PUT", "/photos/k", userKey, "second", "If-Match: "+etag); resp.StatusCode != 200 {
		t.Errorf("PUT with the ETag that is there = %d %s, want 200", resp.StatusCode, body)
	}
	if resp, _ := g.do("PUT", "/photos/k", userKey, "third", "If-Match: "+etag); resp.StatusCode != 412 {
		t.Errorf("PUT with the ETag that was there = %d, want 412", resp.StatusCode)
	}
	if _, body := g.do("GET", "/photos/k", userKey, ""); body != "second" {
		t.Errorf("the object is %q, want second", body)
	}

	rec := startRecorder(t, nil)
	g = startGateway(t, testConfig(rec.URL))
	sent := map[string]string{
		"If-Match": `"a", W/"b"`, "If-None-Match": `"c"`, "If-Modified-Since": long, "If-Unmodified-Since": modified, "If-Range": `"d"`, "Range": "bytes=0-1",
		"X-Amz-If-Match-Size": "3", "X-Amz-If-Match-Last-Modified-Time": long, "X-Amz-Expected-Bucket-Owner": "111122223333", "Content-Md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
	}
	var header []string
	for name, value := range sent {
		header = append(header, name+": "+value)
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		before := len(rec.requests())
		g.do(method, "/photos/k", userKey, "", header...)
		seen := rec.requests()[before:]
		if len(seen) != 1 {
			t.Fatalf("%s: %d requests behind, want one", method, len(seen))
		}
		for name, want := range sent {
			if got := seen[0].header.Values(name); len(got) != 1 || got[0] != want {
				t.Errorf("%s: the backend sees %s: %q, want %q", method, name, got, want)
			}
		}
	}
	// Of two different conditions of one kind, a backend may take either.
	for _, header := range []string{
		"If-Modified-Since: " + long + "\r\nIf-Modified-Since: " + modified, "If-Unmodified-Since: " + long + "\r\nIf-Unmodified-Since: " + modified,
		"If-Range: \"a\"\r\nIf-Range: \"b\"", "Range: bytes=0-1\r\nRange: bytes=2-3", "x-amz-if-match-size: 1\r\nx-amz-if-match-size: 2",
	} {
		before := len(rec.requests())
		resp, body := g.do("GET", "/photos/k", userKey, "", header)
		pathAbuseDenied(t, "GET", resp, body, 400, "InvalidRequest")
		if len(rec.requests()) != before {
			t.Errorf("%q reached the backend", header)
		}
	}
}

// Case 45: a head that is too large is refused by net/http with 431, after no
// more than the bound was read of it, however much the client would send.
func TestAbuse045HugeHeaders(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, test := range []struct{ name, lines string }{
		{"one value of 200 KB", "X-Amz-Meta-A: " + strings.Repeat("a", 200<<10) + "\r\n"},
		{"10,000 lines", strings.Repeat("A: b\r\n", 10_000)},
		{"10,000 names", manyNames(10_000)},
		{"a name of 64 KB", strings.Repeat("A", 64<<10) + ": b\r\n"},
		{"a line that is folded for ever", "A: b\r\n" + strings.Repeat(" c\r\n", 20_000)},
		{"a key of 200 KB", "X-Api-Key: " + strings.Repeat("a", 200<<10) + "\r\n"},
	} {
		resp, _ := g.raw("GET", "GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\nX-Api-Key: "+userKey+"\r\n"+test.lines+"\r\n")
		if resp.StatusCode != 431 {
			t.Errorf("%s = %d %v, want 431", test.name, resp.StatusCode, resp.Header)
		}
	}
	// Without an end: the gateway hangs up long before a client is through.
	const most = 64 << 20
	conn := g.dial()
	defer conn.Close()
	io.WriteString(conn, "GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\n")
	line, sent := []byte("X-Amz-Meta-A: "+strings.Repeat("a", 1<<10)+"\r\n"), 0
	for sent < most {
		n, err := conn.Write(line)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= most {
		t.Errorf("the gateway took %d bytes of headers", sent)
	}
	rec.wantNone(t)
	// S3's own limits fit: 2 KiB of metadata, the longest key, and the rest.
	resp, body := g.do("PUT", "/photos/"+url.PathEscape(longestKeyWide), userKey, "data", "x-amz-meta-a: "+strings.Repeat("a", 2<<10), "User-Agent: "+strings.Repeat("u", 4<<10))
	if resp.StatusCode != 200 {
		t.Errorf("PUT with all that S3 allows = %d %s, want 200", resp.StatusCode, body)
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%d: b\r\n", i)
	}
	return b.String()
}

// pathAbuseTwoAccounts is a gateway before two accounts: main has photos and
// secret, other has elsewhere. For each role there is a user who may use photos
// and one who may use them all; their keys are pathAbuseKey's.
func pathAbuseTwoAccounts(t *testing.T) (g *testGateway, main, other *recorder) {
	t.Helper()
	main, other = startRecorder(t, pathAbuseBackend), startRecorder(t, pathAbuseBackend)
	changes := []func(map[string]any){with("accounts.other", map[string]any{
		"endpoint_url": other.URL, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary", "buckets": []any{"elsewhere"},
	})}
	for _, role := range []string{"admin", "user", "readonly"} {
		for _, scope := range []string{"photos", "*"} {
			name := "all-" + role
			if scope == "photos" {
				name = "one-" + role
			}
			changes = append(changes, with("users."+name, map[string]any{"api_key": pathAbuseKey(role, scope), "role": role, "allowed_buckets": []any{scope}}))
		}
	}
	return startGateway(t, testConfig(main.URL, changes...)), main, other
}

func pathAbuseKey(role, scope string) string { return "key-of-" + role + "-for-" + scope }

// Case 65: until the last check has passed, nothing is sent to a backend, no
// byte of the body is read and the client is not asked for it: no "100
// Continue" before a refusal, one after.
func TestAbuse065OrderOfChecks(t *testing.T) {
	rec := startRecorder(t, nil)
	const limitedKey = "limited-key-0123456789"
	g := startGateway(t, testConfig(rec.URL, with("max_file_size", 100), with("users.limited",
		map[string]any{"api_key": limitedKey, "role": "user", "allowed_buckets": []any{"photos"}, "rate_limit": map[string]any{"requests": 1, "window_seconds": 3600}})))
	if resp, body := g.do("GET", "/", limitedKey, ""); resp.StatusCode != 200 {
		t.Fatalf("the first request of the limited user = %d %s, want 200", resp.StatusCode, body)
	}
	for _, test := range []struct {
		name, target, key, header string
		status                    int
		code                      string
	}{
		{"path", "/photos/a/b", userKey, "Content-Length: 50", 400, "InvalidRequest"},
		{"query", "/photos/k?x=%zz", userKey, "Content-Length: 50", 400, "InvalidArgument"},
		{"no key", "/photos/k", "", "Content-Length: 50", 401, "Unauthorized"},
		{"wrong key", "/photos/k", "wrong-key-0123456789", "Content-Length: 50", 401, "Unauthorized"},
		{"wrong key and all else", "/nosuch/k?acl", "wrong-key-0123456789", "Content-Length: 500\r\nx-minio-x: y", 401, "Unauthorized"},
		{"limit", "/photos/k", limitedKey, "Content-Length: 50", 429, "TooManyRequests"},
		{"limit and all else", "/secret/k?acl", limitedKey, "Content-Length: 500", 429, "TooManyRequests"},
		{"sub-resource", "/photos/k?append", userKey, "Content-Length: 50", 501, "NotImplemented"},
		{"sub-resource for admins", "/photos/k?acl", userKey, "Content-Length: 50", 403, "AccessDenied"},
		{"bucket's sub-resource for admins", "/photos?policy", userKey, "Content-Length: 50", 403, "AccessDenied"},
		{"copy", "/photos/k", userKey, "Content-Length: 50\r\nx-amz-copy-source: /secret/k", 403, "AccessDenied"},
		{"copy with a body", "/photos/k", userKey, "Content-Length: 50\r\nx-amz-copy-source: /photos/a", 400, "InvalidRequest"},
		{"small document too large", "/photos/k?tagging", userKey, "Content-Length: 2097153", 413, "EntityTooLarge"},
		{"payload too large", "/photos/k", userKey, "Content-Length: 50\r\nx-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nx-amz-trailer: x-amz-checksum-crc32\r\nx-amz-decoded-content-length: 101", 413, "EntityTooLarge"},
		{"invented signature", "/photos/k", "", "Content-Length: 50\r\n" + strings.Join(signed("user", "not the key of anybody", "PUT", "/photos/k", ""), "\r\n"), 403, "SignatureDoesNotMatch"},
		{"bucket denied", "/secret/k", userKey, "Content-Length: 50", 403, "AccessDenied"},
		{"bucket denied, and too large", "/secret/k", userKey, "Content-Length: 500", 403, "AccessDenied"},
		{"bucket unknown", "/nosuch/k", adminKey, "Content-Length: 50", 404, "NoSuchBucket"},
		{"role", "/photos/k", readOnlyKey, "Content-Length: 50", 403, "AccessDenied"},
		{"role, and no length", "/photos/k", readOnlyKey, "Transfer-Encoding: chunked", 403, "AccessDenied"},
		{"too large", "/photos/k", userKey, "Content-Length: 101", 413, "EntityTooLarge"},
		{"far too large", "/photos/k", userKey, "Content-Length: 9223372036854775807", 413, "EntityTooLarge"},
		{"no length", "/photos/k", userKey, "Transfer-Encoding: chunked", 411, "MissingContentLength"},
		{"refused header", "/photos/k", userKey, "Content-Length: 50\r\nx-minio-x: y", 400, "InvalidRequest"},
		{"header for admins", "/photos/k", userKey, "Content-Length: 50\r\nx-amz-acl: public-read", 403, "AccessDenied"},
		{"digest of no form", "/photos/k", userKey, "Content-Length: 50\r\nx-amz-content-sha256: abc", 400, "InvalidArgument"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn := g.dial()
			defer conn.Close()
			credentials := "X-Api-Key: " + test.key + "\r\n"
			if strings.Contains(test.header, "Authorization:") {
				credentials = ""
			}
			fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: gateway.example\r\n%sExpect: 100-continue\r\n%s\r\n\r\n", test.target, credentials, test.header)
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, &http.Request{Method: "PUT"})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			pathAbuseDenied(t, "PUT", resp, string(body), test.status, test.code)
			// What the client might send yet would be its body or a request:
			// nobody could tell.
			if !resp.Close {
				t.Errorf("the refusal keeps the connection: %v", resp.Header)
			}
			conn.(*net.TCPConn).CloseWrite() // nothing more to wait for
			if c, err := r.ReadByte(); err == nil {
				t.Errorf("after the refusal comes %q, want the end of the connection", c)
			}
		})
	}
	conn := g.dial()
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: gateway.example\r\nX-Api-Key: %s\r\nExpect: 200-ok\r\nContent-Length: 4\r\n\r\n", userKey)
	if resp, _ := readAnswer(t, "PUT", conn); resp.StatusCode != 417 {
		t.Errorf("an expectation nobody knows = %d, want 417", resp.StatusCode)
	}
	rec.wantNone(t)
	for _, line := range g.lines() {
		if line["bytes_in"] != 0.0 {
			t.Errorf("%v bytes of the body were read of a refused request: %v", line["bytes_in"], line)
		}
	}

	conn = g.dial()
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: gateway.example\r\nX-Api-Key: %s\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n", userKey)
	r := bufio.NewReader(conn)
	if line, err := r.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("the answer begins %q, %v, want 100 Continue", line, err)
	}
	if line, err := r.ReadString('\n'); err != nil || line != "\r\n" {
		t.Fatalf("after 100 Continue comes %q, %v, want an empty line", line, err)
	}
	body := strings.Repeat("b", 100)
	io.WriteString(conn, body)
	resp, err := http.ReadResponse(r, &http.Request{Method: "PUT"})
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("PUT = %v, %v, want 200", resp, err)
	}
	seen := rec.requests()
	if len(seen) != 1 || seen[0].body != body || seen[0].err != nil || seen[0].header.Get("Expect") != "" {
		t.Errorf("the backend got %v, want one upload of 100 bytes, without Expect", seen)
	}
}

// Case 66: no answer tells a user whether a bucket that is not theirs is there.
// Unknown, forbidden, of another account, with an object or without: the answer
// is the same, and conditions are not looked at before.
func TestAbuse066NoOracle(t *testing.T) {
	g, main, other := pathAbuseTwoAccounts(t)
	header := [][]string{
		nil, {"If-None-Match: *"}, {"If-Match: *"}, {"If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"}, {"If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"},
		{"Range: bytes=0-0"}, {"Range: bytes=99999-"}, {"x-minio-x: y"}, {"x-amz-acl: public-read"}, {"Authorization: AWS4-HMAC-SHA256 x"}, {"x-amz-expected-bucket-owner: 1"},
	}
	requests := []struct{ method, suffix string }{
		{"GET", ""}, {"GET", "?list-type=2"}, {"GET", "?max-keys=0"}, {"HEAD", ""}, {"GET", "/k"}, {"HEAD", "/k"}, {"PUT", "/k"}, {"DELETE", "/k"},
		{"DELETE", "/k?versionId=1"}, {"PUT", ""}, {"DELETE", ""}, {"POST", ""}, {"POST", "/k"}, {"GET", "?acl"}, {"GET", "?location"}, {"PUT", "?policy"}, {"POST", "?delete"}, {"GET", "/k?tagging"},
	}
	for _, caller := range []struct {
		key     string
		buckets []string
		status  []int
	}{
		{pathAbuseKey("user", "photos"), []string{"secret", "nosuch", "elsewhere"}, []int{403, 405, 501}},
		{pathAbuseKey("readonly", "photos"), []string{"secret", "nosuch", "elsewhere"}, []int{403, 405, 501}},
		{pathAbuseKey("admin", "photos"), []string{"secret", "nosuch", "elsewhere"}, []int{403, 405, 501}},
		{noneKey, []string{"photos", "secret", "nosuch", "elsewhere"}, []int{403, 405, 501}},
		{"", []string{"photos", "secret", "nosuch", "elsewhere"}, []int{401}},
		{"wrong-key-0123456789", []string{"photos", "secret", "nosuch", "elsewhere"}, []int{401}},
	} {
		for i, r := range requests {
			for j, lines := range header {
				if i > 8 && j > 0 || caller.status[0] == 401 && j > 2 {
					continue // refused before any of them could matter
				}
				answers := map[string]bool{}
				for _, bucket := range caller.buckets {
					resp, body := g.do(r.method, "/"+bucket+r.suffix, caller.key, "", lines...)
					checkHardened(t, resp)
					if !slices.Contains(caller.status, resp.StatusCode) || i < 9 && resp.StatusCode != caller.status[0] {
						t.Errorf("%s /%s%s with %q = %d %s, want one of %d", r.method, bucket, r.suffix, lines, resp.StatusCode, body, caller.status)
					}
					answers[pathAbuseNormal(resp, body, bucket)] = true
				}
				if len(answers) != 1 {
					t.Errorf("%s %s with %q: %d different answers, want one: %q", r.method, r.suffix, lines, len(answers), slices.Collect(maps.Keys(answers)))
				}
			}
		}
	}
	main.wantNone(t)
	other.wantNone(t)
}

// Case 67: the list of buckets is the configuration's, cut to what the user may
// see. A backend is not asked: it would tell of buckets that are none of ours.
func TestAbuse067ListBuckets(t *testing.T) {
	g, main, other := pathAbuseTwoAccounts(t)
	for _, test := range []struct {
		key, query string
		want       []string
		next       bool
	}{
		{adminKey, "", []string{"elsewhere", "photos", "secret"}, false},
		{pathAbuseKey("readonly", "*"), "", []string{"elsewhere", "photos", "secret"}, false},
		{userKey, "", []string{"photos"}, false},
		{pathAbuseKey("admin", "photos"), "", []string{"photos"}, false},
		{noneKey, "", nil, false},
		{userKey, "?prefix=sec", nil, false},
		{userKey, "?prefix=ph", []string{"photos"}, false},
		{userKey, "?continuation-token=elsewhere", []string{"photos"}, false},
		{userKey, "?max-buckets=1", []string{"photos"}, false},
		{adminKey, "?prefix=s", []string{"secret"}, false},
		{adminKey, "?max-buckets=2", []string{"elsewhere", "photos"}, true},
		{adminKey, "?max-buckets=2&continuation-token=photos", []string{"secret"}, false},
		{adminKey, "?x-id=ListBuckets", []string{"elsewhere", "photos", "secret"}, false},
	} {
		resp, body := g.do("GET", "/"+test.query, test.key, "")
		checkHardened(t, resp)
		var doc struct {
			XMLName           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
			Buckets           []string `xml:"Buckets>Bucket>Name"`
			ContinuationToken string
		}
		if err := xml.Unmarshal([]byte(body), &doc); err != nil || resp.StatusCode != 200 {
			t.Errorf("GET /%s = %d %s, %v, want a list", test.query, resp.StatusCode, body, err)
			continue
		}
		if !slices.Equal(doc.Buckets, test.want) || (doc.ContinuationToken != "") != test.next {
			t.Errorf("GET /%s = %q, token %q, want %q, more %t", test.query, doc.Buckets, doc.ContinuationToken, test.want, test.next)
		}
	}
	for _, query := range []string{"?acl", "?location", "?delimiter=/", "?bucket-region=us-east-1"} {
		resp, body := g.do("GET", "/"+query, adminKey, "")
		pathAbuseDenied(t, "GET", resp, body, 501, "NotImplemented")
	}
	for _, query := range []string{"?max-buckets=0", "?max-buckets=-1", "?max-buckets=10001", "?max-buckets=x", "?max-buckets="} {
		resp, body := g.do("GET", "/"+query, adminKey, "")
		pathAbuseDenied(t, "GET", resp, body, 400, "InvalidArgument")
	}
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		resp, body := g.do(method, "/", adminKey, "")
		pathAbuseDenied(t, method, resp, body, 405, "MethodNotAllowed")
	}
	main.wantNone(t)
	other.wantNone(t)
}
