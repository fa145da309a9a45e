package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// cutBodies are the starts of the documents that operations are answered with. None is
// a document, however it is framed.
var cutBodies = []string{
	"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents>", "<CopyObjectResult><ETag>e</ETag>",
	"<CompleteMultipartUploadResult><ETag>e</ETag>", "half of it",
}

// documentFor is the one of cutBodies that an operation's answer begins with.
func documentFor(name string) string {
	switch {
	case strings.HasPrefix(name, "List") || name == "GetObject":
		return cutBodies[0]
	case strings.HasSuffix(name, "Copy") || name == "CopyObject":
		return cutBodies[1]
	case strings.Contains(name, "MultipartUpload"):
		return cutBodies[2]
	}
	return cutBodies[3]
}

// An answer that breaks off never looks complete, whatever the operation, the framing
// of the backend, and the version of HTTP that the client speaks: it is an error with
// a length, or a broken connection.
func TestAnswerThatBreaksOffNeverLooksComplete(t *testing.T) {
	framings := []struct {
		name, head string
		frame      func(string) string
	}{
		{"length", "Content-Length: 1000\r\n", func(s string) string { return s }},
		{"chunks", "Transfer-Encoding: chunked\r\n", func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }},
		{"half a chunk", "Transfer-Encoding: chunked\r\n", func(s string) string { return fmt.Sprintf("%x\r\n%s", len(s)+5, s) }},
		{"neither", "", func(s string) string { return s }},
		{"neither, said to close", "Connection: close\r\n", func(s string) string { return s }},
	}
	for _, framing := range framings {
		for _, status := range []string{"200 OK", "206 Partial Content"} {
			var body atomic.Value
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				_, header, err := readHead(r)
				if err != nil {
					return
				}
				var length int64
				fmt.Sscan(header.Get("Content-Length"), &length)
				io.CopyN(io.Discard, r, length)
				io.WriteString(conn, "HTTP/1.1 "+status+"\r\n"+framing.head+"\r\n"+framing.frame(body.Load().(string)))
			})
			g := startGateway(t, testConfig(endpoint))
			client := startHTTP2(t, g)
			for _, op := range operations {
				if op.method == "HEAD" || op.name == "ListBuckets" || op.name == "Presign" || operationSpecs[op.name].status >= 300 {
					continue // no body, or no backend
				}
				body.Store(documentFor(op.name))
				r := specFor(op.name, "photos")
				for _, version := range []string{"HTTP/1.0", "HTTP/1.1", "HTTP/2.0"} {
					what := fmt.Sprintf("%s, %s, %s, %s", op.name, version, framing.name, status)
					got, text, err := sendVersion(t, g, client, version, r)
					switch {
					case err != nil: // it broke off, or does not match its length
					case got.StatusCode < 500:
						t.Errorf("%s: answer %d %q with a clean end", what, got.StatusCode, text)
					case got.StatusCode != 502 && got.StatusCode != 505:
						t.Errorf("%s: answer %d %q, want 502", what, got.StatusCode, text)
					case framing.head == "" && got.StatusCode != 502:
						t.Errorf("%s: answer %d, want 502 before a byte goes out", what, got.StatusCode)
					}
					if err != nil && !strings.Contains(framing.head, ":") {
						t.Errorf("%s: %v, want 502 before a byte goes out", what, err)
					}
				}
			}
		}
	}
}

// startHTTP2 lets a gateway be asked by HTTP/2 too.
func startHTTP2(t *testing.T, g *testGateway) *http.Client {
	t.Helper()
	certificate, roots := testCertificate(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(g.gw, g.gw.log)
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}}
	go server.ServeTLS(listener, "", "")
	transport := &http.Transport{
		ForceAttemptHTTP2: true, DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"},
	}
	t.Cleanup(func() { transport.CloseIdleConnections(); server.Close() })
	return &http.Client{Transport: &toAddress{transport, listener.Addr().String()}}
}

// A toAddress sends each request to one address.
type toAddress struct {
	*http.Transport
	addr string
}

func (a *toAddress) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host = "https", a.addr
	return a.Transport.RoundTrip(r)
}

