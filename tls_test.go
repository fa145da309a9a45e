package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A testCA is a certificate authority.
type testCA struct {
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newTestCA(t testing.TB, name string) *testCA {
	t.Helper()
	ca := &testCA{}
	ca.cert, ca.key = ca.sign(t, name, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	return ca
}

// sign makes a certificate, signed by itself if the authority has none yet. It is
// valid when synctest's clock starts, too.
func (ca *testCA) sign(t testing.TB, name string, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(ca.serial),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:    time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Now().Add(time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// issue returns a certificate and its key in PEM.
func (ca *testCA) issue(t testing.TB, name string, change func(*x509.Certificate)) (certPEM, keyPEM string) {
	t.Helper()
	cert, key := ca.sign(t, name, change)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return certToPEM(cert), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// client returns a certificate as TLS clients hold it.
func (ca *testCA) client(t testing.TB, name string) tls.Certificate {
	t.Helper()
	cert, key := ca.sign(t, name, nil)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (ca *testCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

func certToPEM(cert *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// tlsFiles writes cert.pem, key.pem and ca.pem in a folder of their own.
func tlsFiles(t testing.TB, contents ...string) (paths [3]string) {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"cert.pem", "key.pem", "ca.pem"} {
		paths[i] = filepath.Join(dir, name)
		if i < len(contents) {
			replaceFile(t, paths[i], contents[i])
		}
	}
	return paths
}

// writeFile replaces a file as careful programs do.
func replaceFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// A tlsGateway is a gateway that is reached by TLS.
type tlsGateway struct {
	*testGateway
	tls         *serverTLS
	ca          *testCA
	files       [3]string
	server      *http.Server
	plain       string // URL without TLS
	connections atomic.Int32
}

// startTLS serves a configuration over TLS until the test ends. With clientCA, a
// client needs a certificate of it.
func startTLS(t testing.TB, config map[string]any, clientCA *testCA) *tlsGateway {
	t.Helper()
	g := &tlsGateway{testGateway: startGateway(t, config), ca: newTestCA(t, "authority")}
	g.plain = g.url
	cert, key := g.ca.issue(t, "gateway.example", nil)
	clientCAFile := ""
	if g.files = tlsFiles(t, cert, key); clientCA != nil {
		clientCAFile = g.files[2]
		replaceFile(t, clientCAFile, certToPEM(clientCA.cert))
	}
	var err error
	if g.tls, err = newServerTLS(g.files[0], g.files[1], clientCAFile, g.gw.log); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = listener.Addr().String()
	g.url = "https://" + g.addr
	g.server = newServer(g.gw, g.gw.log)
	g.server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			g.connections.Add(1)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- g.tls.serve(g.server, listener) }()
	t.Cleanup(func() {
		g.server.Close()
		if err := <-ended; err != http.ErrServerClosed {
			t.Errorf("serve = %v, want %v", err, http.ErrServerClosed)
		}
	})
	return g
}

// client returns a client that speaks HTTP/1.1 or HTTP/2 and keeps its connections.
func (g *tlsGateway) client(major int, certs ...tls.Certificate) *http.Transport {
	tr := &http.Transport{
		Protocols:       new(http.Protocols),
		TLSClientConfig: &tls.Config{RootCAs: g.ca.pool(), Certificates: certs},
	}
	tr.Protocols.SetHTTP1(major == 1)
	tr.Protocols.SetHTTP2(major == 2)
	g.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// request makes a request that ends in an error rather than hang.
func (g *tlsGateway) request(method, target, key string, body io.Reader, length int64) *http.Request {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	g.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, g.url+target, body)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", key)
	req.ContentLength = length
	return req
}

// answer sends a request and reads the answer. An answer that breaks off is returned
// with what came of it, and the error.
func answerOf(t testing.TB, tr *http.Transport, req *http.Request) (*http.Response, string, error) {
	t.Helper()
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// waitFor waits for a channel to be closed, or for whoever asks to leave.
func waitFor(r *http.Request, c <-chan bool) {
	select {
	case <-c:
	case <-r.Context().Done():
	}
}

// bothProtocols runs a test over HTTP/1.1 and HTTP/2.
func bothProtocols(t *testing.T, test func(t *testing.T, major int)) {
	for _, major := range []int{1, 2} {
		t.Run(fmt.Sprintf("http=%d", major), func(t *testing.T) { test(t, major) })
	}
}

func TestTLSRoundTrip(t *testing.T) {
	bothProtocols(t, func(t *testing.T, major int) {
		g := startTLS(t, testConfig(startDemoBackend(t).URL), nil)
		tr := g.client(major)
		object := strings.Repeat("0123456789abcdef", 1<<16) // 1 MiB
		for _, step := range []struct {
			method, key, body string
			status            int
			want              string
		}{
			{"PUT", userKey, object, 200, ""},
			{"GET", readOnlyKey, "", 200, object},
			{"HEAD", readOnlyKey, "", 200, ""},
			{"DELETE", userKey, "", 204, ""},
		} {
			resp, body, err := answerOf(t, tr, g.request(step.method, "/photos/k", step.key, strings.NewReader(step.body), int64(len(step.body))))
			if err != nil || resp.StatusCode != step.status || body != step.want || resp.ProtoMajor != major {
				t.Fatalf("%s = HTTP/%d %d, %d bytes, %v, want HTTP/%d %d, %d bytes", step.method, resp.ProtoMajor, resp.StatusCode, len(body), err, major, step.status, len(step.want))
			}
			if step.method == "HEAD" && resp.ContentLength != int64(len(object)) {
				t.Errorf("HEAD: length %d, want %d", resp.ContentLength, len(object))
			}
			checkHardened(t, resp)
		}
		resp, body, _ := answerOf(t, tr, g.request("GET", "/photos/k", readOnlyKey, nil, 0))
		wantError(t, resp, body, 404, "NoSuchKey")
		if n := g.connections.Load(); n != 1 {
			t.Errorf("%d connections, want all on one", n)
		}
	})
}

// TLS 1.2 and 1.3 are spoken, and nothing older.
func TestTLSVersions(t *testing.T) {
	g := startTLS(t, testConfig(startRecorder(t, nil).URL), nil)
	for _, test := range []struct {
		version uint16
		ok      bool
	}{{tls.VersionTLS10, false}, {tls.VersionTLS11, false}, {tls.VersionTLS12, true}, {tls.VersionTLS13, true}} {
		conn, err := tls.Dial("tcp", g.addr, &tls.Config{RootCAs: g.ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: test.version})
		if (err == nil) != test.ok {
			t.Errorf("%s: %v, want a connection: %t", tls.VersionName(test.version), err, test.ok)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// An answer that is under way when the server is asked to stop comes to its end.
func TestHTTP2Shutdown(t *testing.T) {
	goOn := make(chan bool)
	start := strings.Repeat("x", 100000)
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, start)
		w.(http.Flusher).Flush()
		waitFor(r, goOn)
		io.WriteString(w, "last")
	})
	g := startTLS(t, testConfig(backend.URL), nil)
	resp, err := g.client(2).RoundTrip(g.request("GET", "/photos/k", userKey, nil, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stopping, stopped := make(chan bool), make(chan error, 1)
	g.server.RegisterOnShutdown(func() { close(stopping) })
	go func() { stopped <- g.server.Shutdown(t.Context()) }()
	<-stopping
	close(goOn)
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != start+"last" {
		t.Errorf("the answer under way = %d bytes, %v, want all of it", len(body), err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Shutdown = %v, want nil", err)
	}
}

// An upload that is refused is answered, though its body never comes.
func TestTLSRefusedUpload(t *testing.T) {
	bothProtocols(t, func(t *testing.T, major int) {
		backend := startRecorder(t, nil)
		g := startTLS(t, testConfig(backend.URL, with("max_file_size", 1<<20)), nil)
		for _, test := range []struct {
			key, code string
			length    int64
			status    int
		}{
			{userKey, "EntityTooLarge", 1<<20 + 1, 413},
			{readOnlyKey, "AccessDenied", 1 << 20, 403},
			{"unknown-key-0123456789", "Unauthorized", 1 << 20, 401},
		} {
			body, w := io.Pipe()
			defer w.Close()
			resp, text, err := answerOf(t, g.client(major), g.request("PUT", "/photos/k", test.key, body, test.length))
			if err != nil {
				t.Errorf("%s: %v", test.code, err)
			}
			wantError(t, resp, text, test.status, test.code)
		}
		backend.wantNone(t)
	})
}

// A backend that refuses an upload before it has read it is heard at once, though
// the client sends no more.
func TestTLSEarlyAnswer(t *testing.T) {
	bothProtocols(t, func(t *testing.T, major int) {
		endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, r)
		})
		g := startTLS(t, testConfig(endpoint), nil)
		body, w := io.Pipe()
		defer w.Close()
		go w.Write(make([]byte, 100<<10))
		started := time.Now()
		resp, text, err := answerOf(t, g.client(major), g.request("PUT", "/photos/k", userKey, body, 10<<20))
		if err != nil || time.Since(started) > 10*time.Second {
			t.Errorf("answered after %s: %v", time.Since(started), err)
		}
		wantError(t, resp, text, 403, "AccessDenied")
	})
}

// A client that cancels an upload has not uploaded anything, and one that cancels a
// download keeps no backend busy.
func TestTLSClientCancels(t *testing.T) {
	bothProtocols(t, func(t *testing.T, major int) {
		begun, ended := make(chan bool, 1), make(chan error, 1)
		endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
			line, _, err := readHead(r)
			if err != nil {
				return
			}
			if strings.HasPrefix(line, "GET") {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx")
			} else if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
				t.Error(err)
			}
			begun <- true
			_, err = io.CopyN(io.Discard, r, 1<<20)
			ended <- err
		})
		g := startTLS(t, testConfig(endpoint), nil)
		for _, method := range []string{"PUT", "GET"} {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			body, w := io.Pipe()
			defer w.Close()
			req := g.request(method, "/photos/k", userKey, nil, 0)
			if method == "PUT" {
				go w.Write(make([]byte, 1000))
				req = g.request(method, "/photos/k", userKey, body, 1<<20)
			}
			go func() {
				if resp, err := g.client(major).RoundTrip(req.WithContext(ctx)); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}()
			<-begun
			cancel()
			if err := <-ended; err == nil {
				t.Errorf("%s: the backend got all of it, want a broken connection", method)
			}
		}
		await(t, "two lines in the log", func() bool { return len(g.lines()) == 2 })
	})
}

// Many requests at once on one connection, none waiting for another.
func TestHTTP2Concurrent(t *testing.T) {
	const streams = 100
	var here atomic.Int32
	allHere := make(chan bool)
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if here.Add(1) == streams {
			close(allHere)
		}
		waitFor(r, allHere)
		io.WriteString(w, r.URL.Path)
	})
	g := startTLS(t, testConfig(backend.URL), nil)
	tr := g.client(2)
	// The client learns from the first answer that one connection is enough.
	if resp, _, err := answerOf(t, tr, g.request("GET", "/", userKey, nil, 0)); err != nil || resp.ProtoMajor != 2 {
		t.Fatalf("GET / = %v, %v", resp, err)
	}
	var all sync.WaitGroup
	for i := range streams {
		all.Go(func() {
			method, body := "GET", ""
			if i%2 == 0 {
				method, body = "PUT", strings.Repeat("x", 1000*i)
			}
			target := fmt.Sprintf("/photos/k%d", i)
			resp, err := tr.RoundTrip(g.request(method, target, userKey, strings.NewReader(body), int64(len(body))))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			want := target
			if method == "PUT" { // whose answer has no body
				want = ""
			}
			if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || string(text) != want {
				t.Errorf("%s %s = %d %q, %v", method, target, resp.StatusCode, text, err)
			}
		})
	}
	all.Wait()
	if n := g.connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// A backend that dies within an answer: an error for the client, and nothing that
// looks like an end.
func TestTLSBackendDies(t *testing.T) {
	for _, framing := range []string{"Content-Length: 200000", "Transfer-Encoding: chunked"} {
		bothProtocols(t, func(t *testing.T, major int) {
			endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
				if _, _, err := readHead(r); err == nil {
					io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+framing+"\r\n\r\n2710\r\n"+strings.Repeat("x", 10000)+"\r\n")
				}
			})
			g := startTLS(t, testConfig(endpoint), nil)
			resp, body, err := answerOf(t, g.client(major), g.request("GET", "/photos/k", userKey, nil, 0))
			if err == nil || resp.StatusCode != 200 || len(body) < 10000 || len(body) > 10010 {
				t.Errorf("%s: %d with %d bytes and error %v, want what the backend sent and an error", framing, resp.StatusCode, len(body), err)
			}
			if line := g.lines()[0]; line["aborted"] != true {
				t.Errorf("%s: log line %v, want aborted", framing, line)
			}
		})
	}
}

