package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"io/fs"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const causeToken = "SESSIONTOKENCANARY0123456789abcdefSESSIONTOKENCANARY"

// causeEchoes are answers of a confused or hostile backend. {S} is a secret, or all that
// the request was authenticated with.
var causeEchoes = []struct{ name, answer string }{
	{"instead of an answer", "{S}\r\n\r\n"},
	{"without a line break", "{S}"},
	{"the version", "{S} 200 OK\r\n\r\n"},
	{"the status", "HTTP/1.1 {S}\r\n\r\n"},
	{"the status, alone", "HTTP/1.1 {S} OK\r\nContent-Length: 0\r\n\r\n"},
	{"the reason", "HTTP/1.1 403 {S}\r\nContent-Length: 0\r\n\r\n"},
	{"the reason of an odd status", "HTTP/1.1 999 {S}\r\nContent-Length: 0\r\n\r\n"},
	{"the reason of a switch", "HTTP/1.1 101 {S}\r\nUpgrade: {S}\r\nConnection: upgrade\r\n\r\n"},
	{"an interim answer", "HTTP/1.1 103 {S}\r\nLink: {S}\r\n{S}\r\n\r\n"},
	{"nothing but interim answers", strings.Repeat("HTTP/1.1 103 {S}\r\nLink: {S}\r\n\r\n", 12)},
	{"a line without a colon", "HTTP/1.1 200 OK\r\n{S}\r\nContent-Length: 0\r\n\r\n"},
	{"a name", "HTTP/1.1 200 OK\r\n{S}: x\r\nContent-Length: 0\r\n\r\n"},
	{"a name with a space", "HTTP/1.1 200 OK\r\n{S} : x\r\nContent-Length: 0\r\n\r\n"},
	{"a name of an error", "HTTP/1.1 403 No\r\nX-{S}: x\r\nContent-Length: 0\r\n\r\n"},
	{"a continued line", "HTTP/1.1 200 OK\r\n {S}\r\nContent-Length: 0\r\n\r\n"},
	{"a control character", "HTTP/1.1 200 OK\r\nX-A: \x00{S}\r\nContent-Length: 0\r\n\r\n"},
	{"the length", "HTTP/1.1 200 OK\r\nContent-Length: {S}\r\n\r\n"},
	{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: {S}\r\n\r\nx"},
	{"the encoding of the transfer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: {S}\r\n\r\n"},
	{"headers of an error", "HTTP/1.1 403 No\r\nX-Amz-Request-Id: {S}\r\nX-Amz-Id-2: {S}\r\nEtag: {S}\r\nX-Amz-Meta-A: {S}\r\nX-Odd: a{S}b\r\nServer: {S}\r\n" +
		"Content-Type: {S}\r\nWww-Authenticate: {S}\r\nSet-Cookie: {S}\r\nRetry-After: {S}\r\nDate: {S}\r\nLast-Modified: {S}\r\nContent-Range: {S}\r\nContent-Length: 0\r\n\r\n"},
	{"the id of a success", "HTTP/1.1 200 OK\r\nX-Amz-Request-Id: {S}\r\nContent-Length: 0\r\n\r\n"},
	{"headers of a retried error", "HTTP/1.1 503 No\r\nX-Amz-Request-Id: {S}\r\nRetry-After: {S}\r\nContent-Length: 0\r\n\r\n"},
	{"headers of a 401", "HTTP/1.1 401 No\r\nX-Amz-Request-Id: {S}\r\nWww-Authenticate: {S}\r\nContent-Length: 0\r\n\r\n"},
	{"a redirect", "HTTP/1.1 301 {S}\r\nLocation: http://{S}.example/{S}?{S}\r\nX-Amz-Bucket-Region: {S}\r\nContent-Length: 0\r\n\r\n"},
	{"a temporary redirect", "HTTP/1.1 307 {S}\r\nLocation: {S}\r\nContent-Length: 0\r\n\r\n"},
	{"a chunk's size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{S}\r\n"},
	{"a chunk's extension", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;{S}\r\nhelloX{S}\r\n"},
	{"a chunk's end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello{S}\r\n0\r\n\r\n"},
	{"a trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n{S}\r\n\r\n"},
	{"a compressed error that is none", "HTTP/1.1 403 No\r\nContent-Encoding: gzip\r\nContent-Length: 2000\r\n\r\n{S}"},
	{"an error document", "403:<Error><Code>{S}</Code><Message>{S}</Message><RequestId>{S}</RequestId><HostId>{S}</HostId><Resource>{S}</Resource><StringToSign>{S}</StringToSign></Error>"},
	{"an error document's code", "400:<Error><Code>{S}</Code></Error>"},
	{"an error document of a retried error", "500:<Error><Code>{S}</Code><Message>{S}</Message></Error>"},
	{"an error document of our fault", "403:<Error><Code>SignatureDoesNotMatch</Code><Message>{S}</Message><CanonicalRequest>{S}</CanonicalRequest></Error>"},
	{"an error document under 200", "200:<Error><Code>{S}</Code><Message>{S}</Message><RequestId>{S}</RequestId></Error>"},
	{"a root element", "200:<S{S}><Key>k</Key></S{S}>"},
	{"a root element of an error", "403:<S{S}></S{S}>"},
	{"text instead of a document", "200:{S}"},
	{"text before a document", "200:{S}<ListBucketResult></ListBucketResult>"},
	{"an element without an end", "200:<ListBucketResult><S{S}></ListBucketResult>"},
	{"a wrong end", "200:<ListBucketResult></S{S}>"},
	{"a reference", "200:<ListBucketResult>&{S};</ListBucketResult>"},
	{"a namespace", `200:<ListBucketResult xmlns:s="{S}"><s:S{S}/></ListBucketResult>`},
	{"a document type", "200:<!DOCTYPE {S}><ListBucketResult></ListBucketResult>"},
	{"a processing instruction", "200:<?{S}?><ListBucketResult></ListBucketResult>"},
	{"whether a list is truncated", "200:<ListBucketResult><IsTruncated>{S}</IsTruncated></ListBucketResult>"},
	{"a result of DeleteObjects", "200:<DeleteResult><Error><Key>k</Key><Code>{S}</Code><Message>{S}</Message></Error></DeleteResult>"},
	{"an encoded key", "200:<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>%{S}</Key></Contents></ListBucketResult>"},
}

// causeAnswer fills an answer in.
func causeAnswer(answer, secret string) string {
	answer = strings.ReplaceAll(answer, "{S}", secret)
	if status, doc, ok := strings.Cut(answer, ":<"); ok && len(status) == 3 {
		return fmt.Sprintf("HTTP/1.1 %s X\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n<%s", status, len(doc)+1, doc)
	}
	if status, doc, ok := strings.Cut(answer, ":"); ok && len(status) == 3 {
		return fmt.Sprintf("HTTP/1.1 %s X\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%s", status, len(doc), doc)
	}
	return answer
}

// causeRequests are one of each way in which an answer is read.
var causeRequests = []struct {
	method, target, body string
	parsed               bool // the answer is read, not streamed
}{
	{"GET", "/photos/k", "", false},
	{"HEAD", "/photos/k", "", false},
	{"PUT", "/photos/k", "meow", false},
	{"PUT", "/photos/k?partNumber=1&uploadId=u", strings.Repeat("m", 100_000), false},
	{"DELETE", "/photos/k", "", false},
	{"GET", "/photos", "", true},
	{"GET", "/photos?list-type=2&max-keys=2", "", true},
	{"GET", "/photos?versions", "", true},
	{"GET", "/photos?uploads", "", true},
	{"GET", "/photos?location", "", false},
	{"GET", "/photos/k?uploadId=u", "", true},
	{"POST", "/photos/k?uploads", "", true},
	{"POST", "/photos/k?uploadId=u", "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>", true},
	{"POST", "/photos?delete", "<Delete><Object><Key>k</Key></Object></Delete>", true},
}

// A causeBackend answers with what the request was authenticated with.
type causeBackend struct {
	answer atomic.Pointer[string]
	secret atomic.Int32 // which
	seen   atomic.Pointer[[]string]
}

var causeSecrets = []string{"the whole Authorization", "the session token", "the access key id", "part of the signature",
	"the access key id in lower case", "part of the signature in upper case"}

func (b *causeBackend) serve(_ int, conn net.Conn, r *bufio.Reader) {
	_, header, err := readHead(r)
	if err != nil {
		return
	}
	if length, _ := strconv.ParseInt(header.Get("Content-Length"), 10, 64); length > 0 {
		io.CopyN(io.Discard, r, length)
	}
	authorization := header.Get("Authorization")
	_, signature, _ := strings.Cut(authorization, "Signature=")
	secret := []string{authorization, header.Get("X-Amz-Security-Token"), testCredentials.AccessKeyID, signature[:32],
		strings.ToLower(testCredentials.AccessKeyID), strings.ToUpper(signature[:32])}[b.secret.Load()]
	seen := append(*b.seen.Load(), signature)
	b.seen.Store(&seen)
	io.WriteString(conn, causeAnswer(*b.answer.Load(), secret))
}

// checkNoPart fails the test if a text holds one of the secrets, or a piece of it that
// would be enough to find it.
func checkNoPart(t *testing.T, where, text string, secrets []string) {
	t.Helper()
	lower := strings.ToLower(text)
	for _, secret := range secrets {
		if piece := strings.ToLower(secret[:min(len(secret), 20)]); strings.Contains(lower, piece) {
			t.Errorf("%s holds %q:\n%.2000s", where, piece, text)
			return
		}
	}
}

// Whatever a backend sends back of what it was sent, and wherever: not a byte of it is
// in the log, at any level, in the metrics, on the operator's pages, or in what the
// client gets.
func TestBackendThatEchoesTheRequestPutsNoSecretAnywhere(t *testing.T) {
	b := &causeBackend{}
	b.seen.Store(new([]string))
	g := startGateway(t, testConfig(startRawBackend(t, b.serve), with("accounts.main.session_token", causeToken)))
	secrets := []string{causeToken, testCredentials.AccessKeyID, testCredentials.SecretAccessKey, userKey, adminKey, "AWS4-HMAC-SHA256 Credential"}
	checked := 0
	for _, echo := range causeEchoes {
		for i, what := range causeSecrets {
			b.answer.Store(&echo.answer)
			b.secret.Store(int32(i))
			var client strings.Builder
			for _, request := range causeRequests {
				var length []string
				if request.method == "POST" {
					length = []string{fmt.Sprintf("Content-Length: %d", len(request.body))}
				}
				got := g.bytesUntilClose(requestText(request.method, request.target, adminKey, request.body, length...))
				// The headers of a success are the object's, and so are its bytes; errors within
				// a success are the gateway's.
				if !strings.HasPrefix(got, "HTTP/1.1 2") || request.parsed && strings.Contains(echo.answer, "<Error>") {
					client.WriteString(got)
				}
			}
			client.WriteString(g.gw.probe(t.Context(), g.gw.accounts["main"]))
			sent := append(secrets, *b.seen.Load()...)
			b.seen.Store(new([]string))
			name := echo.name + " is " + what
			metrics, _ := scraped(t, g.gw.metrics)
			log := g.log.String()
			checkNoPart(t, name+": the log", log[checked:], sent)
			checkNoPart(t, name+": the metrics", metrics, sent)
			checkNoPart(t, name+": the answer", client.String(), sent)
			checked = len(log)
			if t.Failed() {
				return
			}
		}
	}
}

// What is no secret is still in the log, so that an operator finds the cause.
func TestCauseNamesTheClassOfAMalformedAnswer(t *testing.T) {
	for _, test := range []struct{ answer, want string }{
		{"HTTP/1.1 canary\r\n\r\n", "malformed status line"},
		{"canary\r\n\r\n", "malformed status line"},
		{"HTTP/1.1 200 OK\r\ncanary\r\n\r\n", "malformed header"},
		{"HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n", "malformed Content-Length"},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: canary\r\n\r\n", "unsupported Transfer-Encoding"},
		{"HTTP/1.1 200 OK\r\n", "unexpected EOF"},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("canary", 20_000), errHeadTooLarge.Error()},
	} {
		endpoint := startRawBackend(t, func(_ int, conn net.Conn, r *bufio.Reader) {
			if _, _, err := readHead(r); err == nil {
				io.WriteString(conn, test.answer)
			}
		})
		g := startGateway(t, testConfig(endpoint))
		g.do("DELETE", "/photos/k", userKey, "")
		lines := g.lines()
		if cause := fmt.Sprint(lines[len(lines)-1]["cause"]); !strings.Contains(cause, test.want) || strings.Contains(cause, "canary") {
			t.Errorf("%.60q: cause = %q, want %q and nothing of the answer", test.answer, cause, test.want)
		}
	}
}

func TestRequestIdsOfServicesAreLogged(t *testing.T) {
	for _, id := range []string{
		"656c76696e6727732072657175657374", "17A5E6D3B9C2F4A1", "tx00000a5f3d1c8e9b7f4c1-0065a1b2c3-1234-default", // AWS, MinIO, Ceph
		"0cf3b4d2-9a4e-4f9e-9b1a-1d2e3f4a5b6c", "AYjx~:_.-09", strings.Repeat("a", 64),
	} {
		if !looksLikeID(id) {
			t.Errorf("looksLikeID(%q) = false", id)
		}
	}
	for _, id := range []string{"", "a b", "a=b", "a/b", "AWS4-HMAC-SHA256 Credential=x", "a\tb", "é", `"`, strings.Repeat("a", 65)} {
		if looksLikeID(id) {
			t.Errorf("looksLikeID(%q) = true", id)
		}
	}
}

func TestOwnWords(t *testing.T) {
	_, number := strconv.Atoi("canary")
	_, encoding := base64.StdEncoding.DecodeString("canary!")
	_, path := os.Open("/nonexistent")
	for _, test := range []struct {
		err  error
		want string
	}{
		{errNoProgress, errNoProgress.Error()},
		{fmt.Errorf("a list: %w", io.ErrUnexpectedEOF), "a list: unexpected EOF"},
		{textproto.ProtocolError("malformed MIME header line: canary"), "malformed header"},
		{fmt.Errorf("a trailer: %w", textproto.ProtocolError("canary")), "a trailer: malformed header"},
		{fmt.Errorf("a: %w", errors.Join(number, errors.New("b"))), "a: malformed number\nb"},
		{encoding, "an error of the type base64.CorruptInputError"},
		{hex.InvalidByteError('c'), "an error of the type hex.InvalidByteError"},
		{x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"canary"}}, Host: "h"}, "an error of the type x509.HostnameError"},
		{&apiError{Code: "BadGateway", cause: number}, "BadGateway: malformed number"},
		{bodyError{number}, "malformed number"},
		{path, "open /nonexistent: no such file or directory"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}, "dial tcp: context deadline exceeded"},
		{&net.OpError{Op: "remote error", Err: textproto.ProtocolError("canary")}, "remote error: malformed header"},
	} {
		if got := ownWords(test.err); got != test.want {
			t.Errorf("ownWords(%T) = %q, want %q", test.err, got, test.want)
		}
	}
	for _, p := range []any{number, "canary", []string{"canary"}, textproto.ProtocolError("canary")} {
		if got := panicWords(p); strings.Contains(got, "canary") {
			t.Errorf("panicWords(%v) = %q", p, got)
		}
	}
}

