package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
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

// twoAccounts is a configuration with a bucket at each of two backends, and one
// whose name behind is another.
func twoAccounts(here, there string) map[string]any {
	return testConfig(here,
		with("accounts.other", map[string]any{
			"endpoint_url": there, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary",
			"buckets": []any{"faraway"},
		}),
		with("accounts.main.buckets", []any{"photos", "secret", map[string]any{"name": "pics", "bucket": "corp-pics-prod"}}),
		with("users.user.allowed_buckets", []any{"photos", "pics", "faraway"}))
}

// Within an account the backend copies, from a source that was written anew with
// the name behind.
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

// Between accounts the gateway reads from one and writes to the other.
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

// A source that breaks off stores nothing, one that is too large is not begun.
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

// An answer whose status or length is not that of the source stores nothing: it would be
// stored as the whole object, or the whole part.
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

// A target that stores under 200 may have an error in its answer, as any server may.
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
