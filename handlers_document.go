package main

// Operations whose request carries a document: what each accepts, and how the document is
// read and forwarded. An operation that is run by passSmall and has no entry here is
// refused, so that no document is forwarded unread.

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

// A documentRule says what document an operation accepts.
type documentRule struct {
	form requestForm
	size int64                 // largest document, in bytes as received
	read func(*exchange) visit // checks elements for one request; nil: the form's visit does
	json bool                  // a JSON object; the form is not used

	// optional reports whether the request may have no document; nil: it may not.
	optional func(http.Header) bool
	// ofObject: the checksums in headers are of an object, not of the document.
	ofObject bool
}

const (
	// smallDocument bounds documents with no list or a short one: 50 tags of 384
	// characters, escaped, are smaller.
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

// documents are the rules by the name of the operation. For users without the role admin
// every element is known. For admins the root and the bounds are: servers have elements of
// their own in configurations, and those that name other places are for admins of all
// buckets (see actionBeyondBucket). The depths are those of S3's service model.
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

// restoreForm has no OutputLocation: that is a bucket in the backend's terms, which the
// gateway can't authorize, and a request of the type SELECT writes there.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_RestoreObject.html
var restoreForm = requestForm{root: "RestoreRequest", depth: 3,
	members: members("Days", "Description", "Tier", "GlacierJobParameters", "GlacierJobParameters/Tier"),
	refused: setOf("OutputLocation", "SelectParameters", "Type"),
}

// selectForm names no object: in S3 every FROM is the object in the path.
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

// grantsInHeaders reports whether the headers of a request have an ACL, which S3 accepts in
// place of the document.
func grantsInHeaders(h http.Header) bool {
	for name := range h {
		if name == "X-Amz-Acl" || strings.HasPrefix(name, "X-Amz-Grant-") {
			return true
		}
	}
	return false
}

// passSmall forwards a request with a document, once the document was read and checked.
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

// documentSource returns the body of a request with a document. It returns an error if a
// digest that the client declares can't be checked.
func (x *exchange) documentSource(rule *documentRule) (*documentSource, *apiError) {
	in, refusal := x.incoming(rule.size)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := in.verifyMD5(x.r.Header.Get("Content-Md5")); refusal != nil {
		return nil, refusal
	}
	if !rule.ofObject {
		// The backend gets another document, so it can't verify a checksum of this one.
		if refusal := in.verifyChecksums(x.r.Header, false); refusal != nil {
			return nil, refusal
		}
	}
	if in.chunks != nil && !in.chunks.verifies() {
		return nil, errUnverified()
	}
	return &documentSource{in: in}, nil
}

// readDocument returns the document of the request, checked against the client's digests
// and the operation's rule, and written anew. The caller frees it.
func (x *exchange) readDocument() (*heldDocument, *apiError) {
	rule := documents[x.op.name]
	if rule == nil {
		return nil, newError(reasonDocument, "NotImplemented", "a document for "+x.op.name+" is not supported")
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
		// In any case to the end: a digest that does not match explains every other
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
		return nil, newError(reasonDocument, "MalformedPolicy", err.Error())
	}
	return nil, newError(reasonDocument, "MalformedXML", err.Error())
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

// A documentSource is the body of a request that is a document.
type documentSource struct {
	in  *incoming
	n   int64 // bytes read
	err error // of in, but for io.EOF
}

// Read implements io.Reader.
func (s *documentSource) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.in.source.Read(p)
	s.n += int64(n)
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
		return newError(reasonBodyCut, "IncompleteBody", "")
	}
	if s.in.verify != nil {
		return s.in.verify()
	}
	return nil
}

// setDocument makes a document, unframed, the body to send. The client's digests are not
// those of the new document; Content-MD5, which every server knows, replaces them.
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

// checkJSONObject returns an error unless data is one JSON object that all parsers read
// alike. Of two equal names some keep the first and some the last, and some (Go's) treat
// names that differ in case as equal.
func checkJSONObject(data []byte) error {
	if !utf8.Valid(data) || !json.Valid(data) {
		return errors.New("the document is not JSON in UTF-8")
	}
	if data = bytes.TrimLeft(data, " \t\r\n"); data[0] != '{' {
		return errors.New("the document is not a JSON object")
	}
	return checkNames(json.NewDecoder(bytes.NewReader(data)), 1)
}

// checkNames reads a value of well-formed JSON.
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
