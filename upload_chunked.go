package main

// The aws-chunked body: a framing of its own inside HTTP's, by which a client can sign a stream as
// it sends it, or send a checksum after it.
//
//	body      = *chunk last trailers CRLF
//	chunk     = size [ ";chunk-signature=" 64hex ] CRLF size*OCTET CRLF
//	last      = "0"  [ ";chunk-signature=" 64hex ] CRLF
//	trailers  = *( name ":" value CRLF )         only if announced in x-amz-trailer
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
//
// The payload is stored, never the framing. The bytes of a chunk are passed on before its signature
// is verified, so memory is constant. Nothing of a bad upload is stored, because its last byte is
// held back (upload.go).

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	streamingSigned        = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamingSignedTrailer = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	streamingTrailer       = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

	minChunk       = 8192 // bytes; S3's InvalidChunkSizeError, for all but the last
	maxChunkLine   = 256  // bytes; 16 digits and a signature have 97
	maxTrailerLine = 512  // bytes
	maxTrailers    = 4
)

// A chunkSigner computes the chain of signatures: that of each chunk covers the one before, and the
// first covers the signature of the head.
type chunkSigner struct {
	key      []byte // the signing key
	amzDate  string
	scope    string
	previous string // the signature before, in hex
}

// next returns the signature of a chunk, and keeps it for the next one. The digest is that of the
// chunk's bytes.
func (s *chunkSigner) next(digest []byte) string {
	text := signatureAlgorithm + "-PAYLOAD\n" + s.amzDate + "\n" + s.scope + "\n" + s.previous + "\n" +
		emptyPayload + "\n" + hex.EncodeToString(digest)
	s.previous = string(signature(s.key, []byte(text)))
	return s.previous
}

// trailer returns the signature of the trailers: "name:value\n" of each.
func (s *chunkSigner) trailer(trailers string) string {
	digest := sha256.Sum256([]byte(trailers))
	text := signatureAlgorithm + "-TRAILER\n" + s.amzDate + "\n" + s.scope + "\n" + s.previous + "\n" + hex.EncodeToString(digest[:])
	return string(signature(s.key, []byte(text)))
}

// A chunkedReader reads the payload of an aws-chunked body. It returns io.EOF only if the framing is
// complete, the payload has the declared length, and every signature and checksum was verified.
// Otherwise it returns an *apiError or the error of the source.
type chunkedReader struct {
	source   *bufio.Reader
	left     int64        // payload bytes that may still come
	signed   bool         // the framing carries signatures
	signer   *chunkSigner // verifies them; nil: they can't be verified
	trailer  string       // announced name of the trailing checksum, or ""
	checksum hash.Hash    // of the payload, if there is a trailer that can be verified
	value    string       // of the trailer, once it was read and, if possible, verified

	chunk     int64 // bytes left of this chunk
	short     bool  // this chunk is shorter than minChunk, so it must be the last
	signature string
	digest    hash.Hash // of this chunk, if signatures are verified
	err       error
}

// newChunkedReader reads size bytes of payload, framed as the value of
// x-amz-content-sha256 says. The trailer is the value of x-amz-trailer. An
// error is for the client.
func newChunkedReader(source io.Reader, size int64, framing, trailer string, verifier *chunkSigner) (*chunkedReader, *apiError) {
	c := &chunkedReader{source: bufio.NewReaderSize(source, 32<<10), left: size, trailer: strings.ToLower(strings.TrimSpace(trailer))}
	switch framing {
	case streamingSigned, streamingSignedTrailer:
		c.signed, c.signer = true, verifier
	case streamingTrailer:
	default:
		return nil, newError(reasonBodyFraming, "NotImplemented", fmt.Sprintf("the payload form %q is not supported", shortened(framing, 64)))
	}
	switch announced := c.trailer != ""; {
	case framing == streamingSigned && announced:
		return nil, newError(reasonHeader, "InvalidRequest", "x-amz-trailer announces what x-amz-content-sha256 excludes")
	case framing == streamingSignedTrailer && !announced:
		return nil, newError(reasonHeader, "InvalidRequest", "x-amz-content-sha256 promises a signed trailer, and x-amz-trailer announces none")
	case announced && !holdsChecksum(c.trailer):
		return nil, newError(reasonHeader, "InvalidRequest", "x-amz-trailer must name one x-amz-checksum-* header")
	case announced:
		c.checksum = newChecksum(c.trailer)
	}
	if c.signer != nil {
		c.digest = sha256.New()
	}
	return c, nil
}

