package main

// Text in documents: how it is escaped, how encoding-type=url encodes it, and how S3
// writes instants. It knows characters and the names of elements, not documents.

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

// decodeKeys decodes, as encoding-type=url demands, the texts of e and of all elements
// below it. A space is "+" or "%20", depending on the server; a plus sign is "%2B".
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

// s3TimeFormat is the layout of S3's instants.
const s3TimeFormat = "2006-01-02T15:04:05.000Z"

// s3Time returns an instant in s3TimeFormat, always with three decimals, because some
// clients parse nothing else. It returns a text that is not an instant as it is.
func s3Time(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.UTC().Format(s3TimeFormat)
}

// hasMilliseconds reports whether a text that is an instant is in s3TimeFormat.
func hasMilliseconds(s []byte) bool {
	return len(s) == len(s3TimeFormat) && s[len("2006-01-02T15:04:05")] == '.' && s[len(s)-1] == 'Z'
}

func appendElement[T string | []byte](b []byte, name string, text T) []byte {
	b = append(append(append(b, '<'), name...), '>')
	b = appendText(b, text)
	return append(append(append(b, "</"...), name...), '>')
}

// appendText appends text as character data. Some characters can't be written in XML
// 1.0 (section 2.2): control characters other than tab and line breaks, U+FFFE, U+FFFF.
// They become numeric references, as S3 itself sends them. Such a reference is exact,
// but a strict parser refuses it, which is why encoding-type=url exists.
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

// appendCharacter appends a character as a reference if it needs one, and else as it is
// in text.
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
