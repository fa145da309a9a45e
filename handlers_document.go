package main

// Operations whose request carries a document: what each takes, and how it is read
// and passed on. A row of the operation table that is run by passSmall and has no
// entry here is refused, so that no document is forwarded which nobody has read.

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

// A documentRule says what document an operation takes.
type documentRule struct {
	form requestForm
	size int64                 // of the document as it comes, in bytes, at most
	read func(*exchange) visit // checks elements for one request; nil: the form's visit does
	json bool                  // a JSON object; the form is not used

	// optional reports whether the request may do without a document; nil: it may not.
	optional func(http.Header) bool
	// ofObject: checksums in headers are those of an object, not of the document.
	ofObject bool
}

const (
	// smallDocument bounds documents that have no list in them, or a short one: 50
	// tags of 384 characters, escaped, have less.
	smallDocument = 128 << 10
	// listDocument bounds documents with a list, as S3 does with a batch of deletions:
	// 1,000 rules or keys.
	listDocument = 2 << 20
	// partsDocument bounds the list of the parts of an upload: 10,000, each with an
	// ETag in quotes, its number, and a SHA-512 in base64, have 2.2 MB.
	partsDocument = 4 << 20
	// policyDocument is S3's bound for a policy.
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/example-bucket-policies.html
	policyDocument = 20 << 10
)

// documents are the rules by the name of the operation. What users without the role
// admin may send is known to the last element. What admins send is known by its
// root and its bounds: servers have elements of their own in configurations, and
// what those name is for users who may everything (see actionOwner). The depths are
// those of S3's service model.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
var documents = map[string]*documentRule{
	"DeleteObjects":           {form: deleteForm, size: listDocument, read: readDelete},
	"CompleteMultipartUpload": {form: completeForm, size: partsDocument, read: readComplete, ofObject: true},
	"PutObjectTagging":        {form: taggingForm, size: smallDocument},
	"RestoreObject":           {form: restoreForm, size: smallDocument},
	"SelectObjectContent":     {form: selectForm, size: smallDocument},

	"PutObjectAcl":       {form: requestForm{root: "AccessControlPolicy", depth: 5}, size: smallDocument, optional: grantsInHeaders},
	"PutObjectLegalHold": {form: requestForm{root: "LegalHold", depth: 2}, size: smallDocument},
	"PutObjectRetention": {form: requestForm{root: "Retention", depth: 2}, size: smallDocument},

	"PutBucketAccelerateConfiguration":         {form: requestForm{root: "AccelerateConfiguration", depth: 2}, size: smallDocument},
	"PutBucketAcl":                             {form: requestForm{root: "AccessControlPolicy", depth: 5}, size: smallDocument, optional: grantsInHeaders},
	"PutBucketAnalyticsConfiguration":          {form: requestForm{root: "AnalyticsConfiguration", depth: 6}, size: smallDocument},
	"PutBucketCors":                            {form: requestForm{root: "CORSConfiguration", depth: 3}, size: smallDocument},
	"PutBucketEncryption":                      {form: requestForm{root: "ServerSideEncryptionConfiguration", depth: 4}, size: smallDocument},
	"PutBucketIntelligentTieringConfiguration": {form: requestForm{root: "IntelligentTieringConfiguration", depth: 6}, size: smallDocument},
	"PutBucketInventoryConfiguration":          {form: requestForm{root: "InventoryConfiguration", depth: 6}, size: smallDocument},
	"PutBucketLifecycleConfiguration":          {form: requestForm{root: "LifecycleConfiguration", depth: 7}, size: listDocument},
	"PutBucketLogging":                         {form: requestForm{root: "BucketLoggingStatus", depth: 6}, size: smallDocument},
	"PutBucketMetricsConfiguration":            {form: requestForm{root: "MetricsConfiguration", depth: 6}, size: smallDocument},
	"PutBucketNotificationConfiguration":       {form: requestForm{root: "NotificationConfiguration", depth: 6}, size: listDocument},
	"PutObjectLockConfiguration":               {form: requestForm{root: "ObjectLockConfiguration", depth: 4}, size: smallDocument},
	"PutBucketOwnershipControls":               {form: requestForm{root: "OwnershipControls", depth: 3}, size: smallDocument},
	"PutBucketPolicy":                          {json: true, size: policyDocument},
	"PutPublicAccessBlock":                     {form: requestForm{root: "PublicAccessBlockConfiguration", depth: 2}, size: smallDocument},
	"PutBucketReplication":                     {form: requestForm{root: "ReplicationConfiguration", depth: 7}, size: listDocument},
	"PutBucketRequestPayment":                  {form: requestForm{root: "RequestPaymentConfiguration", depth: 2}, size: smallDocument},
	"PutBucketTagging":                         {form: taggingForm, size: smallDocument},
	"PutBucketVersioning":                      {form: requestForm{root: "VersioningConfiguration", depth: 2}, size: smallDocument},
	"PutBucketWebsite":                         {form: requestForm{root: "WebsiteConfiguration", depth: 5}, size: smallDocument},
}

