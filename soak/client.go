package main

// A client: it sends requests by one of the authentication methods, through one of the
// gateways, and says how each ended.

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// An authentication says how a request shows whose it is.
type authentication string

const (
	byKey           authentication = "x-api-key"
	bySignature     authentication = "signature"                  // UNSIGNED-PAYLOAD
	bySignedPayload authentication = "signature with the payload" // its SHA-256
	bySignedChunks  authentication = "signature of chunks"        // aws-chunked, each chunk signed
	byTrailer       authentication = "signature with a trailer"   // aws-chunked, with a checksum after the body
	byPresignedURL  authentication = "presigned URL"
	withoutAnyKey   authentication = "none"
)

// A user of the gateways.
type user struct {
	name, role string
	buckets    []string
	requests   int // of the limit in a window; 0: no limit

	mu      sync.Mutex // guards the rest
	keys    []string   // valid now; the last one is the newest
	revoked []string
}

// key returns a key that is valid, and stays so for a while.
func (u *user) key() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.keys[len(u.keys)-1]
}

// A call to the gateway, before it is signed.
type request struct {
	method      string
	bucket, key string
	query       string // encoded
	header      http.Header
	body        content
	document    []byte // a body in place of a content
	user        *user
	auth        authentication
	permission  *permission
}

// An answer of the gateway, after it has ended.
type answer struct {
	trace      trace
	status     int
	header     http.Header
	data       []byte // of a body that was not consumed otherwise
	err        error  // the answer did not come, or not whole
	begin, end time.Time
}

// code returns the code of an error, in the client's format.
func (a *answer) code() string {
	var doc struct {
		Code string `json:"code" xml:"Code"`
	}
	if json.Unmarshal(a.data, &doc) != nil {
		xml.Unmarshal(a.data, &doc)
	}
	return doc.Code
}

// A worker sends one request at a time.
type worker struct {
	*site
	name    string
	random  *rand.Rand
	gateway *gateway // of the request that is being made
	fixed   *gateway // that the next requests have to go to; nil: any
}

// newWorker returns the worker with a number. Its choices depend on it and on the seed alone.
func (s *site) newWorker(name string, number uint64) *worker {
	return &worker{site: s, name: name, random: rand.New(rand.NewPCG(s.seed, number))}
}

// pick chooses an element.
func pick[T any](w *worker, from ...T) T { return from[w.random.IntN(len(from))] }

// newClient returns a client of a gateway. It follows no redirect: the gateway sends none.
func newClient(config *tls.Config) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64, TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send sends a request. consume reads the body of a success; with nil it is kept in data. The
// answer of consume is whether what it has read is right.
func (w *worker) send(r *request, consume func(*http.Response) error) *answer {
	if w.gateway = w.fixed; w.gateway == nil {
		w.gateway = pick(w, w.gateways...)
	}
	if r.permission == nil {
		r.permission = &permission{}
	}
	a := &answer{trace: w.ledger.permit(r.permission), begin: time.Now()}
	defer w.ledger.close(a.trace)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req := w.prepare(r, a.trace).WithContext(ctx)
	resp, err := w.clients[w.gateway].Do(req)
	if err != nil {
		a.err, a.end = err, time.Now()
		return a
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if resp.StatusCode < 300 && consume != nil {
		a.err = consume(resp)
	} else {
		a.data, a.err = io.ReadAll(resp.Body)
	}
	a.end = time.Now()
	return a
}

// prepare makes the HTTP request and signs it.
func (w *worker) prepare(r *request, t trace) *http.Request {
	path := "/" + r.bucket
	if r.key != "" {
		path += "/" + r.key
	}
	base, _ := url.Parse(w.gateway.front)
	req := &http.Request{Method: r.method, Host: base.Host, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		URL: &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path, RawPath: escape(path, "/"), RawQuery: r.query}}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set(traceHeader, t.header())
	req.Header.Set("User-Agent", "soak")
	switch {
	case r.document != nil:
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(r.document)), int64(len(r.document))
	case r.body != nil:
		req.Body, req.ContentLength = io.NopCloser(r.body.reader()), r.body.size()
	}
	if req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	w.authenticate(req, r)
	return req
}

