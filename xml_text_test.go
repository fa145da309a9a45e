package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestAppendText(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{"a b+c/d%2F", "a b+c/d%2F"},
		{" leading", " leading"},
		{`&<>"'`, "&amp;&lt;&gt;&#34;&#39;"},
		{"]]>", "]]&gt;"},
		{"\t\r\n", "&#x9;&#xd;&#xa;"},
		{"\x00\x01\x1f\x7f", "&#x0;&#x1;&#x1f;&#x7f;"},
		{"\u0085\u2028", "&#x85;&#x2028;"},
		{"\ufffe\uffff\ufffd", "&#xfffe;&#xffff;\ufffd"},
		{"é日本😀", "é日本😀"},
	} {
		if got := string(appendText(nil, test.in)); got != test.want {
			t.Errorf("appendText(%q) = %q, want %q", test.in, got, test.want)
		}
	}
	if got := string(appendText([]byte("a"), "b&")); got != "ab&amp;" {
		t.Errorf("appendText after a = %q, want ab&amp;", got)
	}
}

func TestDecodeKeys(t *testing.T) {
	in := branch("ListBucketResult",
		leaf("Prefix", "a%20b"), leaf("Delimiter", "%2F"), leaf("Marker", "+"), leaf("NextMarker", "%2B"), leaf("StartAfter", "%00"),
		leaf("NextContinuationToken", "a%20b+"),
		branch("Contents", leaf("Key", "a+b%2Bc"), leaf("ETag", "%20+")),
		branch("CommonPrefixes", leaf("Prefix", "%C3%A9/")))
	want := branch("ListBucketResult",
		leaf("Prefix", "a b"), leaf("Delimiter", "/"), leaf("Marker", " "), leaf("NextMarker", "+"), leaf("StartAfter", "\x00"),
		leaf("NextContinuationToken", "a%20b+"),
		branch("Contents", leaf("Key", "a b+c"), leaf("ETag", "%20+")),
		branch("CommonPrefixes", leaf("Prefix", "é/")))
	if err := in.decodeKeys(); err != nil || !reflect.DeepEqual(unmarked(in), want) {
		t.Errorf("decodeKeys = %+v, %v, want %+v", in, err, want)
	}
	for _, bad := range []string{"%", "%4", "%zz", "100%"} {
		e := branch("Contents", leaf("Key", bad))
		if err := e.decodeKeys(); err == nil {
			t.Errorf("decodeKeys of the key %q = %+v, want an error", bad, e)
		}
	}
}

func TestS3Time(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"},
		{"2026-01-02T03:04:05.000Z", "2026-01-02T03:04:05.000Z"},
		{"2026-01-02T03:04:05.1Z", "2026-01-02T03:04:05.100Z"},
		{"2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.123Z"},
		{"2026-01-02T03:04:05.9999Z", "2026-01-02T03:04:05.999Z"},
		{"2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000Z"},
		{"", ""},
		{"yesterday", "yesterday"},
		{"Fri, 02 Jan 2026 03:04:05 GMT", "Fri, 02 Jan 2026 03:04:05 GMT"},
	} {
		if got := s3Time(test.in); got != test.want {
			t.Errorf("s3Time(%q) = %q, want %q", test.in, got, test.want)
		}
	}
}

// validXML reports whether XML 1.0 can hold every character of s (section 2.2).
func validXML(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		switch {
		case r == '\t', r == '\n', r == '\r':
			return false
		case r < ' ', r == 0xfffe, r == 0xffff:
			return true
		}
		return false
	})
}
