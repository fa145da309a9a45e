package main

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
)

// AWS's example of a signed stream: 65 KiB of "a" in chunks of 64 KiB, 1 KiB
// and none, for the key AKIAIOSFODNN7EXAMPLE.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
func exampleChunkSigner() *chunkSigner {
	return &chunkSigner{
		key:      signingKey(exampleCredentials.SecretAccessKey, "20130524", "us-east-1", "s3"),
		amzDate:  "20130524T000000Z",
		scope:    "20130524/us-east-1/s3/aws4_request",
		previous: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
	}
}

const (
	exampleChunk1 = "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
	exampleChunk2 = "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"
	exampleChunk3 = "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"
)

func exampleStream() string {
	return "10000;chunk-signature=" + exampleChunk1 + "\r\n" + strings.Repeat("a", 65536) + "\r\n" +
		"400;chunk-signature=" + exampleChunk2 + "\r\n" + strings.Repeat("a", 1024) + "\r\n" +
		"0;chunk-signature=" + exampleChunk3 + "\r\n\r\n"
}

func TestChunkedReaderExample(t *testing.T) {
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole":   func(r io.Reader) io.Reader { return r },
		"by byte": iotest.OneByteReader,
		"eof":     iotest.DataErrReader,
	} {
		c, refusal := newChunkedReader(wrap(strings.NewReader(exampleStream())), 66560, streamingSigned, "", exampleChunkSigner())
		if refusal != nil {
			t.Fatal(refusal)
		}
		payload, err := io.ReadAll(c)
		if err != nil || string(payload) != strings.Repeat("a", 66560) {
			t.Errorf("%s: read %d bytes, %v, want 66560, nil", name, len(payload), err)
		}
	}
}

