package main

// Clients that may not do what they do, or do it wrong: strangers, liars, and those that leave
// or stall. What they send may never be stored, and mostly may not even arrive.

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// idleTimeout is the gateways' server.idle_timeout.
const idleTimeout = 3 * time.Second

// tricks are what hostile clients do, by the names under which they are counted.
var tricks = []choice[func(w *worker, name string)]{
	{"no key", 3, (*worker).strange},
	{"upload cut by a reset", 6, (*worker).cutUpload},
	{"upload cut by a close", 6, (*worker).cutUpload},
	{"upload that stalls", 1, (*worker).stallUpload},
	{"download that is left", 6, (*worker).leaveDownload},
	{"download that is not read", 1, (*worker).stallDownload},
	{"wrong checksum", 6, (*worker).lie},
	{"ambiguous framing", 4, (*worker).smuggle},
	{"two requests at once", 4, (*worker).pipeline},
}

// attack plays tricks until it is told to stop.
func (w *worker) attack(stop <-chan struct{}) {
	for !isClosed(stop) {
		w.ledger.count("bad inputs", 1)
		t := choose(w.random, tricks)
		t.run(w, t.name)
	}
}

// A stranger's request: what is wrong with it, and how it is made so.
var strangers = []struct {
	name  string
	spoil func(w *worker, r *request, req *http.Request)
}{
	{"no key", func(_ *worker, _ *request, req *http.Request) { drop(req) }},
	{"wrong key", func(_ *worker, _ *request, req *http.Request) {
		drop(req)
		req.Header.Set("X-Api-Key", "nobody-has-this-key-0123456789")
	}},
	{"two keys", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		req.Header["X-Api-Key"] = []string{w.writer.key(), w.writer.key()}
	}},
	{"revoked key", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		req.Header.Set("X-Api-Key", w.revokedKey())
	}},
	{"signature with a revoked key", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		sign(req, keyPair{w.writer.name, w.revokedKey()}, unsignedPayload, time.Now())
	}},
	{"signature with a backend's key", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		sign(req, w.accounts[0].backend.keys, unsignedPayload, time.Now())
	}},
	{"signature of an hour ago", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		sign(req, keyPair{w.writer.name, w.writer.key()}, unsignedPayload, time.Now().Add(-time.Hour))
	}},
	{"signature of another path", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		sign(req, keyPair{w.writer.name, w.writer.key()}, unsignedPayload, time.Now())
		req.URL.Path += "2"
		req.URL.RawPath += "2"
	}},
	{"header added to a signed request", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		sign(req, keyPair{w.writer.name, w.writer.key()}, unsignedPayload, time.Now())
		req.Header.Set("X-Amz-Acl", "public-read")
	}},
	{"presigned URL that has expired", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		presign(req, keyPair{w.writer.name, w.writer.key()}, 1, time.Now().Add(-time.Minute))
	}},
	{"write of a reader", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		req.Method = pick(w, http.MethodPut, http.MethodDelete)
		req.Header.Set("X-Api-Key", w.reader.key())
	}},
	{"signed write of a reader", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		req.Method = http.MethodDelete
		sign(req, keyPair{w.reader.name, w.reader.key()}, unsignedPayload, time.Now())
	}},
	{"bucket that is not allowed", func(w *worker, _ *request, req *http.Request) {
		drop(req)
		req.Header.Set("X-Api-Key", w.outsider.key())
	}},
	{"copy from a bucket that is not allowed", func(w *worker, r *request, req *http.Request) {
		drop(req)
		req.Method = http.MethodPut
		req.URL = spoiledURL(req, "/"+w.outsider.buckets[0]+"/stolen")
		req.Header.Set("X-Amz-Copy-Source", r.bucket+"/"+escape(r.key, "/"))
		sign(req, keyPair{w.outsider.name, w.outsider.key()}, unsignedPayload, time.Now())
	}},
	{"path that leaves the bucket", func(w *worker, r *request, req *http.Request) {
		drop(req)
		req.URL = spoiledURL(req, pick(w, "/"+w.outsider.buckets[0]+"/../"+r.bucket+"/x", "/"+w.outsider.buckets[0]+"/%2e%2e/"+r.bucket+"/x"))
		req.Header.Set("X-Api-Key", w.outsider.key())
	}},
}

// drop removes what authenticates a request.
func drop(req *http.Request) {
	for _, name := range []string{"Authorization", "X-Api-Key", "X-Amz-Date", "X-Amz-Content-Sha256"} {
		req.Header.Del(name)
	}
}

