package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// newExplainer writes a configuration to a file, and returns a function that runs the command on it.
func newExplainer(t *testing.T, config map[string]any) func(args ...string) (out string, err error) {
	t.Helper()
	t.Setenv("LC_ALL", "C.UTF-8")
	path := writeConfig(t, config)
	return func(args ...string) (string, error) {
		t.Helper()
		var out, errs syncBuffer
		err := run(t.Context(), append([]string{"explain", "-config", path}, args...), &out, &errs)
		text := out.String() + errs.String()
		if err != nil {
			text += err.Error()
		}
		checkNoSecret(t, "the explanation", text)
		return text, err
	}
}

// A sentRequest is a request for the gateway, and for explain.
type sentRequest struct {
	method, target string
	header         []string
}

// requestsOf returns a request for each row of the operation table, at a bucket.
func requestsOf(bucketName string) []sentRequest {
	var all []sentRequest
	values := map[string]string{"list-type": "2", "uploadId": "upload-1", "versionId": "version-1"}
	for _, op := range operations {
		target := map[pathLevel]string{serviceLevel: "/", pageLevel: "/-/presign?bucket=" + bucketName + "&key=a",
			bucketLevel: "/" + bucketName, objectLevel: "/" + bucketName + "/a.txt"}[op.level]
		var query []string
		if op.selector != "" {
			query = append(query, op.selector+"="+values[op.selector])
		}
		if strings.HasPrefix(op.name, "UploadPart") {
			query = append(query, "partNumber=1")
		}
		if len(query) > 0 {
			target += "?" + strings.Join(query, "&")
		}
		r := sentRequest{method: op.method, target: target}
		if op.header != "" {
			r.header = []string{op.header + ": /photos/source"}
		}
		all = append(all, r)
	}
	return all
}

var testKeys = map[string]string{"admin": adminKey, "user": userKey, "ro": readOnlyKey, "none": noneKey}

// What explain says is what the gateway does: over every row of the operation table, every
// role, and buckets that are allowed, forbidden and unknown. Of a request that is refused it
// has the status and the code, of one that is forwarded the line that the backend gets.
func TestExplainAgreesWithTheGateway(t *testing.T) {
	rec := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) })
	config := testConfig(rec.URL)
	g, explain := startGateway(t, config), newExplainer(t, config)
	for _, bucketName := range []string{"photos", "secret", "unknown"} {
		for _, r := range requestsOf(bucketName) {
			for userName := range testKeys {
				compareWithGateway(t, g, rec, explain, userName, r)
			}
		}
	}
}