// Each way to bend a signed stream is refused, and never ends in io.EOF.
func TestChunkedReaderRefusesSigned(t *testing.T) {
	stream := exampleStream()
	for name, test := range map[string]struct{ stream, code string }{
		"first signature":  {strings.Replace(stream, "ad80c730", "ad80c731", 1), "SignatureDoesNotMatch"},
		"second signature": {strings.Replace(stream, "0055627c", "1055627c", 1), "SignatureDoesNotMatch"},
		"last signature":   {strings.Replace(stream, "b6c6ea8a", "b6c6ea8b", 1), "SignatureDoesNotMatch"},
		"changed byte":     {strings.Replace(stream, "aaa", "aba", 1), "SignatureDoesNotMatch"},
		"no signature":     {strings.Replace(stream, ";chunk-signature="+exampleChunk1, "", 1), "InvalidRequest"},
		"short signature":  {strings.Replace(stream, exampleChunk1, exampleChunk1[1:], 1), "InvalidRequest"},
		"other extension":  {strings.Replace(stream, "chunk-signature", "chunk-signaturf", 1), "InvalidRequest"},
		"bytes after":      {stream + "x", "InvalidRequest"},
		"trailer":          {strings.TrimSuffix(stream, "\r\n") + "x-amz-checksum-crc32:AAAAAA==\r\n\r\n", "InvalidRequest"},
		"bare line feed":   {strings.Replace(stream, exampleChunk1+"\r\n", exampleChunk1+"\n", 1), "InvalidRequest"},
	} {
		c, _ := newChunkedReader(strings.NewReader(test.stream), 66560, streamingSigned, "", exampleChunkSigner())
		_, err := io.ReadAll(c)
		var refusal *apiError
		if !errors.As(err, &refusal) || refusal.Code != test.code {
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
}

// The check values of the CRC catalogue and of RFC 3174 and FIPS 180 for the
// nine bytes "123456789".
var checkValues = map[string]string{
	"x-amz-checksum-crc32":     "cbf43926",
	"x-amz-checksum-crc32c":    "e3069283",
	"x-amz-checksum-crc64nvme": "ae8b14860a799888",
	"x-amz-checksum-sha1":      "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
	"x-amz-checksum-md5":       "25f9e794323b453885f5181f1b624d0b",
	"x-amz-checksum-sha512":    "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274ad27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
	"x-amz-checksum-sha256":    "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
}

func trailerStream(payload, name, value string) string {
	return fmt.Sprintf("%x\r\n%s\r\n0\r\n%s:%s\r\n\r\n", len(payload), payload, name, value)
}

func TestChunkedReaderTrailers(t *testing.T) {
	for name, digits := range checkValues {
		raw, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		value := base64.StdEncoding.EncodeToString(raw)
		read := func(stream string) error {
			c, refusal := newChunkedReader(strings.NewReader(stream), 9, streamingTrailer, name, nil)
			if refusal != nil {
				return refusal
			}
			payload, err := io.ReadAll(c)
			if err == nil && (string(payload) != "123456789" || c.value != value) {
				return fmt.Errorf("payload %q, trailer %q", payload, c.value)
			}
			return err
		}
		if err := read(trailerStream("123456789", name, value)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for what, stream := range map[string]string{
			"wrong":       trailerStream("123456780", name, value),
			"missing":     "9\r\n123456789\r\n0\r\n\r\n",
			"another":     trailerStream("123456789", "x-amz-checksum-other", value),
			"twice":       strings.Replace(trailerStream("123456789", name, value), "0\r\n", "0\r\n"+name+":"+value+"\r\n", 1),
			"not ended":   strings.TrimSuffix(trailerStream("123456789", name, value), "\r\n"),
			"signed":      strings.TrimSuffix(trailerStream("123456789", name, value), "\r\n") + "x-amz-trailer-signature:" + exampleChunk1 + "\r\n\r\n",
			"huge":        trailerStream("123456789", name, strings.Repeat("A", 1<<20)),
			"with colons": trailerStream("123456789", "", value),
		} {
			if err := read(stream); err == nil || err == io.EOF {
				t.Errorf("%s, trailer %s: accepted", name, what)
			}
		}
	}
}

func TestChunkedReaderFraming(t *testing.T) {
	const trailer = "x-amz-checksum-crc32:y/Q5Jg==\r\n\r\n" // of "123456789"
	big := strings.Repeat("x", minChunk)
	for name, test := range map[string]struct {
		stream string
		size   int64
	}{
		"too little":          {"9\r\n123456789\r\n0\r\n" + trailer, 10},
		"too much":            {"9\r\n123456789\r\n0\r\n" + trailer, 8},
		"negative":            {"-9\r\n123456789\r\n0\r\n" + trailer, 9},
		"plus":                {"+9\r\n123456789\r\n0\r\n" + trailer, 9},
		"prefix":              {"0x9\r\n123456789\r\n0\r\n" + trailer, 9},
		"space":               {"9 \r\n123456789\r\n0\r\n" + trailer, 9},
		"no size":             {"\r\n123456789\r\n0\r\n" + trailer, 9},
		"17 digits":           {"00000000000000009\r\n123456789\r\n0\r\n" + trailer, 9},
		"overflow":            {"fffffffffffffff\r\n123456789\r\n0\r\n" + trailer, 9},
		"megabyte extension":  {"9;a=" + strings.Repeat("b", 1<<20) + "\r\n123456789\r\n0\r\n" + trailer, 9},
		"signature unasked":   {"9;chunk-signature=" + exampleChunk1 + "\r\n123456789\r\n0\r\n" + trailer, 9},
		"chunk too long":      {"8\r\n123456789\r\n0\r\n" + trailer, 8},
		"no last chunk":       {"9\r\n123456789\r\n", 9},
		"second chunk short":  {fmt.Sprintf("1\r\nx\r\n%x\r\n%s\r\n0\r\n", minChunk, big) + trailer, minChunk + 1},
		"no CRLF at all":      {"9", 9},
		"nothing":             {"", 0},
		"nothing, but framed": {"0\r\n\r\n", 0},
	} {
		c, refusal := newChunkedReader(strings.NewReader(test.stream), test.size, streamingTrailer, "x-amz-checksum-crc32", nil)
		if refusal != nil {
			t.Fatal(refusal)
		}
		if _, err := io.Copy(io.Discard, c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNewChunkedReaderRefuses(t *testing.T) {
	for _, test := range []struct{ framing, trailer string }{
		{"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", ""},
		{"STREAMING-UNSIGNED-PAYLOAD", ""},
		{streamingSignedTrailer, ""},
		{streamingSigned, "x-amz-checksum-crc32"},
		{streamingTrailer, "x-amz-checksum-"},
		{streamingTrailer, "x-amz-checksum-mode"},
		{streamingTrailer, "x-amz-checksum-type"},
		{streamingTrailer, "x-amz-checksum-algorithm"},
		{streamingTrailer, "x-amz-checksum-a-b"},
		{streamingTrailer, "x-amz-checksum-" + strings.Repeat("a", 64)},
		{streamingTrailer, "x-amz-meta-a"},
		{streamingTrailer, "x-amz-checksum-crc32,x-amz-checksum-sha1"},
		{streamingTrailer, "content-type"},
	} {
		if _, refusal := newChunkedReader(nil, 0, test.framing, test.trailer, nil); refusal == nil {
			t.Errorf("newChunkedReader(%q, %q) is accepted", test.framing, test.trailer)
		}
	}
}

// S3 has had checksums since 2026 that the standard library has not, and will have
// more. A backend gets them as they came, in frames of a length that was declared
// before; what can't be one is refused.
func TestTrailingChecksumThatCannotBeVerifiedIsPassedOn(t *testing.T) {
	digest := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb}, n)) }
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL, with("users.user.allowed_buckets", []any{"photos", "secret"})))
	put := func(g *testGateway, target, trailer, value, body string) (*http.Response, string) {
		framed := fmt.Sprintf("%x\r\n%s\r\n0\r\n%s:%s\r\n\r\n", len(body), body, trailer, value)
		return g.do("PUT", target, userKey, framed, "x-amz-content-sha256: "+streamingTrailer, "x-amz-trailer: "+trailer,
			fmt.Sprintf("x-amz-decoded-content-length: %d", len(body)), "content-encoding: aws-chunked")
	}
	for name, size := range map[string]int{"xxhash64": 8, "xxhash3": 8, "xxhash128": 16, "somethingnew": 20, "sha1024": 64} {
		for _, body := range []string{"x", strings.Repeat("x", 3*upstreamChunk+1)} {
			before := len(backend.requests())
			resp, answer := put(g, "/photos/k", "x-amz-checksum-"+name, digest(size), body)
			if resp.StatusCode != 200 || len(backend.requests()) != before+1 {
				t.Fatalf("%s = %d %s", name, resp.StatusCode, answer)
			}
			seen := backend.requests()[before]
			if seen.err != nil {
				t.Fatalf("%s: the backend got a body of another length: %v", name, seen.err)
			}
			checkHeaders(t, name, seen.header, map[string]string{"X-Amz-Trailer": "x-amz-checksum-" + name,
				"X-Amz-Content-Sha256": streamingTrailer, "Content-Encoding": "", "X-Amz-Decoded-Content-Length": strconv.Itoa(len(body))})
			c, refusal := newChunkedReader(strings.NewReader(seen.body), int64(len(body)), streamingTrailer, "x-amz-checksum-"+name, nil)
			if refusal != nil {
				t.Fatal(refusal)
			}
			if got, err := io.ReadAll(c); string(got) != body || err != nil || c.value != digest(size) {
				t.Errorf("%s: the backend got %d bytes, %v, and %q, want %d and %q", name, len(got), err, c.value, len(body), digest(size))
			}
		}
	}
	before := len(backend.requests())
	for _, test := range []struct{ name, value string }{
		{"xxhash64", digest(7)}, {"xxhash64", digest(9)}, {"xxhash128", digest(8)}, {"somethingnew", digest(67)}, {"somethingnew", ""}, {"somethingnew", "AAAA\nBBBB"}, {"somethingnew", "AAAA\rBBBB"},
		{"somethingnew", "a value"}, {"somethingnew", "AAAA\nx-amz-acl:public-read"}, {"somethingnew", "AAA"}, {"somethingnew", "AAAA,BBBB"},
	} {
		resp, answer := put(g, "/photos/k", "x-amz-checksum-"+test.name, test.value, "x")
		wantError(t, resp, answer, 400, "InvalidRequest")
	}
	// A backend that takes no trailers would not verify it either; nor can anybody
	// verify it of a document, which is written anew.
	g = startGateway(t, testConfig(backend.URL, with("accounts.main.trailing_checksums", "verify")))
	for _, target := range []string{"/photos/k", "/photos/k?tagging"} {
		resp, answer := put(g, target, "x-amz-checksum-xxhash64", digest(8), "<Tagging/>")
		wantError(t, resp, answer, 501, "NotImplemented")
	}
	resp, answer := g.do("PUT", "/photos/k?tagging", userKey, "<Tagging/>", "x-amz-checksum-xxhash3: "+digest(8))
	wantError(t, resp, answer, 501, "NotImplemented")
	if n := len(backend.requests()); n != before {
		t.Errorf("the backend got %d requests, want none", n-before)
	}
}

