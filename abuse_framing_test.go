package main

// Abuse: where one message ends and the next begins, and what becomes of bodies
// that break off. A proxy and its peers that disagree about an end run the
// bytes of one request as another, or take half an object for a whole one.

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// framingSmuggled is a request that must never be run: it is inside another.
const framingSmuggled = "GET /secret/smuggled HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + adminKey + "\r\n\r\n"

// framingEnd is the next request on a connection, and the last.
const framingEnd = "GET /photos/end HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + readOnlyKey + "\r\nConnection: close\r\n\r\n"

type framingAnswer struct {
	*http.Response
	text string
}

// framingAnswers sends bytes on one connection, in one write, and returns every
// answer until the gateway closes it.
func framingAnswers(g *testGateway, wire string) []framingAnswer {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	go io.WriteString(conn, wire)
	r := bufio.NewReader(conn)
	var answers []framingAnswer
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
				g.t.Errorf("the connection stayed open after %d answers, want it closed", len(answers))
			}
			return answers
		}
		body, _ := io.ReadAll(resp.Body)
		answers = append(answers, framingAnswer{resp, string(body)})
	}
}

// framingWait polls a condition until it holds.
func framingWait(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("still waiting for %s after 15 s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// framingRefusal is wantError for answers that may have any of several codes,
// and may be XML, as to a listing or an S3 tool, or have no body, as to a HEAD.
func framingRefusal(t *testing.T, method string, resp *http.Response, body string, want ...string) {
	t.Helper()
	checkHardened(t, resp)
	checkNoSecret(t, "the answer", body)
	code := ""
	switch {
	case method == "HEAD":
		if body != "" || resp.Header.Get("Content-Length") != "" {
			t.Errorf("HEAD: answer %d with a body or the length of one: %q", resp.StatusCode, body)
		}
	case resp.Header.Get("Content-Type") == "application/xml":
		var e struct {
			XMLName xml.Name `xml:"Error"`
			Code    string
		}
		if err := xml.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("answer %d, not S3's error document: %q", resp.StatusCode, body)
		}
		code = e.Code
	default:
		var e struct{ Code string }
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("answer %d, not a JSON error: %q", resp.StatusCode, body)
		}
		code = e.Code
	}
	for _, w := range want {
		status, name, _ := strings.Cut(w, " ")
		if status == strconv.Itoa(resp.StatusCode) && (method == "HEAD" || name == code) {
			return
		}
	}
	t.Errorf("%s: answer %d %q, want one of %q", method, resp.StatusCode, code, want)
}

// Case 72: net/http ignores the chunks of an HTTP/1.0 request and would run them
// as the next one. There must be no next one.
func TestAbuse072OldVersionWithChunks(t *testing.T) {
	for _, row := range []struct {
		method, code string
		status, seen int
	}{
		{"PUT", "MissingContentLength", 411, 0},
		{"POST", "MethodNotAllowed", 405, 0},
		{"GET", "", 200, 1},
		{"DELETE", "", 200, 1},
	} {
		t.Run(row.method, func(t *testing.T) {
			rec := startRecorder(t, nil)
			g := startGateway(t, testConfig(rec.URL))
			answers := framingAnswers(g, row.method+" /photos/k HTTP/1.0\r\nHost: h\r\nX-Api-Key: "+userKey+
				"\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"+
				fmt.Sprintf("%x\r\n", len(framingSmuggled))+framingSmuggled+"\r\n0\r\n\r\n"+framingSmuggled)
			if len(answers) != 1 || answers[0].StatusCode != row.status || !answers[0].Close {
				t.Fatalf("%d answers %v, want one, %d, and the connection closed", len(answers), answers, row.status)
			}
			if row.code != "" {
				wantError(t, answers[0].Response, answers[0].text, row.status, row.code)
			}
			if seen := rec.requests(); len(seen) != row.seen || row.seen == 1 && (seen[0].uri != "/photos/k" || seen[0].body != "") {
				t.Errorf("the backend saw %v, want %d requests and none of /secret", seen, row.seen)
			}
		})
	}
}

