package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A breakingStore is a backend of one object, which breaks off its answers.
type breakingStore struct {
	object []byte
	header string // of every answer, each line with its CRLF
	total  string // size in Content-Range; "" is the object's
	cuts   []int  // by the number of the request: bytes before it breaks off; -1: never
	answer []string
	reset  bool // it breaks off by a reset

	mu       sync.Mutex
	requests []http.Header
}

// breakOff answers requests until the test ends.
func (s *breakingStore) start(t *testing.T) (endpoint string) {
	return startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for {
			_, head, err := readHead(r)
			if err != nil {
				return
			}
			s.mu.Lock()
			n := len(s.requests)
			s.requests = append(s.requests, http.Header(head))
			s.mu.Unlock()
			if n < len(s.answer) && s.answer[n] != "" {
				io.WriteString(conn, s.answer[n])
				continue
			}
			if !s.send(conn, n, head.Get("Range")) {
				if s.reset {
					conn.(*net.TCPConn).SetLinger(0)
				}
				return
			}
		}
	})
}

// send sends the object or a range of it, and reports whether it sent all of that.
func (s *breakingStore) send(conn net.Conn, n int, span string) bool {
	first, last := 0, len(s.object)-1
	status, contentRange := "200 OK", ""
	if span != "" {
		fmt.Sscanf(span, "bytes=%d-%d", &first, &last)
		total := s.total
		if n == 0 || total == "" {
			total = fmt.Sprint(len(s.object))
		}
		status, contentRange = "206 Partial Content", fmt.Sprintf("Content-Range: bytes %d-%d/%s\r\n", first, last, total)
	}
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\n%s%sContent-Length: %d\r\n\r\n", status, s.header, contentRange, last+1-first)
	body := s.object[first : last+1]
	whole := n >= len(s.cuts) || s.cuts[n] < 0 || s.cuts[n] >= len(body)
	if !whole {
		body = body[:s.cuts[n]]
	}
	conn.Write(body)
	return whole
}

