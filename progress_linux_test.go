package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The idle time of these tests. What is slow here is slower than one deadline would
// allow that is set for all the bytes in the buffers of a socket; what stands still
// is cut off long before the tests give up.
const (
	testIdle     = "1s"
	testPatience = 15 * time.Second // for what should take one testIdle
)

// A slowConn reads some bytes as fast as they come, and then some steadily, at 500 kB/s.
type slowConn struct {
	net.Conn
	fast, slow int
	next       time.Time // when the next slow byte may be read
}

func (c *slowConn) Read(p []byte) (int, error) {
	if c.fast > 0 || c.slow <= 0 {
		n, err := c.Conn.Read(p)
		c.fast -= n
		return n, err
	}
	if wait := time.Until(c.next); wait > 10*time.Millisecond {
		<-time.After(wait)
	}
	n, err := c.Conn.Read(p[:min(len(p), 64<<10)])
	c.slow -= n
	c.next = latest(c.next, time.Now().Add(-100*time.Millisecond)).Add(time.Duration(n) * 2 * time.Microsecond)
	return n, err
}

// latest returns the later of two times.
func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// asFromAfar gives a socket, before it connects or listens, a small receive buffer, so
// that what is not read stays at the sender, and the segments of an Ethernet: with those
// of the loopback, of 64 KiB, a full buffer opens in steps that take too long.
func asFromAfar(_, _ string, raw syscall.RawConn) (err error) {
	const ethernet = 1400
	raw.Control(func(fd uintptr) {
		err = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 128<<10),
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, ethernet))
	})
	return err
}

// slowly returns a dial function for connections that are read slowly.
func slowly(fast, slow int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := (&net.Dialer{Control: asFromAfar}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &slowConn{Conn: conn, fast: fast, slow: slow}, nil
	}
}

// A way is how a client reaches a gateway.
type way struct {
	name  string
	start func(t *testing.T, config map[string]any) (g *testGateway, tr *http.Transport)
}

var ways = []way{
	{"plain", func(t *testing.T, config map[string]any) (*testGateway, *http.Transport) {
		g := startGateway(t, config)
		tr := &http.Transport{}
		t.Cleanup(tr.CloseIdleConnections)
		return g, tr
	}},
	{"tls", func(t *testing.T, config map[string]any) (*testGateway, *http.Transport) {
		g := startTLS(t, config, nil)
		return g.testGateway, g.client(1)
	}},
	{"http2", func(t *testing.T, config map[string]any) (*testGateway, *http.Transport) {
		g := startTLS(t, config, nil)
		return g.testGateway, g.client(2)
	}},
}

func everyWay(t *testing.T, test func(t *testing.T, w way)) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			test(t, w)
		})
	}
}

// ask sends a request that ends with the test, or after a minute.
func (g *testGateway) ask(tr *http.Transport, method, target string, body io.Reader, length int64) (*http.Response, error) {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	g.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, g.url+target, body)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", userKey)
	req.ContentLength = length
	return tr.RoundTrip(req)
}

// wantCause waits for the line of the only request.
func (g *testGateway) wantCause(aborted bool, status float64, cause string) {
	g.t.Helper()
	await(g.t, "the line in the log", func() bool { return len(g.lines()) == 1 })
	line := g.lines()[0]
	if got, _ := line["cause"].(string); (line["aborted"] == true) != aborted || line["status"] != status || !strings.Contains(got, cause) {
		g.t.Errorf("log: status %v, aborted %v, cause %q, want %v, %t and %q in it", line["status"], line["aborted"], got, status, aborted, cause)
	}
}

// sendObject is a backend's answer of size bytes.
func sendObject(t testing.TB, size int64) (endpoint string, ended <-chan error) {
	done := make(chan error, 10)
	return startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		conn.SetDeadline(time.Now().Add(time.Minute))
		if _, _, err := readHead(r); err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		_, err := io.CopyN(conn, zeroReader{}, size)
		done <- err
	}), done
}

// A client that read fast and goes on slowly gets everything, though the buffers of its
// connection hold what takes it longer than the idle time.
func TestClientThatSlowsDownGetsEverything(t *testing.T) {
	const size = 24 << 20
	everyWay(t, func(t *testing.T, w way) {
		endpoint, _ := sendObject(t, size)
		g, tr := w.start(t, testConfig(endpoint, with("server.idle_timeout", testIdle)))
		tr.DialContext = slowly(14<<20, 3<<20)
		resp, err := g.ask(tr, "GET", "/photos/k", nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
			t.Errorf("the client got %d bytes, %v, want all %d; log: %v", n, err, size, g.lines())
		}
	})
}

