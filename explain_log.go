package main

// What became of a request that is in the log, in words: what happened, and what to do. It
// knows the fields of a line as docs/metrics-and-logs.md has them, and no configuration.

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
)

// maxLogLine bounds a line of the log, in bytes. The gateway's own are shorter: a key has at most
// 1,024 bytes, and every other field of a client is bounded too.
const maxLogLine = 1 << 20

// A loggedRequest is a line of the log, by the fields that tell what happened.
type loggedRequest struct {
	Time              string
	Msg               string
	RequestID         string `json:"request_id"`
	User              string
	ClaimedUser       string `json:"claimed_user"`
	Method            string
	Operation         string
	Bucket            string
	Key               string
	Status            int
	Code              string
	Reason            string
	BytesIn           int64   `json:"bytes_in"`
	BytesOut          int64   `json:"bytes_out"`
	Duration          float64 `json:"duration_ms"`
	UpstreamStatus    int     `json:"upstream_status"`
	UpstreamDuration  float64 `json:"upstream_ms"`
	UpstreamRequestID string  `json:"upstream_request_id"`
	UpstreamCode      string  `json:"upstream_code"`
	Cause             string
	Resumed           int
	Aborted           bool
	Client            string
}

// explainLogged finds a request in a log and says what became of it. The path "-" is standard
// input.
func explainLogged(std streams, path, id string) error {
	if !looksLikeID(id) {
		return usageError{fmt.Errorf("%q is not the id of a request: it is in the header x-amz-request-id of the answer, and in request_id of an error", id)}
	}
	from, where := std.in, "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		from, where = f, path
	}
	line, err := findLogged(from, id)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	writeSteps(std.out, line.steps(), isUTF8Locale(os.Getenv))
	return nil
}

// findLogged returns the line of a request.
func findLogged(r io.Reader, id string) (*loggedRequest, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLogLine)
	read, inJSON := 0, 0
	for lines.Scan() {
		read++
		if !bytes.HasPrefix(lines.Bytes(), []byte("{")) {
			continue
		}
		inJSON++
		var line loggedRequest
		if !bytes.Contains(lines.Bytes(), []byte(id)) || json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		if line.Msg == "request" && line.RequestID == id {
			return &line, nil
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, errors.New("a line is too long to be of this log")
	case err != nil:
		return nil, err
	case read > 0 && inJSON == 0:
		return nil, errors.New("no line is JSON; the gateway writes JSON with -log-format json, or to a file")
	}
	return nil, fmt.Errorf("no request %s in %s; look in the files before a rotation, and in the logs of other gateways", id, plural(read, "line"))
}

// isRefusal reports whether the gateway answered with an error and asked no backend.
func (l *loggedRequest) isRefusal() bool {
	status := l.Status
	return l.UpstreamStatus == 0 && (status >= 400 && status < statusClientGone || status == http.StatusNotImplemented)
}

// steps returns what happened and what to do.
func (l *loggedRequest) steps() []explainedStep {
	kind := severityOK
	switch {
	case l.Status >= 400 || l.Aborted:
		kind = severityError
	case l.Resumed > 0:
		kind = severityWarning
	}
	all := []explainedStep{
		{severityOK, "request", fmt.Sprintf("%s of %s, from %s", l.RequestID, printable(l.Time), printable(l.Client))},
		{severityOK, "user", l.userWords()},
		{severityOK, "operation", fmt.Sprintf("%s: %s", cmp.Or(printable(l.Operation), "not known, the request was refused before"), l.target())},
		{kind, "answer", fmt.Sprintf("%s after %v ms; %d bytes received, %d sent", strings.TrimSpace(strconv.Itoa(l.Status)+" "+printable(l.Code)), l.Duration, l.BytesIn, l.BytesOut)},
		{severityOK, "backend", l.backendWords()},
	}
	for _, s := range []explainedStep{{kind, "reason", l.Reason}, {kind, "its cause", l.Cause}} {
		if s.text != "" {
			s.text = printable(s.text)
			all = append(all, s)
		}
	}
	why, remedy := l.words()
	all = append(all, explainedStep{kind, "why", why})
	if remedy != "" {
		all = append(all, explainedStep{severityWarning, "to do", remedy})
	}
	if l.User != "" && l.isRefusal() && l.Bucket != "" {
		all = append(all, explainedStep{severityWarning, "", fmt.Sprintf("s3-proxy explain -config FILE -user %s %s '%s'\nsays which rule refuses it; add its query and headers, which are not in the log", printable(l.User), printable(l.Method), l.path())})
	}
	return all
}

