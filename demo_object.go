package main

// The demo's operations on one object, and the bodies that come with them: digests, checksums
// and aws-chunked. It knows nothing of signatures, lists and files.
//
// http.ServeContent is not used: S3 ignores several ranges, matches ETags without quotes, and
// answers 412 and 416 with documents.

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"io/fs"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const demoChunked = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

// demoStoredHeaders are kept with an object, besides x-amz-meta-* and its checksums. A parameter
// response-NAME overrides each.
var demoStoredHeaders = strings.Fields("content-type cache-control content-disposition content-encoding content-language expires")

// newDemoObject returns an object with the headers of a request and no bytes.
func newDemoObject(key string, h http.Header) *demoObject {
	o := &demoObject{Key: key, Header: map[string][]byte{"content-type": []byte("binary/octet-stream")}}
	for name, values := range h {
		lower, value := strings.ToLower(name), strings.Join(values, ",")
		if lower == "content-encoding" { // aws-chunked is how the body is sent, not what it is
			value = strings.Trim(strings.Replace(value, "aws-chunked", "", 1), ", ")
		}
		if strings.HasPrefix(lower, "x-amz-meta-") || value != "" && slices.Contains(demoStoredHeaders, lower) {
			o.Header[lower] = []byte(value)
		}
	}
	return o
}

// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
func (s *demoServer) putObject(w http.ResponseWriter, q *demoRequest) error {
	return s.putBody(w, q, q.bucket.demoFolder, newDemoObject(q.key, q.Header))
}

// putBody stores the body of a PutObject or an UploadPart: exactly the bytes announced, or
// nothing. net/http reads a request without any framing as one without a body, and would read
// what follows on the connection as the next request.
func (s *demoServer) putBody(w http.ResponseWriter, q *demoRequest, f *demoFolder, o *demoObject) error {
	if q.size < 0 {
		w.Header().Set("Connection", "close")
		return newDemoError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	}
	if err := s.put(f, o, q.writePayload, q.Header, q.Header); err != nil {
		return err
	}
	w.Header().Set("ETag", o.ETag)
	o.writeChecksums(w.Header())
	return nil
}

// put stores o with the bytes that fill writes, if these have the sums that digests holds and
// the object that is there meets the conditions. It sets an empty ETag.
func (s *demoServer) put(f *demoFolder, o *demoObject, fill func(io.Writer) (int64, error), digests, conditions http.Header) error {
	sums := newDemoSums(digests)
	o.Modified = s.now().UTC().Truncate(time.Second)
	sum := func(w io.Writer) (int64, error) { return fill(io.MultiWriter(w, sums)) }
	return f.put(o, sum, func(old *demoObject) error {
		if err := sums.verify(digests); err != nil {
			return err
		}
		for name := range sums {
			if name != "Content-Md5" {
				o.Header[strings.ToLower(name)] = []byte(digests.Get(name))
			}
		}
		o.ETag = cmp.Or(o.ETag, fmt.Sprintf(`"%x"`, sums["Content-Md5"].Sum(nil)))
		return demoWriteConditions(conditions, old)
	})
}

// demoWriteConditions checks old, the object that is there, or nil.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
func demoWriteConditions(h http.Header, old *demoObject) error {
	match, noneMatch := h.Get("If-Match"), h.Get("If-None-Match")
	switch {
	case noneMatch != "" && noneMatch != "*":
		return errDemoNotImplemented
	case match != "" && old == nil:
		return errDemoNoSuchKey
	case noneMatch == "*" && old != nil, match != "" && !demoMatches(match, old.ETag):
		return errDemoPrecondition
	}
	return nil
}

