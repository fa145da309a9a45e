package main

import "testing"

const preflight = "Access-Control-Request-Method: PUT"

func TestCORSIsOffByDefault(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	resp, body := g.do("OPTIONS", "/photos/k", "", "", "Origin: https://app.example", preflight)
	wantError(t, resp, body, 405, "MethodNotAllowed")
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
	wantError(t, resp, body, 405, "MethodNotAllowed")
	checkHeaders(t, "another origin", resp.Header, map[string]string{"Access-Control-Allow-Origin": ""})
	backend.wantNone(t)

	resp, _ = g.do("GET", "/photos/k", userKey, "", "Origin: https://app.example")
	checkHeaders(t, "GET", resp.Header, map[string]string{"Access-Control-Allow-Origin": "https://app.example"})
	resp, body = g.do("GET", "/photos/k", "", "", "Origin: https://app.example")
	wantError(t, resp, body, 401, "Unauthorized") // a page may read why
	checkHeaders(t, "401", resp.Header, map[string]string{"Access-Control-Allow-Origin": "https://app.example"})
}
