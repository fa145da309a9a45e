package abuse

// Connections to a backend that break: a write is sent once, and objects stay whole.

import (
	"bufio"
	"crypto/md5"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Whether a backend that broke the connection has done what it was
// asked, nobody knows. So a write is sent once, wherever the connection breaks,
// on a new connection or on one that was kept.
func TestWriteIsSentOnce(t *testing.T) {
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
	body := payload(86, size)
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
							s.kill(conn, bodyOf(r, method), func() bool {
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

// bodyOf is r for a request with a body, and empty for one without.
func bodyOf(r *bufio.Reader, method string) *bufio.Reader {
	if method == "PUT" {
		return r
	}
	return bufio.NewReader(strings.NewReader(""))
}

// A connection that the backend has closed while nobody used it.
// Nothing was written to it, so the write may go out on another, once.
func TestWriteOnStaleConnectionIsSentOnce(t *testing.T) {
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
					body = payload(uint64(i), 1000*i)
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

// A backend that refuses an upload before it has read it is heard at
// once, and nothing is left behind, whether it reads on or not.
func TestAnswerDuringUploadIsPassedOn(t *testing.T) {
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
			g := startGateway(t, testConfig(endpoint, withAdmin))
			baseline := g.metric("go_goroutines")
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
			await(t, "the gateway's goroutines to end", func() bool { return g.metric("go_goroutines") <= baseline+uploads/2 })
		})
	}
}

// A brokenNetwork is a network before a backend that cuts connections, at
// points that follow from a seed.
type brokenNetwork struct {
	backend  *store
	endpoint string

	mu     sync.Mutex // guards open and dialed
	open   map[net.Conn]bool
	dialed int64

	active atomic.Int64 // connections under way
	cuts   atomic.Int64
}

func startBrokenNetwork(t *testing.T, seed uint64) *brokenNetwork {
	f := &brokenNetwork{backend: startStore(t), open: map[net.Conn]bool{}}
	f.endpoint = startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		f.active.Add(1)
		defer f.active.Add(-1)
		f.relay(rand.New(rand.NewPCG(seed, uint64(n))), conn, r)
	})
	return f
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

// Many operations, one after another, through a network that breaks,
// against a map. After an error an object is the old one or the new one, until
// a read shows which; it is never a part of one or a mix of both.
func TestObjectsStayWholeOverBrokenNetwork(t *testing.T) {
	const absent = "\x00absent"
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			faults := startBrokenNetwork(t, seed)
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
				resp, body := g.do("GET", "/photos/"+url.PathEscape(key), readOnlyKey, "")
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
				path := "/photos/" + url.PathEscape(key)
				ok := true
				switch random.IntN(6) {
				case 0, 1:
					size := random.IntN(6000)
					if random.IntN(10) == 0 {
						size = 100_000
					}
					value := payload(random.Uint64(), size)
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
					err := xml.Unmarshal([]byte(body), &list)
					if err != nil {
						t.Fatalf("a listing that is not XML: %v\n%s", err, body)
					}
					listed := map[string]bool{}
					for _, o := range list.Contents {
						if strings.HasSuffix(query, "url") {
							if o.Key, err = url.QueryUnescape(o.Key); err != nil {
								t.Fatalf("a key that is not properly encoded: %v", err)
							}
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
