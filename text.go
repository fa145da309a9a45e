package main

// Syntax of the values that a client sends: one rule for each kind, whether the value is
// in a query, a header or a document. A backend may resolve any of them (versitygw joins
// an upload id to a path), so a value that is not known to be free text obeys the rule
// for keys or the stricter one for opaque tokens. Nothing here knows where a value is from.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxID is S3's limit on a version id, in bytes. Upload ids have no limit
	// in the documentation; the services' own have 20 to 200 bytes.
	// https://docs.aws.amazon.com/AmazonS3/latest/userguide/versioning-workflows.html
	maxID = 1024

	// maxPageToken bounds a continuation token, in bytes. Some services encode
	// a key of 1,024 bytes and a few names of their own in base64 (MinIO), some
	// send the key itself (versitygw, SeaweedFS).
	maxPageToken = 4096

	// maxHeaderToken is S3's limit on all headers of a request, in bytes.
	// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTCommonRequestHeaders.html
	maxHeaderToken = 8192

	// maxDigits is the length of the largest uint64.
	maxDigits = 20
)

// A valueRule checks a value. The error is for the client and completes a
// sentence that begins with the name of what holds the value.
type valueRule func(value string) error

var (
	errDotSegment = errors.New(`has a segment "." or ".."`)
	errControl    = errors.New("has a control character")
	errBackslash  = errors.New("has a backslash")
	errNUL        = errors.New("has a NUL byte")
	errNotUTF8    = errors.New("is not valid UTF-8")
	errEmpty      = errors.New("must not be empty")
	errValue      = errors.New("takes no value")
)

// opaque is the rule for what a service has issued, such as an id or a token, and for
// everything of unknown form. Services use letters, digits, "-._~" and base64 with "+/=",
// all of which pass.
func opaque(maxBytes int) valueRule {
	return func(value string) error {
		if len(value) > maxBytes {
			return fmt.Errorf("is longer than %d bytes", maxBytes)
		}
		ascii := true
		for i := range len(value) {
			switch c := value[i]; {
			case c < ' ' || c == 0x7f:
				return errControl
			case c == '\\':
				return errBackslash
			case c >= utf8.RuneSelf:
				ascii = false
			}
		}
		switch {
		case !ascii && !utf8.ValidString(value):
			return errNotUTF8
		case !ascii && strings.ContainsFunc(value, unicode.IsControl):
			return errControl
		case hasDotSegment(value):
			return errDotSegment
		}
		return nil
	}
}

// keyText is the rule for a key, or the beginning of one. Control characters and
// backslashes are bytes of keys. The last segment may be ".": that is how a key
// like ".profile" begins.
func keyText(maxBytes int) valueRule {
	return func(value string) error {
		switch {
		case len(value) > maxBytes:
			return fmt.Errorf("is longer than %d bytes", maxBytes)
		case strings.Contains(value, "\x00"):
			return errNUL
		case !utf8.ValidString(value):
			return errNotUTF8
		}
		begun := value
		if i := strings.LastIndexAny(value, `/\`); value[i+1:] == "." {
			begun = value[:i+1]
		}
		if hasDotSegment(begun) {
			return errDotSegment
		}
		return nil
	}
}

// delimiterText is the rule for a delimiter, which may be ".".
func delimiterText(value string) error {
	if value == "." {
		return nil
	}
	if hasDotSegment(value) {
		return errDotSegment
	}
	return keyText(maxKey)(value)
}

// headerText is the rule for free text that becomes the value of a header: the values of
// response-* parameters. No type, language or date has a dot segment, and a file name
// that has one is unsafe.
func headerText(value string) error {
	switch {
	case !isHeaderText(value):
		return errControl
	case hasDotSegment(value):
		return errDotSegment
	}
	return nil
}

// decimal is the rule for decimal digits and nothing else: no sign, no space.
func decimal(smallest, largest uint64) valueRule {
	wrong := fmt.Errorf("must be a number from %d to %d", smallest, largest)
	return func(value string) error {
		n, err := strconv.ParseUint(value, 10, 64) // it takes no sign
		if err != nil || n < smallest || n > largest || len(value) > maxDigits {
			return wrong
		}
		return nil
	}
}

// oneOf is the rule for one of a few words. An empty word means that the parameter may be
// left out.
func oneOf(words ...string) valueRule {
	wrong := fmt.Errorf("must be %s", strings.TrimPrefix(strings.Join(words, " or "), " or "))
	return func(value string) error {
		if !slices.Contains(words, value) {
			return wrong
		}
		return nil
	}
}

// noValue is the rule for a selector, which has a name and no value.
func noValue(value string) error {
	if value != "" {
		return errValue
	}
	return nil
}

// listNumber is the rule for the number of entries on a page.
var listNumber = decimal(0, 1<<31-1)

// notEmpty adds to a rule that the value is not empty.
func notEmpty(rule valueRule) valueRule {
	return func(value string) error {
		if value == "" {
			return errEmpty
		}
		return rule(value)
	}
}

func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return true
}

// isToken is RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]{}", c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isHeaderText reports whether a value can be sent as a header's: RFC 9110
// section 5.5.
func isHeaderText(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

func shortened(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}

func setOf(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, name := range names {
		m[name] = true
	}
	return m
}

// noEOF turns the end of the input into io.ErrUnexpectedEOF.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// maxChecksumName bounds the name of a checksum's algorithm, in bytes.
const maxChecksumName = 32

// isWord reports whether a text is made of ASCII letters and digits.
func isWord(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool {
		return (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z')
	})
}

// validToken matches what an Authorization header can have between "/" and ",".
var validToken = regexp.MustCompile(`^[!-+.0-~-]+$`)

var validDomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

func isLoopback(hostPort string) bool {
	u := url.URL{Host: hostPort}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// isServerURL reports whether a URL names a server, and has one of the schemes.
func isServerURL(u *url.URL, schemes ...string) bool {
	return slices.Contains(schemes, u.Scheme) && u.Hostname() != "" && u.Opaque == ""
}

// validPort reports whether s is the number of a TCP port.
func validPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= 1 && n <= 65535
}