// A client may promise a trailer and send none, if it has not named one.
func TestUnsignedChunksWithoutATrailer(t *testing.T) {
	backend := startRecorder(t, nil)
	g := startGateway(t, testConfig(backend.URL))
	send := func(framed string, header ...string) (*http.Response, string) {
		return g.do("PUT", "/photos/k", userKey, framed, append(header, "x-amz-content-sha256: "+streamingTrailer, "x-amz-decoded-content-length: 5")...)
	}
	if resp, body := send("5\r\nhello\r\n0\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatalf("chunks without a trailer = %d %s, want 200", resp.StatusCode, body)
	}
	if seen := backend.requests()[0]; seen.body != "hello" {
		t.Errorf("the backend got %q, want hello", seen.body)
	}
	for _, framed := range []string{"5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n", "5\r\nhello\r\n\r\n"} {
		if resp, body := send(framed); resp.StatusCode != 400 {
			t.Errorf("%q = %d %s, want 400", framed, resp.StatusCode, body)
		}
	}
	resp, body := send("5\r\nhello\r\n0\r\n\r\n", "x-amz-trailer: x-amz-checksum-crc32")
	wantError(t, resp, body, 400, "InvalidRequest")
	for _, seen := range backend.requests()[1:] {
		if seen.err == nil {
			t.Errorf("the backend got all of %q", seen.body)
		}
	}
}

// The frames of a chunkedWriter add up to framedLength around the sizes where
// there is one frame more.
func TestChunkedWriterLength(t *testing.T) {
	for _, size := range []int{0, 1, 15, 16, upstreamChunk - 1, upstreamChunk, upstreamChunk + 1, 2 * upstreamChunk, 3*upstreamChunk + 7} {
		w := &chunkedWriter{payload: bytes.NewReader(make([]byte, size)), left: int64(size), name: "x-amz-checksum-crc32", value: func() string { return "AAAAAA==" }}
		n, err := io.Copy(io.Discard, w)
		if want := framedLength(int64(size), "x-amz-checksum-crc32"); n != want || err != nil {
			t.Errorf("%d bytes are framed as %d, %v; framedLength says %d", size, n, err, want)
		}
	}
}

// A body that is cut anywhere is never taken for whole.
func FuzzChunkedReaderPrefix(f *testing.F) {
	f.Add([]byte("123456789"), 5)
	f.Add([]byte(""), 3)
	f.Fuzz(func(t *testing.T, payload []byte, cut int) {
		const name = "x-amz-checksum-crc64nvme"
		sum := newChecksum(name)
		sum.Write(payload)
		value := base64.StdEncoding.EncodeToString(sum.Sum(nil))
		w := &chunkedWriter{payload: bytes.NewReader(payload), left: int64(len(payload)), name: name, value: func() string { return value }}
		framed, err := io.ReadAll(w)
		if err != nil || int64(len(framed)) != framedLength(int64(len(payload)), name) {
			t.Fatalf("framed %d bytes as %d, %v; framedLength says %d", len(payload), len(framed), err, framedLength(int64(len(payload)), name))
		}
		read := func(framed []byte) ([]byte, error) {
			c, refusal := newChunkedReader(bytes.NewReader(framed), int64(len(payload)), streamingTrailer, name, nil)
			if refusal != nil {
				t.Fatal(refusal)
			}
			return io.ReadAll(c)
		}
		if got, err := read(framed); err != nil || !bytes.Equal(got, payload) {
			t.Fatalf("read back %d bytes of %d, %v", len(got), len(payload), err)
		}
		if cut < 0 || cut >= len(framed) {
			return
		}
		if _, err := read(framed[:cut]); err == nil {
			t.Errorf("a body cut after %d of %d bytes is accepted", cut, len(framed))
		}
	})
}

