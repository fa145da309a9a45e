package main

// CopyObject and UploadPartCopy. They know how to read a source and store it, not how an
// answer that takes minutes is kept alive, which is in handlers_slow.go.
//
// The source is parsed like a path and authorized like a read. Within an account the
// backend makes the copy. Between two accounts the gateway streams from one to the other.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A copyOrigin is the object that x-amz-copy-source names.
type copyOrigin struct {
	target
	version string // "" for the current version
}

// parseCopySource reads
//
//	source = [ "/" ] bucket "/" key [ "?versionId=" version ]
//
// in which everything is percent-encoded, in some clients also the slash after the bucket.
// A plus sign in the key is a space, as S3 reads it and as s5cmd writes it
// (github.com/aws/aws-cli/issues/614). A plus sign in a version is a plus sign, because
// versions of S3 may have some.
func parseCopySource(header string, nested bool) (copyOrigin, error) {
	path, version, versioned := strings.Cut(header, "?versionId=")
	decoded, err := url.QueryUnescape(strings.TrimPrefix(path, "/"))
	version, err2 := url.PathUnescape(version)
	switch {
	case err != nil || err2 != nil:
		return copyOrigin{}, errors.New("x-amz-copy-source is not properly percent-encoded")
	case strings.Contains(path, "?") || versioned && (version == "" || strings.Contains(version, "&")):
		return copyOrigin{}, errors.New("x-amz-copy-source has a query that is not ?versionId=VERSION")
	}
	bucketName, key, _ := strings.Cut(strings.TrimPrefix(decoded, "/"), "/")
	if strings.HasPrefix(decoded, "/") && strings.HasPrefix(path, "/") || !validBucket(bucketName) {
		return copyOrigin{}, errors.New("x-amz-copy-source must have the form /bucket/key, with a bucket of this gateway")
	}
	for _, version := range append(strings.Split(key, "?versionId=")[1:], version) {
		// A "?versionId=" in the key belongs to the key, but versitygw decodes before it looks
		// for a version.
		if err := markerID(version); err != nil {
			return copyOrigin{}, fmt.Errorf("the versionId of x-amz-copy-source %v", err)
		}
	}
	return copyOrigin{target{bucket: bucketName, key: key}, version}, checkKey(key, nested)
}

var copyRange = regexp.MustCompile(`^bytes=([0-9]{1,18})-([0-9]{1,18})$`)

// checkCopyRange returns the range of the source from which a part is copied, as
// "FIRST-LAST", or "" for all of it. It refuses a range that S3 would refuse, and one
// that some servers would ignore.
func checkCopyRange(h http.Header, part bool) (string, *apiError) {
	values, given := h["X-Amz-Copy-Source-Range"]
	if !given {
		return "", nil
	}
	if m := copyRange.FindStringSubmatch(values[0]); m != nil && len(values) == 1 && part {
		first, _ := strconv.ParseInt(m[1], 10, 64) // 18 digits fit
		last, _ := strconv.ParseInt(m[2], 10, 64)
		if first <= last {
			return fmt.Sprintf("%d-%d", first, last), nil
		}
	}
	return "", newError(reasonCopySource, "InvalidArgument", "x-amz-copy-source-range is for UploadPartCopy and must have the form bytes=FIRST-LAST")
}

// copyObject copies to an object or to a part of an upload.
func (g *gateway) copyObject(x *exchange) *apiError {
	values := x.r.Header[copySource]
	if len(values) != 1 {
		return newError(reasonCopySource, "InvalidRequest", "x-amz-copy-source is given more than once")
	}
	src, err := parseCopySource(values[0], g.config.nestedKeys)
	if err != nil {
		return newError(reasonCopySource, "InvalidArgument", err.Error())
	}
	if refusal := g.mayAct(x.user, src.bucket, actionRead, "reading the source"); refusal != nil {
		return refusal
	}
	span, refusal := checkCopyRange(x.r.Header, x.copiesPart())
	if refusal != nil {
		return refusal
	}
	if x.r.ContentLength != 0 {
		return newError(reasonCopySource, "InvalidRequest", "a copy has no body")
	}
	out, refusal := g.outgoing(x)
	if refusal != nil {
		return refusal
	}
	out.patience = slowAnswer
	across := g.buckets[src.bucket].account != x.bucket.account
	return g.slowly(x, func(h *heartbeat) ([]byte, *apiError) {
		if across {
			return g.copyAcross(x, src, span, out, h)
		}
		out.header[copySource] = []string{g.encodeSource(src)}
		return g.relaySlowly(x, out, h)
	})
}

