package main

// The query: what it may hold, at what cost it is read, and how it is written.

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// traversals are values by which a server that keeps objects as files, or that
// joins a value to a path, would reach another place.
var traversals = []string{
	"..", "../../secret", "../../../../secret/k", "/../secret", "a/../../b", "a/..", `..\..\secret`, `a\..\..\b`, `..\../secret`, "../",
}

// controls are values that no token holds.
var controls = []string{"a\x00b", "a\nb", "a\r\nX-Evil: 1", "a\x1bb", "a\x7fb", "a\u0085b", "\t"}

// goodValues has a value for every parameter of the operation table that a client
// would send. What is not here takes none.
var goodValues = map[string]string{
	"list-type": "2", "encoding-type": "url", "fetch-owner": "true", "select-type": "2",
	"max-keys": "1000", "max-uploads": "10", "max-parts": "5", "part-number-marker": "0", "max-buckets": "7", "partNumber": "1", "expires": "60",
	"prefix": "a", "marker": "a", "key-marker": "a", "start-after": "a", "delimiter": "/",
	"uploadId": "u", "versionId": "null", "id": "report-1", "version-id-marker": "v", "upload-id-marker": "u", "continuation-token": "dG9rZW4=",
	"response-cache-control": "no-cache", "response-content-disposition": `attachment; filename="a b.txt"`, "response-content-encoding": "gzip",
	"response-content-language": "de-DE, en", "response-content-type": "text/html; charset=utf-8", "response-expires": "Thu, 01 Dec 1994 16:00:00 GMT",
	"bucket": "photos", "key": "k", "method": "PUT", "metadata": "true", "withUpdatedAt": "true",
}

// A row with one of its parameters: the query without it, in decoded form.
type rowParameter struct {
	op    *operation
	name  string
	query url.Values
}

// rowParameters returns every parameter of every row of the operation table.
func rowParameters() []rowParameter {
	var all []rowParameter
	for i := range operations {
		op := &operations[i]
		for _, name := range append(strings.Fields(op.params), op.selector) {
			if name = strings.Trim(name, "()"); name == "" {
				continue
			}
			r := specFor(op.name, "photos")
			query, err := url.ParseQuery(r.query)
			if err != nil {
				panic(err)
			}
			query.Del(name)
			all = append(all, rowParameter{op, name, query})
		}
	}
	return all
}