// A download whose backend breaks off is continued if it can be known that the client gets one
// whole object, and breaks off visibly if not.
func TestBrokenDownloadIsContinuedExactlyOrBreaksOff(t *testing.T) {
	object := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(object)
	const strong = "ETag: \"e\"\r\n"
	refused := "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
	slow := "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
	part := func(etag string, first, last, total int) string {
		return fmt.Sprintf("HTTP/1.1 206 Partial Content\r\nETag: %s\r\nContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n%s",
			etag, first, last, total, last+1-first, object[first:last+1])
	}
	for _, test := range []struct {
		name     string
		store    *breakingStore
		query    string
		span     string // Range of the client
		whole    bool   // the client gets everything
		requests int
	}{
		{"strong ETag", &breakingStore{header: strong, cuts: []int{300_000}}, "", "", true, 2},
		{"by a reset", &breakingStore{header: strong, cuts: []int{300_000}, reset: true}, "", "", true, 2},
		{"three times", &breakingStore{header: strong, cuts: []int{300_000, 1000, 0}}, "", "", true, 4},
		{"four times", &breakingStore{header: strong, cuts: []int{300_000, 1000, 1000, 1000}}, "", "", false, 4},
		{"after the head", &breakingStore{header: strong, cuts: []int{0}}, "", "", true, 2},
		{"before the last byte", &breakingStore{header: strong, cuts: []int{len(object) - 1}}, "", "", true, 2},
		{"weak ETag", &breakingStore{header: "ETag: W/\"e\"\r\n", cuts: []int{300_000}}, "", "", false, 1},
		{"no ETag", &breakingStore{cuts: []int{300_000}}, "", "", false, 1},
		{"a version", &breakingStore{header: "x-amz-version-id: v7\r\n", cuts: []int{300_000}}, "versionId=v7", "", true, 2},
		{"the version null", &breakingStore{header: "x-amz-version-id: null\r\n", cuts: []int{300_000}}, "versionId=null", "", false, 1},
		{"a part by its number", &breakingStore{header: strong, cuts: []int{300_000}}, "partNumber=1", "", false, 1},
		{"a range", &breakingStore{header: strong, cuts: []int{300_000}}, "", "bytes=1000-900000", true, 2},
		{"a range, twice", &breakingStore{header: strong, cuts: []int{300_000, 300_000}}, "", "bytes=1000-900000", true, 3},
		{"after SlowDown", &breakingStore{header: strong, cuts: []int{300_000}, answer: []string{"", slow}}, "", "", true, 3},
		{"to be asked for in an hour", &breakingStore{header: strong, cuts: []int{300_000}, answer: []string{"", strings.Replace(slow, "Content-Length", "Retry-After: 3600\r\nContent-Length", 1)}}, "", "", false, 2},
		{"the object has changed", &breakingStore{header: strong, cuts: []int{300_000}, answer: []string{"", refused}}, "", "", false, 2},
		{"another ETag", &breakingStore{header: strong, cuts: []int{300_000}, answer: []string{"", part(`"f"`, 300_000, 1<<20-1, 1<<20)}}, "", "", false, 2},
		{"another size", &breakingStore{header: strong, cuts: []int{300_000}, total: "1048577"}, "", "", false, 2},
		{"an unknown size", &breakingStore{header: strong, cuts: []int{300_000}, total: "*"}, "", "", false, 2},
		{"another range", &breakingStore{header: strong, cuts: []int{300_000}, answer: []string{"", part(`"e"`, 299_999, 1<<20-1, 1<<20)}}, "", "", false, 2},
		{"the range is ignored", &breakingStore{header: strong, cuts: []int{300_000}, answer: []string{"", "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 1048576\r\n\r\n"}}, "", "", false, 2},
	} {
		for _, client := range []string{"HTTP/1.1", "HTTP/1.1 and TLS", "HTTP/2"} {
			t.Run(test.name+", "+client, func(t *testing.T) {
				store := &breakingStore{object: object, header: test.store.header, total: test.store.total, cuts: test.store.cuts, answer: test.store.answer, reset: test.store.reset}
				g := startTLS(t, testConfig(store.start(t), with("rate_limit.requests", 0)), nil)
				plain := g.plain
				tr := g.client(2)
				switch client {
				case "HTTP/1.1":
					tr, g.url = &http.Transport{}, plain
				case "HTTP/1.1 and TLS":
					tr = g.client(1)
				}
				defer tr.CloseIdleConnections()
				req := g.request("GET", "/photos/k?"+test.query, userKey, nil, 0)
				want := object
				if test.span != "" {
					req.Header.Set("Range", test.span)
					want = object[1000:900_001]
				}
				_, body, err := answerOf(t, tr, req)
				if test.whole && (err != nil || !bytes.Equal([]byte(body), want)) {
					t.Errorf("the client got %d bytes, equal: %t, %v; want all %d", len(body), bytes.Equal([]byte(body), want), err, len(want))
				}
				if !test.whole && (err == nil || len(body) >= len(want)) {
					t.Errorf("the client got %d bytes and %v, want an answer that breaks off", len(body), err)
				}
				if !bytes.HasPrefix(want, []byte(body)) {
					t.Error("the client got bytes of another object")
				}
				store.mu.Lock()
				defer store.mu.Unlock()
				if len(store.requests) != test.requests {
					t.Fatalf("the backend got %d requests, want %d", len(store.requests), test.requests)
				}
				for _, head := range store.requests[1:] {
					if etag := strings.Contains(test.store.header, strong); !strings.HasPrefix(head.Get("Range"), "bytes=") || etag && head.Get("If-Match") != `"e"` {
						t.Errorf("the rest was asked for by the range %q, If-Match %q", head.Get("Range"), head.Get("If-Match"))
					}
				}
			})
		}
	}
}

// A small download is asked for again, whatever its ETag: the client has seen nothing of it.
func TestBrokenSmallDownloadIsAskedForAgain(t *testing.T) {
	for _, test := range []struct {
		cuts     []int
		status   int
		requests int
	}{
		{[]int{1000}, 200, 2}, {[]int{0, 4095}, 200, 3}, {[]int{1, 2, 3, 4}, 502, 3},
	} {
		store := &breakingStore{object: bytes.Repeat([]byte("m"), 4096), cuts: test.cuts}
		g := startGateway(t, testConfig(store.start(t)))
		resp, body := g.do("GET", "/photos/k", userKey, "")
		if resp.StatusCode != test.status || len(store.requests) != test.requests || resp.StatusCode == 200 && body != string(store.object) {
			t.Errorf("cut after %d: %d with %d bytes after %d requests, want %d after %d", test.cuts, resp.StatusCode, len(body), len(store.requests), test.status, test.requests)
		}
		line := g.lines()[0]
		if n, _ := line["resumed"].(float64); int(n) != test.requests-1 || line["aborted"] != nil {
			t.Errorf("log: %v, want resumed %d and no aborted", line, test.requests-1)
		}
	}
}

