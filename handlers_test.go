package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// signed returns the header lines of a request that a user has signed: the
// gateway's host, an unsigned payload, and the x-amz-* headers given.
func signed(name, secret, method, path, query string, header ...string) []string {
	req, err := http.NewRequest(method, "http://gateway.example"+path, nil)
	if err != nil {
		panic(err)
	}
	params, err := parseQuery(query)
	if err != nil {
		panic(err)
	}
	req.URL.RawQuery = canonicalQuery(params)
	for _, line := range header {
		key, value, _ := strings.Cut(line, ": ")
		req.Header.Set(key, value)
	}
	payload := unsignedPayload
	if value := req.Header.Get("X-Amz-Content-Sha256"); value != "" {
		payload = value
	}
	s := signer{region: "any-region-1"}
	s.sign(req, &credentials{AccessKeyID: name, SecretAccessKey: secret}, payload, time.Now())
	var lines []string
	for key, values := range req.Header {
		lines = append(lines, key+": "+values[0])
	}
	return lines
}

// A user is the same by either authentication method: rights, errors, limit.
func TestSignedDoor(t *testing.T) {
	g := startGateway(t, testConfig(startDemoBackend(t).URL))
	resp, body := g.do("PUT", "/photos/k", "", "meow", signed("user", userKey, "PUT", "/photos/k", "", "x-amz-meta-name: Tom")...)
	if resp.StatusCode != 200 {
		t.Fatalf("signed PUT = %d %s", resp.StatusCode, body)
	}
	resp, body = g.do("GET", "/photos/k", "", "", signed("ro", readOnlyKey, "GET", "/photos/k", "")...)
	if resp.StatusCode != 200 || body != "meow" {
		t.Errorf("signed GET = %d %q, want 200 meow", resp.StatusCode, body)
	}
	for _, test := range []struct {
		what, method, target, name, secret string
		status                             int
		code                               string
	}{
		{"a readonly PUT", "PUT", "/photos/k", "ro", readOnlyKey, 403, "AccessDenied"},
		{"another bucket", "GET", "/secret/k", "user", userKey, 403, "AccessDenied"},
		{"a wrong key", "GET", "/photos/k", "user", adminKey, 403, "SignatureDoesNotMatch"},
		{"an unknown name", "GET", "/photos/k", "nobody", userKey, 403, "InvalidAccessKeyId"},
	} {
		resp, body := g.do(test.method, test.target, "", "", signed(test.name, test.secret, test.method, test.target, "")...)
		if resp.StatusCode != test.status || !strings.Contains(body, "<Code>"+test.code+"</Code>") {
			t.Errorf("%s = %d %s, want %d %s in XML", test.what, resp.StatusCode, body, test.status, test.code)
		}
		checkHardened(t, resp)
	}
	if last := g.lines()[1]; last["user"] != "ro" {
		t.Errorf("the log has user %v, want ro", last["user"])
	}
}

// With x-api-key there, it alone counts: a signature is not looked at, and does
// not get further.
func TestAPIKeyWinsOverSignature(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	wrong := signed("user", "not the key of anybody", "GET", "/photos/k", "")
	if resp, body := g.do("GET", "/photos/k", userKey, "", wrong...); resp.StatusCode != 200 {
		t.Errorf("x-api-key with dummy credentials = %d %s, want 200", resp.StatusCode, body)
	}
	if got := backend.requests()[0].header.Get("Authorization"); !strings.Contains(got, "Credential="+testCredentials.AccessKeyID+"/") {
		t.Errorf("the backend got Authorization %q, want the account's", got)
	}
	right := signed("user", userKey, "GET", "/photos/k", "")
	resp, body := g.do("GET", "/photos/k", "not-the-key-of-anybody", "", right...)
	if resp.StatusCode != 401 || !strings.Contains(body, "Invalid API key") {
		t.Errorf("a wrong x-api-key with a good signature = %d %s, want 401", resp.StatusCode, body)
	}
}