var taggingForm = requestForm{root: "Tagging", depth: 4, members: members("TagSet", "TagSet/Tag+", "TagSet/Tag/Key", "TagSet/Tag/Value")}

// restoreForm has no place for what is restored: OutputLocation is a bucket in the
// backend's terms, which nobody here has authorized, and a request of the type
// SELECT writes there.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html
var restoreForm = requestForm{root: "RestoreRequest", depth: 3,
	members: members("Days", "Description", "Tier", "GlacierJobParameters", "GlacierJobParameters/Tier"),
	refused: setOf("OutputLocation", "SelectParameters", "Type"),
}

// selectForm names no object: S3 has the one in the path for every FROM.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_SelectObjectContent.html
var selectForm = requestForm{root: "SelectObjectContentRequest", depth: 4, members: members(
	"Expression", "ExpressionType", "RequestProgress", "RequestProgress/Enabled", "ScanRange", "ScanRange/Start", "ScanRange/End",
	"InputSerialization", "InputSerialization/CompressionType", "InputSerialization/Parquet",
	"InputSerialization/JSON", "InputSerialization/JSON/Type", "InputSerialization/CSV",
	"InputSerialization/CSV/AllowQuotedRecordDelimiter", "InputSerialization/CSV/Comments", "InputSerialization/CSV/FieldDelimiter",
	"InputSerialization/CSV/FileHeaderInfo", "InputSerialization/CSV/QuoteCharacter", "InputSerialization/CSV/QuoteEscapeCharacter", "InputSerialization/CSV/RecordDelimiter",
	"OutputSerialization", "OutputSerialization/JSON", "OutputSerialization/JSON/RecordDelimiter", "OutputSerialization/CSV",
	"OutputSerialization/CSV/FieldDelimiter", "OutputSerialization/CSV/QuoteCharacter", "OutputSerialization/CSV/QuoteEscapeCharacter",
	"OutputSerialization/CSV/QuoteFields", "OutputSerialization/CSV/RecordDelimiter",
)}

// grantsInHeaders reports whether a request says in headers what else its document
// says: S3 takes an ACL by either.
func grantsInHeaders(h http.Header) bool {
	for name := range h {
		if name == "X-Amz-Acl" || strings.HasPrefix(name, "X-Amz-Grant-") {
			return true
		}
	}
	return false
}

// passSmall forwards a request with a document, once all of that was read and found
// right.
func (g *gateway) passSmall(x *exchange) *apiError {
	out, err := g.outgoing(x)
	if err != nil {
		return err
	}
	doc, err := x.readDocument()
	if err != nil {
		return err
	}
	defer doc.free()
	x.setDocument(out, doc)
	return g.stream(x, out)
}

// documentSource returns the body of a request that brings a document, if what the client
// says of it can be checked.
func (x *exchange) documentSource(rule *documentRule) (*documentSource, *apiError) {
	in, refusal := x.incoming(rule.size)
	if refusal != nil {
		return nil, refusal
	}
	sums, refusal := declaredSums(x.r.Header, rule)
	if refusal != nil {
		return nil, refusal
	}
	if in.chunks != nil && !in.chunks.verifies() {
		return nil, errUnverified()
	}
	return &documentSource{in: in, sums: sums}, nil
}

// readDocument returns the document of the request, checked against what the client
// says of it and against the rule of the operation, and written anew. It must be
// freed.
func (x *exchange) readDocument() (*heldDocument, *apiError) {
	rule := documents[x.op.name]
	if rule == nil {
		return nil, newError("NotImplemented", "a document for "+x.op.name+" is not supported")
	}
	source, refusal := x.documentSource(rule)
	if refusal != nil {
		return nil, refusal
	}
	doc := &heldDocument{memory: holding{share: x.documentShare()}}
	err := rule.rewrite(x, source, doc)
	if err != nil {
		doc.free() // before the rest of a slow client's body is waited for
	}
	if !isOutOfMemory(err) {
		// To the end in any case: a digest that does not match explains every other
		// error, and some clients read no answer before they have sent everything.
		if wrong := source.finish(); wrong != nil {
			err = wrong
		}
	}
	if err == nil {
		return doc, nil
	}
	doc.free()
	known, isKnown := errors.AsType[*apiError](err)
	switch {
	case isKnown:
		return nil, known
	case source.err != nil:
		return nil, x.transportError(err)
	case rule.json:
		return nil, newError("MalformedPolicy", err.Error())
	}
	return nil, newError("MalformedXML", err.Error())
}

