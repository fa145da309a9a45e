package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// A list that is written parses back to the same keys. With encoding-type=url that holds
// for every key. Without, a parser refuses the document if XML can't hold a key, and never
// reads another key.
func FuzzListRoundTrip(f *testing.F) {
	for _, key := range []string{
		"a", " leading", "trailing ", "a+b", "a%2Fb", "a/b//c/", "\x01", `&<>"'`, "]]>", "\r\n", "\t", "\ufffe", "\uffff",
		"\ufffd", "\u2028\u0085", "é日本😀", "100%", "<!--", "<![CDATA[", "&#x41;", "?x=1&y=2#z", "\x7f", strings.Repeat("é", 512),
	} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if checkKey(key, true) != nil {
			return
		}
		root := &answerSpecs["ListObjectsV2"].forms[0].root
		object, prefix := branch("Contents", leaf("Key", key), leaf("Size", "1")), branch("CommonPrefixes", leaf("Prefix", key))
		page := branch("ListBucketResult", leaf("IsTruncated", "false"), object, prefix)
		query := []parameter{{"list-type", "2"}, {"prefix", key}}
		list := branch("ListBucketResult", leaf("Name", "photos"), leaf("Prefix", key), leaf("KeyCount", "2"), leaf("IsTruncated", "false"), object, prefix)
		encodedList := branch("ListBucketResult", slices.Insert(slices.Clone(list.children), 4, leaf("EncodingType", "url"))...)

		encoded := (&answerWriter{bucket: "photos", encodeURL: true}).appendPage(nil, "ListObjectsV2", &page, root, query)
		got, err := parseDocument(strings.NewReader(string(encoded)), "ListBucketResult")
		if err == nil {
			err = got.decodeKeys()
		}
		if err != nil || !reflect.DeepEqual(unmarked(got), encodedList) {
			t.Errorf("key %q, encoded: %s\nparses to %+v, %v", key, encoded, got, err)
		}
		plain := (&answerWriter{bucket: "photos"}).appendPage(nil, "ListObjectsV2", &page, root, query)
		got, err = parseDocument(strings.NewReader(string(plain)), "ListBucketResult")
		switch {
		case validXML(key) && (err != nil || !reflect.DeepEqual(unmarked(got), list)):
			t.Errorf("key %q: %s\nparses to %+v, %v", key, plain, got, err)
		case !validXML(key) && err == nil:
			t.Errorf("key %q, which XML can't hold: %s\nparses to %+v", key, plain, got)
		}
	})
}
