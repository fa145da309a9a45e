package main

// How the answer of a backend reaches the client, by the kind of the answer: bytes of
// objects are streamed, and everything else is read first, so that the client gets only
// what the gateway has understood. It knows kinds of answers, which xml_answers.go gives to
// operations, and not the operations.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// maxPolicy is the largest bucket policy that is passed on, in bytes. S3 allows 20 KiB.
const maxPolicy = 64 << 10

// maxAnswerDepth is how deeply elements may be nested in a document that is not a list of
// keys. ListInventoryConfigurationsResult has seven levels.
const maxAnswerDepth = 8

// errUnder200 is the cause, in the log, of an error that came under a status of success.
var errUnder200 = errors.New("the backend answered 200 with an error inside")

// relay passes on a successful answer, by the kind that its operation has.
func (x *exchange) relay(resp *http.Response) *apiError {
	a := answerSpecs[x.op.name]
	switch {
	case resp.StatusCode == http.StatusNotModified, x.r.Method == http.MethodHead:
		x.writeHead(resp)
		return nil
	case a.kind == objectBytes && x.isHTTP10() && resp.ContentLength < 0:
		return x.respondWhole(resp)
	case a.kind == objectBytes:
		return x.respond(resp)
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
	returnHeaderWithoutBody(x.Header(), resp.Header)
	if resp.StatusCode != http.StatusNoContent {
		x.Header()["Content-Length"] = []string{"0"}
	}
	x.WriteHeader(resp.StatusCode)
	return nil
}

// readNothing reads an answer that should have no body. If it has one, the body may be an
// error.
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

// readAnswer reads an answer to its end. It returns the document, and which of the forms in a
// it has. It returns an error for a document Error, whatever the status is.
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

// checkDocument returns the form of a document. It returns an error for one that has no
// form of a, or lacks what its form needs.
func (x *exchange) checkDocument(doc *element, a answerSpec) (*answerForm, *apiError) {
	if doc.name == "Error" {
		return nil, x.hiddenError(doc)
	}
	form := a.form(doc.name)
	if form == nil {
		return nil, badGateway(fmt.Errorf("the document must be %s, not %s", a.forms[0].names[0], rootName(doc.name)))
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
	x.backend.upstream.provesS3()
	return form, nil
}

// hiddenError returns the error of a document that came under a status of success.
func (x *exchange) hiddenError(doc *element) *apiError {
	e := x.backend.withoutEchoes(errorInDocument(doc))
	e.cause = errUnder200
	return e
}

// passDocument writes a document for the client.
func (x *exchange) passDocument(resp *http.Response, doc *element, form *answerForm) *apiError {
	b := x.answerWriter().appendRoot([]byte(xmlHeader), doc, form)
	*doc = element{} // before waiting for a slow client
	if err := x.keepAnswer(cap(b)); err != nil {
		return err
	}
	returnHeaderWithoutBody(x.Header(), resp.Header) // all headers except those that describe the backend's body
	x.writeDocument("application/xml", b)
	return nil
}

// answerWriter returns a writer of documents for the client of this exchange.
func (x *exchange) answerWriter() *answerWriter {
	return &answerWriter{
		user:   x.user.name,
		bucket: x.target.bucket,
		key:    x.target.key,
		url:    x.origin() + "/" + x.target.bucket + "/" + uriEncode(x.target.key, false),
		places: x.user.isFullAdmin(),
		echo:   x.backend.repeats,
	}
}

// passPolicy passes on a bucket policy unchanged, if it is a JSON object. It has nothing
// but accounts, roles and ARNs, and only admins of all buckets get it.
func (x *exchange) passPolicy(resp *http.Response) *apiError {
	body, err := io.ReadAll(io.LimitReader(plainBody(resp), maxPolicy+1))
	switch {
	case err != nil:
		return x.transportError(err)
	case len(body) > maxPolicy:
		return badGateway(errors.New("a policy that is too large"))
	}
	if doc, err := parseDocument(bytes.NewReader(body), "Error"); err == nil {
		return x.hiddenError(&doc)
	}
	var policy map[string]json.RawMessage
	if err := json.Unmarshal(body, &policy); err != nil {
		return badGateway(errors.New("a policy that is not a JSON object"))
	}
	returnHeaderWithoutBody(x.Header(), resp.Header)
	x.writeDocument("application/json", body)
	return nil
}

// The memory that each answer may use without being counted, in bytes. It is enough for a
// page of 1,000 usual keys with their owners, so a usual list is never refused, however
// many there are at a time. An answer that needs more shares the memory for documents with
// those of requests.
const (
	readAllowance = 3 << 19 // while the answer is read
	sentAllowance = 1 << 19 // while it is sent
)

// countAnswer starts to count the memory of an answer that is about to be read.
func (x *exchange) countAnswer() *holding {
	x.answered.free()
	x.answered = holding{share: x.documentShare(), allowance: readAllowance}
	return &x.answered
}

// keepAnswer counts n bytes that are to be sent in place of those of the answer that was
// read.
func (x *exchange) keepAnswer(n int) *apiError {
	x.answered.free()
	x.answered.allowance = sentAllowance
	if x.answered.reserve(n) != nil {
		return outOfMemory()
	}
	return nil
}

// maxUnsized is the largest answer, in bytes, that is read whole because an HTTP/1.0
// client must be told its length.
const maxUnsized = 256 << 10

// unsizedError returns the error for an HTTP/1.0 client whose answer is too large for that.
func unsizedError() *apiError {
	return newError(reasonHTTPVersion, "HTTPVersionNotSupported", "the length of this answer is not known before its end, and with HTTP/1.0 the end can't be told from a broken connection: use HTTP/1.1, or ask for a list in pages")
}

// respondWhole reads a body that came without a length, and answers an HTTP/1.0 client
// with it.
func (x *exchange) respondWhole(resp *http.Response) *apiError {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxUnsized+1))
	if err != nil {
		return x.transportError(noEOF(err))
	}
	if len(body) > maxUnsized {
		return unsizedError()
	}
	h := x.Header()
	returnHeader(h, resp.Header)
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.WriteHeader(resp.StatusCode)
	x.Write(body)
	return nil
}