// Every log line with a cause is written by way of causeAttr or localCauseAttr, so that
// none forgets the rule.
func TestEveryCauseIsInOwnWords(t *testing.T) {
	names, err := fs.Glob(os.DirFS("."), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || name == "errors_cause.go" {
			continue
		}
		files := gotoken.NewFileSet()
		file, err := parser.ParseFile(files, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		read := map[ast.Expr]bool{} // names that a field is compared with
		ast.Inspect(file, func(n ast.Node) bool {
			if c, ok := n.(*ast.CaseClause); ok {
				for _, value := range c.List {
					read[value] = true
				}
			}
			if text, ok := n.(*ast.BasicLit); ok && text.Value == `"cause"` && !read[text] {
				t.Errorf("%s: a cause that does not go through causeAttr or localCauseAttr", files.Position(text.Pos()))
			}
			return true
		})
	}
}

// A panic may carry whatever was at hand.
func TestPanicPutsNoSecretInTheLog(t *testing.T) {
	for _, value := range []any{"header " + userKey, errors.Join(textproto.ProtocolError(userKey)), []string{userKey}, causeToken} {
		g := startGateway(t, testConfig(startRecorder(t, nil).URL, with("accounts.main.session_token", causeToken)))
		for _, u := range g.gw.accounts {
			u.pool.dialer = func(context.Context, string, string) (net.Conn, error) { panic(value) }
		}
		resp, body := g.do("GET", "/photos/k", userKey, "")
		if resp.StatusCode != 500 {
			t.Errorf("GET = %d, want 500", resp.StatusCode)
		}
		checkNoPart(t, "the answer", body, []string{userKey, causeToken})
		checkNoPart(t, "the log", g.log.String(), []string{userKey, causeToken})
		if !strings.Contains(g.log.String(), "panic") || !strings.Contains(g.log.String(), "cause_test.go") {
			t.Errorf("the log has no panic with its stack:\n%s", g.log)
		}
	}
}

// What net/http refuses by itself, it answers and logs without the client's bytes.
func TestMalformedRequestPutsNoSecretInTheLog(t *testing.T) {
	const signature = "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e"
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	secrets := []string{userKey, signature}
	for _, wire := range []string{
		userKey + "\r\n\r\n",
		"GET /photos/k?X-Amz-Signature=" + signature + " HTTP/9.9\r\nHost: h\r\n\r\n",
		"GET /photos/k?X-Amz-Signature=" + signature + "%zz HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /photos/k?X-Amz-Signature=" + signature + ";a HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /" + signature + "%zz HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET " + userKey + " HTTP/1.1\r\nHost: h\r\n\r\n",
		userKey + " / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: " + userKey + "\r\n " + userKey + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nX-Api-Key : " + userKey + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nX-Api-Key " + userKey + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\n" + userKey + "\x00: a\r\n\r\n",
		"GET /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nX-Api-Key: " + userKey + "\r\n\r\n",
		"PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nContent-Length: " + userKey + "\r\n\r\n",
		"PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nTransfer-Encoding: " + userKey + "\r\n\r\n",
		"PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nTransfer-Encoding: chunked\r\n\r\n" + signature + "\r\n",
		"PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nExpect: " + signature + "\r\nContent-Length: 1\r\n\r\n",
		"PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nX-Amz-Content-Sha256: " + userKey + "\r\nContent-Length: 1\r\n\r\nx",
		"PUT /photos/k HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nContent-Md5: " + signature + "\r\nContent-Length: 1\r\n\r\nx",
		"GET /photos/k HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=user,Signature=" + signature + "\r\n\r\n",
		"GET /photos/k HTTP/1.1\r\nHost: h\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + userKey + "/20260102/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=" + signature + "\r\nX-Amz-Date: " + userKey + "\r\n\r\n",
		"GET /photos/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + userKey + "&X-Amz-Date=x&X-Amz-Expires=" + signature + "&X-Amz-SignedHeaders=host&X-Amz-Signature=" + signature + " HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST /photos?delete HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + userKey + "\r\nContent-Length: 60\r\n\r\n<Delete><S" + signature + "></Delete>            ",
		"PRI * HTTP/2.0\r\n\r\n" + userKey + "\r\n\r\n",
	} {
		conn := g.dial()
		io.WriteString(conn, wire)
		conn.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		conn.Close()
		checkNoPart(t, fmt.Sprintf("the answer to %.40q", wire), string(answer), secrets)
		checkNoPart(t, fmt.Sprintf("after %.40q, the log", wire), g.log.String(), secrets)
	}
	metrics, _ := scraped(t, g.gw.metrics)
	checkNoPart(t, "the metrics", metrics, secrets)
}

// A client may put its credentials where they do not belong.
func TestMisplacedCredentialIsNotLogged(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true)))
	signature := strings.Repeat("5ca1ab1e", 8)
	presigned := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + signature
	for _, test := range []struct{ target, agent, key, loggedAgent string }{
		{"/photos/" + userKey, "a", "(withheld)", "a"},
		{"/photos/a/" + userKey + "/b", "key=" + userKey, "a/(withheld)/b", "key=(withheld)"},
		{"/" + userKey + "/k", "a", "k", "a"},
		{"/photos/k%3F" + presigned, "curl " + presigned, "k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-(withheld)", "curl X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-(withheld)"},
		{"/photos/k%3F" + presigned + "%3F" + presigned + "z", strings.Repeat("a", 250) + userKey,
			"k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-(withheld)?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-(withheld)z", strings.Repeat("a", 250) + "(withh…"},
		{"/photos/Signature=" + signature, "a", "(withheld)", "a"},
	} {
		g.raw("GET", "GET "+test.target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\nUser-Agent: "+test.agent+"\r\nX-Api-Key: "+userKey+"\r\n\r\n")
		if text := g.log.String(); strings.Contains(text, userKey[:12]) {
			t.Fatalf("GET %s: the key is in the log: %s", test.target, text)
		}
		lines := g.lines()
		line := lines[len(lines)-1]
		if line["key"] != test.key || line["user_agent"] != test.loggedAgent {
			t.Errorf("GET %s by %q is logged as %q by %q, want %q by %q", test.target, test.agent, line["key"], line["user_agent"], test.key, test.loggedAgent)
		}
	}
	// The signature of a request that is signed, too.
	target, _ := signedHead{method: "GET"}.presign("60")
	_, own, _ := strings.Cut(target, "X-Amz-Signature=")
	resp, _ := g.raw("GET", "GET "+target+" HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\nUser-Agent: a "+own+"\r\n\r\n")
	if text := g.log.String(); resp.StatusCode != 200 || strings.Contains(text, own[:8]) || !strings.Contains(text, "a (withheld)") {
		t.Errorf("a signed request = %d, and is logged with its signature: %s", resp.StatusCode, text)
	}
}

