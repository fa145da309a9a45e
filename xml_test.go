package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// leaf and branch make elements.
func leaf(name, text string) element {
	if text == "" {
		return element{name: name}
	}
	return element{name: name, text: []byte(text)}
}

func branch(name string, children ...element) element {
	return element{name: name, children: children}
}

func TestParseDocument(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     element
	}{
		{"an empty list", `<ListBucketResult/>`, element{name: "ListBucketResult"}},
		{"declaration, namespace, comments and white space", "\n" + `<?xml version="1.0" encoding="UTF-8"?><!-- a -->
			<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
			  <Name>b</Name><!-- c -->
			  <Contents><Key>k</Key><Owner><ID>1</ID></Owner></Contents>
			</ListBucketResult>`,
			branch("ListBucketResult", leaf("Name", "b"), branch("Contents", leaf("Key", "k"), branch("Owner", leaf("ID", "1"))))},
		{"references and sections of characters", `<ListBucketResult><Key>&lt;&amp;&gt;&quot;&apos;&#65;&#x42;<![CDATA[<&]]>c<!-- d -->e</Key></ListBucketResult>`,
			branch("ListBucketResult", leaf("Key", `<&>"'AB<&ce`))},
		{"white space in a key", `<ListBucketResult><Key> a b </Key><Key>&#13;&#10;&#9;</Key></ListBucketResult>`,
			branch("ListBucketResult", leaf("Key", " a b "), leaf("Key", "\r\n\t"))},
		{"another namespace and a prefix", `<x:ListBucketResult xmlns:x="urn:x"><x:Key a="1">k</x:Key></x:ListBucketResult>`,
			branch("ListBucketResult", leaf("Key", "k"))},
		{"what comes after the document", `<ListBucketResult><Key>k</Key></ListBucketResult><ListBucketResult>`,
			branch("ListBucketResult", leaf("Key", "k"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseDocument(strings.NewReader(test.in), "ListBucketResult")
			if err != nil || !reflect.DeepEqual(unmarked(got), test.want) {
				t.Errorf("parseDocument = %+v, %v, want %+v", got, err, test.want)
			}
		})
	}
}

func TestParseDocumentErrors(t *testing.T) {
	for _, test := range []struct{ name, in string }{
		{"nothing", ""},
		{"white space", " \n"},
		{"a declaration alone", xmlHeader},
		{"text", "hello"},
		{"JSON", `{"ListBucketResult":{}}`},
		{"another root", `<Error><Code>AccessDenied</Code></Error>`},
		{"HTML", `<!DOCTYPE html><html><body>it works<br></body></html>`},
		{"a root that is not closed", `<ListBucketResult><Name>b</Name>`},
		{"an element that is not closed", `<ListBucketResult><Name>b</ListBucketResult>`},
		{"elements that cross", `<ListBucketResult><a><b></a></b></ListBucketResult>`},
		{"a control character", "<ListBucketResult><Key>a\x01b</Key></ListBucketResult>"},
		{"a reference to a control character", `<ListBucketResult><Key>a&#1;b</Key></ListBucketResult>`},
		{"invalid UTF-8", "<ListBucketResult><Key>a\xffb</Key></ListBucketResult>"},
		{"another encoding", `<?xml version="1.0" encoding="utf-16"?><ListBucketResult/>`},
		{"an entity of its own", `<!DOCTYPE l [<!ENTITY e "eee">]><ListBucketResult><Key>&e;</Key></ListBucketResult>`},
		{"an entity of a file", `<!DOCTYPE l [<!ENTITY e SYSTEM "file:///etc/passwd">]><ListBucketResult><Key>&e;</Key></ListBucketResult>`},
		{"too deep", `<ListBucketResult><a><b><c><d><e/></d></c></b></a></ListBucketResult>`},
		{"too many elements", `<ListBucketResult>` + strings.Repeat("<a/>", 16*maxListMembers) + `</ListBucketResult>`},
		{"too many bytes", `<ListBucketResult>` + strings.Repeat(" ", maxListDocument) + `</ListBucketResult>`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseDocument(strings.NewReader(test.in), "ListBucketResult")
			if err == nil {
				t.Errorf("parseDocument = %.100v, want an error", got)
			}
			if err == io.EOF || errors.Is(err, io.EOF) {
				t.Errorf("parseDocument: %v, want no io.EOF: it would be taken for an end", err)
			}
		})
	}
}