// ask sends a row's request, with one value for the parameter, on a connection that
// is kept, and returns the status.
func (p rowParameter) ask(t *testing.T, g *testGateway, value string) int {
	t.Helper()
	r := specFor(p.op.name, "photos")
	query := url.Values{p.name: {value}}
	for name, values := range p.query {
		query[name] = values
	}
	req, err := http.NewRequest(r.method, g.url+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.RawQuery = query.Encode()
	req.Header.Set("X-Api-Key", adminKey)
	for _, line := range r.header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s with %s=%q: %v", p.op.name, p.name, value, err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestTraversalInAnyParameterIsRefused(t *testing.T) {
	for _, nested := range []bool{false, true} {
		rec := startRecorder(t, answerAsS3)
		g := startGateway(t, testConfig(rec.URL, with("nested_keys", nested)))
		for _, p := range rowParameters() {
			values := append(slices.Clone(traversals), "a\x00b", "../"+goodValues[p.name], strings.Repeat("a", 5000))
			switch p.name {
			case "prefix", "marker", "key-marker", "start-after", "delimiter", "key", "bucket", "continuation-token":
				// Keys: control characters and backslashes are bytes of them.
			case "response-content-disposition":
				values = append(values[:len(values)-1], controls[:5]...) // free text of any length
			default:
				if strings.HasPrefix(p.name, "response-") {
					values = append(values[:len(values)-1], controls[:5]...)
					break
				}
				values = append(append(values, controls...), `a\b`)
			}
			for _, value := range values {
				if status := p.ask(t, g, value); status != 400 {
					t.Errorf("%s with %s=%.40q, nested_keys %t = %d, want 400", p.op.name, p.name, value, nested, status)
				}
			}
		}
		rec.wantNone(t)
		for _, p := range rowParameters() {
			if status := p.ask(t, g, goodValues[p.name]); status/100 != 2 {
				t.Errorf("%s with %s=%q = %d, want 2xx", p.op.name, p.name, goodValues[p.name], status)
			}
		}
	}
}

// The default is the strictest rule, so that a parameter which somebody adds to the
// table is safe; but it is to have the rule that fits it.
func TestEveryParameterHasARule(t *testing.T) {
	known := map[string]bool{}
	for _, p := range rowParameters() {
		known[p.name] = true
		if parameterRules[p.name] == nil {
			t.Errorf("the parameter %s of %s has no rule", p.name, p.op.name)
		}
		if p.name == p.op.selector && goodValues[p.name] == "" && parameterRules[p.name]("x") == nil {
			t.Errorf("the selector %s takes a value", p.name)
		}
	}
	for name := range parameterRules {
		if !known[name] {
			t.Errorf("there is a rule for %s, which no operation takes", name)
		}
	}
	for _, value := range append(append([]string{"", `a\b`, strings.Repeat("a", 1025)}, traversals...), controls...) {
		if err := checkParameter(parameter{"no-such-parameter", value}); err == nil {
			t.Errorf("a parameter without a rule may be %q", value)
		}
	}
}

// What services issue goes through as it is.
func TestIssuedTokensPass(t *testing.T) {
	rec := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(rec.URL))
	for _, test := range []struct{ issuer, name, value string }{
		{"AWS", "uploadId", "VXBsb2FkIElEIGZvciA2aWWpbmcncyBteS1tb3ZpZS5tMnRzIHVwbG9hZA"},
		{"AWS", "uploadId", "ibZBv_75gd9r8lH_gqXatLdxMVpAlj6ZQjEs.OwyF3953YdwbcQnMA2BLGn8Lx12fQNICtMw5KyteFeHw.Sjng--"},
		{"AWS", "versionId", "3/L4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40Nr8X8gdRQBpUMLUo"},
		{"AWS", "versionId", "null"},
		{"Ceph", "uploadId", "2~KV3Pcpwaq4Ekf7HhF6cKWDFXyXVJ6Mf"},
		{"Ceph", "versionId", "Fj.S8kEb-ZxJjSGfQ3wUuH7hpv5t1Ql"},
		{"MinIO", "uploadId", "MWE1YzNjYzEtYjBlNS00MGYyLTk0YjUtMjQ4MjM0ZjY0ZWI3LjI3ZjM0YzQxLWRhMDItNDJhMi1iOGM3LTAwYTFhZmQxMzk0Yg=="},
		{"MinIO", "versionId", "c7cf5f9e-7b6d-4e4f-9f64-1d6a3d3f8a47"},
		{"versitygw", "uploadId", "9b2f6d1e-8a34-4f0c-b7a1-0a5d9c3e7f21"},
		{"versitygw", "versionId", "01J8Z0M9Q7V6E1T2R3Y4K5N6PB"},
		{"SeaweedFS", "uploadId", "80f5a2a9f10c0f2f80e8d0c1d1a6d2a87f3e3d5c_1f2e3d4c-5b6a-7980-9a8b-7c6d5e4f3a2b"},
		{"Google", "versionId", "1360887697105000"},
		{"Backblaze", "uploadId", "4_z1a2b3c4d5e6f708192a3b4c5_f1000000000000001_d20260101_m000000_c001_v0001000_t0000_u01700000000000"},
	} {
		r := requestSpec{method: "GET", path: "/photos/k", query: test.name + "=" + uriEncode(test.value, true)}
		resp, body := g.do(r.method, r.target(), userKey, "")
		if seen := rec.requests(); resp.StatusCode != 200 || len(seen) == 0 || seen[len(seen)-1].uri != r.target() {
			t.Errorf("%s's %s %s = %d %s, want it forwarded", test.issuer, test.name, test.value, resp.StatusCode, body)
		}
		src, err := parseCopySource("photos/k?versionId="+uriEncode(test.value, true), false)
		if err != nil || src.version != test.value {
			t.Errorf("%s's %s in x-amz-copy-source = %q, %v", test.issuer, test.name, src.version, err)
		}
	}
	for _, test := range []struct{ name, value string }{
		{"continuation-token", "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="}, // AWS
		{"continuation-token", "a/b c.txt[minio_cache:v2,return:]"},             // MinIO, decoded
		{"continuation-token", "dir/.profile"},                                  // versitygw and SeaweedFS: the key
		{"continuation-token", "a\\b\n"},                                        // likewise
		{"continuation-token", ""},
		{"prefix", "\n"}, {"prefix", "."}, {"prefix", "dir/."}, {"prefix", "..."}, {"prefix", "a..b/"}, {"prefix", `a\b`}, {"prefix", ""}, {"prefix", "/"},
		{"start-after", "dir/.profile"}, {"delimiter", "."}, {"delimiter", "\\"}, {"delimiter", "%"}, {"delimiter", ""},
	} {
		resp, body := g.do("GET", "/photos?list-type=2&"+test.name+"="+uriEncode(test.value, true), userKey, "")
		if resp.StatusCode != 200 {
			t.Errorf("a list with %s=%q = %d %s, want 200", test.name, test.value, resp.StatusCode, body)
		}
	}
}

