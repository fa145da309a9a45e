package main

// The gateway as a client of one account's S3 service: where a request goes, and how long each
// step may take. It knows nothing of the gateway's own clients.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// An upstream sends requests to one account. It may be used by several
// goroutines at once.
type upstream struct {
	account *account
	signer  *signer
	pool    *pool
	counts  *accountMetrics
	budget  *retryBudget
	circuit *circuit
	load    *inFlight // requests in flight, of all configurations with the account
	history *accountHistory
	isS3    *atomic.Bool  // it has answered as an S3 server does
	idle    time.Duration // how long the backend may make no progress
	backoff time.Duration
	log     *slog.Logger
	stop    context.CancelFunc // ends the refresh of the credentials
}

func newUpstream(a *account, idle time.Duration, counts *accountMetrics, log *slog.Logger) *upstream {
	return &upstream{
		account: a,
		signer:  &signer{region: a.region},
		pool:    newPool(a, counts),
		counts:  counts,
		budget:  newRetryBudget(time.Now()),
		circuit: &circuit{changed: circuitReport(a.name, log)},
		load:    new(inFlight),
		history: newAccountHistory(time.Now()),
		isS3:    new(atomic.Bool),
		idle:    idle,
		backoff: firstBackoff,
		log:     log,
		stop:    func() {},
	}
}

// circuitReport logs that an account is refused, or no longer.
func circuitReport(accountName string, log *slog.Logger) func(open bool) {
	return func(open bool) {
		if open {
			log.Warn("the backend does not answer; refusing its requests until a probe succeeds", "account", accountName)
			return
		}
		log.Info("the backend answers again", "account", accountName)
	}
}

// start fetches the first credentials, and refreshes them until ctx is done or retire is
// called.
func (u *upstream) start(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	u.stop = stop
	return u.account.source.start(ctx)
}

// successor returns an upstream for the same account in another configuration, with the same
// credentials and connections.
func (u *upstream) successor(a *account, idle time.Duration) *upstream {
	next := *u
	a.source = u.account.source
	next.account, next.idle = a, idle
	return &next
}

// health says how the account does.
func (u *upstream) health() accountHealth {
	answers, known := u.history.up()
	switch {
	case u.circuit.isOpen():
		return healthRefused
	case !known:
		return healthIdle
	case !answers:
		return healthFailing
	}
	return healthOK
}

// retire stops the credential refresh and closes idle connections. Requests in flight may still
// fail, which is no news of the account that now has the name.
func (u *upstream) retire() {
	u.stop()
	u.circuit.silence()
	u.pool.retire()
}

// An outgoing is a request for a backend, before it has an address and a signature. A nil
// body means none.
type outgoing struct {
	method      string
	target      target
	query       []parameter
	header      http.Header // end-to-end headers of the client, each once; changed by signing
	body        io.Reader
	length      int64  // of the body
	payloadHash string // for signer.sign

	patience  time.Duration // for the head of the answer; 0 is the account's response_header_timeout
	interrupt func()        // makes a waiting Read of body return; called when the body is no longer needed
}

// once sends a request once: see attempt.
func (u *upstream) once(ctx context.Context, out *outgoing) (*http.Response, error) {
	return u.attempt(ctx, out, u.pool.get)
}

// attempt sends a request, unless the circuit is open, and tells the circuit what came of it.
// The function connect is the pool's get or dial.
//
// Three waits are bounded: the wait for the connection by connect_timeout; the wait for the
// head of the answer, from the acknowledgement of the last byte of the request, by
// response_header_timeout; the wait for the next byte of either body by idle_timeout.
func (u *upstream) attempt(ctx context.Context, out *outgoing, connect func(context.Context, string) (*backendConn, error)) (*http.Response, error) {
	probe, err := u.circuit.enter(time.Now())
	if err != nil {
		return nil, err
	}
	result := unknownOutcome // of a panic, too
	defer func() { u.circuit.leave(probe, result, time.Now()) }()
	resp, err := u.sendOn(ctx, out, connect)
	result = outcomeOf(ctx, err)
	if err == nil && resp.Header["X-Amz-Request-Id"] != nil {
		u.provesS3()
	}
	return resp, err
}