// bucket.domain/key is /bucket/key, by both authentication methods.
func TestVirtualHostStyle(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" && r.URL.Query().Has("list-type") {
			io.WriteString(w, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
		}
	})
	g := startGateway(t, testConfig(backend.URL, with("server.domain", "s3.example"), with("nested_keys", true)))
	for _, test := range []struct{ host, target, want string }{
		{"photos.s3.example", "/a/b", "/photos/a/b"},
		{"photos.S3.example:8080", "/a%20b", "/photos/a%20b"},
		{"photos.s3.example", "/dir/", "/photos/dir/"},
		{"photos.s3.example", "/photos/k", "/photos/photos/k"},
		{"photos.s3.example", "/?list-type=2", "/photos?encoding-type=url&list-type=2"},
		{"s3.example", "/photos/k", "/photos/k"},
		{"photos.s3.example.evil", "/photos/k", "/photos/k"},
	} {
		before := len(backend.requests())
		resp, body := g.raw("GET", fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nx-api-key: %s\r\n\r\n", test.target, test.host, userKey))
		seen := backend.requests()
		if resp.StatusCode != 200 || len(seen) != before+1 || seen[before].uri != test.want {
			t.Errorf("GET %s at %s = %d %s, the backend saw %v, want %s", test.target, test.host, resp.StatusCode, body, seen[before:], test.want)
		}
	}
	for _, host := range []string{"secret.s3.example", "no..s3.example", "UP_CASE.s3.example"} {
		before := len(backend.requests())
		resp, _ := g.raw("GET", fmt.Sprintf("GET /k HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nx-api-key: %s\r\n\r\n", host, userKey))
		if resp.StatusCode != 403 && resp.StatusCode != 400 || len(backend.requests()) != before {
			t.Errorf("host %s = %d, want a refusal", host, resp.StatusCode)
		}
	}
}

// A host names a bucket or nothing: it makes no page of a key, nor a bucket and a key.
// HTTP/2 lets more characters stand in an authority than HTTP/1.1.
func TestHostThatIsNoBucketIsRefused(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startTLS(t, testConfig(backend.URL, with("server.domain", "s3.example"), with("nested_keys", true)), nil)
	for _, host := range []string{"-.s3.example", "-.S3.example:443", "..s3.example", "ab.s3.example", "1.2.3.4.s3.example", "photos/dir.s3.example", "photos/-.s3.example", "-/-.s3.example"} {
		for _, target := range []string{"/presign?bucket=photos&key=k", "/k", "/", "/-/presign?bucket=photos&key=k"} {
			c := dialHTTP2(t, g)
			c.headers(flagEndStream, ":method", "GET", ":scheme", "https", ":authority", host, ":path", target, "x-api-key", userKey)
			if got := c.answer(); got == "200" || strings.Contains(got, "X-Amz-Signature") {
				t.Errorf("GET %s of %s = %.80s, want a refusal", target, host, got)
			}
			c.conn.Close()
		}
	}
	backend.wantNone(t)
}

// A bucket that has another name behind is known by the one in front, in
// everything a client reads.
func TestBucketBehind(t *testing.T) {
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Query().Has("list-type"):
			io.WriteString(w, "<ListBucketResult><Name>corp-pics-prod</Name><IsTruncated>false</IsTruncated><Contents><Key>k</Key></Contents></ListBucketResult>")
		case r.URL.Query().Has("uploads") && r.Method == "POST":
			io.WriteString(w, "<InitiateMultipartUploadResult><Bucket>corp-pics-prod</Bucket><Key>k</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>")
		case r.URL.Query().Has("uploads"):
			io.WriteString(w, "<ListMultipartUploadsResult><Bucket>corp-pics-prod</Bucket><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
		case r.URL.Query().Has("versions"):
			io.WriteString(w, "<ListVersionsResult><Name>corp-pics-prod</Name><IsTruncated>false</IsTruncated></ListVersionsResult>")
		case r.Method == "POST":
			io.WriteString(w, "<CompleteMultipartUploadResult><Location>http://10.0.0.1/corp-pics-prod/k</Location><Bucket>corp-pics-prod</Bucket><ETag>e</ETag></CompleteMultipartUploadResult>")
		case r.URL.Query().Has("uploadId"):
			io.WriteString(w, "<ListPartsResult><Bucket>corp-pics-prod</Bucket><IsTruncated>false</IsTruncated></ListPartsResult>")
		default:
			w.WriteHeader(404)
			io.WriteString(w, "<Error><Code>NoSuchBucket</Code><BucketName>corp-pics-prod</BucketName></Error>")
		}
	})
	g := startGateway(t, twoAccounts(backend.URL, backend.URL))
	for _, test := range []struct{ method, target, want string }{
		{"GET", "/pics", "<Name>pics</Name>"},
		{"GET", "/pics?list-type=2", "<Name>pics</Name>"},
		{"GET", "/pics?versions", "<Name>pics</Name>"},
		{"GET", "/pics?uploads", "<Bucket>pics</Bucket>"},
		{"POST", "/pics/k?uploads", "<Bucket>pics</Bucket>"},
		{"GET", "/pics/k?uploadId=u", "<Bucket>pics</Bucket>"},
		{"POST", "/pics/k?uploadId=u", "<Location>http://gateway.example/pics/k</Location><Bucket>pics</Bucket>"},
		{"GET", "/pics/k", "NoSuchBucket"},
	} {
		before := len(backend.requests())
		document := ""
		if test.method == "POST" && strings.Contains(test.target, "uploadId") {
			document = completeDocument
		}
		_, body := g.do(test.method, test.target, userKey, document)
		if !strings.Contains(body, test.want) || strings.Contains(body, "corp-") || strings.Contains(body, "10.0.0.1") {
			t.Errorf("%s %s = %s, want %s and nothing of the name behind", test.method, test.target, body, test.want)
		}
		if uri := backend.requests()[before].uri; !strings.HasPrefix(uri, "/corp-pics-prod") {
			t.Errorf("%s %s went to %s, want the bucket behind", test.method, test.target, uri)
		}
	}
	if _, body := g.do("GET", "/", userKey, ""); !strings.Contains(body, "<Name>pics</Name>") || strings.Contains(body, "corp-") {
		t.Errorf("ListBuckets = %s, want the names in front", body)
	}
}

