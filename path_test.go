package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Keys at the limit of 1024 bytes, which S3 counts in UTF-8.
var (
	longestKey     = strings.Repeat("k", 1024)
	longestKeyWide = strings.Repeat("日", 341) + "k" // 3 bytes each
)

func TestParsePath(t *testing.T) {
	const strict, nested = false, true
	for _, test := range []struct {
		path   string
		nested bool
		want   target
	}{
		{"/-/presign", strict, target{page: "presign"}},
		{"/-/presign", nested, target{page: "presign"}},
		{"/", strict, target{}},
		{"/", nested, target{}},
		{"/photos", strict, target{bucket: "photos", key: ""}},
		{"/photos", nested, target{bucket: "photos", key: ""}},
		{"/photos/", nested, target{bucket: "photos", key: ""}}, // as S3 has it
		{"/photos/cat.jpg", strict, target{bucket: "photos", key: "cat.jpg"}},
		{"/p-h.0/k", strict, target{bucket: "p-h.0", key: "k"}},
		// One round of unescaping, and a plus sign is a plus sign.
		{"/photos/a%20b", strict, target{bucket: "photos", key: "a b"}},
		{"/photos/a+b", strict, target{bucket: "photos", key: "a+b"}},
		{"/photos/a%2Bb", strict, target{bucket: "photos", key: "a+b"}},
		{"/photos/a%252Fb", strict, target{bucket: "photos", key: "a%2Fb"}},
		{"/photos/%252e%252e", strict, target{bucket: "photos", key: "%2e%2e"}},
		{"/photos/%63at", strict, target{bucket: "photos", key: "cat"}},
		{"/photos/%c3%a9", strict, target{bucket: "photos", key: "é"}},
		{"/photos/é", strict, target{bucket: "photos", key: "é"}},
		{"/photos/e%CC%81", strict, target{bucket: "photos", key: "e\u0301"}}, // not the same key as é
		{"/photos/a|b", strict, target{bucket: "photos", key: "a|b"}},
		{"/photos/...", strict, target{bucket: "photos", key: "..."}},
		{"/photos/..k", strict, target{bucket: "photos", key: "..k"}},
		{"/photos/k;v=2", strict, target{bucket: "photos", key: "k;v=2"}},
		{"/photos/*", strict, target{bucket: "photos", key: "*"}},
		{"/photos/%F0%9F%98%80", strict, target{bucket: "photos", key: "😀"}},
		{"/photos/%EF%BF%BD", strict, target{bucket: "photos", key: "\ufffd"}}, // U+FFFD itself is valid
		{"/photos/" + longestKey, strict, target{bucket: "photos", key: longestKey}},
		{"/photos/" + longestKeyWide, strict, target{bucket: "photos", key: longestKeyWide}},
		{"/photos/a/b/c", nested, target{bucket: "photos", key: "a/b/c"}},
		{"/photos/a%2Fb", nested, target{bucket: "photos", key: "a/b"}},
		{"/photos/dir/", nested, target{bucket: "photos", key: "dir/"}},
		{"/photos/a//b", nested, target{bucket: "photos", key: "a//b"}},
		{"/photos//a", nested, target{bucket: "photos", key: "/a"}},
		{"/photos//", nested, target{bucket: "photos", key: "/"}},
		{"/photos/a%5Cb", nested, target{bucket: "photos", key: `a\b`}},
		{"/photos/%01%0A%7F", nested, target{bucket: "photos", key: "\x01\n\x7f"}},
		{"/photos/" + longestKey, nested, target{bucket: "photos", key: longestKey}},
	} {
		got, err := parsePath(test.path, test.nested)
		if err != nil || got != test.want {
			t.Errorf("parsePath(%q, %t) = %q, %v, want %q", test.path, test.nested, got, err, test.want)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	for _, test := range []struct {
		path string
		also bool // with nested keys too
		why  string
	}{
		{"", true, "form"},
		{"*", true, "form"},
		{"photos/k", true, "form"},
		{"//", true, "bucket name"},
		{"//photos/k", true, "bucket name"},
		{"/Photos/k", true, "bucket name"},
		{"/photos%2Fk", true, "bucket name"},
		{"/%70hotos/k", true, "bucket name"},
		{"/photos;v=1/k", true, "bucket name"},
		{"/-", true, "bucket name"},
		{"/-/", true, "no such page"},
		{"/-/metrics", true, "no such page"},
		{"/-/Presign", true, "no such page"},
		{"/-/presign/", true, "no such page"},
		{"/-/presign/k", true, "no such page"},
		{"/-/%70resign", true, "no such page"},
		{"/%2D/presign", true, "bucket name"},
		{"/photos/", false, "slash"},
		{"/photos/a/b", false, "nested_keys"},
		{"/photos/a%2Fb", false, "nested_keys"},
		{"/photos/a%2fb", false, "nested_keys"},
		{"/photos/k/", false, "nested_keys"},
		{"/photos//k", false, "nested_keys"},
		{"/photos//", false, "nested_keys"},
		{"/photos/..", true, "segment"},
		{"/photos/.", true, "segment"},
		{"/photos/%2e%2E", true, "segment"},
		{"/photos/a/../b", true, "segment"},
		{"/photos/a%2F..%2Fb", true, "segment"},
		{"/photos/../secret/k", true, "segment"},
		{"/photos/a/.", true, "segment"},
		{"/photos/%00", true, "NUL"},
		{"/photos/a%00b", true, "NUL"},
		{"/photos/%0a", false, "control"},
		{"/photos/%7F", false, "control"},
		{"/photos/%C2%85", false, "control"}, // NEL, a C1 control character
		{"/photos/a%5Cb", false, "backslash"},
		{`/photos/a\b`, false, "backslash"},
		{"/photos/%ff", true, "UTF-8"},
		{"/photos/%c0%ae", true, "UTF-8"},       // "." in two bytes
		{"/photos/%ed%a0%80", true, "UTF-8"},    // half of a surrogate pair
		{"/photos/%f4%90%80%80", true, "UTF-8"}, // above U+10FFFF
		{"/photos/%", true, "percent-encoded"},
		{"/photos/%4", true, "percent-encoded"},
		{"/photos/%zz", true, "percent-encoded"},
		{"/photos/" + longestKey + "k", true, "1025 bytes"},
		{"/photos/" + longestKeyWide + "k", true, "1025 bytes"},
	} {
		for _, nested := range []bool{false, true} {
			if nested && !test.also {
				continue
			}
			got, err := parsePath(test.path, nested)
			if err == nil || !strings.Contains(err.Error(), test.why) {
				t.Errorf("parsePath(%q, %t) = %q, %v, want an error about %q", test.path, nested, got, err, test.why)
			}
		}
	}
}

func TestCheckKey(t *testing.T) {
	for _, test := range []struct {
		key            string
		strict, nested bool
	}{
		{"k", true, true},
		{" ", true, true},
		{"a%2Fb", true, true}, // a percent sign is a character of the key
		{"?x#y", true, true},
		{"..a", true, true},
		{"a..", true, true},
		{longestKey, true, true},
		{longestKeyWide, true, true},
		{"/", false, true},
		{"a/b", false, true},
		{"a/..b/c", false, true},
		{`a\..\b`, false, false},
		{"\t", false, true},
		{"\x1b[0m", false, true},
		{"\u0085", false, true},
		{"", false, false},
		{".", false, false},
		{"..", false, false},
		{"./a", false, false},
		{"a/./b", false, false},
		{"a/..", false, false},
		{"\x00", false, false},
		{"\xff", false, false},
		{longestKey + "k", false, false},
	} {
		if err := checkKey(test.key, false); (err == nil) != test.strict {
			t.Errorf("checkKey(%q, false) = %v, want fine %t", test.key, err, test.strict)
		}
		if err := checkKey(test.key, true); (err == nil) != test.nested {
			t.Errorf("checkKey(%q, true) = %v, want fine %t", test.key, err, test.nested)
		}
	}
}

// The rules and some of the examples are those of
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
func TestValidBucket(t *testing.T) {
	for _, s := range []string{
		"abc", "123", "0a9", "docexamplebucket1", "log-delivery-march-2020", "my-hosted-content",
		"docexamplewebsite.com", "www.docexamplewebsite.com", "my.example.s3.bucket", "a.b", "a--b", "a.1.2.3.b",
		"1.2.3", "1.2.3.4.5", "1.2.3.4a", "metrics", "healthz", strings.Repeat("a", 63),
	} {
		if !validBucket(s) {
			t.Errorf("validBucket(%q) = false, want true", s)
		}
	}
	for _, s := range []string{
		"", "a", "ab", strings.Repeat("a", 64), "doc_example_bucket", "DocExampleBucket", "doc-example-bucket-",
		"-abc", ".abc", "abc.", "a..b", "...", "..", ".", "-", "---", "192.168.5.4", "999.999.999.999", "a b", "a/b", "a%b",
		"abc\n", "\x00abc", "caf\u00e9", "abc\u200b", "abc;v=1", "abc@d", "abc:80", "abc\\d", "abc*", "*",
	} {
		if validBucket(s) {
			t.Errorf("validBucket(%q) = true, want false", s)
		}
	}
}

// readRequest reads a request target as net/http's server does.
func readRequest(requestTarget string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + requestTarget + " HTTP/1.1\r\nHost: gateway.example\r\n\r\n")))
}

