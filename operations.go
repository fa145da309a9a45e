package main

// The operation table. Each operation is a row of it, under its AWS name where it has one.
// What is not in the table is refused with 501 and never forwarded: a sub-resource that
// was forgotten ("PUT /bucket?policy") would be run with the rights of the backend's owner.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html

import (
	"net/http"
	"slices"
	"strings"
)

const (
	overrides = "response-cache-control response-content-disposition response-content-encoding " +
		"response-content-language response-content-type response-expires"
	listParams = "prefix delimiter max-keys encoding-type (metadata)" // by which MinIO adds user metadata
)

// operations by level and method. Of the rows of one level and method, the request gets
// the one whose selector and header it has; a row without either comes last.
var operations = append([]operation{
	{"ListBuckets", "GET", serviceLevel, "", "", actionRead, "prefix max-buckets continuation-token", (*gateway).listBuckets},
	{"Presign", "GET", pageLevel, "", "", actionRead, "bucket key method expires", (*gateway).presign},

	{"HeadBucket", "HEAD", bucketLevel, "", "", actionRead, "", (*gateway).pass},
	{"ListObjectsV2", "GET", bucketLevel, "list-type", "", actionRead, listParams + " start-after continuation-token fetch-owner", (*gateway).listObjectsV2},
	{"ListObjects", "GET", bucketLevel, "", "", actionRead, listParams + " marker continuation-token start-after fetch-owner", (*gateway).listObjects},
	{"ListObjectVersions", "GET", bucketLevel, "versions", "", actionRead, listParams + " key-marker version-id-marker", (*gateway).listObjectVersions},
	{"ListMultipartUploads", "GET", bucketLevel, "uploads", "", actionRead, "prefix delimiter encoding-type max-uploads key-marker upload-id-marker", (*gateway).listMultipartUploads},
	{"DeleteObjects", "POST", bucketLevel, "delete", "", actionWrite, "", (*gateway).passSmall},
	{"PostObject", "POST", bucketLevel, "", "", actionRead, "", (*gateway).notImplemented}, // for nobody
	{"CreateBucket", "PUT", bucketLevel, "", "", actionNone, "", (*gateway).createBucket},
	{"DeleteBucket", "DELETE", bucketLevel, "", "", actionAdmin, "", (*gateway).deleteBucket},

	{"HeadObject", "HEAD", objectLevel, "", "", actionRead, "versionId partNumber " + overrides, (*gateway).pass},
	{"GetObjectAcl", "GET", objectLevel, "acl", "", actionRead, "versionId", (*gateway).pass},
	{"GetObjectAttributes", "GET", objectLevel, "attributes", "", actionRead, "versionId", (*gateway).pass},
	{"GetObjectLegalHold", "GET", objectLevel, "legal-hold", "", actionRead, "versionId", (*gateway).pass},
	{"GetObjectRetention", "GET", objectLevel, "retention", "", actionRead, "versionId", (*gateway).pass},
	{"GetObjectTagging", "GET", objectLevel, "tagging", "", actionRead, "versionId", (*gateway).pass},
	{"ListParts", "GET", objectLevel, "uploadId", "", actionRead, "max-parts part-number-marker encoding-type", (*gateway).pass},
	{"GetObject", "GET", objectLevel, "", "", actionRead, "versionId partNumber " + overrides, (*gateway).pass},

	{"UploadPartCopy", "PUT", objectLevel, "uploadId", copySource, actionWrite, "partNumber", (*gateway).copyObject},
	{"UploadPart", "PUT", objectLevel, "uploadId", "", actionWrite, "partNumber", (*gateway).upload},
	{"PutObjectAcl", "PUT", objectLevel, "acl", "", actionAdmin, "versionId", (*gateway).passSmall},
	{"PutObjectLegalHold", "PUT", objectLevel, "legal-hold", "", actionAdmin, "versionId", (*gateway).passSmall},
	{"PutObjectRetention", "PUT", objectLevel, "retention", "", actionAdmin, "versionId", (*gateway).passSmall},
	{"PutObjectTagging", "PUT", objectLevel, "tagging", "", actionWrite, "versionId", (*gateway).passSmall},
	{"CopyObject", "PUT", objectLevel, "", copySource, actionWrite, "", (*gateway).copyObject},
	{"PutObject", "PUT", objectLevel, "", "", actionWrite, "", (*gateway).upload},

	{"CreateMultipartUpload", "POST", objectLevel, "uploads", "", actionWrite, "", (*gateway).pass},
	{"CompleteMultipartUpload", "POST", objectLevel, "uploadId", "", actionWrite, "", (*gateway).completeMultipartUpload},
	{"RestoreObject", "POST", objectLevel, "restore", "", actionWrite, "versionId", (*gateway).passSmall},
	{"SelectObjectContent", "POST", objectLevel, "select", "", actionRead, "select-type", (*gateway).passSmall},

	{"AbortMultipartUpload", "DELETE", objectLevel, "uploadId", "", actionWrite, "", (*gateway).pass},
	{"DeleteObjectTagging", "DELETE", objectLevel, "tagging", "", actionWrite, "versionId", (*gateway).pass},
	{"DeleteObjectVersion", "DELETE", objectLevel, "versionId", "", actionAdmin, "", (*gateway).pass},
	{"DeleteObject", "DELETE", objectLevel, "", "", actionWrite, "", (*gateway).pass},
}, bucketConfigurations()...)

