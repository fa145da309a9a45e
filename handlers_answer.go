package main

// Answers by their kind: see xml_answers.go. Bytes of objects are streamed; all else
// is read first, so that what the client gets is what the gateway has understood.

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxPolicy bounds a bucket policy, in bytes: S3 has 20 KiB.
const maxPolicy = 64 << 10

// maxAnswerDepth bounds the elements within elements of an answer that is no list of
// keys: ListInventoryConfigurationsResult has seven.
const maxAnswerDepth = 8

// errUnder200 is what the log says of a success that holds an error.
var errUnder200 = errors.New("the backend answered 200 with an error inside")

// relay hands on an answer, which is a success, as its operation has it.
func (x *exchange) relay(resp *http.Response) *apiError {
	a := answerSpecs[x.op.name]
	switch {
	case resp.StatusCode == http.StatusNotModified, x.r.Method == http.MethodHead:
		x.respond(resp)
		return nil
	case a.kind == objectBytes && x.isHTTP10() && resp.ContentLength < 0:
		return x.respondWhole(resp)
	case a.kind == objectBytes:
		x.respond(resp)
		return nil
	case a.kind == xmlDocument:
		doc, form, err := x.readAnswer(plainBody(resp), a)
		if err != nil {
			return err
		}
		return x.passDocument(resp, &doc, form)
	case a.kind == jsonDocument:
		return x.passPolicy(resp)
	}
	return x.passNothing(resp)
}

// passNothing answers without a body.
func (x *exchange) passNothing(resp *http.Response) *apiError {
	if refusal := x.readNothing(resp); refusal != nil {
		return refusal
	}
	returnErrorHeader(x.Header(), resp.Header)
	if resp.StatusCode != http.StatusNoContent {
		x.Header()["Content-Length"] = []string{"0"}
	}
	x.WriteHeader(resp.StatusCode)
	return nil
}

// readNothing reads an answer that has no body. One that comes all the same is read for
// the error that it may be.
func (x *exchange) readNothing(resp *http.Response) *apiError {
	if resp.ContentLength == 0 || resp.StatusCode == http.StatusNoContent {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(plainBody(resp), maxErrorDocument))
	if err != nil {
		return x.transportError(err)
	}
	if doc, err := parseDocument(bytes.NewReader(body), "Error"); err == nil {
		return x.hiddenError(&doc)
	}
	return nil
}

// readAnswer reads an answer to its end and returns its document, which has one of
// the forms of a. A document Error is an error, whatever the status says.
func (x *exchange) readAnswer(body io.Reader, a answerSpec) (element, *answerForm, *apiError) {
	s := newScanner(body)
	s.maxDepth = maxAnswerDepth
	s.memory = x.countAnswer()
	doc, err := s.document("")
	if err == nil {
		err = s.ends()
	}
	if err != nil {
		return doc, nil, x.transportError(err)
	}
	form, refusal := x.checkDocument(&doc, a)
	return doc, form, refusal
}

// checkDocument returns the form of a document, which is one of a's and has what it
// needs.
func (x *exchange) checkDocument(doc *element, a answerSpec) (*answerForm, *apiError) {
	if doc.name == "Error" {
		return nil, x.hiddenError(doc)
	}
	form := a.form(doc.name)
	if form == nil {
		return nil, badGateway(fmt.Errorf("want a document %s, have %s", a.forms[0].names[0], rootName(doc.name)))
	}
	if err := form.root.check(doc); err != nil {
		return nil, badGateway(err)
	}
	if x.check != nil {
		if err := x.check(doc); err != nil {
			return nil, badGateway(err)
		}
	}
	if form.list != nil {
		if _, err := form.list.last(doc, x.query); err != nil {
			return nil, badGateway(err)
		}
	}
	return form, nil
}

// hiddenError is the error that came under a status of success.
func (x *exchange) hiddenError(doc *element) *apiError {
	e := x.backend.withoutEchoes(errorInDocument(doc))
	e.cause = errUnder200
	return e
}

// passDocument writes a document as the client gets it.
func (x *exchange) passDocument(resp *http.Response, doc *element, form *answerForm) *apiError {
	b := x.answerWriter().appendRoot([]byte(xmlHeader), doc, form)
	*doc = element{} // before a slow client is waited for
	if err := x.keepAnswer(cap(b)); err != nil {
		return err
	}
	returnErrorHeader(x.Header(), resp.Header) // all but what describes the other body
	x.writeDocument("application/xml", b)
	return nil
}