// An upload that stands still is ended, and its neighbours on the connection go on.
func TestHTTP2StalledUpload(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startTLS(t, testConfig(backend.URL, with("server.idle_timeout", "200ms")), nil)
	tr := g.client(2)
	body, w := io.Pipe()
	defer w.Close()
	go w.Write(make([]byte, 1000))
	resp, text, err := answerOf(t, tr, g.request("PUT", "/photos/stalled", userKey, body, 2000))
	if err != nil {
		t.Error(err)
	}
	wantError(t, resp, text, 400, "RequestTimeout")
	resp, text, err = answerOf(t, tr, g.request("PUT", "/photos/next", userKey, strings.NewReader("next"), 4))
	if err != nil || resp.StatusCode != 200 || g.connections.Load() != 1 {
		t.Errorf("the next upload = %d %s, %v on connection %d, want 200 on the first", resp.StatusCode, text, err, g.connections.Load())
	}
	for _, r := range backend.requests() {
		if strings.Contains(r.uri, "stalled") && r.err == nil {
			t.Error("the backend took the stalled upload for whole")
		}
	}
}

// A client that stops to read is cut off, and its backend's connection freed.
func TestHTTP2StalledDownload(t *testing.T) {
	freed := make(chan error, 1)
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		if _, _, err := readHead(r); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		_, err := io.CopyN(conn, zeroReader{}, 1000000000)
		freed <- err
	})
	g := startTLS(t, testConfig(endpoint, with("server.idle_timeout", "200ms")), nil)
	tr := g.client(2)
	resp, err := tr.RoundTrip(g.request("GET", "/photos/k", userKey, nil, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := <-freed; err == nil {
		t.Fatal("the backend could send it all, want a broken connection")
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the client read %d bytes and no error", n)
	}
	if resp, _, err := answerOf(t, tr, g.request("GET", "/", userKey, nil, 0)); err != nil || resp.StatusCode != 200 || g.connections.Load() != 1 {
		t.Errorf("the next request = %d, %v, want 200 on the same connection", resp.StatusCode, err)
	}
}

// Uploads to a backend that can't be reached yet leave their connection to the
// others: what waits of them is bounded by less than the connection may hold.
func TestHTTP2SlowNeighbour(t *testing.T) {
	release := make(chan bool)
	silent := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) { <-release })
	g := startTLS(t, testConfig(startRecorder(t, nil).URL,
		with("accounts.slow", map[string]any{
			"endpoint_url": strings.Replace(silent, "http:", "https:", 1), "region": "us-east-1", "connect_timeout": "20s",
			"access_key_id": testCredentials.AccessKeyID, "secret_access_key": testCredentials.SecretAccessKey, "buckets": []any{"slow"},
		})), nil)
	tr := g.client(2)
	if _, _, err := answerOf(t, tr, g.request("GET", "/", userKey, nil, 0)); err != nil {
		t.Fatal(err)
	}
	var slow sync.WaitGroup
	for range 2 {
		slow.Go(func() {
			resp, err := tr.RoundTrip(g.request("PUT", "/slow/k", adminKey, io.LimitReader(zeroReader{}, 2<<20), 2<<20))
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != 502 {
				t.Errorf("an upload without a backend = %d, want 502", resp.StatusCode)
			}
		})
	}
	for range 4 {
		resp, text, err := answerOf(t, tr, g.request("PUT", "/photos/k", userKey, io.LimitReader(zeroReader{}, 1<<20), 1<<20))
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("an upload beside slow ones = %d %s, %v", resp.StatusCode, text, err)
		}
	}
	close(release)
	slow.Wait()
	if n := g.connections.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// Who has no certificate of the client authority gets no further than the handshake.
