package main

// One account's S3 service, as the gateway's client: where a request goes, how
// long anything may take, and what is tried again.

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"
)

const (
	maxAttempts   = 3
	firstBackoff  = 100 * time.Millisecond // at most, before the second attempt; twice that before the third
	maxRetryAfter = 10 * time.Second       // a backend that asks for longer is not waited for

)

// An upstream sends requests to one account. It may be used by several
// goroutines at once.
type upstream struct {
	account *account
	signer  *signer
	pool    *pool
	counts  *accountMetrics
	idle    time.Duration // how long the backend may make no progress
	backoff time.Duration
	log     *slog.Logger
	stop    context.CancelFunc // ends the refreshing of the credentials
}

func newUpstream(a *account, idle time.Duration, counts *accountMetrics, log *slog.Logger) *upstream {
	return &upstream{
		account: a,
		signer:  &signer{region: a.region},
		pool:    newPool(a, counts),
		counts:  counts,
		idle:    idle,
		backoff: firstBackoff,
		log:     log,
		stop:    func() {},
	}
}

// start fetches the first credentials, and has them refreshed until ctx is done, or
// retire.
func (u *upstream) start(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	u.stop = stop
	return u.account.source.start(ctx)
}

// succeed returns an upstream for the same account, as another configuration has it:
// with the same credentials and connections.
func (u *upstream) succeed(a *account, idle time.Duration) *upstream {
	next := *u
	a.source = u.account.source
	next.account, next.idle = a, idle
	return &next
}

// retire lets go of what an upstream has without requests.
func (u *upstream) retire() {
	u.stop()
	u.pool.retire()
}

// An outgoing request, before it has an address and a signature. A nil body is
// none.
type outgoing struct {
	method      string
	target      target
	query       []parameter
	header      http.Header // end-to-end headers of the client, each once; changed by signing
	body        io.Reader
	length      int64  // of the body
	payloadHash string // as signer.sign takes it

	patience  time.Duration // for the head of the answer; 0 is the account's response_header_timeout
	interrupt func()        // makes a Read of body return, if it waits; called when there is no use for it any more
}

