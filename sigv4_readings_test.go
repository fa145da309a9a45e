package main

// How others read the headers of a signed request. Signatures are good only if both sides
// bring a header's values into the same form, and implementations differ. Their readings are
// written down here from what they document, and fuzzing compares them with the gateway's: what a
// client signs must be verified, and what the gateway signs must be verified by its backends.

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// A reading returns the canonical form of one value of a header. All of them join several with a
// comma. It reports false for a value that this implementation can't have.
type reading func(value string) (canonical string, ok bool)

var readings = map[string]reading{
	// Trimall of the specification: "removes any leading or trailing white space and converts
	// sequential spaces to a single space". aws-sdk-go and versitygw take only spaces for spaces.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
	"specification": func(value string) (string, bool) {
		var words []string
		for word := range strings.SplitSeq(strings.Trim(value, " \t"), " ") {
			if word != "" {
				words = append(words, word)
			}
		}
		return strings.Join(words, " "), true
	},

	// SigV4Auth._header_value in auth.py: ' '.join(value.split()), for a str, which has no bytes
	// that are not UTF-8. str.split knows more white space than Unicode's: U+001C to U+001F.
	// https://github.com/boto/botocore/blob/develop/botocore/auth.py
	// https://docs.python.org/3/library/stdtypes.html#str.isspace
	"botocore": func(value string) (string, bool) {
		words := strings.FieldsFunc(value, func(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f })
		return strings.Join(words, " "), utf8.ValidString(value)
	},

	// signV4TrimAll in cmd/signature-v4-utils.go: the fields of strings.Fields, whose white space is
	// that of unicode.IsSpace, joined by spaces.
	// https://github.com/minio/minio/blob/master/cmd/signature-v4-utils.go
	"MinIO": func(value string) (string, bool) {
		return strings.Join(strings.FieldsFunc(value, unicode.IsSpace), " "), true
	},
}

// sign returns the signature that an implementation with this reading makes of a request, over
// the headers of the names, which are sorted. It reports false if it can't have such a request.
func (read reading) sign(h signedHead, r *http.Request, names []string) (string, bool) {
	canonical := h.method + "\n" + h.path + "\n\n"
	for _, name := range names {
		values := r.Header[http.CanonicalHeaderKey(name)]
		if name == "host" {
			values = []string{r.Host}
		}
		forms := make([]string, len(values))
		for i, value := range values {
			form, ok := read(value)
			if !ok {
				return "", false
			}
			forms[i] = form
		}
		canonical += name + ":" + strings.Join(forms, ",") + "\n"
	}
	canonical += "\n" + strings.Join(names, ";") + "\n" + h.payload
	text := "AWS4-HMAC-SHA256\n" + h.at.UTC().Format(amzDateLayout) + "\n" + h.day + "/" + h.scope + "\n" + hexSHA256(canonical)
	return hex.EncodeToString(hmacOf(h.key(), text)), true
}

// receivedRequest returns a request as a handler of net/http gets it, or false if net/http
// answers it with an error.
func receivedRequest(wire string) (*http.Request, bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		return nil, false
	}
	for name, values := range r.Header {
		for _, text := range append([]string{name}, values...) {
			if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
				return nil, false
			}
		}
		if strings.ContainsFunc(name, func(c rune) bool {
			return c <= ' ' || c >= utf8.RuneSelf || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
		}) {
			return nil, false
		}
	}
	return r, true
}

var valuesToSign = []string{
	"x-amz-meta-a: a  b\r\n", "x-amz-meta-a:\ta\tb \r\nx-amz-meta-a:  c\r\n", "x-amz-meta-a: a\u00a0\r\nX-Amz-Meta-A: \u3000b\r\n",
	"x-amz-meta-a: \r\nx-amz-meta-a-b: \u0085\r\n", "content-type: text/plain;  charset=\"a  b\"\r\nrange: bytes=0-9\r\n",
	"x-amz-tagging: a=\xff\u2003b\r\nx-amz-meta-\x60: \xc2\x85\xa0\r\n", "x-amz-storage-class: STANDARD\r\ndate: x\r\n y\r\n",
}