// A key is not in the log, whoever sends it and whatever becomes of the request.
func TestKeyInAPathOrAgentIsNotLogged(t *testing.T) {
	backend := startRecorder(t, nil)
	digest := sha256.Sum256([]byte("known-by-digest-0123456789"))
	g := startGateway(t, testConfig(backend.URL, with("nested_keys", true),
		with("users.digest", map[string]any{"role": "user", "allowed_buckets": []string{"photos"}, "api_key_sha256": hex.EncodeToString(digest[:])})))
	signed, _ := signedHead{method: "GET", path: "/photos/" + userKey}.presign("60")
	for _, key := range []string{userKey, adminKey, "known-by-digest-0123456789"} {
		for name, head := range map[string]string{
			"without a key":          "GET /photos/" + key + " HTTP/1.1\r\n",
			"with another's":         "GET /photos/a/" + key + "/b HTTP/1.1\r\nX-Api-Key: " + readOnlyKey + "\r\n",
			"with an unknown key":    "GET /photos/" + key + " HTTP/1.1\r\nX-Api-Key: none\r\n",
			"with an empty key":      "GET /photos/" + key + " HTTP/1.1\r\nX-Api-Key:\r\n",
			"with its own":           "GET /photos/" + key + " HTTP/1.1\r\nX-Api-Key: " + key + "\r\n",
			"by an unknown method":   "PATCH /photos/" + key + " HTTP/1.1\r\nX-Api-Key: " + key + "\r\n",
			"with a malformed query": "GET /photos/" + key + "?%zz HTTP/1.1\r\nX-Api-Key: " + key + "\r\n",
			"as a bucket":            "GET /" + key + "/k HTTP/1.1\r\n",
			"as an encoded query":    "GET /photos/k%3Fx-api-key=" + key + "&a=b HTTP/1.1\r\n",
			"to someone's signature": "GET /photos/" + key + " HTTP/1.1\r\nAuthorization: AWS4-HMAC-SHA256 Credential=user/20260102/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=ab\r\n",
		} {
			g.raw("GET", head+"Host: h\r\nConnection: close\r\nUser-Agent: a/"+key+" (x; "+key+")\r\n\r\n")
			g.settle()
			if text := g.log.String(); strings.Contains(text, key) {
				t.Fatalf("a key %s is in the log: %s", name, text[strings.LastIndex(text, `"request_id"`):])
			}
		}
	}
	g.raw("GET", "GET "+signed+" HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n")
	g.settle()
	if text := g.log.String(); strings.Contains(text, userKey) {
		t.Errorf("the key of a user who signs is in the log: %s", text)
	}
}

