package main

// The body of an upload on its way to a backend.
//
// A backend commits an object when it has the last byte. So the last byte is held back until
// everything was verified. If a check fails, the body ends one byte short, with an error, and the
// upstream resets the connection: the backend has seen an upload that was cut. Nothing here
// knows where the body goes.

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// A heldBody passes on size bytes of a source, the last one only after verify has returned nil.
// In place of the last byte it returns an error of verify, or one for a source of another
// length.
type heldBody struct {
	source io.Reader
	left   int64 // bytes not passed on yet
	verify func() error
	err    error
}

// hold returns a heldBody. With a size of 0 there is no byte to hold back, and the caller verifies
// before it sends anything. A nil verify is for a source that returns io.EOF only if everything
// was verified.
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
		b.err = noEOF(err) // an end before the last byte is an error
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

// readEnd reads the end of a body after its last byte. A body that is verified as it is read
// returns the result there.
func readEnd(body io.Reader) error {
	switch n, err := io.ReadFull(body, make([]byte, 1)); {
	case n > 0:
		return newError(reasonBodyFraming, "InvalidRequest", "the body is longer than declared")
	case err != io.EOF:
		return err
	}
	return nil
}

// realDigest returns an x-amz-content-sha256 header's value in lower case if
// it is a digest and not one of S3's words for other cases.
func realDigest(value string) (string, bool) {
	raw, err := hex.DecodeString(value)
	return strings.ToLower(value), err == nil && len(raw) == sha256.Size
}

// An incoming is the body of a request, before it is verified. Its source returns the payload,
// without the framing of aws-chunked. It is verified when the source has ended and verify, if not
// nil, has returned nil.
type incoming struct {
	source io.Reader
	size   int64          // of the payload
	digest string         // declared SHA-256 of the payload in hex, or ""
	chunks *chunkedReader // the source, if the body was framed
	verify func() error
}

// readAll returns a small payload, verified.
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

// A payload is the body of an upload as a backend gets it. A nil body is an empty one.
type payload struct {
	body   io.Reader
	length int64  // of body, in bytes
	hash   string // x-amz-content-sha256
}

// forward returns the body for a backend, and changes the headers accordingly. A trailing checksum
// is forwarded as a trailer to a backend that accepts trailers, because the headers are sent
// before the checksum is known. The backend verifies it too, and alone if the gateway does not
// know the algorithm.
func (in *incoming) forward(header http.Header, forwardTrailer bool) (payload, error) {
	if in.chunks != nil && in.chunks.trailer != "" && forwardTrailer {
		// Content-Encoding does not name the framing: some servers store what it says,
		// S3 an empty string (github.com/fog/fog-aws/pull/147), and all see the framing
		// in x-amz-content-sha256.
		header["X-Amz-Decoded-Content-Length"] = []string{strconv.FormatInt(in.size, 10)}
		source := in.source
		if in.verify != nil {
			source = verifiedBody{source, in.verify}
		}
		frames := &chunkedWriter{payload: source, left: in.size, name: in.chunks.trailer, value: func() string { return in.chunks.value }}
		return payload{frames, framedLength(in.size, in.chunks.trailer), streamingTrailer}, nil
	}
	if in.chunks != nil && !in.chunks.verifies() {
		return payload{}, errUnverified()
	}
	unframe(header)
	if in.size == 0 {
		_, err := in.readAll()
		return payload{hash: emptyPayload}, err
	}
	p := payload{in.source, in.size, unsignedPayload}
	if in.digest != "" {
		p.hash = in.digest // so that the backend verifies it too
	}
	if in.verify != nil || in.chunks != nil {
		p.body = hold(in.source, in.size, in.verify)
	}
	return p, nil
}

// errUnverified refuses a checksum that neither the gateway nor a backend would verify.
func errUnverified() *apiError {
	return newError(reasonDigest, "NotImplemented", "a checksum of this algorithm can't be verified here; use another one, like CRC64NVME or SHA256")
}

// verifySHA256 returns a reader that computes the digest of a body and a
// function that compares it with the one declared.
func verifySHA256(body io.Reader, want string) (io.Reader, func() error) {
	h := sha256.New()
	return io.TeeReader(body, h), func() error { return compareDigest(h, want) }
}

func compareDigest(h hash.Hash, want string) error {
	if hex.EncodeToString(h.Sum(nil)) != want {
		return newError(reasonDigest, "XAmzContentSHA256Mismatch", "")
	}
	return nil
}

// verifyMD5 adds the verification of the digest that Content-MD5 declares; "" is none.
func (in *incoming) verifyMD5(value string) *apiError {
	if value == "" {
		return nil
	}
	if raw, err := base64.StdEncoding.DecodeString(value); err != nil || len(raw) != md5.Size {
		return newError(reasonDigest, "InvalidDigest", "")
	}
	in.verifySum(md5.New(), value)
	return nil
}

// verifyChecksums adds the verification of the checksums that headers declare. A checksum of
// an algorithm that is not known here is left to the backend if it is forwarded, and refused if
// it is not.
func (in *incoming) verifyChecksums(h http.Header, forwarded bool) *apiError {
	for name, values := range h {
		name = strings.ToLower(name)
		if !holdsChecksum(name) {
			continue
		}
		switch sum := newChecksum(name); {
		case sum != nil:
			in.verifySum(sum, values[0])
		case !forwarded:
			return newError(reasonDigest, "NotImplemented", fmt.Sprintf("%s can't be verified here; send a checksum of another algorithm", shortened(name, 64)))
		}
	}
	return nil
}

// verifySum adds the verification of the body against its digest in base64.
func (in *incoming) verifySum(sum hash.Hash, want string) {
	in.source = io.TeeReader(in.source, sum)
	before := in.verify
	in.verify = func() error {
		if before != nil {
			if err := before(); err != nil {
				return err
			}
		}
		if want != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
			return newError(reasonDigest, "BadDigest", "")
		}
		return nil
	}
}

// A verifiedBody ends with the error of verify, if there is one.
type verifiedBody struct {
	io.Reader
	verify func() error
}

// Read implements io.Reader.
func (b verifiedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		if wrong := b.verify(); wrong != nil {
			err = wrong
		}
	}
	return n, err
}
