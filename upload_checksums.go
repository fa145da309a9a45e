package main

// Checksums of an upload: their headers, algorithms and sizes.
//
// A backend that accepts no trailers (trailing_checksums "verify") gets no checksums of a
// multipart upload. The gateway removes a trailing checksum, so a part arrives without one; but S3
// requires the algorithm that CreateMultipartUpload announces with each part, and in the list of
// parts. So all requests of such an upload go without checksums.
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

// dropChecksums removes everything about checksums from headers.
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
	case "", "algorithm", "mode", "type": // about checksums
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

// checksumSizes are the sizes, in bytes, of the checksums of S3 that the standard library does not
// have.
var checksumSizes = map[string]int{"x-amz-checksum-xxhash64": 8, "x-amz-checksum-xxhash3": 8, "x-amz-checksum-xxhash128": 16}

// checksumHeader begins the names of the headers, and trailers, that hold a
// checksum. S3 adds algorithms (five on 2026-04-22), so any name may follow.
const checksumHeader = "x-amz-checksum-"

// trailerRoom returns the length of a trailing checksum as it is forwarded. The length of a body is
// declared before the checksum is known. For an algorithm of unknown size it is the length of the
// longest, a SHA-512, and the value is padded with spaces, which are not part of it: RFC 9110
// section 5.5.
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