func TestRequestPath(t *testing.T) {
	for _, test := range []struct{ target, want string }{
		{"/", "/"},
		{"/?list-type=2", "/"},
		{"/photos/cat", "/photos/cat"},
		{"/photos/cat?versionId=1/2", "/photos/cat"},
		{"/photos/a%2fb", "/photos/a%2fb"},
		{"/photos/%63at", "/photos/%63at"},
		{"/photos/a+b", "/photos/a+b"},
		{"/photos/a%20b", "/photos/a%20b"},
		{"//evil.example/k", "//evil.example/k"},
		{"/photos/../k", "/photos/../k"},
		{"/photos/", "/photos/"},
		{"http://evil.example/photos/cat", "/photos/cat"},
		{"http://evil.example/photos/a%2Fb", "/photos/a%2Fb"},
		{"http://evil.example", ""},
	} {
		r, err := readRequest(test.target)
		if err != nil {
			t.Errorf("%s: %v", test.target, err)
			continue
		}
		if got, err := requestPath(r); err != nil || got != test.want {
			t.Errorf("requestPath(%q) = %q, %v, want %q", test.target, got, err, test.want)
		}
	}
	for _, refused := range []string{"*", "/photos/a#b", "/photos/cat#", "/photos?x=#", "mailto:photos"} {
		r, err := readRequest(refused)
		if err != nil {
			continue // refused before us
		}
		if got, err := requestPath(r); err == nil {
			t.Errorf("requestPath(%q) = %q, want an error", refused, got)
		}
	}
}