// authenticate signs a request, or adds the user's key.
func (w *worker) authenticate(req *http.Request, r *request) {
	if r.auth == withoutAnyKey {
		return
	}
	k := keyPair{r.user.name, r.user.key()}
	now := time.Now()
	var sum string
	switch r.auth {
	case bySignature:
		sum = sign(req, k, unsignedPayload, now)
	case bySignedPayload:
		data := r.document
		if data == nil {
			data = r.body.bytes()
		}
		sum = sign(req, k, hexSHA256(data), now)
	case bySignedChunks:
		req.Header.Set("Content-Encoding", "aws-chunked")
		req.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(r.body.size()))
		sum = sign(req, k, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", now)
		setBody(req, signedChunks(r.body.bytes(), k, now.UTC().Format(amzTime), sum, 16<<10))
	case byTrailer:
		req.Header.Set("Content-Encoding", "aws-chunked")
		req.Header.Set("X-Amz-Decoded-Content-Length", fmt.Sprint(r.body.size()))
		req.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
		sum = sign(req, k, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", now)
		data := r.body.bytes()
		setBody(req, trailedChunks(data, base64CRC32(data)))
	case byPresignedURL:
		sum = presign(req, k, 300, now)
	default:
		req.Header.Set("X-Api-Key", k.secret)
	}
	if sum != "" {
		w.ledger.secrets.addSignature(sum)
	}
}

// setBody replaces the body of a request.
func setBody(req *http.Request, data []byte) {
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
}

// trailedChunks encodes a body as aws-chunked with a trailing checksum.
func trailedChunks(body []byte, sum string) []byte {
	var b bytes.Buffer
	if len(body) > 0 {
		fmt.Fprintf(&b, "%x\r\n%s\r\n", len(body), body)
	}
	fmt.Fprintf(&b, "0\r\nx-amz-checksum-crc32:%s\r\n\r\n", sum)
	return b.Bytes()
}

// base64CRC32 returns a CRC-32 as S3 writes it.
func base64CRC32(data []byte) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(data)))
}

// outcome says how a request of a client that may send it has ended: ok if what came is what
// had to come, or an error that the client sees. Each other end breaks a promise.
func (w *worker) outcome(operation string, account *account, a *answer, wrong string) bool {
	result := "ok"
	switch {
	case wrong != "":
		w.ledger.broken(promiseClean, "%s at %s (trace %d): %s\n%s", operation, w.gateway.name, a.trace, wrong, w.logOf(a))
	case a.err != nil:
		result = "broken"
	case a.status >= 400 && a.status != http.StatusNotFound:
		result = "refused"
		w.checkRefusal(operation, a)
	}
	w.ledger.ended(a.trace, operation, result)
	if result != "ok" && account.proxy == nil && !w.gateway.restarted(a.begin, a.end) {
		w.ledger.broken(promiseNeighbour, "%s at %s of the account without faults: %d %s %v\n%s", operation, w.gateway.name, a.status, a.data, a.err, w.logOf(a))
	}
	return result == "ok" && wrong == ""
}

// checkRefusal checks that an error is one that a backend in trouble explains, so that S3
// clients send the request again.
func (w *worker) checkRefusal(operation string, a *answer) {
	switch code := a.code(); {
	case a.header == nil, code == "" && operation != "HeadObject" && operation != "HeadBucket":
		w.ledger.broken(promiseClean, "%s: %d has no code: %q", operation, a.status, a.data)
	case a.status >= 500, a.status == 400 && code == "InvalidRequest": // the fault "error before the body is read"
	case a.status == 400 && strings.HasPrefix(operation, "Head"): // the same, without a document
	default:
		w.ledger.broken(promiseClean, "%s: %d %s for a client that may\n%s", operation, a.status, code, w.logOf(a))
	}
}

// logOf returns the lines of the gateway's log that are about a request.
func (w *worker) logOf(a *answer) string {
	id := a.header.Get("X-Amz-Request-Id")
	if id == "" {
		return ""
	}
	var lines []string
	w.gateway.mu.Lock()
	defer w.gateway.mu.Unlock()
	for _, line := range w.gateway.lines {
		if strings.Contains(line, id) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}
