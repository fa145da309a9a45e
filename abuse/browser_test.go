package abuse

// What a browser gets: refusals with nothing to run, stored pages in a sandbox, and no
// word for other origins.

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// Every refusal is a document that a parser reads, of the type it says, with the
// hardening headers, and what the client wrote into the request is in it as
// text. A browser that is led to such an answer must find nothing to run.
func TestRefusalIsADocumentWithNothingToRun(t *testing.T) {
	const evil = `%22,%22x%22:%22%3Cscript%3Ealert(1)%3C%2Fscript%3E%E2%80%A8%26lt%3B%5D%5D%3E`
	slow := make(chan struct{})
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.RequestURI, "redirect"):
			w.WriteHeader(301)
		case strings.Contains(r.RequestURI, "slow"):
			<-slow
		case strings.Contains(r.RequestURI, "down"):
			w.WriteHeader(503)
		default:
			w.WriteHeader(404)
			io.WriteString(w, "<Error><Code>NoSuchKey</Code><Message>&lt;script&gt;</Message></Error>")
		}
	})
	defer close(slow)
	hasty := startGateway(t, testConfig(backend.URL, with("nested_keys", true),
		with("accounts.main.response_header_timeout", "200ms"), with("accounts.main.connect_timeout", "200ms")))
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true), with("max_file_size", 10),
		with("users.limited", map[string]any{"api_key": "limited-key-0123456789", "role": "user", "allowed_buckets": []any{"photos"}, "rate_limit": map[string]any{"requests": 1, "window_seconds": 3600}})))
	strict := startGateway(t, testConfig(backend.URL))
	g.do("GET", "/photos/k", "limited-key-0123456789", "")
	length := "Content-Length: 4\r\n\r\nmeow"
	for _, test := range []struct {
		name     string
		g        *gateway
		method   string
		target   string
		key      string
		rest     string // of the head, and the body
		status   int
		code     string
		signCode string // for a client that signs, if it is another
		signed   int
	}{
		{"400, path", g, "GET", "/photos/%2e%2e/" + evil, userKey, "\r\n", 400, "InvalidURI", "", 400},
		{"400, bucket", g, "GET", "/" + evil + "/k", userKey, "\r\n", 400, "InvalidBucketName", "", 400},
		{"400, segments", strict, "GET", "/photos/a/" + evil, userKey, "\r\n", 400, "InvalidRequest", "", 400},
		{"400, query", g, "GET", "/photos/k?" + evil + "=1&" + evil + "=2", userKey, "\r\n", 400, "InvalidArgument", "", 400},
		{"400, header", g, "GET", "/photos/" + evil, userKey, "X-Minio-" + "Script: <script>\r\n\r\n", 400, "InvalidRequest", "", 400},
		{"401", g, "GET", "/photos/" + evil, "", "\r\n", 401, "Unauthorized", "AuthorizationHeaderMalformed", 400},
		{"401, wrong key", g, "GET", "/photos/" + evil, "<script>alert(1)</script>", "\r\n", 401, "Unauthorized", "", 401},
		{"403, bucket", g, "GET", "/secret/" + evil, userKey, "\r\n", 403, "AccessDenied", "", 403},
		{"403, role", g, "PUT", "/photos/" + evil, readOnlyKey, length, 403, "AccessDenied", "", 403},
		{"404, bucket", g, "GET", "/nosuch/" + evil, adminKey, "\r\n", 404, "NoSuchBucket", "", 404},
		{"404, key", g, "GET", "/photos/" + evil, userKey, "\r\n", 404, "NoSuchKey", "", 404},
		{"404, a key that XML can't hold", g, "GET", "/photos/%01%EF%BF%BE" + evil, userKey, "\r\n", 404, "NoSuchKey", "", 404},
		{"405", g, "PATCH", "/photos/" + evil, userKey, "\r\n", 405, "MethodNotAllowed", "", 405},
		{"411", g, "PUT", "/photos/" + evil, userKey, "\r\n", 411, "MissingContentLength", "", 411},
		{"413", g, "PUT", "/photos/" + evil, userKey, "Content-Length: 11\r\n\r\n<script>111", 413, "EntityTooLarge", "", 413},
		{"429", g, "GET", "/photos/" + evil, "limited-key-0123456789", "\r\n", 429, "TooManyRequests", "SlowDown", 503},
		{"501, query", g, "GET", "/photos/k?" + evil, userKey, "\r\n", 501, "NotImplemented", "", 501},
		{"501, query that is cut", g, "GET", "/photos/k?" + strings.Repeat("a", 63) + "%E2%80%A8" + evil, userKey, "\r\n", 501, "NotImplemented", "", 501},
		{"409, operation", g, "PUT", "/photos", adminKey, "\r\n", 409, "BucketAlreadyOwnedByYou", "", 409},
		{"501, operation", g, "DELETE", "/photos", adminKey, "\r\n", 501, "NotImplemented", "", 501},
		{"502", g, "GET", "/photos/redirect" + evil, userKey, "\r\n", 502, "BadGateway", "", 502},
		{"503", g, "GET", "/photos/down" + evil, userKey, "\r\n", 503, "ServiceUnavailable", "", 503},
		{"504", hasty, "GET", "/photos/slow" + evil, userKey, "\r\n", 504, "GatewayTimeout", "", 504},
		{"400, list", g, "GET", "/photos?list-type=" + evil, userKey, "\r\n", 400, "InvalidArgument", "", 400},
		{"501, list", g, "GET", "/photos?" + evil, userKey, "\r\n", 501, "NotImplemented", "", 501},
		{"403, list", g, "GET", "/secret?prefix=" + evil, userKey, "\r\n", 403, "AccessDenied", "", 403},
		{"401, list", g, "GET", "/photos?prefix=" + evil, "", "\r\n", 401, "Unauthorized", "AuthorizationHeaderMalformed", 400},
	} {
		for _, signs := range []bool{false, true} {
			head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: g\r\nConnection: close\r\n", test.method, test.target)
			if test.key != "" {
				head += "X-Api-Key: " + test.key + "\r\n"
			}
			wantType, status, code := "application/json", test.status, test.code
			if strings.HasSuffix(test.name, "list") {
				wantType = "application/xml"
			}
			if signs {
				head += "Authorization: AWS4-HMAC-SHA256 <script>\r\n"
				wantType, status = "application/xml", test.signed
				if test.signCode != "" {
					code = test.signCode
				}
			}
			data := test.g.bytesUntilClose(head + test.rest)
			resp, body := readAnswer(t, test.method, strings.NewReader(data))
			checkHardened(t, resp)
			if got := refusalCode(t, resp, body); resp.StatusCode != status || got != code || resp.Header.Get("Content-Type") != wantType {
				t.Errorf("%s, signs %t = %d %s %s, want %d %s %s", test.name, signs, resp.StatusCode, got, resp.Header.Get("Content-Type"), status, code, wantType)
			}
			for _, raw := range []string{"<script", "\u2028", `"x":`} {
				if strings.Contains(data, raw) {
					t.Errorf("%s, signs %t: the answer holds %q as it was sent:\n%s", test.name, signs, raw, data)
				}
			}
			if wantType == "application/json" {
				decoder := json.NewDecoder(strings.NewReader(body))
				decoder.DisallowUnknownFields()
				var e struct {
					Error, Code string
					Status      int
					RequestID   string `json:"request_id"`
				}
				if err := decoder.Decode(&e); err != nil || e.Status != status || decoder.More() {
					t.Errorf("%s: %s: %v, want error, status, code and request_id alone", test.name, body, err)
				}
			}
		}
		// The same with HEAD, whose answer has headers only.
		if test.method == "GET" && !strings.HasSuffix(test.name, "list") {
			head := fmt.Sprintf("HEAD %s HTTP/1.1\r\nHost: g\r\nConnection: close\r\nX-Api-Key: %s\r\n", test.target, test.key)
			data := test.g.bytesUntilClose(head + test.rest)
			resp, _ := readAnswer(t, "HEAD", strings.NewReader(data))
			checkHardened(t, resp)
			if resp.StatusCode != test.status || !strings.HasSuffix(data, "\r\n\r\n") {
				t.Errorf("HEAD, %s = %q, want %d and no body", test.name, data, test.status)
			}
		}
	}
}

