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

// passDocument forwards a request without a body whose answer is a document.
func (g *gateway) passDocument(x *exchange) *apiError {
	out, refusal := g.outgoing(x)
	if refusal != nil {
		return refusal
	}
	resp, refusal := g.send(x, out)
	if refusal != nil {
		return refusal
	}
	defer resp.Body.Close()
	doc, err := parseDocument(resp.Body, "")
	if err != nil {
		return badGateway(err)
	}
	returnErrorHeader(x.Header(), resp.Header) // all but what describes the other body
	x.writeDocument("application/xml", x.rewritten(doc))
	return nil
}

// completeMultipartUpload forwards the list of parts.
func (g *gateway) completeMultipartUpload(x *exchange) *apiError {
	body, refusal := x.readSmall()
	if refusal != nil {
		return refusal
	}
	out, refusal := g.outgoing(x)
	if refusal != nil {
		return refusal
	}
	out.setDocument(body)
	out.patience = slowAnswer
	resp, refusal := g.send(x, out)
	if refusal != nil {
		return refusal
	}
	defer resp.Body.Close()
	x.relay(resp)
	return nil
}

// relay answers with the document of a slow operation: what comes before its
// root at once, the rest when it is there. An error in it is passed on as it is,
// under its 200, and logged.
func (x *exchange) relay(resp *http.Response) {
	h := x.Header()
	returnErrorHeader(h, resp.Header)
	h["Content-Type"] = []string{"application/xml"}
	x.WriteHeader(resp.StatusCode)
	body := bufio.NewReader(resp.Body)
	if err := x.relayProlog(body); err != nil {
		x.abort(err)
	}
	doc, err := parseDocument(body, "")
	if err != nil {
		x.abort(err)
	}
	if doc.name == "Error" {
		x.upstreamCode = shortened(doc.child("Code"), 64)
		x.cause = errors.New("the backend answered 200 with an error inside")
	}
	x.Write(bytes.TrimPrefix(x.rewritten(doc), []byte(xmlHeader)))
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
		if err := x.control.Flush(); err != nil {
			return err
		}
	}
}

// rewritten writes a document with the bucket's name in front in place of the
// one behind, and the gateway's address in place of the backend's. Within an
// Error it writes what is safe to know.
func (x *exchange) rewritten(doc element) []byte {
	if doc.name == "Error" {
		e := upstreamError(http.StatusInternalServerError, nil, bytes.NewReader(appendTree(nil, &doc, false)))
		return appendErrorXML(nil, e, x.resource(), x.id)
	}
	for i, e := range doc.children {
		switch e.name {
		case "Bucket", "Name":
			doc.children[i].setText(x.target.bucket)
		case "Location":
			doc.children[i].setText(x.origin() + "/" + x.target.bucket + "/" + uriEncode(x.target.key, false))
		}
	}
	b := append([]byte(xmlHeader+"<"), doc.name...)
	b = append(b, ` xmlns="`+s3Namespace+`">`...)
	for _, e := range doc.children {
		b = appendTree(b, &e, false)
	}
	return append(append(append(b, "</"...), doc.name...), '>')
}