// The version of a copy's source, and the tokens in a document, obey the rule too.
func TestTraversalInVersionsIsRefused(t *testing.T) {
	for _, nested := range []bool{false, true} {
		rec := startRecorder(t, answerAsS3)
		g := startGateway(t, testConfig(rec.URL, with("nested_keys", nested)))
		for _, value := range append(append([]string{`a\b`}, traversals...), controls...) {
			for _, target := range []string{"/photos/k", "/photos/k?partNumber=1&uploadId=u"} {
				resp, body := g.do("PUT", target, adminKey, "", "x-amz-copy-source: photos/k?versionId="+uriEncode(value, true))
				wantError(t, resp, body, 400, "InvalidArgument")
			}
			if strings.ContainsAny(value, "\x00\x1b") {
				continue // no XML document can hold these
			}
			for _, member := range []string{"VersionId", "ETag", "LastModifiedTime", "Size"} {
				escaped := strings.NewReplacer("\r", "&#13;", "\n", "&#10;").Replace(value)
				resp, body := g.do("POST", "/photos?delete", adminKey, "<Delete><Object><Key>k</Key><"+member+">"+escaped+"</"+member+"></Object></Delete>")
				wantError(t, resp, body, 400, "InvalidArgument")
			}
			if t.Failed() {
				t.Fatalf("at %q, nested_keys %t", value, nested)
			}
		}
		rec.wantNone(t)
	}
}

func TestNumbersAreDigitsOnly(t *testing.T) {
	rec := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(rec.URL))
	numbers := 0
	for _, p := range rowParameters() {
		good := goodValues[p.name]
		if good == "" || strings.Trim(good, "0123456789") != "" {
			continue
		}
		numbers++
		for _, value := range []string{"+" + good, "-" + good, " " + good, good + " ", "0x" + good, good + ".0", good + "e0", "1_0", "٥", "", "99999999999999999999", strings.Repeat("0", 40) + good} {
			if status := p.ask(t, g, value); status != 400 {
				t.Errorf("%s with %s=%q = %d, want 400", p.op.name, p.name, value, status)
			}
		}
	}
	if numbers < 10 {
		t.Errorf("only %d parameters were found to be numbers", numbers)
	}
	rec.wantNone(t)
}

// A parameter without a name selects an operation that has no selector.
func TestParameterWithoutNameIsRefused(t *testing.T) {
	rec := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(rec.URL))
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
		for _, path := range []string{"/", "/photos", "/photos/k"} {
			for _, query := range []string{"=x", "=", "&=", "uploads&=x", "=x&=y"} {
				resp, body := g.do(method, path+"?"+query, adminKey, "")
				wantDenied(t, method, resp, body, 400, "InvalidArgument")
				if t.Failed() {
					t.Fatalf("at %s %s?%s", method, path, query)
				}
			}
		}
	}
	rec.wantNone(t)
	for i := range operations {
		if operations[i].takes("") {
			t.Errorf("%s takes a parameter without a name", operations[i].name)
		}
	}
}

func manyParameters(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&p%d", i)
	}
	return b.String()
}

// However long a query is, no more of it is decoded than a request may have.
func TestParametersAreBounded(t *testing.T) {
	if _, err := parseQuery(manyParameters(maxParameters)); err != nil {
		t.Errorf("parseQuery of %d parameters: %v", maxParameters, err)
	}
	if _, err := parseQuery(manyParameters(maxParameters + 1)); err == nil {
		t.Errorf("parseQuery took %d parameters", maxParameters+1)
	}
	if _, err := parseQuery(manyParameters(maxParameters-1) + "&p7"); err == nil {
		t.Error("parseQuery took one of many parameters twice")
	}
	most, more := manyParameters(maxParameters), manyParameters(100*maxParameters)
	allowed := testing.AllocsPerRun(10, func() { parseQuery(most) }) + 10
	if got := testing.AllocsPerRun(10, func() { parseQuery(more) }); got > allowed {
		t.Errorf("parseQuery of %d parameters allocates %g times, of a hundred times as many %g times", maxParameters, allowed, got)
	}
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, key := range []string{"", userKey} {
		resp, body := g.do("GET", "/photos/k?"+more[:30<<10], key, "")
		wantError(t, resp, body, 400, "InvalidArgument") // before anybody asks who it is
	}
	rec.wantNone(t)
}

