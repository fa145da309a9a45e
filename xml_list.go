package main

// Lists as a client gets them: what comes before the entries, and the entries. It knows
// the parameters of a request, not the request.

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// appendPage writes a page of the list that the named operation makes, with the XML
// declaration.
func (w *answerWriter) appendPage(b []byte, operationName string, page *element, root *knownElement, query []parameter) []byte {
	start, end := openDocument(w.listHead(operationName, page, query))
	b = append(append(b, xmlHeader...), start...)
	return append(w.appendEntries(b, page, root), end...)
}

// listHead returns the document of a page, without its entries. What it repeats of the
// request is what the client sent, not what the backend repeats: servers write that in
// different ways.
func (w *answerWriter) listHead(operationName string, page *element, query []parameter) any {
	asked := func(param string) string { return parameterValue(query, param) }
	said := func(name string) *xmlText { return optional(w.listText(name, page.child(name))) }
	prefix, delimiter := w.listText("Prefix", asked("prefix")), optional(w.listText("Delimiter", asked("delimiter")))
	truncated := textOf(page.child("IsTruncated"))
	switch operationName {
	case "ListObjects":
		return listBucketResult{
			Name: w.bucket, Prefix: w.sparing(asked("prefix")), Delimiter: delimiter, EncodingType: w.encodingType(),
			Marker: w.listText("Marker", asked("marker")), NextMarker: said("NextMarker"),
			MaxKeys: said("MaxKeys"), IsTruncated: truncated,
		}
	case "ListObjectVersions":
		return listVersionsResult{
			Name: w.bucket, Prefix: prefix, Delimiter: delimiter, EncodingType: w.encodingType(),
			KeyMarker: w.listText("KeyMarker", asked("key-marker")), NextKeyMarker: said("NextKeyMarker"),
			VersionIDMarker: textOf(asked("version-id-marker")), NextVersionIDMarker: said("NextVersionIdMarker"),
			MaxKeys: said("MaxKeys"), IsTruncated: truncated,
		}
	case "ListMultipartUploads":
		return listMultipartUploadsResult{
			Bucket: w.bucket, Prefix: prefix, Delimiter: delimiter, EncodingType: w.encodingType(),
			KeyMarker: w.listText("KeyMarker", asked("key-marker")), NextKeyMarker: said("NextKeyMarker"),
			UploadIDMarker: textOf(asked("upload-id-marker")), NextUploadIDMarker: said("NextUploadIdMarker"),
			MaxUploads: said("MaxUploads"), IsTruncated: truncated,
		}
	}
	return listBucketV2Result{
		Name: w.bucket, Prefix: prefix, Delimiter: delimiter, EncodingType: w.encodingType(),
		StartAfter:        optional(w.listText("StartAfter", asked("start-after"))),
		ContinuationToken: optional(textOf(asked("continuation-token"))), NextContinuationToken: said("NextContinuationToken"),
		KeyCount: page.count("Contents") + page.count("CommonPrefixes"), MaxKeys: said("MaxKeys"), IsTruncated: truncated,
	}
}

// listText returns the text of an element of a list, encoded if the client asked for
// encoding-type=url and that encodes the element.
func (w *answerWriter) listText(name, value string) xmlText {
	if w.encodeURL && urlEncoded(name) {
		return xmlText{appendURIEncoded(nil, value, false)}
	}
	return textOf(value)
}

// sparing returns the Prefix of a V1 list: see appendSparingly.
func (w *answerWriter) sparing(prefix string) xmlText {
	if w.encodeURL {
		return xmlText{appendSparingly(nil, prefix)}
	}
	return textOf(prefix)
}

// encodingType returns the text of EncodingType: what the client asked for.
func (w *answerWriter) encodingType() string {
	if w.encodeURL {
		return "url"
	}
	return ""
}

// optional returns nil for an empty text, so that its element is not written.
func optional(t xmlText) *xmlText {
	if len(t.Raw) == 0 {
		return nil
	}
	return &t
}

// appendEntries writes the entries of a page: the elements below the root that have
// children.
func (w *answerWriter) appendEntries(b []byte, page *element, root *knownElement) []byte {
	hint := 0
	for i := range page.children {
		e := &page.children[i]
		if known := root.child(e.name, &hint); known != nil && len(known.children) > 0 {
			b = w.append(b, e, known)
		}
	}
	return b
}

// appendSparingly writes a text encoded in the characters for which that is necessary,
// so that it is right for most texts whether or not the client decodes it. botocore
// decodes all of a V1 list except its Prefix; other SDKs decode the Prefix too.
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
