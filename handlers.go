package main

// The way of a request: parse, authenticate, limit, classify, authorize, size,
// forward, respond. Nothing reaches a backend before the first seven have
// passed; nothing after the first looks at the path again.

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A gateway is the http.Handler in front of all accounts.
type gateway struct {
	config    *config
	auth      *authenticator
	limiter   *limiter
	upstreams map[string]*upstream // by the name of the bucket
	buckets   []string             // sorted
	mux       *http.ServeMux
	log       *slog.Logger
	started   time.Time
}

func newGateway(c *config, log *slog.Logger) *gateway {
	g := &gateway{
		config:    c,
		auth:      newAuthenticator(c.users),
		limiter:   newLimiter(c.limits, time.Now()),
		upstreams: make(map[string]*upstream, len(c.buckets)),
		log:       log,
		started:   time.Now(),
	}
	clients := make(map[*account]*upstream, len(c.accounts))
	for _, a := range c.accounts {
		clients[a] = newUpstream(a, c.idleTimeout, log)
	}
	for bucket, a := range c.buckets {
		g.upstreams[bucket] = clients[a]
		g.buckets = append(g.buckets, bucket)
	}
	slices.Sort(g.buckets)
	g.mux = newMux(g)
	return g
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(w, r, g.log, g.config.idleTimeout)
	defer x.end()
	if err := g.admit(x); err != nil {
		x.fail(err)
		return
	}
	// ServeMux gets the shape of the path alone: it has nothing to clean in it,
	// and nowhere to redirect to.
	r.URL.Path, r.URL.RawPath = "/"+x.target.bucket, ""
	if x.target.key != "" {
		r.URL.Path += "/key"
	}
	g.mux.ServeHTTP(x, r)
}

// admit takes a request through the steps that need no operation: parse,
// authenticate, limit.
func (g *gateway) admit(x *exchange) *apiError {
	if err := g.parse(x); err != nil {
		return err
	}
	user, err := g.auth.authenticate(x.r.Header)
	if err != nil {
		return err
	}
	x.user = user
	return g.limit(x)
}

// parse is the only place where a path or a query is read.
func (g *gateway) parse(x *exchange) *apiError {
	if x.r.ProtoMajor == 1 && (x.r.ProtoMinor != 1 || x.r.ContentLength < 0) {
		// net/http drops the Transfer-Encoding of an HTTP/1.0 request, and would
		// run the chunks as the next one; and the Content-Length of a request that
		// has both, after which RFC 9112 section 6.1 wants the connection closed.
		x.Header().Set("Connection", "close")
	}
	path, err := requestPath(x.r)
	if err != nil {
		return newError("InvalidRequest", err.Error())
	}
	if x.target, err = parsePath(path, g.config.nestedKeys); err != nil {
		x.target = target{}
		return newError("InvalidRequest", err.Error())
	}
	x.parsed = true
	if x.query, err = parseQuery(x.r.URL.RawQuery); err != nil {
		return newError("InvalidArgument", err.Error())
	}
	switch x.r.Method {
	case "GET", "HEAD", "PUT", "POST", "DELETE":
		return nil
	}
	return methodNotAllowed(x.target.level())
}

func (g *gateway) limit(x *exchange) *apiError {
	d := g.limiter.allow(x.user.name, time.Now())
	if d.limit == 0 {
		return nil
	}
	h := x.Header()
	h["X-Ratelimit-Limit"] = []string{strconv.Itoa(d.limit)}
	h["X-Ratelimit-Remaining"] = []string{strconv.Itoa(d.remaining)}
	h["X-Ratelimit-Reset"] = []string{strconv.FormatInt(roundUp(d.reset), 10)}
	if d.admitted {
		return nil
	}
	seconds := int(math.Ceil(d.retryAfter.Seconds()))
	h["Retry-After"] = []string{strconv.Itoa(seconds)}
	message := fmt.Sprintf("more than %d requests in the window; try again in %d s", d.limit, seconds)
	if x.signs() { // SDKs retry after a SlowDown, and give up on a 429
		return newError("SlowDown", message)
	}
	return newError("TooManyRequests", message)
}