func (l *loggedRequest) userWords() string {
	switch {
	case l.User != "":
		return printable(l.User)
	case l.ClaimedUser != "":
		return "not known; " + printable(l.ClaimedUser) + " was claimed"
	}
	return "not known"
}

func (l *loggedRequest) path() string {
	if l.Key == "" {
		return "/" + uriEncode(l.Bucket, true)
	}
	return "/" + uriEncode(l.Bucket, true) + "/" + uriEncode(l.Key, false)
}

func (l *loggedRequest) target() string {
	if l.Operation == "" && l.Bucket == "" { // a path that could not be parsed is in no log
		return printable(l.Method) + " of a path that is not in the log"
	}
	return printable(l.Method) + " " + l.path()
}

func (l *loggedRequest) backendWords() string {
	if l.UpstreamStatus == 0 {
		return "was not asked, or did not answer"
	}
	text := fmt.Sprintf("answered %d %s", l.UpstreamStatus, printable(l.UpstreamCode))
	text = strings.TrimSpace(text) + fmt.Sprintf(" after %v ms", l.UpstreamDuration)
	if l.UpstreamRequestID != "" {
		text += "; its request id is " + printable(l.UpstreamRequestID)
	}
	if l.Resumed > 0 {
		text += "; it broke off " + plural(l.Resumed, "time") + ", and was asked for the rest"
	}
	return text
}

// words returns what happened, and what to do about it.
func (l *loggedRequest) words() (why, remedy string) {
	for i := range logRules {
		if rule := &logRules[i]; rule.when(l) {
			return rule.why, strings.NewReplacer("USER", cmp.Or(printable(l.User), "NAME"), "BUCKET", printable(l.Bucket)).Replace(rule.remedy)
		}
	}
	return "the status tells all that the log has", "see docs/errors.md"
}

// A logRule says in words what a line means.
type logRule struct {
	when        func(*loggedRequest) bool
	why, remedy string // USER and BUCKET in a remedy are the line's
}