// withinBucket are the configurations that name nothing outside of their bucket. Everybody
// who may read the bucket may read them, and admins may change them. An ACL and an
// encryption say who has access and with which key, not where data goes, so every admin of
// the bucket may change them. All others (analytics, inventory, logging, notification, replication, website;
// and a policy, whose resources are ARNs that only the backend checks) name other places,
// and are for admins of all buckets.
var withinBucket = setOf("accelerate", "acl", "cors", "encryption", "intelligent-tiering", "lifecycle", "location", "metrics",
	"object-lock", "ownershipControls", "policyStatus", "publicAccessBlock", "requestPayment", "tagging", "versioning")

// bucketSettings are the parts of a bucket's configuration: the name that follows Get, Put
// or Delete in the operation's name, the query parameter that selects it, the methods that
// S3 has for it, and its other parameters.
var bucketSettings = []struct{ name, selector, methods, params string }{
	{"BucketAccelerateConfiguration", "accelerate", "GET PUT", ""},
	{"BucketAcl", "acl", "GET PUT", ""},
	{"BucketAnalyticsConfiguration", "analytics", "GET PUT DELETE", "id continuation-token"},
	{"BucketCors", "cors", "GET PUT DELETE", ""},
	{"BucketEncryption", "encryption", "GET PUT DELETE", ""},
	{"BucketIntelligentTieringConfiguration", "intelligent-tiering", "GET PUT DELETE", "id continuation-token"},
	{"BucketInventoryConfiguration", "inventory", "GET PUT DELETE", "id continuation-token"},
	{"BucketLifecycleConfiguration", "lifecycle", "GET PUT DELETE", "(withUpdatedAt)"}, // MinIO: a date in a header
	{"BucketLocation", "location", "GET", ""},
	{"BucketLogging", "logging", "GET PUT", ""},
	{"BucketMetricsConfiguration", "metrics", "GET PUT DELETE", "id continuation-token"},
	{"BucketNotificationConfiguration", "notification", "GET PUT", ""},
	{"ObjectLockConfiguration", "object-lock", "GET PUT", ""},
	{"BucketOwnershipControls", "ownershipControls", "GET PUT DELETE", ""},
	{"BucketPolicy", "policy", "GET PUT DELETE", ""},
	{"BucketPolicyStatus", "policyStatus", "GET", ""},
	{"PublicAccessBlock", "publicAccessBlock", "GET PUT DELETE", ""},
	{"BucketReplication", "replication", "GET PUT DELETE", ""},
	{"BucketRequestPayment", "requestPayment", "GET PUT", ""},
	{"BucketTagging", "tagging", "GET PUT DELETE", ""},
	{"BucketVersioning", "versioning", "GET PUT", ""},
	{"BucketWebsite", "website", "GET PUT DELETE", ""},
}

