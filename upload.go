package main

// The body of an upload on its way to a backend.
//
// A backend commits an object when it has the last byte. So where there is
// something to check, the last byte is held back until it was checked; if it
// fails, the body ends in an error instead, one byte short, and the upstream
// resets the connection. The backend has then seen an upload that was cut.

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"hash"
	"io"
	"strconv"
	"strings"
)

// A heldBody passes on size bytes of a source, of which the last only after
// verify has returned nil. An error of verify, or a source of another length,
// is returned in its place.
type heldBody struct {
	source io.Reader
	left   int64 // bytes still to pass on
	verify func() error
	err    error
}

// hold returns a heldBody. A size of 0 holds nothing back: then the caller
// verifies before it sends anything. A nil verify is for a source that returns
// io.EOF only if all is well.
func hold(source io.Reader, size int64, verify func() error) *heldBody {
	return &heldBody{source: source, left: size, verify: verify}
}

// Read implements io.Reader.
func (b *heldBody) Read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.left == 0:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	case b.left == 1:
		return b.readLast(p)
	}
	if int64(len(p)) > b.left-1 {
		p = p[:b.left-1]
	}
	n, err := b.source.Read(p)
	b.left -= int64(n)
	if err != nil {
		b.err = noEOF(err) // an end before the last byte is no end
	}
	return n, b.err
}

func (b *heldBody) readLast(p []byte) (int, error) {
	if _, err := io.ReadFull(b.source, p[:1]); err != nil {
		b.err = noEOF(err)
		return 0, b.err
	}
	if b.err = readEnd(b.source); b.err == nil && b.verify != nil {
		b.err = b.verify()
	}
	if b.err != nil {
		return 0, b.err
	}
	b.left = 0
	return 1, nil
}

// readEnd reads the end of a body that has given all its bytes, which is where one
// that is checked as it goes by is found right or wrong.
func readEnd(body io.Reader) error {
	switch n, err := io.ReadFull(body, make([]byte, 1)); {
	case n > 0:
		return newError("InvalidRequest", "the body is longer than declared")
	case err != io.EOF:
		return err
	}
	return nil
}

// realDigest returns an x-amz-content-sha256 header's value in lower case if
// it is a digest, and not one of the words that S3 has for other cases.
func realDigest(value string) (string, bool) {
	raw, err := hex.DecodeString(value)
	return strings.ToLower(value), err == nil && len(raw) == sha256.Size
}

// An incoming body, before it is known to be right. Its source yields the
// payload, without the framing of aws-chunked; what there is to check has passed
// when the source has ended and verify, if not nil, has returned nil.
type incoming struct {
	source io.Reader
	size   int64          // of the payload
	digest string         // declared SHA-256 of the payload in hex, or ""
	chunks *chunkedReader // the source, if the body was framed
	verify func() error
}

// readAll returns a small payload, checked.
func (in *incoming) readAll() ([]byte, error) {
	data := make([]byte, in.size)
	if _, err := io.ReadFull(in.source, data); err != nil {
		return nil, noEOF(err)
	}
	if err := readEnd(in.source); err != nil {
		return nil, err
	}
	if in.verify != nil {
		return data, in.verify()
	}
	return data, nil
}

// outgoingBody makes the body a backend gets, and what its headers have to say
// about it. A trailing checksum reaches a backend that takes one, as a trailer:
// when it is known the headers are gone. There it is verified too, or at all, if its
// algorithm is not known here.
func (in *incoming) outgoingBody(out *outgoing, forwardTrailer bool) error {
	if in.chunks != nil && in.chunks.trailer != "" && forwardTrailer {
		// Content-Encoding does not name the framing: some servers store what it says,
		// S3 an empty string (github.com/fog/fog-aws/pull/147), and all see the framing
		// in x-amz-content-sha256.
		out.header["X-Amz-Decoded-Content-Length"] = []string{strconv.FormatInt(in.size, 10)}
		out.payloadHash = streamingTrailer
		out.length = framedLength(in.size, in.chunks.trailer)
		payload := in.source
		if in.verify != nil {
			payload = verifiedBody{payload, in.verify}
		}
		out.body = &chunkedWriter{payload: payload, left: in.size, name: in.chunks.trailer, value: func() string { return in.chunks.value }}
		return nil
	}
	if in.chunks != nil && !in.chunks.verifies() {
		return errUnverified()
	}
	unframe(out.header)
	if in.size == 0 {
		out.payloadHash = emptyPayload
		_, err := in.readAll()
		return err
	}
	out.payloadHash, out.length, out.body = unsignedPayload, in.size, in.source
	if in.digest != "" {
		out.payloadHash = in.digest // so that the backend checks it too
	}
	if in.verify != nil || in.chunks != nil {
		out.body = hold(in.source, in.size, in.verify)
	}
	return nil
}

// errUnverified is for a checksum that neither the gateway nor a backend would verify.
func errUnverified() *apiError {
	return newError("NotImplemented", "a checksum of this algorithm can't be verified here; use another one, like CRC64NVME or SHA256")
}

// verifySHA256 returns a reader that computes the digest of a body and a
// function that compares it with the one declared.
func verifySHA256(body io.Reader, want string) (io.Reader, func() error) {
	h := sha256.New()
	return io.TeeReader(body, h), func() error { return compareDigest(h, want) }
}

func compareDigest(h hash.Hash, want string) error {
	if hex.EncodeToString(h.Sum(nil)) != want {
		return newError("XAmzContentSHA256Mismatch", "")
	}
	return nil
}
