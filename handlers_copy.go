package main

// CopyObject and UploadPartCopy. The source is parsed by the parser of paths and
// authorized like a read of it. Within an account the backend copies; between
// two, the gateway reads from one and writes to the other as it goes.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A copyOrigin is what x-amz-copy-source names.
type copyOrigin struct {
	target
	version string // "" is the current one
}

// parseCopySource reads
//
//	source = [ "/" ] bucket "/" key [ "?versionId=" version ]
//
// in which everything is percent-encoded, the slash after the bucket perhaps
// too. A plus sign in the key is a space, as S3 reads it and as s5cmd writes it
// (github.com/aws/aws-cli/issues/614); in a version it is a plus sign, of which
// S3's versions may have some.
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
		return copyOrigin{}, errors.New("x-amz-copy-source wants the form /bucket/key, and a bucket of this gateway")
	}
	for _, version := range append(strings.Split(key, "?versionId=")[1:], version) {
		// One in the key is of the key. versitygw decodes before it looks for a version.
		if err := markerID(version); err != nil {
			return copyOrigin{}, fmt.Errorf("the versionId of x-amz-copy-source %v", err)
		}
	}
	return copyOrigin{target{bucket: bucketName, key: key}, version}, checkKey(key, nested)
}

var copyRange = regexp.MustCompile(`^bytes=([0-9]{1,18})-([0-9]{1,18})$`)

// checkCopyRange returns the range of a source that a part is copied from, as
// "FIRST-LAST", or "" for all of it. It refuses one that S3 would refuse, and one
// that some servers take for none at all.
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
	return "", newError("InvalidArgument", "x-amz-copy-source-range goes with UploadPartCopy, and wants the form bytes=FIRST-LAST")
}

// copyObject copies to an object or to a part of one.
func (g *gateway) copyObject(x *exchange) *apiError {
	values := x.r.Header[copySource]
	if len(values) != 1 {
		return newError("InvalidRequest", "x-amz-copy-source is given more than once")
	}
	src, err := parseCopySource(values[0], g.config.nestedKeys)
	if err != nil {
		return newError("InvalidArgument", err.Error())
	}
	if refusal := g.mayAct(x.user, src.bucket, actionRead, "reading the source"); refusal != nil {
		return refusal
	}
	span, refusal := checkCopyRange(x.r.Header, x.op.selector != "")
	if refusal != nil {
		return refusal
	}
	if x.r.ContentLength != 0 {
		return newError("InvalidRequest", "a copy has no body")
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

// encodeSource writes a source anew, by its bucket's backend name.
func (g *gateway) encodeSource(src copyOrigin) string {
	encoded := g.buckets[src.bucket].backendName + "/" + uriEncode(src.key, false)
	if src.version != "" {
		encoded += "?versionId=" + uriEncode(src.version, true)
	}
	return encoded
}

// copyAcross streams from the account of the source to that of the target. The
// out is the client's request, for the target. It returns the document of the answer,
// from its root element on.
func (g *gateway) copyAcross(x *exchange, src copyOrigin, span string, out *outgoing, h *heartbeat) ([]byte, *apiError) {
	resp, refusal := g.openSource(x, src, span)
	if refusal != nil {
		return nil, refusal
	}
	defer resp.Body.Close()
	if refusal := checkSource(resp, span); refusal != nil {
		return nil, refusal
	}
	if resp.ContentLength > g.config.maxFileSize {
		return nil, newError("EntityTooLarge", "a copy between accounts passes through the gateway; the source is larger than max_file_size")
	}
	part := x.op.selector != ""
	if !part {
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
		out.body, out.payloadHash = resp.Body, unsignedPayload
		out.interrupt = resp.Body.(*answerBody).interrupt
	}
	stored, refusal := x.send(x.bucket, out)
	if refusal != nil {
		return nil, refusal
	}
	defer stored.Body.Close()
	if refusal := x.readNothing(stored); refusal != nil {
		return nil, refusal
	}
	if stored.Header.Get("Etag") == "" { // all that the answer to a copy has to say
		return nil, badGateway(errors.New("the target stored the copy and sent no ETag"))
	}
	result := copyResult(part, stored.Header)
	stored.Header.Del("Etag") // of a PUT; a copy has it in the document
	h.answered(stored.Header)
	return result, nil
}

// sourceHeaders are the headers of a copy that are meant for the read of its
// source, by their names behind "X-Amz-Copy-Source-".
var sourceHeaders = map[string]string{
	"If-Match": "If-Match", "If-None-Match": "If-None-Match",
	"If-Modified-Since": "If-Modified-Since", "If-Unmodified-Since": "If-Unmodified-Since",
	"Server-Side-Encryption-Customer-Algorithm": "X-Amz-Server-Side-Encryption-Customer-Algorithm",
	"Server-Side-Encryption-Customer-Key":       "X-Amz-Server-Side-Encryption-Customer-Key",
	"Server-Side-Encryption-Customer-Key-Md5":   "X-Amz-Server-Side-Encryption-Customer-Key-Md5",
}

// openSource reads the source, under the conditions that the client set for it.
func (g *gateway) openSource(x *exchange, src copyOrigin, span string) (*http.Response, *apiError) {
	get := &outgoing{method: http.MethodGet, target: g.buckets[src.bucket].target(src.key), header: http.Header{"Accept-Encoding": identityEncoding}, payloadHash: emptyPayload}
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
		return nil, newError("PreconditionFailed", "")
	}
	return resp, nil
}

// checkSource returns an error for an answer that is not the source, or not all of the
// range of it, "FIRST-LAST", that was asked for. An answer of another status (204, 203 of
// something in between) may be a success, and its body is not the object.
func checkSource(resp *http.Response, span string) *apiError {
	want, length := http.StatusOK, resp.ContentLength
	if span != "" {
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), "bytes "+span+"/") {
			return newError("InvalidRange", "the source does not have all of x-amz-copy-source-range")
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
		// Bytes that are stored with an encoding are copied with it. These were encoded
		// on the way: what changes a body has to weaken its ETag, RFC 9110 section 8.8.1.
		return badGateway(errors.New("the source was compressed on the way"))
	}
	return nil
}

