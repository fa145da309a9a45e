package main

// The steps of a request: parse, authenticate, limit, classify, authorize, size, forward,
// respond. Nothing reaches a backend before the first six have passed. The first alone
// decides which bucket, key and parameters a request means.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// admit takes a request through the steps that need no operation: parse,
// authenticate, limit.
func (g *gateway) admit(x *exchange) *apiError {
	if err := g.parse(x); err != nil {
		return err
	}
	var err *apiError
	if x.caller, err = g.auth.authenticate(x.r, x.path, x.query, time.Now()); err != nil {
		return err
	}
	return g.limit(x)
}

// enter counts a request as one of its user's requests in flight.
func (g *gateway) enter(x *exchange) *apiError {
	u := g.loads[x.user.name]
	if !u.inFlight.enter(u.maxInFlight.Load()) {
		return slowDown(reasonInFlight, fmt.Sprintf("more than %d requests at once; try again when one of them has ended", u.maxInFlight.Load()), time.Second)
	}
	x.load = u
	x.body.in.bandwidth, x.out.bandwidth = &u.in, &u.out
	if !x.body.in.unlimited() { // so that a reader that waits for bandwidth can be woken
		x.body.ctx, x.body.stop = context.WithCancel(x.body.ctx)
	}
	return nil
}

// parse alone decides which bucket, key and parameters a request means. The signature is
// verified over the path as received.
func (g *gateway) parse(x *exchange) *apiError {
	if err := x.checkFraming(); err != nil {
		return err
	}
	path, err := requestPath(x.r)
	if err != nil {
		return refusePath(err)
	}
	x.path = path
	if bucketName := hostedBucket(x.r.Host, g.config.domain); bucketName != "" {
		if !validBucket(bucketName) { // a host "-" would turn the key into a page; "a/b" would be a bucket and a key
			return newError(reasonHost, "InvalidRequest", "the Host header does not begin with a bucket name (3 to 63 of a-z, 0-9, - and .)")
		}
		path = "/" + bucketName + path
		if x.path == "/" {
			path = "/" + bucketName
		}
	}
	if x.target, err = parsePath(path, g.config.nestedKeys); err != nil {
		x.target = target{}
		return refusePath(err)
	}
	x.parsed = true
	if x.query, err = parseQuery(x.r.URL.RawQuery); err != nil {
		return newError(reasonParameter, "InvalidArgument", err.Error())
	}
	switch x.r.Method {
	case "GET", "HEAD", "PUT", "POST", "DELETE":
		return nil
	case "OPTIONS": // that server.cors does not answer
		return newError(reasonCORS, "AccessForbidden", "")
	}
	return newError(reasonMethod, "MethodNotAllowed", "")
}

// checkFraming refuses a request whose end, or beginning, is in doubt, because another server on
// the way may have seen another request: the rest of this one could be a request that nobody there
// checked. Its connection is closed (RFC 9112 section 6.1), as it is after any in HTTP/1.0, whose
// Transfer-Encoding net/http drops: it would run the chunks as the next request.
func (x *exchange) checkFraming() *apiError {
	if x.r.ProtoMajor != 1 {
		return nil
	}
	if x.r.ProtoMinor != 1 || x.head.doubt != "" || !x.head.known && x.r.ContentLength < 0 {
		x.Header().Set("Connection", "close")
	}
	switch {
	case x.head.doubt != "":
		return newError(reasonAmbiguous, "InvalidRequest", "the request is ambiguous: "+x.head.doubt)
	case x.isHTTP10() && x.head.encoding:
		return newError(reasonLength, "MissingContentLength", "HTTP/1.0 has no Transfer-Encoding; send a Content-Length")
	}
	return nil
}

// refusePath returns the error for a request whose path is not valid.
func refusePath(err error) *apiError {
	code := "InvalidRequest"
	if e, ok := errors.AsType[*pathError](err); ok {
		code = e.code
	}
	return newError(reasonPath, code, err.Error())
}

// refuseKey does the same for a key that is not in a URI, but in a document.
func refuseKey(err error) *apiError {
	e := refusePath(err)
	if e.Code == "InvalidURI" {
		e.Code = "InvalidRequest"
	}
	return e
}

func (g *gateway) limit(x *exchange) *apiError {
	if err := g.enter(x); err != nil {
		return err
	}
	d := g.allow(x.user.name, time.Now())
	h := x.Header()
	switch {
	case d.limit == 0:
		return nil
	case d.busy:
		return slowDown(reasonLimiterBusy, "too many requests at once for the shared limiter to decide on; try again in a second", d.retryAfter)
	}
	values := [...]string{strconv.Itoa(d.limit), strconv.Itoa(d.remaining), strconv.FormatInt(roundUp(d.reset), 10)}
	h["X-RateLimit-Limit"], h["X-RateLimit-Remaining"], h["X-RateLimit-Reset"] = values[0:1:1], values[1:2:2], values[2:3:3]
	if d.admitted {
		return nil
	}
	g.metrics.refused(x.user.name)
	message := fmt.Sprintf("more than %s in the window; try again in %d s", plural(d.limit, "request"), fullSeconds(d.retryAfter))
	if x.signs() { // SDKs retry after a SlowDown, and give up on a 429
		return slowDown(reasonRateLimit, message, d.retryAfter)
	}
	return tryLater(reasonRateLimit, "TooManyRequests", message, d.retryAfter)
}

