package main

// Answers that name the bucket or the place of an object: they are read and
// written anew with the names the client knows. Two of them, of operations that
// may take minutes, begin before there is a result, with white space to keep the
// connection alive, and may then hold an error under the status 200.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"
)

// slowAnswer is how long the answer to an operation may take that moves data
// inside a backend: S3 says minutes.
const slowAnswer = 15 * time.Minute

// completeMultipartUpload forwards the list of parts.
func (g *gateway) completeMultipartUpload(x *exchange) *apiError {
	out, refusal := g.outgoing(x)
	if refusal != nil {
		return refusal
	}
	doc, refusal := x.readDocument()
	if refusal != nil {
		return refusal
	}
	defer doc.free()
	x.setDocument(out, doc)
	out.patience = slowAnswer
	resp, refusal := g.send(x, out)
	if refusal != nil {
		return refusal
	}
	defer resp.Body.Close()
	return x.relay(resp)
}

// relay answers with the document of a slow operation: what comes before its
// root at once, the rest when it is there. An error in it is passed on under its 200,
// as S3 does it; the log and the metrics count the error. HTTP/1.0 has all of it at the
// end, with its length.
func (x *exchange) relay(resp *http.Response) *apiError {
	if x.isHTTP10() {
		return x.answer(resp)
	}
	h := x.Header()
	returnErrorHeader(h, resp.Header)
	h["Content-Type"] = []string{"application/xml"}
	x.WriteHeader(resp.StatusCode)
	body := bufio.NewReader(plainBody(resp))
	if err := x.relayProlog(body); err != nil {
		x.abort(err)
	}
	doc, err := parseDocument(body, "")
	if err != nil {
		x.abort(err)
	}
	form, refusal := x.checkDocument(&doc, answers[x.op.name])
	switch {
	case refusal == nil:
		x.Write(x.answerWriter().appendRoot(nil, &doc, form))
	case refusal.cause == errUnder200:
		x.Write(bytes.TrimPrefix(appendErrorXML(nil, refusal, x.resource(), x.id), []byte(xmlHeader)))
		x.status, x.cause, x.upstreamCode = refusal.Status, refusal.cause, refusal.upstreamCode
	default:
		x.abort(refusal)
	}
	return nil
}

// relayProlog passes on the XML declaration, which ours takes the place of, and
// white space, up to the root element.
func (x *exchange) relayProlog(body *bufio.Reader) error {
	if _, err := io.WriteString(x, xmlHeader); err != nil {
		return err
	}
	for declared := false; ; {
		next, err := body.Peek(1)
		if err != nil {
			return noEOF(err)
		}
		switch next[0] {
		case '<':
			if next, err = body.Peek(2); err != nil || next[1] != '?' || declared {
				return err
			}
			declared = true
			if _, err := body.ReadSlice('>'); err != nil {
				return noEOF(err)
			}
		case ' ', '\t', '\r', '\n':
			body.Discard(1)
		default:
			return errors.New("text before the document")
		}
		if body.Buffered() > 0 {
			continue
		}
		if _, err := x.Write([]byte(" ")); err != nil { // a sign of life, before we wait
			return err
		}
		if err := x.flush(); err != nil {
			return err
		}
	}
}
