package main

// What is known of the backend's side of an exchange, and what the backend repeats of a
// request: its answers may echo credentials of the client or of the gateway, and neither
// an answer nor the log may.

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A backendCall is the last request that was sent for an exchange. The zero value says
// that nothing was sent.
type backendCall struct {
	out       *outgoing
	upstream  *upstream
	status    int           // 0: there was no answer
	requestID string        // the backend's, or ""
	code      string        // the backend's error code, or ""
	duration  time.Duration // until the first byte of the answer
}

// answered records the answer to out.
func (c *backendCall) answered(u *upstream, out *outgoing, resp *http.Response) {
	c.upstream, c.out, c.status = u, out, resp.StatusCode
	if c.requestID = resp.Header.Get("X-Amz-Request-Id"); !looksLikeID(c.requestID) || c.repeats(c.requestID) {
		c.requestID = ""
	}
}

// looksLikeID reports whether a value may be the id of a request, of any S3 service.
func looksLikeID(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("-._~:", c)
	})
}

// authentication returns the parts of the signed request that authenticate it: what an
// answer may echo.
func (c *backendCall) authentication() [4]string {
	keys := c.upstream.account.source.get()
	_, signed, _ := strings.Cut(c.out.header.Get("Authorization"), "Signature=")
	return [4]string{keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken, signed}
}

// repeats reports whether a text of a backend's answer holds a part of what authenticated
// the request it answers, or a piece of one.
func (c *backendCall) repeats(text string) bool {
	if c.upstream == nil || text == "" {
		return false
	}
	for _, part := range c.authentication() {
		if holdsPiece(text, part) {
			return true
		}
	}
	return false
}

// pieceSize is how much of a secret is taken for an echo of it, in bytes: each text that
// has twice as many bytes of a secret in a row holds a piece.
const pieceSize = 8

// holdsPiece reports whether a text holds a piece of a part, or all of a short one. How
// long it takes says something about the part only to whoever wrote the text: the
// backend, which was sent the part.
func holdsPiece(text, part string) bool {
	if len(part) < pieceSize {
		return part != "" && strings.Contains(text, part)
	}
	for ; len(part) >= pieceSize; part = part[pieceSize:] {
		if strings.Contains(text, part[:pieceSize]) {
			return true
		}
	}
	return false
}

// withoutEchoes returns a backend's error without what repeats a secret: its code, and
// headers. Their names have the case that net/http gives them.
func (c *backendCall) withoutEchoes(e *apiError) *apiError {
	switch {
	case !c.repeats(e.upstreamCode):
	case e.Code == "BadGateway":
		e.upstreamCode, e.cause = "", errors.New("the backend answered with a code that repeats the request's signature or credentials")
	default:
		e = upstreamError(e.Status, e.header, strings.NewReader(""))
	}
	for name, values := range e.header {
		if slices.ContainsFunc(values, c.repeats) || c.repeatsName(name) {
			delete(e.header, name)
		}
	}
	return e
}

func (c *backendCall) repeatsName(name string) bool {
	for _, part := range c.authentication() {
		if holdsPiece(strings.ToLower(name), strings.ToLower(part)) {
			return true
		}
	}
	return false
}