// roundTrip sends a request and returns the head of the answer, whatever its
// status. The caller closes the body.
//
// A read (GET, HEAD) that fails before the first byte of the answer, or is
// answered with a status that asks for it, is tried again, up to maxAttempts in
// all, with exponential backoff and full jitter. A write is sent once: whether
// a backend that broke the connection has done it, nobody knows.
func (u *upstream) roundTrip(ctx context.Context, out *outgoing) (*http.Response, error) {
	attempts := 1
	if out.method == http.MethodGet || out.method == http.MethodHead {
		attempts = maxAttempts
	}
	for attempt := 1; ; attempt++ {
		resp, err := u.attempt(ctx, out)
		if attempt == attempts || ctx.Err() != nil || !retriable(resp, err) {
			return resp, err
		}
		wait, ok := u.retryDelay(attempt, resp)
		if !ok {
			return resp, err
		}
		u.counts.retried(retryReasonOf(statusOf(resp), err))
		u.log.Debug("retry", "account", u.account.name, "attempt", attempt, "wait", wait, "status", statusOf(resp), causeAttr(err))
		if resp != nil {
			io.CopyN(io.Discard, resp.Body, maxErrorDocument) // a drained connection is kept
			resp.Body.Close()
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// retriable reports whether an attempt at a read failed in a way that may pass.
// S3's SlowDown is a 503.
func retriable(resp *http.Response, err error) bool {
	if err != nil {
		return !errors.Is(err, errNoProgress) // the time is used up
	}
	switch resp.StatusCode {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryDelay is how long to wait before the attempt after this one; false if
// the backend asks for more than anybody would wait for.
func (u *upstream) retryDelay(attempt int, resp *http.Response) (time.Duration, bool) {
	wait := rand.N(u.backoff << (attempt - 1))
	if resp == nil {
		return wait, true
	}
	after := retryAfter(resp.Header.Get("Retry-After"), time.Now())
	return max(wait, after), after <= maxRetryAfter
}

// retryAfter reads a Retry-After header, seconds or a date: RFC 9110 section
// 10.2.3. It is 0 for what is neither.
func retryAfter(value string, now time.Time) time.Duration {
	switch seconds, err := strconv.ParseUint(value, 10, 31); {
	case err == nil:
		return time.Duration(seconds) * time.Second
	case errors.Is(err, strconv.ErrRange):
		return math.MaxInt64 // longer than anybody waits
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

func statusOf(resp *http.Response) int {
	if resp == nil {
		return 0
	}
	return resp.StatusCode
}

// attempt sends a request once, or once more on another connection if the backend
// had closed this one while it was idle and the request is a read. Three waits are
// bounded: for the connection by connect_timeout; for the head of the answer, from
// the last byte of the body, by response_header_timeout; for each next byte of
// either body by idle_timeout.
func (u *upstream) attempt(ctx context.Context, out *outgoing) (*http.Response, error) {
	if out.body != nil && out.length <= smallUpload {
		buffer := borrow(out.length)
		defer giveBack(buffer)
		if err := out.readWhole(buffer[:out.length]); err != nil {
			return nil, err
		}
	}
	req := u.request(out)
	for {
		c, err := u.pool.get(ctx, req.Host)
		if err != nil {
			return nil, err
		}
		resp, err := u.exchange(ctx, c, req, out)
		if err == nil {
			return resp, nil
		}
		read := out.method == http.MethodGet || out.method == http.MethodHead
		if !c.reused || !read || errors.Is(err, errNoProgress) || ctx.Err() != nil {
			return nil, err
		}
		u.counts.retried(retryStale)
	}
}

// exchange writes a request to a connection and reads the head of the answer. On
// an error the connection is reset: what was sent of an upload must not be taken
// for all of it.
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
		if ctx.Err() != nil && err != errEarlySuccess {
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
	case !c.hears(body.left, soon):
		c.SetReadDeadline(time.Time{}) // from here on its pulse watches it
		c.watch(ctx)
	}
	resp.Body = body
	return resp, nil
}

// soon is how long an answer may take until it is worth it to watch for the client's
// leaving.
const soon = 20 * time.Millisecond

// smallUpload is the size up to which an upload is here whole, and found right,
// before a connection is taken for it; then it goes out in one write with its head,
// and fits into the buffers of any socket.
const smallUpload = 64 << 10

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

// errEarlySuccess is of a backend that says it has stored what it did not get yet.
var errEarlySuccess = errors.New("the backend answered with a success before it had the whole request")

// isSuccess reports whether a status says that the request was carried out. A 304 is
// the success of a condition.
func isSuccess(status int) bool {
	return status < 300 || status == http.StatusNotModified
}

// succeeds reports whether a status is a success that this request can have. A part of
// an answer (206) is none unless a part was asked for: it would be taken for the whole,
// by a copy if not by the client. Only a read can find a thing unchanged (304): RFC 9110
// sections 15.3.7 and 15.4.5.
func (out *outgoing) succeeds(status int) bool {
	read := out.method == http.MethodGet || out.method == http.MethodHead
	switch status {
	case http.StatusPartialContent:
		return read && (len(out.header["Range"]) > 0 || hasParameter(out.query, "partNumber"))
	case http.StatusNotModified:
		return read
	}
	return isSuccess(status)
}

// hidesBody reports whether an answer announces a body that its status excludes (204:
// RFC 9110 section 8.6). The body may come all the same, where the next answer would
// begin.
func hidesBody(resp *http.Response) bool {
	if resp.StatusCode != http.StatusNoContent {
		return false
	}
	length := resp.Header.Get("Content-Length")
	return len(resp.TransferEncoding) > 0 || length != "" && length != "0"
}

// converse returns the head of the answer, and whether the request was sent whole. A
// success counts only if it was; any other answer may come early.
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
	if isBodyError(written) && !early { // then it is the client that ended it
		return nil, false, written
	}
	if err == nil {
		resp, err = c.readHead(req)
	}
	sent = written == nil && !early
	switch _, checked := errors.AsType[*apiError](written); {
	case err != nil && written != nil:
		return nil, false, written // what went wrong first
	case err == nil && !sent && isSuccess(resp.StatusCode):
		if checked { // the body was refused, whatever the backend says
			return nil, false, written
		}
		return nil, false, errEarlySuccess
	}
	return resp, sent, err
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
		patience = 0 // nobody will answer what was not sent
	case written != nil:
		patience = lastWord
	}
	here := false
	if l == nil && patience > soon {
		if here = c.hears(1, soon) && c.hasHead(); !here {
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

// patience is how long the backend may take to begin its answer when it has the request.
func (u *upstream) patience(out *outgoing) time.Duration {
	return cmp.Or(out.patience, u.account.responseHeaderTimeout)
}

// A bodyError is what kept an upload from being read, as opposed to written.
type bodyError struct{ error }

// Unwrap lets errors.As and errors.Is see what it was.
func (e bodyError) Unwrap() error { return e.error }

func isBodyError(err error) bool {
	_, is := errors.AsType[bodyError](err)
	return is
}

// write sends the head and the body, the start of which goes with the head. The last
// bytes are not written before the body has ended well.
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

// request makes the signed request. Its URL is put together from parts that are
// encoded already: nothing is parsed or joined that a key could bend.
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

// closeDelimited reports whether the end of an answer's body is nothing but the
// end of its connection, so that a cut can't be told from the end.
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
	credentials           credentials       // as written; empty if the source has them from elsewhere
	credentialSpec        string            // what the source was made from, or ""
	source                *credentialSource // never nil
	roots                 *x509.CertPool    // authorities of its certificate; nil: the system's
	virtualHost           bool              // bucket.host/key instead of host/bucket/key
	forwardTrailers       bool              // the service takes trailing checksums
	connectTimeout        time.Duration
	responseHeaderTimeout time.Duration
}

// sameAs reports whether connections and credentials of one account serve another.
func (a *account) sameAs(other *account) bool {
	x, y := *a, *other
	x.source, y.source, x.roots, y.roots = nil, nil, nil, nil
	return x == y && a.roots.Equal(other.roots)
}