// rewrite writes what source holds to doc, if the rule allows it.
func (rule *documentRule) rewrite(x *exchange, source *documentSource, doc *heldDocument) error {
	switch {
	case source.in.size == 0 && rule.optional != nil && rule.optional(x.r.Header):
		return nil
	case rule.json:
		if _, err := io.Copy(doc, source); err != nil {
			return err
		}
		return checkJSONObject(bytes.Join(doc.blocks, nil))
	}
	form := rule.form
	if rule.read != nil {
		form.visit = rule.read(x)
	}
	return rewrite(&form, source, doc)
}

// A documentSource is the body of a request that is a document, with the digests
// that the client has declared.
type documentSource struct {
	in   *incoming
	sums []declaredSum
	n    int64 // bytes read
	err  error // of in, but for io.EOF
}

// A declaredSum is a hash and the base64 of what it must come to.
type declaredSum struct {
	hash.Hash
	value string
}

// Read implements io.Reader.
func (s *documentSource) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.in.source.Read(p)
	s.n += int64(n)
	for _, sum := range s.sums {
		sum.Write(p[:n])
	}
	if err != io.EOF {
		s.err = err
	}
	return n, err
}

// finish reads what is left and verifies the whole.
func (s *documentSource) finish() error {
	io.Copy(io.Discard, s)
	switch {
	case s.err != nil:
		return s.err
	case s.n != s.in.size:
		return newError("IncompleteBody", "")
	}
	for _, sum := range s.sums {
		if sum.value != base64.StdEncoding.EncodeToString(sum.Sum(nil)) {
			return newError("BadDigest", "")
		}
	}
	if s.in.verify != nil {
		return s.in.verify()
	}
	return nil
}

// declaredSums returns the hashes for the digests that headers declare of the
// document. A digest that can't be verified is refused: the backend gets another
// document, and nobody would.
func declaredSums(h http.Header, rule *documentRule) (sums []declaredSum, refusal *apiError) {
	if value := h.Get("Content-Md5"); value != "" {
		sums = append(sums, declaredSum{md5.New(), value})
	}
	for name, values := range h {
		if rule.ofObject || !holdsChecksum(strings.ToLower(name)) {
			continue
		}
		sum := newChecksum(strings.ToLower(name))
		if sum == nil {
			return nil, errUnverified()
		}
		sums = append(sums, declaredSum{sum, values[0]})
	}
	return sums, nil
}

// setDocument makes a document, unframed, the body to send. What headers say of
// the document that the client sent is not true of it; Content-MD5, which every
// server knows, takes the place of all digests.
func (x *exchange) setDocument(out *outgoing, doc *heldDocument) {
	unframe(out.header)
	if doc.size == 0 {
		return
	}
	if !documents[x.op.name].ofObject {
		dropChecksums(out.header)
	}
	hash, digest := sha256.New(), md5.New()
	doc.sum(hash, digest)
	out.payloadHash = hex.EncodeToString(hash.Sum(nil))
	out.header["Content-Md5"] = []string{base64.StdEncoding.EncodeToString(digest.Sum(nil))}
	out.body, out.length = doc, doc.size
}

// maxPolicyDepth bounds objects and arrays within each other: an array of values in
// a condition of a statement is 6 deep.
const maxPolicyDepth = 8

// checkJSONObject reports whether data is one object of JSON that all parsers read
// alike: some keep the first of two equal names and some the last, and some (Go's)
// take names for equal that differ in case.
func checkJSONObject(data []byte) error {
	if !utf8.Valid(data) || !json.Valid(data) {
		return errors.New("the document is not JSON in UTF-8")
	}
	if data = bytes.TrimLeft(data, " \t\r\n"); data[0] != '{' {
		return errors.New("the document is not a JSON object")
	}
	return checkNames(json.NewDecoder(bytes.NewReader(data)), 1)
}

// checkNames reads a value from JSON that is well-formed.
func checkNames(d *json.Decoder, depth int) error {
	if depth > maxPolicyDepth {
		return errors.New("the document is nested too deeply")
	}
	token, _ := d.Token()
	names := map[string]bool{}
	for open, isOpen := token.(json.Delim); isOpen && d.More(); {
		if open == '{' {
			name, _ := d.Token()
			folded := strings.ToLower(name.(string))
			if names[folded] {
				return errors.New("an object has a name twice")
			}
			names[folded] = true
		}
		if err := checkNames(d, depth+1); err != nil {
			return err
		}
	}
	if _, isOpen := token.(json.Delim); isOpen {
		d.Token() // the end of it
	}
	return nil
}
