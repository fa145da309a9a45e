package main

// What every operation is asked for by, who may use it, and the ways in which a client can
// authenticate. The verdict on a request is that of the one operation that the backend
// runs, whatever stands in the query, in a header or in a document.

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// A requestSpec is a request before it is authenticated: the query is encoded, and the
// header lines are the client's.
type requestSpec struct {
	method, path, query string
	header              []string
	body                string
}

func (r requestSpec) target() string {
	if r.query == "" {
		return r.path
	}
	return r.path + "?" + r.query
}

func (r requestSpec) String() string { return fmt.Sprintf("%s %s %q", r.method, r.target(), r.header) }

// specOf splits "/k?acl" behind a bucket.
func specOf(method, bucket, suffix, header, body string) requestSpec {
	path, query, _ := strings.Cut("/"+bucket+suffix, "?")
	r := requestSpec{method: method, path: path, query: query, body: body}
	if header != "" {
		r.header = []string{header}
	}
	return r
}

// An authMethod sends a request as a user, authenticated in one of the ways that there
// are, with that user's key.
type authMethod struct {
	name string
	send func(g *testGateway, name, key string, r requestSpec) (*http.Response, string)
}

func byKey(g *testGateway, _, key string, r requestSpec) (*http.Response, string) {
	return g.do(r.method, r.target(), key, r.body, r.header...)
}

// signedLines signs the head, with the payload's form in x-amz-content-sha256.
func signedLines(name, key, payload string, r requestSpec, more ...string) []string {
	header := slices.Concat(r.header, []string{"x-amz-content-sha256: " + payload}, more)
	return signed(name, key, r.method, r.path, r.query, header...)
}

func bySignature(g *testGateway, name, key string, r requestSpec) (*http.Response, string) {
	digest := sha256.Sum256([]byte(r.body))
	return g.do(r.method, r.target(), "", r.body, signedLines(name, key, hex.EncodeToString(digest[:]), r)...)
}

func byUnsignedPayload(g *testGateway, name, key string, r requestSpec) (*http.Response, string) {
	return g.do(r.method, r.target(), "", r.body, signedLines(name, key, "UNSIGNED-PAYLOAD", r)...)
}

// presignTarget makes a presigned target, with every x-amz-* header in its query,
// where presigners put them, and returns the headers that are left.
func presignTarget(name, key string, r requestSpec) (target string, header []string) {
	now := time.Now().UTC().Format("20060102T150405Z")
	scope := now[:8] + "/any-region-1/s3/aws4_request"
	query, err := parseQuery(r.query)
	if err != nil {
		panic(err)
	}
	query = append(query, parameter{"X-Amz-Algorithm", "AWS4-HMAC-SHA256"}, parameter{"X-Amz-Credential", name + "/" + scope},
		parameter{"X-Amz-Date", now}, parameter{"X-Amz-Expires", "60"}, parameter{"X-Amz-SignedHeaders", "host"})
	for _, line := range r.header {
		field, value, _ := strings.Cut(line, ":")
		if strings.HasPrefix(strings.ToLower(field), "x-amz-") {
			query = append(query, parameter{http.CanonicalHeaderKey(field), strings.TrimSpace(value)})
		} else {
			header = append(header, line)
		}
	}
	payload := "UNSIGNED-PAYLOAD"
	if value := parameterValue(query, "X-Amz-Content-Sha256"); value != "" {
		payload = value
	}
	canonical := appendCanonicalRequest(nil, r.method, r.path, canonicalQuery(query), []headerField{{"host", "gateway.example"}}, payload)
	signature := signature(signingKey(key, now[:8], "any-region-1", "s3"), stringToSign(now, scope, canonical))
	return r.path + "?" + canonicalQuery(query) + "&X-Amz-Signature=" + string(signature), header
}

func byPresignedURL(g *testGateway, name, key string, r requestSpec) (*http.Response, string) {
	target, header := presignTarget(name, key, r)
	return g.do(r.method, target, "", r.body, header...)
}

