package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestParseCopySource(t *testing.T) {
	for _, test := range []struct{ in, bucket, key, version string }{
		{"photos/cat.jpg", "photos", "cat.jpg", ""},
		{"/photos/cat.jpg", "photos", "cat.jpg", ""},
		{"photos%2Fcat.jpg", "photos", "cat.jpg", ""},
		{"%2Fphotos%2Fcat.jpg", "photos", "cat.jpg", ""},
		{"photos/a%20b%2Bc", "photos", "a b+c", ""},
		{"photos/a+b%2Bc?versionId=v+1", "photos", "a b+c", "v+1"}, // github.com/aws/aws-cli/issues/614
		{"photos/a/b//c", "photos", "a/b//c", ""},
		{"photos/%E6%97%A5", "photos", "日", ""},
		{"photos/cat.jpg?versionId=3/L4kqtJlcpXroDTDmpUMLUo", "photos", "cat.jpg", "3/L4kqtJlcpXroDTDmpUMLUo"},
		{"photos/safe%3FversionId%3D1", "photos", "safe?versionId=1", ""}, // a key, however odd
		{"photos/100%25", "photos", "100%", ""},
	} {
		got, err := parseCopySource(test.in, true)
		if err != nil || got.bucket != test.bucket || got.key != test.key || got.version != test.version {
			t.Errorf("parseCopySource(%q) = %+v, %v, want %+v", test.in, got, err, test)
		}
	}
	for _, in := range []string{
		"", "/", "photos", "photos/", "/photos/", "//photos/k", "/%2Fphotos/k", "photos/../secret/k", "photos/..%2f..%2fsecret",
		"photos/%2e%2e/k", "photos/k%3FversionId=..", "photos/k%3FversionId=../x", "photos/k%3FversionId=..%2Fx%3FversionId=y", "photos/k%3FversionId=x%5Cy",
		"photos/k%3FversionId=x%3FversionId%3D..?versionId=y", "photos/k%3FversionId=a%0a", "photos/k%zz", "photos/k?versionId=", "photos/k?versionId=%zz", "photos/k?x=1", "photos/k?",
		"arn:aws:s3:us-east-1:123456789012:accesspoint/ap/object/k", "PHOTOS/k", "photos/%00", "photos/%ff", "photos/" + strings.Repeat("k", 1025),
	} {
		if got, err := parseCopySource(in, true); err == nil {
			t.Errorf("parseCopySource(%q) = %+v, want an error", in, got)
		}
	}
	if _, err := parseCopySource("photos/a/b", false); err == nil {
		t.Error("a nested key is accepted as a source where keys may not be nested")
	}
}

// twoAccounts returns a configuration with a bucket at each of two backends, and one whose
// backend name differs from its public name.
func twoAccounts(here, there string) map[string]any {
	return testConfig(here,
		with("accounts.other", map[string]any{
			"endpoint_url": there, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary",
			"buckets": []any{"faraway"},
		}),
		with("accounts.main.buckets", []any{"photos", "secret", map[string]any{"name": "pics", "bucket": "corp-pics-prod"}}),
		with("users.user.allowed_buckets", []any{"photos", "pics", "faraway"}))
}

// Within an account the backend copies, from a source that is written anew with the
// backend name of the bucket.
func TestCopyWithinAccount(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `<CopyObjectResult><LastModified>2009-10-12T17:50:30Z</LastModified><ETag>"9b2cf535f27731c974343645a3985328"</ETag></CopyObjectResult>`)
	})
	other := startRecorder(t, nil)
	g := startGateway(t, twoAccounts(backend.URL, other.URL))
	resp, body := g.do("PUT", "/photos/copy", userKey, "", "x-amz-copy-source: /pics/a%20b?versionId=v+1", "x-amz-metadata-directive: REPLACE", "x-amz-meta-a: b")
	if resp.StatusCode != 200 || !strings.Contains(body, "9b2cf535f27731c974343645a3985328") || !strings.Contains(body, "2009-10-12T17:50:30.000Z") {
		t.Errorf("copy = %d %s", resp.StatusCode, body)
	}
	seen := backend.requests()
	if len(seen) != 1 || seen[0].method != "PUT" || seen[0].uri != "/photos/copy" {
		t.Fatalf("the backend saw %+v, want one PUT", seen)
	}
	if got, want := seen[0].header.Get("X-Amz-Copy-Source"), "corp-pics-prod/a%20b?versionId=v%2B1"; got != want {
		t.Errorf("x-amz-copy-source = %q, want %q", got, want)
	}
	if !strings.Contains(seen[0].header.Get("Authorization"), "x-amz-copy-source;") {
		t.Errorf("x-amz-copy-source is not signed: %s", seen[0].header.Get("Authorization"))
	}
	other.wantNone(t)
}

