package main

// The demo's operations on one object: get, put, copy, delete.

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	demoMaxKey      = 1024    // bytes, the encoding not counted
	demoMaxMetadata = 2 << 10 // bytes of all names and values of x-amz-meta-*
	demoMaxObject   = 5 << 30 // bytes of one PutObject, CopyObject or UploadPart
)

// demoStoredHeaders are kept with an object, besides x-amz-meta-*. Each has a
// parameter response-<name> to override it.
var demoStoredHeaders = strings.Fields("content-type cache-control content-disposition content-encoding content-language expires")

// demoStorageClasses leaves out GLACIER and DEEP_ARCHIVE: such an object can't
// be read before it was restored.
var demoStorageClasses = strings.Fields("STANDARD REDUCED_REDUNDANCY STANDARD_IA ONEZONE_IA INTELLIGENT_TIERING GLACIER_IR")

var demoACLs = strings.Fields("private public-read public-read-write authenticated-read aws-exec-read bucket-owner-read bucket-owner-full-control log-delivery-write")

// putObject stores a body of exactly the bytes announced, or nothing.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
func (s *demoServer) putObject(w http.ResponseWriter, q *demoRequest) error {
	o, err := newDemoObject(q.key, q.Header)
	if err != nil {
		return err
	}
	return s.putBytes(w, q, q.bucket.demoFolder, o)
}

// putBytes stores what comes with a PutObject or an UploadPart.
func (s *demoServer) putBytes(w http.ResponseWriter, q *demoRequest, f *demoFolder, o *demoObject) (err error) {
	if err := q.checkLength(w); err != nil {
		return err
	}
	if o.Algorithm, err = q.algorithm(); err != nil {
		return err
	}
	if err := f.store(o, q.Header, s.now(), q.payload); err != nil {
		return err
	}
	w.Header().Set("ETag", o.ETag)
	o.writeChecksum(w.Header())
	return nil
}

