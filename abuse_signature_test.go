package main

// Abuse: signatures that are forged, stale, partial or of something else, and
// bodies in aws-chunked that are bent or break off. The client here signs by
// AWS's pages with crypto/hmac alone: a signer that shared the gateway's code
// would share its mistakes.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html

import (
	"bufio"
	"cmp"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	sigEmpty    = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
	sigUnsigned = "UNSIGNED-PAYLOAD"
	sigChunks   = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	sigTrailing = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	sigTrailer  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	sigCRC32    = "x-amz-checksum-crc32"
	sigDate     = "20060102T150405Z"
	sigInvented = "Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func sigHMAC(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

func sigSHA256(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func sigSum(text string) string {
	sum := crc32.ChecksumIEEE([]byte(text))
	return base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// A sigHead is the head of a request as its client means it. What is empty has
// the value that a good client would give it.
type sigHead struct {
	user, secret string // user, userKey
	method, path string // PUT, /photos/k
	query        []string
	header       []string // "name: value", names in lower case
	payload      string   // x-amz-content-sha256; UNSIGNED-PAYLOAD
	at           time.Time
	day          string // of the scope
	scope        string // what follows the day in it: any-region-1/s3/aws4_request
	names        string // that are said to be signed
}

func (h sigHead) filled() sigHead {
	h.user, h.secret = cmp.Or(h.user, "user"), cmp.Or(h.secret, userKey)
	h.method, h.path = cmp.Or(h.method, "PUT"), cmp.Or(h.path, "/photos/k")
	h.payload, h.scope = cmp.Or(h.payload, sigUnsigned), cmp.Or(h.scope, "any-region-1/s3/aws4_request")
	if h.at.IsZero() {
		h.at = time.Now()
	}
	h.day = cmp.Or(h.day, h.at.UTC().Format("20060102"))
	return h
}

// key is the signing key: the secret, narrowed step by step.
func (h sigHead) key() []byte {
	key := []byte("AWS4" + h.secret)
	for _, part := range append([]string{h.day}, strings.Split(h.scope, "/")...) {
		key = sigHMAC(key, part)
	}
	return key
}

// signature signs the request with these header lines, whose names, sorted, are
// what is signed unless h.names says otherwise.
func (h sigHead) signature(query, lines []string) (signature, names string) {
	lines, query = slices.Clone(lines), slices.Clone(query)
	slices.Sort(lines)
	slices.Sort(query)
	for i, pair := range query {
		if !strings.Contains(pair, "=") {
			query[i] += "="
		}
	}
	var fields, all []string
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		fields, all = append(fields, name+":"+strings.TrimSpace(value)+"\n"), append(all, name)
	}
	names = cmp.Or(h.names, strings.Join(all, ";"))
	canonical := strings.Join([]string{h.method, h.path, strings.Join(query, "&"), strings.Join(fields, ""), names, h.payload}, "\n")
	text := "AWS4-HMAC-SHA256\n" + h.at.UTC().Format(sigDate) + "\n" + h.day + "/" + h.scope + "\n" + sigSHA256(canonical)
	return hex.EncodeToString(sigHMAC(h.key(), text)), names
}

func (h sigHead) chain(signature string) *sigChain {
	return &sigChain{key: h.key(), rest: h.at.UTC().Format(sigDate) + "\n" + h.day + "/" + h.scope + "\n", previous: signature}
}

// sign returns the header lines of a request signed in the header, and the chain
// of signatures that its chunks go on with.
func (h sigHead) sign() ([]string, *sigChain) {
	h = h.filled()
	lines := append([]string{"x-amz-content-sha256: " + h.payload, "x-amz-date: " + h.at.UTC().Format(sigDate)}, h.header...)
	signature, names := h.signature(h.query, append([]string{"host: gateway.example"}, lines...))
	return append(lines, "Authorization: AWS4-HMAC-SHA256 Credential="+h.user+"/"+h.day+"/"+h.scope+
		", SignedHeaders="+names+", Signature="+signature), h.chain(signature)
}

// presign returns the request target of a presigned request, and the chain.
func (h sigHead) presign(expires string) (target string, chain *sigChain) {
	h = h.filled()
	names := []string{"host"}
	for _, line := range h.header {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	slices.Sort(names)
	query := append([]string{
		"X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Credential=" + url.QueryEscape(h.user+"/"+h.day+"/"+h.scope),
		"X-Amz-Date=" + h.at.UTC().Format(sigDate), "X-Amz-Expires=" + expires,
		"X-Amz-SignedHeaders=" + url.QueryEscape(cmp.Or(h.names, strings.Join(names, ";"))),
	}, h.query...)
	signature, _ := h.signature(query, append([]string{"host: gateway.example"}, h.header...))
	return h.path + "?" + strings.Join(query, "&") + "&X-Amz-Signature=" + signature, h.chain(signature)
}

// A sigChain signs chunks: each signature covers the one before.
type sigChain struct {
	key            []byte
	rest, previous string
}

func (c *sigChain) chunk(data string) string {
	c.previous = hex.EncodeToString(sigHMAC(c.key, "AWS4-HMAC-SHA256-PAYLOAD\n"+c.rest+c.previous+"\n"+sigEmpty+"\n"+sigSHA256(data)))
	return c.previous
}

func (c *sigChain) trailer(lines string) string {
	c.previous = hex.EncodeToString(sigHMAC(c.key, "AWS4-HMAC-SHA256-TRAILER\n"+c.rest+c.previous+"\n"+sigSHA256(lines)))
	return c.previous
}

// sigFrames frames chunks of payload. Each piece is a line or a chunk's bytes,
// with its line break; the last chunk and the trailer come behind.
func sigFrames(framing string, chain *sigChain, chunks ...string) []string {
	var pieces []string
	sign := func(data string) string {
		if framing == sigTrailer {
			return ""
		}
		return ";chunk-signature=" + chain.chunk(data)
	}
	for _, data := range chunks {
		pieces = append(pieces, fmt.Sprintf("%x%s\r\n", len(data), sign(data)), data+"\r\n")
	}
	pieces = append(pieces, "0"+sign("")+"\r\n")
	if framing == sigChunks {
		return append(pieces, "\r\n")
	}
	sum := sigSum(strings.Join(chunks, ""))
	pieces = append(pieces, sigCRC32+":"+sum+"\r\n")
	if framing == sigTrailing {
		pieces = append(pieces, "x-amz-trailer-signature:"+chain.trailer(sigCRC32+":"+sum+"\n")+"\r\n")
	}
	return append(pieces, "\r\n")
}

// A sigDoor is a way to send an upload in chunks: by which door, and how framed.
type sigDoor struct{ door, framing string }

func (d sigDoor) String() string { return d.door + "/" + d.framing }

var sigDoors = []sigDoor{
	{"x-api-key", sigChunks}, {"x-api-key", sigTrailing}, {"x-api-key", sigTrailer},
	{"header", sigChunks}, {"header", sigTrailing}, {"header", sigTrailer},
	{"presigned", sigTrailing},
}

// verifies reports whether a wrong signature of a chunk is noticed.
func (d sigDoor) verifies() bool { return d.door != "x-api-key" && d.framing != sigTrailer }

// open returns the target and the header lines of a PUT to path, which may have
// a query, for a payload of so many bytes. Lines whose names are among those it
// makes take their place; other lines are signed too.
func (d sigDoor) open(target string, size int, more ...string) (string, []string, *sigChain) {
	lines := []string{"content-encoding: aws-chunked", fmt.Sprintf("x-amz-decoded-content-length: %d", size)}
	if d.framing != sigChunks {
		lines = append(lines, "x-amz-trailer: "+sigCRC32)
	}
	for _, line := range more {
		name, _, _ := strings.Cut(line, ":")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
	}
	lines = append(lines, slices.DeleteFunc(slices.Clone(more), func(l string) bool { return strings.HasSuffix(l, ":-") })...) // "name:-" is none
	path, query, _ := strings.Cut(target, "?")
	head := sigHead{path: path, payload: d.framing, header: lines}
	if query != "" {
		head.query = strings.Split(query, "&")
	}
	switch d.door {
	case "header":
		signed, chain := head.sign()
		return target, signed, chain
	case "presigned":
		head.header = append(head.header, "x-amz-content-sha256: "+d.framing)
		target, chain := head.presign("60")
		return target, head.header, chain
	}
	// An SDK that was told to add the header signs with what it has.
	dummy := head
	dummy.user, dummy.secret = "dummy", "dummy"
	signed, chain := dummy.sign()
	return target, append(signed, "x-api-key: "+userKey), chain
}

// sigSend sends a PUT with the body as it is, in one of four manners: "length",
// with its length as Content-Length; "chunked", in chunks of HTTP; "FIN" and
// "RST", with a Content-Length that is n bytes longer, after which the
// connection ends.
func sigSend(g *testGateway, target string, lines []string, body, manner string, n int) (*http.Response, string) {
	g.t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "PUT %s HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n", target)
	for _, line := range lines {
		b.WriteString(line + "\r\n")
	}
	if manner == "length" {
		n = 0
	}
	switch manner {
	case "chunked":
		b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
		if body != "" {
			fmt.Fprintf(&b, "%x\r\n%s\r\n", len(body), body)
		}
		b.WriteString("0\r\n\r\n")
	default:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body)+n, body)
	}
	if manner != "FIN" && manner != "RST" {
		return g.raw("PUT", b.String())
	}
	conn := g.dial().(*net.TCPConn)
	defer conn.Close()
	logged := strings.Count(g.log.String(), `"msg":"request"`)
	if _, err := io.WriteString(conn, b.String()); err != nil {
		g.t.Fatal(err)
	}
	if manner == "FIN" {
		conn.CloseWrite()
		return readAnswer(g.t, "PUT", conn)
	}
	conn.SetLinger(0)
	conn.Close()
	await(g.t, "the end of the request", func() bool { return strings.Count(g.log.String(), `"msg":"request"`) > logged })
	return nil, ""
}

// sigRefusal checks a refusal of a request that came signed, which is XML.
func sigRefusal(t *testing.T, what, method string, resp *http.Response, body string, want ...string) {
	t.Helper()
	if resp.StatusCode == 0 {
		t.Errorf("%s: the connection was closed without an answer: %s", what, resp.Header.Get("Test-Error"))
		return
	}
	if method != "HEAD" && resp.Header.Get("Content-Type") != "application/xml" {
		t.Errorf("%s: Content-Type %q, want S3's XML", what, resp.Header.Get("Content-Type"))
	}
	if method != "HEAD" {
		method = what + ": " + method
	}
	wantRefusal(t, method, resp, body, want...)
}

// The client here makes the signatures that AWS prints, of its two examples of
// streams: 65 KiB of "a" in chunks of 64 KiB and 1 KiB.
func TestAbuse056KnownAnswers(t *testing.T) {
	chunks := []string{strings.Repeat("a", 65536), strings.Repeat("a", 1024), ""}
	head := sigHead{
		secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", scope: "us-east-1/s3/aws4_request",
		at: time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC),
	}.filled()
	for seed, want := range map[string][]string{
		"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9": {
			"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
			"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
			"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
		},
		"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e": {
			"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
			"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
			"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
			"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435", // of the trailer
		},
	} {
		chain := head.chain(seed)
		for i, chunk := range chunks {
			if got := chain.chunk(chunk); got != want[i] {
				t.Errorf("chunk %d after %.8s: signature %s, want %s", i, seed, got, want[i])
			}
		}
		if len(want) > 3 {
			if got := chain.trailer("x-amz-checksum-crc32c:sOO8/Q==\n"); got != want[3] {
				t.Errorf("the trailer: signature %s, want %s", got, want[3])
			}
		}
	}
}