// Nobody can make a line of the log expensive.
func TestTextsForTheLogTakeLinearTime(t *testing.T) {
	q := &request{r: &http.Request{Header: http.Header{}}, auth: newAuthenticator(nil)}
	text := strings.Repeat("Signature=", 100)
	few := testing.AllocsPerRun(10, func() { q.withoutCredentials(text) })
	many := testing.AllocsPerRun(10, func() { q.withoutCredentials(strings.Repeat(text, 32)) })
	if many > 2*few+10 {
		t.Errorf("%v allocations for 100 parameters, %v for 3200", few, many)
	}
}

// net/http quotes what should have been the preface of HTTP/2, which may be a request.
func TestServerLogHasNoQuotes(t *testing.T) {
	var b bytes.Buffer
	log := serverLog{slog.New(slog.NewTextHandler(&b, nil))}
	fmt.Fprintf(log, "http2: server: error reading preface from client 127.0.0.1:1: bogus greeting %q\n", "GET /?X-Amz-Signature=ca")
	if text := b.String(); strings.Contains(text, "Signature") || !strings.Contains(text, "bogus greeting") {
		t.Errorf("log = %s", text)
	}
	if s := newServer(nil, slog.New(slog.DiscardHandler)); s.ErrorLog == nil {
		t.Error("the server logs elsewhere")
	} else if _, ok := s.ErrorLog.Writer().(serverLog); !ok {
		t.Errorf("the server logs to a %T", s.ErrorLog.Writer())
	}
}

