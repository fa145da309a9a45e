package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// s3Refuses returns a handler that answers with an error of S3. The rest is elements.
func s3Refuses(status int, code, rest string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code>%s</Error>", code, rest)
	}
}

const emptyList = `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>photos</Name><IsTruncated>false</IsTruncated></ListBucketResult>`

// lists returns a handler that answers every request with a list of no objects, at a time off the
// real one.
func lists(ahead time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		io.WriteString(w, emptyList)
	}
}

// dialFails returns a dialer whose connections fail.
func dialFails(err error) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
}

// dialTo returns a dialer that connects to a server, whatever the name of the host.
func dialTo(server *httptest.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
}

func testDoctorConnection(t *testing.T, e *everyVerdict) {
	at := func(endpoint string, changes ...func(map[string]any)) map[string]any {
		return testConfig(endpoint, changes...)
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	answersTLS := startSecure(t, newTestCA(t, "The Test Authority"), nil)
	silent := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) { r.ReadByte(); io.Copy(io.Discard, r) })
	hasty := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) { readHead(r) })
	ssh := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		io.WriteString(conn, "SSH-2.0-OpenSSH_9.6\r\n")
		io.Copy(io.Discard, r)
	})
	e.diagnose(t, []patient{
		{name: "a name", config: at("http://s3.example"), dialer: dialFails(&net.DNSError{Err: "no such host", Name: "s3.example", IsNotFound: true}), subject: "accounts.main", verdict: "dns_unknown", text: []string{"s3.example", "endpoint_url"}},
		{name: "a server", config: at("http://s3.example"), dialer: dialFails(&net.DNSError{Err: "timeout", Name: "s3.example", IsTimeout: true}), subject: "accounts.main", verdict: "dns_failed"},
		{name: "by nobody", config: at(closed.URL), subject: "accounts.main", verdict: "connection_refused", text: []string{closed.Listener.Addr().String()}},
		{name: "by a firewall", config: at("http://s3.example"), dialer: dialFails(os.ErrDeadlineExceeded), subject: "accounts.main", verdict: "connection_timeout"},
		{name: "without a route", config: at("http://s3.example"), dialer: dialFails(syscall.EHOSTUNREACH), subject: "accounts.main", verdict: "connection_failed", text: []string{"no route to host"}},
		{name: "to a silent port", config: at(silent, with("accounts.main.response_header_timeout", "200ms")), subject: "accounts.main", verdict: "no_answer"},
		{name: "by a reset", config: at(hasty), subject: "accounts.main", verdict: "broken_off"},
		{name: "of SSH", config: at(ssh), subject: "accounts.main", verdict: "not_http"},
		{name: "on a plain port", config: at(strings.Replace(answersTLS, "https:", "http:", 1)), subject: "accounts.main", verdict: "plain_tls", text: []string{"https://"}},
	})
}

