package main

// The body of an upload on its way to a backend.
//
// A backend commits an object when it has the last byte. So where there is
// something to check, the last byte is held back until it was checked; if it
// fails, the body ends in an error instead, one byte short, and http.Transport
// breaks the connection. The backend has then seen an upload that was cut.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
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
// verifies before it sends anything.
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
	if b.err = b.sourceEnds(); b.err == nil {
		b.err = b.verify()
	}
	if b.err != nil {
		return 0, b.err
	}
	b.left = 0
	return 1, nil
}

// sourceEnds reads the source to its end, which is where a source that is
// framed finds its own faults.
func (b *heldBody) sourceEnds() error {
	switch n, err := io.ReadFull(b.source, make([]byte, 1)); {
	case n > 0:
		return fmt.Errorf("the body is longer than declared")
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
