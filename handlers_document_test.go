package main

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
)

// documentRequest returns a method and a target for an operation of the table, in
// the bucket photos.
func documentRequest(op operation) (method, target string, header []string) {
	target = map[pathLevel]string{serviceLevel: "/", pageLevel: "/-/presign", bucketLevel: "/photos", objectLevel: "/photos/k"}[op.level]
	switch op.selector {
	case "":
	case "uploadId":
		target += "?uploadId=u"
	case "list-type":
		target += "?list-type=2"
	default:
		target += "?" + op.selector
	}
	if strings.HasPrefix(op.name, "UploadPart") {
		target += "&partNumber=1"
	}
	if op.name == "SelectObjectContent" {
		target += "&select-type=2"
	}
	if op.header == copySource {
		header = []string{"x-amz-copy-source: /photos/a"}
	}
	return op.method, target, header
}

// What is no object reaches a backend only as a document that was read: whatever
// the operation, and those that take nothing pass nothing on.
func TestNoOperationForwardsABodyThatIsNotItsOwn(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	for _, op := range operations {
		if op.name == "PutObject" || op.name == "UploadPart" { // bodies are theirs to store
			continue
		}
		method, target, header := documentRequest(op)
		for _, body := range []string{"some text", "<Unknown/>"} {
			before := len(backend.requests())
			resp, answer := g.do(method, target, adminKey, body, append(header, "Content-Type: application/xml")...)
			if resp.StatusCode == 0 {
				t.Errorf("%s with the body %q: no answer", op.name, body)
			}
			for _, seen := range backend.requests()[before:] {
				if seen.body != "" {
					t.Errorf("%s: the backend got the body %q (answer %d %s)", op.name, seen.body, resp.StatusCode, answer)
				}
				if documents[op.name] != nil {
					t.Errorf("%s with the body %q was forwarded", op.name, body)
				}
			}
		}
	}
	for name := range documents {
		if !slices.ContainsFunc(operations, func(op operation) bool { return op.name == name }) {
			t.Errorf("there is a document for %s, which is no operation", name)
		}
	}
}

// nested is a document of a root, and elements within each other.
func nested(root string, depth int) string {
	return "<" + root + ">" + strings.Repeat("<x>", depth-1) + strings.Repeat("</x>", depth-1) + "</" + root + ">"
}

func utf16Of(s string) string {
	b := []byte{0xfe, 0xff}
	for _, unit := range utf16.Encode([]rune(s)) {
		b = append(b, byte(unit>>8), byte(unit))
	}
	return string(b)
}

// attacksOnXML are documents that an operation must not take, made of one that it
// takes.
func attacksOnXML(root, good string, depth int) map[string]string {
	return map[string]string{
		"no document":       "",
		"text":              "not a document",
		"JSON":              `{"a":"b"}`,
		"another root":      "<Unknown/>",
		"a root in a root":  "<Unknown>" + good + "</Unknown>",
		"root in lowercase": strings.ReplaceAll(good, root, strings.ToLower(root)),
		"a document type":   "<!DOCTYPE " + root + ">" + good,
		"an entity":         "<!DOCTYPE " + root + ` [<!ENTITY x "y">]>` + good,
		"external entity":   "<!DOCTYPE " + root + ` [<!ENTITY x SYSTEM "file:///etc/passwd">]><` + root + ">&x;</" + root + ">",
		"unknown entity":    "<" + root + ">&x;</" + root + ">",
		"many levels":       strings.Repeat("<"+root+">", 2_000),
		"one level more":    nested(root, depth+1),
		"UTF-16":            utf16Of(`<?xml version="1.0" encoding="UTF-16"?>` + good),
		"UTF-16 by name":    `<?xml version="1.0" encoding="UTF-16"?>` + good,
		"not UTF-8":         "<" + root + ">\xff</" + root + ">",
		"XML 1.1":           `<?xml version="1.1"?>` + good,
		"second root":       good + good,
		"bytes after it":    good + "x",
		"a NUL after it":    good + "\x00",
		"an instruction":    good + "<?x?>",
		"text before it":    "x" + good,
		"other namespace":   "<" + root + ` xmlns="urn:x"/>`,
		"unknown prefix":    "<x:" + root + "/>",
		"foreign element":   "<" + root + ` xmlns:x="urn:x"><x:y/></` + root + ">",
		"cut":               strings.TrimSuffix(good, ">"),
		"text in the root":  "<" + root + ">text<Rule/></" + root + ">",
		"control character": "<" + root + ">\x01</" + root + ">",
		"two marks":         "\ufeff\ufeff" + good,
	}
}