func TestCanonicalQuery(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{"uploads", "uploads="},
		{"b=2&a=1", "a=1&b=2"},
		{"xA=1&x[=2", "x%5B=2&xA=1"}, // "%" sorts before "A"; "[" would not
		{"prefix=a+b%2Bc&delimiter=/", "delimiter=%2F&prefix=a%20b%2Bc"},
		{"a=&b", "a=&b="},
		{"k=a=b", "k=a%3Db"},
		{"&&a=1&", "a=1"},
	} {
		query, err := parseQuery(test.in)
		if err != nil {
			t.Errorf("parseQuery(%q): %v", test.in, err)
		}
		if got := canonicalQuery(query); got != test.want {
			t.Errorf("canonicalQuery(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestParseQueryRefuses(t *testing.T) {
	for _, in := range []string{"a=1;b=2", "a=%zz", "%zz=1", "a=%", "a=1&a=2", "uploads&uploads=", "x=1&%78=2", "=", "=1", "a&=b", "%00=1&%00=2"} {
		if query, err := parseQuery(in); err == nil {
			t.Errorf("parseQuery(%q) = %v, want an error", in, query)
		}
	}
}

// Canonicalizing twice changes nothing, and keeps every pair.
func FuzzCanonicalQuery(f *testing.F) {
	for _, seed := range []string{"", "uploads", "list-type=2&prefix=J", "xA=1&x[=2", "a=%2B+b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		query, err := parseQuery(raw)
		if err != nil {
			return
		}
		once := canonicalQuery(query)
		again, err := parseQuery(once)
		if err != nil || len(again) != len(query) || canonicalQuery(again) != once {
			t.Errorf("parseQuery(%q) = %v, %v: not what it was made of, %v", once, again, err, query)
		}
	})
}

func TestWithParameter(t *testing.T) {
	query := []parameter{{"a", "1"}, {"b", "2"}}
	for _, test := range []struct {
		name, value string
		want        []parameter
	}{
		{"c", "3", []parameter{{"a", "1"}, {"b", "2"}, {"c", "3"}}},
		{"a", "3", []parameter{{"b", "2"}, {"a", "3"}}},
		{"b", "", []parameter{{"a", "1"}, {"b", ""}}},
	} {
		if got := withParameter(query, test.name, test.value); !slices.Equal(got, test.want) {
			t.Errorf("withParameter(%s, %s) = %v, want %v", test.name, test.value, got, test.want)
		}
	}
	if !slices.Equal(query, []parameter{{"a", "1"}, {"b", "2"}}) {
		t.Errorf("withParameter changed its argument to %v", query)
	}
}

// Of two parameters with one name, the one that was checked need not be
// the one that a backend takes. Presigners write headers as parameters: of those
// the case does not matter, as it does not in headers.
func TestDuplicateParametersAreRefused(t *testing.T) {
	g, rec, other := startAccounts(t)
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
	target, _ := presignTarget("admin", adminKey, requestSpec{method: "GET", path: "/photos/k", query: "versionId=1"})
	for _, more := range []string{"&versionId=2", "&X-Amz-Signature=a", "&X-Amz-Expires=60", "&X-Amz-Credential=x", "&X-Amz-SignedHeaders=host"} {
		resp, body := g.do("GET", target+more, "", "")
		wantDenied(t, "GET", resp, body, 400, "InvalidArgument")
	}
	rec.wantNone(t)
	other.wantNone(t)
}

// Parameters are a set, and their names have one spelling: the order
// changes no verdict, and another case makes no other parameter of one, nor
// nothing of it.
func TestParametersAreASetOfExactNames(t *testing.T) {
	g, rec, other := startAccounts(t)
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
			for _, auth := range authMethods[:3] {
				name, key := userWith(row.role, "photos")
				resp, body := auth.send(g, name, key, requestSpec{method: row.method, path: "/photos/k", query: query})
				wantRefusal(t, row.method, resp, body, row.want)
				if t.Failed() {
					t.Fatalf("at %s %s, %s", row.method, query, auth.name)
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
		before := requestCount(rec)
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
	before := requestCount(rec)
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

// To remove a version is to remove it for good, so it takes the role
// admin, however it is asked for: in the query, however it is written, or in a
// document. And the version is never dropped, for then the newest would go.
func TestVersionIDIsBoundToItsRoleAndOperation(t *testing.T) {
	g, rec, other := startAccounts(t)
	// An empty one is none, which some servers take for the newest.
	for _, query := range []string{"versionId=", "versionId", "version%49d="} {
		for _, role := range []string{"admin", "user", "readonly"} {
			for _, method := range []string{"DELETE", "GET", "HEAD"} {
				name, key := userWith(role, "photos")
				resp, body := byKey(g, name, key, requestSpec{method: method, path: "/photos/k", query: query})
				wantDenied(t, method, resp, body, 400, "InvalidArgument")
			}
		}
	}
	for _, query := range []string{"versionId=abc", "versionId=null", "version%49d=abc", "x-id=DeleteObject&versionId=abc"} {
		for _, role := range []string{"user", "readonly"} {
			for _, auth := range authMethods {
				name, key := userWith(role, "photos")
				resp, body := auth.send(g, name, key, requestSpec{method: "DELETE", path: "/photos/k", query: query})
				wantDenied(t, "DELETE", resp, body, 403, "AccessDenied")
				if t.Failed() {
					t.Fatalf("at DELETE ?%s by %s, %s", query, role, auth.name)
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
			for _, auth := range authMethods {
				name, key := userWith(role, "photos")
				resp, body := auth.send(g, name, key, requestSpec{method: "POST", path: "/photos", query: "delete", body: "<Delete>" + document + "</Delete>"})
				wantDenied(t, "POST", resp, body, 403, "AccessDenied")
				if t.Failed() {
					t.Fatalf("at DeleteObjects of %.200s by %s, %s", document, role, auth.name)
				}
			}
		}
	}
	for _, method := range []string{"PUT", "POST"} {
		for _, role := range []string{"admin", "user", "readonly"} {
			name, key := userWith(role, "photos")
			resp, body := byKey(g, name, key, requestSpec{method: method, path: "/photos/k", query: "versionId=abc"})
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
		before := requestCount(rec)
		name, key := userWith(row.role, "photos")
		path, query, _ := strings.Cut(row.target, "?")
		resp, body := bySignature(g, name, key, requestSpec{method: row.method, path: path, query: query, body: row.body})
		seen := rec.requests()[before:]
		if resp.StatusCode >= 300 || len(seen) != 1 || seen[0].method != row.method || seen[0].uri != row.uri || !strings.Contains(seen[0].body, row.seen) {
			t.Errorf("%s %s = %d %s, the backend saw %v, want %s", row.method, row.target, resp.StatusCode, body, seen, row.uri)
		}
	}

	// An empty version is none, and must not go on as one.
	name, key := userWith("user", "photos")
	before := requestCount(rec)
	resp, body := byKey(g, name, key, requestSpec{method: "POST", path: "/photos", query: "delete", body: "<Delete>" + object("<VersionId></VersionId>") + "</Delete>"})
	for _, seen := range rec.requests()[before:] {
		if strings.Contains(seen.body, "VersionId") {
			t.Errorf("DeleteObjects with an empty version by a user = %d %s, and the backend got %s, want no version in it", resp.StatusCode, body, seen.body)
		}
	}
	other.wantNone(t)
}

// The same
// rules, whoever signed, and whatever the operation is.
func TestHeadersInPresignedQueryAreHeaders(t *testing.T) {
	g, rec, other := startAccounts(t)
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
			r := specFor(operation, "photos")
			send := func(where string, resp *http.Response, body string) {
				t.Helper()
				wantDenied(t, r.method, resp, body, row.want.status, row.want.code)
				if t.Failed() {
					t.Fatalf("at %s with %s in %s", r, row.header, where)
				}
			}
			name, key := userWith("user", "photos")
			q := r
			spelled := []string{http.CanonicalHeaderKey(field), field, strings.ToUpper(field)}[i%3]
			q.query = strings.TrimPrefix(q.query+"&"+spelled+"="+uriEncode(value, true), "&")
			resp, body := byKey(g, name, key, q)
			send("the query", resp, body)
			resp, body = bySignature(g, name, key, q)
			send("the query of a signed request", resp, body)
			q = r
			q.header = append(slices.Clone(q.header), row.header)
			resp, body = byPresignedURL(g, name, key, q)
			send("a presigned query", resp, body)
			resp, body = byKey(g, name, key, q)
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