// Case 47: who names a known user, and invents the signature, has not proved
// anything. Other gateways have looked at it for every form of payload but the
// one whose chunks carry no signatures.
func TestAbuse047InventedSignature(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	invented := regexp.MustCompile("Signature=[0-9a-f]{64}")
	body := strings.Join(sigFrames(sigTrailer, nil, "x"), "")
	for _, framing := range []string{sigTrailer, sigChunks, sigTrailing, sigUnsigned, sigSHA256(body)} {
		for _, target := range []string{"/photos/k", "/photos/k?partNumber=1&uploadId=u"} {
			for _, door := range []string{"header", "presigned"} {
				target, lines, _ := sigDoor{door, framing}.open(target, 1)
				target = invented.ReplaceAllString(target, sigInvented)
				for i := range lines {
					lines[i] = invented.ReplaceAllString(lines[i], sigInvented)
				}
				resp, text := sigSend(g, target, lines, body, "length", 0)
				sigRefusal(t, door+"/"+framing, "PUT", resp, text, "403 SignatureDoesNotMatch")
			}
		}
	}
	rec.wantNone(t)
}

// Case 49: what was not signed may have been added on the way. With
// x-amz-copy-source a presigned upload would become a copy of another object,
// and with an acl a private object a public one.
func TestAbuse049UnsignedHeaders(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, line := range []string{
		"x-amz-copy-source: /photos/other", "X-AMZ-COPY-SOURCE: /secret/k", "x-amz-copy-source-range: bytes=0-1",
		"x-amz-metadata-directive: REPLACE", "x-amz-acl: private", "x-amz-grant-read: id=x", "x-amz-meta-a: b",
		"x-amz-tagging: a=b", "x-amz-storage-class: GLACIER", "x-amz-security-token: t", "x-amz-trailer: " + sigCRC32,
		"x-amz-decoded-content-length: 1", "x-amz-server-side-encryption: AES256",
	} {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
			head := sigHead{method: method}
			lines, _ := head.sign()
			resp, text := g.do(method, "/photos/k", "", "", append(lines, line)...)
			sigRefusal(t, "header, "+line, method, resp, text, "403 AccessDenied")
			target, _ := head.presign("60")
			resp, text = g.do(method, target, "", "", line)
			sigRefusal(t, "presigned, "+line, method, resp, text, "403 AccessDenied")
		}
	}
	// The digest of a body is in what is signed, named among the headers or not. A
	// presigned request has none unless it says so.
	target, _ := sigHead{}.presign("60")
	for _, digest := range []string{sigSHA256("x"), sigTrailer} {
		resp, text := g.do("PUT", target, "", "x", "x-amz-content-sha256: "+digest)
		sigRefusal(t, "presigned, digest", "PUT", resp, text, "403 SignatureDoesNotMatch")
	}
	resp, text := g.do("PUT", target, "", "x", "x-amz-content-sha256: "+sigUnsigned, "x-amz-content-sha256: "+sigUnsigned)
	sigRefusal(t, "presigned, digest twice", "PUT", resp, text, "403 AccessDenied")
	said, _ := sigHead{query: []string{"X-Amz-Content-Sha256=" + sigUnsigned}}.presign("60")
	for _, digest := range []string{sigSHA256("x"), sigTrailer} {
		resp, text := g.do("PUT", said, "", "x", "x-amz-content-sha256: "+digest)
		sigRefusal(t, "presigned, another digest", "PUT", resp, text, "400 InvalidArgument", "403 SignatureDoesNotMatch")
	}
	// Added to the query, they were not signed either.
	for _, parameter := range []string{"X-Amz-Copy-Source=%2Fphotos%2Fother", "x-amz-acl=private", "x-amz-meta-a=b"} {
		resp, text := g.do("PUT", target+"&"+parameter, "", "x")
		sigRefusal(t, parameter, "PUT", resp, text, "403 SignatureDoesNotMatch")
	}
	rec.wantNone(t)
	// What is no x-amz- header need not be signed: proxies add such things.
	resp, text = g.do("PUT", target, "", "x", "Content-Type: text/plain", "x-amzn-trace-id: Root=1", "X-Forwarded-For: 1.2.3.4")
	if resp.StatusCode != 200 || len(rec.requests()) != 1 {
		t.Errorf("PUT with unsigned harmless headers = %d %s, want 200", resp.StatusCode, text)
	}
}

// Some clients leave x-amz-content-sha256 out of the list of signed headers, and S3
// lets them: its value is in what is signed all the same.
// https://github.com/zengularity/benji/pull/309
func TestDigestThatIsNotAmongTheSignedHeaders(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	now := time.Now()
	lines := func(signed string) []string {
		h := sigHead{payload: signed, at: now}.filled()
		date := "x-amz-date: " + h.at.UTC().Format(sigDate)
		signature, names := h.signature(nil, []string{"host: gateway.example", date})
		return []string{date, "Authorization: AWS4-HMAC-SHA256 Credential=" + h.user + "/" + h.day + "/" + h.scope + ", SignedHeaders=" + names + ", Signature=" + signature}
	}
	for _, payload := range []string{sigUnsigned, sigSHA256("x")} {
		resp, text := g.do("PUT", "/photos/k", "", "x", append(lines(payload), "x-amz-content-sha256: "+payload)...)
		if resp.StatusCode != 200 {
			t.Errorf("PUT with %s = %d %s, want 200", payload, resp.StatusCode, text)
		}
		for _, other := range []string{sigTrailer, sigChunks, sigSHA256("y"), ""} {
			resp, text = g.do("PUT", "/photos/k", "", "x", append(lines(payload), "x-amz-content-sha256: "+other)...)
			sigRefusal(t, other+" in place of "+payload, "PUT", resp, text, "403 SignatureDoesNotMatch")
		}
	}
	resp, text := g.do("PUT", "/photos/k", "", "x", append(lines(sigUnsigned), "x-amz-content-sha256: "+sigUnsigned, "x-amz-content-sha256: "+sigUnsigned)...)
	sigRefusal(t, "twice", "PUT", resp, text, "400 InvalidRequest", "403 AccessDenied")
	for _, seen := range rec.requests() {
		if seen.body != "x" {
			t.Errorf("the backend got %q", seen.body)
		}
	}
}

// Case 49, too: servers that keep headers as CGI variables, such as radosgw, take
// x_amz_copy_source for x-amz-copy-source. So that is a name nobody has checked,
// by either door, and no such header may reach a backend.
func TestAbuse049Underscores(t *testing.T) {
	for _, name := range []string{"x_amz_copy_source", "X_Amz_Copy_Source", "x-amz_copy-source", "x_amz_acl", "x_amz_meta_a", "x_amz_decoded_content_length", "x_rgw_a"} {
		rec := startRecorder(t, nil)
		g := startGateway(t, testConfig(rec.URL))
		line := name + ": secret/k"
		lines, _ := sigHead{}.sign()
		target, _ := sigHead{}.presign("60")
		g.do("PUT", "/photos/k", userKey, "", line)
		g.do("PUT", "/photos/k", "", "", append(lines, line)...)
		g.do("PUT", target, "", "", line)
		for _, seen := range rec.requests() {
			for header := range seen.header {
				if strings.Contains(header, "_") {
					t.Errorf("the backend got the header %s: %s", header, seen.header[header])
				}
			}
		}
	}
}

// Case 50: a presigned request is good from its date to its end, which is at most
// seven days later, and neither is to be read generously. As AWS has it, what is
// malformed is a 400, what is not of now a 403.
func TestAbuse050PresignedExpiry(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	const malformed = "400 AuthorizationQueryParametersError"
	now := time.Now()
	for _, row := range []struct {
		what, expires string
		age           time.Duration
		want          string
	}{
		{"a second late", "60", 61 * time.Second, "403 AccessDenied"},
		{"a second late, of one", "1", 2 * time.Second, "403 AccessDenied"},
		{"a second late, of seven days", "604800", 604801 * time.Second, "403 AccessDenied"},
		{"years late", "60", 20 * 365 * 24 * time.Hour, "403 AccessDenied"},
		{"from the future", "60", -16 * time.Minute, "403 AccessDenied"},
		{"from the far future", "604800", -24 * time.Hour, "403 AccessDenied"},
		{"0", "0", 0, malformed},
		{"-1", "-1", 0, malformed},
		{"+5", "%2B5", 0, malformed},
		{"a space", "5%20", 0, malformed},
		{"5.0", "5.0", 0, malformed},
		{"5e3", "5e3", 0, malformed},
		{"0x5", "0x5", 0, malformed},
		{"1_0", "1_0", 0, malformed},
		{"more than seven days", "604801", 0, malformed},
		{"9e18", "9000000000000000000", 0, malformed},
		{"2^32 and five", "4294967301", 0, malformed},
		{"2^64 and five", "18446744073709551621", 0, malformed},
		{"empty", "", 0, malformed},
		{"Arabic digits", "%D9%A5", 0, malformed},
	} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			target, _ := sigHead{method: method, at: now.Add(-row.age)}.presign(row.expires)
			resp, text := g.do(method, target, "", "")
			sigRefusal(t, row.what, method, resp, text, row.want)
		}
	}
	// Signed rightly, over a query that lacks a part or has a strange date.
	target, _ := sigHead{method: "GET"}.presign("60")
	date := now.UTC().Format(sigDate)
	for what, edit := range map[string]string{
		"no expiry":       strings.Replace(target, "&X-Amz-Expires=60", "", 1),
		"no date":         regexp.MustCompile("&X-Amz-Date=[^&]*").ReplaceAllString(target, ""),
		"no credential":   regexp.MustCompile("&X-Amz-Credential=[^&]*").ReplaceAllString(target, ""),
		"no algorithm":    strings.Replace(target, "X-Amz-Algorithm=AWS4-HMAC-SHA256&", "", 1),
		"no names":        regexp.MustCompile("&X-Amz-SignedHeaders=[^&]*").ReplaceAllString(target, ""),
		"no signature":    regexp.MustCompile("&X-Amz-Signature=[^&]*").ReplaceAllString(target, ""),
		"a fraction":      regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date="+strings.TrimSuffix(date, "Z")+".5Z"),
		"a comma":         regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date="+strings.TrimSuffix(date, "Z")+",5Z"),
		"another form":    regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date="+url.QueryEscape(now.UTC().Format(time.RFC3339))),
		"a zone":          regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date="+strings.TrimSuffix(date, "Z")+"%2B0000"),
		"a 31st February": regexp.MustCompile("X-Amz-Date=[^&]*").ReplaceAllString(target, "X-Amz-Date=20130231T000000Z"),
	} {
		resp, text := g.do("GET", edit, "", "")
		if resp.Header.Get("Content-Type") != "application/xml" && what != "no credential" {
			t.Errorf("%s: Content-Type %q, want S3's XML", what, resp.Header.Get("Content-Type"))
		}
		wantRefusal(t, what, resp, text, malformed)
	}
	rec.wantNone(t)
	for _, row := range []struct {
		expires string
		age     time.Duration
	}{{"604800", 604700 * time.Second}, {"60", -14 * time.Minute}, {"1", -time.Minute}, {"0005", 0}} {
		target, _ := sigHead{method: "GET", at: now.Add(-row.age)}.presign(row.expires)
		if resp, text := g.do("GET", target, "", ""); resp.StatusCode != 200 {
			t.Errorf("expires %s at an age of %s = %d %s, want 200", row.expires, row.age, resp.StatusCode, text)
		}
	}
}