// A list in small pieces is the same list; cut anywhere before the end of its
// root element, it is none.
func TestParseDocumentCut(t *testing.T) {
	const doc = xmlHeader + `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a&amp;b</Key></Contents></ListBucketResult>`
	if _, err := parseDocument(io.MultiReader(strings.NewReader(doc[:30]), strings.NewReader(doc[30:])), "ListBucketResult"); err != nil {
		t.Errorf("parseDocument of two pieces: %v", err)
	}
	for n := range len(doc) {
		if got, err := parseDocument(strings.NewReader(doc[:n]), "ListBucketResult"); err == nil {
			t.Errorf("parseDocument of %d of %d bytes = %+v, want an error", n, len(doc), got)
		}
	}
}

// allocated returns how many bytes f allocates, in all. Nothing else may run.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A backend that means harm can't make a document cost more than what its size
// allows: encoding/xml alone takes 185 MB for a million nested tags, and a copy
// of all the text before for each piece of it, which is 8 bytes long here.
func TestParseDocumentCost(t *testing.T) {
	const tags = 1_000_000
	for _, test := range []struct {
		name string
		in   string
		max  uint64 // bytes
	}{
		{"nested tags", strings.Repeat("<a>", tags), 1 << 20},
		{"nested tags in the root", "<ListBucketResult>" + strings.Repeat("<a>", tags), 1 << 20},
		{"text in pieces", "<ListBucketResult><Key>" + strings.Repeat("x<!---->", 100_000) + "</Key></ListBucketResult>", 64 << 20},
		{"attributes", "<ListBucketResult " + strings.Repeat(`a="" `, tags) + "/>", 64 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := allocated(func() { parseDocument(strings.NewReader(test.in), "ListBucketResult") })
			t.Logf("%d bytes of input, %d MB allocated", len(test.in), got>>20)
			if got > test.max {
				t.Errorf("parseDocument of %d bytes allocates %d MB, want at most %d MB", len(test.in), got>>20, test.max>>20)
			}
		})
	}
}

func TestAppendText(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{"a b+c/d%2F", "a b+c/d%2F"},
		{" leading", " leading"},
		{`&<>"'`, "&amp;&lt;&gt;&#34;&#39;"},
		{"]]>", "]]&gt;"},
		{"\t\r\n", "&#x9;&#xd;&#xa;"},
		{"\x00\x01\x1f\x7f", "&#x0;&#x1;&#x1f;&#x7f;"},
		{"\u0085\u2028", "&#x85;&#x2028;"},
		{"\ufffe\uffff\ufffd", "&#xfffe;&#xffff;\ufffd"},
		{"é日本😀", "é日本😀"},
	} {
		if got := string(appendText(nil, test.in)); got != test.want {
			t.Errorf("appendText(%q) = %q, want %q", test.in, got, test.want)
		}
	}
	if got := string(appendText([]byte("a"), "b&")); got != "ab&amp;" {
		t.Errorf("appendText after a = %q, want ab&amp;", got)
	}
}

func TestAppendTree(t *testing.T) {
	contents := branch("Contents", leaf("Key", "a b/<+>"), leaf("LastModified", "2026-01-02T03:04:05Z"), leaf("ETag", `"e"`))
	for _, test := range []struct {
		in        element
		encodeURL bool
		want      string
	}{
		{leaf("Size", "0"), false, "<Size>0</Size>"},
		{leaf("Prefix", ""), true, "<Prefix></Prefix>"},
		{contents, false, "<Contents><Key>a b/&lt;+&gt;</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&#34;e&#34;</ETag></Contents>"},
		{contents, true, "<Contents><Key>a%20b/%3C%2B%3E</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&#34;e&#34;</ETag></Contents>"},
		// Tokens are never encoded: they go back as they came.
		{leaf("NextContinuationToken", "a b+"), true, "<NextContinuationToken>a b+</NextContinuationToken>"},
		{branch("CommonPrefixes", leaf("Prefix", "é/")), true, "<CommonPrefixes><Prefix>%C3%A9/</Prefix></CommonPrefixes>"},
	} {
		if got := string(appendTree(nil, &test.in, test.encodeURL)); got != test.want {
			t.Errorf("appendTree(%+v, %t) = %s, want %s", test.in, test.encodeURL, got, test.want)
		}
	}
}