// copyObject gives the copy an ETag of its own, even of an object that was uploaded in parts.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
func (s *demoServer) copyObject(w http.ResponseWriter, q *demoRequest) error {
	source, f, err := s.openSource(q)
	if err != nil {
		return err
	}
	defer f.Close()
	o := newDemoObject(q.key, q.Header)
	switch directive := cmp.Or(q.Header.Get("X-Amz-Metadata-Directive"), "COPY"); {
	case q.Header.Get("X-Amz-Checksum-Algorithm") != "":
		return errDemoNotImplemented
	case directive == "COPY" && source == q.bucket.get(q.key):
		return demoInvalidRequest("This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	case directive == "COPY":
		o.Header = source.Header
	case directive != "REPLACE":
		return demoInvalidArgument("Unknown metadata directive.")
	}
	return s.putCopy(w, q, q.bucket.demoFolder, o, f, "CopyObjectResult")
}

// putCopy stores the bytes of r and answers with the document named.
func (s *demoServer) putCopy(w http.ResponseWriter, q *demoRequest, f *demoFolder, o *demoObject, r io.Reader, document string) error {
	fill := func(w io.Writer) (int64, error) { return io.Copy(w, r) }
	if err := s.put(f, o, fill, nil, q.Header); err != nil {
		return err
	}
	return q.writeXML(w, http.StatusOK, struct {
		XMLName            xml.Name
		LastModified, ETag string
	}{demoXMLName(document), demoTime(o.Modified), o.ETag})
}

// openSource opens the object that x-amz-copy-source names, bucket/key or /bucket/key, if it
// meets the conditions x-amz-copy-source-if-*.
func (s *demoServer) openSource(q *demoRequest) (*demoObject, *os.File, error) {
	source, version, _ := strings.Cut(q.Header.Get("X-Amz-Copy-Source"), "?")
	source, err := url.PathUnescape(source)
	name, key, _ := strings.Cut(strings.TrimPrefix(source, "/"), "/")
	from := s.buckets[name]
	switch {
	case err != nil, key == "", !utf8.ValidString(key):
		return nil, nil, demoInvalidArgument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	case version != "":
		return nil, nil, errDemoNotImplemented
	case from == nil:
		return nil, nil, errDemoNoSuchBucket
	}
	if _, err := q.writePayload(io.Discard); err != nil {
		return nil, nil, err
	}
	o, f, err := from.open(key)
	if err == nil && o.readConditions(q.Header, "X-Amz-Copy-Source-") != nil {
		f.Close()
		err = errDemoPrecondition
	}
	return o, f, err
}

func (s *demoServer) deleteObject(w http.ResponseWriter, q *demoRequest) error {
	if q.Header.Get("If-Match") != "" {
		return errDemoNotImplemented
	}
	if err := q.bucket.remove(q.key); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getObject is HeadObject too.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
func (s *demoServer) getObject(w http.ResponseWriter, q *demoRequest) error {
	o, f, err := q.bucket.open(q.key)
	if err != nil {
		return err
	}
	defer f.Close()
	w.Header().Set("ETag", o.ETag)
	w.Header().Set("Last-Modified", o.Modified.Format(http.TimeFormat))
	if err := o.readConditions(q.Header, ""); err != nil {
		return err
	}
	first, length, partial := o.rangeOf(q.Header.Get("Range"))
	if first < 0 {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", o.Size))
		return newDemoError(416, "InvalidRange", "The requested range is not satisfiable")
	}
	o.writeHeader(w.Header(), q.query)
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	if partial {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+length-1, o.Size))
		w.WriteHeader(http.StatusPartialContent)
	} else if q.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" { // they are of the whole object
		o.writeChecksums(w.Header())
	}
	if q.Method == http.MethodHead {
		return nil
	}
	if n, _ := io.Copy(w, io.NewSectionReader(f, first, length)); n < length {
		panic(http.ErrAbortHandler) // too late for an error document: the client must see the answer break
	}
	return nil
}

func (o *demoObject) writeHeader(h http.Header, query url.Values) {
	for name, value := range o.Header {
		if strings.HasPrefix(name, "x-amz-meta-") {
			h[name] = []string{string(value)} // in lower case, as S3 sends it
		}
	}
	for _, name := range demoStoredHeaders {
		if value := cmp.Or(query.Get("response-"+name), string(o.Header[name])); value != "" {
			h.Set(name, value)
		}
	}
	h.Set("Accept-Ranges", "bytes")
}

