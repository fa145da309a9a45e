package main

// Who may do what, stated a second time: by the names that AWS has for the operations,
// without a look at the operation table's column. An operation that is added later fails
// this test until somebody has decided, here, who may use it.

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
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
	main, other := startRecorder(t, opsBackend), startRecorder(t, opsBackend)
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
		n += opsHeard(account)
	}
	return n
}

// try sends a request as a user by each authentication method, and compares the verdict.
// Without permission nothing reaches an account; with it, what the operation takes.
func (g *authGateway) try(u authUser, r opsRequest, known, may bool, status int) {
	g.t.Helper()
	for _, door := range opsDoors[:3] {
		before := g.heard()
		resp, body := door.send(g.testGateway, u.name(), u.key(), r)
		forwarded := g.heard() - before
		want, code := status, ""
		switch {
		case !may:
			want, code = http.StatusForbidden, "AccessDenied"
		case !known:
			want, code = http.StatusNotFound, "NoSuchBucket"
		}
		if resp.StatusCode != want || code != "" && r.method != "HEAD" && !strings.Contains(body, code) {
			g.t.Errorf("%s by %s, %s = %d %s, want %d %s", r, u.name(), door.name, resp.StatusCode, body, want, code)
		}
		if want >= 300 && forwarded != 0 {
			g.t.Errorf("%s by %s, %s: refused, and %d requests were forwarded", r, u.name(), door.name, forwarded)
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
				g.try(u, opsRequestFor(operation, bucket), bucket != "nosuch", may, opsTable[operation].status)
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
					r := opsRequestFor(operation, bucket)
					r.header = []string{"x-amz-copy-source: /" + source + "/k"}
					may := authMay("write", u.role, u.list, bucket) && authMay("read", u.role, u.list, source)
					g.try(u, r, source != "nosuch", may, opsTable[operation].status)
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
		r := opsRequestFor(operation, "photos")
		for _, door := range opsDoors[:3] {
			for _, stranger := range []struct{ name, key string }{
				{"admin-all", authUser{"user", "photos"}.key() + "x"}, {"nobody", authUser{"admin", "*"}.key() + "x"},
			} {
				resp, body := door.send(g.testGateway, stranger.name, stranger.key, r)
				if resp.StatusCode != 401 && resp.StatusCode != 403 {
					t.Errorf("%s by a stranger as %s, %s = %d %s, want 401 or 403", r, stranger.name, door.name, resp.StatusCode, body)
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
