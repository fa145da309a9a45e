package main

import (
	"bufio"
	"fmt"
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