// A backend writes its certificate itself.
func TestCertificateIsNotQuoted(t *testing.T) {
	ca := newTestCA(t, "canary-authority")
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) }
	elsewhere := func(c *x509.Certificate) { c.IPAddresses = nil }
	for _, test := range []struct {
		name    string
		trusted bool
		change  func(*x509.Certificate)
		want    string
	}{
		{"an unknown authority", false, nil, "an authority that is not trusted"},
		{"another host", true, elsewhere, "for another host"},
		{"expired", true, expired, "has expired"},
	} {
		cert, key := ca.sign(t, "canary-host.example", test.change)
		listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw, ca.cert.Raw}, PrivateKey: key}}})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ErrorLog: stdlog.New(io.Discard, "", 0)}
		go server.Serve(listener)
		t.Cleanup(func() { server.Close() })
		g := startGateway(t, testConfig("https://"+listener.Addr().String()))
		for _, u := range g.gw.accounts {
			u.pool.tls.RootCAs = x509.NewCertPool()
			if test.trusted {
				u.pool.tls.RootCAs = ca.pool()
			}
		}
		if resp, _ := g.do("DELETE", "/photos/k", userKey, ""); resp.StatusCode != 502 {
			t.Errorf("%s: DELETE = %d, want 502", test.name, resp.StatusCode)
		}
		if log := g.log.String(); strings.Contains(log, "canary-") || !strings.Contains(log, test.want) {
			t.Errorf("%s: log = %s, want %q and no name of the certificate", test.name, log, test.want)
		}
	}
}

