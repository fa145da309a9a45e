package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// operationAt returns the name of the operation that a backend is asked for, or "".
func operationAt(r *http.Request) string {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return ""
	}
	path := strings.Trim(r.URL.Path, "/")
	level := bucketLevel
	if strings.Contains(path, "/") {
		level = objectLevel
	}
	for _, row := range rowsOf(level, r.Method) {
		if row.selectedBy(r.Header, query) {
			return row.name
		}
	}
	return ""
}

// answerAsS3 is a backend that answers every operation, with as little as it may.
func answerAsS3(w http.ResponseWriter, r *http.Request) {
	name := operationAt(r)
	switch a := answerSpecs[name]; {
	case r.Method == "DELETE":
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "PUT" && a.kind == noBody:
		w.Header().Set("ETag", `"e"`)
	case a.kind == objectBytes:
		w.Header().Set("X-Amz-Tagging-Count", "0") // or a copy asks for the tags
		io.WriteString(w, "data")
	case a.kind == jsonDocument:
		io.WriteString(w, `{"Version":"2012-10-17","Statement":[]}`)
	case name == "DeleteObjects":
		batch, _ := parseDocument(r.Body, "Delete")
		io.WriteString(w, "<DeleteResult>")
		for i := range batch.children {
			if o := &batch.children[i]; o.name == "Object" {
				w.Write(appendElement(appendElement([]byte("<Deleted>"), "Key", o.child("Key")), "VersionId", o.child("VersionId")))
				io.WriteString(w, "</Deleted>")
			}
		}
		io.WriteString(w, "</DeleteResult>")
	case a.kind == xmlDocument:
		io.WriteString(w, sampleDocument(a.forms[0], sampleText))
	}
}

// sampleDocument returns a document with every element of a form. The texts are given by
// the paths of the elements, such as "/ListPartsResult/Part/Size".
func sampleDocument(form *answerForm, text func(path string) string) string {
	var b strings.Builder
	var write func(k *knownElement, path string)
	write = func(k *knownElement, path string) {
		name := strings.ReplaceAll(k.name, "*", "CRC32")
		path += "/" + name
		fmt.Fprintf(&b, "<%s>", name)
		switch {
		case k.is == owner:
			fmt.Fprintf(&b, "<ID>%s</ID><DisplayName>%s</DisplayName>", text(path+"/ID"), text(path+"/DisplayName"))
		case k.is == grantee:
			fmt.Fprintf(&b, "<ID>%s</ID><DisplayName>%s</DisplayName><EmailAddress>%s</EmailAddress>", text(path+"/ID"), text(path+"/DisplayName"), text(path+"/EmailAddress"))
		case k.is == failedKey:
			fmt.Fprintf(&b, "<Key>k</Key><Code>AccessDenied</Code><Message>%s</Message>", text(path+"/Message"))
		case len(k.children) == 0:
			b.WriteString(text(path))
		}
		for i := range k.children {
			write(&k.children[i], path)
		}
		fmt.Fprintf(&b, "</%s>", name)
	}
	write(&form.root, "")
	return b.String()
}

func sampleText(path string) string {
	switch path[strings.LastIndexByte(path, '/')+1:] {
	case "IsTruncated":
		return "false"
	case "Key":
		return "k"
	}
	return "1"
}

// documentRows are the operations whose answer is a document of the backend.
func documentRows() (rows []operation) {
	for _, op := range operations {
		if kind := answerSpecs[op.name].kind; kind == xmlDocument || kind == jsonDocument {
			rows = append(rows, op)
		}
	}
	return rows
}

// forwardedRows are the operations that reach a backend.
func forwardedRows() (rows []operation) {
	for _, op := range operations {
		if row := operationSpecs[op.name]; row.status < 300 && op.level != serviceLevel && op.level != pageLevel {
			rows = append(rows, op)
		}
	}
	return rows
}

// Every operation that reads says what it answers with.
func TestEveryReadHasAKindOfAnswer(t *testing.T) {
	names := map[string]bool{}
	for _, op := range operations {
		names[op.name] = true
		_, ok := answerSpecs[op.name]
		if reads := op.method == "GET" && op.level != serviceLevel && op.level != pageLevel; reads && !ok {
			t.Errorf("%s has no kind of answer", op.name)
		}
		if answerSpecs[op.name].kind == jsonDocument && op.action != actionBeyondBucket {
			t.Errorf("%s passes on what is not taken apart, and is for others than those who may do everything", op.name)
		}
	}
	for name, a := range answerSpecs {
		if !names[name] {
			t.Errorf("the answer of %s is of no operation", name)
		}
		for _, form := range a.forms {
			if form.list == nil && strings.Contains(sampleDocument(form, sampleText), "<IsTruncated>") {
				t.Errorf("%s can be truncated, and is not checked as a list", form.names[0])
			}
		}
	}
}