// sendVersion sends a request as admin by a version of HTTP. The error is that of an
// answer that did not end as it should.
func sendVersion(t *testing.T, g *testGateway, client *http.Client, version string, r requestSpec) (*http.Response, string, error) {
	t.Helper()
	if version == "HTTP/2.0" {
		req, err := http.NewRequest(r.method, "https://gateway"+r.target(), strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", adminKey)
		for _, line := range r.header {
			name, value, _ := strings.Cut(line, ": ")
			req.Header.Set(name, value)
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Fatalf("the client speaks %s, want HTTP/2", resp.Proto)
		}
		data, err := io.ReadAll(resp.Body)
		return resp, string(data), err
	}
	conn := g.dial()
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s %s\r\nHost: g\r\nConnection: close\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n%s\r\n%s",
		r.method, r.target(), version, adminKey, len(r.body), strings.Join(append(r.header, ""), "\r\n"), r.body)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: r.method})
	if err != nil {
		return nil, "", err
	}
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && resp.StatusCode != 204 && r.method != "HEAD" {
		t.Errorf("%s by %s: answer %d has neither length nor chunks", r, version, resp.StatusCode)
	}
	return resp, string(data), err
}

// An HTTP/1.0 client gets what is small with its length, and an error in place of what
// is not.
func TestHTTP10ClientsAreToldTheLength(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush() // so that it comes in chunks
		switch {
		case r.URL.Query().Has("list-type"):
			io.WriteString(w, `<ListBucketResult><IsTruncated>`+fmt.Sprint(strings.Contains(r.URL.Path, "secret"))+`</IsTruncated><NextContinuationToken>`)
			if strings.Contains(r.URL.Path, "secret") {
				io.WriteString(w, "t")
			}
			io.WriteString(w, `</NextContinuationToken><Contents><Key>a</Key></Contents></ListBucketResult>`)
		case r.Method == "POST" && r.URL.Query().Has("uploadId"):
			io.WriteString(w, "  \n <CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")
		case strings.HasSuffix(r.URL.Path, "/large"):
			w.Write(pattern(maxUnsized + 1))
		default:
			w.Write(pattern(maxUnsized))
		}
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, test := range []struct {
		method, target, body string
		status, size         int
	}{
		{"GET", "/photos/k", "", 200, maxUnsized},
		{"GET", "/photos/large", "", 505, 0},
		{"PUT", "/photos/k", "x", 200, 0},
		{"GET", "/photos", "", 200, 0},
		{"GET", "/photos?list-type=2", "", 200, 0},
		{"GET", "/secret", "", 505, 0},
		{"GET", "/secret?list-type=2", "", 200, 0},
		{"POST", "/photos/k?uploadId=u", completeDocument, 200, 0},
		{"GET", "/", "", 200, 0},
		{"GET", "/-/presign?bucket=photos&key=k", "", 200, 0},
		{"GET", "/-/none", "", 400, 0},
	} {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: g\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n\r\n%s", test.method, test.target, adminKey, len(test.body), test.body)
		resp, body := readAnswer(t, test.method, conn)
		if resp.StatusCode != test.status || resp.ContentLength != int64(len(body)) || test.size > 0 && len(body) != test.size {
			t.Errorf("%s %s = %d with Content-Length %d and %d bytes, want %d with %d", test.method, test.target, resp.StatusCode, resp.ContentLength, len(body), test.status, test.size)
		}
		if test.status == 505 && !strings.Contains(body, "HTTPVersionNotSupported") {
			t.Errorf("%s %s: %s", test.method, test.target, body)
		}
	}
}

// HTTP/1.0 has no interim answers: RFC 9110 section 15.2.
func TestHTTP10ClientsGetNoInterimAnswer(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	for _, body := range []string{"", "meow"} {
		conn := g.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /photos/k HTTP/1.0\r\nHost: g\r\nX-Api-Key: %s\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n%s", userKey, len(body), body)
		if resp, text := readAnswer(t, "PUT", conn); resp.StatusCode != 200 {
			t.Errorf("PUT of %q = %d %s, want 200", body, resp.StatusCode, text)
		}
	}
}