// What a presigner has put into the query means what it means as a header.
func TestHeadersInTheQuery(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	resp, body := g.do("PUT", "/photos/k?X-Amz-Tagging=a%3Db&x-amz-meta-name=Tom&X-Amz-Acl=private", userKey, "x")
	if resp.StatusCode != 200 {
		t.Fatalf("PUT = %d %s", resp.StatusCode, body)
	}
	seen := backend.requests()[0]
	if seen.uri != "/photos/k" {
		t.Errorf("the backend saw %s, want no query", seen.uri)
	}
	checkHeaders(t, "the request", seen.header, map[string]string{"X-Amz-Tagging": "a=b", "X-Amz-Meta-Name": "Tom", "X-Amz-Acl": "private"})
	for _, test := range []struct {
		query  string
		header []string
		status int
		code   string
	}{
		{"X-Amz-Acl=public-read", nil, 403, "AccessDenied"},
		{"x-amz-grant-read=id%3Dx", nil, 403, "AccessDenied"},
		{"X-Amz-Copy-Source=secret%2Fk", nil, 403, "AccessDenied"},
		{"X-Amz-Object-Lock-Mode=COMPLIANCE", nil, 403, "AccessDenied"},
		{"x-amz-meta-snowball-auto-extract=true", nil, 400, "InvalidRequest"},
		{"X-Amz-Acl=private", []string{"x-amz-acl: bucket-owner-full-control"}, 400, "InvalidArgument"},
		{"X-Amz-Acl=private", []string{"x-amz-acl: private", "x-amz-acl: private"}, 400, "InvalidArgument"},
		{"x-amz-meta-a=b&X-Amz-Meta-A=b", []string{"x-amz-meta-a: b"}, 400, "InvalidArgument"},
		{"x-amz-meta-a=b%0d%0aX-Evil:%201", nil, 400, "InvalidArgument"},
		{"x-amz-acl=private&X-Amz-Acl=private", nil, 400, "InvalidArgument"},
	} {
		resp, body := g.do("PUT", "/photos/k?"+test.query, userKey, "", test.header...)
		wantError(t, resp, body, test.status, test.code)
	}
	if n := len(backend.requests()); n != 1 {
		t.Errorf("the backend saw %d requests, want 1", n)
	}
}