// Read implements io.Reader.
func (c *chunkedReader) Read(p []byte) (int, error) {
	if c.err == nil && c.chunk == 0 {
		c.err = c.nextChunk()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.source.Read(p[:min(int64(len(p)), c.chunk)])
	c.chunk -= int64(n)
	if c.checksum != nil {
		c.checksum.Write(p[:n])
	}
	if c.digest != nil {
		c.digest.Write(p[:n])
	}
	if err != nil {
		c.err = cutChunks(err)
	} else if c.chunk == 0 {
		c.err = c.endChunk()
	}
	return n, c.err
}

// nextChunk reads the line before a chunk. After the last chunk it reads to the end and returns
// io.EOF.
func (c *chunkedReader) nextChunk() error {
	line, err := c.line(maxChunkLine)
	if err != nil {
		return err
	}
	digits, extension, hasExtension := strings.Cut(line, ";")
	size, err := parseChunkSize(digits)
	if err != nil {
		return err
	}
	signed, ok := strings.CutPrefix(extension, "chunk-signature=")
	if hasExtension != c.signed || c.signed && (!ok || len(signed) != 2*sha256.Size) {
		return malformedChunk("a chunk's extension is not what x-amz-content-sha256 says")
	}
	c.chunk, c.signature = size, signed
	switch {
	case size > c.left:
		return malformedChunk("the chunks hold more than x-amz-decoded-content-length says")
	case size > 0 && c.short:
		return newError(reasonBodyFraming, "InvalidChunkSizeError", "")
	case size > 0:
		c.left -= size
		c.short = size < minChunk
		return nil
	case c.left > 0:
		return newError(reasonBodyCut, "IncompleteBody", "the chunks hold less than x-amz-decoded-content-length says")
	}
	return c.end()
}

// cutChunks returns the error for a source that ends before the frames do.
func cutChunks(err error) error {
	if err == io.EOF {
		return newError(reasonBodyCut, "IncompleteBody", "the body ended before its last chunk")
	}
	return err
}

// parseChunkSize parses hex digits only: no sign, no "0x", no space.
func parseChunkSize(digits string) (int64, error) {
	if len(digits) == 0 || len(digits) > 15 {
		return 0, malformedChunk("a chunk's size is not a hex number")
	}
	for i := range len(digits) {
		if c := digits[i] | 0x20; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return 0, malformedChunk("a chunk's size is not a hex number")
		}
	}
	return strconv.ParseInt(digits, 16, 64)
}

func malformedChunk(message string) *apiError {
	return newError(reasonBodyFraming, "InvalidRequest", message)
}

// endChunk reads the line break after a chunk and verifies its signature.
func (c *chunkedReader) endChunk() error {
	line, err := c.line(0)
	if err != nil {
		return err
	}
	if line != "" {
		return malformedChunk("a chunk is longer than its size")
	}
	return c.verifyChunk()
}

func (c *chunkedReader) verifyChunk() error {
	if c.signer == nil {
		return nil
	}
	want := c.signer.next(c.digest.Sum(nil))
	c.digest.Reset()
	if subtle.ConstantTimeCompare([]byte(want), []byte(c.signature)) != 1 {
		return newError(reasonBadSignature, "SignatureDoesNotMatch", "the signature of a chunk does not match it")
	}
	return nil
}

// end reads what follows the last chunk. It returns io.EOF if that is valid.
func (c *chunkedReader) end() error {
	if err := c.verifyChunk(); err != nil {
		return err
	}
	if err := c.trailers(); err != nil {
		return err
	}
	if _, err := c.source.ReadByte(); err != io.EOF {
		if err == nil {
			err = malformedChunk("there are bytes after the last chunk")
		}
		return err
	}
	return io.EOF
}

// trailers reads the lines up to the empty one. The announced trailer must be there, once, and
// nothing else but its signature.
func (c *chunkedReader) trailers() error {
	values := map[string]string{}
	for {
		line, err := c.line(maxTrailerLine)
		if err != nil {
			return err
		}
		if line == "" {
			break
		}
		name, value, ok := strings.Cut(line, ":")
		name = strings.ToLower(name)
		_, twice := values[name]
		expected := c.trailer != "" && (name == c.trailer || c.signed && name == "x-amz-trailer-signature")
		if !ok || twice || !expected || len(values) == maxTrailers {
			return malformedChunk("a trailer is malformed, repeated, or was not announced")
		}
		values[name] = strings.TrimSpace(value)
	}
	if c.trailer == "" {
		return nil
	}
	return c.verifyTrailer(values)
}