// attacksOnJSON are the same for a policy.
var attacksOnJSON = map[string]string{
	"no document":    "",
	"text":           "not a document",
	"XML":            "<Policy/>",
	"an array":       "[]",
	"null":           "null",
	"two objects":    "{}{}",
	"text after it":  "{} x",
	"a byte order":   "\ufeff{}",
	"UTF-16":         utf16Of("{}"),
	"not UTF-8":      "{\"a\":\"\xff\"}",
	"a name twice":   `{"Statement":[],"Statement":[]}`,
	"by another":     `{"Statement":[],"st\u0061tement":[]}`,
	"twice, deeper":  `{"Statement":[{"Effect":"Allow","Effect":"Deny"}]}`,
	"half a million": strings.Repeat("[", 10_000),
	"deep":           `{"a":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}`,
	"cut":            `{"a":`,
	"a comment":      `{/**/}`,
}

func TestRequestDocumentsAreHeldToTheirOperation(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	tested := 0
	for _, op := range operations {
		rule := documents[op.name]
		if rule == nil {
			continue
		}
		tested++
		attacks, code := attacksOnJSON, "MalformedPolicy"
		if !rule.json {
			attacks, code = attacksOnXML(rule.form.root, documentExamples[op.name], rule.form.depth), "MalformedXML"
		}
		method, target, header := documentRequest(op)
		for _, name := range slices.Sorted(maps.Keys(attacks)) {
			resp, body := g.do(method, target, adminKey, attacks[name], header...)
			if resp.StatusCode != 400 || !strings.Contains(body, `"`+code+`"`) {
				t.Errorf("%s with %s = %d %s, want 400 %s", op.name, name, resp.StatusCode, body, code)
			}
			checkHardened(t, resp)
		}
		resp, body := g.do(method, target, adminKey, strings.Repeat(" ", int(rule.size)+1), header...)
		wantError(t, resp, body, 413, "EntityTooLarge")
	}
	if tested != len(documents) {
		t.Errorf("%d of %d documents belong to operations", tested, len(documents))
	}
	// Half a million elements within each other, once: the size of it takes its time.
	resp, body := g.do("PUT", "/photos?lifecycle", adminKey, strings.Repeat("<a>", 500_000))
	wantError(t, resp, body, 400, "MalformedXML")
	backend.wantNone(t)
}

// documentTokens are the names, texts and xsi:types of a document, without layout,
// as encoding/xml reads them.
func documentTokens(t *testing.T, doc string) (tokens []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(doc))
	for text := ""; ; {
		token, err := d.Token()
		if err == io.EOF {
			return tokens
		}
		if err != nil {
			t.Fatalf("%v in %q", err, shortened(doc, 200))
		}
		switch token := token.(type) {
		case xml.StartElement:
			line := "<" + token.Name.Local
			for _, a := range token.Attr {
				if a.Name.Space == "http://www.w3.org/2001/XMLSchema-instance" {
					line += " " + a.Name.Local + "=" + a.Value
				}
			}
			tokens, text = append(tokens, line), ""
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
			if strings.HasPrefix(tokens[len(tokens)-1], "<") {
				tokens = append(tokens, text)
			}
			tokens, text = append(tokens, "/"+token.Name.Local), ""
		}
	}
}

func md5Of(s string) string {
	digest := md5.Sum([]byte(s))
	return base64.StdEncoding.EncodeToString(digest[:])
}

