package main

// Text on a terminal: what may be shown, how many columns it takes, and its colours. Nothing
// here knows of the log.
//
// Strangers choose keys and methods. Whatever a terminal could take for a command, or show in
// another order or not at all, is escaped as in a Go string: control characters, bidirectional
// overrides, other characters that can't be seen, and bytes that are not UTF-8.

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A colour is a Select Graphic Rendition of ECMA-48, section 8.3.117.
type colour string

const (
	noColour colour = ""
	boldRed  colour = "\x1b[1;31m"
	green    colour = "\x1b[32m"
	yellow   colour = "\x1b[33m"
	cyan     colour = "\x1b[36m"
	faint    colour = "\x1b[2m"
)

// colours say whether a terminal gets colours.
type colours bool

// begin appends the code of a colour.
func (on colours) begin(b []byte, c colour) []byte {
	if !on {
		return b
	}
	return append(b, c...)
}

// end appends the code that ends a colour.
func (on colours) end(b []byte, c colour) []byte {
	if !on || c == noColour {
		return b
	}
	return append(b, "\x1b[0m"...)
}

// showsColours reports whether a terminal should get colours: https://no-color.org.
func showsColours(getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// appendShown appends the first character of text, or its escape. It returns the bytes of
// text that it took, and the columns that it needs. In quotes, quotes and backslashes are escaped.
func appendShown(b []byte, text string, quoted bool) (_ []byte, size, columns int) {
	r, size := utf8.DecodeRuneInString(text)
	switch {
	case r == utf8.RuneError && size == 1:
		const digits = "0123456789abcdef"
		return append(b, '\\', 'x', digits[text[0]>>4], digits[text[0]&15]), 1, len(`\x00`)
	case quoted && (r == '"' || r == '\\'):
		return append(b, '\\', text[0]), 1, 2
	case strconv.IsPrint(r):
		return append(b, text[:size]...), size, columnsOf(r)
	}
	before := len(b)
	b = strconv.AppendQuoteRune(b, r)
	b = slices.Delete(b[:len(b)-1], before, before+1) // its quotes
	return b, size, len(b) - before
}

// wide has every wide character of https://www.unicode.org/reports/tr11/, and a few others, by
// blocks: what is counted too high fits nevertheless. The marks of doctor
// and explain, ✓ (2713) and ✗ (2717), are narrow.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{0x1100, 0x115f, 1}, {0x231a, 0x2712, 1}, {0x2718, 0x27bf, 1}, {0x2b1b, 0x2b55, 1}, {0x2e80, 0xa4cf, 1}, {0xa960, 0xa97c, 1},
		{0xac00, 0xd7a3, 1}, {0xf900, 0xfaff, 1}, {0xfe10, 0xfe6f, 1}, {0xff01, 0xff60, 1}, {0xffe0, 0xffe6, 1},
	},
	R32: []unicode.Range32{{0x16fe0, 0x1b2ff, 1}, {0x1d300, unicode.MaxRune, 1}},
}

// columnsOf returns the columns of a character: 2 if it is wide.
func columnsOf(r rune) int {
	if unicode.Is(wide, r) {
		return 2
	}
	return 1
}

// shownSize returns the bytes and the columns of the first character of text.
func shownSize(text string, quoted bool) (size, columns int) {
	if c := text[0]; c >= ' ' && c <= '~' && c != '"' && c != '\\' {
		return 1, 1
	}
	var escape [16]byte
	_, size, columns = appendShown(escape[:0], text, quoted)
	return size, columns
}

// columnsOfText returns the columns of a text.
func columnsOfText(text string, quoted bool) (columns int) {
	for text != "" {
		size, n := shownSize(text, quoted)
		text, columns = text[size:], columns+n
	}
	return columns
}

// appendVisible appends a text.
func appendVisible(b []byte, text string, quoted bool) []byte {
	for text != "" {
		var size int
		b, size, _ = appendShown(b, text, quoted)
		text = text[size:]
	}
	return b
}

// isClear reports whether a text needs no quotes: it has no space that could begin another
// column, and no escape.
func isClear(text string) bool {
	for _, r := range text {
		if r == ' ' || r == '"' || r == '\\' || !strconv.IsPrint(r) {
			return false
		}
	}
	return utf8.ValidString(text)
}

func appendSpaces(b []byte, n int) []byte {
	for range n {
		b = append(b, ' ')
	}
	return b
}

// A cell is text in a column. The zero cell is empty.
type cell struct {
	text    string
	quoted  bool
	whole   int // columns of the whole text, without quotes
	columns int // that it takes
}

// newCell returns a cell for a text, of which the middle is left out if it does not fit. An
// ellipsis fits always.
func newCell(text string, room int) cell {
	c := cell{text: text, quoted: !isClear(text)}
	c.whole = columnsOfText(text, c.quoted)
	least, quotes := 1, 0 // "…"
	if c.quoted {
		least, quotes = 3, 2
	}
	c.columns = min(c.whole+quotes, max(room, least))
	return c
}

// append appends the cell, and returns the columns it took: at most c.columns.
func (c cell) append(b []byte) ([]byte, int) {
	if !c.quoted {
		return c.appendText(b, c.columns)
	}
	b, used := c.appendText(append(b, '"'), c.columns-len(`""`))
	return append(b, '"'), used + len(`""`)
}

// appendText appends the text in the columns given. The end of a key, which is longer than the
// beginning then, says more.
func (c cell) appendText(b []byte, room int) (_ []byte, used int) {
	if c.whole <= room {
		return appendVisible(b, c.text, c.quoted), c.whole
	}
	head := (room - 1) * 2 / 5
	tail := room - 1 - head
	before, cut := 0, false
	for text := c.text; text != ""; {
		size, columns := shownSize(text, c.quoted)
		switch {
		case !cut && before+columns <= head, cut && c.whole-before <= tail:
			b, _, _ = appendShown(b, text, c.quoted)
			used += columns
		case !cut:
			b, used, cut = append(b, "…"...), used+1, true
		}
		text, before = text[size:], before+columns
	}
	return b, used
}

// fitting returns how many bytes of text fit into the columns given, at least one character. It
// breaks the text at a space, if there is one after other characters.
func fitting(text string, room int) int {
	used, space := 0, 0
	for i := 0; i < len(text); {
		size, columns := shownSize(text[i:], false)
		if used += columns; used > room && i > 0 {
			if space > 0 {
				return space
			}
			return i
		}
		if text[i] == ' ' && strings.TrimLeft(text[:i], " ") != "" {
			space = i
		}
		i += size
	}
	return len(text)
}
