package main

// Who may do what, stated a second time: by the names that AWS has for the operations,
// without a look at the operation table's column. An operation that is added later fails
// this test until somebody has decided, here, who may use it.

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// authRule names, for each kind of operation, its operations.
var authRule = map[string]string{
	// Nothing is changed: every role.
	"read": `
		ListBuckets Presign HeadBucket ListObjects ListObjectsV2 ListObjectVersions ListMultipartUploads ListParts
		HeadObject GetObject GetObjectAcl GetObjectAttributes GetObjectLegalHold GetObjectRetention GetObjectTagging SelectObjectContent
		GetBucketAccelerateConfiguration GetBucketAcl GetBucketCors GetBucketEncryption
		GetBucketIntelligentTieringConfiguration GetBucketLifecycleConfiguration GetBucketLocation
		GetBucketMetricsConfiguration GetObjectLockConfiguration
		GetBucketOwnershipControls GetBucketPolicyStatus GetPublicAccessBlock
		GetBucketRequestPayment GetBucketTagging GetBucketVersioning`,
	// Objects are written and removed: user and admin.
	"write": `
		PutObject CopyObject DeleteObject DeleteObjects PutObjectTagging DeleteObjectTagging RestoreObject
		CreateMultipartUpload UploadPart UploadPartCopy CompleteMultipartUpload AbortMultipartUpload`,
	// For good, or for others too: admin.
	"admin": `
		DeleteObjectVersion PutObjectAcl PutObjectLegalHold PutObjectRetention DeleteBucket
		PutBucketAccelerateConfiguration PutBucketAcl PutBucketCors DeleteBucketCors PutBucketEncryption DeleteBucketEncryption
		PutBucketIntelligentTieringConfiguration DeleteBucketIntelligentTieringConfiguration
		PutBucketLifecycleConfiguration DeleteBucketLifecycleConfiguration PutBucketMetricsConfiguration DeleteBucketMetricsConfiguration
		PutObjectLockConfiguration PutBucketOwnershipControls DeleteBucketOwnershipControls DeleteBucketPolicy
		PutPublicAccessBlock DeletePublicAccessBlock PutBucketRequestPayment PutBucketTagging DeleteBucketTagging
		PutBucketVersioning DeleteBucketAnalyticsConfiguration DeleteBucketInventoryConfiguration DeleteBucketReplication DeleteBucketWebsite`,
	// What stands there can name any bucket: admin with the bucket list "*".
	"everything": `
		GetBucketAnalyticsConfiguration GetBucketInventoryConfiguration GetBucketLogging GetBucketNotificationConfiguration GetBucketPolicy
		GetBucketReplication GetBucketWebsite
		PutBucketAnalyticsConfiguration PutBucketInventoryConfiguration PutBucketLogging PutBucketNotificationConfiguration PutBucketPolicy
		PutBucketReplication PutBucketWebsite`,
	// Nothing is done: whoever may use the bucket is told that it is there, all others are refused.
	"told": `CreateBucket`,
	// Not implemented, for anybody who may use the bucket.
	"nobody": `PostObject`,
}

// authMay is the rule. The list is a user's allowed_buckets: "*", a bucket or "".
func authMay(kind, role, list, bucket string) bool {
	if bucket != "" && list != "*" && list != bucket {
		return false
	}
	switch kind {
	case "told":
		return bucket != "nosuch"
	case "read", "nobody":
		return true
	case "write":
		return role != "readonly"
	case "admin":
		return role == "admin"
	case "everything":
		return role == "admin" && list == "*"
	}
	return false
}

