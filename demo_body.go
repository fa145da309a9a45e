package main

// What comes with a request to the demo: its payload, which may be wrapped in
// chunks, and the sums the payload has to agree with.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	demoMaxDocument = 8 << 20 // bytes: 10,000 parts of an upload have about 3 MiB
	demoMinChunk    = 8 << 10 // bytes of each chunk but the last
	demoChunked     = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
)

var errDemoIncomplete = &demoError{400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header."}

// expectBody reads what the headers say of the payload.
func (q *demoRequest) expectBody(payloadHash string) error {
	q.payloadHash, q.size = payloadHash, q.ContentLength
	digest, err := hex.DecodeString(payloadHash)
	switch {
	case payloadHash == demoChunked:
		if q.size, err = strconv.ParseInt(q.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64); err != nil {
			q.size = -1
		}
		if demoChecksums[demoAlgorithmOf(q.Header.Get("X-Amz-Trailer"))] == nil {
			return demoInvalidRequest("The value specified in the x-amz-trailer header is not supported")
		}
	case strings.HasPrefix(payloadHash, "STREAMING-"):
		return errDemoNotImplemented
	case q.Header.Get("X-Amz-Trailer") != "":
		return demoInvalidRequest("x-amz-trailer needs a payload in chunks with a trailer.")
	case payloadHash != unsignedPayload && (err != nil || len(digest) != sha256.Size):
		return demoInvalidArgument("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, " + demoChunked + ", or a valid sha256 value.")
	case q.size == 0 && q.Header.Get("Content-Length") == "":
		q.size = -1
	}
	return nil
}

// payload writes to w what came with the request, and returns its length. It
// fails if that is not all of it, or not what was signed. It can be used once.
func (q *demoRequest) payload(w io.Writer) (int64, error) {
	if q.payloadHash == demoChunked {
		return q.chunks(w)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), q.Body)
	switch {
	case errors.As(err, new(*fs.PathError)): // ours
		return n, err
	case err != nil: // the client went away, or sent less than it said
		return n, errDemoIncomplete
	case q.payloadHash != unsignedPayload && hex.EncodeToString(sum.Sum(nil)) != strings.ToLower(q.payloadHash):
		return n, &demoError{400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."}
	}
	return n, nil
}

// chunks is the payload out of
//
//	*( size CRLF size*OCTET CRLF ) "0" CRLF name ":" value CRLF CRLF
//
// in which size is hexadecimal and name the one that x-amz-trailer has
// promised. Once all was read, the trailer is a header of the request: it is
// checked and stored as if it had come with the others.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
func (q *demoRequest) chunks(w io.Writer) (n int64, err error) {
	r := bufio.NewReader(q.Body)
	for last := false; ; { // last: the chunk before is so small that none may follow it
		line, err1 := demoLine(r)
		size, err2 := strconv.ParseUint(line, 16, 62)
		n += int64(size)
		switch {
		case err1 != nil, err2 != nil, n < 0, n > q.size, size == 0 && n < q.size:
			return n, errDemoIncomplete
		case size == 0:
			return n, q.trailer(r)
		case last:
			return n, &demoError{403, "InvalidChunkSizeError", "Only the last chunk is allowed to have a size less than 8192 bytes"}
		}
		last = size < demoMinChunk
		if _, err := io.CopyN(w, r, int64(size)); errors.As(err, new(*fs.PathError)) {
			return n, err
		}
		if line, err := demoLine(r); err != nil || line != "" {
			return n, errDemoIncomplete
		}
	}
}

func (q *demoRequest) trailer(r *bufio.Reader) error {
	line, err1 := demoLine(r)
	empty, err2 := demoLine(r)
	if err1 != nil || err2 != nil {
		return errDemoIncomplete
	}
	name, value, _ := strings.Cut(line, ":")
	_, err := r.ReadByte()
	if promised := q.Header.Get("X-Amz-Trailer"); empty != "" || err != io.EOF || value == "" || !strings.EqualFold(name, promised) {
		return &demoError{400, "MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema."}
	}
	q.Header.Set(name, value)
	return nil
}

// demoLine returns a line without its end, which is CRLF and nothing less. No
// line here is near the size of the buffer.
func demoLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	text, ok := strings.CutSuffix(string(line), "\r\n")
	if !ok {
		err = errDemoIncomplete
	}
	return text, err
}

