package main

// AWS Signature Version 4, header form, for S3.
//
// A signature is made in four steps, in the words and the order of the specification:
//
//	appendCanonicalRequest   the request in a canonical form
//	appendStringToSign       algorithm, instant, scope, SHA-256 of the above
//	signingKey               the secret, bound to a day, a region and a service
//	signature                HMAC-SHA256 of the string to sign, in hex
//
// sign takes these steps without allocating: it keeps the key of a day (dayKey), and makes
// the last step itself.
//
// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
//
// S3 departs from the other AWS services in two ways that matter here: the
// path is encoded once, not twice, and it is never normalised, because "a//b"
// and "a/../b" are names of objects.

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxPresignExpiry is the longest life of a presigned URL, in seconds: seven days.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
	maxPresignExpiry = 604800

	signatureAlgorithm = "AWS4-HMAC-SHA256"
	scopeTerminator    = "aws4_request"
	amzDateFormat      = "20060102T150405Z"

	// unsignedPayload replaces the digest of the body in the canonical request, where
	// the body is not known before it is sent.
	unsignedPayload = "UNSIGNED-PAYLOAD"

	// emptyPayload is the SHA-256 of no bytes at all.
	emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// credentials are an access key of one account. SessionToken is empty for
// long-lived keys.
type credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string
}

// A signer signs requests for one region. It may be used by
// several goroutines at once.
type signer struct {
	region string

	// key is of the day of the last signature. It changes once a day, and costs four
	// HMACs.
	key atomic.Pointer[dayKey]
}

// A dayKey is a signing key, with everything else that a day's requests share.
type dayKey struct {
	credentials *credentials // of the key
	date        string       // yyyymmdd, UTC
	scope       string
	macs        sync.Pool // of *mac for the key
}

// A mac makes one signature at a time. It has buffers, because an argument of a hash.Hash
// can't stay on the stack.
type mac struct {
	hash.Hash
	text [256]byte
	sum  [sha256.Size]byte
}

// sign adds X-Amz-Date, X-Amz-Content-Sha256, X-Amz-Security-Token (if the
// credentials have one) and Authorization to req, replacing what is there. The
// payload hash is the hex SHA-256 of the body, or unsignedPayload.
//
// White space in the value of a signed header is sent as spaces: see hasOddSpace.
//
// req.Host must be set, and req.URL be in the form that will be sent: RawPath as uriEncode makes
// it, RawQuery as canonicalQuery makes it, and no header more than once.
// Then what is signed and what is sent are the same bytes.
func (s *signer) sign(req *http.Request, creds *credentials, payloadHash string, now time.Time) {
	amzDate := now.UTC().Format(amzDateFormat)
	key := s.dayKey(creds, amzDate[:8])
	values := [...]string{amzDate, payloadHash, creds.SessionToken, ""}
	req.Header["X-Amz-Date"] = values[0:1:1]
	req.Header["X-Amz-Content-Sha256"] = values[1:2:2]
	delete(req.Header, "X-Amz-Security-Token") // of an earlier attempt
	if creds.SessionToken != "" {
		req.Header["X-Amz-Security-Token"] = values[2:3:3]
	}

	var fieldArray [24]headerField
	fields := appendSignedFields(fieldArray[:0], req)
	var buf [2048]byte
	canonical := appendCanonicalRequest(buf[:0], req.Method, req.URL.EscapedPath(), req.URL.RawQuery, fields, payloadHash)

	m := key.macs.Get().(*mac)
	m.Write(appendStringToSign(m.text[:0], amzDate, key.scope, canonical))
	digest := m.Sum(m.sum[:0])
	auth := append(buf[:0], signatureAlgorithm+" Credential="...) // buf is free again
	auth = append(auth, creds.AccessKeyID...)
	auth = append(auth, '/')
	auth = append(auth, key.scope...)
	auth = append(auth, ",SignedHeaders="...)
	auth = appendSignedHeaders(auth, fields)
	auth = append(auth, ",Signature="...)
	auth = hex.AppendEncode(auth, digest)
	m.Reset()
	key.macs.Put(m)
	values[3] = string(auth)
	req.Header["Authorization"] = values[3:4:4]
}

// appendSignedFields appends the headers to be signed, sorted by name.
func appendSignedFields(fields []headerField, req *http.Request) []headerField {
	fields = append(fields, headerField{"host", req.Host})
	for name, values := range req.Header {
		if lower, ok := signedName(name); ok {
			value := strings.Join(values, ",")
			if hasOddSpace(value) {
				value = plainSpace(value)
				req.Header[name] = []string{value}
			}
			fields = append(fields, headerField{lower, value})
		}
	}
	slices.SortFunc(fields, func(a, b headerField) int { return strings.Compare(a.name, b.name) })
	return fields
}

// dayKey returns the key for a day (yyyymmdd): the last one, if it is for that day.
func (s *signer) dayKey(creds *credentials, date string) *dayKey {
	if k := s.key.Load(); k != nil && k.date == date && k.credentials == creds {
		return k
	}
	key := signingKey(creds.SecretAccessKey, date, s.region, "s3")
	k := &dayKey{credentials: creds, date: date, scope: credentialScope(date, s.region, "s3")}
	k.macs.New = func() any { return &mac{Hash: hmac.New(sha256.New, key)} }
	s.key.Store(k)
	return k
}

// A headerField is one header of the canonical request: the name in lower
// case, the value as sent.
type headerField struct{ name, value string }

