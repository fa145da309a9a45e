package main

// Abuse: one operation dressed as another, and the rights to each. Whatever
// stands in the query, in a header, in a document or in a source of a copy, the
// verdict is that of the one operation that the backend will run; and it is the
// same by every door.

import (
	"bufio"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// An opsRequest is a request before it has gone to a door: the query encoded,
// header lines of the client.
type opsRequest struct {
	method, path, query string
	header              []string
	body                string
}

func (r opsRequest) target() string {
	if r.query == "" {
		return r.path
	}
	return r.path + "?" + r.query
}

func (r opsRequest) String() string { return fmt.Sprintf("%s %s %q", r.method, r.target(), r.header) }

// opsSuffix splits "/k?acl" behind a bucket.
func opsSuffix(method, bucket, suffix, header, body string) opsRequest {
	path, query, _ := strings.Cut("/"+bucket+suffix, "?")
	r := opsRequest{method: method, path: path, query: query, body: body}
	if header != "" {
		r.header = []string{header}
	}
	return r
}

// An opsDoor is a way in: it sends a request as a user, with what that user's
// key makes of it.
type opsDoor struct {
	name string
	send func(g *testGateway, name, key string, r opsRequest) (*http.Response, string)
}

func opsKeyDoor(g *testGateway, _, key string, r opsRequest) (*http.Response, string) {
	return g.do(r.method, r.target(), key, r.body, r.header...)
}

// opsSigned signs the head, with the payload's form in x-amz-content-sha256.
func opsSigned(name, key, payload string, r opsRequest, more ...string) []string {
	header := slices.Concat(r.header, []string{"x-amz-content-sha256: " + payload}, more)
	return signed(name, key, r.method, r.path, r.query, header...)
}

func opsSignatureDoor(g *testGateway, name, key string, r opsRequest) (*http.Response, string) {
	digest := sha256.Sum256([]byte(r.body))
	return g.do(r.method, r.target(), "", r.body, opsSigned(name, key, hex.EncodeToString(digest[:]), r)...)
}

func opsUnsignedPayloadDoor(g *testGateway, name, key string, r opsRequest) (*http.Response, string) {
	return g.do(r.method, r.target(), "", r.body, opsSigned(name, key, "UNSIGNED-PAYLOAD", r)...)
}

// opsPresigned makes a presigned target, with every x-amz-* header in its query,
// where presigners put them, and returns the headers that are left.
func opsPresigned(name, key string, r opsRequest) (target string, header []string) {
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

func opsPresignedDoor(g *testGateway, name, key string, r opsRequest) (*http.Response, string) {
	target, header := opsPresigned(name, key, r)
	return g.do(r.method, target, "", r.body, header...)
}

func opsChecksum(body string) string {
	sum := crc32.ChecksumIEEE([]byte(body))
	return base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// opsUnsignedTrailer is the body in the framing of current SDKs, and the headers
// that go with it.
func opsUnsignedTrailer(body string) (framed string, header []string) {
	header = []string{"x-amz-decoded-content-length: " + fmt.Sprint(len(body)), "x-amz-trailer: x-amz-checksum-crc32"}
	if body == "" {
		return "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", header
	}
	return fmt.Sprintf("%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n", len(body), body, opsChecksum(body)), header
}

// opsTakesBody reports whether a client would send a body: then streaming doors
// frame it. Without one, the form of the payload stands in the head alone.
func opsTakesBody(r opsRequest) bool {
	return r.method == "PUT" && !slices.ContainsFunc(r.header, func(h string) bool { return strings.HasPrefix(h, "x-amz-copy-source") }) ||
		r.method == "POST" && r.query != "uploads"
}

func opsUnsignedTrailerDoor(g *testGateway, name, key string, r opsRequest) (*http.Response, string) {
	framed, more := opsUnsignedTrailer(r.body)
	if !opsTakesBody(r) {
		framed, more = "", nil
	}
	return g.do(r.method, r.target(), "", framed, opsSigned(name, key, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", r, more...)...)
}

// opsKeyTrailerDoor is an SDK that was told to add x-api-key, and signs with
// credentials that nobody has.
func opsKeyTrailerDoor(g *testGateway, _, key string, r opsRequest) (*http.Response, string) {
	framed, more := opsUnsignedTrailer(r.body)
	if !opsTakesBody(r) {
		framed, more = "", nil
	}
	return g.do(r.method, r.target(), key, framed, opsSigned("dummy", "dummy", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", r, more...)...)
}

func opsPresignedTrailerDoor(g *testGateway, name, key string, r opsRequest) (*http.Response, string) {
	framed, more := opsUnsignedTrailer(r.body)
	if !opsTakesBody(r) {
		framed, more = "", nil
	}
	r.header = slices.Concat(r.header, more, []string{"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER"})
	target, header := opsPresigned(name, key, r)
	return g.do(r.method, target, "", framed, header...)
}

// opsChunksDoor signs each chunk after the head.
func opsChunksDoor(trailer bool) func(g *testGateway, name, key string, r opsRequest) (*http.Response, string) {
	return func(g *testGateway, name, key string, r opsRequest) (*http.Response, string) {
		form, more := "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", []string{"x-amz-decoded-content-length: " + fmt.Sprint(len(r.body))}
		if trailer {
			form, more = form+"-TRAILER", append(more, "x-amz-trailer: x-amz-checksum-crc32")
		}
		if !opsTakesBody(r) {
			more = nil
		}
		lines := opsSigned(name, key, form, r, more...)
		if !opsTakesBody(r) {
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
			value := "x-amz-checksum-crc32:" + opsChecksum(r.body)
			framed += value + "\r\nx-amz-trailer-signature:" + chain.trailer(value+"\n") + "\r\n"
		}
		return g.do(r.method, r.target(), "", framed+"\r\n", lines...)
	}
}

// opsDoors are the ways in for a user with a key.
var opsDoors = []opsDoor{
	{"x-api-key", opsKeyDoor},
	{"a signed payload", opsSignatureDoor},
	{"presigned", opsPresignedDoor},
	{"an unsigned payload", opsUnsignedPayloadDoor},
	{"signed chunks", opsChunksDoor(false)},
	{"signed chunks and a trailer", opsChunksDoor(true)},
	{"unsigned chunks and a trailer", opsUnsignedTrailerDoor},
	{"presigned, unsigned chunks and a trailer", opsPresignedTrailerDoor},
	{"x-api-key, unsigned chunks and a trailer", opsKeyTrailerDoor},
}

// opsFrames reports whether a door frames bodies.
func opsFrames(d opsDoor) bool { return strings.Contains(d.name, "chunks") }

// opsTable says how each operation is asked for and who may: reads for everybody
// who may read the bucket, writes of objects for the role user too, and for
// admins alone what configures a bucket, hands out rights, takes protection away
// or removes for good. A row with another status than 2xx is answered by the
// gateway itself.
var opsTable = opsRows()

type opsRow struct {
	method, suffix, header, body string
	roles                        string // that may
	status                       int    // for them
	code                         string
}

// allows reports whether the operation is for a role with the buckets of a scope.
func (r opsRow) allows(role, scope string) bool {
	return slices.Contains(strings.Fields(r.roles), role) || r.roles == opsOwner && role == "admin" && scope == "*"
}

const (
	opsAll   = "admin user readonly"
	opsWrite = "admin user"
	opsAdmin = "admin"
	opsOwner = "owner" // an admin to whom all buckets are allowed

	opsDelete   = "<Delete><Object><Key>k</Key></Object></Delete>"
	opsComplete = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
)

// opsConfigurations are the sub-resources of a bucket that S3 has, and the
// methods each has: GET, PUT, DELETE.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
var opsConfigurations = map[string]struct{ name, methods, body, reads string }{
	"accelerate":          {"BucketAccelerateConfiguration", "GET PUT", "<AccelerateConfiguration/>", opsAll},
	"acl":                 {"BucketAcl", "GET PUT", "<AccessControlPolicy/>", opsAll},
	"analytics":           {"BucketAnalyticsConfiguration", "GET PUT DELETE", "<AnalyticsConfiguration/>", opsOwner},
	"cors":                {"BucketCors", "GET PUT DELETE", "<CORSConfiguration/>", opsAll},
	"encryption":          {"BucketEncryption", "GET PUT DELETE", "<ServerSideEncryptionConfiguration/>", opsAll},
	"intelligent-tiering": {"BucketIntelligentTieringConfiguration", "GET PUT DELETE", "<IntelligentTieringConfiguration/>", opsAll},
	"inventory":           {"BucketInventoryConfiguration", "GET PUT DELETE", "<InventoryConfiguration/>", opsOwner},
	"lifecycle":           {"BucketLifecycleConfiguration", "GET PUT DELETE", "<LifecycleConfiguration/>", opsAll},
	"location":            {"BucketLocation", "GET", "", opsAll},
	"logging":             {"BucketLogging", "GET PUT", "<BucketLoggingStatus/>", opsOwner},
	"metrics":             {"BucketMetricsConfiguration", "GET PUT DELETE", "<MetricsConfiguration/>", opsAll},
	"notification":        {"BucketNotificationConfiguration", "GET PUT", "<NotificationConfiguration/>", opsOwner},
	"object-lock":         {"ObjectLockConfiguration", "GET PUT", "<ObjectLockConfiguration/>", opsAll},
	"ownershipControls":   {"BucketOwnershipControls", "GET PUT DELETE", "<OwnershipControls/>", opsAll},
	"policy":              {"BucketPolicy", "GET PUT DELETE", "{}", opsOwner},
	"policyStatus":        {"BucketPolicyStatus", "GET", "", opsAll},
	"publicAccessBlock":   {"PublicAccessBlock", "GET PUT DELETE", "<PublicAccessBlockConfiguration/>", opsAll},
	"replication":         {"BucketReplication", "GET PUT DELETE", "<ReplicationConfiguration/>", opsOwner},
	"requestPayment":      {"BucketRequestPayment", "GET PUT", "<RequestPaymentConfiguration/>", opsAll},
	"tagging":             {"BucketTagging", "GET PUT DELETE", "<Tagging/>", opsAll},
	"versioning":          {"BucketVersioning", "GET PUT", "<VersioningConfiguration/>", opsAll},
	"website":             {"BucketWebsite", "GET PUT DELETE", "<WebsiteConfiguration/>", opsOwner},
}

func opsRows() map[string]opsRow {
	rows := map[string]opsRow{
		"ListBuckets": {"GET", "", "", "", opsAll, 200, ""},
		"Presign":     {"GET", "", "", "", opsAll, 200, ""},

		"HeadBucket":           {"HEAD", "", "", "", opsAll, 200, ""},
		"ListObjects":          {"GET", "", "", "", opsAll, 200, ""},
		"ListObjectsV2":        {"GET", "?list-type=2", "", "", opsAll, 200, ""},
		"ListObjectVersions":   {"GET", "?versions", "", "", opsAll, 200, ""},
		"ListMultipartUploads": {"GET", "?uploads", "", "", opsAll, 200, ""},
		"DeleteObjects":        {"POST", "?delete", "", opsDelete, opsWrite, 200, ""},
		"PostObject":           {"POST", "", "Content-Type: multipart/form-data; boundary=x", "--x--\r\n", opsAll, 501, "NotImplemented"},
		"CreateBucket":         {"PUT", "", "", "", opsAll, 409, "BucketAlreadyOwnedByYou"},
		"DeleteBucket":         {"DELETE", "", "", "", opsAdmin, 501, "NotImplemented"},

		"GetObject":           {"GET", "/k", "", "", opsAll, 200, ""},
		"HeadObject":          {"HEAD", "/k", "", "", opsAll, 200, ""},
		"GetObjectAcl":        {"GET", "/k?acl", "", "", opsAll, 200, ""},
		"GetObjectAttributes": {"GET", "/k?attributes", "x-amz-object-attributes: ETag", "", opsAll, 200, ""},
		"GetObjectLegalHold":  {"GET", "/k?legal-hold", "", "", opsAll, 200, ""},
		"GetObjectRetention":  {"GET", "/k?retention", "", "", opsAll, 200, ""},
		"GetObjectTagging":    {"GET", "/k?tagging", "", "", opsAll, 200, ""},
		"ListParts":           {"GET", "/k?uploadId=u", "", "", opsAll, 200, ""},
		"SelectObjectContent": {"POST", "/k?select&select-type=2", "", "<SelectObjectContentRequest/>", opsAll, 200, ""},

		"PutObject":               {"PUT", "/k", "", "data", opsWrite, 200, ""},
		"CopyObject":              {"PUT", "/k", "x-amz-copy-source: /photos/a", "", opsWrite, 200, ""},
		"UploadPart":              {"PUT", "/k?partNumber=1&uploadId=u", "", "data", opsWrite, 200, ""},
		"UploadPartCopy":          {"PUT", "/k?partNumber=1&uploadId=u", "x-amz-copy-source: photos/a", "", opsWrite, 200, ""},
		"CreateMultipartUpload":   {"POST", "/k?uploads", "", "", opsWrite, 200, ""},
		"CompleteMultipartUpload": {"POST", "/k?uploadId=u", "", opsComplete, opsWrite, 200, ""},
		"AbortMultipartUpload":    {"DELETE", "/k?uploadId=u", "", "", opsWrite, 204, ""},
		"PutObjectTagging":        {"PUT", "/k?tagging", "", "<Tagging/>", opsWrite, 200, ""},
		"DeleteObjectTagging":     {"DELETE", "/k?tagging", "", "", opsWrite, 204, ""},
		"RestoreObject":           {"POST", "/k?restore", "", "<RestoreRequest/>", opsWrite, 200, ""},
		"DeleteObject":            {"DELETE", "/k", "", "", opsWrite, 204, ""},

		"PutObjectAcl":        {"PUT", "/k?acl", "", "<AccessControlPolicy/>", opsAdmin, 200, ""},
		"PutObjectLegalHold":  {"PUT", "/k?legal-hold", "", "<LegalHold/>", opsAdmin, 200, ""},
		"PutObjectRetention":  {"PUT", "/k?retention", "", "<Retention/>", opsAdmin, 200, ""},
		"DeleteObjectVersion": {"DELETE", "/k?versionId=1", "", "", opsAdmin, 204, ""},
	}
	for sub, c := range opsConfigurations {
		for method := range strings.FieldsSeq(c.methods) {
			switch method {
			case "GET":
				rows["Get"+c.name] = opsRow{"GET", "?" + sub, "", "", c.reads, 200, ""}
			case "PUT":
				rows["Put"+c.name] = opsRow{"PUT", "?" + sub, "", c.body, strings.Replace(c.reads, opsAll, opsAdmin, 1), 200, ""}
			case "DELETE":
				rows["Delete"+c.name] = opsRow{"DELETE", "?" + sub, "", "", opsAdmin, 204, ""}
			}
		}
	}
	return rows
}

// opsRequestFor asks for an operation in a bucket, or where it has none, of the
// service: a presigned URL is asked for the bucket photos.
func opsRequestFor(name, bucket string) opsRequest {
	row := opsTable[name]
	switch name {
	case "ListBuckets":
		return opsRequest{method: "GET", path: "/"}
	case "Presign":
		return opsRequest{method: "GET", path: "/-/presign", query: "bucket=" + bucket + "&key=k"}
	}
	return opsSuffix(row.method, bucket, row.suffix, row.header, row.body)
}

// opsBackend answers each operation with what the gateway takes.
func opsBackend(w http.ResponseWriter, r *http.Request) { answerAsS3(w, r) }

// opsAccounts is startTwoAccounts before backends that know every operation.
func opsAccounts(t *testing.T) (g *testGateway, main, other *recorder) {
	t.Helper()
	main, other = startRecorder(t, opsBackend), startRecorder(t, opsBackend)
	changes := []func(map[string]any){
		with("accounts.other", map[string]any{
			"endpoint_url": other.URL, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary", "buckets": []any{"elsewhere"},
		}),
		with("accounts.main.buckets", []any{"photos", "secret", map[string]any{"name": "pics", "bucket": "corp-pics-prod"}}),
		with("users.cross", map[string]any{"api_key": opsCrossKey, "role": "user", "allowed_buckets": []any{"photos", "elsewhere"}}),
	}
	for _, role := range []string{"admin", "user", "readonly"} {
		for scope, name := range map[string]string{"photos": "one-" + role, "*": "all-" + role} {
			changes = append(changes, with("users."+name, map[string]any{"api_key": roleKey(role, scope), "role": role, "allowed_buckets": []any{scope}}))
		}
	}
	return startGateway(t, testConfig(main.URL, changes...)), main, other
}

const opsCrossKey = "cross-key-0123456789abcdef" // role user, buckets photos and elsewhere

func opsUser(role, scope string) (name, key string) {
	if scope == "*" {
		return "all-" + role, roleKey(role, scope)
	}
	return "one-" + role, roleKey(role, scope)
}

// opsHeard is how many requests a backend has heard.
func opsHeard(rec *recorder) int {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return len(rec.seen)
}

// opsWantSince fails if a backend that had heard a number of requests has not
// heard as many more as it should.
func opsWantSince(t *testing.T, rec *recorder, before, want int) {
	t.Helper()
	if got := opsHeard(rec) - before; got != want {
		t.Errorf("a backend got %d requests, want %d", got, want)
	}
}

// Case 17: a sub-resource is an operation of its own, and most of them change
// who may do what, with the rights of the backend's owner. Who may read a bucket
// reads its configuration, who is an admin writes it, and what is in no table is
// for nobody, by whichever method, level and door.
func TestAbuse017SubResources(t *testing.T) {
	g, rec, other := opsAccounts(t)
	known := map[string]opsRow{} // by method and suffix
	for _, row := range opsTable {
		if _, query, ok := strings.Cut(row.suffix, "?"); ok && !strings.ContainsAny(query, "=&") {
			known[row.method+" "+row.suffix] = row
		}
	}
	known["POST /k?select"] = opsTable["SelectObjectContent"]
	subs := slices.Sorted(maps.Keys(opsConfigurations))
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
					name, key := opsUser(role, "photos")
					r := opsSuffix(method, "photos", level+"?"+sub, row.header, row.body)
					doors := opsDoors[:3]
					if !ok { // by one of them, another each time
						n++
						doors = opsDoors[n%3 : n%3+1]
					}
					for _, door := range doors {
						before := opsHeard(rec)
						resp, body := door.send(g, name, key, r)
						switch {
						case !ok:
							wantDenied(t, method, resp, body, 501, "NotImplemented")
							opsWantSince(t, rec, before, 0)
						case !row.allows(role, "photos"):
							wantDenied(t, method, resp, body, 403, "AccessDenied")
							opsWantSince(t, rec, before, 0)
						default:
							checkHardened(t, resp)
							if resp.StatusCode != row.status {
								t.Errorf("answer = %d %s, want %d", resp.StatusCode, body, row.status)
							}
							opsWantSince(t, rec, before, 1)
						}
						if t.Failed() {
							t.Fatalf("that was %s by %s, %s", r, role, door.name)
						}
					}
				}
			}
		}
	}
	// Two at once, or one beside what is allowed, are not the one that was checked.
	before := opsHeard(rec)
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
	opsWantSince(t, rec, before, 0)
	other.wantNone(t)
}

// Case 18: the buckets are those of the configuration. Nobody makes or removes
// one through the gateway, and x-id, which is only a note of the SDK's, does not
// make another operation of a request.
func TestAbuse018BucketsAsSuch(t *testing.T) {
	g, rec, other := opsAccounts(t)
	for _, row := range []opsRequest{
		{method: "DELETE", path: "/photos"}, {method: "PUT", path: "/photos"},
		{method: "PUT", path: "/photos", query: "x-id=CreateBucket"}, {method: "PUT", path: "/photos", query: "x-id=PutObject"},
		{method: "DELETE", path: "/photos", query: "x-id=DeleteObject"}, {method: "DELETE", path: "/photos", query: "x-id=DeleteBucketPolicy"},
		{method: "PUT", path: "/photos", header: []string{"x-amz-acl: public-read-write"}},
		{method: "PUT", path: "/photos", header: []string{"x-amz-bucket-object-lock-enabled: true"}},
		{method: "PUT", path: "/photos", body: "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>"},
		{method: "DELETE", path: "/photos", header: []string{"x-minio-force-delete: true"}},
	} {
		for _, door := range opsDoors {
			for _, role := range []string{"user", "readonly"} {
				name, key := opsUser(role, "photos")
				resp, body := door.send(g, name, key, row)
				if row.method == "PUT" { // what S3 tells an owner
					wantDenied(t, row.method, resp, body, 409, "BucketAlreadyOwnedByYou")
				} else {
					wantDenied(t, row.method, resp, body, 403, "AccessDenied")
				}
			}
			name, key := opsUser("admin", "*")
			resp, body := door.send(g, name, key, row)
			if row.method == "PUT" {
				wantDenied(t, row.method, resp, body, 409, "BucketAlreadyOwnedByYou")
				r := row
				r.path = "/nosuch"
				resp, body = door.send(g, name, key, r)
				wantDenied(t, row.method, resp, body, 403, "AccessDenied")
			} else {
				wantDenied(t, row.method, resp, body, 501, "NotImplemented")
			}
			if !strings.Contains(body, "accounts.") {
				t.Errorf("%s: answer %s, want it to say where buckets are declared", row, body)
			}
			if t.Failed() {
				t.Fatalf("that was %s, %s", row, door.name)
			}
		}
		resp, body := g.do(row.method, row.target(), "", "", row.header...)
		wantError(t, resp, body, 401, "Unauthorized")
	}
	rec.wantNone(t)
	other.wantNone(t)
}

// Case 20: of two parameters with one name, the one that was checked need not be
// the one that a backend takes. Presigners write headers as parameters: of those
// the case does not matter, as it does not in headers.
func TestAbuse020DuplicateParameters(t *testing.T) {
	g, rec, other := opsAccounts(t)
	for _, row := range []struct{ method, target string }{
		{"GET", "/photos?prefix=a&prefix=b"},
		{"GET", "/photos?prefix=a&prefix=a"},
		{"GET", "/photos?prefix=a&%70refix=b"},
		{"GET", "/photos?prefix&prefix=b"},
		{"GET", "/photos?list-type=2&list-type=1"},
		{"GET", "/photos?list-type=2&max-keys=1&delimiter=%2F&max-keys=1000"},
		{"GET", "/photos?versions&versions"},
		{"GET", "/photos?policy&policy"},
		{"PUT", "/photos?policy&policy="},
		{"POST", "/photos?delete&delete"},
		{"GET", "/photos/k?versionId=1&versionId=2"},
		{"DELETE", "/photos/k?versionId=1&versionId=2"},
		{"DELETE", "/photos/k?versionI%64=1&versionId=2"},
		{"PUT", "/photos/k?partNumber=1&uploadId=a&uploadId=b"},
		{"PUT", "/photos/k?partNumber=1&partNumber=2&uploadId=a"},
		{"POST", "/photos/k?uploadId=a&uploadId=b"},
		{"POST", "/photos/k?uploads&uploads"},
		{"DELETE", "/photos/k?uploadId=a&uploadId=b"},
		{"PUT", "/photos/k?tagging&tagging"},
		{"GET", "/photos/k?X-Amz-Signature=a&X-Amz-Signature=b"},
		{"PUT", "/photos/k?X-Amz-Signature=a&X-Amz-Signature=b"},
		{"GET", "/photos/k?X-Amz-Credential=a&X-Amz-Credential=b"},
		{"GET", "/photos/k?x-id=GetObject&x-id=PutObject"},
		{"GET", "/photos/k?response-content-type=a&response-content-type=b"},
		{"GET", "/photos/k?unknown&unknown"},
		{"PUT", "/photos/k?X-Amz-Acl=private&x-amz-acl=public-read"},
		{"PUT", "/photos/k?x-amz-copy-source=photos%2Fa&X-Amz-Copy-Source=secret%2Fa"},
		{"PUT", "/photos/k?x-amz-meta-a=1&X-AMZ-META-A=2"},
		{"GET", "/-/presign?bucket=photos&key=k&key=l"},
		{"GET", "/?prefix=a&prefix=b"},
	} {
		resp, body := g.do(row.method, row.target, adminKey, "")
		wantDenied(t, row.method, resp, body, 400, "InvalidArgument")
		if t.Failed() {
			t.Fatalf("at %s %s", row.method, row.target)
		}
	}
	// A presigned URL that somebody has added to.
	target, _ := opsPresigned("admin", adminKey, opsRequest{method: "GET", path: "/photos/k", query: "versionId=1"})
	for _, more := range []string{"&versionId=2", "&X-Amz-Signature=a", "&X-Amz-Expires=60", "&X-Amz-Credential=x", "&X-Amz-SignedHeaders=host"} {
		resp, body := g.do("GET", target+more, "", "")
		wantDenied(t, "GET", resp, body, 400, "InvalidArgument")
	}
	rec.wantNone(t)
	other.wantNone(t)
}

// Case 21: parameters are a set, and their names have one spelling: the order
// changes no verdict, and another case makes no other parameter of one, nor
// nothing of it.
func TestAbuse021ParameterOrderAndCase(t *testing.T) {
	g, rec, other := opsAccounts(t)
	for _, row := range []struct{ method, a, b, role, want string }{
		{"DELETE", "versionId=1&x-id=DeleteObject", "x-id=DeleteObject&versionId=1", "user", "403 AccessDenied"},
		{"PUT", "acl&versionId=1", "versionId=1&acl", "user", "403 AccessDenied"},
		{"PUT", "retention&versionId=1", "versionId=1&retention", "user", "403 AccessDenied"},
		{"PUT", "partNumber=1&uploadId=a", "uploadId=a&partNumber=1", "readonly", "403 AccessDenied"},
		{"PUT", "acl&tagging", "tagging&acl", "admin", "501 NotImplemented"},
		{"GET", "partNumber=1&attributes", "attributes&partNumber=1", "admin", "501 NotImplemented"},
		{"DELETE", "VersionId=1", "versionid=1", "admin", "501 NotImplemented"},
		{"GET", "VERSIONID=1", "PartNumber=1", "admin", "501 NotImplemented"},
		{"PUT", "Acl", "ACL", "admin", "501 NotImplemented"},
		{"PUT", "Tagging", "TAGGING", "admin", "501 NotImplemented"},
		{"POST", "Uploads", "UPLOADS", "admin", "501 NotImplemented"},
		{"POST", "UploadId=a", "uploadid=a", "admin", "501 NotImplemented"},
		{"PUT", "PartNumber=1&UploadId=a", "uploadId=a&PartNumber=1", "admin", "501 NotImplemented"},
		{"PUT", "partNumber=1&UploadId=a", "uploadid=a&partNumber=1", "admin", "501 NotImplemented"},
		{"DELETE", "UploadId=a", "uploadid=a", "admin", "501 NotImplemented"},
		{"DELETE", "Tagging", "tagging%20", "admin", "501 NotImplemented"},
	} {
		for _, query := range []string{row.a, row.b} {
			for _, door := range opsDoors[:3] {
				name, key := opsUser(row.role, "photos")
				resp, body := door.send(g, name, key, opsRequest{method: row.method, path: "/photos/k", query: query})
				wantRefusal(t, row.method, resp, body, row.want)
				if t.Failed() {
					t.Fatalf("at %s %s, %s", row.method, query, door.name)
				}
			}
		}
	}
	for _, target := range []string{"PUT ?Policy", "PUT ?POLICY", "POST ?Delete", "POST ?DELETE", "GET ?List-Type=2", "GET ?LIST-TYPE=2&list-type=2", "GET ?Versions", "GET ?Uploads"} {
		method, query, _ := strings.Cut(target, " ")
		resp, body := g.do(method, "/photos"+query, adminKey, "")
		wantDenied(t, method, resp, body, 501, "NotImplemented")
	}
	rec.wantNone(t)

	// What is allowed reaches the backend as one and the same request.
	for _, row := range []struct{ method, a, b string }{
		{"GET", "/photos?list-type=2&prefix=a&max-keys=5", "/photos?max-keys=5&prefix=a&list-type=2"},
		{"PUT", "/photos/k?partNumber=1&uploadId=a", "/photos/k?uploadId=a&partNumber=1"},
		{"GET", "/photos?versions&key-marker=a", "/photos?key-marker=a&versions="},
		{"GET", "/photos/k?tagging&versionId=1", "/photos/k?versionId=1&tagging="},
	} {
		before := opsHeard(rec)
		for _, target := range []string{row.a, row.b} {
			if resp, body := g.do(row.method, target, adminKey, ""); resp.StatusCode != 200 {
				t.Errorf("%s %s = %d %s, want 200", row.method, target, resp.StatusCode, body)
			}
		}
		if seen := rec.requests()[before:]; len(seen) != 2 || seen[0].uri != seen[1].uri || seen[0].method != seen[1].method {
			t.Errorf("the backend saw %v, want the same request twice", seen)
		}
	}

	// Credentials stay here however they are spelled.
	before := opsHeard(rec)
	for _, name := range []string{"Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token"} {
		for _, spelled := range []string{"X-Amz-" + name, "x-amz-" + strings.ToLower(name), "X-AMZ-" + strings.ToUpper(name)} {
			g.do("GET", "/photos/k?"+spelled+"=canary", adminKey, "")
		}
	}
	for _, seen := range rec.requests()[before:] {
		if text := fmt.Sprint(seen.uri, seen.header); strings.Contains(text, "canary") {
			t.Errorf("the backend saw a parameter of the client's authentication: %s", text)
		}
	}
	other.wantNone(t)
}

// Case 23: to remove a version is to remove it for good, so it takes the role
// admin, however it is asked for: in the query, however it is written, or in a
// document. And the version is never dropped, for then the newest would go.
func TestAbuse023VersionID(t *testing.T) {
	g, rec, other := opsAccounts(t)
	// An empty one is none, which some servers take for the newest.
	for _, query := range []string{"versionId=", "versionId", "version%49d="} {
		for _, role := range []string{"admin", "user", "readonly"} {
			for _, method := range []string{"DELETE", "GET", "HEAD"} {
				name, key := opsUser(role, "photos")
				resp, body := opsKeyDoor(g, name, key, opsRequest{method: method, path: "/photos/k", query: query})
				wantDenied(t, method, resp, body, 400, "InvalidArgument")
			}
		}
	}
	for _, query := range []string{"versionId=abc", "versionId=null", "version%49d=abc", "x-id=DeleteObject&versionId=abc"} {
		for _, role := range []string{"user", "readonly"} {
			for _, door := range opsDoors {
				name, key := opsUser(role, "photos")
				resp, body := door.send(g, name, key, opsRequest{method: "DELETE", path: "/photos/k", query: query})
				wantDenied(t, "DELETE", resp, body, 403, "AccessDenied")
				if t.Failed() {
					t.Fatalf("at DELETE ?%s by %s, %s", query, role, door.name)
				}
			}
		}
	}
	object := func(members string) string { return "<Object><Key>k</Key>" + members + "</Object>" }
	for _, document := range []string{
		object("<VersionId>abc</VersionId>"), object("<VersionId>null</VersionId>"), object("<VersionId> </VersionId>"), object("<VersionId><![CDATA[abc]]></VersionId>"),
		"<Object><VersionId>abc</VersionId><Key>k</Key></Object>", strings.Repeat(object(""), 999) + object("<VersionId>abc</VersionId>"),
		object(`<s:VersionId xmlns:s="http://s3.amazonaws.com/doc/2006-03-01/">abc</s:VersionId>`), object("<VersionId><!-- -->abc</VersionId>"),
	} {
		for _, role := range []string{"user", "readonly"} {
			for _, door := range opsDoors {
				name, key := opsUser(role, "photos")
				resp, body := door.send(g, name, key, opsRequest{method: "POST", path: "/photos", query: "delete", body: "<Delete>" + document + "</Delete>"})
				wantDenied(t, "POST", resp, body, 403, "AccessDenied")
				if t.Failed() {
					t.Fatalf("at DeleteObjects of %.200s by %s, %s", document, role, door.name)
				}
			}
		}
	}
	for _, method := range []string{"PUT", "POST"} {
		for _, role := range []string{"admin", "user", "readonly"} {
			name, key := opsUser(role, "photos")
			resp, body := opsKeyDoor(g, name, key, opsRequest{method: method, path: "/photos/k", query: "versionId=abc"})
			wantDenied(t, method, resp, body, 501, "NotImplemented")
		}
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		resp, body := g.do(method, "/photos?versionId=abc", adminKey, "")
		wantDenied(t, method, resp, body, 501, "NotImplemented")
	}
	rec.wantNone(t)

	for _, row := range []struct{ method, target, role, body, uri, seen string }{
		{"DELETE", "/photos/k?versionId=abc", "admin", "", "/photos/k?versionId=abc", ""},
		{"DELETE", "/photos/k?versionId=null", "admin", "", "/photos/k?versionId=null", ""},
		{"GET", "/photos/k?versionId=abc", "readonly", "", "/photos/k?versionId=abc", ""},
		{"GET", "/photos/k?tagging&versionId=abc", "readonly", "", "/photos/k?tagging=&versionId=abc", ""},
		{"POST", "/photos?delete", "admin", "<Delete>" + object("<VersionId>abc</VersionId>") + "</Delete>", "/photos?delete=", "<Key>k</Key><VersionId>abc</VersionId>"},
	} {
		before := opsHeard(rec)
		name, key := opsUser(row.role, "photos")
		path, query, _ := strings.Cut(row.target, "?")
		resp, body := opsSignatureDoor(g, name, key, opsRequest{method: row.method, path: path, query: query, body: row.body})
		seen := rec.requests()[before:]
		if resp.StatusCode >= 300 || len(seen) != 1 || seen[0].method != row.method || seen[0].uri != row.uri || !strings.Contains(seen[0].body, row.seen) {
			t.Errorf("%s %s = %d %s, the backend saw %v, want %s", row.method, row.target, resp.StatusCode, body, seen, row.uri)
		}
	}

	// An empty version is none, and must not go on as one.
	name, key := opsUser("user", "photos")
	before := opsHeard(rec)
	resp, body := opsKeyDoor(g, name, key, opsRequest{method: "POST", path: "/photos", query: "delete", body: "<Delete>" + object("<VersionId></VersionId>") + "</Delete>"})
	for _, seen := range rec.requests()[before:] {
		if strings.Contains(seen.body, "VersionId") {
			t.Errorf("DeleteObjects with an empty version by a user = %d %s, and the backend got %s, want no version in it", resp.StatusCode, body, seen.body)
		}
	}
	other.wantNone(t)
}

// opsCopies are the two operations that copy, to the bucket photos.
var opsCopies = []opsRequest{
	{method: "PUT", path: "/photos/x"},
	{method: "PUT", path: "/photos/x", query: "partNumber=1&uploadId=u"},
	{method: "PUT", path: "/photos/x", query: "uploadId=u&partNumber=1"},
}

// opsFrom is a copy from a source.
func (r opsRequest) opsFrom(header ...string) opsRequest {
	r.header = header
	return r
}

// Case 24: a copy reads its source with the backend's rights. Who may not read
// the source gets nothing of it, neither by a copy nor by the copy of a part,
// wherever the source is named; and it is never dropped, for then the copy would
// be an upload of nothing.
func TestAbuse024CopySource(t *testing.T) {
	g, rec, other := opsAccounts(t)
	one, all := roleKey("user", "photos"), roleKey("user", "*")
	for _, row := range []struct {
		source, name, key string
		status            int
		code              string
	}{
		{"/secret/k", "one-user", one, 403, "AccessDenied"},
		{"secret/k", "one-user", one, 403, "AccessDenied"},
		{"secret/k?versionId=1", "one-user", one, 403, "AccessDenied"},
		{"unknown/k", "one-user", one, 403, "AccessDenied"},
		{"elsewhere/k", "one-user", one, 403, "AccessDenied"},
		{"pics/k", "one-user", one, 403, "AccessDenied"},
		{"corp-pics-prod/k", "one-user", one, 403, "AccessDenied"},
		{"secret/k", "one-admin", roleKey("admin", "photos"), 403, "AccessDenied"},
		{"photos/k", "one-readonly", roleKey("readonly", "photos"), 403, "AccessDenied"},
		{"photos/k", "all-readonly", roleKey("readonly", "*"), 403, "AccessDenied"},
		{"photos/k", "none", noneKey, 403, "AccessDenied"},
		{"unknown/k", "all-user", all, 404, "NoSuchBucket"},
		{"corp-pics-prod/k", "all-user", all, 404, "NoSuchBucket"}, // the name behind is none of ours
		{"corp-pics-prod/k", "admin", adminKey, 404, "NoSuchBucket"},
	} {
		for _, copy := range opsCopies {
			for _, door := range opsDoors {
				r := copy.opsFrom("x-amz-copy-source: " + row.source)
				resp, body := door.send(g, row.name, row.key, r)
				wantDenied(t, "PUT", resp, body, row.status, row.code)
				if t.Failed() {
					t.Fatalf("at %s by %s, %s", r, row.name, door.name)
				}
			}
			for _, more := range []string{"X-Amz-Copy-Source=", "x-amz-copy-source=", "X-AMZ-COPY-SOURCE="} {
				r := copy
				r.query = strings.TrimPrefix(r.query+"&"+more+uriEncode(row.source, true), "&")
				resp, body := g.do("PUT", r.target(), row.key, "")
				wantDenied(t, "PUT", resp, body, row.status, row.code)
			}
		}
	}
	// A source where none belongs.
	for _, target := range []string{"PUT /photos/k?tagging", "PUT /photos/k?acl", "PUT /photos?policy", "POST /photos/k?uploads", "POST /photos/k?uploadId=u",
		"POST /photos?delete", "GET /photos/k", "HEAD /photos/k", "DELETE /photos/k", "GET /photos"} {
		method, path, _ := strings.Cut(target, " ")
		resp, body := g.do(method, path, adminKey, "", "x-amz-copy-source: /photos/a")
		wantDenied(t, method, resp, body, 400, "InvalidRequest")
	}
	// A target that is not the user's, from a source that is.
	for _, bucket := range []string{"secret", "unknown", "elsewhere", "pics"} {
		resp, body := g.do("PUT", "/"+bucket+"/x", one, "", "x-amz-copy-source: photos/k")
		wantError(t, resp, body, 403, "AccessDenied")
	}
	// What a copy does not read may be no way to smuggle, either.
	for _, body := range []string{"data", opsDelete} {
		resp, answer := g.do("PUT", "/photos/x", one, body, "x-amz-copy-source: photos/k")
		wantError(t, resp, answer, 400, "InvalidRequest")
	}
	rec.wantNone(t)
	other.wantNone(t)
}

// Case 25: spellings of a source that two parsers read differently. There is one
// parse, and what the backend gets was written anew from it, or there is nothing.
func TestAbuse025CopySourceSpellings(t *testing.T) {
	g, rec, other := opsAccounts(t)
	const source = "x-amz-copy-source: "
	one := roleKey("user", "photos")
	for _, header := range [][]string{
		{source + "/secret/k"}, {source + "secret%2Fk"}, {source + "%2Fsecret%2Fk"}, {source + "%2fsecret/k"}, {source + "/secret%2fk"},
		{source + "//secret/k"}, {source + "/%2Fsecret/k"}, {source + "%2F%2Fsecret/k"}, {source + "///photos/k"}, {source + "//photos/k"},
		{source + "photos/../secret/k"}, {source + "photos/%2e%2e/secret/k"}, {source + "photos/..%2fsecret%2fk"}, {source + "/photos/./k"},
		{source + "photos/safe%3FversionId%3D..%2f..%2fsecret"}, {source + "photos%2F..%2Fsecret/k"}, {source + "photos%2F%2E%2E%2Fsecret%2Fk"},
		{source + "photos/a/b"}, {source + "photos/a%2Fb"}, {source + "photos//k"}, {source + "photos/k/"}, {source + "photos/a%5Cb"}, {source + `photos\..\secret\k`},
		{source + "photos%00/k"}, {source + "photos/k%00"}, {source + "photos/k%0d%0aX-Evil:%201"}, {source + "photos/%ff"}, {source + "photos/%c0%ae%c0%ae"},
		{source + "photos/k%zz"}, {source + "photos/k%"}, {source + "photos/k%4"},
		{source + "photos/k?versionId=1&versionId=2"}, {source + "photos/k?versionId=1&acl"}, {source + "photos/k?acl"}, {source + "photos/k?"}, {source + "photos/k?versionId="},
		{source + "photos/k?VersionId=1"}, {source + "photos/k?versionid=1"}, {source + "photos/k?x=1&versionId=1"}, {source + "photos/k?versionId=%zz"}, {source + "photos/k?a?versionId=1"},
		{source + "http://secret/k"}, {source + "http://photos/k"}, {source + "s3://photos/k"}, {source + "photos.s3.example/k"},
		{source + "arn:aws:s3:us-east-1:123456789012:accesspoint/mine/object/k"}, {source + "arn:aws:s3-outposts:us-east-1:123456789012:outpost/o/object/k"},
		{source + "arn:aws:s3:::photos/k"}, {source + "PHOTOS/k"}, {source + "photos:80/k"}, {source + "photos;v=1/k"}, {source + "photos@secret/k"},
		{source + "photos"}, {source + "photos/"}, {source + "/photos/"}, {source + "photos%2F"}, {source + "/"}, {source + "%2F"}, {source + "?versionId=1"}, {source + "."}, {source + "../secret/k"}, {source},
		{source + "photos/" + strings.Repeat("k", 1025)},
		{source + "photos/k", source + "secret/k"}, {source + "secret/k", source + "photos/k"}, {source + "photos/k", source + "photos/k"}, {source + "photos/k", "X-AMZ-COPY-SOURCE:"},
		{source + "secret/k, photos/k"},
	} {
		for _, copy := range opsCopies {
			resp, body := g.do("PUT", copy.target(), one, "", header...)
			wantRefusal(t, "PUT", resp, body, "400 InvalidRequest", "400 InvalidArgument", "403 AccessDenied")
			if t.Failed() {
				t.Fatalf("at %s %q", copy.target(), header)
			}
		}
	}
	rec.wantNone(t)

	for _, row := range []struct{ source, want string }{
		{"photos/k", "photos/k"},
		{"/photos/k", "photos/k"},
		{"photos%2Fk", "photos/k"},
		{"%2Fphotos%2Fk", "photos/k"},
		{"/photos%2fk", "photos/k"},
		{"photos/%6B", "photos/k"},
		{"photos/a%20b%2Bc", "photos/a%20b%2Bc"},
		{"photos/a+b%2Bc", "photos/a%20b%2Bc"}, // a plus sign is a space
		{"photos/a b", "photos/a%20b"},
		{"photos/%E6%97%A5", "photos/%E6%97%A5"},
		{"photos/日", "photos/%E6%97%A5"},
		{"photos/100%25", "photos/100%25"},
		{"photos/%252e%252e", "photos/%252e%252e"}, // decoded once: a key with percent signs
		{"photos/k%3FversionId%3D1", "photos/k%3FversionId%3D1"},
		{"photos/k, secret", "photos/k%2C%20secret"},
		{"photos/k?versionId=1", "photos/k?versionId=1"},
		{"photos/k?versionId=a/b+c", "photos/k?versionId=a%2Fb%2Bc"},
		{"photos/k%23x?versionId=null", "photos/k%23x?versionId=null"},
		{"pics/k", "corp-pics-prod/k"},
	} {
		for _, copy := range opsCopies {
			before := opsHeard(rec)
			resp, body := g.do("PUT", copy.target(), roleKey("user", "*"), "", source+row.source)
			seen := rec.requests()[before:]
			if resp.StatusCode != 200 || len(seen) != 1 || !slices.Equal(seen[0].header["X-Amz-Copy-Source"], []string{row.want}) {
				t.Errorf("%s from %q = %d %s, the backend saw %v, want the source %q", copy.target(), row.source, resp.StatusCode, body, seen, row.want)
			}
		}
	}
	other.wantNone(t)
}

// Case 26: a source in another account is read with that account's credentials
// and no others, and only where both buckets are in the configuration. Between
// accounts the gateway is the reader and the writer: whatever each may not be
// asked for by a client directly, it may not be asked for by a copy.
func TestAbuse026CopyBetweenAccounts(t *testing.T) {
	t.Run("credentials", func(t *testing.T) {
		g, main, other := opsAccounts(t)
		for _, copy := range opsCopies {
			for _, row := range []struct{ target, source string }{{"photos", "elsewhere"}, {"elsewhere", "photos"}} {
				beforeMain, beforeOther := opsHeard(main), opsHeard(other)
				r := copy.opsFrom("x-amz-copy-source: " + row.source + "/k")
				r.path = "/" + row.target + "/x"
				resp, body := opsSignatureDoor(g, "cross", opsCrossKey, r)
				if resp.StatusCode != 200 {
					t.Fatalf("%s = %d %s, want 200", r, resp.StatusCode, body)
				}
				opsWantSince(t, main, beforeMain, 1)
				opsWantSince(t, other, beforeOther, 1)
			}
		}
		for _, check := range []struct {
			rec            *recorder
			mine, bucket   string
			theirs, theirB string
		}{
			{main, testCredentials.AccessKeyID, "/photos/", "OTHERKEYID", "elsewhere"}, {other, "OTHERKEYID", "/elsewhere/", testCredentials.AccessKeyID, "photos"},
		} {
			for _, seen := range check.rec.requests() {
				auth := seen.header.Get("Authorization")
				if !strings.Contains(auth, "Credential="+check.mine+"/") || !strings.HasPrefix(seen.uri, check.bucket) || seen.header.Get("X-Amz-Copy-Source") != "" {
					t.Errorf("an account got %s %s with %v, want its own bucket, its own credentials, and no source", seen.method, seen.uri, seen.header)
				}
				if text := fmt.Sprint(seen.uri, seen.header); strings.Contains(text, check.theirs) || strings.Contains(text, check.theirB) || strings.Contains(text, "cross") {
					t.Errorf("an account hears of another, or of the client: %s", text)
				}
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		g, main, other := opsAccounts(t)
		for _, row := range []struct {
			target, source, key string
			status              int
			code                string
		}{
			{"photos", "elsewhere", roleKey("user", "photos"), 403, "AccessDenied"},
			{"elsewhere", "photos", roleKey("user", "photos"), 403, "AccessDenied"},
			{"elsewhere", "secret", opsCrossKey, 403, "AccessDenied"},
			{"elsewhere", "notinconfig", opsCrossKey, 403, "AccessDenied"},
			{"photos", "notinconfig", opsCrossKey, 403, "AccessDenied"},
			{"elsewhere", "notinconfig", adminKey, 404, "NoSuchBucket"},
			{"photos", "notinconfig", adminKey, 404, "NoSuchBucket"},
			{"notinconfig", "photos", adminKey, 404, "NoSuchBucket"},
			{"elsewhere", "photos", roleKey("readonly", "*"), 403, "AccessDenied"},
		} {
			for _, copy := range opsCopies {
				copy.path = "/" + row.target + "/x"
				resp, body := g.do("PUT", copy.target(), row.key, "", "x-amz-copy-source: "+row.source+"/k")
				wantError(t, resp, body, row.status, row.code)
			}
		}
		main.wantNone(t)
		other.wantNone(t)
	})
	// Of the headers about a source, the read has the conditions, the range and
	// the customer's key, and nothing else that a client can think of.
	t.Run("headers", func(t *testing.T) {
		g, main, _ := opsAccounts(t)
		for _, name := range []string{"authorization", "host", "cookie", "connection", "expect", "te", "upgrade", "x-api-key", "x-amz-date", "x-amz-security-token",
			"x-amz-content-sha256", "x-minio-source-replication-request", "x-rgw-a", "x-http-method-override", "x-forwarded-for", "x-original-url", "idempotency-key",
			"transfer-encoding", "content-length", "accept-encoding", "x-amz-acl", "proxy-authorization", "tagging"} {
			before := opsHeard(main)
			g.do("PUT", "/elsewhere/x", opsCrossKey, "", "x-amz-copy-source: photos/k", "x-amz-copy-source-"+name+": canary")
			for _, seen := range main.requests()[before:] {
				for field, values := range seen.header {
					if strings.Contains(strings.Join(values, ","), "canary") {
						t.Errorf("x-amz-copy-source-%s reached the source as %s: %q", name, field, values)
					}
				}
			}
		}
	})
	// And the target's conditions are the target's.
	t.Run("conditions", func(t *testing.T) {
		g, main, other := opsAccounts(t)
		resp, body := g.do("PUT", "/elsewhere/x", opsCrossKey, "", "x-amz-copy-source: photos/k", "If-None-Match: *", "If-Match: target", "Range: bytes=0-0",
			"x-amz-copy-source-if-match: source", "x-amz-copy-source-server-side-encryption-customer-algorithm: AES256")
		if read, written := main.requests(), other.requests(); resp.StatusCode != 200 || len(read) != 1 || len(written) != 1 {
			t.Fatalf("copy = %d %s, %d reads and %d writes, want 200, 1 and 1", resp.StatusCode, body, len(read), len(written))
		}
		checkHeaders(t, "the read", main.requests()[0].header, map[string]string{"If-None-Match": "", "If-Match": "source", "Range": "", "X-Amz-Server-Side-Encryption-Customer-Algorithm": "AES256"})
		checkHeaders(t, "the write", other.requests()[0].header, map[string]string{"If-None-Match": "*", "If-Match": "target", "X-Amz-Copy-Source-If-Match": "",
			"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm": "", "X-Amz-Server-Side-Encryption-Customer-Algorithm": ""})
	})
	// S3 has a range for the copy of a part alone: a copy of an object that is
	// silently a part of it is lost data.
	t.Run("range", func(t *testing.T) {
		object := "0123456789"
		source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(object))
		})
		deaf := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, object) }) // that ignores Range, as RFC 9110 lets it
		for _, row := range []struct {
			backend *recorder
			query   string
			span    string
			want    string // stored; "" is nothing
		}{
			{source, "?partNumber=1&uploadId=u", "bytes=2-4", "234"},
			{source, "?partNumber=1&uploadId=u", "bytes=0-9", object},
			{source, "?partNumber=1&uploadId=u", "bytes=0-10", ""}, // beyond the end: S3 refuses it
			{source, "", "bytes=2-4", ""},
			{deaf, "?partNumber=1&uploadId=u", "bytes=2-4", ""},
			{deaf, "?partNumber=1&uploadId=u", "bytes=1-10", ""}, // as long as the object
		} {
			sink := startRecorder(t, answerAsS3)
			g := startGateway(t, twoAccounts(row.backend.URL, sink.URL))
			resp, body := g.do("PUT", "/faraway/x"+row.query, userKey, "", "x-amz-copy-source: photos/k", "x-amz-copy-source-range: "+row.span)
			stored := ""
			for _, seen := range sink.requests() {
				if seen.err == nil {
					stored += seen.body
				}
			}
			if (resp.StatusCode == 200) != (row.want != "") || stored != row.want {
				t.Errorf("copy %s of %s = %d %s, stored %q, want %q", row.query, row.span, resp.StatusCode, body, stored, row.want)
			}
		}
	})
	// Metadata is copied, but no more than a client might send.
	t.Run("metadata", func(t *testing.T) {
		source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Amz-Meta-Snowball-Auto-Extract", "true")
			w.Header().Set("X-Amz-Website-Redirect-Location", "http://evil.example")
			w.Header().Set("X-Amz-Acl", "public-read")
			w.Header().Set("X-Minio-Source-Mtime", "1")
			io.WriteString(w, "an archive")
		})
		sink := startRecorder(t, nil)
		g := startGateway(t, twoAccounts(source.URL, sink.URL))
		g.do("PUT", "/faraway/x", userKey, "", "x-amz-copy-source: photos/k")
		for _, seen := range sink.requests() {
			for _, name := range []string{"X-Amz-Meta-Snowball-Auto-Extract", "X-Amz-Website-Redirect-Location", "X-Amz-Acl", "X-Minio-Source-Mtime"} {
				if value, ok := seen.header[name]; ok {
					t.Errorf("the copy carries %s: %q, which no user may send", name, value)
				}
			}
		}
	})
}

