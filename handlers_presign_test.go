package main

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
)

// A presigned URL does what its user may do, and nothing else.
func TestPresign(t *testing.T) {
	g := startGateway(t, testConfig(startDemoBackend(t).URL))
	presign := func(key, query string) (path string) {
		resp, body := g.do("GET", "/-/presign?"+query, key, "")
		if resp.StatusCode != 200 {
			t.Fatalf("presign %s = %d %s", query, resp.StatusCode, body)
		}
		var answer struct{ URL, Method, Expires string }
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(answer.URL)
		if err != nil || u.Host != "gateway.example" {
			t.Fatalf("url = %q, %v, want one at the host that was asked", answer.URL, err)
		}
		return u.RequestURI()
	}
	ask := func(method, path, body string) (int, string) {
		resp, answer := g.do(method, path, "", body)
		return resp.StatusCode, answer
	}
	put := presign(userKey, "bucket=photos&key=a%20b&method=PUT&expires=60")
	if status, body := ask("PUT", put, "hello"); status != 200 {
		t.Errorf("presigned PUT = %d %s", status, body)
	}
	get := presign(readOnlyKey, "bucket=photos&key=a%20b")
	if status, body := ask("GET", get, ""); status != 200 || body != "hello" {
		t.Errorf("presigned GET = %d %q, want 200 hello", status, body)
	}
	for name, test := range map[string]struct {
		method, path string
		status       int
		code         string
	}{
		"method":  {"DELETE", put, 403, "SignatureDoesNotMatch"},
		"key":     {"GET", strings.Replace(get, "a%20b", "a%20c", 1), 403, "SignatureDoesNotMatch"},
		"expires": {"GET", strings.Replace(get, "Expires=3600", "Expires=3601", 1), 403, "SignatureDoesNotMatch"},
	} {
		if status, body := ask(test.method, test.path, ""); status != test.status || !strings.Contains(body, "<Code>"+test.code) {
			t.Errorf("%s changed = %d %s, want %d %s", name, status, body, test.status, test.code)
		}
	}
}

func TestPresignRefuses(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL, with("users.digest", map[string]any{
		"api_key_sha256": "a2b17c9cd5c5ea5a5a3a4e0e7aaff5c9ad9d3c5d2f5a5e5d1b0c9a8f7e6d5c4b", "role": "user"})))
	for _, test := range []struct {
		query, key string
		status     int
		code       string
	}{
		{"bucket=photos&key=k", "", 401, "Unauthorized"},
		{"bucket=secret&key=k", userKey, 403, "AccessDenied"},
		{"bucket=unknown&key=k", userKey, 403, "AccessDenied"},
		{"bucket=unknown&key=k", adminKey, 404, "NoSuchBucket"},
		{"bucket=photos&key=k&method=PUT", readOnlyKey, 403, "AccessDenied"},
		{"bucket=photos&key=k&method=POST", userKey, 400, "InvalidArgument"},
		{"bucket=photos&key=a/b", userKey, 400, "InvalidArgument"},
		{"bucket=photos&key=..", userKey, 400, "InvalidArgument"},
		{"bucket=photos", userKey, 400, "InvalidArgument"},
		{"key=k", userKey, 400, "InvalidArgument"},
		{"bucket=photos&key=k&expires=0", userKey, 400, "InvalidArgument"},
		{"bucket=photos&key=k&expires=604801", userKey, 400, "InvalidArgument"},
		{"bucket=photos&key=k&x=y", userKey, 501, "NotImplemented"},
	} {
		resp, body := g.do("GET", "/-/presign?"+test.query, test.key, "")
		wantError(t, resp, body, test.status, test.code)
	}
	resp, body := g.do("GET", "/-/metrics", adminKey, "")
	wantError(t, resp, body, 400, "InvalidRequest")
	resp, body = g.do("PUT", "/-/presign", adminKey, "")
	wantError(t, resp, body, 405, "MethodNotAllowed")
	backend.wantNone(t)
}
