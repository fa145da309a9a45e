package main

// What the answers to operations hold. An answer that is a document is read by the
// gateway, checked, and written anew; nothing of it passes unread.
//
// So there is a form for every document, with the elements it may have. An element
// that is not in the form reaches no client, because nobody knows what it tells
// about the backend. Elements that identify the backend or its account are in the
// form with what takes their place.

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// An answerKind says what the body of a success is.
type answerKind int

const (
	noBody      answerKind = iota // nothing; a body that comes all the same is not passed on
	objectBytes                   // bytes that are not the gateway's to read
	xmlDocument
	jsonDocument
)

// An answerSpec is what an operation answers with. The zero one is none, so an
// operation that is not in the table tells its client nothing.
type answerSpec struct {
	kind  answerKind
	forms []*answerForm // of an xmlDocument; more than one if the query decides
}

// An answerForm is one kind of document: one of the structs of xml.go, or for the
// configuration of buckets and objects, of which the gateway knows nothing but the names
// of elements, a line of the table below.
type answerForm struct {
	names []string // of the root: S3's, then those of other servers
	root  knownElement
	list  *listForm // nil if it is always whole
}

// A knownElement is one that a document may have.
type knownElement struct {
	name     string // one that ends in "*" stands for all names that begin so
	is       elementKind
	needed   bool // without it, the answer says nothing
	children []knownElement
	encoded  bool // encoding-type=url encodes it
	instant  bool // it is written with milliseconds
}

// An elementKind says what the gateway writes for an element.
type elementKind int

const (
	copied       elementKind = iota // what the backend wrote
	publicBucket                    // the bucket's public name
	objectKey                       // the key of the request
	place                           // copied, but only to those who may do everything: an ARN, an account, a host
	objectURL                       // the object's URL at the gateway
	owner                           // the user, as in ListBuckets
	grantee                         // the user, a group of S3's, or "another account"
	failedKey                       // an error of one key of a batch
)

var elementKinds = map[string]elementKind{
	"bucket": publicBucket, "key": objectKey, "place": place, "url": objectURL,
	"owner": owner, "grantee": grantee, "failure": failedKey,
}

const (
	aFilter  = "Filter(Prefix Tag(Key Value) And(Prefix Tag(Key Value)))"
	anACL    = "AccessControlPolicy(Owner:owner AccessControlList(Grant(Grantee:grantee Permission)))"
	aTagging = "Tagging(TagSet(Tag(Key Value)))"
	anEvent  = ":place(Id Topic Queue CloudFunction Event Filter(S3Key(FilterRule(Name Value))))"

	anAnalyticsConfiguration = "AnalyticsConfiguration(Id " + aFilter + " StorageClassAnalysis(DataExport:place(OutputSchemaVersion " +
		"Destination(S3BucketDestination(Format BucketAccountId Bucket Prefix)))))"
	aTieringConfiguration    = "IntelligentTieringConfiguration(Id Status " + aFilter + " Tiering(AccessTier Days))"
	anInventoryConfiguration = "InventoryConfiguration(Id IsEnabled IncludedObjectVersions Filter(Prefix) Schedule(Frequency) OptionalFields(Field) " +
		"Destination:place(S3BucketDestination(AccountId Bucket Format Prefix Encryption(SSE-KMS(KeyId) SSE-S3))))"
	aMetricsConfiguration = "MetricsConfiguration(Id Filter(AccessPointArn:place Prefix Tag(Key Value) And(AccessPointArn:place Prefix Tag(Key Value))))"
)

