package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// testCertificate is a certificate for 127.0.0.1, and who vouches for it.
func testCertificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.TLS.Certificates[0], roots
}

// A halfConn writes a part of what it is told to write, once hold says how much, and
// the rest with the next Write.
type halfConn struct {
	net.Conn
	hold atomic.Int32 // bytes to keep back at the next Write
	kept []byte
}

func (c *halfConn) Write(p []byte) (int, error) {
	all := append(c.kept, p...)
	n := len(all) - int(c.hold.Swap(0))
	c.kept = append([]byte(nil), all[n:]...)
	_, err := c.Conn.Write(all[:n])
	return len(p), err
}

// startBeforeRawTLS starts a gateway before a backend that speaks TLS and gives each
// connection to serve.
func startBeforeRawTLS(t *testing.T, serve func(n int, conn *tls.Conn, half *halfConn, r *bufio.Reader)) *testGateway {
	t.Helper()
	certificate, roots := testCertificate(t)
	endpoint := startRawBackend(t, func(n int, conn net.Conn, _ *bufio.Reader) {
		half := &halfConn{Conn: conn}
		secure := tls.Server(half, &tls.Config{Certificates: []tls.Certificate{certificate}})
		serve(n, secure, half, bufio.NewReader(secure))
	})
	g := startGateway(t, testConfig(strings.Replace(endpoint, "http:", "https:", 1)))
	g.gw.buckets["photos"].upstream.pool.tls.RootCAs = roots
	return g
}

// Bytes that follow an answer inside TLS are not the next user's answer, wherever
// they wait: in the record of the answer's end, in one of their own, or in one that
// has not come whole.
func TestSurplusInsideTLSIsNotTheNextAnswer(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	for _, size := range []int{4, 20_000, 300_000, 300_000 - 46} {
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, pattern(size))
		for _, when := range []string{"same record", "next record", "before the next request", "partial record"} {
			t.Run(fmt.Sprintf("%d bytes, %s", size, when), func(t *testing.T) {
				late, sent := make(chan struct{}), make(chan struct{})
				g := startBeforeRawTLS(t, func(n int, conn *tls.Conn, half *halfConn, r *bufio.Reader) {
					if _, _, err := readHead(r); err != nil {
						return
					}
					switch {
					case n > 0:
						io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmeow")
					case when == "same record":
						io.WriteString(conn, answer+poison)
						close(sent)
					case when == "next record":
						io.WriteString(conn, answer)
						io.WriteString(conn, poison)
						close(sent)
					default:
						io.WriteString(conn, answer)
						<-late
						if when == "partial record" {
							half.hold.Store(9)
						}
						io.WriteString(conn, poison)
						close(sent)
						if _, _, err := readHead(r); err == nil {
							half.Write(nil)
						}
					}
					r.ReadByte() // until the gateway goes
				})
				if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != string(pattern(size)) {
					t.Fatalf("GET = %d, %d bytes", resp.StatusCode, len(body))
				}
				close(late)
				<-sent
				if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != "meow" {
					t.Errorf("the next answer = %d %q, want 200 meow", resp.StatusCode, body)
				}
			})
		}
	}
}

// Session tickets are nobody's answer either, and no reason to give a connection up.
func TestSessionTicketsDoNotEndAConnection(t *testing.T) {
	certificate, roots := testCertificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan *tls.Conn, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		server := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.RequestClientCert})
		server.Handshake() // the tickets go out at its end, for the client has to send a certificate before
		accepted <- server
	}()
	raw, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	records := &recordConn{Conn: raw}
	client := tls.Client(records, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", ClientSessionCache: tls.NewLRUClientSessionCache(1)})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	server := <-accepted
	defer server.Close()
	if client.ConnectionState().Version != tls.VersionTLS13 || silent(raw) {
		t.Fatal("the server has sent no tickets after the handshake")
	}
	if !records.silent(client) || !silent(raw) {
		t.Error("the connection is not silent, though nothing but tickets has come")
	}
	server.Write([]byte("x"))
	if records.silent(client) {
		t.Error("the connection is silent, though data has come")
	}
	server.Close()
	if records.silent(client) {
		t.Error("the connection is silent, though it was closed")
	}
}

