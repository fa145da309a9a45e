package main

// S3's documents: errors and lists. They are read by a scanner, within bounds,
// and written anew: nothing of a backend's document is passed on that was not
// parsed first. encoding/xml would write a control character in a key as U+FFFD,
// which is another key.

import (
	"bytes"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"
)

const (
	xmlHeader    = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"
	s3Namespace  = "http://s3.amazonaws.com/doc/2006-03-01/"
	s3TimeFormat = "2006-01-02T15:04:05.000Z"

	maxErrorDocument = 64 << 10 // bytes; S3's errors have less than 2 KiB
)

// appendErrorXML appends S3's error document.
func appendErrorXML(b []byte, e *apiError, resource, id string) []byte {
	b = append(b, xmlHeader+"<Error>"...)
	b = appendElement(b, "Code", e.Code)
	b = appendElement(b, "Message", e.Message)
	if e.condition != "" {
		b = appendElement(b, "Condition", e.condition)
	}
	b = appendElement(b, "Resource", resource)
	b = appendElement(b, "RequestId", id)
	return append(b, "</Error>"...)
}

// parseDocument reads a document with the given root element, or any if that is
// empty. An answer that was cut, is not XML, or is larger or deeper than a list
// has a reason to be, is an error. What follows the document is not looked at.
func parseDocument(r io.Reader, root string) (element, error) {
	return newScanner(r).document(root)
}

// urlEncoded reports whether encoding-type=url encodes the text of an element.
// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
func urlEncoded(name string) bool {
	switch name {
	case "Key", "Prefix", "Delimiter", "Marker", "NextMarker", "StartAfter", "KeyMarker", "NextKeyMarker":
		return true
	}
	return false
}

// decodeKeys undoes encoding-type=url below e. Servers differ in whether a
// space is "+" or "%20"; all write a plus sign as "%2B".
func (e *element) decodeKeys() error {
	if urlEncoded(e.name) && (bytes.IndexByte(e.text, '%') >= 0 || bytes.IndexByte(e.text, '+') >= 0) {
		text, err := url.QueryUnescape(string(e.text))
		if err != nil {
			return fmt.Errorf("element %s: %w", e.name, err)
		}
		e.setText(text)
	}
	for i := range e.children {
		if err := e.children[i].decodeKeys(); err != nil {
			return err
		}
	}
	return nil
}

// appendTree appends an element with all below it. With encodeURL, keys are
// written as encoding-type=url asks.
func appendTree(b []byte, e *element, encodeURL bool) []byte {
	b = append(append(append(b, '<'), e.name...), '>')
	switch {
	case len(e.children) > 0:
		for i := range e.children {
			b = appendTree(b, &e.children[i], encodeURL)
		}
	case encodeURL && urlEncoded(e.name):
		b = appendURIEncoded(b, e.text, false)
	case e.name == "LastModified" && !hasMilliseconds(e.text):
		b = appendText(b, s3Time(string(e.text)))
	case e.plain:
		b = append(b, e.text...)
	default:
		b = appendText(b, e.text)
	}
	return append(append(append(b, "</"...), e.name...), '>')
}

// s3Time gives an instant the form S3 gives it, with three decimals, always:
// some clients parse nothing else. What is no instant stays as it is.
func s3Time(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.UTC().Format(s3TimeFormat)
}

// hasMilliseconds reports whether an instant, if it is one, has the form that
// s3Time gives it.
func hasMilliseconds(s []byte) bool {
	return len(s) == len(s3TimeFormat) && s[len("2006-01-02T15:04:05")] == '.' && s[len(s)-1] == 'Z'
}

func appendElement[T string | []byte](b []byte, name string, text T) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendText(b, text)
	return append(append(append(b, "</"...), name...), '>')
}

// appendText appends text as character data. Characters that XML 1.0 has no way
// to write (section 2.2: the control characters but tab and line breaks,
// U+FFFE, U+FFFF) become the numeric reference that S3 itself sends: exact,
// though a strict parser refuses it, which is why encoding-type=url exists.
func appendText[T string | []byte](b []byte, text T) []byte {
	for i := 0; i < len(text); {
		start := i
		for i < len(text) && bytesAre[text[i]]&plain != 0 {
			i++
		}
		b = append(b, text[start:i]...)
		if i < len(text) {
			r, size := rune(text[i]), 1
			if r >= utf8.RuneSelf {
				r, size = utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))]))
			}
			b = appendCharacter(b, r, text[i:i+size])
			i += size
		}
	}
	return b
}

// appendCharacter appends a character as a reference, or as it is written.
func appendCharacter[T string | []byte](b []byte, r rune, text T) []byte {
	switch {
	case r == '&':
		return append(b, "&amp;"...)
	case r == '<':
		return append(b, "&lt;"...)
	case r == '>':
		return append(b, "&gt;"...)
	case r == '"':
		return append(b, "&#34;"...)
	case r == '\'':
		return append(b, "&#39;"...)
	case r < ' ', r == 0x7f, r == 0x85, r == 0x2028, r == 0xfffe, r == 0xffff:
		return append(strconv.AppendInt(append(b, "&#x"...), int64(r), 16), ';')
	}
	return append(b, text...)
}