func TestDecodeKeys(t *testing.T) {
	in := branch("ListBucketResult",
		leaf("Prefix", "a%20b"), leaf("Delimiter", "%2F"), leaf("Marker", "+"), leaf("NextMarker", "%2B"), leaf("StartAfter", "%00"),
		leaf("NextContinuationToken", "a%20b+"),
		branch("Contents", leaf("Key", "a+b%2Bc"), leaf("ETag", "%20+")),
		branch("CommonPrefixes", leaf("Prefix", "%C3%A9/")))
	want := branch("ListBucketResult",
		leaf("Prefix", "a b"), leaf("Delimiter", "/"), leaf("Marker", " "), leaf("NextMarker", "+"), leaf("StartAfter", "\x00"),
		leaf("NextContinuationToken", "a%20b+"),
		branch("Contents", leaf("Key", "a b+c"), leaf("ETag", "%20+")),
		branch("CommonPrefixes", leaf("Prefix", "é/")))
	if err := in.decodeKeys(); err != nil || !reflect.DeepEqual(unmarked(in), want) {
		t.Errorf("decodeKeys = %+v, %v, want %+v", in, err, want)
	}
	for _, bad := range []string{"%", "%4", "%zz", "100%"} {
		e := branch("Contents", leaf("Key", bad))
		if err := e.decodeKeys(); err == nil {
			t.Errorf("decodeKeys of the key %q = %+v, want an error", bad, e)
		}
	}
}

func TestParseErrorCode(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{`<Error><Code>NoSuchKey</Code><Message>m</Message></Error>`, "NoSuchKey"},
		{xmlHeader + `<Error xmlns="urn:x"><Message>m</Message><Code>AccessDenied</Code></Error>`, "AccessDenied"},
		{`<Error><Code>KMS.DisabledException</Code></Error>`, "KMS.DisabledException"},
		{`<Error><Code>XAmzContentSHA256Mismatch</Code></Error>`, "XAmzContentSHA256Mismatch"},
		{``, ""},
		{`not found`, ""},
		{`<html><body>404</body></html>`, ""},
		{`<Error><Code>NoSuchKey</Code>`, ""},
		{`<Error></Error>`, ""},
		{`<Error><Code>No such key</Code></Error>`, ""},
		{"<Error><Code>a\r\nb</Code></Error>", ""},
		{`<Error><Code>&lt;script&gt;</Code></Error>`, ""},
		{`<Error><Code>` + strings.Repeat("A", 65) + `</Code></Error>`, ""},
		{`<Error><Message>` + strings.Repeat("A", maxErrorDocument) + `</Message><Code>NoSuchKey</Code></Error>`, ""},
		{strings.Repeat("<Error>", 10_000), ""},
	} {
		if got, _ := parseError(strings.NewReader(test.in)); got != test.want {
			t.Errorf("parseError(%.80q) = %q, want %q", test.in, got, test.want)
		}
	}
}

