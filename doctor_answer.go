package main

// A question of the doctor to a backend, and what the answer tells about the settings of its
// account.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	answerTime = 5 * time.Second  // for each answer
	clockDrift = time.Minute      // worth a warning
	clockLimit = 15 * time.Minute // S3 refuses what is signed at a time further off
)

// maxBucketList bounds a list of buckets, in bytes. An account at AWS can have 10,000 buckets; a
// bucket takes about 130 bytes.
const maxBucketList = 2 << 20

// A diagnosis is what is wrong, and what to do. The zero value means that nothing is.
type diagnosis struct{ verdict, text string }

// An s3Answer is a backend's answer to the doctor.
type s3Answer struct {
	call   backendCall
	status int
	header http.Header
	body   []byte
	root   string  // the name of the document's root element; "": it is not XML
	doc    element // the document, if it is an error
	code   string  // of the error, or ""
}

// said returns the code and the message of an error, as far as they may be shown.
func (a *s3Answer) said(s *chapter) string {
	text := fmt.Sprintf("%d %s", a.status, s.foreign(a.code, a.secrets()...))
	if message := a.doc.child("Message"); message != "" {
		text += fmt.Sprintf(": %q", s.foreign(strings.TrimSpace(message), a.secrets()...))
	}
	return text
}

// ask sends a request, once, and reads the answer, by the end of ctx. The gateway would send some
// requests again; but the first failure is what is to be told.
func ask(ctx context.Context, u *upstream, out *outgoing) (*s3Answer, error) {
	out.patience = min(answerTime, u.account.responseHeaderTimeout)
	resp, err := u.once(ctx, out)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	reply, err := s3AnswerOf(u, out, resp)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotEnded, err)
	}
	return reply, nil
}

// errNotEnded is the error of an answer that began.
var errNotEnded = errors.New("the answer does not end")

// listOf returns the request for a list of one object. A HEAD would be shorter, and its answer
// does not say what is wrong. A list of none succeeds at MinIO if the bucket does not exist.
func listOf(b *bucket) *outgoing {
	return newRead(b.target(""), []parameter{{"list-type", "2"}, {"max-keys", "1"}})
}

// s3AnswerOf reads an answer, as much of it as the doctor looks at.
func s3AnswerOf(u *upstream, out *outgoing, resp *http.Response) (*s3Answer, error) {
	a := &s3Answer{status: resp.StatusCode, header: resp.Header}
	a.call.asks(u, out)
	a.call.answered(resp)
	var err error
	limit := int64(maxErrorDocument)
	if out.target == (target{}) {
		limit = maxBucketList
	}
	if a.body, err = io.ReadAll(io.LimitReader(plainBody(resp), limit)); err != nil {
		return nil, err
	}
	if a.root = rootOf(a.body); a.root == "Error" {
		if a.doc, err = parseDocument(bytes.NewReader(a.body), a.root); err == nil {
			a.code, _ = errorCode(&a.doc)
		}
	}
	if a.call.repeats(a.code) {
		a.code = ""
	}
	return a, nil
}

// rootOf returns the name of the root element of a document, which may be cut, or "".
func rootOf(body []byte) string {
	s := newScanner(bytes.NewReader(body))
	for {
		switch kind, err := s.next(); {
		case err != nil:
			return ""
		case kind == startToken:
			return s.name.local
		}
	}
}

// secrets returns what authenticated the request.
func (a *s3Answer) secrets() []string {
	parts := a.call.secrets()
	return slices.Clone(parts[:])
}

// isS3 reports whether the answer is one that an S3 server makes.
func (a *s3Answer) isS3() bool {
	return a.root == "ListBucketResult" || a.root == "ListAllMyBucketsResult" || a.root == "Error" && a.code != ""
}

// skew returns by how much the backend's clock is ahead of this machine's, which read the
// middle of the exchange. The second result is false if the backend does not say what time it is.
func (a *s3Answer) skew(middle time.Time) (time.Duration, bool) {
	date, err := http.ParseTime(a.header.Get("Date"))
	return date.Sub(middle).Round(time.Second), err == nil
}

// clockFinding adds what a difference of clocks means.
func (s *chapter) clockFinding(subject string, ahead time.Duration) {
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	switch off := ahead.Abs(); {
	case off >= clockLimit:
		s.add(subject, "clock_wrong", "the backend's clock is %s %s this machine's; set the one that is wrong (NTP): more than 15 minutes are refused", off, direction)
	case off >= clockDrift:
		s.add(subject, "clock_drift", "the backend's clock is %s %s this machine's; set the one that is wrong (NTP), before it is more than 15 minutes", off, direction)
	default:
		s.add(subject, "clock_ok", "the clocks agree")
	}
}