// bigPage is a page of a list, of several MB.
func bigPage(keys int) string {
	var b strings.Builder
	b.WriteString("<ListBucketResult><IsTruncated>false</IsTruncated>")
	for i := range keys {
		fmt.Fprintf(&b, "<Contents><Key>%05d%s</Key></Contents>", i, strings.Repeat("k", 900))
	}
	return b.String() + "</ListBucketResult>"
}

// A page of megabytes goes out as slowly as the client takes it.
func TestSlowClientGetsLargeListPage(t *testing.T) {
	const keys = 8000
	page := bigPage(keys)
	everyWay(t, func(t *testing.T, w way) {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, page) })
		g, tr := w.start(t, testConfig(backend.URL, with("server.idle_timeout", testIdle)))
		tr.DialContext = slowly(0, 5<<19)
		for _, query := range []string{"", "?list-type=2"} {
			resp, err := g.ask(tr, "GET", "/photos"+query, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if n := strings.Count(string(body), "<Key>"); n != keys || err != nil {
				t.Errorf("GET /photos%s: %d keys in %d bytes, %v, want %d; log: %v", query, n, len(body), err, keys, g.lines())
			}
			tr.CloseIdleConnections() // the next one is slow again
		}
	})
}

// slowBackend takes what is sent to it slowly, and answers 200 when it has it all.
func slowBackend(t *testing.T, secure bool, slow int) (endpoint string, roots *x509.CertPool) {
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}))
	backend.Listener.Close()
	listener, err := (&net.ListenConfig{Control: asFromAfar}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend.Listener = slowListener{listener, slow}
	if secure {
		backend.StartTLS()
		roots = x509.NewCertPool()
		roots.AddCert(backend.Certificate())
	} else {
		backend.Start()
	}
	t.Cleanup(backend.Close)
	return backend.URL, roots
}

// A slowListener accepts connections that are read slowly.
type slowListener struct {
	net.Listener
	slow int
}

func (l slowListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &slowConn{Conn: conn, slow: l.slow}, nil
}

// response_header_timeout begins when the backend has all of the upload, not when the
// kernel has it.
func TestBackendThatTakesAnUploadSlowlyIsWaitedFor(t *testing.T) {
	const size = 4 << 20
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", secure), func(t *testing.T) {
			t.Parallel()
			endpoint, roots := slowBackend(t, secure, 3<<20)
			g := startGateway(t, testConfig(endpoint, with("server.idle_timeout", testIdle), with("accounts.main.response_header_timeout", testIdle)))
			g.gw.buckets["photos"].upstream.pool.tls.RootCAs = roots
			resp, err := g.ask(&http.Transport{DisableKeepAlives: true}, "PUT", "/photos/k", io.LimitReader(zeroReader{}, size), size)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 {
				t.Errorf("PUT = %d %s, want 200; log: %v", resp.StatusCode, body, g.lines())
			}
		})
	}
}

// Between two pages of a list nothing is written, and no deadline runs.
func TestPageThatTakesLongerThanTheIdleTime(t *testing.T) {
	everyWay(t, func(t *testing.T, w way) {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("continuation-token") {
				<-time.After(2500 * time.Millisecond)
				io.WriteString(w, "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>b</Key></Contents></ListBucketResult>")
				return
			}
			io.WriteString(w, "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>2</NextContinuationToken><Contents><Key>a</Key></Contents></ListBucketResult>")
		})
		g, tr := w.start(t, testConfig(backend.URL, with("server.idle_timeout", testIdle)))
		resp, err := g.ask(tr, "GET", "/photos", nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); !strings.Contains(string(body), "<Key>b</Key>") || err != nil {
			t.Errorf("GET = %q, %v, want both pages; log: %v", body, err, g.lines())
		}
	})
}

// A user's share may be less than any idle time: who waits for a turn waits for nobody.
func TestBandwidthBelowTheIdleTime(t *testing.T) {
	everyWay(t, func(t *testing.T, w way) {
		const size = 12 << 10
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, size)) })
		g, tr := w.start(t, testConfig(backend.URL, with("server.idle_timeout", "100ms"), with("users.user.bytes_per_second", 8<<10)))
		resp, err := g.ask(tr, "GET", "/photos/k", nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); len(body) != size || err != nil {
			t.Errorf("GET: %d bytes, %v, want %d; log: %v", len(body), err, size, g.lines())
		}
	})
}

