package main

// The bytes of an object on their way to the client. If the backend breaks off, the client need
// not notice. A small body is read whole before the answer begins, and asked for again; a large
// one is continued from where it broke off, if that can be done exactly. Otherwise the answer
// breaks off too.

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// writeHead answers with a status and headers alone.
func (x *exchange) writeHead(resp *http.Response) {
	returnHeader(x.Header(), resp.Header)
	x.WriteHeader(resp.StatusCode)
}

// respond answers with the bytes of an object.
func (x *exchange) respond(resp *http.Response) *apiError {
	for attempt := 1; x.mayReadWhole(resp); attempt++ {
		body := resp.Body.(*answerBody)
		buffer := borrow(body.left)
		whole, err := body.readWhole(buffer)
		if err == nil {
			x.writeHead(resp)
			if err := x.writeWhole(whole); err != nil {
				x.abort(err)
			}
			giveBack(buffer)
			return nil
		}
		giveBack(buffer)
		if !x.brokeOff(err) || !x.mayAskAgain(attempt) {
			return x.transportError(err)
		}
		resp.Body.Close()
		again, refusal := x.send(x.bucket, x.backend.out)
		if refusal != nil {
			return refusal
		}
		defer again.Body.Close()
		resp = again
	}
	x.writeHead(resp)
	x.sendResumed(resp)
	return nil
}

// mayReadWhole reports whether a body is read before it is sent: a small one, of a request that
// can be repeated.
func (x *exchange) mayReadWhole(resp *http.Response) bool {
	body := resp.Body.(*answerBody)
	return 0 < body.left && body.left <= maxCorked && x.backend.out.isRead()
}

// sendResumed sends a body, and continues it when the backend breaks off. It does not return if
// the client does not get all of it.
func (x *exchange) sendResumed(resp *http.Response) {
	body := resp.Body.(*answerBody)
	rest := newResumption(x.bucket.upstream, x.backend.out, resp)
	for {
		err := x.sendBody(body)
		if err == nil {
			return
		}
		if rest == nil || x.unsent != nil || !x.brokeOff(err) || body.conn.lives() {
			x.abort(err)
		}
		next, failure := rest.resume(x.r.Context(), x.sent)
		if failure != nil {
			x.abort(fmt.Errorf("%w; %w", err, failure))
		}
		body.Close()
		defer next.Close()
		x.resumed++
		body = next
	}
}

// mayAskAgain reports whether an answer that the backend broke off, and of which the client has seen
// nothing, is asked for again, and counts that.
func (x *exchange) mayAskAgain(attempt int) bool {
	u := x.bucket.upstream
	if attempt == maxAttempts || x.r.Context().Err() != nil || !u.budget.take(time.Now()) {
		return false
	}
	x.resumed++
	u.counts.resumed.Add(1)
	return true
}

// brokeOff reports whether an error of a backend's body is worth another request: the client is
// there, and the backend has not been waited for already.
func (x *exchange) brokeOff(err error) bool {
	return x.r.Context().Err() == nil && !errors.Is(err, errNoProgress)
}