// Refusals that the table does not have: by path, parameter, header, size, copy source and
// host.
func TestExplainAgreesWithTheGatewayOnOtherRefusals(t *testing.T) {
	rec := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) })
	for _, config := range []map[string]any{
		testConfig(rec.URL),
		testConfig(rec.URL, with("nested_keys", true), with("max_file_size", 10), with("server.domain", "s3.example"),
			with("server.cors", map[string]any{"allowed_origins": []any{"https://app.example"}})),
		testConfig(rec.URL, with("accounts.other", map[string]any{"endpoint_url": rec.URL + "/base", "access_key_id": testCredentials.AccessKeyID,
			"secret_access_key": testCredentials.SecretAccessKey, "buckets": []any{map[string]any{"name": "elsewhere", "bucket": "Backend_Name"}}}),
			with("users.user.allowed_buckets", []any{"photos", "elsewhere"})),
	} {
		g, explain := startGateway(t, config), newExplainer(t, config)
		for _, r := range []sentRequest{
			{"GET", "/photos/a/b", nil}, {"GET", "/photos/", nil}, {"GET", "/photos/%2e%2e/b", nil}, {"GET", "/photos//", nil},
			{"GET", "/Photos/a", nil}, {"GET", "/photos/a%zz", nil}, {"GET", "/photos/a%20b%2Bc;d", nil}, {"GET", "/-/other", nil},
			{"GET", "/" + "photos/" + strings.Repeat("k", maxKey+1), nil}, {"GET", "/photos/a#b", nil},
			{"GET", "/photos/a?append", nil}, {"GET", "/photos?max-keys=x", nil}, {"GET", "/photos?a=1&a=2", nil}, {"GET", "/photos?max-keys=3&x-id=ListObjects", nil},
			{"PATCH", "/photos/a", nil}, {"HEAD", "/", nil}, {"POST", "/", nil}, {"DELETE", "/-/presign", nil},
			{"PUT", "/photos/a", []string{"x-amz-acl: public-read"}}, {"PUT", "/photos/a", []string{"x-amz-acl: private"}},
			{"PUT", "/photos/a", []string{"x-amz-write-offset-bytes: 3"}}, {"PUT", "/photos/a", []string{"x-amz-meta-a: b", "x-other: c"}},
			{"GET", "/photos/a", []string{"Connection: x-amz-meta-a"}}, {"GET", "/photos/a", []string{"x-minio-extract: true"}},
			{"PUT", "/photos/a", []string{"x-amz-copy-source: /secret/b"}}, {"PUT", "/photos/a", []string{"x-amz-copy-source: /unknown/b"}},
			{"PUT", "/photos/a", []string{"x-amz-copy-source: /photos/b/c"}}, {"PUT", "/photos/a", []string{"x-amz-copy-source: photos"}},
			{"PUT", "/photos/a", []string{"x-amz-copy-source: /photos/b?versionId=x"}}, {"PUT", "/elsewhere/a", []string{"x-amz-copy-source: /photos/b"}},
			{"PUT", "/photos/a", []string{"x-amz-copy-source: /elsewhere/b"}}, {"GET", "/elsewhere/a%20b", nil}, {"GET", "/elsewhere?list-type=2", nil},
			{"PUT", "/photos/a", []string{"x-amz-content-sha256: nonsense"}}, {"PUT", "/photos/a", []string{"Content-MD5: AAAA"}},
			{"GET", "/a/b", []string{"Host: photos.s3.example"}}, {"GET", "/a", []string{"Host: secret.s3.example"}}, {"GET", "/a", []string{"Host: a_b.s3.example"}}, {"GET", "/a", []string{"Host: Photos.S3.example"}},
			{"OPTIONS", "/photos/a", []string{"Origin: https://app.example", "Access-Control-Request-Method: PUT"}}, {"OPTIONS", "/photos/a", nil},
			{"GET", "/-/presign?bucket=secret&key=a", nil}, {"GET", "/-/presign?bucket=photos&key=a&method=DELETE", nil},
			{"GET", "http://gateway.example/photos/a", nil},
			{"GET", "/photos/a", []string{"Content-Length: 1", "Content-Length: 1"}}, {"GET", "/photos/a", []string{"Content-Length: 1", "Content-Length: 2"}},
			{"GET", "/photos/a", []string{"Content-Length: -1"}}, {"PUT", "/photos/a", []string{"Transfer-Encoding: chunked"}}, {"PUT", "/photos/a", []string{"Transfer-Encoding: gzip"}},
			{"GET", "/photos/a", []string{"Host: bad host"}}, {"GET", "/photos/a", []string{"Host: a", "Host: b"}},
			{"GET", "/photos/a", []string{"Expect: foo"}}, {"PUT", "/photos/a", []string{"Expect: foo"}},
			{"GET", "/photos/a", []string{"x-other: " + strings.Repeat("o", 40<<10)}}, {"get", "/photos/a", nil}, {"PRI", "/photos/a", nil},
			{"GET", "/ph%6Ftos/a", nil}, {"GET", "/-/presign?bucket=%70hotos&key=a", nil}, {"GET", "/-/presign?bucket=s%65cret&key=a", nil},
			{"PUT", "/photos/a", []string{"x-amz-copy-source: /s%65cret/b"}}, {"PUT", "/elsewhere/a", []string{"x-amz-copy-source: %2Fph%6ftos%2Fb"}}, {"PUT", "/elsewhere/a", []string{"x-amz-copy-source: photos%2"}},
			{"PUT", "/-/ready", nil}, {"GET", "/-%2Fready", nil}, {"GET", "/-/ready/", nil},
		} {
			for userName := range testKeys {
				compareWithGateway(t, g, rec, explain, userName, r)
			}
		}
	}
}

// The health pages are answered before the gateway, with or without a right, unless the host names
// a bucket.
func TestExplainAgreesWithTheGatewayOnHealthPages(t *testing.T) {
	rec := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) })
	config := testConfig(rec.URL, with("nested_keys", true), with("server.domain", "s3.example"))
	p, explain := startReloadable(t, 0, config), newExplainer(t, config)
	for _, r := range []sentRequest{
		{"GET", "/-/healthy", nil}, {"GET", "/-/ready", nil}, {"HEAD", "/-/ready", nil}, {"GET", "/-/ready?x", nil}, {"GET", "/-/read%79", nil},
		{"GET", "/-/ready", []string{"Content-Length: 0"}}, {"GET", "/-/ready", []string{"Host: photos.s3.example"}}, {"GET", "http://photos.s3.example/-/healthy", nil},
	} {
		for _, userName := range []string{"admin", "user"} {
			compareWithGateway(t, p.testGateway, rec, explain, userName, r)
		}
	}
}