// A client that reads no more is cut off, and the log says that it was the client: of
// an object, and of a page that is written at once.
func TestClientThatTakesNothingIsCutOffAndNamed(t *testing.T) {
	page := bigPage(12000) // more than the buffers of a connection hold
	everyWay(t, func(t *testing.T, w way) {
		for _, target := range []string{"/photos/k", "/photos", "/photos?list-type=2"} {
			t.Run(target, func(t *testing.T) {
				backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/photos/k" {
						w.Header().Set("Content-Length", fmt.Sprint(1<<30))
						io.CopyN(w, zeroReader{}, 1<<30)
						return
					}
					io.WriteString(w, page)
				}))
				t.Cleanup(backend.Close)
				g, tr := w.start(t, testConfig(backend.URL, with("server.idle_timeout", testIdle)))
				tr.DialContext = slowly(0, 0)
				resp, err := g.ask(tr, "GET", target, nil, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if _, err := io.CopyN(io.Discard, resp.Body, 1<<10); err != nil {
					t.Fatal(err)
				}
				g.wantCause(true, 200, "the client took nothing for 1s")
				if _, err := io.Copy(io.Discard, resp.Body); err == nil {
					t.Error("the client takes what it got for whole")
				}
			})
		}
	})
}

// An HTTP/2 client that takes nothing of one stream and goes on with others loses that
// one only.
func TestStreamThatIsNotReadIsCutOffAlone(t *testing.T) {
	ended := make(chan error, 10)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/stuck") {
			w.Header().Set("Content-Length", fmt.Sprint(1<<30))
			_, err := io.CopyN(w, zeroReader{}, 1<<30)
			ended <- err
			return
		}
		w.Write(make([]byte, 1<<20))
	}))
	defer backend.Close()
	g, tr := ways[2].start(t, testConfig(backend.URL, with("server.idle_timeout", testIdle)))
	stuck, err := g.ask(tr, "GET", "/photos/stuck", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Body.Close()
	for limit := time.After(testPatience); ; {
		select {
		case <-ended:
		case <-limit:
			t.Fatal("the stream is still open")
		default:
			resp, err := g.ask(tr, "GET", "/photos/k", nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); n != 1<<20 || err != nil {
				t.Fatalf("another stream: %d bytes, %v", n, err)
			}
			resp.Body.Close()
			continue
		}
		break
	}
}

// A backend that stops is cut off, and the log says that it was the backend.
func TestBackendThatStopsIsCutOffAndNamed(t *testing.T) {
	const size = 10 << 20
	everyWay(t, func(t *testing.T, w way) {
		for _, sent := range []int64{1000, 1 << 20} {
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if _, _, err := readHead(r); err != nil {
					return
				}
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
				io.CopyN(conn, zeroReader{}, sent)
				io.Copy(io.Discard, r)
			})
			g, tr := w.start(t, testConfig(endpoint, with("server.idle_timeout", testIdle)))
			resp, err := g.ask(tr, "GET", "/photos/k", nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, resp.Body); n != sent || err == nil {
				t.Errorf("%d bytes, %v, want the %d that were sent, and an error", n, err, sent)
			}
			resp.Body.Close()
			g.wantCause(true, 200, "the backend sent nothing for 1s")
		}
	})
}

// A backend that takes no more of an upload is a 504, and named; a client that sends no
// more is a 400, and named.
func TestUploadThatStopsNamesTheSide(t *testing.T) {
	everyWay(t, func(t *testing.T, w way) {
		stuck := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			readHead(r)
			<-t.Context().Done()
		})
		g, tr := w.start(t, testConfig(stuck, with("server.idle_timeout", testIdle), with("max_file_size", 1<<30)))
		resp, err := g.ask(tr, "PUT", "/photos/k", io.LimitReader(zeroReader{}, 100<<20), 100<<20)
		if err == nil { // or the client saw the reset before the answer
			resp.Body.Close()
			if resp.StatusCode != 504 {
				t.Errorf("backend stuck: %d, want 504", resp.StatusCode)
			}
		}
		g.wantCause(false, 504, "the backend took nothing for 1s")
	})
	everyWay(t, func(t *testing.T, w way) {
		backend := startRecorder(t, nil)
		g, tr := w.start(t, testConfig(backend.URL, with("server.idle_timeout", testIdle)))
		body, sender := io.Pipe()
		defer sender.Close()
		go sender.Write(make([]byte, 100<<10))
		resp, err := g.ask(tr, "PUT", "/photos/k", body, 200<<10)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 400 {
				t.Errorf("client stuck: %d, want 400", resp.StatusCode)
			}
		}
		g.wantCause(false, 400, "the client sent nothing for 1s")
	})
}