// roundUp returns the first full Unix second that is not before t.
func roundUp(t time.Time) int64 {
	return t.Add(time.Second - 1).Unix()
}

// serve takes an admitted request through the other steps. The rows are those
// of its method and level.
func (g *gateway) serve(x *exchange, rows []*operation) {
	if err := g.run(x, rows); err != nil {
		x.fail(err)
	}
}

func (g *gateway) run(x *exchange, rows []*operation) *apiError {
	op, query, err := classify(rows, x.r, x.target.level(), x.query)
	if err != nil {
		return err
	}
	x.op, x.query = op, query
	if err := g.authorize(x); err != nil {
		return err
	}
	return op.run(g, x)
}

// authorize answers alike for a bucket that is forbidden and one that is not
// there, unless the user may see them all.
func (g *gateway) authorize(x *exchange) *apiError {
	bucket, role := x.target.bucket, x.user.role
	if bucket != "" {
		if !x.user.mayUse(bucket) {
			return newError("AccessDenied", "access to this bucket is denied")
		}
		if g.upstreams[bucket] == nil && role.may(x.op.action) {
			return newError("NoSuchBucket", "")
		}
	}
	if !role.may(x.op.action) {
		return newError("AccessDenied", fmt.Sprintf("%s is not allowed to the role %s", x.op.name, role))
	}
	return nil
}

// size checks a body before any of it is read. It must have a length, so that
// its end can be told from a cut: a body of chunks has none, and net/http gives
// a request without any framing the length 0.
func (g *gateway) size(x *exchange) *apiError {
	_, declared := x.r.Header["Content-Length"]
	switch {
	case !declared || x.r.ContentLength < 0:
		x.Header().Set("Connection", "close")
		return newError("MissingContentLength", "")
	case x.r.ContentLength > g.config.maxFileSize:
		return newError("EntityTooLarge", fmt.Sprintf("the body has %d bytes; max_file_size is %d", x.r.ContentLength, g.config.maxFileSize))
	}
	return nil
}

// getObject streams an object.
func (g *gateway) getObject(x *exchange) *apiError {
	resp, err := g.forward(x, nil, 0, emptyPayload)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified && closeDelimited(resp) {
		return badGateway(errors.New("an object with neither length nor chunks"))
	}
	x.respond(resp)
	return nil
}

// headObject asks with HEAD; the answer's Content-Length is the object's.
func (g *gateway) headObject(x *exchange) *apiError { return g.passThrough(x) }

func (g *gateway) deleteObject(x *exchange) *apiError { return g.passThrough(x) }

func (g *gateway) headBucket(x *exchange) *apiError { return g.passThrough(x) }

// passThrough forwards a request that has no body.
func (g *gateway) passThrough(x *exchange) *apiError {
	resp, err := g.forward(x, nil, 0, emptyPayload)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	x.respond(resp)
	return nil
}

// putObject streams an upload. A digest that the client declares is signed, so
// that the backend checks it too, and checked here, because not every server
// does.
func (g *gateway) putObject(x *exchange) *apiError {
	if err := g.size(x); err != nil {
		return err
	}
	declared := x.r.Header["X-Amz-Content-Sha256"]
	if len(declared) > 1 {
		return newError("InvalidRequest", "the header x-amz-content-sha256 is given more than once")
	}
	payloadHash, body := unsignedPayload, io.Reader(&x.body)
	if len(declared) == 1 {
		if strings.HasPrefix(declared[0], "STREAMING-") {
			return newError("NotImplemented", "aws-chunked bodies are not supported; send the body as it is")
		}
		if digest, ok := realDigest(declared[0]); ok {
			hashed, verify := verifySHA256(body, digest)
			payloadHash, body = digest, hold(hashed, x.r.ContentLength, verify)
		} else if declared[0] != unsignedPayload {
			return newError("InvalidArgument", "x-amz-content-sha256 is neither a digest nor "+unsignedPayload)
		}
	}
	if x.r.ContentLength == 0 {
		if payloadHash != unsignedPayload && payloadHash != emptyPayload {
			return newError("XAmzContentSHA256Mismatch", "")
		}
		payloadHash, body = emptyPayload, nil
	}
	resp, err := g.forward(x, body, x.r.ContentLength, payloadHash)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	x.respond(resp)
	return nil
}