// Case 51: a request signed in the header is good for 15 minutes, either way, and
// by the date that was signed; or what was overheard years ago would still do.
func TestAbuse051HeaderFreshness(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	now := time.Now()
	for _, age := range []time.Duration{16 * time.Minute, -16 * time.Minute, 24 * time.Hour, -24 * time.Hour, now.Sub(time.Date(2006, 1, 2, 15, 4, 5, 0, time.UTC))} {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			lines, _ := sigHead{method: method, at: now.Add(-age)}.sign()
			resp, text := g.do(method, "/photos/k", "", "", lines...)
			sigRefusal(t, age.String(), method, resp, text, "403 RequestTimeTooSkewed")
		}
	}
	lines, _ := sigHead{method: "GET"}.sign()
	amzDate := lines[1]
	edit := func(replace ...string) []string {
		return append(slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return l == amzDate }), replace...)
	}
	for what, lines := range map[string][]string{
		"no date":      edit(),
		"Date alone":   edit("Date: " + now.UTC().Format(http.TimeFormat)),
		"a fraction":   edit(strings.TrimSuffix(amzDate, "Z") + ".5Z"),
		"a comma":      edit(strings.TrimSuffix(amzDate, "Z") + ",5Z"),
		"another form": edit("x-amz-date: " + now.UTC().Format(http.TimeFormat)),
		"an empty one": edit("x-amz-date:"),
		"two":          edit(amzDate, amzDate),
		"two in one":   edit(amzDate + ", " + strings.TrimPrefix(amzDate, "x-amz-date: ")),
	} {
		resp, text := g.do("GET", "/photos/k", "", "", lines...)
		sigRefusal(t, what, "GET", resp, text, "403 AccessDenied", "403 SignatureDoesNotMatch")
	}
	// With the Date of the request signed, in place of x-amz-date.
	head := sigHead{method: "GET", names: "date;host;x-amz-content-sha256", header: []string{"date: " + now.UTC().Format(http.TimeFormat)}}
	lines, _ = head.sign()
	resp, text := g.do("GET", "/photos/k", "", "", slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "x-amz-date") })...)
	sigRefusal(t, "Date signed", "GET", resp, text, "403 AccessDenied")
	for _, day := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		lines, _ := sigHead{method: "GET", day: now.Add(day).UTC().Format("20060102")}.sign()
		resp, text := g.do("GET", "/photos/k", "", "", lines...)
		sigRefusal(t, "another day in the scope", "GET", resp, text, "403 SignatureDoesNotMatch", "400 AuthorizationHeaderMalformed")
		target, _ := sigHead{method: "GET", day: now.Add(day).UTC().Format("20060102")}.presign("604800")
		resp, text = g.do("GET", target, "", "")
		sigRefusal(t, "another day in the scope, presigned", "GET", resp, text, "403 SignatureDoesNotMatch", "400 AuthorizationQueryParametersError")
	}
	rec.wantNone(t)
	for _, age := range []time.Duration{14 * time.Minute, -14 * time.Minute} {
		at := now.Add(-age)
		lines, _ := sigHead{method: "GET", at: at}.sign()
		if resp, text := g.do("GET", "/photos/k", "", "", lines...); resp.StatusCode != 200 {
			t.Errorf("at an age of %s = %d %s, want 200", age, resp.StatusCode, text)
		}
	}
}

// Case 52: a presigned request is good for what it was made for: one method, one
// key, one set of parameters.
func TestAbuse052PresignedForOther(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	target, _ := sigHead{method: "GET"}.presign("60")
	overridden, _ := sigHead{method: "GET", query: []string{"response-content-type=text%2Fplain"}}.presign("60")
	for _, row := range []struct{ method, target string }{
		{"PUT", target}, {"DELETE", target}, {"HEAD", target}, {"POST", target},
		{"GET", strings.Replace(target, "/photos/k", "/photos/k2", 1)},
		{"GET", strings.Replace(target, "/photos/k", "/photos/K", 1)},
		{"GET", strings.Replace(target, "/photos/k", "/photos", 1)},
		{"GET", strings.Replace(target, "/photos/k", "/secret/k", 1)},
		{"GET", target + "&response-content-type=text%2Fhtml"},
		{"GET", target + "&versionId=1"},
		{"GET", target + "&acl"},
		{"GET", target + "&x-id=GetObject"},
		{"GET", target + "&X-Amz-Security-Token=t"},
		{"GET", strings.Replace(target, "X-Amz-Expires=60", "X-Amz-Expires=61", 1)},
		{"GET", strings.Replace(target, "user%2F", "ro%2F", 1)},
		{"GET", strings.Replace(target, "user%2F", "admin%2F", 1)},
		{"GET", strings.Replace(target, "any-region-1", "any-region-2", 1)},
		{"GET", strings.Replace(overridden, "text%2Fplain", "text%2Fhtml", 1)},
		{"GET", strings.Replace(overridden, "&response-content-type=text%2Fplain", "", 1)},
	} {
		resp, text := g.do(row.method, row.target, "", "")
		sigRefusal(t, row.target[:20], row.method, resp, text, "403 SignatureDoesNotMatch", "403 AccessDenied")
	}
	resp, text := g.raw("GET", "GET "+target+" HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n")
	sigRefusal(t, "another host", "GET", resp, text, "403 SignatureDoesNotMatch")
	// Of two values, another program on the way may have taken the other one.
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		pair := regexp.MustCompile(name + "=[^&]*").FindString(target)
		for _, twice := range []string{target + "&" + pair, strings.Replace(target, "?", "?"+pair+"&", 1), target + "&" + name + "=", target + "&" + name} {
			resp, text := g.do("GET", twice, "", "")
			wantRefusal(t, name+" twice", resp, text, "400 InvalidArgument", "400 AuthorizationQueryParametersError")
		}
	}
	rec.wantNone(t)
	for _, target := range []string{target, overridden} {
		if resp, text := g.do("GET", target, "", ""); resp.StatusCode != 200 {
			t.Errorf("GET %s = %d %s, want 200", target[:20], resp.StatusCode, text)
		}
	}
}

// Case 53: of a request that is signed twice, one signature may be good and the
// other one be what a later step goes by. It is refused, whichever is good.
func TestAbuse053TwoSignatures(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		head := sigHead{method: method}
		target, _ := head.presign("60")
		_, query, _ := strings.Cut(target, "?")
		over := head
		over.query = strings.Split(query, "&")
		both, _ := over.sign()
		plain, _ := head.sign()
		for what, row := range map[string]struct {
			target string
			lines  []string
		}{
			"both good":           {target, both},
			"the query is good":   {target, plain},
			"nonsense beside it":  {target, []string{"Authorization: x"}},
			"empty beside it":     {target, []string{"Authorization:"}},
			"Basic beside it":     {target, []string{"Authorization: Basic dXNlcjp1c2Vy"}},
			"a signature alone":   {"/photos/k?X-Amz-Signature=00", plain},
			"an algorithm alone":  {"/photos/k?X-Amz-Algorithm=AWS4-HMAC-SHA256", plain},
			"a credential alone":  {"/photos/k?X-Amz-Credential=user", plain},
			"an encoded name":     {"/photos/k?X-Amz-%53ignature=00", plain},
			"an empty parameter":  {"/photos/k?X-Amz-Signature", plain},
			"the other way round": {"/photos/k?" + query, []string{plain[0], plain[1], "Authorization: AWS4-HMAC-SHA256 x"}},
		} {
			resp, text := g.do(method, row.target, "", "", row.lines...)
			wantRefusal(t, what, resp, text, "400 InvalidRequest", "400 InvalidArgument")
		}
	}
	rec.wantNone(t)
}

// Case 54: a claim that is not of the form agreed is refused; it does not become
// a request without one, nor one of another kind.
func TestAbuse054MalformedClaims(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	claims := map[string]sigHead{
		"another service":    {scope: "us-east-1/sts/aws4_request"},
		"S3":                 {scope: "us-east-1/S3/aws4_request"},
		"s3express":          {scope: "us-east-1/s3express/aws4_request"},
		"another terminator": {scope: "us-east-1/s3/aws5_request"},
		"no terminator":      {scope: "us-east-1/s3"},
		"one part more":      {scope: "us-east-1/s3/aws4_request/x"},
		"no region":          {scope: "/s3/aws4_request"},
		"a short day":        {day: "2013524"},
		"no user":            {user: "/"},
		"no host":            {names: "x-amz-content-sha256;x-amz-date"},
		"no names":           {names: " "},
		"upper case":         {names: "Host;x-amz-content-sha256;x-amz-date"},
		"unsorted":           {names: "x-amz-date;host;x-amz-content-sha256"},
		"a name twice":       {names: "host;host;x-amz-content-sha256;x-amz-date"},
		"an empty name":      {names: ";host;x-amz-content-sha256;x-amz-date"},
		"a name too many":    {names: "host;x-amz-content-sha256;x-amz-date;x-amz-meta-absent"},
		"Host too many":      {names: "content-md5;host;x-amz-content-sha256;x-amz-date"},
	}
	denied := []string{"400 AuthorizationHeaderMalformed", "400 AuthorizationQueryParametersError", "403 SignatureDoesNotMatch", "403 AccessDenied", "400 InvalidRequest"}
	for what, head := range claims {
		for _, method := range []string{"GET", "PUT"} {
			head.method = method
			lines, _ := head.sign()
			resp, text := g.do(method, "/photos/k", "", "", lines...)
			sigRefusal(t, what, method, resp, text, denied...)
			if head.names != "" { // of a presigned request they are others
				continue
			}
			target, _ := head.presign("60")
			resp, text = g.do(method, target, "", "")
			sigRefusal(t, what+", presigned", method, resp, text, denied...)
		}
	}
	lines, _ := sigHead{method: "GET"}.sign()
	good := lines[len(lines)-1]
	rest := lines[:len(lines)-1]
	with := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("the header has no %q", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for what, line := range map[string]string{
		"ECDSA":             with("AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 "),
		"SHA1":              with("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 "),
		"lower case":        with("AWS4-HMAC-SHA256 ", "aws4-hmac-sha256 "),
		"a tab":             with("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256\t"),
		"version 2":         "Authorization: AWS user:MDEyMzQ1Njc4OWFiY2RlZjAxMjM=",
		"Basic":             "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+userKey)),
		"Bearer":            "Authorization: Bearer " + userKey,
		"a JWT":             "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
		"empty":             "Authorization:",
		"the word alone":    "Authorization: AWS4-HMAC-SHA256",
		"no signature":      with(", Signature=", ", Signatur="),
		"empty signature":   regexp.MustCompile("Signature=.*").ReplaceAllString(good, "Signature="),
		"short signature":   good[:len(good)-1],
		"long signature":    good + "0",
		"a part twice":      good + ", " + good[strings.Index(good, "Signature="):],
		"a part more":       good + ", Extra=1",
		"no commas":         strings.ReplaceAll(good, ",", " "),
		"semicolons":        strings.ReplaceAll(good, ",", ";"),
		"no names at all":   regexp.MustCompile("SignedHeaders=[^,]*, ").ReplaceAllString(good, ""),
		"empty names":       regexp.MustCompile("SignedHeaders=[^,]*").ReplaceAllString(good, "SignedHeaders="),
		"capital signature": good[:len(good)-64] + strings.ToUpper(good[len(good)-64:]),
	} {
		resp, text := g.do("GET", "/photos/k", "", "", append(slices.Clone(rest), line)...)
		wantRefusal(t, what, resp, text, denied...)
	}
	for what, query := range map[string]string{
		"version 2":       "AWSAccessKeyId=user&Expires=9999999999&Signature=abc",
		"version 2 alone": "AWSAccessKeyId=user",
		"an ECDSA":        "X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Credential=user&X-Amz-Signature=00",
		"v4a regions":     "X-Amz-Region-Set=*&X-Amz-Algorithm=AWS4-HMAC-SHA256",
	} {
		resp, text := g.do("GET", "/photos/k?"+query, "", "")
		wantRefusal(t, what, resp, text, denied...)
	}
	// No digest of the body, which header authentication needs.
	resp, text := g.do("GET", "/photos/k", "", "", slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return strings.HasPrefix(l, "x-amz-content-sha256") })...)
	wantRefusal(t, "no digest", resp, text, denied...)
	rec.wantNone(t)
	if resp, text := g.do("GET", "/photos/k", "", "", lines...); resp.StatusCode != 200 {
		t.Errorf("GET, rightly signed = %d %s, want 200", resp.StatusCode, text)
	}
}

// A sigStore is the embedded server behind a gateway, with an old object and an
// upload that has an old part, in one of the account's two modes.
type sigStore struct {
	*testGateway
	backend  *watchedDemo
	uploadID string
}