func TestTLSClientCertificate(t *testing.T) {
	bothProtocols(t, func(t *testing.T, major int) {
		backend := startRecorder(t, nil)
		clients := newTestCA(t, "clients")
		g := startTLS(t, testConfig(backend.URL), clients)
		get := func(tr *http.Transport) (int, error) {
			resp, err := tr.RoundTrip(g.request("HEAD", "/photos/k", userKey, nil, 0))
			if err != nil {
				return 0, err
			}
			resp.Body.Close()
			return resp.StatusCode, nil
		}
		if status, err := get(g.client(major)); err == nil {
			t.Errorf("without a certificate: %d, want an error", status)
		}
		if status, err := get(g.client(major, newTestCA(t, "clients").client(t, "mallory"))); err == nil {
			t.Errorf("with another authority's: %d, want an error", status)
		}
		backend.wantNone(t)
		known := g.client(major, clients.client(t, "alice"))
		known.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		if status, err := get(known); status != 200 {
			t.Errorf("with a certificate: %d, %v, want 200", status, err)
		}

		// When the authority is replaced, a session of before does not help.
		next := newTestCA(t, "clients of tomorrow")
		replaceFile(t, g.files[2], certToPEM(next.cert))
		if err := g.tls.reload(); err != nil {
			t.Fatal(err)
		}
		known.CloseIdleConnections()
		if status, err := get(known); err == nil {
			t.Errorf("with a certificate of yesterday: %d, want an error", status)
		}
		if status, err := get(g.client(major, next.client(t, "alice"))); status != 200 {
			t.Errorf("with one of the new authority: %d, %v, want 200", status, err)
		}
	})
}