// A drippingConn writes in small pieces, with pauses that are shorter than the idle time;
// a TLS record takes longer.
type drippingConn struct {
	net.Conn
	drips atomic.Bool
}

func (c *drippingConn) Write(p []byte) (written int, err error) {
	for err == nil && written < len(p) {
		piece := p[written:]
		if c.drips.Load() {
			piece = piece[:min(len(piece), 1<<10)]
			<-time.After(110 * time.Millisecond)
		}
		var n int
		n, err = c.Conn.Write(piece)
		written += n
	}
	return written, err
}

// A TLS record whose bytes come one by one is progress, before its end is here.
func TestRecordThatTakesLongerThanTheIdleTime(t *testing.T) {
	const size = 68 << 10 // a record has 16 KiB; this is more than an upload that is kept
	body := strings.Repeat("0123456789abcdef", size/16)
	short := []func(map[string]any){with("server.idle_timeout", testIdle), with("accounts.main.response_header_timeout", "10s")}
	t.Run("client", func(t *testing.T) {
		t.Parallel()
		backend := startRecorder(t, nil)
		g := startTLS(t, testConfig(backend.URL, short...), nil)
		raw, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(time.Minute))
		dripping := &drippingConn{Conn: raw}
		conn := tls.Client(dripping, &tls.Config{RootCAs: g.ca.pool(), ServerName: "127.0.0.1", DynamicRecordSizingDisabled: true})
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n", userKey, size)
		dripping.drips.Store(true)
		io.WriteString(conn, body)
		if resp, text := readAnswer(t, "PUT", conn); resp.StatusCode != 200 {
			t.Errorf("PUT = %d %s, want 200; log: %v", resp.StatusCode, text, g.lines())
		}
	})
	t.Run("backend", func(t *testing.T) {
		t.Parallel()
		backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.(http.Flusher).Flush()
			r.Context().Value(http.LocalAddrContextKey) // the head is out
			io.WriteString(w, body)
		}))
		backend.Listener = drippingListener{backend.Listener}
		backend.Config.ConnState = func(conn net.Conn, state http.ConnState) {
			if state == http.StateActive {
				conn.(*tls.Conn).NetConn().(*drippingConn).drips.Store(true)
			}
		}
		backend.TLS = &tls.Config{DynamicRecordSizingDisabled: true}
		backend.StartTLS()
		t.Cleanup(backend.Close)
		g := startGateway(t, testConfig(backend.URL, short...))
		roots := x509.NewCertPool()
		roots.AddCert(backend.Certificate())
		g.gw.buckets["photos"].upstream.pool.tls.RootCAs = roots
		if resp, got := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || got != body {
			t.Errorf("GET = %d with %d bytes, %s, want all %d; log: %v", resp.StatusCode, len(got), resp.Header.Get("Test-Error"), size, g.lines())
		}
	})
}

type drippingListener struct{ net.Listener }

func (l drippingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &drippingConn{Conn: conn}, nil
}

// What could not be sent of a small answer, which is kept until the request ends, is in
// the log too.
func TestSmallAnswerThatIsNotSentIsLogged(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/photos/none" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Write(make([]byte, 1000))
	})
	for _, target := range []string{"/photos/k", "/photos/none", "/"} {
		g := startGateway(t, testConfig(backend.URL))
		conn := g.dialHooked(func(conn *net.TCPConn, p []byte) (int, error) {
			n, _ := conn.Write(p[:len(p)/2])
			return n, os.ErrDeadlineExceeded // as of a client that takes no more
		})
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\n\r\n", target, userKey)
		io.Copy(io.Discard, conn)
		conn.Close()
		await(t, "the line in the log", func() bool { return len(g.lines()) == 1 })
		if line := g.lines()[0]; line["aborted"] != true || line["cause"] == nil {
			t.Errorf("GET %s: log = %v, want aborted and a cause", target, line)
		}
	}
}