// Case 73: net/http gives a request without any framing the length 0. To store
// that would put an empty object in the place of the old one.
func TestAbuse073UploadWithoutLength(t *testing.T) {
	backend := startFramingDemo(t)
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
		answers := framingAnswers(g, row.request+"X-Api-Key: "+userKey+"\r\n\r\nnew!")
		if len(answers) != 1 {
			t.Fatalf("%q: %d answers, want one and the connection closed", row.request, len(answers))
		}
		framingRefusal(t, "PUT", answers[0].Response, answers[0].text, "411 MissingContentLength", "405 MethodNotAllowed", "501 NotImplemented")
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

// Case 74: everything that is known to make two parsers disagree about where a
// request ends. Each row is one write, followed by another request; the answers
// on that connection and what the backend saw are fixed, and a request that
// hides in a body is in neither. RFC 9112 is the judge. The rows answered 400,
// 417, 431, 501 or 505 without our headers are net/http's.
func TestAbuse074Wire(t *testing.T) {
	const (
		next   = iota // the connection is kept: the following request is answered
		closed        // it is closed: the following bytes are nobody's
		either
		broken // it is kept, but the row goes on with what is no request
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
		deleteK     = "DELETE /photos/k "
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
		{"the same length twice", put("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 200, next, putK},
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
		{"a GET with a request for a body", get(fmt.Sprintf("Content-Length: %d\r\n", len(framingSmuggled)), framingSmuggled), 200, next, getK},
		{"a GET with a large body", get(fmt.Sprintf("Content-Length: %d\r\n", bloat), strings.Repeat("x", bloat)), 200, closed, getK},
		{"a GET without a length, and bytes", get("", "hello\r\n\r\n"), 200, broken, getK},

		// Transfer-Encoding: RFC 9112 section 6.
		{"chunks", put(chunked, hello), 411, closed, ""},
		{"chunks with a request inside", put(chunked, fmt.Sprintf("%x\r\n", len(framingSmuggled))+framingSmuggled+"\r\n0\r\n\r\n"), 411, closed, ""},
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
		{"chunked and a length", put(chunked+"Content-Length: 5\r\n", hello), 411, closed, ""},
		{"a length and chunked", put("Content-Length: 5\r\n"+chunked, hello), 411, closed, ""},
		{"a bad length and chunked", put("Content-Length: x\r\n"+chunked, hello), 400, closed, ""},
		// Section 6.1: "the server MUST close the connection after responding".
		{"a GET with both", get("Content-Length: 5\r\n"+chunked, "0\r\n\r\n"), 200, closed, getK},
		{"a DELETE with both", strings.Replace(get(chunked+"Content-Length: 0\r\n", hello), "GET", "DELETE", 1), 200, closed, deleteK},

		// Chunks: RFC 9112 section 7.1. The body of a GET is read only to find its end.
		{"good chunks", get(chunked, hello), 200, either, getK},
		{"good chunks with an extension", get(chunked, "5;a=b\r\nhello\r\n0\r\n\r\n"), 200, either, getK},
		{"a bare LF after the size", get(chunked, "5\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"a bare LF in an extension", get(chunked, "5;\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"a bare LF at the end of an extension", get(chunked, "2;a\nxx\r\n"+fmt.Sprintf("%x", 4+len(framingSmuggled))+"\r\n0\r\n\r\n"+framingSmuggled+"\r\n0\r\n\r\n"), 200, closed, getK},
		{"a bare LF after the data", get(chunked, "5\r\nhello\n0\r\n\r\n"), 200, closed, getK},
		{"a bare CR after the size", get(chunked, "5\rhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"no CRLF after the data", get(chunked, "5\r\nhello0\r\n\r\n"), 200, closed, getK},
		{"size -5", get(chunked, "-5\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"size 0x5", get(chunked, "0x5\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"size +5", get(chunked, "+5\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
		{"no size", get(chunked, "\r\nhello\r\n0\r\n\r\n"), 200, closed, getK},
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
		{"a folded length", put("Content-Length:\r\n 5\r\n", "hello"), 200, next, putK},
		{"a folded encoding", put("Transfer-Encoding:\r\n chunked\r\n", hello), 411, closed, ""},
		{"a fold that hides an encoding", put("X-A: a\r\n Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "hello"), 200, next, putK},
		{"a folded key", "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey[:5] + "\r\n " + userKey[5:] + "\r\n\r\n", 401, next, ""},
		{"a key with a byte above 0x7f", "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\xa0\r\n\r\n", 401, next, ""},
		{"bare LF for line ends", strings.ReplaceAll(get("", ""), "\r\n", "\n"), 200, next, getK},
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
			answers := framingAnswers(g, row.wire+framingEnd)
			var statuses []int
			for _, a := range answers {
				statuses = append(statuses, a.StatusCode)
			}
			kept := []int{row.status, 200}
			want := map[int][][]int{next: {kept}, closed: {{row.status}}, either: {kept, {row.status}}, broken: {{row.status, 400}}}[row.then]
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
			if len(statuses) == 2 && row.then != broken {
				wantSeen = append(wantSeen, "GET /photos/end ")
			}
			if !slices.Equal(seen, wantSeen) {
				t.Errorf("the backend saw %q, want %q", seen, wantSeen)
			}
		})
	}
}

// Case 75: the body of a request that was refused is nobody's request: either it
// is read to its end and forgotten, or the connection is closed.
func TestAbuse075RefusedBody(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("max_file_size", 512<<10)))
	for _, size := range []int{1, 100, 2000, 10000} {
		body := strings.Repeat(framingSmuggled, size) // 90 bytes to 900 KB
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
			answers := framingAnswers(g, row.request+fmt.Sprintf("Host: h\r\nContent-Length: %d\r\n\r\n", len(body))+body+framingEnd)
			var statuses []int
			for _, a := range answers {
				statuses = append(statuses, a.StatusCode)
			}
			if !slices.Equal(statuses, []int{row.status}) && !slices.Equal(statuses, []int{row.status, 200}) {
				t.Fatalf("%q and %d bytes: answers %v, want %d and at most the next request's 200", row.request, len(body), statuses, row.status)
			}
			framingRefusal(t, "PUT", answers[0].Response, answers[0].text, framingCodes(row.status)...)
			if len(body) < 200<<10 && len(statuses) != 2 {
				t.Errorf("%q and %d bytes: the connection was closed, want it kept", row.request, len(body))
			}
		}
	}
	// A body that never comes must not keep the client from its answer.
	g = startGateway(t, testConfig(rec.URL, with("server.idle_timeout", "300ms")))
	resp, text := framingCut(g, "PUT /secret/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: "+userKey+"\r\nContent-Length: 100\r\n\r\n", "x", 1, "stall")
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

func framingCodes(status int) []string {
	return map[int][]string{
		400: {"400 InvalidRequest", "400 InvalidArgument", "400 InvalidURI"}, 401: {"401 Unauthorized"}, 403: {"403 AccessDenied"},
		405: {"405 MethodNotAllowed"}, 501: {"501 NotImplemented"},
	}[status]
}

// Case 76: a backend whose answers are malformed gets a 502, or is understood
// and its answer written anew. What it sends beyond an answer's end is never
// the beginning of another's.
func TestAbuse076MalformedAnswers(t *testing.T) {
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

// Case 76, too: when many clients share the connections, one may be handed on
// while the bytes after its last answer are still unread. They are not the
// answer to the next request, which is another client's.
func TestAbuse076SurplusBytes(t *testing.T) {
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

// Case 77: response-* parameters become headers of the answer. One with a line
// break would become two, and only who has a key may set one at all.
func TestAbuse077ResponseOverrides(t *testing.T) {
	rec := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.URL.Query().Get("response-content-type"))
	})
	g := startGateway(t, testConfig(rec.URL))
	for _, name := range []string{"cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"} {
		for _, value := range []string{"a%0d%0aSet-Cookie:x", "a%0aSet-Cookie:x", "a%0d", "%0A", "a%00b", "%7f", "a%1b[2J"} {
			for _, method := range []string{"GET", "HEAD"} {
				resp, body := g.do(method, "/photos/k?response-"+name+"="+value, userKey, "")
				framingRefusal(t, method, resp, body, "400 InvalidArgument")
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
		framingRefusal(t, method, resp, body, "501 NotImplemented")
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

// A framingDemo is the embedded server, watched: how many requests it got, and
// how many of its connections are over.
type framingDemo struct {
	*httptest.Server
	requests, opened, ended, busy atomic.Int64
}

func startFramingDemo(t *testing.T) *framingDemo {
	t.Helper()
	demo, err := newDemoServer(t.TempDir(), testCredentials, "photos", "secret")
	if err != nil {
		t.Fatal(err)
	}
	d := &framingDemo{}
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

// framingCut sends a PUT of which n bytes of the body arrive, and then nothing,
// in one of three manners. It returns the answer where the client can still
// hear one, or nil.
func framingCut(g *testGateway, head string, body string, n int, manner string) (*http.Response, string) {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
	lines := len(g.lines())
	if _, err := io.WriteString(conn, head+body[:n]); err != nil {
		g.t.Fatal(err)
	}
	var resp *http.Response
	text := ""
	switch manner {
	case "FIN":
		conn.(*net.TCPConn).CloseWrite()
		resp, text = readAnswer(g.t, "PUT", conn)
	case "stall":
		resp, text = readAnswer(g.t, "PUT", conn)
	case "RST":
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
		framingWait(g.t, "the end of the request", func() bool { return len(g.lines()) > lines })
	}
	return resp, text
}

func framingHead(path string, length int, header ...string) string {
	head := "PUT " + path + " HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + fmt.Sprintf("\r\nContent-Length: %d\r\n", length)
	for _, line := range header {
		head += line + "\r\n"
	}
	return head + "\r\n"
}

func framingBytes(seed uint64, n int) string {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return string(b)
}

// Case 79: an upload that breaks off, however it does, leaves what was there
// before; the backend never has as many bytes as it was promised.
func TestAbuse079UploadCut(t *testing.T) {
	const size = 256 << 10 // more than the buffers on the way
	body := framingBytes(79, size)
	digest := fmt.Sprintf("x-amz-content-sha256: %x", sha256.Sum256([]byte(body)))
	for _, manner := range []string{"FIN", "RST", "stall"} {
		for _, n := range []int{0, 1, size / 2, size - 1} {
			for _, header := range [][]string{nil, {digest}} {
				name := fmt.Sprintf("%s/%d/digest=%t", manner, n, header != nil)
				check := func(t *testing.T, resp *http.Response, text string) {
					t.Helper()
					if resp != nil && resp.StatusCode == 0 {
						t.Errorf("the connection was closed without an answer: %s", resp.Header.Get("Test-Error"))
						return
					}
					switch manner {
					case "FIN":
						wantError(t, resp, text, 400, "IncompleteBody")
					case "stall":
						wantError(t, resp, text, 400, "RequestTimeout")
					}
				}
				t.Run("demo/"+name, func(t *testing.T) {
					t.Parallel()
					backend := startFramingDemo(t)
					g := startGateway(t, testConfig(backend.URL, with("server.idle_timeout", "300ms")))
					if resp, _ := g.do("PUT", "/photos/k", userKey, "old"); resp.StatusCode != 200 {
						t.Fatalf("PUT = %d, want 200", resp.StatusCode)
					}
					for _, path := range []string{"/photos/k", "/photos/new"} {
						resp, text := framingCut(g, framingHead(path, size, header...), body, n, manner)
						check(t, resp, text)
						// The next connection is accepted after the broken one, so when
						// the backend is quiet after it, it is done with both.
						g.do("GET", "/photos/k", userKey, "")
						framingWait(t, "the backend to be quiet", func() bool { return backend.busy.Load() == 0 })
					}
					if resp, text := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || text != "old" {
						t.Errorf("GET = %d, %d bytes, want the old object", resp.StatusCode, len(text))
					}
					resp, text := g.do("GET", "/photos/new", userKey, "")
					wantError(t, resp, text, 404, "NoSuchKey")
				})
				t.Run("raw/"+name, func(t *testing.T) {
					t.Parallel()
					var accepted atomic.Int64
					counts := make(chan int64, 8)
					endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
						accepted.Add(1)
						if _, header, err := readHead(r); err != nil || header.Get("Content-Length") != strconv.Itoa(size) {
							counts <- 0
							return
						}
						got, _ := io.Copy(io.Discard, io.LimitReader(r, size))
						if got == size {
							io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
						}
						counts <- got
					})
					g := startGateway(t, testConfig(endpoint, with("server.idle_timeout", "300ms")))
					resp, text := framingCut(g, framingHead("/photos/k", size, header...), body, n, manner)
					check(t, resp, text)
					framingWait(t, "the backend", func() bool { return int64(len(counts)) == accepted.Load() })
					if len(counts) > 1 {
						t.Errorf("the backend got %d requests, want at most one", len(counts))
					}
					for len(counts) > 0 {
						if got := <-counts; got > int64(n) {
							t.Errorf("the backend got %d bytes, want at most the %d that were sent", got, n)
						}
					}
				})
			}
		}
	}
}

// Case 80: chunks without their end are an upload without a length, and are
// refused before the backend hears of it.
func TestAbuse080ChunkedUploadCut(t *testing.T) {
	backend := startFramingDemo(t)
	g := startGateway(t, testConfig(backend.URL))
	g.do("PUT", "/photos/k", userKey, "old")
	before := backend.requests.Load()
	const whole = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
	for n := range len(whole) + 1 {
		for _, path := range []string{"/photos/k", "/photos/new"} {
			head := "PUT " + path + " HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nTransfer-Encoding: chunked\r\n\r\n"
			resp, text := framingCut(g, head, whole, n, "FIN")
			wantError(t, resp, text, 411, "MissingContentLength")
			if n%5 == 0 {
				framingCut(g, head, whole, n, "RST")
			}
		}
	}
	if now := backend.requests.Load(); now != before {
		t.Errorf("the backend got %d requests, want none", now-before)
	}
	if resp, text := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || text != "old" {
		t.Errorf("GET = %d %q, want the old object", resp.StatusCode, text)
	}
	resp, text := g.do("GET", "/photos/new", userKey, "")
	wantError(t, resp, text, 404, "NoSuchKey")
}

// Case 81: a digest is known to be wrong only at the last byte, and with the last
// byte a backend stores the object. So that byte is held back until then.
func TestAbuse081WrongDigest(t *testing.T) {
	type upload struct {
		declared string
		got      int64
	}
	uploads := make(chan upload, 8)
	var accepted atomic.Int64
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		accepted.Add(1)
		u := upload{}
		if _, header, err := readHead(r); err == nil {
			u.declared = header.Get("Content-Length")
			size, _ := strconv.ParseInt(u.declared, 10, 64)
			u.got, _ = io.Copy(io.Discard, io.LimitReader(r, size))
			if u.got == size {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
		uploads <- u
	})
	raw := startGateway(t, testConfig(endpoint))
	backend := startFramingDemo(t)
	demo := startGateway(t, testConfig(backend.URL))
	demo.do("PUT", "/photos/k", userKey, "old")
	finished := int64(0)
	for _, size := range []int{1, 2, 3, 1000, 32 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 500_000} {
		body := framingBytes(uint64(size), size)
		flipped := body[:size-1] + string(body[size-1]^1) // only the last byte differs
		for _, signed := range []string{flipped, body + "x", body[:size-1], "", "something else"} {
			digest := fmt.Sprintf("x-amz-content-sha256: %x", sha256.Sum256([]byte(signed)))
			resp, text := raw.do("PUT", "/photos/k", userKey, body, digest)
			wantError(t, resp, text, 400, "XAmzContentSHA256Mismatch")
			framingWait(t, "the backend", func() bool { return finished+int64(len(uploads)) == accepted.Load() })
			for len(uploads) > 0 {
				finished++
				if u := <-uploads; u.got >= int64(size) {
					t.Errorf("the backend got %d of %d bytes, want at least one less", u.got, size)
				}
			}
			resp, text = demo.do("PUT", "/photos/k", userKey, body, digest)
			wantError(t, resp, text, 400, "XAmzContentSHA256Mismatch")
		}
		if resp, text := demo.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || text != "old" {
			t.Fatalf("GET = %d, %d bytes, want the old object", resp.StatusCode, len(text))
		}
		// The right one, in capitals as well, is stored whole.
		for _, format := range []string{"x-amz-content-sha256: %x", "x-amz-content-sha256: %X"} {
			if resp, text := demo.do("PUT", "/photos/right", userKey, body, fmt.Sprintf(format, sha256.Sum256([]byte(body)))); resp.StatusCode != 200 {
				t.Errorf("PUT of %d bytes with their digest = %d %s, want 200", size, resp.StatusCode, text)
			}
			if _, text := demo.do("GET", "/photos/right", userKey, ""); text != body {
				t.Errorf("GET after PUT: %d bytes, want the %d that were sent", len(text), size)
			}
		}
	}
	// Of an empty body there is no last byte: nothing at all is sent.
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	good := fmt.Sprintf("x-amz-content-sha256: %x", sha256.Sum256([]byte("x")))
	resp, text := g.do("PUT", "/photos/k", userKey, "", good)
	wantError(t, resp, text, 400, "XAmzContentSHA256Mismatch")
	for _, bad := range []string{"abc", "", strings.Repeat("0", 63), strings.Repeat("0", 65), strings.Repeat("z", 64), "unsigned-payload"} {
		resp, text := g.do("PUT", "/photos/k", userKey, "x", "x-amz-content-sha256: "+bad)
		framingRefusal(t, "PUT", resp, text, "400 InvalidArgument")
	}
	resp, text = g.do("PUT", "/photos/k", userKey, "x", good, good)
	wantError(t, resp, text, 400, "InvalidRequest")
	for _, streaming := range []string{"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"} {
		resp, text := g.do("PUT", "/photos/k", userKey, "0\r\n\r\n", "x-amz-content-sha256: "+streaming)
		framingRefusal(t, "PUT", resp, text, "501 NotImplemented", "400 InvalidRequest", "400 IncompleteBody", "403 AccessDenied", "411 MissingContentLength")
	}
	rec.wantNone(t)
}

// Case 82: a download that breaks off at the backend breaks off at the client,
// on HTTP/1.1 and on HTTP/2: never a clean end, and never a byte that is not the
// object's, such as the words of an error.
func TestAbuse082DownloadCut(t *testing.T) {
	const size = 200_000
	object := framingBytes(82, size)
	const chunk = 1000
	for _, framing := range []string{"length", "chunked"} {
		for _, n := range []int{0, 1, size / 2, size - 1, size} {
			if framing == "length" && n == size {
				continue // that is whole
			}
			for _, manner := range []string{"FIN", "RST"} {
				t.Run(fmt.Sprintf("%s/%d/%s", framing, n, manner), func(t *testing.T) {
					endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
						if _, _, err := readHead(r); err != nil {
							return
						}
						head := "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Type: text/plain\r\n"
						if framing == "length" {
							io.WriteString(conn, head+fmt.Sprintf("Content-Length: %d\r\n\r\n", size)+object[:n])
						} else {
							var b strings.Builder
							b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
							for i := 0; i+chunk <= n; i += chunk {
								fmt.Fprintf(&b, "%x\r\n%s\r\n", chunk, object[i:i+chunk])
							}
							if rest := n % chunk; rest > 0 {
								fmt.Fprintf(&b, "%x\r\n%s", chunk, object[n-rest:n])
							}
							io.WriteString(conn, b.String()) // and no chunk of size 0
						}
						if manner == "RST" {
							// Let the gateway have the bytes first: it goes on reading, so
							// it sends nothing, and only closes.
							conn.(*net.TCPConn).SetLinger(0)
						}
					})
					g := startGateway(t, testConfig(endpoint))
					conn := g.dial()
					defer conn.Close()
					io.WriteString(conn, "GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: "+userKey+"\r\n\r\n")
					resp, body := readAnswer(t, "GET", conn)
					check := func(version string, status int, broken bool, body string) {
						t.Helper()
						// A reset may overtake the answer's head; then the gateway can say so.
						if manner == "RST" && status == 502 {
							return
						}
						if status != 0 && status != 200 || !broken {
							t.Errorf("%s: answer %d, a clean end after %d of %d bytes, want it broken", version, status, len(body), size)
						}
						if len(body) > n || !strings.HasPrefix(object, body) {
							t.Errorf("%s: %d bytes that are not the first of the object; the last: %q", version, len(body), body[max(0, len(body)-80):])
						}
					}
					check("HTTP/1.1", resp.StatusCode, resp.Header.Get("Test-Error") != "", body)

					server := httptest.NewUnstartedServer(g.gw)
					server.EnableHTTP2 = true
					server.StartTLS()
					defer server.Close()
					req, err := http.NewRequest("GET", server.URL+"/photos/k", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("X-Api-Key", userKey)
					resp, err = server.Client().Do(req)
					if err != nil {
						return // an error is what is wanted
					}
					defer resp.Body.Close()
					if resp.ProtoMajor != 2 {
						t.Fatalf("the answer came by %s, want HTTP/2", resp.Proto)
					}
					data, err := io.ReadAll(resp.Body)
					check("HTTP/2", resp.StatusCode, err != nil, string(data))
				})
			}
		}
	}
}

// Case 84: where the end of an object is only the end of its connection, a cut
// can't be told from the end. Such an answer is not passed on.
func TestAbuse084CloseDelimited(t *testing.T) {
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

// Case 85: an object comes out as it went in, byte for byte and header for
// header; what is stored compressed is not unpacked on the way.
func TestAbuse085Unchanged(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, strings.Repeat("hello ", 1000))
	z.Close()
	bodies := map[string]string{
		"gzip": packed.String(), "empty": "", "one": "\x00", "text": "a\r\n\r\nb\n", "large": framingBytes(85, 1<<20),
	}
	header := map[string]string{
		"Content-Type": "text/x-test; charset=utf-8", "Content-Encoding": "gzip", "Content-Language": "de, en",
		"Content-Disposition": `attachment; filename="a b.txt"`, "Cache-Control": "max-age=60, no-transform",
		"Expires": "Thu, 01 Jan 2099 00:00:00 GMT", "X-Amz-Meta-Name": "Tom", "X-Amz-Meta-Two-Words": "a, b;  c=\"d\"",
		"X-Amz-Meta-Umlaut": "=?UTF-8?Q?=C3=A4?=", "X-Amz-Storage-Class": "STANDARD",
	}
	var lines []string
	for name, value := range header {
		lines = append(lines, name+": "+value)
	}
	check := func(t *testing.T, method string, resp *http.Response, text, body string, want map[string]string) {
		t.Helper()
		checkHardened(t, resp)
		if resp.StatusCode != 200 || method == "GET" && text != body {
			t.Errorf("%s = %d, %d bytes, want 200 and the %d bytes stored", method, resp.StatusCode, len(text), len(body))
		}
		if got := resp.Header.Get("Content-Length"); got != strconv.Itoa(len(body)) {
			t.Errorf("%s: Content-Length %q, want %d", method, got, len(body))
		}
		for name, value := range want {
			if got := resp.Header.Values(name); len(got) != 1 || got[0] != value {
				t.Errorf("%s: header %s = %q, want %q", method, name, got, value)
			}
		}
	}
	accepted := [][]string{nil, {"Accept-Encoding: gzip"}, {"Accept-Encoding: identity"}, {"Accept-Encoding: gzip;q=0, br"}}

	for name, body := range bodies {
		t.Run("demo/"+name, func(t *testing.T) {
			g := startGateway(t, testConfig(startDemoBackend(t).URL))
			if resp, text := g.do("PUT", "/photos/k", userKey, body, lines...); resp.StatusCode != 200 {
				t.Fatalf("PUT = %d %s, want 200", resp.StatusCode, text)
			}
			want := maps.Clone(header)
			delete(want, "X-Amz-Storage-Class") // S3 does not name the standard one
			want["Etag"] = fmt.Sprintf(`"%x"`, md5.Sum([]byte(body)))
			for _, accept := range accepted {
				for _, method := range []string{"GET", "HEAD"} {
					resp, text := g.do(method, "/photos/k", readOnlyKey, "", accept...)
					check(t, method, resp, text, body, want)
				}
			}
		})
		t.Run("recorded/"+name, func(t *testing.T) {
			const modified = "Wed, 12 Oct 2009 17:50:00 GMT" // the wrong day of the week, but not ours to mend
			answer := maps.Clone(header)
			answer["Last-Modified"], answer["Etag"] = modified, `"a-7"`
			answer["X-Amz-Version-Id"], answer["Accept-Ranges"] = "v/1+2", "bytes"
			answer["X-Amz-Checksum-Crc32"], answer["X-Amz-Checksum-Type"] = "AAAAAA==", "FULL_OBJECT"
			rec := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "PUT" {
					return
				}
				for name, value := range answer {
					w.Header().Set(name, value)
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(body)))
				io.WriteString(w, body)
			})
			g := startGateway(t, testConfig(rec.URL))
			g.do("PUT", "/photos/k", userKey, body, lines...)
			seen := rec.requests()
			if len(seen) != 1 || seen[0].body != body || seen[0].err != nil {
				t.Fatalf("the backend saw %d requests, want one PUT of %d bytes", len(seen), len(body))
			}
			for name, value := range header {
				if got := seen[0].header.Values(name); len(got) != 1 || got[0] != value {
					t.Errorf("PUT: the backend's header %s = %q, want %q", name, got, value)
				}
			}
			for _, accept := range accepted {
				for _, method := range []string{"GET", "HEAD"} {
					resp, text := g.do(method, "/photos/k", readOnlyKey, "", accept...)
					check(t, method, resp, text, body, answer)
				}
			}
		})
	}
}

// Case 86: whether a backend that broke the connection has done what it was
// asked, nobody knows. So a write is sent once, wherever the connection breaks,
// on a new connection or on one that was kept.
func TestAbuse086WritesOnce(t *testing.T) {
	const size = 1 << 20
	type stage struct {
		name string
		kill func(conn net.Conn, r *bufio.Reader, head func() bool)
		want int // the client's status
	}
	readBody := func(r *bufio.Reader, n int64) { io.Copy(io.Discard, io.LimitReader(r, n)) }
	stages := []stage{
		{"before reading", func(net.Conn, *bufio.Reader, func() bool) {}, 502},
		{"after the head", func(_ net.Conn, _ *bufio.Reader, head func() bool) { head() }, 502},
		{"mid-body", func(_ net.Conn, r *bufio.Reader, head func() bool) {
			if head() {
				readBody(r, size/2)
			}
		}, 502},
		{"after the body", func(_ net.Conn, r *bufio.Reader, head func() bool) {
			if head() {
				readBody(r, size)
			}
		}, 502},
		{"in the status line", func(conn net.Conn, r *bufio.Reader, head func() bool) {
			if head() {
				readBody(r, size)
				io.WriteString(conn, "HTTP/1.1 2")
			}
		}, 502},
		{"in the answer's head", func(conn net.Conn, r *bufio.Reader, head func() bool) {
			if head() {
				readBody(r, size)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Le")
			}
		}, 502},
		{"in the answer's body", func(conn net.Conn, r *bufio.Reader, head func() bool) {
			if head() {
				readBody(r, size)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
			}
		}, 502}, // it might have been an error
		{"a 503", func(conn net.Conn, r *bufio.Reader, head func() bool) {
			if head() {
				readBody(r, size)
				io.WriteString(conn, "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nRetry-After: 0\r\n\r\n")
			}
		}, 503},
		{"a 500", func(conn net.Conn, r *bufio.Reader, head func() bool) {
			if head() {
				readBody(r, size)
				io.WriteString(conn, "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
			}
		}, 500},
	}
	body := framingBytes(86, size)
	for _, method := range []string{"PUT", "DELETE"} {
		for _, kept := range []bool{false, true} {
			for _, reset := range []bool{false, true} {
				for _, s := range stages {
					if method == "DELETE" && s.name == "mid-body" {
						continue
					}
					t.Run(fmt.Sprintf("%s/kept=%t/reset=%t/%s", method, kept, reset, s.name), func(t *testing.T) {
						var writes, connections atomic.Int64
						endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
							connections.Add(1)
							if kept { // a read first, whose connection the write then takes
								line, _, err := readHead(r)
								if err != nil {
									return
								}
								if !strings.HasPrefix(line, "GET ") { // the write, sent again
									writes.Add(1)
									return
								}
								io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
							}
							if s.name == "before reading" && kept {
								r.Peek(1) // closed while the request is on its way
								writes.Add(1)
							}
							s.kill(conn, framingBody(r, method), func() bool {
								line, _, err := readHead(r)
								if err == nil && strings.HasPrefix(line, method+" /photos/k ") {
									writes.Add(1)
								}
								return err == nil
							})
							if reset {
								conn.(*net.TCPConn).SetLinger(0)
							}
						})
						g := startGateway(t, testConfig(endpoint))
						if kept {
							if resp, text := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || text != "ok" {
								t.Fatalf("GET = %d %q, want 200", resp.StatusCode, text)
							}
						}
						upload := ""
						if method == "PUT" {
							upload = body
						}
						resp, text := g.do(method, "/photos/k", userKey, upload, "Idempotency-Key: 1", "X-Idempotency-Key: 2")
						switch {
						case reset && resp.StatusCode == 502: // a reset may overtake the answer
						case s.want == 200:
							if resp.StatusCode != 200 || resp.Header.Get("Test-Error") == "" {
								t.Errorf("answer %d %q with a clean end, want it broken", resp.StatusCode, text)
							}
						case resp.StatusCode != s.want:
							t.Errorf("answer %d %s, want %d", resp.StatusCode, text, s.want)
						}
						if n := writes.Load(); n > 1 || connections.Load() > 1 {
							t.Errorf("the backend got the %s %d times on %d connections, want it once at most", method, n, connections.Load())
						}
					})
				}
			}
		}
	}
}

// framingBody is r for a request with a body, and empty for one without.
func framingBody(r *bufio.Reader, method string) *bufio.Reader {
	if method == "PUT" {
		return r
	}
	return bufio.NewReader(strings.NewReader(""))
}

// Case 86, too: a connection that the backend has closed while nobody used it.
// Nothing was written to it, so the write may go out on another, once.
func TestAbuse086StaleConnection(t *testing.T) {
	for _, method := range []string{"PUT", "DELETE"} {
		t.Run(method, func(t *testing.T) {
			var writes atomic.Int64
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				line, header, err := readHead(r)
				if err != nil {
					return
				}
				if strings.HasPrefix(line, method) {
					writes.Add(1)
				}
				size, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
				io.Copy(io.Discard, io.LimitReader(r, size))
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") // and no word of closing
			})
			g := startGateway(t, testConfig(endpoint))
			const requests = 50
			done := int64(0)
			for i := range requests {
				body := ""
				if method == "PUT" {
					body = framingBytes(uint64(i), 1000*i)
				}
				resp, text := g.do(method, "/photos/k", userKey, body, "Idempotency-Key: 1")
				switch resp.StatusCode {
				case 200:
					done++
				case 502:
				default:
					t.Errorf("%s = %d %s, want 200 or 502", method, resp.StatusCode, text)
				}
			}
			if n := writes.Load(); n > requests || n < done {
				t.Errorf("the backend got %d writes for %d requests, of which %d were answered", n, requests, done)
			}
		})
	}
}

// Case 87: a backend that refuses an upload before it has read it is heard at
// once, and nothing is left behind, whether it reads on or not.
func TestAbuse087AnswerDuringUpload(t *testing.T) {
	const size = 8 << 20
	body := strings.Repeat("x", size)
	for _, row := range []struct {
		answer, code string
		status       int
		reads        int64 // before it answers
		drains       bool  // after it answered
	}{
		{"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n", "AccessDenied", 403, 0, true},
		{"HTTP/1.1 503 Slow Down\r\nConnection: close\r\n", "SlowDown", 503, 100_000, true},
		{"HTTP/1.1 403 Forbidden\r\n", "AccessDenied", 403, 1000, false},
		{"HTTP/1.1 507 Insufficient Storage\r\n", "QuotaExceeded", 507, 0, false},
	} {
		t.Run(fmt.Sprint(row.status, row.drains), func(t *testing.T) {
			const uploads = 4
			answered, leave := make(chan struct{}, uploads), make(chan struct{})
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if _, _, err := readHead(r); err != nil {
					return
				}
				io.Copy(io.Discard, io.LimitReader(r, row.reads))
				doc := "<Error><Code>" + row.code + "</Code><Message>BACKENDKEYID</Message></Error>"
				io.WriteString(conn, row.answer+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(doc), doc))
				if row.drains {
					io.Copy(io.Discard, r)
					answered <- struct{}{}
					return
				}
				answered <- struct{}{}
				<-leave
			})
			defer close(leave)
			g := startGateway(t, testConfig(endpoint))
			baseline := runtime.NumGoroutine()
			for range uploads {
				resp, text := g.do("PUT", "/photos/k", userKey, body)
				wantError(t, resp, text, row.status, row.code)
				checkNoSecret(t, "the answer", text)
			}
			for range uploads {
				select {
				case <-answered:
				case <-time.After(15 * time.Second):
					t.Fatal("the connection to the backend is still open after 15 s")
				}
			}
			allowed := baseline + uploads/2
			if !row.drains {
				allowed += uploads // those of the backend, which waits
			}
			framingWait(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= allowed })
		})
	}
}

