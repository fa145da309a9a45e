package main

// -demo: the gateway with an embedded S3 server as its backend, over real sockets and with real
// signatures, to try it in a minute. Tests use the same server as their backend.
//
// This file starts both, and it routes and authenticates the server's requests. Their operations
// are in demo_object.go (one object), demo_list.go (many) and demo_upload.go (one in many parts);
// demo_store.go has the files on disk.
//
// The server does what S3 does for everyday clients, and answers 501 NotImplemented to whatever
// else a request asks for. It is no place for data: nothing is flushed to the disk. Except for
// runDemo and demoConfig, it knows nothing of the gateway: a test double that shares the code
// under test proves less. Both use sigv4.go.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	_ "embed"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

//go:embed config.example.json
var exampleConfig []byte

// runDemo serves until ctx is done. With an empty dir the objects are in a temporary folder, which
// is removed at the end.
func runDemo(ctx context.Context, dir string, stdout io.Writer, log *slog.Logger) error {
	if dir == "" {
		temporary, err := os.MkdirTemp("", "s3-proxy-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(temporary)
		dir = temporary
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	creds := credentials{AccessKeyID: "demo", SecretAccessKey: rand.Text()}
	conf, err := demoConfig(listener.Addr().String(), creds)
	if err != nil {
		return err
	}
	backend, err := newDemoServer(dir, creds, slices.Sorted(maps.Keys(conf.buckets))...)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: backend, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)}
	go server.Serve(listener)
	defer server.Close()
	return serve(ctx, conf, launch{log: log, ready: func(front, admin net.Addr) {
		var text bytes.Buffer // written at once, not among lines of the log
		printDemo(&text, conf, "http://"+front.String(), "http://"+admin.String(), dir)
		stdout.Write(text.Bytes())
	}})
}

// demoRequests is the rate limit of the demo. The default of 100 requests in a minute would end
// the first sync of a folder.
const demoRequests = 10_000

// demoConfig returns config.example.json with all its buckets in one account, that of the embedded
// server. Keys may be nested, the limit is high, and there are admin pages. A listener whose port
// is in use gets a free one.
func demoConfig(endpoint string, creds credentials) (*config, error) {
	file, err := decodeConfig(exampleConfig, func(string) (string, bool) { return "-", true })
	if err != nil {
		return nil, err
	}
	demo := accountFile{EndpointURL: "http://" + endpoint, AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey}
	for _, a := range file.Accounts {
		demo.Buckets = append(demo.Buckets, a.Buckets...)
	}
	file.Accounts = map[string]accountFile{"demo": demo}
	file.NestedKeys = true
	requests := demoRequests
	file.RateLimit.Requests = &requests
	file.Server.Admin = &adminFile{}
	conf, err := file.check(true)
	if err != nil {
		return nil, err
	}
	conf.listen, conf.admin = freeAddress(conf.listen), freeAddress(conf.admin)
	return conf, nil
}

// freeAddress returns an address, or one with any free port if its own is in use.
func freeAddress(preferred string) string {
	probe, err := net.Listen("tcp", preferred)
	if err != nil {
		return "127.0.0.1:0"
	}
	probe.Close()
	return preferred
}

// printDemo says what the demo serves, and what to try. A test runs every command.
func printDemo(w io.Writer, conf *config, front, admin, dir string) {
	fmt.Fprintf(w, `The gateway listens on %[1]s and uses an embedded S3 server, which keeps its objects
in %[2]s. It is for trying things, not a place for data.

The users are those of config.example.json:

`, front, dir)
	for _, u := range conf.users {
		allowed := slices.DeleteFunc(slices.Sorted(maps.Keys(conf.buckets)), func(name string) bool { return !u.mayUse(name) })
		fmt.Fprintf(w, "  %-7s %-9s %s\n", u.name, u.role, strings.Join(allowed, ", "))
	}
	fmt.Fprintf(w, `
Put an object, list the bucket, and get the object as eve, who may only read: her PUT is refused.

  curl -H 'x-api-key: alice-change-me-0001' -d 'hello' -X PUT %[1]s/photos/hello.txt
  curl -H 'x-api-key: alice-change-me-0001' %[1]s/photos
  curl -H 'x-api-key: eve-change-me-000003' -i %[1]s/photos/hello.txt
  curl -H 'x-api-key: eve-change-me-000003' -d 'hello' -X PUT %[1]s/photos/hello.txt

With the AWS CLI the access key id is the name of a user, and the secret is the API key:

  AWS_ACCESS_KEY_ID=alice AWS_SECRET_ACCESS_KEY=alice-change-me-0001 AWS_DEFAULT_REGION=us-east-1 \
    aws --endpoint-url %[1]s s3 ls s3://photos

Two settings are not the defaults, so that a sync of a folder works: "nested_keys" is true (by
default a key has no slash), and "rate_limit" admits %[3]d requests a minute (by default %[4]d).

The status page is for the operator: %[2]s/

The log follows, with a line for each request. Ctrl-C ends the demo.

`, front, admin, demoRequests, defaultLimitRequests)
}