// Between two accounts the gateway reads from one and writes to the other.
func TestCopyBetweenAccounts(t *testing.T) {
	source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("tagging") {
			io.WriteString(w, `<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag></TagSet></Tagging>`)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "image/jpeg")
		h.Set("Cache-Control", "max-age=60")
		h.Set("X-Amz-Meta-Name", "Tom")
		h.Set("X-Amz-Tagging-Count", "1")
		if r.Header.Get("Range") == "bytes=0-3" {
			h.Set("Content-Range", "bytes 0-3/4")
			w.WriteHeader(http.StatusPartialContent)
		}
		io.WriteString(w, "meow")
	})
	sink := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"4a4be40c96ac6314e91d93f38043a634"`)
		w.Header().Set("X-Amz-Version-Id", "v9")
	})
	g := startGateway(t, twoAccounts(source.URL, sink.URL))
	for _, test := range []struct {
		name   string
		target string
		header []string
		root   string
		want   map[string]string // of the PUT's headers; "" is none
		read   map[string]string // of the GET's
	}{
		{"copy", "/faraway/copy", []string{"x-amz-meta-lost: x", "x-amz-copy-source-if-match: \"e\"", "x-amz-storage-class: REDUCED_REDUNDANCY"}, "CopyObjectResult",
			map[string]string{"Content-Type": "image/jpeg", "Cache-Control": "max-age=60", "X-Amz-Meta-Name": "Tom", "X-Amz-Meta-Lost": "",
				"X-Amz-Tagging": "a%20b=1%262", "X-Amz-Copy-Source": "", "X-Amz-Copy-Source-If-Match": "", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY"},
			map[string]string{"If-Match": `"e"`, "X-Amz-Storage-Class": ""}},
		{"replace", "/faraway/copy", []string{"x-amz-metadata-directive: REPLACE", "x-amz-tagging-directive: REPLACE", "x-amz-meta-new: y", "content-type: a/b", "x-amz-tagging: k=v"}, "CopyObjectResult",
			map[string]string{"Content-Type": "a/b", "Cache-Control": "", "X-Amz-Meta-Name": "", "X-Amz-Meta-New": "y", "X-Amz-Tagging": "k=v", "X-Amz-Metadata-Directive": ""}, nil},
		{"part", "/faraway/copy?partNumber=1&uploadId=u", []string{"x-amz-copy-source-range: bytes=0-3"}, "CopyPartResult",
			map[string]string{"X-Amz-Meta-Name": "", "X-Amz-Copy-Source-Range": ""}, map[string]string{"Range": "bytes=0-3"}},
	} {
		before := len(sink.requests())
		beforeSource := len(source.requests())
		resp, body := g.do("PUT", test.target, userKey, "", append(test.header, "x-amz-copy-source: photos/cat")...)
		if resp.StatusCode != 200 || !strings.Contains(body, "<"+test.root) || !strings.Contains(body, "4a4be40c96ac6314e91d93f38043a634") {
			t.Errorf("%s = %d %s", test.name, resp.StatusCode, body)
			continue
		}
		if resp.Header.Get("X-Amz-Version-Id") != "v9" {
			t.Errorf("%s: the version id is lost", test.name)
		}
		put := sink.requests()[before]
		if put.body != "meow" || put.err != nil {
			t.Errorf("%s: stored %q, %v, want meow", test.name, put.body, put.err)
		}
		checkHeaders(t, test.name+": PUT", put.header, test.want)
		checkHeaders(t, test.name+": GET", source.requests()[beforeSource].header, test.read)
	}
}

func checkHeaders(t *testing.T, what string, got http.Header, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s has %s = %q, want %q", what, name, got.Get(name), value)
		}
	}
}

// If the source breaks off, or is too large, nothing is stored.
func TestCopyBetweenAccountsFails(t *testing.T) {
	for name, test := range map[string]struct {
		source http.HandlerFunc
		status int
		code   string
		puts   int
	}{
		"cut": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Write(make([]byte, 999))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, 502, "BadGateway", 1},
		"too large":    {func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "1001") }, 413, "EntityTooLarge", 0},
		"missing":      {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }, 404, "NoSuchKey", 0},
		"precondition": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) }, 412, "PreconditionFailed", 0},
	} {
		source := startRecorder(t, test.source)
		sink := startRecorder(t, nil)
		config := twoAccounts(source.URL, sink.URL)
		with("max_file_size", 1000)(config)
		g := startGateway(t, config)
		resp, body := g.do("PUT", "/faraway/copy", userKey, "", "x-amz-copy-source: photos/cat")
		wantError(t, resp, body, test.status, test.code)
		puts := sink.requests()
		if len(puts) > test.puts {
			t.Errorf("%s: the sink saw %d requests, want at most %d", name, len(puts), test.puts)
		}
		for _, put := range puts {
			if put.err == nil {
				t.Errorf("%s: the sink got a whole object of %d bytes", name, len(put.body))
			}
		}
	}
}

// If the status or the length of an answer is not that of the source, nothing is stored:
// the body would become the whole object, or the whole part.
func TestCopyOfAnAnswerThatIsNotTheSourceIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ span, status, header, body string }{
		"a part of it":            {"", "206 Partial Content", "Content-Range: bytes 0-3/9", "meow"},
		"no content":              {"", "204 No Content", "", ""},
		"accepted":                {"", "202 Accepted", "", "soon"},
		"of something in between": {"", "203 Non-Authoritative Information", "", "MEOW"},
		"a shorter range":         {"0-3", "206 Partial Content", "Content-Range: bytes 0-3/9", "meo"},
		"a longer range":          {"0-3", "206 Partial Content", "Content-Range: bytes 0-3/9", "meow!"},
		"all of it":               {"0-3", "200 OK", "Content-Range: bytes 0-3/9", "meow, meow"},
	} {
		t.Run(name, func(t *testing.T) {
			source := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				readHead(r)
				fmt.Fprintf(conn, "HTTP/1.1 %s\r\nX-Amz-Tagging-Count: 0\r\nContent-Length: %d\r\n%s\r\n", test.status, len(test.body), strings.TrimLeft(test.header+"\r\n", "\r\n"))
				io.WriteString(conn, test.body)
			})
			sink := startRecorder(t, answerAsS3)
			g := startGateway(t, twoAccounts(source, sink.URL))
			target, header := "/faraway/copy", []string{"x-amz-copy-source: photos/cat"}
			if test.span != "" {
				target, header = target+"?partNumber=1&uploadId=u", append(header, "x-amz-copy-source-range: bytes="+test.span)
			}
			resp, body := g.do("PUT", target, userKey, "", header...)
			wantError(t, resp, body, 502, "BadGateway")
			sink.wantNone(t)
		})
	}
}

// The target of a copy may answer with the status 200 and an error.
func TestCopyIsNotStoredByATargetThatAnswersWithAnError(t *testing.T) {
	source := startRecorder(t, answerAsS3)
	sink := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		io.WriteString(w, "<Error><Code>SlowDown</Code></Error>")
	})
	g := startGateway(t, twoAccounts(source.URL, sink.URL))
	_, body := g.do("PUT", "/faraway/copy", userKey, "", "x-amz-copy-source: photos/cat")
	if !strings.Contains(body, "<Code>SlowDown</Code>") {
		t.Errorf("copy = %s, want the error of the target", body)
	}
}

// The number of tags is the backend's, and nothing else of the header is repeated.
func TestCopyOfASourceWithAnotherNumberOfTags(t *testing.T) {
	for count, want := range map[string]string{
		"3":                "the source has 3 tags, and 1 of them were sent",
		"backend-secret-c": "the source has another number of tags than the 1 that were sent",
		"99999999999999":   "the source has another number of tags than the 1 that were sent",
	} {
		source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("tagging") {
				io.WriteString(w, `<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>`)
				return
			}
			w.Header().Set("X-Amz-Tagging-Count", count)
			io.WriteString(w, "meow")
		})
		sink := startRecorder(t, answerAsS3)
		g := startGateway(t, twoAccounts(source.URL, sink.URL))
		resp, body := g.do("PUT", "/faraway/copy", userKey, "", "x-amz-copy-source: photos/cat")
		wantError(t, resp, body, 502, "BadGateway")
		if line := g.lineOf(resp); line["cause"] != want {
			t.Errorf("with the count %q the cause is %q, want %q", count, line["cause"], want)
		}
		sink.wantNone(t)
	}
}

// Of a copy between accounts the log, the metrics, the list of errors and the states of the accounts
// name the same account as the one that failed. Here main has the source, and other the target.
func TestCopyBetweenAccountsBlamesTheAccountThatFailed(t *testing.T) {
	const down = "http://127.0.0.1:1"
	answering := func(h http.HandlerFunc) string { return startRecorder(t, h).URL }
	cut := func(size int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Tagging-Count", "0")
			w.Header().Set("Content-Length", strconv.Itoa(size))
			w.Write(make([]byte, size-1))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	stalls := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Tagging-Count", "0")
		w.Header().Set("Content-Length", "1000")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	status := func(code int, body string) string {
		return answering(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			io.WriteString(w, body)
		})
	}
	for _, test := range []struct {
		name           string
		source, target string
		states         string // of the account of the source and of that of the target
		blamed, reason string
	}{
		{"no error", answering(answerAsS3), answering(answerAsS3), "ok ok", "other", ""},
		{"the source breaks off", answering(cut(1000)), answering(answerAsS3), "failing idle", "main", "backend_broken"},
		{"a large source breaks off", answering(cut(5 << 20)), answering(answerAsS3), "failing idle", "main", "backend_broken"},
		{"the source stalls", answering(stalls), answering(answerAsS3), "failing idle", "main", "backend_timeout"},
		{"the source is down", down, answering(answerAsS3), "failing idle", "main", "backend_connect"},
		{"the source refuses the credentials", status(403, "<Error><Code>InvalidAccessKeyId</Code></Error>"), answering(answerAsS3), "failing idle", "main", "backend_credentials"},
		{"the source denies it", status(403, "<Error><Code>AccessDenied</Code></Error>"), answering(answerAsS3), "ok idle", "main", "backend_denied"},
		{"the source is not there", status(404, "<Error><Code>NoSuchKey</Code></Error>"), answering(answerAsS3), "ok idle", "main", ""},
		{"the target is down", answering(answerAsS3), down, "ok failing", "other", "backend_connect"},
		{"the target refuses early", answering(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Tagging-Count", "0")
			w.Header().Set("Content-Length", strconv.Itoa(5<<20))
			w.Write(make([]byte, 5<<20))
		}), startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			readHead(r)
			io.WriteString(conn, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, r)
		}), "ok failing", "other", "backend_error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := startGateway(t, twoAccounts(test.source, test.target))
			g.gw.config.idleTimeout = time.Second
			for _, u := range g.gw.accounts {
				u.idle = 50 * time.Millisecond
			}
			resp, _ := g.do("PUT", "/faraway/copy", userKey, "", "x-amz-copy-source: photos/cat")
			line := g.lineOf(resp)
			reason, _ := line["reason"].(string)
			if line["account"] != test.blamed || reason != test.reason {
				t.Errorf("the log has the account %v and the reason %q, want %s and %q", line["account"], reason, test.blamed, test.reason)
			}
			wantBlame(t, g.gw, test.states, test.blamed, test.reason)
		})
	}
}

// wantBlame compares the states of the accounts main and other, and where the one error is counted. An
// empty reason means no error.
func wantBlame(t *testing.T, g *gateway, states, blamed, reason string) {
	t.Helper()
	s := &service{metrics: g.metrics}
	s.current.Store(g)
	s.reloaded(nil)
	s.register(g.metrics)
	r := s.report(time.Now(), maxListed, false)
	main, other := r.account(t, "main"), r.account(t, "other")
	if got := fmt.Sprint(main.State, " ", other.State); got != states {
		t.Errorf("the states are %q, want %q", got, states)
	}
	for _, a := range []accountStatus{main, other} {
		want := 1
		if a.State == healthIdle {
			want = 0
		}
		if a.Traffic.Requests != int64(want) || (a.LastError != nil) != (a.State == healthFailing) {
			t.Errorf("%s, which is %s, has %d requests and the last error %+v, want %d requests", a.Name, a.State, a.Traffic.Requests, a.LastError, want)
		}
	}
	if reason == "" {
		if len(r.Errors) != 0 {
			t.Errorf("errors %+v, want none", r.Errors)
		}
		return
	}
	if len(r.Errors) != 1 || r.Errors[0].Account != blamed || string(r.Errors[0].Reason) != reason {
		t.Errorf("errors %+v, want %s of %s", r.Errors, reason, blamed)
	}
	labels := `{account="` + blamed + `",reason="` + reason + `"}`
	wantSamples(t, g.metrics, map[string]float64{"s3proxy_refusals_total" + labels: 1})
	text, _ := scraped(t, g.metrics)
	if failed := strings.Contains(states, "failing"); strings.Contains(text, "s3proxy_upstream_last_error_timestamp_seconds"+labels) != failed ||
		strings.Count(text, "\ns3proxy_refusals_total{") != 1 {
		t.Errorf("the metrics do not have the error of %s alone", blamed)
	}
}

// Which account has too many requests in flight is said too.
func TestCopyBetweenAccountsNamesTheAccountThatIsFull(t *testing.T) {
	for _, full := range []string{"main", "other"} {
		g := startGateway(t, twoAccounts(startRecorder(t, answerAsS3).URL, startRecorder(t, answerAsS3).URL))
		g.gw.accounts[full].account.maxInFlight = 1
		g.gw.accounts[full].load.enter(1)
		resp, _ := g.do("PUT", "/faraway/copy", userKey, "", "x-amz-copy-source: photos/cat")
		if line := g.lineOf(resp); line["account"] != full || line["reason"] != "account_in_flight" {
			t.Errorf("the log has %v %v, want account_in_flight of %s", line["reason"], line["account"], full)
		}
		wantBlame(t, g.gw, map[string]string{"main": "idle idle", "other": "ok idle"}[full], full, "account_in_flight")
	}
}

// copySpecs are the two operations that copy, to the bucket photos.
var copySpecs = []requestSpec{
	{method: "PUT", path: "/photos/x"},
	{method: "PUT", path: "/photos/x", query: "partNumber=1&uploadId=u"},
	{method: "PUT", path: "/photos/x", query: "uploadId=u&partNumber=1"},
}

// from returns a copy of the request with header lines that name a source.
func (r requestSpec) from(header ...string) requestSpec {
	r.header = header
	return r
}

// A copy reads its source with the backend's rights. Who may not read
// the source gets nothing of it, neither by a copy nor by the copy of a part,
// wherever the source is named; and it is never dropped, for then the copy would
// be an upload of nothing.
func TestCopySourceIsAuthorized(t *testing.T) {
	g, rec, other := startAccounts(t)
	one, all := roleKey("user", "photos"), roleKey("user", "*")
	for _, row := range []struct {
		source, name, key string
		status            int
		code              string
	}{
		{"/secret/k", "one-user", one, 403, "AccessDenied"},
		{"secret/k", "one-user", one, 403, "AccessDenied"},
		{"secret/k?versionId=1", "one-user", one, 403, "AccessDenied"},
		{"unknown/k", "one-user", one, 403, "AccessDenied"},
		{"elsewhere/k", "one-user", one, 403, "AccessDenied"},
		{"pics/k", "one-user", one, 403, "AccessDenied"},
		{"corp-pics-prod/k", "one-user", one, 403, "AccessDenied"},
		{"secret/k", "one-admin", roleKey("admin", "photos"), 403, "AccessDenied"},
		{"photos/k", "one-readonly", roleKey("readonly", "photos"), 403, "AccessDenied"},
		{"photos/k", "all-readonly", roleKey("readonly", "*"), 403, "AccessDenied"},
		{"photos/k", "none", noneKey, 403, "AccessDenied"},
		{"unknown/k", "all-user", all, 404, "NoSuchBucket"},
		{"corp-pics-prod/k", "all-user", all, 404, "NoSuchBucket"}, // the name behind is none of ours
		{"corp-pics-prod/k", "admin", adminKey, 404, "NoSuchBucket"},
	} {
		for _, copy := range copySpecs {
			for _, auth := range authMethods {
				r := copy.from("x-amz-copy-source: " + row.source)
				resp, body := auth.send(g, row.name, row.key, r)
				wantDenied(t, "PUT", resp, body, row.status, row.code)
				if t.Failed() {
					t.Fatalf("at %s by %s, %s", r, row.name, auth.name)
				}
			}
			for _, more := range []string{"X-Amz-Copy-Source=", "x-amz-copy-source=", "X-AMZ-COPY-SOURCE="} {
				r := copy
				r.query = strings.TrimPrefix(r.query+"&"+more+uriEncode(row.source, true), "&")
				resp, body := g.do("PUT", r.target(), row.key, "")
				wantDenied(t, "PUT", resp, body, row.status, row.code)
			}
		}
	}
	// A source where none belongs.
	for _, target := range []string{"PUT /photos/k?tagging", "PUT /photos/k?acl", "PUT /photos?policy", "POST /photos/k?uploads", "POST /photos/k?uploadId=u",
		"POST /photos?delete", "GET /photos/k", "HEAD /photos/k", "DELETE /photos/k", "GET /photos"} {
		method, path, _ := strings.Cut(target, " ")
		resp, body := g.do(method, path, adminKey, "", "x-amz-copy-source: /photos/a")
		wantDenied(t, method, resp, body, 400, "InvalidRequest")
	}
	// A target that is not the user's, from a source that is.
	for _, bucket := range []string{"secret", "unknown", "elsewhere", "pics"} {
		resp, body := g.do("PUT", "/"+bucket+"/x", one, "", "x-amz-copy-source: photos/k")
		wantError(t, resp, body, 403, "AccessDenied")
	}
	// What a copy does not read may be no way to smuggle, either.
	for _, body := range []string{"data", deleteDocument} {
		resp, answer := g.do("PUT", "/photos/x", one, body, "x-amz-copy-source: photos/k")
		wantError(t, resp, answer, 400, "InvalidRequest")
	}
	rec.wantNone(t)
	other.wantNone(t)
}

// Spellings of a source that two parsers read differently. There is one
// parse, and what the backend gets was written anew from it, or there is nothing.
func TestCopySourceHasOneSpelling(t *testing.T) {
	g, rec, other := startAccounts(t)
	const source = "x-amz-copy-source: "
	one := roleKey("user", "photos")
	for _, header := range [][]string{
		{source + "/secret/k"}, {source + "secret%2Fk"}, {source + "%2Fsecret%2Fk"}, {source + "%2fsecret/k"}, {source + "/secret%2fk"},
		{source + "//secret/k"}, {source + "/%2Fsecret/k"}, {source + "%2F%2Fsecret/k"}, {source + "///photos/k"}, {source + "//photos/k"},
		{source + "photos/../secret/k"}, {source + "photos/%2e%2e/secret/k"}, {source + "photos/..%2fsecret%2fk"}, {source + "/photos/./k"},
		{source + "photos/safe%3FversionId%3D..%2f..%2fsecret"}, {source + "photos%2F..%2Fsecret/k"}, {source + "photos%2F%2E%2E%2Fsecret%2Fk"},
		{source + "photos/a/b"}, {source + "photos/a%2Fb"}, {source + "photos//k"}, {source + "photos/k/"}, {source + "photos/a%5Cb"}, {source + `photos\..\secret\k`},
		{source + "photos%00/k"}, {source + "photos/k%00"}, {source + "photos/k%0d%0aX-Evil:%201"}, {source + "photos/%ff"}, {source + "photos/%c0%ae%c0%ae"},
		{source + "photos/k%zz"}, {source + "photos/k%"}, {source + "photos/k%4"},
		{source + "photos/k?versionId=1&versionId=2"}, {source + "photos/k?versionId=1&acl"}, {source + "photos/k?acl"}, {source + "photos/k?"}, {source + "photos/k?versionId="},
		{source + "photos/k?VersionId=1"}, {source + "photos/k?versionid=1"}, {source + "photos/k?x=1&versionId=1"}, {source + "photos/k?versionId=%zz"}, {source + "photos/k?a?versionId=1"},
		{source + "http://secret/k"}, {source + "http://photos/k"}, {source + "s3://photos/k"}, {source + "photos.s3.example/k"},
		{source + "arn:aws:s3:us-east-1:123456789012:accesspoint/mine/object/k"}, {source + "arn:aws:s3-outposts:us-east-1:123456789012:outpost/o/object/k"},
		{source + "arn:aws:s3:::photos/k"}, {source + "PHOTOS/k"}, {source + "photos:80/k"}, {source + "photos;v=1/k"}, {source + "photos@secret/k"},
		{source + "photos"}, {source + "photos/"}, {source + "/photos/"}, {source + "photos%2F"}, {source + "/"}, {source + "%2F"}, {source + "?versionId=1"}, {source + "."}, {source + "../secret/k"}, {source},
		{source + "photos/" + strings.Repeat("k", 1025)},
		{source + "photos/k", source + "secret/k"}, {source + "secret/k", source + "photos/k"}, {source + "photos/k", source + "photos/k"}, {source + "photos/k", "X-AMZ-COPY-SOURCE:"},
		{source + "secret/k, photos/k"},
	} {
		for _, copy := range copySpecs {
			resp, body := g.do("PUT", copy.target(), one, "", header...)
			wantRefusal(t, "PUT", resp, body, "400 InvalidRequest", "400 InvalidArgument", "403 AccessDenied")
			if t.Failed() {
				t.Fatalf("at %s %q", copy.target(), header)
			}
		}
	}
	rec.wantNone(t)

	for _, row := range []struct{ source, want string }{
		{"photos/k", "photos/k"},
		{"/photos/k", "photos/k"},
		{"photos%2Fk", "photos/k"},
		{"%2Fphotos%2Fk", "photos/k"},
		{"/photos%2fk", "photos/k"},
		{"photos/%6B", "photos/k"},
		{"photos/a%20b%2Bc", "photos/a%20b%2Bc"},
		{"photos/a+b%2Bc", "photos/a%20b%2Bc"}, // a plus sign is a space
		{"photos/a b", "photos/a%20b"},
		{"photos/%E6%97%A5", "photos/%E6%97%A5"},
		{"photos/日", "photos/%E6%97%A5"},
		{"photos/100%25", "photos/100%25"},
		{"photos/%252e%252e", "photos/%252e%252e"}, // decoded once: a key with percent signs
		{"photos/k%3FversionId%3D1", "photos/k%3FversionId%3D1"},
		{"photos/k, secret", "photos/k%2C%20secret"},
		{"photos/k?versionId=1", "photos/k?versionId=1"},
		{"photos/k?versionId=a/b+c", "photos/k?versionId=a%2Fb%2Bc"},
		{"photos/k%23x?versionId=null", "photos/k%23x?versionId=null"},
		{"pics/k", "corp-pics-prod/k"},
	} {
		for _, copy := range copySpecs {
			before := requestCount(rec)
			resp, body := g.do("PUT", copy.target(), roleKey("user", "*"), "", source+row.source)
			seen := rec.requests()[before:]
			if resp.StatusCode != 200 || len(seen) != 1 || !slices.Equal(seen[0].header["X-Amz-Copy-Source"], []string{row.want}) {
				t.Errorf("%s from %q = %d %s, the backend saw %v, want the source %q", copy.target(), row.source, resp.StatusCode, body, seen, row.want)
			}
		}
	}
	other.wantNone(t)
}

// A source in another account is read with that account's credentials
// and no others, and only where both buckets are in the configuration. Between
// accounts the gateway is the reader and the writer: whatever each may not be
// asked for by a client directly, it may not be asked for by a copy.
func TestCopyBetweenAccountsUsesTheCredentialsOfEach(t *testing.T) {
	t.Run("credentials", func(t *testing.T) {
		g, main, other := startAccounts(t)
		for _, copy := range copySpecs {
			for _, row := range []struct{ target, source string }{{"photos", "elsewhere"}, {"elsewhere", "photos"}} {
				beforeMain, beforeOther := requestCount(main), requestCount(other)
				r := copy.from("x-amz-copy-source: " + row.source + "/k")
				r.path = "/" + row.target + "/x"
				resp, body := bySignature(g, "cross", crossKey, r)
				if resp.StatusCode != 200 {
					t.Fatalf("%s = %d %s, want 200", r, resp.StatusCode, body)
				}
				wantSince(t, main, beforeMain, 1)
				wantSince(t, other, beforeOther, 1)
			}
		}
		for _, check := range []struct {
			rec            *recorder
			mine, bucket   string
			theirs, theirB string
		}{
			{main, testCredentials.AccessKeyID, "/photos/", "OTHERKEYID", "elsewhere"}, {other, "OTHERKEYID", "/elsewhere/", testCredentials.AccessKeyID, "photos"},
		} {
			for _, seen := range check.rec.requests() {
				auth := seen.header.Get("Authorization")
				if !strings.Contains(auth, "Credential="+check.mine+"/") || !strings.HasPrefix(seen.uri, check.bucket) || seen.header.Get("X-Amz-Copy-Source") != "" {
					t.Errorf("an account got %s %s with %v, want its own bucket, its own credentials, and no source", seen.method, seen.uri, seen.header)
				}
				if text := fmt.Sprint(seen.uri, seen.header); strings.Contains(text, check.theirs) || strings.Contains(text, check.theirB) || strings.Contains(text, "cross") {
					t.Errorf("an account hears of another, or of the client: %s", text)
				}
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		g, main, other := startAccounts(t)
		for _, row := range []struct {
			target, source, key string
			status              int
			code                string
		}{
			{"photos", "elsewhere", roleKey("user", "photos"), 403, "AccessDenied"},
			{"elsewhere", "photos", roleKey("user", "photos"), 403, "AccessDenied"},
			{"elsewhere", "secret", crossKey, 403, "AccessDenied"},
			{"elsewhere", "notinconfig", crossKey, 403, "AccessDenied"},
			{"photos", "notinconfig", crossKey, 403, "AccessDenied"},
			{"elsewhere", "notinconfig", adminKey, 404, "NoSuchBucket"},
			{"photos", "notinconfig", adminKey, 404, "NoSuchBucket"},
			{"notinconfig", "photos", adminKey, 404, "NoSuchBucket"},
			{"elsewhere", "photos", roleKey("readonly", "*"), 403, "AccessDenied"},
		} {
			for _, copy := range copySpecs {
				copy.path = "/" + row.target + "/x"
				resp, body := g.do("PUT", copy.target(), row.key, "", "x-amz-copy-source: "+row.source+"/k")
				wantError(t, resp, body, row.status, row.code)
			}
		}
		main.wantNone(t)
		other.wantNone(t)
	})
	// Of the headers about a source, the read has the conditions, the range and
	// the customer's key, and nothing else that a client can think of.
	t.Run("headers", func(t *testing.T) {
		g, main, _ := startAccounts(t)
		for _, name := range []string{"authorization", "host", "cookie", "connection", "expect", "te", "upgrade", "x-api-key", "x-amz-date", "x-amz-security-token",
			"x-amz-content-sha256", "x-minio-source-replication-request", "x-rgw-a", "x-http-method-override", "x-forwarded-for", "x-original-url", "idempotency-key",
			"transfer-encoding", "content-length", "accept-encoding", "x-amz-acl", "proxy-authorization", "tagging"} {
			before := requestCount(main)
			g.do("PUT", "/elsewhere/x", crossKey, "", "x-amz-copy-source: photos/k", "x-amz-copy-source-"+name+": canary")
			for _, seen := range main.requests()[before:] {
				for field, values := range seen.header {
					if strings.Contains(strings.Join(values, ","), "canary") {
						t.Errorf("x-amz-copy-source-%s reached the source as %s: %q", name, field, values)
					}
				}
			}
		}
	})
	// And the target's conditions are the target's.
	t.Run("conditions", func(t *testing.T) {
		g, main, other := startAccounts(t)
		resp, body := g.do("PUT", "/elsewhere/x", crossKey, "", "x-amz-copy-source: photos/k", "If-None-Match: *", "If-Match: target", "Range: bytes=0-0",
			"x-amz-copy-source-if-match: source", "x-amz-copy-source-server-side-encryption-customer-algorithm: AES256")
		if read, written := main.requests(), other.requests(); resp.StatusCode != 200 || len(read) != 1 || len(written) != 1 {
			t.Fatalf("copy = %d %s, %d reads and %d writes, want 200, 1 and 1", resp.StatusCode, body, len(read), len(written))
		}
		checkHeaders(t, "the read", main.requests()[0].header, map[string]string{"If-None-Match": "", "If-Match": "source", "Range": "", "X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256"})
		checkHeaders(t, "the write", other.requests()[0].header, map[string]string{"If-None-Match": "*", "If-Match": "target", "X-Amz-Copy-Source-If-Match": "",
			"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm": "", "X-Amz-Server-Side-Encryption-Customer-Algorithm": ""})
	})
	// S3 has a range for the copy of a part alone: a copy of an object that is
	// silently a part of it is lost data.
	t.Run("range", func(t *testing.T) {
		object := "0123456789"
		source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(object))
		})
		deaf := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, object) }) // that ignores Range, as RFC 9110 lets it
		for _, row := range []struct {
			backend *recorder
			query   string
			span    string
			want    string // stored; "" is nothing
		}{
			{source, "?partNumber=1&uploadId=u", "bytes=2-4", "234"},
			{source, "?partNumber=1&uploadId=u", "bytes=0-9", object},
			{source, "?partNumber=1&uploadId=u", "bytes=0-10", ""}, // beyond the end: S3 refuses it
			{source, "", "bytes=2-4", ""},
			{deaf, "?partNumber=1&uploadId=u", "bytes=2-4", ""},
			{deaf, "?partNumber=1&uploadId=u", "bytes=1-10", ""}, // as long as the object
		} {
			sink := startRecorder(t, answerAsS3)
			g := startGateway(t, twoAccounts(row.backend.URL, sink.URL))
			resp, body := g.do("PUT", "/faraway/x"+row.query, userKey, "", "x-amz-copy-source: photos/k", "x-amz-copy-source-range: "+row.span)
			stored := ""
			for _, seen := range sink.requests() {
				if seen.err == nil {
					stored += seen.body
				}
			}
			if (resp.StatusCode == 200) != (row.want != "") || stored != row.want {
				t.Errorf("copy %s of %s = %d %s, stored %q, want %q", row.query, row.span, resp.StatusCode, body, stored, row.want)
			}
		}
	})
	// Metadata is copied, but no more than a client might send.
	t.Run("metadata", func(t *testing.T) {
		source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Meta-Snowball-Auto-Extract", "true")
			w.Header().Set("X-Amz-Website-Redirect-Location", "http://evil.example")
			w.Header().Set("X-Amz-Acl", "public-read")
			w.Header().Set("X-Minio-Source-Mtime", "1")
			io.WriteString(w, "an archive")
		})
		sink := startRecorder(t, nil)
		g := startGateway(t, twoAccounts(source.URL, sink.URL))
		g.do("PUT", "/faraway/x", userKey, "", "x-amz-copy-source: photos/k")
		for _, seen := range sink.requests() {
			for _, name := range []string{"X-Amz-Meta-Snowball-Auto-Extract", "X-Amz-Website-Redirect-Location", "X-Amz-Acl", "X-Minio-Source-Mtime"} {
				if value, ok := seen.header[name]; ok {
					t.Errorf("the copy carries %s: %q, which no user may send", name, value)
				}
			}
		}
	})
}

// A range that S3 refuses, and that some servers take for the whole.
func TestCopyRangeIsExact(t *testing.T) {
	g, main, other := startAccounts(t)
	for _, value := range []string{"bytes=100-0", "", " ", "bytes=", "bytes=-", "bytes=5-", "bytes=-5", "bytes=1-2,4-5", "bytes=a-b", "bytes=0x1-0x2", "bytes= 1-2",
		"bytes=+1-2", "bytes=1-+2", "bytes:1-2", "Bytes=1-2", "1-2", "octets=1-2", "bytes=1-99999999999999999999", "bytes=1.0-2", "bytes=1-2;q=1", "bytes=١-٢"} {
		for _, path := range []string{"/photos/x", "/elsewhere/x"} {
			for _, auth := range authMethods[:3] {
				r := requestSpec{method: "PUT", path: path, query: "partNumber=1&uploadId=u", header: []string{"x-amz-copy-source: photos/k", "x-amz-copy-source-range: " + value}}
				resp, body := auth.send(g, "cross", crossKey, r)
				wantDenied(t, "PUT", resp, body, 400, "InvalidArgument")
				if t.Failed() {
					t.Fatalf("at %s, %s", r, auth.name)
				}
			}
		}
	}
	resp, body := g.do("PUT", "/photos/x?partNumber=1&uploadId=u", crossKey, "", "x-amz-copy-source: photos/k", "x-amz-copy-source-range: bytes=0-1", "x-amz-copy-source-range: bytes=0-2")
	wantRefusal(t, "PUT", resp, body, "400 InvalidArgument", "400 InvalidRequest")
	main.wantNone(t)
	other.wantNone(t)
}

// A watchedDemo is the embedded server, watched: how many requests it got, and
// how many of its connections are over.
type watchedDemo struct {
	*httptest.Server
	requests, opened, ended, busy atomic.Int64
}

func startWatchedDemo(t *testing.T) *watchedDemo {
	t.Helper()
	demo, err := newDemoServer(t.TempDir(), testCredentials, "photos", "secret")
	if err != nil {
		t.Fatal(err)
	}
	d := &watchedDemo{}
	d.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.requests.Add(1)
		demo.ServeHTTP(w, r)
	}))
	var mu sync.Mutex // guards state
	state := map[net.Conn]http.ConnState{}
	d.Config.ConnState = func(conn net.Conn, now http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		old, known := state[conn]
		isBusy := func(s http.ConnState) bool { return s == http.StateNew || s == http.StateActive }
		if known && isBusy(old) {
			d.busy.Add(-1)
		}
		if isBusy(now) {
			d.busy.Add(1)
		}
		switch now {
		case http.StateNew:
			d.opened.Add(1)
		case http.StateClosed:
			d.ended.Add(1)
		}
		state[conn] = now
	}
	d.Start()
	t.Cleanup(d.Close)
	return d
}

// A brokenNetwork is a network before a backend that cuts connections, at
// points that follow from a seed.
type brokenNetwork struct {
	backend  *watchedDemo
	endpoint string

	mu     sync.Mutex // guards open and dialed
	open   map[net.Conn]bool
	dialed int64

	active atomic.Int64 // connections under way
	cuts   atomic.Int64
}

func (f *brokenNetwork) relay(random *rand.Rand, client net.Conn, r io.Reader) {
	server, err := net.Dial("tcp", f.backend.Listener.Addr().String())
	if err != nil {
		return
	}
	f.mu.Lock()
	f.dialed++
	f.open[client] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.open, client)
		f.mu.Unlock()
	}()
	up, down := random.Int64N(30_000), int64(1<<40)
	if random.IntN(2) == 0 {
		up, down = down, up
	}
	reset := random.IntN(2) == 0
	var once sync.Once
	both := make(chan struct{}, 2)
	pipe := func(to net.Conn, from io.Reader, n int64) {
		if copied, _ := io.CopyN(to, from, n); copied == n {
			f.cuts.Add(1)
		}
		once.Do(func() {
			if reset {
				client.(*net.TCPConn).SetLinger(0)
				server.(*net.TCPConn).SetLinger(0)
			}
			client.Close()
			server.Close()
		})
		both <- struct{}{}
	}
	go pipe(server, r, up)
	go pipe(client, server, down)
	<-both
	<-both
}

// settle closes every connection and waits until the backend is done with
// them all: what it has not stored now it never will.
func (f *brokenNetwork) settle(t *testing.T) {
	t.Helper()
	await(t, "the backend to be done", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for conn := range f.open {
			conn.Close()
		}
		return f.active.Load() == 0 && len(f.open) == 0 && f.backend.ended.Load() == f.dialed
	})
}

// startBrokenNetwork is a network that breaks, before an embedded server whose
// uploads may have parts of any size.
func startBrokenNetwork(t *testing.T, seed uint64, bucket string) *brokenNetwork {
	t.Helper()
	demo, err := newDemoServer(t.TempDir(), testCredentials, bucket)
	if err != nil {
		t.Fatal(err)
	}
	demo.minPart = 1
	f := &brokenNetwork{backend: &watchedDemo{}, open: map[net.Conn]bool{}}
	f.backend.Server = httptest.NewUnstartedServer(demo)
	f.backend.Config.ConnState = func(_ net.Conn, now http.ConnState) {
		if now == http.StateClosed {
			f.backend.ended.Add(1)
		}
	}
	f.backend.Start()
	t.Cleanup(f.backend.Close)
	f.endpoint = startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		f.active.Add(1)
		defer f.active.Add(-1)
		f.relay(rand.New(rand.NewPCG(seed, uint64(n))), conn, r)
	})
	return f
}

// Many of them, one after
// another, in two accounts, through networks that break, against a map. After an
// error an object is the old one or the new one, never a part or a mix.
func TestCopiesAndPartsStayWholeOverBrokenNetwork(t *testing.T) {
	const absent = "\x00absent"
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			near, far := startBrokenNetwork(t, seed, "photos"), startBrokenNetwork(t, seed+100, "faraway")
			mode := trailerModes[seed%2]
			g := startGateway(t, testConfig(near.endpoint,
				with("accounts.main.buckets", []any{"photos"}), with("accounts.main.trailing_checksums", mode),
				with("accounts.other", map[string]any{
					"endpoint_url": far.endpoint, "access_key_id": testCredentials.AccessKeyID, "secret_access_key": testCredentials.SecretAccessKey,
					"buckets": []any{"faraway"}, "trailing_checksums": mode,
				}), with("users.user.allowed_buckets", []any{"photos", "faraway"})))
			random := rand.New(rand.NewPCG(seed, 8989))
			paths := []string{"/photos/a", "/photos/b", "/faraway/a", "/faraway/b"}
			model := map[string][]string{} // what may be there
			for _, path := range paths {
				model[path] = []string{absent}
			}
			settle := func() { near.settle(t); far.settle(t) }
			whole := func(resp *http.Response) bool { return resp.StatusCode == 200 && resp.Header.Get("Test-Error") == "" }
			read := func(path string) bool {
				resp, body := g.do("GET", path, userKey, "")
				value := absent
				switch {
				case whole(resp):
					value = body
				case resp.StatusCode == 404:
				case resp.StatusCode == 200 || resp.StatusCode == 502 || resp.StatusCode == 0:
					return false
				default:
					t.Fatalf("GET = %d %s, want 200, 404 or 502", resp.StatusCode, body)
				}
				if !slices.Contains(model[path], value) {
					t.Fatalf("%s has %d bytes that are none of the %d objects it may be", path, len(value), len(model[path]))
				}
				model[path] = []string{value}
				return true
			}
			// wrote notes what may be at a path after a write: one of these values.
			wrote := func(path string, done bool, values ...string) bool {
				if done {
					model[path] = values
				} else {
					model[path] = append(model[path], values...)
				}
				return done
			}
			// put sends a value, in frames or not, with either authentication method.
			put := func(target, value string) (*http.Response, string) {
				if random.IntN(4) == 0 {
					return g.do("PUT", target, userKey, value)
				}
				d := chunkedUploads[random.IntN(len(chunkedUploads))]
				to, lines, chain := d.open(target, len(value))
				cut := len(value) / 2
				chunks := []string{value}
				if cut > 8192 {
					chunks = []string{value[:cut], value[cut:]}
				} else if value == "" {
					chunks = nil
				}
				return sendUpload(g, to, lines, strings.Join(framePayload(d.framing, chain, chunks...), ""), "length", 0)
			}
			failed, copied, completed := 0, 0, 0
			for range 250 {
				path := paths[random.IntN(len(paths))]
				ok := true
				size := random.IntN(6000)
				if random.IntN(8) == 0 {
					size = 90_000
				}
				switch random.IntN(6) {
				case 0, 1:
					value := bytesOf(random.Uint64(), size)
					resp, _ := put(path, value)
					ok = wrote(path, whole(resp), value)
				case 2:
					resp, _ := g.do("DELETE", path, userKey, "")
					ok = wrote(path, resp.StatusCode == 204, absent)
				case 3:
					ok = read(path)
				case 4:
					source := paths[random.IntN(len(paths))]
					if source == path { // S3 refuses a copy that changes nothing
						continue
					}
					values := slices.DeleteFunc(slices.Clone(model[source]), func(v string) bool { return v == absent })
					resp, body := g.do("PUT", path, userKey, "", "x-amz-copy-source: "+source)
					done := whole(resp) && strings.Contains(body, "<CopyObjectResult")
					if resp.StatusCode == 404 && slices.Contains(model[source], absent) {
						model[source] = []string{absent}
						continue
					}
					if done && len(values) == 0 {
						t.Fatalf("a copy of nothing = %d %s", resp.StatusCode, body)
					}
					if ok = wrote(path, done, values...); ok {
						copied++
					}
				case 5:
					resp, body := g.do("POST", path+"?uploads", userKey, "")
					id := regexp.MustCompile("<UploadId>([^<]+)</UploadId>").FindStringSubmatch(body)
					if ok = whole(resp) && id != nil; !ok {
						break
					}
					all, list := "", ""
					for n := 1; n <= 3 && ok; n++ {
						part := bytesOf(random.Uint64(), size)
						// A part that was cut is sent again, with other bytes.
						for range 4 {
							var resp *http.Response
							if resp, _ = put(fmt.Sprintf("%s?partNumber=%d&uploadId=%s", path, n, id[1]), part); whole(resp) {
								all += part
								list += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", n, resp.Header.Get("Etag"))
								ok = true
								break
							}
							ok = false
							settle()
							part = bytesOf(random.Uint64(), size/2)
						}
					}
					if !ok {
						break
					}
					resp, body = g.do("POST", path+"?uploadId="+id[1], userKey, "<CompleteMultipartUpload>"+list+"</CompleteMultipartUpload>")
					done := whole(resp) && strings.Contains(body, "<CompleteMultipartUploadResult")
					if ok = wrote(path, done, all); ok {
						completed++
					}
				}
				if !ok {
					failed++
					settle()
				}
			}
			for _, path := range paths {
				for tries := 0; !read(path); tries++ {
					if tries == 50 {
						t.Fatalf("%s could not be read in 50 tries", path)
					}
				}
			}
			if failed == 0 || copied == 0 || completed == 0 || near.cuts.Load() == 0 || far.cuts.Load() == 0 {
				t.Errorf("%d operations failed, %d copies and %d uploads in parts did not, %d and %d connections were cut; want some of each", failed, copied, completed, near.cuts.Load(), far.cuts.Load())
			}
		})
	}
}
