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
	s := signer{source: staticCredentials(credentials{AccessKeyID: name, SecretAccessKey: secret}), region: "any-region-1"}
	s.sign(req, payload, time.Now())
	var lines []string
	for key, values := range req.Header {
		lines = append(lines, key+": "+values[0])
	}
	return lines
}

// A user is the same by either door: rights, errors, limit.
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

// bucket.domain/key is /bucket/key, by both doors.
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
		_, body := g.do(test.method, test.target, userKey, "")
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
		{"X-Amz-Acl=private", []string{"x-amz-acl: private"}, 400, "InvalidArgument"},
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