// accountDiagnosis returns what the answer to a list says about its account, whatever the
// bucket is; the zero value if that is nothing bad. The path is that of the account's
// settings.
func (a *s3Answer) accountDiagnosis(s *chapter, path string) diagnosis {
	switch gatewayErrors[a.code] {
	case blamesKeyID:
		return diagnosis{"key_unknown", fmt.Sprintf("the backend does not know the access key id; correct %s.access_key_id, or endpoint_url, if the key is another service's", path)}
	case blamesSignature:
		return diagnosis{"secret_wrong", fmt.Sprintf("the backend knows the access key id, and not the signature; correct %s.secret_access_key (a proxy that changes the path or the host would look the same)", path)}
	case blamesToken, blamesTokenSupport:
		return diagnosis{"token_wrong", fmt.Sprintf("the backend answers %s; renew %s.session_token, or leave it out for a key that lasts", a.code, path)}
	case blamesClock:
		return diagnosis{"clock_wrong", "the backend refuses the time of the request; set the clock of this machine, or of the backend (NTP)"}
	}
	switch {
	case a.code == "InvalidArgument" && strings.Contains(a.doc.child("Message"), "API port"):
		return diagnosis{"not_s3", fmt.Sprintf("the address is that of MinIO's console; write the one of its S3 service, which has another port, into %s.endpoint_url", path)}
	case a.isS3() && a.status >= 500, a.status == http.StatusTooManyRequests:
		return diagnosis{"backend_error", fmt.Sprintf("the backend answers %s; look at its log", a.said(s))}
	case a.isS3():
		return diagnosis{}
	case a.status >= 300 && a.status < 400:
		return diagnosis{"redirected", fmt.Sprintf("the address redirects (%d)%s; write the address of the S3 service itself into %s.endpoint_url", a.status, redirectHint(a.header), path)}
	case a.status >= 500:
		return diagnosis{"backend_error", fmt.Sprintf("the address answers %d and no S3 document; is the service behind it running?", a.status)}
	}
	return diagnosis{"not_s3", fmt.Sprintf("the address answers %d with %s, not as an S3 server does; correct %s.endpoint_url: a console has another port than the service", a.status, a.kind(), path)}
}

func redirectHint(h http.Header) string {
	if strings.HasPrefix(h.Get("Location"), "https://") {
		return ", to https"
	}
	return ""
}

// kind says what a document is that no S3 server writes.
func (a *s3Answer) kind() string {
	switch text := strings.ToLower(string(a.body[:min(len(a.body), 512)])); {
	case text == "":
		return "nothing"
	case strings.Contains(text, "<html"), strings.Contains(text, "<!doctype html"):
		return "a web page"
	case a.root != "":
		return "another XML document"
	case text[0] == '{':
		return "JSON"
	}
	return "some text"
}

// bucketDiagnosis returns what the answer to a list says about its bucket; the zero value if
// all is well.
func (a *s3Answer) bucketDiagnosis(s *chapter, b *bucket) diagnosis {
	switch {
	case a.root == "ListBucketResult" && a.status == http.StatusOK:
		return diagnosis{}
	case a.root == "ListAllMyBucketsResult":
		return diagnosis{verdict: "addressing_wrong"}
	}
	switch a.code {
	case "NoSuchBucket":
		return diagnosis{"bucket_missing", fmt.Sprintf("the service has no bucket %s; make it, or correct its name in accounts.%s.buckets", b.backendName, b.account.name)}
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return diagnosis{"bucket_denied", fmt.Sprintf("the account's key may not list %s (%s); allow s3:ListBucket, or correct the name if the bucket is somebody else's", b.backendName, a.said(s))}
	}
	if d := a.regionDiagnosis(s, b); d.verdict != "" {
		return d
	}
	return diagnosis{"backend_refuses", fmt.Sprintf("the backend answers %s; look up the code in the service's documentation", a.said(s))}
}

// regionDiagnosis returns the diagnosis of an error about regions.
func (a *s3Answer) regionDiagnosis(s *chapter, b *bucket) diagnosis {
	at := "accounts." + b.account.name
	expected := expectedRegion(a.header, &a.doc)
	switch {
	case gatewayErrors[a.code] != blamesPlace:
		return diagnosis{}
	case expected == b.account.region:
		return diagnosis{"endpoint_wrong", fmt.Sprintf("the bucket is in the region %s, and %s.endpoint_url is another region's; write the address of that region", expected, at)}
	case expected != "":
		return diagnosis{"region_wrong", fmt.Sprintf("the backend expects the region %q, not %q; write it into %s.region, and into endpoint_url if that names a region", s.foreign(expected, a.secrets()...), b.account.region, at)}
	case a.code == "AuthorizationHeaderMalformed":
		return diagnosis{"region_wrong", fmt.Sprintf("the backend does not accept the region %q and names no other; correct %s.region", b.account.region, at)}
	}
	return diagnosis{"endpoint_wrong", fmt.Sprintf("the backend answers %s: the bucket has another address; correct %s.endpoint_url", a.code, at)}
}

func hostOf(b *bucket) string {
	host, _ := (&upstream{account: b.account}).address(b.target(""))
	return host
}

// failureDiagnosis returns what an error of a request on an open connection means.
func failureDiagnosis(host, setting string, err error) diagnosis {
	switch {
	case errors.Is(err, errNotEnded):
		return diagnosis{"no_answer", fmt.Sprintf("%s begins an answer and does not end it; does the service work?", host)}
	case errors.Is(err, errNoProgress) || isTimeout(err):
		return diagnosis{"no_answer", fmt.Sprintf("%s accepts a connection and does not answer; is it the right port, and does the service work?", host)}
	case isTransport(err), isRefusal(err): // refused after many that failed
		return diagnosis{"broken_off", fmt.Sprintf("%s breaks the connection off without an answer; is it the right port of %s?", host, setting)}
	}
	return diagnosis{"not_http", fmt.Sprintf("what %s answers is not HTTP (%s); correct the port of %s", host, ownWords(err), setting)}
}

// bucketNames returns the names in a list of buckets. A list that was cut is an error.
func (a *s3Answer) bucketNames() (names []string, err error) {
	doc, err := parseDocument(bytes.NewReader(a.body), "ListAllMyBucketsResult")
	if err != nil {
		return nil, err
	}
	if buckets := doc.first("Buckets"); buckets != nil {
		for _, b := range buckets.children {
			if listed := b.child("Name"); validBackendName.MatchString(listed) {
				names = append(names, listed)
			}
		}
	}
	return names, nil
}