// canary is a text that identifies the backend in the tests of this file.
const canary = "CANARY-123456789012"

// identifying returns a text that identifies the backend, for elements that do, and for
// those that the gateway does not know.
func identifying(form *answerForm) func(path string) string {
	return func(path string) string {
		k := &form.root
		found := false
		for _, name := range strings.Split(path, "/")[2:] {
			if hint := 0; k != nil {
				k = k.child(name, &hint)
			}
			if k == nil || k.is == place || k.is == objectURL || k.is == publicBucket || k.is == objectKey {
				found = true
			}
		}
		if found {
			return "arn:aws:iam::" + canary + ":role/x"
		}
		return sampleText(path)
	}
}

// identify adds unknown elements and attributes to a document.
func identify(doc string) string {
	const unknown = `<Unknown><ID>` + canary + `</ID></Unknown><HostId>` + canary + `</HostId><Owner2 x="` + canary + `">` + canary + `</Owner2>`
	root, rest, _ := strings.Cut(doc, ">")
	doc = root + ` x="` + canary + `">` + unknown + rest
	for _, name := range []string{"Contents", "Version", "Upload", "Part", "Rule", "Deleted", "Grant", "TagSet"} {
		doc = strings.ReplaceAll(doc, "<"+name+">", "<"+name+` y="`+canary+`">`+unknown)
	}
	return "<?x " + canary + "?>" + doc + "<!-- " + canary + " -->"
}

// Nothing that identifies the backend or its owner reaches a client: no element or
// attribute, known or not, and no header. Users who may do everything see the places that
// a configuration names, and nothing else.
func TestNothingIdentifiesTheBackend(t *testing.T) {
	for _, op := range forwardedRows() {
		for n := range max(1, len(answerSpecs[op.name].forms)) {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				h := w.Header()
				for _, name := range []string{"Server", "Via", "X-Amz-Id-2", "X-Amz-Request-Id", "X-Amz-Cf-Id", "X-Amz-Bucket-Arn", "X-Amz-Owner", "X-Owner", "X-Served-By",
					"X-Backend", "X-Minio-Deployment-Id", "X-Rgw-Id", "X-Account-Id", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Server-Side-Encryption-Context",
					"X-Amz-Restore-Output-Path", "Content-Location", "Location", "Link", "Warning", "Set-Cookie", "Server-Timing", "X-Amz-Error-Message", "X-Amz-Unknown", "Refresh"} {
					h.Set(name, "arn:aws:kms:us-east-1:"+canary+":key/1")
				}
				switch a := answerSpecs[op.name]; a.kind {
				case xmlDocument:
					io.WriteString(w, identify(sampleDocument(a.forms[n], identifying(a.forms[n]))))
				case jsonDocument:
					io.WriteString(w, "{}") // all of a policy is places
				case objectBytes:
					io.WriteString(w, "data")
				default:
					if r.Method != "DELETE" {
						io.WriteString(w, "<Result><Owner>"+canary+"</Owner></Result>")
					}
				}
			})
			g := startGateway(t, testConfig(backend.URL, with("users.one", map[string]any{"api_key": crossKey, "role": "admin", "allowed_buckets": []any{"photos"}})))
			for _, key := range []string{adminKey, crossKey, userKey, readOnlyKey} {
				r := specFor(op.name, "photos")
				resp, body := byKey(g, "", key, r)
				var header bytes.Buffer
				resp.Header.Write(&header)
				if key == adminKey && resp.StatusCode >= 300 {
					t.Errorf("%s = %d %s, want a success", op.name, resp.StatusCode, body)
				}
				if key == adminKey && strings.Contains(strings.ReplaceAll(body, "arn:aws:iam::"+canary, ""), canary) {
					t.Errorf("%s tells an admin more than a place:\n%s", op.name, body)
				}
				if strings.Contains(header.String(), canary) || key != adminKey && strings.Contains(body, canary) {
					t.Errorf("%s tells the backend's identity:\n%s%s", op.name, header.String(), body)
				}
			}
		}
	}
}

