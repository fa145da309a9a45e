package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

var errTestVerify = errors.New("verify says no")

// payloadSources are ways in which the same bytes may arrive: all at once, one
// at a time, with the end in the same Read as the last of them, or by halves.
var payloadSources = map[string]func(io.Reader) io.Reader{
	"plain":    func(r io.Reader) io.Reader { return r },
	"one byte": iotest.OneByteReader,
	"half":     iotest.HalfReader,
	"data+EOF": iotest.DataErrReader,
	"one+EOF":  func(r io.Reader) io.Reader { return iotest.DataErrReader(iotest.OneByteReader(r)) },
}

func TestHold(t *testing.T) {
	errSource := errors.New("the source broke")
	for _, row := range []struct {
		source string
		after  error // what the source ends with, if not io.EOF
		size   int64
		verify error
		out    string
		err    error // nil: none; errAny: some error
	}{
		// Whole and good.
		{"a", nil, 1, nil, "a", nil},
		{"ab", nil, 2, nil, "ab", nil},
		{"hello world", nil, 11, nil, "hello world", nil},
		// Whole, but not good: all but the last byte.
		{"a", nil, 1, errTestVerify, "", errTestVerify},
		{"ab", nil, 2, errTestVerify, "a", errTestVerify},
		{"hello world", nil, 11, errTestVerify, "hello worl", errTestVerify},
		// Too short. The end is not an end, however near it is.
		{"", nil, 1, nil, "", io.ErrUnexpectedEOF},
		{"", nil, 11, nil, "", io.ErrUnexpectedEOF},
		{"hello", nil, 11, nil, "hello", io.ErrUnexpectedEOF},
		{"hello worl", nil, 11, nil, "hello worl", io.ErrUnexpectedEOF},
		// Too long: then the last byte is not the last.
		{"ab", nil, 1, nil, "", errAny},
		{"hello world!", nil, 11, nil, "hello worl", errAny},
		{"hello world!!", nil, 11, nil, "hello worl", errAny},
		// The source fails: before the last byte, at it, and where its end should be.
		{"", errSource, 11, nil, "", errSource},
		{"hello", errSource, 11, nil, "hello", errSource},
		{"hello worl", errSource, 11, nil, "hello worl", errSource},
		{"hello world", errSource, 11, nil, "hello worl", errSource},
		{"a", errSource, 1, nil, "", errSource},
		{"hello world", io.ErrUnexpectedEOF, 11, nil, "hello worl", io.ErrUnexpectedEOF},
		// Nothing to hold back: the caller verifies first.
		{"", nil, 0, errTestVerify, "", nil},
	} {
		for name, wrap := range payloadSources {
			var source io.Reader = strings.NewReader(row.source)
			if row.after != nil {
				source = io.MultiReader(source, iotest.ErrReader(row.after))
			}
			verified := false
			body := hold(wrap(source), row.size, func() error { verified = true; return row.verify })
			out, err := io.ReadAll(body)
			if string(out) != row.out || !errors.Is(err, row.err) && row.err != errAny || row.err == errAny && err == nil {
				t.Errorf("hold(%q+%v by %s, %d, verify %v) = %q, %v, want %q, %v", row.source, row.after, name, row.size, row.verify, out, err, row.out, row.err)
			}
			if verified && int64(len(row.source)) != row.size {
				t.Errorf("hold(%q by %s, %d) verified a body of another length", row.source, name, row.size)
			}
			// It stays as it ended.
			for range 3 {
				n, again := body.Read(make([]byte, 8))
				if n != 0 || err == nil && again != io.EOF || err != nil && again != err {
					t.Errorf("hold(%q by %s, %d): Read after the end = %d, %v, want 0 and %v", row.source, name, row.size, n, again, err)
				}
			}
		}
	}
}

// errAny stands for an error whose value does not matter.
var errAny = errors.New("any error")

// A Read into nothing returns nothing, and is no reason to verify.
func TestHoldEmptyRead(t *testing.T) {
	body := hold(strings.NewReader("a"), 1, func() error { return errTestVerify })
	if n, err := body.Read(nil); n != 0 || err != nil {
		t.Errorf("Read(nil) = %d, %v, want 0, nil", n, err)
	}
}

