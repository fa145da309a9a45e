package main

// What a backend repeats of a request: its answers may echo credentials that the client
// or the gateway sent, and neither an answer nor the log may.

import (
	"errors"
	"slices"
	"strings"
)

// looksLikeID reports whether a value may be the id of a request, of any S3 service.
func looksLikeID(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && !strings.ContainsRune("-._~:", c)
	})
}

// authentication are the parts of a request that authenticate it, once it is signed:
// what an answer may echo.
func (u *upstream) authentication(out *outgoing) [4]string {
	c := u.signer.source.get()
	_, signature, _ := strings.Cut(out.header.Get("Authorization"), "Signature=")
	return [4]string{c.AccessKeyID, c.SecretAccessKey, c.SessionToken, signature}
}

// repeats reports whether a text of a backend's answer holds a part of what authenticated
// the request it answers, or a piece of one.
func (x *exchange) repeats(text string) bool {
	if x.sentTo == nil || text == "" {
		return false
	}
	for _, part := range x.sentTo.authentication(x.asked) {
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
// long it takes says something about the part only to who has written the text: the
// backend, which has been sent the part.
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
func (x *exchange) withoutEchoes(e *apiError) *apiError {
	switch {
	case !x.repeats(e.upstreamCode):
	case e.Code == "BadGateway":
		e.upstreamCode, e.cause = "", errors.New("the backend answered with a code that repeats the request's signature or credentials")
	default:
		e = upstreamError(e.Status, e.header, strings.NewReader(""))
	}
	for name, values := range e.header {
		if slices.ContainsFunc(values, x.repeats) || x.repeatsName(name) {
			delete(e.header, name)
		}
	}
	return e
}

func (x *exchange) repeatsName(name string) bool {
	for _, part := range x.sentTo.authentication(x.asked) {
		if holdsPiece(strings.ToLower(name), strings.ToLower(part)) {
			return true
		}
	}
	return false
}

// withoutCredentials returns a text of the client for the log, without the API key or the
// signature that the request was authenticated with, and without the signature of a
// presigned URL: quoting one the wrong way makes its query a part of the key, and it is
// good for the key before it.
func (x *exchange) withoutCredentials(text string) string {
	switch {
	case x.user == nil:
	case x.claim != nil:
		text = strings.ReplaceAll(text, x.claim.signature, withheld)
	default:
		text = strings.ReplaceAll(text, x.r.Header["X-Api-Key"][0], withheld)
	}
	before, rest, found := strings.Cut(text, "Signature=")
	if !found {
		return text
	}
	return before + withheld + x.withoutCredentials(strings.TrimLeft(rest, "0123456789abcdef"))
}

// withheld stands in the log for a credential.
const withheld = "(withheld)"
