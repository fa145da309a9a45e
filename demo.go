package main

// The demo: a small S3 server which keeps its objects in a folder. It stands
// behind the gateway when that is started with -demo, and the test-suite runs
// the gateway against it. It is a demo and a test double, not a storage
// product: nothing is flushed to the disk, one account may do everything, and
// there are no versions, no multipart uploads and no access lists.
//
// What it does, it does as S3 does; what it does not do is answered with 501
// NotImplemented and never half done. It shares no path parser and no error
// type with the gateway, and it decodes and encodes again by itself what the
// client has signed: a double that shares the code under test proves less.
//
// A bucket is a folder, and an object is two files in it:
//
//	photos/5f1c….json             its key, headers, sums, and the name of
//	photos/5f1c….1838201.data     its bytes
//
// 5f1c… is the SHA-256 of the key, because a key has up to 1024 bytes of any
// kind and a file name can't. A new version gets a new .data file; renaming
// its .json over the old one is the moment it is stored. So a process that is
// killed leaves the old object or the new one, and a reader that has opened
// the old one reads on. The listing is in demo_list.go.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

import (
	"bytes"
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	demoMaxKey      = 1024    // bytes, the encoding not counted
	demoMaxMetadata = 2 << 10 // bytes of all names and values of x-amz-meta-*
	demoMaxObject   = 5 << 30 // bytes of one PutObject
	demoMaxSkew     = 15 * time.Minute
	demoMaxExpires  = 7 * 24 * time.Hour // of a presigned request
)

// A demoServer is the S3 server. It may be used by several goroutines at once,
// but two of them may not share one folder.
type demoServer struct {
	creds   credentials
	region  string           // the only one accepted; empty: any
	now     func() time.Time // a test may set the clock before the first request
	buckets map[string]*demoBucket
}

