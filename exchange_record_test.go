package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestLogTellsWhichKeyWasUsed(t *testing.T) {
	// Computed by sha256sum, not by this program.
	const oldKey, oldID = "rotation-old-0123456789", "32582b25"
	const freshKey, freshID = "rotation-new-0123456789", "678dd27b"
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {})
	g := startGateway(t, testConfig(backend.URL, with("users.user.api_key", ""), with("users.user.api_keys", []string{oldKey, freshKey})))
	for _, test := range []struct{ key, id string }{{oldKey, oldID}, {freshKey, freshID}} {
		resp, _ := g.do("GET", "/photos/a", test.key, "")
		if line := g.lineOf(resp); line["user"] != "user" || line["key_id"] != test.id {
			t.Errorf("with x-api-key: user %v, key_id %v, want user and %s", line["user"], line["key_id"], test.id)
		}
		resp, _ = g.do("GET", "/photos/a", "", "", signed("user", test.key, "GET", "/photos/a", "")...)
		if line := g.lineOf(resp); line["user"] != "user" || line["key_id"] != test.id {
			t.Errorf("signed: user %v, key_id %v, want user and %s", line["user"], line["key_id"], test.id)
		}
		if log := g.log.String(); strings.Contains(log, test.key) {
			t.Errorf("the log holds the key:\n%s", log)
		}
	}
}

func TestLogTellsWhomAWrongSignatureClaims(t *testing.T) {
	g := startGateway(t, testConfig("http://127.0.0.1:1"))
	for _, test := range []struct {
		what    string
		header  []string
		claimed any // nil: nobody
		reason  string
	}{
		{"a wrong key of a user", signed("user", "wrong-key-0123456789", "GET", "/photos/a", ""), "user", "bad_signature"},
		{"a name of no user", signed("mallory", "wrong-key-0123456789", "GET", "/photos/a", ""), nil, "unknown_user"},
		{"a wrong x-api-key", []string{"x-api-key: user"}, nil, "unknown_key"},
		{"a malformed signature", []string{"Authorization: AWS4-HMAC-SHA256 Credential=user"}, nil, "malformed_signature"},
		{"nothing", nil, nil, "no_key"},
	} {
		resp, _ := g.do("GET", "/photos/a", "", "", test.header...)
		line := g.lineOf(resp)
		if line["user"] != "" || line["claimed_user"] != test.claimed || line["reason"] != test.reason || line["key_id"] != nil {
			t.Errorf("%s: user %q, claimed_user %v, reason %v, key_id %v, want nobody, %v, %s and none", test.what, line["user"], line["claimed_user"], line["reason"], line["key_id"], test.claimed, test.reason)
		}
	}
	if strings.Contains(g.log.String(), "mallory") {
		t.Error("the log has a claimed name that is no user's")
	}
}

// The valid values are the examples of https://www.w3.org/TR/trace-context/.
func TestLogHasTheTraceIDOfAValidTraceparent(t *testing.T) {
	for value, want := range map[string]string{
		"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":        "4bf92f3577b34da6a3ce929d0e0e4736",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":        "0af7651916cd43dd8448eb211c80319c",
		"cc-12345678901234567890123456789012-1234567890123456-01-future": "12345678901234567890123456789012",
		"00-00000000000000000000000000000000-00f067aa0ba902b7-01":        "",
		"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":        "",
		"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01":        "",
		"00-4bf92f3577b34da6a3ce929d0e0e473\"-00f067aa0ba902b7-01":       "",
		"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01":        "",
		"00-4bf92f3577b34da6a3ce929d0e0e4736":                            "",
		"":                                                               "",
	} {
		if got := traceID(http.Header{"Traceparent": {value}}); got != want {
			t.Errorf("the trace id of %q is %q, want %q", value, got, want)
		}
	}
	if got := traceID(http.Header{"Traceparent": {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "x"}}); got != "" {
		t.Errorf("the trace id of two headers is %q, want none", got)
	}
}

// The documents are those of S3, MinIO and versitygw.
func TestLogHasTheMessageOfABackendsErrorAndTheRegion(t *testing.T) {
	for _, test := range []struct {
		status          int
		document        string
		reason, message string
		region          any
	}{
		{400, "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message><Region>eu-west-1</Region></Error>",
			"backend_region", "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'", "eu-west-1"},
		{403, "<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>",
			"backend_credentials", "The AWS Access Key Id you provided does not exist in our records.", nil},
		{403, "<Error><Code>AccessDenied</Code><Message>User: arn:aws:iam::123456789012:user/x is not authorized to perform: s3:GetObject</Message></Error>",
			"backend_denied", "User: arn:aws:iam::123456789012:user/x is not authorized to perform: s3:GetObject", nil},
		{404, "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>",
			"backend_bucket", "The specified bucket does not exist", nil},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(test.status)
			io.WriteString(w, test.document)
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, _ := g.do("GET", "/photos/a", userKey, "")
		line := g.lineOf(resp)
		if line["reason"] != test.reason || line["upstream_message"] != test.message || line["expected_region"] != test.region || line["account"] != "main" {
			t.Errorf("%s:\nthe log has %v\nwant the reason %s, the message %q and the region %v", test.document, line, test.reason, test.message, test.region)
		}
		if cause := fmt.Sprint(line["cause"]); test.region != nil && !strings.HasSuffix(cause, "it expects the region eu-west-1: set accounts.main.region") {
			t.Errorf("cause = %q, want the setting to change", cause)
		}
	}
}