func BenchmarkChunkedReader(b *testing.B) {
	for _, signed := range []bool{false, true} {
		b.Run(fmt.Sprintf("signed=%t", signed), func(b *testing.B) {
			stream, framing, trailer := exampleStream(), streamingSigned, ""
			if !signed {
				payload := strings.Repeat("a", 66560)
				sum := newChecksum("x-amz-checksum-crc64nvme")
				io.WriteString(sum, payload)
				trailer, framing = "x-amz-checksum-crc64nvme", streamingTrailer
				stream = trailerStream(payload, trailer, base64.StdEncoding.EncodeToString(sum.Sum(nil)))
			}
			b.SetBytes(66560)
			b.ReportAllocs()
			for b.Loop() {
				c, _ := newChunkedReader(strings.NewReader(stream), 66560, framing, trailer, exampleChunkSigner())
				if n, err := io.Copy(io.Discard, c); n != 66560 || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}

// A chunkChain signs chunks: each signature covers the one before.
type chunkChain struct {
	key            []byte
	rest, previous string
}

func (c *chunkChain) chunk(data string) string {
	c.previous = hex.EncodeToString(hmacOf(c.key, "AWS4-HMAC-SHA256-PAYLOAD\n"+c.rest+c.previous+"\n"+emptySHA256+"\n"+hexSHA256(data)))
	return c.previous
}

func (c *chunkChain) trailer(lines string) string {
	c.previous = hex.EncodeToString(hmacOf(c.key, "AWS4-HMAC-SHA256-TRAILER\n"+c.rest+c.previous+"\n"+hexSHA256(lines)))
	return c.previous
}

// framePayload frames chunks of payload. Each piece is a line or a chunk's bytes,
// with its line break; the last chunk and the trailer come behind.
func framePayload(framing string, chain *chunkChain, chunks ...string) []string {
	var pieces []string
	sign := func(data string) string {
		if framing == formUnsignedTrailer {
			return ""
		}
		return ";chunk-signature=" + chain.chunk(data)
	}
	for _, data := range chunks {
		pieces = append(pieces, fmt.Sprintf("%x%s\r\n", len(data), sign(data)), data+"\r\n")
	}
	pieces = append(pieces, "0"+sign("")+"\r\n")
	if framing == formChunks {
		return append(pieces, "\r\n")
	}
	sum := crc32Of(strings.Join(chunks, ""))
	pieces = append(pieces, crc32Header+":"+sum+"\r\n")
	if framing == formChunksTrailer {
		pieces = append(pieces, "x-amz-trailer-signature:"+chain.trailer(crc32Header+":"+sum+"\n")+"\r\n")
	}
	return append(pieces, "\r\n")
}

// A chunkedUpload is a way to send an upload in chunks: with which authentication, and how
// framed.
type chunkedUpload struct{ auth, framing string }

func (d chunkedUpload) String() string { return d.auth + "/" + d.framing }

var chunkedUploads = []chunkedUpload{
	{"x-api-key", formChunks}, {"x-api-key", formChunksTrailer}, {"x-api-key", formUnsignedTrailer},
	{"header", formChunks}, {"header", formChunksTrailer}, {"header", formUnsignedTrailer},
	{"presigned", formChunksTrailer},
}

// verifies reports whether a wrong signature of a chunk is noticed.
func (d chunkedUpload) verifies() bool {
	return d.auth != "x-api-key" && d.framing != formUnsignedTrailer
}

// open returns the target and the header lines of a PUT to path, which may have
// a query, for a payload of so many bytes. Lines whose names are among those it
// makes take their place; other lines are signed too.
func (d chunkedUpload) open(target string, size int, more ...string) (string, []string, *chunkChain) {
	lines := []string{"content-encoding: aws-chunked", fmt.Sprintf("x-amz-decoded-content-length: %d", size)}
	if d.framing != formChunks {
		lines = append(lines, "x-amz-trailer: "+crc32Header)
	}
	for _, line := range more {
		name, _, _ := strings.Cut(line, ":")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
	}
	lines = append(lines, slices.DeleteFunc(slices.Clone(more), func(l string) bool { return strings.HasSuffix(l, ":-") })...) // "name:-" is none
	path, query, _ := strings.Cut(target, "?")
	head := signedHead{path: path, payload: d.framing, header: lines}
	if query != "" {
		head.query = strings.Split(query, "&")
	}
	switch d.auth {
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

// sendUpload sends a PUT with the body as it is, in one of four manners: "length",
// with its length as Content-Length; "chunked", in chunks of HTTP; "FIN" and
// "RST", with a Content-Length that is n bytes longer, after which the
// connection ends.
func sendUpload(g *testGateway, target string, lines []string, body, manner string, n int) (*http.Response, string) {
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

// A uploadStore is the embedded server behind a gateway, with an old object and an
// upload that has an old part, in one of the account's two modes.
type uploadStore struct {
	*testGateway
	backend  *watchedDemo
	uploadID string
}

func startUploadStore(t *testing.T, mode string) *uploadStore {
	t.Helper()
	s := &uploadStore{backend: startWatchedDemo(t)}
	s.testGateway = startGateway(t, testConfig(s.backend.URL, with("accounts.main.trailing_checksums", mode)))
	if resp, _ := s.do("PUT", "/photos/k", userKey, "old"); resp.StatusCode != 200 {
		t.Fatalf("PUT = %d, want 200", resp.StatusCode)
	}
	s.uploadID = createUpload(t, s.testGateway, "/photos/k")
	if resp, _ := s.do("PUT", s.part(), userKey, "old"); resp.StatusCode != 200 {
		t.Fatalf("UploadPart = %d, want 200", resp.StatusCode)
	}
	return s
}

// createUpload begins a multipart upload.
func createUpload(t *testing.T, g *testGateway, path string) (id string) {
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

func (s *uploadStore) part() string { return "/photos/k?partNumber=1&uploadId=" + s.uploadID }

// targets are what an upload can be made to.
func (s *uploadStore) targets() []string { return []string{"/photos/k", "/photos/new", s.part()} }

// checkOld fails the test if anything but what was there from the beginning is
// stored, once the backend is done with what it got.
func (s *uploadStore) checkOld(t *testing.T, what string) {
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

// A uploadCounter is a backend that counts what it gets of each upload, behind a
// gateway.
type uploadCounter struct {
	*testGateway
	accepted, finished atomic.Int64
	uploads            chan countedUpload
}

type countedUpload struct {
	header   http.Header
	declared int64
	got      string
}

func startUploadCounter(t *testing.T, mode string) *uploadCounter {
	t.Helper()
	c := &uploadCounter{uploads: make(chan countedUpload, 16)}
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
		c.uploads <- countedUpload{http.Header(header), size, string(got)}
	})
	c.testGateway = startGateway(t, testConfig(endpoint, with("accounts.main.trailing_checksums", mode)))
	return c
}

// checkCut fails the test if the backend has got all the bytes of an upload that
// it was promised, or the end of the frames.
func (c *uploadCounter) checkCut(t *testing.T, what string) {
	t.Helper()
	await(t, "the backend", func() bool { return c.finished.Load() == c.accepted.Load() })
	for len(c.uploads) > 0 { // that of the request before, perhaps: it may be accepted late
		u := <-c.uploads
		if int64(len(u.got)) >= u.declared {
			t.Errorf("%s: the backend got %d of %d bytes, want at least one less", what, len(u.got), u.declared)
		}
		if u.header.Get("X-Amz-Content-Sha256") == formUnsignedTrailer && (strings.Contains(u.got, "\r\n0\r\n") || strings.Contains(u.got, crc32Header)) {
			t.Errorf("%s: the backend got the last chunk, or the trailer, of an upload that was refused", what)
		}
	}
}

// trailerModes are the values of an account's trailing_checksums.
var trailerModes = []string{"forward", "verify"}

// refuseUploads sends uploads that must be refused to a store and to a counter, in
// each mode and with each authentication method, and checks that nothing comes of them. The bend
// returns target, header lines and body of an upload, to a target that changes
// from one to the next; a nil body means that there
// is nothing to bend in this framing.
func refuseUploads(t *testing.T, manner string, bend func(d chunkedUpload, target string) (string, []string, *string), want ...string) {
	t.Helper()
	turn := int(crc32.ChecksumIEEE([]byte(t.Name()))) // or there would be thousands
	for _, mode := range trailerModes {
		store, counter := startUploadStore(t, mode), startUploadCounter(t, mode)
		for _, d := range chunkedUploads {
			what := mode + "/" + d.String() + "/" + manner
			turn++
			for _, target := range store.targets()[turn%3 : turn%3+1] {
				target, lines, body := bend(d, target)
				if body == nil {
					continue
				}
				resp, text := sendUpload(store.testGateway, target, lines, *body, manner, 1)
				wantSignedRefusal(t, what, "PUT", resp, text, want...)
				resp, text = sendUpload(counter.testGateway, target, lines, *body, manner, 1)
				wantSignedRefusal(t, what, "PUT", resp, text, want...)
				counter.checkCut(t, what)
			}
		}
		store.checkOld(t, mode+"/"+manner)
	}
}

// chunkedPayload is a payload in chunks: more in all than the buffers on the way.
var chunkedPayload = func() []string {
	text := bytesOf(57, 2*65536+8192+1000)
	return []string{text[:65536], text[65536 : 2*65536], text[2*65536 : 2*65536+8192], text[2*65536+8192:]}
}()

// The client here makes the signatures that AWS prints, of its two examples of
// streams: 65 KiB of "a" in chunks of 64 KiB and 1 KiB.
func TestClientSignsChunksAsAWS(t *testing.T) {
	chunks := []string{strings.Repeat("a", 65536), strings.Repeat("a", 1024), ""}
	head := signedHead{
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

// Each chunk carries a signature over the one before, so that none can
// be changed, moved or left out; the last chunk and the trailer no less than the
// first. What was stored before stays.
func TestWrongChunkSignatureIsRefused(t *testing.T) {
	bends := map[string]func([]string) []string{
		"the second": func(p []string) []string { p[2] = breakSignature(p[2]); return p },
		"the last":   func(p []string) []string { p[8] = breakSignature(p[8]); return p },
		"the first":  func(p []string) []string { p[0] = breakSignature(p[0]); return p },
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
			refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
				if !d.verifies() {
					return "", nil, nil
				}
				target, lines, chain := d.open(target, len(strings.Join(chunkedPayload, "")))
				body := strings.Join(change(framePayload(d.framing, chain, chunkedPayload...)), "")
				return target, lines, &body
			}, "403 SignatureDoesNotMatch")
		})
	}
	for name, change := range map[string]func([]string) []string{
		"trailer signature wrong":   func(p []string) []string { p[10] = breakSignature(p[10]); return p },
		"trailer signature missing": func(p []string) []string { return slices.Delete(p, 10, 11) },
		"trailer signature empty":   func(p []string) []string { p[10] = "x-amz-trailer-signature:\r\n"; return p },
		"trailer signature first, wrong": func(p []string) []string {
			p[9], p[10] = breakSignature(p[10]), p[9]
			return p
		},
		"of the chunk before": func(p []string) []string {
			p[10] = "x-amz-trailer-signature:" + regexp.MustCompile("[0-9a-f]{64}").FindString(p[8]) + "\r\n"
			return p
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
				if !d.verifies() || d.framing != formChunksTrailer {
					return "", nil, nil
				}
				target, lines, chain := d.open(target, len(strings.Join(chunkedPayload, "")))
				body := strings.Join(change(framePayload(d.framing, chain, chunkedPayload...)), "")
				return target, lines, &body
			}, "403 SignatureDoesNotMatch", "400 InvalidRequest")
		})
	}
	// A chunk of the right key, which begins a chain of its own: the head is not
	// the one that was sent. And a framing without signatures, in a head that
	// promises them.
	t.Run("another chain", func(t *testing.T) {
		t.Parallel()
		refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
			if !d.verifies() {
				return "", nil, nil
			}
			target, lines, chain := d.open(target, len(strings.Join(chunkedPayload, "")))
			chain.previous = strings.Repeat("0", 64)
			body := strings.Join(framePayload(d.framing, chain, chunkedPayload...), "")
			return target, lines, &body
		}, "403 SignatureDoesNotMatch")
	})
	t.Run("no signatures", func(t *testing.T) {
		t.Parallel()
		signatures := regexp.MustCompile(";chunk-signature=[0-9a-f]{64}|x-amz-trailer-signature:.*\r\n")
		refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
			if !d.verifies() {
				return "", nil, nil
			}
			target, lines, chain := d.open(target, len(strings.Join(chunkedPayload, "")))
			pieces := framePayload(d.framing, chain, chunkedPayload...)
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

// breakSignature changes one digit of the signature in a line.
func breakSignature(line string) string {
	n := len(line) - len("\r\n") - 1
	digit := "0"
	if line[n] == '0' {
		digit = "1"
	}
	return line[:n] + digit + "\r\n"
}

// The right ones are stored, without the envelope, in chunks of any form that S3
// takes; or all the refusals would prove nothing.
func TestRightChunksAreStored(t *testing.T) {
	for _, mode := range trailerModes {
		store := startUploadStore(t, mode)
		for _, d := range chunkedUploads {
			for _, chunks := range [][]string{nil, {"x"}, {"\r\n0\r\n\r\n"}, chunkedPayload, {strings.Repeat("a", 8192), "b"}, {strings.Repeat("c", 200_000)}} {
				want := strings.Join(chunks, "")
				for _, manner := range []string{"length", "chunked"} {
					for _, target := range store.targets()[1:] {
						to, lines, chain := d.open(target, len(want))
						body := strings.Join(framePayload(d.framing, chain, chunks...), "")
						resp, text := sendUpload(store.testGateway, to, lines, body, manner, 0)
						if etag := fmt.Sprintf(`"%x"`, md5.Sum([]byte(want))); resp.StatusCode != 200 || resp.Header.Get("Etag") != etag {
							t.Fatalf("%s/%s: PUT of %d bytes = %d %s, ETag %s, want 200 and %s", mode, d, len(want), resp.StatusCode, text, resp.Header.Get("Etag"), etag)
						}
					}
					resp, text := store.do("GET", "/photos/new", userKey, "", "x-amz-checksum-mode: ENABLED")
					if text != want || resp.Header.Get("Content-Encoding") != "" {
						t.Errorf("%s/%s: GET: %d bytes, Content-Encoding %q, want the %d that were sent, and none", mode, d, len(text), resp.Header.Get("Content-Encoding"), len(want))
					}
					if d.framing != formChunks && mode == "forward" && resp.Header.Get(crc32Header) != crc32Of(want) {
						t.Errorf("%s/%s: GET: %s = %q, want the client's, %q", mode, d, crc32Header, resp.Header.Get(crc32Header), crc32Of(want))
					}
				}
			}
		}
	}
}

// One reading of the framing, and the length exact. Another reading
// stores bytes of the envelope, or half of an object; a careless one never ends.
func TestFramingHasOneReading(t *testing.T) {
	whole := strings.Join(chunkedPayload, "")
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
			refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
				line := "x-amz-decoded-content-length: " + lengths[0]
				if lengths[0] == "-" {
					line = "x-amz-decoded-content-length:-"
				}
				target, lines, chain := d.open(target, 0, line)
				body := strings.Join(framePayload(d.framing, chain, chunkedPayload...), "")
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
		"plain":           func(p []string) []string { return chunkedPayload },
		"unknown trailer": func(p []string) []string { p[len(p)-1] = "x-amz-meta-a:b\r\n\r\n"; return p },
		"a hundred of it": func(p []string) []string { p[len(p)-1] = strings.Repeat("x-amz-meta-a:b\r\n", 100) + "\r\n"; return p },
		"1 MB trailer": func(p []string) []string {
			p[len(p)-1] = crc32Header + ":" + strings.Repeat("A", 1<<20) + "\r\n\r\n"
			return p
		},
		"trailer no colon": func(p []string) []string { p[len(p)-1] = "x\r\n\r\n"; return p },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
				target, lines, chain := d.open(target, len(whole))
				body := strings.Join(bend(framePayload(d.framing, chain, chunkedPayload...)), "")
				return target, lines, &body
			}, "400 IncompleteBody", "400 InvalidRequest", "403 SignatureDoesNotMatch")
		})
	}
	t.Run("small chunks", func(t *testing.T) {
		t.Parallel()
		refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
			target, lines, chain := d.open(target, 65536+8191+1)
			body := strings.Join(framePayload(d.framing, chain, chunkedPayload[0], chunkedPayload[1][:8191], "x"), "")
			return target, lines, &body
		}, "400 InvalidChunkSizeError", "403 InvalidChunkSizeError")
	})
	t.Run("no length at all", func(t *testing.T) {
		rec := startRecorder(t, nil)
		g := startGateway(t, testConfig(rec.URL))
		for _, d := range chunkedUploads {
			target, lines, chain := d.open("/photos/k", 1)
			body := strings.Join(framePayload(d.framing, chain, "x"), "")
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
				wantSignedRefusal(t, d.String()+version, "PUT", answers[0].Response, answers[0].text, "411 MissingContentLength")
			}
		}
		rec.wantNone(t)
	})
}