// modelTarget reads an escaped path by the words of the design, without the
// code under test: what the gateway must take it for, and whether it may.
func modelTarget(escaped string, nested bool) (target, bool) {
	if escaped == "/" {
		return target{}, true
	}
	parts := modelPath.FindStringSubmatch(escaped)
	if parts == nil || strings.Contains(parts[1], "..") || modelAddress.MatchString(parts[1]) {
		return target{}, false
	}
	key, err := url.PathUnescape(parts[3])
	got := target{bucket: parts[1], key: key}
	if parts[3] == "" {
		return got, parts[2] == "" || nested
	}
	bad := err != nil || !utf8.ValidString(key) || len(key) > 1024 || strings.Contains(key, "\x00") ||
		modelDots.MatchString(key) || !nested && modelStrict.MatchString(key)
	return got, !bad
}

var (
	modelPath    = regexp.MustCompile(`(?s)^/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(/(.*))?$`)
	modelAddress = regexp.MustCompile(`^\d+\.\d+\.\d+\.\d+$`)
	modelDots    = regexp.MustCompile(`(^|[/\\])\.\.?([/\\]|$)`)
	modelStrict  = regexp.MustCompile(`[/\\\p{Cc}]`)
)

// modelCode is the code with which a request target is refused that is not valid, stated
// anew: S3's where S3 would refuse it, and else InvalidRequest.
func modelCode(requestTarget string) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(requestTarget, "http://gateway.example"), "?")
	bucket, escaped, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	key, err := url.PathUnescape(escaped)
	named := regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`).MatchString(bucket) && !strings.Contains(bucket, "..") && net.ParseIP(bucket) == nil
	dots := slices.ContainsFunc(strings.FieldsFunc(key, func(r rune) bool { return r == '/' || r == '\\' }),
		func(segment string) bool { return segment == "." || segment == ".." })
	switch {
	case strings.Contains(requestTarget, "#"), !strings.HasPrefix(path, "/"):
		return "InvalidURI"
	case strings.HasPrefix(path, "/-/"):
		return "InvalidRequest" // a page of the gateway's own
	case !named:
		return "InvalidBucketName"
	case len(key) > 1024:
		return "KeyTooLongError"
	case err != nil, !utf8.ValidString(key), strings.Contains(key, "\x00"), dots:
		return "InvalidURI"
	}
	return "InvalidRequest"
}

// s3View reads a request target as S3 does: the path is decoded once, whole,
// and then split.
func s3View(requestTarget string) (target, error) {
	path, _, _ := strings.Cut(requestTarget, "?")
	path, err := url.PathUnescape(path)
	if err != nil || !strings.HasPrefix(path, "/") {
		return target{}, fmt.Errorf("no path: %q", requestTarget)
	}
	bucket, key, _ := strings.Cut(path[1:], "/")
	return target{bucket: bucket, key: key}, nil
}

// What parsePath makes of a path is what S3 makes of it, is what S3 makes of
// the path that the gateway sends in its place, and is a fixed point; and that
// net/http has read the path first makes no difference.
func FuzzParsePath(f *testing.F) {
	for _, seed := range []string{
		"/", "/photos", "/photos/", "/photos/k", "/photos/a%2Fb", "/photos%2Fk", "/photos/%2e%2e/secret/k", "/photos/../secret/k",
		"//evil.example/k", `/\evil.example/k`, "/photos/k?acl", "/photos/k%3Facl", "/photos/k#x", "/photos/%c0%ae", "/photos/%ff",
		"/photos/a|b", "/photos%2Fk|", "/photos/é^", "/photos%2Fé", "/192.168.0.1/k", "/photos/a//b/", "/photos/%00", "/photos/%5c..%5c", "/photos/a%5c..b",
		"http://evil.example/photos/k", "*", "/photos/" + longestKey, "/photos/%F0%9F%98%80%zz",
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, path string, nested bool) {
		got, err := parsePath(path, nested)
		want, ok := modelTarget(path, nested)
		if (err == nil) != ok || ok && got != want {
			t.Fatalf("parsePath(%q, %t) = %q, %v, want %q, fine %t", path, nested, got, err, want, ok)
		}
		checkThroughNetHTTP(t, path, nested)
		if err != nil {
			return
		}
		u := upstream{account: &account{host: "backend.example"}}
		_, sent := u.address(got)
		sent = uriEncode(sent, false)
		if seen, err := s3View(sent); err != nil || seen != got {
			t.Fatalf("%q is sent as %q, where S3 sees %q, %v, want %q", path, sent, seen, err, got)
		}
		if again, err := parsePath(sent, true); err != nil || again != got {
			t.Fatalf("parsePath(%q) = %q, %v, want %q", sent, again, err, got)
		}
	})
}

// checkThroughNetHTTP sends a path through net/http's parser, and compares.
func checkThroughNetHTTP(t *testing.T, path string, nested bool) {
	if !strings.HasPrefix(path, "/") || strings.ContainsAny(path, "?#") {
		return
	}
	r, err := readRequest(path)
	if err != nil || r.RequestURI != path {
		return
	}
	read, err := requestPath(r)
	if err != nil {
		t.Fatalf("requestPath(%q): %v", path, err)
	}
	got, err := parsePath(read, nested)
	want, ok := modelTarget(path, nested)
	if (err == nil) != ok || ok && got != want {
		t.Fatalf("%q comes from net/http as %q, which is %q, %v, want %q, fine %t", path, read, got, err, want, ok)
	}
}

// refusePaths sends each path with several methods, by a user who may
// do everything, and wants a 400 that the backend hears nothing of.
func refusePaths(t *testing.T, nested bool, paths ...string) {
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
			wantDenied(t, method, resp, answer, 400, modelCode(path))
			if t.Failed() {
				t.Fatalf("that was %s %q, nested_keys %t", method, path, nested)
			}
		}
	}
	rec.wantNone(t)
}

// wantKeys sends each path as a PUT and wants the backend to be asked
// for exactly the key that stands beside it.
func wantKeys(t *testing.T, nested bool, keys map[string]string) {
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

// Dot segments, in every spelling. A gate that counts segments before
// it decodes and forwards what it decoded lets a user of one bucket write into
// another: the hole of CVE-2026-42882.
func TestDotSegmentsAreRefused(t *testing.T) {
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
	refusePaths(t, false, append(paths, "/photos/..;/secret/k", "/photos/..%5csecret%5ck")...)
	refusePaths(t, true, paths...)

	// Not dot segments: what is decoded twice by whoever comes next must not
	// have been decoded once here.
	literal := map[string]string{
		"/photos/%252e%252e%252fsecret%252fk": "%2e%2e%2fsecret%2fk", "/photos/..%252Fsecret": "..%2Fsecret", "/photos/%25252e": "%252e",
		"/photos/...": "...", "/photos/..k": "..k", "/photos/k..": "k..", "/photos/%2e%2e%2e": "...", "/photos/.k": ".k", "/photos/%EF%BC%8E%EF%BC%8E": "．．",
	}
	wantKeys(t, false, literal)
	wantKeys(t, true, literal)
}

// An encoded slash behind the bucket. S3 decodes first and splits then,
// so it sees a key in photos; who splits first sees a bucket "photos/secret".
// Two readings are one too many.
func TestEncodedSlashInBucketIsRefused(t *testing.T) {
	paths := []string{
		"/photos%2Fsecret", "/photos%2fsecret", "/photos%2Fk", "/photos%2F", "/photos%2Fsecret/k", "/photos%2f%2e%2e%2fsecret/k",
		"/%2Fphotos/k", "/%2fphotos", "/%2F", "/%2F%2Fphotos/k", "/%70hotos/k", "/photo%73", "/photos%00/k", "/photos%20/k", "/photos%3Fk", "/photos%23k",
		// Bytes that should have been encoded make net/url forget how the rest was.
		"/photos%2Fk|", "/photos%2Fk^", "/photos%2Fk{}", `/photos%2F"k"`, "/photos%2F<k>", "/photos%2Fé", "/photos%2Fk`", "/%70hotos/k|", "/%70hotos/é",
	}
	refusePaths(t, false, paths...)
	refusePaths(t, true, paths...)
}

