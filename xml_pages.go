package main

// Pages of lists: whether a page is the last, and what a client needs to ask for the
// next. What a page does not say is never taken for a "no": a client that believes
// that it has the whole list copies, or deletes, by a shorter one.

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A listForm says how the pages of one kind of list follow each other.
type listForm struct {
	next   []nextMarker // what a client sends back for the next page
	within string       // the element that the page is in; "" is the root

	// canGoOn reports whether a page that is not the last says where the next begins;
	// nil: it has the first of next.
	canGoOn func(page *element, query []parameter) bool
}

// A nextMarker is an element that says where the next page begins, and the parameter that
// takes it.
type nextMarker struct{ element, param string }

var (
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
	objectsV2 = listForm{
		next: []nextMarker{{"NextContinuationToken", "continuation-token"}},
	}
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html
	objectsV1 = listForm{
		next:    []nextMarker{{"NextMarker", "marker"}},
		canGoOn: hasMarker,
	}
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
	// The key is enough: MinIO sends no version for a bucket that has none.
	objectVersions = listForm{
		next: []nextMarker{{"NextKeyMarker", "key-marker"}, {"NextVersionIdMarker", "version-id-marker"}},
	}
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
	multipartUploads = listForm{
		next:    []nextMarker{{"NextKeyMarker", "key-marker"}, {"NextUploadIdMarker", "upload-id-marker"}},
		canGoOn: hasUploadMarker,
	}
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
	uploadedParts = listForm{
		next:    []nextMarker{{"NextPartNumberMarker", "part-number-marker"}},
		canGoOn: hasPartMarker,
	}
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html
	// Its marker is a header of the request, and not compared.
	objectParts = listForm{within: "ObjectParts", canGoOn: hasPartMarker}
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBucketMetricsConfigurations.html
	configurations = listForm{next: []nextMarker{{"NextContinuationToken", "continuation-token"}}}
)

// appendSparingly writes a text that, decoded as encoding-type=url has it, is the
// original, and that is the original itself wherever it can be. botocore decodes all
// of a V1 list but its Prefix, and other SDKs decode that too.
func appendSparingly(b []byte, text string) []byte {
	var encoded strings.Builder
	for i, r := range text {
		switch {
		case r == '%', r == '+', r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0xfffe, r == 0xffff:
			for _, c := range []byte(text[i : i+utf8.RuneLen(r)]) {
				fmt.Fprintf(&encoded, "%%%02X", c)
			}
		default:
			encoded.WriteRune(r)
		}
	}
	return appendText(b, encoded.String())
}

// hasMarker: without a delimiter S3 sends no marker, and a client goes on from the
// last key. With one it can't: the page may end with a common prefix, and servers
// differ in whether a marker skips all that begins with it.
func hasMarker(page *element, query []parameter) bool {
	return page.child("NextMarker") != "" || parameterValue(query, "delimiter") == "" && page.first("Contents") != nil
}

// hasUploadMarker: without the id of an upload, a client goes on after all uploads
// of the key, which are all on the page only if the key is a common prefix. MinIO
// sends the id alone, and takes it so.
func hasUploadMarker(page *element, _ []parameter) bool {
	if page.child("NextUploadIdMarker") != "" {
		return true
	}
	marker := page.child("NextKeyMarker")
	for i := range page.children {
		if e := &page.children[i]; marker != "" && e.name == "CommonPrefixes" && e.child("Prefix") == marker {
			return true
		}
	}
	return false
}

func hasPartMarker(page *element, _ []parameter) bool {
	n, err := strconv.ParseUint(page.child("NextPartNumberMarker"), 10, 31)
	return err == nil && n > 0
}

// last reports whether a page is the last of its list. It returns an error for a
// page that says neither, or that it is not the last and not where the next begins:
// that would be a shorter list, or one without an end.
func (l *listForm) last(page *element, query []parameter) (bool, error) {
	if l.within != "" {
		if page = page.first(l.within); page == nil {
			return true, nil // there is no list in it
		}
	}
	truncated, said := "", 0
	for i := range page.children {
		if e := &page.children[i]; e.name == "IsTruncated" {
			truncated = string(e.text)
			said++
		}
	}
	switch {
	case said != 1 || truncated != "true" && truncated != "false":
		return false, fmt.Errorf("a page of a list that says %d times whether it is the last, or in other words than true and false", said)
	case truncated == "false":
		return true, nil
	case l.canGoOn == nil && page.child(l.next[0].element) == "", l.canGoOn != nil && !l.canGoOn(page, query):
		return false, errors.New("a page of a list that is not the last, and does not say where the next begins")
	case l.repeats(page, query):
		return false, errors.New("a page of a list whose next page is the same again")
	}
	return false, nil
}

// repeats reports whether the next page begins where this one does.
func (l *listForm) repeats(page *element, query []parameter) bool {
	if len(l.next) == 0 || !hasParameter(query, l.next[0].param) {
		return false
	}
	for _, n := range l.next {
		if page.child(n.element) != parameterValue(query, n.param) {
			return false
		}
	}
	return true
}

// decode undoes encoding-type=url in a page that says that it has it. Servers leave
// some of the elements as they are: SeaweedFS the markers, moto the common prefixes
// too. What the root repeats of the request is not read at all; keys are decoded. The
// common prefixes are too, unless one of them can't have come from an encoder. A
// marker that is an entry of the page as it stands was not encoded.
func (l *listForm) decode(page *element) error {
	raw := false // common prefixes
	for i := range page.children {
		if e := &page.children[i]; e.name == "CommonPrefixes" && len(e.children) > 0 && !maybeEncoded(e.children[0].text) {
			raw = true
		}
	}
	for i := range page.children {
		if e := &page.children[i]; len(e.children) > 0 && (e.name != "CommonPrefixes" || !raw) {
			if err := e.decodeKeys(); err != nil {
				return err
			}
		}
	}
	for _, n := range l.next {
		if marker := page.first(n.element); marker != nil && urlEncoded(n.element) {
			decodeMarker(page, marker)
		}
	}
	return nil
}

// maybeEncoded reports whether a text may have come from an encoder of URLs.
func maybeEncoded(text []byte) bool {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c <= ' ' || c >= 0x7f:
			return false
		case c == '%':
			if i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
				return false
			}
			i += 2
		}
	}
	return true
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }

// decodeMarker decodes a marker of a page whose entries are decoded.
func decodeMarker(page, marker *element) {
	decoded, err := url.QueryUnescape(string(marker.text))
	if err != nil || !maybeEncoded(marker.text) || begins(page, string(marker.text)) && !begins(page, decoded) {
		return
	}
	marker.setText(decoded)
}

// begins reports whether a marker is, or begins with, the name of an entry: MinIO adds
// to it.
func begins(page *element, marker string) bool {
	for i := range page.children {
		if e := &page.children[i]; len(e.children) > 0 {
			for _, name := range []string{"Key", "Prefix"} {
				if text := e.child(name); text != "" && strings.HasPrefix(marker, text) {
					return true
				}
			}
		}
	}
	return false
}