// answerWriter writes documents for the client of this exchange.
func (x *exchange) answerWriter() *answerWriter {
	return &answerWriter{
		user:   x.user.name,
		bucket: x.target.bucket,
		key:    x.target.key,
		url:    x.origin() + "/" + x.target.bucket + "/" + uriEncode(x.target.key, false),
		places: x.user.mayEverything(),
		echo:   x.backend.repeats,
	}
}

// passPolicy hands on a policy. It is nothing but accounts, roles and places.
func (x *exchange) passPolicy(resp *http.Response) *apiError {
	body, err := io.ReadAll(io.LimitReader(plainBody(resp), maxPolicy+1))
	switch {
	case err != nil:
		return x.transportError(err)
	case len(body) > maxPolicy:
		return badGateway(errors.New("a policy larger than policies are"))
	}
	if doc, err := parseDocument(bytes.NewReader(body), "Error"); err == nil {
		return x.hiddenError(&doc)
	}
	var policy map[string]json.RawMessage
	if err := json.Unmarshal(body, &policy); err != nil {
		return badGateway(errors.New("a policy that is not a JSON object"))
	}
	returnErrorHeader(x.Header(), resp.Header)
	x.writeDocument("application/json", body)
	return nil
}

// plainBody is the body of an answer that the gateway itself reads. It asks for one
// that is not compressed; gzip it understands all the same, as some servers and the
// proxies before them compress whatever they send. Any other coding is an error of
// the first Read.
func plainBody(resp *http.Response) io.Reader {
	encodings, _ := withoutChunked(resp.Header)
	switch coding := strings.ToLower(encodings); coding {
	case "", "identity":
		return resp.Body
	case "gzip", "x-gzip":
		return &gzipReader{body: resp.Body}
	default:
		return &gzipReader{err: errors.New("a document with a content encoding other than gzip")}
	}
}

// plainLength is the length of plainBody, or -1 if it is not known.
func plainLength(resp *http.Response) int64 {
	if len(resp.Header["Content-Encoding"]) > 0 {
		return -1
	}
	return resp.ContentLength
}

// A gzipReader reads the head of a gzip stream when it is asked for the first byte,
// and not before.
type gzipReader struct {
	body  io.Reader
	plain *gzip.Reader
	err   error
}

// Read implements io.Reader.
func (z *gzipReader) Read(p []byte) (int, error) {
	if z.plain == nil && z.err == nil {
		z.plain, z.err = gzip.NewReader(z.body)
	}
	if z.err != nil {
		return 0, z.err
	}
	return z.plain.Read(p)
}

// What an answer holds without a part of the budget, in bytes: while it is read, a page
// of 1,000 usual keys and their owners; while its client takes it, such a page as it is
// sent. So usual lists are never refused, however many there are, and what is larger
// has the same bounds as documents of requests.
const (
	readAllowance = 3 << 19
	sentAllowance = 1 << 19
)

// countAnswer has the memory of an answer counted from here on, as it is read.
func (x *exchange) countAnswer() *holding {
	x.answered.free()
	x.answered = holding{share: x.documentShare(), allowance: readAllowance}
	return &x.answered
}

// keepAnswer has n bytes counted in place of what was read of an answer: those that wait
// for the client to take them.
func (x *exchange) keepAnswer(n int) *apiError {
	x.answered.free()
	x.answered.allowance = sentAllowance
	if x.answered.reserve(n) != nil {
		return outOfMemory()
	}
	return nil
}

// respond streams a backend's answer to the client. If either of them breaks
// off, so does the answer.
func (x *exchange) respond(resp *http.Response) {
	returnHeader(x.Header(), resp.Header)
	x.WriteHeader(resp.StatusCode)
	if x.r.Method == http.MethodHead {
		return
	}
	if err := x.sendBody(resp.Body.(*answerBody)); err != nil {
		x.abort(err)
	}
}

// maxUnsized bounds the answers that are read whole because an HTTP/1.0 client must be
// told their length, in bytes.
const maxUnsized = 256 << 10

// errUnsized refuses an answer to an HTTP/1.0 client.
func errUnsized() *apiError {
	return newError("HTTPVersionNotSupported", "the length of this answer is not known before its end, and HTTP/1.0 can't tell an end from a break: use HTTP/1.1, or ask for a list in pages")
}

// respondWhole answers an HTTP/1.0 client with a body that came without a length, once
// it is here.
func (x *exchange) respondWhole(resp *http.Response) *apiError {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxUnsized+1))
	if err != nil {
		return x.transportError(noEOF(err))
	}
	if len(body) > maxUnsized {
		return errUnsized()
	}
	h := x.Header()
	returnHeader(h, resp.Header)
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(resp.StatusCode)
	x.Write(body)
	return nil
}