// spoiledURL returns the URL of a request with another path.
func spoiledURL(req *http.Request, path string) *url.URL {
	decoded, _ := url.PathUnescape(path)
	return &url.URL{Scheme: req.URL.Scheme, Host: req.URL.Host, Path: decoded, RawPath: path}
}

// revokedKey returns a key that the writer had before, or one that nobody had yet.
func (w *worker) revokedKey() string {
	w.writer.mu.Lock()
	defer w.writer.mu.Unlock()
	if len(w.writer.revoked) == 0 {
		return "not-yet-a-key-0123456789"
	}
	return pick(w, w.writer.revoked...)
}

// strange sends a request that may not be served.
func (w *worker) strange(string) {
	_, bucket, key := w.place()
	s := pick(w, strangers...)
	w.gateway = pick(w, w.gateways...)
	r := &request{method: pick(w, http.MethodGet, http.MethodPut, http.MethodDelete), bucket: bucket, key: key, user: w.writer, auth: bySignature, header: http.Header{}}
	if bucket == w.outsider.buckets[0] {
		r.bucket = w.accounts[0].buckets[0]
	}
	p := &permission{forbidden: true}
	t := w.ledger.permit(p)
	defer w.ledger.close(t)
	req := w.prepare(r, t)
	s.spoil(w, r, req)
	begin := time.Now()
	resp, err := w.clients[w.gateway].Do(req)
	if err != nil {
		w.ledger.ended(t, "stranger: "+s.name, "broken")
		return
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	w.ledger.ended(t, "stranger: "+s.name, "refused")
	if resp.StatusCode < 400 || resp.StatusCode >= 500 && !w.gateway.restarted(begin, time.Now()) {
		w.ledger.broken(promiseAllowed, "%s: %s %s is answered %d %.200s", s.name, req.Method, req.URL, resp.StatusCode, data)
	}
}

// dial opens a connection to a gateway, for exact bytes.
func (w *worker) dial() (net.Conn, error) {
	w.gateway = pick(w, w.gateways...)
	base, _ := url.Parse(w.gateway.front)
	if base.Scheme == "https" {
		return tls.Dial("tcp", base.Host, &tls.Config{RootCAs: w.roots, ServerName: "localhost"})
	}
	return net.Dial("tcp", base.Host)
}

// cut ends a connection by a reset or a close.
func cut(c net.Conn, byReset bool) {
	if t, ok := c.(*tls.Conn); ok && byReset {
		reset(t.NetConn())
		return
	}
	if byReset {
		reset(c)
		return
	}
	c.Close()
}

// uploadHead returns the head of an upload with the writer's key.
func (w *worker) uploadHead(bucket, key string, t trace, length int64, more string) string {
	return fmt.Sprintf("PUT /%s/%s HTTP/1.1\r\nHost: localhost\r\nx-api-key: %s\r\n%s: %s\r\nContent-Length: %d\r\n%s\r\n",
		bucket, escape(key, "/"), w.writer.key(), traceHeader, t.header(), length, more)
}

// cutUpload leaves within an upload.
func (w *worker) cutUpload(name string) {
	_, bucket, key := w.place()
	body := newContent(w.random.Uint64(), 1+w.random.Int64N(400<<10))
	t := w.ledger.permit(&permission{})
	defer w.ledger.close(t)
	c, err := w.dial()
	if err != nil {
		return
	}
	io.WriteString(c, w.uploadHead(bucket, key, t, body.size(), ""))
	n := w.random.Int64N(body.size())
	if w.random.IntN(3) == 0 {
		n = body.size() - 1
	}
	io.CopyN(c, body.reader(), n)
	cut(c, strings.HasSuffix(name, "reset"))
	w.ledger.ended(t, name, "left")
}

// stallUpload stops within an upload. The gateway must cut it off.
func (w *worker) stallUpload(name string) {
	_, bucket, key := w.place()
	body := newContent(w.random.Uint64(), 100<<10)
	t := w.ledger.permit(&permission{})
	defer w.ledger.close(t)
	c, err := w.dial()
	if err != nil {
		return
	}
	defer c.Close()
	begin := time.Now()
	io.WriteString(c, w.uploadHead(bucket, key, t, body.size(), ""))
	io.CopyN(c, body.reader(), w.random.Int64N(body.size()))
	w.wantCutOff(c, begin, name)
	w.ledger.ended(t, name, "cut off")
}

// wantCutOff waits for the gateway to end a connection that makes no progress.
func (w *worker) wantCutOff(c net.Conn, begin time.Time, name string) {
	const patience = idleTimeout + idleTimeout/4 + 15*time.Second // a busy machine is late
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c); err != nil && strings.Contains(err.Error(), "timeout") && !w.gateway.restarted(begin, time.Now()) {
		w.ledger.broken(promiseProgress, "%s: %s has not cut it off after %v", name, w.gateway.name, patience)
	}
}