// goodAnswer returns a successful answer to an operation, as a backend sends it.
func goodAnswer(name string) string {
	switch a := answerSpecs[name]; a.kind {
	case xmlDocument:
		return sampleDocument(a.forms[0], sampleText)
	case jsonDocument:
		return `{"Version":"2012-10-17"}`
	}
	return ""
}

func zipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

// The gateway asks for documents without compression, whatever the client accepts. It
// reads those that come with gzip, and refuses those with another coding.
func TestDocumentsAreAskedForUncompressed(t *testing.T) {
	for _, op := range documentRows() {
		for _, test := range []struct {
			coding, asked string // the coding of the answer, always or if it is asked for
			body          string
			status        int
		}{
			{"gzip", "gzip", zipped(goodAnswer(op.name)), 200},
			{"gzip", "", zipped(goodAnswer(op.name)), 200},
			{"x-gzip", "", zipped(goodAnswer(op.name)), 200},
			{"GZIP", "", zipped(goodAnswer(op.name)), 200},
			{"identity", "", goodAnswer(op.name), 200},
			{"gzip", "", zipped(goodAnswer(op.name))[:20], 502},
			{"gzip", "", goodAnswer(op.name), 502},
			{"br", "", goodAnswer(op.name), 502},
			{"gzip, gzip", "", zipped(zipped(goodAnswer(op.name))), 502},
		} {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.Contains(r.Header.Get("Accept-Encoding"), test.asked) {
					io.WriteString(w, goodAnswer(op.name))
					return
				}
				w.Header().Set("Content-Encoding", test.coding)
				io.WriteString(w, test.body)
			})
			g := startGateway(t, testConfig(backend.URL))
			r := specFor(op.name, "photos")
			r.header = append(r.header, "Accept-Encoding: gzip, br")
			resp, body := byKey(g, "", adminKey, r)
			if got := backend.requests()[0].header["Accept-Encoding"]; !slices.Equal(got, []string{"identity"}) {
				t.Errorf("%s: the backend saw Accept-Encoding %q, want identity", op.name, got)
			}
			whole := resp.StatusCode == 200 && resp.Header.Get("Test-Error") == "" && resp.Header.Get("Content-Encoding") == "" &&
				(strings.HasPrefix(body, "<?xml") && strings.HasSuffix(body, ">") || body == goodAnswer(op.name))
			if broken := resp.StatusCode == 502 || resp.Header.Get("Test-Error") != ""; whole != (test.status == 200) || !whole && !broken {
				t.Errorf("%s with the coding %q = %d %q %v, want %d", op.name, test.coding, resp.StatusCode, body, resp.Header, test.status)
			}
		}
	}
}

// A compressed error is understood too. If its coding is unknown, the status decides.
func TestCompressedErrorsAreUnderstood(t *testing.T) {
	const document = "<Error><Code>NoSuchTagSet</Code></Error>"
	for _, test := range []struct{ coding, body, code string }{
		{"gzip", zipped(document), "NoSuchTagSet"}, {"x-gzip", zipped(document), "NoSuchTagSet"}, {"br", document, "NoSuchKey"}, {"gzip", document, "NoSuchKey"},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", test.coding)
			w.WriteHeader(404)
			io.WriteString(w, test.body)
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, body := g.do("GET", "/photos/k", userKey, "", "Accept-Encoding: gzip")
		wantError(t, resp, body, 404, test.code)
	}
}

// The gateway does not decode the bytes of an object, neither in a read nor in a copy to
// another account.
func TestStoredEncodingsAreCopied(t *testing.T) {
	stored := zipped(strings.Repeat("hello ", 1000))
	source := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		if r.URL.Query().Has("tagging") {
			io.WriteString(w, zipped(`<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>`))
			return
		}
		w.Header().Set("ETag", `"e"`)
		if r.URL.Path == "/photos/transformed" {
			w.Header().Set("ETag", `W/"e"`)
		}
		io.WriteString(w, stored)
	})
	sink := startRecorder(t, answerAsS3)
	g := startGateway(t, twoAccounts(source.URL, sink.URL))
	if resp, body := g.do("GET", "/photos/k", userKey, ""); body != stored || resp.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("GET = %d bytes with %v, want the %d bytes stored", len(body), resp.Header, len(stored))
	}
	resp, body := g.do("PUT", "/faraway/copy", userKey, "", "x-amz-copy-source: photos/k", "Accept-Encoding: gzip")
	if puts := sink.requests(); resp.StatusCode != 200 || len(puts) != 1 || puts[0].body != stored || puts[0].header.Get("Content-Encoding") != "gzip" || puts[0].header.Get("X-Amz-Tagging") != "a=b" {
		t.Errorf("copy = %d %s, the target got %v, want the bytes, the encoding and the tags", resp.StatusCode, body, puts)
	}
	for _, seen := range source.requests()[1:] {
		if got := seen.header["Accept-Encoding"]; !slices.Equal(got, []string{"identity"}) {
			t.Errorf("%s asks for %q, want identity", seen.uri, got)
		}
	}
	resp, body = g.do("PUT", "/faraway/copy", userKey, "", "x-amz-copy-source: photos/transformed")
	wantError(t, resp, body, 502, "BadGateway")
	if n := len(sink.requests()); n != 1 {
		t.Errorf("the target got %d requests, want none for a source that was compressed on the way", n-1)
	}
}