// Case 88: a HEAD is a HEAD at the backend, which then sends no object; and the
// answers that have no body keep the headers they exist for.
func TestAbuse088AnswersWithoutBody(t *testing.T) {
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

// A framingFaults is a network before a backend that cuts connections, at
// points that follow from a seed.
type framingFaults struct {
	backend  *framingDemo
	endpoint string

	mu     sync.Mutex // guards open and dialed
	open   map[net.Conn]bool
	dialed int64

	active atomic.Int64 // connections under way
	cuts   atomic.Int64
}

func startFramingFaults(t *testing.T, seed uint64) *framingFaults {
	f := &framingFaults{backend: startFramingDemo(t), open: map[net.Conn]bool{}}
	f.endpoint = startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		f.active.Add(1)
		defer f.active.Add(-1)
		f.relay(rand.New(rand.NewPCG(seed, uint64(n))), conn, r)
	})
	return f
}

func (f *framingFaults) relay(random *rand.Rand, client net.Conn, r io.Reader) {
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
func (f *framingFaults) settle(t *testing.T) {
	t.Helper()
	framingWait(t, "the backend to be done", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for conn := range f.open {
			conn.Close()
		}
		return f.active.Load() == 0 && len(f.open) == 0 && f.backend.ended.Load() == f.dialed
	})
}