// A certificate is replaced while it is used: what is under way goes on, new
// connections see the new one, and sessions can be resumed across.
func TestTLSRotation(t *testing.T) {
	goOn := make(chan bool)
	start := strings.Repeat("x", 100000) // net/http holds back an answer that is shorter
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, start)
		w.(http.Flusher).Flush()
		if strings.HasSuffix(r.URL.Path, "/long") {
			waitFor(r, goOn)
		}
		io.WriteString(w, "last")
	})
	g := startTLS(t, testConfig(backend.URL), nil)
	tr := g.client(2)
	long, err := tr.RoundTrip(g.request("GET", "/photos/long", userKey, nil, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer long.Body.Close()

	sessions := tls.NewLRUClientSessionCache(1)
	handshake := func() *tls.ConnectionState {
		fresh := g.client(2)
		defer fresh.CloseIdleConnections()
		fresh.TLSClientConfig.ClientSessionCache = sessions
		resp, _, err := answerOf(t, fresh, g.request("GET", "/photos/k", userKey, nil, 0))
		if err != nil {
			t.Fatal(err)
		}
		return resp.TLS
	}
	first := handshake()
	cert, key := g.ca.issue(t, "gateway.example", nil)
	replaceFile(t, g.files[0], cert)
	if err := g.tls.reload(); err == nil {
		t.Error("a certificate without its key was taken over")
	}
	replaceFile(t, g.files[1], key)
	if err := g.tls.reload(); err != nil {
		t.Fatal(err)
	}
	if again := handshake(); !again.DidResume {
		t.Error("a session of before the change can't be resumed")
	}
	sessions = tls.NewLRUClientSessionCache(1)
	if second := handshake(); second.PeerCertificates[0].SerialNumber.Cmp(first.PeerCertificates[0].SerialNumber) == 0 {
		t.Error("a new connection sees the old certificate")
	}
	close(goOn)
	if body, err := io.ReadAll(long.Body); err != nil || string(body) != start+"last" {
		t.Errorf("the answer under way = %d bytes, %v, want all of it", len(body), err)
	}
}

// The ways in which files change, each seen by the next look or the one after, and
// each fault told once.
func TestTLSWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out syncBuffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		ca := newTestCA(t, "authority")
		certs, keys := make([]string, 4), make([]string, 4)
		for i := range certs {
			certs[i], keys[i] = ca.issue(t, fmt.Sprintf("c%d.example", i), nil)
		}
		dir := t.TempDir()
		version := func(i int) { // as Kubernetes does: a folder each, and a link that is swapped
			folder := filepath.Join(dir, fmt.Sprint("v", i))
			if err := errors.Join(os.Mkdir(folder, 0o700),
				os.WriteFile(filepath.Join(folder, "tls.crt"), []byte(certs[i]), 0o600),
				os.WriteFile(filepath.Join(folder, "tls.key"), []byte(keys[i]), 0o600),
				os.Symlink(filepath.Base(folder), filepath.Join(dir, "..tmp")),
				os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data"))); err != nil {
				t.Fatal(err)
			}
		}
		version(0)
		certFile, keyFile := filepath.Join(dir, "..data", "tls.crt"), filepath.Join(dir, "..data", "tls.key")
		w, err := newServerTLS(certFile, keyFile, "", log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan bool)
		go func() { w.watch(ctx, time.Minute); close(ended) }()
		want := func(what string, i, warnings int) {
			t.Helper()
			time.Sleep(3 * time.Minute) // of the bubble's clock
			synctest.Wait()
			if name := w.current.Load().Certificates[0].Leaf.DNSNames[0]; name != fmt.Sprintf("c%d.example", i) {
				t.Errorf("%s: %s is in use, want c%d.example", what, name, i)
			}
			if n := strings.Count(out.String(), "level=WARN"); n != warnings {
				t.Errorf("%s: %d warnings, want %d:\n%s", what, n, warnings, out.String())
			}
		}
		want("nothing", 0, 0)
		version(1)
		want("a link is swapped", 1, 0)
		replaceFile(t, certFile, certs[2])
		want("the certificate alone", 1, 1)
		replaceFile(t, keyFile, keys[2])
		want("and its key", 2, 1)
		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		want("no key", 2, 2)
		replaceFile(t, keyFile, "rubbish")
		want("a bad key", 2, 3)
		replaceFile(t, keyFile, keys[2])
		want("the same key again", 2, 3)
		replaceFile(t, keyFile, "rubbish")
		want("the same fault again", 2, 4)
		replaceFile(t, keyFile, keys[3])
		replaceFile(t, certFile, certs[3])
		want("both", 3, 4)
		stop()
		<-ended
		if n := strings.Count(out.String(), "TLS certificate loaded"); n != 4 {
			t.Errorf("%d certificates announced, want 4", n)
		}
		if strings.Contains(out.String(), "PRIVATE") {
			t.Error("a key is in the log")
		}
	})
}

