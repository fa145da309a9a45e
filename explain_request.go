package main

// A request that is asked about, and what a gateway decides on it. The decisions are the
// gateway's own: the request goes through all its steps, and stops where a backend would be
// asked, or where a document would be read. Nothing here decides anything; it tells what the
// exchange has learnt, and how far it came.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// assumedBody is the Content-Length of a request with a body, in bytes, if -H has none.
const assumedBody = "1024"

// Where a request stops.
var (
	errNotAsked = errors.New("a backend would be asked")
	errNotGiven = errors.New("a document would be read")
)

// A question is a request that is asked about.
type question struct {
	user, method, path string
	headers            []string // "name: value"
	assumed            bool     // a body of assumedBody, because headers have no length
}

// secretHeaders are refused in -H: they belong in no shell's history, and the user is given
// by -user.
var secretHeaders = setOf("X-Api-Key", "Authorization", "Proxy-Authorization", "Cookie", "X-Amz-Security-Token")

// checkHeaders returns an error for a header that can't be sent as it is. It quotes no value.
func (q *question) checkHeaders() error {
	for _, line := range q.headers {
		name, value, found := strings.Cut(line, ":")
		switch {
		case !found || !isToken(name):
			return usageError{errors.New("-H must have the form 'name: value'")}
		case secretHeaders[http.CanonicalHeaderKey(name)]:
			return usageError{fmt.Errorf("-H %s: leave it out, -user says who asks; and a secret in a command line is seen by every user of this machine", name)}
		case !isHeaderText(value):
			return usageError{fmt.Errorf("-H %s: the value has characters that a header can't have", name)}
		}
	}
	return nil
}

// has reports whether the request has a header.
func (q *question) has(name string) bool {
	return slices.ContainsFunc(q.headers, func(line string) bool {
		own, _, _ := strings.Cut(line, ":")
		return strings.EqualFold(own, name)
	})
}