// authKinds returns the kind of each operation, and fails if the rule and the operation
// table do not name the same ones.
func authKinds(t *testing.T) map[string]string {
	t.Helper()
	kinds := map[string]string{}
	for kind, names := range authRule {
		for name := range strings.FieldsSeq(names) {
			if kinds[name] != "" {
				t.Errorf("%s is both %s and %s", name, kinds[name], kind)
			}
			kinds[name] = kind
		}
	}
	known := map[string]bool{}
	for _, op := range operations {
		if known[op.name] = true; kinds[op.name] == "" {
			t.Errorf("nobody has decided who may use %s: it is not in authRule", op.name)
		}
	}
	for name := range kinds {
		if !known[name] {
			t.Errorf("%s is in authRule, and not in the operation table", name)
		}
	}
	return kinds
}

// An authUser is a role with a bucket list.
type authUser struct{ role, list string }

func (u authUser) name() string {
	return u.role + "-" + map[string]string{"*": "all", "photos": "one", "": "none"}[u.list]
}

func (u authUser) key() string { return "key-0123456789abcdef-of-" + u.name() }

func authUsers() []authUser {
	var users []authUser
	for _, role := range []string{"admin", "user", "readonly"} {
		for _, list := range []string{"*", "photos", ""} {
			users = append(users, authUser{role, list})
		}
	}
	return users
}

// An authGateway has photos and secret in one account, elsewhere in another, and every
// authUser.
type authGateway struct {
	*testGateway
	t        *testing.T
	accounts []*recorder
}

func startAuthGateway(t *testing.T) *authGateway {
	t.Helper()
	main, other := startRecorder(t, answerAsS3), startRecorder(t, answerAsS3)
	changes := []func(map[string]any){with("accounts.other", map[string]any{
		"endpoint_url": other.URL, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary", "buckets": []any{"elsewhere"},
	})}
	for _, u := range authUsers() {
		buckets := []any{}
		if u.list != "" {
			buckets = append(buckets, u.list)
		}
		changes = append(changes, with("users."+u.name(), map[string]any{"api_key": u.key(), "role": u.role, "allowed_buckets": buckets}))
	}
	return &authGateway{startGateway(t, testConfig(main.URL, changes...)), t, []*recorder{main, other}}
}

func (g *authGateway) heard() (n int) {
	for _, account := range g.accounts {
		n += requestCount(account)
	}
	return n
}

// try sends a request as a user by each authentication method, and compares the verdict.
// Without permission nothing reaches an account; with it, what the operation takes.
func (g *authGateway) try(u authUser, r requestSpec, known, may bool, status int) {
	g.t.Helper()
	for _, auth := range authMethods[:3] {
		before := g.heard()
		resp, body := auth.send(g.testGateway, u.name(), u.key(), r)
		forwarded := g.heard() - before
		want, code := status, ""
		switch {
		case !may:
			want, code = http.StatusForbidden, "AccessDenied"
		case !known:
			want, code = http.StatusNotFound, "NoSuchBucket"
		}
		if resp.StatusCode != want || code != "" && r.method != "HEAD" && !strings.Contains(body, code) {
			g.t.Errorf("%s by %s, %s = %d %s, want %d %s", r, u.name(), auth.name, resp.StatusCode, body, want, code)
		}
		if want >= 300 && forwarded != 0 {
			g.t.Errorf("%s by %s, %s: refused, and %d requests were forwarded", r, u.name(), auth.name, forwarded)
		}
	}
}

// Every role, with every kind of bucket list, for every operation, in a bucket that is
// allowed, one that is not, one of another account and one that does not exist, by every
// authentication method.
func TestAuthorizationMatrix(t *testing.T) {
	kinds := authKinds(t)
	if t.Failed() {
		return
	}
	g := startAuthGateway(t)
	for _, operation := range slices.Sorted(maps.Keys(kinds)) {
		buckets := []string{"photos", "secret", "elsewhere", "nosuch"}
		if operation == "ListBuckets" {
			buckets = []string{""}
		}
		for _, bucket := range buckets {
			for _, u := range authUsers() {
				may := authMay(kinds[operation], u.role, u.list, bucket)
				if strings.Contains(operation, "Copy") { // of its own source, which is in photos
					may = may && authMay("read", u.role, u.list, "photos")
				}
				g.try(u, specFor(operation, bucket), bucket != "nosuch", may, operationSpecs[operation].status)
			}
			if t.Failed() {
				t.Fatalf("that was %s in %q", operation, bucket)
			}
		}
	}
}