func TestMessageOfABackendIsQuotedWithoutWhatMayBeSecret(t *testing.T) {
	out := &outgoing{header: http.Header{
		"Authorization": {"AWS4-HMAC-SHA256 Credential=x, Signature=fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024"},
		"X-Amz-Server-Side-Encryption-Customer-Key": {"customerKeyCanaryOfSixtyLettersInBase64+/="},
		"x-amz-meta-patient":                        {"Jane Doe"},
		"X-Amz-Tagging":                             {"password=12345678"},
		"Content-Type":                              {"image/jpeg"},
	}, query: []parameter{{"prefix", "private/folder/"}, {"list-type", "2"}}}
	a := &account{name: "main", source: staticCredentials(testCredentials)}
	c := &backendCall{upstream: &upstream{account: a}, out: out}
	for message, want := range map[string]string{
		"  Access Denied.\n": "Access Denied.",
		"the key " + testCredentials.SecretAccessKey + " is wrong":                       "",
		"the key " + strings.ToUpper(testCredentials.SecretAccessKey) + " is wrong":      "",
		"the id " + testCredentials.AccessKeyID + " is not known":                        "",
		"we calculated fe5f80f77d5fa3beca038a248ff027d0445342fe2855ddc963176630326f1024": "",
		"bad key customerKeyCanaryOfSixtyLettersInBase64+/=":                             "",
		"no such token AbCdEfGhIjKlMnOpQrStUvWxYz0123456789== here":                      "no such token (withheld) here",
		"the word internationalization-and-localization has no digit":                    "the word internationalization-and-localization has no digit",
		"invalid metadata patient: JANE DOE":                                             "",
		"no tag PASSWORD=12345678":                                                       "",
		"no such prefix private/folder/":                                                 "",
		"2 requests of image/jpeg":                                                       "2 requests of image/jpeg",
		"two\r\nlines":                                                                   "two  lines",
		"\x1b[31mred":                                                                    "?[31mred",
		"the x-amz-checksum-crc64nvme header":                                            "the x-amz-checksum-crc64nvme header",
		"für \u202e":                                                                     "f?r ?",
		strings.Repeat("a ", 121):                                                        strings.Repeat("a ", 120) + "…",
		strings.Repeat("a ", 110) + testCredentials.SecretAccessKey:                      "",
		strings.Repeat("a ", 1_000) + testCredentials.SecretAccessKey:                    "",
		strings.Repeat("a ", 2_048) + testCredentials.SecretAccessKey:                    strings.Repeat("a ", 120) + "…",
		"User: arn:aws:iam::123456789012:user/gateway is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::photos/2026/a.jpg\" because no identity-based policy allows the s3:GetObject action": "User: arn:aws:iam::123456789012:user/gateway is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::photos/2026/a.jpg\" because no identity-based policy allows the s3:GetObject action",
	} {
		if got := c.quotable(message); got != want {
			t.Errorf("quotable(%q) = %q, want %q", message, got, want)
		}
	}
}

