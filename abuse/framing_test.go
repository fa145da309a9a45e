package abuse

// Where one message ends and the next begins. A proxy and its peers that disagree about
// an end run the bytes of one request as another.

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// smuggled is a request that must never be run: it is inside another.
const smuggled = "GET /secret/smuggled HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + adminKey + "\r\n\r\n"

// lastRequest is the next request on a connection, and the last.
const lastRequest = "GET /photos/end HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + readOnlyKey + "\r\nConnection: close\r\n\r\n"

// The server of net/http ignores the chunks of an HTTP/1.0 request and would run them
// as the next one. There must be no next one.
func TestChunksOfOldVersionAreNotTheNextRequest(t *testing.T) {
	for _, method := range []string{"PUT", "POST", "GET", "DELETE"} {
		t.Run(method, func(t *testing.T) {
			rec := startRecorder(t, nil)
			g := startGateway(t, testConfig(rec.URL))
			answers := g.answersUntilClose(method + " /photos/k HTTP/1.0\r\nHost: h\r\nX-Api-Key: " + userKey +
				"\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" +
				fmt.Sprintf("%x\r\n", len(smuggled)) + smuggled + "\r\n0\r\n\r\n" + smuggled)
			if len(answers) != 1 || !answers[0].Close {
				t.Fatalf("%d answers %v, want one, and the connection closed", len(answers), answers)
			}
			wantError(t, answers[0].Response, answers[0].text, 411, "MissingContentLength")
			if seen := rec.requests(); len(seen) > 0 {
				t.Errorf("the backend saw %v, want nothing", seen)
			}
		})
	}
}

// Net/http gives a request without any framing the length 0. To store
// that would put an empty object in the place of the old one.
func TestUploadWithoutLengthIsRefused(t *testing.T) {
	backend := startStore(t)
	g := startGateway(t, testConfig(backend.URL))
	g.do("PUT", "/photos/k", userKey, "old")
	before := backend.requests.Load()
	for _, row := range []struct{ request, code string }{
		{"PUT /photos/k HTTP/1.1\r\nHost: h\r\n", "MissingContentLength"},
		{"PUT /photos/k HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", "MissingContentLength"},
		{"PUT /photos/k HTTP/1.0\r\n", "MissingContentLength"},
		{"PUT /photos/k HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n", "MissingContentLength"},
		{"PUT /photos/k HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n", "MissingContentLength"},
		{"PUT /photos/k HTTP/1.1\r\nHost: h\r\nx-amz-decoded-content-length: 4\r\n", "MissingContentLength"},
		{"PUT /photos/k HTTP/1.1\r\nHost: h\r\nContent_Length: 4\r\n", "MissingContentLength"},
		{"PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Content-Length: 4\r\n", "MissingContentLength"},
		{"POST /photos/k HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", "MethodNotAllowed"},
		{"POST /photos/k HTTP/1.0\r\n", "MethodNotAllowed"},
		{"POST /photos HTTP/1.0\r\n", "NotImplemented"}, // a form
		{"PUT /photos/k?partNumber=1&uploadId=a HTTP/1.0\r\n", "MissingContentLength"},
		{"PUT /photos/k?tagging HTTP/1.0\r\n", "MissingContentLength"},
		{"POST /photos?delete HTTP/1.1\r\nHost: h\r\nConnection: close\r\n", "MissingContentLength"},
		{"POST /photos/k?uploadId=a HTTP/1.0\r\n", "MissingContentLength"},
	} {
		answers := g.answersUntilClose(row.request + "X-Api-Key: " + userKey + "\r\n\r\nnew!")
		if len(answers) != 1 {
			t.Fatalf("%q: %d answers, want one and the connection closed", row.request, len(answers))
		}
		wantRefusal(t, "PUT", answers[0].Response, answers[0].text, "411 MissingContentLength", "405 MethodNotAllowed", "501 NotImplemented")
		if !strings.Contains(answers[0].text, row.code) {
			t.Errorf("%q: answer %s, want %s", row.request, answers[0].text, row.code)
		}
	}
	if now := backend.requests.Load(); now != before {
		t.Errorf("the backend got %d requests, want none", now-before)
	}
	if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != "old" {
		t.Errorf("GET = %d %q, want the old object", resp.StatusCode, body)
	}
	// A length of 0 that is declared is an empty object, as wanted.
	if resp, _ := g.do("PUT", "/photos/empty", userKey, ""); resp.StatusCode != 200 {
		t.Errorf("PUT with Content-Length: 0 = %d, want 200", resp.StatusCode)
	}
}