// signedName reports whether a header takes part in the signature, and its
// name in lower case. S3 demands host and every x-amz-* header. The others
// here say what is stored or which part of it is read. A header that a load balancer may
// rewrite (User-Agent, Accept-Encoding, …) is left out: if it were signed, the request
// would fail.
func signedName(name string) (string, bool) {
	switch name {
	case "X-Amz-Date":
		return "x-amz-date", true
	case "X-Amz-Content-Sha256":
		return "x-amz-content-sha256", true
	case "Content-Type":
		return "content-type", true
	case "Content-Md5":
		return "content-md5", true
	case "Date":
		return "date", true
	case "Range":
		return "range", true
	}
	if strings.HasPrefix(name, "X-Amz-") || strings.HasPrefix(name, "x-amz-") {
		return strings.ToLower(name), true
	}
	return "", false
}

// appendCanonicalRequest appends step 1 to b:
//
//	GET                                       method
//	/photos/cat%20one.jpg                     path, each byte encoded once
//	list-type=2&prefix=J                      query, sorted after encoding
//	host:s3.example                           headers, sorted, one a line
//	x-amz-date:20130524T000000Z
//	                                          (an empty line)
//	host;x-amz-date                           their names
//	e3b0c44298fc1c149afbf4c8996fb924…         digest of the body
//
// The path and the query are encoded already, and the fields are sorted.
func appendCanonicalRequest(b []byte, method, path, query string, fields []headerField, payloadHash string) []byte {
	b = append(b, method...)
	b = append(b, '\n')
	b = append(b, path...)
	b = append(b, '\n')
	b = append(b, query...)
	b = append(b, '\n')
	for _, f := range fields {
		b = append(b, f.name...)
		b = append(b, ':')
		b = appendTrimmed(b, f.value)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = appendSignedHeaders(b, fields)
	b = append(b, '\n')
	return append(b, payloadHash...)
}

func appendSignedHeaders(b []byte, fields []headerField) []byte {
	for i, f := range fields {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, f.name...)
	}
	return b
}

// appendTrimmed appends a header's value as the specification's Trimall() returns it: without
// spaces at its ends, and with one space for each run of them.
func appendTrimmed(b []byte, value string) []byte {
	value = strings.Trim(value, " \t")
	if !strings.Contains(value, "  ") {
		return append(b, value...)
	}
	for i := range len(value) {
		if value[i] == ' ' && value[i-1] == ' ' { // i > 0: the value is trimmed
			continue
		}
		b = append(b, value[i])
	}
	return b
}

// hasOddSpace reports whether a header's value has white space that is not a space,
// about which implementations differ. The specification's Trimall() is for spaces, and so
// aws-sdk-go and versitygw sign a tab as a tab. botocore, the SDKs for Java and JavaScript,
// minio-go and MinIO fold any white space into one space.
func hasOddSpace(value string) bool {
	ascii := true
	for i := range len(value) {
		switch c := value[i]; {
		case c == '\t':
			return true
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return !ascii && strings.ContainsFunc(value, isOddSpace)
}

func isOddSpace(r rune) bool { return r != ' ' && unicode.IsSpace(r) }

// plainSpace returns a value with a space in place of each white space. Bytes that are not
// UTF-8 stay as they are.
func plainSpace(value string) string {
	b := make([]byte, 0, len(value))
	for rest := value; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		if isOddSpace(r) {
			b = append(b, ' ')
		} else {
			b = append(b, rest[:n]...)
		}
		rest = rest[n:]
	}
	return string(b)
}

// foldSpace returns a value without white space at its ends, and with one space for each run
// of it.
func foldSpace(value string) string { return strings.Join(strings.Fields(value), " ") }

// credentialScope returns the scope of a signing key. The date is yyyymmdd.
func credentialScope(date, region, serviceName string) string {
	return date + "/" + region + "/" + serviceName + "/" + scopeTerminator
}

// stringToSign is step 2. The instant is in amzDateFormat.
func stringToSign(amzDate, scope string, canonicalRequest []byte) []byte {
	return appendStringToSign(nil, amzDate, scope, canonicalRequest)
}

func appendStringToSign(b []byte, amzDate, scope string, canonicalRequest []byte) []byte {
	digest := sha256.Sum256(canonicalRequest)
	b = append(b, signatureAlgorithm+"\n"...)
	b = append(b, amzDate...)
	b = append(b, '\n')
	b = append(b, scope...)
	b = append(b, '\n')
	return hex.AppendEncode(b, digest[:])
}

// signingKey is step 3. The date is yyyymmdd.
func signingKey(secret, date, region, serviceName string) []byte {
	key := []byte("AWS4" + secret)
	for _, part := range []string{date, region, serviceName, scopeTerminator} {
		key = hmacSHA256(key, []byte(part))
	}
	return key
}

// signature is step 4, in hex.
func signature(key, text []byte) []byte {
	return hex.AppendEncode(make([]byte, 0, 2*sha256.Size), hmacSHA256(key, text))
}

func hmacSHA256(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(make([]byte, 0, sha256.Size))
}

// uriEncode is the specification's UriEncode(): every byte but the unreserved
// characters of RFC 3986 section 2.3 becomes %XY with capital digits. The
// slash stays as it is in a path, encodeSlash false.
func uriEncode(s string, encodeSlash bool) string {
	n := 0
	for i := range len(s) {
		if !unreserved(s[i], encodeSlash) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	return string(appendURIEncoded(make([]byte, 0, len(s)+2*n), s, encodeSlash))
}

// appendURIEncoded appends what uriEncode returns.
func appendURIEncoded[T string | []byte](b []byte, s T, encodeSlash bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && unreserved(s[i], encodeSlash) {
			i++
		}
		if b = append(b, s[start:i]...); i < len(s) {
			b = append(b, '%', digits[s[i]>>4], digits[s[i]&15])
			i++
		}
	}
	return b
}

func unreserved(c byte, encodeSlash bool) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	case c == '-', c == '.', c == '_', c == '~':
		return true
	}
	return c == '/' && !encodeSlash
}