func testDoctorAnswer(t *testing.T, e *everyVerdict) {
	demo := startDemoBackend(t)
	none := filepath.Join(t.TempDir(), "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	region := func(named string) string { return "<Region>" + named + "</Region>" }
	serve := func(h http.HandlerFunc, changes ...func(map[string]any)) map[string]any {
		return testConfig(startRecorder(t, h).URL, changes...)
	}
	said := func(header, value string, h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.Header().Set(header, value); h(w, r) }
	}
	malformed, moved := "AuthorizationHeaderMalformed", "PermanentRedirect"
	message := "<Message>The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'</Message>"
	page := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<!doctype html><html><p>Sign in</html>")
	}
	account := "accounts.main"
	patients := []patient{
		{name: "of the demo", config: testConfig(demo.URL), verdict: "connected"},
		{name: "of the demo", config: testConfig(demo.URL), verdict: "clock_ok"},
		{name: "of the demo", config: testConfig(demo.URL), verdict: "credentials_ok", text: []string{"us-east-1"}},
		{name: "a page", config: serve(page), verdict: "not_s3", text: []string{"a web page", "console"}},
		{name: "MinIO's console", config: serve(s3Refuses(400, "InvalidArgument", "<Message>S3 API Requests must be made to API port.</Message>")), verdict: "not_s3", text: []string{"MinIO's console", "accounts.main.endpoint_url"}},
		{name: "JSON", config: serve(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"a":1}`) }), verdict: "not_s3", text: []string{"JSON"}},
		{name: "nothing", config: serve(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }), verdict: "not_s3", text: []string{"404 with nothing"}},
		{name: "a list cut in its tag", config: serve(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<ListBuck") }), verdict: "not_s3"},
		{name: "to https", config: serve(said("Location", "https://elsewhere.example/", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(308) })), verdict: "redirected", text: []string{"308", "https"}},
		{name: "of S3", config: serve(s3Refuses(503, "SlowDown", "")), verdict: "backend_error", text: []string{"503 SlowDown"}},
		{name: "that asks for patience", config: serve(said("Retry-After", "9", s3Refuses(503, "SlowDown", ""))), verdict: "backend_error", text: []string{"503 SlowDown"}},
		{name: "of a proxy", config: serve(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(502) }), verdict: "backend_error", text: []string{"502"}},
		{name: "refused", config: serve(said("Date", time.Now().Add(20*time.Minute).UTC().Format(http.TimeFormat), s3Refuses(403, "RequestTimeTooSkewed", ""))), verdict: "clock_wrong", text: []string{"ahead of", "NTP"}},
		{name: "refused by another clock", config: serve(s3Refuses(403, "RequestTimeTooSkewed", "")), verdict: "clock_wrong"},
		{name: "not refused", config: serve(lists(-20 * time.Minute)), verdict: "clock_wrong", text: []string{"behind"}},
		{name: "a little", config: serve(lists(5 * time.Minute)), verdict: "clock_drift", text: []string{"ahead of"}},
		{name: "no profile", config: testConfig(demo.URL, with(account, map[string]any{"endpoint_url": demo.URL, "credentials": "profile:nobody", "buckets": []any{"photos", "secret"}})), verdict: "credentials_missing", text: []string{"profile:nobody"}},
		{name: "of the demo", config: testConfig(demo.URL, with(account+".access_key_id", "ANOTHERKEYID")), verdict: "key_unknown"},
		{name: "of versitygw", config: serve(s3Refuses(404, "XAdminUserNotFound", "")), verdict: "key_unknown"},
		{name: "of the demo", config: testConfig(demo.URL, with(account+".secret_access_key", "another-secret-0123")), verdict: "secret_wrong", text: []string{"secret_access_key"}},
		{name: "expired", config: serve(s3Refuses(400, "ExpiredToken", "")), verdict: "token_wrong", text: []string{"session_token"}},
		{name: "in a header", config: serve(said("x-amz-bucket-region", "eu-west-1", s3Refuses(400, malformed, ""))), verdict: "region_wrong", text: []string{`"eu-west-1", not "us-east-1"`}},
		{name: "in an element", config: serve(s3Refuses(400, malformed, region("eu-west-1"))), verdict: "region_wrong", text: []string{`"eu-west-1", not "us-east-1"`}},
		{name: "in a message", config: serve(s3Refuses(400, malformed, message)), verdict: "region_wrong", text: []string{`"eu-west-1", not "us-east-1"`}},
		{name: "nowhere", config: serve(s3Refuses(400, malformed, "")), verdict: "region_wrong", text: []string{"names no other"}},
		{name: "of a bucket", subject: "bucket photos", config: serve(said("x-amz-bucket-region", "eu-west-1", s3Refuses(301, moved, ""))), verdict: "region_wrong", text: []string{`"eu-west-1", not "us-east-1"`}},
		{name: "of the same region", subject: "bucket photos", config: serve(said("x-amz-bucket-region", "us-east-1", s3Refuses(301, moved, ""))), verdict: "endpoint_wrong", text: []string{"endpoint_url is another region's"}},
		{name: "nowhere", subject: "bucket photos", config: serve(s3Refuses(307, "TemporaryRedirect", "")), verdict: "endpoint_wrong"},
	}
	for i := range patients {
		if patients[i].subject == "" {
			patients[i].subject = account
		}
	}
	for _, p := range patients { // not at once: the environment is changed
		t.Run(p.verdict+" "+p.name, func(t *testing.T) { e.examine(t, p).want(t, p.subject, p.verdict, p.text...) })
	}
}

// byStyle is a server that knows buckets as hosts only, or in paths only.
func byStyle(virtualHost bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		inHost := strings.HasPrefix(r.Host, "photos.") || strings.HasPrefix(r.Host, "secret.")
		switch inPath := len(r.URL.Path) > 1; {
		case virtualHost && inHost, !virtualHost && inPath && !inHost:
			io.WriteString(w, emptyList)
		case virtualHost:
			s3Refuses(403, "SecondLevelDomainForbidden", "")(w, r)
		default:
			io.WriteString(w, "<ListAllMyBucketsResult><Buckets></Buckets></ListAllMyBucketsResult>")
		}
	}
}

func testDoctorBucket(t *testing.T, e *everyVerdict) {
	demo := startDemoBackend(t)
	inHosts, inPaths := httptest.NewServer(byStyle(true)), httptest.NewServer(byStyle(false))
	t.Cleanup(inHosts.Close)
	t.Cleanup(inPaths.Close)
	seen := func(status int, code, names string) string {
		return startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				fmt.Fprintf(w, "<ListAllMyBucketsResult><Buckets>%s</Buckets></ListAllMyBucketsResult>", names)
				return
			}
			s3Refuses(status, code, "<Message>no luck today</Message>")(w, r)
		}).URL
	}
	name := func(s string) string { return "<Bucket><Name>" + s + "</Name></Bucket>" }
	unknownBelow := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "s3.example:") {
			return dialTo(inPaths)(ctx, network, addr)
		}
		return nil, &net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}
	}
	virtual := with("accounts.main.addressing", "virtual")
	e.diagnose(t, []patient{
		{name: "of the demo", config: testConfig(demo.URL), subject: "bucket photos", verdict: "bucket_ok"},
		{name: "under its backend name", config: testConfig(demo.URL, with("accounts.main.buckets", []any{map[string]any{"name": "photos", "bucket": "elsewhere"}, "secret"})), subject: "bucket photos", verdict: "bucket_missing", text: []string{"no bucket elsewhere"}},
		{name: "with a similar one", config: testConfig(seen(404, "NoSuchBucket", name("archive")+name("fotos"))), subject: "bucket photos", verdict: "bucket_missing", text: []string{"sees fotos, archive; did you mean the first?"}},
		{name: "with many", config: testConfig(seen(404, "NoSuchBucket", strings.Repeat(name("archive"), 9))), subject: "bucket photos", verdict: "bucket_missing", text: []string{"archive and 4 more"}},
		{name: "with more than fit into an error", config: testConfig(seen(404, "NoSuchBucket", strings.Repeat(name("archive-of-a-long-name"), 9_999)+name("foto"))), subject: "bucket photos", verdict: "bucket_missing", text: []string{"sees foto, archive-of-a-long-name, ", "and 9995 more"}},
		{name: "with more than can be read", config: testConfig(seen(404, "NoSuchBucket", strings.Repeat(name("archive-of-a-long-name"), maxBucketList/50))), subject: "bucket photos", verdict: "bucket_missing", text: []string{"too long to be read"}},
		{name: "with none", config: testConfig(seen(404, "NoSuchBucket", "")), subject: "bucket photos", verdict: "bucket_missing", text: []string{"no bucket at all"}},
		{name: "by a policy", config: testConfig(seen(403, "AccessDenied", name("archive"))), subject: "bucket photos", verdict: "bucket_denied", text: []string{"s3:ListBucket", "no luck today", "sees archive"}},
		{name: "for another reason", config: testConfig(seen(400, "InvalidArgument", "")), subject: "bucket photos", verdict: "backend_refuses", text: []string{`400 InvalidArgument: "no luck today"`}},
		{name: "hosts only", config: testConfig("http://s3.example"), dialer: dialTo(inHosts), subject: "accounts.main", verdict: "addressing_wrong", text: []string{`to "virtual"`}},
		{name: "paths only", config: testConfig("http://s3.example", virtual), dialer: dialTo(inPaths), subject: "accounts.main", verdict: "addressing_wrong", text: []string{`to "path"`}},
		{name: "paths only, and no such host", config: testConfig("http://s3.example", virtual), dialer: unknownBelow, subject: "accounts.main", verdict: "addressing_wrong", text: []string{`to "path"`}},
	})
}

// A backend that breaks off after its first answer is said to do so, for each of many buckets.
func TestDoctorTellsOfABackendThatStopsAnswering(t *testing.T) {
	var first atomic.Bool
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if !first.CompareAndSwap(false, true) {
			panic(http.ErrAbortHandler)
		}
		lists(0)(w, r)
	})
	var names []any
	for i := range 40 {
		names = append(names, fmt.Sprintf("bucket-%02d", i))
	}
	e := &everyVerdict{seen: map[string]bool{}}
	config := testConfig(backend.URL, with("accounts.main.buckets", names), with("users", map[string]any{"admin": map[string]any{"api_key": adminKey, "role": "admin", "allowed_buckets": []any{"*"}}}))
	r := e.examine(t, patient{config: config})
	for _, name := range names {
		r.want(t, fmt.Sprint("bucket ", name), "broken_off")
	}
}

// The doctor sends no HEAD, whose answer has no code, and changes nothing without -write.
func TestDoctorOnlyReads(t *testing.T) {
	backend := startRecorder(t, lists(0))
	e := &everyVerdict{seen: map[string]bool{}}
	e.examine(t, patient{config: testConfig(backend.URL)}).want(t, "bucket secret", "bucket_ok")
	for _, r := range backend.requests() {
		if r.method != "GET" {
			t.Errorf("the doctor sent %s %s", r.method, r.uri)
		}
	}
}
