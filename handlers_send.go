package main

// One request to a bucket's backend, and its answer: what of the client's request is sent, and
// what of an answer is a success.

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// outgoing is the client's request as its backend gets it, without a body.
func (g *gateway) outgoing(x *exchange) (*outgoing, *apiError) {
	header, err := forwardHeader(x.r.Header, x.user.role)
	if err != nil {
		return nil, err
	}
	if encodings, framed := withoutChunked(header); framed { // a coding of the transfer, never of an object
		setEncodings(header, encodings)
	}
	if answerSpecs[x.op.name].kind != objectBytes {
		header["Accept-Encoding"] = identityEncoding
	}
	if !x.takesChecksums() {
		dropChecksums(header)
	}
	return &outgoing{method: x.r.Method, target: x.bucket.target(x.target.key), query: x.query, header: header, payloadHash: emptyPayload,
		interrupt: x.body.interrupt}, nil
}

// identityEncoding asks for an answer that is not compressed, because the gateway reads
// it. Without the header a server may compress: RFC 9110 section 12.5.3.
var identityEncoding = []string{"identity"}

// newRead returns a GET of the gateway's own, whose answer it reads itself.
func newRead(t target, query []parameter) *outgoing {
	return &outgoing{method: http.MethodGet, target: t, query: query, header: http.Header{"Accept-Encoding": identityEncoding}, payloadHash: emptyPayload}
}

// send sends a request for a bucket and returns its answer. An answer that is not a
// success of the request is an error. So is one whose body has neither length nor chunks:
// it ends where the connection ends, which may be a cut.
func (x *exchange) send(b *bucket, out *outgoing) (*http.Response, *apiError) {
	if x.backend.upstream != nil && x.backend.upstream != b.upstream {
		x.source = x.backend
	}
	x.backend.asks(b.upstream, out)
	if refusal := x.occupy(b.upstream); refusal != nil {
		return nil, refusal
	}
	start := time.Now()
	resp, err := x.g.roundTrip(b.upstream, x.r.Context(), out)
	x.backend.duration = time.Since(start)
	if err != nil {
		return nil, x.transportError(err)
	}
	x.backend.answered(resp)
	if !out.succeeds(resp.StatusCode) {
		defer resp.Body.Close()
		if out.method == http.MethodHead {
			return nil, x.headRefusal(resp.StatusCode, resp.Header)
		}
		refusal := x.refusalOf(resp.StatusCode, resp.Header, plainBody(resp))
		io.CopyN(io.Discard, resp.Body, maxErrorDocument) // a drained connection is kept
		return nil, refusal
	}
	if closeDelimited(resp) {
		resp.Body.Close()
		return nil, badGateway(errors.New("an answer with neither length nor chunks"))
	}
	return resp, nil
}

// refusalOf returns the error for an answer that is not a success. A page of a web server is trouble of
// the account only until an answer proves that there is an S3 server behind it: then the client
// has probably provoked the page, with a long header for example.
func (x *exchange) refusalOf(status int, header http.Header, body io.Reader) *apiError {
	e := upstreamError(status, header, body)
	if e.upstream.code != "" {
		x.backend.upstream.provesS3()
	}
	if isPageError(e.cause) && x.backend.upstream.isS3.Load() {
		e.reason = reasonOfBackend(status, header, "")
	}
	return x.backend.withoutEchoes(e)
}

// occupy counts the exchange as one of the account's requests in flight, until it ends.
func (x *exchange) occupy(u *upstream) *apiError {
	if slices.Contains(x.busy, u.load) {
		return nil
	}
	if !u.load.enter(u.account.maxInFlight) {
		return slowDown(reasonAccountInFlight, fmt.Sprintf("more than %d requests at once for the storage service; try again when one of them has ended", u.account.maxInFlight), time.Second)
	}
	x.busy = append(x.busy, u.load)
	return nil
}

// checksumsOfUpload are the operations of a multipart upload, which must agree on its
// checksums.
var checksumsOfUpload = setOf("CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload")

// takesChecksums reports whether the backend gets the checksums of the request.
func (x *exchange) takesChecksums() bool {
	return x.bucket == nil || x.bucket.account.forwardTrailers || !checksumsOfUpload[x.op.name]
}

// plainBody returns the body of an answer that the gateway itself reads, decompressed. The
// gateway asks for no compression, but some servers, and proxies before them, compress
// everything with gzip. For any other coding the first Read returns an error.
func plainBody(resp *http.Response) io.Reader {
	encodings, _ := withoutChunked(resp.Header)
	switch coding := strings.ToLower(encodings); coding {
	case "", "identity":
		return resp.Body
	case "gzip", "x-gzip":
		return &gzipReader{body: resp.Body}
	default:
		return &gzipReader{err: errors.New("a document with a content encoding other than gzip")}
	}
}

// plainLength returns the length of plainBody in bytes, or -1 if it is not known.
func plainLength(resp *http.Response) int64 {
	if len(resp.Header["Content-Encoding"]) > 0 {
		return -1
	}
	return resp.ContentLength
}

// A gzipReader decompresses body. It reads nothing before the first Read.
type gzipReader struct {
	body  io.Reader
	plain *gzip.Reader
	err   error
}

// Read implements io.Reader.
func (z *gzipReader) Read(p []byte) (int, error) {
	if z.plain == nil && z.err == nil {
		z.plain, z.err = gzip.NewReader(z.body)
	}
	if z.err != nil {
		return 0, z.err
	}
	return z.plain.Read(p)
}
