package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
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