// compareWithGateway sends a request, with an empty body, to a gateway and to explain.
func compareWithGateway(t *testing.T, g *testGateway, rec *recorder, explain func(...string) (string, error), userName string, r sentRequest) {
	t.Helper()
	before := len(rec.requests())
	wire := slices.Clone(r.header)
	if !slices.ContainsFunc(wire, func(line string) bool { return strings.HasPrefix(line, "Host:") }) {
		wire = append(wire, "Host: gateway.example")
	}
	args := []string{"-user", userName, r.method, r.target}
	for _, line := range r.header {
		args = append(args, "-H", line)
	}
	if r.method == "PUT" || r.method == "POST" {
		wire, args = append(wire, "Content-Length: 0"), append(args, "-H", "Content-Length: 0")
	}
	body := ""
	switch {
	case slices.Contains(wire, "Transfer-Encoding: chunked"):
		body = "0\r\n\r\n"
	case slices.Contains(wire, "Content-Length: 1"):
		body = "x"
	}
	resp, _ := g.raw(r.method, fmt.Sprintf("%s %s HTTP/1.1\r\nX-Api-Key: %s\r\n%s\r\n\r\n%s", r.method, r.target, testKeys[userName], strings.Join(wire, "\r\n"), body))
	text, err := explain(args...)
	what := fmt.Sprintf("%s: %s %s %q", userName, r.method, shortened(r.target, 80), r.header)
	asked := rec.requests()[before:]
	switch {
	case len(asked) > 0:
		want := fmt.Sprintf("%s %s%s, signed for", asked[0].method, rec.URL, asked[0].uri)
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: forwarded as %s, and explain says %v:\n%s", what, want, err, text)
		}
	case resp.StatusCode < 400:
		if want := fmt.Sprintf("with the status %d", resp.StatusCode); err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: answered with %d, and explain says %v:\n%s", what, resp.StatusCode, err, text)
		}
	default:
		want := fmt.Sprintf(" %d before the gateway sees it", resp.StatusCode)
		if resp.Header.Get("X-Amz-Request-Id") != "" {
			line := g.lineOf(resp) // the answer to a HEAD has no code
			want = fmt.Sprintf(" %d %s (%s): ", resp.StatusCode, line["code"], line["reason"])
		}
		if err != errReported || !strings.Contains(text, want) {
			t.Errorf("%s: refused with%q, and explain says %v:\n%s", what, want, err, text)
		}
	}
}

// The settings that it names are those, and no others, with which the real gateway lets the
// request pass.
func TestExplainNamesTheSettingsToChange(t *testing.T) {
	config := testConfig("http://127.0.0.1:1", with("max_file_size", 2000), with("server.domain", "s3.example"))
	explain := newExplainer(t, config)
	for _, test := range []struct {
		args string
		want []string // lines after "it would pass with"; none: the request has to change
	}{
		{"-user ro PUT /photos/a", []string{`users.ro.role "user" (now "readonly")`}},
		{"-user user DELETE /photos/a?versionId=1", []string{`users.user.role "admin" (now "user")`}},
		{"-user user GET /secret/a", []string{`"secret" in users.user.allowed_buckets`}},
		{"-user none PUT /photos/a/b", []string{`"nested_keys": true (now false)`, `"photos" in users.none.allowed_buckets`}},
		{"-user admin GET /unknown/a", []string{`"unknown" in accounts.NAME.buckets of the account that has the bucket`}},
		{"-user ro GET /unknown/a", []string{`"unknown" in accounts.NAME.buckets of the account that has the bucket`, `"unknown" in users.ro.allowed_buckets`}},
		{"-user user GET /photos?policy", []string{`users.user.role "admin" (now "user")`, `"*" in users.user.allowed_buckets`}},
		{"-user admin PUT /photos/a -H Content-Length:2001", []string{"a larger max_file_size (now 2000)"}},
		{"-user user PUT /photos/a -H x-amz-acl:public-read", []string{`users.user.role "admin" (now "user")`}},
		{"-user user PUT /photos/a -H x-amz-copy-source:/secret/b", []string{`"secret" in users.user.allowed_buckets`}},
		{"-user user OPTIONS /photos/a -H Origin:https://app.example -H Access-Control-Request-Method:GET", []string{`server.cors with the origin "https://app.example" and this method and headers`}},
		{"-user user GET http://gateway.example/secret/a", []string{`"secret" in users.user.allowed_buckets`}},
		{"-user user GET /photos -H Host:secret.s3.example", []string{`"secret" in users.user.allowed_buckets`}},
		{"-user admin GET /photos/a?append", nil},
		{"-user admin PUT /photos", nil},
		{"-user admin POST /photos?delete -H Content-Length:99999999", nil}, // the bound of a document is no setting
	} {
		text, err := explain(strings.Fields(test.args)...)
		_, after, found := strings.Cut(text, "it would pass with\n")
		var got []string
		for line := range strings.Lines(after) {
			if line = strings.TrimSpace(line); line != "" && line != errReported.Error() {
				got = append(got, strings.TrimSuffix(line, errReported.Error()))
			}
		}
		if err != errReported || found != (test.want != nil) || !slices.Equal(got, test.want) {
			t.Errorf("explain %s = %v, %q, want %q\n%s", test.args, err, got, test.want, text)
		}
	}
}