func startSigStore(t *testing.T, mode string) *sigStore {
	t.Helper()
	s := &sigStore{backend: startWatchedDemo(t)}
	s.testGateway = startGateway(t, testConfig(s.backend.URL, with("accounts.main.trailing_checksums", mode)))
	if resp, _ := s.do("PUT", "/photos/k", userKey, "old"); resp.StatusCode != 200 {
		t.Fatalf("PUT = %d, want 200", resp.StatusCode)
	}
	s.uploadID = sigCreate(t, s.testGateway, "/photos/k")
	if resp, _ := s.do("PUT", s.part(), userKey, "old"); resp.StatusCode != 200 {
		t.Fatalf("UploadPart = %d, want 200", resp.StatusCode)
	}
	return s
}

// sigCreate begins a multipart upload.
func sigCreate(t *testing.T, g *testGateway, path string) (id string) {
	t.Helper()
	resp, text := g.do("POST", path+"?uploads", userKey, "")
	var created struct {
		XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
		UploadID string   `xml:"UploadId"`
	}
	if err := xml.Unmarshal([]byte(text), &created); err != nil || resp.StatusCode != 200 || created.UploadID == "" {
		t.Fatalf("CreateMultipartUpload = %d %s", resp.StatusCode, text)
	}
	return created.UploadID
}

func (s *sigStore) part() string { return "/photos/k?partNumber=1&uploadId=" + s.uploadID }

// targets are what an upload can be made to.
func (s *sigStore) targets() []string { return []string{"/photos/k", "/photos/new", s.part()} }

// checkOld fails the test if anything but what was there from the beginning is
// stored, once the backend is done with what it got.
func (s *sigStore) checkOld(t *testing.T, what string) {
	t.Helper()
	// The next connection is accepted after the broken ones.
	s.do("HEAD", "/photos/k", userKey, "")
	await(t, "the backend to be quiet", func() bool { return s.backend.busy.Load() == 0 })
	if resp, text := s.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || text != "old" {
		t.Errorf("%s: GET = %d, %d bytes, want the old object", what, resp.StatusCode, len(text))
	}
	if resp, text := s.do("GET", "/photos/new", userKey, ""); resp.StatusCode != 404 {
		t.Errorf("%s: GET of what was never stored = %d, %d bytes, want 404", what, resp.StatusCode, len(text))
	}
	_, text := s.do("GET", "/photos/k?uploadId="+s.uploadID, userKey, "")
	var list struct {
		Part []struct {
			ETag string
			Size int
		}
	}
	if err := xml.Unmarshal([]byte(text), &list); err != nil || len(list.Part) != 1 || list.Part[0].Size != 3 || list.Part[0].ETag != fmt.Sprintf(`"%x"`, md5.Sum([]byte("old"))) {
		t.Errorf("%s: ListParts = %s, want the old part", what, text)
	}
}

// A sigCounter is a backend that counts what it gets of each upload, behind a
// gateway.
type sigCounter struct {
	*testGateway
	accepted, finished atomic.Int64
	uploads            chan sigUpload
}

type sigUpload struct {
	header   http.Header
	declared int64
	got      string
}

func startSigCounter(t *testing.T, mode string) *sigCounter {
	t.Helper()
	c := &sigCounter{uploads: make(chan sigUpload, 16)}
	endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
		c.accepted.Add(1)
		defer c.finished.Add(1)
		_, header, err := readHead(r)
		if err != nil {
			return
		}
		size, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
		if err != nil {
			size = -1
		}
		got, _ := io.ReadAll(io.LimitReader(r, size))
		if int64(len(got)) == size {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		}
		c.uploads <- sigUpload{http.Header(header), size, string(got)}
	})
	c.testGateway = startGateway(t, testConfig(endpoint, with("accounts.main.trailing_checksums", mode)))
	return c
}

// checkCut fails the test if the backend has got all the bytes of an upload that
// it was promised, or the end of the frames.
func (c *sigCounter) checkCut(t *testing.T, what string) {
	t.Helper()
	await(t, "the backend", func() bool { return c.finished.Load() == c.accepted.Load() })
	for len(c.uploads) > 0 { // that of the request before, perhaps: it may be accepted late
		u := <-c.uploads
		if int64(len(u.got)) >= u.declared {
			t.Errorf("%s: the backend got %d of %d bytes, want at least one less", what, len(u.got), u.declared)
		}
		if u.header.Get("X-Amz-Content-Sha256") == sigTrailer && (strings.Contains(u.got, "\r\n0\r\n") || strings.Contains(u.got, sigCRC32)) {
			t.Errorf("%s: the backend got the last chunk, or the trailer, of an upload that was refused", what)
		}
	}
}

// sigModes are the values of an account's trailing_checksums.
var sigModes = []string{"forward", "verify"}

// sigRefuse sends uploads that must be refused to a store and to a counter, in
// each mode and by each door, and checks that nothing comes of them. The bend
// returns target, header lines and body of an upload, to a target that changes
// from one to the next; a nil body means that there
// is nothing to bend in this framing.
func sigRefuse(t *testing.T, manner string, bend func(d sigDoor, target string) (string, []string, *string), want ...string) {
	t.Helper()
	turn := int(crc32.ChecksumIEEE([]byte(t.Name()))) // or there would be thousands
	for _, mode := range sigModes {
		store, counter := startSigStore(t, mode), startSigCounter(t, mode)
		for _, d := range sigDoors {
			what := mode + "/" + d.String() + "/" + manner
			turn++
			for _, target := range store.targets()[turn%3 : turn%3+1] {
				target, lines, body := bend(d, target)
				if body == nil {
					continue
				}
				resp, text := sigSend(store.testGateway, target, lines, *body, manner, 1)
				sigRefusal(t, what, "PUT", resp, text, want...)
				resp, text = sigSend(counter.testGateway, target, lines, *body, manner, 1)
				sigRefusal(t, what, "PUT", resp, text, want...)
				counter.checkCut(t, what)
			}
		}
		store.checkOld(t, mode+"/"+manner)
	}
}

// sigPayload is a payload in chunks: more in all than the buffers on the way.
var sigPayload = func() []string {
	text := bytesOf(57, 2*65536+8192+1000)
	return []string{text[:65536], text[65536 : 2*65536], text[2*65536 : 2*65536+8192], text[2*65536+8192:]}
}()

// Case 55: a digest that was signed, in the header or into a presigned URL, is
// of this body and no other; that is known only at its last byte.
func TestAbuse055WrongDigest(t *testing.T) {
	for _, mode := range sigModes {
		store, counter := startSigStore(t, mode), startSigCounter(t, mode)
		for _, size := range []int{0, 1, 2, 1000, 70_000} {
			body := bytesOf(55, size)
			others := []string{body + "x", "something else"}
			if size > 0 {
				others = append(others, body[:size-1], body[:size-1]+string(body[size-1]^1), "\x01"+body[1:]+"\x02")
			}
			for _, other := range others {
				for _, target := range store.targets() {
					for _, door := range []string{"header", "presigned", "query"} {
						path, query, _ := strings.Cut(target, "?")
						head := sigHead{path: path, payload: sigSHA256(other)}
						if query != "" {
							head.query = strings.Split(query, "&")
						}
						var lines []string
						to := target
						switch door {
						case "header":
							lines, _ = head.sign()
						case "presigned":
							head.header = []string{"x-amz-content-sha256: " + head.payload}
							lines = head.header
							to, _ = head.presign("60")
						case "query":
							head.query = append(head.query, "X-Amz-Content-Sha256="+head.payload)
							to, _ = head.presign("60")
						}
						what := fmt.Sprintf("%s: %d bytes with the digest of %d", door, size, len(other))
						resp, text := sigSend(store.testGateway, to, lines, body, "length", 0)
						sigRefusal(t, what, "PUT", resp, text, "400 XAmzContentSHA256Mismatch")
						resp, text = sigSend(counter.testGateway, to, lines, body, "length", 0)
						sigRefusal(t, what, "PUT", resp, text, "400 XAmzContentSHA256Mismatch")
						counter.checkCut(t, what)
					}
				}
			}
		}
		store.checkOld(t, mode)
	}
}

// Case 56: each chunk carries a signature over the one before, so that none can
// be changed, moved or left out; the last chunk and the trailer no less than the
// first. What was stored before stays.
func TestAbuse056ChunkSignatures(t *testing.T) {
	bends := map[string]func([]string) []string{
		"the second": func(p []string) []string { p[2] = sigWrong(p[2]); return p },
		"the last":   func(p []string) []string { p[8] = sigWrong(p[8]); return p },
		"the first":  func(p []string) []string { p[0] = sigWrong(p[0]); return p },
		"swapped":    func(p []string) []string { p[0], p[1], p[2], p[3] = p[2], p[3], p[0], p[1]; return p },
		"swapped bytes": func(p []string) []string {
			p[1], p[3] = p[3], p[1]
			return p
		},
		"twice":          func(p []string) []string { p[2], p[3] = p[0], p[1]; return p },
		"a changed byte": func(p []string) []string { p[7] = "\x00\x01" + p[7][2:]; return p },
		"the last byte":  func(p []string) []string { n := len(p[7]) - 3; p[7] = p[7][:n] + string(p[7][n]^1) + "\r\n"; return p },
		"of another head": func(p []string) []string {
			p[0] = regexp.MustCompile("=.*\r").ReplaceAllString(p[0], "="+strings.Repeat("0", 64)+"\r")
			return p
		},
	}
	for name, change := range bends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
				if !d.verifies() {
					return "", nil, nil
				}
				target, lines, chain := d.open(target, len(strings.Join(sigPayload, "")))
				body := strings.Join(change(sigFrames(d.framing, chain, sigPayload...)), "")
				return target, lines, &body
			}, "403 SignatureDoesNotMatch")
		})
	}
	for name, change := range map[string]func([]string) []string{
		"trailer signature wrong":   func(p []string) []string { p[10] = sigWrong(p[10]); return p },
		"trailer signature missing": func(p []string) []string { return slices.Delete(p, 10, 11) },
		"trailer signature empty":   func(p []string) []string { p[10] = "x-amz-trailer-signature:\r\n"; return p },
		"trailer signature first, wrong": func(p []string) []string {
			p[9], p[10] = sigWrong(p[10]), p[9]
			return p
		},
		"of the chunk before": func(p []string) []string {
			p[10] = "x-amz-trailer-signature:" + regexp.MustCompile("[0-9a-f]{64}").FindString(p[8]) + "\r\n"
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
				if !d.verifies() || d.framing != sigTrailing {
					return "", nil, nil
				}
				target, lines, chain := d.open(target, len(strings.Join(sigPayload, "")))
				body := strings.Join(change(sigFrames(d.framing, chain, sigPayload...)), "")
				return target, lines, &body
			}, "403 SignatureDoesNotMatch", "400 InvalidRequest")
		})
	}
	// A chunk of the right key, which begins a chain of its own: the head is not
	// the one that was sent. And a framing without signatures, in a head that
	// promises them.
	t.Run("another chain", func(t *testing.T) {
		t.Parallel()
		sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
			if !d.verifies() {
				return "", nil, nil
			}
			target, lines, chain := d.open(target, len(strings.Join(sigPayload, "")))
			chain.previous = strings.Repeat("0", 64)
			body := strings.Join(sigFrames(d.framing, chain, sigPayload...), "")
			return target, lines, &body
		}, "403 SignatureDoesNotMatch")
	})
	t.Run("no signatures", func(t *testing.T) {
		t.Parallel()
		signatures := regexp.MustCompile(";chunk-signature=[0-9a-f]{64}|x-amz-trailer-signature:.*\r\n")
		sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
			if !d.verifies() {
				return "", nil, nil
			}
			target, lines, chain := d.open(target, len(strings.Join(sigPayload, "")))
			pieces := sigFrames(d.framing, chain, sigPayload...)
			for i := range pieces {
				if len(pieces[i]) < 200 {
					pieces[i] = signatures.ReplaceAllString(pieces[i], "")
				}
			}
			body := strings.Join(pieces, "")
			return target, lines, &body
		}, "403 SignatureDoesNotMatch", "400 InvalidRequest")
	})
}