// A page of a list that breaks off is asked for again.
func TestBrokenPageOfAListIsAskedForAgain(t *testing.T) {
	page := `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key></Contents></ListBucketResult>`
	for _, query := range []string{"", "?list-type=2", "?max-keys=1"} {
		store := &breakingStore{object: []byte(page), cuts: []int{50, 3}}
		g := startGateway(t, testConfig(store.start(t)))
		if resp, body := g.do("GET", "/photos"+query, userKey, ""); resp.StatusCode != 200 || !strings.Contains(body, "<Key>k</Key>") || len(store.requests) != 3 {
			t.Errorf("GET /photos%s = %d %s after %d requests, want the list after 3", query, resp.StatusCode, body, len(store.requests))
		}
	}
}

// A copy between accounts goes on when its source breaks off, and stores one whole object.
func TestBrokenSourceOfACopyIsContinued(t *testing.T) {
	object := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(object)
	for _, test := range []struct {
		etag   string
		stored bool
	}{{`"e"`, true}, {`W/"e"`, false}} {
		store := &breakingStore{object: object, header: "ETag: " + test.etag + "\r\nx-amz-tagging-count: 0\r\n", cuts: []int{500_000, 100_000}}
		target := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("ETag", `"stored"`) })
		g := startGateway(t, testConfig(store.start(t), with("accounts.other", map[string]any{
			"endpoint_url": target.URL, "access_key_id": "OTHER", "secret_access_key": "other-secret", "buckets": []any{"far"},
		}), with("users.user.allowed_buckets", []any{"photos", "far"})))
		resp, body := g.do("PUT", "/far/copy", userKey, "", "x-amz-copy-source: /photos/k")
		whole := 0 // uploads that came whole
		for _, upload := range target.requests() {
			if upload.err == nil {
				whole++
				if upload.body != string(object) {
					t.Error("the target got another object")
				}
			}
		}
		if (whole == 1) != test.stored || whole > 1 || (resp.StatusCode == 200) != test.stored {
			t.Errorf("a copy of a source with the ETag %s = %d %s, stored %d times, want success and stored: %t", test.etag, resp.StatusCode, body, whole, test.stored)
		}
	}
}

// A target that refuses a copy early ends it, though the source has stalled: nobody waits for what
// nobody takes.
func TestRefusedCopyDoesNotWaitForItsSource(t *testing.T) {
	var asked atomic.Int32
	source := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		readHead(r)
		asked.Add(1)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nx-amz-tagging-count: 0\r\nContent-Length: %d\r\n\r\n%s", 1<<20, bytesOf(1, 300_000))
		io.Copy(io.Discard, r) // until the gateway gives up
	})
	target := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		readHead(r)
		io.CopyN(io.Discard, r, 200_000)
		io.WriteString(conn, "HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, r)
	})
	g := startGateway(t, testConfig(source, with("accounts.other", map[string]any{
		"endpoint_url": target, "access_key_id": "OTHER", "secret_access_key": "other-secret", "buckets": []any{"far"},
	}), with("users.user.allowed_buckets", []any{"photos", "far"})))
	start := time.Now()
	resp, body := g.do("PUT", "/far/copy", userKey, "", "x-amz-copy-source: /photos/k")
	if resp.StatusCode != 507 || time.Since(start) > 10*time.Second {
		t.Errorf("a copy that its target refuses = %d %s after %s, want 507 at once", resp.StatusCode, body, time.Since(start))
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the source was asked %d times, want once", n)
	}
}

