package main

// The backend's side of an exchange. A backend's answer may echo credentials of the client
// or of the gateway; what is found here to do so reaches neither the client nor the log.

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A backendCall is the last request that was sent for an exchange. Its zero value means
// that none was.
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

// authentication returns the parts of the signed request that authenticate it, which an
// answer may echo.
func (c *backendCall) authentication() [4]string {
	keys := c.upstream.account.source.get()
	_, signed, _ := strings.Cut(c.out.header.Get("Authorization"), "Signature=")
	return [4]string{keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken, signed}
}

// repeats reports whether a text of a backend's answer holds a piece of what
// authenticated the request.
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

// pieceSize is how much of a secret counts as an echo of it, in bytes. A text with twice
// as many bytes of a secret in a row always holds a piece.
const pieceSize = 8

// holdsPiece reports whether a text holds a piece of a part, or all of a short part. Its
// time depends on the part, but only the backend writes the text, and it knows the part.
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

// withoutEchoes removes from a backend's error its code and its headers, if they repeat a
// secret. Names of headers have the case that net/http gives them.
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
