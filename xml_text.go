package main

// Characters of XML: how keys and other text are written, and how encoding-type=url
// encodes them. It knows characters and names of elements, not documents.

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"
)

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

// s3TimeFormat is how S3 writes an instant.
const s3TimeFormat = "2006-01-02T15:04:05.000Z"

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