// A page that somebody stored is shown by a browser in the gateway's origin. In
// a sandbox, and of the type that was stored, it can't act there.
func TestStoredPageIsSandboxed(t *testing.T) {
	g := startGateway(t, testConfig(startStore(t).URL))
	for name, contentType := range map[string]string{
		"page.html": "text/html", "picture.svg": "image/svg+xml", "page.xhtml": "application/xhtml+xml", "odd": "text/html; charset=utf-7", "none": "",
	} {
		const page = `<html><script>fetch('/photos')</script>`
		header := []string{"Content-Type: " + contentType}
		if contentType == "" {
			header = nil
		}
		if resp, body := g.do("PUT", "/photos/"+name, userKey, page, header...); resp.StatusCode != 200 {
			t.Fatalf("PUT = %d %s", resp.StatusCode, body)
		}
		for _, get := range []struct {
			method, query string
			header        []string
			status        int
		}{
			{"GET", "", nil, 200}, {"HEAD", "", nil, 200}, {"GET", "", []string{"Range: bytes=0-5"}, 206},
			{"GET", "?response-content-type=text/html", nil, 200}, {"GET", "", []string{"If-None-Match: *"}, 304},
		} {
			resp, _ := g.do(get.method, "/photos/"+name+get.query, readOnlyKey, "", get.header...)
			if resp.StatusCode != get.status {
				t.Errorf("%s %s %q = %d, want %d", get.method, name, get.header, resp.StatusCode, get.status)
			}
			checkHardened(t, resp)
			if contentType != "" && get.query == "" && get.status < 300 && resp.Header.Get("Content-Type") != contentType {
				t.Errorf("Content-Type = %q, want %q", resp.Header.Get("Content-Type"), contentType)
			}
		}
	}
	// Not even a backend's own headers open the sandbox.
	for _, lax := range []http.Header{
		{"Content-Security-Policy": {"sandbox allow-scripts allow-same-origin"}},
		{"Content-Security-Policy": {"default-src *", "script-src *"}, "X-Content-Type-Options": {"sniff"}},
		{"Connection": {"Content-Security-Policy, X-Content-Type-Options, X-Frame-Options"}},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			maps.Copy(w.Header(), lax)
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<script>")
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, _ := g.do("GET", "/photos/k", userKey, "")
		checkHardened(t, resp)
	}
}