// Completing an upload may take minutes: what keeps the connection alive is
// passed on before there is a result, and an error under a 200 as it is.
func TestCompleteMultipartUpload(t *testing.T) {
	finish := make(chan string)
	backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?>`+"\n  ")
		w.(http.Flusher).Flush()
		io.WriteString(w, <-finish)
	})
	g := startGateway(t, testConfig(backend.URL))
	for _, test := range []struct{ document, want string }{
		{"<CompleteMultipartUploadResult><ETag>e-2</ETag></CompleteMultipartUploadResult>", "<ETag>e-2</ETag>"},
		{"<Error><Code>InternalError</Code><Message>host 10.0.0.1</Message></Error>", "<Error><Code>InternalError</Code>"},
	} {
		conn := g.dial()
		body := "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
		fmt.Fprintf(conn, "POST /photos/k?uploadId=u HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nx-api-key: %s\r\nContent-Length: %d\r\n\r\n%s", userKey, len(body), body)
		first := make([]byte, 12)
		if _, err := io.ReadFull(conn, first); err != nil || string(first) != "HTTP/1.1 200" {
			t.Fatalf("before the backend is done the answer begins %q, %v, want HTTP/1.1 200", first, err)
		}
		finish <- test.document
		rest, err := io.ReadAll(conn)
		if err != nil || !strings.Contains(string(rest), test.want) || strings.Contains(string(rest), "10.0.0.1") {
			t.Errorf("the answer ends %q, %v, want %s", rest, err, test.want)
		}
		conn.Close()
	}
	if n := len(backend.requests()); n != 2 {
		t.Errorf("the backend saw %d requests, want 2: none is retried", n)
	}
	if line := g.lines()[1]; line["upstream_code"] != "InternalError" || line["cause"] == nil {
		t.Errorf("the log has %v, want the failure in it", line)
	}
}

// The SDKs for JavaScript put into a presigned query what S3 has in headers. The
// checksum there is that of an empty body, and Content-* is for the signature only.
func TestPresignedPutOfTheSDKsForJavaScript(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	for _, test := range []struct {
		what   string
		query  []string // that is signed
		header []string // that is signed
		more   []string // headers that are not
		want   map[string]string
	}{
		{"version 3",
			[]string{"X-Amz-Content-Sha256=UNSIGNED-PAYLOAD", "x-amz-acl=private", "x-amz-checksum-crc32=AAAAAA%3D%3D", "x-amz-meta-realm_id=2", "x-amz-sdk-checksum-algorithm=CRC32", "x-amz-tagging=a%3Db", "x-id=PutObject"},
			nil, []string{"Content-Type: text/x-cat"},
			map[string]string{"X-Amz-Checksum-Crc32": "", "X-Amz-Sdk-Checksum-Algorithm": "", "X-Amz-Meta-Realm_id": "2", "X-Amz-Acl": "private", "X-Amz-Tagging": "a=b", "Content-Type": "text/x-cat"}},
		{"version 3, with an algorithm that is not known here",
			[]string{"x-amz-checksum-xxhash128=AAAAAA%3D%3D", "x-amz-sdk-checksum-algorithm=XXHASH128"}, nil, nil,
			map[string]string{"X-Amz-Checksum-Xxhash128": "", "X-Amz-Sdk-Checksum-Algorithm": ""}},
		{"version 3, a header that stays one",
			[]string{"x-amz-checksum-crc32=AAAAAA%3D%3D", "x-id=PutObject"}, []string{"x-amz-meta-a: b"}, nil,
			map[string]string{"X-Amz-Checksum-Crc32": "", "X-Amz-Meta-A": "b"}},
		{"version 2",
			[]string{"Cache-Control=no-cache", "Content-MD5=XUFAKrxLKna5cZ2REBfFkg%3D%3D", "Content-Type=text%2Fplain", "x-amz-acl=private", "x-amz-meta-name=a%20%20b", "x-amz-meta-realm_id=2", "x-amz-tagging=a%3Db"},
			[]string{"cache-control: no-cache", "content-md5: XUFAKrxLKna5cZ2REBfFkg==", "x-amz-acl: private", "x-amz-meta-name: a b", "x-amz-meta-realm_id: 2", "x-amz-tagging: a=b"},
			[]string{"Content-Type: text/x-cat"},
			map[string]string{"Cache-Control": "no-cache", "Content-Md5": "XUFAKrxLKna5cZ2REBfFkg==", "Content-Type": "text/x-cat", "X-Amz-Acl": "private", "X-Amz-Meta-Realm_id": "2", "X-Amz-Tagging": "a=b"}},
		{"a condition that is a header, too",
			[]string{"If-None-Match=%2A"}, []string{"if-none-match: *"}, nil, map[string]string{"If-None-Match": "*"}},
	} {
		before := len(backend.requests())
		target, _ := signedHead{query: test.query, header: test.header}.presign("60")
		resp, body := g.do("PUT", target, "", "hello", append(test.more, test.header...)...)
		seen := backend.requests()[before:]
		if resp.StatusCode != 200 || len(seen) != 1 {
			t.Errorf("%s: PUT = %d %s, the backend saw %d requests", test.what, resp.StatusCode, body, len(seen))
			continue
		}
		checkHeaders(t, test.what, seen[0].header, test.want)
		if seen[0].uri != "/photos/k" || seen[0].body != "hello" {
			t.Errorf("%s: the backend saw %s with %q", test.what, seen[0].uri, seen[0].body)
		}
	}
	before := len(backend.requests())
	for _, test := range []struct {
		query, header, want string
	}{
		{"x-amz-meta-a=b", "x-amz-meta-a: c", "400 InvalidArgument"},
		{"x-amz-acl=private", "x-amz-acl: bucket-owner-full-control", "400 InvalidArgument"},
		{"If-None-Match=%2A", "", "501 NotImplemented"}, // S3 ignores it; whoever sends it does not want that
		{"Range=bytes%3D0-1", "", "501 NotImplemented"},
		{"Content-Length=5", "", "501 NotImplemented"},
		{"x-amz-write-offset-bytes=1", "", "501 NotImplemented"},
	} {
		head := signedHead{query: []string{test.query}}
		if test.header != "" {
			head.header = []string{test.header}
		}
		target, _ := head.presign("60")
		resp, body := g.do("PUT", target, "", "hello", head.header...)
		wantSignedRefusal(t, test.query, "PUT", resp, body, test.want)
	}
	// They are part of the signature.
	target, _ := signedHead{query: []string{"x-amz-checksum-crc32=AAAAAA%3D%3D", "Content-Type=text%2Fplain"}}.presign("60")
	for _, changed := range []string{strings.Replace(target, "AAAAAA", "AAAAAB", 1), strings.Replace(target, "plain", "html", 1), target + "&Cache-Control=no-cache"} {
		resp, body := g.do("PUT", changed, "", "hello")
		wantSignedRefusal(t, changed, "PUT", resp, body, "403 SignatureDoesNotMatch")
	}
	if n := len(backend.requests()); n != before {
		t.Errorf("the backend saw %d requests that were refused", n-before)
	}
}

// Tools of MinIO ask for more than S3 has, and everybody may mark a request for the
// access log. What is not known to be harmless is refused.
func TestHarmlessParametersAreDropped(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	for _, test := range []struct{ method, target, uri string }{
		{"GET", "/photos?list-type=2&metadata=true", "/photos?encoding-type=url&list-type=2"},
		{"GET", "/photos?metadata=true&max-keys=7", "/photos?encoding-type=url&max-keys=7"},
		{"GET", "/photos?versions&metadata=true", "/photos?encoding-type=url&versions="},
		{"GET", "/photos?lifecycle&withUpdatedAt=true", "/photos?lifecycle="},
		{"GET", "/photos/k?x-user=joe&x-=1&x-anything", "/photos/k"},
		{"GET", "/photos/k?x-id=GetObject&x-amzn-trace-id=a", "/photos/k"},
		{"PUT", "/photos/k?x-user=..%2F..%2Fsecret", "/photos/k"},
		{"DELETE", "/photos/k?x-user=joe", "/photos/k"},
	} {
		before := len(backend.requests())
		resp, body := g.do(test.method, test.target, adminKey, "")
		seen := backend.requests()[before:]
		if resp.StatusCode/100 != 2 || len(seen) != 1 || seen[0].uri != test.uri {
			t.Errorf("%s %s = %d %s, the backend saw %v, want %s", test.method, test.target, resp.StatusCode, body, seen, test.uri)
		}
	}
	before := len(backend.requests())
	for _, target := range []string{
		"GET /photos/k?metadata=true", "GET /photos?lifecycle&withUpdatedAt=true&metadata=true", "GET /photos?policy&withUpdatedAt=true", "GET /photos?list-type=2&allow-unordered=true", "GET /photos/k?X-User=joe",
		"PUT /photos/k?x-api-key=a", "PUT /photos/k?x-minio-source-mtime=1", "PUT /photos/k?x-copy-from=secret%2Fk", "PUT /photos/k?x_user=joe", "PUT /photos/k?append", "PUT /photos/k?xuser=joe", "PUT /photos/k?x_amz_acl=public-read",
	} {
		method, target, _ := strings.Cut(target, " ")
		resp, body := g.do(method, target, adminKey, "")
		wantDenied(t, method, resp, body, 501, "NotImplemented")
		if t.Failed() {
			t.Fatalf("at %s", target)
		}
	}
	if n := len(backend.requests()); n != before {
		t.Errorf("the backend saw %d requests that were refused", n-before)
	}
}

// Programs create their bucket when they start. Its users are told that it is theirs,
// and everybody else where buckets come from; nobody learns which others there are.
func TestCreateBucketAtStart(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	for _, test := range []struct {
		key, bucket string
		status      int
		code        string
	}{
		{adminKey, "photos", 409, "BucketAlreadyOwnedByYou"}, {userKey, "photos", 409, "BucketAlreadyOwnedByYou"}, {readOnlyKey, "photos", 409, "BucketAlreadyOwnedByYou"},
		{userKey, "secret", 403, "AccessDenied"}, {userKey, "new-bucket", 403, "AccessDenied"}, {noneKey, "photos", 403, "AccessDenied"},
		{adminKey, "new-bucket", 403, "AccessDenied"},
	} {
		resp, body := g.do("PUT", "/"+test.bucket, test.key, "<CreateBucketConfiguration><LocationConstraint>eu-west-1</LocationConstraint></CreateBucketConfiguration>")
		wantError(t, resp, body, test.status, test.code)
		if test.status == 403 && !strings.Contains(body, "accounts.NAME.buckets") {
			t.Errorf("PUT /%s = %s, want to be told where buckets are declared", test.bucket, body)
		}
	}
	backend.wantNone(t)
}

// A browser's form is an upload with its own kind of authorization, in
// the body, to a key that the path does not name.
func TestFormUploadIsNotImplemented(t *testing.T) {
	g, rec, other := startAccounts(t)
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
			r := requestSpec{method: "POST", path: row.path, query: row.query, body: form, header: []string{"Content-Type: " + contentType}}
			for _, role := range []string{"admin", "user", "readonly"} {
				for _, auth := range authMethods {
					name, key := userWith(role, "photos")
					resp, body := auth.send(g, name, key, r)
					wantRefusal(t, "POST", resp, body, row.want)
					if t.Failed() {
						t.Fatalf("at %s by %s, %s", r, role, auth.name)
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

// A multipart upload is a write from its first request to its last,
// though two of them are POSTs and one a DELETE.
func TestReadersCannotUploadInParts(t *testing.T) {
	g, rec, other := startAccounts(t)
	for _, operation := range []string{"CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload"} {
		r := specFor(operation, "photos")
		for _, auth := range authMethods {
			for _, scope := range []string{"photos", "*"} {
				name, key := userWith("readonly", scope)
				resp, body := auth.send(g, name, key, r)
				wantDenied(t, r.method, resp, body, 403, "AccessDenied")
			}
			r.path = strings.Replace(r.path, "photos", "secret", 1)
			name, key := userWith("user", "photos")
			resp, body := auth.send(g, name, key, r)
			wantDenied(t, r.method, resp, body, 403, "AccessDenied")
			r = specFor(operation, "photos")
			if t.Failed() {
				t.Fatalf("at %s, %s", r, auth.name)
			}
		}
	}
	rec.wantNone(t)
	// S3 needs the number of a part, and the upload it is of: a server that looks
	// for both would take what lacks one for a PutObject, or with no upload named,
	// a DELETE for that of the object.
	for _, target := range []string{"PUT /photos/k?uploadId=u", "PUT /photos/k?partNumber=1", "PUT /photos/k?partNumber=1&uploadId=", "PUT /photos/k?partNumber=&uploadId=u",
		"DELETE /photos/k?uploadId=", "DELETE /photos/k?uploadId", "POST /photos/k?uploadId="} {
		before := requestCount(rec)
		method, path, _ := strings.Cut(target, " ")
		resp, body := g.do(method, path, adminKey, completeDocument)
		if resp.StatusCode != 400 && resp.StatusCode != 404 && resp.StatusCode != 501 || requestCount(rec) != before {
			t.Errorf("%s = %d %s, and the backend got %d requests, want a refusal and none", target, resp.StatusCode, body, requestCount(rec)-before)
		}
	}
	other.wantNone(t)
}
