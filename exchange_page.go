package main

// What a person sees who opens the address of the gateway in a browser: the refusal of a request
// without a key, as a page that says how to send one. It is the same for everybody, and says
// nothing of the configuration.

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

//go:embed exchange_page.html
var keylessPage []byte

// keylessPolicy allows the page its own style and nothing else, least of all a script.
var keylessPolicy = []string{"sandbox; default-src 'none'; style-src 'sha256-" + digestOfStyle(keylessPage) + "'"}

// digestOfStyle returns the digest of the only style element of a page, as a Content-Security-Policy
// has it.
// https://www.w3.org/TR/CSP3/#grammardef-hash-source
func digestOfStyle(page []byte) string {
	_, style, _ := bytes.Cut(page, []byte("<style>"))
	style, _, _ = bytes.Cut(style, []byte("</style>"))
	digest := sha256.Sum256(style)
	return base64.StdEncoding.EncodeToString(digest[:])
}

// wantsPage reports whether an error is answered with the page: to a browser that asks for the
// service without a key, and for nothing else. S3 tools send one, or accept anything.
func (q *request) wantsPage(e *apiError) bool {
	return e.reason == reasonNoKey && q.parsed && q.target.level() == serviceLevel &&
		q.r.Method == http.MethodGet && q.r.URL.RawQuery == "" && prefersHTML(q.r.Header["Accept"])
}

// prefersHTML reports whether an Accept header names HTML, and no other form before it with a greater
// weight: RFC 9110 section 12.5.1.
func prefersHTML(values []string) bool {
	best, html := 0.0, 0.0
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		kind, params, err := mime.ParseMediaType(part)
		if err != nil {
			continue
		}
		weight := 1.0
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil {
			weight = q
		}
		if kind == "text/html" {
			html = max(html, weight)
		} else if kind != "application/xhtml+xml" {
			best = max(best, weight)
		}
	}
	return html > 0 && html >= best
}

// pageInto sets the headers of the page, and returns it.
func pageInto(h http.Header) []byte {
	h["Content-Type"] = []string{"text/html; charset=utf-8"}
	h["Content-Security-Policy"] = keylessPolicy
	h["Cache-Control"] = []string{"no-store"}
	return keylessPage
}
