package main

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// uploadInParts sends the three requests of a multipart upload as SDKs do, with a
// trailing checksum, or one in a header, for the part.
func uploadInParts(t *testing.T, g *testGateway, trailing bool) {
	t.Helper()
	send := func(method, target, body string, header ...string) {
		t.Helper()
		if resp, text := g.do(method, target, userKey, body, header...); resp.StatusCode != 200 {
			t.Errorf("%s %s = %d %s, want 200", method, target, resp.StatusCode, text)
		}
	}
	send("POST", "/photos/k?uploads", "", "x-amz-checksum-algorithm: CRC32", "x-amz-checksum-type: COMPOSITE", "x-amz-sdk-checksum-algorithm: CRC32", "x-amz-meta-a: b")
	if body, header := frameWithTrailer("meow"); trailing {
		send("PUT", "/photos/k?partNumber=1&uploadId=u", body, append(header, "x-amz-content-sha256: "+streamingTrailer, "content-encoding: aws-chunked", "x-amz-sdk-checksum-algorithm: CRC32")...)
	} else {
		send("PUT", "/photos/k?partNumber=1&uploadId=u", "meow", "x-amz-checksum-crc32: "+crc32Of("meow"), "x-amz-sdk-checksum-algorithm: CRC32")
	}
	send("POST", "/photos/k?uploadId=u", "<CompleteMultipartUpload><Part><ETag>e</ETag><PartNumber>1</PartNumber><ChecksumCRC32>"+crc32Of("meow")+
		"</ChecksumCRC32></Part></CompleteMultipartUpload>", "x-amz-checksum-crc32: "+crc32Of("meow")+"-1", "x-amz-checksum-type: COMPOSITE")
}

// Before a backend that takes no trailing checksums, no request of a multipart upload
// speaks of checksums: they would not agree. Before any other, all of them do.
func TestRequestsOfAnUploadAgreeOnChecksums(t *testing.T) {
	for _, mode := range []string{"verify", "forward"} {
		for _, trailing := range []bool{true, false} {
			backend := startRecorder(t, answerAsS3)
			g := startGateway(t, testConfig(backend.URL, with("accounts.main.trailing_checksums", mode)))
			uploadInParts(t, g, trailing)
			requests := backend.requests()
			if len(requests) != 3 {
				t.Fatalf("%s: the backend got %d requests, want 3", mode, len(requests))
			}
			for i, r := range requests {
				text := strings.ToLower(fmt.Sprint(r.header, r.body))
				if says := strings.Contains(text, "checksum"); says != (mode == "forward") {
					t.Errorf("%s, trailing %t: request %d: %s", mode, trailing, i+1, text)
				}
			}
			if h := requests[0].header; h.Get("X-Amz-Meta-A") != "b" {
				t.Errorf("%s: the header of the upload is %v, want the rest of it", mode, h)
			}
			if body := requests[1].body; mode == "verify" && body != "meow" {
				t.Errorf("%s: the part is %q, want it without its frame", mode, body)
			}
			if body := requests[2].body; !strings.Contains(body, "<ETag>e</ETag>") || !strings.Contains(body, "<PartNumber>1</PartNumber>") {
				t.Errorf("%s: the list of parts is %s", mode, body)
			}
		}
	}
}

// A checksum that is not passed on is verified here.
func TestChecksumsThatAreTakenOffAreVerified(t *testing.T) {
	for _, size := range []int{0, 4, 3 * smallUpload} {
		body := string(pattern(size))
		for _, test := range []struct {
			header string
			status int
			code   string
		}{
			{"x-amz-checksum-crc32: " + crc32Of(body), 200, ""},
			{"x-amz-checksum-crc32: " + crc32Of(body+"x"), 400, "BadDigest"},
			{"x-amz-checksum-crc32: x", 400, "BadDigest"},
			{"x-amz-checksum-sha256: " + crc32Of(body), 400, "BadDigest"},
			{"x-amz-checksum-nobodyknows: AAAA", 501, "NotImplemented"},
		} {
			backend := startRecorder(t, nil)
			g := startGateway(t, testConfig(backend.URL, with("accounts.main.trailing_checksums", "verify")))
			resp, text := g.do("PUT", "/photos/k?partNumber=1&uploadId=u", userKey, body, test.header)
			if resp.StatusCode != test.status {
				t.Errorf("%d bytes with %s = %d %s, want %d", size, test.header, resp.StatusCode, text, test.status)
			}
			for _, r := range backend.requests() {
				if whole := r.err == nil; whole && test.status != 200 {
					t.Errorf("%d bytes with %s: the backend got %d bytes as a whole part", size, test.header, len(r.body))
				}
			}
			if test.status != 200 {
				wantError(t, resp, text, test.status, test.code)
			}
		}
	}
	for name := range checksumsOfUpload {
		if operationSpecs[name].method == "" {
			t.Errorf("there is no operation %s", name)
		}
	}
}