// Verify sees the whole body: with its digest, the digest of all that was read.
func TestVerifySHA256(t *testing.T) {
	const text = "hello world"
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
	for _, row := range []struct {
		digest string
		out    string
	}{
		{sum, text},
		{fmt.Sprintf("%x", sha256.Sum256([]byte(text[:10]))), text[:10]},
		{emptyPayload, text[:10]},
		{strings.Repeat("0", 64), text[:10]},
	} {
		for name, wrap := range payloadSources {
			hashed, verify := verifySHA256(wrap(strings.NewReader(text)), row.digest)
			out, err := io.ReadAll(hold(hashed, int64(len(text)), verify))
			if string(out) != row.out || (err == nil) != (row.out == text) {
				t.Errorf("%q by %s with digest %s = %q, %v, want %q", text, name, row.digest, out, err, row.out)
			}
			if refusal, ok := errors.AsType[*apiError](err); err != nil && (!ok || refusal.Code != "XAmzContentSHA256Mismatch") {
				t.Errorf("error %v, want XAmzContentSHA256Mismatch", err)
			}
		}
	}
}

func TestRealDigest(t *testing.T) {
	for _, row := range []struct {
		value, want string
		ok          bool
	}{
		{emptyPayload, emptyPayload, true},
		{strings.ToUpper(emptyPayload), emptyPayload, true},
		{unsignedPayload, "", false},
		{"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "", false},
		{"", "", false},
		{emptyPayload[:62], "", false},
		{emptyPayload[:63], "", false},
		{emptyPayload + "00", "", false},
		{" " + emptyPayload[1:], "", false},
		{"g" + emptyPayload[1:], "", false},
	} {
		got, ok := realDigest(row.value)
		if ok != row.ok || ok && got != row.want {
			t.Errorf("realDigest(%q) = %q, %t, want %q, %t", row.value, got, ok, row.want, row.ok)
		}
	}
}

// What comes out is the source whole if verify was asked and agreed, and
// otherwise so much less than size bytes that nobody can take it for whole.
// Sizes of Reads and the way the source arrives change nothing.
func FuzzHold(f *testing.F) {
	f.Add([]byte("hello world"), int64(11), true, byte(0), byte(4))
	f.Add([]byte("hello world"), int64(11), false, byte(1), byte(1))
	f.Add([]byte("hello world"), int64(10), true, byte(2), byte(64))
	f.Add([]byte("hello world"), int64(12), true, byte(3), byte(3))
	f.Add([]byte("a"), int64(1), false, byte(4), byte(0))
	f.Add([]byte(""), int64(0), false, byte(0), byte(1))
	f.Add([]byte(""), int64(1), true, byte(0), byte(1))
	wraps := []string{"plain", "one byte", "half", "data+EOF", "one+EOF"}
	f.Fuzz(func(t *testing.T, source []byte, size int64, good bool, way, step byte) {
		if size < 0 || size > 1<<20 {
			return
		}
		asked := false
		body := hold(payloadSources[wraps[int(way)%len(wraps)]](bytes.NewReader(source)), size, func() error {
			if asked {
				t.Error("verify was called twice")
			}
			asked = true
			if good {
				return nil
			}
			return errTestVerify
		})
		var out []byte
		var err error
		p := make([]byte, 1+int(step))
		for reads := 0; err == nil; reads++ {
			if reads > 2*len(source)+10 {
				t.Fatalf("no end after %d reads of a source of %d bytes", reads, len(source))
			}
			var n int
			n, err = body.Read(p)
			out = append(out, p[:n]...)
		}
		switch {
		case !bytes.HasPrefix(source, out):
			t.Fatalf("%q came out of %q, which does not begin so", out, source)
		case err == io.EOF && size > 0 && (!asked || !good || !bytes.Equal(out, source) || int64(len(out)) != size):
			t.Fatalf("%q of %q ended well; size %d, verify asked %t, good %t", out, source, size, asked, good)
		case err == io.EOF && size == 0 && len(out) != 0:
			t.Fatalf("%q came out where nothing was to", out)
		case err != io.EOF && int64(len(out)) >= size:
			t.Fatalf("%q has %d bytes although it failed with %v; want less than %d", out, len(out), err, size)
		case err != io.EOF && good && int64(len(source)) == size:
			t.Fatalf("a good body of the right length failed: %v", err)
		}
	})
}

// aws-chunked is how a body travels. It is never stored, returned or copied, also
// not where a backend has stored it, or a client sends it with another operation.
func TestFramingIsNeverStoredReturnedOrCopied(t *testing.T) {
	for stored, want := range map[string]string{"aws-chunked": "", "aws-chunked,gzip": "gzip", "gzip, AWS-Chunked": "gzip", "gzip": "gzip"} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "GET" || r.Method == "HEAD" {
				w.Header().Set("Content-Encoding", stored)
			}
			if r.URL.Query().Has("tagging") {
				w.Header().Del("Content-Encoding")
			}
			answerAsS3(w, r)
		})
		sink := startRecorder(t, answerAsS3)
		g := startGateway(t, twoAccounts(backend.URL, sink.URL))
		for _, method := range []string{"GET", "HEAD"} {
			resp, _ := g.do(method, "/photos/k", userKey, "")
			if got := strings.Join(resp.Header["Content-Encoding"], ","); resp.StatusCode != 200 || got != want {
				t.Errorf("%s of an object stored with %q = %d with Content-Encoding %q, want %q", method, stored, resp.StatusCode, got, want)
			}
		}
		before := len(backend.requests())
		for _, r := range []struct{ method, target, header string }{
			{"POST", "/photos/k?uploads", ""}, {"PUT", "/photos/k", "x-amz-copy-source: photos/a"}, {"PUT", "/faraway/k", "x-amz-copy-source: photos/a"},
		} {
			header := []string{"content-encoding: " + stored, "x-amz-metadata-directive: REPLACE"}
			if r.header != "" {
				header = append(header, r.header)
			}
			if resp, body := g.do(r.method, r.target, userKey, "", header...); resp.StatusCode != 200 {
				t.Fatalf("%s %s = %d %s", r.method, r.target, resp.StatusCode, body)
			}
		}
		if resp, body := g.do("PUT", "/faraway/k", userKey, "", "x-amz-copy-source: photos/a"); resp.StatusCode != 200 {
			t.Fatalf("copy = %d %s", resp.StatusCode, body)
		}
		for _, seen := range append(backend.requests()[before:], sink.requests()...) {
			if got := strings.Join(seen.header["Content-Encoding"], ","); seen.method != "GET" && got != want {
				t.Errorf("%s %s with %q: the backend got Content-Encoding %q, want %q", seen.method, seen.uri, stored, got, want)
			}
		}
	}
}