// copiesPart reports whether the operation is UploadPartCopy.
func (x *exchange) copiesPart() bool { return x.op.selector != "" }

// encodeSource returns the x-amz-copy-source for the backend, with the backend name of the
// bucket.
func (g *gateway) encodeSource(src copyOrigin) string {
	encoded := g.buckets[src.bucket].backendName + "/" + uriEncode(src.key, false)
	if src.version != "" {
		encoded += "?versionId=" + uriEncode(src.version, true)
	}
	return encoded
}

// copyAcross streams from the account of the source to that of the target. Out is the
// request for the target, with the client's headers. It returns the document of the
// answer, from the root element on.
func (g *gateway) copyAcross(x *exchange, src copyOrigin, span string, out *outgoing, h *heartbeat) ([]byte, *apiError) {
	resp, refusal := g.openSource(x, src, span)
	if refusal != nil {
		return nil, refusal
	}
	source := g.resumedSource(x, src, resp)
	defer source.Close()
	if refusal := checkSource(resp, span); refusal != nil {
		return nil, refusal
	}
	if resp.ContentLength > g.config.maxFileSize {
		return nil, newError(reasonTooLarge, "EntityTooLarge", "a copy between accounts passes through the gateway; the source is larger than max_file_size")
	}
	if !x.copiesPart() {
		if refusal := g.copyAttributes(x, src, resp.Header, out.header); refusal != nil {
			return nil, refusal
		}
	}
	for name := range out.header {
		if strings.HasPrefix(name, copySource) || name == "X-Amz-Metadata-Directive" || name == "X-Amz-Tagging-Directive" {
			delete(out.header, name)
		}
	}
	if out.length = resp.ContentLength; out.length > 0 {
		out.body, out.payloadHash, out.interrupt = sourceBody{source}, unsignedPayload, source.interrupt
	}
	doc, refusal := x.storeCopy(out, h)
	x.resumed += source.resumed()
	if refusal != nil && isSourceError(refusal.cause) { // which says nothing of the target
		x.backend, x.source = x.source, backendCall{}
	}
	return doc, refusal
}

// A sourceBody is the body of a source while the target gets it. Its errors are sourceErrors.
type sourceBody struct{ *resumedBody }

// Read implements io.Reader.
func (b sourceBody) Read(p []byte) (int, error) {
	n, err := b.resumedBody.Read(p)
	if err != nil && err != io.EOF {
		err = sourceError{err}
	}
	return n, err
}

// A sourceError is an error of reading the source of a copy, as opposed to sending it to the target.
type sourceError struct{ error }

// Unwrap is for errors.As and errors.Is.
func (e sourceError) Unwrap() error { return e.error }

func isSourceError(err error) bool {
	_, is := errors.AsType[sourceError](err)
	return is
}

// resumedSource returns the body of a source that was just opened. It is continued if it breaks
// off.
func (g *gateway) resumedSource(x *exchange, src copyOrigin, resp *http.Response) *resumedBody {
	return &resumedBody{
		ctx:  x.r.Context(),
		rest: newResumption(g.buckets[src.bucket].upstream, x.backend.out, resp),
		body: resp.Body.(*answerBody),
	}
}

// storeCopy sends the request that stores a copy, and returns the document of the answer.
func (x *exchange) storeCopy(out *outgoing, h *heartbeat) ([]byte, *apiError) {
	stored, refusal := x.send(x.bucket, out)
	if refusal != nil {
		return nil, refusal
	}
	defer stored.Body.Close()
	if refusal := x.readNothing(stored); refusal != nil {
		return nil, refusal
	}
	if stored.Header.Get("Etag") == "" { // which is all that the answer to a copy says
		return nil, badGateway(errors.New("the target stored the copy and sent no ETag"))
	}
	result := copyResult(x.copiesPart(), stored.Header)
	stored.Header.Del("Etag") // the answer to a copy has it only in the document
	h.answered(stored.Header)
	return result, nil
}