// A document can't be given, so what follows it is told under a condition. The address is
// that which the gateway asks for a valid one.
func TestExplainTellsWhatFollowsADocument(t *testing.T) {
	rec := startRecorder(t, nil)
	config := testConfig(rec.URL)
	g, explain := startGateway(t, config), newExplainer(t, config)
	for target, document := range map[string]string{
		"/photos?delete":                 "<Delete><Object><Key>a</Key></Object></Delete>",
		"/photos/a?uploadId=u":           "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"e\"</ETag></Part></CompleteMultipartUpload>",
		"/photos/a?restore":              "<RestoreRequest><Days>1</Days></RestoreRequest>",
		"/photos/a?select&select-type=2": "<SelectObjectContentRequest><Expression>e</Expression></SelectObjectContentRequest>",
	} {
		before := len(rec.requests())
		g.do("POST", target, userKey, document)
		asked := rec.requests()[before:]
		if len(asked) != 1 {
			t.Fatalf("POST %s: the backend got %d requests, want 1", target, len(asked))
		}
		text, err := explain("POST", target, "-user", "user")
		if err != nil || !strings.Contains(text, "POST "+rec.URL+asked[0].uri+", signed") || !strings.Contains(text, "1024 bytes, assumed") || !strings.Contains(text, "reads the document first") {
			t.Errorf("explain POST %s = %v:\n%s\nwant %s, and that a document of an assumed size comes first", target, err, text, asked[0].uri)
		}
	}
}

// A copy between two accounts is a read from one and a write to the other, each under the name
// that the bucket has there.
func TestExplainTellsBothHalvesOfACopy(t *testing.T) {
	explain := newExplainer(t, testConfig("http://127.0.0.1:1", with("accounts.other", map[string]any{"endpoint_url": "http://127.0.0.1:2/base", "region": "eu-west-1",
		"access_key_id": "other-key-id", "secret_access_key": "other-secret", "buckets": []any{map[string]any{"name": "elsewhere", "bucket": "Backend_Name"}}})))
	text, err := explain("-user", "admin", "PUT", "/photos/b", "-H", "x-amz-copy-source: /elsewhere/a%20b", "-H", "x-foreign: 1")
	if err != nil {
		t.Fatalf("explain = %v\n%s", err, text)
	}
	rest := text
	for _, want := range []string{"x-foreign", "GET http://127.0.0.1:2/base/Backend_Name/a%20b, signed for accounts.other, region eu-west-1",
		"PUT http://127.0.0.1:1/photos/b, signed for accounts.main, region us-east-1"} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Errorf("explain of a copy =\n%swant %q, in this order", text, want)
		}
		rest = after
	}
}

// A body is assumed where the request needs one, and only there is it told.
func TestExplainAssumesASmallUpload(t *testing.T) {
	explain := newExplainer(t, testConfig("http://127.0.0.1:1"))
	for args, want := range map[string]bool{
		"PUT /photos/a":                               true,
		"PUT /photos/a -H Expect:100-continue":        true,
		"PUT /photos/a -H Content-Length:5":           false,
		"PUT /photos/a -H x-amz-copy-source:photos/b": false,
		"POST /photos/a?uploads":                      false,
		"GET /photos/a":                               false,
	} {
		text, err := explain(append(strings.Fields(args), "-user", "user")...)
		if got := strings.Contains(text, "1024 bytes, assumed"); err != nil || got != want {
			t.Errorf("explain %s = %v, assumed a body: %t, want %t\n%s", args, err, got, want, text)
		}
	}
}