// A digest that a header declares is verified before the backend has the last byte,
// whether the backend verifies it too or not. The values are those of RFC 1321 (MD5 of
// "abc") and FIPS 180-2 (SHA-256 of it).
func TestDigestInAHeaderIsVerified(t *testing.T) {
	const md5OfABC, sha256OfABC = "kAFQmDzST7DWlj99KOF/cg==", "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
	for _, test := range []struct {
		name, value, body string
		status            int
		code              string
	}{
		{"Content-MD5", md5OfABC, "abc", 200, ""},
		{"Content-MD5", md5OfABC, "abd", 400, "BadDigest"},
		{"Content-MD5", "900150983cd24fb0d6963f7d28e17f72", "abc", 400, "InvalidDigest"},
		{"Content-MD5", md5OfABC, "", 400, "BadDigest"},
		{"x-amz-checksum-sha256", sha256OfABC, "abc", 200, ""},
		{"x-amz-checksum-sha256", sha256OfABC, "abd", 400, "BadDigest"},
		{"x-amz-checksum-xxhash3", "AAAAAAAAAAA=", "abc", 200, ""}, // the backend's to verify
	} {
		backend := startRecorder(t, nil)
		g := startGateway(t, testConfig(backend.URL))
		resp, body := g.do("PUT", "/photos/k", userKey, test.body, test.name+": "+test.value)
		if test.status != 200 {
			wantError(t, resp, body, test.status, test.code)
			backend.wantNone(t)
			continue
		}
		if seen := backend.requests(); resp.StatusCode != 200 || len(seen) != 1 || seen[0].header.Get(test.name) != test.value {
			t.Errorf("%s: %s of %q = %d, and the backend has seen %v", test.name, test.value, test.body, resp.StatusCode, seen)
		}
	}
}

// A small document is read whole, and what vouches for it is
// verified all the same: where a flipped bit deletes another object.
func TestChecksumsOfDocumentsAreVerified(t *testing.T) {
	rec := startRecorder(t, nil)
	g := startGateway(t, testConfig(rec.URL))
	for _, row := range []struct{ method, target, body string }{
		{"POST", "/photos?delete", "<Delete><Object><Key>a</Key></Object></Delete>"},
		{"POST", "/photos/k?uploadId=u", "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"},
		{"PUT", "/photos/k?tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"},
	} {
		path, query, _ := strings.Cut(row.target, "?")
		send := func(auth, payload, body string, header ...string) (*http.Response, string) {
			lines, _ := signedHead{method: row.method, path: path, query: []string{query}, payload: payload, header: header}.sign()
			if auth == "x-api-key" {
				lines = append(header, "x-amz-content-sha256: "+payload, "x-api-key: "+userKey)
			}
			return g.do(row.method, row.target, "", body, lines...)
		}
		for _, auth := range []string{"x-api-key", "header"} {
			frames := strings.Join(framePayload(formUnsignedTrailer, nil, row.body), "")
			length := fmt.Sprintf("x-amz-decoded-content-length: %d", len(row.body))
			for what, bad := range map[string]string{
				"wrong trailer": strings.Replace(frames, crc32Of(row.body), crc32Of(""), 1),
				"no trailer":    strings.Replace(frames, crc32Header+":"+crc32Of(row.body)+"\r\n", "", 1),
				"cut":           frames[:len(frames)-2],
				"surplus":       frames + "x",
			} {
				resp, text := send(auth, formUnsignedTrailer, bad, length, "x-amz-trailer: "+crc32Header)
				wantRefusal(t, row.target+" "+what, resp, text, "400 BadDigest", "400 InvalidRequest", "400 IncompleteBody")
			}
			resp, text := send(auth, hexSHA256("x"), row.body)
			wantRefusal(t, row.target+" digest", resp, text, "400 XAmzContentSHA256Mismatch")
			resp, text = send(auth, formUnsigned, row.body, "content-md5: "+base64.StdEncoding.EncodeToString(make([]byte, 16)))
			wantRefusal(t, row.target+" content-md5", resp, text, "400 BadDigest")
		}
	}
	// Of a list of keys, the backend gets another document than the client sent: it
	// can't verify the client's checksum, so that is for the gateway to do.
	for _, line := range []string{crc32Header + ": " + crc32Of("another list"), "x-amz-checksum-sha256: " + base64.StdEncoding.EncodeToString(make([]byte, 32))} {
		resp, text := g.do("POST", "/photos?delete", userKey, "<Delete><Object><Key>a</Key></Object></Delete>", line)
		wantRefusal(t, "DeleteObjects with "+line, resp, text, "400 BadDigest")
	}
	rec.wantNone(t)
}
