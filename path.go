package main

// The one parse of a request's path. What it returns is what is authorized, logged, signed
// and sent. It knows nothing of users or backends.

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// maxKey is the length of the longest key in S3, in bytes of UTF-8.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
const maxKey = 1024

// A target is what a request is about: an object; a bucket, if key is empty; or the
// service, if both are. The key is decoded: the bytes that S3 knows it by. A page is one of
// the gateway's own, below "/-/", which can't be a bucket.
type target struct{ bucket, key, page string }

type pathLevel string

const (
	serviceLevel pathLevel = "service"
	bucketLevel  pathLevel = "bucket"
	objectLevel  pathLevel = "object"
	pageLevel    pathLevel = "page"
)

func (t target) level() pathLevel {
	switch {
	case t.page != "":
		return pageLevel
	case t.bucket == "":
		return serviceLevel
	case t.key == "":
		return bucketLevel
	}
	return objectLevel
}

// A pathError is the error of a path or a key, for the client. The code is S3's:
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
type pathError struct{ code, text string }

func (e *pathError) Error() string { return e.text }

// What S3 itself refuses has its code; InvalidRequest is for the rules of this gateway.
func invalidURI(text string) error  { return &pathError{"InvalidURI", text} }
func invalidPath(text string) error { return &pathError{"InvalidRequest", text} }

// parsePath reads an escaped path:
//
//	path   = "/" | "/" bucket [ "/" ] | "/" bucket "/" key | "/-/presign"
//	bucket = 3 to 63 of a-z 0-9 - .           as validBucket says, never escaped
//	key    = 1 to 1024 bytes of UTF-8         after one round of unescaping
//
// The bucket ends at the first "/" as sent, before anything is unescaped, so
// that "/pub%2Fsecret" names no bucket, rather than one bucket for the gateway and another
// for a backend. With nested false a key is one segment, without "/" in any spelling. With
// nested true it is any S3 key, byte for byte, except for NUL and the segments "." and
// "..": see hasDotSegment.
// The error is for the client.
func parsePath(escaped string, nested bool) (target, error) {
	if page, ok := strings.CutPrefix(escaped, "/-/"); ok {
		if page != "presign" {
			return target{}, invalidPath("there is no such page; use /-/presign, or a path of the form /bucket/key")
		}
		return target{page: page}, nil
	}
	rest, ok := strings.CutPrefix(escaped, "/")
	if !ok {
		return target{}, invalidURI("the path must have the form /bucket/key")
	}
	if rest == "" {
		return target{}, nil
	}
	bucketName, escapedKey, slash := strings.Cut(rest, "/")
	if !validBucket(bucketName) {
		return target{}, &pathError{"InvalidBucketName", "the path does not begin with a bucket name (3 to 63 of a-z, 0-9, - and .)"}
	}
	if escapedKey == "" {
		if slash && !nested {
			return target{}, invalidPath("the path ends in a slash; leave it out")
		}
		return target{bucket: bucketName}, nil
	}
	key, err := url.PathUnescape(escapedKey)
	if err != nil {
		return target{}, invalidURI("the key is not properly percent-encoded")
	}
	return target{bucket: bucketName, key: key}, checkKey(key, nested)
}

// checkKey is the rule of parsePath for a key, also for keys in headers and documents.
func checkKey(key string, nested bool) error {
	switch {
	case key == "":
		return invalidURI("the key is empty")
	case len(key) > maxKey:
		return &pathError{"KeyTooLongError", fmt.Sprintf("the key has %d bytes; S3 takes at most %d", len(key), maxKey)}
	case !utf8.ValidString(key):
		return invalidURI("the key is not valid UTF-8")
	case strings.Contains(key, "\x00"):
		return invalidURI("the key holds a NUL byte")
	case hasDotSegment(key):
		return invalidURI(`the key has a segment "." or ".."`)
	case nested:
		return nil
	case strings.Contains(key, "/"):
		return invalidPath(`the path has more segments than /bucket/key; keys with slashes need "nested_keys": true in the configuration`)
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }):
		return invalidPath("the key holds a control character")
	case strings.Contains(key, `\`):
		return invalidPath("the key holds a backslash")
	}
	return nil
}

// hasDotSegment reports whether a path has a segment "." or "..". Servers that keep
// objects as files resolve those; on Windows, "\" separates segments too.
func hasDotSegment(path string) bool {
	dots := 0 // of the segment so far, if it has nothing else; else -1
	for i := range len(path) {
		switch c := path[i]; {
		case c == '/' || c == '\\':
			if dots == 1 || dots == 2 {
				return true
			}
			dots = 0
		case c != '.':
			dots = -1
		case dots >= 0:
			dots++
		}
	}
	return dots == 1 || dots == 2
}

// validBucket is S3's rule for general purpose buckets, without the prefixes
// and suffixes that AWS keeps for itself: 3 to 63 lower-case letters, digits,
// hyphens and dots, a letter or digit at either end, no two dots together, and
// not an IPv4 address.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
func validBucket(s string) bool {
	if len(s) < 3 || len(s) > 63 {
		return false
	}
	onlyDigits := true
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z':
			onlyDigits = false
		case '0' <= c && c <= '9':
		case i == 0 || i == len(s)-1:
			return false
		case c == '-':
			onlyDigits = false
		case c == '.' && s[i-1] != '.':
		default:
			return false
		}
	}
	return !(onlyDigits && strings.Count(s, ".") == 3)
}

// requestPath returns the path of a request in escaped form. It returns an error if the
// form of the request target has no path, or can be read in more than one way.
func requestPath(r *http.Request) (string, error) {
	switch {
	case r.URL.Opaque != "" || r.RequestURI == "*":
		return "", invalidURI("the request target must have the form /bucket/key")
	case strings.Contains(r.RequestURI, "#"):
		return "", invalidURI(`a "#" in a key is written %23`)
	}
	if r.URL.RawPath != "" {
		// EscapedPath would escape the path anew if one byte in it should have
		// been escaped and was not, and forget which slashes were.
		return r.URL.RawPath, nil
	}
	return r.URL.EscapedPath(), nil
}

// hostedBucket returns the bucket that a virtual-host-style request names in its
// Host header, "bucket.domain", or "" if there is none. The port does not matter.
func hostedBucket(host, domain string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	bucketName, ok := strings.CutSuffix(strings.ToLower(host), "."+domain)
	if domain == "" || !ok {
		return ""
	}
	return bucketName
}