// checkLength refuses a PUT that doesn't say how long it is. net/http takes
// one without any framing for an empty one, and would take what follows it on
// the connection for the next request.
func (q *demoRequest) checkLength(w http.ResponseWriter) error {
	switch {
	case q.size < 0:
		w.Header().Set("Connection", "close")
		return &demoError{411, "MissingContentLength", "You must provide the Content-Length HTTP header."}
	case q.size > demoMaxObject:
		return &demoError{400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"}
	}
	return nil
}

// newDemoObject is an object made of the headers of a request, without bytes.
func newDemoObject(key string, h http.Header) (o *demoObject, err error) {
	o = &demoObject{Key: key, Header: map[string][]byte{"content-type": []byte("binary/octet-stream")}}
	metadata := 0
	for name, values := range h {
		lower, value := strings.ToLower(name), strings.Join(values, ",")
		if lower == "content-encoding" {
			value = demoContentEncoding(value)
		}
		meta, isMeta := strings.CutPrefix(lower, "x-amz-meta-")
		if isMeta {
			metadata += len(meta) + len(value)
		}
		if isMeta || value != "" && slices.Contains(demoStoredHeaders, lower) {
			o.Header[lower] = []byte(value)
		}
	}
	if metadata > demoMaxMetadata {
		return nil, &demoError{400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size"}
	}
	o.StorageClass = cmp.Or(h.Get("X-Amz-Storage-Class"), "STANDARD")
	switch {
	case !slices.Contains(demoACLs, cmp.Or(h.Get("X-Amz-Acl"), "private")):
		return nil, demoInvalidArgument("The ACL is not valid")
	case o.StorageClass == "GLACIER", o.StorageClass == "DEEP_ARCHIVE":
		return nil, errDemoNotImplemented
	case !slices.Contains(demoStorageClasses, o.StorageClass):
		return nil, &demoError{400, "InvalidStorageClass", "The storage class you specified is not valid"}
	}
	o.Tags, err = demoParseTags(h.Get("X-Amz-Tagging"))
	return o, err
}

// demoContentEncoding removes aws-chunked, which is how the body was sent and
// not what it is.
func demoContentEncoding(value string) string {
	codings := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	return strings.Join(slices.DeleteFunc(codings, func(coding string) bool { return coding == "aws-chunked" }), ",")
}

// demoWriteConditions is about old, the object there is; nil if there is none.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
func demoWriteConditions(h http.Header, old *demoObject) error {
	match, noneMatch := h.Get("If-Match"), h.Get("If-None-Match")
	switch {
	case noneMatch != "" && noneMatch != "*":
		return errDemoNotImplemented
	case noneMatch == "*" && old != nil:
		return errDemoPrecondition
	case match != "" && old == nil:
		return errDemoNoSuchKey
	case match != "" && !demoMatches(match, old.ETag):
		return errDemoPrecondition
	}
	return nil
}

// demoConditions are the headers of h that demoWriteConditions reads: where
// the others don't speak of the bytes that are stored.
func demoConditions(h http.Header) http.Header {
	return http.Header{"If-Match": h["If-Match"], "If-None-Match": h["If-None-Match"]}
}

// copyObject gives the copy an ETag and a sum of its own, even of an object
// that was uploaded in parts.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
func (s *demoServer) copyObject(w http.ResponseWriter, q *demoRequest) error {
	source, f, err := s.openSource(q)
	if err != nil {
		return err
	}
	defer f.Close()
	o, err := q.copyOf(source)
	if err != nil {
		return err
	}
	return s.copyBytes(w, q, q.bucket.demoFolder, o, f)
}

// copyBytes stores what was read of another object.
func (s *demoServer) copyBytes(w http.ResponseWriter, q *demoRequest, f *demoFolder, o *demoObject, r io.Reader) error {
	if o.Size > demoMaxObject {
		return demoInvalidRequest("The specified copy source is larger than the maximum allowable size for a copy source: 5368709120")
	}
	err := f.store(o, demoConditions(q.Header), s.now(), func(w io.Writer) (int64, error) { return io.Copy(w, r) })
	if err != nil {
		return err
	}
	x := newDemoXML("CopyObjectResult")
	if q.upload != nil {
		x = newDemoXML("CopyPartResult")
	}
	x.fields("LastModified", o.Modified.Format(demoTimeFormat), "ETag", o.ETag)
	x.checksum(o)
	return x.send(w, q, http.StatusOK)
}

// openSource opens the object that x-amz-copy-source names, bucket/key or
// /bucket/key, if it meets the conditions that the copy makes of it.
func (s *demoServer) openSource(q *demoRequest) (*demoObject, *os.File, error) {
	if _, err := q.payload(io.Discard); err != nil {
		return nil, nil, err
	}
	path, query, _ := strings.Cut(q.Header.Get("X-Amz-Copy-Source"), "?")
	path, err := url.PathUnescape(path)
	name, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	bucket := s.buckets[name]
	switch {
	case err != nil, key == "", !utf8.ValidString(key):
		return nil, nil, demoInvalidArgument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	case query != "": // a version
		return nil, nil, errDemoNotImplemented
	case bucket == nil:
		return nil, nil, errDemoNoSuchBucket
	case bucket == q.bucket && key == q.key && !q.changes():
		return nil, nil, demoInvalidRequest("This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	o, f, err := bucket.open(key)
	if err == nil && o.readConditions(q.sourceHeader()) != nil {
		f.Close()
		return nil, nil, errDemoPrecondition
	}
	return o, f, err
}

// changes reports whether a copy is another object, were its source the same.
func (q *demoRequest) changes() bool {
	return q.upload != nil || q.Header.Get("X-Amz-Metadata-Directive") == "REPLACE" || q.Header.Get("X-Amz-Storage-Class") != ""
}

// sourceHeader returns what the request would say if it read the source.
func (q *demoRequest) sourceHeader() http.Header {
	h := http.Header{}
	for name, values := range q.Header {
		if rest, ok := strings.CutPrefix(name, "X-Amz-Copy-Source-"); ok {
			h[rest] = values
		}
	}
	return h
}

// copyOf returns a copy without bytes. Its storage class is always that of the
// request.
func (q *demoRequest) copyOf(source *demoObject) (*demoObject, error) {
	o, err := newDemoObject(q.key, q.Header)
	if err != nil {
		return nil, err
	}
	o.Size = source.Size
	o.Algorithm = cmp.Or(strings.ToUpper(q.Header.Get("X-Amz-Checksum-Algorithm")), source.Algorithm)
	if o.Algorithm != "" && demoChecksums[o.Algorithm] == nil {
		return nil, errDemoNotImplemented
	}
	metadata, tags := cmp.Or(q.Header.Get("X-Amz-Metadata-Directive"), "COPY"), cmp.Or(q.Header.Get("X-Amz-Tagging-Directive"), "COPY")
	if metadata == "COPY" {
		o.Header = source.Header
	}
	if tags == "COPY" {
		o.Tags = source.Tags
	}
	if (metadata != "COPY" && metadata != "REPLACE") || (tags != "COPY" && tags != "REPLACE") {
		return nil, demoInvalidArgument("Unknown metadata or tagging directive.")
	}
	return o, nil
}

func (s *demoServer) deleteObject(w http.ResponseWriter, q *demoRequest) error {
	if q.Header.Get("If-Match") != "" {
		return errDemoNotImplemented
	}
	return q.bucket.replace(q.key, demoNothing)
}

func demoNothing(*demoObject) (*demoObject, error) { return nil, nil }

// deleteObjects deletes up to a thousand, and says of each what became of it.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
func (s *demoServer) deleteObjects(w http.ResponseWriter, q *demoRequest) error {
	type object struct{ Key, VersionId, ETag, LastModifiedTime, Size string }
	var doc struct {
		XMLName struct{} `xml:"Delete"`
		Quiet   bool
		Object  []object
	}
	if err := q.document(&doc, true); err != nil {
		return err
	}
	for _, o := range doc.Object {
		if o.Key == "" {
			return errDemoMalformedXML
		}
		if o != (object{Key: o.Key}) { // a version, or a condition
			return errDemoNotImplemented
		}
	}
	if len(doc.Object) == 0 || len(doc.Object) > demoMaxKeys {
		return errDemoMalformedXML
	}
	x := newDemoXML("DeleteResult")
	for _, o := range doc.Object {
		if err := q.bucket.replace(o.Key, demoNothing); err != nil {
			x.group("Error", "Key", o.Key, "Code", "InternalError", "Message", err.Error())
		} else if !doc.Quiet {
			x.group("Deleted", "Key", o.Key)
		}
	}
	return x.send(w, q, http.StatusOK)
}

// getObject is HeadObject too, which differs by the missing body alone.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
func (s *demoServer) getObject(w http.ResponseWriter, q *demoRequest) error {
	o, f, err := q.bucket.open(q.key)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := o.readConditions(q.Header); err != nil {
		if err == errDemoNotModified {
			w.Header().Set("ETag", o.ETag)
			w.Header().Set("Last-Modified", o.Modified.Format(http.TimeFormat))
		}
		return err
	}
	first, length, partial, err := o.rangeOf(q.Header)
	if err != nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", o.Size))
		return err
	}
	o.writeHeader(w.Header(), q)
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	if partial {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+length-1, o.Size))
		w.WriteHeader(http.StatusPartialContent)
	} else if q.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" { // the sum is of the whole object
		o.writeChecksum(w.Header())
	}
	if q.Method == http.MethodHead {
		return nil
	}
	if n, _ := io.Copy(w, io.NewSectionReader(f, first, length)); n < length {
		panic(http.ErrAbortHandler) // too late for another answer: the client must see it break
	}
	return nil
}