// smuggled is a request that must never be run: it is inside another.
const smuggled = "GET /secret/smuggled HTTP/1.1\r\nHost: h\r\nX-Api-Key: " + adminKey + "\r\n\r\n"

// Whether a body is framed is told by x-amz-content-sha256, which is
// signed, and not by Content-Encoding. What looks like frames and is none is
// stored as it is; what says it is framed by one of the two is refused.
func TestFramingIsToldByTheSignedHeader(t *testing.T) {
	store := startUploadStore(t, "forward")
	frames := strings.Join(framePayload(formUnsignedTrailer, nil, "hello"), "")
	for _, payload := range []string{formUnsigned, hexSHA256(frames)} {
		for _, header := range [][]string{nil, {"content-encoding: gzip"}, {"x-amz-decoded-content-length: 5"}} {
			lines, _ := signedHead{path: "/photos/new", payload: payload, header: header}.sign()
			if resp, text := store.do("PUT", "/photos/new", "", frames, lines...); resp.StatusCode != 200 {
				t.Errorf("PUT of what looks framed, %s, %q = %d %s, want 200", payload, header, resp.StatusCode, text)
			}
			if _, text := store.do("GET", "/photos/new", userKey, ""); text != frames {
				t.Errorf("GET = %q, want what was sent", text)
			}
		}
		for _, encoding := range []string{"aws-chunked", "AWS-Chunked", "gzip,aws-chunked", "aws-chunked, gzip"} {
			lines, _ := signedHead{payload: payload, header: []string{"content-encoding: " + encoding, "x-amz-decoded-content-length: 5"}}.sign()
			resp, text := store.do("PUT", "/photos/k", "", frames, lines...)
			wantSignedRefusal(t, encoding, "PUT", resp, text, "400 InvalidRequest")
		}
	}
	if resp, _ := store.do("DELETE", "/photos/new", userKey, ""); resp.StatusCode != 204 {
		t.Errorf("DELETE = %d", resp.StatusCode)
	}
	// Plain data that is said to be framed.
	for _, d := range chunkedUploads {
		for _, target := range store.targets() {
			target, lines, _ := d.open(target, 5)
			resp, text := sendUpload(store.testGateway, target, lines, "hello", "length", 0)
			wantSignedRefusal(t, d.String(), "PUT", resp, text, "400 InvalidRequest", "400 IncompleteBody")
		}
	}
	// Forms that nobody has, or that nobody here can verify.
	for _, framing := range []string{"STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD", "STREAMING-", "STREAMING-AWS4-HMAC-SHA256-EVENTS"} {
		for _, auth := range []string{"header", "presigned", "x-api-key"} {
			target, lines, _ := chunkedUpload{auth, framing}.open("/photos/k", 5)
			resp, text := sendUpload(store.testGateway, target, lines, frames, "length", 0)
			wantSignedRefusal(t, framing, "PUT", resp, text, "501 NotImplemented", "400 InvalidArgument")
		}
	}
	store.checkOld(t, "59")
	// Framed, and Content-Encoding does not say so: it need not.
	for _, d := range chunkedUploads {
		target, lines, chain := d.open("/photos/new", 5, "content-encoding:-")
		resp, text := sendUpload(store.testGateway, target, lines, strings.Join(framePayload(d.framing, chain, "hello"), ""), "length", 0)
		if resp.StatusCode != 200 {
			t.Errorf("%s: PUT = %d %s, want 200", d, resp.StatusCode, text)
		}
		if resp, text := store.do("GET", "/photos/new", userKey, ""); text != "hello" || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: GET = %q, Content-Encoding %q, want hello, and none", d, text, resp.Header.Get("Content-Encoding"))
		}
	}
}