func (o *demoObject) writeChecksums(h http.Header) {
	for name, value := range o.Header {
		if strings.HasPrefix(name, "x-amz-checksum-") {
			h.Set(name, string(value))
			h.Set("x-amz-checksum-type", "FULL_OBJECT")
		}
	}
}

// readConditions follows the order of RFC 9110 section 13.2.2: a condition on the ETag outweighs
// the one on the time. The prefix begins the headers' names.
func (o *demoObject) readConditions(h http.Header, prefix string) error {
	match, noneMatch := h.Get(prefix+"If-Match"), h.Get(prefix+"If-None-Match")
	since, errSince := http.ParseTime(h.Get(prefix + "If-Modified-Since"))
	unmodified, errUnmodified := http.ParseTime(h.Get(prefix + "If-Unmodified-Since"))
	switch {
	case match != "" && !demoMatches(match, o.ETag),
		match == "" && errUnmodified == nil && o.Modified.After(unmodified):
		return errDemoPrecondition
	case noneMatch != "" && demoMatches(noneMatch, o.ETag),
		noneMatch == "" && errSince == nil && !o.Modified.After(since):
		return errDemoNotModified
	}
	return nil
}

// demoMatches reports whether a list of ETags, which may lack their quotes, holds one.
func demoMatches(list, etag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == "*" || strings.Trim(one, `"`) == strings.Trim(etag, `"`) {
			return true
		}
	}
	return false
}

var demoRange = regexp.MustCompile(`^bytes=(\d*)-(\d*)$`)

// rangeOf returns the part of the object that a Range header asks for:
//
//	bytes=first-last    bytes=first-    bytes=-suffix
//
// Anything else is ignored, as RFC 9110 section 14.2 has it, and so are several ranges, which S3
// does not serve. The first byte is -1 if the object has none of the range.
func (o *demoObject) rangeOf(spec string) (first, length int64, partial bool) {
	m := demoRange.FindStringSubmatch(spec)
	if m == nil || m[1]+m[2] == "" {
		return 0, o.Size, false
	}
	first, _ = strconv.ParseInt(m[1], 10, 64) // what is too large becomes the largest integer
	last, _ := strconv.ParseInt(m[2], 10, 64)
	switch {
	case m[1] == "":
		first, last = max(0, o.Size-last), o.Size-1
	case m[2] == "":
		last = o.Size - 1
	case last < first:
		return 0, o.Size, false
	}
	if first >= o.Size {
		return -1, 0, false
	}
	return first, min(last, o.Size-1) - first + 1, true
}