// sourceHeaders are the headers of a read, by the headers of a copy that mean the same for
// its source. The keys lack "X-Amz-Copy-Source-".
var sourceHeaders = map[string]string{
	"If-Match": "If-Match", "If-None-Match": "If-None-Match",
	"If-Modified-Since": "If-Modified-Since", "If-Unmodified-Since": "If-Unmodified-Since",
	"Server-Side-Encryption-Customer-Algorithm": "X-Amz-Server-Side-Encryption-Customer-Algorithm",
	"Server-Side-Encryption-Customer-Key":       "X-Amz-Server-Side-Encryption-Customer-Key",
	"Server-Side-Encryption-Customer-Key-Md5":   "X-Amz-Server-Side-Encryption-Customer-Key-Md5",
}

// openSource requests the source from its backend, under the client's conditions.
func (g *gateway) openSource(x *exchange, src copyOrigin, span string) (*http.Response, *apiError) {
	get := newRead(g.buckets[src.bucket].target(src.key), nil)
	if src.version != "" {
		get.query = []parameter{{"versionId", src.version}}
	}
	if span != "" {
		get.header["Range"] = []string{"bytes=" + span}
	}
	for name, ours := range sourceHeaders {
		if values := x.r.Header[copySource+"-"+name]; len(values) == 1 {
			get.header[ours] = values
		}
	}
	resp, refusal := x.send(g.buckets[src.bucket], get)
	if refusal != nil {
		return nil, refusal
	}
	if resp.StatusCode == http.StatusNotModified {
		resp.Body.Close()
		return nil, newError(reasonPrecondition, "PreconditionFailed", "")
	}
	return resp, nil
}

// checkSource returns an error for an answer that is not the source, or not all of the
// requested range "FIRST-LAST" of it. An answer with another status of success, such as
// 204, or 203 from a proxy in between, does not have the object as its body.
func checkSource(resp *http.Response, span string) *apiError {
	want, length := http.StatusOK, resp.ContentLength
	if span != "" {
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+span+"/") {
			return newError(reasonCopySource, "InvalidRange", "the source does not have all of x-amz-copy-source-range")
		}
		start, end, _ := strings.Cut(span, "-")
		first, _ := strconv.ParseInt(start, 10, 64) // see checkCopyRange
		last, _ := strconv.ParseInt(end, 10, 64)
		want, length = http.StatusPartialContent, last-first+1
	}
	switch {
	case resp.StatusCode != want:
		return badGateway(fmt.Errorf("the source answered with the status %d, want %d", resp.StatusCode, want))
	case resp.ContentLength < 0:
		return badGateway(errors.New("the source has no length"))
	case resp.ContentLength != length:
		return badGateway(fmt.Errorf("the source sent %d bytes for a range of %d", resp.ContentLength, length))
	}
	if encodings, _ := withoutChunked(resp.Header); encodings != "" && strings.HasPrefix(resp.Header.Get("Etag"), "W/") {
		// Bytes that are stored with an encoding are copied with it. These were encoded in
		// transit: whoever changes a body must weaken its ETag (RFC 9110 section 8.8.1).
		return badGateway(errors.New("the source was compressed in transit"))
	}
	return nil
}

// copyAttributes sets in out the metadata and the tags of the source, unless the client
// replaces them.
func (g *gateway) copyAttributes(x *exchange, src copyOrigin, source, out http.Header) *apiError {
	if !strings.EqualFold(out.Get("X-Amz-Metadata-Directive"), "REPLACE") {
		if refusal := copyMetadata(out, source); refusal != nil {
			return refusal
		}
	}
	if strings.EqualFold(out.Get("X-Amz-Tagging-Directive"), "REPLACE") {
		return nil
	}
	return g.copyTags(x, src, source, out)
}