func (o *demoObject) writeHeader(h http.Header, q *demoRequest) {
	for name, value := range o.Header {
		if strings.HasPrefix(name, "x-amz-meta-") {
			h[name] = []string{string(value)} // in lower case, as S3: SDKs show the name as it came
			continue
		}
		h.Set(name, string(value)) // in net/http's case: it adds a Content-Type of its own to any other
	}
	for _, name := range demoStoredHeaders {
		if value := q.query.Get("response-" + name); value != "" {
			h.Set(name, value)
		}
	}
	h.Set("ETag", o.ETag)
	h.Set("Last-Modified", o.Modified.Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	if o.StorageClass != "STANDARD" {
		h.Set("x-amz-storage-class", o.StorageClass)
	}
	if len(o.Tags) > 0 {
		h.Set("x-amz-tagging-count", strconv.Itoa(len(o.Tags)))
	}
}

func (o *demoObject) writeChecksum(h http.Header) {
	if o.Algorithm != "" {
		h.Set("x-amz-checksum-"+o.Algorithm, o.Sum)
		h.Set("x-amz-checksum-type", o.checksumType())
	}
}

// checksumType is COMPOSITE for the sum of the parts' sums.
func (o *demoObject) checksumType() string {
	if o.Composite {
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// readConditions follows the order of RFC 9110 section 13.2.2: where there are
// both, a condition on the ETag outweighs the one on the time.
func (o *demoObject) readConditions(h http.Header) error {
	match, noneMatch := h.Get("If-Match"), h.Get("If-None-Match")
	since, errSince := http.ParseTime(h.Get("If-Modified-Since"))
	unmodified, errUnmodified := http.ParseTime(h.Get("If-Unmodified-Since"))
	switch {
	case match != "" && !demoMatches(match, o.ETag):
		return errDemoPrecondition
	case match == "" && errUnmodified == nil && o.Modified.After(unmodified):
		return errDemoPrecondition
	case noneMatch != "" && demoMatches(noneMatch, o.ETag):
		return errDemoNotModified
	case noneMatch == "" && errSince == nil && !o.Modified.After(since):
		return errDemoNotModified
	}
	return nil
}

// demoMatches reports whether a list of ETags holds one. S3 takes them without
// their quotes too.
func demoMatches(list, etag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one == "*" || strings.Trim(one, `"`) == strings.Trim(etag, `"`) {
			return true
		}
	}
	return false
}

// rangeOf returns the part of the object that was asked for:
//
//	bytes=first-last    bytes=first-    bytes=-suffix
//
// Anything else is ignored, as RFC 9110 section 14.2 has it, and so are
// several ranges, which S3 doesn't serve, and a range If-Range rules out.
func (o *demoObject) rangeOf(h http.Header) (first, length int64, partial bool, err error) {
	m := demoRange.FindStringSubmatch(h.Get("Range"))
	if cond := h.Get("If-Range"); m == nil || m[1]+m[2] == "" || cond != "" && cond != o.ETag && cond != o.Modified.Format(http.TimeFormat) {
		return 0, o.Size, false, nil
	}
	a, _ := strconv.ParseInt(m[1], 10, 64) // what is too large is the largest there is
	b, _ := strconv.ParseInt(m[2], 10, 64)
	switch {
	case m[1] == "":
		a, b = max(0, o.Size-b), o.Size-1
	case m[2] == "":
		b = o.Size - 1
	case b < a:
		return 0, o.Size, false, nil
	}
	if a >= o.Size {
		return 0, 0, false, errDemoInvalidRange
	}
	return a, min(b, o.Size-1) - a + 1, true, nil
}

var demoRange = regexp.MustCompile(`^bytes=(\d*)-(\d*)$`)