func TestNewServerTLSErrors(t *testing.T) {
	ca := newTestCA(t, "authority")
	cert, key := ca.issue(t, "a.example", nil)
	_, other := ca.issue(t, "b.example", nil)
	root := certToPEM(ca.cert)
	for _, test := range []struct {
		name     string
		contents []string
		ca       bool
		want     []string // in the error; none: no error
	}{
		{"good", []string{cert, key}, false, nil},
		{"good, with a chain", []string{cert + root, key}, false, nil},
		{"good, with authorities", []string{cert, key, root + cert}, true, nil},
		{"no certificate file", nil, false, []string{"server.tls_cert_file", "cert.pem", "no such file"}},
		{"no key file", []string{cert}, false, []string{"server.tls_key_file", "key.pem", "no such file"}},
		{"no authority file", []string{cert, key}, true, []string{"server.tls_client_ca_file", "ca.pem", "no such file"}},
		{"another key", []string{cert, other}, false, []string{"key.pem", "does not match"}},
		{"the two swapped", []string{key, cert}, false, []string{"cert.pem", "key.pem", "PEM"}},
		{"empty", []string{"", ""}, false, []string{"cert.pem", "PEM"}},
		{"the end of the key is missing", []string{cert, key[:len(key)-30]}, false, []string{"key.pem", "PEM"}},
		{"authorities that are none", []string{cert, key, key}, true, []string{"server.tls_client_ca_file", "ca.pem", "PEM"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			files := tlsFiles(t, test.contents...)
			if !test.ca {
				files[2] = ""
			}
			_, err := newServerTLS(files[0], files[1], files[2], slog.New(slog.DiscardHandler))
			if (err == nil) != (test.want == nil) {
				t.Fatalf("newServerTLS = %v, want an error: %t", err, test.want != nil)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not have %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), strings.Split(key, "\n")[1]) {
				t.Error("the error shows the key")
			}
		})
	}
}