// provesS3 notes that an answer was one of an S3 server, and not of any web server.
func (u *upstream) provesS3() {
	if !u.isS3.Load() { // a store would take the cache line from other processors
		u.isS3.Store(true)
	}
}

// outcomeOf returns what an error of a request says about its backend. An answer of any kind, and
// a body that the client broke off, are no failure of it.
func outcomeOf(ctx context.Context, err error) outcome {
	switch {
	case err == nil, isEarly(err):
		return answeredOutcome
	case ctx.Err() != nil, isBodyError(err):
		return unknownOutcome
	case isTransport(err), errors.Is(err, errNoProgress):
		return failedOutcome
	}
	return answeredOutcome // with something that is not HTTP, or with a bad certificate
}

// sendOn sends a request on a connection of connect. A read that fails on a kept connection,
// other than by time-out, is sent once more, on a new one: the backend has probably closed the
// kept connections while they were idle. That does not count in the budget.
func (u *upstream) sendOn(ctx context.Context, out *outgoing, connect func(context.Context, string) (*backendConn, error)) (*http.Response, error) {
	if out.body != nil && out.length <= smallUpload {
		buffer := borrow(out.length)
		defer giveBack(buffer)
		if err := out.readWhole(buffer[:out.length]); err != nil {
			return nil, bodyError{err}
		}
	}
	req := u.request(out)
	c, err := connect(ctx, req.Host)
	if err != nil {
		return nil, err
	}
	resp, err := u.exchange(ctx, c, req, out)
	if err == nil || !c.reused || !out.isRead() || errors.Is(err, errNoProgress) || ctx.Err() != nil {
		return resp, err
	}
	u.counts.retried(retryStale)
	if c, err = u.pool.dial(ctx, req.Host); err != nil {
		return nil, err
	}
	return u.exchange(ctx, c, req, out)
}

// exchange writes a request to a connection and reads the head of the answer. After an error
// it resets the connection: the backend must not take a part of an upload for the whole.
func (u *upstream) exchange(ctx context.Context, c *backendConn, req *http.Request, out *outgoing) (*http.Response, error) {
	answered := false
	defer func() {
		if !answered { // in a panic, too
			c.end()
			c.abort()
		}
	}()
	resp, sent, err := u.converse(ctx, c, req, out)
	if err != nil {
		// A body that was interrupted has ended the context, too.
		if ctx.Err() != nil && !isEarly(err) {
			err = context.Cause(ctx)
		}
		if err = whyLate(err, c.writes); errors.Is(err, os.ErrDeadlineExceeded) && !isBodyError(err) {
			err = newStall(true, "the backend did not begin its answer within", u.patience(out))
		}
		return nil, err
	}
	answered = true
	body := &answerBody{ReadCloser: resp.Body, conn: c, pool: u.pool, idle: u.idle, sent: sent, keep: !resp.Close && !hidesBody(resp), left: -1}
	if resp.ContentLength > 0 && len(resp.TransferEncoding) == 0 && resp.Body != http.NoBody {
		body.left = resp.ContentLength
	}
	switch {
	case resp.Body == http.NoBody:
		body.release(true)
	case !c.arrivesWithin(body.left, soon):
		c.SetReadDeadline(time.Time{}) // from here on its pulse watches it
		c.watch(ctx)
	}
	resp.Body = body
	return resp, nil
}

// soon is how long an answer may take before the gateway starts to watch whether the client
// leaves.
const soon = 20 * time.Millisecond

// smallUpload is the size up to which an upload is read whole, and verified, before it uses a
// connection. It is sent in one write with its head, and fits into the buffers of any
// socket.
const smallUpload = 64 << 10

// isRead reports whether the request changes nothing, and so may be sent again.
func (out *outgoing) isRead() bool {
	return out.method == http.MethodGet || out.method == http.MethodHead
}

// readWhole reads the body into data, which becomes the body.
func (out *outgoing) readWhole(data []byte) error {
	if _, err := io.ReadFull(out.body, data); err != nil {
		return noEOF(err)
	}
	if err := readEnd(out.body); err != nil {
		return err
	}
	out.body = bytes.NewReader(data)
	return nil
}