// Whatever the headers of a request hold, a client that signs them by one of the readings is known
// by its signature, and no longer when a value has changed.
func FuzzClientsSignaturesAreVerified(f *testing.F) {
	for _, seed := range valuesToSign {
		f.Add(seed)
	}
	users := exampleUsers()
	f.Fuzz(func(t *testing.T, lines string) {
		h := signedHead{user: exampleCredentials.AccessKeyID, secret: exampleCredentials.SecretAccessKey, at: exampleInstant}.filled()
		r, ok := receivedRequest("PUT /photos/k HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n")
		if !ok {
			return
		}
		delete(r.Header, "X-Api-Key")
		delete(r.Header, "Authorization")
		r.Header["X-Amz-Date"], r.Header["X-Amz-Content-Sha256"] = []string{h.at.Format(amzDateLayout)}, []string{h.payload}
		names := []string{"host"}
		for name := range r.Header {
			names = append(names, strings.ToLower(name))
		}
		slices.Sort(names)
		for who, read := range readings {
			signed, ok := read.sign(h, r, names)
			if !ok {
				continue
			}
			r.Header["Authorization"] = []string{fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s/%s, SignedHeaders=%s, Signature=%s", h.user, h.day, h.scope, strings.Join(names, ";"), signed)}
			if c, refusal := users.authenticate(r, h.path, nil, h.at); refusal != nil || c.user.name != h.user {
				t.Fatalf("signed as %s does: %v, want the user\n%q", who, refusal, r.Header)
			}
			for name, values := range maps.Clone(r.Header) {
				if name != "Authorization" && name != "X-Amz-Date" {
					r.Header[name] = append([]string{values[0] + "x"}, values[1:]...)
					if _, refusal := users.authenticate(r, h.path, nil, h.at); codeOf(refusal) != "SignatureDoesNotMatch" {
						t.Fatalf("signed as %s does, and %s changed then: %v, want SignatureDoesNotMatch\n%q", who, name, refusal, r.Header)
					}
					r.Header[name] = values
				}
			}
		}
	})
}

// Whatever headers a client sends, those that a backend gets have the signature that every
// reading of them makes, and none that says what the request means is unsigned.
func FuzzBackendsVerifyTheSignature(f *testing.F) {
	for _, seed := range valuesToSign {
		f.Add(seed, "a")
	}
	f.Add("", "\t a \u00a0 b ")
	u := startGateway(f, testConfig("http://backend.example")).gw.accounts["main"]
	signature := regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[^,]*,SignedHeaders=([^,]*),Signature=([0-9a-f]{64})$`)
	f.Fuzz(func(t *testing.T, lines, moved string) {
		r, ok := receivedRequest("PUT /photos/k HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n")
		if !ok {
			return
		}
		if utf8.ValidString(moved) && isHeaderText(moved) { // as a presigner moves it into the query, where nothing trims it
			r.Header["X-Amz-Meta-Moved"] = []string{moved}
		}
		header, refusal := forwardHeader(r.Header, roleAdmin)
		if refusal != nil {
			return
		}
		out := &outgoing{method: "PUT", target: target{bucket: "photos", key: "k"}, header: header, payloadHash: formUnsigned}
		head, err := appendHead(nil, u.request(out), 0, true)
		if err != nil {
			return
		}
		got, ok := receivedRequest(string(head))
		if !ok {
			t.Fatalf("net/http refuses what the backend gets:\n%q", head)
		}
		claimed := signature.FindStringSubmatch(got.Header.Get("Authorization"))
		if claimed == nil {
			t.Fatalf("Authorization: %q", got.Header["Authorization"])
		}
		names := strings.Split(claimed[1], ";")
		for name := range got.Header {
			if must := strings.HasPrefix(name, "X-Amz-") || name == "Range" || strings.HasPrefix(name, "Content-Md5"); must && !slices.Contains(names, strings.ToLower(name)) {
				t.Fatalf("%s is not signed:\n%q", name, head)
			}
		}
		at, _ := time.Parse(amzDateLayout, got.Header.Get("X-Amz-Date"))
		h := signedHead{secret: testCredentials.SecretAccessKey, at: at, scope: "us-east-1/s3/aws4_request"}.filled()
		for who, read := range readings {
			if want, ok := read.sign(h, got, names); ok && want != claimed[2] {
				t.Fatalf("%s makes another signature of what the backend gets:\n%q", who, head)
			}
		}
	})
}