func (g *gateway) notImplemented(x *exchange) *apiError {
	return newError("NotImplemented", x.op.name+" is not implemented")
}

func (g *gateway) bucketsAreDeclared(x *exchange) *apiError {
	return newError("NotImplemented", "buckets are not created or deleted here: they are declared in the gateway's configuration, under accounts.NAME.buckets")
}

// forward sends the request to the account of its bucket. What is not a success
// becomes an error: so a response that is returned has status 2xx or 304.
func (g *gateway) forward(x *exchange, body io.Reader, length int64, payloadHash string) (*http.Response, *apiError) {
	header, refusal := forwardHeader(x.r.Header, x.user.role)
	if refusal != nil {
		return nil, refusal
	}
	return g.send(x, &outgoing{
		method: x.r.Method, target: x.target, query: x.query, header: header,
		body: body, length: length, payloadHash: payloadHash,
	})
}

func (g *gateway) send(x *exchange, out *outgoing) (*http.Response, *apiError) {
	sent := time.Now()
	resp, err := g.upstreams[out.target.bucket].roundTrip(x.r.Context(), out)
	x.upstreamDuration = time.Since(sent)
	if err != nil {
		return nil, x.transportError(err)
	}
	x.upstreamStatus = resp.StatusCode
	x.upstreamID = resp.Header.Get("X-Amz-Request-Id")
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotModified {
		defer resp.Body.Close()
		return nil, upstreamError(resp.StatusCode, resp.Header, readable(resp))
	}
	return resp, nil
}

// readable is the body of an error for the gateway itself to read: the client may
// have asked for gzip, and some servers compress their errors too.
func readable(resp *http.Response) io.Reader {
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if plain, err := gzip.NewReader(resp.Body); err == nil {
			return plain
		}
	}
	return resp.Body
}

// transportError tells whose fault it was that there is no answer.
func (x *exchange) transportError(err error) *apiError {
	var checked *apiError
	if errors.As(err, &checked) { // a check of the body, through the transport
		return checked
	}
	if failure := x.body.failure(); failure != nil {
		return failure
	}
	var timeout net.Error
	if errors.Is(err, errNoProgress) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		e := newError("GatewayTimeout", "")
		e.cause = err
		return e
	}
	return badGateway(err)
}

func badGateway(cause error) *apiError {
	e := newError("BadGateway", "")
	e.cause = cause
	return e
}

// copyBuffers are shared by all transfers: memory grows with how many there
// are, not with how large they are.
var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// respond streams a backend's answer to the client. If either of them breaks
// off, so does the answer.
func (x *exchange) respond(resp *http.Response) {
	h := x.Header()
	returnHeader(h, resp.Header)
	h["X-Amz-Request-Id"] = []string{x.id}
	x.WriteHeader(resp.StatusCode)
	if x.r.Method == http.MethodHead {
		return
	}
	buffer := copyBuffers.Get().(*[64 << 10]byte)
	defer copyBuffers.Put(buffer)
	if _, err := io.CopyBuffer(onlyWriter{x}, onlyReader{resp.Body}, buffer[:]); err != nil {
		x.abort(err)
	}
}

// onlyWriter and onlyReader hide the methods with which io.CopyBuffer would go
// round the buffer, and round the deadlines.
type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)
