package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// The examples of the S3 API reference, "Authenticating Requests: Using the
// Authorization Header" and "… Query Parameters". Key, instant, bucket and
// signatures are AWS's own.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
var (
	exampleCredentials = credentials{
		AccessKeyID:     "AKIAIOSFODNN7EXAMPLE",
		SecretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
	}
	exampleInstant = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
)

const exampleHost = "examplebucket.s3.amazonaws.com"

// The four steps, with the texts that AWS prints for GET /test.txt.

func Example_canonicalRequest() {
	fields := []headerField{
		{"host", exampleHost},
		{"range", "bytes=0-9"},
		{"x-amz-content-sha256", emptyPayload},
		{"x-amz-date", "20130524T000000Z"},
	}
	fmt.Printf("%s\n", appendCanonicalRequest(nil, "GET", "/test.txt", "", fields, emptyPayload))
	// Output:
	// GET
	// /test.txt
	//
	// host:examplebucket.s3.amazonaws.com
	// range:bytes=0-9
	// x-amz-content-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
	// x-amz-date:20130524T000000Z
	//
	// host;range;x-amz-content-sha256;x-amz-date
	// e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
}

func Example_stringToSign() {
	canonical := []byte("GET\n/test.txt\n\n" +
		"host:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n" +
		"x-amz-content-sha256:" + emptyPayload + "\nx-amz-date:20130524T000000Z\n\n" +
		"host;range;x-amz-content-sha256;x-amz-date\n" + emptyPayload)
	scope := credentialScope("20130524", "us-east-1", "s3")
	fmt.Printf("%s\n", stringToSign("20130524T000000Z", scope, canonical))
	// Output:
	// AWS4-HMAC-SHA256
	// 20130524T000000Z
	// 20130524/us-east-1/s3/aws4_request
	// 7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972
}

// The key that AWS derives in "Create a signed AWS API request", for IAM.
func Example_signingKey() {
	fmt.Printf("%x\n", signingKey("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam"))
	// Output:
	// c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9
}

func Example_signature() {
	key := signingKey(exampleCredentials.SecretAccessKey, "20130524", "us-east-1", "s3")
	text := "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n" +
		"7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
	fmt.Printf("%s\n", signature(key, []byte(text)))
	// Output:
	// f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41
}

func TestSignExamples(t *testing.T) {
	welcome := sha256.Sum256([]byte("Welcome to Amazon S3."))
	tests := []struct {
		name, method, path, query string
		header                    http.Header
		payload, signed, want     string
	}{
		{
			name: "GET Object with Range", method: "GET", path: "/test.txt",
			header: http.Header{"Range": {"bytes=0-9"}}, payload: emptyPayload,
			signed: "host;range;x-amz-content-sha256;x-amz-date",
			want:   "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
		}, {
			name: "PUT Object", method: "PUT", path: "/test$file.text",
			header:  http.Header{"Date": {"Fri, 24 May 2013 00:00:00 GMT"}, "X-Amz-Storage-Class": {"REDUCED_REDUNDANCY"}},
			payload: hex.EncodeToString(welcome[:]),
			signed:  "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
			want:    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
		}, {
			name: "GET Bucket Lifecycle", method: "GET", path: "/", query: "lifecycle", payload: emptyPayload,
			signed: "host;x-amz-content-sha256;x-amz-date",
			want:   "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
		}, {
			name: "Get Bucket (List Objects)", method: "GET", path: "/", query: "prefix=J&max-keys=2", payload: emptyPayload,
			signed: "host;x-amz-content-sha256;x-amz-date",
			want:   "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
		},
	}
	s := &signer{region: "us-east-1"}
	for _, test := range tests {
		query, err := parseQuery(test.query)
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{
			Method: test.method,
			Host:   exampleHost,
			URL:    &url.URL{Scheme: "https", Host: exampleHost, Path: test.path, RawPath: uriEncode(test.path, false), RawQuery: canonicalQuery(query)},
			Header: test.header,
		}
		if req.Header == nil {
			req.Header = http.Header{}
		}
		s.sign(req, &exampleCredentials, test.payload, exampleInstant)
		want := "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=" +
			test.signed + ",Signature=" + test.want
		if got := req.Header.Get("Authorization"); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, want)
		}
	}
}

// In a presigned URL the parameters take the place of the headers, and the
// payload is not known.
func TestPresignedExample(t *testing.T) {
	query, err := parseQuery("X-Amz-Algorithm=AWS4-HMAC-SHA256" +
		"&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host")
	if err != nil {
		t.Fatal(err)
	}
	canonical := appendCanonicalRequest(nil, "GET", "/test.txt", canonicalQuery(query), []headerField{{"host", exampleHost}}, unsignedPayload)
	key := signingKey(exampleCredentials.SecretAccessKey, "20130524", "us-east-1", "s3")
	got := signature(key, stringToSign("20130524T000000Z", credentialScope("20130524", "us-east-1", "s3"), canonical))
	if want := "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"; string(got) != want {
		t.Errorf("signature = %s, want %s", got, want)
	}
}

