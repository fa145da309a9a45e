package main

// Uploads of objects and of parts: what the request says about its body is checked before
// any of it is read, and the body is streamed.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// incoming reads what the request says about its body. It refuses a body that is too large,
// has no length, or has an unknown form. x-amz-content-sha256, which is signed, tells
// whether a body is framed; Content-Encoding does not.
func (x *exchange) incoming(maxSize int64) (*incoming, *apiError) {
	declared := x.r.Header["X-Amz-Content-Sha256"]
	if len(declared) > 1 {
		return nil, newError(reasonHeader, "InvalidRequest", "the header x-amz-content-sha256 is given more than once")
	}
	if len(declared) == 1 && strings.HasPrefix(declared[0], "STREAMING-") {
		return x.incomingChunks(declared[0], maxSize)
	}
	if encodings, framed := withoutChunked(x.r.Header); framed {
		return nil, newError(reasonHeader, "InvalidRequest", fmt.Sprintf("content-encoding says aws-chunked, and x-amz-content-sha256 does not; it must be one of %s, %s and %s, or content-encoding %q",
			streamingTrailer, streamingSigned, streamingSignedTrailer, encodings))
	}
	size, err := x.contentLength(maxSize)
	if err != nil {
		return nil, err
	}
	in := &incoming{source: &x.body, size: size}
	if len(declared) == 1 && declared[0] != unsignedPayload {
		digest, ok := realDigest(declared[0])
		if !ok {
			return nil, newError(reasonHeader, "InvalidArgument", "x-amz-content-sha256 is neither a digest nor "+unsignedPayload)
		}
		in.digest = digest
		in.source, in.verify = verifySHA256(in.source, digest)
	}
	return in, nil
}

// contentLength checks a body's length before any of it is read. There must be one, so that
// an end differs from a cut. A body of HTTP chunks has none, and net/http gives a request
// without any framing the length 0.
func (x *exchange) contentLength(maxSize int64) (int64, *apiError) {
	_, declared := x.r.Header["Content-Length"]
	switch size := x.r.ContentLength; {
	case !declared || size < 0:
		x.closeAfter()
		return 0, newError(reasonLength, "MissingContentLength", "")
	case size > maxSize:
		return 0, tooLarge(size, maxSize)
	}
	return x.r.ContentLength, nil
}

func tooLarge(size, maxSize int64) *apiError {
	return newError(reasonTooLarge, "EntityTooLarge", fmt.Sprintf("the body has %d bytes; at most %d are allowed here", size, maxSize))
}

// incomingChunks is incoming for aws-chunked. The length is the payload's, in a header of its
// own; the length of the frames may be missing.
func (x *exchange) incomingChunks(framing string, maxSize int64) (*incoming, *apiError) {
	lengths := x.r.Header["X-Amz-Decoded-Content-Length"]
	if _, framed := x.r.Header["Content-Length"]; len(lengths) == 0 || !framed && x.r.ContentLength == 0 {
		x.closeAfter()
		return nil, newError(reasonLength, "MissingContentLength", "an aws-chunked body needs x-amz-decoded-content-length, and a Content-Length or chunks around it")
	}
	size, err := strconv.ParseUint(lengths[0], 10, 63)
	if err != nil || len(lengths) > 1 {
		return nil, newError(reasonLength, "InvalidArgument", "x-amz-decoded-content-length must be one number of bytes")
	}
	if int64(size) > maxSize {
		return nil, tooLarge(int64(size), maxSize)
	}
	var verifier *chunkSigner
	if x.claim != nil { // with x-api-key, signatures are dropped unread
		verifier = x.claim.chunks()
	}
	trailer := strings.Join(x.r.Header["X-Amz-Trailer"], ",")
	chunks, refusal := newChunkedReader(&x.body, int64(size), framing, trailer, verifier)
	if refusal != nil {
		return nil, refusal
	}
	return &incoming{source: chunks, size: int64(size), chunks: chunks}, nil
}

// upload streams an object or a part. A digest that the client declares is signed, so that
// the backend verifies it, and verified here too, because not every server does.
func (g *gateway) upload(x *exchange) *apiError {
	in, err := x.incoming(g.config.maxFileSize)
	if err != nil {
		return err
	}
	out, err := g.outgoing(x)
	if err != nil {
		return err
	}
	if in.chunks == nil { // S3 does not say whether the MD5 of an aws-chunked body covers the frames
		if err := in.verifyMD5(x.r.Header.Get("Content-Md5")); err != nil {
			return err
		}
	}
	if err := in.verifyChecksums(x.r.Header, x.takesChecksums()); err != nil {
		return err
	}
	p, failure := in.forward(out.header, x.bucket.account.forwardTrailers)
	if failure != nil {
		return x.transportError(failure)
	}
	out.body, out.length, out.payloadHash = p.body, p.length, p.hash
	if x.r.ContentLength == 0 && x.r.Header.Get("Expect") != "" && !x.isHTTP10() {
		// net/http sends it when a body is read, and this one is empty. Without it botocore
		// loses the connection (github.com/boto/botocore/issues/3755).
		x.ResponseWriter.WriteHeader(http.StatusContinue)
	}
	return g.stream(x, out)
}