// answerSpecs by the name of the operation. A form is written
//
//	form     = names [ "(" { element } ")" ]
//	names    = name { "|" name }
//	element  = name [ ":" kind ] [ "!" ] [ "(" { element } ")" ]
//
// in which "!" marks what is needed. The elements are those of S3's pages, and of
// some that MinIO adds.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
var answerSpecs = map[string]answerSpec{
	"HeadObject":          {kind: objectBytes},
	"GetObject":           {kind: objectBytes},
	"SelectObjectContent": {kind: objectBytes}, // a stream of events, which S3 gives an end of its own

	"ListObjects":          structAnswer[listBucketResult]().pagedBy(&objectsV1),
	"ListObjectsV2":        structAnswer[listBucketV2Result]().pagedBy(&objectsV2),
	"ListObjectVersions":   structAnswer[listVersionsResult]("ListBucketVersionsResult").pagedBy(&objectVersions),
	"ListMultipartUploads": structAnswer[listMultipartUploadsResult]().pagedBy(&multipartUploads),
	"ListParts":            structAnswer[listPartsResult]().pagedBy(&uploadedParts),

	"DeleteObjects":           structAnswer[deleteResult](),
	"CreateMultipartUpload":   structAnswer[initiateMultipartUploadResult]("InitiateMultipartUpload"),
	"CompleteMultipartUpload": structAnswer[completeMultipartUploadResult](),
	"CopyObject":              structAnswer[copyObjectResult](),
	"UploadPartCopy":          structAnswer[copyPartResult]("CopyObjectResult"),

	"GetObjectAcl": xmlAnswer(anACL),
	"GetObjectAttributes": xmlAnswer("GetObjectAttributesResponse|GetObjectAttributesOutput|getObjectAttributesResponse(ETag Checksum(Checksum*) " +
		"ObjectParts(TotalPartsCount PartsCount PartNumberMarker NextPartNumberMarker MaxParts IsTruncated Part(PartNumber Size Checksum*)) StorageClass ObjectSize)").pagedBy(&objectParts),
	"GetObjectLegalHold": xmlAnswer("LegalHold(Status)"),
	"GetObjectRetention": xmlAnswer("Retention(Mode RetainUntilDate)"),
	"GetObjectTagging":   xmlAnswer(aTagging),

	"GetBucketAccelerateConfiguration":         xmlAnswer("AccelerateConfiguration(Status)"),
	"GetBucketAcl":                             xmlAnswer(anACL),
	"GetBucketAnalyticsConfiguration":          xmlAnswer(anAnalyticsConfiguration).or("ListBucketAnalyticsConfigurationResult|ListBucketAnalyticsConfigurationsResult", anAnalyticsConfiguration),
	"GetBucketCors":                            xmlAnswer("CORSConfiguration(CORSRule(ID AllowedHeader AllowedMethod AllowedOrigin ExposeHeader MaxAgeSeconds))"),
	"GetBucketEncryption":                      xmlAnswer("ServerSideEncryptionConfiguration(Rule(ApplyServerSideEncryptionByDefault(SSEAlgorithm KMSMasterKeyID:place) BucketKeyEnabled BlockedEncryptionTypes(EncryptionType)))"),
	"GetBucketIntelligentTieringConfiguration": xmlAnswer(aTieringConfiguration).or("ListBucketIntelligentTieringConfigurationsOutput|ListBucketIntelligentTieringConfigurationsResult", aTieringConfiguration),
	"GetBucketInventoryConfiguration":          xmlAnswer(anInventoryConfiguration).or("ListInventoryConfigurationsResult", anInventoryConfiguration),
	"GetBucketLifecycleConfiguration": xmlAnswer("LifecycleConfiguration(Rule(ID Prefix Status " +
		"Filter(Prefix Tag(Key Value) ObjectSizeGreaterThan ObjectSizeLessThan And(Prefix Tag(Key Value) ObjectSizeGreaterThan ObjectSizeLessThan)) " +
		"Expiration(Date Days ExpiredObjectDeleteMarker ExpiredObjectAllVersions) Transition(Date Days StorageClass) " +
		"NoncurrentVersionExpiration(NoncurrentDays NewerNoncurrentVersions) NoncurrentVersionTransition(NoncurrentDays NewerNoncurrentVersions StorageClass) " +
		"AbortIncompleteMultipartUpload(DaysAfterInitiation) DelMarkerExpiration(Days) AllVersionsExpiration(Days DeleteMarker)))"),
	"GetBucketLocation": xmlAnswer("LocationConstraint"),
	"GetBucketLogging": xmlAnswer("BucketLoggingStatus(LoggingEnabled:place(TargetBucket TargetPrefix TargetGrants(Grant(Grantee:grantee Permission)) " +
		"TargetObjectKeyFormat(SimplePrefix PartitionedPrefix(PartitionDateSource))))"),
	"GetBucketMetricsConfiguration": xmlAnswer(aMetricsConfiguration).or("ListMetricsConfigurationsResult", aMetricsConfiguration),
	"GetBucketNotificationConfiguration": xmlAnswer("NotificationConfiguration(TopicConfiguration" + anEvent + " QueueConfiguration" + anEvent +
		" CloudFunctionConfiguration" + anEvent + " EventBridgeConfiguration)"),
	"GetObjectLockConfiguration": xmlAnswer("ObjectLockConfiguration(ObjectLockEnabled Rule(DefaultRetention(Mode Days Years)))"),
	"GetBucketOwnershipControls": xmlAnswer("OwnershipControls(Rule(ObjectOwnership))"),
	"GetBucketPolicy":            {kind: jsonDocument},
	"GetBucketPolicyStatus":      xmlAnswer("PolicyStatus(IsPublic)"),
	"GetPublicAccessBlock":       xmlAnswer("PublicAccessBlockConfiguration(BlockPublicAcls IgnorePublicAcls BlockPublicPolicy RestrictPublicBuckets)"),
	"GetBucketReplication": xmlAnswer("ReplicationConfiguration(Role:place Rule(ID Priority Prefix Status " + aFilter + " " +
		"SourceSelectionCriteria(SseKmsEncryptedObjects(Status) ReplicaModifications(Status)) ExistingObjectReplication(Status) " +
		"DeleteMarkerReplication(Status) DeleteReplication(Status) " +
		"Destination:place(Bucket Account StorageClass AccessControlTranslation(Owner) EncryptionConfiguration(ReplicaKmsKeyID) " +
		"ReplicationTime(Status Time(Minutes)) Metrics(Status EventThreshold(Minutes)))))"),
	"GetBucketRequestPayment": xmlAnswer("RequestPaymentConfiguration(Payer)"),
	"GetBucketTagging":        xmlAnswer(aTagging),
	"GetBucketVersioning":     xmlAnswer("VersioningConfiguration(Status MfaDelete ExcludedPrefixes(Prefix) ExcludeFolders)"),
	"GetBucketWebsite": xmlAnswer("WebsiteConfiguration(IndexDocument(Suffix) ErrorDocument(Key) RedirectAllRequestsTo(HostName:place Protocol) " +
		"RoutingRules(RoutingRule(Condition(KeyPrefixEquals HttpErrorCodeReturnedEquals) " +
		"Redirect(HostName:place HttpRedirectCode Protocol ReplaceKeyPrefixWith ReplaceKeyWith))))"),
}