func (g *gateway) allow(name string, now time.Time) decision {
	if g.shared != nil {
		return g.shared.allow(name, now)
	}
	return g.limiter.allow(name, now)
}

// roundUp returns the first full Unix second that is not before t.
func roundUp(t time.Time) int64 {
	return t.Add(time.Second - 1).Unix()
}

// run takes an admitted request through the remaining steps. The rows are the operations
// of its method and level.
func (g *gateway) run(x *exchange, rows []*operation) *apiError {
	var signed []string
	if x.claim != nil {
		signed = x.claim.signedHeaders
	}
	if err := checkConnection(x.r.Header, signed); err != nil {
		return err
	}
	if err := x.moveHeaders(); err != nil {
		return err
	}
	op, err := classify(rows, x.r.Header, x.query)
	if err != nil {
		return err
	}
	x.op = op
	x.query = slices.DeleteFunc(x.query, func(p parameter) bool { return op.drops(p.name) })
	if err := g.authorize(x); err != nil {
		return err
	}
	return op.run(g, x)
}

func (g *gateway) authorize(x *exchange) *apiError {
	if x.target.bucket == "" || x.op.action == actionNone {
		return nil // ListBuckets and the pages check the user themselves
	}
	x.bucket = g.buckets[x.target.bucket]
	return g.mayAct(x.user, x.target.bucket, x.op.action, x.op.name)
}

// mayAct returns an error unless a user may act on a bucket. It returns the same error
// for a bucket that is forbidden and for one that does not exist, unless the user may use
// every bucket. The argument what names the action for the message.
func (g *gateway) mayAct(u *user, bucketName string, a action, what string) *apiError {
	switch {
	case !u.mayUse(bucketName):
		return newError(reasonBucketNotAllowed, "AccessDenied", "access to this bucket is denied")
	case !u.role.may(a):
		return newError(reasonRole, "AccessDenied", fmt.Sprintf("%s is not allowed to the role %s", what, u.role))
	case a == actionBeyondBucket && !u.isFullAdmin():
		return newError(reasonRole, "AccessDenied", what+` is allowed only to admins of all buckets, with "*" in allowed_buckets: it can name other places`)
	case g.buckets[bucketName] == nil:
		return newError(reasonUnknownBucket, "NoSuchBucket", "")
	}
	return nil
}

// moveHeaders turns the parameters that a presigner has moved into the query back into
// headers: they mean the same. So one rule checks them, and they reach the backend in the
// form that is signed. If the header is sent as well, as the SDK for JavaScript 2 does,
// it must have the same value.
func (x *exchange) moveHeaders() *apiError {
	if len(x.query) == 0 {
		return nil
	}
	presigned := hasParameter(x.query, "X-Amz-Signature")
	var kept []parameter
	var moved []string
	for _, p := range x.query {
		switch destinationOf(p, presigned, x.r.Header) {
		case toOperation:
			kept = append(kept, p)
		case toHeader:
			name := http.CanonicalHeaderKey(p.name)
			if !isToken(name) || !isHeaderText(p.value) || slices.Contains(moved, name) {
				return newNameError(reasonParameter, "InvalidArgument", "the query parameter %q is given twice, or is no header", p.name)
			}
			if values, sent := x.r.Header[name]; sent && foldSpace(strings.Join(values, ",")) != foldSpace(p.value) {
				return newNameError(reasonHeader, "InvalidArgument", "the header %s has another value in the query", strings.ToLower(name))
			}
			x.r.Header[name] = []string{p.value}
			moved = append(moved, name)
		}
	}
	x.query = kept
	return nil
}

// pass forwards a request without a body, and streams the answer.
func (g *gateway) pass(x *exchange) *apiError {
	out, err := g.outgoing(x)
	if err != nil {
		return err
	}
	return g.stream(x, out)
}

func (g *gateway) notImplemented(x *exchange) *apiError {
	return newError(reasonOperation, "NotImplemented", x.op.name+" is not implemented")
}

const bucketsAreDeclared = "buckets are not created or deleted here: they are declared in the gateway's configuration, under accounts.NAME.buckets"

// createBucket answers as S3 answers the owner of a bucket, because many programs create
// theirs at every start. For a bucket that the user may not use, the answer is the same
// whether it exists or not.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
func (g *gateway) createBucket(x *exchange) *apiError {
	if x.user.mayUse(x.target.bucket) && g.buckets[x.target.bucket] != nil {
		return newError(reasonDeclared, "BucketAlreadyOwnedByYou", "")
	}
	return newError(reasonDeclared, "AccessDenied", bucketsAreDeclared)
}

func (g *gateway) deleteBucket(x *exchange) *apiError {
	return newError(reasonDeclared, "NotImplemented", bucketsAreDeclared)
}

// stream sends a request and relays the answer.
func (g *gateway) stream(x *exchange, out *outgoing) *apiError {
	resp, err := x.send(x.bucket, out)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return x.relay(resp)
}

// checkToken applies the rule for tokens that a service has issued.
func checkToken(path string, text []byte) error {
	if err := markerID(string(text)); err != nil {
		return newError(reasonParameter, "InvalidArgument", fmt.Sprintf("%s %v", path, err))
	}
	return nil
}