// A body that is interrupted while its rest is asked for does not wait for the rest.
func TestInterruptedBodyIsNotWaitedFor(t *testing.T) {
	u := startGateway(t, testConfig("http://backend.example")).gw.accounts["main"]
	var body *resumedBody
	var backends sync.WaitGroup
	dialed := 0
	u.pool.dialer = func(context.Context, string, string) (net.Conn, error) {
		gateway, backend := net.Pipe()
		first := dialed == 0
		if dialed++; !first {
			body.interrupt()
		}
		backends.Go(func() {
			defer backend.Close()
			r := bufio.NewReader(backend)
			readHead(r)
			if first {
				io.WriteString(backend, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 10\r\n\r\n01234")
				return
			}
			io.WriteString(backend, "HTTP/1.1 206 Partial Content\r\nETag: \"e\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n\r\n")
			io.Copy(io.Discard, r)
		})
		return gateway, nil
	}
	out := &outgoing{method: "GET", target: target{bucket: "photos", key: "k"}, header: http.Header{}, payloadHash: emptyPayload}
	resp, err := u.once(t.Context(), out)
	if err != nil {
		t.Fatal(err)
	}
	body = &resumedBody{ctx: t.Context(), rest: newResumption(u, out, resp), body: resp.Body.(*answerBody)}
	got, err := io.ReadAll(body)
	body.Close()
	backends.Wait()
	if string(got) != "01234" || !errors.Is(err, os.ErrDeadlineExceeded) || dialed != 2 {
		t.Errorf("%q, %v after %d connections, want what came before the interruption and its error", got, err, dialed)
	}
}

// Whatever Content-Range an answer has, the rest of it that is asked for is within the object, ends
// where the answer would have ended, and is accepted in no other form.
func FuzzResumption(f *testing.F) {
	f.Add("bytes 0-9/10", int64(10), int64(3), "bytes 3-9/10")
	f.Add("bytes 5-9/*", int64(5), int64(1), "bytes 6-9/10")
	f.Add("bytes 999999999999999999-999999999999999999/999999999999999999", int64(1), int64(0), "")
	f.Add("bytes 9-5/10", int64(-3), int64(0), "bytes 0-0/1")
	f.Fuzz(func(t *testing.T, contentRange string, length, received int64, next string) {
		answer := func(contentRange string, length int64) *http.Response {
			return &http.Response{StatusCode: 206, ContentLength: length, Body: &answerBody{left: length},
				Header: http.Header{"Etag": {`"e"`}, "Content-Range": {contentRange}}}
		}
		r := newResumption(nil, &outgoing{method: "GET", header: http.Header{"Range": {"bytes=0-"}, "If-Range": {`"e"`}}}, answer(contentRange, length))
		if r == nil || received < 0 || received >= length {
			return
		}
		var first, last, size int64
		if n, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &first, &last, &size); n != 3 || err != nil || last-first+1 != length || last >= size || first < 0 {
			t.Fatalf("an answer of %d bytes with the range %q can be continued", length, contentRange)
		}
		out := r.rest(received)
		if want := fmt.Sprintf("bytes=%d-%d", first+received, last); out.header.Get("Range") != want || out.header.Get("If-Match") != `"e"` || out.header.Get("If-Range") != "" {
			t.Fatalf("the rest is asked for with %v, want the range %s", out.header, want)
		}
		exact := fmt.Sprintf("bytes %d-%d/%d", first+received, last, size)
		if !r.continues(answer(exact, length-received), received) {
			t.Fatalf("the rest %q is refused", exact)
		}
		if next != exact && r.continues(answer(next, length-received), received) || r.continues(answer(exact, length-received+1), received) {
			t.Fatalf("an answer with the range %q is taken for the rest %q", next, exact)
		}
	})
}

// A rangeStore is a backend of one object that answers ranges as RFC 9110 section 14 says, and
// breaks off its answers.
type rangeStore struct {
	object []byte
	cuts   [4]byte // by the number of the request: how much of its answer is sent, in 255ths
	grown  int     // bytes that the object has more from the second request on, under the same ETag

	open     sync.WaitGroup
	requests int // in turn
	broken   int // answers
}

// slice returns the first and the last offset of a range in an object of a size: all of it if
// there is no range that a server must heed, and false if it can't be satisfied.
func (s *rangeStore) slice(header string, size int) (first, last int, partial, ok bool) {
	from, to, _ := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	a, errFrom := strconv.Atoi(from)
	b, errTo := strconv.Atoi(to)
	switch {
	case header == "", errFrom == nil && errTo == nil && b < a:
		return 0, size - 1, false, true
	case errFrom != nil: // the last bytes
		return max(0, size-b), size - 1, true, b > 0 && size > 0
	case errTo != nil:
		b = size - 1
	}
	return a, min(b, size-1), true, a < size
}

func (s *rangeStore) dial(context.Context, string, string) (net.Conn, error) {
	gateway, backend := net.Pipe()
	s.open.Go(func() {
		defer backend.Close()
		for r := bufio.NewReader(backend); ; {
			_, head, err := readHead(r)
			if err != nil || !s.answer(backend, http.Header(head)) {
				return
			}
		}
	})
	return gateway, nil
}

