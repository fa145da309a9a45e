package main

// The demo: a small S3 server which keeps its objects in a folder. It stands
// behind the gateway when that is started with -demo, and the test-suite runs
// the gateway against it. It is a demo and a test double, not a storage
// product: nothing is flushed to the disk, one account may do everything, and
// there are no versions and no access lists.
//
// What it does, it does as S3 does; what it does not do is answered with 501
// NotImplemented and never half done. It shares no path parser, no chunk
// decoder and no error type with the gateway, and it decodes and encodes again
// by itself what the client has signed: a double that shares the code under
// test proves less.
//
// This file says what a request asks for. The way of it goes on in
//
//	demo_auth.go     who has signed it
//	demo_body.go     what comes with it: digests, checksums, chunks
//	demo_object.go   one object: get, put, copy, delete
//	demo_about.go    what is known of one: tags, attributes, access
//	demo_upload.go   one object in many parts
//	demo_list.go     many objects: lists, and the XML they are written in
//	demo_store.go    the files on disk
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A demoServer is the S3 server. It may be used by several goroutines at once,
// but two of them may not share one folder. A test may set the fields before
// the first request.
type demoServer struct {
	creds   credentials
	region  string           // the only one accepted; empty: any
	now     func() time.Time // the clock
	minPart int64            // bytes of each part of an upload but the last
	buckets map[string]*demoBucket
}