// Each backend is broken in one way, as those of operators are.
func TestReasonTellsWhatIsWrongWithTheBackend(t *testing.T) {
	quiet := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
		return s
	}
	plain := quiet(func(http.ResponseWriter, *http.Request) {})
	plain.Start()
	t.Cleanup(plain.Close)
	strange := quiet(func(http.ResponseWriter, *http.Request) {})
	strange.TLS = &tls.Config{}
	strange.StartTLS()
	t.Cleanup(strange.Close)
	closed := func() string {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		return "http://" + listener.Addr().String()
	}()
	raw := func(answer string) string {
		return startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err == nil {
				io.WriteString(conn, answer)
			}
		})
	}
	silent := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	for _, test := range []struct{ endpoint, reason string }{
		{"http://no-such-host.invalid", "backend_dns"},
		{closed, "backend_connect"},
		{strange.URL, "backend_tls"}, // an authority that is not known
		{strings.Replace(plain.URL, "http:", "https:", 1), "backend_tls"},
		{strings.Replace(strange.URL, "https:", "http:", 1), "backend_protocol"}, // Go's servers answer 400 in plain HTTP
		{silent, "backend_timeout"},
		{raw(""), "backend_broken"},
		{raw("SSH-2.0-OpenSSH_9.2\r\n"), "backend_protocol"},
		{raw("HTTP/1.1 301 Moved Permanently\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n"), "backend_protocol"},
		{raw("HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n"), "backend_region"},
		{raw("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), "backend_error"},
		{raw("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"), "backend_busy"},
		{raw("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"), "backend_credentials"},
		{raw("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf"), "backend_broken"},
	} {
		g := startGateway(t, testConfig(test.endpoint, with("accounts.main.response_header_timeout", "100ms")))
		conn := g.dial() // for an answer that breaks off, which do would report
		io.WriteString(conn, requestText("GET", "/photos/a", userKey, ""))
		io.Copy(io.Discard, conn)
		await(t, "the line", func() bool { return len(g.lines()) > 0 })
		if line := g.lines()[0]; line["reason"] != test.reason {
			t.Errorf("%s: the log has %v, want the reason %s", test.endpoint, line, test.reason)
		}
		if cause, _ := g.lines()[0]["cause"].(string); cause != strings.TrimSpace(cause) {
			t.Errorf("%s: the cause is %q, want no space around it", test.endpoint, cause)
		}
	}
}

// An account is down from the first trouble to the next answer, and what is the client's fault,
// or the gateway's own decision, does not change it.
func TestMetricTellsWhetherAnAccountAnswers(t *testing.T) {
	status := http.StatusOK
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) })
	g := startGateway(t, testConfig(backend.URL))
	s := new(service)
	s.current.Store(g.gw)
	s.reloaded(nil)
	s.register(g.gw.metrics)
	up := func() (float64, bool) {
		_, families := scraped(t, g.gw.metrics)
		value, known := families["s3proxy_upstream_up"].samples[`s3proxy_upstream_up{account="main"}`]
		return value, known
	}
	g.do("GET", "/photos/a", "", "")
	g.settle()
	if _, known := up(); known {
		t.Error("a request that asked no backend says whether it is up")
	}
	for _, step := range []struct {
		status int
		key    string
		want   float64
	}{
		{200, userKey, 1}, {404, userKey, 1}, {403, userKey, 1}, {429, userKey, 1}, {401, userKey, 0}, {401, "wrong-key-0123456789", 0}, {404, userKey, 1}, {500, userKey, 0}, {200, userKey, 1},
	} {
		status = step.status
		g.do("PUT", "/photos/a", step.key, "x")
		g.settle()
		if got, known := up(); got != step.want || !known {
			t.Errorf("after the status %d, s3proxy_upstream_up is %v (there: %t), want %v", step.status, got, known, step.want)
		}
	}
	wantRecent := time.Now().Add(-time.Hour).Unix()
	_, families := scraped(t, g.gw.metrics)
	for _, reason := range []string{"backend_credentials", "backend_error"} {
		sample := `s3proxy_upstream_last_error_timestamp_seconds{account="main",reason="` + reason + `"}`
		if at := families["s3proxy_upstream_last_error_timestamp_seconds"].samples[sample]; at < float64(wantRecent) {
			t.Errorf("%s = %v, want a time within the hour", sample, at)
		}
	}
}

func TestTroubleOfAnErrorOfAnUpload(t *testing.T) {
	if got := troubleOf(fmt.Errorf("x: %w", newError(reasonDigest, "BadDigest", ""))); got != reasonDigest {
		t.Errorf("troubleOf an error with a reason = %s, want that reason", got)
	}
	if got := troubleOf(errors.New("text before the document")); got != reasonBackendProtocol {
		t.Errorf("troubleOf an error of the protocol = %s, want %s", got, reasonBackendProtocol)
	}
}

// What the gateway said to the client is in the log if it says more than the code, and never with a
// value of the request.
func TestLogHasTheMessageOfARefusal(t *testing.T) {
	g := startGateway(t, testConfig(startRecorder(t, nil).URL))
	for _, test := range []struct {
		method, target, header string
		want                   any
	}{
		{"GET", "/photos?odd=canary", "", `the query parameter "odd" is not supported here`},
		{"GET", "/photos?" + adminKey + "=1", "", `the query parameter "(withheld)" is not supported here`},
		{"PUT", "/photos/k", "x-amz-odd-and-long-name: canary", "the header x-amz-odd-and-long-name is not supported"},
		{"GET", "/photos/a%0d%0ab", "", "the key holds a control character"},
		{"PUT", "/photos/k", "x-amz-canary-0123456789: a", "the header (withheld) is not supported"},
		{"GET", "/photos?Canary=a", "", `the query parameter "(withheld)" is not supported here`},
		{"POST", "/photos/k?uploadId=u", "", nil}, // MalformedXML says it all
	} {
		resp, _ := g.do(test.method, test.target, userKey, "", test.header)
		if got := g.lineOf(resp)["message"]; got != test.want {
			t.Errorf("%s %s = %d, and the message in the log is %v, want %v", test.method, test.target, resp.StatusCode, got, test.want)
		}
	}
}