func TestUpstreamError(t *testing.T) {
	document := func(code string) string { return "<Error><Code>" + code + "</Code><Message>canary</Message></Error>" }
	for _, test := range []struct {
		status int
		body   string
		want   int
		code   string
	}{
		// Status and code stay.
		{404, document("NoSuchKey"), 404, "NoSuchKey"},
		{404, document("NoSuchBucket"), 404, "NoSuchBucket"},
		{403, document("AccessDenied"), 403, "AccessDenied"},
		{403, document("InvalidObjectState"), 403, "InvalidObjectState"},
		{409, document("ConditionalRequestConflict"), 409, "ConditionalRequestConflict"},
		{412, document("PreconditionFailed"), 412, "PreconditionFailed"},
		{416, document("InvalidRange"), 416, "InvalidRange"},
		{400, document("BadDigest"), 400, "BadDigest"},
		{400, document("XAmzContentSHA256Mismatch"), 400, "XAmzContentSHA256Mismatch"},
		{503, document("SlowDown"), 503, "SlowDown"},
		{500, document("InternalError"), 500, "InternalError"},
		{400, document("SomethingNobodyKnows"), 400, "SomethingNobodyKnows"},
		// Without a document, a code of S3's for the status.
		{400, "", 400, "InvalidRequest"},
		{403, "", 403, "AccessDenied"},
		{404, "", 404, "NoSuchKey"},
		{405, "", 405, "MethodNotAllowed"},
		{411, "", 411, "MissingContentLength"},
		{412, "", 412, "PreconditionFailed"},
		{416, "", 416, "InvalidRange"},
		{501, "", 501, "NotImplemented"},
		{503, "<html>canary</html>", 503, "ServiceUnavailable"},
		// Not the client's business: our credentials, clock and configuration.
		{403, document("SignatureDoesNotMatch"), 502, "BadGateway"},
		{403, document("InvalidAccessKeyId"), 502, "BadGateway"},
		{403, document("RequestTimeTooSkewed"), 502, "BadGateway"},
		{400, document("AuthorizationHeaderMalformed"), 502, "BadGateway"},
		{400, document("ExpiredToken"), 502, "BadGateway"},
		{301, document("PermanentRedirect"), 502, "BadGateway"},
		{307, document("TemporaryRedirect"), 502, "BadGateway"},
		{302, "", 502, "BadGateway"},
		{300, "", 502, "BadGateway"},
		{401, "", 502, "BadGateway"},
		{401, document("AccessDenied"), 502, "BadGateway"},
		{407, "", 502, "BadGateway"}, // a proxy on the way that wants our credentials
		{600, "", 502, "BadGateway"},
	} {
		got := upstreamError(test.status, http.Header{}, strings.NewReader(test.body))
		if got.Status != test.want || got.Code != test.code || got.Message == "" || strings.Contains(got.Message, "canary") {
			t.Errorf("upstreamError(%d, %s) = %d %s %q, want %d %s and a message of ours", test.status, test.body, got.Status, got.Code, got.Message, test.want, test.code)
		}
		if got.Status == 502 && (got.header != nil || got.cause == nil) {
			t.Errorf("upstreamError(%d, %s) has header %v and cause %v, want none of the backend's headers, and a cause for the log", test.status, test.body, got.header, got.cause)
		}
	}
}

func TestS3Time(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"},
		{"2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05.000Z"},
		{"2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100Z"},
		{"2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123Z"},
		{"2026-01-02T03:04:05.9999Z", "2026-01-02T03:04:05.999Z"},
		{"2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000Z"},
		{"", ""},
		{"yesterday", "yesterday"},
		{"Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:05 GMT"},
	} {
		if got := s3Time(test.in); got != test.want {
			t.Errorf("s3Time(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// validXML reports whether XML 1.0 section 2.2 has a way to write every
// character of s.
func validXML(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		switch {
		case r == '\t', r == '\n', r == '\r':
			return false
		case r < ' ', r == 0xfffe, r == 0xffff:
			return true
		}
		return false
	})
}

// A list that is written parses back to the same keys. With encoding-type=url
// that holds for every key; without, where XML can't hold a key the document is
// refused by a parser, and never read as another key.
func FuzzListRoundTrip(f *testing.F) {
	for _, key := range []string{
		"a", " leading", "trailing ", "a+b", "a%2Fb", "a/b//c/", "\x01", `&<>"'`, "]]>", "\r\n", "\t", "\ufffe", "\uffff",
		"\ufffd", "\u2028\u0085", "é日本😀", "100%", "<!--", "<![CDATA[", "&#x41;", "?x=1&y=2#z", "\x7f", strings.Repeat("é", 512),
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if checkKey(key, true) != nil {
			return
		}
		list := branch("ListBucketResult", leaf("Prefix", key),
			branch("Contents", leaf("Key", key), leaf("Size", "1")), branch("CommonPrefixes", leaf("Prefix", key)))
		encoded := appendTree([]byte(xmlHeader), &list, true)
		got, err := parseDocument(strings.NewReader(string(encoded)), "ListBucketResult")
		if err == nil {
			err = got.decodeKeys()
		}
		if err != nil || !reflect.DeepEqual(unmarked(got), list) {
			t.Errorf("key %q, encoded: %s\nparses to %+v, %v", key, encoded, got, err)
		}
		plain := appendTree([]byte(xmlHeader), &list, false)
		got, err = parseDocument(strings.NewReader(string(plain)), "ListBucketResult")
		switch {
		case validXML(key) && (err != nil || !reflect.DeepEqual(unmarked(got), list)):
			t.Errorf("key %q: %s\nparses to %+v, %v", key, plain, got, err)
		case !validXML(key) && err == nil:
			t.Errorf("key %q, which XML can't hold: %s\nparses to %+v", key, plain, got)
		}
	})
}