// logRules are the meanings of lines. The first that fits counts.
var logRules = []logRule{
	{func(l *loggedRequest) bool { return l.Status == statusClientGone },
		"the client left before it had an answer", "look at the time-out of the client, and of a proxy before the gateway"},
	{func(l *loggedRequest) bool { return l.Aborted },
		"the answer broke off before its end, and so did the connection: the client must not take it for the whole",
		"the cause says which side stopped: a client that takes nothing (server.idle_timeout), or a backend that breaks off"},
	{func(l *loggedRequest) bool { return l.Status < 400 && l.Resumed > 0 },
		"the client has the whole answer, although the backend broke it off", "look at the backend, and at what is between it and the gateway"},
	{func(l *loggedRequest) bool { return l.Status < 400 }, "the request was answered", ""},

	{blamed(blamesKeyID, blamesSignature, blamesNoSignature, blamesTokenSupport),
		"the backend refuses the credentials of the account, not those of the client", "correct access_key_id and secret_access_key, or credentials, in the account of BUCKET; s3-proxy doctor says which"},
	{blamed(blamesToken),
		"the session token of the account has expired, or belongs to another key", "give the account of BUCKET a new session_token, or a source in credentials that refreshes it"},
	{blamed(blamesPlace),
		"the bucket is in another region, or at another address of the service", "set region and endpoint_url in the account of BUCKET; s3-proxy doctor names the right ones if the service does"},
	{blamed(blamesClock), "the clocks of the backend and of the gateway differ by more than 15 minutes", "set the clock that is wrong"},
	{statusIs(http.StatusBadGateway, false), "the backend could not be reached, or did not answer", "the cause says why: endpoint_url, ca_file or the network of the account of BUCKET; s3-proxy doctor looks further"},
	{statusIs(http.StatusBadGateway, true), "the backend sent an answer that is not a valid one, or refuses the gateway", "the cause says what is wrong; endpoint_url must be that of an S3 service"},
	{func(l *loggedRequest) bool { return l.Status == http.StatusGatewayTimeout }, "the backend did not answer in time", "look at the backend; connect_timeout, response_header_timeout and server.idle_timeout are the limits"},
	{func(l *loggedRequest) bool { return l.Status == 503 && l.UpstreamStatus == 0 && l.Cause != "" },
		"the account is refused for a while, because its backend failed many requests in a row", "the lines before say why; the gateway tries again by itself"},
	{statusIs(http.StatusServiceUnavailable, false), "a limit of the gateway", "raise rate_limit or max_in_flight of users.USER, or max_in_flight of the account of BUCKET; or let the client send less at once"},
	{statusIs(http.StatusServiceUnavailable, true), "the backend asks for fewer requests, or is not available", "wait; max_in_flight of the account of BUCKET bounds what the gateway sends at once"},

	{statusIs(http.StatusUnauthorized, false), "the request has no API key, or one that is no user's", "compare the client's key with the configuration; after a change, reload"},
	{func(l *loggedRequest) bool { return l.Status == 403 && l.UpstreamStatus == 0 && l.User == "" },
		"the signature of the client is not valid, has expired, or names no user", "the access key id is the name of a user, and the secret is the API key; compare clocks; let no proxy change Host or the path"},
	{statusIs(http.StatusForbidden, false), "the user may not do that: by the bucket, the role, a header, or what is copied", "see users.USER.allowed_buckets and users.USER.role"},
	{statusIs(http.StatusNotFound, false), "the bucket is in no account", "add BUCKET to accounts.NAME.buckets, under the account that has it"},
	{statusIs(http.StatusMethodNotAllowed, false), "S3 has no such method for this path", "see the header Allow of the answer"},
	{statusIs(http.StatusConflict, false), "the bucket is declared in the configuration already", "let the client not create it"},
	{statusIs(http.StatusLengthRequired, false), "the upload has no length", "let the client send Content-Length, and for aws-chunked x-amz-decoded-content-length"},
	{statusIs(http.StatusRequestEntityTooLarge, false), "the body is larger than is allowed", "raise max_file_size, or upload in parts"},
	{statusIs(http.StatusTooManyRequests, false), "the user has sent more requests than the window admits", "wait for Retry-After seconds, or raise users.USER.rate_limit.requests"},
	{func(l *loggedRequest) bool { return l.Status == 400 && l.UpstreamStatus == 0 && l.BytesIn > 0 },
		"the body is not what it was declared to be; nothing was stored", "look for a connection that broke, and for what changes the body on the way"},
	{func(l *loggedRequest) bool { return l.Status == 400 && l.UpstreamStatus == 0 && l.Bucket == "" },
		"the path, or what authenticates the request, is not valid", `the answer says what is wrong; keys with slashes need "nested_keys": true`},
	{statusIs(http.StatusBadRequest, false), "a parameter, a header or the body is not valid", "the answer names it"},
	{statusIs(http.StatusNotImplemented, false), "the gateway does not know an operation, a parameter or a header, and does not guess", "the answer names it; do without"},
	{statusIs(http.StatusHTTPVersionNotSupported, false), "the client speaks HTTP/1.0, in which the end of this answer can't be told from a cut", "use HTTP/1.1; nginx: proxy_http_version 1.1"},
	{statusIs(http.StatusInternalServerError, false), "a fault of the gateway", "report it, with the line of the log that has the panic and this request id"},

	{func(l *loggedRequest) bool { return l.Status >= 400 && l.UpstreamCode == "NoSuchBucket" },
		"the backend has no such bucket under the name that the configuration gives", "correct BUCKET in accounts.NAME.buckets, or make the bucket; s3-proxy doctor lists those that the account sees"},
	{statusIs(http.StatusForbidden, true), "the backend refuses it to the account, whoever the user is", "allow it to the account's key, in the policies of the service"},
	{statusIs(http.StatusNotFound, true), "the backend has no such object, version or upload", "look for the key as the log has it"},
	{statusIs(http.StatusPreconditionFailed, true), "a condition of the request does not hold", "this is what the client asked to be told"},
	{statusIs(http.StatusRequestedRangeNotSatisfiable, true), "the object does not have the range", "ask for a range within the object"},
	{func(l *loggedRequest) bool { return l.UpstreamStatus >= 500 }, "the backend failed", "look at the backend's own log, by its request id"},
	{func(l *loggedRequest) bool { return l.UpstreamStatus >= 400 }, "the backend refused the request; status and code are its own", "look up the code in the service's documentation"},
}

// blamed returns a condition: the backend blames the gateway for one of these.
func blamed(kinds ...blame) func(*loggedRequest) bool {
	return func(l *loggedRequest) bool {
		return l.Status >= 400 && slices.Contains(kinds, gatewayErrors[l.UpstreamCode])
	}
}

// statusIs returns a condition: the status, and whether a backend answered.
func statusIs(status int, asked bool) func(*loggedRequest) bool {
	return func(l *loggedRequest) bool { return l.Status == status && (l.UpstreamStatus != 0) == asked }
}

// printable returns a text of the log for a terminal: quoted if a character could act there.
func printable(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return !strconv.IsPrint(c) }) {
		return strconv.Quote(s)
	}
	return s
}