// An error under a status of success is an error for the client, in the log and in the
// metrics. In operations for which S3 sends the status early, the client finds it in the
// document.
func TestErrorUnderSuccess(t *testing.T) {
	for _, op := range forwardedRows() {
		if answerSpecs[op.name].kind == objectBytes || op.method == "DELETE" || op.method == "HEAD" {
			continue
		}
		for _, test := range []struct {
			code   string
			status int
			want   string
		}{
			{"InternalError", 500, "InternalError"}, {"SlowDown", 503, "SlowDown"}, {"NoSuchUpload", 404, "NoSuchUpload"},
			{"SomethingNew", 500, "SomethingNew"}, {"SignatureDoesNotMatch", 502, "BadGateway"}, {"", 500, "InternalError"},
		} {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "<Error><Code>"+test.code+"</Code><Message>"+canary+"</Message></Error>")
			})
			g := startGateway(t, testConfig(backend.URL))
			resp, body := byKey(g, "", adminKey, specFor(op.name, "photos"))
			slow := op.name == "CompleteMultipartUpload" || op.name == "CopyObject" || op.name == "UploadPartCopy"
			want := test.status
			if slow {
				want = 200
			}
			if resp.StatusCode != want || !strings.Contains(body, test.want) || strings.Contains(body, canary) {
				t.Errorf("%s with %s under 200 = %d %s, want %d %s", op.name, test.code, resp.StatusCode, body, want, test.want)
			}
			await(t, "the log line", func() bool { return len(g.lines()) == 1 })
			if line := g.lines()[0]; line["status"] != float64(test.status) || line["upstream_status"] != 200.0 || line["cause"] == nil || test.code != "" && line["upstream_code"] != test.code {
				t.Errorf("%s with %s under 200: the log has %v, want the status %d and the cause", op.name, test.code, line, test.status)
			}
			counted := int64(0)
			g.gw.metrics.requests.each(func(l labels, n *atomic.Int64) {
				if l[3] == op.name && l[4] == fmt.Sprint(test.status) {
					counted += n.Load()
				}
			})
			if counted != 1 {
				t.Errorf("%s with %s under 200 is counted %d times with the code %d, want once", op.name, test.code, counted, test.status)
			}
		}
	}
}

// An answer with the document of another operation is refused.
func TestOtherDocumentsAreRefused(t *testing.T) {
	for _, op := range documentRows() {
		for name, document := range map[string]string{
			"nothing": "", "another root": "<Something/>", "text": "done", "cut": goodAnswer(op.name)[:len(goodAnswer(op.name))-2],
			"a second root":   goodAnswer(op.name) + "<Error><Code>InternalError</Code></Error>",
			"a document type": `<!DOCTYPE x [<!ENTITY e "x">]>` + goodAnswer(op.name), "HTML": "<!DOCTYPE html><html></html>",
		} {
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, document) })
			g := startGateway(t, testConfig(backend.URL))
			resp, body := byKey(g, "", adminKey, specFor(op.name, "photos"))
			if resp.StatusCode != 502 && resp.Header.Get("Test-Error") == "" {
				t.Errorf("%s, %s = %d %s, want a 502 or an answer that breaks off", op.name, name, resp.StatusCode, body)
			}
		}
	}
}