var errDemoIncomplete = newDemoError(400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header.")

// expectBody reads what the headers say of the payload. It reads the payload of an operation that
// has no use for one: its digest was signed.
func (q *demoRequest) expectBody() (err error) {
	q.size = q.ContentLength
	trailer := q.Header.Get("X-Amz-Trailer")
	switch {
	case q.payloadHash == demoChunked:
		if q.size, err = strconv.ParseInt(q.Header.Get("X-Amz-Decoded-Content-Length"), 10, 64); err != nil {
			q.size = -1
		}
	case strings.HasPrefix(q.payloadHash, "STREAMING-"):
		return errDemoNotImplemented
	case q.size == 0 && q.Header.Get("Content-Length") == "":
		q.size = -1
	}
	if known := demoSumOf[http.CanonicalHeaderKey(trailer)] != nil; known != (q.payloadHash == demoChunked) {
		return demoInvalidRequest("x-amz-trailer must name a checksum, of a payload of " + demoChunked)
	}
	if q.Method != http.MethodPut && q.Method != http.MethodPost {
		_, err = q.writePayload(io.Discard)
		return err
	}
	return nil
}

// document reads XML into v, if it has the sums that digests holds.
func (q *demoRequest) document(v any, digests http.Header) error {
	sums := newDemoSums(digests)
	var text bytes.Buffer
	_, err := q.writePayload(io.MultiWriter(&text, sums))
	if err = cmp.Or(err, sums.verify(digests)); err == nil && xml.Unmarshal(text.Bytes(), v) != nil {
		err = errDemoMalformedXML
	}
	return err
}

// writePayload writes the payload, out of its chunks. It returns a demoError if that is not whole
// or not what was signed.
func (q *demoRequest) writePayload(w io.Writer) (int64, error) {
	if q.payloadHash == demoChunked {
		body := bufio.NewReader(q.Body)
		return io.Copy(w, &demoChunkReader{q: q, body: body, chunks: httputil.NewChunkedReader(body)})
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), q.Body)
	switch {
	case errors.As(err, new(*fs.PathError)): // a file of ours
	case err != nil: // the client has sent less than it announced
		err = errDemoIncomplete
	case q.payloadHash != unsignedPayload && q.payloadHash != hex.EncodeToString(sum.Sum(nil)):
		err = newDemoError(400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return n, err
}

// A demoChunkReader reads the payload out of aws-chunked framing, which is that of HTTP with one
// trailer, the one in x-amz-trailer. At the end it makes the trailer a header of the request, to
// be verified and stored as if it had come with the others.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
type demoChunkReader struct {
	q      *demoRequest
	body   *bufio.Reader
	chunks io.Reader // of body
	n      int64     // bytes of payload so far
}

// Read implements io.Reader.
func (c *demoChunkReader) Read(b []byte) (int, error) {
	n, err := c.chunks.Read(b)
	c.n += int64(n)
	switch {
	case err == io.EOF && c.n == c.q.size:
		err = c.trailer()
	case err != nil:
		err = errDemoIncomplete
	}
	return n, err
}

// trailer returns io.EOF if all is well.
func (c *demoChunkReader) trailer() error {
	name := c.q.Header.Get("X-Amz-Trailer")
	trailer, err := textproto.NewReader(c.body).ReadMIMEHeader()
	if err != nil {
		return errDemoIncomplete
	}
	if _, err := c.body.ReadByte(); err != io.EOF || len(trailer) != 1 || trailer.Get(name) == "" {
		return newDemoError(400, "MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema.")
	}
	c.q.Header.Set(name, trailer.Get(name))
	return io.EOF
}

// demoSumOf makes the sums of S3 that SDKs send, by their headers. CRC-64/NVME is that of the NVM
// Express Command Set Specification; its polynomial is written with the bits reversed here.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
var demoSumOf = map[string]func() hash.Hash{
	"Content-Md5":              md5.New,
	"X-Amz-Checksum-Crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"X-Amz-Checksum-Crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"X-Amz-Checksum-Crc64nvme": func() hash.Hash { return crc64.New(demoCRC64NVME) },
	"X-Amz-Checksum-Sha1":      sha1.New,
	"X-Amz-Checksum-Sha256":    sha256.New,
}

var demoCRC64NVME = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// demoSums are computed of what is written to them, by the headers that declare them.
type demoSums map[string]hash.Hash

// newDemoSums returns the sums that h declares, or that it says a trailer will, and an MD5.
func newDemoSums(h http.Header) demoSums {
	sums := demoSums{}
	for name, newSum := range demoSumOf {
		if h.Get(name) != "" || name == "Content-Md5" || name == http.CanonicalHeaderKey(h.Get("X-Amz-Trailer")) {
			sums[name] = newSum()
		}
	}
	return sums
}

// Write implements io.Writer.
func (s demoSums) Write(p []byte) (int, error) {
	for _, sum := range s {
		sum.Write(p)
	}
	return len(p), nil
}

// verify compares the sums with those that h declares by now.
func (s demoSums) verify(h http.Header) error {
	for name, sum := range s {
		if want := h.Get(name); want != "" && want != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
			return newDemoError(400, "BadDigest", "The "+name+" you specified did not match the calculated checksum.")
		}
	}
	return nil
}