// A copy takes the right to read its source, wherever that is.
func TestAuthorizationMatrixOfCopies(t *testing.T) {
	g := startAuthGateway(t)
	for _, operation := range []string{"CopyObject", "UploadPartCopy"} {
		for _, bucket := range []string{"photos", "secret", "elsewhere"} {
			for _, source := range []string{"photos", "secret", "elsewhere", "nosuch"} {
				for _, u := range authUsers() {
					r := specFor(operation, bucket)
					r.header = []string{"x-amz-copy-source: /" + source + "/k"}
					may := authMay("write", u.role, u.list, bucket) && authMay("read", u.role, u.list, source)
					g.try(u, r, source != "nosuch", may, operationSpecs[operation].status)
				}
				if t.Failed() {
					t.Fatalf("that was %s from %s to %s", operation, source, bucket)
				}
			}
		}
	}
}

// Nobody is somebody else: a key of one user with the name of another, or none at all,
// is refused for every operation, and nothing is forwarded.
func TestAuthorizationMatrixOfStrangers(t *testing.T) {
	g := startAuthGateway(t)
	for _, operation := range slices.Sorted(maps.Keys(authKinds(t))) {
		r := specFor(operation, "photos")
		for _, auth := range authMethods[:3] {
			for _, stranger := range []struct{ name, key string }{
				{"admin-all", authUser{"user", "photos"}.key() + "x"}, {"nobody", authUser{"admin", "*"}.key() + "x"},
			} {
				resp, body := auth.send(g.testGateway, stranger.name, stranger.key, r)
				if resp.StatusCode != 401 && resp.StatusCode != 403 {
					t.Errorf("%s by a stranger as %s, %s = %d %s, want 401 or 403", r, stranger.name, auth.name, resp.StatusCode, body)
				}
			}
		}
		if resp, _ := g.do(r.method, r.target(), "", r.body, r.header...); resp.StatusCode != 401 {
			t.Errorf("%s without a key = %d, want 401", r, resp.StatusCode)
		}
	}
	if n := g.heard(); n != 0 {
		t.Errorf("%d requests were forwarded, want none", n)
	}
}

// An impostor sends a request without good credentials, whatever it asks for.
type impostor struct {
	name string
	send func(g *testGateway, r requestSpec) (*http.Response, string)
	want string
}