// A certificate out of its time is used, for there is no other, and warned about.
func TestTLSExpired(t *testing.T) {
	ca := newTestCA(t, "authority")
	for name, change := range map[string]func(*x509.Certificate){
		"has expired":      func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) },
		"is not valid yet": func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) },
	} {
		var out bytes.Buffer
		cert, key := ca.issue(t, "a.example", change)
		files := tlsFiles(t, cert, key)
		if _, err := newServerTLS(files[0], files[1], "", slog.New(slog.NewTextHandler(&out, nil))); err != nil {
			t.Errorf("newServerTLS = %v, want nil", err)
		}
		if !strings.Contains(out.String(), "level=WARN") || !strings.Contains(out.String(), name) {
			t.Errorf("log %q, want a warning that it %s", out.String(), name)
		}
	}
}

// A backend's authority from a file vouches for it, and no other does: not those of
// the system, and not those of another file.
func TestCAPool(t *testing.T) {
	backend := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	defer backend.Close()
	backend.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	files := tlsFiles(t, certToPEM(backend.Certificate()), "rubbish", certToPEM(newTestCA(t, "other").cert))
	for i, want := range []int{200, 0, 502} {
		roots, err := caPool(files[i])
		if want == 0 {
			if err == nil || !strings.Contains(err.Error(), files[i]) || !strings.Contains(err.Error(), "PEM") {
				t.Errorf("caPool of rubbish = %v, want an error that names the file", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		g := startGateway(t, testConfig(backend.URL))
		g.gw.buckets["photos"].upstream.pool.tls.RootCAs = roots
		if resp, body := g.do("PUT", "/photos/k", userKey, ""); resp.StatusCode != want {
			t.Errorf("with authority %d: %d %s, want %d", i, resp.StatusCode, body, want)
		}
	}
	if _, err := caPool(files[0] + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("caPool of no file = %v, want %v", err, os.ErrNotExist)
	}
}

// A rawHTTP2 writes frames of HTTP/2 (RFC 9113 section 4) that no proper client would.
type rawHTTP2 struct {
	t    *testing.T
	conn net.Conn
}

const (
	frameData, frameHeaders, frameReset, frameSettings = 0, 1, 3, 4
	flagEndStream, flagEndHeaders                      = 1, 4
)

func dialHTTP2(t *testing.T, g *tlsGateway) *rawHTTP2 {
	t.Helper()
	conn, err := tls.Dial("tcp", g.addr, &tls.Config{RootCAs: g.ca.pool(), NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	c := &rawHTTP2{t, conn}
	c.frame(frameSettings, 0, 0, "")
	return c
}

func (c *rawHTTP2) frame(kind, flags byte, stream uint32, payload string) {
	head := []byte{0, byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	head = binary.BigEndian.AppendUint32(head, stream)
	if _, err := c.conn.Write(append(head, payload...)); err != nil {
		c.t.Error(err)
	}
}

// headers sends fields, name and value in turn, as literals without an index: RFC
// 7541 section 6.2.2.
func (c *rawHTTP2) headers(flags byte, fields ...string) {
	block := ""
	for i := 0; i < len(fields); i += 2 {
		block += "\x00" + string(rune(len(fields[i]))) + fields[i] + string(rune(len(fields[i+1]))) + fields[i+1]
	}
	c.frame(frameHeaders, flags|flagEndHeaders, 1, block)
}

// answer reads the answer: "200", or another's body, or "reset".
func (c *rawHTTP2) answer() string {
	c.t.Helper()
	status, body := byte(0), ""
	for head := make([]byte, 9); ; {
		if _, err := io.ReadFull(c.conn, head); err != nil {
			c.t.Fatal(err)
		}
		payload := make([]byte, int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(c.conn, payload); err != nil {
			c.t.Fatal(err)
		}
		switch head[3] {
		case frameHeaders:
			status = payload[0]
		case frameData:
			body += string(payload)
		case frameReset:
			return "reset"
		}
		if head[3] <= frameHeaders && head[4]&flagEndStream != 0 {
			if status == 0x80|8 { // the index of ":status: 200" in RFC 7541 appendix A
				return "200"
			}
			return body
		}
	}
}

// A body that is not as long as its Content-Length makes a request malformed (RFC
// 9113 section 8.1.1): it is never stored, not even as an empty object.
func TestHTTP2Lengths(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startTLS(t, testConfig(backend.URL), nil)
	for _, test := range []struct {
		name    string
		lengths []string
		body    string // "-": the request ends with its headers
		want    string // within the answer
		stored  string
	}{
		{"right", []string{"5"}, "hello", "200", "hello"},
		{"right, empty", []string{"0"}, "", "200", ""},
		{"right, none", []string{"0"}, "-", "200", ""},
		{"shorter", []string{"6"}, "hello", "IncompleteBody", "-"},
		{"empty", []string{"6"}, "", "IncompleteBody", "-"},
		{"none", []string{"6"}, "-", "IncompleteBody", "-"},
		{"longer", []string{"4"}, "hello", "reset", "-"},
		{"no number, empty", []string{"x"}, "", "IncompleteBody", "-"},
		{"no number, none", []string{"-1"}, "-", "IncompleteBody", "-"},
		{"two", []string{"5", "6"}, "hello", "IncompleteBody", "-"},
		{"no length", nil, "hello", "MissingContentLength", "-"},
		{"no length, none", nil, "-", "MissingContentLength", "-"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(backend.requests())
			fields := []string{":method", "PUT", ":scheme", "https", ":authority", "gateway.example", ":path", "/photos/k", "x-api-key", userKey}
			for _, length := range test.lengths {
				fields = append(fields, "content-length", length)
			}
			c := dialHTTP2(t, g)
			if test.body == "-" {
				c.headers(flagEndStream, fields...)
			} else {
				c.headers(0, fields...)
				c.frame(frameData, flagEndStream, 1, test.body)
			}
			if got := c.answer(); !strings.Contains(got, test.want) {
				t.Errorf("answer %q, want %s", got, test.want)
			}
			stored := "-"
			for _, r := range backend.requests()[before:] {
				if r.err == nil {
					stored = r.body
				}
			}
			if stored != test.stored {
				t.Errorf("the backend stored %q, want %q", stored, test.stored)
			}
		})
	}
}

// A Host beside :authority does not reach a backend, and a path of HTTP/2 is read as
// one of HTTP/1.1.
func TestHTTP2Requests(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startTLS(t, testConfig(backend.URL), nil)
	for _, test := range []struct {
		name, method, path string
		more               []string
		want               string
		uri                string // of the backend's request; "": none
	}{
		{"plain", "GET", "/photos/k", nil, "200", "/photos/k"},
		{"host too", "GET", "/photos/k", []string{"host", "evil.example"}, "200", "/photos/k"},
		{"two slashes", "GET", "//evil.example/photos/k", nil, "InvalidBucketName", ""},
		{"whole address", "GET", "https://evil.example/photos/k", nil, "200", "/photos/k"},
		{"encoded slash", "GET", "/photos/..%2Fsecret%2Fk", nil, "InvalidURI", ""},
		{"star", "OPTIONS", "*", nil, "InvalidURI", ""},
		{"fragment", "GET", "/photos/k#x", nil, "InvalidURI", ""},
		{"odd method", "PURGE", "/photos/k", nil, "MethodNotAllowed", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := len(backend.requests())
			c := dialHTTP2(t, g)
			c.headers(flagEndStream, append([]string{":method", test.method, ":scheme", "https", ":authority", "gateway.example", ":path", test.path, "x-api-key", userKey}, test.more...)...)
			if got := c.answer(); !strings.Contains(got, test.want) {
				t.Errorf("answer %q, want %s", got, test.want)
			}
			uri := ""
			for _, r := range backend.requests()[before:] {
				uri = r.uri
				if "http://"+r.host != backend.URL {
					t.Errorf("the backend saw the host %q, want its own", r.host)
				}
			}
			if uri != test.uri {
				t.Errorf("the backend got %q, want %q", uri, test.uri)
			}
		})
	}
}
