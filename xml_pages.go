package main

// Pages of lists as a backend sends them: whether a page is the last, and whether it says
// where the next begins. It knows elements and parameters, not requests.
//
// A page that does not say whether it is the last is an error. If the gateway took it for
// the last, the client would copy, or delete, by a list that is too short.

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// A listForm says how the pages of one kind of list follow each other.
type listForm struct {
	next   []nextMarker // what a client sends back to get the next page
	within string       // the element that the page is in; "" is the root

	// canGoOn reports whether a page says where the next one begins. If it is nil, a
	// page says so that has the first element of next.
	canGoOn func(page *element, query []parameter) bool
}

// A nextMarker is an element that says where the next page begins, and the parameter of
// the request for that page.
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
	// The key is enough: MinIO sends no version for a bucket without versions.
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
	// Its marker is sent in a header of the request, and not compared.
	objectParts = listForm{within: "ObjectParts", canGoOn: hasPartMarker}
	// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBucketMetricsConfigurations.html
	configurations = listForm{next: []nextMarker{{"NextContinuationToken", "continuation-token"}}}
)

// hasMarker is canGoOn for objects. Without a delimiter S3 sends no marker, and the
// client continues after the last key. With a delimiter it can't: the page may end with
// a common prefix, and servers differ in whether a marker skips all keys that begin with
// it.
func hasMarker(page *element, query []parameter) bool {
	return page.child("NextMarker") != "" || parameterValue(query, "delimiter") == "" && page.first("Contents") != nil
}

// hasUploadMarker is canGoOn for uploads. Without the ID of an upload, a client continues
// after all uploads of the key. It misses none only if the key is a common prefix. MinIO
// sends and accepts the ID alone.
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

// hasPartMarker is canGoOn for parts, which are numbered from 1.
func hasPartMarker(page *element, _ []parameter) bool {
	n, err := strconv.ParseUint(page.child("NextPartNumberMarker"), 10, 31)
	return err == nil && n > 0
}

// last reports whether a page is the last of its list. It returns an error for a page
// that does not say so, and for one that is not the last but does not say where the next
// begins. With the one a list would be too short, with the other it would never end.
func (l *listForm) last(page *element, query []parameter) (bool, error) {
	if l.within != "" {
		if page = page.first(l.within); page == nil {
			return true, nil // it has no list
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
		return false, fmt.Errorf("a page of a list has IsTruncated %d times, or with a text other than true or false", said)
	case truncated == "false":
		return true, nil
	case l.canGoOn == nil && page.child(l.next[0].element) == "", l.canGoOn != nil && !l.canGoOn(page, query):
		return false, errors.New("a page of a list is not the last and does not say where the next begins")
	case l.repeats(page, query):
		return false, errors.New("a page of a list says that the next page begins where this one does")
	}
	return false, nil
}

// repeats reports whether the next page would begin where this one does.
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

// decode decodes a page that says it is encoded as encoding-type=url demands. Some
// servers do not encode all elements of it: SeaweedFS leaves out the markers, moto also
// the common prefixes. So keys are decoded always. Common prefixes are decoded unless
// one of them can't be the output of an encoder. A marker is decoded unless it is, as it
// stands, the name of an entry. What the root repeats of the request is not read.
func (l *listForm) decode(page *element) error {
	raw := false // the common prefixes are not encoded
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

// maybeEncoded reports whether a text may be the output of an encoder for URLs.
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

// decodeMarker decodes a marker of a page whose entries are decoded already.
func decodeMarker(page, marker *element) {
	decoded, err := url.QueryUnescape(string(marker.text))
	if err != nil || !maybeEncoded(marker.text) || begins(page, string(marker.text)) && !begins(page, decoded) {
		return
	}
	marker.setText(decoded)
}

// begins reports whether a marker begins with the name of an entry. MinIO appends more
// to that name.
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