// A checksum that is announced is there, once, of a kind that can be
// verified, and right. Otherwise a client that trusts in it trusts in nothing.
func TestTrailingChecksumIsExact(t *testing.T) {
	whole := strings.Join(chunkedPayload, "")
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
			refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
				if d.framing == formChunks && name == "nothing" || d.framing == formChunks && name == "empty" {
					return "", nil, nil // there is nothing wrong with it
				}
				target, lines, chain := d.open(target, len(whole), line)
				body := strings.Join(framePayload(d.framing, chain, chunkedPayload...), "")
				return target, lines, &body
			}, "400 InvalidRequest", "400 InvalidArgument")
		})
	}
	t.Run("announced in two headers", func(t *testing.T) {
		t.Parallel()
		refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
			if d.auth != "x-api-key" || d.framing == formChunks {
				return "", nil, nil
			}
			target, lines, chain := d.open(target, len(whole))
			body := strings.Join(framePayload(d.framing, chain, chunkedPayload...), "")
			return target, append(lines, "x-amz-trailer: "+crc32Header), &body
		}, "400 InvalidRequest")
	})
	wrong := crc32Header + ":" + crc32Of("something else") + "\r\n"
	for name, bend := range map[string]func(line string) string{
		"absent":       func(string) string { return "" },
		"wrong":        func(string) string { return wrong },
		"empty":        func(string) string { return crc32Header + ":\r\n" },
		"no base64":    func(string) string { return crc32Header + ":!!!!!!==\r\n" },
		"too long":     func(l string) string { return strings.Replace(l, "\r\n", "AAAA\r\n", 1) },
		"hex":          func(string) string { return fmt.Sprintf("%s:%08x\r\n", crc32Header, crc32.ChecksumIEEE([]byte(whole))) },
		"twice":        func(l string) string { return l + l },
		"right, wrong": func(l string) string { return l + wrong },
		"wrong, right": func(l string) string { return wrong + l },
		"case, wrong":  func(l string) string { return l + strings.ToUpper(wrong[:len(crc32Header)]) + wrong[len(crc32Header):] },
		"another":      func(l string) string { return strings.Replace(l, "crc32", "crc32c", 1) },
		"one more":     func(l string) string { return l + "x-amz-checksum-sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
				if d.framing == formChunks {
					return "", nil, nil
				}
				target, lines, chain := d.open(target, len(whole))
				pieces := framePayload(d.framing, chain, chunkedPayload...)
				pieces[9] = bend(pieces[9])
				if d.framing == formChunksTrailer { // signed, so that it is the checksum that is wrong
					chain.previous = regexp.MustCompile("[0-9a-f]{64}").FindString(pieces[8])
					pieces[10] = "x-amz-trailer-signature:" + chain.trailer(strings.ReplaceAll(pieces[9], "\r", "")) + "\r\n"
				}
				body := strings.Join(pieces, "")
				return target, lines, &body
			}, "400 InvalidRequest", "400 BadDigest", "400 InvalidDigest", "403 SignatureDoesNotMatch")
		})
	}
}