// Case 27: a range that S3 refuses, and that some servers take for the whole.
func TestAbuse027CopyRange(t *testing.T) {
	g, main, other := opsAccounts(t)
	for _, value := range []string{"bytes=100-0", "", " ", "bytes=", "bytes=-", "bytes=5-", "bytes=-5", "bytes=1-2,4-5", "bytes=a-b", "bytes=0x1-0x2", "bytes= 1-2",
		"bytes=+1-2", "bytes=1-+2", "bytes:1-2", "Bytes=1-2", "1-2", "octets=1-2", "bytes=1-99999999999999999999", "bytes=1.0-2", "bytes=1-2;q=1", "bytes=١-٢"} {
		for _, path := range []string{"/photos/x", "/elsewhere/x"} {
			for _, door := range opsDoors[:3] {
				r := opsRequest{method: "PUT", path: path, query: "partNumber=1&uploadId=u", header: []string{"x-amz-copy-source: photos/k", "x-amz-copy-source-range: " + value}}
				resp, body := door.send(g, "cross", opsCrossKey, r)
				wantDenied(t, "PUT", resp, body, 400, "InvalidArgument")
				if t.Failed() {
					t.Fatalf("at %s, %s", r, door.name)
				}
			}
		}
	}
	resp, body := g.do("PUT", "/photos/x?partNumber=1&uploadId=u", opsCrossKey, "", "x-amz-copy-source: photos/k", "x-amz-copy-source-range: bytes=0-1", "x-amz-copy-source-range: bytes=0-2")
	wantRefusal(t, "PUT", resp, body, "400 InvalidArgument", "400 InvalidRequest")
	main.wantNone(t)
	other.wantNone(t)
}

