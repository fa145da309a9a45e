package main

// The operations on the configurations of a bucket, and on what an object has besides its bytes:
// documents that are written, read and deleted. There are many of them, and one of a kind is like
// the others.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// A setting is a document of a bucket or an object.
type setting struct {
	name, selector string
	methods        string
	object         bool   // of an object
	document       string // that is written, and read before anything was written
}

const (
	reads      = "GET"
	readsPuts  = "GET PUT"
	everything = "GET PUT DELETE"
)

var settings = []setting{
	{name: "BucketAccelerateConfiguration", selector: "accelerate", methods: readsPuts, document: "<AccelerateConfiguration><Status>Suspended</Status></AccelerateConfiguration>"},
	{name: "BucketCors", selector: "cors", methods: everything, document: "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>https://soak.example</AllowedOrigin></CORSRule></CORSConfiguration>"},
	{name: "BucketLifecycleConfiguration", selector: "lifecycle", methods: everything, document: "<LifecycleConfiguration><Rule><ID>soak</ID><Filter><Prefix>old/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>"},
	{name: "BucketEncryption", selector: "encryption", methods: everything, document: "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>"},
	{name: "BucketLocation", selector: "location", methods: reads, document: "<LocationConstraint>" + region + "</LocationConstraint>"},
	{name: "BucketOwnershipControls", selector: "ownershipControls", methods: everything, document: "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>"},
	{name: "BucketPolicyStatus", selector: "policyStatus", methods: reads, document: "<PolicyStatus><IsPublic>false</IsPublic></PolicyStatus>"},
	{name: "PublicAccessBlock", selector: "publicAccessBlock", methods: everything, document: "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls></PublicAccessBlockConfiguration>"},
	{name: "BucketRequestPayment", selector: "requestPayment", methods: readsPuts, document: "<RequestPaymentConfiguration><Payer>BucketOwner</Payer></RequestPaymentConfiguration>"},
	{name: "BucketVersioning", selector: "versioning", methods: readsPuts, document: "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"},
	{name: "ObjectLockConfiguration", selector: "object-lock", methods: readsPuts, document: "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>"},
	{name: "BucketWebsite", selector: "website", methods: everything, document: "<WebsiteConfiguration><IndexDocument><Suffix>index.html</Suffix></IndexDocument></WebsiteConfiguration>"},
	{name: "BucketLogging", selector: "logging", methods: readsPuts, document: "<BucketLoggingStatus></BucketLoggingStatus>"},
	{name: "BucketNotificationConfiguration", selector: "notification", methods: readsPuts, document: "<NotificationConfiguration></NotificationConfiguration>"},
	{name: "ObjectLegalHold", selector: "legal-hold", methods: readsPuts, object: true, document: "<LegalHold><Status>OFF</Status></LegalHold>"},
	{name: "ObjectRetention", selector: "retention", methods: readsPuts, object: true, document: "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2030-01-01T00:00:00.000Z</RetainUntilDate></Retention>"},
}

// changeSetting writes, reads or deletes a setting. Admins of all buckets may do that with each.
func (w *worker) changeSetting(string) {
	account, bucket, key := w.place()
	s := pick(w, settings...)
	method := pick(w, strings.Fields(s.methods)...)
	r := &request{method: method, bucket: bucket, query: s.selector + "=", user: w.admin, auth: bySignedPayload}
	if s.object {
		r.key = key
	}
	name := strings.ToUpper(method[:1]) + strings.ToLower(method[1:]) + s.name
	if method == http.MethodPut {
		r.document = []byte(s.document)
	}
	a := w.send(r, nil)
	wrong := ""
	if a.err == nil && a.status < 300 && method == http.MethodGet && rootOf(a.data) != rootOf([]byte(s.document)) {
		wrong = fmt.Sprintf("the answer is %q", a.data)
	}
	w.outcome(name, account, a, wrong)
}

// rootOf returns the name of a document's root element, or "" for a document that does not parse.
func rootOf(data []byte) (root string) {
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		token, err := d.Token()
		switch {
		case err == io.EOF:
			return root
		case err != nil:
			return ""
		}
		if start, ok := token.(xml.StartElement); ok && root == "" {
			root = start.Name.Local
		}
	}
}

// settingOf returns the setting that a request is about, or nil.
func settingOf(c *call) *setting {
	for i := range settings {
		if s := &settings[i]; s.object == (c.key != "") && c.has(s.selector) {
			return s
		}
	}
	return nil
}