// document reads XML into v. With verified, something must vouch for it: S3
// asks for that where a flipped bit would delete another object.
func (q *demoRequest) document(v any, verified bool) error {
	var text bytes.Buffer
	if q.size < 0 || q.size > demoMaxDocument {
		return errDemoMalformedXML
	}
	if _, err := q.payload(&text); err != nil {
		return err
	}
	if xml.Unmarshal(text.Bytes(), v) != nil {
		return errDemoMalformedXML
	}
	if !verified {
		return nil
	}
	algorithm, err := q.algorithm()
	if err == nil && algorithm == "" && q.payloadHash == unsignedPayload && q.Header.Get("Content-Md5") == "" {
		err = demoInvalidRequest("Missing required header for this request: Content-MD5")
	}
	if err != nil {
		return err
	}
	sums := newDemoSums(algorithm)
	sums.Write(text.Bytes())
	return sums.verify(q.Header)
}

// demoChecksums are S3's, by the names it has for them in XML. CRC-64/NVME is
// the one of the NVM Express Command Set Specification, its polynomial here
// with the bits reversed.
var demoChecksums = map[string]func() hash.Hash{
	"CRC32":     func() hash.Hash { return crc32.NewIEEE() },
	"CRC32C":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"CRC64NVME": func() hash.Hash { return crc64.New(demoCRC64NVME) },
	"SHA1":      sha1.New,
	"SHA256":    sha256.New,
}

var demoCRC64NVME = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// demoAlgorithmOf returns the name of the checksum a header holds, "" for any
// other header, and what is no key of demoChecksums for an unknown one.
func demoAlgorithmOf(header string) string {
	name, ok := strings.CutPrefix(strings.ToLower(header), "x-amz-checksum-")
	if !ok || name == "mode" || name == "type" || name == "algorithm" {
		return ""
	}
	return strings.ToUpper(name)
}

// algorithm returns the name of the one checksum that the headers bring or
// promise in a trailer, or else that of the upload; "" if there is none.
func (q *demoRequest) algorithm() (string, error) {
	names := []string{demoAlgorithmOf(q.Header.Get("X-Amz-Trailer"))}
	for header := range q.Header {
		names = append(names, demoAlgorithmOf(header))
	}
	if want := q.Header.Get("X-Amz-Sdk-Checksum-Algorithm"); want != "" && !slices.Contains(names, strings.ToUpper(want)) {
		return "", demoInvalidRequest("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
	}
	if q.upload != nil {
		names = append(names, q.upload.object.Algorithm)
	}
	slices.Sort(names)
	names = slices.Compact(names) // "" is the first, if it is there
	name := names[len(names)-1]
	switch {
	case name != "" && demoChecksums[name] == nil:
		return "", errDemoNotImplemented
	case len(names) > 2, len(names) == 2 && names[0] != "":
		return "", demoInvalidRequest("Expecting a single x-amz-checksum- header, of the checksum Type of the upload if there is one.")
	}
	return name, nil
}

// demoSums are computed of what is written to them, by the names of headers:
// Content-Md5, and one of x-amz-checksum-* or none.
type demoSums map[string]hash.Hash

func newDemoSums(algorithm string) demoSums {
	sums := demoSums{"Content-Md5": md5.New()}
	if algorithm != "" {
		sums["X-Amz-Checksum-"+algorithm] = demoChecksums[algorithm]()
	}
	return sums
}

func (s demoSums) Write(p []byte) (int, error) {
	for _, sum := range s {
		sum.Write(p)
	}
	return len(p), nil
}

// verify compares the sums with those the client has sent.
func (s demoSums) verify(h http.Header) error {
	for name, sum := range s {
		text := h.Get(name)
		want, err := base64.StdEncoding.DecodeString(text)
		switch {
		case text == "", bytes.Equal(want, sum.Sum(nil)):
		case err == nil && len(want) == sum.Size():
			return &demoError{400, "BadDigest", "The " + name + " you specified did not match the calculated checksum."}
		case name == "Content-Md5":
			return &demoError{400, "InvalidDigest", "The Content-MD5 you specified is not valid."}
		default:
			return demoInvalidRequest("Value for " + name + " header is invalid.")
		}
	}
	return nil
}
