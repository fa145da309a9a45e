package main

import (
	"net/http"
	"strings"
	"testing"
)

const preflight = "Access-Control-Request-Method: PUT"

func TestCORSIsOffByDefault(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	resp, body := g.do("OPTIONS", "/photos/k", "", "", "Origin: https://app.example", preflight)
	wantError(t, resp, body, 403, "AccessForbidden")
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("Access-Control-Allow-Origin = %q, want none", got)
	}
	backend.wantNone(t)
}

func TestCORS(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL, with("server.cors", map[string]any{
		"allowed_origins": []any{"https://app.example"}, "max_age_seconds": 600})))
	resp, _ := g.do("OPTIONS", "/photos/k", "", "", "Origin: https://app.example", preflight, "Access-Control-Request-Headers: x-api-key,content-type")
	if resp.StatusCode != 204 {
		t.Errorf("preflight = %d, want 204", resp.StatusCode)
	}
	checkHardened(t, resp)
	checkHeaders(t, "preflight", resp.Header, map[string]string{
		"Access-Control-Allow-Origin":      "https://app.example",
		"Access-Control-Allow-Methods":     "GET, HEAD, PUT, POST, DELETE",
		"Access-Control-Allow-Headers":     "x-api-key,content-type",
		"Access-Control-Max-Age":           "600",
		"Access-Control-Allow-Credentials": "",
		"Vary":                             "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
	})
	resp, body := g.do("OPTIONS", "/photos/k", "", "", "Origin: https://evil.example", preflight)
	wantError(t, resp, body, 403, "AccessForbidden")
	checkHeaders(t, "another origin", resp.Header, map[string]string{"Access-Control-Allow-Origin": ""})
	backend.wantNone(t)

	resp, _ = g.do("GET", "/photos/k", userKey, "", "Origin: https://app.example")
	checkHeaders(t, "GET", resp.Header, map[string]string{"Access-Control-Allow-Origin": "https://app.example"})
	resp, body = g.do("GET", "/photos/k", "", "", "Origin: https://app.example")
	wantError(t, resp, body, 401, "Unauthorized") // a page may read why
	checkHeaders(t, "401", resp.Header, map[string]string{"Access-Control-Allow-Origin": "https://app.example"})
}

// A cache between browser and gateway must know what an answer depends on from
// each one, and what the backend's answer depends on as well.
func TestVaryIsOnEveryAnswer(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept-Encoding")
		w.Header().Add("Vary", "X-Other")
		if r.URL.Path == "/photos/nosuch" {
			w.WriteHeader(404)
		}
	})
	vary := func(g *testGateway, method, target, key string, header ...string) string {
		resp, _ := g.do(method, target, key, "", header...)
		return strings.Join(resp.Header["Vary"], " | ")
	}
	g := startGateway(t, testConfig(backend.URL, with("server.cors", map[string]any{"allowed_origins": []any{"https://app.example"}})))
	for _, origin := range [][]string{nil, {"Origin: https://app.example"}, {"Origin: https://evil.example"}} {
		for _, test := range []struct{ method, target, key, want string }{
			{"GET", "/photos/k", userKey, "Origin | Accept-Encoding | X-Other"},
			{"GET", "/photos/k", userKey, "Origin | Accept-Encoding | X-Other"}, // what all answers share is not changed
			{"HEAD", "/photos/k", userKey, "Origin | Accept-Encoding | X-Other"},
			{"PUT", "/photos/k", userKey, "Origin | Accept-Encoding | X-Other"},
			{"GET", "/photos/nosuch", userKey, "Origin | Accept-Encoding | X-Other"},
			{"GET", "/photos/k", "", "Origin"},
			{"GET", "/a/../b", userKey, "Origin"},
			{"GET", "/", userKey, "Origin"},
			{"GET", "/-/presign?bucket=photos&key=k", userKey, "Origin"},
			{"OPTIONS", "/photos/k", "", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"},
		} {
			if got := vary(g, test.method, test.target, test.key, origin...); got != test.want {
				t.Errorf("%s %s with %q: Vary = %q, want %q", test.method, test.target, origin, got, test.want)
			}
		}
	}
	g = startGateway(t, testConfig(backend.URL))
	if got := vary(g, "GET", "/photos/k", userKey, "Origin: https://app.example"); got != "Accept-Encoding | X-Other" {
		t.Errorf("without CORS: Vary = %q, want the backend's", got)
	}
}