// What the store of the shared limiter answers may repeat the password.
func TestRedisThatEchoesThePasswordPutsItNowhere(t *testing.T) {
	const password = "HUNTERTWOPASSWORD"
	for _, reply := range []string{
		"-" + password + " " + password + "\r\n", "-ERR unknown command 'AUTH', with args: '" + password + "'\r\n", "-NOAUTH " + password + "\r\n",
		"-MOVED 1 " + password + ":6379\r\n", "-ASK 1 " + password + ":6379\r\n", "-MOVED " + password + "\r\n", "-MOVED 1 h:" + password + "\r\n",
		"+" + password + "\r\n", "$17\r\n" + password + "\r\n", ":" + password + "\r\n", "*1\r\n+" + password + "\r\n", password + "\r\n", password,
		"-WRONGPASS " + password + "\r\n", "*4\r\n:1\r\n:2\r\n:3\r\n+" + password + "\r\n",
	} {
		for _, loggedIn := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				_, store := newFakeRedis(t, func(_ string, command []string) string {
					if command[0] == "AUTH" && loggedIn {
						return "+OK\r\n"
					}
					return reply
				})
				defer store.close()
				dial := store.dialer
				store.dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
					if addr != "seed:1" {
						return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: addr}}
					}
					return dial(ctx, network, addr)
				}
				store.server.password = password
				s, log := newSharedTest(store)
				s.allow("u", time.Now())
				if text := log.String(); strings.Count(text, "\n") != 1 {
					t.Errorf("%q: want one line in the log:\n%s", reply, text)
				} else {
					checkNoPart(t, fmt.Sprintf("after %q, the log", reply), text, []string{password})
				}
			})
		}
	}
}