// newDemoServer returns a server of the buckets named and of those dir has
// already, with what was stored in them. It makes dir if need be, and removes
// what a killed process has left behind.
func newDemoServer(dir string, creds credentials, buckets ...string) (*demoServer, error) {
	s := &demoServer{creds: creds, now: time.Now, minPart: 5 << 20, buckets: map[string]*demoBucket{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range buckets {
		if err := makeDemoBucket(dir, name); err != nil {
			return nil, err
		}
	}
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		b, err := loadDemoBucket(filepath.Join(dir, entry.Name()), s.now())
		if err != nil {
			return nil, err
		}
		if b != nil {
			s.buckets[b.name] = b
		}
	}
	return s, err
}

// A demoRequest is a request, read: the bucket's name is empty for the service
// itself, and the key is empty for a bucket.
type demoRequest struct {
	*http.Request
	id         string
	path       string // decoded
	bucketName string
	bucket     *demoBucket // nil for the service itself
	key        string
	upload     *demoUpload // that uploadId names, or nil
	query      url.Values

	// Of the payload: its bytes, as announced, below 0 if they are not; and its
	// SHA-256 in hex, or what stands in the place of that.
	size        int64
	payloadHash string
}

// A demoError is an answer other than success.
type demoError struct {
	status        int
	code, message string
}

func (e *demoError) Error() string { return e.code + ": " + e.message }

var (
	errDemoNotImplemented = &demoError{501, "NotImplemented", "A header, a parameter or the operation itself implies functionality that is not implemented."}
	errDemoNoSuchBucket   = &demoError{404, "NoSuchBucket", "The specified bucket does not exist"}
	errDemoNoSuchKey      = &demoError{404, "NoSuchKey", "The specified key does not exist."}
	errDemoNoSuchUpload   = &demoError{404, "NoSuchUpload", "The specified multipart upload does not exist. The upload ID might be invalid, or the multipart upload might have been aborted or completed."}
	errDemoPrecondition   = &demoError{412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold."}
	errDemoNotModified    = &demoError{304, "NotModified", "Not Modified"}
	errDemoInvalidRange   = &demoError{416, "InvalidRange", "The requested range is not satisfiable"}
	errDemoMalformedXML   = &demoError{400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema"}
	errDemoInvalidURI     = &demoError{400, "InvalidURI", "Couldn't parse the specified URI."}
)

func demoInvalidArgument(message string) error { return &demoError{400, "InvalidArgument", message} }
func demoInvalidRequest(message string) error  { return &demoError{400, "InvalidRequest", message} }

// A demoRoute is what tells one S3 operation from another. An operation is
// added by a line in demoRoutes and a method.
type demoRoute struct {
	level  string // service, bucket or object
	method string
	sub    string // all of its demoSubResources, with "+copy" if there is a source
}

var demoRoutes = map[demoRoute]func(*demoServer, http.ResponseWriter, *demoRequest) error{
	{"service", "GET", ""}:                        (*demoServer).listBuckets,
	{"bucket", "GET", ""}:                         (*demoServer).listObjects,
	{"bucket", "GET", "acl"}:                      (*demoServer).getACL,
	{"bucket", "GET", "location"}:                 (*demoServer).getBucketLocation,
	{"bucket", "GET", "uploads"}:                  (*demoServer).listMultipartUploads,
	{"bucket", "GET", "versioning"}:               (*demoServer).getBucketVersioning,
	{"bucket", "GET", "versions"}:                 (*demoServer).listObjectVersions,
	{"bucket", "HEAD", ""}:                        (*demoServer).headBucket,
	{"bucket", "POST", "delete"}:                  (*demoServer).deleteObjects,
	{"object", "GET", ""}:                         (*demoServer).getObject,
	{"object", "GET", "acl"}:                      (*demoServer).getACL,
	{"object", "GET", "attributes"}:               (*demoServer).getObjectAttributes,
	{"object", "GET", "tagging"}:                  (*demoServer).getObjectTagging,
	{"object", "GET", "uploadId"}:                 (*demoServer).listParts,
	{"object", "HEAD", ""}:                        (*demoServer).getObject,
	{"object", "PUT", ""}:                         (*demoServer).putObject,
	{"object", "PUT", "+copy"}:                    (*demoServer).copyObject,
	{"object", "PUT", "partNumber&uploadId"}:      (*demoServer).uploadPart,
	{"object", "PUT", "partNumber&uploadId+copy"}: (*demoServer).uploadPartCopy,
	{"object", "PUT", "tagging"}:                  (*demoServer).putObjectTagging,
	{"object", "POST", "uploads"}:                 (*demoServer).createMultipartUpload,
	{"object", "POST", "uploadId"}:                (*demoServer).completeMultipartUpload,
	{"object", "DELETE", ""}:                      (*demoServer).deleteObject,
	{"object", "DELETE", "tagging"}:               (*demoServer).deleteObjectTagging,
	{"object", "DELETE", "uploadId"}:              (*demoServer).abortMultipartUpload,
}

// demoSubResources are the parameters that make another operation of a
// request, or another object of a key. S3 ignores parameters it doesn't know;
// to ignore one of these would be to do something else than was asked.
var demoSubResources = []string{
	"abac", "accelerate", "acl", "analytics", "append", "attributes", "bucket-region", "cors", "delete", "encryption",
	"intelligent-tiering", "inventory", "legal-hold", "lifecycle", "location", "logging", "max-buckets",
	"metadataConfiguration", "metadataTable", "metrics", "notification", "object-lock", "ownershipControls",
	"partNumber", "policy", "policyStatus", "publicAccessBlock", "renameObject", "replication", "requestPayment",
	"restore", "retention", "select", "session", "tagging", "torrent", "uploadId", "uploads", "versionId",
	"versioning", "versions", "website",
}

// demoUnsupportedHeaders begin the names of headers for which the same holds.
var demoUnsupportedHeaders = []string{
	"X-Amz-Bypass-Governance-Retention", "X-Amz-Copy-Source-Server-Side-Encryption", "X-Amz-Grant-", "X-Amz-If-Match-",
	"X-Amz-Mfa", "X-Amz-Object-Lock-", "X-Amz-Rename-Source", "X-Amz-Server-Side-Encryption",
	"X-Amz-Website-Redirect-Location", "X-Amz-Write-Offset-Bytes",
}

func (s *demoServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &demoRequest{Request: r, id: rand.Text()[:16]}
	w.Header().Set("Server", "s3-proxy-demo")
	w.Header().Set("x-amz-request-id", q.id)
	if err := s.serve(w, q); err != nil {
		q.writeError(w, err)
	}
}

func (s *demoServer) serve(w http.ResponseWriter, q *demoRequest) error {
	if err := q.parse(); err != nil {
		return err
	}
	if err := s.authenticate(q); err != nil {
		return err
	}
	operation := demoRoutes[q.route()]
	if operation == nil || q.unsupportedHeader() {
		return errDemoNotImplemented
	}
	if q.bucket = s.buckets[q.bucketName]; q.bucket == nil && q.bucketName != "" {
		return errDemoNoSuchBucket
	}
	if q.query.Has("uploadId") {
		if q.upload = q.bucket.upload(q.query.Get("uploadId"), q.key); q.upload == nil {
			return errDemoNoSuchUpload
		}
	}
	if q.Method != "PUT" && q.Method != "POST" { // no use for a body, but its digest was signed
		if _, err := q.payload(io.Discard); err != nil {
			return err
		}
	}
	if err := operation(s, w, q); err != nil {
		return err
	}
	if q.Method == "DELETE" {
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// parse takes bucket and key from the request as it was received. S3 decodes
// the whole path once and then splits it, so "/photos%2Fcat" is a key in
// photos; nothing is cleaned.
func (q *demoRequest) parse() error {
	rawPath, rawQuery, _ := strings.Cut(q.RequestURI, "?")
	var err1, err2 error
	q.path, err1 = url.PathUnescape(rawPath)
	q.query, err2 = url.ParseQuery(rawQuery)
	if err1 != nil || err2 != nil || !strings.HasPrefix(q.path, "/") || !utf8.ValidString(q.path) {
		return errDemoInvalidURI
	}
	q.bucketName, q.key, _ = strings.Cut(q.path[1:], "/")
	if len(q.key) > demoMaxKey {
		return &demoError{400, "KeyTooLongError", "Your key is too long"}
	}
	return nil
}

func (q *demoRequest) route() demoRoute {
	route := demoRoute{level: "object", method: q.Method}
	switch {
	case q.bucketName == "":
		route.level = "service"
	case q.key == "":
		route.level = "bucket"
	}
	subs := slices.DeleteFunc(slices.Clone(demoSubResources), func(name string) bool { return !q.query.Has(name) })
	route.sub = strings.Join(subs, "&")
	if q.Header["X-Amz-Copy-Source"] != nil {
		route.sub += "+copy"
	}
	return route
}

func (q *demoRequest) unsupportedHeader() bool {
	for name := range q.Header {
		if slices.ContainsFunc(demoUnsupportedHeaders, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			return true
		}
	}
	return false
}

// writeError writes the error document. A demo may show its insides.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func (q *demoRequest) writeError(w http.ResponseWriter, err error) {
	var e *demoError
	if !errors.As(err, &e) {
		e = &demoError{500, "InternalError", fmt.Sprint(err)}
	}
	if e.status == http.StatusNotModified {
		w.WriteHeader(e.status)
		return
	}
	resource, _, _ := strings.Cut(q.RequestURI, "?") // encoded: every client must be able to read this
	var x demoXML
	x.begin("Error")
	x.fields("Code", e.code, "Message", e.message, "Resource", resource, "RequestId", q.id)
	x.send(w, q, e.status)
}
