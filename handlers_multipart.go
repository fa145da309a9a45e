package main

// CompleteMultipartUpload. Like a copy it may take the backend minutes, and the answer may
// begin before there is a result.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html

import (
	"errors"
	"fmt"
	"strconv"
)

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

// maxChecksumText bounds a checksum, in bytes: a SHA-512 in base64 has 88.
const maxChecksumText = 128

var completeForm = requestForm{root: "CompleteMultipartUpload", depth: 3, members: members("Part+", "Part/PartNumber", "Part/ETag", "Part/Checksum*")}

// readComplete checks that the parts have ascending numbers. A server that sorts them would
// make another object of a list that is out of order.
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
				return false, newError(reasonDocument, "InvalidPartOrder", "")
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