// What AWS's own pages show is forwarded, and means the same: with or without a
// namespace, a byte order mark, and a digest.
func TestDocumentedRequestDocumentsAreForwarded(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	for _, op := range operations {
		rule := documents[op.name]
		if rule == nil {
			continue
		}
		example := documentExamples[op.name]
		if example == "" {
			t.Errorf("there is no example for %s", op.name)
			continue
		}
		method, target, header := documentRequest(op)
		sent := []struct{ doc, header string }{{example, "Content-MD5: " + md5Of(example)}}
		if !rule.json {
			whole := "\ufeff" + xmlHeader + "<!-- a comment -->\n" + example + "\n"
			sent = append(sent, struct{ doc, header string }{whole, "x-amz-content-sha256: " + hex.EncodeToString(sha256Of([]byte(whole)))})
		}
		for _, send := range sent {
			before := len(backend.requests())
			resp, body := g.do(method, target, adminKey, send.doc, append(header, send.header)...)
			seen := backend.requests()[before:]
			if resp.StatusCode != 200 || len(seen) != 1 {
				t.Errorf("%s = %d %s, the backend got %d requests, want 200, 1", op.name, resp.StatusCode, body, len(seen))
				continue
			}
			got := seen[0]
			if rule.json && got.body != example {
				t.Errorf("%s: the backend got %q, want %q", op.name, got.body, example)
			}
			if !rule.json && !slices.Equal(documentTokens(t, got.body), documentTokens(t, example)) {
				t.Errorf("%s: the backend got %q, want what is in %q", op.name, got.body, example)
			}
			checkHeaders(t, op.name, got.header, map[string]string{
				"Content-Md5": md5Of(got.body), "X-Amz-Content-Sha256": hex.EncodeToString(sha256Of([]byte(got.body))),
			})
		}
	}
}

// A document that S3 does without is not asked for.
func TestACLInHeadersNeedsNoDocument(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	for _, target := range []string{"/photos?acl", "/photos/k?acl"} {
		for _, header := range []string{"x-amz-acl: private", "x-amz-grant-read: id=1"} {
			if resp, body := g.do("PUT", target, adminKey, "", header); resp.StatusCode != 200 {
				t.Errorf("PUT %s with %s = %d %s, want 200", target, header, resp.StatusCode, body)
			}
			resp, body := g.do("PUT", target, adminKey, "<AccessControlPolicy>", header)
			wantError(t, resp, body, 400, "MalformedXML")
		}
	}
	if n := len(backend.requests()); n != 4 {
		t.Errorf("the backend got %d requests, want 4", n)
	}
}

// What a document names is in the backend's terms, and nobody has authorized it.
func TestRestoreToAnotherPlaceIsNotImplemented(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	for element, inside := range map[string]string{
		"OutputLocation":   "<S3><BucketName>secret</BucketName><Prefix>p</Prefix></S3>",
		"Type":             "SELECT",
		"SelectParameters": "<Expression>SELECT * FROM object</Expression>",
	} {
		for _, key := range []string{userKey, adminKey} {
			resp, body := g.do("POST", "/photos/k?restore", key, "<RestoreRequest><Days>1</Days><"+element+">"+inside+"</"+element+"></RestoreRequest>")
			wantError(t, resp, body, 501, "NotImplemented")
			if !strings.Contains(body, element) {
				t.Errorf("the answer %s does not name %s", body, element)
			}
		}
	}
	backend.wantNone(t)
}

// Users who are no admins send nothing in a document that S3 does not have in it.
func TestUnknownElementsAreForAdmins(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	for _, op := range operations {
		rule := documents[op.name]
		if rule == nil || rule.json || op.action != actionRead && op.action != actionWrite {
			continue
		}
		method, target, header := documentRequest(op)
		example := regexp.MustCompile(`<VersionId>.*</VersionId>`).ReplaceAllString(documentExamples[op.name], "")
		end := strings.LastIndex(example, "</")
		resp, body := g.do(method, target, userKey, example[:end]+"<TargetBucket>secret</TargetBucket>"+example[end:], header...)
		wantError(t, resp, body, 400, "MalformedXML")
	}
	backend.wantNone(t)
}

