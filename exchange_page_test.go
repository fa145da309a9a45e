package main

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// The Accept headers of Firefox, Chromium and Safari for a page that is typed in.
var browserAccepts = []string{
	"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
	"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
	"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
}

func TestBrowserWithoutAKeyGetsAPageThatSaysHowToSendOne(t *testing.T) {
	g := startGateway(t, testConfig("http://127.0.0.1:1"))
	for _, accept := range browserAccepts {
		resp, body := g.do("GET", "/", "", "", "Accept: "+accept)
		style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(body)
		if resp.StatusCode != 401 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || style == nil ||
			!strings.Contains(body, "x-api-key") || !strings.Contains(body, "AWS_SECRET_ACCESS_KEY") {
			t.Fatalf("GET / = %d %q:\n%s\nwant 401 and a page about keys", resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
		digest := sha256.Sum256([]byte(style[1]))
		want := "sandbox; default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(digest[:]) + "'"
		if got := resp.Header.Values("Content-Security-Policy"); len(got) != 1 || got[0] != want {
			t.Errorf("the policy is %q, want %q", got, want)
		}
		if resp.Header.Get("Cache-Control") != "no-store" || regexp.MustCompile(`(?i)<script|https?:|src=|href=|url\(`).MatchString(body) {
			t.Errorf("the page may be cached (%q), or has a script or an address in it:\n%s", resp.Header.Get("Cache-Control"), body)
		}
		if line := g.lineOf(resp); line["reason"] != "no_key" || line["code"] != "Unauthorized" {
			t.Errorf("the log has %v, want the refusal", line)
		}
	}
	resp, body := g.raw("HEAD", requestText("HEAD", "/", "", "", "Accept: "+browserAccepts[0]))
	if resp.StatusCode == 200 || body != "" {
		t.Errorf("HEAD / = %d %q, want an error without a body", resp.StatusCode, body)
	}
}

// Nothing else becomes a page: S3 tools, wrong keys, paths, and hosts that name a bucket.
func TestOnlyABrowserWithoutAKeyGetsThePage(t *testing.T) {
	g := startGateway(t, testConfig("http://127.0.0.1:1", with("server.domain", "s3.example")))
	const browser = "Accept: text/html,*/*;q=0.8"
	for _, test := range []struct {
		what, method, target, key string
		header                    []string
	}{
		{"a tool", "GET", "/", "", nil},
		{"curl", "GET", "/", "", []string{"Accept: */*"}},
		{"a client of JSON", "GET", "/", "", []string{"Accept: application/json, text/html;q=0.5"}},
		{"HTML not wanted", "GET", "/", "", []string{"Accept: text/html;q=0"}},
		{"a wrong key", "GET", "/", "wrong-key-0123456789", []string{browser}},
		{"a wrong signature", "GET", "/", "", append(signed("user", "wrong-key-0123456789", "GET", "/", ""), browser)},
		{"a bucket", "GET", "/photos", "", []string{browser}},
		{"an object", "GET", "/photos/a", "", []string{browser}},
		{"a query", "GET", "/?list-type=2", "", []string{browser}},
		{"a form", "POST", "/", "", []string{browser}},
		{"a path that is not valid", "GET", "//", "", []string{browser}},
		{"a malformed header", "GET", "/", "", []string{"Accept: ;;;,text"}},
	} {
		resp, body := g.do(test.method, test.target, test.key, "", test.header...)
		if resp.StatusCode < 400 || strings.Contains(resp.Header.Get("Content-Type"), "html") || strings.Contains(body, "<html") {
			t.Errorf("%s: %d %q %s, want an error of S3", test.what, resp.StatusCode, resp.Header.Get("Content-Type"), body)
		}
		checkHardened(t, resp)
	}
	resp, _ := g.raw("GET", "GET / HTTP/1.1\r\nHost: photos.s3.example\r\nConnection: close\r\n"+browser+"\r\n\r\n")
	if strings.Contains(resp.Header.Get("Content-Type"), "html") {
		t.Error("a host that names a bucket gets the page")
	}
	if resp, _ := g.do("GET", "/", userKey, "", browser); resp.StatusCode != http.StatusOK || !strings.Contains(resp.Header.Get("Content-Type"), "xml") {
		t.Errorf("with a key, a browser gets %d %q, want the list of buckets", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
}