// Nothing is asked: no backend, no Redis, no endpoint of credentials. All addresses here are
// those of a listener that accepts nothing.
func TestExplainAsksNobody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 100)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
			asked <- struct{}{}
		}
	}()
	address := listener.Addr().String()
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://"+address+"/credentials")
	explain := newExplainer(t, testConfig("http://"+address, with("rate_limit", map[string]any{"requests": 5, "redis_url": "redis://" + address}),
		with("accounts.main", map[string]any{"endpoint_url": "http://" + address, "credentials": "ecs", "buckets": []any{"photos", "secret"}})))
	for _, args := range []string{"GET /photos/a", "PUT /photos/a", "GET /photos", "HEAD /photos/a", "PUT /photos/a -H x-amz-copy-source:/photos/b", "GET /"} {
		text, err := explain(append(strings.Fields(args), "-user", "user")...)
		if err != nil || !strings.Contains(text, "5 requests in 1m0s, shared through Redis") {
			t.Errorf("explain %s = %v:\n%s", args, err, text)
		}
	}
	listener.Close()
	<-ended
	if len(asked) > 0 {
		t.Errorf("%d connections were made, want none", len(asked))
	}
}

// A user whose key is a digest can be asked for too, and so can one that is not there: the
// error names those that are.
func TestExplainKnowsUsersWithoutTheirKeys(t *testing.T) {
	sum := sha256.Sum256([]byte(userKey))
	explain := newExplainer(t, testConfig("http://127.0.0.1:1", with("users.user", map[string]any{"api_key_sha256": hex.EncodeToString(sum[:]), "role": "user", "allowed_buckets": []any{"photos"}})))
	if text, err := explain("-user", "user", "GET", "/photos/a"); err != nil {
		t.Errorf("explain = %v:\n%s", err, text)
	}
	if text, err := explain("-user", "user", "GET", "/-/presign?bucket=photos&key=a"); err == nil || !strings.Contains(text, "key_is_digest") {
		t.Errorf("explain of a presigned URL = %v:\n%s\nwant key_is_digest, as at the gateway", err, text)
	}
	_, err := explain("-user", "mallory", "GET", "/photos/a")
	if err == nil || exitStatus(err) != 2 || !strings.Contains(err.Error(), "admin, none, ro, user") {
		t.Errorf("explain -user mallory = %v, want status 2 and the names", err)
	}
}

func TestExplainRefusesAWrongCommandLine(t *testing.T) {
	explain := newExplainer(t, testConfig("http://127.0.0.1:1"))
	for _, test := range []struct {
		args []string
		want string
	}{
		{nil, "METHOD and PATH"},
		{[]string{"-user", "user", "GET"}, "METHOD and PATH"},
		{[]string{"-user", "user", "GET", "/photos", "more"}, "METHOD and PATH"},
		{[]string{"GET", "/photos"}, "-user"},
		{[]string{"-user", "user", "GET", "photos/a"}, "must begin with a slash"},
		{[]string{"-user", "user", "GET", "/photos/a b"}, "%20"},
		{[]string{"-user", "user", "GET", "/photos/a\r\nHost: x"}, "%20"},
		{[]string{"-user", "user", "G T", "/photos/a"}, "not a method"},
		{[]string{"-user", "user", "GET", "/photos/a", "-H", "nothing"}, "'name: value'"},
		{[]string{"-user", "user", "GET", "/photos/a", "-H", "a: b\r\nx-api-key: c"}, "can't have"},
		{[]string{"-user", "user", "GET", "/photos/a", "-H", "X-API-Key: " + userKey}, "leave it out"},
		{[]string{"-user", "user", "GET", "/photos/a", "-H", "authorization: " + userKey}, "leave it out"},
		{[]string{"-log", "x", "GET", "/photos"}, "one REQUEST_ID"},
		{[]string{"-log", "x", "/photos"}, "not the id"},
		{[]string{"-nonsense"}, "-nonsense"},
	} {
		if text, err := explain(test.args...); err == nil || exitStatus(err) != 2 || !strings.Contains(text, test.want) {
			t.Errorf("explain %q = %v, want status 2 and %q", test.args, err, test.want)
		}
	}
}

