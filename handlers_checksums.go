package main

// Checksums of multipart uploads before a backend that takes no trailers
// (trailing_checksums "verify"). A trailing checksum is verified here and taken off, so a
// part arrives without it; but S3 wants the algorithm that CreateMultipartUpload announces
// with each part, and in the list of parts. So all requests of an upload go without
// checksums, and those of a part are verified here.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// checksumsOfUpload are the operations that have to agree on the checksums of an upload.
var checksumsOfUpload = set("CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")

// takesChecksums reports whether the backend gets the checksums of the request.
func (x *exchange) takesChecksums() bool {
	account := x.g.config.buckets[x.target.bucket]
	return account == nil || account.forwardTrailers || !checksumsOfUpload[x.op.name]
}

// dropChecksums takes all that headers say of checksums out of them.
func dropChecksums(h http.Header) {
	for name := range h {
		if strings.HasPrefix(name, checksumPrefix) || name == "X-Amz-Sdk-Checksum-Algorithm" {
			delete(h, name)
		}
	}
}

// verifyChecksums has the checksums verified that headers declare of a body. One that
// can't be is refused: nobody else would verify it.
func (in *incoming) verifyChecksums(h http.Header) *apiError {
	for name, values := range h {
		switch algorithm, ok := strings.CutPrefix(name, checksumPrefix); {
		case !ok, algorithm == "Algorithm", algorithm == "Type", algorithm == "Mode":
			continue
		}
		sum := newChecksum(strings.ToLower(name))
		if sum == nil {
			return newError("NotImplemented", fmt.Sprintf("%s can't be verified here; send a checksum of another algorithm", shortened(strings.ToLower(name), 64)))
		}
		in.source = io.TeeReader(in.source, sum)
		before := in.verify
		in.verify = func() error {
			if before != nil {
				if err := before(); err != nil {
					return err
				}
			}
			if values[0] != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
				return newError("BadDigest", "")
			}
			return nil
		}
	}
	return nil
}
