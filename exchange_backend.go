package main

// The backend's side of an exchange. A backend's answer may echo credentials of the client
// or of the gateway; what is found here to do so reaches neither the client nor the log.

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
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
	duration  time.Duration // until the first byte of the answer
}

// asks records that a request is about to be sent.
func (c *backendCall) asks(u *upstream, out *outgoing) { *c = backendCall{upstream: u, out: out} }

// answered records the answer to it.
func (c *backendCall) answered(resp *http.Response) {
	c.status = resp.StatusCode
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

// secrets returns the parts of the signed request that an answer may echo and nobody else may
// see: what authenticates it, and the client's own encryption keys.
func (c *backendCall) secrets() [6]string {
	keys := c.upstream.account.source.get()
	_, signed, _ := strings.Cut(c.out.header.Get("Authorization"), "Signature=")
	return [6]string{keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken, signed,
		c.out.header.Get("X-Amz-Server-Side-Encryption-Customer-Key"), c.out.header.Get("X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key")}
}

// repeats reports whether a text of a backend's answer holds a piece of a secret, in any case.
func (c *backendCall) repeats(text string) bool {
	if c.upstream == nil || text == "" {
		return false
	}
	secrets := c.secrets()
	return holdsAnyPiece(text, secrets[:])
}

// longWord matches what may be a key, a token or a digest, of anybody.
var longWord = regexp.MustCompile(`[A-Za-z0-9+/=_-]{20,}`)

// private returns what of the client's request is not in the log, and so may not be there as an echo
// either: metadata, tags, and the values of the query. Short values are words of their own.
func (c *backendCall) private() (texts []string) {
	add := func(text string) {
		if len(text) >= pieceSize {
			texts = append(texts, text)
		}
	}
	for name, values := range c.out.header {
		if name == "X-Amz-Tagging" || strings.HasPrefix(http.CanonicalHeaderKey(name), metadataPrefix) { // see wireName
			for _, value := range values {
				add(value)
			}
		}
	}
	for _, p := range c.out.query {
		add(p.value)
	}
	return texts
}

// longestMessage is how much of a backend's message is looked at, in bytes: more than is quoted, so
// that no secret is cut in two.
const longestMessage = 4096

// quotable returns the beginning of a backend's message as the log may have it: "" if it repeats in
// any case a secret or what is private, and otherwise in printable ASCII, without its long words that
// have digits. The rest is what the operator is to read, such as the region, or whom a policy
// denies what.
func (c *backendCall) quotable(message string) string {
	message = strings.TrimSpace(message)
	message = message[:min(len(message), longestMessage)]
	if message == "" || c.repeats(message) || holdsAnyPiece(message, c.private()) {
		return ""
	}
	return plainText(longWord.ReplaceAllStringFunc(message, func(word string) string {
		if strings.ContainsAny(word, "0123456789") && !strings.HasPrefix(strings.ToLower(word), "x-amz-") { // the name of a header has no secret
			return withheld
		}
		return word
	}))
}

// plainText returns the beginning of a text, in printable ASCII.
func plainText(text string) string {
	return shortened(strings.Map(func(char rune) rune {
		switch {
		case char == '\n', char == '\r', char == '\t':
			return ' '
		case char < ' ', char > '~':
			return '?'
		}
		return char
	}, text), maxForeign)
}

// pieceSize is how much of a secret counts as an echo of it, in bytes. A text with twice
// as many bytes of a secret in a row always holds a piece.
const pieceSize = 8

// holdsAnyPiece reports whether a text holds a piece of one of the parts, in any case.
func holdsAnyPiece(text string, parts []string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(parts, func(part string) bool { return holdsPiece(text, strings.ToLower(part)) })
}

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

// withoutEchoes removes from a backend's error what repeats a secret: its code, its headers, and
// what it says for the log. Names of headers have the case that net/http gives them.
func (c *backendCall) withoutEchoes(e *apiError) *apiError {
	switch {
	case !c.repeats(e.upstream.code):
	case e.Code == "BadGateway":
		e.upstream, e.cause = backendWords{}, errors.New("the backend answered with a code that repeats the request's signature or credentials")
	default:
		e = upstreamError(e.Status, e.header, strings.NewReader(""))
	}
	e.upstream.message = c.quotable(e.upstream.message)
	if c.repeats(e.upstream.region) {
		e.upstream.region = ""
	}
	if e.upstream.region != "" {
		e.cause = fmt.Errorf("%w; it expects the region %s: set accounts.%s.region", e.cause, e.upstream.region, c.upstream.account.name)
	}
	for name, values := range e.header {
		if c.repeats(name) || slices.ContainsFunc(values, c.repeats) {
			delete(e.header, name)
		}
	}
	return e
}