func (c *chunkedReader) verifyTrailer(values map[string]string) error {
	value, ok := values[c.trailer]
	if !ok {
		return malformedChunk("the trailer that x-amz-trailer announces is missing")
	}
	if c.signer != nil {
		want := c.signer.trailer(c.trailer + ":" + value + "\n")
		if subtle.ConstantTimeCompare([]byte(want), []byte(values["x-amz-trailer-signature"])) != 1 {
			return newError(reasonBadSignature, "SignatureDoesNotMatch", "the signature of the trailer does not match it")
		}
	}
	switch raw, err := base64.StdEncoding.Strict().DecodeString(value); {
	case c.checksum != nil && value != base64.StdEncoding.EncodeToString(c.checksum.Sum(nil)):
		return newError(reasonDigest, "BadDigest", "the trailing checksum does not match the body received")
	case err != nil || len(raw) == 0 || len(value) > trailerRoom(c.trailer), strings.ContainsAny(value, "\r\n"), // which base64 ignores
		checksumSizes[c.trailer] > 0 && len(raw) != checksumSizes[c.trailer]:
		return newError(reasonDigest, "InvalidRequest", "the trailing checksum is not one of its algorithm, in base64")
	}
	c.value = value
	return nil
}

// verifies reports whether all that the client declares of the payload can be verified.
func (c *chunkedReader) verifies() bool { return c.trailer == "" || c.checksum != nil }

// line reads a line of at most limit bytes without its CRLF. A bare line feed does not end a
// line.
func (c *chunkedReader) line(limit int) (string, error) {
	var line []byte
	for {
		b, err := c.source.ReadByte()
		if err != nil {
			return "", cutChunks(err)
		}
		if n := len(line); b == '\n' && n > 0 && line[n-1] == '\r' {
			return string(line[:n-1]), nil
		}
		if line = append(line, b); len(line) > limit+1 {
			return "", malformedChunk("the framing of the chunks is broken")
		}
	}
}

// A chunkedWriter frames a payload for a backend, with its checksum in a trailer
// (STREAMING-UNSIGNED-PAYLOAD-TRAILER).
type chunkedWriter struct {
	payload io.Reader
	left    int64
	name    string        // of the trailer
	value   func() string // of the trailer; called when the payload has ended

	buffer [upstreamChunk + 16]byte
	frame  []byte // part of buffer that was not read yet
	ended  bool
}

// upstreamChunk is the payload of a chunk in bytes.
const upstreamChunk = 64 << 10

// framedLength returns the length of a payload with its frames.
func framedLength(size int64, name string) int64 {
	frame := func(n int64) int64 { return int64(len(strconv.FormatInt(n, 16))) + 2 + n + 2 }
	length := size / upstreamChunk * frame(upstreamChunk)
	if rest := size % upstreamChunk; rest > 0 {
		length += frame(rest)
	}
	return length + int64(len("0\r\n")+len(name)+len(":")+trailerRoom(name)+len("\r\n\r\n"))
}

// Read implements io.Reader.
func (c *chunkedWriter) Read(p []byte) (int, error) {
	if len(c.frame) == 0 {
		if c.ended {
			return 0, io.EOF
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.frame)
	c.frame = c.frame[n:]
	return n, nil
}

// fill makes the next frame. The trailer follows the end of the payload without an error, not its
// last byte.
func (c *chunkedWriter) fill() error {
	if c.left == 0 {
		if _, err := c.payload.Read(c.buffer[:1]); err != io.EOF {
			return noEOF(err)
		}
		value := c.value()
		value += strings.Repeat(" ", trailerRoom(c.name)-len(value))
		c.frame = append(c.buffer[:0], "0\r\n"+c.name+":"+value+"\r\n\r\n"...)
		c.ended = true
		return nil
	}
	n := min(c.left, upstreamChunk)
	head := strconv.FormatInt(n, 16) + "\r\n"
	start := copy(c.buffer[:], head)
	if _, err := io.ReadFull(c.payload, c.buffer[start:start+int(n)]); err != nil {
		return noEOF(err)
	}
	c.left -= n
	c.frame = append(c.buffer[:start+int(n)], "\r\n"...)
	return nil
}

// unframe removes what the headers say about the framing.
func unframe(h http.Header) {
	if _, ok := h["X-Amz-Trailer"]; ok {
		delete(h, "X-Amz-Trailer")
		delete(h, "X-Amz-Sdk-Checksum-Algorithm") // it names the trailer
	}
	delete(h, "X-Amz-Decoded-Content-Length")
}

// setEncodings replaces the content encodings.
func setEncodings(h http.Header, encodings string) {
	delete(h, "Content-Encoding")
	if encodings != "" {
		h["Content-Encoding"] = []string{encodings}
	}
}

// withoutChunked returns the content encodings of a request or an answer without aws-chunked, and
// whether that was among them.
func withoutChunked(h http.Header) (encodings string, chunked bool) {
	var rest []string
	for encoding := range strings.SplitSeq(strings.Join(h["Content-Encoding"], ","), ",") {
		switch encoding = strings.TrimSpace(encoding); {
		case strings.EqualFold(encoding, "aws-chunked"):
			chunked = true
		case encoding != "":
			rest = append(rest, encoding)
		}
	}
	return strings.Join(rest, ","), chunked
}