// sigWrong changes one digit of the signature in a line.
func sigWrong(line string) string {
	n := len(line) - len("\r\n") - 1
	digit := "0"
	if line[n] == '0' {
		digit = "1"
	}
	return line[:n] + digit + "\r\n"
}

// The right ones are stored, without the envelope, in chunks of any form that S3
// takes; or all the refusals would prove nothing.
func TestAbuse056RightChunks(t *testing.T) {
	for _, mode := range sigModes {
		store := startSigStore(t, mode)
		for _, d := range sigDoors {
			for _, chunks := range [][]string{nil, {"x"}, {"\r\n0\r\n\r\n"}, sigPayload, {strings.Repeat("a", 8192), "b"}, {strings.Repeat("c", 200_000)}} {
				want := strings.Join(chunks, "")
				for _, manner := range []string{"length", "chunked"} {
					for _, target := range store.targets()[1:] {
						to, lines, chain := d.open(target, len(want))
						body := strings.Join(sigFrames(d.framing, chain, chunks...), "")
						resp, text := sigSend(store.testGateway, to, lines, body, manner, 0)
						if etag := fmt.Sprintf(`"%x"`, md5.Sum([]byte(want))); resp.StatusCode != 200 || resp.Header.Get("Etag") != etag {
							t.Fatalf("%s/%s: PUT of %d bytes = %d %s, ETag %s, want 200 and %s", mode, d, len(want), resp.StatusCode, text, resp.Header.Get("Etag"), etag)
						}
					}
					resp, text := store.do("GET", "/photos/new", userKey, "", "x-amz-checksum-mode: ENABLED")
					if text != want || resp.Header.Get("Content-Encoding") != "" {
						t.Errorf("%s/%s: GET: %d bytes, Content-Encoding %q, want the %d that were sent, and none", mode, d, len(text), resp.Header.Get("Content-Encoding"), len(want))
					}
					if d.framing != sigChunks && mode == "forward" && resp.Header.Get(sigCRC32) != sigSum(want) {
						t.Errorf("%s/%s: GET: %s = %q, want the client's, %q", mode, d, sigCRC32, resp.Header.Get(sigCRC32), sigSum(want))
					}
				}
			}
		}
	}
}

// Case 57: one reading of the framing, and the length exact. Another reading
// stores bytes of the envelope, or half of an object; a careless one never ends.
func TestAbuse057Framing(t *testing.T) {
	whole := strings.Join(sigPayload, "")
	for name, lengths := range map[string][]string{
		"too small":  {strconv.Itoa(len(whole) - 1)},
		"far less":   {"1"},
		"none":       {"0"},
		"too big":    {strconv.Itoa(len(whole) + 1)},
		"far more":   {strconv.Itoa(len(whole) + 1<<20)},
		"absent":     {"-"},
		"-1":         {"-1"},
		"+5":         {fmt.Sprintf("+%d", len(whole))},
		"abc":        {"abc"},
		"hex":        {fmt.Sprintf("0x%x", len(whole))},
		"a fraction": {fmt.Sprintf("%d.0", len(whole))},
		"two in one": {fmt.Sprintf("%d, %d", len(whole), len(whole))},
		"empty":      {""},
		"overflow":   {"18446744073709551616"},
		"2^63":       {"9223372036854775808"},
	} {
		t.Run("length "+name, func(t *testing.T) {
			t.Parallel()
			sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
				line := "x-amz-decoded-content-length: " + lengths[0]
				if lengths[0] == "-" {
					line = "x-amz-decoded-content-length:-"
				}
				target, lines, chain := d.open(target, 0, line)
				body := strings.Join(sigFrames(d.framing, chain, sigPayload...), "")
				return target, lines, &body
			}, "400 IncompleteBody", "400 InvalidRequest", "400 InvalidArgument", "411 MissingContentLength")
		})
	}
	for name, bend := range map[string]func(p []string) []string{
		"size -5":         func(p []string) []string { p[6] = "-" + p[6]; return p },
		"size +5":         func(p []string) []string { p[6] = "+" + p[6]; return p },
		"size 0x5":        func(p []string) []string { p[6] = "0x" + p[6]; return p },
		"a space before":  func(p []string) []string { p[6] = " " + p[6]; return p },
		"17 digits":       func(p []string) []string { p[6] = "00000000000000" + p[6]; return p },
		"wrapped round":   func(p []string) []string { p[6] = "1000000000000" + fmt.Sprintf("%04x", 1000) + p[6][3:]; return p },
		"no size":         func(p []string) []string { p[6] = p[6][3:]; return p },
		"one too large":   func(p []string) []string { p[6] = "3e9" + p[6][3:]; return p },
		"one too small":   func(p []string) []string { p[6] = "3e7" + p[6][3:]; return p },
		"1 MB extension":  func(p []string) []string { p[6] = p[6][:3] + ";a=" + strings.Repeat("b", 1<<20) + "\r\n"; return p },
		"1 MB of a line":  func(p []string) []string { p[6] = strings.Repeat("0", 1<<20); return p },
		"an empty chunk":  func(p []string) []string { p[6] = p[8] + "\r\n" + p[6]; return p },
		"no line break":   func(p []string) []string { p[7] = strings.TrimSuffix(p[7], "\r\n"); return p },
		"LF alone":        func(p []string) []string { p[6] = strings.Replace(p[6], "\r\n", "\n", 1); return p },
		"LF after chunk":  func(p []string) []string { p[7] = strings.TrimSuffix(p[7], "\r\n") + "\n"; return p },
		"CR alone":        func(p []string) []string { p[6] = strings.Replace(p[6], "\r\n", "\r", 1); return p },
		"last chunk gone": func(p []string) []string { return append(p[:8], p[9:]...) },
		"last CRLF gone":  func(p []string) []string { p[len(p)-1] = ""; return p },
		"last LF gone":    func(p []string) []string { p[len(p)-1] = "\r"; return p },
		"a byte after":    func(p []string) []string { return append(p, "x") },
		"a CRLF after":    func(p []string) []string { return append(p, "\r\n") },
		"twice":           func(p []string) []string { return append(p, p...) },
		"a request after": func(p []string) []string { return append(p, smuggled) },
		"plain":           func(p []string) []string { return sigPayload },
		"unknown trailer": func(p []string) []string { p[len(p)-1] = "x-amz-meta-a:b\r\n\r\n"; return p },
		"a hundred of it": func(p []string) []string { p[len(p)-1] = strings.Repeat("x-amz-meta-a:b\r\n", 100) + "\r\n"; return p },
		"1 MB trailer": func(p []string) []string {
			p[len(p)-1] = sigCRC32 + ":" + strings.Repeat("A", 1<<20) + "\r\n\r\n"
			return p
		},
		"trailer no colon": func(p []string) []string { p[len(p)-1] = "x\r\n\r\n"; return p },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
				target, lines, chain := d.open(target, len(whole))
				body := strings.Join(bend(sigFrames(d.framing, chain, sigPayload...)), "")
				return target, lines, &body
			}, "400 IncompleteBody", "400 InvalidRequest", "403 SignatureDoesNotMatch")
		})
	}
	t.Run("small chunks", func(t *testing.T) {
		t.Parallel()
		sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
			target, lines, chain := d.open(target, 65536+8191+1)
			body := strings.Join(sigFrames(d.framing, chain, sigPayload[0], sigPayload[1][:8191], "x"), "")
			return target, lines, &body
		}, "400 InvalidChunkSizeError", "403 InvalidChunkSizeError")
	})
	t.Run("no length at all", func(t *testing.T) {
		rec := startRecorder(t, nil)
		g := startGateway(t, testConfig(rec.URL))
		for _, d := range sigDoors {
			target, lines, chain := d.open("/photos/k", 1)
			body := strings.Join(sigFrames(d.framing, chain, "x"), "")
			for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
				head := "PUT " + target + " " + version + "\r\nHost: gateway.example\r\n" + strings.Join(lines, "\r\n") + "\r\n"
				if version == "HTTP/1.0" {
					head += "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"
				}
				answers := g.answersUntilClose(head + "\r\n" + body + smuggled)
				if len(answers) != 1 {
					t.Errorf("%s, %s: %d answers, want one", d, version, len(answers))
					continue
				}
				sigRefusal(t, d.String()+version, "PUT", answers[0].Response, answers[0].text, "411 MissingContentLength")
			}
		}
		rec.wantNone(t)
	})
}

// Case 59: whether a body is framed is told by x-amz-content-sha256, which is
// signed, and not by Content-Encoding. What looks like frames and is none is
// stored as it is; what says it is framed by one of the two is refused.
func TestAbuse059FramedOrNot(t *testing.T) {
	store := startSigStore(t, "forward")
	frames := strings.Join(sigFrames(sigTrailer, nil, "hello"), "")
	for _, payload := range []string{sigUnsigned, sigSHA256(frames)} {
		for _, header := range [][]string{nil, {"content-encoding: gzip"}, {"x-amz-decoded-content-length: 5"}} {
			lines, _ := sigHead{path: "/photos/new", payload: payload, header: header}.sign()
			if resp, text := store.do("PUT", "/photos/new", "", frames, lines...); resp.StatusCode != 200 {
				t.Errorf("PUT of what looks framed, %s, %q = %d %s, want 200", payload, header, resp.StatusCode, text)
			}
			if _, text := store.do("GET", "/photos/new", userKey, ""); text != frames {
				t.Errorf("GET = %q, want what was sent", text)
			}
		}
		for _, encoding := range []string{"aws-chunked", "AWS-Chunked", "gzip,aws-chunked", "aws-chunked, gzip"} {
			lines, _ := sigHead{payload: payload, header: []string{"content-encoding: " + encoding, "x-amz-decoded-content-length: 5"}}.sign()
			resp, text := store.do("PUT", "/photos/k", "", frames, lines...)
			sigRefusal(t, encoding, "PUT", resp, text, "400 InvalidRequest")
		}
	}
	if resp, _ := store.do("DELETE", "/photos/new", userKey, ""); resp.StatusCode != 204 {
		t.Errorf("DELETE = %d", resp.StatusCode)
	}
	// Plain data that is said to be framed.
	for _, d := range sigDoors {
		for _, target := range store.targets() {
			target, lines, _ := d.open(target, 5)
			resp, text := sigSend(store.testGateway, target, lines, "hello", "length", 0)
			sigRefusal(t, d.String(), "PUT", resp, text, "400 InvalidRequest", "400 IncompleteBody")
		}
	}
	// Forms that nobody has, or that nobody here can verify.
	for _, framing := range []string{"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD", "STREAMING-", "STREAMING-AWS4-HMAC-SHA256-EVENTS"} {
		for _, door := range []string{"header", "presigned", "x-api-key"} {
			target, lines, _ := sigDoor{door, framing}.open("/photos/k", 5)
			resp, text := sigSend(store.testGateway, target, lines, frames, "length", 0)
			sigRefusal(t, framing, "PUT", resp, text, "501 NotImplemented", "400 InvalidArgument")
		}
	}
	store.checkOld(t, "59")
	// Framed, and Content-Encoding does not say so: it need not.
	for _, d := range sigDoors {
		target, lines, chain := d.open("/photos/new", 5, "content-encoding:-")
		resp, text := sigSend(store.testGateway, target, lines, strings.Join(sigFrames(d.framing, chain, "hello"), ""), "length", 0)
		if resp.StatusCode != 200 {
			t.Errorf("%s: PUT = %d %s, want 200", d, resp.StatusCode, text)
		}
		if resp, text := store.do("GET", "/photos/new", userKey, ""); text != "hello" || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: GET = %q, Content-Encoding %q, want hello, and none", d, text, resp.Header.Get("Content-Encoding"))
		}
	}
}