// Cases 79 and 80, of frames: an upload that ends before its last frame does is
// none, wherever it ends and however: with the connection, or with a message of
// HTTP that is whole in itself.
func TestFramesCutAreNotStored(t *testing.T) {
	for _, mode := range trailerModes {
		for _, d := range chunkedUploads {
			t.Run(mode+"/"+d.String(), func(t *testing.T) {
				t.Parallel()
				store, counter := startUploadStore(t, mode), startUploadCounter(t, mode)
				size := len(strings.Join(chunkedPayload, ""))
				cuts := map[int]bool{0: true, 1: true, size / 2: true}
				_, _, chain := d.open("/photos/k", size)
				pieces := framePayload(d.framing, chain, chunkedPayload...)
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
							body := strings.Join(framePayload(d.framing, chain, chunkedPayload...), "")
							resp, text := sendUpload(g, target, lines, body[:n], manner, max(1, end-n))
							if manner != "RST" {
								wantSignedRefusal(t, what, "PUT", resp, text, "400 IncompleteBody")
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

// What is wrong with the trailer, or behind it, shows when
// the last byte of the payload has long been here; the backend does not have it
// then, whatever the size is to the buffers and frames on the way.
func TestUploadWithWrongTrailerIsNotStored(t *testing.T) {
	for _, size := range []int{0, 1, 2, 32 << 10, 65535, 65536, 65537, 131072} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			t.Parallel()
			payload := bytesOf(81, size)
			for what, bend := range map[string]func(pieces []string) []string{
				"wrong":   func(p []string) []string { p[len(p)-2] = crc32Header + ":" + crc32Of(payload+"x") + "\r\n"; return p },
				"surplus": func(p []string) []string { return append(p, "\r\n") },
				"cut":     func(p []string) []string { return p[:len(p)-1] },
			} {
				refuseUploads(t, "length", func(d chunkedUpload, target string) (string, []string, *string) {
					target, lines, chain := d.open(target, size)
					chunks := []string{payload}
					if size == 0 {
						chunks = nil
					}
					pieces := framePayload(d.framing, chain, chunks...)
					if d.framing != formUnsignedTrailer && what == "wrong" {
						return "", nil, nil
					}
					body := strings.Join(bend(pieces), "")
					return target, lines, &body
				}, "400 BadDigest", "400 InvalidRequest", "400 IncompleteBody")
			}
		})
	}
}

// They are the transport's and not the object's. A coding of
// the object itself stays, the length is that of the payload, and the checksum
// that came behind it gets to a backend that takes one there.
func TestFramesAreNotStored(t *testing.T) {
	whole := strings.Join(chunkedPayload, "")
	for _, mode := range trailerModes {
		rec := startRecorder(t, nil)
		g := startGateway(t, testConfig(rec.URL, with("accounts.main.trailing_checksums", mode)))
		store := startUploadStore(t, mode)
		for _, d := range chunkedUploads {
			for sent, want := range map[string]string{
				"aws-chunked": "", "aws-chunked,gzip": "gzip", "aws-chunked, gzip": "gzip", "gzip,aws-chunked": "gzip",
				"aws-chunked,gzip,br": "gzip,br", "AWS-Chunked , gzip": "gzip", "gzip": "gzip",
			} {
				what := mode + "/" + d.String() + "/" + sent
				for _, g := range []*testGateway{g, store.testGateway} {
					target, lines, chain := d.open("/photos/new", len(whole), "content-encoding: "+sent, "content-type: text/x-test", "x-amz-meta-name: Tom")
					resp, text := sendUpload(g, target, lines, strings.Join(framePayload(d.framing, chain, chunkedPayload...), ""), "length", 0)
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
				if mode == "verify" || d.framing == formChunks {
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
					"X-Amz-Decoded-Content-Length": strconv.Itoa(len(whole)), "X-Amz-Trailer": crc32Header, "X-Amz-Content-Sha256": formUnsignedTrailer,
					"Content-Length": strconv.Itoa(len(seen.body)),
				})
				if encoding != want { // a backend might store aws-chunked
					t.Errorf("%s: the backend got Content-Encoding %q, want %q", what, encoding, want)
				}
				if tail := "\r\n0\r\n" + crc32Header + ":" + crc32Of(whole) + "\r\n\r\n"; !strings.HasSuffix(seen.body, tail) || strings.Contains(seen.body, "chunk-signature") {
					t.Errorf("%s: the backend's body does not end in %q, or has the client's signatures", what, tail)
				}
			}
		}
	}
}

// One of 256 MiB may be signed, and its signature is known
// to be good only at its end. It is passed on as it comes all the same.
func TestLargeSignedChunkIsNotKeptInMemory(t *testing.T) {
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
		target, lines, chain := chunkedUpload{"header", formChunks}.open("/photos/k", size)
		chain.previous = hex.EncodeToString(hmacOf(chain.key, "AWS4-HMAC-SHA256-PAYLOAD\n"+chain.rest+chain.previous+"\n"+emptySHA256+"\n"+digest))
		first := fmt.Sprintf("%x;chunk-signature=%s\r\n", size, chain.previous)
		if wrong {
			first = breakSignature(first)
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
			wantSignedRefusal(t, "a wrong signature", "PUT", resp, text, "403 SignatureDoesNotMatch")
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
