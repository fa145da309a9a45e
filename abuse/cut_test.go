package abuse

// Bodies that break off, or are not what their digest says: half an object is never
// taken for a whole one.

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// cutUpload sends a PUT of which n bytes of the body arrive, and then nothing,
// in one of three manners. It returns the answer where the client can still
// hear one, or nil.
func cutUpload(g *gateway, head string, body string, n int, manner string) (*http.Response, string) {
	g.t.Helper()
	conn := g.dial()
	defer conn.Close()
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
		g.awaitEnd(conn)
	}
	return resp, text
}

func uploadHead(path string, length int, header ...string) string {
	head := "PUT " + path + " HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + fmt.Sprintf("\r\nContent-Length: %d\r\n", length)
	for _, line := range header {
		head += line + "\r\n"
	}
	return head + "\r\n"
}

// An upload that breaks off, however it does, leaves what was there
// before; the backend never has as many bytes as it was promised.
func TestUploadCutIsNotStored(t *testing.T) {
	const size = 256 << 10 // more than the buffers on the way
	body := payload(79, size)
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
					backend := startStore(t)
					g := startGateway(t, testConfig(backend.URL, with("server.idle_timeout", "300ms")))
					if resp, _ := g.do("PUT", "/photos/k", userKey, "old"); resp.StatusCode != 200 {
						t.Fatalf("PUT = %d, want 200", resp.StatusCode)
					}
					for _, path := range []string{"/photos/k", "/photos/new"} {
						resp, text := cutUpload(g, uploadHead(path, size, header...), body, n, manner)
						check(t, resp, text)
						// The next connection is accepted after the broken one, so when
						// the backend is quiet after it, it is done with both.
						g.do("GET", "/photos/k", userKey, "")
						await(t, "the backend to be quiet", func() bool { return backend.busy.Load() == 0 })
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
					resp, text := cutUpload(g, uploadHead("/photos/k", size, header...), body, n, manner)
					check(t, resp, text)
					await(t, "the backend", func() bool { return int64(len(counts)) == accepted.Load() })
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

// Chunks without their end are an upload without a length, and are
// refused before the backend hears of it.
func TestChunkedUploadCutIsNotStored(t *testing.T) {
	backend := startStore(t)
	g := startGateway(t, testConfig(backend.URL))
	g.do("PUT", "/photos/k", userKey, "old")
	before := backend.requests.Load()
	const whole = "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
	for n := range len(whole) + 1 {
		for _, path := range []string{"/photos/k", "/photos/new"} {
			head := "PUT " + path + " HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nTransfer-Encoding: chunked\r\n\r\n"
			resp, text := cutUpload(g, head, whole, n, "FIN")
			wantError(t, resp, text, 411, "MissingContentLength")
			if n%5 == 0 {
				cutUpload(g, head, whole, n, "RST")
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

// A digest is known to be wrong only at the last byte, and with the last
// byte a backend stores the object. So that byte is held back until then.
func TestUploadWithWrongDigestIsNotStored(t *testing.T) {
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
	backend := startStore(t)
	demo := startGateway(t, testConfig(backend.URL))
	demo.do("PUT", "/photos/k", userKey, "old")
	finished := int64(0)
	for _, size := range []int{1, 2, 3, 1000, 32 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 500_000} {
		body := payload(uint64(size), size)
		flipped := body[:size-1] + string(body[size-1]^1) // only the last byte differs
		for _, signed := range []string{flipped, body + "x", body[:size-1], "", "something else"} {
			digest := fmt.Sprintf("x-amz-content-sha256: %x", sha256.Sum256([]byte(signed)))
			resp, text := raw.do("PUT", "/photos/k", userKey, body, digest)
			wantError(t, resp, text, 400, "XAmzContentSHA256Mismatch")
			await(t, "the backend", func() bool { return finished+int64(len(uploads)) == accepted.Load() })
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
		wantRefusal(t, "PUT", resp, text, "400 InvalidArgument")
	}
	resp, text = g.do("PUT", "/photos/k", userKey, "x", good, good)
	wantError(t, resp, text, 400, "InvalidRequest")
	for _, streaming := range []string{"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"} {
		resp, text := g.do("PUT", "/photos/k", userKey, "0\r\n\r\n", "x-amz-content-sha256: "+streaming)
		wantRefusal(t, "PUT", resp, text, "501 NotImplemented", "400 InvalidRequest", "400 IncompleteBody", "403 AccessDenied", "411 MissingContentLength")
	}
	rec.wantNone(t)
}

// A download that breaks off at the backend breaks off at the client,
// on HTTP/1.1 and on HTTP/2: never a clean end, and never a byte that is not the
// object's, such as the words of an error.
func TestDownloadCutBreaksOffAtTheClient(t *testing.T) {
	const size = 200_000
	object := payload(82, size)
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

					secure, client := startTLSGateway(t, testConfig(endpoint))
					req, err := http.NewRequest("GET", secure.url+"/photos/k", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("X-Api-Key", userKey)
					resp, err = client.Do(req)
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

// An object comes out as it went in, byte for byte and header for
// header; what is stored compressed is not unpacked on the way.
func TestObjectPassesUnchanged(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, strings.Repeat("hello ", 1000))
	z.Close()
	bodies := map[string]string{
		"gzip": packed.String(), "empty": "", "one": "\x00", "text": "a\r\n\r\nb\n", "large": payload(85, 1<<20),
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
			g := startGateway(t, testConfig(startStore(t).URL))
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
