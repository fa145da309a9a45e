package abuse

// Requests that mean more than they seem to: foreign authorities, odd methods, headers of
// other dialects, keys in odd places, and heads without end.

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// An authority where the path should be, in the request target or in
// the Host header. A URL parser that is handed "//evil/k" takes evil for the
// host; the gateway speaks to the hosts of its configuration and to no other.
func TestForeignAuthorityIsNotContacted(t *testing.T) {
	rec, evil := startRecorder(t, nil), startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("nested_keys", true)))
	host := strings.TrimPrefix(evil.URL, "http://")
	for _, path := range []string{
		"//" + host + "/photos/k", "///" + host + "/photos/k", `/\` + host + "/photos/k", `/\\` + host + "/k", "//photos/k", "/%2F" + host + "/k",
		"/http://" + host + "/photos/k", "/http:%2F%2F" + host + "/k", "/@" + host + "/k", "/photos@" + host + "/k", "/photos:80@" + host + "/k", "/" + host + "/k",
		"/user:password@" + host, "http://" + host, "http://" + host + "//photos/k", "mailto:photos/k", "photos/k", "?photos/k", "..//" + host,
	} {
		resp, body := g.do("GET", path, adminKey, "")
		if resp.StatusCode != 400 || resp.Header.Get("Location") != "" {
			t.Errorf("GET %s = %d %s, want 400", path, resp.StatusCode, body)
		}
	}
	rec.wantNone(t)
	for _, request := range []string{
		"GET /photos/k HTTP/1.1\r\nHost: " + host,
		"GET /photos/k HTTP/1.1\r\nHost: photos." + host,
		"GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\nX-Forwarded-Host: " + host,
		"GET http://" + host + "/photos/k HTTP/1.1\r\nHost: gateway.example",
		"GET https://user:password@" + host + "/photos/k HTTP/1.1\r\nHost: " + host,
	} {
		before := len(rec.requests())
		resp, body := g.raw("GET", request+"\r\nX-Api-Key: "+adminKey+"\r\nConnection: close\r\n\r\n")
		seen := rec.requests()[before:]
		if resp.StatusCode != 200 || len(seen) != 1 {
			t.Fatalf("%q = %d %s with %d requests behind, want 200 and one", request, resp.StatusCode, body, len(seen))
		}
		if want := strings.TrimPrefix(rec.URL, "http://"); seen[0].host != want || seen[0].uri != "/photos/k" {
			t.Errorf("%q went to %s%s, want %s/photos/k", request, seen[0].host, seen[0].uri, want)
		}
		for name, values := range seen[0].header {
			if strings.Contains(strings.Join(values, ","), host) {
				t.Errorf("%q: the backend is told of the foreign host: %s: %q", request, name, values)
			}
		}
	}
	evil.wantNone(t)
}

// Methods and request targets that no S3 client sends. Each is refused
// alike for every bucket and caller, so that it tells nothing about either.
func TestOddMethodsAreRefusedAlike(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, test := range []struct {
		line   string
		status int
	}{
		{"GET * HTTP/1.1", 400},
		{"OPTIONS * HTTP/1.1", 400},
		{"CONNECT 169.254.169.254:80 HTTP/1.1", 400},
		{"CONNECT photos:443 HTTP/1.1", 400},
		{"CONNECT /photos/k HTTP/1.1", 405},
		{"OPTIONS / HTTP/1.1", 403},
		{"TRACE / HTTP/1.1", 405},
	} {
		for _, key := range []string{"", userKey, adminKey} {
			resp, body := g.raw("GET", test.line+"\r\nHost: gateway.example\r\nX-Api-Key: "+key+"\r\nConnection: close\r\n\r\n")
			wantDenied(t, "GET", resp, body, test.status, map[int]string{400: "InvalidURI", 403: "AccessForbidden", 405: "MethodNotAllowed"}[test.status])
			if t.Failed() {
				t.Fatalf("that was %q", test.line)
			}
		}
	}
	resp, body := g.raw("PRI", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	wantDenied(t, "PRI", resp, body, 400, "InvalidURI")

	for _, method := range []string{"put", "get", "Get", "TRACE", "P!T", "OPTIONS", "PATCH", "COPY", "MOVE", "PROPFIND", "MKCOL", "LIST", "PURGE", "QUERY", "GETT", "CONNECT"} {
		for _, level := range []string{"", "/k"} {
			answers := map[string]bool{}
			for _, bucket := range []string{"photos", "secret", "nosuch"} {
				for _, key := range []string{"", userKey, adminKey} {
					resp, body := g.do(method, "/"+bucket+level, key, "")
					if method == "OPTIONS" { // as S3 has it
						wantDenied(t, method, resp, body, 403, "AccessForbidden")
						answers[withoutIDs(resp, body, bucket)] = true
						continue
					}
					wantDenied(t, method, resp, body, 405, "MethodNotAllowed")
					if allow := resp.Header.Get("Allow"); !strings.Contains(allow, "GET") || strings.Contains(allow, method) {
						t.Errorf("%s: Allow = %q, want the methods there are", method, allow)
					}
					answers[withoutIDs(resp, body, bucket)] = true
				}
			}
			if len(answers) != 1 {
				t.Errorf("%s: %d different answers, want one: %q", method, len(answers), slices.Collect(maps.Keys(answers)))
			}
		}
	}
	rec.wantNone(t)
}

// Headers with which a request would be another one than was
// authorized. What changes its meaning is refused, not dropped; what hands out
// rights or takes protection away is for admins; the client's session token is
// no business of a backend.
func TestHeadersBeyondTheRoleAreRefused(t *testing.T) {
	rec := startRecorder(t, answerEmpty)
	g := startGateway(t, testConfig(rec.URL))
	requests := []struct{ method, target, key string }{
		{"PUT", "/photos/k", adminKey}, {"PUT", "/photos/k", userKey}, {"GET", "/photos/k", readOnlyKey}, {"HEAD", "/photos/k", userKey},
		{"DELETE", "/photos/k", adminKey}, {"DELETE", "/photos/k?versionId=1", adminKey}, {"HEAD", "/photos", userKey}, {"GET", "/photos", adminKey}, {"GET", "/photos?list-type=2", userKey},
	}
	for _, header := range []string{
		"x-minio-source-mtime: 1", "x-minio-source-replication-request: true", "X-MINIO-FORCE-DELETE: true", "x-minio-extract: true",
		"x-rgw-quota-max-size: 1", "x-rgw-zone: z", "x-container-meta-x: y", "x-container-read: .r:*", "x-container-sync-to: //evil",
		"x-object-manifest: secret/k", "X-Object-Manifest:", "x-delete-at: 1", "x-delete-after: 1",
		"x-amz-replication-status: REPLICA", "x-amz-replication-x: y", "x-amz-meta-snowball-auto-extract: true",
	} {
		for _, r := range requests {
			resp, body := g.do(r.method, r.target, r.key, "", header)
			wantDenied(t, r.method, resp, body, 400, "InvalidRequest")
			if t.Failed() {
				t.Fatalf("that was %s %s with %s", r.method, r.target, header)
			}
		}
	}
	adminOnly := []string{
		"x-amz-acl: public-read", "x-amz-acl: public-read-write", "x-amz-acl: authenticated-read", "x-amz-acl: aws-exec-read", "x-amz-acl: bucket-owner-read",
		"x-amz-acl:", "x-amz-acl: Private", "x-amz-acl: private,public-read", "x-amz-acl: private\r\nx-amz-acl: public-read",
		"x-amz-grant-read: uri=http://acs.amazonaws.com/groups/global/AllUsers", "x-amz-grant-write: id=1", "x-amz-grant-read-acp: id=1", "x-amz-grant-write-acp: id=1", "x-amz-grant-full-control: id=1",
		"x-amz-bypass-governance-retention: true", "x-amz-object-lock-mode: COMPLIANCE", "x-amz-object-lock-retain-until-date: 2099-01-01T00:00:00Z", "x-amz-object-lock-legal-hold: OFF",
		"x-amz-mfa: serial 123456", "x-amz-website-redirect-location: http://evil.example/",
	}
	for _, header := range adminOnly {
		for _, r := range requests {
			if r.key == adminKey {
				continue
			}
			resp, body := g.do(r.method, r.target, r.key, "", header)
			wantDenied(t, r.method, resp, body, 403, "AccessDenied")
			if t.Failed() {
				t.Fatalf("that was %s %s with %s", r.method, r.target, header)
			}
		}
	}
	rec.wantNone(t)

	for _, test := range []struct{ key, header, name, want string }{
		{adminKey, "x-amz-acl: public-read", "X-Amz-Acl", "public-read"},
		{adminKey, "x-amz-grant-read: id=1", "X-Amz-Grant-Read", "id=1"},
		{adminKey, "x-amz-object-lock-mode: GOVERNANCE", "X-Amz-Object-Lock-Mode", "GOVERNANCE"},
		{adminKey, "x-amz-website-redirect-location: /x", "X-Amz-Website-Redirect-Location", "/x"},
		{userKey, "x-amz-acl: private", "X-Amz-Acl", "private"},
		{userKey, "x-amz-acl: bucket-owner-full-control", "X-Amz-Acl", "bucket-owner-full-control"},
		{userKey, "x-amz-storage-class: STANDARD_IA", "X-Amz-Storage-Class", "STANDARD_IA"},
		{userKey, "x-amz-security-token: canary", "X-Amz-Security-Token", ""},
		{adminKey, "x-amz-security-token: canary", "X-Amz-Security-Token", ""},
	} {
		before := len(rec.requests())
		resp, body := g.do("PUT", "/photos/k", test.key, "data", test.header)
		seen := rec.requests()[before:]
		if resp.StatusCode != 200 || len(seen) != 1 || seen[0].header.Get(test.name) != test.want {
			t.Errorf("PUT with %s = %d %s, behind %d requests %v, want 200, one, %s: %q", test.header, resp.StatusCode, body, len(seen), seen, test.name, test.want)
		}
	}
}

// Its S3 layer makes a Swift request of all the headers that it
// got, and in that language a copy and a link have headers of their own. With
// them a PUT into one bucket would read from another that was never authorized.
// https://github.com/openstack/swift/blob/master/swift/common/middleware/s3api/s3request.py (to_swift_req)
func TestSwiftCopyHeadersAreRefused(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, header := range []string{"X-Copy-From: /secret/k", "X-Copy-From-Account: AUTH_other", "X-Symlink-Target: secret/k", "X-Symlink-Target-Account: AUTH_other"} {
		resp, body := g.do("PUT", "/photos/k", userKey, "", header)
		wantDenied(t, "PUT", resp, body, 400, "InvalidRequest")
		if t.Failed() {
			t.Errorf("that was PUT with %s", header)
		}
	}
	rec.wantNone(t)
}

// MinIO and RustFS take an upload with this header for an archive and
// unpack it, each file into a key that nobody has authorized (CVE-2026-40344).
// It looks like user metadata, which passes.
func TestSnowballArchiveIsRefused(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("nested_keys", true)))
	archive := strings.Repeat("../secret/k\x00", 100)
	for _, header := range []string{
		"X-Amz-Meta-Snowball-Auto-Extract: true", "x-amz-meta-snowball-auto-extract: TRUE", "X-AMZ-META-SNOWBALL-AUTO-EXTRACT: 1", "x-amz-meta-snowball-auto-extract: false", "x-amz-meta-snowball-auto-extract:",
		"x-amz-meta-a: b\r\nx-amz-meta-snowball-auto-extract: false\r\nx-amz-meta-snowball-auto-extract: true",
		"Connection: x-amz-meta-snowball-auto-extract\r\nx-amz-meta-snowball-auto-extract: true",
	} {
		for _, key := range []string{userKey, adminKey} {
			resp, body := g.do("PUT", "/photos/k.tar", key, archive, header)
			wantDenied(t, "PUT", resp, body, 400, "InvalidRequest")
			if t.Failed() {
				t.Fatalf("that was %s", header)
			}
		}
	}
	rec.wantNone(t)
	if resp, body := g.do("PUT", "/photos/k.tar", userKey, archive, "x-amz-meta-snowball: true", "x-amz-meta-auto-extract: true"); resp.StatusCode != 200 {
		t.Errorf("PUT with metadata that looks alike = %d %s, want 200", resp.StatusCode, body)
	}
}

// The client's credentials, in whatever form it sends them, end here.
// The backend sees the gateway's own and nothing that a client could use again.
func TestClientCredentialsStopAtTheGateway(t *testing.T) {
	rec := startRecorder(t, answerEmpty)
	g := startGateway(t, testConfig(rec.URL))
	const canary = "canary-35"
	headers := []string{
		"Authorization: AWS4-HMAC-SHA256 Credential=" + canary + "/20260101/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=" + canary,
		"Cookie: session=" + canary, "Proxy-Authorization: Basic " + canary, "Proxy-Connection: " + canary, "Proxy-Authenticate: " + canary,
		"X-Amz-Security-Token: " + canary, "X-Amz-Date: " + canary,
	}
	query := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + canary + "&X-Amz-Date=" + canary + "&X-Amz-Expires=60&X-Amz-SignedHeaders=" + canary +
		"&X-Amz-Signature=" + canary + "&X-Amz-Security-Token=" + canary
	encoded := strings.ReplaceAll(query, "X-Amz-", "%58-Amz%2D")
	for _, r := range []struct{ method, target, key string }{
		{"PUT", "/photos/k?" + query, userKey}, {"GET", "/photos/k?" + query, readOnlyKey}, {"HEAD", "/photos/k?" + encoded, readOnlyKey}, {"DELETE", "/photos/k?" + encoded, userKey},
		{"GET", "/photos?" + query, readOnlyKey}, {"GET", "/photos?list-type=2&" + encoded, readOnlyKey}, {"HEAD", "/photos?" + query, readOnlyKey}, {"DELETE", "/photos/k?versionId=1&" + query, adminKey},
	} {
		before := len(rec.requests())
		resp, body := g.do(r.method, r.target, r.key, "", headers...)
		seen := rec.requests()[before:]
		if resp.StatusCode/100 != 2 || len(seen) != 1 {
			t.Fatalf("%s %s = %d %s with %d requests behind, want 2xx and one", r.method, r.target, resp.StatusCode, body, len(seen))
		}
		all := fmt.Sprint(seen[0].uri, seen[0].header)
		for _, secret := range []string{canary, r.key, "X-Api-Key", "Cookie", "Proxy-", "X-Amz-Security-Token", "X-Amz-Credential", "X-Amz-Expires", "X-Amz-Signature", "X-Amz-Algorithm"} {
			if strings.Contains(all, secret) {
				t.Errorf("%s %s: the backend sees %q: %s", r.method, r.target, secret, all)
			}
		}
		if got := seen[0].header.Get("Authorization"); !strings.HasPrefix(got, "AWS4-HMAC-SHA256 Credential="+backendKeyID+"/") {
			t.Errorf("%s %s: Authorization = %q, want the gateway's", r.method, r.target, got)
		}
		if answer := fmt.Sprint(resp.Header, body); strings.Contains(answer, canary) {
			t.Errorf("%s %s: the answer holds a canary: %s", r.method, r.target, answer)
		}
	}
	if strings.Contains(g.log(), canary) {
		t.Errorf("the log holds a canary:\n%s", g.log())
	}
}

// A connection that changes its protocol is one that nobody checks any
// more. The client's wish is ignored and not passed on; a backend that switches
// unasked has not answered.
func TestUpgradeIsNeitherForwardedNorAccepted(t *testing.T) {
	rec := startRecorder(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "data") })
	g := startGateway(t, testConfig(rec.URL))
	for _, header := range [][]string{
		{"Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
		{"Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="},
		{"Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"},
		{"Connection: upgrade", "Upgrade: TLS/1.0, HTTP/1.1"},
	} {
		before := len(rec.requests())
		resp, body := g.do("GET", "/photos/k", userKey, "", header...)
		if resp.StatusCode != 200 || body != "data" || resp.Header.Get("Upgrade") != "" {
			t.Errorf("GET with %q = %d %q, want 200 data", header, resp.StatusCode, body)
		}
		for _, seen := range rec.requests()[before:] {
			for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
				if got, ok := seen.header[name]; ok {
					t.Errorf("GET with %q: the backend sees %s: %q", header, name, got)
				}
			}
		}
	}

	switching := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		for {
			line, header, err := readHead(r)
			if err != nil {
				return
			}
			n, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
			io.CopyN(io.Discard, r, n)
			if strings.Contains(line, "/good") {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
				continue
			}
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nsmuggled")
		}
	})
	g = startGateway(t, testConfig(switching))
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		resp, body := g.do(method, "/photos/k", userKey, "")
		wantDenied(t, method, resp, body, 502, "BadGateway")
		if strings.Contains(body, "smuggled") || resp.Header.Get("Upgrade") != "" {
			t.Errorf("%s = %v %q, want nothing of the backend's answer", method, resp.Header, body)
		}
		if resp, body := g.do("GET", "/photos/good", userKey, ""); resp.StatusCode != 200 || body != "good" {
			t.Errorf("GET after it = %d %q, want 200 good", resp.StatusCode, body)
		}
	}
}

// The x-api-key header is there once, as it was given out, or there is
// no user. Of two values, or of one that was folded, a proxy on the way may
// have checked another than we do.
func TestAPIKeyIsAcceptedInOneFormOnly(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	half := len(userKey) / 2
	for _, test := range []struct{ name, lines string }{
		{"missing", ""},
		{"empty", "X-Api-Key:\r\n"},
		{"blank", "X-Api-Key:  \t \r\n"},
		{"twice the same", "X-Api-Key: " + userKey + "\r\nX-Api-Key: " + userKey + "\r\n"},
		{"a good one second", "X-Api-Key: wrong\r\nx-api-key: " + userKey + "\r\n"},
		{"an empty one second", "X-Api-Key: " + userKey + "\r\nX-API-KEY:\r\n"},
		{"a list", "X-Api-Key: " + userKey + "," + userKey + "\r\n"},
		{"a space within", "X-Api-Key: " + userKey[:half] + " " + userKey[half:] + "\r\n"},
		{"a tab within", "X-Api-Key: " + userKey[:half] + "\t" + userKey[half:] + "\r\n"},
		{"folded", "X-Api-Key: " + userKey[:half] + "\r\n " + userKey[half:] + "\r\n"},
		{"continued", "X-Api-Key: " + userKey + "\r\n x\r\n"},
		{"8-bit", "X-Api-Key: " + userKey + "\xe9\r\n"},
		{"beyond ASCII", "X-Api-Key: ключ-ключ-ключ-ключ\r\n"},
		{"quoted", "X-Api-Key: \"" + userKey + "\"\r\n"},
		{"other case", "X-Api-Key: " + strings.ToUpper(userKey) + "\r\n"},
		{"cut", "X-Api-Key: " + userKey[:len(userKey)-1] + "\r\n"},
		{"longer", "X-Api-Key: " + userKey + "0\r\n"},
		{"very long", "X-Api-Key: " + strings.Repeat("k", 16<<10) + "\r\n"},
		{"encoded", "X-Api-Key: %75" + userKey[1:] + "\r\n"},
		{"underscores", "X_Api_Key: " + userKey + "\r\n"},
		{"no hyphens", "XApiKey: " + userKey + "\r\n"},
		{"bearer", "Authorization: Bearer " + userKey + "\r\n"},
		{"basic", "Authorization: Basic dXNlcjp1c2VyLWtleS0wMTIzNDU2Nzg5YWJjZGVm\r\n"},
		{"cookie", "Cookie: x-api-key=" + userKey + "\r\n"},
		{"a user's name", "X-Api-Key: user\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, code := 401, "Unauthorized"
			if strings.HasPrefix(test.lines, "Authorization:") || strings.Contains(test.lines, "\r\n ") {
				status, code = 400, "InvalidRequest" // S3's words for a scheme it does not know; a folded header
			}
			for _, target := range []string{"/photos/k", "/photos", "/secret/k", "/nosuch", "/"} {
				resp, body := g.raw("GET", "GET "+target+" HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n"+test.lines+"\r\n")
				wantDenied(t, "GET", resp, body, status, code)
			}
			resp, body := g.raw("PUT", "PUT /photos/k HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nContent-Length: 4\r\n"+test.lines+"\r\ndata")
			wantDenied(t, "PUT", resp, body, status, code)
		})
	}
	for _, query := range []string{"x-api-key=", "X-Api-Key=", "api_key=", "apikey="} {
		resp, body := g.do("GET", "/photos/k?"+query+userKey, "", "")
		wantDenied(t, "GET", resp, body, 401, "Unauthorized")
	}
	resp, body := g.raw("PUT", "PUT /photos/k HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Api-Key\r\n\r\n"+
		"4\r\ndata\r\n0\r\nX-Api-Key: "+userKey+"\r\n\r\n")
	wantDenied(t, "PUT", resp, body, 401, "Unauthorized")
	// net/http itself refuses these, without our format.
	for _, line := range []string{"X-Api-Key: " + userKey + "\x00", "X-Api-Key : " + userKey, " X-Api-Key: " + userKey} {
		resp, _ := g.raw("GET", "GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n"+line+"\r\n\r\n")
		if resp.StatusCode != 400 && resp.StatusCode != 401 {
			t.Errorf("%q = %d, want 400 or 401", line, resp.StatusCode)
		}
	}
	rec.wantNone(t)
	// Space around a value is no part of it: RFC 9110 section 5.5.
	if resp, body := g.raw("GET", "GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nx-API-key: \t"+userKey+" \t\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("a good key with space around it = %d %s, want 200", resp.StatusCode, body)
	}
}

// With one of these headers http.Transport takes a write for one that
// may be sent twice, and sends it twice when a kept connection turns out to be
// dead. Whether the first was done, nobody knows.
func TestIdempotencyKeyDoesNotRepeatWrites(t *testing.T) {
	var mu sync.Mutex // guards seen
	type request struct {
		conn   int
		line   string
		header http.Header
	}
	var seen []request
	endpoint := startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		for {
			line, header, err := readHead(r)
			if err != nil {
				return
			}
			length, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
			io.CopyN(io.Discard, r, length)
			mu.Lock()
			seen = append(seen, request{n, line, http.Header(header)})
			mu.Unlock()
			if !strings.HasPrefix(line, "GET ") {
				return // the kept connection dies under a write, which may have been done
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g := startGateway(t, testConfig(endpoint))
	for _, test := range []struct{ method, target, body string }{
		{"DELETE", "/photos/k", ""}, {"DELETE", "/photos/k?versionId=1", ""}, {"PUT", "/photos/k", "data"}, {"PUT", "/photos/k", ""},
	} {
		for _, header := range []string{"Idempotency-Key: canary-40", "X-Idempotency-Key: canary-40", "idempotency-key:", "Idempotency-Key: a\r\nX-Idempotency-Key: b", "X-Other: c"} {
			mu.Lock()
			seen = nil
			mu.Unlock()
			if resp, body := g.do("GET", "/photos/warm", adminKey, ""); resp.StatusCode != 200 {
				t.Fatalf("GET = %d %s, want 200", resp.StatusCode, body)
			}
			resp, body := g.do(test.method, test.target, adminKey, test.body, header)
			wantDenied(t, test.method, resp, body, 502, "BadGateway")
			mu.Lock()
			got := seen
			mu.Unlock()
			if len(got) != 2 || got[0].conn != got[1].conn {
				t.Fatalf("%s %s with %q: the backend saw %v, want the GET and, once, on the same connection, the write", test.method, test.target, header, got)
			}
			for name := range got[1].header {
				if strings.HasSuffix(name, "Idempotency-Key") {
					t.Errorf("%s with %q: the backend sees %s", test.method, header, name)
				}
			}
		}
	}
}

// What a client says about where it comes from, or which method it
// would rather have sent, changes neither its limit, nor the log, nor the
// request. (CVE-2026-21862 is a limit that believed it.)
func TestForwardedHeadersAreNotBelieved(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("rate_limit", map[string]any{"requests": 3, "window_seconds": 3600})))
	lies := func(i int) []string {
		return []string{
			fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i), fmt.Sprintf("X-Real-IP: 203.0.113.%d", i), fmt.Sprintf("Forwarded: for=203.0.113.%d;host=evil.example", i),
			fmt.Sprintf("X-Client-IP: 203.0.113.%d", i), fmt.Sprintf("True-Client-IP: 203.0.113.%d", i), fmt.Sprintf("CF-Connecting-IP: 203.0.113.%d", i),
			"X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Port: 443", "X-Forwarded-User: admin", "X-Remote-User: admin",
			"X-HTTP-Method-Override: DELETE", "X-HTTP-Method: DELETE", "X-Method-Override: DELETE", "X-Original-URL: /secret/k", "X-Rewrite-URL: /secret/k",
		}
	}
	for i := range 5 {
		resp, body := g.do("GET", "/photos/k", userKey, "", lies(i)...)
		if i < 3 && resp.StatusCode != 200 {
			t.Fatalf("request %d = %d %s, want 200", i, resp.StatusCode, body)
		}
		if i >= 3 {
			wantDenied(t, "GET", resp, body, 429, "TooManyRequests")
		}
	}
	if resp, body := g.do("GET", "/photos/k", readOnlyKey, "", lies(0)...); resp.StatusCode != 200 {
		t.Errorf("another user from the same address = %d %s, want 200", resp.StatusCode, body)
	}
	for _, seen := range rec.requests() {
		if seen.method != "GET" || seen.uri != "/photos/k" {
			t.Errorf("the backend got %s %s, want GET /photos/k", seen.method, seen.uri)
		}
		for _, name := range []string{
			"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
			"X-Http-Method-Override", "X-Http-Method", "X-Method-Override", "X-Original-Url", "X-Rewrite-Url",
		} {
			if got, ok := seen.header[name]; ok {
				t.Errorf("the backend sees %s: %q", name, got)
			}
		}
	}
	for _, line := range g.lines(6) {
		host, _, err := net.SplitHostPort(fmt.Sprint(line["client"]))
		if err != nil || host != "127.0.0.1" || line["method"] != "GET" {
			t.Errorf("logged: client %v, method %v, want 127.0.0.1, GET", line["client"], line["method"])
		}
	}
	if log := g.log(); strings.Contains(log, "203.0.113.") || strings.Contains(log, "evil.example") {
		t.Errorf("the log believes the client:\n%s", log)
	}
}

// A head that is too large is refused by net/http with 431, after no
// more than the bound was read of it, however much the client would send.
func TestHugeHeadersAreCutOff(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, test := range []struct{ name, lines string }{
		{"one value of 200 KB", "X-Amz-Meta-A: " + strings.Repeat("a", 200<<10) + "\r\n"},
		{"10,000 lines", strings.Repeat("A: b\r\n", 10_000)},
		{"10,000 names", manyNames(10_000)},
		{"a name of 64 KB", strings.Repeat("A", 64<<10) + ": b\r\n"},
		{"a line that is folded for ever", "A: b\r\n" + strings.Repeat(" c\r\n", 20_000)},
		{"a key of 200 KB", "X-Api-Key: " + strings.Repeat("a", 200<<10) + "\r\n"},
	} {
		resp, _ := g.raw("GET", "GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\nX-Api-Key: "+userKey+"\r\n"+test.lines+"\r\n")
		if resp.StatusCode != 431 {
			t.Errorf("%s = %d %v, want 431", test.name, resp.StatusCode, resp.Header)
		}
	}
	// Without an end: the gateway hangs up long before a client is through.
	const most = 64 << 20
	conn := g.dial()
	defer conn.Close()
	io.WriteString(conn, "GET /photos/k HTTP/1.1\r\nHost: gateway.example\r\n")
	line, sent := []byte("X-Amz-Meta-A: "+strings.Repeat("a", 1<<10)+"\r\n"), 0
	for sent < most {
		n, err := conn.Write(line)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= most {
		t.Errorf("the gateway took %d bytes of headers", sent)
	}
	rec.wantNone(t)
	// S3's own limits fit: 2 KiB of metadata, the longest key, and the rest.
	resp, body := g.do("PUT", "/photos/"+strings.Repeat("%E6%97%A5", 341)+"k", userKey, "data", "x-amz-meta-a: "+strings.Repeat("a", 2<<10), "User-Agent: "+strings.Repeat("u", 4<<10))
	if resp.StatusCode != 200 {
		t.Errorf("PUT with all that S3 allows = %d %s, want 200", resp.StatusCode, body)
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%d: b\r\n", i)
	}
	return b.String()
}