// Case 28: a batch is its keys. Each is held to the rules for a key in a path,
// and the backend reads no other list than the one that was checked, whatever a
// second parser might make of the document.
func TestAbuse028DeleteObjects(t *testing.T) {
	for _, nested := range []bool{false, true} {
		rec := startRecorder(t, answerAsS3)
		g := startGateway(t, testConfig(rec.URL, with("nested_keys", nested)))
		key := func(k string) string { return "<Object><Key>" + k + "</Key></Object>" }
		wrap := func(s string) string { return "<Delete>" + s + "</Delete>" }
		const s3 = "http://s3.amazonaws.com/doc/2006-03-01/"
		for name, row := range map[string]struct {
			body string
			want string
		}{
			"text between elements":    {wrap("x" + key("k")), "400 MalformedXML"},
			"text after an element":    {wrap(key("k") + "x"), "400 MalformedXML"},
			"1001 keys":                {wrap(strings.Repeat(key("k"), 1001)), "400 MalformedXML"},
			"70 000 keys":              {wrap(strings.Repeat(key(""), 70_000)), "400 MalformedXML"},
			"over 2 MiB":               {wrap(key("k") + strings.Repeat(" ", 2<<20)), "413 EntityTooLarge"},
			"a key of 1 MiB":           {wrap(key(strings.Repeat("k", 1<<20))), "400 MalformedXML"},
			"a key of 1025 bytes":      {wrap(key(strings.Repeat("k", 1025))), "400 KeyTooLongError"},
			"deep":                     {strings.Repeat("<Delete>", 200_000), "400 MalformedXML"},
			"deep, and closed":         {wrap("<Object>" + strings.Repeat("<Key>", 50_000) + strings.Repeat("</Key>", 50_000) + "</Object>"), "400 MalformedXML"},
			"a million attributes":     {`<Delete` + strings.Repeat(` a="b"`, 300_000) + ">" + key("k") + "</Delete>", "400 MalformedXML"},
			"two keys in one":          {wrap("<Object><Key>a</Key><Key>b</Key></Object>"), "400 MalformedXML"},
			"a key of another case":    {wrap("<Object><Key>a</Key><key>b</key></Object>"), "400 MalformedXML"},
			"a key in a key":           {wrap("<Object><Key><Key>a</Key></Key></Object>"), "400 MalformedXML"},
			"no key":                   {wrap("<Object><ETag>e</ETag></Object>"), "400 MalformedXML"},
			"an empty key":             {wrap(key("")), "400 InvalidRequest"},
			"no objects":               {wrap(""), "400 MalformedXML"},
			"an object in an object":   {wrap("<Object>" + key("k") + "</Object>"), "400 MalformedXML"},
			"a foreign root":           {`<Delete xmlns="urn:x">` + key("k") + "</Delete>", "400 MalformedXML"},
			"a foreign object":         {`<Delete xmlns="` + s3 + `" xmlns:x="urn:x"><x:Object><Key>k</Key></x:Object></Delete>`, "400 MalformedXML"},
			"a foreign key":            {`<Delete xmlns:x="urn:x"><Object><x:Key>k</x:Key></Object></Delete>`, "400 MalformedXML"},
			"a foreign key beside":     {`<Delete xmlns:x="urn:x"><Object><x:Key>a</x:Key><Key>k</Key></Object></Delete>`, "400 MalformedXML"},
			"a second root":            {wrap(key("a")) + wrap(key("b")), "400 MalformedXML"},
			"text behind":              {wrap(key("a")) + "b", "400 MalformedXML"},
			"NUL behind":               {wrap(key("a")) + "\x00", "400 MalformedXML"},
			"an instruction behind":    {wrap(key("a")) + "<?x y?>", "400 MalformedXML"},
			"another root":             {"<Remove>" + key("k") + "</Remove>", "400 MalformedXML"},
			"a document type":          {"<!DOCTYPE Delete>" + wrap(key("k")), "400 MalformedXML"},
			"a document type inside":   {wrap("<!DOCTYPE Delete>" + key("k")), "400 MalformedXML"},
			"an external entity":       {`<!DOCTYPE Delete [<!ENTITY x SYSTEM "file:///etc/passwd">]>` + wrap(key("&x;")), "400 MalformedXML"},
			"a bomb":                   {`<!DOCTYPE Delete [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>` + wrap(key("&b;")), "400 MalformedXML"},
			"an entity":                {wrap(key("&x;")), "400 MalformedXML"},
			"an inclusion":             {`<Delete xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd"/>` + key("k") + `</Delete>`, "400 MalformedXML"},
			"another encoding":         {`<?xml version="1.0" encoding="UTF-16"?>` + wrap(key("k")), "400 MalformedXML"},
			"invalid UTF-8":            {wrap(key("\xff")), "400 MalformedXML"},
			"a control character":      {wrap(key("&#x1;")), "400 MalformedXML"},
			"NUL":                      {wrap(key("&#0;")), "400 MalformedXML"},
			"a surrogate":              {wrap(key("&#xD800;")), "400 MalformedXML"},
			"dots":                     {wrap(key("..")), "400 InvalidRequest"},
			"dot segments":             {wrap(key("../secret/k")), "400 InvalidRequest"},
			"dot segments in CDATA":    {wrap(key("<![CDATA[../secret/k]]>")), "400 InvalidRequest"},
			"dots around a comment":    {wrap(key(".<!-- x -->./secret")), "400 InvalidRequest"},
			"dots by number":           {wrap(key("&#46;&#46;")), "400 InvalidRequest"},
			"one of a thousand":        {wrap(strings.Repeat(key("k"), 999) + key("a/./b")), "400 InvalidRequest"},
			"JSON":                     {`{"Objects":[{"Key":"k"}]}`, "400 MalformedXML"},
			"nothing":                  {"", "400 MalformedXML"},
			"cut":                      {wrap(key("k"))[:40], "400 MalformedXML"},
			"a form":                   {"--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--x--\r\n", "400 MalformedXML"},
			"the aws-chunked envelope": {"4\r\n" + wrap(key("k")) + "\r\n0\r\n\r\n", "400 MalformedXML"},
		} {
			t.Run(fmt.Sprintf("%s, nested %t", name, nested), func(t *testing.T) {
				before := opsHeard(rec)
				resp, body := g.do("POST", "/photos?delete", userKey, row.body)
				wantRefusal(t, "POST", resp, body, row.want)
				opsWantSince(t, rec, before, 0)
			})
		}
		if !nested {
			for _, k := range []string{"a/b", "a&#47;b", "k/", "/k", `a\b`, "a&#9;b", "a&#x85;b"} {
				resp, body := g.do("POST", "/photos?delete", userKey, wrap(key(k)))
				wantRefusal(t, "POST", resp, body, "400 InvalidRequest")
			}
		}
		// Who, by every door, and with digests that do not fit.
		for _, door := range opsDoors {
			r := opsRequest{method: "POST", path: "/photos", query: "delete", body: wrap(key("k"))}
			for _, caller := range []struct{ name, key, path string }{{"ro", readOnlyKey, "/photos"}, {"none", noneKey, "/photos"}, {"user", userKey, "/secret"}, {"user", userKey, "/nosuch"}} {
				r.path = caller.path
				resp, body := door.send(g, caller.name, caller.key, r)
				wantDenied(t, "POST", resp, body, 403, "AccessDenied")
			}
		}
		for _, header := range []string{"Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==", "Content-MD5: x", "x-amz-content-sha256: " + strings.Repeat("0", 64)} {
			resp, body := g.do("POST", "/photos?delete", userKey, wrap(key("k")), header)
			wantRefusal(t, "POST", resp, body, "400 BadDigest", "400 InvalidDigest", "400 XAmzContentSHA256Mismatch")
		}
		if t.Failed() {
			continue
		}
		rec.wantNone(t)

		// What passes was written anew.
		resp, body := g.do("POST", "/photos?delete", userKey, `<?xml version="1.0"?><?x y?><!-- `+key("c")+` --><Delete xmlns="`+s3+`" a="b"> <Quiet>true</Quiet>`+
			`<Object b="c"><Key><![CDATA[a&b]]></Key></Object>`+strings.Repeat(key("k"), 999)+`</Delete><!-- -->`)
		seen := rec.requests()
		if resp.StatusCode != 200 || len(seen) != 1 || seen[0].uri != "/photos?delete=" {
			t.Fatalf("DeleteObjects = %d %s, the backend saw %v, want 200 and one request", resp.StatusCode, body, seen)
		}
		for _, surplus := range []string{"<!--", "<?x y", "CDATA", `="b"`, `="c"`, "> <"} {
			if strings.Contains(seen[0].body, surplus) {
				t.Errorf("the backend got %.300s, want nothing of %q", seen[0].body, surplus)
			}
		}
		digest := md5.Sum([]byte(seen[0].body))
		if got, want := seen[0].header.Get("Content-Md5"), base64.StdEncoding.EncodeToString(digest[:]); got != want || strings.Count(seen[0].body, "<Key>") != 1000 {
			t.Errorf("the backend got %d keys and Content-MD5 %q, want 1000 and %q", strings.Count(seen[0].body, "<Key>"), got, want)
		}
	}
}