// Case 60: a checksum that is announced is there, once, of a kind that can be
// verified, and right. Otherwise a client that trusts in it trusts in nothing.
func TestAbuse060TrailingChecksums(t *testing.T) {
	whole := strings.Join(sigPayload, "")
	announced := map[string]string{
		"nothing":      "x-amz-trailer:-",
		"empty":        "x-amz-trailer:",
		"unknown":      "x-amz-trailer: x-amz-checksum-md5",
		"another":      "x-amz-trailer: x-amz-checksum-crc32c",
		"not one":      "x-amz-trailer: x-amz-meta-a",
		"content-type": "x-amz-trailer: content-type",
		"twice in one": "x-amz-trailer: x-amz-checksum-crc32, x-amz-checksum-crc32",
		"two kinds":    "x-amz-trailer: x-amz-checksum-crc32,x-amz-checksum-sha1",
	}
	for name, line := range announced {
		t.Run("announced "+name, func(t *testing.T) {
			t.Parallel()
			sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
				if d.framing == sigChunks && name == "nothing" || d.framing == sigChunks && name == "empty" {
					return "", nil, nil // there is nothing wrong with it
				}
				target, lines, chain := d.open(target, len(whole), line)
				body := strings.Join(sigFrames(d.framing, chain, sigPayload...), "")
				return target, lines, &body
			}, "400 InvalidRequest", "400 InvalidArgument")
		})
	}
	t.Run("announced in two headers", func(t *testing.T) {
		t.Parallel()
		sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
			if d.door != "x-api-key" || d.framing == sigChunks {
				return "", nil, nil
			}
			target, lines, chain := d.open(target, len(whole))
			body := strings.Join(sigFrames(d.framing, chain, sigPayload...), "")
			return target, append(lines, "x-amz-trailer: "+sigCRC32), &body
		}, "400 InvalidRequest")
	})
	wrong := sigCRC32 + ":" + sigSum("something else") + "\r\n"
	for name, bend := range map[string]func(line string) string{
		"absent":       func(string) string { return "" },
		"wrong":        func(string) string { return wrong },
		"empty":        func(string) string { return sigCRC32 + ":\r\n" },
		"no base64":    func(string) string { return sigCRC32 + ":!!!!!!==\r\n" },
		"too long":     func(l string) string { return strings.Replace(l, "\r\n", "AAAA\r\n", 1) },
		"hex":          func(string) string { return fmt.Sprintf("%s:%08x\r\n", sigCRC32, crc32.ChecksumIEEE([]byte(whole))) },
		"twice":        func(l string) string { return l + l },
		"right, wrong": func(l string) string { return l + wrong },
		"wrong, right": func(l string) string { return wrong + l },
		"case, wrong":  func(l string) string { return l + strings.ToUpper(wrong[:len(sigCRC32)]) + wrong[len(sigCRC32):] },
		"another":      func(l string) string { return strings.Replace(l, "crc32", "crc32c", 1) },
		"one more":     func(l string) string { return l + "x-amz-checksum-sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
				if d.framing == sigChunks {
					return "", nil, nil
				}
				target, lines, chain := d.open(target, len(whole))
				pieces := sigFrames(d.framing, chain, sigPayload...)
				pieces[9] = bend(pieces[9])
				if d.framing == sigTrailing { // signed, so that it is the checksum that is wrong
					chain.previous = regexp.MustCompile("[0-9a-f]{64}").FindString(pieces[8])
					pieces[10] = "x-amz-trailer-signature:" + chain.trailer(strings.ReplaceAll(pieces[9], "\r", "")) + "\r\n"
				}
				body := strings.Join(pieces, "")
				return target, lines, &body
			}, "400 InvalidRequest", "400 BadDigest", "400 InvalidDigest", "403 SignatureDoesNotMatch")
		})
	}
}

// Case 61: a user that is not there, a wrong key of one that is, and one whose
// key can't verify anything: the same status, the same words but for S3's code,
// and the same work, so that time tells nothing either.
func TestAbuse061UnknownUser(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL, with("users.hashed", map[string]any{"api_key_sha256": sigSHA256("some key of somebody"), "role": "user", "allowed_buckets": []any{"photos"}})))
	claims := map[string]sigHead{
		"InvalidAccessKeyId":    {user: "nobody", method: "GET"},
		"SignatureDoesNotMatch": {user: "user", secret: "not the key of anybody", method: "GET"},
		"AccessDenied":          {user: "hashed", secret: "some key of somebody", method: "GET"},
	}
	headers := map[string]string{}
	work := map[string]float64{}
	for code, head := range claims {
		for _, presigned := range []bool{false, true} {
			target := "/photos/k"
			var lines []string
			if presigned {
				target, _ = head.presign("60")
			} else {
				lines, _ = head.sign()
			}
			resp, text := g.do("GET", target, "", "", lines...)
			sigRefusal(t, head.user, "GET", resp, text, "403 "+code)
			if head.user != "user" && strings.Contains(text, head.user) { // "user" is a word
				t.Errorf("the answer names the user: %s", text)
			}
			var names []string
			for name := range resp.Header {
				names = append(names, name)
			}
			slices.Sort(names)
			headers[strings.Join(names, " ")] = code
			raw := "GET " + target + " HTTP/1.1\r\nHost: gateway.example\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n"
			r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
			if err != nil {
				t.Fatal(err)
			}
			query, err := parseQuery(r.URL.RawQuery)
			if err != nil {
				t.Fatal(err)
			}
			work[fmt.Sprint(presigned, code)] = testing.AllocsPerRun(100, func() {
				if _, _, refusal := g.gw.auth.authenticate(r, "/photos/k", query, time.Now()); refusal == nil || refusal.Code != code {
					t.Errorf("authenticate: %v, want %s", refusal, code)
				}
			})
		}
	}
	if len(headers) != 1 {
		t.Errorf("the answers have different headers: %q", headers)
	}
	// Each HMAC allocates, so who leaves one out is found by that.
	for _, presigned := range []bool{false, true} {
		want := work[fmt.Sprint(presigned, "SignatureDoesNotMatch")]
		for code := range claims {
			if got := work[fmt.Sprint(presigned, code)]; got < want-3 || got > want+3 {
				t.Errorf("presigned %t, %s takes %v allocations, a wrong key takes %v, want about the same", presigned, code, got, want)
			}
		}
	}
	rec.wantNone(t)
	for _, key := range []string{"nobody-has-this-key-0123", userKey[:len(userKey)-1] + "g", userKey + "0"} {
		resp, text := g.do("GET", "/photos/k", key, "")
		wantError(t, resp, text, 401, "Unauthorized")
	}
	rec.wantNone(t)
}

// Case 62: a comparison that stops at the first difference tells, by its time, how
// far a guess was right. So no operator and no function that stops so is used
// on a secret or a signature, anywhere but in tests.
func TestAbuse062ConstantTime(t *testing.T) {
	secret := regexp.MustCompile(`(?i)secret|signature|api_?key|passw|signingkey|hmac|sessiontoken|\.token$`)
	compares := regexp.MustCompile(`^(bytes\.(Equal|Compare|HasPrefix|Contains)|strings\.(EqualFold|Compare|HasPrefix|Contains)|reflect\.DeepEqual|slices\.(Equal|Contains|Index)|cmp\.Compare)$`)
	constants := regexp.MustCompile(`^(signatureAlgorithm|len\(.*\)|nil|true|false|\d+|"[^"]*"|".*)$`)
	// Words about secrets, which are none.
	known := regexp.MustCompile(`SignatureDoesNotMatch|^(c\.)?signatureAlgorithm|SignedHeaders|u\.secrets\)`)
	names, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	files, calls := 0, 0
	for _, entry := range names {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		source, err := os.ReadFile(entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		set := gotoken.NewFileSet()
		file, err := parser.ParseFile(set, entry.Name(), source, 0)
		if err != nil {
			t.Fatal(err)
		}
		files++
		text := func(n ast.Node) string {
			return string(source[set.Position(n.Pos()).Offset:set.Position(n.End()).Offset])
		}
		suspect := func(n ast.Node, sides ...ast.Expr) {
			for _, side := range sides {
				if constants.MatchString(text(side)) {
					return // of a form, or of whether there is one
				}
			}
			for _, side := range sides {
				if s := text(side); secret.MatchString(s) && !known.MatchString(s) {
					t.Errorf("%s: %s compares what looks like a secret", set.Position(n.Pos()), text(n))
				}
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if n.Op == gotoken.EQL || n.Op == gotoken.NEQ {
					suspect(n, n.X, n.Y)
				}
			case *ast.SwitchStmt:
				if n.Tag != nil && secret.MatchString(text(n.Tag)) {
					t.Errorf("%s: a switch on what looks like a secret: %s", set.Position(n.Pos()), text(n.Tag))
				}
			case *ast.CallExpr:
				switch name := text(n.Fun); {
				case compares.MatchString(name):
					suspect(n, n.Args...)
				case name == "subtle.ConstantTimeCompare" || name == "hmac.Equal":
					calls++
				}
			}
			return true
		})
	}
	if files < 20 || calls < 4 { // the head, a chunk, the trailer, and the demo's
		t.Errorf("%d files and %d comparisons in constant time, want at least 20 and 4: was the right folder read?", files, calls)
	}
}

// Case 63: who has overheard a signed request on plain HTTP can send it again, for
// 15 minutes. Signature Version 4 knows no other answer than TLS, and neither
// does the gateway: this is allowed, and after that time it is not (case 51).
func TestAbuse063Replay(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	lines, _ := sigHead{payload: sigSHA256("x"), at: time.Now().Add(-14 * time.Minute)}.sign()
	for i := range 3 {
		if resp, text := g.do("PUT", "/photos/k", "", "x", lines...); resp.StatusCode != 200 {
			t.Errorf("PUT, time %d = %d %s, want 200", i, resp.StatusCode, text)
		}
	}
	for _, other := range []string{"y", ""} {
		resp, text := g.do("PUT", "/photos/k", "", other, lines...)
		sigRefusal(t, "another body", "PUT", resp, text, "400 XAmzContentSHA256Mismatch")
	}
	whole := 0
	for _, seen := range rec.requests() {
		if seen.err == nil {
			whole++
		}
	}
	if whole != 3 {
		t.Errorf("the backend got %d whole requests, want 3", whole)
	}
}

// Case 60, too: a small document is read whole, and what vouches for it is
// verified all the same: where a flipped bit deletes another object.
func TestAbuse060DocumentChecksums(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, row := range []struct{ method, target, body string }{
		{"POST", "/photos?delete", "<Delete><Object><Key>a</Key></Object></Delete>"},
		{"POST", "/photos/k?uploadId=u", "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"},
		{"PUT", "/photos/k?tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"},
	} {
		path, query, _ := strings.Cut(row.target, "?")
		send := func(door, payload, body string, header ...string) (*http.Response, string) {
			lines, _ := sigHead{method: row.method, path: path, query: []string{query}, payload: payload, header: header}.sign()
			if door == "x-api-key" {
				lines = append(header, "x-amz-content-sha256: "+payload, "x-api-key: "+userKey)
			}
			return g.do(row.method, row.target, "", body, lines...)
		}
		for _, door := range []string{"x-api-key", "header"} {
			frames := strings.Join(sigFrames(sigTrailer, nil, row.body), "")
			length := fmt.Sprintf("x-amz-decoded-content-length: %d", len(row.body))
			for what, bad := range map[string]string{
				"wrong trailer": strings.Replace(frames, sigSum(row.body), sigSum(""), 1),
				"no trailer":    strings.Replace(frames, sigCRC32+":"+sigSum(row.body)+"\r\n", "", 1),
				"cut":           frames[:len(frames)-2],
				"surplus":       frames + "x",
			} {
				resp, text := send(door, sigTrailer, bad, length, "x-amz-trailer: "+sigCRC32)
				wantRefusal(t, row.target+" "+what, resp, text, "400 BadDigest", "400 InvalidRequest", "400 IncompleteBody")
			}
			resp, text := send(door, sigSHA256("x"), row.body)
			wantRefusal(t, row.target+" digest", resp, text, "400 XAmzContentSHA256Mismatch")
			resp, text = send(door, sigUnsigned, row.body, "content-md5: "+base64.StdEncoding.EncodeToString(make([]byte, 16)))
			wantRefusal(t, row.target+" content-md5", resp, text, "400 BadDigest")
		}
	}
	// Of a list of keys, the backend gets another document than the client sent: it
	// can't verify the client's checksum, so that is for the gateway to do.
	for _, line := range []string{sigCRC32 + ": " + sigSum("another list"), "x-amz-checksum-sha256: " + base64.StdEncoding.EncodeToString(make([]byte, 32))} {
		resp, text := g.do("POST", "/photos?delete", userKey, "<Delete><Object><Key>a</Key></Object></Delete>", line)
		wantRefusal(t, "DeleteObjects with "+line, resp, text, "400 BadDigest")
	}
	rec.wantNone(t)
}