func TestCompleteMultipartUploadDocument(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	part := func(number, rest string) string {
		return "<Part><PartNumber>" + number + "</PartNumber><ETag>e</ETag>" + rest + "</Part>"
	}
	for _, test := range []struct{ parts, code string }{
		{"", "MalformedXML"},
		{part("0", ""), "MalformedXML"},
		{part("-1", ""), "MalformedXML"},
		{part("+1", ""), "MalformedXML"},
		{part(" 1", ""), "MalformedXML"},
		{part("0x1", ""), "MalformedXML"},
		{part("10001", ""), "MalformedXML"},
		{part("18446744073709551617", ""), "MalformedXML"},
		{part("", ""), "MalformedXML"},
		{"<Part><ETag>e</ETag></Part>", "MalformedXML"},
		{"<Part/>", "MalformedXML"},
		{part("1", "<PartNumber>2</PartNumber>"), "MalformedXML"},
		{part("1", "<ETag>f</ETag>"), "MalformedXML"},
		{part("1", "<Key>../secret</Key>"), "MalformedXML"},
		{part("1", "<Checksum><X/></Checksum>"), "MalformedXML"},
		{part("1", "<ChecksumSHA512>"+strings.Repeat("A", 129)+"</ChecksumSHA512>"), "MalformedXML"},
		{part("2", "") + part("1", ""), "InvalidPartOrder"},
		{part("1", "") + part("1", ""), "InvalidPartOrder"},
		{part("9", "") + part("10", "") + part("2", ""), "InvalidPartOrder"},
		{"<Part><PartNumber>1</PartNumber><ETag>../../secret</ETag></Part>", "InvalidArgument"},
		{"<Part><PartNumber>1</PartNumber><ETag>" + strings.Repeat("e", 1025) + "</ETag></Part>", "InvalidArgument"},
	} {
		resp, body := g.do("POST", "/photos/k?uploadId=u", userKey, "<CompleteMultipartUpload>"+test.parts+"</CompleteMultipartUpload>")
		wantError(t, resp, body, 400, test.code)
		if t.Failed() {
			t.Fatalf("that was %s", shortened(test.parts, 200))
		}
	}
	backend.wantNone(t)

	// The longest list: 10,000 parts with the longest digest, in layout.
	var b strings.Builder
	b.WriteString(xmlHeader + `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + "\n")
	for n := 1; n <= 10_000; n++ {
		fmt.Fprintf(&b, "  <Part><ETag>&quot;%032x&quot;</ETag><PartNumber>%d</PartNumber><ChecksumSHA512>%s</ChecksumSHA512></Part>\n", n, n, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(n)}, 64)))
	}
	b.WriteString("</CompleteMultipartUpload>")
	checksum := "x-amz-checksum-sha512: of the object, not of the document"
	resp, body := g.do("POST", "/photos/k?uploadId=u", userKey, b.String(), checksum, "x-amz-checksum-crc32: AAAAAA==", "x-amz-checksum-type: FULL_OBJECT")
	seen := backend.requests()
	if resp.StatusCode != 200 || len(seen) != 1 {
		t.Fatalf("10,000 parts in %d bytes = %d %s, and %d requests at the backend", b.Len(), resp.StatusCode, body, len(seen))
	}
	if !slices.Equal(documentTokens(t, seen[0].body), documentTokens(t, b.String())) {
		t.Error("the backend got another list")
	}
	checkHeaders(t, "the completion", seen[0].header, map[string]string{"X-Amz-Checksum-Crc32": "AAAAAA==", "X-Amz-Checksum-Type": "FULL_OBJECT"})
}

// A body that is declared and does not match is refused as such, whatever is in it.
func TestDigestOfARequestDocument(t *testing.T) {
	backend := startRecorder(t, answerAsS3)
	g := startGateway(t, testConfig(backend.URL))
	for _, doc := range []string{"<Tagging/>", "<Other/>", "text"} {
		for _, header := range []string{"Content-MD5: AAAAAAAAAAAAAAAAAAAAAA==", "x-amz-checksum-crc32: AAAAAA==", "x-amz-checksum-sha256: " + base64.StdEncoding.EncodeToString(make([]byte, 32))} {
			resp, body := g.do("PUT", "/photos/k?tagging", userKey, doc, header)
			wantError(t, resp, body, 400, "BadDigest")
		}
		resp, body := g.do("PUT", "/photos/k?tagging", userKey, doc, "x-amz-content-sha256: "+strings.Repeat("0", 64))
		wantError(t, resp, body, 400, "XAmzContentSHA256Mismatch")
	}
	backend.wantNone(t)
	framed, header := frameWithTrailer("<Tagging/>")
	resp, body := g.do("PUT", "/photos/k?tagging", userKey, framed, append(header, "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER", "x-amz-sdk-checksum-algorithm: CRC32")...)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("a document in chunks = %d %s", resp.StatusCode, body)
	}
	seen := backend.requests()[0]
	if want := xmlHeader + "<Tagging></Tagging>"; seen.body != want {
		t.Errorf("the backend got %q, want %q", seen.body, want)
	}
	checkHeaders(t, "the request", seen.header, map[string]string{"X-Amz-Trailer": "", "X-Amz-Decoded-Content-Length": "", "X-Amz-Sdk-Checksum-Algorithm": "", "Content-Encoding": ""})
}