// xmlAnswer is the answer of the form that text describes. It panics if that is none.
func xmlAnswer(text string) answerSpec {
	p := formParser{text}
	form := &answerForm{names: strings.Split(p.word("("), "|")}
	form.root = knownElement{name: form.names[0], children: p.children()}
	if p.rest != "" {
		panic("a form that goes on after its end: " + p.rest)
	}
	return answerSpec{xmlDocument, []*answerForm{form}}
}

// structAnswer is the answer whose form is a struct of xml.go. Other servers have other
// names for its root.
func structAnswer[T any](otherNames ...string) answerSpec {
	root := knownElement{children: knownFields(reflect.TypeFor[T]())}
	field, _ := reflect.TypeFor[T]().FieldByName("XMLName")
	_, root.name, _ = strings.Cut(field.Tag.Get("xml"), " ")
	return answerSpec{xmlDocument, []*answerForm{{names: append([]string{root.name}, otherNames...), root: root}}}
}

// knownFields returns the elements that a struct has fields for.
func knownFields(t reflect.Type) (known []knownElement) {
	for field := range t.Fields() {
		kind, needed := strings.CutSuffix(field.Tag.Get("is"), "!")
		if field.Name == "XMLName" || kind == "request" {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("xml"), ",")
		k := newKnownElement(cmp.Or(name, field.Name), kind, needed)
		of := field.Type
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() == reflect.Struct && of != reflect.TypeFor[xmlText]() {
			k.children = knownFields(of)
		}
		known = append(known, k)
	}
	return known
}