// Case 29: a browser's form is an upload with its own kind of authorization, in
// the body, to a key that the path does not name.
func TestAbuse029FormUpload(t *testing.T) {
	g, rec, other := opsAccounts(t)
	const form = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nstolen\r\n" +
		"--x\r\nContent-Disposition: form-data; name=\"x-amz-credential\"\r\n\r\nadmin/20260101/us-east-1/s3/aws4_request\r\n" +
		"--x\r\nContent-Disposition: form-data; name=\"policy\"\r\n\r\neyJjb25kaXRpb25zIjpbXX0=\r\n" +
		"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\ndata\r\n--x--\r\n"
	for _, contentType := range []string{
		"multipart/form-data; boundary=x", "multipart/form-datax; boundary=x", "text/plain; a=multipart/form-data; boundary=x",
		"MULTIPART/FORM-DATA; boundary=x", "multipart/form-data ; boundary=x", "multipart/form-data", "application/x-www-form-urlencoded", "",
	} {
		for _, row := range []struct {
			path, query, want string
		}{
			{"/", "", "405 MethodNotAllowed"},
			{"/photos", "", "501 NotImplemented"},
			{"/photos", "x-id=PostObject", "501 NotImplemented"},
			{"/photos", "key=stolen", "501 NotImplemented"},
			{"/photos/k", "", "405 MethodNotAllowed"},
			{"/photos/k", "policy", "501 NotImplemented"},
		} {
			r := opsRequest{method: "POST", path: row.path, query: row.query, body: form, header: []string{"Content-Type: " + contentType}}
			for _, role := range []string{"admin", "user", "readonly"} {
				for _, door := range opsDoors {
					name, key := opsUser(role, "photos")
					resp, body := door.send(g, name, key, r)
					wantRefusal(t, "POST", resp, body, row.want)
					if t.Failed() {
						t.Fatalf("at %s by %s, %s", r, role, door.name)
					}
				}
			}
			resp, body := g.do("POST", r.target(), "", form, r.header...)
			wantError(t, resp, body, 401, "Unauthorized")
		}
		resp, body := g.do("POST", "/secret", roleKey("user", "photos"), form, "Content-Type: "+contentType)
		wantError(t, resp, body, 403, "AccessDenied")
	}
	rec.wantNone(t)
	other.wantNone(t)
}