// bucketConfigurations returns the rows of bucketSettings. Any admin may delete a
// configuration: to delete names no place.
func bucketConfigurations() []operation {
	var rows []operation
	for _, c := range bucketSettings {
		for method := range strings.FieldsSeq(c.methods) {
			row := operation{"", method, bucketLevel, c.selector, "", actionAdmin, c.params, (*gateway).pass}
			switch method {
			case "GET":
				row.name, row.action = "Get"+c.name, actionRead
			case "PUT":
				row.name, row.run = "Put"+c.name, (*gateway).passSmall
			case "DELETE":
				row.name = "Delete" + c.name
			}
			if !withinBucket[c.selector] && method != "DELETE" {
				row.action = actionBeyondBucket
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// patterns are the levels as ServeMux knows them. The gateway gives it a path of the same
// shape.
var patterns = map[pathLevel]string{
	serviceLevel: "/{$}",
	pageLevel:    "/-/-/{page}", // three segments: two would be a bucket and a key
	bucketLevel:  "/{bucket}",
	objectLevel:  "/{bucket}/{key}",
}

// routes dispatches an admitted request to the rows of its method and level.
var routes = newMux()

// newMux routes by method and level; what is left is chosen by classify.
func newMux() *http.ServeMux {
	mux := http.NewServeMux()
	for level, pattern := range patterns {
		for _, method := range methodsOf(level) {
			rows := rowsOf(level, method)
			mux.HandleFunc(method+" "+pattern, func(w http.ResponseWriter, _ *http.Request) {
				x := w.(*exchange)
				refuse(x, x.g.run(x, rows))
			})
		}
		mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) {
			x := w.(*exchange)
			refuse(x, x.g.run(x, nil))
		})
	}
	return mux
}

// rowsOf returns the rows of a level and method, the most specific first.
func rowsOf(level pathLevel, method string) []*operation {
	var rows []*operation
	for i := range operations {
		if op := &operations[i]; op.level == level && op.method == method {
			rows = append(rows, op)
		}
	}
	conditions := func(op *operation) int { return min(len(op.selector), 1) + min(len(op.header), 1) }
	slices.SortStableFunc(rows, func(a, b *operation) int { return conditions(b) - conditions(a) })
	return rows
}

// methodsOf returns the methods that a level's Allow header names, sorted.
func methodsOf(level pathLevel) []string {
	var methods []string
	for _, op := range operations {
		if op.level == level && !slices.Contains(methods, op.method) {
			methods = append(methods, op.method)
		}
	}
	slices.Sort(methods)
	return methods
}

// ServeHTTP implements http.Handler.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.answer(newExchange(w, r, g))
}

// answer takes a request through its steps, and answers it.
func (g *gateway) answer(x *exchange) {
	defer x.end()
	r := x.r
	if g.cors.answer(x, r) {
		return
	}
	if err := g.admit(x); err != nil {
		refuse(x, err)
		return
	}
	// ServeMux gets only the shape of the path, so it has nothing to clean and nowhere to
	// redirect to.
	r.URL.Path, r.URL.RawPath = "/"+x.target.bucket, ""
	if x.target.page != "" {
		r.URL.Path = "/-/-/page"
	}
	if x.target.key != "" {
		r.URL.Path += "/key"
	}
	routes.ServeHTTP(x, r)
}

// refuse answers with an error, unless it is nil. A 405 has an Allow header with the
// methods of the level: RFC 9110 section 15.5.6.
func refuse(x *exchange, err *apiError) {
	if err == nil {
		return
	}
	if err.Code == "MethodNotAllowed" && err.header == nil {
		err.header = http.Header{"Allow": {strings.Join(methodsOf(x.target.level()), ", ")}}
	}
	x.fail(err)
}
