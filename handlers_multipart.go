package main

// CompleteMultipartUpload, and what it has in common with a copy: the backend may
// take minutes, and may begin its answer before it has a result.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

import (
	"bufio"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
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
	return g.slowly(x, func(h *heartbeat) ([]byte, *apiError) { return g.relaySlowly(x, out, h) })
}

// relaySlowly sends a request and returns the document of the answer, from its root
// element on.
func (g *gateway) relaySlowly(x *exchange, out *outgoing, h *heartbeat) ([]byte, *apiError) {
	resp, refusal := x.send(x.bucket, out)
	if refusal != nil {
		return nil, refusal
	}
	defer resp.Body.Close()
	h.answered(resp.Header)
	body := bufio.NewReader(plainBody(resp))
	if err := h.relayProlog(body); err != nil {
		return nil, x.transportError(err)
	}
	doc, form, refusal := x.readAnswer(body, answers[x.op.name])
	if refusal != nil {
		return nil, refusal
	}
	b := x.answerWriter().appendRoot(nil, &doc, form)
	return b, x.keepAnswer(cap(b))
}

// relayProlog reads the XML declaration and white space up to the root element. White
// space that comes by itself is a sign of life, and passed on.
func (h *heartbeat) relayProlog(body *bufio.Reader) error {
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
		if err := h.space(); err != nil { // before we wait
			return err
		}
	}
}

// maxChecksumText bounds a checksum, in bytes: a SHA-512 in base64 has 88.
const maxChecksumText = 128

var completeForm = requestForm{root: "CompleteMultipartUpload", depth: 3, members: members("Part+", "Part/PartNumber", "Part/ETag", "Part/Checksum*")}

// readComplete checks that parts have numbers, which ascend. A server that sorts
// them makes another object of a list out of order than the one that was meant.
func readComplete(x *exchange) visit {
	number, last := 0, 0 // of the part that is read, and of the one before
	return func(path string, text []byte) (keep bool, err error) {
		switch path {
		case "Part/PartNumber":
			n, err := strconv.ParseUint(string(text), 10, 16)
			if err != nil || n < 1 || n > maxParts {
				return false, fmt.Errorf("PartNumber must be a number from 1 to %d", maxParts)
			}
			number = int(n)
		case "Part/ETag":
			return true, checkToken(path, text)
		case "Part":
			if number == 0 {
				return false, errors.New("a Part without a PartNumber")
			}
			if number <= last {
				return false, newError("InvalidPartOrder", "")
			}
			number, last = 0, number
		case "":
			if last == 0 {
				return false, errors.New("a list without a Part")
			}
		default: // a checksum
			if len(text) > maxChecksumText {
				return false, fmt.Errorf("%s is longer than %d bytes", path, maxChecksumText)
			}
			return x.takesChecksums(), checkToken(path, text)
		}
		return true, nil
	}
}

// checkToken holds what a service has issued to the rule for such values.
func checkToken(path string, text []byte) error {
	if err := markerID(string(text)); err != nil {
		return newError("InvalidArgument", fmt.Sprintf("%s %v", path, err))
	}
	return nil
}