func newKnownElement(name, kind string, needed bool) knownElement {
	is, known := elementKinds[kind]
	if name == "" || kind != "" && !known {
		panic("a form with an element " + name + ":" + kind)
	}
	return knownElement{name: name, is: is, needed: needed, encoded: urlEncoded(name), instant: name == "LastModified" || name == "Initiated"}
}

// pagedBy has the answer of the only form checked as a page of a list.
func (a answerSpec) pagedBy(l *listForm) answerSpec {
	a.forms[0].list = l
	return a
}

// or adds the form of a list of configurations, of which the one that is asked for
// by its id is the first form.
func (a answerSpec) or(names, configuration string) answerSpec {
	list := xmlAnswer(names + "(IsTruncated! ContinuationToken NextContinuationToken " + configuration + ")").pagedBy(&configurations)
	return answerSpec{xmlDocument, append(a.forms, list.forms...)}
}

// form returns the form for a root element's name, or nil.
func (a answerSpec) form(root string) *answerForm {
	for _, form := range a.forms {
		if slices.Contains(form.names, root) {
			return form
		}
	}
	return nil
}

// A formParser reads the grammar of answers.
type formParser struct{ rest string }

func (p *formParser) word(ends string) string {
	n := strings.IndexAny(p.rest, ends)
	if n < 0 {
		n = len(p.rest)
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

// children reads "(" { element } ")", if that is what follows.
func (p *formParser) children() (children []knownElement) {
	if !strings.HasPrefix(p.rest, "(") {
		return nil
	}
	for p.rest = p.rest[1:]; ; p.rest = strings.TrimLeft(p.rest, " ") {
		if after, closed := strings.CutPrefix(p.rest, ")"); closed {
			p.rest = after
			return children
		}
		word, needed := strings.CutSuffix(p.word(" ()"), "!")
		name, kind, _ := strings.Cut(word, ":")
		k := newKnownElement(name, kind, needed)
		k.children = p.children()
		children = append(children, k)
	}
}

// child returns the known element for a name, or nil. Elements mostly come in one
// order, so the search begins at a hint, and child moves the hint on.
func (k *knownElement) child(name string, hint *int) *knownElement {
	for i := range k.children {
		at := (*hint + i) % len(k.children)
		if k.children[at].matches(name) {
			*hint = at
			if len(k.children[at].children) == 0 { // what has children repeats
				*hint++
			}
			return &k.children[at]
		}
	}
	return nil
}

func (k *knownElement) matches(name string) bool {
	if k.name == name {
		return true
	}
	prefix, open := strings.CutSuffix(k.name, "*")
	return open && len(name) <= maxOpenName && strings.HasPrefix(name, prefix)
}

// maxOpenName is the length of the longest name that an open entry of a form
// stands for, in bytes.
const maxOpenName = 32

// check returns an error if a document lacks what its form needs.
func (k *knownElement) check(e *element) error {
	for i := range k.children {
		if c := &k.children[i]; c.needed && e.child(c.name) == "" {
			return fmt.Errorf("a %s without %s", shortened(e.name, 64), c.name)
		}
	}
	return nil
}

// An answerWriter writes documents as one client gets them.
type answerWriter struct {
	user, bucket, key string            // as the client knows them
	url               string            // of the object at the gateway
	places            bool              // the client may see places
	encodeURL         bool              // the client asked for encoding-type=url
	owned             bool              // each entry of a list has an Owner
	ownerID           string            // at the backend, of an access control list
	echo              func(string) bool // reports a code that is none: see exchange.repeats
}

// append writes an element, and of what is below it what is known.
func (w *answerWriter) append(b []byte, e *element, k *knownElement) []byte {
	switch k.is {
	case publicBucket:
		return appendElement(b, e.name, w.bucket)
	case objectKey:
		return w.appendKey(b, e.name)
	case objectURL:
		return appendElement(b, e.name, w.url)
	case owner:
		return w.appendOwner(b, e.name)
	case grantee:
		return w.appendGrantee(b, e)
	case failedKey:
		return w.appendFailure(b, e)
	case place:
		if !w.places {
			return b
		}
	}
	b = append(append(append(b, '<'), e.name...), '>')
	b = w.appendContent(b, e, k)
	return append(append(append(b, "</"...), e.name...), '>')
}

// appendContent writes what is between the tags of an element.
func (w *answerWriter) appendContent(b []byte, e *element, k *knownElement) []byte {
	if len(k.children) > 0 {
		hint, owned := 0, !w.owned || k.name != "Contents"
		for i := range e.children {
			if known := k.child(e.children[i].name, &hint); known != nil {
				b = w.append(b, &e.children[i], known)
				owned = owned || known.is == owner
			}
		}
		if !owned {
			b = w.appendOwner(b, "Owner")
		}
		return b
	}
	switch {
	case k.encoded && w.encodeURL:
		return appendURIEncoded(b, e.text, false)
	case k.instant && !hasMilliseconds(e.text):
		return appendText(b, s3Time(string(e.text)))
	case e.plain:
		return append(b, e.text...)
	}
	return appendText(b, e.text)
}

// appendRoot writes a document from its root on.
func (w *answerWriter) appendRoot(b []byte, e *element, form *answerForm) []byte {
	w.ownerID = ownerID(e)
	b = append(append(append(b, '<'), form.root.name...), ` xmlns="`+s3Namespace+`">`...)
	b = w.appendContent(b, e, &form.root)
	return append(append(append(b, "</"...), form.root.name...), '>')
}

// appendKey writes the key of the request, which is the one the answer is about.
func (w *answerWriter) appendKey(b []byte, name string) []byte {
	if !w.encodeURL {
		return appendElement(b, name, w.key)
	}
	b = append(append(append(b, '<'), name...), '>')
	b = appendURIEncoded(b, w.key, false)
	return append(append(append(b, "</"...), name...), '>')
}

// appendOwner writes the user for whoever owns something at the backend: that is the
// account, and of what is in it nobody is told whose it is.
func (w *answerWriter) appendOwner(b []byte, name string) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendElement(b, "ID", w.user)
	b = appendElement(b, "DisplayName", w.user)
	return append(append(append(b, "</"...), name...), '>')
}

// otherAccount is the id and the name of a grantee that is not the owner.
const otherAccount = "another-account"

// groupsOfS3 begins the names of the groups of grantees that S3 has.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html
const groupsOfS3 = "http://acs.amazonaws.com/groups/"

var s3Groups = setOf(groupsOfS3+"global/AllUsers", groupsOfS3+"global/AuthenticatedUsers", groupsOfS3+"s3/LogDelivery")

// appendGrantee writes who has a right. Some servers name neither the owner nor the
// grantee, who is the owner then.
func (w *answerWriter) appendGrantee(b []byte, e *element) []byte {
	const start = `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="`
	if uri := e.child("URI"); s3Groups[uri] {
		b = append(b, start+`Group">`...)
		return append(appendElement(b, "URI", uri), "</Grantee>"...)
	}
	name := otherAccount
	if e.child("ID") == w.ownerID && e.child("URI") == "" && e.child("EmailAddress") == "" {
		name = w.user
	}
	b = append(b, start+`CanonicalUser">`...)
	b = appendElement(b, "ID", name)
	b = appendElement(b, "DisplayName", name)
	return append(b, "</Grantee>"...)
}

// ownerID returns the id of the owner in an access control list, or "".
func ownerID(policy *element) string {
	for _, e := range policy.children {
		if e.name == "Owner" {
			return e.child("ID")
		}
	}
	return ""
}

// appendFailure writes an error of a batch in the gateway's words.
func (w *answerWriter) appendFailure(b []byte, e *element) []byte {
	b = append(b, "<Error>"...)
	for _, c := range e.children {
		if c.name == "Key" || c.name == "VersionId" {
			b = appendElement(b, c.name, c.text)
		}
	}
	failure := errorInDocument(e)
	if w.echo != nil && w.echo(failure.Code) {
		failure = newError("InternalError", "")
	}
	b = appendElement(b, "Code", failure.Code)
	b = appendElement(b, "Message", failure.Message)
	return append(b, "</Error>"...)
}