// Everything that is known to make two parsers disagree about where a
// request ends. Each row is one write, followed by another request; the answers
// on that connection and what the backend saw are fixed, and a request that
// hides in a body is in neither. RFC 9112 is the judge. The rows answered 400,
// 417, 431, 501 or 505 without our headers are net/http's.
func TestEndOfRequestIsNotAmbiguous(t *testing.T) {
	const (
		next   = iota // the connection is kept: the following request is answered
		closed        // it is closed: the following bytes are nobody's
		either
		broken      // it is kept, but the row goes on with what is no request
		thenRefused // it is kept, and the row goes on with what is refused and closes it
	)
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	get := func(header, body string) string {
		return "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n" + header + "\r\n" + body
	}
	put := func(header, body string) string {
		return "PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n" + header + "\r\n" + body
	}
	line := func(requestLine string) string {
		return requestLine + "\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\n\r\n"
	}
	const (
		chunked     = "Transfer-Encoding: chunked\r\n"
		hello       = "5\r\nhello\r\n0\r\n\r\n"
		putK, getK  = "PUT /photos/k hello", "GET /photos/k "
		bloat       = 300 << 10 // more than the 256 KiB that net/http drains
		evilHeaders = "Host: h\r\nX-Api-Key: " + userKey + "\r\n"
	)
	rows := []struct {
		name   string
		wire   string
		status int // 0: no answer but the close
		then   int
		seen   string // by the backend, with its body
	}{
		// Content-Length: RFC 9110 section 8.6.
		{"a length", put("Content-Length: 5\r\n", "hello"), 200, next, putK},
		{"a length with space around", put("Content-Length: \t 5 \t\r\n", "hello"), 200, next, putK},
		{"a length with zeros before", put("Content-Length: 0005\r\n", "hello"), 200, next, putK},
		{"a length in capitals", put("CONTENT-LENGTH: 5\r\n", "hello"), 200, next, putK},
		{"the same length twice", put("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400, closed, ""},
		{"two lengths, the shorter first", put("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"), 400, closed, ""},
		{"two lengths, the longer first", put("Content-Length: 6\r\nContent-Length: 5\r\n", "hello"), 400, closed, ""},
		{"two lengths, one of them 0", put("Content-Length: 0\r\nContent-Length: 5\r\n", "hello"), 400, closed, ""},
		{"length +5", put("Content-Length: +5\r\n", "hello"), 400, closed, ""},
		{"length -1", put("Content-Length: -1\r\n", "hello"), 400, closed, ""},
		{"length -0", put("Content-Length: -0\r\n", "hello"), 400, closed, ""},
		{"length 0x5", put("Content-Length: 0x5\r\n", "hello"), 400, closed, ""},
		{"length 5.0", put("Content-Length: 5.0\r\n", "hello"), 400, closed, ""},
		{"length 5e0", put("Content-Length: 5e0\r\n", "hello"), 400, closed, ""},
		{"length 0_5", put("Content-Length: 0_5\r\n", "hello"), 400, closed, ""},
		{"length 5 5", put("Content-Length: 5 5\r\n", "hello"), 400, closed, ""},
		{"length 5;", put("Content-Length: 5;\r\n", "hello"), 400, closed, ""},
		{"length five", put("Content-Length: five\r\n", "hello"), 400, closed, ""},
		{"length in Arabic digits", put("Content-Length: ٥\r\n", "hello"), 400, closed, ""},
		{"length empty", put("Content-Length:\r\n", "hello"), 400, closed, ""},
		{"length a list of equals", put("Content-Length: 5, 5\r\n", "hello"), 400, closed, ""},
		{"length a list", put("Content-Length: 5, 6\r\n", "hello"), 400, closed, ""},
		{"length with a vertical tab", put("Content-Length: \v5\r\n", "hello"), 400, closed, ""},
		{"length 2^63", put("Content-Length: 9223372036854775808\r\n", "hello"), 400, closed, ""},
		{"length 2^64+5", put("Content-Length: 18446744073709551621\r\n", "hello"), 400, closed, ""},
		{"length 2^63-1", put("Content-Length: 9223372036854775807\r\n", "hello"), 413, closed, ""},
		{"a GET with a body", get("Content-Length: 5\r\n", "hello"), 200, next, getK},
		{"a GET with a request for a body", get(fmt.Sprintf("Content-Length: %d\r\n", len(smuggled)), smuggled), 200, next, getK},
		{"a GET with a large body", get(fmt.Sprintf("Content-Length: %d\r\n", bloat), strings.Repeat("x", bloat)), 200, closed, getK},
		{"a GET without a length, and bytes", get("", "hello\r\n\r\n"), 200, broken, getK},

		// Transfer-Encoding: RFC 9112 section 6.
		{"chunks", put(chunked, hello), 411, closed, ""},
		{"chunks with a request inside", put(chunked, fmt.Sprintf("%x\r\n", len(smuggled))+smuggled+"\r\n0\r\n\r\n"), 411, closed, ""},
		{"Chunked", put("Transfer-Encoding: Chunked\r\n", hello), 411, closed, ""},
		{"chunked after a tab", put("Transfer-Encoding:\tchunked\r\n", hello), 411, closed, ""},
		{"xchunked", put("Transfer-Encoding: xchunked\r\n", hello), 501, closed, ""},
		{"chunked;q=1", put("Transfer-Encoding: chunked;q=1\r\n", hello), 501, closed, ""},
		{"gzip, chunked", put("Transfer-Encoding: gzip, chunked\r\n", hello), 501, closed, ""},
		{"chunked, gzip", put("Transfer-Encoding: chunked, gzip\r\n", hello), 501, closed, ""},
		{"chunked, chunked", put("Transfer-Encoding: chunked, chunked\r\n", hello), 501, closed, ""},
		{"chunked,", put("Transfer-Encoding: chunked,\r\n", hello), 501, closed, ""},
		{"chunked twice", put(chunked+chunked, hello), 501, closed, ""},
		{"chunked and identity", put(chunked+"Transfer-Encoding: identity\r\n", hello), 501, closed, ""},
		{"identity", put("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello"), 501, closed, ""},
		{"an empty encoding", put("Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello"), 501, closed, ""},
		{"chunked in quotes", put("Transfer-Encoding: \"chunked\"\r\n", hello), 501, closed, ""},
		{"chunked after a vertical tab", put("Transfer-Encoding: \vchunked\r\n", hello), 400, closed, ""},
		{"Transfer_Encoding", put("Transfer_Encoding: chunked\r\n", hello), 411, closed, ""},
		{"chunked and a length", put(chunked+"Content-Length: 5\r\n", hello), 400, closed, ""},
		{"a length and chunked", put("Content-Length: 5\r\n"+chunked, hello), 400, closed, ""},
		{"a bad length and chunked", put("Content-Length: x\r\n"+chunked, hello), 400, closed, ""},
		// Section 6.1: a server may reject it, and "MUST close the connection after responding".
		{"a GET with both", get("Content-Length: 5\r\n"+chunked, "0\r\n\r\n"), 400, closed, ""},
		{"a DELETE with both", strings.Replace(get(chunked+"Content-Length: 0\r\n", hello), "GET", "DELETE", 1), 400, closed, ""},
		{"a GET with both, after a health check", "GET /-/healthy HTTP/1.1\r\nHost: h\r\n\r\n" + get("Content-Length: 5\r\n"+chunked, "0\r\n\r\n"), 200, thenRefused, ""},

		// Chunks: RFC 9112 section 7.1. The body of a GET is read only to find its end.
		{"good chunks", get(chunked, hello), 200, either, getK},
		{"good chunks with an extension", get(chunked, "5;a=b\r\nhello\r\n0\r\n\r\n"), 200, either, getK},
		{"a bare LF after the size", get(chunked, "5\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"a bare LF in an extension", get(chunked, "5;\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"a bare LF at the end of an extension", get(chunked, "2;a\nxx\r\n"+fmt.Sprintf("%x", 4+len(smuggled))+"\r\n0\r\n\r\n"+smuggled+"\r\n0\r\n\r\n"), 200, closed, getK},
		{"a bare LF after the data", get(chunked, "5\r\nhello\n0\r\n\r\n"), 200, closed, getK},
		{"a bare CR after the size", get(chunked, "5\rhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"no CRLF after the data", get(chunked, "5\r\nhello0\r\n\r\n"), 200, closed, getK},
		{"size -5", get(chunked, "-5\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"size 0x5", get(chunked, "0x5\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"size +5", get(chunked, "+5\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"no size", get(chunked, "\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"a bare LF at the end of a trailer", get(chunked, "0\r\nA: b\n\r\n"), 200, thenRefused, getK},
		{"a bare LF at the end of the trailers", get(chunked, "0\r\nA: b\n\n"+smuggled), 200, thenRefused, getK},
		{"a folded trailer", get(chunked, "0\r\nA: b\r\n c\r\n\r\n"), 200, thenRefused, getK},
		{"a size of 17 digits", get(chunked, "10000000000000005\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"much extension for little data", get(chunked, strings.Repeat("1;"+strings.Repeat("x", 2000)+"\r\na\r\n", 60)+"0\r\n\r\n"), 200, closed, getK},
		{"an extension of 8 KiB", get(chunked, "5;"+strings.Repeat("x", 8<<10)+"\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"chunks that do not end", get(chunked, "5\r\nhello\r\n"), 200, closed, getK},

		// Header lines: RFC 9112 section 5.
		{"a space before the colon of Transfer-Encoding", put("Transfer-Encoding : chunked\r\nContent-Length: 5\r\n", hello), 400, closed, ""},
		{"a space before the colon of Content-Length", put("Content-Length : 5\r\n", "hello"), 400, closed, ""},
		{"a tab before the colon", put("Content-Length\t: 5\r\n", "hello"), 400, closed, ""},
		{"a space in a name", put("Content Length: 5\r\n", "hello"), 400, closed, ""},
		{"a space before the first name", "GET /photos/k HTTP/1.1\r\n Host: h\r\nX-Api-Key: " + userKey + "\r\n\r\n", 400, closed, ""},
		{"no colon", get("garbage\r\n", ""), 400, closed, ""},
		{"no name", get(": value\r\n", ""), 400, closed, ""},
		{"a name with NUL", get("X-\x00A: 1\r\n", ""), 400, closed, ""},
		{"a name with a letter of Unicode", put("Cöntent-Length: 5\r\n", "hello"), 400, closed, ""},
		{"a name with a hyphen of Unicode", put("Content\u2010Length: 5\r\n", "hello"), 400, closed, ""},
		{"a name with a Kelvin sign", "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-\u212aey: " + userKey + "\r\n\r\n", 400, closed, ""},
		{"a value with NUL", get("X-A: a\x00b\r\n", ""), 400, closed, ""},
		{"a value with a bare CR", get("X-A: a\rX-B: b\r\n", ""), 400, closed, ""},
		{"a value with a bell", get("X-A: \a\r\n", ""), 400, closed, ""},
		{"a folded length", put("Content-Length:\r\n 5\r\n", "hello"), 400, closed, ""},
		{"a folded encoding", put("Transfer-Encoding:\r\n chunked\r\n", hello), 400, closed, ""},
		{"a fold that hides an encoding", put("X-A: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "hello"), 400, closed, ""},
		{"a fold after a tab", get("X-A: a\r\n\tb\r\n", ""), 400, closed, ""},
		{"a folded key", "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey[:5] + "\r\n " + userKey[5:] + "\r\n\r\n", 400, closed, ""},
		{"a key with a byte above 0x7f", "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\xa0\r\n\r\n", 401, next, ""},
		{"bare LF for line ends", strings.ReplaceAll(get("", ""), "\r\n", "\n"), 400, closed, ""},
		{"a bare LF after a header", get("X-A: a\n", ""), 400, closed, ""},
		{"a bare LF after the request line", strings.Replace(get("", ""), "\r\n", "\n", 1), 400, closed, ""},
		{"a bare LF for the empty line", strings.TrimSuffix(get("", ""), "\r\n") + "\n", 400, closed, ""},
		{"bare CR for line ends", strings.ReplaceAll(get("", ""), "\r\n", "\r"), 400, closed, ""},
		{"a head of 64 KiB", get("X-A: "+strings.Repeat("a", 64<<10)+"\r\n", ""), 431, closed, ""},
		{"10 000 lines", get(strings.Repeat("a: b\r\n", 10_000), ""), 431, closed, ""},
		{"an expectation that is none of ours", put("Expect: 200-ok\r\nContent-Length: 5\r\n", "hello"), 417, closed, ""},

		// Host: RFC 9112 section 3.2.
		{"no host", "GET /photos/k HTTP/1.1\r\nX-Api-Key: " + userKey + "\r\n\r\n", 400, closed, ""},
		{"two hosts", get("Host: other\r\n", ""), 400, closed, ""},
		{"the same host twice", get("Host: h\r\n", ""), 400, closed, ""},
		{"a host with a space", "GET /photos/k HTTP/1.1\r\nHost: a b\r\nX-Api-Key: " + userKey + "\r\n\r\n", 400, closed, ""},
		{"a host with a slash", "GET /photos/k HTTP/1.1\r\nHost: a/b\r\nX-Api-Key: " + userKey + "\r\n\r\n", 400, closed, ""},
		{"a host with a user", "GET /photos/k HTTP/1.1\r\nHost: a@b\r\nX-Api-Key: " + userKey + "\r\n\r\n", 400, closed, ""},
		{"an empty host", "GET /photos/k HTTP/1.1\r\nHost:\r\nX-Api-Key: " + userKey + "\r\n\r\n", 200, next, getK},
		{"HTTP/1.0 without a host", "GET /photos/k HTTP/1.0\r\nX-Api-Key: " + userKey + "\r\n\r\n", 200, closed, getK},

		// The request line: RFC 9112 section 3.
		{"HTTP/0.9", "GET /photos/k\r\n", 400, closed, ""},
		{"HTTP/0.9, with a version", line("GET /photos/k HTTP/0.9"), 505, closed, ""},
		{"HTTP/1.2", line("GET /photos/k HTTP/1.2"), 200, closed, getK},
		{"HTTP/2.0", line("GET /photos/k HTTP/2.0"), 505, closed, ""},
		{"HTTP/1.10", line("GET /photos/k HTTP/1.10"), 400, closed, ""},
		{"http/1.1", line("GET /photos/k http/1.1"), 400, closed, ""},
		{"no version", line("GET /photos/k HTTP"), 400, closed, ""},
		{"a space after the version", line("GET /photos/k HTTP/1.1 "), 400, closed, ""},
		{"two spaces before the target", line("GET  /photos/k HTTP/1.1"), 400, closed, ""},
		{"two spaces after the target", line("GET /photos/k  HTTP/1.1"), 400, closed, ""},
		{"a space in the target", line("GET /photos/a b HTTP/1.1"), 400, closed, ""},
		{"tabs", line("GET\t/photos/k\tHTTP/1.1"), 400, closed, ""},
		{"a space before the method", line(" GET /photos/k HTTP/1.1"), 400, closed, ""},
		{"an empty line before", line("\r\nGET /photos/k HTTP/1.1"), 400, closed, ""},
		{"a method that is not a token", line("G(T /photos/k HTTP/1.1"), 400, closed, ""},
		{"a method in lower case", line("put /photos/k HTTP/1.1"), 405, next, ""},
		{"a method nobody knows", line("P!T /photos/k HTTP/1.1"), 405, next, ""},
		{"NUL in the target", line("GET /photos/a\x00b HTTP/1.1"), 400, closed, ""},
		{"a control character in the target", line("GET /photos/a\x01b HTTP/1.1"), 400, closed, ""},
		{"a byte above 0x7f in the target", line("GET /photos/\xff HTTP/1.1"), 400, next, ""},
		{"a fragment", line("GET /photos/k#x HTTP/1.1"), 400, next, ""},
		{"a target without a slash", line("GET photos/k HTTP/1.1"), 400, closed, ""},
		{"an absolute target, whose host counts for nothing", line("GET http://evil.example/photos/k HTTP/1.1"), 200, next, getK},
		{"*", line("GET * HTTP/1.1"), 400, next, ""},
		{"OPTIONS *", line("OPTIONS * HTTP/1.1"), 400, next, ""},
		{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n" + evilHeaders + "\r\nSM\r\n\r\n", 400, broken, ""},
	}
	if len(rows) < 60 {
		t.Errorf("%d rows, want at least 60", len(rows))
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			before := len(rec.requests())
			answers := g.answersUntilClose(row.wire + lastRequest)
			var statuses []int
			for _, a := range answers {
				statuses = append(statuses, a.StatusCode)
			}
			kept := []int{row.status, 200}
			want := map[int][][]int{next: {kept}, closed: {{row.status}}, either: {kept, {row.status}}, broken: {{row.status, 400}}, thenRefused: {{row.status, 400}}}[row.then]
			if !slices.ContainsFunc(want, func(w []int) bool { return slices.Equal(w, statuses) }) {
				t.Errorf("answers %v, want %v", statuses, want)
			}
			var seen []string
			for _, r := range rec.requests()[before:] {
				seen = append(seen, r.method+" "+r.uri+" "+r.body)
			}
			var wantSeen []string
			if row.seen != "" {
				wantSeen = append(wantSeen, row.seen)
			}
			if len(statuses) == 2 && row.then != broken && row.then != thenRefused {
				wantSeen = append(wantSeen, "GET /photos/end ")
			}
			if !slices.Equal(seen, wantSeen) {
				t.Errorf("the backend saw %q, want %q", seen, wantSeen)
			}
		})
	}
}

// The body of a request that was refused is nobody's request: either it
// is read to its end and forgotten, or the connection is closed.
func TestRefusedBodyIsNotTheNextRequest(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("max_file_size", 512<<10)))
	for _, size := range []int{1, 100, 2000, 10000} {
		body := strings.Repeat(smuggled, size) // 90 bytes to 900 KB
		for _, row := range []struct {
			request string
			status  int
		}{
			{"PUT /photos/k HTTP/1.1\r\n", 401},
			{"PUT /photos/k HTTP/1.1\r\nX-Api-Key: nobody-has-this-key\r\n", 401},
			{"PUT /photos/k HTTP/1.1\r\nX-Api-Key: " + readOnlyKey + "\r\n", 403},
			{"PUT /secret/k HTTP/1.1\r\nX-Api-Key: " + userKey + "\r\n", 403},
			{"PUT /photos/../k HTTP/1.1\r\nX-Api-Key: " + userKey + "\r\n", 400},
			{"PUT /photos/k?acl HTTP/1.1\r\nX-Api-Key: " + userKey + "\r\n", 403},
			{"PUT /photos/k?append HTTP/1.1\r\nX-Api-Key: " + userKey + "\r\n", 501},
			{"POST /photos HTTP/1.1\r\nX-Api-Key: " + userKey + "\r\n", 501},
			{"POST /photos/k HTTP/1.1\r\nX-Api-Key: " + userKey + "\r\n", 405},
			{"BREW /photos/k HTTP/1.1\r\nX-Api-Key: " + userKey + "\r\n", 405},
			{"PUT /photos/k HTTP/1.1\r\nX-Amz-Content-Sha256: x\r\nX-Api-Key: " + userKey + "\r\n", 400},
			{"PUT /photos/k HTTP/1.1\r\nx-minio-a: 1\r\nX-Api-Key: " + userKey + "\r\n", 400},
		} {
			if strings.Contains(row.request, "Sha256: x") && len(body) > 512<<10 {
				continue // 413
			}
			if strings.Contains(row.request, "x-minio") && len(body) > 512<<10 {
				continue // 413
			}
			answers := g.answersUntilClose(row.request + fmt.Sprintf("Host: h\r\nContent-Length: %d\r\n\r\n", len(body)) + body + lastRequest)
			var statuses []int
			for _, a := range answers {
				statuses = append(statuses, a.StatusCode)
			}
			if !slices.Equal(statuses, []int{row.status}) && !slices.Equal(statuses, []int{row.status, 200}) {
				t.Fatalf("%q and %d bytes: answers %v, want %d and at most the next request's 200", row.request, len(body), statuses, row.status)
			}
			wantRefusal(t, "PUT", answers[0].Response, answers[0].text, refusalCodes(row.status)...)
			if len(body) < 200<<10 && len(statuses) != 2 {
				t.Errorf("%q and %d bytes: the connection was closed, want it kept", row.request, len(body))
			}
		}
	}
	// A body that never comes must not keep the client from its answer.
	g = startGateway(t, testConfig(rec.URL, with("server.idle_timeout", "300ms")))
	resp, text := cutUpload(g, "PUT /secret/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: "+userKey+"\r\nContent-Length: 100\r\n\r\n", "x", 1, "stall")
	if resp.StatusCode != 403 {
		t.Errorf("PUT whose body never comes: answer %d, want 403", resp.StatusCode)
	} else {
		wantError(t, resp, text, 403, "AccessDenied")
	}
	for _, r := range rec.requests() {
		if r.uri != "/photos/end" {
			t.Fatalf("the backend saw %s %s, which was inside a refused body", r.method, r.uri)
		}
	}
}

func refusalCodes(status int) []string {
	return map[int][]string{
		400: {"400 InvalidRequest", "400 InvalidArgument", "400 InvalidURI"}, 401: {"401 Unauthorized"}, 403: {"403 AccessDenied"},
		405: {"405 MethodNotAllowed"}, 501: {"501 NotImplemented"},
	}[status]
}

// A backend whose answers are malformed gets a 502, or is understood
// and its answer written anew. What it sends beyond an answer's end is never
// the beginning of another's.
func TestMalformedAnswerIsRefusedOrWrittenAnew(t *testing.T) {
	const (
		evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
		ok   = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n"
	)
	for _, row := range []struct {
		name     string
		answer   string
		status   int
		body     string
		mayReuse bool // the end of the answer was where it should be
	}{
		{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, "hello", true},
		{"a body after 204", "HTTP/1.1 204 No Content\r\n\r\n" + evil, 204, "", false},
		{"a declared body after 204", "HTTP/1.1 204 No Content\r\nContent-Length: 63\r\n\r\n" + evil, 204, "", false},
		{"a body after 304", "HTTP/1.1 304 Not Modified\r\n\r\n" + evil, 304, "", false},
		{"bytes after the length", ok + "\r\nhello" + evil, 200, "hello", false},
		{"bytes after the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + evil, 200, "hello", false},
		{"ten informational answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 10) + ok + "\r\nhello", 200, "hello", true},
		{"a flood of informational answers", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 10_000), 502, "", false},
		{"101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" + evil, 502, "", false},
		{"status 099", "HTTP/1.1 099 Low\r\nContent-Length: 5\r\n\r\nhello", 502, "", false},
		{"status 999", "HTTP/1.1 999 High\r\nContent-Length: 5\r\n\r\nhello", 502, "", false},
		{"status 600", "HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n", 502, "", true},
		{"status 2000", "HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello", 502, "", false},
		{"status abc", "HTTP/1.1 abc OK\r\nContent-Length: 5\r\n\r\nhello", 502, "", false},
		{"status -20", "HTTP/1.1 -20 OK\r\nContent-Length: 5\r\n\r\nhello", 502, "", false},
		{"a bare CR in a value", ok + "X-Amz-Meta-A: a\rSet-Cookie: evil=1\r\n\r\nhello", 200, "hello", true},
		{"NUL in a value", ok + "X-Amz-Meta-A: a\x00b\r\n\r\nhello", 200, "hello", true},
		{"a folded value", ok + "X-Amz-Meta-A: a\r\n b\r\n\r\nhello", 200, "hello", true},
		{"a space before the colon", ok + "X-Amz-Meta-A : a\r\n\r\nhello", 200, "hello", true},
		{"no colon", ok + "garbage\r\n\r\nhello", 502, "", false},
		{"a name that is no token", ok + "X-Amz-Meta-(): a\r\n\r\nhello", 200, "hello", true},
		{"20 MB of headers", ok + strings.Repeat("X-Amz-Meta-A: "+strings.Repeat("a", 1000)+"\r\n", 20_000) + "\r\nhello", 502, "", false},
		{"two lengths", ok + "Content-Length: 6\r\n\r\nhello!", 502, "", false},
		{"length +5", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", 502, "", false},
		{"length -1", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello", 502, "", false},
		{"gzip, chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 502, "", false},
		{"HTML without a head", "<html>hello</html>\r\n\r\n", 502, "", false},
		{"HTTP/1.1 alone", "HTTP/1.1\r\n\r\n", 502, "", false},
		{"a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Set-Cookie\r\n\r\n5\r\nhello\r\n0\r\nSet-Cookie: evil=1\r\n\r\n", 200, "hello", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var mu sync.Mutex // guards after
			after := 0        // requests on a connection that has served the row
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				for served := false; ; {
					line, _, err := readHead(r)
					if err != nil {
						return
					}
					if served {
						mu.Lock()
						after++
						mu.Unlock()
					}
					if strings.HasPrefix(line, "GET /photos/bad ") {
						served = true
						io.WriteString(conn, row.answer)
					} else {
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
					}
				}
			})
			g := startGateway(t, testConfig(endpoint))
			conn := g.dial()
			defer conn.Close()
			io.WriteString(conn, "GET /photos/bad HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Api-Key: "+userKey+"\r\n\r\n")
			wire, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			resp, body := readAnswer(t, "GET", bytes.NewReader(wire))
			if resp.Header.Get("Test-Error") != "" {
				t.Errorf("the answer breaks off: %s", resp.Header.Get("Test-Error"))
			}
			checkHardened(t, resp)
			switch {
			case resp.StatusCode == 502:
				wantError(t, resp, body, 502, "BadGateway")
			case resp.StatusCode == row.status && body == row.body:
			default:
				t.Errorf("answer %d %q, want %d %q", resp.StatusCode, body, row.status, row.body)
			}
			head, _, _ := bytes.Cut(wire, []byte("\r\n\r\n"))
			if rest := bytes.ReplaceAll(head, []byte("\r\n"), nil); bytes.ContainsAny(rest, "\r\n\x00") || bytes.Contains(head, []byte("\r\n ")) || bytes.Contains(head, []byte(" :")) {
				t.Errorf("the head holds a CR, LF, NUL, a fold or a space before a colon: %q", head)
			}
			if resp.Header.Get("Set-Cookie") != "" || bytes.Contains(wire, []byte("evil=1")) && bytes.Contains(wire, []byte("\nSet-Cookie")) {
				t.Errorf("a cookie got through: %q", wire)
			}
			if bytes.Count(head, []byte("Content-Length"))+bytes.Count(head, []byte("Transfer-Encoding")) > 1 {
				t.Errorf("the answer is framed twice: %q", head)
			}
			for range 3 {
				if resp, body := g.do("GET", "/photos/good", userKey, ""); resp.StatusCode != 200 || body != "good" {
					t.Errorf("the next request was answered %d %q, want 200 good", resp.StatusCode, body)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if after > 0 && !row.mayReuse {
				t.Errorf("the connection was used for %d more requests, want none", after)
			}
		})
	}
}

// When many clients share the connections, one may be handed on
// while the bytes after its last answer are still unread. They are not the
// answer to the next request, which is another client's.
func TestSurplusOfAnswerReachesNoOtherClient(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for {
			line, _, err := readHead(r)
			switch {
			case err != nil:
				return
			case strings.HasPrefix(line, "GET /photos/length "):
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"+evil)
			case strings.HasPrefix(line, "GET /photos/none "):
				io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n"+evil)
			default:
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
			}
		}
	})
	g := startGateway(t, testConfig(endpoint))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 15 * time.Second}
	defer client.CloseIdleConnections()
	paths := []string{"/photos/good", "/photos/length", "/photos/good", "/photos/none"}
	var wrong atomic.Int64
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			for j := range 60 {
				path := paths[(i+j)%len(paths)]
				req, err := http.NewRequest("GET", g.url+path, nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("X-Api-Key", userKey)
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(body) == "evil" {
					wrong.Add(1)
				}
			}
		})
	}
	clients.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d of 960 answers were what a backend had sent after another's end", n)
	}
}

// Response-* parameters become headers of the answer. One with a line
// break would become two, and only who has a key may set one at all.
func TestResponseParameterSetsOneHeader(t *testing.T) {
	rec := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("response-content-type"))
	})
	g := startGateway(t, testConfig(rec.URL))
	for _, name := range []string{"cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"} {
		for _, value := range []string{"a%0d%0aSet-Cookie:x", "a%0aSet-Cookie:x", "a%0d", "%0A", "a%00b", "%7f", "a%1b[2J"} {
			for _, method := range []string{"GET", "HEAD"} {
				resp, body := g.do(method, "/photos/k?response-"+name+"="+value, userKey, "")
				wantRefusal(t, method, resp, body, "400 InvalidArgument")
				if resp.Header.Get("Set-Cookie") != "" {
					t.Errorf("response-%s=%s set a cookie", name, value)
				}
			}
		}
		resp, body := g.do("GET", "/photos/k?response-"+name+"=x", "", "")
		wantError(t, resp, body, 401, "Unauthorized")
	}
	for _, method := range []string{"PUT", "DELETE", "POST"} {
		resp, body := g.do(method, "/photos/k?response-content-type=x", userKey, "")
		wantRefusal(t, method, resp, body, "501 NotImplemented")
	}
	rec.wantNone(t)
	resp, _ := g.do("GET", "/photos/k?response-content-type=text/html", userKey, "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html" {
		t.Errorf("GET with response-content-type = %d %q, want 200 text/html", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	checkHardened(t, resp) // so the page can do nothing
	if seen := rec.requests(); len(seen) != 1 || seen[0].uri != "/photos/k?response-content-type=text%2Fhtml" {
		t.Errorf("the backend saw %v, want the parameter", seen)
	}
}

// Where the end of an object is only the end of its connection, a cut
// can't be told from the end. Such an answer is not passed on.
func TestAnswerDelimitedByCloseIsRefused(t *testing.T) {
	for _, head := range []string{
		"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n",
		"HTTP/1.1 200 OK\r\nConnection: close\r\n",
		"HTTP/1.1 200 OK\r\n",
		"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/5\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n",
	} {
		for _, body := range []string{"hello", ""} {
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if _, _, err := readHead(r); err == nil {
					io.WriteString(conn, head+"\r\n"+body)
				}
			})
			g := startGateway(t, testConfig(endpoint))
			resp, text := g.do("GET", "/photos/k", userKey, "")
			wantError(t, resp, text, 502, "BadGateway")
			if resp, _ := g.do("HEAD", "/photos/k", userKey, "", "Range: bytes=0-4"); resp.StatusCode != 200 && resp.StatusCode != 206 {
				t.Errorf("HEAD, which has no body to be cut, = %d, want the backend's status", resp.StatusCode)
			}
		}
	}
}

// A HEAD is a HEAD at the backend, which then sends no object; and the
// answers that have no body keep the headers they exist for.
func TestAnswerWithoutBodyKeepsItsHeaders(t *testing.T) {
	for _, row := range []struct {
		method string
		status int
		send   map[string]string // the backend's headers
		keep   []string
		header string
	}{
		{"HEAD", 200, map[string]string{"Content-Length": "5000000000", "Etag": `"e"`, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "X-Amz-Meta-A": "b"},
			[]string{"Content-Length", "Etag", "Last-Modified", "X-Amz-Meta-A"}, ""},
		{"HEAD", 206, map[string]string{"Content-Length": "10", "Content-Range": "bytes 0-9/100", "Etag": `"e"`}, []string{"Content-Length", "Content-Range", "Etag"}, "Range: bytes=0-9"},
		{"HEAD", 304, map[string]string{"Etag": `"e"`}, []string{"Etag"}, `If-None-Match: "e"`},
		{"HEAD", 404, map[string]string{"X-Amz-Delete-Marker": "true", "X-Amz-Version-Id": "1"}, []string{"X-Amz-Delete-Marker", "X-Amz-Version-Id"}, ""},
		{"HEAD", 412, map[string]string{"Etag": `"e"`}, []string{"Etag"}, `If-Match: "f"`},
		{"HEAD", 416, map[string]string{"Content-Range": "bytes */100"}, []string{"Content-Range"}, "Range: bytes=200-"},
		{"GET", 304, map[string]string{"Etag": `"e"`, "Cache-Control": "max-age=60", "Expires": "Thu, 01 Jan 2099 00:00:00 GMT", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Vary": "Origin"},
			[]string{"Etag", "Cache-Control", "Expires", "Last-Modified", "Vary"}, `If-None-Match: "e"`},
		{"GET", 412, map[string]string{"Etag": `"e"`, "X-Amz-Version-Id": "1"}, []string{"Etag", "X-Amz-Version-Id"}, `If-Match: "f"`},
		{"GET", 416, map[string]string{"Content-Range": "bytes */100"}, []string{"Content-Range"}, "Range: bytes=200-"},
		{"DELETE", 204, map[string]string{"X-Amz-Delete-Marker": "true", "X-Amz-Version-Id": "1"}, []string{"X-Amz-Delete-Marker", "X-Amz-Version-Id"}, ""},
		{"PUT", 412, map[string]string{"X-Amz-Version-Id": "1"}, []string{"X-Amz-Version-Id"}, "If-None-Match: *"},
	} {
		t.Run(fmt.Sprint(row.method, row.status), func(t *testing.T) {
			rec := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				for name, value := range row.send {
					w.Header().Set(name, value)
				}
				w.WriteHeader(row.status)
			})
			g := startGateway(t, testConfig(rec.URL))
			conn := g.dial()
			defer conn.Close()
			length := ""
			if row.method == "PUT" {
				length = "Content-Length: 0\r\n"
			}
			header := row.header
			if header != "" {
				header += "\r\n"
			}
			io.WriteString(conn, row.method+" /photos/k HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Api-Key: "+userKey+"\r\n"+length+header+"\r\n")
			wire, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			resp, body := readAnswer(t, row.method, bytes.NewReader(wire))
			checkHardened(t, resp)
			if resp.StatusCode != row.status {
				t.Fatalf("answer %d %s, want %d", resp.StatusCode, body, row.status)
			}
			if _, rest, _ := strings.Cut(string(wire), "\r\n\r\n"); rest != "" && (row.method == "HEAD" || row.status == 204 || row.status == 304) {
				t.Errorf("a body after the head: %q", rest)
			} else if rest != "" {
				wantError(t, resp, body, row.status, map[int]string{412: "PreconditionFailed", 416: "InvalidRange"}[row.status])
			}
			for _, name := range row.keep {
				if got := resp.Header.Values(name); len(got) != 1 || got[0] != row.send[name] {
					t.Errorf("header %s = %q, want %q", name, got, row.send[name])
				}
			}
			for _, seen := range rec.requests() {
				name, value, _ := strings.Cut(row.header, ": ")
				if seen.method != row.method || seen.header.Get(name) != value {
					t.Errorf("the backend saw %s with %s: %q, want %s and %q", seen.method, name, seen.header.Get(name), row.method, value)
				}
			}
			if n := len(rec.requests()); n != 1 {
				t.Errorf("the backend got %d requests, want one", n)
			}
		})
	}
}
