package main

// Answers that may take minutes. They know the document that becomes the answer, not the
// operation that makes it.
//
// Most clients give up on a connection that is silent for a minute, and then repeat the
// copy. So, like S3, the gateway begins the answer before there is a result, with the
// status 200, the XML declaration and white space. An error after that is a document Error
// under the status 200, for which every SDK looks. An error before it has its own status.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

import (
	"bufio"
	"errors"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// A heartbeat sends white space to a client that waits for an answer. While it runs, the
// answer and its headers are written only with mu held.
type heartbeat struct {
	x    *exchange
	next time.Duration

	mu      sync.Mutex // guards the rest
	timer   *time.Timer
	begun   bool // the answer has begun
	stopped bool // nothing more is written
}

// slowly answers with the document that work returns, from its root element on. For an
// HTTP/1.0 client, which understands no chunks, it sends nothing before that is complete.
func (g *gateway) slowly(x *exchange, work func(*heartbeat) ([]byte, *apiError)) *apiError {
	h := &heartbeat{x: x, next: g.beats.next, stopped: x.isHTTP10()}
	if !h.stopped {
		h.start(g.beats.first)
	}
	defer h.stop() // also if work panics
	doc, refusal := work(h)
	h.stop()
	switch {
	case refusal == nil && !h.begun:
		x.writeDocument("application/xml", append([]byte(xmlHeader), doc...))
	case refusal == nil:
		x.Write(doc)
	case !h.begun && (refusal.cause != errUnder200 || x.isHTTP10()):
		return refusal
	default:
		h.fail(refusal)
	}
	return nil
}

// start schedules the first sign of life.
func (h *heartbeat) start(first time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(first, h.beat)
}

// stop ends the heartbeat. When it returns, nothing is being written.
func (h *heartbeat) stop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = true
	if h.timer != nil {
		h.timer.Stop()
	}
}

// beat sends a sign of life and schedules the next. The timer calls it on a goroutine of
// its own.
func (h *heartbeat) beat() {
	defer func() {
		if p := recover(); p != nil {
			h.x.log.Error("panic", "request_id", h.x.id, "panic", panicWords(p), "stack", string(debug.Stack()))
		}
	}()
	if h.space() == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.stopped {
			h.timer.Reset(h.next)
		}
	}
}

// space begins the answer if it has not begun, and sends white space.
func (h *heartbeat) space() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return nil
	}
	h.begin()
	if _, err := h.x.Write([]byte(" ")); err != nil {
		return err
	}
	return h.x.flush()
}

// begin begins the answer if it has not begun. It requires that mu is held.
func (h *heartbeat) begin() {
	if h.begun {
		return
	}
	h.begun = true
	h.x.Header()["Content-Type"] = []string{"application/xml"}
	h.x.WriteHeader(http.StatusOK)
	h.x.Write([]byte(xmlHeader))
}

// answered copies the headers of a backend's answer, except those that describe its body,
// unless the headers were sent already.
func (h *heartbeat) answered(header http.Header) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.begun {
		returnHeaderWithoutBody(h.x.Header(), header)
	}
}

// fail ends an answer with an error under the status 200. The log and the metrics get the
// status of the error. It requires that the heartbeat is stopped.
func (h *heartbeat) fail(e *apiError) {
	x := h.x
	if x.left() {
		x.abort(e)
	}
	x.complete(e)
	doc := errorXML(e, x.resource(), x.id)
	if h.begun {
		x.Write(doc)
	} else {
		x.writeDocument("application/xml", append([]byte(xmlHeader), doc...))
	}
	x.refuse(e)
	x.status = e.Status
}

// slowAnswer is how long a backend may take to answer an operation that moves data inside
// it. S3's pages speak of minutes.
const slowAnswer = 15 * time.Minute

// relaySlowly sends a request to the backend and returns the document of its answer for
// the client, from the root element on.
func (g *gateway) relaySlowly(x *exchange, out *outgoing, h *heartbeat) ([]byte, *apiError) {
	resp, refusal := x.send(x.bucket, out)
	if refusal != nil {
		return nil, refusal
	}
	defer resp.Body.Close()
	h.answered(resp.Header)
	body := bufio.NewReader(plainBody(resp))
	if err := h.relayProlog(body); err != nil {
		return nil, x.transportError(err)
	}
	doc, form, refusal := x.readAnswer(body, answerSpecs[x.op.name])
	if refusal != nil {
		return nil, refusal
	}
	b := x.answerWriter().appendRoot(nil, &doc, form)
	return b, x.keepAnswer(cap(b))
}

// relayProlog reads the XML declaration and white space up to the root element. If nothing
// else has arrived yet, the backend is sending a sign of life, which is passed on.
func (h *heartbeat) relayProlog(body *bufio.Reader) error {
	for declared := false; ; {
		next, err := body.Peek(1)
		if err != nil {
			return noEOF(err)
		}
		switch next[0] {
		case '<':
			if next, err = body.Peek(2); err != nil || next[1] != '?' || declared {
				return err
			}
			declared = true
			if _, err := body.ReadSlice('>'); err != nil {
				return noEOF(err)
			}
		case ' ', '\t', '\r', '\n':
			body.Discard(1)
		default:
			return errors.New("text before the document")
		}
		if body.Buffered() > 0 {
			continue
		}
		if err := h.space(); err != nil { // before waiting for more
			return err
		}
	}
}