var impostors = []impostor{
	{"nothing", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return g.do(r.method, r.target(), "", r.body, r.header...)
	}, "401 Unauthorized"},
	{"a form", func(g *testGateway, r requestSpec) (*http.Response, string) {
		const form = "--x\r\nContent-Disposition: form-data; name=\"x-amz-credential\"\r\n\r\nadmin/20260101/us-east-1/s3/aws4_request\r\n--x--\r\n"
		r.header = append(slices.Clone(r.header), "Content-Type: multipart/form-data; boundary=x")
		if r.method != "POST" && r.method != "PUT" {
			return g.do(r.method, r.target(), "", "", r.header...)
		}
		return g.do(r.method, r.target(), "", form, r.header...)
	}, "401 Unauthorized"},
	{"a wrong x-api-key", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return byKey(g, "", "nobody-has-this-key", r)
	}, "401 Unauthorized"},
	{"a wrong x-api-key with a good signature", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return g.do(r.method, r.target(), "nobody-has-this-key", r.body, signedLines("admin", adminKey, "UNSIGNED-PAYLOAD", r)...)
	}, "401 Unauthorized"},
	{"a wrong secret", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return bySignature(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, unsigned payload", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return byUnsignedPayload(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, presigned", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return byPresignedURL(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, signed chunks", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return bySignedChunks(false)(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, signed chunks and a trailer", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return bySignedChunks(true)(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, unsigned chunks", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return byUnsignedTrailer(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"a wrong secret, presigned, unsigned chunks", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return byPresignedTrailer(g, "admin", userKey, r)
	}, "403 SignatureDoesNotMatch"},
	{"an unknown name", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return bySignature(g, "nobody", adminKey, r)
	}, "403 InvalidAccessKeyId"},
	{"a backend's own key", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return bySignature(g, "OTHERKEYID", "other-secret-canary", r)
	}, "403 InvalidAccessKeyId"},
	{"a user whose key is a digest", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return bySignature(g, "digest", "", r)
	}, "403 AccessDenied"},
	{"SigV2", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return g.do(r.method, r.target(), "", r.body, append(slices.Clone(r.header), "Authorization: AWS admin:frJIUN8DYpKDtOLCwo//yllqDzg=", "Date: "+time.Now().UTC().Format(http.TimeFormat))...)
	}, "400 InvalidRequest"},
	{"SigV2, presigned", func(g *testGateway, r requestSpec) (*http.Response, string) {
		r.query = strings.TrimPrefix(r.query+"&AWSAccessKeyId=admin&Expires=4102444800&Signature=frJIUN8DYpKDtOLCwo%2F%2FyllqDzg%3D", "&")
		return g.do(r.method, r.target(), "", r.body, r.header...)
	}, "400 InvalidRequest"},
	{"Basic", func(g *testGateway, r requestSpec) (*http.Response, string) {
		credentials := base64.StdEncoding.EncodeToString([]byte("admin:" + adminKey))
		return g.do(r.method, r.target(), "", r.body, append(slices.Clone(r.header), "Authorization: Basic "+credentials)...)
	}, "400 InvalidRequest"},
	{"a token", func(g *testGateway, r requestSpec) (*http.Response, string) {
		return g.do(r.method, r.target(), "", r.body, append(slices.Clone(r.header), "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.")...)
	}, "400 InvalidRequest"},
	{"SigV4a", func(g *testGateway, r requestSpec) (*http.Response, string) {
		lines := signedLines("admin", adminKey, "UNSIGNED-PAYLOAD", r)
		for i := range lines {
			lines[i] = strings.Replace(lines[i], "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", 1)
		}
		return g.do(r.method, r.target(), "", r.body, lines...)
	}, "400 InvalidRequest"},
	{"both signatures", func(g *testGateway, r requestSpec) (*http.Response, string) {
		target, header := presignTarget("admin", adminKey, r)
		header = append(header, signedLines("admin", adminKey, "UNSIGNED-PAYLOAD", requestSpec{method: r.method, path: r.path, query: r.query})...)
		return g.do(r.method, target, "", r.body, header...)
	}, "400 InvalidRequest"},
}

