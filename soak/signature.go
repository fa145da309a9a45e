package main

// Signature Version 4, written apart from the gateway's: the clients sign with it, and the
// backends verify what the gateway signs.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	amzTime         = "20060102T150405Z"
	algorithm       = "AWS4-HMAC-SHA256"
	region          = "us-east-1"
	unsignedPayload = "UNSIGNED-PAYLOAD"
)

// A keyPair is what requests are signed with.
type keyPair struct{ id, secret string }

// escape encodes as Signature Version 4 does. The characters of keep are left as well.
func escape(s, keep string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~"+keep, c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// canonicalQuery sorts the encoded parameters of a query, without the one of the signature.
func canonicalQuery(raw string) string {
	var pairs []string
	for part := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(part, "=")
		if name == "" || name == "X-Amz-Signature" {
			continue
		}
		n, _ := url.PathUnescape(name)
		v, _ := url.PathUnescape(value)
		pairs = append(pairs, escape(n, "")+"="+escape(v, ""))
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

// signature computes the signature of a request over the signed headers.
func signature(r *http.Request, secret, date, scope string, signed []string, payload string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n%s\n", r.Method, r.URL.EscapedPath(), canonicalQuery(r.URL.RawQuery))
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&b, "%s:%s\n", name, strings.Join(strings.Fields(value), " "))
	}
	fmt.Fprintf(&b, "\n%s\n%s", strings.Join(signed, ";"), payload)
	text := algorithm + "\n" + date + "\n" + scope + "\n" + hexSHA256([]byte(b.String()))
	return hex.EncodeToString(keyed(signingKey(secret, scope), text))
}

// signingKey derives the key of a scope: date, region, service and terminator.
func signingKey(secret, scope string) []byte {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") {
		key = keyed(key, part)
	}
	return key
}

func keyed(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, text)
	return mac.Sum(nil)
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// sign signs a request with its Authorization header and returns the signature. All headers
// that are there are signed.
func sign(r *http.Request, k keyPair, payload string, now time.Time) string {
	date := now.UTC().Format(amzTime)
	scope := date[:8] + "/" + region + "/s3/aws4_request"
	r.Header.Set("X-Amz-Date", date)
	r.Header.Set("X-Amz-Content-Sha256", payload)
	signed := []string{"host"}
	for name := range r.Header {
		signed = append(signed, strings.ToLower(name))
	}
	slices.Sort(signed)
	sum := signature(r, k.secret, date, scope, signed, payload)
	r.Header.Set("Authorization", algorithm+" Credential="+k.id+"/"+scope+", SignedHeaders="+strings.Join(signed, ";")+", Signature="+sum)
	return sum
}

// presign puts a signature in the query, valid for so many seconds.
func presign(r *http.Request, k keyPair, seconds int, now time.Time) string {
	date := now.UTC().Format(amzTime)
	scope := date[:8] + "/" + region + "/s3/aws4_request"
	query := fmt.Sprintf("X-Amz-Algorithm=%s&X-Amz-Credential=%s&X-Amz-Date=%s&X-Amz-Expires=%d&X-Amz-SignedHeaders=host",
		algorithm, escape(k.id+"/"+scope, ""), date, seconds)
	if r.URL.RawQuery != "" {
		query = r.URL.RawQuery + "&" + query
	}
	r.URL.RawQuery = query
	sum := signature(r, k.secret, date, scope, []string{"host"}, unsignedPayload)
	r.URL.RawQuery += "&X-Amz-Signature=" + sum
	return sum
}

// verify reports whether a request is signed with the pair. It returns the signature too.
func verify(r *http.Request, k keyPair) (sum string, ok bool) {
	fields := map[string]string{}
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), algorithm+" ")
	if !ok {
		return "", false
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[name] = value
	}
	id, scope, _ := strings.Cut(fields["Credential"], "/")
	date := r.Header.Get("X-Amz-Date")
	sum = fields["Signature"]
	if id != k.id || len(date) != len(amzTime) || !strings.HasPrefix(scope, date[:8]+"/") {
		return sum, false
	}
	want := signature(r, k.secret, date, scope, strings.Split(fields["SignedHeaders"], ";"), r.Header.Get("X-Amz-Content-Sha256"))
	return sum, sum == want
}

// signedChunks encodes a body as STREAMING-AWS4-HMAC-SHA256-PAYLOAD: chunks of which each
// has a signature that depends on the one before.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
func signedChunks(body []byte, k keyPair, date, seed string, chunk int) []byte {
	scope := date[:8] + "/" + region + "/s3/aws4_request"
	key, previous := signingKey(k.secret, scope), seed
	var b bytes.Buffer
	for last := false; !last; {
		n := min(chunk, len(body))
		last = n == 0
		text := strings.Join([]string{"AWS4-HMAC-SHA256-PAYLOAD", date, scope, previous, hexSHA256(nil), hexSHA256(body[:n])}, "\n")
		previous = hex.EncodeToString(keyed(key, text))
		fmt.Fprintf(&b, "%x;chunk-signature=%s\r\n%s\r\n", n, previous, body[:n])
		body = body[n:]
	}
	return b.Bytes()
}