// copyAttributes gives out the metadata and the tags of the source, unless the client
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

// copyMetadata takes over what belongs to the object and not to its bucket or to
// how it is kept, in place of what the client may have sent, as S3 does.
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
		if isTrigger(name) { // the source was not stored through here
			return newError("InvalidRequest", fmt.Sprintf("the source has the metadata %s, which is not allowed", strings.ToLower(name)))
		}
		if strings.HasPrefix(name, "X-Amz-Meta-") {
			out[wireName(name)] = []string{strings.Join(values, ",")}
		}
	}
	return nil
}

// copyTags reads the tags of a source, which are not in its headers. A count of them
// is; but a server that does not send it, or not to an account that may not read
// tags, has not said that there are none. So the tags are asked for unless the count
// is 0, and a copy without the tags is made only for a server that has none at all.
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
		return newError("AccessDenied", "the tags of the source can't be read with the account's credentials: allow them s3:GetObjectTagging, or send x-amz-tagging-directive: REPLACE")
	case refusal != nil:
		return refusal
	case count != "" && count != strconv.Itoa(len(tags)):
		return badGateway(fmt.Errorf("the source has %q tags, and %d of them came", shortened(count, 16), len(tags)))
	}
	if len(tags) > 0 {
		out["X-Amz-Tagging"] = []string{canonicalQuery(tags)}
	}
	return nil
}

// hasNoTags reports whether an error says that there are no tags, or no such thing.
func hasNoTags(e *apiError) bool {
	return e.Code == "NoSuchTagSet" || e.Code == "NoSuchTagSetError" || e.Status == http.StatusNotImplemented || e.Status == http.StatusMethodNotAllowed
}

// readTags asks the backend for the tags of a source.
func (g *gateway) readTags(x *exchange, src copyOrigin) ([]parameter, *apiError) {
	query := []parameter{{"tagging", ""}}
	if src.version != "" {
		query = append(query, parameter{"versionId", src.version})
	}
	resp, refusal := x.send(g.buckets[src.bucket], &outgoing{method: http.MethodGet, target: g.buckets[src.bucket].target(src.key), query: query,
		header: http.Header{"Accept-Encoding": identityEncoding}, payloadHash: emptyPayload})
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

// copyResult is the document that the backend would have answered with, had it made
// the copy.
func copyResult(part bool, stored http.Header) []byte {
	result := copyObjectResult{LastModified: time.Now().UTC().Format(s3TimeFormat), ETag: stored.Get("Etag")}
	if part {
		return marshalDocument(copyPartResult(result))
	}
	return marshalDocument(result)
}