// An answer must have its result: a copy without an ETag, or an upload without its ID, is
// not a success.
func TestAnswersWithoutTheirResultAreRefused(t *testing.T) {
	for name, document := range map[string]string{
		"CopyObject": "<CopyObjectResult><LastModified>2026-01-02T03:04:05Z</LastModified></CopyObjectResult>", "UploadPartCopy": "<CopyPartResult/>",
		"CompleteMultipartUpload": "<CompleteMultipartUploadResult><Key>k</Key></CompleteMultipartUploadResult>",
		"CreateMultipartUpload":   "<InitiateMultipartUploadResult><Key>k</Key></InitiateMultipartUploadResult>",
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, document) })
		g := startGateway(t, testConfig(backend.URL))
		resp, body := byKey(g, "", adminKey, specFor(name, "photos"))
		if resp.StatusCode != 502 && resp.Header.Get("Test-Error") == "" {
			t.Errorf("%s = %d %s, want a 502 or an answer that breaks off", name, resp.StatusCode, body)
		}
	}
	source, sink := startRecorder(t, answerAsS3), startRecorder(t, nil)
	g := startGateway(t, twoAccounts(source.URL, sink.URL))
	resp, body := g.do("PUT", "/faraway/k", userKey, "", "x-amz-copy-source: photos/k")
	wantError(t, resp, body, 502, "BadGateway")
}

// Some servers have other names for some documents. A client gets those of S3.
func TestDocumentsHaveTheNamesOfS3(t *testing.T) {
	for _, op := range documentRows() {
		for _, form := range answerSpecs[op.name].forms {
			for _, name := range form.names {
				document := strings.ReplaceAll(strings.ReplaceAll(sampleDocument(form, sampleText), "<"+form.names[0]+">", "<"+name+">"), "</"+form.names[0]+">", "</"+name+">")
				backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, document) })
				g := startGateway(t, testConfig(backend.URL))
				resp, body := byKey(g, "", adminKey, specFor(op.name, "photos"))
				if want := "<" + form.names[0] + ` xmlns="` + s3Namespace + `">`; resp.StatusCode != 200 || !strings.Contains(body, want) {
					t.Errorf("%s with a %s = %d %s, want a %s", op.name, name, resp.StatusCode, body, form.names[0])
				}
			}
		}
	}
}

// In an access control list the user is the owner, as in a list of buckets, and everybody
// else is one other account.
func TestACLsNameTheUser(t *testing.T) {
	grant := func(grantee string) string {
		return `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="X">` + grantee + `</Grantee><Permission>READ</Permission></Grant>`
	}
	const user, group, other = `xsi:type="CanonicalUser"><ID>user</ID><DisplayName>user</DisplayName></Grantee>`,
		`xsi:type="Group"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>`, `xsi:type="CanonicalUser"><ID>another-account</ID><DisplayName>another-account</DisplayName></Grantee>`
	for _, test := range []struct{ owner, grantee, want string }{
		{"<ID>o</ID><DisplayName>n</DisplayName>", "<ID>o</ID><DisplayName>n</DisplayName>", user},
		{"<ID>o</ID>", "<DisplayName>n</DisplayName><ID>p</ID>", other},
		{"<ID></ID>", "<Type>CanonicalUser</Type>", user}, // MinIO
		{"<ID>o</ID>", "<URI>http://acs.amazonaws.com/groups/global/AllUsers</URI>", group},
		{"<ID>o</ID>", "<URI>http://backend.example/groups/x</URI>", other},
		{"<ID></ID>", "<EmailAddress>a@b.example</EmailAddress>", other},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "<AccessControlPolicy><AccessControlList>"+grant(test.grantee)+"</AccessControlList><Owner>"+test.owner+"</Owner></AccessControlPolicy>")
		})
		g := startGateway(t, testConfig(backend.URL))
		for _, target := range []string{"/photos?acl", "/photos/k?acl"} {
			_, body := g.do("GET", target, userKey, "")
			if !strings.Contains(body, test.want) || !strings.Contains(body, "<Owner><ID>user</ID><DisplayName>user</DisplayName></Owner>") || strings.Contains(body, "example") {
				t.Errorf("GET %s with the owner %s and the grantee %s = %s, want %s", target, test.owner, test.grantee, body, test.want)
			}
		}
	}
}

// An operation that takes minutes answers 200 before it is done, sends
// white space meanwhile, and may then say that it failed. All of that passes, the
// failure is logged, and the write is sent once.
func TestErrorAfterStatus200IsAnError(t *testing.T) {
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
			r := specFor(row.operation, "photos")
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
			resp, body := g.do("POST", "/photos/k?uploadId=u", userKey, completeDocument)
			if whole := resp.StatusCode == 200 && resp.Header.Get("Test-Error") == "" && strings.Contains(body, "</CompleteMultipartUploadResult>"); whole != row.whole {
				t.Errorf("answer = %d %q %s, want it whole: %t", resp.StatusCode, body, resp.Header.Get("Test-Error"), row.whole)
			}
		})
	}
}