// answer answers a request, and reports whether it did so to the end.
func (s *rangeStore) answer(conn net.Conn, head http.Header) bool {
	n := s.requests
	s.requests++
	object := s.object
	if n > 0 {
		object = append(slices.Clone(object), make([]byte, s.grown)...)
	}
	first, last, partial, ok := s.slice(head.Get("Range"), len(object))
	switch {
	case head.Get("If-Match") != "" && head.Get("If-Match") != `"e"`:
		io.WriteString(conn, "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n")
		return true
	case !ok:
		fmt.Fprintf(conn, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */%d\r\nContent-Length: 0\r\n\r\n", len(object))
		return true
	case partial:
		fmt.Fprintf(conn, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes %d-%d/%d\r\n", first, last, len(object))
	default:
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
	}
	body := object[first : last+1]
	fmt.Fprintf(conn, "ETag: \"e\"\r\nContent-Length: %d\r\n\r\n", len(body))
	sent := len(body)
	if n < len(s.cuts) {
		sent = len(body) * int(s.cuts[n]) / 255
	}
	conn.Write(body[:sent])
	if sent < len(body) {
		s.broken++
	}
	return sent == len(body)
}

// Whichever range of an object is asked for, and wherever the answers break off, what is read is
// that range of the object, exactly, or the beginning of it and an error; and it is that range if no
// more than maxResumes answers broke off and the object stayed.
func FuzzBrokenRangeIsContinued(f *testing.F) {
	f.Add(uint16(1000), "bytes=100-899", uint32(0x00_ff_80_40), byte(0))
	f.Add(uint16(1000), "bytes=100-", uint32(0xff_01_80_00), byte(0))
	f.Add(uint16(1000), "bytes=-300", uint32(0xff_ff_fe_01), byte(0))
	f.Add(uint16(10), "bytes=-300", uint32(0x80_80_80_80), byte(0))
	f.Add(uint16(10), "bytes=5-500", uint32(0xff_ff_80_80), byte(1))
	f.Add(uint16(1), "", uint32(0xff_ff_00_00), byte(0))
	f.Add(uint16(10), "bytes=9-5", uint32(0xff_ff_ff_80), byte(0))
	u := startGateway(f, testConfig("http://backend.example")).gw.accounts["main"]
	form := regexp.MustCompile(`^bytes=([0-9]{1,8}-[0-9]{0,8}|-[0-9]{1,8})$`)
	f.Fuzz(func(t *testing.T, size uint16, span string, cuts uint32, grown byte) {
		if span != "" && !form.MatchString(span) {
			return
		}
		store := &rangeStore{object: []byte(bytesOf(1, int(size))), grown: int(grown)}
		binary.BigEndian.PutUint32(store.cuts[:], cuts)
		u.pool.dialer, u.budget = store.dial, newRetryBudget(time.Now())
		out := &outgoing{method: "GET", target: target{bucket: "photos", key: "k"}, header: http.Header{}, payloadHash: emptyPayload}
		if span != "" {
			out.header["Range"] = []string{span}
		}
		first, last, _, ok := store.slice(span, int(size))
		resp, err := u.once(t.Context(), out)
		if err != nil {
			t.Fatal(err)
		}
		body := &resumedBody{ctx: t.Context(), rest: newResumption(u, out, resp), body: resp.Body.(*answerBody)}
		got, err := io.ReadAll(body)
		body.Close()
		u.pool.closeIdle()
		store.open.Wait()
		if !ok {
			if resp.StatusCode != 416 || len(got) > 0 || store.requests != 1 {
				t.Fatalf("%s of %d bytes = %d after %d requests, want 416 after one", span, size, resp.StatusCode, store.requests)
			}
			return
		}
		want := store.object[first : last+1]
		if !bytes.HasPrefix(want, got) || err == nil && len(got) != len(want) {
			t.Fatalf("%q of %d bytes: %d bytes and %v, want %d of offset %d", span, size, len(got), err, len(want), first)
		}
		if err != nil && store.broken <= maxResumes && grown == 0 {
			t.Fatalf("%q of %d bytes, %d answers broken off: %v", span, size, store.broken, err)
		}
		if store.requests > 1+maxResumes {
			t.Fatalf("%d requests, want at most %d", store.requests, 1+maxResumes)
		}
	})
}