// A demoServer is the S3 server. It may be used by several goroutines at once, but two servers may
// not share a folder. A test may set the fields before the first request.
type demoServer struct {
	creds   credentials
	now     func() time.Time
	minPart int64 // bytes of each part of an upload but the last
	buckets map[string]*demoBucket
}

// newDemoServer returns a server of the buckets named and of those that the folder dir has already,
// with the objects in them.
func newDemoServer(dir string, creds credentials, buckets ...string) (*demoServer, error) {
	all, err := openDemoBuckets(dir, buckets)
	return &demoServer{creds: creds, now: time.Now, minPart: 5 << 20, buckets: all}, err
}

// A demoRequest is a parsed request. The key is empty for a bucket.
type demoRequest struct {
	*http.Request
	id         string
	path       string // decoded
	bucketName string
	key        string
	query      url.Values

	bucket      *demoBucket
	upload      *demoUpload // that uploadId names, or nil
	size        int64       // of the payload, in bytes; below 0 if it is not announced
	payloadHash string      // X-Amz-Content-Sha256
}

// A demoError is an error document.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
type demoError struct {
	XMLName   xml.Name `xml:"Error"`
	status    int
	Code      string
	Message   string
	Resource  string
	RequestId string
}

func (e *demoError) Error() string { return e.Code + ": " + e.Message }

func newDemoError(status int, code, message string) *demoError {
	return &demoError{status: status, Code: code, Message: message}
}

func demoInvalidArgument(message string) error { return newDemoError(400, "InvalidArgument", message) }
func demoInvalidRequest(message string) error  { return newDemoError(400, "InvalidRequest", message) }