// What authenticates a presigned URL that somebody pastes is not shown.
func TestExplainShowsNoSignature(t *testing.T) {
	explain := newExplainer(t, testConfig("http://127.0.0.1:1"))
	const canary = "0123456789abcdef0123456789abcdef"
	for _, target := range []string{
		"/photos/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=user%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-SignedHeaders=host&X-Amz-Signature=" + canary + "&X-Amz-Security-Token=" + canary,
		"/photos/a%3FX-Amz-Signature=" + canary,
	} {
		text, _ := explain("-user", "user", "GET", target)
		if strings.Contains(text, canary) || !strings.Contains(text, "GetObject") {
			t.Errorf("explain GET %s shows the signature:\n%s", target, text)
		}
	}
}

// A locale that is not UTF-8 gets ASCII.
func TestExplainWritesASCIIWhereTheLocaleHasNoMore(t *testing.T) {
	explain := newExplainer(t, testConfig("http://127.0.0.1:1"))
	t.Setenv("LC_ALL", "C")
	text, err := explain("-user", "ro", "PUT", "/photos/a")
	if err == nil || !strings.Contains(text, "ERROR") || strings.ContainsFunc(text, func(c rune) bool { return c > '~' }) {
		t.Errorf("explain = %v:\n%s\nwant ASCII", err, text)
	}
}

// A line of the log for each kind of outcome, made by the gateway itself, and what explain
// says of it.
func TestExplainTellsWhatTheLogHas(t *testing.T) {
	missing := func(w http.ResponseWriter, r *http.Request) {
		switch key := strings.TrimPrefix(r.URL.Path, "/photos/"); key {
		case "ok":
			w.Write([]byte("hello"))
		case "cut":
			w.Header().Set("Content-Length", "9000000")
			w.Write(make([]byte, 1<<20))
		default:
			status, code, _ := strings.Cut(key, "-")
			n, _ := strconv.Atoi(status)
			w.Header().Set("Retry-After", "60") // so that nothing is asked again
			w.WriteHeader(n)
			fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
		}
	}
	rec := startRecorder(t, missing)
	g := startGateway(t, testConfig(rec.URL, with("users.user.rate_limit", map[string]any{"requests": 2}), with("accounts.dead",
		map[string]any{"endpoint_url": "http://127.0.0.1:1", "access_key_id": "a", "secret_access_key": "b", "buckets": []any{"dead-bucket"}})))
	for _, test := range []struct {
		method, target, key string
		want                []string
	}{
		{"GET", "/photos/ok", adminKey, []string{"the request was answered", "GetObject: GET /photos/ok", "answered 200"}},
		{"GET", "/photos/cut", adminKey, []string{"the answer broke off", "aborted"}},
		{"GET", "/photos/404-NoSuchKey", adminKey, []string{"no such object", "answered 404 NoSuchKey"}},
		{"GET", "/photos/404-NoSuchBucket", adminKey, []string{"no such bucket under the name", "correct photos in"}},
		{"GET", "/photos/403-AccessDenied", adminKey, []string{"refuses it to the account"}},
		{"GET", "/photos/403-SignatureDoesNotMatch", adminKey, []string{"502", "refuses the credentials of the account", "secret_access_key, or credentials, of accounts.main"}},
		{"GET", "/photos/403-RequestTimeTooSkewed", adminKey, []string{"clocks"}},
		{"GET", "/photos/400-AuthorizationHeaderMalformed", adminKey, []string{"another region"}},
		{"GET", "/photos/400-ExpiredToken", adminKey, []string{"session token"}},
		{"GET", "/photos/500-InternalError", adminKey, []string{"the backend failed"}},
		{"GET", "/photos/503-SlowDown", adminKey, []string{"asks for fewer requests"}},
		{"GET", "/photos/412-PreconditionFailed", adminKey, []string{"a condition of the request"}},
		{"GET", "/photos/416-InvalidRange", adminKey, []string{"a range within the object"}},
		{"GET", "/photos/409-Other", adminKey, []string{"answered 409 Other", "an error of its own"}},
		{"PUT", "/dead-bucket/x", adminKey, []string{"accepts no connection", "connection refused", "endpoint_url of accounts.dead"}},
		{"GET", "/photos/a", "", []string{"401", "no API key", "user", "not known"}},
		{"GET", "/photos/a", "wrong-key-0123456789", []string{"401", "of no user"}},
		{"PUT", "/photos/a", readOnlyKey, []string{"403", "higher role", "users.ro.role", "-user ro PUT '/photos/a'"}},
		{"GET", "/secret/a%20b", readOnlyKey, []string{"users.ro.allowed_buckets", "'/secret/a%20b'"}},
		{"GET", "/unknown/a", adminKey, []string{"404", "in no account"}},
		{"GET", "/photos/a/b", adminKey, []string{"400", "nested_keys", "GET of a path that is not in the log"}},
		{"GET", "/photos?max-keys=x", adminKey, []string{"400", "a parameter of the query"}},
		{"PATCH", "/photos/a", adminKey, []string{"405", "no such method"}},
		{"GET", "/photos/a?append", adminKey, []string{"501", "not known for the operation"}},
		{"GET", "/", userKey, []string{"answered"}},
		{"GET", "/", userKey, []string{"answered"}},
		{"GET", "/", userKey, []string{"429", "users.user.rate_limit"}},
	} {
		resp, _ := g.do(test.method, test.target, test.key, "")
		lines := g.lines()
		last := lines[len(lines)-1]
		if test.target == "/photos/cut" {
			test.want[1] = "the client must not take it"
		} else if id := resp.Header.Get("X-Amz-Request-Id"); last["request_id"] != id {
			t.Fatalf("%s %s: the last line is of %v, want %s", test.method, test.target, last["request_id"], id)
		}
		text := explainLine(t, g.log.String(), last["request_id"].(string))
		for _, want := range test.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s %s: explain says\n%swant %q", test.method, test.target, text, want)
			}
		}
	}
}