// value returns the value of a header, or "".
func (q *question) value(name string) string {
	for _, line := range q.headers {
		if own, value, _ := strings.Cut(line, ":"); strings.EqualFold(own, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// check returns an error for what could not be sent as one request.
func (q *question) check() error {
	switch {
	case !isToken(q.method):
		return usageError{fmt.Errorf("%q is not a method", q.method)}
	case strings.ContainsFunc(q.path, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return usageError{errors.New("the path must be written as it is sent: a space is %20")}
	case !strings.HasPrefix(q.path, "/") && !strings.Contains(q.path, "://"):
		return usageError{errors.New("the path must begin with a slash: /bucket/key")}
	}
	return q.checkHeaders()
}

// wire returns the bytes of the request, up to its body, with an API key.
func (q *question) wire(key string) (string, error) {
	if err := q.check(); err != nil {
		return "", err
	}
	lines := append(slices.Clone(q.headers), "X-Api-Key: "+key)
	if !q.has("Host") {
		lines = append(lines, "Host: gateway")
	}
	mayHaveBody := q.method == http.MethodPut || q.method == http.MethodPost
	if mayHaveBody && !q.has("Content-Length") && !q.has("Transfer-Encoding") {
		length := assumedBody
		if q.has(copySource) { // a copy has no body
			length = "0"
		}
		q.assumed = length == assumedBody
		lines = append(lines, "Content-Length: "+length)
	}
	return q.method + " " + q.path + " HTTP/1.1\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n", nil
}

// refusedBefore returns the error for an answer that the gateway's server gives by itself. Its
// texts are net/http's, and hold nothing of the request.
func (q *question) refusedBefore(answered wireAnswer) error {
	_, why, _ := strings.Cut(answered.text, ": ")
	switch answered.status {
	case http.StatusExpectationFailed:
		why = "the header Expect may only have 100-continue"
	case http.StatusRequestHeaderFieldsTooLarge:
		why = fmt.Sprintf("the request line and the headers have more than %d KiB", maxHeaderBytes>>10)
	case http.StatusBadRequest:
		if _, err := url.ParseRequestURI(q.path); err != nil {
			why = "the path is not properly percent-encoded"
		}
	}
	return fmt.Errorf("%d before the gateway sees it: %s", answered.status, cmp.Or(why, "a header is malformed, or contradicts another"))
}

// An absentBody stands for a body that explain does not have.
type absentBody struct{}

// Read and Close implement io.ReadCloser.
func (absentBody) Read([]byte) (int, error) { return 0, errNotGiven }
func (absentBody) Close() error             { return nil }

// An explanation is what a gateway has decided on a request.
type explanation struct {
	question
	wireAnswer
	g       *gateway
	x       *exchange       // nil: a health page
	sent    http.Header     // by the client
	asked   []*http.Request // what backends would be asked
	account *account        // of the first one
	body    bool            // a backend would get a body
	shared  bool            // the limits are those of many gateways
}

// narrowed returns a configuration without what can't matter to the request: other users, and
// buckets and accounts that it does not name. A gateway is made for each set of changes that is
// tried, and of a large configuration that would take seconds.
func (q *question) narrowed(conf *config, asker *user) *config {
	text := q.path + " " + strings.Join(q.headers, " ")
	text += " " + strings.ToLower(decodedText(text)) // a host may be written in any case
	next := *conf
	next.users = []*user{asker}
	next.buckets = map[string]*bucket{}
	named := map[*account]bool{conf.accounts[0]: true} // the one that changes give buckets to
	for name, b := range conf.buckets {
		if strings.Contains(text, name) {
			next.buckets[name], named[b.account] = b, true
		}
	}
	next.accounts = slices.DeleteFunc(slices.Clone(conf.accounts), func(a *account) bool { return !named[a] })
	return &next
}

// decodedText decodes what is percent-encoded in a text, and leaves the rest as it is.
func decodedText(text string) string {
	var decoded strings.Builder
	for i := 0; i < len(text); i++ {
		if n, err := strconv.ParseUint(text[i+1:min(i+3, len(text))], 16, 8); text[i] == '%' && err == nil {
			decoded.WriteByte(byte(n))
			i += 2
		} else {
			decoded.WriteByte(text[i])
		}
	}
	return decoded.String()
}

// ask asks a gateway with a configuration that has the user. The user gets a key that nobody knows, so that
// authentication is the gateway's, too.
func (q question) ask(conf *config) (*explanation, error) {
	key := newKey()
	wire, err := q.wire(key)
	if err != nil {
		return nil, err
	}
	known := *configuredUser(conf, q.user)
	made := keyOf(key)
	if known.lastSecret() == nil {
		made.secret = "" // as in the configuration: the user can't make presigned URLs
	}
	known.keys = []apiKey{made}
	offline := *conf
	offline.redis = nil
	offline.users = []*user{&known}
	v := &explanation{question: q, shared: conf.redis != nil}
	v.g = newGateway(&offline, newMetrics(), slog.New(slog.DiscardHandler))
	v.g.roundTrip = v.roundTrip
	v.wireAnswer, err = sendInMemory(v, q.method, wire)
	switch {
	case v.sent != nil: // an answer that breaks off says as much as a whole one
		return v, nil
	case err != nil:
		return nil, err
	}
	return nil, q.refusedBefore(v.wireAnswer)
}

// ServeHTTP implements http.Handler. It does what the handler of the listener does (healthFront),
// but for the body, which is not there.
func (v *explanation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.sent = r.Header.Clone()
	v.sent.Del("X-Api-Key")
	if isHealthPage(r, v.g.config.domain) {
		current := new(service)
		current.current.Store(v.g)
		healthFront{current, new(atomic.Bool)}.ServeHTTP(w, r)
		return
	}
	if r.ContentLength != 0 {
		r.Body = absentBody{}
	}
	v.x = newExchange(w, r, v.g)
	v.g.answer(v.x)
}

// roundTrip notes what a backend would be asked. The signature is of no account, and not shown.
func (v *explanation) roundTrip(u *upstream, _ context.Context, out *outgoing) (*http.Response, error) {
	v.asked = append(v.asked, u.request(out))
	if v.account == nil {
		v.account = u.account
	}
	v.body = out.body != nil
	return nil, errNotAsked
}

// stops reports whether the request came as far as an error of this file.
func (v *explanation) stops(at error) bool {
	return v.x.refusal != nil && errors.Is(v.x.refusal.cause, at)
}

// passes reports whether the request would be forwarded, or answered by the gateway with a
// success.
func (v *explanation) passes() bool {
	if v.x == nil {
		return v.status < 400
	}
	return v.x.refusal == nil || v.stops(errNotAsked) || v.stops(errNotGiven)
}

// steps returns what was decided, in the order of the steps, up to the first refusal.
func (v *explanation) steps() []explainedStep {
	x := v.x
	if x == nil {
		return []explainedStep{{severityOK, "answer", fmt.Sprintf("a health page, with the status %d; no key is needed, and no backend is asked", v.status)}}
	}
	var all []explainedStep
	ok := func(name, format string, args ...any) {
		all = append(all, explainedStep{severityOK, name, fmt.Sprintf(format, args...)})
	}
	if x.parsed {
		ok("path", "%s", x.withoutCredentials(targetWords(x.target)))
	}
	if b := x.g.buckets[x.target.bucket]; b != nil {
		ok("bucket", "%s of accounts.%s, which knows it as %s", b.name, b.account.name, b.backendName)
	} else if x.parsed && x.target.bucket != "" {
		all = append(all, explainedStep{severityWarning, "bucket", x.target.bucket + " is in the buckets of no account"})
	}
	if x.user != nil {
		ok("user", "%s: role %s, allowed_buckets %s", x.user.name, x.user.role, bucketWords(x.user))
	}
	if x.load != nil {
		ok("limits", "%s", v.limitWords())
	}
	if x.op != nil {
		ok("operation", "%s: %s", x.op.name, actionWords[x.op.action])
		if refusal := x.g.authorize(x); refusal == nil && x.bucket != nil { // what has no bucket checks the user itself
			ok("right", "the role %s may do that here", x.user.role)
		}
	}
	if !v.passes() {
		all = append(all, explainedStep{severityError, v.refusedAt(), refusalWords(x.refusal)})
		return all
	}
	return append(all, v.lastSteps()...)
}

// lastSteps returns what becomes of a request that passes.
func (v *explanation) lastSteps() []explainedStep {
	x := v.x
	if x.refusal == nil {
		return []explainedStep{{severityOK, "answer", fmt.Sprintf("by the gateway itself, with the status %d; no backend is asked", x.status)}}
	}
	var all []explainedStep
	if dropped := v.dropped(); len(dropped) > 0 {
		all = append(all, explainedStep{severityOK, "headers", "not forwarded: " + strings.Join(dropped, ", ")})
	}
	if v.body || v.stops(errNotGiven) {
		all = append(all, v.bodyStep())
	}
	for _, asked := range v.backendRequests() {
		address := strings.ReplaceAll(asked.URL.String(), uriEncode(x.target.key, false), uriEncode(x.withoutCredentials(x.target.key), false))
		all = append(all, explainedStep{severityOK, "backend", fmt.Sprintf("%s %s, signed for %s", asked.Method, address, v.signedFor(asked))})
	}
	return all
}

// bodyStep tells what is known of the body.
func (v *explanation) bodyStep() explainedStep {
	text := fmt.Sprintf("%d bytes", v.x.r.ContentLength)
	if v.assumed {
		text += ", assumed; for another size -H 'Content-Length: N'"
	}
	if v.stops(errNotGiven) {
		return explainedStep{severityWarning, "body", text + "; the gateway reads the document first, and refuses one that is not valid"}
	}
	return explainedStep{severityOK, "body", text}
}

// backendRequests returns what backends would be asked: also what follows a document, and the
// second half of a copy between accounts.
func (v *explanation) backendRequests() []*http.Request {
	x := v.x
	if x.bucket == nil || len(v.asked) > 0 && v.asked[0].Method == x.r.Method {
		return v.asked
	}
	out, refusal := x.g.outgoing(x)
	if refusal != nil {
		return v.asked
	}
	return append(v.asked, x.bucket.upstream.request(out))
}

// signedFor names the account of a request for a backend.
func (v *explanation) signedFor(asked *http.Request) string {
	if len(v.asked) > 0 && asked == v.asked[0] {
		return "accounts." + v.account.name + ", region " + v.account.region
	}
	return "accounts." + v.x.bucket.account.name + ", region " + v.x.bucket.account.region
}

// dropped returns the names of the client's headers that no backend gets.
func (v *explanation) dropped() []string {
	if v.x.bucket == nil {
		return nil
	}
	out, refusal := v.x.g.outgoing(v.x)
	if refusal != nil {
		return nil
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(v.sent)) {
		if _, passes := out.header[wireName(name)]; !passes && name != "Content-Length" {
			names = append(names, shortened(strings.ToLower(name), 64))
		}
	}
	return names
}

// refusedAt names the step that refused the request: by what the exchange knew then.
func (v *explanation) refusedAt() string {
	x := v.x
	switch {
	case !x.parsed:
		return "path"
	case x.user == nil:
		return "request"
	case x.load == nil:
		return "limits"
	case x.op == nil:
		return "operation"
	case x.g.authorize(x) != nil:
		return "right"
	case x.bucket == nil:
		return "request"
	}
	if _, refusal := x.g.outgoing(x); refusal != nil && refusal.Message == x.refusal.Message {
		return "headers"
	}
	return "request"
}

// refusalWords returns an error as the client gets it, with the reason that the log would have.
func refusalWords(e *apiError) string {
	return fmt.Sprintf("%d %s (%s): %s", e.Status, e.Code, e.reason, e.Message)
}

// targetWords names what a request is about.
func targetWords(t target) string {
	switch t.level() {
	case objectLevel:
		return fmt.Sprintf("the object %q in the bucket %s", t.key, t.bucket)
	case bucketLevel:
		return "the bucket " + t.bucket
	case pageLevel:
		return "the page /-/" + t.page
	}
	return "the service itself"
}

// actionWords say what an operation does.
var actionWords = map[action]string{
	actionRead:         "reads",
	actionWrite:        "writes",
	actionAdmin:        "is permanent, or changes who may do what",
	actionBeyondBucket: "can name places outside of the bucket",
	actionNone:         "the gateway answers it",
}

// limitWords returns the limits of the user.
func (v *explanation) limitWords() string {
	u := v.x.user
	text := u.limit.String() + u.share.String()
	if u.limit.requests > 0 && v.shared {
		text += ", shared through Redis"
	}
	if u.limit.requests > 0 || u.share != (share{}) {
		text += "; what of it is used, only the running gateway knows"
	}
	return text
}

// bucketWords returns a user's buckets, as the configuration has them.
func bucketWords(u *user) string {
	if len(u.buckets) == 0 {
		return "none"
	}
	return firstOf(slices.Sorted(maps.Keys(u.buckets)), 8)
}

// firstOf returns the first of some names, and how many more there are.
func firstOf(names []string, most int) string {
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

func configuredUser(conf *config, name string) *user {
	for _, u := range conf.users {
		if u.name == name {
			return u
		}
	}
	return nil
}

// namesOf returns the names of the users, or of many of them.
func namesOf(conf *config) string {
	var names []string
	for _, u := range conf.users {
		names = append(names, u.name)
	}
	return firstOf(names, 20)
}