// Case 30: a multipart upload is a write from its first request to its last,
// though two of them are POSTs and one a DELETE.
func TestAbuse030MultipartByReaders(t *testing.T) {
	g, rec, other := opsAccounts(t)
	for _, operation := range []string{"CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload"} {
		r := opsRequestFor(operation, "photos")
		for _, door := range opsDoors {
			for _, scope := range []string{"photos", "*"} {
				name, key := opsUser("readonly", scope)
				resp, body := door.send(g, name, key, r)
				wantDenied(t, r.method, resp, body, 403, "AccessDenied")
			}
			r.path = strings.Replace(r.path, "photos", "secret", 1)
			name, key := opsUser("user", "photos")
			resp, body := door.send(g, name, key, r)
			wantDenied(t, r.method, resp, body, 403, "AccessDenied")
			r = opsRequestFor(operation, "photos")
			if t.Failed() {
				t.Fatalf("at %s, %s", r, door.name)
			}
		}
	}
	rec.wantNone(t)
	// S3 needs the number of a part, and the upload it is of: a server that looks
	// for both would take what lacks one for a PutObject, or with no upload named,
	// a DELETE for that of the object.
	for _, target := range []string{"PUT /photos/k?uploadId=u", "PUT /photos/k?partNumber=1", "PUT /photos/k?partNumber=1&uploadId=", "PUT /photos/k?partNumber=&uploadId=u",
		"DELETE /photos/k?uploadId=", "DELETE /photos/k?uploadId", "POST /photos/k?uploadId="} {
		before := opsHeard(rec)
		method, path, _ := strings.Cut(target, " ")
		resp, body := g.do(method, path, adminKey, opsComplete)
		if resp.StatusCode != 400 && resp.StatusCode != 404 && resp.StatusCode != 501 || opsHeard(rec) != before {
			t.Errorf("%s = %d %s, and the backend got %d requests, want a refusal and none", target, resp.StatusCode, body, opsHeard(rec)-before)
		}
	}
	other.wantNone(t)
}