// explainLine returns what explain says of a request in a log.
func explainLine(t *testing.T, log, id string) string {
	t.Helper()
	t.Setenv("LC_ALL", "C.UTF-8")
	var out syncBuffer
	if err := explainLogged(streams{in: strings.NewReader(log), out: &out}, "-", id); err != nil {
		t.Errorf("explain %s = %v", id, err)
	}
	checkNoSecret(t, "the explanation", out.String())
	return out.String()
}

// Outcomes that take a broken peer are lines as docs/metrics-and-logs.md has them.
func TestExplainTellsRareOutcomes(t *testing.T) {
	for fields, want := range map[string]string{
		`"status":499,"user":"eve"`:                                               "the client left",
		`"status":200,"resumed":2,"upstream_status":206`:                          "broke off 2 times",
		`"status":503,"reason":"account_in_flight","bucket":"photos"`:             "max_in_flight of the account of photos",
		`"status":502,"reason":"backend_tls","account":"minio"`:                   "ca_file of accounts.minio",
		`"status":206,"aborted":true,"reason":"backend_broken","account":"minio"`: "must not take it for the whole; the backend broke",
		`"status":502,"upstream_status":400,"upstream_code":"AuthorizationHeaderMalformed","upstream_message":"the region is wrong","reason":"backend_region","expected_region":"eu-west-1","account":"aws"`: `set region of accounts.aws to "eu-west-1"`,
		`"status":403,"upstream_status":403,"upstream_code":"AccessDenied","upstream_message":"no\u001b[31m","reason":"backend_denied","account":"aws"`:                                                      `answered 403 AccessDenied after 0 ms: "no\x1b[31m"`,
		`"status":418,"upstream_status":418`:                                               "an error of its own",
		`"status":418,"reason":"of_a_later_version"`:                                       "reason     of_a_later_version",
		`"status":403,"upstream_status":0,"claimed_user":"eve"`:                            "eve was claimed",
		`"status":403,"reason":"role","code":"AccessDenied"`:                               "reason     role",
		`"status":404,"upstream_status":404,"bucket":"photos","key":"\u001b[31mred\n"`:     "%1B%5B31mred%0A",
		`"status":404,"upstream_status":404,"upstream_code":"NoSuchKey","key":"k"`:         "no such object",
		`"status":404,"upstream_status":404,"key":"k"`:                                     "no such object",
		`"status":404,"upstream_status":404,"upstream_code":"NoSuchBucketPolicy"`:          "the code says what it is",
		`"status":400,"reason":"header","message":"the header x-amz-odd is not supported"`: "message    the header x-amz-odd",
		`"status":404,"upstream_status":404,"upstream_code":"\u001b[31m"`:                  `"\x1b[31m"`,
	} {
		line := `{"time":"2026-11-26T10:00:00Z","level":"INFO","msg":"request","request_id":"0123456789ABCDEF",` + fields + "}\n"
		if text := explainLine(t, line, "0123456789ABCDEF"); !strings.Contains(text, want) || strings.Contains(text, "\x1b") {
			t.Errorf("explain of %s =\n%swant %q, and no control character", fields, text, want)
		}
	}
}