// An upload that breaks off over TLS ends in a reset, with no close_notify before it.
func TestCutUploadOverTLSEndsWithoutGoodbye(t *testing.T) {
	ended := make(chan error, 1)
	g := startBeforeRawTLS(t, func(_ int, conn *tls.Conn, _ *halfConn, r *bufio.Reader) {
		if _, _, err := readHead(r); err != nil {
			return
		}
		_, err := io.Copy(io.Discard, r)
		ended <- err
	})
	conn := g.dial()
	const size = 3 * smallUpload
	fmt.Fprintf(conn, "PUT /photos/k HTTP/1.1\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, size, pattern(size-1))
	conn.Close()
	if err := <-ended; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the backend's connection ended with %v, want a reset", err)
	}
}

// startBeforeTLS starts a gateway before a backend with TLS, whose connections are
// counted.
func startBeforeTLS(t *testing.T, handle http.HandlerFunc) (g *testGateway, connections *atomic.Int32) {
	t.Helper()
	connections = new(atomic.Int32)
	backend := httptest.NewUnstartedServer(handle)
	backend.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	backend.StartTLS()
	t.Cleanup(backend.Close)
	g = startGateway(t, testConfig(backend.URL))
	roots := x509.NewCertPool()
	roots.AddCert(backend.Certificate())
	g.gw.buckets["photos"].upstream.pool.tls.RootCAs = roots
	return g, connections
}

// The same over TLS: large bodies both ways, one connection for all, and an
// upload that is cut is no end there either, though TLS has a goodbye of its own.
func TestUpstreamTLS(t *testing.T) {
	cut := make(chan error, 1)
	g, connections := startBeforeTLS(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "/cut") {
			cut <- err
		}
		if r.Method == "GET" {
			w.Write(make([]byte, 1<<20))
		}
		w.Header().Set("X-Amz-Meta-Size", fmt.Sprint(n))
	})

	for range 3 {
		if resp, body := g.do("PUT", "/photos/k", userKey, strings.Repeat("x", 1<<20)); resp.StatusCode != 200 || resp.Header.Get("X-Amz-Meta-Size") != fmt.Sprint(1<<20) {
			t.Fatalf("PUT = %d %s, %s bytes", resp.StatusCode, body, resp.Header.Get("X-Amz-Meta-Size"))
		}
		if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || len(body) != 1<<20 {
			t.Fatalf("GET = %d, %d bytes", resp.StatusCode, len(body))
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("six requests took %d connections, want 1", n)
	}
	resp, body := g.raw("PUT", "PUT /photos/cut HTTP/1.1\r\nHost: g\r\nX-Api-Key: "+userKey+
		"\r\nX-Amz-Content-Sha256: "+emptyPayload+"\r\nContent-Length: 200000\r\n\r\n"+strings.Repeat("x", 200000))
	wantError(t, resp, body, 400, "XAmzContentSHA256Mismatch")
	if err := <-cut; err == nil {
		t.Error("the backend took a refused upload for whole")
	}
}

// A certificate that nobody vouches for is the end of it.
func TestUpstreamTLSUnknownAuthority(t *testing.T) {
	backend := httptest.NewTLSServer(nil)
	defer backend.Close()
	backend.Config.ErrorLog = nil
	g := startGateway(t, testConfig(backend.URL))
	resp, body := g.do("GET", "/photos/k", userKey, "")
	wantError(t, resp, body, 502, "BadGateway")
}

// Over TLS too an answer may take longer than the first look at the connection, which
// is kept.
func TestUpstreamTLSLate(t *testing.T) {
	late := make(chan struct{}, 1)
	g, connections := startBeforeTLS(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-late:
		case <-r.Context().Done():
		}
		io.WriteString(w, "meow")
	})
	g.noticeLate(late)
	for range 4 {
		if resp, body := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || body != "meow" {
			t.Errorf("GET = %d %s, want 200 meow", resp.StatusCode, body)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("four requests took %d connections, want 1", n)
	}
}
