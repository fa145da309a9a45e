package main

// What a backend's answers may hold, and how they are written for a client. It knows the
// names of operations and elements, not requests.
//
// The gateway reads each answer that is a document, checks it, and writes it anew. So
// every document has a form, which lists its elements. An element that is not in the form
// reaches no client, because nobody knows what it says about the backend. For an element
// that identifies the backend or its account, the form says what takes its place.

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// An answerKind says what the body of a successful answer is.
type answerKind int

const (
	noBody      answerKind = iota // nothing; a body that the backend sends is not passed on
	objectBytes                   // bytes that are streamed unread
	xmlDocument
	jsonDocument
)

// An answerSpec says what an operation answers with. The zero value is noBody, so an
// operation that is not in the table passes nothing on.
type answerSpec struct {
	kind  answerKind
	forms []*answerForm // of an xmlDocument; several if the query decides which
}

// An answerForm is the form of one kind of document. It is derived from a struct of
// xml.go, or parsed from a line of answerSpecs for configurations of buckets and objects,
// of which the gateway knows only the names of elements.
type answerForm struct {
	names []string // of the root: the one in S3, then those in other servers
	root  knownElement
	list  *listForm // nil if the document is not a page of a list
}

// A knownElement is an element that a document may have.
type knownElement struct {
	name     string // one that ends in "*" stands for all names that begin with it
	is       elementKind
	needed   bool // an answer without it is an error of the backend
	children []knownElement
	encoded  bool // encoding-type=url encodes it
	instant  bool // it is written in s3TimeFormat
}

// An elementKind says what the gateway writes for an element.
type elementKind int

const (
	copied       elementKind = iota // what the backend wrote
	publicBucket                    // the bucket's public name
	objectKey                       // the key of the request
	place                           // copied, but only for users who may do everything: an ARN, an account, a host
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

// answerSpecs are the answers by the name of their operation. The text of a form is
//
//	form     = names [ "(" { element } ")" ]
//	names    = name { "|" name }
//	element  = name [ ":" kind ] [ "!" ] [ "(" { element } ")" ]
//
// A kind is a key of elementKinds. "!" marks an element without which the answer is an
// error of the backend. The elements are those on S3's pages, and some that MinIO adds.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
var answerSpecs = map[string]answerSpec{
	"HeadObject":          {kind: objectBytes},
	"GetObject":           {kind: objectBytes},
	"SelectObjectContent": {kind: objectBytes}, // a stream of events, of which the last is an End event

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

// xmlAnswer returns the answer whose form is given as text. It panics if the text is not
// a form.
func xmlAnswer(text string) answerSpec {
	p := formParser{text}
	form := &answerForm{names: strings.Split(p.word("("), "|")}
	form.root = knownElement{name: form.names[0], children: p.children()}
	if p.rest != "" {
		panic("text after the end of a form: " + p.rest)
	}
	return answerSpec{xmlDocument, []*answerForm{form}}
}

// structAnswer returns the answer whose form is a struct of xml.go. The other names are
// those that other servers give its root.
func structAnswer[T any](otherNames ...string) answerSpec {
	root := knownElement{children: knownFields(reflect.TypeFor[T]())}
	field, _ := reflect.TypeFor[T]().FieldByName("XMLName")
	_, root.name, _ = strings.Cut(field.Tag.Get("xml"), " ")
	return answerSpec{xmlDocument, []*answerForm{{names: append([]string{root.name}, otherNames...), root: root}}}
}

// knownFields returns the elements for which a struct has fields, and which are not the
// gateway's own.
func knownFields(t reflect.Type) (known []knownElement) {
	for field := range t.Fields() {
		kind, needed := strings.CutSuffix(field.Tag.Get("is"), "!")
		name, _, _ := strings.Cut(field.Tag.Get("xml"), ",")
		switch {
		case field.Name == "XMLName" || kind == "request":
			continue
		case field.Type == reflect.TypeFor[checksumElements]():
			name = "Checksum*"
		}
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

// newKnownElement panics if the kind is not a key of elementKinds.
func newKnownElement(name, kind string, needed bool) knownElement {
	is, known := elementKinds[kind]
	if name == "" || kind != "" && !known {
		panic("an element of an unknown kind: " + name + ":" + kind)
	}
	return knownElement{name: name, is: is, needed: needed, encoded: urlEncoded(name), instant: name == "LastModified" || name == "Initiated"}
}

// pagedBy makes the answer, which has one form, a page of a list.
func (a answerSpec) pagedBy(l *listForm) answerSpec {
	a.forms[0].list = l
	return a
}

// or adds the form of a list of configurations to that of one configuration. A client
// gets one configuration if it sends an id, and else the list.
func (a answerSpec) or(names, configuration string) answerSpec {
	list := xmlAnswer(names + "(IsTruncated! ContinuationToken NextContinuationToken " + configuration + ")").pagedBy(&configurations)
	return answerSpec{xmlDocument, append(a.forms, list.forms...)}
}

// form returns the form of a document with the given root, or nil.
func (a answerSpec) form(root string) *answerForm {
	for _, form := range a.forms {
		if slices.Contains(form.names, root) {
			return form
		}
	}
	return nil
}

// A formParser parses the text of a form: see answerSpecs.
type formParser struct{ rest string }

// word reads to one of the bytes of ends, or to the end of the text.
func (p *formParser) word(ends string) string {
	n := strings.IndexAny(p.rest, ends)
	if n < 0 {
		n = len(p.rest)
	}
	word := p.rest[:n]
	p.rest = p.rest[n:]
	return word
}

// children reads "(" { element } ")". It returns nil if no parenthesis follows.
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

// child returns the known element with the given name, or nil. Elements mostly come in
// the same order, so the search begins at a hint, which child moves on.
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

// matches reports whether k stands for a name.
func (k *knownElement) matches(name string) bool {
	if k.name == name {
		return true
	}
	prefix, open := strings.CutSuffix(k.name, "*")
	return open && len(name) <= maxOpenName && strings.HasPrefix(name, prefix)
}

// maxOpenName is the length of the longest name that an element with "*" stands for, in
// bytes.
const maxOpenName = 32

// check returns an error if a document lacks a needed element.
func (k *knownElement) check(e *element) error {
	for i := range k.children {
		if c := &k.children[i]; c.needed && e.child(c.name) == "" {
			return fmt.Errorf("a %s without %s", shortened(e.name, 64), c.name)
		}
	}
	return nil
}
