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
	"encoding/base64"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"strings"
)

// checksumPrefix is checksumHeader as http.Header has it.
const checksumPrefix = "X-Amz-Checksum-"

// dropChecksums takes all that headers say of checksums out of them.
func dropChecksums(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, checksumPrefix) || name == "X-Amz-Sdk-Checksum-Algorithm" {
			delete(h, name)
		}
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

// checksumHeader begins the names of the headers, and trailers, that hold a
// checksum. S3 adds algorithms (five of them on 2026-04-22), so any may follow.
const checksumHeader = "x-amz-checksum-"

// trailerRoom is the length of a trailing checksum as it is sent on. The length of a
// body is declared before the checksum is known. For an algorithm whose size is not
// known it is that of the longest, a SHA-512, and the value is filled up with spaces,
// which are no part of it: RFC 9110 section 5.5.
func trailerRoom(name string) int {
	size := checksumSizes[name]
	if sum := newChecksum(name); sum != nil {
		size = sum.Size()
	}
	if size == 0 {
		size = sha512.Size
	}
	return base64.StdEncoding.EncodedLen(size)
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	nvme       = crc64.MakeTable(0x9a6c9329ac4bc9b5) // the polynomial of the NVM Express specification, reversed
)