// Whatever a backend sends, a document is read or refused, and holds no more
// than what was sent.
func FuzzParseDocument(f *testing.F) {
	for _, doc := range []string{
		"", "<", "<ListBucketResult/>", "<ListBucketResult><Key>a</Key></ListBucketResult>", "<a><b></a></b>",
		"<ListBucketResult><a><b><c><d><e></e></d></c></b></a></ListBucketResult>",
		xmlHeader + "<!-- c --><ListBucketResult a='1'><![CDATA[x]]>&lt;&#65;</ListBucketResult>",
		"<ListBucketResult>&nosuch;</ListBucketResult>", "<!DOCTYPE a [<!ENTITY e 'e'>]><ListBucketResult>&e;</ListBucketResult>",
		"<ListBucketResult><Key>%zz</Key></ListBucketResult>", "\xef\xbb\xbf<ListBucketResult/>", "\x00\x01",
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := parseDocument(strings.NewReader(string(data)), "ListBucketResult")
		if err != nil {
			return
		}
		elements, size, depth := measure(doc)
		if elements > len(data)/4 || depth > maxListDepth {
			t.Errorf("%d elements, %d deep, from %d bytes: %q", elements, depth, len(data), data)
		}
		if size > 3*len(data) { // a "\xff" is refused; nothing grows but by a character in place of an invalid one
			t.Errorf("%d bytes of text from %d bytes: %q", size, len(data), data)
		}
		if doc.decodeKeys() != nil {
			return
		}
		// What was read can be written, and read again.
		again, err := parseDocument(strings.NewReader(string(appendTree(nil, &doc, true))), "ListBucketResult")
		if err != nil {
			t.Fatalf("%q: written and read again: %v", data, err)
		}
		if n, _, _ := measure(again); n != elements {
			t.Errorf("%q: %d elements, written and read again %d", data, elements, n)
		}
	})
}

func measure(e element) (elements, size, depth int) {
	elements, size = 1, len(e.name)+len(e.text)
	for _, c := range e.children {
		n, s, d := measure(c)
		elements, size, depth = elements+n, size+s, max(depth, d)
	}
	return elements, size, depth + 1
}

// An error document is what an XML parser reads, whatever is in it.
func TestErrorIsXMLWhateverIsInIt(t *testing.T) {
	e := &apiError{Status: 403, Code: "AccessDenied", Message: `a & b <c> "d"`}
	got := string(errorXML(e, "/photos/é ]]>", "ID"))
	want := `<Error><Code>AccessDenied</Code><Message>a &amp; b &lt;c&gt; &#34;d&#34;</Message><Resource>/photos/é ]]&gt;</Resource><RequestId>ID</RequestId></Error>`
	if got != want {
		t.Errorf("errorXML = %s, want %s", got, want)
	}
	var parsed struct{ Code, Message, Resource, RequestId string }
	if err := xml.Unmarshal([]byte(got), &parsed); err != nil || parsed.Resource != "/photos/é ]]>" || parsed.Message != e.Message {
		t.Errorf("parsed: %+v, %v", parsed, err)
	}
}