// download opens a download of a large object, of which the client reads some.
func (w *worker) download(t trace) (net.Conn, error) {
	c, err := w.dial()
	if err != nil {
		return nil, err
	}
	account := w.calm()
	fmt.Fprintf(c, "GET /%s/%s HTTP/1.1\r\nHost: localhost\r\nx-api-key: %s\r\n%s: %s\r\n\r\n",
		account.buckets[0], largeKey, w.reader.key(), traceHeader, t.header())
	io.CopyN(io.Discard, c, 1+w.random.Int64N(100<<10))
	return c, nil
}

// largeKey is an object that does not fit into the buffers between backend and client.
const largeKey = "large"

// leaveDownload closes the connection within a download.
func (w *worker) leaveDownload(name string) {
	t := w.ledger.permit(&permission{})
	defer w.ledger.close(t)
	if c, err := w.download(t); err == nil {
		cut(c, w.random.IntN(2) == 0)
	}
	w.ledger.ended(t, name, "left")
}

// stallDownload stops to read within a download. The gateway must cut it off.
func (w *worker) stallDownload(name string) {
	t := w.ledger.permit(&permission{})
	defer w.ledger.close(t)
	begin := time.Now()
	c, err := w.download(t)
	if err != nil {
		return
	}
	defer c.Close()
	gone := time.NewTimer(idleTimeout + idleTimeout/4 + 2*time.Second)
	<-gone.C
	w.wantCutOff(c, begin, name)
	w.ledger.ended(t, name, "cut off")
}

