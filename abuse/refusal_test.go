package abuse

// Refusals: they come before the body and the backend, and tell nothing of what they hide.

import (
	"bufio"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Until the last check has passed, nothing is sent to a backend, no
// byte of the body is read and the client is not asked for it: no "100
// Continue" before a refusal, one after.
func TestRefusalPrecedesBodyAndBackend(t *testing.T) {
	rec := startRecorder(t, nil)
	const limitedKey = "limited-key-0123456789"
	g := startGateway(t, testConfig(rec.URL, with("max_file_size", 100), with("users.limited",
		map[string]any{"api_key": limitedKey, "role": "user", "allowed_buckets": []any{"photos"}, "rate_limit": map[string]any{"requests": 1, "window_seconds": 3600}})))
	if resp, body := g.do("GET", "/", limitedKey, ""); resp.StatusCode != 200 {
		t.Fatalf("the first request of the limited user = %d %s, want 200", resp.StatusCode, body)
	}
	rows := []struct {
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
		{"invented signature", "/photos/k", "", "Content-Length: 50\r\n" + strings.Join(inventedSignature("user"), "\r\n"), 403, "SignatureDoesNotMatch"},
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
	}
	for _, test := range rows {
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
			wantDenied(t, "PUT", resp, string(body), test.status, test.code)
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
	for _, line := range g.lines(1 + len(rows)) {
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

// No answer tells a user whether a bucket that is not theirs is there.
// Unknown, forbidden, of another account, with an object or without: the answer
// is the same, and conditions are not looked at before.
func TestAnswersDoNotTellWhetherBucketExists(t *testing.T) {
	g, main, other := startTwoAccounts(t)
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
		{roleKey("user", "photos"), []string{"secret", "nosuch", "elsewhere"}, []int{403, 405, 501}},
		{roleKey("readonly", "photos"), []string{"secret", "nosuch", "elsewhere"}, []int{403, 405, 501}},
		{roleKey("admin", "photos"), []string{"secret", "nosuch", "elsewhere"}, []int{403, 405, 501}},
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
					answers[withoutIDs(resp, body, bucket)] = true
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

// The list of buckets is the configuration's, cut to what the user may
// see. A backend is not asked: it would tell of buckets that are none of ours.
func TestListBucketsComesFromTheConfiguration(t *testing.T) {
	g, main, other := startTwoAccounts(t)
	for _, test := range []struct {
		key, query string
		want       []string
		next       bool
	}{
		{adminKey, "", []string{"elsewhere", "photos", "secret"}, false},
		{roleKey("readonly", "*"), "", []string{"elsewhere", "photos", "secret"}, false},
		{userKey, "", []string{"photos"}, false},
		{roleKey("admin", "photos"), "", []string{"photos"}, false},
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
		wantDenied(t, "GET", resp, body, 501, "NotImplemented")
	}
	for _, query := range []string{"?max-buckets=0", "?max-buckets=-1", "?max-buckets=10001", "?max-buckets=x", "?max-buckets="} {
		resp, body := g.do("GET", "/"+query, adminKey, "")
		wantDenied(t, "GET", resp, body, 400, "InvalidArgument")
	}
	for _, method := range []string{"PUT", "POST", "DELETE"} {
		resp, body := g.do(method, "/", adminKey, "")
		wantDenied(t, method, resp, body, 405, "MethodNotAllowed")
	}
	main.wantNone(t)
	other.wantNone(t)
}

// inventedSignature is the header lines of a request that is signed with no key of
// anybody.
func inventedSignature(name string) []string {
	now := time.Now().UTC()
	return []string{
		"x-amz-date: " + now.Format("20060102T150405Z"),
		"x-amz-content-sha256: UNSIGNED-PAYLOAD",
		"Authorization: AWS4-HMAC-SHA256 Credential=" + name + now.Format("/20060102") + "/us-east-1/s3/aws4_request, " +
			"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + strings.Repeat("0123456789abcdef", 4),
	}
}

// withoutIDs is an answer without what may differ between two that tell
// the same: the ids, the lengths, and the bucket that was asked for.
func withoutIDs(resp *http.Response, body, bucket string) string {
	h := resp.Header.Clone()
	id := h.Get("X-Amz-Request-Id")
	for _, name := range []string{"X-Amz-Request-Id", "Content-Length", "Date"} {
		h.Del(name)
	}
	body = strings.ReplaceAll(strings.ReplaceAll(body, id, "ID"), bucket, "BUCKET")
	return fmt.Sprint(resp.StatusCode, h, body)
}

// startTwoAccounts is a gateway before two accounts: main has photos and
// secret, other has elsewhere. For each role there is a user who may use photos
// and one who may use them all; their keys are roleKey's.
func startTwoAccounts(t *testing.T) (g *gateway, main, other *recorder) {
	t.Helper()
	main, other = startRecorder(t, answerEmpty), startRecorder(t, answerEmpty)
	changes := []func(map[string]any){with("accounts.other", map[string]any{
		"endpoint_url": other.URL, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary", "buckets": []any{"elsewhere"},
	})}
	for _, role := range []string{"admin", "user", "readonly"} {
		for _, scope := range []string{"photos", "*"} {
			name := "all-" + role
			if scope == "photos" {
				name = "one-" + role
			}
			changes = append(changes, with("users."+name, map[string]any{"api_key": roleKey(role, scope), "role": role, "allowed_buckets": []any{scope}}))
		}
	}
	return startGateway(t, testConfig(main.URL, changes...)), main, other
}

func roleKey(role, scope string) string { return "key-of-" + role + "-for-" + scope }