// Every x-amz-* header that is sent is signed, the session token included, and
// the key of a new day is derived anew.
func TestSignSessionTokenAndDay(t *testing.T) {
	creds := &credentials{"AKID", "secret", "token"}
	s := &signer{region: "eu-central-1"}
	sign := func(now time.Time) string {
		req := &http.Request{Method: "GET", Host: "h", URL: &url.URL{Host: "h", Path: "/"}, Header: http.Header{
			"X-Amz-Meta-B": {"2"}, "X-Amz-Meta-A": {"1"}, "User-Agent": {"x"}, "Accept-Encoding": {"gzip"},
		}}
		s.sign(req, creds, emptyPayload, now)
		if got := req.Header.Get("X-Amz-Security-Token"); got != "token" {
			t.Errorf("X-Amz-Security-Token = %q, want token", got)
		}
		return req.Header.Get("Authorization")
	}
	first := sign(exampleInstant)
	if want := "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-a;x-amz-meta-b;x-amz-security-token,"; !strings.Contains(first, want) {
		t.Errorf("Authorization = %s, want %s", first, want)
	}
	next := sign(exampleInstant.Add(24 * time.Hour))
	fresh := &signer{region: s.region}
	s = fresh
	if again := sign(exampleInstant.Add(24 * time.Hour)); again != next {
		t.Errorf("with the key of the day before: %s, with a fresh one: %s", next, again)
	}
	if !strings.Contains(next, "/20130525/") {
		t.Errorf("Authorization = %s, want the scope of the next day", next)
	}
}

// "Trimall" of the specification: spaces at the ends go, runs within are one.
func TestAppendTrimmed(t *testing.T) {
	for in, want := range map[string]string{
		"":          "",
		"a":         "a",
		"  a b  ":   "a b",
		"a   b c":   "a b c",
		"\ta\tb\t":  "a\tb",
		"a  b   c ": "a b c",
		`"a  b"`:    `"a b"`,
	} {
		if got := string(appendTrimmed(nil, in)); got != want {
			t.Errorf("appendTrimmed(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestURIEncode(t *testing.T) {
	for _, test := range []struct {
		in    string
		slash bool
		want  string
	}{
		{"", false, ""},
		{"AZaz09-._~", true, "AZaz09-._~"},
		{"a/b", false, "a/b"},
		{"a/b", true, "a%2Fb"},
		{" +=&%", true, "%20%2B%3D%26%25"},
		{"$,:;@!*'()", false, "%24%2C%3A%3B%40%21%2A%27%28%29"},
		{"日本", false, "%E6%97%A5%E6%9C%AC"},
		{"a//../b", false, "a//../b"},
		{"\x00\x1f\x7f", false, "%00%1F%7F"},
	} {
		if got := uriEncode(test.in, test.slash); got != test.want {
			t.Errorf("uriEncode(%q, %t) = %q, want %q", test.in, test.slash, got, test.want)
		}
	}
}

// What is encoded decodes to what it was, byte for byte, and holds nothing but
// unreserved characters, slashes and escapes.
func FuzzURIEncode(f *testing.F) {
	for _, seed := range []string{"", "test$file.text", "a b+c%20", "日本/ü", "\x00\xff", "../a//b/."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, encodeSlash := range []bool{false, true} {
			encoded := uriEncode(s, encodeSlash)
			if decoded, err := url.PathUnescape(encoded); err != nil || decoded != s {
				t.Errorf("uriEncode(%q, %t) = %q, which decodes to %q, %v", s, encodeSlash, encoded, decoded, err)
			}
			u := url.URL{Path: "/" + s, RawPath: "/" + encoded}
			if !encodeSlash && u.EscapedPath() != "/"+encoded {
				t.Errorf("net/http would send %q for %q: not what was signed", u.EscapedPath(), "/"+encoded)
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for _, payload := range []string{"unsigned", "digest"} {
		b.Run("body="+payload, func(b *testing.B) {
			hash := unsignedPayload
			if payload == "digest" {
				hash = emptyPayload
			}
			s := &signer{region: "us-east-1"}
			req := &http.Request{Method: "PUT", Host: exampleHost,
				URL: &url.URL{Host: exampleHost, Path: "/photos/cat one.jpg", RawPath: "/photos/cat%20one.jpg"},
				Header: http.Header{"Content-Type": {"image/jpeg"}, "X-Amz-Meta-Name": {"Tom"},
					"User-Agent": {"curl/8"}, "Accept": {"*/*"}}}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				s.sign(req, &exampleCredentials, hash, now)
			}
		})
	}
}

// The characters that signers get wrong. PUT, HEAD, GET, both lists
// and DELETE agree on every key, however the client has encoded it, before a
// backend that decodes and encodes by itself what was signed.
func TestKeysRoundTripInEverySpelling(t *testing.T) {
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
				for j, spelling := range spellings(key, nested) {
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
					if got := listKeys(t, g, "/photos"+list); !slices.Contains(got, key) {
						t.Errorf("GET /photos%s = %q, want %q among them", list, got, key)
					}
				}
			}
			want := slices.Sorted(slices.Values(keys))
			if got := listKeys(t, g, "/photos?encoding-type=url"); !slices.Equal(got, want) {
				t.Errorf("list = %q, want %q", got, want)
			}
			for _, key := range keys {
				spellings := spellings(key, nested)
				if resp, body := g.do("DELETE", "/photos/"+spellings[len(spellings)-1], userKey, ""); resp.StatusCode != 204 {
					t.Errorf("DELETE %q = %d %s, want 204", key, resp.StatusCode, body)
				}
			}
			if got := listKeys(t, g, "/photos?encoding-type=url"); len(got) != 0 {
				t.Errorf("list after all were deleted = %q", got)
			}
		})
	}
}

// spellings returns the ways in which clients write a key in a path:
// everything encoded that SigV4 says, with large digits and small, net/url's
// choice, every byte encoded, and as little as a request line needs.
func spellings(key string, nested bool) []string {
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

// listKeys returns the keys of a list that was asked for with
// encoding-type=url.
func listKeys(t *testing.T, g *testGateway, path string) []string {
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