// The limit counts the bytes that are stored, by whatever operation and
// framing they come.
func TestMaxFileSizeCountsStoredBytes(t *testing.T) {
	const limit = 1000
	source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/chunked") {
			w.(http.Flusher).Flush() // no length
		}
		io.WriteString(w, strings.Repeat("s", limit+1))
	})
	sink := startRecorder(t, nil)
	config := twoAccounts(source.URL, sink.URL)
	with("max_file_size", limit)(config)
	g := startGateway(t, config)
	stored := func() (whole []string) {
		for _, seen := range slices.Concat(source.requests(), sink.requests()) {
			if seen.err == nil && seen.method != "GET" {
				whole = append(whole, seen.method+" "+seen.uri)
			}
		}
		return whole
	}
	for _, bucket := range []string{"/photos/k", "/faraway/k"} {
		for _, query := range []string{"", "partNumber=1&uploadId=u", "partNumber=10000&uploadId=u"} {
			r := requestSpec{method: "PUT", path: bucket, query: query, body: strings.Repeat("x", limit+1)}
			for _, auth := range authMethods {
				resp, body := auth.send(g, "user", userKey, r)
				wantDenied(t, "PUT", resp, body, 413, "EntityTooLarge")
				if t.Failed() {
					t.Fatalf("at %s, %s", r, auth.name)
				}
			}
			// Declared small, sent large.
			framed, _ := frameWithTrailer(r.body)
			for _, declared := range []string{"0", "1", "1000"} {
				resp, body := g.do("PUT", r.target(), userKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
					"x-amz-trailer: x-amz-checksum-crc32", "x-amz-decoded-content-length: "+declared)
				wantRefusal(t, "PUT", resp, body, "400 InvalidRequest", "400 IncompleteBody", "413 EntityTooLarge")
			}
			for _, declared := range []string{"", "-1", "+5", "abc", "0x5", "1e3", "5 ", "5,5", "9223372036854775808", "99999999999999999999"} {
				resp, body := g.do("PUT", r.target(), userKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
					"x-amz-trailer: x-amz-checksum-crc32", "x-amz-decoded-content-length: "+declared)
				if declared == "5 " { // net/http trims it
					wantRefusal(t, "PUT", resp, body, "400 InvalidRequest", "400 IncompleteBody")
				} else {
					wantRefusal(t, "PUT", resp, body, "400 InvalidArgument")
				}
				if t.Failed() {
					t.Fatalf("at %s declared %q", r, declared)
				}
			}
			resp, body := g.do("PUT", r.target(), userKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer: x-amz-checksum-crc32")
			wantRefusal(t, "PUT", resp, body, "411 MissingContentLength")
			resp, body = g.do("PUT", r.target(), userKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
				"x-amz-trailer: x-amz-checksum-crc32", "x-amz-decoded-content-length: 5", "x-amz-decoded-content-length: 1001")
			wantRefusal(t, "PUT", resp, body, "400 InvalidArgument", "400 InvalidRequest")
			// HTTP's chunks have no length, whatever they are said to hold.
			raw := "PUT " + r.target() + " HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nX-Api-Key: " + userKey + "\r\nTransfer-Encoding: chunked\r\n"
			resp, body = g.raw("PUT", raw+fmt.Sprintf("x-amz-decoded-content-length: 5\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(r.body), r.body))
			wantRefusal(t, "PUT", resp, body, "411 MissingContentLength")
			resp, body = g.raw("PUT", raw+"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nx-amz-trailer: x-amz-checksum-crc32\r\nx-amz-decoded-content-length: 5\r\n\r\n"+
				fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(framed), framed))
			wantRefusal(t, "PUT", resp, body, "400 InvalidRequest", "400 IncompleteBody")
			if whole := stored(); t.Failed() || len(whole) > 0 {
				t.Fatalf("at %s: stored %q, want nothing", r, whole)
			}
		}
		// As large as it may be.
		for _, auth := range authMethods {
			r := requestSpec{method: "PUT", path: bucket, query: "partNumber=1&uploadId=u", body: strings.Repeat("x", limit)}
			before := len(stored())
			if resp, body := auth.send(g, "user", userKey, r); resp.StatusCode != 200 || len(stored()) != before+1 {
				t.Errorf("a part of the largest size, %s = %d %s, want it stored", auth.name, resp.StatusCode, body)
			}
		}
		forget(source, sink)
	}
	// A copy between accounts is an upload too.
	for _, query := range []string{"", "?partNumber=1&uploadId=u"} {
		resp, body := g.do("PUT", "/faraway/x"+query, userKey, "", "x-amz-copy-source: photos/k")
		wantError(t, resp, body, 413, "EntityTooLarge")
		resp, body = g.do("PUT", "/faraway/x"+query, userKey, "", "x-amz-copy-source: photos/chunked")
		wantRefusal(t, "PUT", resp, body, "502 BadGateway", "413 EntityTooLarge")
	}
	// And no small document is large.
	for _, target := range []string{"PUT /photos/k?tagging", "POST /photos?delete", "POST /photos/k?uploadId=u", "POST /photos/k?select&select-type=2", "PUT /photos?policy"} {
		method, path, _ := strings.Cut(target, " ")
		resp, body := g.do(method, path, adminKey, strings.Repeat(" ", 4<<20+1))
		wantError(t, resp, body, 413, "EntityTooLarge")
		framed, _ := frameWithTrailer(strings.Repeat(" ", 4<<20+1))
		resp, body = g.do(method, path, adminKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer: x-amz-checksum-crc32", "x-amz-decoded-content-length: 10")
		wantRefusal(t, method, resp, body, "400 InvalidRequest", "413 EntityTooLarge")
	}
	if whole := stored(); len(whole) > 0 {
		t.Errorf("stored %q, want nothing", whole)
	}
}

func forget(recorders ...*recorder) {
	for _, rec := range recorders {
		rec.mu.Lock()
		rec.seen = nil
		rec.mu.Unlock()
	}
}

// A digest that was signed, in the header or into a presigned URL, is
// of this body and no other; that is known only at its last byte.
func TestSignedDigestIsVerified(t *testing.T) {
	for _, mode := range trailerModes {
		store, counter := startUploadStore(t, mode), startUploadCounter(t, mode)
		for _, size := range []int{0, 1, 2, 1000, 70_000} {
			body := bytesOf(55, size)
			others := []string{body + "x", "something else"}
			if size > 0 {
				others = append(others, body[:size-1], body[:size-1]+string(body[size-1]^1), "\x01"+body[1:]+"\x02")
			}
			for _, other := range others {
				for _, target := range store.targets() {
					for _, auth := range []string{"header", "presigned", "query"} {
						path, query, _ := strings.Cut(target, "?")
						head := signedHead{path: path, payload: hexSHA256(other)}
						if query != "" {
							head.query = strings.Split(query, "&")
						}
						var lines []string
						to := target
						switch auth {
						case "header":
							lines, _ = head.sign()
						case "presigned":
							head.header = []string{"x-amz-content-sha256: " + head.payload}
							lines = head.header
							to, _ = head.presign("60")
						case "query":
							head.query = append(head.query, "X-Amz-Content-Sha256="+head.payload)
							to, _ = head.presign("60")
						}
						what := fmt.Sprintf("%s: %d bytes with the digest of %d", auth, size, len(other))
						resp, text := sendUpload(store.testGateway, to, lines, body, "length", 0)
						wantSignedRefusal(t, what, "PUT", resp, text, "400 XAmzContentSHA256Mismatch")
						resp, text = sendUpload(counter.testGateway, to, lines, body, "length", 0)
						wantSignedRefusal(t, what, "PUT", resp, text, "400 XAmzContentSHA256Mismatch")
						counter.checkCut(t, what)
					}
				}
			}
		}
		store.checkOld(t, mode)
	}
}