// No page of another origin reads an answer: no header allows it, not even if a
// backend sends one; and a preflight is answered without asking anybody.
func TestNoOtherOriginReadsAnAnswer(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		io.WriteString(w, "meow")
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, target := range []string{"/", "/photos", "/photos/k", "/nosuch/k", "*"} {
		for _, key := range []string{"", userKey} {
			data := g.bytesUntilClose(requestText("OPTIONS", target, key, "", "Origin: https://evil.example", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-api-key"))
			resp, body := readAnswer(t, "OPTIONS", strings.NewReader(data))
			checkHardened(t, resp)
			want := 403
			if target == "*" {
				want = 400
			}
			refusalCode(t, resp, body)
			if resp.StatusCode != want || strings.Contains(data, "Access-Control") || strings.Contains(data, "evil") {
				t.Errorf("OPTIONS %s = %s, want %d and no word of other origins", target, data, want)
			}
		}
	}
	backend.wantNone(t)
	for _, op := range objectRequests {
		data := g.bytesUntilClose(requestText(op.method, op.target, adminKey, op.body, "Origin: https://evil.example"))
		if strings.Contains(data, "Access-Control") || strings.Contains(data, "evil") {
			t.Errorf("%s = %s, want no word of other origins", op.name, data)
		}
	}
}