// The command that asks for a request again is given only where it would find the reason.
func TestExplainAsksAgainOnlyForWhatItDecides(t *testing.T) {
	for reason, want := range map[refusalReason]bool{
		reasonRole: true, reasonBucketNotAllowed: true, reasonUnknownBucket: true, reasonPath: true, reasonParameter: true, reasonHeader: true,
		reasonRateLimit: false, reasonInFlight: false, reasonAccountInFlight: false, reasonLimiterBusy: false, reasonMemory: false,
		reasonBodyCut: false, reasonBodyTimeout: false, reasonDigest: false, reasonDocument: false, reasonUnsignedHeader: false,
	} {
		line := fmt.Sprintf(`{"msg":"request","request_id":"0123456789ABCDEF","status":400,"user":"eve","method":"PUT","bucket":"photos","key":"a","reason":%q}`+"\n", reason)
		if text := explainLine(t, line, "0123456789ABCDEF"); strings.Contains(text, "s3-proxy explain") != want {
			t.Errorf("explain of the reason %s gives the command: %t, want %t\n%s", reason, !want, want, text)
		}
	}
}

// Logs are searched as they are kept: compressed, behind what a collector writes, beside lines of
// others, and by an id in any case.
func TestExplainFindsARequestInLogsAsTheyAreKept(t *testing.T) {
	line := `{"msg":"request","request_id":"0123456789ABCDEF","status":403,"reason":"role","code":"AccessDenied"}` + "\n"
	var compressed bytes.Buffer
	w := gzip.NewWriter(&compressed)
	io.WriteString(w, line)
	w.Close()
	for name, log := range map[string]string{
		"compressed":              compressed.String(),
		"without a last break":    strings.TrimSuffix(line, "\n"),
		"behind a prefix":         "2026-11-26T10:00:00Z pod-1 stdout F " + line,
		"behind text":             "Nov 26 10:00:00 host systemd[1]: Started.\n" + line,
		"behind a long line":      strings.Repeat("x", 10<<20) + "\n" + line,
		"behind a long JSON line": `{"msg":"` + strings.Repeat("{", 3*maxLogLine) + "\"}\n" + line,
	} {
		for _, id := range []string{"0123456789ABCDEF", "0123456789abcdef"} {
			if text := explainLine(t, log, id); !strings.Contains(text, "reason     role") {
				t.Errorf("%s: explain %s =\n%swant the request", name, id, text)
			}
		}
	}
	var out syncBuffer
	if err := explainLogged(streams{in: strings.NewReader(compressed.String()[:20]), out: &out}, "-", "0123456789ABCDEF"); err == nil {
		t.Error("a compressed log that is cut is taken for a whole one")
	}
}

func TestExplainSaysWhyALogHasNoSuchRequest(t *testing.T) {
	for _, test := range []struct{ log, want string }{
		{"", "no request 0123456789ABCDEF"},
		{`{"msg":"request","request_id":"FEDCBA9876543210"}` + "\n", "in 1 line;"},
		{`{"msg":"panic","request_id":"0123456789ABCDEF"}` + "\n", "no request"},
		{`time=2026-11-26T10:00:00Z msg=request request_id=0123456789ABCDEF` + "\n", "-log-format json"},
		{"{" + strings.Repeat("x", maxLogLine) + "\n", "no line is JSON"},
		{`{"msg":"request","request_id":"0123456789ABCDEF"`, "no request"}, // half written
	} {
		var out syncBuffer
		err := explainLogged(streams{in: strings.NewReader(test.log), out: &out}, "-", "0123456789ABCDEF")
		if err == nil || !strings.Contains(err.Error(), test.want) || exitStatus(err) != 1 || out.String() != "" {
			t.Errorf("explain of %.80q = %v, %q, want status 1 and %q", test.log, err, out.String(), test.want)
		}
	}
	if err := explainLogged(streams{}, filepath.Join(t.TempDir(), "absent.log"), "0123456789ABCDEF"); err == nil || !strings.Contains(err.Error(), "absent.log") {
		t.Errorf("explain of a file that is not there = %v, want its name", err)
	}
}
