package main

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// A HEAD that is refused without a word is asked again as a GET, once, and what accuses
// the gateway's credentials, clock or region is no error of the client.
func TestRefusedHeadIsAskedForItsReason(t *testing.T) {
	for _, test := range []struct {
		head, get int
		code      string
		want      int
		asked     bool
	}{
		{403, 403, "SignatureDoesNotMatch", 502, true},
		{403, 403, "InvalidAccessKeyId", 502, true},
		{403, 403, "RequestTimeTooSkewed", 502, true},
		{400, 400, "ExpiredToken", 502, true},
		{400, 400, "AuthorizationHeaderMalformed", 502, true},
		{400, 301, "PermanentRedirect", 502, true},
		{401, 401, "canary", 502, true},
		{403, 403, "AccessDenied", 403, true},
		{403, 404, "NoSuchKey", 403, true},
		{403, 500, "InternalError", 403, true},
		{403, 200, "", 403, true},
		{400, 400, "InvalidRequest", 400, true},
		{404, 403, "SignatureDoesNotMatch", 404, false},
		{412, 403, "SignatureDoesNotMatch", 412, false},
		{304, 403, "SignatureDoesNotMatch", 304, false},
		{200, 403, "SignatureDoesNotMatch", 200, false},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "HEAD" {
				w.WriteHeader(test.head)
				return
			}
			w.WriteHeader(test.get)
			io.WriteString(w, "<Error><Code>"+test.code+"</Code><Message>canary</Message></Error>")
		})
		g := startGateway(t, testConfig(backend.URL))
		for target, want := range map[string]string{
			"/photos/k": "/photos/k", "/photos/k?versionId=7": "/photos/k?versionId=7", "/photos/k?partNumber=2": "/photos/k?partNumber=2",
			"/photos": "/photos?list-type=2&max-keys=0",
		} {
			before := len(backend.requests())
			resp, _ := g.do("HEAD", target, userKey, "", "Range: bytes=5-9", "X-Amz-Request-Payer: requester")
			if resp.StatusCode != test.want {
				t.Errorf("HEAD %s, answered %d and %d %s = %d, want %d", target, test.head, test.get, test.code, resp.StatusCode, test.want)
			}
			seen := backend.requests()[before:]
			if !test.asked {
				if len(seen) != 1 {
					t.Errorf("HEAD %s, answered %d: the backend got %d requests, want 1", target, test.head, len(seen))
				}
				continue
			}
			if len(seen) != 2 || seen[1].method != "GET" || seen[1].uri != want || seen[1].header.Get("X-Amz-Request-Payer") != "requester" {
				t.Fatalf("HEAD %s, answered %d: the backend got %v, want one GET %s after it", target, test.head, seen, want)
			}
			if got := seen[1].header.Get("Range"); got != "bytes=0-0" && target != "/photos" && !strings.Contains(target, "partNumber") {
				t.Errorf("HEAD %s: the GET has the Range %q, want bytes=0-0", target, got)
			}
		}
		if test.want == 502 && !strings.Contains(g.log.String(), test.code) {
			t.Errorf("log = %s, want the backend's code %s", g.log, test.code)
		}
	}
}

// Where there is no answer to the GET, that of the HEAD stands.
func TestRefusedHeadStandsIfNobodySaysWhy(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(403)
	})
	g := startGateway(t, testConfig(backend.URL))
	if resp, _ := g.do("HEAD", "/photos/k", userKey, ""); resp.StatusCode != 403 {
		t.Errorf("HEAD = %d, want 403", resp.StatusCode)
	}
}