var (
	errDemoNotImplemented = newDemoError(501, "NotImplemented", "A header, a parameter or the operation itself implies functionality that is not implemented.")
	errDemoNoSuchBucket   = newDemoError(404, "NoSuchBucket", "The specified bucket does not exist")
	errDemoNoSuchKey      = newDemoError(404, "NoSuchKey", "The specified key does not exist.")
	errDemoNoSuchUpload   = newDemoError(404, "NoSuchUpload", "The specified multipart upload does not exist. The upload ID might be invalid, or the multipart upload might have been aborted or completed.")
	errDemoPrecondition   = newDemoError(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
	errDemoNotModified    = newDemoError(304, "NotModified", "Not Modified")
	errDemoMalformedXML   = newDemoError(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
)

// demoOperations are what the server can do, by level, method and what else makes the operation.
var demoOperations = map[string]func(*demoServer, http.ResponseWriter, *demoRequest) error{
	"bucket GET":                     (*demoServer).listObjects,
	"bucket GET location":            (*demoServer).getBucketLocation,
	"bucket HEAD":                    (*demoServer).headBucket,
	"bucket POST delete":             (*demoServer).deleteObjects,
	"object GET":                     (*demoServer).getObject,
	"object GET uploadId":            (*demoServer).listParts,
	"object HEAD":                    (*demoServer).getObject,
	"object PUT":                     (*demoServer).putObject,
	"object PUT X-Amz-Copy-Source":   (*demoServer).copyObject,
	"object PUT partNumber uploadId": (*demoServer).uploadPart,
	"object PUT partNumber uploadId X-Amz-Copy-Source":                         (*demoServer).uploadPartCopy,
	"object PUT partNumber uploadId X-Amz-Copy-Source X-Amz-Copy-Source-Range": (*demoServer).uploadPartCopy,
	"object POST uploads":    (*demoServer).createMultipartUpload,
	"object POST uploadId":   (*demoServer).completeMultipartUpload,
	"object DELETE":          (*demoServer).deleteObject,
	"object DELETE uploadId": (*demoServer).abortMultipartUpload,
}

// demoParameters and demoHeaders do not make another operation of a request. All other parameters
// and x-amz-* headers do, known or not: to ignore one could be to do something else than was asked.
var (
	demoParameters = regexp.MustCompile(`^(continuation-token|delimiter|encoding-type|fetch-owner|list-type|marker|max-keys|` +
		`prefix|start-after|x-id|response-(cache-control|content-[a-z]+|expires))$`)
	demoHeaders = regexp.MustCompile(`^X-Amz-(Acl: (private|bucket-owner-full-control)$|` +
		`Checksum-(Algorithm|Mode|Type: FULL_OBJECT$|Crc32|Crc32c|Crc64nvme|Sha1|Sha256):|Content-Sha256:|Copy-Source-If-|Date:|` +
		`Decoded-Content-Length:|Meta-|Metadata-Directive:|Mp-Object-Size:|Request-Payer:|Sdk-Checksum-Algorithm:|` +
		`Security-Token:|Storage-Class: STANDARD$|Trailer:|User-Agent:)`)
)

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
	handle := demoOperations[q.operation()]
	if handle == nil {
		return errDemoNotImplemented
	}
	if q.bucket = s.buckets[q.bucketName]; q.bucket == nil {
		return errDemoNoSuchBucket
	}
	if q.query.Has("uploadId") {
		if q.upload = q.bucket.upload(q.query.Get("uploadId"), q.key); q.upload == nil {
			return errDemoNoSuchUpload
		}
	}
	if err := q.expectBody(); err != nil {
		return err
	}
	return handle(s, w, q)
}

// parse takes bucket and key from the request as it was received. S3 decodes the whole path once
// and then splits it, so that /photos%2Fcat is a key in photos. Nothing is cleaned.
func (q *demoRequest) parse() error {
	rawPath, rawQuery, _ := strings.Cut(q.RequestURI, "?")
	var err1, err2 error
	q.path, err1 = url.PathUnescape(rawPath)
	q.query, err2 = url.ParseQuery(rawQuery)
	if err1 != nil || err2 != nil || !strings.HasPrefix(q.path, "/") || !utf8.ValidString(q.path) {
		return newDemoError(400, "InvalidURI", "Couldn't parse the specified URI.")
	}
	q.bucketName, q.key, _ = strings.Cut(q.path[1:], "/")
	if len(q.key) > 1024 {
		return newDemoError(400, "KeyTooLongError", "Your key is too long")
	}
	return nil
}

// operation returns a key of demoOperations, or what is not implemented.
func (q *demoRequest) operation() string {
	words := []string{"object", q.Method}
	switch {
	case q.bucketName == "":
		words[0] = "service"
	case q.key == "":
		words[0] = "bucket"
	}
	for _, name := range slices.Sorted(maps.Keys(q.query)) {
		if !demoParameters.MatchString(name) {
			words = append(words, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(q.Header)) {
		if strings.HasPrefix(name, "X-Amz-") && !demoHeaders.MatchString(name+": "+q.Header.Get(name)) {
			words = append(words, name)
		}
	}
	return strings.Join(words, " ")
}

// writeError answers with the document of an error. This is a demo: the client may read an internal
// one.
func (q *demoRequest) writeError(w http.ResponseWriter, err error) {
	e := &demoError{}
	switch {
	case err == errDemoNotModified:
		w.WriteHeader(http.StatusNotModified)
		return
	case !errors.As(err, &e):
		e = newDemoError(500, "InternalError", err.Error())
	}
	document := *e
	document.RequestId = q.id
	document.Resource, _, _ = strings.Cut(q.RequestURI, "?") // encoded: every client must be able to read it
	q.writeXML(w, e.status, document)
}

// writeXML answers with a document; to a HEAD, with its headers.
func (q *demoRequest) writeXML(w http.ResponseWriter, status int, document any) error {
	text, err := xml.Marshal(document)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	if q.Method != http.MethodHead {
		io.WriteString(w, xml.Header+string(text))
	}
	return nil
}

const demoMaxSkew = 15 * time.Minute

// demoAuthorization is the header: access key id, date, region, names of the signed headers,
// signature.
var demoAuthorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 +Credential=(.+)/(\d{8})/([^/]+)/s3/aws4_request, *SignedHeaders=([^,]+), *Signature=([0-9a-f]+)$`)

// authenticate checks the signature over what was received. The signed digest of the body is checked
// as the body is read.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
func (s *demoServer) authenticate(q *demoRequest) error {
	authorization := q.Header.Get("Authorization")
	m := demoAuthorization.FindStringSubmatch(authorization)
	switch {
	case authorization == "":
		return demoDenied("Access Denied") // to a presigned request too
	case !strings.HasPrefix(authorization, signatureAlgorithm+" "):
		return demoInvalidRequest("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
	case m == nil:
		return newDemoError(400, "AuthorizationHeaderMalformed", "The authorization header is malformed; it must hold Credential=<key id>/<yyyymmdd>/<region>/s3/aws4_request, SignedHeaders and Signature.")
	}
	keyID, date, region, signedHeaders, given := m[1], m[2], m[3], m[4], m[5]
	amzDate := q.Header.Get("X-Amz-Date")
	now, err := time.Parse(amzDateFormat, amzDate)
	q.payloadHash = q.Header.Get("X-Amz-Content-Sha256")
	switch {
	case q.payloadHash == "":
		return demoInvalidRequest("Missing required header for this request: x-amz-content-sha256")
	case err != nil || date != now.Format("20060102"):
		return demoDenied("AWS authentication requires a valid x-amz-date header, of the same day as the credential")
	case !demoEqual(keyID, s.creds.AccessKeyID):
		return newDemoError(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	case s.now().Sub(now).Abs() > demoMaxSkew:
		return newDemoError(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	case !q.allSigned(signedHeaders):
		return demoDenied("There were headers present in the request which were not signed")
	}
	key := signingKey(s.creds.SecretAccessKey, date, region, "s3")
	want := signature(key, stringToSign(amzDate, credentialScope(date, region, "s3"), q.canonical(signedHeaders)))
	if !demoEqual(given, string(want)) {
		return newDemoError(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
	}
	if !demoEqual(q.Header.Get("X-Amz-Security-Token"), s.creds.SessionToken) {
		return newDemoError(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
	}
	return nil
}

// demoEqual compares in constant time: how long a refusal takes must not tell how much of a guess
// was right.
func demoEqual(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func demoDenied(message string) error { return newDemoError(403, "AccessDenied", message) }

// allSigned reports whether host and every x-amz-* header are in the list.
func (q *demoRequest) allSigned(list string) bool {
	signed := strings.Split(list, ";")
	for name := range q.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(signed, lower) {
			return false
		}
	}
	return slices.Contains(signed, "host")
}

// canonical returns the canonical request, written anew from what was received.
func (q *demoRequest) canonical(signedHeaders string) []byte {
	var fields []headerField
	for name := range strings.SplitSeq(signedHeaders, ";") {
		value := strings.Join(q.Header.Values(name), ",")
		if name == "host" {
			value = q.Host
		}
		fields = append(fields, headerField{name, value})
	}
	var pairs []string // sorted by name, then by value, both encoded: NUL sorts before all they can hold
	for name, values := range q.query {
		for _, value := range values {
			pairs = append(pairs, demoEncode(name)+"\x00"+demoEncode(value))
		}
	}
	slices.Sort(pairs)
	query := strings.ReplaceAll(strings.Join(pairs, "&"), "\x00", "=")
	path := strings.ReplaceAll(demoEncode(q.path), "%2F", "/")
	return appendCanonicalRequest(nil, q.Method, path, query, fields, q.payloadHash)
}

// demoEncode is SigV4's UriEncode, which differs from url.QueryEscape in the space only.
func demoEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