// Cases 79 and 80, of frames: an upload that ends before its last frame does is
// none, wherever it ends and however: with the connection, or with a message of
// HTTP that is whole in itself.
func TestAbuse080FramesCut(t *testing.T) {
	for _, mode := range sigModes {
		for _, d := range sigDoors {
			t.Run(mode+"/"+d.String(), func(t *testing.T) {
				t.Parallel()
				store, counter := startSigStore(t, mode), startSigCounter(t, mode)
				size := len(strings.Join(sigPayload, ""))
				cuts := map[int]bool{0: true, 1: true, size / 2: true}
				_, _, chain := d.open("/photos/k", size)
				pieces := sigFrames(d.framing, chain, sigPayload...)
				end := 0
				for i, piece := range pieces {
					end += len(piece)
					if i < 2 || i > 5 {
						cuts[end-2], cuts[end-1], cuts[end] = true, true, true
					}
				}
				for turn, n := range slices.Sorted(maps.Keys(cuts)) {
					for _, manner := range []string{"length", []string{"FIN", "chunked", "FIN", "RST"}[turn%4]} {
						if n == end {
							manner = "FIN" // otherwise it is whole
						}
						what := fmt.Sprintf("%s after %d of %d bytes", manner, n, end)
						for i, g := range []*testGateway{store.testGateway, counter.testGateway} {
							if manner != "length" && i != turn/4%2 { // one of the two will do
								continue
							}
							target, lines, chain := d.open(store.targets()[turn%3], size)
							body := strings.Join(sigFrames(d.framing, chain, sigPayload...), "")
							resp, text := sigSend(g, target, lines, body[:n], manner, max(1, end-n))
							if manner != "RST" {
								sigRefusal(t, what, "PUT", resp, text, "400 IncompleteBody")
							}
							if i == 1 {
								counter.checkCut(t, what)
							}
						}
					}
				}
				store.checkOld(t, "in the end")
			})
		}
	}
}

// Case 81, of frames: what is wrong with the trailer, or behind it, shows when
// the last byte of the payload has long been here; the backend does not have it
// then, whatever the size is to the buffers and frames on the way.
func TestAbuse081WrongTrailer(t *testing.T) {
	for _, size := range []int{0, 1, 2, 32 << 10, 65535, 65536, 65537, 131072} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			payload := bytesOf(81, size)
			for what, bend := range map[string]func(pieces []string) []string{
				"wrong":   func(p []string) []string { p[len(p)-2] = sigCRC32 + ":" + sigSum(payload+"x") + "\r\n"; return p },
				"surplus": func(p []string) []string { return append(p, "\r\n") },
				"cut":     func(p []string) []string { return p[:len(p)-1] },
			} {
				sigRefuse(t, "length", func(d sigDoor, target string) (string, []string, *string) {
					target, lines, chain := d.open(target, size)
					chunks := []string{payload}
					if size == 0 {
						chunks = nil
					}
					pieces := sigFrames(d.framing, chain, chunks...)
					if d.framing != sigTrailer && what == "wrong" {
						return "", nil, nil
					}
					body := strings.Join(bend(pieces), "")
					return target, lines, &body
				}, "400 BadDigest", "400 InvalidRequest", "400 IncompleteBody")
			}
		})
	}
}

// Case 85, of frames: they are the transport's and not the object's. A coding of
// the object itself stays, the length is that of the payload, and the checksum
// that came behind it gets to a backend that takes one there.
func TestAbuse085Frames(t *testing.T) {
	whole := strings.Join(sigPayload, "")
	for _, mode := range sigModes {
		rec := startRecorder(t, nil)
		g := startGateway(t, testConfig(rec.URL, with("accounts.main.trailing_checksums", mode)))
		store := startSigStore(t, mode)
		for _, d := range sigDoors {
			for sent, want := range map[string]string{
				"aws-chunked": "", "aws-chunked,gzip": "gzip", "aws-chunked, gzip": "gzip", "gzip,aws-chunked": "gzip",
				"aws-chunked,gzip,br": "gzip,br", "AWS-Chunked , gzip": "gzip", "gzip": "gzip",
			} {
				what := mode + "/" + d.String() + "/" + sent
				for _, g := range []*testGateway{g, store.testGateway} {
					target, lines, chain := d.open("/photos/new", len(whole), "content-encoding: "+sent, "content-type: text/x-test", "x-amz-meta-name: Tom")
					resp, text := sigSend(g, target, lines, strings.Join(sigFrames(d.framing, chain, sigPayload...), ""), "length", 0)
					if resp.StatusCode != 200 {
						t.Fatalf("%s: PUT = %d %s, want 200", what, resp.StatusCode, text)
					}
				}
				resp, text := store.do("GET", "/photos/new", userKey, "")
				if got := strings.ReplaceAll(resp.Header.Get("Content-Encoding"), " ", ""); got != want || text != whole || resp.ContentLength != int64(len(whole)) {
					t.Errorf("%s: GET: Content-Encoding %q, %d bytes, want %q and %d", what, got, len(text), want, len(whole))
				}
				checkHeaders(t, what+": GET", resp.Header, map[string]string{"Content-Type": "text/x-test", "X-Amz-Meta-Name": "Tom"})
				requests := rec.requests()
				seen := requests[len(requests)-1]
				encoding := strings.ReplaceAll(seen.header.Get("Content-Encoding"), " ", "")
				if mode == "verify" || d.framing == sigChunks {
					if seen.body != whole || encoding != want || seen.header.Get("Content-Length") != strconv.Itoa(len(whole)) {
						t.Errorf("%s: the backend got %d bytes, Content-Encoding %q, want the payload's %d and %q", what, len(seen.body), encoding, len(whole), want)
					}
					for _, name := range []string{"X-Amz-Trailer", "X-Amz-Decoded-Content-Length"} {
						if got, ok := seen.header[name]; ok {
							t.Errorf("%s: the backend got %s: %q, and no frames", what, name, got)
						}
					}
					continue
				}
				checkHeaders(t, what+": the backend's PUT", seen.header, map[string]string{
					"X-Amz-Decoded-Content-Length": strconv.Itoa(len(whole)), "X-Amz-Trailer": sigCRC32, "X-Amz-Content-Sha256": sigTrailer,
					"Content-Length": strconv.Itoa(len(seen.body)),
				})
				if encoding != want { // a backend might store aws-chunked
					t.Errorf("%s: the backend got Content-Encoding %q, want %q", what, encoding, want)
				}
				if tail := "\r\n0\r\n" + sigCRC32 + ":" + sigSum(whole) + "\r\n\r\n"; !strings.HasSuffix(seen.body, tail) || strings.Contains(seen.body, "chunk-signature") {
					t.Errorf("%s: the backend's body does not end in %q, or has the client's signatures", what, tail)
				}
			}
		}
	}
}

// Case 86, of the writes that are no simple ones: each is sent once, wherever the
// connection breaks.
func TestAbuse086OtherWritesOnce(t *testing.T) {
	source := startRecorder(t, answerAsS3)
	part := bytesOf(86, 100_000)
	const list = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
	for _, op := range []struct{ name, method, target, body, header string }{
		{"CompleteMultipartUpload", "POST", "/photos/k?uploadId=u", list, ""},
		{"CreateMultipartUpload", "POST", "/photos/k?uploads", "", ""},
		{"AbortMultipartUpload", "DELETE", "/photos/k?uploadId=u", "", ""},
		{"DeleteObjects", "POST", "/photos?delete", "<Delete><Object><Key>a</Key></Object></Delete>", ""},
		{"CopyObject", "PUT", "/photos/k", "", "x-amz-copy-source: pics/a"},
		{"UploadPartCopy", "PUT", "/photos/k?partNumber=1&uploadId=u", "", "x-amz-copy-source: pics/a"},
		{"CopyObject across", "PUT", "/photos/k", "", "x-amz-copy-source: faraway/a"},
		{"UploadPartCopy across", "PUT", "/photos/k?partNumber=1&uploadId=u", "", "x-amz-copy-source: faraway/a"},
		{"UploadPart", "PUT", "/photos/k?partNumber=1&uploadId=u", part, ""},
		{"PutObjectTagging", "PUT", "/photos/k?tagging", "<Tagging><TagSet></TagSet></Tagging>", ""},
	} {
		for _, stage := range []string{"before reading", "after the head", "after the body", "in the status line", "in the answer's head", "in the answer", "a 500", "a 503"} {
			for _, kept := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/kept=%t", op.name, stage, kept), func(t *testing.T) {
					t.Parallel()
					var writes, connections atomic.Int64
					endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
						connections.Add(1)
						if kept { // a read first, whose connection the write then takes
							line, _, err := readHead(r)
							if err != nil {
								return
							}
							if !strings.HasPrefix(line, "GET ") {
								writes.Add(1)
								return
							}
							io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
						}
						if _, err := r.Peek(1); err != nil {
							return
						}
						writes.Add(1)
						if stage == "before reading" {
							return
						}
						_, header, err := readHead(r)
						if err != nil || stage == "after the head" {
							return
						}
						size, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64)
						io.CopyN(io.Discard, r, size)
						io.WriteString(conn, map[string]string{
							"in the status line": "HTTP/1.1 2", "in the answer's head": "HTTP/1.1 200 OK\r\nContent-Le",
							"in the answer": "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n<?xml version=\"1.0\"?><Comp",
							"a 500":         "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
							"a 503":         "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nRetry-After: 0\r\nConnection: close\r\n\r\n",
						}[stage])
					})
					g := startGateway(t, twoAccounts(endpoint, source.URL))
					if kept {
						if resp, text := g.do("GET", "/photos/k", userKey, ""); resp.StatusCode != 200 || text != "ok" {
							t.Fatalf("GET = %d %q, want 200", resp.StatusCode, text)
						}
					}
					header := []string{"Idempotency-Key: 1", "X-Idempotency-Key: 2"}
					if op.header != "" {
						header = append(header, op.header)
					}
					resp, text := g.do(op.method, op.target, userKey, op.body, header...)
					if n := writes.Load(); n != 1 || connections.Load() != 1 {
						t.Errorf("the backend got it %d times on %d connections, want it once", n, connections.Load())
					}
					want := map[string]int{"a 500": 500, "a 503": 503}[stage]
					switch {
					case resp.StatusCode == cmp.Or(want, 502):
					case stage == "in the answer" && (resp.StatusCode == 0 || resp.StatusCode == 200 && resp.Header.Get("Test-Error") != ""):
					case stage == "in the answer" && resp.StatusCode == 200 && strings.Contains(op.name, "across"): // its head said all
					default:
						t.Errorf("answer %d %q, Test-Error %q, want %d", resp.StatusCode, text, resp.Header.Get("Test-Error"), cmp.Or(want, 502))
					}
				})
			}
		}
	}
}

// startSigFaults is a network that breaks, before an embedded server whose
// uploads may have parts of any size.
func startSigFaults(t *testing.T, seed uint64, bucket string) *brokenNetwork {
	t.Helper()
	demo, err := newDemoServer(t.TempDir(), testCredentials, bucket)
	if err != nil {
		t.Fatal(err)
	}
	demo.minPart = 1
	f := &brokenNetwork{backend: &watchedDemo{}, open: map[net.Conn]bool{}}
	f.backend.Server = httptest.NewUnstartedServer(demo)
	f.backend.Config.ConnState = func(_ net.Conn, now http.ConnState) {
		if now == http.StateClosed {
			f.backend.ended.Add(1)
		}
	}
	f.backend.Start()
	t.Cleanup(f.backend.Close)
	f.endpoint = startRawBackend(t, func(n int, conn net.Conn, r *bufio.Reader) {
		f.active.Add(1)
		defer f.active.Add(-1)
		f.relay(rand.New(rand.NewPCG(seed, uint64(n))), conn, r)
	})
	return f
}