// Case 89: many operations, one after another, through a network that breaks,
// against a map. After an error an object is the old one or the new one, until
// a read shows which; it is never a part of one or a mix of both.
func TestAbuse089Model(t *testing.T) {
	const absent = "\x00absent"
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			faults := startFramingFaults(t, seed)
			g := startGateway(t, testConfig(faults.endpoint))
			random := rand.New(rand.NewPCG(seed, 89))
			keys := []string{"a", "b", "c d", "é"}
			model := map[string][]string{} // what may be there
			for _, key := range keys {
				model[key] = []string{absent}
			}
			// saw checks what a read has shown of a key, and learns from it.
			saw := func(key string, matches func(string) bool) {
				t.Helper()
				possible := slices.DeleteFunc(slices.Clone(model[key]), func(v string) bool { return !matches(v) })
				if len(possible) == 0 {
					t.Fatalf("%q is none of the %d objects it may be", key, len(model[key]))
				}
				model[key] = possible
			}
			whole := func(resp *http.Response) bool { return resp.Header.Get("Test-Error") == "" }
			etag := func(v string) string { return fmt.Sprintf(`"%x"`, md5.Sum([]byte(v))) }
			failed := 0
			read := func(key string) bool {
				resp, body := g.do("GET", "/photos/"+uriEncode(key, true), readOnlyKey, "")
				switch {
				case resp.StatusCode == 200 && whole(resp):
					saw(key, func(v string) bool { return v == body && resp.Header.Get("Etag") == etag(v) })
				case resp.StatusCode == 200: // a part of it, and visibly so
					if !slices.ContainsFunc(model[key], func(v string) bool { return v != absent && strings.HasPrefix(v, body) }) {
						t.Fatalf("GET %q broke off after %d bytes that are not the first of any object it may be", key, len(body))
					}
					return false
				case resp.StatusCode == 404:
					saw(key, func(v string) bool { return v == absent })
				case resp.StatusCode != 502 && resp.StatusCode != 0:
					t.Fatalf("GET = %d %s, want 200, 404 or 502", resp.StatusCode, body)
				default:
					return false
				}
				return true
			}
			for range 300 {
				key := keys[random.IntN(len(keys))]
				path := "/photos/" + uriEncode(key, true)
				ok := true
				switch random.IntN(6) {
				case 0, 1:
					size := random.IntN(6000)
					if random.IntN(10) == 0 {
						size = 100_000
					}
					value := framingBytes(random.Uint64(), size)
					var header []string
					if random.IntN(2) == 0 {
						header = []string{fmt.Sprintf("x-amz-content-sha256: %x", sha256.Sum256([]byte(value)))}
					}
					resp, body := g.do("PUT", path, userKey, value, header...)
					if ok = resp.StatusCode == 200 && whole(resp); ok {
						model[key] = []string{value}
					} else if model[key] = append(model[key], value); resp.StatusCode != 502 && resp.StatusCode != 200 {
						t.Fatalf("PUT = %d %s, want 200 or 502", resp.StatusCode, body)
					}
				case 2:
					resp, body := g.do("DELETE", path, userKey, "")
					if ok = resp.StatusCode == 204; ok {
						model[key] = []string{absent}
					} else if model[key] = append(model[key], absent); resp.StatusCode != 502 {
						t.Fatalf("DELETE = %d %s, want 204 or 502", resp.StatusCode, body)
					}
				case 3:
					ok = read(key)
				case 4:
					resp, _ := g.do("HEAD", path, readOnlyKey, "")
					switch resp.StatusCode {
					case 200:
						saw(key, func(v string) bool {
							return v != absent && resp.ContentLength == int64(len(v)) && resp.Header.Get("Etag") == etag(v)
						})
					case 404:
						saw(key, func(v string) bool { return v == absent })
					default:
						ok = false
					}
				case 5:
					query := []string{"", "?list-type=2", "?list-type=2&encoding-type=url"}[random.IntN(3)]
					resp, body := g.do("GET", "/photos"+query, readOnlyKey, "")
					if ok = resp.StatusCode == 200 && whole(resp); !ok {
						break
					}
					var list struct {
						Contents []struct {
							Key, ETag string
							Size      int64
						}
					}
					if err := xml.Unmarshal([]byte(body), &list); err != nil {
						t.Fatalf("a listing that is not XML: %v\n%s", err, body)
					}
					listed := map[string]bool{}
					for _, o := range list.Contents {
						if strings.HasSuffix(query, "url") {
							o.Key = framingDecode(t, o.Key)
						}
						listed[o.Key] = true
						if model[o.Key] == nil {
							t.Fatalf("the listing has %q, which nobody stored", o.Key)
						}
						saw(o.Key, func(v string) bool { return v != absent && o.Size == int64(len(v)) && o.ETag == etag(v) })
					}
					for _, key := range keys {
						if !listed[key] {
							saw(key, func(v string) bool { return v == absent })
						}
					}
				}
				if !ok {
					failed++
					faults.settle(t)
				}
			}
			for _, key := range keys {
				for tries := 0; !read(key); tries++ {
					if tries == 50 {
						t.Fatalf("%q could not be read in 50 tries", key)
					}
				}
				if len(model[key]) != 1 {
					slices.Sort(model[key])
					if n := len(slices.Compact(model[key])); n != 1 {
						t.Errorf("%q was read, and may still be any of %d objects", key, n)
					}
				}
			}
			if failed == 0 || faults.cuts.Load() == 0 {
				t.Errorf("%d operations failed and %d connections were cut, want some", failed, faults.cuts.Load())
			}
		})
	}
}

func framingDecode(t *testing.T, s string) string {
	t.Helper()
	var b []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%' && i+2 < len(s):
			c, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				t.Fatalf("key %q is not properly encoded", s)
			}
			b = append(b, c...)
			i += 2
		case s[i] == '+':
			b = append(b, ' ')
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}