// newDemoServer returns a server of the buckets named and of those dir has
// already, with what was stored in them. It makes dir if need be, and removes
// what a killed process has left behind.
func newDemoServer(dir string, creds credentials, buckets ...string) (*demoServer, error) {
	s := &demoServer{creds: creds, now: time.Now, buckets: map[string]*demoBucket{}}
	for _, name := range buckets {
		if !demoBucketName.MatchString(name) {
			return nil, fmt.Errorf("%q can't be the name of a bucket", name)
		}
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
		marker, err := os.OpenFile(filepath.Join(dir, name, demoBucketMarker), os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		marker.Close()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		b, err := loadDemoBucket(filepath.Join(dir, entry.Name()))
		if err != nil {
			return nil, err
		}
		if b != nil {
			s.buckets[b.name] = b
		}
	}
	return s, nil
}

// demoBucketName is a little stricter than
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
var demoBucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// demoBucketMarker is an empty file, as old as the bucket. A folder without
// one is not ours, and nothing is touched in it.
const demoBucketMarker = ".s3-proxy-demo-bucket"

// A demoRequest is a request, read: the bucket's name is empty for the service
// itself, and the key is empty for a bucket.
type demoRequest struct {
	*http.Request
	id         string
	rawPath    string // as received
	path       string // decoded
	bucketName string
	bucket     *demoBucket // nil for the service itself
	key        string
	query      url.Values
}

// A demoError is an answer other than success.
type demoError struct {
	status        int
	code, message string
}

func (e *demoError) Error() string { return e.code + ": " + e.message }

var (
	errDemoNotImplemented = &demoError{501, "NotImplemented", "A header, a parameter or the operation itself implies functionality that is not implemented."}
	errDemoNoSuchKey      = &demoError{404, "NoSuchKey", "The specified key does not exist."}
	errDemoPrecondition   = &demoError{412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold."}
	errDemoNotModified    = &demoError{304, "NotModified", "Not Modified"}
	errDemoInvalidRange   = &demoError{416, "InvalidRange", "The requested range is not satisfiable"}
	errDemoIncomplete     = &demoError{400, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header."}
	errDemoBadSHA256      = &demoError{400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."}
)

// A demoRoute is what tells one S3 operation from another. An operation is
// added by a line in demoRoutes and a method.
type demoRoute struct {
	level  string // service, bucket or object
	method string
	sub    string // the sub-resource, a parameter of demoSubResources, or ""
}

var demoRoutes = map[demoRoute]func(*demoServer, http.ResponseWriter, *demoRequest) error{
	{"service", "GET", ""}:        (*demoServer).listBuckets,
	{"bucket", "GET", ""}:         (*demoServer).listObjects,
	{"bucket", "HEAD", ""}:        (*demoServer).headBucket,
	{"bucket", "GET", "location"}: (*demoServer).getBucketLocation,
	{"object", "GET", ""}:         (*demoServer).getObject,
	{"object", "HEAD", ""}:        (*demoServer).getObject,
	{"object", "PUT", ""}:         (*demoServer).putObject,
	{"object", "DELETE", ""}:      (*demoServer).deleteObject,
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
	"X-Amz-Bypass-Governance-Retention", "X-Amz-Copy-Source", "X-Amz-Grant-", "X-Amz-If-Match-", "X-Amz-Mfa",
	"X-Amz-Object-Lock-", "X-Amz-Rename-Source", "X-Amz-Server-Side-Encryption", "X-Amz-Tagging", "X-Amz-Trailer",
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
	if q.bucketName != "" {
		if q.bucket = s.buckets[q.bucketName]; q.bucket == nil {
			return &demoError{404, "NoSuchBucket", "The specified bucket does not exist"}
		}
	}
	if q.Method != "PUT" { // no other has a use for a body, but its digest was signed
		if _, err := io.Copy(io.Discard, q.Body); err != nil {
			return err
		}
	}
	return operation(s, w, q)
}

// parse takes bucket and key from the request as it was received. S3 decodes
// the whole path once and then splits it, so "/photos%2Fcat" is a key in
// photos; nothing is cleaned.
func (q *demoRequest) parse() error {
	var rawQuery string
	q.rawPath, rawQuery, _ = strings.Cut(q.RequestURI, "?")
	path, err := url.PathUnescape(q.rawPath)
	if err != nil || !strings.HasPrefix(path, "/") || !utf8.ValidString(path) {
		return &demoError{400, "InvalidURI", "Couldn't parse the specified URI."}
	}
	q.path = path
	q.bucketName, q.key, _ = strings.Cut(path[1:], "/")
	if len(q.key) > demoMaxKey {
		return &demoError{400, "KeyTooLongError", "Your key is too long"}
	}
	if q.query, err = url.ParseQuery(rawQuery); err != nil {
		return &demoError{400, "InvalidURI", "Couldn't parse the specified URI."}
	}
	return nil
}

func (q *demoRequest) route() demoRoute {
	route := demoRoute{"object", q.Method, ""}
	switch {
	case q.bucketName == "":
		route.level = "service"
	case q.key == "":
		route.level = "bucket"
	}
	for _, name := range demoSubResources {
		if q.query.Has(name) {
			route.sub = name
			break
		}
	}
	return route
}

func (q *demoRequest) unsupportedHeader() bool {
	for name := range q.Header {
		for _, prefix := range demoUnsupportedHeaders {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}

// writeError writes the error document,
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func (q *demoRequest) writeError(w http.ResponseWriter, err error) {
	var e *demoError
	if !errors.As(err, &e) {
		e = &demoError{500, "InternalError", err.Error()} // a demo may show its insides
	}
	if e.status == http.StatusNotModified {
		w.WriteHeader(e.status)
		return
	}
	var x demoXML
	x.open("Error")
	x.element("Code", e.code)
	x.element("Message", e.message)
	x.element("Resource", q.rawPath) // encoded: every client must be able to read this
	x.element("RequestId", q.id)
	x.close("Error")
	x.write(w, q, e.status)
}

// --- Signature Version 4 ---

// A demoAuthorization is what a request says about its own signature.
type demoAuthorization struct {
	accessKeyID, date, region string // of the credential; the date is yyyymmdd
	signedHeaders             string // a;b;c
	signature                 string
	time                      time.Time
	expires                   time.Duration // of a presigned request; otherwise 0
	token                     string
	payloadHash               string
}

// authenticate checks the signature over what was received, and then puts a
// reader in the place of the body which checks that too. A bucket that is
// not there is nobody's business before.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
func (s *demoServer) authenticate(q *demoRequest) error {
	a, err := q.authorization()
	if err != nil {
		return err
	}
	if !demoEqual(a.accessKeyID, s.creds.AccessKeyID) {
		return &demoError{403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."}
	}
	if s.region != "" && a.region != s.region {
		return demoMalformed("the region '" + a.region + "' is wrong; expecting '" + s.region + "'")
	}
	if err := a.checkTime(s.now()); err != nil {
		return err
	}
	if !q.allSigned(a.signedHeaders) {
		return &demoError{403, "AccessDenied", "There were headers present in the request which were not signed"}
	}
	key := signingKey(s.creds.SecretAccessKey, a.date, a.region, "s3")
	want := signature(key, stringToSign(a.time.Format(amzDateFormat), credentialScope(a.date, a.region, "s3"), q.canonical(a)))
	if !demoEqual(a.signature, string(want)) {
		return &demoError{403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	}
	if !demoEqual(a.token, s.creds.SessionToken) {
		return &demoError{400, "InvalidToken", "The provided token is malformed or otherwise invalid."}
	}
	return q.expectBody(a.payloadHash)
}

// demoEqual compares in constant time: how long a refusal takes must not tell
// how much of a guess was right.
func demoEqual(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}

func (q *demoRequest) authorization() (*demoAuthorization, error) {
	header, presigned := q.Header.Get("Authorization"), q.query.Has("X-Amz-Signature") || q.query.Has("X-Amz-Algorithm")
	switch {
	case header != "" && presigned:
		return nil, &demoError{400, "InvalidArgument", "Only one auth mechanism allowed"}
	case presigned:
		return q.queryAuthorization()
	case q.query.Has("AWSAccessKeyId"): // version 2, which some clients still presign with
		return q.headerAuthorization("AWS")
	case header == "":
		return nil, &demoError{403, "AccessDenied", "Access Denied"}
	}
	return q.headerAuthorization(header)
}

func demoMalformed(why string) error {
	return &demoError{400, "AuthorizationHeaderMalformed", "The authorization header is malformed; " + why + "."}
}

// headerAuthorization reads
//
//	AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…
//
// in which a comma may stand without a space.
func (q *demoRequest) headerAuthorization(header string) (*demoAuthorization, error) {
	algorithm, rest, _ := strings.Cut(header, " ")
	if algorithm != signatureAlgorithm {
		return nil, &demoError{400, "InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."}
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		fields[name] = value
	}
	a := &demoAuthorization{signedHeaders: fields["SignedHeaders"], signature: fields["Signature"]}
	if len(fields) != 3 || a.signedHeaders == "" || a.signature == "" || !a.setCredential(fields["Credential"]) {
		return nil, demoMalformed("it must hold Credential=<key id>/<yyyymmdd>/<region>/s3/aws4_request, SignedHeaders and Signature")
	}
	var err error
	if a.time, err = demoAmzTime(q.Header.Get("X-Amz-Date")); err != nil {
		if a.time, err = http.ParseTime(q.Header.Get("Date")); err != nil {
			return nil, &demoError{403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header"}
		}
	}
	if a.time.Format("20060102") != a.date {
		return nil, demoMalformed("the date of the credential is not the date of the request")
	}
	if a.payloadHash = q.Header.Get("X-Amz-Content-Sha256"); a.payloadHash == "" {
		return nil, &demoError{400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"}
	}
	a.token = q.Header.Get("X-Amz-Security-Token")
	return a, nil
}

// queryAuthorization reads a presigned request, whose body is not signed
// unless it says so.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
func (q *demoRequest) queryAuthorization() (*demoAuthorization, error) {
	a := &demoAuthorization{
		signedHeaders: q.query.Get("X-Amz-SignedHeaders"),
		signature:     q.query.Get("X-Amz-Signature"),
		token:         q.query.Get("X-Amz-Security-Token"),
		payloadHash:   cmp.Or(q.Header.Get("X-Amz-Content-Sha256"), q.query.Get("X-Amz-Content-Sha256"), unsignedPayload),
	}
	t, err1 := demoAmzTime(q.query.Get("X-Amz-Date"))
	seconds, err2 := strconv.ParseUint(q.query.Get("X-Amz-Expires"), 10, 31)
	a.time, a.expires = t, time.Duration(seconds)*time.Second
	switch {
	case err1 != nil, err2 != nil, a.expires <= 0, a.expires > demoMaxExpires,
		q.query.Get("X-Amz-Algorithm") != signatureAlgorithm, a.signedHeaders == "", a.signature == "",
		!a.setCredential(q.query.Get("X-Amz-Credential")), t.Format("20060102") != a.date:
		return nil, &demoError{400, "AuthorizationQueryParametersError", "Query-string authentication version 4 requires valid X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."}
	}
	return a, nil
}

// demoAmzTime parses an instant of amzDateFormat. time.Parse alone would take
// a fraction of a second after it.
func demoAmzTime(s string) (time.Time, error) {
	if len(s) != len(amzDateFormat) {
		return time.Time{}, fmt.Errorf("%q is not an instant of the form %s", s, amzDateFormat)
	}
	return time.Parse(amzDateFormat, s)
}

// setCredential reads a credential from its end: a key id may hold a slash.
func (a *demoAuthorization) setCredential(credential string) bool {
	parts := strings.Split(credential, "/")
	n := len(parts) - 4
	if n < 1 || parts[n+2] != "s3" || parts[n+3] != scopeTerminator {
		return false
	}
	a.accessKeyID, a.date, a.region = strings.Join(parts[:n], "/"), parts[n], parts[n+1]
	return a.region != ""
}

func (a *demoAuthorization) checkTime(now time.Time) error {
	switch {
	case a.expires == 0 && now.Sub(a.time).Abs() > demoMaxSkew:
		return &demoError{403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."}
	case a.expires > 0 && now.After(a.time.Add(a.expires)):
		return &demoError{403, "AccessDenied", "Request has expired"}
	case a.expires > 0 && a.time.Sub(now) > demoMaxSkew:
		return &demoError{403, "AccessDenied", "Request is not yet valid"}
	}
	return nil
}

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

// canonical writes the canonical request anew from what was received.
func (q *demoRequest) canonical(a *demoAuthorization) []byte {
	var fields []headerField
	for name := range strings.SplitSeq(a.signedHeaders, ";") {
		value := strings.Join(q.Header.Values(name), ",")
		switch {
		case name == "host":
			value = q.Host
		case name == "content-length" && value == "":
			value = strconv.FormatInt(q.ContentLength, 10)
		}
		fields = append(fields, headerField{name, value})
	}
	path := strings.ReplaceAll(demoEncode(q.path), "%2F", "/")
	return appendCanonicalRequest(nil, q.Method, path, q.canonicalQuery(), fields, a.payloadHash)
}

func (q *demoRequest) canonicalQuery() string {
	type pair struct{ name, value string }
	var pairs []pair
	for name, values := range q.query {
		for _, value := range values {
			if name != "X-Amz-Signature" {
				pairs = append(pairs, pair{demoEncode(name), demoEncode(value)})
			}
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.value, b.value))
	})
	encoded := make([]string, len(pairs))
	for i, p := range pairs {
		encoded[i] = p.name + "=" + p.value
	}
	return strings.Join(encoded, "&")
}

// demoEncode is the specification's UriEncode: url.QueryEscape leaves just the
// same characters alone, but for the space.
func demoEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// expectBody has the body checked against the digest, when its end is read.
func (q *demoRequest) expectBody(payloadHash string) error {
	if strings.HasPrefix(payloadHash, "STREAMING-") {
		return errDemoNotImplemented
	}
	body := &demoBody{ReadCloser: q.Body}
	if payloadHash != unsignedPayload {
		want, err := hex.DecodeString(payloadHash)
		if err != nil || len(want) != sha256.Size {
			return &demoError{400, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid sha256 value."}
		}
		body.want, body.sum = want, sha256.New()
	}
	q.Body = body
	return nil
}

type demoBody struct {
	io.ReadCloser
	sum  hash.Hash // nil if the body was not signed
	want []byte
}

func (b *demoBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.sum != nil {
		b.sum.Write(p[:n])
	}
	switch {
	case err == io.EOF && b.sum != nil && !bytes.Equal(b.sum.Sum(nil), b.want):
		err = errDemoBadSHA256
	case err != nil && err != io.EOF: // the client went away, or sent less than it said
		err = errDemoIncomplete
	}
	return n, err
}

// --- Buckets ---

// A demoBucket is a folder of objects.
type demoBucket struct {
	name, dir string
	created   time.Time

	mu      sync.RWMutex           // protects objects, keys, and which files are current
	objects map[string]*demoObject // by key; an object never changes once it is here
	keys    []string               // of objects, sorted by bytes: what is listed
}

// A demoObject is the .json file of an object.
type demoObject struct {
	Key          string
	Data         string            // the name of the .data file
	Size         int64             // bytes
	ETag         string            // quoted
	Modified     time.Time         // whole seconds, UTC: HTTP has no finer ones
	StorageClass string            // never empty
	Header       map[string][]byte // by lower-case name; bytes, as JSON would mend them
	Checksum     map[string]string // at most one: x-amz-checksum-* and its value
}

func demoFileName(key string) string {
	digest := sha256.Sum256([]byte(key))
	return hex.EncodeToString(digest[:])
}

var demoLeftover = regexp.MustCompile(`^[0-9a-f]{64}\.[0-9]+\.(data|tmp)$`)

// loadDemoBucket reads a folder, and removes the files in it which no object
// names. It returns nil for what is no bucket.
func loadDemoBucket(dir string) (*demoBucket, error) {
	b := &demoBucket{name: filepath.Base(dir), dir: dir, objects: map[string]*demoObject{}}
	marker, err := os.Stat(filepath.Join(dir, demoBucketMarker))
	if err != nil {
		return nil, nil
	}
	b.created = marker.ModTime().UTC().Truncate(time.Second)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	current := map[string]bool{}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) == ".json" {
			o, err := loadDemoObject(dir, entry.Name())
			if err != nil {
				return nil, err
			}
			b.objects[o.Key], current[o.Data] = o, true
		}
	}
	for _, entry := range entries {
		if name := entry.Name(); demoLeftover.MatchString(name) && !current[name] {
			os.Remove(filepath.Join(dir, name))
		}
	}
	b.keys = slices.Sorted(maps.Keys(b.objects))
	return b, nil
}

// loadDemoObject refuses an object whose bytes are not all there, which can be
// after a power cut. To start without it would be to lose it silently.
func loadDemoObject(dir, name string) (*demoObject, error) {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	o := &demoObject{}
	if err := json.Unmarshal(text, o); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	data, err := os.Stat(filepath.Join(dir, filepath.Base(o.Data)))
	if err != nil {
		return nil, fmt.Errorf("%s: object %q: %w", path, o.Key, err)
	}
	if name != demoFileName(o.Key)+".json" || data.Size() != o.Size {
		return nil, fmt.Errorf("%s: object %q is damaged", path, o.Key)
	}
	return o, nil
}

// open returns an object and its bytes. The file is opened under the lock: a
// writer removes it after the object was replaced, and it stays readable then.
func (b *demoBucket) open(key string) (*demoObject, *os.File, error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	o := b.objects[key]
	if o == nil {
		return nil, nil, errDemoNoSuchKey
	}
	f, err := os.Open(filepath.Join(b.dir, o.Data))
	return o, f, err
}

// put makes o the object of its key, if h has no condition against it. It is
// decided under the lock which guards the rename: of two writers who both say
// If-None-Match: *, one is refused.
func (b *demoBucket) put(o *demoObject, h http.Header) error {
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	name := demoFileName(o.Key)
	tmp, err := demoWriteTemp(b.dir, name+".*.tmp", bytes.NewReader(text))
	if err != nil {
		return err
	}
	defer os.Remove(tmp) // fails once it is renamed, as it should

	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.objects[o.Key]
	if err := demoWriteConditions(h, old); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(b.dir, name+".json")); err != nil {
		return err
	}
	b.objects[o.Key] = o
	if old != nil {
		os.Remove(filepath.Join(b.dir, old.Data))
		return nil
	}
	i, _ := slices.BinarySearch(b.keys, o.Key)
	b.keys = slices.Insert(b.keys, i, o.Key)
	return nil
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

func (b *demoBucket) remove(key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.objects[key]
	if old == nil {
		return nil
	}
	if err := os.Remove(filepath.Join(b.dir, demoFileName(key)+".json")); err != nil {
		return err
	}
	os.Remove(filepath.Join(b.dir, old.Data))
	delete(b.objects, key)
	i, _ := slices.BinarySearch(b.keys, key)
	b.keys = slices.Delete(b.keys, i, i+1)
	return nil
}

// demoWriteTemp writes a new file, whole or not at all, and returns its path.
func demoWriteTemp(dir, pattern string, r io.Reader) (string, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(f, r)
	if err = cmp.Or(err, f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

// --- Objects ---

// demoStoredHeaders are kept with an object, besides x-amz-meta-*. Each but
// the first has a parameter response-<name> to override it.
var demoStoredHeaders = []string{
	"content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
}

// demoStorageClasses leaves out GLACIER and DEEP_ARCHIVE: such an object can't
// be read before it was restored.
var demoStorageClasses = []string{
	"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR",
}

var demoACLs = []string{
	"private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read",
	"bucket-owner-full-control", "log-delivery-write",
}

// putObject stores a body of exactly Content-Length bytes, or nothing.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
func (s *demoServer) putObject(w http.ResponseWriter, q *demoRequest) error {
	if err := q.checkLength(w); err != nil {
		return err
	}
	o, err := newDemoObject(q.key, q.Header)
	if err != nil {
		return err
	}
	sums, err := demoSumsOf(q.Header)
	if err != nil {
		return err
	}
	etag := md5.New()
	writers := []io.Writer{etag}
	for _, sum := range sums {
		writers = append(writers, sum)
		if sum.name != "content-md5" {
			o.Checksum = map[string]string{sum.name: sum.text}
		}
	}
	body := io.TeeReader(q.Body, io.MultiWriter(writers...))
	data, err := demoWriteTemp(q.bucket.dir, demoFileName(q.key)+".*.data", body)
	if err != nil {
		return err
	}
	o.Data, o.Size = filepath.Base(data), q.ContentLength
	o.ETag = `"` + hex.EncodeToString(etag.Sum(nil)) + `"`
	o.Modified = s.now().UTC().Truncate(time.Second)
	if err = demoCheckSums(sums); err == nil {
		err = q.bucket.put(o, q.Header)
	}
	if err != nil {
		os.Remove(data)
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
	case q.ContentLength < 0, q.ContentLength == 0 && q.Header.Get("Content-Length") == "":
		w.Header().Set("Connection", "close")
		return &demoError{411, "MissingContentLength", "You must provide the Content-Length HTTP header."}
	case q.ContentLength > demoMaxObject:
		return &demoError{400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size"}
	}
	return nil
}

// newDemoObject is an object made of the headers of a PutObject.
func newDemoObject(key string, h http.Header) (*demoObject, error) {
	o := &demoObject{Key: key, Header: map[string][]byte{"content-type": []byte("binary/octet-stream")}}
	metadata := 0
	for name, values := range h {
		lower, value := strings.ToLower(name), strings.Join(values, ",")
		meta, isMeta := strings.CutPrefix(lower, "x-amz-meta-")
		if isMeta {
			metadata += len(meta) + len(value)
		}
		if isMeta || slices.Contains(demoStoredHeaders, lower) {
			o.Header[lower] = []byte(value)
		}
	}
	if metadata > demoMaxMetadata {
		return nil, &demoError{400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size"}
	}
	if acl := h.Get("X-Amz-Acl"); acl != "" && !slices.Contains(demoACLs, acl) {
		return nil, &demoError{400, "InvalidArgument", "The ACL is not valid"}
	}
	o.StorageClass = cmp.Or(h.Get("X-Amz-Storage-Class"), "STANDARD")
	switch {
	case o.StorageClass == "GLACIER", o.StorageClass == "DEEP_ARCHIVE":
		return nil, errDemoNotImplemented
	case !slices.Contains(demoStorageClasses, o.StorageClass):
		return nil, &demoError{400, "InvalidStorageClass", "The storage class you specified is not valid"}
	}
	return o, nil
}

// demoChecksums are S3's. CRC-64/NVME is the one of the NVM Express Command Set
// Specification, its polynomial here with the bits reversed.
//
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
var demoChecksums = map[string]func() hash.Hash{
	"x-amz-checksum-crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"x-amz-checksum-crc32c":    func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) },
	"x-amz-checksum-crc64nvme": func() hash.Hash { return crc64.New(demoCRC64NVME) },
	"x-amz-checksum-sha1":      sha1.New,
	"x-amz-checksum-sha256":    sha256.New,
}

var demoCRC64NVME = crc64.MakeTable(0x9a6c9329ac4bc9b5)

// A demoSum is a sum to be compared with what the client says it is.
type demoSum struct {
	hash.Hash
	name, text string // the header, in lower case
}

// demoSumsOf returns the sums which the headers speak of: Content-MD5, and one
// of x-amz-checksum-*.
func demoSumsOf(h http.Header) (sums []demoSum, err error) {
	algorithm := strings.ToLower(h.Get("X-Amz-Sdk-Checksum-Algorithm"))
	for name, values := range h {
		lower := strings.ToLower(name)
		checksum, ok := strings.CutPrefix(lower, "x-amz-checksum-")
		switch {
		case lower == "content-md5":
			sums = append(sums, demoSum{md5.New(), lower, values[0]})
		case !ok, checksum == "mode", checksum == "type", checksum == "algorithm":
		case demoChecksums[lower] == nil:
			return nil, errDemoNotImplemented
		default:
			sums = append(sums, demoSum{demoChecksums[lower](), lower, values[0]})
		}
	}
	named := func(s demoSum) bool { return s.name == "x-amz-checksum-"+algorithm }
	switch {
	case algorithm != "" && !slices.ContainsFunc(sums, named):
		return nil, &demoError{400, "InvalidRequest", "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found."}
	case len(sums) > 2, len(sums) == 2 && h.Get("Content-Md5") == "":
		return nil, &demoError{400, "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."}
	}
	for _, sum := range sums {
		if want, err := base64.StdEncoding.DecodeString(sum.text); err == nil && len(want) == sum.Size() {
			continue
		}
		if sum.name == "content-md5" {
			return nil, &demoError{400, "InvalidDigest", "The Content-MD5 you specified is not valid."}
		}
		return nil, &demoError{400, "InvalidRequest", "Value for " + sum.name + " header is invalid."}
	}
	return sums, nil
}

func demoCheckSums(sums []demoSum) error {
	for _, sum := range sums {
		if base64.StdEncoding.EncodeToString(sum.Sum(nil)) != sum.text {
			return &demoError{400, "BadDigest", "The " + sum.name + " you specified did not match the calculated checksum."}
		}
	}
	return nil
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
	if _, err := f.Seek(first, io.SeekStart); err != nil {
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
	if _, err := io.CopyN(w, f, length); err != nil {
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
}

func (o *demoObject) writeChecksum(h http.Header) {
	for name, value := range o.Checksum {
		h.Set(name, value)
		h.Set("x-amz-checksum-type", "FULL_OBJECT")
	}
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
	spec, ok := strings.CutPrefix(h.Get("Range"), "bytes=")
	from, to, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if cond := h.Get("If-Range"); cond != "" && cond != o.ETag && cond != o.Modified.Format(http.TimeFormat) {
		ok = false
	}
	a, okFrom := demoOffset(from)
	b, okTo := demoOffset(to)
	switch {
	case !ok, !dash, from == "" && to == "", from != "" && !okFrom, to != "" && !okTo, from != "" && to != "" && b < a:
		return 0, o.Size, false, nil
	case from == "":
		a, b = max(0, o.Size-b), o.Size-1
	case to == "":
		b = o.Size - 1
	}
	if a >= o.Size {
		return 0, 0, false, errDemoInvalidRange
	}
	return a, min(b, o.Size-1) - a + 1, true, nil
}

// demoOffset parses digits. What is too large for an int64 is its maximum,
// which is behind the end of any object.
func demoOffset(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63)
	return int64(n), err == nil || errors.Is(err, strconv.ErrRange)
}