// Case 89, of frames, copies and uploads in parts: many of them, one after
// another, in two accounts, through networks that break, against a map. After an
// error an object is the old one or the new one, never a part or a mix.
func TestAbuse089ModelOfCopiesAndParts(t *testing.T) {
	const absent = "\x00absent"
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			near, far := startSigFaults(t, seed, "photos"), startSigFaults(t, seed+100, "faraway")
			mode := sigModes[seed%2]
			g := startGateway(t, testConfig(near.endpoint,
				with("accounts.main.buckets", []any{"photos"}), with("accounts.main.trailing_checksums", mode),
				with("accounts.other", map[string]any{
					"endpoint_url": far.endpoint, "access_key_id": testCredentials.AccessKeyID, "secret_access_key": testCredentials.SecretAccessKey,
					"buckets": []any{"faraway"}, "trailing_checksums": mode,
				}), with("users.user.allowed_buckets", []any{"photos", "faraway"})))
			random := rand.New(rand.NewPCG(seed, 8989))
			paths := []string{"/photos/a", "/photos/b", "/faraway/a", "/faraway/b"}
			model := map[string][]string{} // what may be there
			for _, path := range paths {
				model[path] = []string{absent}
			}
			settle := func() { near.settle(t); far.settle(t) }
			whole := func(resp *http.Response) bool { return resp.StatusCode == 200 && resp.Header.Get("Test-Error") == "" }
			read := func(path string) bool {
				resp, body := g.do("GET", path, userKey, "")
				value := absent
				switch {
				case whole(resp):
					value = body
				case resp.StatusCode == 404:
				case resp.StatusCode == 200 || resp.StatusCode == 502 || resp.StatusCode == 0:
					return false
				default:
					t.Fatalf("GET = %d %s, want 200, 404 or 502", resp.StatusCode, body)
				}
				if !slices.Contains(model[path], value) {
					t.Fatalf("%s has %d bytes that are none of the %d objects it may be", path, len(value), len(model[path]))
				}
				model[path] = []string{value}
				return true
			}
			// wrote notes what may be at a path after a write: one of these values.
			wrote := func(path string, done bool, values ...string) bool {
				if done {
					model[path] = values
				} else {
					model[path] = append(model[path], values...)
				}
				return done
			}
			// put sends a value, in frames or not, by either door.
			put := func(target, value string) (*http.Response, string) {
				if random.IntN(4) == 0 {
					return g.do("PUT", target, userKey, value)
				}
				d := sigDoors[random.IntN(len(sigDoors))]
				to, lines, chain := d.open(target, len(value))
				cut := len(value) / 2
				chunks := []string{value}
				if cut > 8192 {
					chunks = []string{value[:cut], value[cut:]}
				} else if value == "" {
					chunks = nil
				}
				return sigSend(g, to, lines, strings.Join(sigFrames(d.framing, chain, chunks...), ""), "length", 0)
			}
			failed, copied, completed := 0, 0, 0
			for range 250 {
				path := paths[random.IntN(len(paths))]
				ok := true
				size := random.IntN(6000)
				if random.IntN(8) == 0 {
					size = 90_000
				}
				switch random.IntN(6) {
				case 0, 1:
					value := bytesOf(random.Uint64(), size)
					resp, _ := put(path, value)
					ok = wrote(path, whole(resp), value)
				case 2:
					resp, _ := g.do("DELETE", path, userKey, "")
					ok = wrote(path, resp.StatusCode == 204, absent)
				case 3:
					ok = read(path)
				case 4:
					source := paths[random.IntN(len(paths))]
					if source == path { // S3 refuses a copy that changes nothing
						continue
					}
					values := slices.DeleteFunc(slices.Clone(model[source]), func(v string) bool { return v == absent })
					resp, body := g.do("PUT", path, userKey, "", "x-amz-copy-source: "+source)
					done := whole(resp) && strings.Contains(body, "<CopyObjectResult")
					if resp.StatusCode == 404 && slices.Contains(model[source], absent) {
						model[source] = []string{absent}
						continue
					}
					if done && len(values) == 0 {
						t.Fatalf("a copy of nothing = %d %s", resp.StatusCode, body)
					}
					if ok = wrote(path, done, values...); ok {
						copied++
					}
				case 5:
					resp, body := g.do("POST", path+"?uploads", userKey, "")
					id := regexp.MustCompile("<UploadId>([^<]+)</UploadId>").FindStringSubmatch(body)
					if ok = whole(resp) && id != nil; !ok {
						break
					}
					all, list := "", ""
					for n := 1; n <= 3 && ok; n++ {
						part := bytesOf(random.Uint64(), size)
						// A part that was cut is sent again, with other bytes.
						for range 4 {
							var resp *http.Response
							if resp, _ = put(fmt.Sprintf("%s?partNumber=%d&uploadId=%s", path, n, id[1]), part); whole(resp) {
								all += part
								list += fmt.Sprintf("<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", n, resp.Header.Get("Etag"))
								ok = true
								break
							}
							ok = false
							settle()
							part = bytesOf(random.Uint64(), size/2)
						}
					}
					if !ok {
						break
					}
					resp, body = g.do("POST", path+"?uploadId="+id[1], userKey, "<CompleteMultipartUpload>"+list+"</CompleteMultipartUpload>")
					done := whole(resp) && strings.Contains(body, "<CompleteMultipartUploadResult")
					if ok = wrote(path, done, all); ok {
						completed++
					}
				}
				if !ok {
					failed++
					settle()
				}
			}
			for _, path := range paths {
				for tries := 0; !read(path); tries++ {
					if tries == 50 {
						t.Fatalf("%s could not be read in 50 tries", path)
					}
				}
			}
			if failed == 0 || copied == 0 || completed == 0 || near.cuts.Load() == 0 || far.cuts.Load() == 0 {
				t.Errorf("%d operations failed, %d copies and %d uploads in parts did not, %d and %d connections were cut; want some of each", failed, copied, completed, near.cuts.Load(), far.cuts.Load())
			}
		})
	}
}

// Case 108, of a chunk: one of 256 MiB may be signed, and its signature is known
// to be good only at its end. It is passed on as it comes all the same.
func TestAbuse108SignedChunk(t *testing.T) {
	const block = 1 << 20
	blocks := 256
	if testing.Short() {
		blocks = 32
	}
	size := blocks * block
	zeros := strings.Repeat("\x00", block)
	sum := sha256.New()
	for range blocks {
		io.WriteString(sum, zeros)
	}
	digest := hex.EncodeToString(sum.Sum(nil))
	for _, wrong := range []bool{false, true} {
		var got atomic.Int64
		counted := make(chan struct{}, 1)
		endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err != nil {
				return
			}
			buffer := make([]byte, 64<<10)
			for got.Load() < int64(size) {
				n, err := r.Read(buffer)
				if got.Add(int64(n)); err != nil {
					break
				}
			}
			if got.Load() == int64(size) {
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}
			counted <- struct{}{}
		})
		g := startGateway(t, testConfig(endpoint, with("max_file_size", size)))
		target, lines, chain := sigDoor{"header", sigChunks}.open("/photos/k", size)
		chain.previous = hex.EncodeToString(sigHMAC(chain.key, "AWS4-HMAC-SHA256-PAYLOAD\n"+chain.rest+chain.previous+"\n"+sigEmpty+"\n"+digest))
		first := fmt.Sprintf("%x;chunk-signature=%s\r\n", size, chain.previous)
		if wrong {
			first = sigWrong(first)
		}
		last := "\r\n0;chunk-signature=" + chain.chunk("") + "\r\n\r\n"
		var resp *http.Response
		text := ""
		peak := memoryPeak(func() {
			conn := g.dial()
			defer conn.Close()
			fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
				target, strings.Join(lines, "\r\n"), len(first)+size+len(last), first)
			for range blocks {
				if _, err := io.WriteString(conn, zeros); err != nil {
					break
				}
			}
			io.WriteString(conn, last)
			resp, text = readAnswer(t, "PUT", conn)
		})
		<-counted
		switch {
		case wrong:
			sigRefusal(t, "a wrong signature", "PUT", resp, text, "403 SignatureDoesNotMatch")
			if got.Load() >= int64(size) {
				t.Errorf("the backend got all %d bytes of a chunk that was refused", got.Load())
			}
		case resp.StatusCode != 200 || got.Load() != int64(size):
			t.Errorf("PUT = %d %s, the backend got %d bytes, want 200 and %d", resp.StatusCode, text, got.Load(), size)
		}
		if peak > 32<<20 {
			t.Errorf("the memory in use grew by %d MiB, want less than 32", peak>>20)
		}
	}
}

// A watchedDemo is the embedded server, watched: how many requests it got, and
// how many of its connections are over.
type watchedDemo struct {
	*httptest.Server
	requests, opened, ended, busy atomic.Int64
}

func startWatchedDemo(t *testing.T) *watchedDemo {
	t.Helper()
	demo, err := newDemoServer(t.TempDir(), testCredentials, "photos", "secret")
	if err != nil {
		t.Fatal(err)
	}
	d := &watchedDemo{}
	d.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.requests.Add(1)
		demo.ServeHTTP(w, r)
	}))
	var mu sync.Mutex // guards state
	state := map[net.Conn]http.ConnState{}
	d.Config.ConnState = func(conn net.Conn, now http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		old, known := state[conn]
		isBusy := func(s http.ConnState) bool { return s == http.StateNew || s == http.StateActive }
		if known && isBusy(old) {
			d.busy.Add(-1)
		}
		if isBusy(now) {
			d.busy.Add(1)
		}
		switch now {
		case http.StateNew:
			d.opened.Add(1)
		case http.StateClosed:
			d.ended.Add(1)
		}
		state[conn] = now
	}
	d.Start()
	t.Cleanup(d.Close)
	return d
}

// smuggled is a request that must never be run: it is inside another.
const smuggled = "GET /secret/smuggled HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + adminKey + "\r\n\r\n"

// A brokenNetwork is a network before a backend that cuts connections, at
// points that follow from a seed.
type brokenNetwork struct {
	backend  *watchedDemo
	endpoint string

	mu     sync.Mutex // guards open and dialed
	open   map[net.Conn]bool
	dialed int64

	active atomic.Int64 // connections under way
	cuts   atomic.Int64
}

func (f *brokenNetwork) relay(random *rand.Rand, client net.Conn, r io.Reader) {
	server, err := net.Dial("tcp", f.backend.Listener.Addr().String())
	if err != nil {
		return
	}
	f.mu.Lock()
	f.dialed++
	f.open[client] = true
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.open, client)
		f.mu.Unlock()
	}()
	up, down := random.Int64N(30_000), int64(1<<40)
	if random.IntN(2) == 0 {
		up, down = down, up
	}
	reset := random.IntN(2) == 0
	var once sync.Once
	both := make(chan struct{}, 2)
	pipe := func(to net.Conn, from io.Reader, n int64) {
		if copied, _ := io.CopyN(to, from, n); copied == n {
			f.cuts.Add(1)
		}
		once.Do(func() {
			if reset {
				client.(*net.TCPConn).SetLinger(0)
				server.(*net.TCPConn).SetLinger(0)
			}
			client.Close()
			server.Close()
		})
		both <- struct{}{}
	}
	go pipe(server, r, up)
	go pipe(client, server, down)
	<-both
	<-both
}

// settle closes every connection and waits until the backend is done with
// them all: what it has not stored now it never will.
func (f *brokenNetwork) settle(t *testing.T) {
	t.Helper()
	await(t, "the backend to be done", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for conn := range f.open {
			conn.Close()
		}
		return f.active.Load() == 0 && len(f.open) == 0 && f.backend.ended.Load() == f.dialed
	})
}
