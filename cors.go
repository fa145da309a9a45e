package main

// Cross-origin requests of browsers: refused unless server.cors is set. A preflight is
// answered here, and without a key, because browsers send none with it. The backends' own
// rules are not used.
// https://fetch.spec.whatwg.org/#http-cors-protocol

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// A cors is the rule for all buckets. A nil *cors allows nothing.
type cors struct {
	origins []string // with "*" among them, any
	methods string
	headers string // "*": any that are asked for
	exposed string
	maxAge  string // seconds
}

// newCORS returns a rule. Without methods or headers, those that S3 needs.
func newCORS(origins, methods, headers, exposed []string, maxAgeSeconds int) *cors {
	if len(methods) == 0 {
		methods = []string{"GET", "HEAD", "PUT", "POST", "DELETE"}
	}
	if len(headers) == 0 {
		headers = []string{"*"}
	}
	if len(exposed) == 0 {
		exposed = []string{"ETag", "x-amz-request-id", "x-amz-version-id"}
	}
	return &cors{
		origins: origins,
		methods: strings.Join(methods, ", "),
		headers: strings.Join(headers, ", "),
		exposed: strings.Join(exposed, ", "),
		maxAge:  strconv.Itoa(maxAgeSeconds),
	}
}

// What the answers depend on. Every answer says so, also one to a request without an
// Origin: otherwise a cache would serve it to a page of another origin, without the
// headers that the page needs. A backend's Vary is added to it. All responses share the
// slices, and only ever replace them.
// https://fetch.spec.whatwg.org/#cors-protocol-and-http-caches
var (
	varyOrigin    = []string{"Origin"}
	varyPreflight = []string{"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"}
)

// answer adds the CORS headers to a response. It writes the response and returns true if
// the request was a preflight. The origin is repeated, never with credentials: an API key
// is in a header that the page must set itself.
func (c *cors) answer(w http.ResponseWriter, r *http.Request) (done bool) {
	if c == nil {
		return false
	}
	h := w.Header()
	origin := r.Header.Get("Origin")
	if h["Vary"] = varyOrigin; r.Method == http.MethodOptions {
		h["Vary"] = varyPreflight
	}
	if origin == "" {
		return false
	}
	if !slices.Contains(c.origins, "*") && !slices.Contains(c.origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", c.exposed)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", c.methods)
	h.Set("Access-Control-Allow-Headers", c.headers)
	if wanted := r.Header.Get("Access-Control-Request-Headers"); wanted != "" && c.headers == "*" {
		h.Set("Access-Control-Allow-Headers", wanted) // "*" does not cover Authorization
	}
	h.Set("Access-Control-Max-Age", c.maxAge)
	w.WriteHeader(http.StatusNoContent)
	return true
}
