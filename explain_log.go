package main

// What became of a request that is in the log, in words: what happened, and what to do. It
// knows the fields of a line as docs/metrics-and-logs.md has them, and no configuration.

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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
	Account           string
	Key               string
	Status            int
	Code              string
	Reason            string
	BytesIn           int64   `json:"bytes_in"`
	BytesOut          int64   `json:"bytes_out"`
	Duration          float64 `json:"duration_ms"`
	Message           string
	UpstreamStatus    int     `json:"upstream_status"`
	UpstreamDuration  float64 `json:"upstream_ms"`
	UpstreamRequestID string  `json:"upstream_request_id"`
	UpstreamCode      string  `json:"upstream_code"`
	UpstreamMessage   string  `json:"upstream_message"`
	ExpectedRegion    string  `json:"expected_region"`
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

// findLogged returns the line of a request. The log may be compressed by gzip, and its lines may have
// something before the JSON, as some collectors of logs put it there. Lines of others are passed over.
func findLogged(r io.Reader, id string) (*loggedRequest, error) {
	lines, err := uncompressed(bufio.NewReaderSize(r, maxLogLine))
	if err != nil {
		return nil, err
	}
	id = strings.ToUpper(id)
	read, inJSON := 0, 0
	for {
		line, err := nextLine(lines)
		if len(line) > 0 {
			read++
		}
		if start := bytes.IndexByte(line, '{'); start >= 0 {
			inJSON++
			var l loggedRequest
			if bytes.Contains(line, []byte(id)) && json.Unmarshal(line[start:], &l) == nil && l.Msg == "request" && l.RequestID == id {
				return &l, nil
			}
		}
		switch {
		case err == nil:
		case err != io.EOF:
			return nil, err
		case read > 0 && inJSON == 0:
			return nil, errors.New("no line is JSON; the gateway writes JSON with -log-format json, or to a file")
		default:
			return nil, fmt.Errorf("no request %s in %s; look in the files before a rotation, and in the logs of other gateways", id, plural(read, "line"))
		}
	}
}

// uncompressed returns what a reader has, without the compression of gzip.
func uncompressed(in *bufio.Reader) (*bufio.Reader, error) {
	if start, _ := in.Peek(2); string(start) != "\x1f\x8b" {
		return in, nil
	}
	text, err := gzip.NewReader(in)
	if err != nil {
		return nil, err
	}
	return bufio.NewReaderSize(text, maxLogLine), nil
}

// nextLine returns the next line, with its end. Of one that is too long for this log it returns the
// last part. The error is io.EOF with the last line.
func nextLine(in *bufio.Reader) (line []byte, err error) {
	for {
		if line, err = in.ReadSlice('\n'); err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

// isRefusal reports whether the gateway answered with an error and asked no backend.
func (l *loggedRequest) isRefusal() bool {
	status := l.Status
	return l.UpstreamStatus == 0 && (status >= 400 && status < statusClientGone || status == http.StatusNotImplemented)
}

// explainable are the reasons that explain, asked for the same request, finds too: those of rights
// and of what the head of a request says. It would let pass what was refused for the load at that
// moment, for a body, or for a signature or key, which -user replaces.
var explainable = map[refusalReason]bool{
	reasonBucketNotAllowed: true, reasonUnknownBucket: true, reasonRole: true, reasonDeclared: true,
	reasonHost: true, reasonPath: true, reasonMethod: true, reasonOperation: true, reasonCORS: true,
	reasonParameter: true, reasonHeader: true, reasonLength: true, reasonCopySource: true,
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
	for _, s := range []explainedStep{{kind, "reason", l.Reason}, {kind, "message", l.Message}, {kind, "its cause", l.Cause}} {
		if s.text != "" {
			s.text = printable(s.text)
			all = append(all, s)
		}
	}
	why, remedy := l.words()
	all = append(all, explainedStep{kind, "why", why})
	if remedy != "nothing" {
		all = append(all, explainedStep{severityWarning, "to do", remedy})
	}
	if l.User != "" && l.isRefusal() && l.Bucket != "" && explainable[refusalReason(l.Reason)] {
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
	if l.UpstreamMessage != "" {
		text += ": " + strconv.Quote(l.UpstreamMessage)
	}
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
			why, remedy = rule.why, rule.remedy
			break
		}
	}
	if known := refusalReason(l.Reason).text(); known != nil {
		if why != "" {
			why += "; "
		}
		why, remedy = why+known.meaning, known.remedy
	}
	if l.ExpectedRegion != "" {
		remedy = "set region of accounts.ACCOUNT to " + strconv.Quote(l.ExpectedRegion) + ", and endpoint_url if it names a region"
	}
	names := strings.NewReplacer("USER", cmp.Or(printable(l.User), printable(l.ClaimedUser), "NAME"), "BUCKET", cmp.Or(printable(l.Bucket), "NAME"), "ACCOUNT", cmp.Or(printable(l.Account), "NAME"))
	return cmp.Or(why, "the backend answered with an error of its own"), cmp.Or(names.Replace(remedy), "look up the code in the service's documentation")
}

// missingObject are the codes with which a backend says that there is no such object, version or upload.
var missingObject = map[string]bool{"NoSuchKey": true, "NoSuchVersion": true, "NoSuchUpload": true, "NotFound": true}

// A logRule says in words what a line without a reason means, or one of an answer that broke off.
type logRule struct {
	when        func(*loggedRequest) bool
	why, remedy string
}

// logRules are the meanings of such lines. The first that fits counts.
var logRules = []logRule{
	{func(l *loggedRequest) bool { return l.Status == statusClientGone },
		"the client left before it had an answer", "look at the time-out of the client, and of a proxy before the gateway"},
	{func(l *loggedRequest) bool { return l.Aborted },
		"the answer broke off before its end, and so did the connection: the client must not take it for the whole",
		"the cause says which side stopped: a client that takes nothing (server.idle_timeout), or a backend that breaks off"},
	{func(l *loggedRequest) bool { return l.Status < 400 && l.Resumed > 0 },
		"the client has the whole answer, although the backend broke it off", "look at the backend, and at what is between it and the gateway"},
	{func(l *loggedRequest) bool { return l.Status < 400 }, "the request was answered", "nothing"},
	{func(l *loggedRequest) bool {
		return backendSays(http.StatusNotFound)(l) && l.UpstreamCode != "" && !missingObject[l.UpstreamCode]
	}, "the backend does not have what was asked for; the code says what it is", "set it, if the client needs it"},
	{backendSays(http.StatusNotFound), "the backend has no such object, version or upload", "look for the key as the log has it"},
	{backendSays(http.StatusPreconditionFailed), "a condition of the request does not hold", "this is what the client asked to be told"},
	{backendSays(http.StatusRequestedRangeNotSatisfiable), "the object does not have the range", "ask for a range within the object"},
}

// backendSays returns a condition: the backend answered with this status.
func backendSays(status int) func(*loggedRequest) bool {
	return func(l *loggedRequest) bool { return l.UpstreamStatus == status && l.Reason == "" }
}

// printable returns a text of the log for a terminal: quoted if a character could act there.
func printable(s string) string {
	if strings.ContainsFunc(s, func(c rune) bool { return !strconv.IsPrint(c) }) {
		return strconv.Quote(s)
	}
	return s
}