// There is one verdict on each operation, by whatever method it is authenticated. A
// way in that one handler of three forgets is how impostors wrote to MinIO, twice.
func TestVerdictIsTheSameByEveryAuthenticationMethod(t *testing.T) {
	main, other := startRecorder(t, answerAsS3), startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(main.URL,
		with("accounts.other", map[string]any{"endpoint_url": other.URL, "access_key_id": "OTHERKEYID", "secret_access_key": "other-secret-canary", "buckets": []any{"elsewhere"}}),
		with("users.digest", map[string]any{"api_key_sha256": strings.Repeat("ab", 32), "role": "admin", "allowed_buckets": []any{"*"}})))
	names := slices.Sorted(maps.Keys(operationSpecs))
	for i, operation := range names {
		r := specFor(operation, "photos")
		for _, impostor := range impostors {
			resp, body := impostor.send(g, r)
			wantRefusal(t, r.method, resp, body, impostor.want)
			if t.Failed() {
				t.Fatalf("that was %s with %s", r, impostor.name)
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
			switch allowed := operationSpecs[operation].allows(row.role, row.bucket); {
			case operation == "ListBuckets" || (row.name == "ro" || row.name == "user") && row.bucket == "photos" && allowed && operationSpecs[operation].status < 300:
				continue
			case (row.name == "ro" || row.name == "user") && row.bucket == "photos" && allowed:
				status, code = operationSpecs[operation].status, operationSpecs[operation].code
			case row.name == "admin" && operation != "CreateBucket":
				status, code = 404, "NoSuchBucket"
			}
			r, methods := specFor(operation, row.bucket), authMethods
			if row.bucket == "nosuch" { // as forbidden as secret: by two, others each time
				methods = []authMethod{authMethods[i%len(authMethods)], authMethods[(i+4)%len(authMethods)]}
			}
			for _, auth := range methods {
				resp, body := auth.send(g, row.name, row.key, r)
				wantDenied(t, r.method, resp, body, status, code)
				if t.Failed() {
					t.Fatalf("that was %s by %s, %s", r, row.name, auth.name)
				}
			}
		}
		wantSince(t, main, 0, 0)
	}
	main.wantNone(t)
	// Who may, may by every authentication method, and the backend gets the same request.
	for _, operation := range names {
		row, r := operationSpecs[operation], specFor(operation, "photos")
		if row.status >= 300 {
			continue
		}
		var first *seenRequest
		for _, auth := range authMethods {
			before := requestCount(main)
			resp, body := auth.send(g, "admin", adminKey, r)
			checkHardened(t, resp)
			seen := main.requests()[before:]
			want := 1
			if operation == "ListBuckets" || operation == "Presign" {
				want = 0
			}
			if resp.StatusCode != row.status || len(seen) != want {
				t.Fatalf("%s by %s = %d %s, and %d requests, want %d and %d", r, auth.name, resp.StatusCode, body, len(seen), row.status, want)
			}
			if want == 0 {
				continue
			}
			if first == nil {
				first = &seen[0]
			}
			payload := seen[0].body
			if framesBodies(auth) && seen[0].header.Get("X-Amz-Content-Sha256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
				if framed, _ := frameWithTrailer(r.body); payload != framed {
					t.Errorf("%s by %s: the backend got %q, want the frames of %q", r, auth.name, payload, r.body)
				}
				payload = r.body
			}
			if seen[0].method != first.method || seen[0].uri != first.uri || payload != first.body || seen[0].header.Get("X-Amz-Copy-Source") != first.header.Get("X-Amz-Copy-Source") {
				t.Errorf("%s by %s: the backend got %s %s %q, want what it gets by %s: %s %s %q", r, auth.name, seen[0].method, seen[0].uri, payload, authMethods[0].name, first.method, first.uri, first.body)
			}
			if got := seen[0].header.Get("Authorization"); !strings.Contains(got, "Credential="+testCredentials.AccessKeyID+"/") || strings.Contains(seen[0].uri, "X-Amz-") {
				t.Errorf("%s by %s: the backend got %s with %q, want the account's credentials alone", r, auth.name, seen[0].uri, got)
			}
		}
	}
	other.wantNone(t)
}

// What a key costs, among few users and among many.
func BenchmarkAuthenticateKey(b *testing.B) {
	for _, n := range []int{2, 20_000} {
		b.Run(fmt.Sprintf("users=%d", n), func(b *testing.B) {
			users := make([]*user, n)
			for i := range users {
				users[i] = &user{name: fmt.Sprintf("user-%05d", i), keys: []apiKey{keyOf(fmt.Sprintf("key-0123456789-%05d", i))}}
			}
			auth := newAuthenticator(users)
			keys := make([][]string, n)
			for i := range keys {
				keys[i] = []string{fmt.Sprintf("key-0123456789-%05d", i)}
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := auth.byKey(keys[i%n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