// One parse. For any path, what was authorized is what the backend
// decodes is what was logged, and is what a reader of the design would take the
// path for. (The limiter knows users only, and no path.)
func TestAuthorizedPathIsTheForwardedPath(t *testing.T) {
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

// Slashes too many. ServeMux would redirect these, with a 307 that has
// a client send its PUT again, to another key. They are refused here, and where
// it would help, the message names the setting.
func TestSuperfluousSlashesAreNotRedirected(t *testing.T) {
	tooMany := []string{"/photos//k", "/photos/k/", "/photos/x/y", "/photos/x%2Fy", "/photos/x//y", "/photos//", "/photos/k//", "/photos/x/y/z"}
	refusePaths(t, false, append(tooMany, "/photos/", "//photos", "//photos/k", "//", "///")...)
	refusePaths(t, true, "//photos", "//photos/k", "//", "///")

	g := startGateway(t, testConfig("http://127.0.0.1:1"))
	for _, path := range tooMany {
		if _, body := g.do("GET", path, userKey, ""); !strings.Contains(body, "nested_keys") {
			t.Errorf("GET %s: %s, want a message that names nested_keys", path, body)
		}
	}
	wantKeys(t, true, map[string]string{
		"/photos//k": "/k", "/photos/k/": "k/", "/photos/x/y": "x/y", "/photos/x%2Fy": "x/y", "/photos/x//y": "x//y", "/photos//": "/", "/photos/k//": "k//",
	})
}

// Control characters. Ceph's gateway crashed on a NUL (CVE-2022-3854),
// an escape sequence in a key plays with the terminal of whoever reads a log,
// and XML has no way to write most of them. With nested keys every key of S3 is
// taken, but NUL, which ends a string in too many servers.
func TestControlCharactersInPaths(t *testing.T) {
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
	refusePaths(t, false, append(strict, "/photos/%0a", "/photos/%0d%0aX-Evil:%20y", "/photos/%1b%5b2J", "/photos/%00", "/photos/k%00.jpg", "/photos%00", "/%00")...)
	refusePaths(t, true, "/photos/%00", "/photos/k%00", "/photos/%00k", "/photos/a/%00/b", "/photos%00/k", "/%00", "/%0d%0a")
	wantKeys(t, true, nested)
}

// Backslashes are separators to a server that keeps objects as files on
// some systems, and ".." between two of them leads out of the bucket.
func TestBackslashesAreRefused(t *testing.T) {
	refusePaths(t, false, `/photos/\`, "/photos/%5c", "/photos/%5C", `/photos/a\b`, "/photos/a%5cb", "/photos/%5c..%5c", "/photos/%5c..%5csecret%5ck",
		`/photos/..\secret\k`, "/photos/..%5Csecret%5Ck", `/photos\secret`, "/photos%5csecret", "/photos%5C..%5csecret", `/\photos/k`)
	refusePaths(t, true, `/photos\secret`, "/photos%5csecret", `/\photos/k`, "/%5cphotos/k")
}

// Bytes that are not UTF-8. An overlong "." is a dot to a decoder that
// is lenient, and none to the check before it; S3's keys are UTF-8.
func TestInvalidUTF8InPathsIsRefused(t *testing.T) {
	paths := []string{
		"/photos/%ff", "/photos/%FF", "/photos/a%80b", "/photos/%c3", "/photos/%c3k", "/photos/%e2%82", "/photos/\xff", "/photos/\xc0\xae",
		"/photos/%c0%ae%c0%ae", "/photos/%c0%ae%c0%ae%c0%afsecret", "/photos/%c0%af", "/photos/%e0%80%ae", "/photos/%f0%80%80%ae", // overlong "." and "/"
		"/photos/%ed%a0%80", "/photos/%ed%bf%bf", "/photos/%ed%a0%bd%ed%b8%80", // surrogates, alone and as the pair of CESU-8
		"/photos/%f4%90%80%80", "/photos/%f8%88%80%80%80", "/photos/%fe%ff", "/%ff", "/photos%ff/k", "/photos\xff/k",
	}
	refusePaths(t, false, paths...)
	refusePaths(t, true, paths...)
}

// Path parameters, which some servers cut off before they decide. A
// bucket has no semicolon; in a key it is a character like any other.
func TestPathParametersAreBytesOfTheKey(t *testing.T) {
	for _, nested := range []bool{false, true} {
		refusePaths(t, nested, "/photos;x=1/k;v=2", "/photos;/k", "/photos;x=1", "/;/photos/k", "/photos;x=/../secret/k", "/photos%3Bx=1/k")
		wantKeys(t, nested, map[string]string{
			"/photos/k;v=2": "k;v=2", "/photos/k%3Bv=2": "k;v=2", "/photos/;": ";", "/photos/k;v=2;acl": "k;v=2;acl", "/photos/k;": "k;", "/photos/..;": "..;",
		})
	}
}

// A key of 1024 bytes is S3's longest, whatever it takes to write it;
// one more is the client's error, not a server's. A request line without end is
// cut off by net/http.
func TestKeysAreBoundedAt1024Bytes(t *testing.T) {
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
		wantKeys(t, nested, longest)
		refusePaths(t, nested, tooLong...)
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

// What is no bucket name is a path of the wrong shape, not a bucket
// that is missing, and a bucket is its name exactly. None can stand in the
// configuration either, so none can get in the way of the gateway's own pages
// under "/-/".
func TestInvalidBucketNamesAreRefused(t *testing.T) {
	names := []string{
		"..", ".", "...", "A", "a", "ab", "a_b", "Photos", "PHOTOS", "photoS", "192.168.0.1", "127.0.0.1", strings.Repeat("b", 64), "%E2%80%8B", "photos%E2%80%8B",
		"photos%20", "%20photos", "photos.", ".photos", "-photos", "photos-", "pho..tos", "-", "photos*", "*", "pho,tos", "photos:80", "photos@x", "phot%C3%B6s", "phot\u00f6s", "ｐhotos", "~photos", "photos$",
	}
	var paths []string
	for _, name := range names {
		paths = append(paths, "/"+name, "/"+name+"/k")
	}
	refusePaths(t, false, paths...)
	refusePaths(t, true, paths...)
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

// What S3 refuses has S3's code.
func TestPathErrorCodes(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	for target, want := range map[string]string{
		"/photos/" + strings.Repeat("k", 1025): "KeyTooLongError",
		"/photos/a/../b":                       "InvalidURI",
		"/photos/%FF":                          "InvalidURI",
		"/photos/%00":                          "InvalidURI",
		"/Photos/k":                            "InvalidBucketName",
	} {
		resp, body := g.do("GET", target, userKey, "")
		wantError(t, resp, body, 400, want)
	}
	backend.wantNone(t)
}