// Every code of the table makes an error whose status is one of an error.
func TestS3Errors(t *testing.T) {
	for code, known := range s3Errors {
		e := newError(code, "")
		if e.Status < 400 || e.Status > 599 || e.Message != known.message || known.message == "" || e.Code != code {
			t.Errorf("newError(%s) = %+v", code, e)
		}
	}
	if e := newError("InvalidRequest", "why"); e.Message != "why" || e.Status != 400 {
		t.Errorf("newError = %+v, want status 400 and the message given", e)
	}
	if got := fmt.Sprint(badGateway(errors.New("x"))); got != "BadGateway: x" {
		t.Errorf("badGateway = %q, want BadGateway: x", got)
	}
	for _, key := range []string{"a b+c", "\x01"} {
		if got, err := url.QueryUnescape(uriEncode(key, false)); got != key || err != nil || !utf8.ValidString(got) {
			t.Errorf("uriEncode(%q) is undone to %q, %v", key, got, err)
		}
	}
}

// unmarked returns a tree without what the scanner notes beside it.
func unmarked(e element) element {
	e.plain = false
	e.children = slices.Clone(e.children)
	for i := range e.children {
		e.children[i] = unmarked(e.children[i])
	}
	return e
}

// A 412 names the condition that does not hold: the backend's, if it names one that there
// is, or the only one of the request.
func TestPreconditionFailedNamesTheCondition(t *testing.T) {
	for _, test := range []struct {
		document string
		header   []string
		want     string
	}{
		{"<Condition>If-None-Match</Condition>", []string{"If-None-Match: *"}, "If-None-Match"},
		{"<Condition>If-Match</Condition>", []string{`If-Match: "a"`, "If-None-Match: *"}, "If-Match"},
		{"", []string{"If-None-Match: *"}, "If-None-Match"},
		{"<Condition>BACKENDKEYID</Condition>", []string{"If-None-Match: *"}, "If-None-Match"},
		{"", []string{`If-Match: "a"`, "If-None-Match: *"}, ""},
	} {
		backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusPreconditionFailed)
			io.WriteString(w, "<Error><Code>PreconditionFailed</Code>"+test.document+"</Error>")
		})
		g := startGateway(t, testConfig(backend.URL))
		resp, body := g.do("PUT", "/photos/k", userKey, "x", test.header...)
		var e struct{ Code, Condition string }
		if err := json.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != 412 || e.Code != "PreconditionFailed" || e.Condition != test.want {
			t.Errorf("%q with %q = %d %s, want the condition %q", test.document, test.header, resp.StatusCode, body, test.want)
		}
		checkNoSecret(t, "the answer", body)
		lines := signed("user", userKey, "PUT", "/photos/k", "", "x-amz-content-sha256: "+unsignedPayload)
		resp, body = g.do("PUT", "/photos/k", "", "x", append(lines, test.header...)...)
		e.Condition = ""
		if err := xml.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != 412 || e.Condition != test.want {
			t.Errorf("%q with %q, signed = %d %s, want the condition %q", test.document, test.header, resp.StatusCode, body, test.want)
		}
	}
}

// What S3 refuses has S3's code.
func TestPathErrorCodes(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	for target, want := range map[string]string{
		"/photos/" + strings.Repeat("k", 1025): "KeyTooLongError",
		"/photos/a/../b":                       "InvalidURI",
		"/photos/%FF":                          "InvalidURI",
		"/photos/%00":                          "InvalidURI",
		"/Photos/k":                            "InvalidBucketName",
	} {
		resp, body := g.do("GET", target, userKey, "")
		wantError(t, resp, body, 400, want)
	}
	backend.wantNone(t)
}

// appendTree appends an element with all below it. With encodeURL, keys are
// written as encoding-type=url asks.
func appendTree(b []byte, e *element, encodeURL bool) []byte {
	b = append(append(append(b, '<'), e.name...), '>')
	switch {
	case len(e.children) > 0:
		for i := range e.children {
			b = appendTree(b, &e.children[i], encodeURL)
		}
	case encodeURL && urlEncoded(e.name):
		b = appendURIEncoded(b, e.text, false)
	case e.name == "LastModified" && !hasMilliseconds(e.text):
		b = appendText(b, s3Time(string(e.text)))
	case e.plain:
		b = append(b, e.text...)
	default:
		b = appendText(b, e.text)
	}
	return append(append(append(b, "</"...), e.name...), '>')
}