// An earlyError is the error of a backend that answers before it has the whole upload. The rest
// of the upload was interrupted then, which is not the client's error.
type earlyError struct{ error }

// Unwrap is for errors.As and errors.Is.
func (e earlyError) Unwrap() error { return e.error }

func isEarly(err error) bool {
	_, is := errors.AsType[earlyError](err)
	return is
}

// errEarlySuccess is the error of a backend that reports success before it has the whole
// upload.
var errEarlySuccess = earlyError{errors.New("the backend answered with a success before it had the whole request")}

// isSuccess reports whether a status means that the request was carried out. A 304 is the
// success of a conditional read.
func isSuccess(status int) bool {
	return status < 300 || status == http.StatusNotModified
}

// succeeds reports whether a status is a success that this request can have. A 206 is none
// unless a range was asked for: a copy, or the client, would take it for the whole. Only a
// read can have a 304. RFC 9110 sections 15.3.7 and 15.4.5.
func (out *outgoing) succeeds(status int) bool {
	switch status {
	case http.StatusPartialContent:
		return out.isRead() && (len(out.header["Range"]) > 0 || hasParameter(out.query, "partNumber"))
	case http.StatusNotModified:
		return out.isRead()
	}
	return isSuccess(status)
}

// hidesBody reports whether an answer announces a body that its status excludes (204: RFC
// 9110 section 8.6). The body may come nevertheless, where the next answer would begin.
func hidesBody(resp *http.Response) bool {
	if resp.StatusCode != http.StatusNoContent {
		return false
	}
	length := resp.Header.Get("Content-Length")
	return len(resp.TransferEncoding) > 0 || length != "" && length != "0"
}

// converse writes a request and returns the head of the answer, and whether the request was
// sent whole. A success is valid only if it was; any other answer may come early.
func (u *upstream) converse(ctx context.Context, c *backendConn, req *http.Request, out *outgoing) (resp *http.Response, sent bool, err error) {
	c.interim, c.input.left = 0, maxResponseHeaders
	c.SetWriteDeadline(time.Time{}) // of the request before, see listen
	var l *earlyAnswer
	if out.length > smallUpload {
		c.watch(ctx)
		l = c.listen(out.interrupt)
	}
	written := u.write(c, req, out, l)
	defer u.limitAnswer(ctx, c, out, l, written)()
	early := false
	if l != nil {
		<-l.done
		err, early = l.err, l.early
	}
	if isBodyError(written) && !early { // the client broke off
		return nil, false, written
	}
	if err == nil {
		resp, err = c.readHead(req)
	}
	sent = written == nil && !early
	if err == nil && (sent || !isSuccess(resp.StatusCode)) {
		return resp, sent, nil
	}
	return nil, false, whyNoAnswer(err, written, early)
}

// whyNoAnswer returns the error of a request without a valid answer: err is that of the answer's
// head, nil for a success that came too early, and written that of sending the request.
func whyNoAnswer(err, written error, early bool) error {
	_, checked := errors.AsType[*apiError](written)
	switch {
	case checked: // the gateway refused the body
		return written
	case err == nil:
		return errEarlySuccess
	case early:
		return earlyError{err}
	case written != nil: // the first error
		return written
	}
	return err
}

// limitAnswer bounds how long the head of the answer may take after a request that was
// written, or failed to be. The function that it returns ends the bound.
//
// Watching for the client's leaving costs a goroutine and two wake-ups. Most answers to
// small requests come within soon, so the watch begins only after that: without the
// delay GET and PUT of 4 KiB take about 4 % more CPU.
func (u *upstream) limitAnswer(ctx context.Context, c *backendConn, out *outgoing, l *earlyAnswer, written error) (end func()) {
	patience := u.patience(out)
	switch {
	case isBodyError(written):
		patience = 0 // what was not sent gets no answer
	case written != nil:
		patience = lastWord
	}
	here := false
	if l == nil && patience > soon {
		if here = c.arrivesWithin(1, soon) && c.hasHead(); !here {
			c.watch(ctx)
		}
	}
	switch {
	case written != nil:
		c.SetReadDeadline(time.Now().Add(patience))
	case !here:
		return c.writes.answerWithin(c, u.idle, patience)
	}
	return func() {}
}