// Case 31: an operation that takes minutes answers 200 before it is done, sends
// white space meanwhile, and may then say that it failed. All of that passes, the
// failure is logged, and the write is sent once.
func TestAbuse031ErrorUnder200(t *testing.T) {
	for _, row := range []struct{ operation, document, want string }{
		{"CompleteMultipartUpload", "<Error><Code>InternalError</Code><Message>try again</Message><HostId>10.0.0.1</HostId></Error>", "InternalError"},
		{"CompleteMultipartUpload", "<Error><Code>SlowDown</Code><Message>BACKENDKEYID</Message></Error>", "SlowDown"},
		{"CompleteMultipartUpload", "<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>BACKENDKEYID</AWSAccessKeyId></Error>", "BadGateway"},
		{"CompleteMultipartUpload", "<Error/>", "InternalError"},
		{"CopyObject", "<Error><Code>InternalError</Code><Message>10.0.0.1</Message></Error>", "InternalError"},
		{"UploadPartCopy", "<Error><Code>NoSuchUpload</Code></Error>", "NoSuchUpload"},
	} {
		t.Run(row.operation+" "+row.want, func(t *testing.T) {
			first, next := make(chan struct{}), make(chan struct{})
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`)
				for range 3 {
					io.WriteString(w, "\n ")
					w.(http.Flusher).Flush()
				}
				close(first)
				<-next
				io.WriteString(w, row.document)
			})
			g := startGateway(t, testConfig(backend.URL))
			r := opsRequestFor(row.operation, "photos")
			conn := g.dial()
			defer conn.Close()
			io.WriteString(conn, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nX-Api-Key: %s\r\nContent-Length: %d\r\n%s\r\n\r\n%s",
				r.method, r.target(), userKey, len(r.body), strings.Join(append(r.header, "X-A: b"), "\r\n"), r.body))
			<-first
			reader := bufio.NewReader(conn)
			resp, err := http.ReadResponse(reader, &http.Request{Method: r.method})
			if err != nil || resp.StatusCode != 200 {
				t.Fatalf("before the backend is done: %v, %v, want a 200", resp, err)
			}
			checkHardened(t, resp)
			close(next)
			data, err := io.ReadAll(resp.Body)
			var e struct {
				XMLName xml.Name `xml:"Error"`
				Code    string
			}
			if failure := xml.Unmarshal(data, &e); err != nil || failure != nil || e.Code != row.want {
				t.Errorf("the answer is %q, %v, %v, want an Error %s", data, err, failure, row.want)
			}
			checkNoSecret(t, "the answer", string(data))
			if strings.Contains(string(data), "10.0.0.1") {
				t.Errorf("the answer names the backend's host: %s", data)
			}
			await(t, "the log line", func() bool { return len(g.lines()) == 1 })
			if line := g.lines()[0]; line["cause"] == nil || line["operation"] != row.operation {
				t.Errorf("the log has %v, want %s and its failure", line, row.operation)
			}
			if n := len(backend.requests()); n != 1 {
				t.Errorf("the backend got %d requests, want 1: a write is not retried", n)
			}
		})
	}
	// White space for longer than any deadline of the gateway's does not cut it,
	// and silence or a break is no success.
	for _, row := range []struct {
		name, document string
		whole          bool
	}{
		{"slow", "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>", true},
		{"cut", "<CompleteMultipartUploadResult><ETag>e</ETag>", false},
		{"nothing", "", false},
		{"no document", "done", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
				if _, header, err := readHead(r); err == nil {
					var n int64
					fmt.Sscan(header.Get("Content-Length"), &n)
					io.CopyN(io.Discard, r, n)
				}
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				for range 10 {
					<-time.After(60 * time.Millisecond)
					io.WriteString(conn, "1\r\n \r\n")
				}
				if row.document != "" {
					fmt.Fprintf(conn, "%x\r\n%s\r\n", len(row.document), row.document)
				}
				io.WriteString(conn, "0\r\n\r\n")
			})
			g := startGateway(t, testConfig(endpoint, with("server.idle_timeout", "400ms"), with("accounts.main.response_header_timeout", "400ms")))
			resp, body := g.do("POST", "/photos/k?uploadId=u", userKey, opsComplete)
			if whole := resp.StatusCode == 200 && resp.Header.Get("Test-Error") == "" && strings.Contains(body, "</CompleteMultipartUploadResult>"); whole != row.whole {
				t.Errorf("answer = %d %q %s, want it whole: %t", resp.StatusCode, body, resp.Header.Get("Test-Error"), row.whole)
			}
		})
	}
}

// Case 32: the limit counts the bytes that are stored, by whatever operation and
// framing they come.
func TestAbuse032SizeEscapes(t *testing.T) {
	const limit = 1000
	source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/chunked") {
			w.(http.Flusher).Flush() // no length
		}
		io.WriteString(w, strings.Repeat("s", limit+1))
	})
	sink := startRecorder(t, nil)
	config := twoAccounts(source.URL, sink.URL)
	with("max_file_size", limit)(config)
	g := startGateway(t, config)
	stored := func() (whole []string) {
		for _, seen := range slices.Concat(source.requests(), sink.requests()) {
			if seen.err == nil && seen.method != "GET" {
				whole = append(whole, seen.method+" "+seen.uri)
			}
		}
		return whole
	}
	for _, bucket := range []string{"/photos/k", "/faraway/k"} {
		for _, query := range []string{"", "partNumber=1&uploadId=u", "partNumber=10000&uploadId=u"} {
			r := opsRequest{method: "PUT", path: bucket, query: query, body: strings.Repeat("x", limit+1)}
			for _, door := range opsDoors {
				resp, body := door.send(g, "user", userKey, r)
				wantDenied(t, "PUT", resp, body, 413, "EntityTooLarge")
				if t.Failed() {
					t.Fatalf("at %s, %s", r, door.name)
				}
			}
			// Declared small, sent large.
			framed, _ := opsUnsignedTrailer(r.body)
			for _, declared := range []string{"0", "1", "1000"} {
				resp, body := g.do("PUT", r.target(), userKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
					"x-amz-trailer: x-amz-checksum-crc32", "x-amz-decoded-content-length: "+declared)
				wantRefusal(t, "PUT", resp, body, "400 InvalidRequest", "400 IncompleteBody", "413 EntityTooLarge")
			}
			for _, declared := range []string{"", "-1", "+5", "abc", "0x5", "1e3", "5 ", "5,5", "9223372036854775808", "99999999999999999999"} {
				resp, body := g.do("PUT", r.target(), userKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
					"x-amz-trailer: x-amz-checksum-crc32", "x-amz-decoded-content-length: "+declared)
				if declared == "5 " { // net/http trims it
					wantRefusal(t, "PUT", resp, body, "400 InvalidRequest", "400 IncompleteBody")
				} else {
					wantRefusal(t, "PUT", resp, body, "400 InvalidArgument")
				}
				if t.Failed() {
					t.Fatalf("at %s declared %q", r, declared)
				}
			}
			resp, body := g.do("PUT", r.target(), userKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer: x-amz-checksum-crc32")
			wantRefusal(t, "PUT", resp, body, "411 MissingContentLength")
			resp, body = g.do("PUT", r.target(), userKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
				"x-amz-trailer: x-amz-checksum-crc32", "x-amz-decoded-content-length: 5", "x-amz-decoded-content-length: 1001")
			wantRefusal(t, "PUT", resp, body, "400 InvalidArgument", "400 InvalidRequest")
			// HTTP's chunks have no length, whatever they are said to hold.
			raw := "PUT " + r.target() + " HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nX-Api-Key: " + userKey + "\r\nTransfer-Encoding: chunked\r\n"
			resp, body = g.raw("PUT", raw+fmt.Sprintf("x-amz-decoded-content-length: 5\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(r.body), r.body))
			wantRefusal(t, "PUT", resp, body, "411 MissingContentLength")
			resp, body = g.raw("PUT", raw+"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nx-amz-trailer: x-amz-checksum-crc32\r\nx-amz-decoded-content-length: 5\r\n\r\n"+
				fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(framed), framed))
			wantRefusal(t, "PUT", resp, body, "400 InvalidRequest", "400 IncompleteBody")
			if whole := stored(); t.Failed() || len(whole) > 0 {
				t.Fatalf("at %s: stored %q, want nothing", r, whole)
			}
		}
		// As large as it may be.
		for _, door := range opsDoors {
			r := opsRequest{method: "PUT", path: bucket, query: "partNumber=1&uploadId=u", body: strings.Repeat("x", limit)}
			before := len(stored())
			if resp, body := door.send(g, "user", userKey, r); resp.StatusCode != 200 || len(stored()) != before+1 {
				t.Errorf("a part of the largest size, %s = %d %s, want it stored", door.name, resp.StatusCode, body)
			}
		}
		opsForget(source, sink)
	}
	// A copy between accounts is an upload too.
	for _, query := range []string{"", "?partNumber=1&uploadId=u"} {
		resp, body := g.do("PUT", "/faraway/x"+query, userKey, "", "x-amz-copy-source: photos/k")
		wantError(t, resp, body, 413, "EntityTooLarge")
		resp, body = g.do("PUT", "/faraway/x"+query, userKey, "", "x-amz-copy-source: photos/chunked")
		wantRefusal(t, "PUT", resp, body, "502 BadGateway", "413 EntityTooLarge")
	}
	// And no small document is large.
	for _, target := range []string{"PUT /photos/k?tagging", "POST /photos?delete", "POST /photos/k?uploadId=u", "POST /photos/k?select&select-type=2", "PUT /photos?policy"} {
		method, path, _ := strings.Cut(target, " ")
		resp, body := g.do(method, path, adminKey, strings.Repeat(" ", 4<<20+1))
		wantError(t, resp, body, 413, "EntityTooLarge")
		framed, _ := opsUnsignedTrailer(strings.Repeat(" ", 4<<20+1))
		resp, body = g.do(method, path, adminKey, framed, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-trailer: x-amz-checksum-crc32", "x-amz-decoded-content-length: 10")
		wantRefusal(t, method, resp, body, "400 InvalidRequest", "413 EntityTooLarge")
	}
	if whole := stored(); len(whole) > 0 {
		t.Errorf("stored %q, want nothing", whole)
	}
}

func opsForget(recorders ...*recorder) {
	for _, rec := range recorders {
		rec.mu.Lock()
		rec.seen = nil
		rec.mu.Unlock()
	}
}

// Case 33, where the headers stand in the query, as presigners have it: the same
// rules, whoever signed, and whatever the operation is.
func TestAbuse033HeadersInTheQuery(t *testing.T) {
	g, rec, other := opsAccounts(t)
	type refusal struct {
		status int
		code   string
	}
	denied, invalid := refusal{403, "AccessDenied"}, refusal{400, "InvalidRequest"}
	for _, row := range []struct {
		header string
		want   refusal
	}{
		{"x-amz-acl: public-read", denied}, {"x-amz-acl: public-read-write", denied}, {"x-amz-acl: authenticated-read", denied}, {"x-amz-acl: aws-exec-read", denied},
		{"x-amz-acl: bucket-owner-read", denied}, {"x-amz-acl: log-delivery-write", denied}, {"x-amz-acl: PRIVATE", denied}, {"x-amz-acl: ", denied}, {"x-amz-acl: private,public-read", denied},
		{"x-amz-grant-full-control: id=1", denied}, {"x-amz-grant-read: uri=http://acs.amazonaws.com/groups/global/AllUsers", denied}, {"x-amz-grant-read-acp: id=1", denied},
		{"x-amz-grant-write: id=1", denied}, {"x-amz-grant-write-acp: id=1", denied}, {"x-amz-bypass-governance-retention: true", denied},
		{"x-amz-object-lock-mode: COMPLIANCE", denied}, {"x-amz-object-lock-retain-until-date: 2099-01-01T00:00:00Z", denied}, {"x-amz-object-lock-legal-hold: ON", denied},
		{"x-amz-mfa: 1 2", denied}, {"x-amz-website-redirect-location: http://evil.example", denied},
		{"x-amz-meta-snowball-auto-extract: true", invalid}, {"x-amz-replication-status: REPLICA", invalid}, {"x-amz-replication-a: b", invalid},
	} {
		field, value, _ := strings.Cut(row.header, ": ")
		for i, operation := range []string{"PutObject", "CopyObject", "UploadPart", "UploadPartCopy", "CreateMultipartUpload", "CompleteMultipartUpload", "AbortMultipartUpload",
			"DeleteObject", "DeleteObjects", "PutObjectTagging", "DeleteObjectTagging", "RestoreObject", "GetObject", "HeadObject", "GetObjectAcl", "ListObjectsV2", "ListObjects", "GetBucketPolicyStatus", "HeadBucket"} {
			r := opsRequestFor(operation, "photos")
			send := func(where string, resp *http.Response, body string) {
				t.Helper()
				wantDenied(t, r.method, resp, body, row.want.status, row.want.code)
				if t.Failed() {
					t.Fatalf("at %s with %s in %s", r, row.header, where)
				}
			}
			name, key := opsUser("user", "photos")
			q := r
			spelled := []string{http.CanonicalHeaderKey(field), field, strings.ToUpper(field)}[i%3]
			q.query = strings.TrimPrefix(q.query+"&"+spelled+"="+uriEncode(value, true), "&")
			resp, body := opsKeyDoor(g, name, key, q)
			send("the query", resp, body)
			resp, body = opsSignatureDoor(g, name, key, q)
			send("the query of a signed request", resp, body)
			q = r
			q.header = append(slices.Clone(q.header), row.header)
			resp, body = opsPresignedDoor(g, name, key, q)
			send("a presigned query", resp, body)
			resp, body = opsKeyDoor(g, name, key, q)
			send("a header", resp, body)
		}
	}
	// What no header can be is no parameter that is passed on, either.
	for _, query := range []string{"X-Amz-A%20b=1", "X-Amz-A%0d%0aX-Evil=1", "X-Amz-A:b=1", "X-Amz-%00=1", "X-Amz-=1", "X-Amz-M%C3%A9=1", "X-Amz-Acl%20=public-read",
		"x-amz-meta-a=b%0d%0aX-Evil:%201", "x-amz-meta-a=%00", "x-amz-meta-a=b%7f", "x-minio-a=b", "X-Rgw-A=b", "x-api-key=" + userKey, "Host=evil", "If-Match=a", "Range=bytes%3D0-1",
		"Content-Type=text%2Fhtml", "Authorization=x"} {
		resp, body := g.do("PUT", "/photos/k?"+query, userKey, "data")
		if resp.StatusCode != 400 && resp.StatusCode != 501 {
			t.Errorf("PUT ?%s = %d %s, want 400 or 501", query, resp.StatusCode, body)
		}
		checkHardened(t, resp)
	}
	// In both, with two values.
	for _, header := range []string{"x-amz-acl: private", "x-amz-meta-a: b", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "x-amz-copy-source: photos/k"} {
		field, value, _ := strings.Cut(header, ": ")
		resp, body := g.do("PUT", "/photos/k?"+field+"="+uriEncode(value+"x", true), userKey, "", header)
		wantError(t, resp, body, 400, "InvalidArgument")
	}
	rec.wantNone(t)
	other.wantNone(t)
}

// opsStranger is a way in that is none, for whatever is asked.
type opsStranger struct {
	name string
	send func(g *testGateway, r opsRequest) (*http.Response, string)
	want string
}

var opsStrangers = []opsStranger{
	{"nothing", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return g.do(r.method, r.target(), "", r.body, r.header...)
	}, "401 Unauthorized"},
	{"a form", func(g *testGateway, r opsRequest) (*http.Response, string) {
		const form = "--x\r\nContent-Disposition: form-data; name=\"x-amz-credential\"\r\n\r\nadmin/20260101/us-east-1/s3/aws4_request\r\n--x--\r\n"
		r.header = append(slices.Clone(r.header), "Content-Type: multipart/form-data; boundary=x")
		if r.method != "POST" && r.method != "PUT" {
			return g.do(r.method, r.target(), "", "", r.header...)
		}
		return g.do(r.method, r.target(), "", form, r.header...)
	}, "401 Unauthorized"},
	{"a wrong x-api-key", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsKeyDoor(g, "", "nobody-has-this-key", r)
	}, "401 Unauthorized"},
	{"a wrong x-api-key with a good signature", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return g.do(r.method, r.target(), "nobody-has-this-key", r.body, opsSigned("admin", adminKey, "UNSIGNED-PAYLOAD", r)...)
	}, "401 Unauthorized"},
	{"a wrong secret", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsSignatureDoor(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, unsigned payload", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsUnsignedPayloadDoor(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, presigned", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsPresignedDoor(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, signed chunks", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsChunksDoor(false)(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, signed chunks and a trailer", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsChunksDoor(true)(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, unsigned chunks", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsUnsignedTrailerDoor(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, presigned, unsigned chunks", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsPresignedTrailerDoor(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"an unknown name", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsSignatureDoor(g, "nobody", adminKey, r)
	}, "403 InvalidAccessKeyId"},
	{"a backend's own key", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsSignatureDoor(g, "OTHERKEYID", "other-secret-canary", r)
	}, "403 InvalidAccessKeyId"},
	{"a user whose key is a digest", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return opsSignatureDoor(g, "digest", "", r)
	}, "403 AccessDenied"},
	{"SigV2", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return g.do(r.method, r.target(), "", r.body, append(slices.Clone(r.header), "Authorization: AWS admin:frJIUN8DYpKDtOLCwo//yllqDzg=", "Date: "+time.Now().UTC().Format(http.TimeFormat))...)
	}, "400 InvalidRequest"},
	{"SigV2, presigned", func(g *testGateway, r opsRequest) (*http.Response, string) {
		r.query = strings.TrimPrefix(r.query+"&AWSAccessKeyId=admin&Expires=4102444800&Signature=frJIUN8DYpKDtOLCwo%2F%2FyllqDzg%3D", "&")
		return g.do(r.method, r.target(), "", r.body, r.header...)
	}, "400 InvalidRequest"},
	{"Basic", func(g *testGateway, r opsRequest) (*http.Response, string) {
		credentials := base64.StdEncoding.EncodeToString([]byte("admin:" + adminKey))
		return g.do(r.method, r.target(), "", r.body, append(slices.Clone(r.header), "Authorization: Basic "+credentials)...)
	}, "400 InvalidRequest"},
	{"a token", func(g *testGateway, r opsRequest) (*http.Response, string) {
		return g.do(r.method, r.target(), "", r.body, append(slices.Clone(r.header), "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.")...)
	}, "400 InvalidRequest"},
	{"SigV4a", func(g *testGateway, r opsRequest) (*http.Response, string) {
		lines := opsSigned("admin", adminKey, "UNSIGNED-PAYLOAD", r)
		for i := range lines {
			lines[i] = strings.Replace(lines[i], "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", 1)
		}
		return g.do(r.method, r.target(), "", r.body, lines...)
	}, "400 InvalidRequest"},
	{"both signatures", func(g *testGateway, r opsRequest) (*http.Response, string) {
		target, header := opsPresigned("admin", adminKey, r)
		header = append(header, opsSigned("admin", adminKey, "UNSIGNED-PAYLOAD", opsRequest{method: r.method, path: r.path, query: r.query})...)
		return g.do(r.method, target, "", r.body, header...)
	}, "400 InvalidRequest"},
}

// Case 48: there is one verdict on each operation, whatever door it came by. A
// way in that one handler of three forgets is how strangers wrote to MinIO, twice.
func TestAbuse048Doors(t *testing.T) {
	main, other := startRecorder(t, opsBackend), startRecorder(t, opsBackend)
	g := startGateway(t, testConfig(main.URL,
		with("accounts.other", map[string]any{"endpoint_url": other.URL, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary", "buckets": []any{"elsewhere"}}),
		with("users.digest", map[string]any{"api_key_sha256": strings.Repeat("ab", 32), "role": "admin", "allowed_buckets": []any{"*"}})))
	names := slices.Sorted(maps.Keys(opsTable))
	for i, operation := range names {
		r := opsRequestFor(operation, "photos")
		for _, stranger := range opsStrangers {
			resp, body := stranger.send(g, r)
			wantRefusal(t, r.method, resp, body, stranger.want)
			if t.Failed() {
				t.Fatalf("that was %s with %s", r, stranger.name)
			}
		}
		// Users who may not: by role, by bucket, and for a bucket that is not there.
		for _, row := range []struct {
			name, key, role, bucket string
		}{
			{"ro", readOnlyKey, "readonly", "photos"}, {"user", userKey, "user", "photos"}, {"user", userKey, "user", "secret"}, {"user", userKey, "user", "nosuch"},
			{"none", noneKey, "user", "photos"}, {"admin", adminKey, "admin", "nosuch"},
		} {
			status, code := 403, "AccessDenied"
			switch allowed := opsTable[operation].allows(row.role, row.bucket); {
			case operation == "ListBuckets" || (row.name == "ro" || row.name == "user") && row.bucket == "photos" && allowed && opsTable[operation].status < 300:
				continue
			case (row.name == "ro" || row.name == "user") && row.bucket == "photos" && allowed:
				status, code = opsTable[operation].status, opsTable[operation].code
			case row.name == "admin" && operation != "CreateBucket":
				status, code = 404, "NoSuchBucket"
			}
			r, doors := opsRequestFor(operation, row.bucket), opsDoors
			if row.bucket == "nosuch" { // as forbidden as secret: by two, others each time
				doors = []opsDoor{opsDoors[i%len(opsDoors)], opsDoors[(i+4)%len(opsDoors)]}
			}
			for _, door := range doors {
				resp, body := door.send(g, row.name, row.key, r)
				wantDenied(t, r.method, resp, body, status, code)
				if t.Failed() {
					t.Fatalf("that was %s by %s, %s", r, row.name, door.name)
				}
			}
		}
		opsWantSince(t, main, 0, 0)
	}
	main.wantNone(t)
	// Who may, may by every door, and the backend gets the same request.
	for _, operation := range names {
		row, r := opsTable[operation], opsRequestFor(operation, "photos")
		if row.status >= 300 {
			continue
		}
		var first *seenRequest
		for _, door := range opsDoors {
			before := opsHeard(main)
			resp, body := door.send(g, "admin", adminKey, r)
			checkHardened(t, resp)
			seen := main.requests()[before:]
			want := 1
			if operation == "ListBuckets" || operation == "Presign" {
				want = 0
			}
			if resp.StatusCode != row.status || len(seen) != want {
				t.Fatalf("%s by %s = %d %s, and %d requests, want %d and %d", r, door.name, resp.StatusCode, body, len(seen), row.status, want)
			}
			if want == 0 {
				continue
			}
			if first == nil {
				first = &seen[0]
			}
			payload := seen[0].body
			if opsFrames(door) && seen[0].header.Get("X-Amz-Content-Sha256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
				if framed, _ := opsUnsignedTrailer(r.body); payload != framed {
					t.Errorf("%s by %s: the backend got %q, want the frames of %q", r, door.name, payload, r.body)
				}
				payload = r.body
			}
			if seen[0].method != first.method || seen[0].uri != first.uri || payload != first.body || seen[0].header.Get("X-Amz-Copy-Source") != first.header.Get("X-Amz-Copy-Source") {
				t.Errorf("%s by %s: the backend got %s %s %q, want what it gets by %s: %s %s %q", r, door.name, seen[0].method, seen[0].uri, payload, opsDoors[0].name, first.method, first.uri, first.body)
			}
			if auth := seen[0].header.Get("Authorization"); !strings.Contains(auth, "Credential="+testCredentials.AccessKeyID+"/") || strings.Contains(seen[0].uri, "X-Amz-") {
				t.Errorf("%s by %s: the backend got %s with %q, want the account's credentials alone", r, door.name, seen[0].uri, auth)
			}
		}
	}
	other.wantNone(t)
}

// Case 64: every role, operation and bucket, by both doors, with the verdict that
// the design has for it. What is denied reaches no account; what is allowed
// reaches the one account that has the bucket, once, under the name that AWS has
// for it.
func TestAbuse064Authorization(t *testing.T) {
	g, main, other := opsAccounts(t)
	inTable := map[string]bool{}
	for _, op := range operations {
		if _, ok := opsTable[op.name]; !ok {
			t.Errorf("operation %s is not in this table: who may use it?", op.name)
		}
		inTable[op.name] = true
	}
	for name := range opsTable {
		if !inTable[name] {
			t.Errorf("operation %s is missing", name)
		}
	}
	if t.Failed() {
		return
	}
	logged := map[string]int{} // the operations of what was allowed
	for _, operation := range slices.Sorted(maps.Keys(opsTable)) {
		row := opsTable[operation]
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
					name, key := opsUser(role, scope)
					for _, door := range opsDoors[:2] {
						beforeMain, beforeOther := opsHeard(main), opsHeard(other)
						r := opsRequestFor(operation, bucket)
						resp, body := door.send(g, name, key, r)
						if status < 300 {
							logged[operation]++
							checkHardened(t, resp)
							if resp.StatusCode != status {
								t.Errorf("answer = %d %s, want %d", resp.StatusCode, body, status)
							}
						} else {
							wantDenied(t, r.method, resp, body, status, code)
						}
						opsWantSince(t, main, beforeMain, wantMain)
						opsWantSince(t, other, beforeOther, wantOther)
						if t.Failed() {
							t.Fatalf("that was %s of %q by a %s with the buckets %q, %s", operation, bucket, role, scope, door.name)
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
	for operation := range opsTable {
		if operation != "ListBuckets" {
			for _, door := range opsDoors[:3] {
				r := opsRequestFor(operation, "photos")
				resp, body := door.send(g, "none", noneKey, r)
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

// roleKey is the API key of the user with a role and a scope.
func roleKey(role, scope string) string { return "key-of-" + role + "-for-" + scope }