// startLogged starts a gateway with a log of the given format, at the level
// debug.
func startLogged(t *testing.T, format string, config map[string]any) *testGateway {
	t.Helper()
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	conf, err := parseConfig(data, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	buffer := &syncBuffer{}
	log, err := newLogger(buffer, format, "debug", false)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &testGateway{t: t, addr: listener.Addr().String(), log: buffer, gw: newGateway(conf, newMetrics(), log)}
	for _, u := range g.gw.accounts {
		u.backoff, u.budget.always = time.Millisecond, 1000
	}
	g.http = newServer(g.gw, log)
	go g.http.Serve(corkListener{listener})
	t.Cleanup(func() { g.http.Close() })
	return g
}

// The log is read by more people than may read the objects, so no secret is in
// it, at any level, whatever a client sends and however the answer ends; and no
// client writes lines of its own into it.
func TestLogHoldsNoSecretAndNoForgedLine(t *testing.T) {
	const sigV4 = "AWS4-HMAC-SHA256 Credential=admin/20260102/us-east-1/s3/aws4_request,SignedHeaders=host,Signature=5ca1ab1e5ca1ab1e"
	const presigned = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=admin%2Fleak1&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=5ca1ab1e5ca1ab1e&X-Amz-Security-Token=leak2"
	secrets := []string{
		adminKey, userKey, readOnlyKey, noneKey, testCredentials.SecretAccessKey, testCredentials.AccessKeyID,
		"session-token-secret", "5ca1ab1e", "leak", "Signature=", "AWS4-HMAC",
	}
	headers := [][]string{
		nil,
		{"Authorization: " + sigV4},
		{"Authorization: Bearer leak3", "Proxy-Authorization: Basic leak4", "Cookie: s=leak5"},
		{"X-Api-Key: " + adminKey},
		{"X-Api-Key: leak6-0123456789abcdef"},
		{"X-Amz-Security-Token: leak7"},
		{"X-Amz-Server-Side-Encryption-Customer-Key: leak8", "X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key: leak9"},
		{"X-Amz-Acl: leak10"}, {"X-Minio-Leak11: leak12"}, {"X-Amz-Content-Sha256: leak13"}, {"Content-Md5: leak14", "Content-Md5: leak15"},
		{"User-Agent: a\tb\"c=d \xe2\x80\xa8 level=ERROR msg=forged \x85\xff"}, {"User-Agent: folded", " level=ERROR msg=forged"},
		{"Referer: https://example.com/?token=leak16", "X-Forwarded-For: leak17", "Range: leak18", "Expect: leak19"},
		{"bad header leak20"},
	}
	targets := []string{
		"/photos/k", "/photos", "/", "/secret/k", "/nosuchbucket/k", "/photos/k?" + presigned, "/photos?" + presigned,
		"/photos/k?versionId=leak21", "/photos/k?leak22=leak23", "/photos/k?response-content-type=leak24%0d%0a", "/photos/k?%zz=leak25", "/photos/k?a;leak26",
		"/photos/leak27%zz", "/photos/../leak28", "/leak29_/k", "leak30", "http://leak31:leak32@example.com/photos/k?" + presigned, "/photos/k#leak33",
		"/photos/a%0Alevel=ERROR%20msg=forged", "/photos/a%0D%0A%7B%22msg%22:%22forged%22%7D", "/photos/%E2%80%A8%E2%80%A9%0B%0C%22%5C%1B[2J",
	}
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			var status atomic.Int32
			backend := startRecorder(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Amz-Request-Id", "id\tid")
				w.WriteHeader(int(status.Load()))
				io.WriteString(w, "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>"+r.Header.Get("Authorization")+"</StringToSign></Error>")
			})
			g := startLogged(t, format, testConfig(backend.URL, with("nested_keys", true), with("accounts.main.session_token", "session-token-secret")))
			requests := 0
			send := func(method, target, key string, header []string) {
				requests++
				conn := g.dial()
				defer conn.Close()
				fmt.Fprint(conn, requestText(method, target, key, "meow", header...))
				io.Copy(io.Discard, conn)
			}
			for i, code := range []int32{200, 403, 503} {
				status.Store(code)
				for j, target := range targets {
					for k, header := range headers {
						send([]string{"GET", "PUT", "DELETE"}[(i+j+k)%3], target, []string{userKey, readOnlyKey, adminKey}[(j+k)%3], header)
					}
				}
			}
			// A handler that panics, and a backend that is gone.
			pool := g.gw.buckets["photos"].upstream.pool
			pool.closeIdle()
			inner := pool.dialer
			pool.dialer = func(context.Context, string, string) (net.Conn, error) {
				var nothing *http.Response
				return nil, fmt.Errorf("status %d\nforged", nothing.StatusCode)
			}
			send("GET", "/photos/k?"+presigned, userKey, []string{"Authorization: " + sigV4})
			pool.dialer = inner
			backend.CloseClientConnections()
			backend.Listener.Close()
			pool.closeIdle()
			send("GET", "/photos/k?"+presigned, userKey, []string{"Authorization: " + sigV4})
			send("PUT", "/photos/k", userKey, nil)

			await(t, "every request is in the log", func() bool {
				return strings.Count(g.log.String(), "connection refused") >= 2
			})
			log := g.log.String()
			if !strings.Contains(log, "panic") || !strings.Contains(log, "retry") {
				t.Error("neither a panic nor a retry is in the log; both were to be")
			}
			for _, secret := range secrets {
				for line := range strings.Lines(log) {
					if strings.Contains(line, secret) {
						// A key of an object may have any name; these were not in a path that is one.
						t.Errorf("the log holds %q: %s", secret, line)
						break
					}
				}
			}
			beginning := regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg=(request|retry|panic|"http: .*"|\S+)`)
			for line := range strings.Lines(log) {
				line = strings.TrimSuffix(line, "\n")
				if strings.ContainsAny(line, "\r\v\f\x1b\u2028\u2029") {
					t.Errorf("a line with a line break or an escape of the client's: %q", line)
				}
				switch {
				case format == "text" && (!beginning.MatchString(line) || strings.Contains(line, " msg=forged") && !strings.Contains(line, `"`)):
					t.Errorf("not a line of ours: %q", line)
				case format == "json":
					var m map[string]any
					if err := json.Unmarshal([]byte(line), &m); err != nil || m["msg"] == "forged" {
						t.Errorf("not a line of ours: %q, %v", line, err)
					}
				}
			}
		})
	}
}
