package main

import (
	"strings"
	"testing"
)

func TestCellsLeaveOutTheMiddle(t *testing.T) {
	for _, test := range []struct {
		text string
		room int
		want string
	}{
		{"photos/cat.jpg", 14, "photos/cat.jpg"},
		{"photos/cat.jpg", 13, "phot…/cat.jpg"},
		{"photos/cat.jpg", 1, "…"},
		{"photos/cat.jpg", 0, "…"},
		{"休日休日", 6, "休…日"},
		{"a b", 1, `"…"`},
		{"a b", 5, `"a b"`},
		{"a b c d", 7, `"a…c d"`},
		{"a\x00b", 8, `"a\x00b"`},
		{"a\x00\x00b", 8, `"a…b"`}, // no half of an escape
		{"休日休日", 8, "休日休日"},
		{"休日休日", 7, "休…休日"}, // no half of a character
		{"\xff\xfe", 10, `"\xff\xfe"`},
		{"date=2026-11-05/é", 20, "date=2026-11-05/é"},
	} {
		c := newCell(test.text, test.room)
		got, used := c.append(nil)
		if string(got) != test.want || used > c.columns || used != columnsOfText(string(got), false) {
			t.Errorf("%q in %d columns = %s with %d of %d columns, want %s", test.text, test.room, got, used, c.columns, test.want)
		}
	}
}

func TestFittingBreaksAtSpaces(t *testing.T) {
	for _, test := range []struct {
		text string
		room int
		want string
	}{
		{"one two", 7, "one two"}, {"one two", 6, "one"}, {"one two", 3, "one"}, {"one two", 2, "on"}, {"  indented", 6, "  inde"},
		{"", 5, ""}, {"休日", 3, "休"}, {"休", 1, "休"}, {"\x00\x00", 5, "\x00"}, {strings.Repeat("a", 9), 4, "aaaa"},
	} {
		if got := test.text[:fitting(test.text, test.room)]; got != test.want {
			t.Errorf("%q in %d columns = %q, want %q", test.text, test.room, got, test.want)
		}
	}
}
