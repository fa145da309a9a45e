package main

import (
	"encoding/json"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestParseErrorCode(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{`<Error><Code>NoSuchKey</Code><Message>m</Message></Error>`, "NoSuchKey"},
		{xmlHeader + `<Error xmlns="urn:x"><Message>m</Message><Code>AccessDenied</Code></Error>`, "AccessDenied"},
		{`<Error><Code>KMS.DisabledException</Code></Error>`, "KMS.DisabledException"},
		{`<Error><Code>XAmzContentSHA256Mismatch</Code></Error>`, "XAmzContentSHA256Mismatch"},
		{``, ""},
		{`not found`, ""},
		{`<html><body>404</body></html>`, ""},
		{`<Error><Code>NoSuchKey</Code>`, ""},
		{`<Error></Error>`, ""},
		{`<Error><Code>No such key</Code></Error>`, ""},
		{"<Error><Code>a\r\nb</Code></Error>", ""},
		{`<Error><Code>&lt;script&gt;</Code></Error>`, ""},
		{`<Error><Code>` + strings.Repeat("A", 65) + `</Code></Error>`, ""},
		{`<Error><Message>` + strings.Repeat("A", maxErrorDocument) + `</Message><Code>NoSuchKey</Code></Error>`, ""},
		{strings.Repeat("<Error>", 10_000), ""},
	} {
		if got := upstreamError(404, nil, strings.NewReader(test.in)).upstream.code; got != test.want {
			t.Errorf("upstreamError(404, %.80q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestUpstreamError(t *testing.T) {
	document := func(code string) string { return "<Error><Code>" + code + "</Code><Message>canary</Message></Error>" }
	for _, test := range []struct {
		status int
		body   string
		want   int
		code   string
	}{
		// Status and code are the backend's.
		{404, document("NoSuchKey"), 404, "NoSuchKey"},
		{404, document("NoSuchBucket"), 404, "NoSuchBucket"},
		{403, document("AccessDenied"), 403, "AccessDenied"},
		{403, document("InvalidObjectState"), 403, "InvalidObjectState"},
		{409, document("ConditionalRequestConflict"), 409, "ConditionalRequestConflict"},
		{412, document("PreconditionFailed"), 412, "PreconditionFailed"},
		{416, document("InvalidRange"), 416, "InvalidRange"},
		{400, document("BadDigest"), 400, "BadDigest"},
		{400, document("XAmzContentSHA256Mismatch"), 400, "XAmzContentSHA256Mismatch"},
		{503, document("SlowDown"), 503, "SlowDown"},
		{500, document("InternalError"), 500, "InternalError"},
		{400, document("SomethingNobodyKnows"), 400, "SomethingNobodyKnows"},
		// Without a document, the code is the one that S3 has for the status.
		{400, "", 400, "InvalidRequest"},
		{403, "", 403, "AccessDenied"},
		{404, "", 404, "NoSuchKey"},
		{405, "", 405, "MethodNotAllowed"},
		{411, "", 411, "MissingContentLength"},
		{412, "", 412, "PreconditionFailed"},
		{416, "", 416, "InvalidRange"},
		{501, "", 501, "NotImplemented"},
		{503, "<html>canary</html>", 503, "ServiceUnavailable"},
		{418, "", 418, "InvalidRequest"}, // whose name is no code
		{444, "", 444, "InvalidRequest"}, // nginx's
		{520, "", 520, "InternalError"},  // Cloudflare's
		{526, "<html>canary</html>", 526, "InternalError"},
		{599, "", 599, "InternalError"},
		// The gateway's credentials, clock and configuration are not the client's concern.
		{403, document("SignatureDoesNotMatch"), 502, "BadGateway"},
		{403, document("InvalidAccessKeyId"), 502, "BadGateway"},
		{404, document("XAdminUserNotFound"), 502, "BadGateway"}, // versitygw's, for an access key id that it does not know
		{403, document("RequestTimeTooSkewed"), 502, "BadGateway"},
		{400, document("AuthorizationHeaderMalformed"), 502, "BadGateway"},
		{400, document("ExpiredToken"), 502, "BadGateway"},
		{301, document("PermanentRedirect"), 502, "BadGateway"},
		{307, document("TemporaryRedirect"), 502, "BadGateway"},
		{302, "", 502, "BadGateway"},
		{300, "", 502, "BadGateway"},
		{401, "", 502, "BadGateway"},
		{401, document("AccessDenied"), 502, "BadGateway"},
		{407, "", 502, "BadGateway"}, // a proxy on the way that wants our credentials
		{600, "", 502, "BadGateway"},
	} {
		got := upstreamError(test.status, http.Header{}, strings.NewReader(test.body))
		if got.Status != test.want || got.Code != test.code || got.Message == "" || strings.Contains(got.Message, "canary") {
			t.Errorf("upstreamError(%d, %s) = %d %s %q, want %d %s and a message of ours", test.status, test.body, got.Status, got.Code, got.Message, test.want, test.code)
		}
		if got.Status == 502 && (got.header != nil || got.cause == nil) {
			t.Errorf("upstreamError(%d, %s) has header %v and cause %v, want none of the backend's headers, and a cause for the log", test.status, test.body, got.header, got.cause)
		}
	}
}

// An error 412 names the condition that does not hold: the one that the backend names, or
// the only one of the request.
func TestPreconditionFailedNamesTheCondition(t *testing.T) {
	for _, test := range []struct {
		document string
		header   []string
		want     string
	}{
		{"<Condition>If-None-Match</Condition>", []string{"If-None-Match: *"}, "If-None-Match"},
		{"<Condition>If-Match</Condition>", []string{`If-Match: "a"`, "If-None-Match: *"}, "If-Match"},
		{"", []string{"If-None-Match: *"}, "If-None-Match"},
		{"<Condition>BACKENDKEYID</Condition>", []string{"If-None-Match: *"}, "If-None-Match"},
		{"", []string{`If-Match: "a"`, "If-None-Match: *"}, ""},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusPreconditionFailed)
			io.WriteString(w, "<Error><Code>PreconditionFailed</Code>"+test.document+"</Error>")
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, body := g.do("PUT", "/photos/k", userKey, "x", test.header...)
		var e struct{ Code, Condition string }
		if err := json.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != 412 || e.Code != "PreconditionFailed" || e.Condition != test.want {
			t.Errorf("%q with %q = %d %s, want the condition %q", test.document, test.header, resp.StatusCode, body, test.want)
		}
		checkNoSecret(t, "the answer", body)
		lines := signed("user", userKey, "PUT", "/photos/k", "", "x-amz-content-sha256: "+unsignedPayload)
		resp, body = g.do("PUT", "/photos/k", "", "x", append(lines, test.header...)...)
		e.Condition = ""
		if err := xml.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != 412 || e.Condition != test.want {
			t.Errorf("%q with %q, signed = %d %s, want the condition %q", test.document, test.header, resp.StatusCode, body, test.want)
		}
	}
}

// What a web server before the backend answers to a client's large request says nothing of the account,
// and neither does any page once the account has answered as S3 does.
func TestPagesOfAWebServerAreTroubleOnlyOfAnAccountThatNeverAnsweredAsS3(t *testing.T) {
	const page, document = "<html>413 Request Entity Too Large</html>", "<Error><Code>NoSuchKey</Code></Error>"
	type answer struct {
		status   int
		body, id string
	}
	for _, test := range []struct {
		name    string
		answers []answer
		reason  string // of the last, which also has a cause
		up      float64
	}{
		{"a body that is too large", []answer{{413, page, ""}}, "", 1},
		{"a URL that is too long", []answer{{414, page, ""}}, "", 1},
		{"a header that is too large", []answer{{431, page, ""}}, "", 1},
		{"a page at first", []answer{{400, page, ""}}, "backend_protocol", 0},
		{"a page after a page", []answer{{200, page, ""}, {400, page, ""}}, "backend_protocol", 0},
		{"a page after a document of S3", []answer{{404, document, ""}, {400, page, ""}}, "", 1},
		{"a page after a document with a code that nobody knows", []answer{{409, "<Error><Code>Strange</Code></Error>", ""}, {400, page, ""}}, "", 1},
		{"a page after a request id of S3", []answer{{200, "meow", "4442587FB7D0A2F9"}, {404, page, ""}}, "", 1},
		{"a page that denies, after a document of S3", []answer{{404, document, ""}, {403, page, ""}}, "backend_denied", 1},
		{"a page that asks for credentials, after a document of S3", []answer{{404, document, ""}, {401, page, ""}}, "backend_credentials", 0},
	} {
		for _, method := range []string{"GET", "HEAD", "PUT"} {
			next := 0
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				if test.answers[next].id != "" {
					w.Header().Set("X-Amz-Request-Id", test.answers[next].id)
				}
				w.WriteHeader(test.answers[next].status)
				io.WriteString(w, test.answers[next].body)
			})
			g := startGateway(t, testConfig(backend.URL))
			if last := test.answers[len(test.answers)-1].status; method == "HEAD" && !headRefusals[last] {
				continue // the answer has no page
			}
			var line map[string]any
			for i := range test.answers {
				next = i
				do := "GET"
				if i == len(test.answers)-1 {
					do = method
				}
				resp, _ := g.do(do, "/photos/k", userKey, "")
				line = g.lineOf(resp)
			}
			if reason, _ := line["reason"].(string); reason != test.reason || line["cause"] == nil && reason != "backend_denied" {
				t.Errorf("%s, to a %s: the log has the reason %q and the cause %v, want %q", test.name, method, reason, line["cause"], test.reason)
			}
			if health := g.gw.accounts["main"].health(); (health == healthOK) != (test.up == 1) {
				t.Errorf("%s, to a %s: the account is %s", test.name, method, health)
			}
		}
	}
}

