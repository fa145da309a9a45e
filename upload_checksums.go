package main

// Digests that headers declare of an upload, which are verified here and by the backend.
//
// A backend that takes no trailers (trailing_checksums "verify") gets none of a multipart
// upload's checksums. A trailing checksum is taken off, so a part arrives without it; but
// S3 wants the algorithm that CreateMultipartUpload announces with each part, and in the
// list of parts. So all requests of such an upload go without checksums.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	_ "embed"
	"encoding/base64"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"strings"
)

// dropChecksums takes all that headers say of checksums out of them.
func dropChecksums(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, checksumPrefix) || name == "X-Amz-Sdk-Checksum-Algorithm" {
			delete(h, name)
		}
	}
}

// verifyChecksums has the digests verified that headers declare of a body: Content-MD5,
// and the checksums whose algorithm is known. Not every server does. A checksum of
// another algorithm is the backend's to verify; one that does not reach the backend is
// refused.
func (in *incoming) verifyChecksums(h http.Header, forwarded bool) *apiError {
	// Of an aws-chunked body, S3 does not say whether the MD5 is that of the frames.
	if value := h.Get("Content-Md5"); value != "" && in.chunks == nil {
		if raw, err := base64.StdEncoding.DecodeString(value); err != nil || len(raw) != md5.Size {
			return newError("InvalidDigest", "")
		}
		in.verifySum(md5.New(), value)
	}
	for name, values := range h {
		name = strings.ToLower(name)
		if !holdsChecksum(name) {
			continue
		}
		switch sum := newChecksum(name); {
		case sum != nil:
			in.verifySum(sum, values[0])
		case !forwarded:
			return newError("NotImplemented", fmt.Sprintf("%s can't be verified here; send a checksum of another algorithm", shortened(name, 64)))
		}
	}
	return nil
}

// A verifiedBody ends in the error of verify, if it returns one.
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

// verifySum has the body verified against its sum in base64, beside what is verified
// already.
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
			return newError("BadDigest", "")
		}
		return nil
	}
}

// holdsChecksum reports whether a header, by its name in lower case, holds a checksum.
func holdsChecksum(name string) bool {
	algorithm, ok := strings.CutPrefix(name, checksumHeader)
	switch algorithm {
	case "", "algorithm", "mode", "type": // which say something about checksums
		return false
	}
	return ok && len(algorithm) <= maxChecksumName && isWord(algorithm)
}

// newChecksum returns the hash for a header that holds a checksum, or nil for an
// algorithm that the standard library does not have.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
func newChecksum(header string) hash.Hash {
	switch header {
	case "x-amz-checksum-crc32":
		return crc32.NewIEEE()
	case "x-amz-checksum-crc32c":
		return crc32.New(castagnoli)
	case "x-amz-checksum-crc64nvme":
		return crc64.New(nvme)
	case "x-amz-checksum-sha1":
		return sha1.New()
	case "x-amz-checksum-sha256":
		return sha256.New()
	case "x-amz-checksum-sha512":
		return sha512.New()
	case "x-amz-checksum-md5":
		return md5.New()
	}
	return nil
}

// checksumSizes are the sizes, in bytes, of the checksums that S3 has and the
// standard library has not.
var checksumSizes = map[string]int{"x-amz-checksum-xxhash64": 8, "x-amz-checksum-xxhash3": 8, "x-amz-checksum-xxhash128": 16}