func crc32Of(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// frameWithTrailer is the body in the framing of current SDKs, and the headers
// that go with it.
func frameWithTrailer(body string) (framed string, header []string) {
	header = []string{"x-amz-decoded-content-length: " + fmt.Sprint(len(body)), "x-amz-trailer: x-amz-checksum-crc32"}
	if body == "" {
		return "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", header
	}
	return fmt.Sprintf("%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n", len(body), body, crc32Of(body)), header
}

// takesBody reports whether a client would send a body, which streaming methods of
// authentication frame. Without one, the form of the payload stands in the head alone.
func takesBody(r requestSpec) bool {
	return r.method == "PUT" && !slices.ContainsFunc(r.header, func(h string) bool { return strings.HasPrefix(h, "x-amz-copy-source") }) ||
		r.method == "POST" && r.query != "uploads"
}

func byUnsignedTrailer(g *testGateway, name, key string, r requestSpec) (*http.Response, string) {
	framed, more := frameWithTrailer(r.body)
	if !takesBody(r) {
		framed, more = "", nil
	}
	return g.do(r.method, r.target(), "", framed, signedLines(name, key, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", r, more...)...)
}

// byKeyWithTrailer is an SDK that was told to add x-api-key, and signs with
// credentials that nobody has.
func byKeyWithTrailer(g *testGateway, _, key string, r requestSpec) (*http.Response, string) {
	framed, more := frameWithTrailer(r.body)
	if !takesBody(r) {
		framed, more = "", nil
	}
	return g.do(r.method, r.target(), key, framed, signedLines("dummy", "dummy", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", r, more...)...)
}

func byPresignedTrailer(g *testGateway, name, key string, r requestSpec) (*http.Response, string) {
	framed, more := frameWithTrailer(r.body)
	if !takesBody(r) {
		framed, more = "", nil
	}
	r.header = slices.Concat(r.header, more, []string{"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
	target, header := presignTarget(name, key, r)
	return g.do(r.method, target, "", framed, header...)
}

// bySignedChunks signs each chunk after the head.
func bySignedChunks(trailer bool) func(g *testGateway, name, key string, r requestSpec) (*http.Response, string) {
	return func(g *testGateway, name, key string, r requestSpec) (*http.Response, string) {
		form, more := "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", []string{"x-amz-decoded-content-length: " + fmt.Sprint(len(r.body))}
		if trailer {
			form, more = form+"-TRAILER", append(more, "x-amz-trailer: x-amz-checksum-crc32")
		}
		if !takesBody(r) {
			more = nil
		}
		lines := signedLines(name, key, form, r, more...)
		if !takesBody(r) {
			return g.do(r.method, r.target(), "", "", lines...)
		}
		chain := &chunkSigner{}
		for _, line := range lines {
			if value, ok := strings.CutPrefix(line, "X-Amz-Date: "); ok {
				chain.amzDate = value
			}
			if _, value, ok := strings.Cut(line, ",Signature="); ok {
				chain.previous = value
			}
		}
		chain.scope = chain.amzDate[:8] + "/any-region-1/s3/aws4_request"
		chain.key = signingKey(key, chain.amzDate[:8], "any-region-1", "s3")
		framed := ""
		if r.body != "" {
			digest := sha256.Sum256([]byte(r.body))
			framed = fmt.Sprintf("%x;chunk-signature=%s\r\n%s\r\n", len(r.body), chain.next(digest[:]), r.body)
		}
		digest := sha256.Sum256(nil)
		framed += "0;chunk-signature=" + chain.next(digest[:]) + "\r\n"
		if trailer {
			value := "x-amz-checksum-crc32:" + crc32Of(r.body)
			framed += value + "\r\nx-amz-trailer-signature:" + chain.trailer(value+"\n") + "\r\n"
		}
		return g.do(r.method, r.target(), "", framed+"\r\n", lines...)
	}
}

// authMethods are those of a user with a key.
var authMethods = []authMethod{
	{"x-api-key", byKey},
	{"a signed payload", bySignature},
	{"presigned", byPresignedURL},
	{"an unsigned payload", byUnsignedPayload},
	{"signed chunks", bySignedChunks(false)},
	{"signed chunks and a trailer", bySignedChunks(true)},
	{"unsigned chunks and a trailer", byUnsignedTrailer},
	{"presigned, unsigned chunks and a trailer", byPresignedTrailer},
	{"x-api-key, unsigned chunks and a trailer", byKeyWithTrailer},
}

// framesBodies reports whether an authentication method frames bodies.
func framesBodies(d authMethod) bool { return strings.Contains(d.name, "chunks") }

// operationSpecs says how each operation is asked for and who may: reads for everybody
// who may read the bucket, writes of objects for the role user too, and for
// admins alone what configures a bucket, hands out rights, takes protection away
// or removes for good. A row with another status than 2xx is answered by the
// gateway itself.
var operationSpecs = makeOperationSpecs()

type operationSpec struct {
	method, suffix, header, body string
	roles                        string // that may
	status                       int    // for them
	code                         string
}

// allows reports whether the operation is for a role with the buckets of a scope.
func (r operationSpec) allows(role, scope string) bool {
	return slices.Contains(strings.Fields(r.roles), role) || r.roles == ownerRole && role == "admin" && scope == "*"
}

const (
	everyRole    = "admin user readonly"
	writingRoles = "admin user"
	adminRole    = "admin"
	ownerRole    = "owner" // an admin to whom all buckets are allowed

	deleteDocument   = "<Delete><Object><Key>k</Key></Object></Delete>"
	completeDocument = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
)

// bucketSubresources are the sub-resources of a bucket that S3 has, and the
// methods each has: GET, PUT, DELETE.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
var bucketSubresources = map[string]struct{ name, methods, body, reads string }{
	"accelerate":          {"BucketAccelerateConfiguration", "GET PUT", "<AccelerateConfiguration/>", everyRole},
	"acl":                 {"BucketAcl", "GET PUT", "<AccessControlPolicy/>", everyRole},
	"analytics":           {"BucketAnalyticsConfiguration", "GET PUT DELETE", "<AnalyticsConfiguration/>", ownerRole},
	"cors":                {"BucketCors", "GET PUT DELETE", "<CORSConfiguration/>", everyRole},
	"encryption":          {"BucketEncryption", "GET PUT DELETE", "<ServerSideEncryptionConfiguration/>", everyRole},
	"intelligent-tiering": {"BucketIntelligentTieringConfiguration", "GET PUT DELETE", "<IntelligentTieringConfiguration/>", everyRole},
	"inventory":           {"BucketInventoryConfiguration", "GET PUT DELETE", "<InventoryConfiguration/>", ownerRole},
	"lifecycle":           {"BucketLifecycleConfiguration", "GET PUT DELETE", "<LifecycleConfiguration/>", everyRole},
	"location":            {"BucketLocation", "GET", "", everyRole},
	"logging":             {"BucketLogging", "GET PUT", "<BucketLoggingStatus/>", ownerRole},
	"metrics":             {"BucketMetricsConfiguration", "GET PUT DELETE", "<MetricsConfiguration/>", everyRole},
	"notification":        {"BucketNotificationConfiguration", "GET PUT", "<NotificationConfiguration/>", ownerRole},
	"object-lock":         {"ObjectLockConfiguration", "GET PUT", "<ObjectLockConfiguration/>", everyRole},
	"ownershipControls":   {"BucketOwnershipControls", "GET PUT DELETE", "<OwnershipControls/>", everyRole},
	"policy":              {"BucketPolicy", "GET PUT DELETE", "{}", ownerRole},
	"policyStatus":        {"BucketPolicyStatus", "GET", "", everyRole},
	"publicAccessBlock":   {"PublicAccessBlock", "GET PUT DELETE", "<PublicAccessBlockConfiguration/>", everyRole},
	"replication":         {"BucketReplication", "GET PUT DELETE", "<ReplicationConfiguration/>", ownerRole},
	"requestPayment":      {"BucketRequestPayment", "GET PUT", "<RequestPaymentConfiguration/>", everyRole},
	"tagging":             {"BucketTagging", "GET PUT DELETE", "<Tagging/>", everyRole},
	"versioning":          {"BucketVersioning", "GET PUT", "<VersioningConfiguration/>", everyRole},
	"website":             {"BucketWebsite", "GET PUT DELETE", "<WebsiteConfiguration/>", ownerRole},
}

func makeOperationSpecs() map[string]operationSpec {
	rows := map[string]operationSpec{
		"ListBuckets": {"GET", "", "", "", everyRole, 200, ""},
		"Presign":     {"GET", "", "", "", everyRole, 200, ""},

		"HeadBucket":           {"HEAD", "", "", "", everyRole, 200, ""},
		"ListObjects":          {"GET", "", "", "", everyRole, 200, ""},
		"ListObjectsV2":        {"GET", "?list-type=2", "", "", everyRole, 200, ""},
		"ListObjectVersions":   {"GET", "?versions", "", "", everyRole, 200, ""},
		"ListMultipartUploads": {"GET", "?uploads", "", "", everyRole, 200, ""},
		"DeleteObjects":        {"POST", "?delete", "", deleteDocument, writingRoles, 200, ""},
		"PostObject":           {"POST", "", "Content-Type: multipart/form-data; boundary=x", "--x--\r\n", everyRole, 501, "NotImplemented"},
		"CreateBucket":         {"PUT", "", "", "", everyRole, 409, "BucketAlreadyOwnedByYou"},
		"DeleteBucket":         {"DELETE", "", "", "", adminRole, 501, "NotImplemented"},

		"GetObject":           {"GET", "/k", "", "", everyRole, 200, ""},
		"HeadObject":          {"HEAD", "/k", "", "", everyRole, 200, ""},
		"GetObjectAcl":        {"GET", "/k?acl", "", "", everyRole, 200, ""},
		"GetObjectAttributes": {"GET", "/k?attributes", "x-amz-object-attributes: ETag", "", everyRole, 200, ""},
		"GetObjectLegalHold":  {"GET", "/k?legal-hold", "", "", everyRole, 200, ""},
		"GetObjectRetention":  {"GET", "/k?retention", "", "", everyRole, 200, ""},
		"GetObjectTagging":    {"GET", "/k?tagging", "", "", everyRole, 200, ""},
		"ListParts":           {"GET", "/k?uploadId=u", "", "", everyRole, 200, ""},
		"SelectObjectContent": {"POST", "/k?select&select-type=2", "", "<SelectObjectContentRequest/>", everyRole, 200, ""},

		"PutObject":               {"PUT", "/k", "", "data", writingRoles, 200, ""},
		"CopyObject":              {"PUT", "/k", "x-amz-copy-source: /photos/a", "", writingRoles, 200, ""},
		"UploadPart":              {"PUT", "/k?partNumber=1&uploadId=u", "", "data", writingRoles, 200, ""},
		"UploadPartCopy":          {"PUT", "/k?partNumber=1&uploadId=u", "x-amz-copy-source: photos/a", "", writingRoles, 200, ""},
		"CreateMultipartUpload":   {"POST", "/k?uploads", "", "", writingRoles, 200, ""},
		"CompleteMultipartUpload": {"POST", "/k?uploadId=u", "", completeDocument, writingRoles, 200, ""},
		"AbortMultipartUpload":    {"DELETE", "/k?uploadId=u", "", "", writingRoles, 204, ""},
		"PutObjectTagging":        {"PUT", "/k?tagging", "", "<Tagging/>", writingRoles, 200, ""},
		"DeleteObjectTagging":     {"DELETE", "/k?tagging", "", "", writingRoles, 204, ""},
		"RestoreObject":           {"POST", "/k?restore", "", "<RestoreRequest/>", writingRoles, 200, ""},
		"DeleteObject":            {"DELETE", "/k", "", "", writingRoles, 204, ""},

		"PutObjectAcl":        {"PUT", "/k?acl", "", "<AccessControlPolicy/>", adminRole, 200, ""},
		"PutObjectLegalHold":  {"PUT", "/k?legal-hold", "", "<LegalHold/>", adminRole, 200, ""},
		"PutObjectRetention":  {"PUT", "/k?retention", "", "<Retention/>", adminRole, 200, ""},
		"DeleteObjectVersion": {"DELETE", "/k?versionId=1", "", "", adminRole, 204, ""},
	}
	for sub, c := range bucketSubresources {
		for method := range strings.FieldsSeq(c.methods) {
			switch method {
			case "GET":
				rows["Get"+c.name] = operationSpec{"GET", "?" + sub, "", "", c.reads, 200, ""}
			case "PUT":
				rows["Put"+c.name] = operationSpec{"PUT", "?" + sub, "", c.body, strings.Replace(c.reads, everyRole, adminRole, 1), 200, ""}
			case "DELETE":
				rows["Delete"+c.name] = operationSpec{"DELETE", "?" + sub, "", "", adminRole, 204, ""}
			}
		}
	}
	return rows
}

// specFor asks for an operation in a bucket, or where it has none, of the
// service: a presigned URL is asked for the bucket photos.
func specFor(name, bucket string) requestSpec {
	row := operationSpecs[name]
	switch name {
	case "ListBuckets":
		return requestSpec{method: "GET", path: "/"}
	case "Presign":
		return requestSpec{method: "GET", path: "/-/presign", query: "bucket=" + bucket + "&key=k"}
	}
	return specOf(row.method, bucket, row.suffix, row.header, row.body)
}

// startAccounts is startTwoAccounts before backends that know every operation.
func startAccounts(t *testing.T) (g *testGateway, main, other *recorder) {
	t.Helper()
	main, other = startRecorder(t, answerAsS3), startRecorder(t, answerAsS3)
	changes := []func(map[string]any){
		with("accounts.other", map[string]any{
			"endpoint_url": other.URL, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary", "buckets": []any{"elsewhere"},
		}),
		with("accounts.main.buckets", []any{"photos", "secret", map[string]any{"name": "pics", "bucket": "corp-pics-prod"}}),
		with("users.cross", map[string]any{"api_key": crossKey, "role": "user", "allowed_buckets": []any{"photos", "elsewhere"}}),
	}
	for _, role := range []string{"admin", "user", "readonly"} {
		for scope, name := range map[string]string{"photos": "one-" + role, "*": "all-" + role} {
			changes = append(changes, with("users."+name, map[string]any{"api_key": roleKey(role, scope), "role": role, "allowed_buckets": []any{scope}}))
		}
	}
	return startGateway(t, testConfig(main.URL, changes...)), main, other
}

const crossKey = "cross-key-0123456789abcdef" // role user, buckets photos and elsewhere

func userWith(role, scope string) (name, key string) {
	if scope == "*" {
		return "all-" + role, roleKey(role, scope)
	}
	return "one-" + role, roleKey(role, scope)
}

// roleKey is the API key of the user with a role and a scope.
func roleKey(role, scope string) string { return "key-of-" + role + "-for-" + scope }

// requestCount is how many requests a backend has heard.
func requestCount(rec *recorder) int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return len(rec.seen)
}

// wantSince fails if a backend that had heard a number of requests has not
// heard as many more as it should.
func wantSince(t *testing.T, rec *recorder, before, want int) {
	t.Helper()
	if got := requestCount(rec) - before; got != want {
		t.Errorf("a backend got %d requests, want %d", got, want)
	}
}

// A sub-resource is an operation of its own, and most of them change
// who may do what, with the rights of the backend's owner. Who may read a bucket
// reads its configuration, who is an admin writes it, and what is in no table is
// for nobody, by whichever HTTP method, level and authentication method.
func TestSubResourcesAreOperationsOfTheirOwn(t *testing.T) {
	g, rec, other := startAccounts(t)
	known := map[string]operationSpec{} // by method and suffix
	for _, row := range operationSpecs {
		if _, query, ok := strings.Cut(row.suffix, "?"); ok && !strings.ContainsAny(query, "=&") {
			known[row.method+" "+row.suffix] = row
		}
	}
	known["POST /k?select"] = operationSpecs["SelectObjectContent"]
	subs := slices.Sorted(maps.Keys(bucketSubresources))
	subs = append(subs, "attributes", "legal-hold", "retention", "restore", "select", "torrent", "versions", "uploads", "delete",
		// No operation of S3, or of directory buckets, or of servers that are like it.
		"policies", "session", "renameObject", "append", "abac", "metadataTable", "metadataConfiguration", "metadataInventoryTable",
		"metadataJournalTable", "encryption-key", "lambdaArn", "events", "quota", "admin", "usage", "user", "subuser", "rgwx-stat",
		"object-lock-configuration", "replication-metrics", "replication-reset", "notify", "copy", "link", "unlink", "inventory-list")
	n := 0
	for _, sub := range subs {
		for _, level := range []string{"", "/k"} {
			for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
				row, ok := known[method+" "+level+"?"+sub]
				for _, role := range []string{"admin", "user", "readonly"} {
					name, key := userWith(role, "photos")
					r := specOf(method, "photos", level+"?"+sub, row.header, row.body)
					methods := authMethods[:3]
					if !ok { // by one of them, another each time
						n++
						methods = authMethods[n%3 : n%3+1]
					}
					for _, auth := range methods {
						before := requestCount(rec)
						resp, body := auth.send(g, name, key, r)
						switch {
						case !ok:
							wantDenied(t, method, resp, body, 501, "NotImplemented")
							wantSince(t, rec, before, 0)
						case !row.allows(role, "photos"):
							wantDenied(t, method, resp, body, 403, "AccessDenied")
							wantSince(t, rec, before, 0)
						default:
							checkHardened(t, resp)
							if resp.StatusCode != row.status {
								t.Errorf("answer = %d %s, want %d", resp.StatusCode, body, row.status)
							}
							wantSince(t, rec, before, 1)
						}
						if t.Failed() {
							t.Fatalf("that was %s by %s, %s", r, role, auth.name)
						}
					}
				}
			}
		}
	}
	// Two at once, or one beside what is allowed, are not the one that was checked.
	before := requestCount(rec)
	for _, target := range []string{
		"GET /photos/k?acl&torrent", "GET /photos/k?x-id=GetObject&torrent", "GET /photos/k?versionId=1&torrent=", "GET /photos/k?%74orrent",
		"PUT /photos?policy&acl", "PUT /photos/k?acl&tagging", "PUT /photos/k?tagging&retention", "PUT /photos?tagging&policy", "PUT /photos/k?tagging&partNumber=1",
		"DELETE /photos/k?tagging&uploadId=u", "DELETE /photos/k?uploadId=u&versionId=1", "DELETE /photos?policy&cors", "DELETE /photos?versionId=1",
		"POST /photos?delete&uploads", "POST /photos?uploads", "POST /photos?uploadId=u", "POST /photos/k?delete", "POST /photos/k?uploads&uploadId=u",
		"POST /photos/k?restore&select", "GET /photos?list-type=2&versions", "GET /photos?uploads&versions", "GET /photos?location&prefix=a",
		"PUT /photos/k?partNumber=1", "HEAD /photos?acl", "HEAD /photos/k?uploadId=u", "PUT /?acl", "GET /?policy", "DELETE /?cors",
		"PUT /photos?policy=1&id=2", "PUT /photos?acl&versionId=1",
	} {
		method, path, _ := strings.Cut(target, " ")
		resp, body := g.do(method, path, adminKey, "")
		wantDenied(t, method, resp, body, 501, "NotImplemented")
		if t.Failed() {
			t.Fatalf("that was %s", target)
		}
	}
	wantSince(t, rec, before, 0)
	other.wantNone(t)
}

// The buckets are those of the configuration. Nobody makes or removes
// one through the gateway, and x-id, which is only a note of the SDK's, does not
// make another operation of a request.
func TestBucketsAreThoseOfTheConfiguration(t *testing.T) {
	g, rec, other := startAccounts(t)
	for _, row := range []requestSpec{
		{method: "DELETE", path: "/photos"}, {method: "PUT", path: "/photos"},
		{method: "PUT", path: "/photos", query: "x-id=CreateBucket"}, {method: "PUT", path: "/photos", query: "x-id=PutObject"},
		{method: "DELETE", path: "/photos", query: "x-id=DeleteObject"}, {method: "DELETE", path: "/photos", query: "x-id=DeleteBucketPolicy"},
		{method: "PUT", path: "/photos", header: []string{"x-amz-acl: public-read-write"}},
		{method: "PUT", path: "/photos", header: []string{"x-amz-bucket-object-lock-enabled: true"}},
		{method: "PUT", path: "/photos", body: "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"},
		{method: "DELETE", path: "/photos", header: []string{"x-minio-force-delete: true"}},
	} {
		for _, auth := range authMethods {
			for _, role := range []string{"user", "readonly"} {
				name, key := userWith(role, "photos")
				resp, body := auth.send(g, name, key, row)
				if row.method == "PUT" { // what S3 tells an owner
					wantDenied(t, row.method, resp, body, 409, "BucketAlreadyOwnedByYou")
				} else {
					wantDenied(t, row.method, resp, body, 403, "AccessDenied")
				}
			}
			name, key := userWith("admin", "*")
			resp, body := auth.send(g, name, key, row)
			if row.method == "PUT" {
				wantDenied(t, row.method, resp, body, 409, "BucketAlreadyOwnedByYou")
				r := row
				r.path = "/nosuch"
				resp, body = auth.send(g, name, key, r)
				wantDenied(t, row.method, resp, body, 403, "AccessDenied")
			} else {
				wantDenied(t, row.method, resp, body, 501, "NotImplemented")
			}
			if !strings.Contains(body, "accounts.") {
				t.Errorf("%s: answer %s, want it to say where buckets are declared", row, body)
			}
			if t.Failed() {
				t.Fatalf("that was %s, %s", row, auth.name)
			}
		}
		resp, body := g.do(row.method, row.target(), "", "", row.header...)
		wantError(t, resp, body, 401, "Unauthorized")
	}
	rec.wantNone(t)
	other.wantNone(t)
}

// Every role, operation and bucket, by both authentication methods, with the verdict that
// the design has for it. What is denied reaches no account; what is allowed
// reaches the one account that has the bucket, once, under the name that AWS has
// for it.
func TestEachOperationIsForItsRoles(t *testing.T) {
	g, main, other := startAccounts(t)
	inTable := map[string]bool{}
	for _, op := range operations {
		if _, ok := operationSpecs[op.name]; !ok {
			t.Errorf("operation %s is not in this table: who may use it?", op.name)
		}
		inTable[op.name] = true
	}
	for name := range operationSpecs {
		if !inTable[name] {
			t.Errorf("operation %s is missing", name)
		}
	}
	if t.Failed() {
		return
	}
	logged := map[string]int{} // the operations of what was allowed
	for _, operation := range slices.Sorted(maps.Keys(operationSpecs)) {
		row := operationSpecs[operation]
		buckets := []string{"photos", "secret", "nosuch", "elsewhere"}
		if operation == "ListBuckets" {
			buckets = []string{""}
		}
		for _, role := range []string{"admin", "user", "readonly"} {
			for _, scope := range []string{"photos", "*"} {
				for _, bucket := range buckets {
					status, code := row.status, row.code
					switch {
					case bucket != "" && scope != "*" && bucket != scope, !row.allows(role, scope):
						status, code = 403, "AccessDenied"
					case bucket == "nosuch" && operation == "CreateBucket": // buckets are declared
						status, code = 403, "AccessDenied"
					case bucket == "nosuch": // for those who may see them all it is no secret
						status, code = 404, "NoSuchBucket"
					}
					wantMain, wantOther := 0, 0
					switch {
					case status >= 300 || bucket == "" || operation == "Presign":
					case bucket == "elsewhere" && row.header != "" && strings.Contains(row.header, "copy-source"):
						wantMain, wantOther = 1, 1 // from photos
					case bucket == "elsewhere":
						wantOther = 1
					default:
						wantMain = 1
					}
					name, key := userWith(role, scope)
					for _, auth := range authMethods[:2] {
						beforeMain, beforeOther := requestCount(main), requestCount(other)
						r := specFor(operation, bucket)
						resp, body := auth.send(g, name, key, r)
						if status < 300 {
							logged[operation]++
							checkHardened(t, resp)
							if resp.StatusCode != status {
								t.Errorf("answer = %d %s, want %d", resp.StatusCode, body, status)
							}
						} else {
							wantDenied(t, r.method, resp, body, status, code)
						}
						wantSince(t, main, beforeMain, wantMain)
						wantSince(t, other, beforeOther, wantOther)
						if t.Failed() {
							t.Fatalf("that was %s of %q by a %s with the buckets %q, %s", operation, bucket, role, scope, auth.name)
						}
					}
				}
			}
		}
	}
	for _, check := range []struct {
		rec             *recorder
		mine, notBucket string
	}{{main, testCredentials.AccessKeyID, "/elsewhere"}, {other, "OTHERKEYID", "/photos"}} {
		for _, seen := range check.rec.requests() {
			if strings.HasPrefix(seen.uri, check.notBucket) || !strings.Contains(seen.header.Get("Authorization"), "Credential="+check.mine+"/") {
				t.Errorf("an account got %s with %s", seen.uri, seen.header.Get("Authorization"))
			}
		}
	}
	// A user with a role and no bucket may do nothing but list none.
	for operation := range operationSpecs {
		if operation != "ListBuckets" {
			for _, auth := range authMethods[:3] {
				r := specFor(operation, "photos")
				resp, body := auth.send(g, "none", noneKey, r)
				wantDenied(t, r.method, resp, body, 403, "AccessDenied")
			}
		}
	}
	got := map[string]int{}
	await(t, "the log", func() bool {
		clear(got)
		for _, line := range g.lines() {
			if line["status"].(float64) < 300 {
				got[line["operation"].(string)]++
			}
		}
		return maps.Equal(got, logged)
	})
}