// An error under a status of success makes its account failing only if the code is one of a backend
// that failed.
func TestErrorUnder200WithAnUnknownCodeIsNoTroubleOfTheAccount(t *testing.T) {
	for code, want := range map[string]struct {
		status int
		reason refusalReason
	}{
		"NoSuchTagSet":       {500, ""},
		"InvalidObjectName":  {500, ""},
		"ObjectLockConflict": {500, ""},
		"NoSuchKey":          {404, ""},
		"InternalError":      {500, reasonBackendError},
		"ServiceUnavailable": {503, reasonBackendError},
		"SlowDown":           {503, reasonBackendBusy},
		"InvalidAccessKeyId": {502, reasonBackendCredentials},
		"ExpiredToken":       {502, reasonBackendToken},
		"NotSignedUp":        {502, reasonBackendCredentials}, // not in s3Errors
		"":                   {500, reasonBackendError},
	} {
		doc, err := parseDocument(strings.NewReader("<Error><Code>"+code+"</Code></Error>"), "Error")
		if err != nil {
			t.Fatal(err)
		}
		if e := errorInDocument(&doc); e.Status != want.status || e.reason != want.reason || e.Code == "" {
			t.Errorf("errorInDocument(%s) = %d %s, reason %q, want %d, reason %q", code, e.Status, e.Code, e.reason, want.status, want.reason)
		}
	}
}