// patience returns how long the backend may take from the end of a request to its answer.
func (u *upstream) patience(out *outgoing) time.Duration {
	return cmp.Or(out.patience, u.account.responseHeaderTimeout)
}

// A bodyError is an error of reading an upload, as opposed to writing it.
type bodyError struct{ error }

// Unwrap is for errors.As and errors.Is.
func (e bodyError) Unwrap() error { return e.error }

func isBodyError(err error) bool {
	_, is := errors.AsType[bodyError](err)
	return is
}

// write sends the head and the body. The start of the body goes out with the head, and the
// last bytes only after the body has ended without an error.
func (u *upstream) write(c *backendConn, req *http.Request, out *outgoing, l *earlyAnswer) error {
	buffer := borrow(roomForHead + out.length)
	defer giveBack(buffer)
	pending, err := appendHead(buffer[:0], req, out.length, out.body != nil)
	if err != nil {
		return err
	}
	for left := out.length; ; pending = buffer[:0] {
		if left > 0 && len(pending) < len(buffer) {
			room := min(int64(len(buffer)-len(pending)), left)
			n, err := out.body.Read(buffer[len(pending) : len(pending)+int(room)])
			pending = buffer[:len(pending)+n]
			if left -= int64(n); err != nil && left > 0 {
				return bodyError{noEOF(err)}
			}
		}
		if left == 0 {
			if out.body != nil {
				if err := readEnd(out.body); err != nil {
					return bodyError{err}
				}
			}
			l.end()
		}
		c.writes.begin(u.idle)
		_, err := c.Write(pending)
		c.writes.end()
		if err != nil || left == 0 {
			return err
		}
	}
}

// request returns the signed request. Its URL is made of encoded parts; nothing is parsed
// or joined, so no key can change it.
func (u *upstream) request(out *outgoing) *http.Request {
	host, path := u.address(out.target)
	req := &http.Request{
		Method: out.method,
		URL:    &url.URL{Scheme: u.account.scheme, Host: host, Path: path, RawPath: uriEncode(path, false), RawQuery: canonicalQuery(out.query)},
		Host:   host,
		Header: out.header,
	}
	u.signer.sign(req, u.account.source.get(), out.payloadHash, time.Now())
	return req
}

// address returns the host and the decoded path of a target.
func (u *upstream) address(t target) (host, path string) {
	host, path = u.account.host, u.account.basePath
	if u.account.virtualHost {
		host = t.bucket + "." + host
	} else {
		path += "/" + t.bucket
	}
	if t.key != "" || path == "" {
		path += "/" + t.key
	}
	return host, path
}

// closeDelimited reports whether the body of an answer ends only with its connection, so that
// a cut looks like an end.
func closeDelimited(resp *http.Response) bool {
	return resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 && !resp.Body.(*answerBody).empty()
}

// An account is one set of credentials at one S3 service.
type account struct {
	name                  string
	scheme                string // http or https
	host                  string // host, and the port if it is not the scheme's own
	basePath              string // "" or "/path", without a slash at the end
	region                string
	credentials           credentials       // of the configuration; empty if the source fetches them
	credentialSpec        string            // what the source was made from, or ""
	source                *credentialSource // never nil
	roots                 *x509.CertPool    // authorities of its certificate; nil: the system's
	maxInFlight           int64             // 0: no limit
	virtualHost           bool              // bucket.host/key instead of host/bucket/key
	forwardTrailers       bool              // the service accepts trailing checksums
	connectTimeout        time.Duration
	responseHeaderTimeout time.Duration
}

// sameAs reports whether two accounts have the same settings.
func (a *account) sameAs(other *account) bool {
	return a.maxInFlight == other.maxInFlight && a.sharesWith(other)
}

// sharesWith reports whether the connections and credentials of one account are good for the
// other.
func (a *account) sharesWith(other *account) bool {
	x, y := *a, *other
	x.maxInFlight, y.maxInFlight = 0, 0
	x.source, y.source, x.roots, y.roots = nil, nil, nil, nil
	return x == y && a.roots.Equal(other.roots)
}
