package main

// What a person sees who opens the address of the gateway in a browser: the refusal of a request
// without a key, as a page that says how to send one. It is the same for everybody, and says
// nothing of the configuration.

import (
	"bytes"
	_ "embed"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

//go:embed exchange_page.html
var keylessPage []byte

// keylessPolicy allows the page its own style and nothing else, least of all a script.
var keylessPolicy = []string{"sandbox; default-src 'none'; style-src '" + sourceHash(styleOf(keylessPage)) + "'"}

// styleOf returns what is in the only style element of a page.
func styleOf(page []byte) string {
	_, style, _ := bytes.Cut(page, []byte("<style>"))
	style, _, _ = bytes.Cut(style, []byte("</style>"))
	return string(style)
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
