package main

// One account's S3 service, as the gateway's client: where a request goes, how
// long anything may take, and what is tried again.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"time"
)

const (
	maxAttempts   = 3
	firstBackoff  = 100 * time.Millisecond // doubled for each further attempt, then drawn from 0 to that
	maxRetryAfter = 10 * time.Second       // a backend that asks for longer is not waited for

	maxIdleConns       = 256 // per account
	idleConnTimeout    = 30 * time.Second
	maxResponseHeaders = 64 << 10 // bytes; S3's own limit on metadata is 2 KiB
)

// errNoProgress ends a request whose backend neither takes nor gives a byte for
// as long as it may.
var errNoProgress = errors.New("the backend made no progress in time")

// An upstream sends requests to one account. It may be used by several
// goroutines at once.
type upstream struct {
	account   *account
	signer    signer
	transport http.RoundTripper
	idle      time.Duration // how long the backend may make no progress
	backoff   time.Duration
	log       *slog.Logger
}

func newUpstream(a *account, idle time.Duration, log *slog.Logger) *upstream {
	return &upstream{
		account:   a,
		signer:    signer{credentials: a.credentials, region: a.region},
		transport: newTransport(a),
		idle:      idle,
		backoff:   firstBackoff,
		log:       log,
	}
}

// newTransport returns an account's own pool of connections. RoundTrip, unlike
// Client.Do, follows no redirect, which would take the signature elsewhere.
func newTransport(a *account) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // what S3 services speak, with bodies that can be told whole from cut
	return &http.Transport{
		Proxy:                  nil, // never from the environment: only configured endpoints are contacted
		DialContext:            dialBackend(&net.Dialer{Timeout: a.connectTimeout, KeepAlive: 30 * time.Second}),
		TLSHandshakeTimeout:    a.connectTimeout,
		Protocols:              protocols,
		DisableCompression:     true, // or stored gzip would be unpacked on the way
		MaxIdleConnsPerHost:    maxIdleConns,
		IdleConnTimeout:        idleConnTimeout,
		MaxResponseHeaderBytes: maxResponseHeaders,
		ReadBufferSize:         16 << 10,
		WriteBufferSize:        32 << 10,
	}
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

	patience time.Duration // for the head of the answer; 0 is the account's response_header_timeout
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
		u.log.Debug("retry", "account", u.account.name, "attempt", attempt, "wait", wait, "status", statusOf(resp), "cause", err)
		if resp != nil {
			io.CopyN(io.Discard, resp.Body, maxErrorDocument) // a drained connection is kept
			resp.Body.Close()
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
		out.header = maps.Clone(out.header) // the transport may still hold the other
	}
}

// retriable reports whether an attempt at a read failed in a way that may pass.
// S3's SlowDown is a 503.
func retriable(resp *http.Response, err error) bool {
	if err != nil {
		return err != errNoProgress // the time is used up
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
	wait := rand.N(u.backoff << attempt)
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

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func statusOf(resp *http.Response) int {
	if resp == nil {
		return 0
	}
	return resp.StatusCode
}

// attempt sends a request once. Three waits are bounded: for the connection by
// the transport; for the head of the answer, from the last byte of the body, by
// response_header_timeout; for each next byte of either body by idle_timeout.
func (u *upstream) attempt(client context.Context, out *outgoing) (*http.Response, error) {
	var f flight
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(client))
	end := func(cause error) {
		f.end(cause, out.body != nil)
		cancel(cause)
	}
	stop := context.AfterFunc(client, func() { end(context.Cause(client)) })
	patience := out.patience
	if patience == 0 {
		patience = u.account.responseHeaderTimeout
	}
	dog := time.AfterFunc(u.account.connectTimeout+patience, func() { end(errNoProgress) })
	resp, err := u.transport.RoundTrip(u.request(httptrace.WithClientTrace(ctx, f.trace()), out, &watch{dog, u.idle, patience, &f}))
	if err == nil && f.early.Load() {
		resp.Body.Close()
		f.abort()
		err = errEarlyAnswer
	}
	if err == nil && (resp.StatusCode < 200 || resp.StatusCode > 599) {
		resp.Body.Close() // a 101 has a body that is the connection itself
		err = fmt.Errorf("the backend answered with status %d", resp.StatusCode)
	}
	if err != nil {
		dog.Stop()
		stop()
		if cause := f.cause.Load(); cause != nil {
			err = *cause
		}
		cancel(nil)
		return nil, err
	}
	dog.Stop()
	resp.Body = &watchedBody{resp.Body, dog, u.idle, ctx, func() { stop(); cancel(nil) }}
	return resp, nil
}

// request makes the signed request. Its URL is put together from parts that are
// encoded already: nothing is parsed or joined that a key could bend.
func (u *upstream) request(ctx context.Context, out *outgoing, w *watch) *http.Request {
	host, path := u.address(out.target)
	req := &http.Request{
		Method:        out.method,
		URL:           &url.URL{Scheme: u.account.scheme, Host: host, Path: path, RawPath: uriEncode(path, false), RawQuery: canonicalQuery(out.query)},
		Host:          host,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        out.header,
		ContentLength: out.length,
	}
	if out.body != nil {
		// No GetBody: with it, net/http could send the body a second time.
		req.Body = &watchedUpload{out.body, w}
	}
	u.signer.sign(req, out.payloadHash, time.Now())
	return req.WithContext(ctx)
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

// watchedBody is the body of an answer.
type watchedBody struct {
	io.ReadCloser
	dog  *time.Timer
	idle time.Duration
	ctx  context.Context
	end  func()
}

// Read implements io.Reader. The watchdog sleeps while the client is slow to take
// what was read: that is not the backend's fault.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.dog.Reset(b.idle)
	n, err := b.ReadCloser.Read(p)
	b.dog.Stop()
	if err != nil && context.Cause(b.ctx) == errNoProgress {
		err = errNoProgress
	}
	return n, err
}

// Close implements io.Closer.
func (b *watchedBody) Close() error {
	b.dog.Stop()
	defer b.end()
	return b.ReadCloser.Close()
}

// A watch is what an upload is watched with.
type watch struct {
	dog         *time.Timer
	idle, final time.Duration // for the next byte, and after the last
	flight      *flight
}

// watchedUpload is the body of a request. While the client is slow to send, the
// backend is not to blame, and the watchdog sleeps; the client has its own limit.
type watchedUpload struct {
	io.Reader
	*watch
}

// Read implements io.Reader.
func (b *watchedUpload) Read(p []byte) (int, error) {
	b.dog.Stop()
	n, err := b.Reader.Read(p)
	switch err {
	case nil:
		b.dog.Reset(b.idle)
	case io.EOF:
		b.dog.Reset(b.final)
	default:
		b.flight.abort()
	}
	return n, err
}

// Close implements io.Closer. The client's body is net/http's to close.
func (b *watchedUpload) Close() error { return nil }

// closeDelimited reports whether the end of an answer's body is nothing but the
// end of its connection, so that a cut can't be told from the end.
func closeDelimited(resp *http.Response) bool {
	return resp.ContentLength < 0 && len(resp.TransferEncoding) == 0
}