// copyMetadata replaces the client's metadata in out by that of the source, as S3 does. It
// leaves what belongs to the bucket, or to how the object is stored.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/copy-object.html
func copyMetadata(out, source http.Header) *apiError {
	for name := range out {
		if strings.HasPrefix(name, "x-amz-meta-") {
			delete(out, name)
		}
	}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Disposition", "Content-Language", "Cache-Control", "Expires"} {
		delete(out, name)
		if values, ok := source[name]; ok {
			out[name] = values
		}
	}
	if encodings, framed := withoutChunked(out); framed {
		setEncodings(out, encodings)
	}
	for name, values := range source {
		if isTrigger(name) { // the source was not stored through the gateway
			return newError(reasonCopySource, "InvalidRequest", fmt.Sprintf("the source has the metadata %s, which is not allowed", strings.ToLower(name)))
		}
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			out[wireName(name)] = []string{strings.Join(values, ",")}
		}
	}
	return nil
}

// copyTags sets in out the tags of the source. Headers have only their number, and not all
// servers send that, or only to accounts that may read tags. So the gateway asks for the
// tags unless the number is 0. It makes a copy without tags only if the server has no
// tags at all.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
func (g *gateway) copyTags(x *exchange, src copyOrigin, source, out http.Header) *apiError {
	delete(out, "X-Amz-Tagging")
	count := source.Get("X-Amz-Tagging-Count")
	if count == "0" {
		return nil
	}
	tags, refusal := g.readTags(x, src)
	switch {
	case refusal != nil && count == "" && hasNoTags(refusal):
		return nil
	case refusal != nil && refusal.Code == "AccessDenied":
		return newError(reasonCopySource, "AccessDenied", "the tags of the source can't be read with the account's credentials: allow them s3:GetObjectTagging, or send x-amz-tagging-directive: REPLACE")
	case refusal != nil:
		return refusal
	case count != "" && count != strconv.Itoa(len(tags)):
		return badGateway(wrongTagCount(count, len(tags)))
	}
	if len(tags) > 0 {
		out["X-Amz-Tagging"] = []string{canonicalQuery(tags)}
	}
	return nil
}

// wrongTagCount returns the error for a source that announced another number of tags than it sent.
// It repeats of the header only a number.
func wrongTagCount(announced string, sent int) error {
	if n, err := strconv.ParseUint(announced, 10, 16); err == nil {
		return fmt.Errorf("the source has %d tags, and %d of them were sent", n, sent)
	}
	return fmt.Errorf("the source has another number of tags than the %d that were sent", sent)
}

// hasNoTags reports whether an error says that the source has no tags, or the server no
// such operation.
func hasNoTags(e *apiError) bool {
	return e.Code == "NoSuchTagSet" || e.Code == "NoSuchTagSetError" || e.Status == http.StatusNotImplemented || e.Status == http.StatusMethodNotAllowed
}

// readTags asks the backend for the tags of the source.
func (g *gateway) readTags(x *exchange, src copyOrigin) ([]parameter, *apiError) {
	query := []parameter{{"tagging", ""}}
	if src.version != "" {
		query = append(query, parameter{"versionId", src.version})
	}
	resp, refusal := x.send(g.buckets[src.bucket], newRead(g.buckets[src.bucket].target(src.key), query))
	if refusal != nil {
		return nil, refusal
	}
	defer resp.Body.Close()
	doc, _, refusal := x.readAnswer(plainBody(resp), answerSpecs["GetObjectTagging"])
	if refusal != nil {
		return nil, refusal
	}
	var tags []parameter
	for _, set := range doc.children {
		for _, tag := range set.children {
			tags = append(tags, parameter{tag.child("Key"), tag.child("Value")})
		}
	}
	return tags, nil
}

// copyResult returns the document with which a backend that had made the copy would have
// answered.
func copyResult(part bool, stored http.Header) []byte {
	result := copyObjectResult{LastModified: time.Now().UTC().Format(s3TimeFormat), ETag: stored.Get("Etag")}
	if part {
		return marshalDocument(copyPartResult(result))
	}
	return marshalDocument(result)
}