// lies are uploads whose checks contradict their bytes.
var lies = []struct {
	name string
	make func(w *worker, r *request, req *http.Request)
}{
	{"Content-MD5", func(_ *worker, r *request, req *http.Request) {
		req.Header.Set("Content-Md5", "XrY7u+Ae7tCTyyK7j1rNww==")
	}},
	{"x-amz-checksum-crc32", func(_ *worker, r *request, req *http.Request) {
		req.Header.Set("X-Amz-Checksum-Crc32", base64CRC32(append(r.body.bytes(), 1)))
	}},
	{"x-amz-content-sha256", func(w *worker, r *request, req *http.Request) {
		drop(req)
		sign(req, keyPair{w.writer.name, w.writer.key()}, hexSHA256([]byte("another body")), time.Now())
	}},
	{"trailing checksum", func(w *worker, r *request, req *http.Request) {
		drop(req)
		announceChunks(req, r.body.size())
		req.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
		sign(req, keyPair{w.writer.name, w.writer.key()}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", time.Now())
		setBody(req, trailedChunks(r.body.bytes(), base64CRC32(nil)))
	}},
	{"signature of a chunk", func(w *worker, r *request, req *http.Request) {
		chunks := w.chunks(req, r)
		i := bytes.LastIndex(chunks[:len(chunks)-90], []byte("chunk-signature=")) + len("chunk-signature=")
		chunks[i] ^= 1
		setBody(req, chunks)
	}},
	{"bytes of a signed chunk", func(w *worker, r *request, req *http.Request) {
		chunks := w.chunks(req, r)
		chunks[bytes.IndexByte(chunks, '\n')+1] ^= 1
		setBody(req, chunks)
	}},
	{"last chunk missing", func(w *worker, r *request, req *http.Request) {
		chunks := w.chunks(req, r)
		setBody(req, chunks[:bytes.LastIndex(chunks, []byte("0;chunk-signature="))])
	}},
	{"decoded length", func(w *worker, r *request, req *http.Request) {
		drop(req)
		announceChunks(req, r.body.size()-1)
		k, now := keyPair{w.writer.name, w.writer.key()}, time.Now()
		sum := sign(req, k, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", now)
		setBody(req, signedChunks(r.body.bytes(), k, now.UTC().Format(amzTime), sum, 16<<10))
	}},
}

func announceChunks(req *http.Request, length int64) {
	req.Header.Set("Content-Encoding", "aws-chunked")
	req.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(length))
}

// chunks signs a request whose body is sent in signed chunks, and returns the chunks.
func (w *worker) chunks(req *http.Request, r *request) []byte {
	drop(req)
	announceChunks(req, r.body.size())
	k, now := keyPair{w.writer.name, w.writer.key()}, time.Now()
	sum := sign(req, k, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", now)
	return signedChunks(r.body.bytes(), k, now.UTC().Format(amzTime), sum, 16<<10)
}

// lie sends an upload that is not what its checks say. It may not be stored, nor be
// acknowledged.
func (w *worker) lie(string) {
	_, bucket, key := w.place()
	l := pick(w, lies...)
	w.gateway = pick(w, w.gateways...)
	r := &request{method: http.MethodPut, bucket: bucket, key: key, user: w.writer, auth: byKey, header: http.Header{}, body: newContent(w.random.Uint64(), 2+w.random.Int64N(60<<10))}
	t := w.ledger.permit(&permission{})
	defer w.ledger.close(t)
	req := w.prepare(r, t)
	l.make(w, r, req)
	resp, err := w.clients[w.gateway].Do(req)
	if err != nil {
		w.ledger.ended(t, "lie: "+l.name, "broken")
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode < 400 {
		w.ledger.broken(promiseWhole, "an upload with a wrong %s is answered %d", l.name, resp.StatusCode)
	}
	w.ledger.ended(t, "lie: "+l.name, "refused")
}

// smuggles are heads whose body has two lengths. What follows them is a request that may not
// be served.
var smuggles = []string{
	"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
	"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
	"Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
	"Content-Length: +4\r\n\r\n",
	"Content-Length: 4\r\nTransfer-Encoding: xchunked\r\n\r\n",
	"Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n",
	"Content-Length: 4\r\n Transfer-Encoding: chunked\r\n\r\n",
}

// smuggle sends a request with an ambiguous length, and another one in its body.
func (w *worker) smuggle(name string) {
	_, bucket, key := w.place()
	outer, inner := w.ledger.permit(&permission{forbidden: true}), w.ledger.permit(&permission{forbidden: true})
	defer w.ledger.close(outer)
	defer w.ledger.close(inner)
	c, err := w.dial()
	if err != nil {
		return
	}
	defer c.Close()
	path := "/" + bucket + "/" + escape(key, "/")
	fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: localhost\r\nx-api-key: %s\r\n%s: %s\r\n%s", path, w.writer.key(), traceHeader, outer.header(), pick(w, smuggles...))
	fmt.Fprintf(c, "0\r\n\r\nGET %s HTTP/1.1\r\nHost: localhost\r\n%s: %s\r\nx-api-key: %s\r\n\r\n", path, traceHeader, inner.header(), w.reader.key())
	c.SetReadDeadline(time.Now().Add(idleTimeout * 2))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil && resp.StatusCode < 400 {
		w.ledger.broken(promiseAllowed, "a request with two lengths is answered %d", resp.StatusCode)
	}
	w.ledger.ended(outer, name, "refused")
}

// pipeline sends two requests at once on one connection. The answers must come in order, each
// with its own object.
func (w *worker) pipeline(name string) {
	account := w.calm()
	var keys [2]string
	c, err := w.dial()
	if err != nil {
		return
	}
	defer c.Close()
	begin := time.Now()
	for i := range keys {
		keys[i] = w.anyKey()
		t := w.ledger.permit(&permission{})
		defer w.ledger.close(t)
		fmt.Fprintf(c, "GET /%s/%s HTTP/1.1\r\nHost: localhost\r\nx-api-key: %s\r\n%s: %s\r\n\r\n", account.buckets[0], escape(keys[i], "/"), w.reader.key(), traceHeader, t.header())
	}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	answers := bufio.NewReader(c)
	for _, key := range keys {
		resp, err := http.ReadResponse(answers, &http.Request{Method: http.MethodGet})
		if err != nil {
			return
		}
		r := &request{method: http.MethodGet, bucket: account.buckets[0], key: key}
		wrong := ""
		if resp.StatusCode == http.StatusOK {
			wrong, err = w.compare(account, r, resp, begin, 0, -1)
		} else {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if wrong != "" {
			w.ledger.broken(promiseClean, "%s: %s", name, wrong)
		}
		if err != nil {
			return
		}
	}
	w.ledger.count("operation "+name+" ok", 1)
}
